"""Proof that every Puppet Server has the same: server by environment, and what else decides.

Digests are compared first. Only where two differ the paths of that one part are asked for, and then
the first file that differs: that is what the check names and shows.
"""

from __future__ import annotations

from runbook import edit
from runbook.model import Check, Facts, Read, Site, Verdict
from runbook.shell import quote
from runbook.symbols import count

from . import reads
from .code_site import (
    BLIND,
    Column,
    Taken,
    about,
    columns,
    differing,
    revisions,
    roots,
    sizes,
    usual,
    words,
)
from .compiler import ready
from .fields import NONE, sections
from .layout import FileFact, Seen, file_fact, servers, unknown
from .shellwords import assignments

SECRET = ("private", ".pem", ".key", ".eyaml", "secring")
"""Words in the name of a file that is not shown, whatever differs in it."""


def _title(name: str, column: str) -> str:
    titles = {
        "shared": f"{name} has what all environments share as the others have it",
        "classifier": f"{name} classifies nodes as the others do",
        "settings": f"{name} is set up as the others are",
    }
    return titles.get(column, f"{name} has the code of {column} that the others have")


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """A check for each server and everything it is compared in."""
    return tuple(
        _cell(site, host.name, column) for host in servers(site) for column in columns(site, facts)
    )


def _cell(site: Site, name: str, column: str) -> Check:
    asked = ((name, reads.SOFTWARE), (name, reads.code(site)))

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        if not ready(seen):
            return Verdict(None, seen.unread or "it has no Puppet Server yet")
        take = columns(site, facts).get(column)
        like = usual(site, facts, take) if take else None
        if take is None or like is None:
            return Verdict(False, "no server has it any more")
        return _verdict(site, facts, seen, like, column, take)

    def then(facts: Facts) -> tuple[tuple[str, Read], ...]:
        seen, take = Seen(name, facts), columns(site, facts).get(column)
        like = usual(site, facts, take) if take and ready(seen) else None
        if take is None or like is None or like.name == name:
            return ()
        return _closer(facts, seen, like, column, take)

    return Check(
        f"same/{name}/{column}",
        _title(name, column),
        judge,
        asked,
        then=then,
        cell=(name, column),
    )


def _verdict(site: Site, facts: Facts, seen: Seen, like: Seen, column: str, take: Taken) -> Verdict:
    mine, theirs = take(seen), take(like)
    if failing := [f"{part} {said}" for part, said in mine.items() if said.startswith("fails")]:
        return Verdict(False, "; ".join(failing), "run it there by hand, as the user puppet")
    if blind := [part for part in mine if part.startswith(BLIND)]:
        return Verdict(False, "; ".join(blind), "let the user puppet read it")
    lacking = [part for part, said in mine.items() if said.split(" ")[0] == "missing"]
    if lacking:
        return Verdict(False, f"missing: {', '.join(lacking)}", "bring it there")
    wrong = _wrong(mine, theirs)
    if not wrong:
        return Verdict(True, _summary(seen, column, mine))
    remedy = _remedy(site, column)
    if not mine:
        return Verdict(False, f"missing, {like.name} has it", remedy)
    if not theirs:
        return Verdict(False, f"{like.name} lacks it", remedy)
    path, detail = _first(facts, seen, like, column, wrong[0], mine, theirs)
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return Verdict(False, f"{path}, unlike {like.name}{more}", remedy, detail)


def _useless(part: str, said: str) -> bool:
    """Whether a server itself has no use of a part, whatever the others have."""
    return part.startswith(BLIND) or said.startswith("fails") or said.split(" ")[0] == "missing"


def _wrong(mine: Column, theirs: Column) -> list[str]:
    """The parts in which a server differs; one that the other has no use of is the other's cell."""
    return [p for p in differing(mine, theirs) if not _useless(p, theirs.get(p, ""))]


def _remedy(site: Site, column: str) -> str:
    """What brings a server back to the others."""
    if column == "settings":
        return "set it there as the others have it, and reload; or the others like it"
    if column == "shared":
        return "bring it there; small files may be named as code.files"
    return "pmrunbook --step code" if about(site) else "bring the same code to both"


