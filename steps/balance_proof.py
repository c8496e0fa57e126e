"""Proof that the load is spread, that agents do not notice a server's end, and that new ones enrol.

Servers count for themselves, from the moment they are told to look: no clock but their own matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Facts,
    Finding,
    Later,
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
from .balance_agents import (
    expected_ones,
    order,
    proved,
    run,
    samples,
    settings,
    sticky,
    times,
    unlikely_ones,
)
from .balance_config import STAYS
from .catalogue import found
from .compiler_start import starting
from .layout import Seen, see, unknown
from .shellwords import assignments

SPREAD = "balanced"  # the proof a server has that agents came to it
DRILL = "drill"
ROUNDS = 4  # of one run of every sample, at most, where agents are kept with their servers


def _spread(site: Site, facts: Facts, seen: Seen) -> str:
    nodes = " ".join(s.certname for s in samples(site, facts))
    return assignments(ruby=seen.ruby, nodes=nodes) + reads.script("spread.sh")


def _mark(site: Site, facts: Facts, stage: str, seen: Seen, proof: str) -> Action:
    return Action(
        id=f"{stage}/{seen.name}/mark",
        host=seen.name,
        title="note the time: agents that come from now on are counted",
        do=Script(_spread(site, facts, seen) + f"mark {quote(proof)}\n", timeout=30.0),
        undo=Nothing(),
    )


def _settled(site: Site, stage: str, names: tuple[str, ...], title: str) -> Planned:
    """Each of these servers gets its whole share again, and no agent has to stay where it was."""
    if proxy(site):
        host = proxy(site)
        script = assignments(members=" ".join(names)) + haproxy.SERVE + "settled\n"
    elif sticky(site):
        host, script = site.ca.host, f"sleep {STAYS + 30}\n"
    else:
        return ()
    return (
        Action(
            id=f"{stage}/{host}/up",
            host=host,
            title=title,
            do=Script(script, timeout=300.0),
            undo=Nothing(),
        ),
    )


# --- runs, and who served them --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rounds:
    """Runs of the samples until each server that is `due` compiled for one of them.

    Whoever keeps agents with their servers sends few of them to few servers: what has none yet may
    get the next round's.
    """

    proof: str
    spread: str  # the stages: runs, and counting
    counted: str
    due: Callable[[Site, Facts], tuple[Seen, ...]]
    why: str  # behind "3 runs of its agent, in no-op mode"
    counts: str

    def runs(self, site: Site, facts: Facts, n: int = 1) -> Planned:
        due = self._open(site, facts, n)
        stage, proof = _nth(self.spread, n), "cut-over" if self.proof == SPREAD else ""
        planned = []
        for seen in samples(site, facts):
            if not any(_asks(site, seen, server) for server in due):
                continue
            many = times(site, facts, pool_of(site, seen.name))
            words = "one run" if many == 1 else f"{many} runs"
            title = f"{words} of its agent, in no-op mode{self.why}"
            planned.append(run(site, stage, seen, title, many, proof))
        return tuple(planned)

    def count(self, site: Site, facts: Facts, n: int = 1) -> Planned:
        again = "again" if sticky(site) and n < ROUNDS else ""
        words = f"counted {quote(self.proof)} {quote(f'way={digest(site)}')} {quote(again)}\n"
        back = trial.FORGET.format(self.proof) + "\n" + trial.FORGET.format(f"{self.proof}-none")
        return tuple(
            Action(
                id=f"{_nth(self.counted, n)}/{seen.name}/count",
                host=seen.name,
                title=self.counts,
                do=Script(_spread(site, facts, seen) + words, timeout=60.0),
                undo=Compensate(back),
            )
            for seen in self._open(site, facts, n)
        )

    def settle(self, site: Site, facts: Facts, n: int) -> Planned:
        if not sticky(site):
            return ()
        due = self.due(site, facts)
        if n == 2 and due and not any(self._none(site, s) for s in due):
            # Not counted yet: this is a plan of what is to come.
            return (Later("further runs, for servers that had none of them", "they are counted"),)
        names = tuple(s.name for s in self._open(site, facts, n))
        title = f"wait until agents may go elsewhere: {', '.join(names)} had none"
        return _settled(site, _nth(self.spread, n) + "-wait", names, title) if names else ()

    def _none(self, site: Site, seen: Seen) -> bool:
        return proved(site, seen, f"{self.proof}-none")

    def _open(self, site: Site, facts: Facts, n: int) -> tuple[Seen, ...]:
        """The servers that this round is for: after the first one, those that had none."""
        return tuple(s for s in self.due(site, facts) if n == 1 or self._none(site, s))

    def stages(self, runs: str, counts: str) -> tuple[Stage, ...]:
        stages = [Stage(self.spread, runs, self.runs), Stage(self.counted, counts, self.count)]
        for n in range(2, ROUNDS + 1):
            plans = (partial(plan, n=n) for plan in (self.settle, self.runs, self.count))
            waits = f"{_nth(self.spread, n)}-wait"
            ids = (waits, _nth(self.spread, n), _nth(self.counted, n))
            titles = ("Agents may go elsewhere", f"{runs}, once more", counts)
            stages += [Stage(*about) for about in zip(ids, titles, plans, strict=True)]
        return tuple(stages)


def _nth(stage: str, n: int) -> str:
    return stage if n == 1 else f"{stage}-{n}"


# --- every server gets agents ---------------------------------------------------------------------


def _unproved(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The servers that were not seen to compile for agents that came this way."""
    seen = (Seen(n, facts) for n in expected_ones(site, facts) if facts.reachable(n))
    return tuple(s for s in seen if s.puppetserver and not proved(site, s, SPREAD))


