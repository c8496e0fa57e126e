"""`state = fold(events)`: any prefix folds, and independent hosts may come in any order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.model import Event, Status
from runbook.state import fold
from tests.core.estate import NAMES, RUN, TWO, Fleet, make, site


def events() -> list[Event]:
    run = make(Fleet(*NAMES), site(*NAMES), TWO)
    run.engine.run()
    return [Event("run_started", 0.0, data={"run": "r"}), *run.face.events]


EVENTS = events()


@given(st.integers(0, len(EVENTS)))
@settings(max_examples=60)
def test_any_prefix_folds(length: int) -> None:
    state = fold(EVENTS[:length])
    done = sum(a.status is Status.OK for a in state.step("two").actions.values())
    ends = [e for e in EVENTS[:length] if e.kind == "end" and e.data["status"] == "ok"]
    assert done == len(ends)


def test_hosts_may_come_in_any_order() -> None:
    def of(host: str) -> list[Event]:
        return [e for e in EVENTS if e.kind in ("start", "end") and e.host == host]

    head = EVENTS[:1]
    one = fold([*head, *of("h1"), *of("h2"), *of("h3")])
    other = fold([*head, *of("h3"), *of("h1"), *of("h2")])
    assert one.step("two").actions == other.step("two").actions


def test_a_started_action_is_unknown_until_its_end_is_read() -> None:
    start = next(n for n, e in enumerate(EVENTS) if e.kind == "start")
    assert len(fold(EVENTS[: start + 1]).unknown()) == 1


def test_what_was_granted_for_one_run_is_not_granted_for_the_next() -> None:
    again = Event("run_started", 9.0, data={"run": "r2"})
    assert fold(EVENTS).step("two").approved
    assert not fold([*EVENTS, again]).step("two").approved
    resumed = Event("run_started", 9.0, data={"run": "r", "resumed": True})
    assert fold([*EVENTS, resumed]).step("two").approved


def test_what_was_granted_outlives_a_command_that_is_no_run() -> None:
    """`--resume` goes on with that run, and finds it as it was."""
    granted = [
        Event("excluded", 8.0, host="h3", data={"reason": "broken disk"}),
        Event("waived", 8.0, "two", "h2", data={"id": "disk-low", "reason": "moves in March"}),
    ]
    for mode in ("repay", "undo"):
        other = Event("run_started", 9.0, data={"run": "x", "mode": mode})
        state = fold([*EVENTS, *granted, other])
        assert state.excluded == {"h3": "broken disk"}
        assert state.waived == {("disk-low", "h2"): "moves in March"}
        assert state.step("two").approved
    # Once that run cannot be gone on with, it is over.
    start = next(e for e in EVENTS if e.kind == "start")
    undo = Event("run_started", 9.0, data={"run": "u", "mode": "undo"})
    again = Event("run_started", 9.0, data={"run": "u2", "mode": "undo"})
    assert not fold([*EVENTS, *granted, undo, start, again]).excluded


def test_only_an_undo_that_did_something_ends_what_can_be_resumed() -> None:
    undo = Event("run_started", 9.0, data={"run": "u", "mode": "undo"})
    assert fold([*EVENTS, undo]).begun["run"] == RUN
    start = next(e for e in EVENTS if e.kind == "start")
    assert not fold([*EVENTS, undo, start]).begun


def test_kinds_of_a_later_version_are_passed_over() -> None:
    assert fold([*EVENTS, Event("what_is_this", 1.0)]).events == len(EVENTS) + 1
