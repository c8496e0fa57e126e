"""The step `code`: manifests, modules, data and classifier alike on every Puppet Server, proved."""

from __future__ import annotations

from collections.abc import Iterator

from runbook import edit
from runbook.model import Check, Facts, Finding, Host, Later, Planned, Read, Site, Stage, Step

from . import (
    code_catalogs,
    code_command,
    code_copies,
    code_model,
    code_parity,
    code_r10k,
    code_rsync,
    code_server,
    reads,
)
from .catalogue import found
from .code_site import about, lines, model, readied, strategy, words
from .code_way import Way
from .compiler import choose, ready
from .compiler_install import installing
from .compilers import cautious
from .layout import Seen, servers

WAYS = {
    "r10k": code_r10k.WAY,
    "git": code_copies.WAY,
    "mercurial": code_copies.WAY,
    "subversion": code_copies.WAY,
    "rsync": code_rsync.WAY,
    "model-master": code_model.WAY,
    "command": code_command.WAY,
}
NONE = Way()


def way(site: Site) -> Way:
    """The strategy the site has chosen; one that does nothing where it has not."""
    return WAYS.get(strategy(site), NONE)


def read(site: Site, host: Host) -> tuple[Read, ...]:
    """All that decides about a catalog on every server, and where the sample nodes stand."""
    own: list[Read] = []
    if "server" in host.roles:
        own += [*reads.survey(site, host), reads.SERVER_FILES, reads.proofs(site), reads.code(site)]
        if about(site):
            own += [reads.packages(site), reads.shared_files(site), *way(site).reads(site, host)]
    elif host in code_catalogs.candidates(site):
        own += [reads.SOFTWARE, reads.AGENT]
    return tuple(own)


# --- findings -------------------------------------------------------------------------------------


def _server(site: Site, facts: Facts, seen: Seen) -> Iterator[Finding]:
    wanted = choose(seen, dict.fromkeys(way(site).packages(site, seen), ((),)))
    if wanted.problem:
        yield found("code-tool-missing", seen.name, wanted.problem)
    try:
        changes = [e.what for e in code_server.edits(site, facts, seen)]
    except edit.EditError as error:
        yield found("code-files-unreadable", seen.name, str(error))
        return
    config = seen.setting("config")
    if "puppet.conf" in changes and config in seen.agent.all("manages"):
        paths = {"config": config, "resources": seen.setting("resourcefile")}
        yield found("puppet-conf-managed", seen.name, f"{config} is managed", **paths)
    if odd := [words(line)[0] for line in seen.code.all("misnamed")]:
        yield found("environment-misnamed", seen.name, ", ".join(odd))
    for path, *mode in lines(seen, "server", "key"):
        if len(mode) > 2 and mode[1][-1] in "4567" and "private" in path:
            yield found("code-key-open", seen.name, f"{path} has mode {mode[1]}", path=path)


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    if not about(site):
        return ()
    result = [f for seen in readied(site, facts) for f in _server(site, facts, seen)]
    pattern = Seen(model(site), facts)
    enc = about(site).get("enc")
    if enc and ready(pattern) and code_server.shared_of(pattern).get(enc) is None:
        result.append(found("classifier-missing", pattern.name, f"no {enc}"))
    elif enc and ready(pattern) and code_server.shared_of(pattern)[enc].state != "file":
        result.append(found("classifier-missing", pattern.name, f"no file {enc}"))
    return (*result, *way(site).findings(site, facts))


# --- stages ---------------------------------------------------------------------------------------


def tools(site: Site, facts: Facts) -> Planned:
    """The programs the strategy needs, on every server."""
    actions = []
    for seen in readied(site, facts):
        wanted = choose(seen, dict.fromkeys(way(site).packages(site, seen), ((),)))
        if wanted.specs:
            told, record = "Puppet Server runs on as it is", "/var/lib/pmrunbook/installed-code"
            actions.append(installing("tools", seen, wanted, told, record=record))
    return tuple(actions)


def _stage(stage_id: str, title: str, *, rollout: bool = False) -> Stage:
    """A stage that the strategy plans."""

    def plan(site: Site, facts: Facts) -> Planned:
        planner = way(site).plans.get(stage_id)
        planned = planner(site, facts) if planner else ()
        if stage_id == "access" or not planner:
            return planned
        waiting: list[Later] = [
            Later(f"{title.lower()}", "its Puppet Server", h.name)
            for h in servers(site)
            if facts.reachable(h.name) and not Seen(h.name, facts).puppetserver
        ]
        return (*planned, *waiting)

    return Stage(
        stage_id, title, plan, rollout=rollout, intent=_intent if stage_id == "switch" else _none
    )


def _none(site: Site) -> tuple[str, ...]:
    return ()


def _intent(site: Site) -> tuple[str, ...]:
    return way(site).intent(site)


STAGES = (
    Stage("tools", "The programs that bring the code", tools, rollout=True),
    _stage("access", "What each server deploys with, and from where"),
    _stage("import", "Today's code goes where all servers get it from"),
    Stage(
        "settings",
        "What each server is told, one by one",
        code_server.plan,
        rollout=True,
        singly=True,
    ),
    _stage("fetch", "The code, complete, beside the one that is served"),
    _stage("switch", "Servers turn to it", rollout=True),
    Stage("flush", "What servers keep of the old code in memory goes", code_server.flush),
    _stage("schedule", "It comes by itself from now on"),
)


# --- the step -------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """What must stay true of the code on every server."""
    if not about(site):
        return ()
    return (
        *way(site).checks(site, facts),
        *code_server.checks(site, facts),
        *code_parity.checks(site, facts),
        *code_catalogs.checks(site, facts),
    )


CODE = Step(
    id="code",
    title="Keep the code in sync",
    guide=reads.script("guide/code.md"),
    reads=read,
    stages=tuple(cautious(stage, "server") for stage in STAGES),
    findings=findings,
    checks=checks,
    needs=("compilers",),
    topics={"code": code_parity.checks, "catalogs": code_catalogs.checks},
)
