"""Strategy `r10k`: every server deploys the control repository's branches, with their modules.

r10k writes into the environments that are served, so a deployment is not atomic: the canary goes
first, and what was there is in the backup of each server's first deployment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from runbook.model import (
    Action,
    Check,
    Facts,
    Finding,
    Host,
    Later,
    Nothing,
    Planned,
    Read,
    Restore,
    Script,
    Site,
)
from runbook.shell import quote

from . import code_repository, code_schedule, reads
from .catalogue import found
from .code_command import alike
from .code_repository import missing, only, packages, seen_there, short, tips
from .code_server import flushing
from .code_site import about, keeps, model, readied, revisions
from .code_way import Way
from .fields import NONE
from .files import Edit, changed, writes
from .layout import FileFact, Seen, file_fact, servers
from .shellwords import assignments

USUAL = "/etc/puppetlabs/r10k/r10k.yaml"
"""Where r10k looks for its configuration, the vendor's and Debian's alike."""


def config(site: Site) -> str:
    return str(about(site).get("config", USUAL))


def _reads(site: Site, host: Host) -> tuple[Read, ...]:
    if "server" not in host.roles:
        return ()
    return (code_repository.read(site), code_schedule.SCHEDULE, configuration(site))


def configuration(site: Site) -> Read:
    """The configuration of r10k, as it is."""
    path = quote(config(site))
    return Read("r10k", f"printf 'path=%s\\n' {path}\npc_file {path}\n", limit=200_000)


def file_of(seen: Seen) -> FileFact:
    return file_fact(seen.parsed("r10k").get("", NONE))


def wanted(site: Site, seen: Seen) -> bytes:
    """The configuration for the repository that the inventory names.

    Environments that no branch has stay (`purge_levels` without `deployment`): somebody made them.
    """
    there = seen_there(seen)
    return (
        "# Written by pmrunbook, from its inventory.\n"
        "cachedir: /var/cache/r10k\n"
        "sources:\n"
        "  control:\n"
        f"    remote: {json.dumps(str(about(site)['repository']))}\n"
        f"    basedir: {json.dumps(there.one('environments'))}\n"
        "deploy:\n"
        "  purge_levels: [environment, puppetfile]\n"
        f"  puppet_path: {json.dumps(seen.puppet)}\n"
        f"  puppet_conf: {json.dumps(seen.setting('config'))}\n"
    ).encode()


def _edits(site: Site, seen: Seen) -> tuple[Edit, ...]:
    if not about(site).get("repository"):
        return ()
    title = f"r10k takes {about(site)['repository']}"
    return tuple(changed([Edit("r10k.yaml", file_of(seen), wanted(site, seen), title)]))


def _header(site: Site, seen: Seen) -> str:
    programs = dict(line.partition(" ")[::2] for line in seen_there(seen).all("program"))
    after = f"{flushing(seen)}after() {{ flush_caches; }}\n" if keeps(seen) else "after() { :; }\n"
    given = assignments(
        r10k=programs.get("r10k", "r10k"),
        config=config(site),
        only=" ".join(only(site)),
        key=str(about(site).get("key", "")),
        environments=seen_there(seen).one("environments"),
    )
    return given + after + reads.script("r10k_run.sh")


def program(site: Site, seen: Seen) -> str:
    """The text of the program that deploys: by this step, a timer, or a webhook of the site's."""
    first = "#!/bin/sh\n# Written by pmrunbook, from its inventory.\n"
    return first + _header(site, seen) + reads.script("r10k_main.sh")


def access(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in readied(site, facts):
        if packages(site, seen):
            planned.append(Later("the program that deploys", "tools", seen.name))
            continue
        planned += writes("access", seen.name, _edits(site, seen))
        planned += code_schedule.program(seen, program(site, seen))
    return tuple(planned)


def late(site: Site, facts: Facts, seen: Seen) -> list[str]:
    """Environments of a server that are not what the repository has now."""
    now = revisions(seen)
    return [e for e, tip in tips(site, facts).items() if now.get(e) != short(tip)]


def switch(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    pattern = Seen(model(site), facts)
    named = bool(about(site).get("repository"))
    if named and not code_repository.answered(pattern):
        return (code_repository.waiting(pattern, "what each server deploys"),)
    if named and (names := missing(site, facts)):
        return (Later(f"deploying {', '.join(names)}, and what else is due", "import"),)
    same = alike(site, facts)
    for seen in readied(site, facts):
        due = late(site, facts, seen) if named else []
        untold = [e for e in (only(site) or ()) if not revisions(seen).get(e)]
        if due or untold or not same or not revisions(seen):
            planned.append(_deploy(site, facts, seen, due))
    return tuple(planned)


def _deploy(site: Site, facts: Facts, seen: Seen, due: list[str]) -> Action:
    first = not revisions(seen)
    folder = seen_there(seen).one("environments")
    said = ", ".join(f"{e} at {short(tips(site, facts)[e])}" for e in due) or "every environment"
    kept = f"; {folder} as it is now is kept" if first else ""
    return Action(
        # Another name for the first one: a later one must not take its place in what is taken back.
        id=f"switch/{seen.name}/{'first' if first else 'deploy'}",
        host=seen.name,
        title=f"deploy {said} with r10k{kept}",
        do=Script(
            _header(site, seen) + "deploy\n", timeout=1800.0, saves=(folder,) if first else ()
        ),
        undo=Restore()
        if first
        else Nothing(stays="the revision that was deployed: the repository has the one before"),
    )


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    yield from code_repository.findings(site, facts)
    for seen in readied(site, facts):
        if not about(site).get("repository") and file_of(seen).state == "absent":
            yield found("r10k-unconfigured", seen.name, f"no {config(site)}")
    if about(site).get("repository"):
        yield found("r10k-not-atomic", model(site), "it deploys into what is served")


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    names = tuple(h.name for h in servers(site))
    serving = tuple(code_repository.serves(site, name, late) for name in names)
    return (*serving, *code_schedule.checks(site, names))


def intent(site: Site) -> tuple[str, ...]:
    what = about(site).get("repository", f"what {config(site)} names")
    return (f"every Puppet Server: r10k deploys {what}, modules included",)


WAY = Way(
    packages=packages,
    reads=_reads,
    findings=findings,
    plans={
        "access": access,
        "import": code_repository.bring_in,
        "switch": switch,
        "schedule": lambda site, facts: code_schedule.plan(site, facts),
    },
    checks=checks,
    intent=intent,
)
