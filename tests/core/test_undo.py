"""Taking back what was done more than once: back to what was there before the first time."""

from __future__ import annotations

import hashlib
import io
import subprocess
from pathlib import Path

import pytest

from runbook import cli, shell
from runbook.errors import Exit, OutcomeUnknown, RunbookError, StateRefuses, Unreachable
from runbook.model import (
    Action,
    Compensate,
    Debt,
    Event,
    Facts,
    Human,
    Irreversible,
    Nothing,
    Read,
    Restore,
    Script,
    Site,
    Stage,
    Status,
    Step,
    WriteFile,
    plain,
)
from runbook.plain import Plain
from runbook.ports import JobState, Outcome, Question, Reply
from runbook.state import RunState, fold
from runbook.undo import undo_plan
from tests.core.estate import FakeHost, Fleet, Run, Scripted, make, reads, site, wants

STEP = Step("step", "Step", "", lambda site, host: ())


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "var"))
    monkeypatch.setattr(shell, "BACKUPS", str(tmp_path / "var" / "backups"))


def write(path: Path, content: bytes) -> Action:
    before = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    return Action(
        f"s/h/{path.name}", "h", "write", WriteFile(str(path), content, before), Restore()
    )


def done(number: int, action: Action, status: str = "ok") -> list[Event]:
    about = {"job": f"job{number}", "action": plain(action)}
    return [
        Event("start", number, "step", "h", action.id, about),
        Event(
            "end", number + 0.5, "step", "h", action.id, {"job": f"job{number}", "status": status}
        ),
    ]


def perform(number: int, action: Action) -> list[Event]:
    subprocess.run(["sh"], input=shell.perform(action, f"job{number}"), text=True, check=True)
    return done(number, action)


def scripts(state: RunState) -> list[str]:
    found = [a.do for a in undo_plan(STEP, state).actions]
    return [do.script for do in found if isinstance(do, Script)]


def test_a_file_written_twice_comes_back_as_it_was_before_both(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"a")
    file.chmod(0o640)
    events = perform(1, write(file, b"b"))
    events += perform(2, write(other, b"x"))
    events += perform(3, write(file, b"c"))
    events += perform(4, write(other, b"y"))
    for script in scripts(fold(events)):
        subprocess.run(["sh"], input=script, text=True, check=True)
    assert file.read_bytes() == b"a"
    assert file.stat().st_mode & 0o777 == 0o640
    assert not other.exists()


