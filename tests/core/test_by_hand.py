"""What a person did instead: looked for, else attested and never counted as verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runbook.errors import Interrupted, RunbookError, StateRefuses
from runbook.journal import read
from runbook.model import (
    Action,
    Compensate,
    Event,
    Facts,
    Human,
    Irreversible,
    Nothing,
    Read,
    Script,
    Site,
    Stage,
    Status,
    Step,
)
from runbook.ports import JobState, Outcome, Question, Reply
from runbook.report.markdown import as_markdown
from runbook.undo import undo_plan
from tests.core.estate import NAMES, ROLL, TWO, Fleet, Scripted, holds, make, reads, site, wants

ONE = Step("one", "One", "", reads("a"), stages=(Stage("do", "Do", wants("do", "a", "1")),))
FAILED = Outcome(JobState.DONE, 1, "no")


def broken(estate: Fleet, *hosts: str, outcome: Outcome = FAILED) -> None:
    """Every job on these hosts ends so, and does nothing."""
    for name in hosts:
        estate.hosts[name]._do = lambda command: outcome  # type: ignore[method-assign]


class Helper(Scripted):
    """An operator who sets a value on a host by hand before answering what failed there."""

    def __init__(self, estate: Fleet, key: str, *answers: str) -> None:
        super().__init__(*answers)
        self.estate, self.key = estate, key

    def ask(self, question: Question) -> Reply:
        if question.kind == "failure":
            self.estate.hosts[question.host].values[self.key] = "1"
        return super().ask(question)


def test_what_was_done_by_hand_is_found_done_and_needs_no_word() -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h2")
    face = Helper(estate, "a", "approve", "done")
    run = make(estate, site(*NAMES), ONE, face=face)
    run.engine.run()
    action = run.recorder.state.step("one").actions["do/h2/a"]
    assert [q.kind for q in face.asked] == ["approve", "failure"]
    assert (action.status, action.note) == (Status.OK, "found done by looking")
    assert run.recorder.state.attested() == ()


def test_what_nobody_sees_needs_a_reason_and_evidence_and_stays_attested() -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h2")
    face = Scripted("approve", "done", "attest:I set it|$ get a\n1\x1b[2J")
    run = make(estate, site(*NAMES), ONE, face=face)
    run.engine.run()
    ask = face.asked[2]
    assert (ask.kind, ask.host) == ("attest", "h2")
    assert "still needs it" in ask.body
    choice = next(c for c in ask.choices if c.key == "attest")
    assert choice.needs_text and choice.needs_evidence
    state = run.recorder.state
    [word] = state.attested()
    assert word.note == "attested by me: I set it"
    assert word.evidence == "$ get a\n1[2J"  # what acts on a terminal is gone
    assert state.step("one").why == "1 action attested, not verified"
    assert state.step("one").proved_with == ("", "")  # no later run stands on it
    assert estate.hosts["h2"].ran == ["set a 1"]  # and it was not tried again


def test_what_is_not_attested_after_all_is_asked_about_again() -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h2")
    face = Scripted("approve", "done", "back", "exclude:later")
    run = make(estate, site(*NAMES), ONE, face=face)
    run.engine.run()
    assert run.recorder.state.excluded == {"h2": "later"}
    assert run.recorder.state.attested() == ()


def test_an_actions_own_probe_is_asked_before_any_word() -> None:
    """The plan cannot see it, the probe can."""

    def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
        if facts.get("h1", "never").ok:
            return ()
        return (Action("do/h1/x", "h1", "x", Script("fail", done="get probed"), Compensate("x")),)

    step = Step("one", "One", "", reads("never"), stages=(Stage("do", "Do", plan),))
    estate = Fleet("h1")
    face = Helper(estate, "probed", "approve", "done")
    run = make(estate, site("h1"), step, face=face)
    run.engine.run()
    action = run.recorder.state.step("one").actions["do/h1/x"]
    assert (action.status, action.note) == (Status.OK, "found done by its own probe")
    assert [q.kind for q in face.asked] == ["approve", "failure"]


def test_the_rest_of_the_host_goes_on_after_a_word() -> None:
    def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
        first = Action("do/h1/x", "h1", "x", Script("fail"), Compensate("x"))
        return (first, *wants("do", "b", "1")(site, facts))

    step = Step("one", "One", "", reads("b"), stages=(Stage("do", "Do", plan),))
    estate = Fleet("h1")
    run = make(estate, site("h1"), step, face=Scripted("approve", "done", "attest:by hand|seen"))
    run.engine.run()
    assert estate.hosts["h1"].values["b"] == "1"


def test_a_word_holds_when_the_run_is_resumed_and_not_for_the_next_run(tmp_path: Path) -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h2", "h3")
    face = Scripted("approve", "done", "attest:by hand|seen", "quit")
    run = make(estate, site(*NAMES), ONE, face=face, folder=tmp_path / "s")
    with pytest.raises(RunbookError, match="exit 1"):
        run.engine.run()
    assert run.journal
    run.journal.close()
    estate.hosts["h3"].values["a"] = "1"

    resumed = make(estate, site(*NAMES), ONE, folder=tmp_path / "s", mode="resume")
    resumed.engine.run()
    assert resumed.face.asked == []
    assert [a.id for a in resumed.recorder.state.attested()] == ["do/h2/a"]
    assert resumed.journal
    resumed.journal.close()

    another = make(estate, site(*NAMES), ONE, folder=tmp_path / "s", run="run2")
    another.face.append("quit")
    with pytest.raises(Interrupted):
        another.engine.run()
    [planned] = [e for e in another.face.events if e.kind == "planned"]
    assert [a["id"] for a in planned.data["actions"]] == ["do/h2/a"]
    # Until it is done or found done, it is told as what it is.
    assert [a.id for a in another.recorder.state.attested()] == ["do/h2/a"]


def test_verify_tells_what_is_attested_and_lets_nobody_call_it_verified() -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h2")
    face = Scripted("approve", "done", "attest:I set it|seen")
    run = make(estate, site(*NAMES), ONE, face=face)
    run.engine.run()
    word = run.recorder.state.attested()

    verify = make(estate, site(*NAMES), ONE, mode="verify", writers=False, attested=word)
    assert verify.engine.verify() is False
    step = verify.recorder.state.step("one")
    assert step.why == "1 action attested, not verified"
    check = step.checks["one/attested/do/h2/a"]
    assert check.ok is None
    assert check.observed == "attested by me: I set it; the host still needs it"
    assert step.checks["one/nothing-left"].ok is True

    estate.hosts["h2"].values["a"] = "1"  # now it shows
    verify = make(estate, site(*NAMES), ONE, mode="verify", writers=False, attested=word)
    assert verify.engine.verify() is True
    check = verify.recorder.state.step("one").checks["one/attested/do/h2/a"]
    assert check.ok is True and check.observed.endswith("found done")


def test_a_check_that_does_not_pass_cannot_be_attested() -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h2")
    step = replace(ONE, checks=holds("a", "1"))
    face = Scripted("approve", "done", "attest:I set it|seen", "quit")
    run = make(estate, site(*NAMES), step, face=face)
    with pytest.raises(RunbookError, match="h2 has a"):
        run.engine.run()
    assert not {"done", "attest"} & {c.key for c in face.asked[3].choices}
    assert run.recorder.state.step("one").status is Status.FAILED


def test_an_unknown_outcome_may_be_attested() -> None:
    estate = Fleet("h1")
    broken(estate, "h1", outcome=Outcome(JobState.LOST, note="it rebooted"))
    run = make(estate, site("h1"), ONE, face=Scripted("approve", "quit"))
    with pytest.raises(RunbookError, match="rebooted"):
        run.engine.run()
    run.face.append("attest:seen on the console|photo")
    run.engine._clear_unknown()
    [word] = run.recorder.state.attested()
    assert (word.note, word.evidence) == ("attested by me: seen on the console", "photo")
    assert run.recorder.state.unknown() == ()


def test_a_persons_own_action_may_be_attested() -> None:
    def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
        do = Human("Open the firewall", Read("open", "get open"))
        return (Action("do/h1/x", "h1", "the firewall is open", do, Nothing()),)

    step = Step("one", "One", "", reads("a"), stages=(Stage("do", "Do", plan),))
    face = Scripted("approve", "attest:the network team did|ticket 7")
    run = make(Fleet("h1"), site("h1"), step, face=face)
    run.engine.run()
    assert [a.evidence for a in run.recorder.state.attested()] == ["ticket 7"]


def test_what_a_person_did_after_the_run_had_ended_is_proved_and_taken_back(
    tmp_path: Path,
) -> None:
    """They were asked: that they did it is the run's doing, and its undo asks them again."""

    def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
        if facts.get("h1", "open").ok:
            return ()
        do = Human("Open the firewall", Read("open", "get open"))
        back = Human("Shut the firewall", Read("shut", "get shut"))
        return (Action("do/h1/x", "h1", "the firewall is open", do, back),)

    step = Step("one", "One", "", reads("open"), stages=(Stage("do", "Do", plan),))
    fleet, folder = Fleet("h1"), tmp_path / "s"
    run = make(fleet, site("h1"), step, face=Scripted("approve", "quit"), folder=folder)
    with pytest.raises(Interrupted):
        run.engine.run()
    assert run.journal
    run.journal.close()
    fleet.hosts["h1"].values["open"] = "1"
    run = make(fleet, site("h1"), step, mode="resume", folder=folder)
    run.engine.run()
    (done,) = run.recorder.state.step("one").actions.values()
    assert (done.status, done.note) == (Status.OK, "proved: 1")
    assert run.journal
    run.journal.close()
    face = Scripted("approve", "quit")
    run = make(fleet, site("h1"), step, mode="undo", folder=folder, face=face)
    with pytest.raises(Interrupted):
        run.undo.run("one")
    assert "do/h1/x" in run.recorder.state.step("one").actions
    fleet.hosts["h1"].values["shut"] = "1"
    face.append("approve")
    run.undo.run("one")
    assert run.recorder.state.step("one").actions == {}


