"""From a step and the facts to what would be done: pure, deterministic, with a digest.

An approval covers the digests of single actions, so a plan that was made again and asks for less
(somebody did a part meanwhile, or a part is done) needs no second approval; one that asks for
anything else does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from runbook.errors import RunbookError
from runbook.model import (
    Action,
    Facts,
    Later,
    RemoveFile,
    Risk,
    Rollout,
    Script,
    Site,
    Stage,
    Step,
    WriteFile,
    fingerprint,
    plain,
)
from runbook.symbols import count


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage would do now."""

    stage: Stage
    actions: tuple[Action, ...]
    later: tuple[Later, ...]

    @property
    def lanes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a.lane for a in self.actions))

    def on(self, lanes: Collection[str]) -> tuple[Action, ...]:
        return tuple(a for a in self.actions if a.lane in lanes)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a step would do now."""

    step: Step
    stages: tuple[StagePlan, ...]

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(a for s in self.stages for a in s.actions)

    @property
    def later(self) -> tuple[Later, ...]:
        return tuple(x for s in self.stages for x in s.later)

    @property
    def empty(self) -> bool:
        return not self.actions and not self.later

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a.host for a in self.actions))

    @property
    def gist(self) -> str:
        """How much it is, in a few words."""
        if self.empty:
            return "nothing to do"
        said = f"{count(len(self.actions), 'action')} on {count(len(self.hosts), 'host')}"
        return f"{said}, {len(self.later)} known later" if self.later else said

    @property
    def risk(self) -> Risk:
        return max((a.risk for a in self.actions), key=lambda r: r.rank, default=Risk.READ)

    @property
    def outages(self) -> tuple[tuple[str, float], ...]:
        """Seconds of refused service to expect, by host."""
        seconds: Counter[str] = Counter()
        for action in self.actions:
            if action.outage:
                seconds[action.host] += round(action.outage)
        return tuple(seconds.items())

    @property
    def digest(self) -> str:
        parts = [
            [a.digest() for a in s.actions] + [(x.what, x.after) for x in s.later]
            for s in self.stages
        ]
        return fingerprint([self.step.id, parts])

    def summary(self) -> dict[str, Any]:
        """What the journal keeps of it: JSON values."""
        return {
            "digest": self.digest,
            "risk": self.risk.value,
            "hosts": len(self.hosts),
            "actions": [{**plain(a), "digest": a.digest()} for a in self.actions],
            "later": [{**plain(x), "stage": s.stage.id} for s in self.stages for x in s.later],
            "outages": dict(self.outages),
        }

    def unapproved(self, approved: Collection[str]) -> tuple[Action, ...]:
        """The actions whose digest is not among `approved`."""
        return tuple(a for a in self.actions if a.digest() not in approved)

    def new(self, approved: Collection[str]) -> tuple[str, ...]:
        """The ids of those, where some of the step was approved before; else nothing is new."""
        return tuple(a.id for a in self.unapproved(approved)) if approved else ()


def make(
    step: Step,
    site: Site,
    facts: Facts,
    *,
    hosts: Collection[str] = (),
    without: Collection[str] = (),
    granted: Collection[str] = (),
) -> Plan:
    """The plan of `step`; only for `hosts` where any are named, never for those in `without`.

    `granted` are the ids of actions that count as done whatever was read.

    RunbookError where two actions, or two debts, share an id: the journal could not tell them
    apart.
    """
    stages = tuple(
        make_stage(s, site, facts, hosts=hosts, without=without, granted=granted)
        for s in step.stages
    )
    plan = Plan(step, stages)
    twice = [name for name, n in Counter(a.id for a in plan.actions).items() if n > 1]
    debts = Counter(a.opens.id for a in plan.actions if a.opens)
    twice += [name for name, n in debts.items() if n > 1]
    if twice:
        raise RunbookError(f"step {step.id} plans {twice[0]} twice", hint="report this as a bug")
    return plan


def make_stage(
    stage: Stage,
    site: Site,
    facts: Facts,
    *,
    hosts: Collection[str] = (),
    without: Collection[str] = (),
    granted: Collection[str] = (),
) -> StagePlan:
    """What `stage` would do now; `hosts` narrow a roll-out, other stages belong to the whole."""
    only = hosts if stage.rollout else ()
    facts = replace(facts, idle=frozenset(without))

    def wanted(planned: Action | Later) -> bool:
        lane = planned.lane if isinstance(planned, Action) else planned.host
        # Nothing is done on a host that is left out, in whosever turn.
        out = {planned.host, lane} & set(without)
        return not out and (not only or not lane or lane in only)

    def asked(planned: Action | Later) -> bool:
        # What is not known of, or done for, a host that nobody asked for can wait.
        about = planned.about if isinstance(planned, Action) else planned.host
        if isinstance(planned, Action) and planned.id in granted:
            return False
        return about not in without and (not hosts or about in ("", *hosts))

    planned = [p for p in stage.plan(site, facts) if wanted(p) and asked(p)]
    actions = tuple(p for p in planned if isinstance(p, Action))
    for action in actions:
        _check_paths(action)
    return StagePlan(stage, actions, tuple(p for p in planned if isinstance(p, Later)))


def _check_paths(action: Action) -> None:
    """RunbookError where it would change files elsewhere than its path reads: hosts say them."""
    match action.do:
        case WriteFile(path=path) | RemoveFile(path=path):
            paths: tuple[str, ...] = (path,)
        case Script(saves=saves, removes=removes):
            paths = (*saves, *removes)
        case _:
            paths = ()
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/"):
            raise RunbookError(
                f"{action.id} is about the path {path!r}: relative, or with '..' in it",
                hint=f"give {action.host} a plain path in the settings that name it",
            )


def batches(hosts: tuple[str, ...], rollout: Rollout) -> Iterator[tuple[str, ...]]:
    """The canary hosts, then the others, `rollout.batch` at a time."""
    first, rest = hosts[: rollout.canary], hosts[rollout.canary :]
    if first:
        yield first
    for start in range(0, len(rest), max(1, rollout.batch)):
        yield rest[start : start + max(1, rollout.batch)]