def test_what_somebody_wrote_between_two_attempts_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    events = perform(1, write(file, b"b"))
    file.write_bytes(b"theirs")
    events += perform(2, write(file, b"c"))
    [script] = scripts(fold(events))
    done = subprocess.run(["sh"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == shell.CHANGED
    assert file.read_bytes() == b"theirs"


def test_a_failed_attempt_counts_and_one_that_never_started_does_not() -> None:
    action = Action("s/h/x", "h", "x", Script("x", saves=("/x",)), Restore())
    state = fold([*done(1, action, "failed"), *done(2, action, "pending"), *done(3, action)])
    assert [a.job for a in state.step("step").actions["s/h/x"].earlier] == ["job1"]


def test_every_way_there_is_taken_back_the_newest_first() -> None:
    """Each attempt knows what was there before it; the last one may have nothing to take back."""
    first = Action("s/h/x", "h", "x", Script("x"), Compensate("to the folder"))
    second = Action("s/h/x", "h", "x", Script("x"), Compensate("to the first revision"))
    third = Action("s/h/x", "h", "x", Script("x"), Nothing())
    [script] = scripts(fold([*done(1, first), *done(2, second), *done(3, third)]))
    assert script.index("to the first revision") < script.index("to the folder")


def test_what_is_compensated_is_compensated_once() -> None:
    action = Action("s/h/x", "h", "x", Script("x"), Compensate("back"))
    assert scripts(fold([*done(1, action), *done(2, action)])) == ["back"]


def test_an_outage_is_announced_only_where_the_way_back_makes_one() -> None:
    """A server that was stopped to try it runs again long before somebody takes the step back."""
    stopped = Debt("drill/h", "stopped", "start it")
    opening = Action("s/h/a", "h", "a", Script("a"), Compensate("b"), outage=90, opens=stopped)
    closing = Action("s/h/b", "h", "b", Script("b"), Nothing(), outage=5, repays=stopped.id)
    restart = Action("s/h/c", "h", "c", Script("c"), Compensate("d"), outage=12)
    events = [*done(1, restart), *done(2, opening)]
    assert undo_plan(STEP, fold(events)).outages == (("h", 102),)
    assert undo_plan(STEP, fold([*events, *done(3, closing)])).outages == (("h", 12),)


def test_what_a_person_did_a_person_takes_back() -> None:
    there, back = Read("there", "at a"), Read("back", "at b")
    action = Action("s/h/x", "h", "x", Human("go to a", there), Human("go back to b", back))
    (asked,) = undo_plan(STEP, fold(done(1, action))).actions
    assert asked.do == Human("go back to b", back)


def test_a_persons_word_is_enough_to_have_taken_back_what_they_did() -> None:
    there, back = Read("there", "at a"), Read("back", "at b")
    action = Action("s/h/x", "h", "x", Human("go to a", there), Human("go back to b", back))
    events = done(1, action)
    (asked,) = undo_plan(STEP, fold(events)).actions
    state = fold([*events, *done(2, asked, "attested")])
    assert state.step("step").actions == {}


def test_a_plan_shows_what_changes_back_and_counts_what_does_not() -> None:
    action = Action(
        "s/h/x",
        "h",
        "edit it",
        Script("x"),
        Compensate("back"),
        diff="-its old line\n+its new line\n",
    )
    look = Action("s/h/y", "h", "look at it", Script("y"), Nothing(), diff="+seen\n")
    plan = undo_plan(STEP, fold([*done(1, action), *done(2, look)]))
    told = io.StringIO()
    Plain(out=told).show(Event("planned", 1, data=plan.summary()))
    assert [line.strip() for line in told.getvalue().splitlines()[1:]] == [
        "h: take back: edit it  (change; leaves no trace)",
        "-its new line",
        "+its old line",
        "1 action more left nothing to take back",
    ]


def test_what_stays_is_said_where_it_is_taken_back() -> None:
    action = Action("s/h/x", "h", "x", Script("x"), Nothing("what is revoked"))
    (back,) = undo_plan(STEP, fold(done(1, action))).actions
    assert back.undo == Nothing("what is revoked")


# --- several steps --------------------------------------------------------------------------------


def chapter(name: str, *needs: str, **more: object) -> Step:
    """A step that sets a key of its own name, on every host."""
    stage = Stage("do", "Do", wants("do", name, "1", **more))
    return Step(name, name, "", reads(name), stages=(stage,), needs=needs)


THREE = (chapter("one"), chapter("two", "one"), chapter("three"))


def ran(*steps: Step, face: Scripted | None = None) -> tuple[Fleet, Run]:
    estate = Fleet("h1", "h2")
    run = make(estate, site("h1", "h2"), *steps, face=face)
    run.engine.run()
    for host in estate.hosts.values():
        host.ran.clear()
    return estate, run


def test_down_to_a_step_takes_back_what_came_after_it_the_last_first() -> None:
    estate, run = ran(*THREE)
    run.undo.down_to("two")
    assert estate.hosts["h1"].ran == ["drop three", "drop two"]
    assert estate.hosts["h1"].values == {"one": "1"}
    statuses = [run.recorder.state.step(s.id).status for s in THREE]
    assert statuses == [Status.OK, Status.UNDONE, Status.UNDONE]
    # Each plan was shown and approved for itself.
    assert [q.step for q in run.face.asked[-2:]] == ["three", "two"]


def test_a_step_nobody_went_through_is_passed_over_on_the_way() -> None:
    estate, first = ran(THREE[0])
    run = make(estate, site("h1", "h2"), *THREE)
    run.recorder.state.steps.update(first.recorder.state.steps)
    run.undo.down_to("one")
    assert [q.step for q in run.face.asked] == ["one"]


def test_nothing_is_taken_back_past_what_cannot_be_undone() -> None:
    sent = Action("do/h1/mail", "h1", "mail everybody", Script("set mail 1"), Irreversible("sent"))

    def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
        return () if facts.get("h1", "mail").ok else (sent,)

    mail = Step("mail", "Mail", "", reads("mail"), stages=(Stage("do", "Do", plan),))
    estate, run = ran(THREE[0], mail, THREE[2])
    with pytest.raises(
        StateRefuses, match="step mail stays: mail everybody cannot be undone"
    ) as no:
        run.undo.down_to("one")
    assert no.value.hint.startswith("pmrunbook undo --to three")
    assert all(host.ran == [] for host in estate.hosts.values())
    run.undo.down_to("three")
    assert estate.hosts["h2"].ran == ["drop three"]


def test_a_dry_run_shows_all_of_it_and_touches_nothing() -> None:
    estate, run = ran(*THREE)
    run.face.events.clear()
    run.undo.down_to("one", dry=True)
    planned = [e for e in run.face.events if e.kind == "planned"]
    assert [e.step for e in planned] == ["three", "two", "one"]
    assert all(host.ran == [] for host in estate.hosts.values())


def test_a_step_alone_is_refused_while_another_stands_on_it_and_the_way_on_is_named() -> None:
    _, run = ran(*THREE)
    with pytest.raises(StateRefuses, match="step two stands on one") as no:
        run.undo.run("one")
    assert "pmrunbook undo --to one" in no.value.hint


def test_an_undo_that_fails_half_way_leaves_the_steps_before_it_alone() -> None:
    estate, run = ran(*THREE)
    failed = Outcome(JobState.DONE, 1, "no")
    estate.hosts["h2"]._do = lambda command: failed  # type: ignore[method-assign]
    run.face.extend(["approve", "quit"])
    with pytest.raises(RunbookError):
        run.undo.down_to("one")
    assert estate.hosts["h1"].ran == ["drop three"]
    assert estate.hosts["h1"].values == {"one": "1", "two": "1"}


# --- a link that breaks while something is taken back ---------------------------------------------

SET_A, SET_B = wants("do", "a", "1"), wants("do", "b", "1")
BOTH = Stage("do", "Do", lambda site, facts: (*SET_A(site, facts), *SET_B(site, facts)))
PAIR = Step("one", "One", "", reads("a", "b"), stages=(BOTH,))


def cut(*answers: str) -> tuple[FakeHost, Run]:
    """Two actions on each host, about to be taken back; the link to h2 breaks behind a job."""
    estate, run = ran(PAIR)
    host = estate.hosts["h2"]
    host.lost_link = True
    run.face.extend(["approve", *answers])
    return host, run


def silent(job_id: str) -> Outcome:
    raise Unreachable("does not answer")


def asked(run: Run) -> list[str]:
    return [q.kind for q in run.face.asked[1:]]


def test_a_job_that_ended_behind_a_broken_link_is_not_repeated() -> None:
    host, run = cut()
    looked = host.look

    def look(job_id: str) -> Outcome:
        host.lost_link = False
        return looked(job_id)

    host.look = look  # type: ignore[method-assign]
    run.undo.run("one")
    assert asked(run) == ["approve"]  # the host knows
    assert host.ran == ["drop b", "drop a"]  # and what waited behind it was done
    assert run.recorder.state.step("one").status is Status.UNDONE


def test_what_nobody_can_look_at_is_asked_about_and_never_tried_again() -> None:
    """Its host may be read meanwhile: what a job at work did not do yet is no reason either."""
    host, run = cut("check", "check", "quit")
    host.look = silent  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown) as left:
        run.undo.run("one")
    assert left.value.hint == "look at the host, then: pmrunbook --resume"
    assert asked(run) == ["approve", "unknown", "unknown", "unknown"]
    keys = {choice.key for choice in run.face.asked[-1].choices}
    assert keys == {"check", "failed", "attest", "shell", "exclude", "quit"}
    assert "nobody can look: does not answer" in run.face.asked[-1].body
    assert host.ran == ["drop b"]
    assert [a.id for a in run.recorder.state.unknown()] == ["undo:do/h2/b"]


def test_looking_again_follows_the_job_and_goes_on() -> None:
    host, run = cut()
    looked, host.look = host.look, silent  # type: ignore[method-assign]

    class Mender(Scripted):
        def ask(self, question: Question) -> Reply:
            if question.kind == "unknown":
                host.lost_link, host.look = False, looked  # type: ignore[method-assign]
            return super().ask(question)

    run.recorder._face = face = Mender("approve", "check")
    run.undo.run("one")
    assert [q.kind for q in face.asked] == ["approve", "unknown"]
    assert host.ran == ["drop b", "drop a"]
    assert host.values == {}


def test_a_job_that_failed_behind_a_broken_link_is_tried_again_only_when_told_to() -> None:
    host, run = cut("retry")
    looked = host.look

    def look(job_id: str) -> Outcome:
        host.lost_link = False
        del host._do
        return looked(job_id)

    host._do = lambda command: Outcome(JobState.DONE, 1, "no")  # type: ignore[method-assign]
    host.look = look  # type: ignore[method-assign]
    run.undo.run("one")
    assert asked(run) == ["approve", "failure"]
    assert run.face.asked[-1].body == "exit 1: no"
    assert host.ran == ["drop b", "drop b", "drop a"]


def test_a_host_left_as_it_is_keeps_what_is_unknown_there() -> None:
    host, run = cut("exclude:it burned down")
    host.look = silent  # type: ignore[method-assign]
    run.undo.run("one")
    assert host.ran == ["drop b"]
    assert run.recorder.state.excluded == {"h2": "it burned down"}
    assert [a.host for a in run.recorder.state.unknown()] == ["h2"]


@pytest.mark.parametrize("to", [False, True])
def test_nothing_is_taken_back_over_a_job_that_nobody_knows_of(to: bool) -> None:
    estate, run = ran(PAIR)
    start = next(e for e in run.face.events if e.kind == "start" and e.host == "h2")
    run.recorder.state.apply(start)
    estate.hosts["h2"].look = silent  # type: ignore[method-assign]
    run.face.append("quit")
    with pytest.raises(OutcomeUnknown):
        (run.undo.down_to if to else run.undo.run)("one")
    assert all(host.ran == [] for host in estate.hosts.values())
    # A look at what would be done asks for nothing.
    run.undo.run("one", dry=True)
    assert asked(run) == ["unknown"]


@pytest.mark.parametrize("words", [["undo"], ["undo", "a", "--to", "b"]])
def test_an_undo_takes_one_step(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    inventory = Path(__file__).parents[2] / "inventories" / "minimal.yaml"
    assert cli.main([*words, "-i", str(inventory)]) == Exit.USAGE
    assert "one STEP, or --to STEP" in capsys.readouterr().err


def test_a_host_that_left_the_inventory_is_named_and_nothing_is_done_there(tmp_path: Path) -> None:
    """Not a traceback: what was done there is taken back with the inventory of then."""
    step = Step("one", "One", "", reads("a"), stages=(Stage("a", "A", wants("a", "a", "1")),))
    there = make(Fleet("h1", "h2"), site("h1", "h2"), step, folder=tmp_path)
    there.engine.run()
    assert there.journal
    there.journal.close()
    gone = make(Fleet("h1"), site("h1"), step, folder=tmp_path, face=Scripted("approve", "quit"))
    with pytest.raises(RunbookError, match=r"h2: .*not in the inventory any more"):
        gone.undo.run("one")
