"""What is done on one host in the turn of another: a proxy told of the server that is changed."""

from __future__ import annotations

import threading
from typing import Any

from runbook.model import (
    Action,
    Debt,
    Facts,
    Nothing,
    Rollout,
    Script,
    Site,
    Stage,
    Status,
    Step,
)
from runbook.plan import make_stage
from runbook.ports import JobState, Outcome
from tests.core.estate import NAMES, FakeHost, Fleet, Scripted, make, reads, setting, site

PROXY, SERVERS = NAMES[0], NAMES[1:]


def around(host: str, *within: Action) -> tuple[Action, ...]:
    opened = Debt(f"drained-{host}", f"{host} is drained", f"drop {host}")
    return (
        Action(
            f"all/{host}/drain",
            PROXY,
            f"drain {host}",
            Script(f"set {host} drained"),
            Nothing(),
            opens=opened,
            turn=host,
        ),
        *within,
        Action(
            f"all/{host}/fill",
            PROXY,
            f"fill {host}",
            Script(f"drop {host}"),
            Nothing(),
            repays=opened.id,
            turn=host,
        ),
    )


def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
    left = [h for h in SERVERS if facts.reachable(h) and facts.get(h, "a").out != "1"]
    return tuple(a for h in left for a in around(h, setting("all", h, "a", "1")))


STEP = Step("step", "Step", "", reads("a"), stages=(Stage("all", "All", plan, rollout=True),))
ALL_AT_ONCE = site(*NAMES, rollout=Rollout(canary=0, batch=20))


class Watched(Fleet):
    """A fleet that tells in which order all of it did what it did; jobs of `failing` fail."""

    def __init__(self, failing: str = "") -> None:
        super().__init__(*NAMES)
        self.order: list[tuple[str, str]] = []
        lock = threading.Lock()

        class Told(FakeHost):
            def _do(told, command: str) -> Outcome:
                name = next(n for n, host in self.hosts.items() if host is told)
                with lock:
                    self.order.append((name, command))
                return Outcome(JobState.DONE, 1, "no") if name == failing else super()._do(command)

        self.hosts = {name: Told() for name in NAMES}


def turn(host: str) -> list[tuple[str, str]]:
    return [(PROXY, f"set {host} drained"), (host, "set a 1"), (PROXY, f"drop {host}")]


def test_each_server_has_its_turn_at_the_proxy_though_all_go_at_once() -> None:
    fleet = Watched()
    make(fleet, ALL_AT_ONCE, STEP).engine.run()
    turns = [fleet.order[n : n + 3] for n in range(0, len(fleet.order), 3)]
    assert sorted(turns) == sorted(map(turn, SERVERS))
    assert fleet.hosts[PROXY].values == {}


def test_a_roll_out_counts_the_servers_not_the_proxy() -> None:
    fleet = Watched()
    make(fleet, site(*NAMES, rollout=Rollout(canary=1, batch=1)), STEP).engine.run()
    assert fleet.order == [done for host in SERVERS for done in turn(host)]
    narrowed = make_stage(STEP.stages[0], ALL_AT_ONCE, Facts(), hosts=["h2"])
    assert narrowed.actions == ()  # nobody was read


def test_who_asks_for_one_server_has_it_drained_too_and_no_other() -> None:
    fleet = Watched()
    make(fleet, ALL_AT_ONCE, STEP, hosts=("h3",)).engine.run()
    assert fleet.order == turn("h3")


def test_a_server_that_fails_stays_drained_to_the_end_and_can_be_left_out() -> None:
    """It is the server that is left out, never the proxy; what was opened for it is closed."""
    fleet = Watched(failing="h2")
    face = Scripted("approve", "exclude:broken")
    run = make(fleet, site(*NAMES, rollout=Rollout(canary=1, batch=1)), STEP, face=face)
    run.engine.run()
    assert set(run.recorder.state.excluded) == {"h2"}
    assert fleet.order[2:-1] == [done for host in ("h3", "h4") for done in turn(host)]
    assert fleet.order[-1] == (PROXY, "drop h2") and not run.recorder.state.debts


def test_a_proxy_that_cannot_drain_holds_the_server_and_is_not_left_out() -> None:
    fleet = Watched(failing=PROXY)
    face = Scripted("approve", "exclude:not now", "exclude:not now", "exclude:not now")
    run = make(fleet, ALL_AT_ONCE, STEP, face=face)
    run.engine.run()
    assert set(run.recorder.state.excluded) == set(SERVERS)
    assert {host for host, _ in fleet.order} == {PROXY}
    assert [q.host for q in face.asked[1:]] == [PROXY] * 3


def test_a_server_that_fell_silent_since_its_proxy_failed_is_not_taken_for_done() -> None:
    fleet = Watched(failing=PROXY)
    face = Scripted("approve", "retry", "exclude:silent")
    run = make(fleet, site(*NAMES[:2]), STEP, face=face)
    asked = face.ask

    def silenced(question: Any) -> Any:
        fleet.hosts["h2"].down = question.kind != "approve"
        return asked(question)

    face.ask = silenced  # type: ignore[method-assign]
    run.engine.run()
    assert [q.host for q in face.asked[1:]] == [PROXY, "h2"]
    assert set(run.recorder.state.excluded) == {"h2"}
    drain = run.recorder.state.step("step").actions["all/h2/drain"]
    assert drain.status is Status.FAILED  # and not found done by looking


def test_retry_does_the_whole_turn_of_that_server() -> None:
    fleet = Watched()
    fleet.hosts["h2"].full = True
    face = Scripted("approve", "retry")
    run = make(fleet, site(*NAMES, rollout=Rollout(canary=1, batch=1)), STEP, face=face)
    asked = face.ask

    def emptied(question: Any) -> Any:
        fleet.hosts["h2"].full = question.kind == "approve"
        return asked(question)

    face.ask = emptied  # type: ignore[method-assign]
    run.engine.run()
    assert fleet.order[:4] == [turn("h2")[0], *turn("h2")]
    assert {s.values.get("a") for h, s in fleet.hosts.items() if h != PROXY} == {"1"}


def test_what_was_done_singly_is_taken_back_singly() -> None:
    """Else all servers would be reloaded at once, and agents find none."""
    fleet = Watched()
    stage = Stage("all", "All", plan, rollout=True, singly=True)
    run = make(fleet, ALL_AT_ONCE, Step("step", "Step", "", reads("a"), stages=(stage,)))
    run.engine.run()
    before = len(fleet.order)
    groups: list[set[str]] = []
    perform = run.crew.perform
    run.crew.perform = lambda step, actions: (  # type: ignore[method-assign]
        groups.append({a.lane for a in actions}) or perform(step, actions)
    )
    assert run.undo.run("step") == 0
    assert groups == [{"h4"}, {"h3"}, {"h2"}]
    assert [c for h, c in fleet.order[before:] if h != PROXY] == ["drop a"] * 3
