"""Proof that the load is spread, that agents do not notice a server's end, and that new ones enrol.

Servers count for themselves, from the moment they are told to look: no clock but their own matters.
"""

from __future__ import annotations

from collections.abc import Mapping

from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Facts,
    Nothing,
    Planned,
    Script,
    Site,
    Stage,
    Verdict,
)
from runbook.pools import pools
from runbook.shell import quote

from . import haproxy, reads, trial
from .balance import about, digest, first_members, pool_of, proxy, strategy
from .balance_agents import expected_ones, order, proved, run, samples, settings, times
from .compiler_start import starting
from .layout import Seen, see, unknown
from .shellwords import assignments

SPREAD = "balanced"  # the proof a server has that agents came to it
DRILL = "drill"


def _spread(site: Site, facts: Facts, seen: Seen) -> str:
    nodes = " ".join(s.certname for s in samples(site, facts))
    return assignments(ruby=seen.ruby, nodes=nodes) + reads.script("spread.sh")


def _mark(site: Site, facts: Facts, stage: str, seen: Seen) -> Action:
    return Action(
        id=f"{stage}/{seen.name}/mark",
        host=seen.name,
        title="note the time: agents that come from now on are counted",
        do=Script(_spread(site, facts, seen) + "mark\n", timeout=30.0),
        undo=Nothing(),
    )


def _counted(site: Site, facts: Facts, stage: str, seen: Seen, proof: str, title: str) -> Action:
    words = f"counted {quote(proof)} 1 {quote(f'way={digest(site)}')}\n"
    return Action(
        id=f"{stage}/{seen.name}/count",
        host=seen.name,
        title=title,
        do=Script(_spread(site, facts, seen) + words, timeout=60.0),
        undo=Compensate(trial.FORGET.format(proof)),
    )


# --- every server gets agents ---------------------------------------------------------------------


