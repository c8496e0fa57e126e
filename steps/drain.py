"""A server behind a proxy of ours gets no new agents while its Puppet Server is away.

A reload refuses connections for 6 to 11 s, and cuts those that wait for a catalog.
"""

from __future__ import annotations

from dataclasses import replace

from runbook.model import (
    Action,
    Debt,
    Facts,
    Host,
    Nothing,
    Planned,
    Read,
    Script,
    Site,
    Stage,
    Step,
)

from . import reads
from .balance import proxy
from .haproxy import ASK
from .layout import Seen
from .shellwords import assignments

POOL = Read("pool-state", ASK + reads.script("pool_state.sh"))
TIME = 900.0  # seconds: what is under way there may take ten minutes


def gently(step: Step) -> Step:
    """The step, with each server drained at the proxy while its Puppet Server is away."""

    def read(site: Site, host: Host) -> tuple[Read, ...]:
        return (*step.reads(site, host), *((POOL,) if host.name == proxy(site) else ()))

    return replace(step, reads=read, stages=tuple(map(_gently, step.stages)))


def _gently(stage: Stage) -> Stage:
    def plan(site: Site, facts: Facts) -> Planned:
        planned = tuple(stage.plan(site, facts))
        away = {p.lane for p in planned if isinstance(p, Action) and p.outage}
        for name in sorted(away & getting(site, facts)):
            at = [n for n, p in enumerate(planned) if isinstance(p, Action) and p.lane == name]
            drain, fill = _around(stage.id, proxy(site), name)
            first, last = at[0], at[-1] + 1
            planned = (*planned[:first], drain, *planned[first:last], fill, *planned[last:])
        return planned

    return replace(stage, plan=plan)


def getting(site: Site, facts: Facts) -> set[str]:
    """The servers that get agents from the proxy, where others could take these.

    Whom somebody else drained is not among them, whom a broken-off run of ours did is.
    """
    found = Seen(proxy(site), facts).parsed("pool-state") if proxy(site) else {}
    servers = {name: at for name, at in found.items() if "status" in at}
    if len(servers) < 2:
        return set()
    return {n for n, at in servers.items() if at.one("status").startswith("UP") or "ours" in at}


def _around(stage: str, host: str, name: str) -> tuple[Action, Action]:
    functions = assignments(server=name) + ASK + reads.script("drain.sh")
    back = f'{functions}fill "$server"'
    debt = f"drained-{name}-{stage}"
    return (
        Action(
            id=f"{stage}/{name}/drain",
            host=host,
            title=f"drain {name}: the others get its agents; wait for those that are there",
            do=Script(f"{functions}drain\n", timeout=TIME),
            undo=Nothing(),
            opens=Debt(debt, f"{name} gets no agents from the proxy", f"{back}\n"),
            turn=name,
        ),
        Action(
            id=f"{stage}/{name}/fill",
            host=host,
            title=f"send agents to {name} again, once the proxy finds it well",
            do=Script(f"{back} && well\n", timeout=120.0),
            undo=Nothing(),
            repays=debt,
            turn=name,
        ),
    )