def test_what_is_attested_and_irreversible_stops_an_undo() -> None:
    def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
        return (Action("do/h1/x", "h1", "x", Script("fail"), Irreversible("it is sent")),)

    step = Step("one", "One", "", reads("a"), stages=(Stage("do", "Do", plan),))
    face = Scripted("approve", "done", "attest:why|seen")
    run = make(Fleet("h1"), site("h1"), step, face=face)
    run.engine.run()
    with pytest.raises(StateRefuses, match="it is sent"):
        undo_plan(step, run.recorder.state)


def test_the_report_shows_who_attested_what_and_what_was_shown(tmp_path: Path) -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h2")
    face = Scripted("approve", "done", "attest:I set it|$ get a\n```\n1")
    run = make(estate, site(*NAMES), ONE, face=face, folder=tmp_path / "s")
    run.engine.run()
    text = as_markdown(read(tmp_path / "s" / "journal.jsonl")[0], site(*NAMES))
    assert "h2: **attested** attested by me: I set it" in text
    assert "  ````\n  $ get a\n  ```\n  1\n  ````" in text
    assert "Attested, not verified:\n\n- h2: set a to 1: attested by me: I set it" in text


def test_nothing_counts_as_done_because_a_step_it_needs_was_skipped() -> None:
    first = replace(TWO, skippable=True)
    second = replace(ROLL, needs=("two",))
    face = Scripted("skip:not today")
    run = make(Fleet(*NAMES), site(*NAMES), first, second, face=face)
    with pytest.raises(StateRefuses, match="step roll needs step two, which is skipped"):
        run.engine.run()
    state = run.recorder.state
    assert (state.step("two").status, state.step("two").why) == (Status.SKIPPED, "not today")
    assert state.step("roll").status is not Status.OK