def _unproved(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The servers that were not seen to compile for agents that came this way."""
    found = (Seen(n, facts) for n in expected_ones(site, facts) if facts.reachable(n))
    return tuple(s for s in found if s.puppetserver and not proved(site, s, SPREAD))


def _settled(site: Site, stage: str, names: tuple[str, ...], title: str) -> Action:
    """The proxy has these servers at full weight, and no agent has to stay where it was sent."""
    script = assignments(members=" ".join(names)) + haproxy.SERVE + "settled\n"
    return Action(
        id=f"{stage}/{proxy(site)}/up",
        host=proxy(site),
        title=title,
        do=Script(script, timeout=180.0),
        undo=Nothing(),
    )


def look(site: Site, facts: Facts) -> Planned:
    marks = tuple(_mark(site, facts, "look", s) for s in _unproved(site, facts))
    if not marks or not proxy(site):
        return marks
    title = "wait until the proxy gives each server its share, wherever agents were sent before"
    return (*marks, _settled(site, "look", expected_ones(site, facts), title))


def spread(site: Site, facts: Facts) -> Planned:
    if not _unproved(site, facts):
        return ()
    n = times(site, facts)
    words = "one run" if n == 1 else f"{n} runs"
    title = f"{words} of its agent, in no-op mode, to see where it is served"
    return tuple(run(site, "spread", s, title, n, "cut-over") for s in samples(site, facts))


def counted(site: Site, facts: Facts) -> Planned:
    title = "count the catalogs it compiled for them: at least one"
    return tuple(_counted(site, facts, "counted", s, SPREAD, title) for s in _unproved(site, facts))


def shares(site: Site, facts: Facts) -> tuple[tuple[str, float, int], ...]:
    """Server, planned share of the samples, and how many catalogs it compiled for them."""
    planned: dict[str, float] = {}
    many = len(samples(site, facts)) or 1
    for seen in samples(site, facts):
        pool = pool_of(site, seen.name)
        own: Mapping[str, float] = {}
        if pool and strategy(site) == "server-list":
            own = {order(pool, seen.name)[0].partition(":")[0]: 1.0}
        elif pool:
            own = pool.shares()
        for name, share in own.items():
            planned[name] = planned.get(name, 0.0) + share / many
    return tuple(
        (name, share, int(Seen(name, facts).proofs[SPREAD].one("count") or 0))
        for name, share in sorted(planned.items())
        if SPREAD in Seen(name, facts).proofs
    )


def spread_check(site: Site, facts: Facts) -> tuple[Check, ...]:
    wanted = expected_ones(site, facts)
    asked = tuple((n, reads.proofs(site)) for n in wanted)

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        idle = [n for n in wanted if not proved(site, Seen(n, facts), SPREAD)]
        if idle:
            said = f"{', '.join(idle)} was not seen to compile for them"
            return Verdict(False, said, "pmrunbook --step cutover")
        found = shares(site, facts)
        total = sum(n for _, _, n in found) or 1
        said = ", ".join(
            f"{name} {n / total:.0%} ({share:.0%} planned)" for name, share, n in found
        )
        return Verdict(True, said, shares=found)

    if not wanted:
        return ()
    return (Check("spread/all", "every server of the pool compiles for agents", judge, asked),)


# --- the drill ------------------------------------------------------------------------------------


def victim(site: Site, facts: Facts) -> Seen | None:
    """The server that is stopped: one that others can stand in for, never the CA's host."""
    if not about(site).get("drill", True):
        return None
    for pool in pools(site):
        firsts = [n for n in first_members(site) if n != site.ca.host]
        mine = [m.name for m in pool.members if m.name in firsts]
        if len(pool.members) > 1 and mine and facts.reachable(mine[-1]):
            return Seen(mine[-1], facts)
    return None


def _due(site: Site, facts: Facts) -> Seen | None:
    seen = victim(site, facts)
    if seen is None or not seen.puppetserver or proved(site, seen, DRILL):
        return None
    return seen


def _start(seen: Seen) -> str:
    return starting(seen) + "serve start\n"


_RUNS = '[ "$(systemctl is-active puppetserver)" = active ]\n'


def drill_stop(site: Site, facts: Facts) -> Planned:
    seen = _due(site, facts)
    if seen is None:
        return ()
    back = _start(seen)
    stop = Action(
        id=f"drill-stop/{seen.name}/stop",
        host=seen.name,
        title="drill: stop its Puppet Server, as if it had died",
        do=Script(
            "systemctl stop puppetserver\n",
            done='[ "$(systemctl is-active puppetserver)" = inactive ]\n',
            timeout=300.0,
        ),
        undo=Compensate(back),
        outage=90.0,
        opens=Debt(f"drill/{seen.name}", f"Puppet Server of {seen.name}, stopped to try it", back),
    )
    return (_mark(site, facts, "drill-stop", seen), stop)


def drill_run(site: Site, facts: Facts) -> Planned:
    seen = _due(site, facts)
    if seen is None:
        return ()
    title = f"one run of its agent while {seen.name} is down, in no-op mode"
    return tuple(run(site, "drill-run", s, title) for s in samples(site, facts)[:2])


def drill_start(site: Site, facts: Facts) -> Planned:
    seen = _due(site, facts)
    if seen is None:
        return ()
    return (
        Action(
            id=f"drill-start/{seen.name}/start",
            host=seen.name,
            title="start it again, and wait until it serves",
            # Where an earlier stage failed, it may never have been stopped.
            do=Script(_start(seen), done=_RUNS, timeout=900.0),
            undo=Nothing(),
            repays=f"drill/{seen.name}",
        ),
    )


def drill_up(site: Site, facts: Facts) -> Planned:
    """A proxy forgets which agent it sent where, once it has the server back at full weight."""
    seen = _due(site, facts)
    if seen is None or not proxy(site):
        return ()
    title = f"wait until the proxy gives {seen.name} its share again"
    return (_settled(site, "drill-up", (seen.name,), title),)


def drill_back(site: Site, facts: Facts) -> Planned:
    seen = _due(site, facts)
    if seen is None or seen.name not in expected_ones(site, facts):
        return ()
    n = times(site, facts)
    words = "one run" if n == 1 else f"{n} runs"
    title = f"{words} of its agent, in no-op mode: {seen.name} gets work again"
    return tuple(run(site, "drill-back", s, title, n) for s in samples(site, facts))


def drill_counted(site: Site, facts: Facts) -> Planned:
    seen = _due(site, facts)
    if seen is None or seen.name not in expected_ones(site, facts):
        return ()
    title = "count the catalogs it compiled since: at least one"
    return (_counted(site, facts, "drill-counted", seen, DRILL, title),)


def drill_check(site: Site, facts: Facts) -> tuple[Check, ...]:
    """One server was stopped, agents ran on, and it came back; or the inventory declines it."""
    seen = victim(site, facts)
    if seen is None:
        return ()
    asked = (seen.name, reads.proofs(site))

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, asked):
            return silent
        good = proved(site, Seen(seen.name, facts), DRILL)
        said = "agents ran on, and it came back" if good else "not tried this way"
        return Verdict(good, said, "pmrunbook --step cutover")

    return (Check("drill/done", f"agents do not need {seen.name}", judge, (asked,)),)


# --- new agents -----------------------------------------------------------------------------------


def _settings(site: Site, agent: str) -> Mapping[str, str]:
    pool = pool_of(site, agent) or next(iter(pools(site)), None)
    if pool is None:
        return {}
    return {"server": pool.server, **(settings(site, agent) if pool_of(site, agent) else {})}


TRIAL = trial.Trial("enrol", "balanced-enrol", "told what all agents are told", _settings, digest)


def enrol_check(site: Site, facts: Facts) -> tuple[Check, ...]:
    hosts = [s.name for s in see(site, facts) if s.certname]
    records = (
        (site.ca.host, reads.CERTIFICATES),
        *((h, reads.proofs(site)) for h in hosts),
    )

    def judge(facts: Facts) -> Verdict:
        where = [h for h in hosts if TRIAL.proved(site, facts, Seen(h, facts))]
        if not where and (silent := unknown(facts, *records)):
            return silent
        said = f"proved on {', '.join(where)}" if where else "not proved for this way"
        return Verdict(bool(where), said, "pmrunbook --step cutover")

    return (
        Check(
            "enrol/done",
            "a new agent enrols, and is served the new way",
            judge,
            records,
        ),
    )


STAGES = (
    Stage("look", "Servers count from now on", look),
    Stage("spread", "Agents run the way everybody does", spread),
    Stage("counted", "Each server had some of them", counted),
    Stage("drill-stop", "Drill: one server is stopped", drill_stop),
    Stage("drill-run", "Agents run on", drill_run),
    Stage("drill-start", "It comes back", drill_start, always=True),
    Stage("drill-up", "The proxy takes it back", drill_up),
    Stage("drill-back", "Agents run again", drill_back),
    Stage("drill-counted", "It has work again", drill_counted),
    *TRIAL.stages(),
)