def _summary(seen: Seen, column: str, mine: Column) -> str:
    wholes = {w[0]: w[3] for line in seen.tree.get("trees", NONE).all("tree") if (w := words(line))}
    if column not in wholes:
        return f"{count(len(mine), 'thing')} alike"
    revision = revisions(seen).get(column, "")
    said = [revision or wholes[column][:12], f"{sizes(seen).get(column, 0)} files"]
    return ", ".join([*said, f"digest {wholes[column]}"] if revision else said)


# --- closer: the paths of one part, then one file -----------------------------------------------


def _root(seen: Seen, column: str, part: str) -> tuple[str, str]:
    """Where a part of a column is on a host: the folder, and what of it; empty where it is no
    file or folder."""
    if column in roots(seen):
        return roots(seen)[column], part
    return (part, ".") if part.startswith("/") else ("", "")


def _paths(seen: Seen, column: str, part: str) -> Read | None:
    root, below = _root(seen, column, part)
    if not root:
        return None
    given = assignments(root=root, below=below)
    return Read(f"paths/{column}/{part}", given + reads.script("code_paths.sh"), limit=4_000_000)


def _content(seen: Seen, column: str, part: str, path: str) -> Read | None:
    root, _ = _root(seen, column, part)
    at = root if path == "." else f"{root}/{path}"
    if any(word in at.lower() for word in SECRET):
        return None
    return Read(f"content/{at}", f"printf 'path=%s\\n' {quote(at)}\npc_file {quote(at)}\n")


def _differs(facts: Facts, seen: Seen, like: Seen, column: str, part: str) -> str | None:
    """The first path of a part that differs; None while the paths are not known."""
    listings = []
    for one in (seen, like):
        asked = _paths(one, column, part)
        if asked is None or not facts.get(one.name, asked.id).ok:
            return None
        found = sections(facts.get(one.name, asked.id).out)[""].all("entry")
        listings.append({w[1]: w[0] for line in found if len(w := words(line)) > 1})
    return next(iter(differing(*listings)), "")


def _closer(
    facts: Facts, seen: Seen, like: Seen, column: str, take: Taken
) -> tuple[tuple[str, Read], ...]:
    mine, theirs = take(seen), take(like)
    wrong = _wrong(mine, theirs)
    if not wrong or not mine or not theirs:
        return ()
    part = wrong[0]
    listings = [(s.name, r) for s in (seen, like) if (r := _paths(s, column, part))]
    path = _differs(facts, seen, like, column, part)
    if not path:
        return tuple(listings) if len(listings) == 2 else ()
    contents = [(s.name, r) for s in (seen, like) if (r := _content(s, column, part, path))]
    return (*listings, *contents)


def _first(
    facts: Facts,
    seen: Seen,
    like: Seen,
    column: str,
    part: str,
    mine: Column,
    theirs: Column,
) -> tuple[str, str]:
    """The first difference: its path or name, and a diff."""
    path = _differs(facts, seen, like, column, part)
    if not path:
        old, new = theirs.get(part, "nothing"), mine.get(part, "nothing")
        return part, f"-{part}: {old}\n+{part}: {new}\n"
    files = [_file(facts, one, column, part, path) for one in (like, seen)]
    root, _ = _root(seen, column, part)
    name = part if path == "." else path if column in roots(seen) else f"{root}/{path}"
    return name, "" if None in files else _shown(name, files)


def _file(facts: Facts, seen: Seen, column: str, part: str, path: str) -> FileFact | None:
    asked = _content(seen, column, part, path)
    if asked is None or not facts.get(seen.name, asked.id).ok:
        return None
    return file_fact(sections(facts.get(seen.name, asked.id).out)[""])


def _shown(path: str, files: list[FileFact | None]) -> str:
    there, here = files
    if there is None or here is None or "large" in (there.state, here.state):
        return ""
    return edit.diff(path, there.content, here.content, limit=80)
