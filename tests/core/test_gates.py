"""The step that moves agents is held: by proofs that are fresh, or by a waiver with an end."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from runbook.errors import RunbookError, StateRefuses
from runbook.gates import gates
from runbook.journal import Journal
from runbook.model import (
    Check,
    Event,
    Finding,
    Runbook,
    Severity,
    Site,
    Status,
    Step,
    Verdict,
    Waiver,
)
from runbook.state import fold
from tests.core.estate import NAMES, TWO, Fleet, Run, Scripted, make, reads, setting, site

BASE = replace(TWO, id="base", title="The base")
HELD = Step("held", "Move all", "", TWO.reads, needs=("base",), fresh=lambda site: 600.0)
WAIVED = Waiver("gate-base", "*", "known to be red, says Ann", "2999-01-01")


def run(folder: Path, *steps: Step, waivers: tuple[Waiver, ...] = (), asked: str = "held") -> Run:
    one = replace(site(*NAMES), digest="one", waivers=waivers)
    done = make(Fleet(*NAMES), one, *steps, folder=folder, asked=(asked,), inventory="one")
    try:
        done.engine.run()
    finally:
        assert done.journal
        done.journal.close()
    return done


def started(done: Run) -> list[str]:
    return [e.step for e in done.face.events if e.kind == "step_started"]


def said(done: Run) -> list[tuple[object, object]]:
    return [(e.data["ok"], e.data["waived"]) for e in done.face.events if e.kind == "gate"]


def test_what_is_proved_and_fresh_is_a_gate_that_is_open(tmp_path: Path) -> None:
    first = run(tmp_path, BASE, HELD)
    assert started(first) == ["base", "held"]
    assert said(first) == [(True, "")]
    assert started(run(tmp_path, BASE, HELD)) == ["held"]


def test_what_was_proved_too_long_ago_is_proved_again(tmp_path: Path) -> None:
    run(tmp_path, BASE, HELD)
    old = replace(HELD, fresh=lambda site: -1.0)
    # Even just now is too long ago here, so the gate stays shut although it was gone through.
    with pytest.raises(StateRefuses, match="too old") as caught:
        run(tmp_path, BASE, old)
    assert "gate-base" in caught.value.hint


def test_a_step_that_fails_holds_it_and_only_a_waiver_of_the_inventory_lets_it_pass(
    tmp_path: Path,
) -> None:
    def never(site: Site, facts: object) -> tuple[Check, ...]:
        read = ((NAMES[0], reads("a")(site, site.hosts[0])[0]),)
        return (Check("never", "it never holds", lambda facts: Verdict(False, "red"), read),)

    red = replace(BASE, checks=never)
    face = Scripted("approve", "approve", "quit")
    one = replace(site(*NAMES), digest="one")
    with pytest.raises(RunbookError, match="red"):
        make(Fleet(*NAMES), one, red, HELD, asked=("held",), face=face).engine.run()
    passed = run(tmp_path, red, HELD, waivers=(WAIVED,))
    assert started(passed) == ["held"]
    assert said(passed) == [(False, "known to be red, says Ann (until 2999-01-01)")]


def test_a_waiver_that_ended_lets_nothing_pass() -> None:
    runbook = Runbook("test", "Test", (BASE, HELD))
    old = replace(WAIVED, expires="2020-01-01")
    (gate,) = gates(runbook, replace(site(*NAMES), waivers=(old,)), HELD, fold([]))
    assert not gate.open and gate.said == "not proved: pending"


def test_a_proof_of_another_inventory_is_none(tmp_path: Path) -> None:
    run(tmp_path, BASE, HELD)
    journal = Journal(tmp_path)
    state = fold(journal.events)
    journal.close()
    runbook = Runbook("test", "Test", (BASE, HELD))
    (gate,) = gates(runbook, replace(site(*NAMES), digest="two"), HELD, state)
    assert not gate.ok and "of another plan" in gate.said
    assert state.step("base").status is Status.OK


def test_the_operator_cannot_wave_a_finding_through(tmp_path: Path) -> None:
    """What the inventory does not waive, with an end, cannot be waived at the keyboard."""

    def short(site: Site, facts: object) -> tuple[Finding, ...]:
        return (Finding("short", Severity.BLOCKER, "", "too little", "enough", "add some"),)

    face = Scripted("approve", "approve", "quit")
    held = replace(HELD, findings=short)
    one = replace(site(*NAMES), digest="one")
    with pytest.raises(RunbookError, match="too little"):
        make(Fleet(*NAMES), one, BASE, held, face=face, inventory="one").engine.run()
    asked = next(q for q in face.asked if q.kind == "findings")
    assert "waive" not in {c.key for c in asked.choices}
    assert "shell" not in {c.key for c in asked.choices}  # on no host in particular


def test_what_was_approved_says_how_to_stop_and_go_back() -> None:
    from runbook.model import Stage

    def plan(site: Site, facts: object) -> tuple[object, ...]:
        return (setting("go", NAMES[0], "go", "1"),)

    face = Scripted()
    held = replace(HELD, stages=(Stage("go", "Go", plan),))  # type: ignore[arg-type]
    one = replace(site(*NAMES), digest="one")
    make(Fleet(*NAMES), one, BASE, held, face=face, inventory="one").engine.run()
    (question,) = [q for q in face.asked if q.step == "held"]
    assert "pmrunbook undo held" in question.body


def test_the_age_is_in_the_events_of_a_dry_run() -> None:
    face = Scripted()
    one = replace(site(*NAMES), digest="one")
    make(Fleet(*NAMES), one, BASE, HELD, face=face, mode="dry-run", writers=False).engine.run()
    (gate,) = [e for e in face.events if e.kind == "gate"]
    assert gate.data["ok"] is False and gate.at <= time.time()
    assert isinstance(gate, Event)
