"""A repository that code comes from: what it has, what of it is on a server, what hinders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from runbook.model import Action, Check, Facts, Finding, Later, Nothing, Read, Script, Site, Verdict
from runbook.shell import quote

from . import reads
from .catalogue import found
from .code_site import about, lines, model, readied, revisions, roots, strategy
from .compiler import ready
from .fields import NONE, Fields
from .layout import Seen, unknown
from .shellwords import assignments

VALID = re.compile(r"\w+", re.ASCII)
"""What Puppet takes as the name of an environment."""

STATES = {"edited": "edited there", "failed": "not deployed cleanly"}
"""What a revision ends with, after "+" -> what that means."""


def packages(site: Site, seen: Seen) -> tuple[str, ...]:
    """What is still to be installed on a server."""
    has = {line.split(" ")[0] for line in seen_there(seen).all("program")}
    return tuple(name for name, tool in reads.DEPLOYERS[strategy(site)].items() if tool not in has)


def only(site: Site) -> tuple[str, ...]:
    """The environments that come from the repository, where the inventory says which.

    With `revision` it is one: the last folder of `path`, the one environment named, or production.
    """
    given = tuple(about(site).get("environments", ()))
    if not about(site).get("revision"):
        return given
    path = str(about(site).get("path", "")).rstrip("/")
    below = path.rpartition("/")[2] if "/environments/" in path else ""
    return (below or next(iter(given), "production"),)


def read(site: Site) -> Read:
    """What the repository has, asked from this host."""
    code = about(site)
    given = (
        f"pc_kind={strategy(site)} pc_url={quote(str(code.get('repository', '')))} "
        f"pc_key={quote(str(code.get('key', '')))} pc_names={quote(' '.join(only(site)))} "
        f"pc_revision={quote(str(code.get('revision', '')))} pc_store=\n"
    )
    text = given + reads.script("git_pack.sh") + reads.script("repository.sh")
    return Read("repository", text, 1_000_000, timeout=120.0)


def seen_there(seen: Seen) -> Fields:
    """What a server found at the repository, and has of it."""
    return seen.parsed("repository").get("", NONE)


def short(revision: str) -> str:
    """As a checkout's folder is called, and a server's code calls its own state."""
    return revision[:12]


def pairs(seen: Seen, key: str) -> dict[str, str]:
    """`key=NAME VALUE` lines."""
    split = (line.partition(" ") for line in seen_there(seen).all(key))
    return {name: value for name, _, value in split}


def answered(seen: Seen) -> bool:
    return "answered" in seen_there(seen)


def waiting(seen: Seen, what: str, host: str = "") -> Later:
    """What is known once the repository answers this server; where it was asked, why it does not.

    `host` is what it is known of; empty for all of them.
    """
    said = seen_there(seen).one("error")
    return Later(f"{what} ({said})" if said else what, "access", host)


def tips(site: Site, facts: Facts) -> dict[str, str]:
    """Environment -> the revision it has to be of, as the model host sees the repository."""
    seen = Seen(model(site), facts)
    heads, wanted = pairs(seen, "head"), only(site)
    if revision := str(about(site).get("revision", "")):
        there = heads.get(revision) or pairs(seen, "tag").get(revision, "")
        if not there and re.fullmatch(r"[0-9a-f]{40}", revision):
            there = revision
        return {wanted[0]: there} if there else {}
    if strategy(site) == "subversion" and "production" not in heads and "trunk" in heads:
        heads["production"] = heads["trunk"]
    if strategy(site) == "subversion":
        heads.pop("trunk", None)
    if strategy(site) == "mercurial" and not wanted:
        heads.pop("default", None)
    return {
        name: tip
        for name, tip in sorted(heads.items())
        if VALID.fullmatch(name) and (not wanted or name in wanted)
    }


def missing(site: Site, facts: Facts) -> tuple[str, ...]:
    """Environments of the model that the repository does not have: they are brought into it."""
    seen = Seen(model(site), facts)
    if not answered(seen) or about(site).get("revision"):
        return ()
    there, wanted = tips(site, facts), only(site)
    return tuple(e for e in roots(seen) if e not in there and (not wanted or e in wanted))


def header(site: Site, seen: Seen) -> str:
    """What every program that deals with the repository begins with."""
    there = seen_there(seen)
    code = about(site)
    return assignments(
        kind="git" if strategy(site) == "r10k" else strategy(site),
        url=str(code.get("repository", "")),
        key=str(code.get("key", "")),
        revision=str(code.get("revision", "")),
        only=" ".join(only(site)),
        environments=there.one("environments"),
        store=there.one("store"),
        ruby=seen.ruby,
    ) + reads.script("git_pack.sh")


def bring_in(site: Site, facts: Facts) -> tuple[Action | Later, ...]:
    """Stage `import`: what is on the model alone goes into the repository, each as a branch."""
    if not about(site).get("repository"):
        return ()
    seen = Seen(model(site), facts)
    if not answered(seen):
        what = "which environments the repository lacks: they are brought into it"
        return (waiting(seen, what, seen.name),)
    planned = []
    for name in missing(site, facts):
        given = header(site, seen) + reads.script("copies.sh")
        given += assignments(environment=name, folder=roots(seen)[name], who=seen.name)
        stays = f"the branch {name} of the repository: it is the only copy that others may have"
        planned.append(
            Action(
                id=f"import/{seen.name}/{name}",
                host=seen.name,
                title=f"bring {name} as it is on {seen.name} into the repository, as a branch",
                do=Script(given + reads.script("import.sh"), timeout=900.0),
                undo=Nothing(stays=stays),
            )
        )
    return tuple(planned)


def serves(site: Site, name: str, late: Callable[[Site, Facts, Seen], Iterable[str]]) -> Check:
    """Every environment of a server is of the repository's revision, and as it was deployed.

    `late` tells which environments are not. Without a repository in the inventory, only what
    each environment notes of its own deployment is judged.
    """
    pattern = model(site)
    asked = tuple(
        dict.fromkeys(
            (
                (name, reads.SOFTWARE),
                (name, reads.code(site)),
                (name, read(site)),
                (pattern, read(site)),
            )
        )
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen, source = Seen(name, facts), Seen(pattern, facts)
        if not ready(seen):
            return Verdict(None, seen.unread or "it has no Puppet Server yet")
        named, now = bool(about(site).get("repository")), revisions(seen)
        if named and not answered(source):
            said = seen_there(source).one("error")
            return Verdict(None, said or "the repository did not answer")
        known = {e: short(t) for e, t in tips(site, facts).items()} if named else now
        wrong = [f"{e} is not at {known[e]}" for e in late(site, facts, seen)]
        for environment, revision in now.items():
            if (state := revision.partition("+")[2]) and environment in known:
                wrong.append(f"{environment}: {STATES[state]}")
        said = "; ".join(wrong) or ", ".join(f"{e} at {r}" for e, r in known.items())
        ok = bool(known) and not wrong
        return Verdict(ok, said or "nothing was deployed", "pmrunbook --step code")

    return Check(f"tip/{name}", f"{name} serves what the repository has", judge, asked)


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    """What stands between the servers and the repository."""
    for seen in readied(site, facts):
        there = seen_there(seen)
        said = there.one("error")
        if said and "Host key verification failed" in said:
            host = re.search(
                r"([\w.-]+)(?::\d+)?[:/]", str(about(site)["repository"]).split("@")[-1]
            )
            yield found(
                "code-repository-host-key", seen.name, said, name=host[1] if host else "HOST"
            )
        elif said and ("Permission denied" in said or "the key " in said):
            yield found("code-repository-refused", seen.name, said)
        elif said:
            yield found("code-repository-unreachable", seen.name, said)
        inside = [
            w[0]
            for w in lines(seen, "server", "key")
            for r in roots(seen).values()
            if w[0].startswith(f"{r}/") and "private" in w[0]
        ]
        if inside:
            yield found("code-secrets-inside", seen.name, ", ".join(inside))
    base = [
        f"{w[0]} ({w[1]} files)"
        for w in lines(Seen(model(site), facts), "trees", "shared")
        if len(w) > 1 and w[1] != "0" and w[0].endswith("/modules")
    ]
    if base:
        yield found("code-base-modules", model(site), ", ".join(base))
    if names := missing(site, facts):
        yield found("code-not-in-repository", model(site), ", ".join(names))
    everywhere = {e for s in readied(site, facts) for e in roots(s)}
    known = {*tips(site, facts), *missing(site, facts)}
    wanted = only(site)
    if answered(Seen(model(site), facts)):
        for name in sorted(everywhere - known):
            if not wanted or name in wanted:
                hosts = [s.name for s in readied(site, facts) if name in roots(s)]
                yield found("code-only-there", hosts[0], f"{name} on {', '.join(hosts)}")