def test_a_host_taken_in_again_is_gone_to_by_the_resumed_run(tmp_path: Path) -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h3")
    face = Scripted("approve", "exclude:broken disk")
    run = make(estate, site(*NAMES), ROLL, face=face, folder=tmp_path / "s")
    run.engine.run()
    assert run.recorder.state.excluded == {"h3": "broken disk"}
    assert run.journal
    run.journal.append(Event("included", 1.0, host="h3"))
    run.journal.close()
    del estate.hosts["h3"]._do
    again = make(estate, site(*NAMES), ROLL, folder=tmp_path / "s", mode="resume")
    again.engine.run()
    assert again.recorder.state.excluded == {}
    assert estate.hosts["h3"].values == {"a": "1"}


def test_a_host_may_be_taken_in_again_while_the_run_is_at_work() -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h3")
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "exclude:broken disk"))
    shown = run.face.show

    def show(event: Event) -> None:
        shown(event)
        if event.kind == "start" and event.host == "h4":
            del estate.hosts["h3"]._do  # mended meanwhile
            run.engine.take_in("h3")
            run.engine.take_in("h1")  # was never left out

    run.face.show = show  # type: ignore[method-assign]
    run.engine.run()
    assert run.recorder.state.excluded == {}
    assert [h.values for h in estate.hosts.values()] == [{"a": "1"}] * 4
    assert estate.hosts["h1"].ran == ["set a 1"]
    assert [q.kind for q in run.face.asked] == ["approve", "failure"]  # approved once


def test_a_host_taken_in_again_in_a_run_that_fails_is_left_to_the_next() -> None:
    estate = Fleet(*NAMES)
    broken(estate, "h3", "h4")
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "exclude:x", "quit"))
    run.engine.take_in("h3")
    with pytest.raises(RunbookError):
        run.engine.run()
    assert run.recorder.state.excluded == {}
