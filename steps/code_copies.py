"""Strategies `git`, `mercurial`, `subversion`: working copies beside one another, and a link.

A checkout is complete on every server before the environment's link moves on the first one. What
was there before stays beside the copies.
"""

from __future__ import annotations

from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Host,
    Later,
    Planned,
    Read,
    Script,
    Site,
)

from . import code_repository, code_schedule, reads
from .code_repository import header, missing, pairs, seen_there, short, tips
from .code_server import flushing
from .code_site import about, keeps, model, readied, revisions, roots
from .code_way import Way
from .layout import Seen, servers
from .shellwords import assignments


def _reads(site: Site, host: Host) -> tuple[Read, ...]:
    if "server" not in host.roles:
        return ()
    return (code_repository.read(site), code_schedule.SCHEDULE)


def program(site: Site, seen: Seen) -> str:
    """The text of the program that deploys: by this step, a timer, or a hook of the site's own."""
    after = "after() { :; }\n"
    if keeps(seen):
        after = f"{flushing(seen)}after() {{ flush_caches; }}\n"
    about_it = "#!/bin/sh\n# Written by pmrunbook, from its inventory.\n"
    return (
        about_it
        + header(site, seen)
        + after
        + reads.script("copies.sh")
        + reads.script("copies_main.sh")
    )


def access(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in readied(site, facts):
        if seen_there(seen).one("store"):
            planned += code_schedule.program(seen, program(site, seen))
    return tuple(planned)


def _where(seen: Seen, name: str, tip: str) -> str:
    return f"{seen_there(seen).one('store')}/{name}/{short(tip)}"


def due(site: Site, facts: Facts, seen: Seen) -> dict[str, str]:
    """Environments of one server that have to turn to another revision, or to a fresh copy."""
    links, now = pairs(seen, "link"), revisions(seen)
    return {
        name: tip
        for name, tip in tips(site, facts).items()
        if links.get(name) != _where(seen, name, tip) or edited(now.get(name, ""))
    }


def edited(revision: str) -> bool:
    """Whether somebody changed files of a working copy."""
    return revision.endswith("+edited")


def _waits(site: Site, facts: Facts, what: str) -> list[Later]:
    """What cannot be known before the repository can be asked, or has today's code."""
    seen = Seen(model(site), facts)
    if not code_repository.answered(seen):
        return [code_repository.waiting(seen, what)]
    names = ", ".join(missing(site, facts))
    return [Later(f"{what}: {names}", "import")] if names else []


def fetch(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = list(_waits(site, facts, "what each server fetches"))
    for seen in readied(site, facts):
        here = {tuple(line.split(" ")) for line in seen_there(seen).all("fetched")}
        for name, tip in due(site, facts, seen).items():
            if (name, short(tip)) not in here or edited(revisions(seen).get(name, "")):
                planned.append(_fetch(site, seen, name, tip))
    return tuple(planned)


def _fetch(site: Site, seen: Seen, name: str, tip: str) -> Action:
    given = header(site, seen) + reads.script("copies.sh")
    what = assignments(environment=name, tip=tip)
    again = "; what was edited there is kept" if edited(revisions(seen).get(name, "")) else ""
    return Action(
        id=f"fetch/{seen.name}/{name}",
        host=seen.name,
        title=f"fetch {name} at {short(tip)} into {_where(seen, name, tip)}{again}",
        do=Script(
            f"{given}{what}[ $kind != git ] || mirror || exit 1\n"
            'fetch "$environment" "$tip" || exit 1\n',
            timeout=1800.0,
        ),
        undo=Compensate(f'{given}{what}forget "$environment" "$tip"\n'),
    )


def switch(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = list(_waits(site, facts, "what each server turns to"))
    for seen in readied(site, facts):
        links = pairs(seen, "link")
        for name, tip in due(site, facts, seen).items():
            if links.get(name) != _where(seen, name, tip):
                planned.append(_switch(site, seen, name, tip))
    return tuple(planned)


def _switch(site: Site, seen: Seen, name: str, tip: str) -> Action:
    given = header(site, seen) + reads.script("copies.sh")
    there, link = pairs(seen, "link").get(name, ""), roots(seen).get(name, "")
    stock = name in {line.split(" ")[0] for line in seen.code.all("stock")}
    before = there or ("before" if link or stock else "")
    now = revisions(seen).get(name, "")
    was = f" (was {now or 'a folder of its own, which is kept'})" if before else " (new here)"
    what = assignments(environment=name, tip=tip, before=before)
    return Action(
        id=f"switch/{seen.name}/{name}",
        host=seen.name,
        title=f"turn {name} to {short(tip)}{was}",
        do=Script(f'{given}{what}switch "$environment" "$tip"\n', timeout=300.0),
        undo=Compensate(f'{given}{what}back "$environment" "$before"\n'),
        diff=f"--- {name}: {there or link or 'nothing'}\n"
        f"+++ {name}: {_where(seen, name, tip)}\n{_differs(seen, name)}",
    )


def _differs(seen: Seen, name: str) -> str:
    """What the copy has otherwise than the folder it takes the place of, file by file."""
    found = [line.partition(" ") for line in seen_there(seen).all("differs")]
    return "".join(f"{what}\n" for environment, _, what in found if environment == name)


def schedule(site: Site, facts: Facts) -> Planned:
    return code_schedule.plan(site, facts)


def intent(site: Site) -> tuple[str, ...]:
    code = about(site)
    what = f"{code['repository']}" + (f" at {code['revision']}" if "revision" in code else "")
    return (f"every Puppet Server: a checkout of {what} for each environment, then a link to it",)


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    names = tuple(h.name for h in servers(site))
    serving = tuple(code_repository.serves(site, name, late) for name in names)
    return (*serving, *code_schedule.checks(site, names))


def late(site: Site, facts: Facts, seen: Seen) -> list[str]:
    """Environments of a server that do not lead to what the repository has now."""
    links = pairs(seen, "link")
    return [e for e, tip in tips(site, facts).items() if links.get(e) != _where(seen, e, tip)]


WAY = Way(
    packages=code_repository.packages,
    reads=_reads,
    findings=code_repository.findings,
    plans={
        "access": access,
        "import": code_repository.bring_in,
        "fetch": fetch,
        "switch": switch,
        "schedule": schedule,
    },
    checks=checks,
    intent=intent,
)
