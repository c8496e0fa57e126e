"""The step that moves agents is held: by proofs that are fresh, or by a waiver with an end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
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
    Stage,
    Status,
    Step,
    Verdict,
    Waiver,
)
from runbook.ports import JobState, Outcome
from runbook.state import fold
from tests.core.estate import (
    NAMES,
    ROLL,
    TWO,
    Fleet,
    Run,
    Scripted,
    make,
    reads,
    setting,
    site,
    wants,
)

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


# --- a host that was left out ---------------------------------------------------------------------

A = replace(ROLL, id="aa", title="A")
B = Step(
    "bb", "B", "", reads("b"), stages=(Stage("do", "Do", wants("do", "b", "1")),), needs=("aa",)
)
MOVES = replace(B, fresh=lambda site: 600.0)


@dataclass
class Runs:
    """Runs over one estate, each of which goes on from the journal of those before it."""

    folder: Path
    estate: Fleet = field(default_factory=lambda: Fleet(*NAMES))

    def begin(self, step: Step, *answers: str, mode: str = "run") -> Run:
        one = replace(site(*NAMES), digest="one")
        known = {"folder": self.folder, "inventory": "one", "asked": ("bb",), "mode": mode}
        return make(self.estate, one, A, step, face=Scripted(*answers), **known)  # type: ignore[arg-type]

    def run(self, step: Step, *answers: str, mode: str = "run") -> Run:
        begun = self.begin(step, *answers, mode=mode)
        with contextlib.suppress(RunbookError):
            begun.engine.run()
        assert begun.journal
        begun.journal.close()
        return begun

    @property
    def values(self) -> list[dict[str, str]]:
        return [host.values for host in self.estate.hosts.values()]


@pytest.fixture
def left_out(tmp_path: Path) -> Runs:
    """aa was proved without h3, and the run broke off before bb."""
    runs = Runs(tmp_path)
    failed = Outcome(JobState.DONE, 1, "no")
    runs.estate.hosts["h3"]._do = lambda command: failed  # type: ignore[method-assign]
    first = runs.run(B, "approve", "exclude:broken disk", "quit")
    assert started(first) == ["aa", "bb"]
    del runs.estate.hosts["h3"]._do
    return runs


@pytest.mark.parametrize("step", [B, MOVES])
def test_while_a_host_stays_left_out_the_chapters_go_on_without_it(
    left_out: Runs, step: Step
) -> None:
    done = left_out.run(step, mode="resume")
    assert started(done) == ["bb"]
    assert left_out.estate.hosts["h3"].values == {}
    texts = [e.data["text"] for e in done.face.events if e.kind == "message"]
    assert any(text.startswith("A: proved without h3 at ") for text in texts)
    gates_ = [e.data for e in done.face.events if e.kind == "gate"]
    assert all(g["ok"] and g["said"].startswith("proved without h3 at ") for g in gates_)
    assert len(gates_) == (step is MOVES)
    assert done.recorder.state.step("bb").proved_without == ("h3",)


@pytest.mark.parametrize("step", [B, MOVES])
@pytest.mark.parametrize("how", ["included", "another run"])
def test_a_proof_without_a_host_is_none_once_that_host_is_back(
    left_out: Runs, step: Step, how: str
) -> None:
    if how == "included":
        journal = Journal(left_out.folder)
        journal.append(Event("included", time.time(), host="h3"))
        journal.close()
    done = left_out.run(step, mode="resume" if how == "included" else "run")
    assert started(done) == ["aa", "bb"]
    assert left_out.values == [{"a": "1", "b": "1"}] * 4
    assert done.recorder.state.step("aa").proved_without == ()


def test_a_host_taken_in_while_the_run_is_at_work_gets_what_was_proved_without_it(
    left_out: Runs,
) -> None:
    done = left_out.begin(MOVES, mode="resume")
    done.engine.take_in("h3")
    done.engine.run()
    assert started(done) == ["bb", "aa", "bb"]
    assert left_out.values == [{"a": "1", "b": "1"}] * 4


def test_a_gate_tells_that_a_host_is_back() -> None:
    runbook = Runbook("test", "Test", (A, MOVES))
    proof = [
        Event("run_started", 1.0, data={"run": "r"}),
        *(
            Event("excluded", 2.0, host=h, data={"reason": "down"})
            for h in ("h1", "h2", "h3", "h4")
        ),
        Event("step_done", time.time(), "aa", data={"status": "ok"}),
    ]
    here = replace(site(*NAMES), digest="")
    (gate,) = gates(runbook, here, MOVES, fold(proof))
    assert gate.ok and gate.said.startswith("proved without 4 hosts at ")
    (gate,) = gates(runbook, here, MOVES, fold([*proof, Event("included", 3.0, host="h2")]))
    assert not gate.ok and gate.said.endswith("; h2 not left out any more")


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