def look(site: Site, facts: Facts) -> Planned:
    marks = tuple(_mark(site, facts, "look", s, SPREAD) for s in _unproved(site, facts))
    if not marks:
        return ()
    title = "wait until each server gets its share, wherever agents were sent before"
    return (*marks, *_settled(site, "look", expected_ones(site, facts), title))


SPREAD_ROUNDS = Rounds(
    SPREAD,
    "spread",
    "counted",
    _unproved,
    ", to see where it is served",
    "count the catalogs it compiled for them",
)


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
        measured = shares(site, facts)
        total = sum(n for _, _, n in measured) or 1
        said = ", ".join(
            f"{name} {n / total:.0%} ({share:.0%} planned)" for name, share, n in measured
        )
        if left := unlikely_ones(site, facts):
            said += f"; {', '.join(left)}: too small a share of these runs to be sure of"
        return Verdict(True, said, shares=measured)

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


def undrilled(site: Site) -> Iterator[Finding]:
    """Nobody tries whether agents do without a server, and why."""
    if not about(site).get("drill", True):
        yield found("no-drill", "", "the inventory declines it (load_balancing.drill: false)")
    elif all(len(pool.members) < 2 for pool in pools(site)):
        yield found("no-drill", "", "no pool has a second server to stand in")


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
    return (_mark(site, facts, "drill-stop", seen, DRILL), stop)


def drill_run(site: Site, facts: Facts) -> Planned:
    seen = _due(site, facts)
    if seen is None:
        return ()
    title = f"one run of its agent while {seen.name} is down, in no-op mode"
    mine = [s for s in samples(site, facts) if _asks(site, s, seen)]
    return tuple(run(site, "drill-run", s, title) for s in mine[:2])


def _asks(site: Site, agent: Seen, server: Seen) -> bool:
    """Whether this agent goes there while all is well; one of no pool helps out anywhere."""
    pool = pool_of(site, agent.name)
    return pool is None or server.name in pool.shares()


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
    """Agents are where they were sent meanwhile, until that is forgotten."""
    seen = _due(site, facts)
    if seen is None:
        return ()
    return _settled(site, "drill-up", (seen.name,), f"wait until {seen.name} has its share again")


def _back(site: Site, facts: Facts) -> tuple[Seen, ...]:
    seen = _due(site, facts)
    return (seen,) if seen and seen.name in expected_ones(site, facts) else ()


BACK_ROUNDS = Rounds(
    DRILL,
    "drill-back",
    "drill-counted",
    _back,
    ": the one that was stopped gets work again",
    "count the catalogs it compiled since",
)


def drill_check(site: Site, facts: Facts) -> tuple[Check, ...]:
    """One server was stopped, agents ran on, and it came back; or it is declined."""
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
    *SPREAD_ROUNDS.stages("Agents run the way everybody does", "Each server had some of them"),
    Stage("drill-stop", "Drill: one server is stopped", drill_stop),
    Stage("drill-run", "Agents run on", drill_run),
    Stage("drill-start", "It comes back", drill_start, always=True),
    Stage("drill-up", "Agents may go there again", drill_up),
    *BACK_ROUNDS.stages("Agents run again", "It has work again"),
    *TRIAL.stages(),
)
