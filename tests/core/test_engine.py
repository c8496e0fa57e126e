"""The engine's order of things, on an estate in memory."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runbook import plan as planning
from runbook.crew import added
from runbook.errors import (
    Interrupted,
    OutcomeUnknown,
    RunbookError,
    StateRefuses,
    TrustError,
    Unreachable,
    UsageError,
)
from runbook.journal import Journal
from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Event,
    Facts,
    Finding,
    Later,
    Read,
    Rollout,
    Script,
    SecretRef,
    Severity,
    Site,
    Stage,
    Status,
    Step,
    Verdict,
    Waiver,
)
from runbook.ports import JobState, Outcome
from tests.core.estate import (
    COPY,
    DEBT,
    NAMES,
    ROLL,
    TWO,
    FakeHost,
    Fleet,
    Scripted,
    holds,
    make,
    reads,
    setting,
    site,
    wants,
)


def fleet() -> Fleet:
    return Fleet(*NAMES)


def kinds(face: Scripted) -> list[str]:
    return [e.kind for e in face.events]


def test_a_run_does_what_was_approved_and_proves_it() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), TWO)
    run.engine.run()
    assert all(h.values["a"] == "1" for h in estate.hosts.values())
    assert estate.hosts["h4"].values["b"] == "1"
    assert run.recorder.state.step("two").status is Status.OK
    assert kinds(run.face).index("approved") < kinds(run.face).index("start")
    # What only the first stage made known was asked for again.
    assert [q.kind for q in run.face.asked] == ["approve", "changed"]


def test_a_second_run_finds_nothing_to_do() -> None:
    estate = fleet()
    make(estate, site(*NAMES), TWO).engine.run()
    ran = [list(h.ran) for h in estate.hosts.values()]
    again = make(estate, site(*NAMES), TWO)
    again.engine.run()
    assert again.face.asked == []
    assert [h.ran for h in estate.hosts.values()] == ran


def test_all_reads_of_all_steps_are_one_round_trip_a_host() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), TWO, ROLL, mode="dry-run", writers=False)
    run.engine.run()
    assert [h.reads for h in estate.hosts.values()] == [1, 1, 1, 1]


def test_what_was_read_right_before_a_batch_is_not_read_again_for_it() -> None:
    stages = tuple(Stage(k, k, wants(k, k, "1")) for k in ("a", "b", "c"))
    estate = fleet()
    make(
        estate, site(*NAMES), Step("three", "Three", "", reads("a", "b", "c"), stages)
    ).engine.run()
    # For the plan, before and after the first stage, after each further one.
    assert [h.reads for h in estate.hosts.values()] == [5, 5, 5, 5]


def test_a_dry_run_has_no_way_to_change_anything() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), TWO, mode="dry-run", writers=False)
    run.engine.run()
    assert all(h.ran == [] for h in estate.hosts.values())
    planned = next(e for e in run.face.events if e.kind == "planned")
    assert len(planned.data["actions"]) == 4
    assert planned.data["later"][0]["what"] == "the value of a"
    actions = [setting("first", "h1", "a", "1")]
    assert "may not change" in run.crew.perform("two", actions)[0].note
    assert "start" not in kinds(run.face)


def test_nothing_is_done_without_approval() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), TWO, face=Scripted("quit"))
    with pytest.raises(Interrupted):
        run.engine.run()
    assert all(h.ran == [] for h in estate.hosts.values())


def test_what_somebody_did_meanwhile_is_not_done_again() -> None:
    estate = fleet()

    class Meddler(Scripted):
        def ask(self, question):  # type: ignore[no-untyped-def]
            estate.hosts["h2"].values["a"] = "1"  # somebody did it by hand meanwhile
            return super().ask(question)

    run = make(estate, site(*NAMES), ROLL, face=Meddler())
    run.engine.run()
    assert estate.hosts["h2"].ran == []  # less than approved needs no question
    assert len(run.face.asked) == 1


def test_what_was_not_in_the_review_is_asked_about() -> None:
    estate = fleet()
    for host in estate.hosts.values():
        host.values["x"] = "1"

    class Meddler(Scripted):
        def ask(self, question):  # type: ignore[no-untyped-def]
            estate.hosts["h2"].values["x"] = "2"
            return super().ask(question)

    run = make(estate, site(*NAMES), COPY, face=Meddler("approve", "quit"))
    with pytest.raises(Interrupted):
        run.engine.run()
    assert [q.kind for q in run.face.asked] == ["approve", "changed"]
    assert "marked so: 1 of 4 actions" in run.face.asked[1].body
    first, second = (e.data["new"] for e in run.face.events if e.kind == "planned")
    assert (first, second) == ([], ["copy/h2/a"])
    assert all(h.ran == [] for h in estate.hosts.values())


def test_the_canary_goes_first_and_its_failure_stops_the_rest() -> None:
    estate = fleet()
    estate.hosts["h1"]._do = lambda command: _failed()  # type: ignore[method-assign]
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "quit"))
    with pytest.raises(RunbookError, match="it failed"):
        run.engine.run()
    assert estate.hosts["h1"].ran == ["set a 1"]
    assert all(estate.hosts[n].ran == [] for n in NAMES[1:])


def _failed():  # type: ignore[no-untyped-def]
    from runbook.ports import JobState, Outcome

    return Outcome(JobState.DONE, 1, "it failed")


def test_a_failure_within_the_threshold_leaves_that_host_out_visibly() -> None:
    estate = fleet()
    estate.hosts["h3"]._do = lambda command: _failed()  # type: ignore[method-assign]
    run = make(estate, site(*NAMES, rollout=Rollout(1, 2, max_failures=1)), ROLL)
    run.engine.run()
    assert "it failed" in run.recorder.state.excluded["h3"]
    assert estate.hosts["h4"].values == {"a": "1"}


def test_a_check_that_does_not_pass_is_its_hosts_failure() -> None:
    estate = fleet()
    # The job says it worked, and nothing changed: no reply of a command is proof.
    estate.hosts["h2"]._do = lambda command: _ok()  # type: ignore[method-assign]
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "exclude:broken disk"))
    run.engine.run()
    assert run.face.asked[1].host == "h2"
    assert run.recorder.state.excluded == {"h2": "broken disk"}


def test_a_stage_that_goes_singly_changes_one_host_at_a_time() -> None:
    estate = fleet()
    singly = replace(ROLL.stages[0], singly=True)
    run = make(estate, site(*NAMES), replace(ROLL, stages=(singly,)))
    run.engine.run()
    order = [(e.kind, e.host) for e in run.face.events if e.kind in ("start", "check") and e.step]
    hosts = [host for kind, host in order if kind == "start"]
    between = [
        [kind for kind, _ in order[i + 1 : j]]
        for i, j in zip(
            *[[n for n, (kind, _) in enumerate(order) if kind == "start"][k:] for k in (0, 1)],
            strict=False,
        )
    ]
    assert hosts == list(NAMES)
    assert between == [["check"]] * 3  # each is checked before the next begins


def test_a_secret_is_lent_to_the_job_before_it_starts_and_is_not_journalled(tmp_path: Path) -> None:
    estate = fleet()
    reference = SecretRef("env", "DB_PASSWORD")
    tell = Action(
        "s/h1/a",
        "h1",
        "tell",
        Script("set a 1", secrets=(("password", reference),)),
        Compensate(""),
    )
    step = Step(
        "tell",
        "Tell",
        "",
        reads("a"),
        stages=(Stage("s", "S", lambda s, f: () if f.get("h1", "a").ok else (tell,)),),
    )
    run = make(estate, site(*NAMES), step, folder=tmp_path)
    run.engine.run()
    assert list(estate.hosts["h1"].lent.values()) == [{"password": reference}]


def _ok():  # type: ignore[no-untyped-def]
    from runbook.ports import JobState, Outcome

    return Outcome(JobState.DONE, 0)


def test_retry_looks_first_and_does_only_what_is_needed() -> None:
    estate = fleet()
    real = estate.hosts["h2"]._do
    tries = []

    def flaky(command: str):  # type: ignore[no-untyped-def]
        tries.append(command)
        return _failed() if len(tries) == 1 else real(command)

    estate.hosts["h2"]._do = flaky  # type: ignore[method-assign]
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "retry"))
    run.engine.run()
    assert tries == ["set a 1", "set a 1"]
    assert run.recorder.state.step("roll").actions["all/h2/a"].attempts == 2


def test_a_lost_link_is_unknown_and_looking_finds_it_done() -> None:
    estate = fleet()
    estate.hosts["h2"].lost_link = True

    class Healer(Scripted):
        def ask(self, question):  # type: ignore[no-untyped-def]
            if question.kind == "unknown":
                estate.hosts["h2"].lost_link = False
            return super().ask(question)

    run = make(estate, site(*NAMES), ROLL, face=Healer("approve", "check"))
    run.engine.run()
    assert run.face.asked[1].kind == "unknown"
    assert estate.hosts["h2"].ran == ["set a 1"]  # once
    assert run.recorder.state.step("roll").status is Status.OK


def test_a_job_that_is_found_at_work_is_shown_once_line_by_line(tmp_path: Path) -> None:
    """Each look at it has the end of its output: what is new there is what the operator sees."""
    estate = fleet()
    run = make(estate, site(*NAMES), ROLL, folder=tmp_path, face=Scripted("approve", "quit"))
    estate.hosts["h1"].lost_link = True
    with pytest.raises(OutcomeUnknown):
        run.engine.run()
    assert run.journal
    run.journal.close()
    looks = iter(["one\n", "one\n", "one\ntwo\nthree\n", "two\nthree\nfour\n", "four\nfive"])
    host = estate.hosts["h1"]

    def look(job_id: str) -> Outcome:
        tail = next(looks)
        return Outcome(JobState.DONE if tail.endswith("five") else JobState.RUNNING, 0, tail)

    host.look = look  # type: ignore[method-assign]
    host.lost_link = False
    again = make(estate, site(*NAMES), ROLL, mode="resume", folder=tmp_path)
    again.crew.stop.wait = lambda seconds: False  # type: ignore[assignment,method-assign]
    again.engine.run()
    said = [e.data["line"] for e in again.face.events if e.kind == "output" and e.host == "h1"]
    assert said[:5] == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [("", "", ""), ("", "a", "a"), ("a", "a", ""), ("abc", "bcd", "d"), ("ab", "xy", "xy")],
)
def test_what_an_output_has_since_it_was_looked_at(before: str, now: str, new: str) -> None:
    assert added(before, now) == new


def test_a_host_rebooted_in_a_job_is_unknown_until_the_operator_decides(tmp_path: Path) -> None:
    estate = fleet()
    real = estate.hosts["h1"]._do
    estate.hosts["h1"]._do = lambda c: _lost()  # type: ignore[method-assign]
    run = make(estate, site("h1"), ROLL, face=Scripted("approve", "quit"), folder=tmp_path / "s")
    with pytest.raises(OutcomeUnknown):
        run.engine.run()
    assert [a.status for a in run.recorder.state.unknown()] == [Status.UNKNOWN]
    assert run.journal
    run.journal.close()
    estate.hosts["h1"]._do = real  # type: ignore[method-assign]
    again = make(
        estate, site("h1"), ROLL, face=Scripted("retry"), mode="resume", folder=tmp_path / "s"
    )
    again.engine.run()
    assert again.face.asked[0].kind == "unknown"
    assert estate.hosts["h1"].values == {"a": "1"}


def test_what_was_built_on_something_that_is_gone_may_be_done_again(tmp_path: Path) -> None:
    """Nobody can tell how it ended, but all know that both have to be done anew."""
    estate, last = fleet(), NAMES[-1]
    real = estate.hosts[last]._do
    lost = lambda c: _lost() if c == "set b 1" else real(c)  # noqa: E731
    estate.hosts[last]._do = lost  # type: ignore[method-assign]
    face = Scripted("approve", "approve", "quit")
    run = make(estate, site(*NAMES), TWO, face=face, folder=tmp_path / "s")
    with pytest.raises(OutcomeUnknown):
        run.engine.run()
    assert run.journal
    run.journal.close()
    estate.hosts[last]._do = real  # type: ignore[method-assign]
    del estate.hosts["h1"].values["a"]
    face = Scripted("retry", "approve")
    again = make(estate, site(*NAMES), TWO, face=face, mode="resume", folder=tmp_path / "s")
    again.engine.run()
    assert "still needs it" in face.asked[0].body
    assert estate.hosts[last].values == {"a": "1", "b": "1"}


A_ALONE = Step("a", "A", "", reads("a"), stages=(Stage("a", "A", wants("a", "a", "1")),))


def test_a_retry_reads_first_and_does_not_again_what_is_there_by_now() -> None:
    estate = fleet()
    host = estate.hosts["h1"]

    def fails(command: str) -> Outcome:
        host.values["a"] = "1"  # by hand, say, while the operator is asked
        return Outcome(JobState.DONE, 1, "no")

    host._do = fails  # type: ignore[method-assign]
    face = Scripted("approve", "retry")
    make(estate, site("h1"), A_ALONE, face=face).engine.run()
    assert host.ran == ["set a 1"]


def test_what_is_unknown_on_a_host_that_left_the_inventory_is_never_found_done(
    tmp_path: Path,
) -> None:
    estate = fleet()
    estate.hosts["h2"]._do = lambda command: _lost()  # type: ignore[method-assign]
    run = make(
        estate, site("h1", "h2"), A_ALONE, face=Scripted("approve", "quit"), folder=tmp_path / "s"
    )
    with pytest.raises(OutcomeUnknown):
        run.engine.run()
    assert run.journal
    run.journal.close()
    face = Scripted("quit")
    later = make(estate, site("h1"), A_ALONE, face=face, run="run2", folder=tmp_path / "s")
    with pytest.raises(OutcomeUnknown, match="not in the inventory any more"):
        later.engine.run()
    assert "retry" not in [choice.key for choice in face.asked[0].choices]


def test_a_debt_on_a_host_that_left_the_inventory_stays_and_those_behind_it_are_repaid(
    tmp_path: Path,
) -> None:
    def plan(at: Site, facts: Facts) -> tuple[Action, ...]:
        return tuple(
            setting("a", host.name, "a", "1", opens=Debt(f"a/{host.name}", "a is set", "set a 0"))
            for host in at.hosts
        )

    estate, step = fleet(), Step("a", "A", "", reads("a"), stages=(Stage("a", "A", plan),))
    run = make(estate, site("h1", "h2"), step, folder=tmp_path)
    run.crew.repay = lambda debt: None  # type: ignore[method-assign]
    with contextlib.suppress(RunbookError):
        run.engine.run()
    assert run.journal
    run.journal.close()
    later = make(estate, site("h2"), step, mode="repay", folder=tmp_path)
    for debt in tuple(later.recorder.state.debts.values()):
        later.crew.repay(debt)
    assert [debt.host for debt in later.recorder.state.debts.values()] == ["h1"]
    assert estate.hosts["h2"].values["a"] == "0"


def test_what_was_never_opened_is_not_closed_after_a_failure() -> None:
    def bad(at: Site, facts: Facts) -> tuple[Action, ...]:
        return (Action("bad/h1/x", "h1", "fail", Script("fail"), Compensate("")),)

    def close(at: Site, facts: Facts) -> tuple[Action, ...]:
        do = Script("set open 0")
        return (Action("close/h1/open", "h1", "close", do, Compensate(""), repays="open"),)

    debt = Debt("open", "it is open", "set open 0")
    last = Stage("close", "Close", close, always=True)
    first, bad_ = (
        Stage("open", "Open", wants("open", "open", "1", opens=debt)),
        Stage("b", "B", bad),
    )
    for stages, closed in (((bad_, first, last), 0), ((first, bad_, last), 1)):
        estate = fleet()
        step = Step("one", "One", "", reads("open"), stages=stages)
        with pytest.raises(RunbookError):
            make(estate, site("h1"), step, face=Scripted("approve", "quit")).engine.run()
        assert estate.hosts["h1"].ran.count("set open 0") == closed


def _lost() -> Outcome:
    return Outcome(JobState.LOST, note="the host rebooted during the job")


def test_debts_are_repaid_when_the_step_fails() -> None:
    estate = fleet()
    run = make(estate, site("h1"), DEBT, face=Scripted("approve", "quit"))
    with pytest.raises(RunbookError):
        run.engine.run()
    assert estate.hosts["h1"].values["open"] == "0"
    assert run.recorder.state.debts == {}


@pytest.mark.parametrize("after", [False, True])
def test_dying_while_a_debt_is_repaid_repays_it_once(tmp_path: Path, after: bool) -> None:
    estate = fleet()
    journal = Mortal(tmp_path)
    run = make(estate, site("h1"), DEBT, face=Scripted("approve", "quit"), journal=journal)
    emit = run.recorder.emit

    def dying(kind: str, *args: object, **data: object) -> None:
        if kind == "debt_repaid":
            journal.dies_at, journal.after = 1, after
        emit(kind, *args, **data)  # type: ignore[arg-type]

    run.recorder.emit = dying  # type: ignore[method-assign,assignment]
    with pytest.raises(Crash):
        run.engine.run()
    journal.close()
    again = make(estate, site("h1"), DEBT, mode="repay", folder=tmp_path)
    assert len(again.recorder.state.debts) == (0 if after else 1)
    for debt in tuple(again.recorder.state.debts.values()):
        again.crew.repay(debt)
    assert estate.hosts["h1"].ran.count("set open 0") == 1
    assert again.recorder.state.debts == {}


def opened_and_closed(*between: Stage) -> Step:
    """A permission that one stage opens and an `always` stage takes back."""

    def close(site_: Site, facts: Facts) -> tuple[Action, ...]:
        return (Action("close/h1/open", "h1", "close", Script("set open 0"), Compensate("")),)

    return Step(
        "window",
        "With a window",
        "",
        reads("open", "bad"),
        stages=(
            Stage(
                "open",
                "Open",
                lambda s, f: (
                    Action("open/h1/open", "h1", "open", Script("set open 1"), Compensate("")),
                ),
            ),
            *between,
            Stage("close", "Close", close, always=True),
        ),
    )


def test_what_a_stage_allowed_is_taken_back_when_a_later_one_fails() -> None:
    estate = fleet()
    step = opened_and_closed(DEBT.stages[1])
    run = make(estate, site(*NAMES), step, face=Scripted("approve", "quit"))
    with pytest.raises(RunbookError):
        run.engine.run()
    assert estate.hosts["h1"].values["open"] == "0"
    assert estate.hosts["h1"].ran == ["set open 1", "fail", "set open 0"]


def test_a_step_that_may_be_skipped_is_skipped_with_its_reason_and_is_not_done() -> None:
    estate = fleet()
    step = replace(opened_and_closed(DEBT.stages[1]), skippable=True)
    after = replace(ROLL, needs=("window",))
    run = make(estate, site(*NAMES), step, after, face=Scripted("approve", "skip:by night"))
    with pytest.raises(StateRefuses, match="window, which is skipped"):
        run.engine.run()
    state = run.recorder.state.step("window")
    assert (state.status, state.why) == (Status.SKIPPED, "by night")
    assert estate.hosts["h1"].values["open"] == "0"  # what was open is closed all the same


def test_a_step_that_may_not_be_skipped_does_not_offer_it() -> None:
    run = make(
        fleet(),
        site(*NAMES),
        opened_and_closed(DEBT.stages[1]),
        face=Scripted("approve", "quit"),
    )
    with pytest.raises(RunbookError):
        run.engine.run()
    assert "skip" not in {c.key for c in run.face.asked[-1].choices}


def test_a_failed_step_can_be_taken_back_from_the_question() -> None:
    estate = fleet()
    first = Stage("first", "First", wants("first", "a", "1"))
    step = Step("both", "Both", "", reads("a", "bad"), stages=(first, DEBT.stages[1]))
    run = make(estate, site(*NAMES), step, face=Scripted("approve", "undo", "approve"))
    with pytest.raises(RunbookError, match="was taken back"):
        run.engine.run()
    assert all("a" not in h.values for h in estate.hosts.values())


def test_a_step_that_was_taken_back_but_for_a_host_is_said_to_be_that() -> None:
    estate = fleet()
    host = estate.hosts["h2"]
    do, no = host._do, Outcome(JobState.DONE, 1, "no")
    host._do = lambda c: no if c == "drop a" else do(c)  # type: ignore[method-assign]
    first = Stage("first", "First", wants("first", "a", "1"))
    step = Step("both", "Both", "", reads("a", "bad"), stages=(first, DEBT.stages[1]))
    face = Scripted("approve", "undo", "approve", "exclude:broken disk")
    run = make(estate, site(*NAMES), step, face=face)
    with pytest.raises(RunbookError, match="1 action of step both not taken back") as left:
        run.engine.run()
    assert left.value.hint == "pmrunbook undo both"
    assert run.recorder.state.step("both").status is Status.FAILED


def test_once_the_lock_is_lost_nothing_more_is_started() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), opened_and_closed())

    def start(action: Event) -> None:
        if action.kind == "end":
            run.lock.lost = True
            run.crew.stop.set()  # as the mission does once the heartbeat tells it

    show = run.face.show
    run.face.show = lambda event: (show(event), start(event))[0]  # type: ignore[method-assign]
    with pytest.raises(RunbookError):
        run.engine.run()
    assert estate.hosts["h1"].ran == ["set open 1"]  # not even what would be taken back


def test_a_finding_is_waived_until_the_day_the_inventory_says() -> None:
    blocker = Finding("old", Severity.BLOCKER, "h1", "seen", "wanted", "do it")
    step = replace(TWO, findings=lambda site, facts: (blocker,))
    for expires, asked in (("2999-01-01", False), ("2001-01-01", True)):
        waived = replace(site(*NAMES), waivers=(Waiver("old", "*", "we know", expires),))
        run = make(fleet(), waived, step, face=Scripted(*(["quit"] if asked else [])))
        if asked:
            with pytest.raises(RunbookError, match="old: seen"):
                run.engine.run()
        else:
            run.engine.run()
        said = next(e for e in run.face.events if e.kind == "finding").data["waived"]
        assert said == ("" if asked else f"we know (until {expires})")


def test_a_silent_host_is_left_out_only_by_the_operator() -> None:
    estate = fleet()
    estate.hosts["h3"].down = True
    run = make(estate, site(*NAMES), ROLL, face=Scripted("exclude:powered off", "approve"))
    run.engine.run()
    assert run.recorder.state.excluded == {"h3": "powered off"}
    quit_ = make(estate, site(*NAMES), ROLL, face=Scripted("quit"))
    with pytest.raises(Unreachable):
        quit_.engine.run()


def test_the_host_nothing_goes_without_cannot_be_left_out() -> None:
    estate = fleet()
    estate.hosts["h1"].down = estate.hosts["h3"].down = True
    run = make(estate, site(*NAMES), ROLL, face=Scripted("quit"))
    with pytest.raises(Unreachable, match="does not answer"):
        run.engine.run()
    assert [c.key for c in run.face.asked[0].choices] == ["retry", "shell", "quit"]


def test_undo_takes_back_in_reverse_and_a_new_run_does_it_again() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), TWO)
    run.engine.run()
    run.undo.run("two")
    assert all(h.values == {} for h in estate.hosts.values())
    assert run.recorder.state.step("two").actions == {}
    assert run.recorder.state.step("two").status is Status.UNDONE
    assert [a.status for a in run.recorder.state.undone] == [Status.UNDONE] * 5
    run.engine.run()
    assert estate.hosts["h4"].values == {"a": "1", "b": "1"}


def test_verify_says_when_something_drifted() -> None:
    estate = fleet()
    make(estate, site(*NAMES), TWO).engine.run()
    assert make(estate, site(*NAMES), TWO, mode="verify", writers=False).engine.verify()
    estate.hosts["h2"].values["a"] = "2"
    drifted = make(estate, site(*NAMES), TWO, mode="verify", writers=False)
    assert not drifted.engine.verify()
    bad = [c for c in drifted.recorder.state.step("two").checks.values() if not c.ok]
    assert {c.id for c in bad} == {"a/h2", "two/nothing-left"}


def test_verify_sees_what_a_patient_check_waited_for() -> None:
    """What came after the first read is not called left to do."""
    estate = fleet()
    make(estate, site(*NAMES), TWO).engine.run()
    estate.hosts["h2"].values["a"] = "2"

    def judge(facts: Facts) -> Verdict:
        seen, estate.hosts["h2"].values["a"] = facts.get("h2", "a").out, "1"
        return Verdict(seen == "1", seen)

    check = Check("a", "h2 has a", judge, (("h2", Read("a", "get a")),), patience=5.0, every=0.01)
    waited = replace(TWO, checks=lambda site, facts: (check,))
    assert make(estate, site(*NAMES), waited, mode="verify", writers=False).engine.verify()


def test_verify_proves_nothing_of_a_host_that_is_silent() -> None:
    """Neither that a check holds there, nor that it fails, nor that nothing is left to do."""
    estate = fleet()
    some = NAMES[:3]
    nobody = Check(
        "nobody",
        "nobody has b",
        lambda facts: Verdict(not any(facts.get(n, "b").ok for n in some), "nobody"),
        tuple((n, Read("b", "get b")) for n in some),
    )
    told = replace(TWO, checks=lambda site, facts: (*holds("a", "1")(site, facts), nobody))
    make(estate, site(*NAMES), told).engine.run()
    estate.hosts["h2"].down = True
    run = make(estate, site(*NAMES), told, mode="verify", writers=False)
    assert not run.engine.verify()
    checks = run.recorder.state.step("two").checks.values()
    unknown = {c.id: c.observed for c in checks if c.ok is None}
    assert unknown == dict.fromkeys(("a/h2", "nobody", "two/nothing-left"), "not read: h2")
    assert all(c.ok for c in checks if c.id not in unknown)


def test_a_patient_check_does_not_wait_for_a_host_that_was_silent_before() -> None:
    estate = fleet()
    make(estate, site(*NAMES), TWO).engine.run()
    estate.hosts["h2"].down = True
    patient = replace(TWO, checks=holds("a", "1", patience=60.0, every=20.0))
    run = make(estate, site(*NAMES), patient, mode="verify", writers=False)
    began = time.monotonic()
    assert not run.engine.verify()
    assert time.monotonic() - began < 10


def test_a_patient_check_does_not_wait_for_what_waiting_would_not_change() -> None:
    reads = (("h2", Read("a", "get a")),)
    check = Check("a", "", lambda facts: Verdict(False, "refused", final=True), reads, (), 60.0)
    told = replace(TWO, checks=lambda site, facts: (check,))
    began = time.monotonic()
    assert not make(fleet(), site(*NAMES), told, mode="verify", writers=False).engine.verify()
    assert time.monotonic() - began < 10


def test_a_check_that_looks_at_nothing_proves_nothing() -> None:
    empty = replace(TWO, checks=lambda *_: (Check("none", "", lambda _: Verdict(True, "on none")),))
    run = make(fleet(), site(*NAMES), empty, mode="verify", writers=False)
    assert not run.engine.verify()
    assert run.recorder.state.step("two").checks["none"].ok is None


class Crash(BaseException):
    """kill -9, as far as one process can do it to itself."""


class Mortal(Journal):
    """A journal whose process dies at one record: before it is written, or right after."""

    dies_at = -1
    after = False

    def append(self, event: Event) -> None:
        self.dies_at -= 1
        if self.dies_at == 0 and not self.after:
            raise Crash
        super().append(event)
        if self.dies_at == 0:
            raise Crash


def _records(tmp_path: Path) -> int:
    run = make(fleet(), site(*NAMES), TWO, folder=tmp_path / "count")
    run.engine.run()
    assert run.journal
    run.journal.close()
    return sum(1 for _ in (tmp_path / "count" / "journal.jsonl").open())


@pytest.mark.parametrize("after", [False, True])
def test_dying_at_any_journal_boundary_and_resuming_ends_like_an_unbroken_run(
    tmp_path: Path, after: bool
) -> None:
    for boundary in range(2, _records(tmp_path) + 1):
        estate = fleet()
        folder = tmp_path / f"{boundary}"
        journal = Mortal(folder)
        journal.dies_at, journal.after = boundary, after
        with contextlib.suppress(Crash):
            make(estate, site(*NAMES), TWO, journal=journal).engine.run()
        journal.close()
        estate.hosts["h1"].locked = True  # kill -9 gives nothing back
        again = make(estate, site(*NAMES), TWO, mode="resume", folder=folder)
        known = {digest for s in again.recorder.state.steps.values() for digest in s.approved}
        again.engine.run()
        asked = [q.kind for q in again.face.asked]
        assert "approve" not in asked or not known, boundary  # approved once is approved
        assert again.journal
        again.journal.close()
        assert [h.values for h in estate.hosts.values()] == [
            {"a": "1"},
            {"a": "1"},
            {"a": "1"},
            {"a": "1", "b": "1"},
        ], boundary
        commands = [c for h in estate.hosts.values() for c in h.ran]
        assert len(commands) == 5, (boundary, commands)  # none twice
        assert again.recorder.state.unknown() == ()
        again.lock.release()
        assert not estate.hosts["h1"].locked, boundary  # also where nothing was left to do


# --- what an operator suffers at night ------------------------------------------------------------


def test_a_host_that_falls_silent_after_the_approval_is_not_passed_over() -> None:
    estate = fleet()

    class Cable(Scripted):
        def ask(self, question):  # type: ignore[no-untyped-def]
            estate.hosts["h3"].down = question.kind == "approve"
            return super().ask(question)

    run = make(estate, site(*NAMES), ROLL, face=Cable("approve", "check", "retry"))
    run.engine.run()
    assert [q.kind for q in run.face.asked] == ["approve", "failure", "failure"]
    assert run.face.asked[1].host == "h3"
    assert run.face.asked[1].title == "h3: does not answer"
    assert not run.face.asked[1].body  # not the same again
    assert run.face.asked[2].title == "h3: to do: set a to 1"  # it was looked at: it answers
    assert estate.hosts["h3"].values == {"a": "1"}
    del estate.hosts["h3"].values["a"]
    with pytest.raises(Unreachable):  # exit 3, as ever where a host does not answer
        make(estate, site(*NAMES), ROLL, face=Cable("approve", "quit")).engine.run()


def test_looking_again_at_a_changed_plan_does_what_was_seen_last() -> None:
    estate = fleet()
    for host in estate.hosts.values():
        host.values["x"] = "1"

    class Meddler(Scripted):
        def ask(self, question):  # type: ignore[no-untyped-def]
            estate.hosts["h2"].values["x"] = str(1 + len(self.asked))
            return super().ask(question)

    run = make(estate, site(*NAMES), COPY, face=Meddler("approve", "again", "approve", "approve"))
    run.engine.run()
    assert estate.hosts["h2"].values["a"] == estate.hosts["h2"].values["x"]


def test_what_is_unknown_on_a_host_left_out_stays_unknown(tmp_path: Path) -> None:
    estate = fleet()
    estate.hosts["h2"]._do = lambda c: _lost()  # type: ignore[method-assign]
    first = make(
        estate, site(*NAMES), ROLL, face=Scripted("approve", "exclude:later"), folder=tmp_path
    )
    first.engine.run()
    assert first.journal
    first.journal.close()
    again = make(estate, site(*NAMES), ROLL, face=Scripted("quit"), mode="resume", folder=tmp_path)
    with pytest.raises(OutcomeUnknown):
        again.engine.run()
    assert [a.host for a in again.recorder.state.unknown()] == ["h2"]


def test_an_undo_whose_job_was_lost_is_not_done() -> None:
    estate = fleet()
    run = make(estate, site("h1"), ROLL)
    run.engine.run()
    real = estate.hosts["h1"]._do
    estate.hosts["h1"]._do = lambda c: _lost()  # type: ignore[method-assign]
    run.face.extend(["approve", "quit"])
    with pytest.raises(RunbookError):
        run.undo.run("roll")
    estate.hosts["h1"]._do = real  # type: ignore[method-assign]
    run.engine.run()  # looks first: the host still has it, so it is not taken back
    assert run.recorder.state.undone == []
    run.undo.run("roll")
    assert estate.hosts["h1"].values == {}


def test_what_was_taken_back_is_asked_about_again() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), ROLL)
    run.engine.run()
    run.undo.run("roll")
    before = len(run.face.asked)
    run.engine.run()
    assert [q.kind for q in run.face.asked[before:]] == ["approve"]


def test_a_dead_host_does_not_wedge_the_resume(tmp_path: Path) -> None:
    estate = fleet()
    estate.hosts["h2"].lost_link = True
    first = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "quit"), folder=tmp_path)
    with pytest.raises(OutcomeUnknown):
        first.engine.run()
    assert first.journal
    first.journal.close()

    def dead(job_id: str) -> object:
        raise Unreachable("does not answer")

    estate.hosts["h2"].look = dead  # type: ignore[method-assign,assignment]
    estate.hosts["h2"].down = True
    again = make(
        estate,
        site(*NAMES),
        ROLL,
        face=Scripted("failed:it burned down", "exclude:it burned down"),
        mode="resume",
        folder=tmp_path,
    )
    again.engine.run()
    assert again.recorder.state.excluded == {"h2": "it burned down"}
    assert estate.hosts["h4"].values == {"a": "1"}


def test_a_host_that_cannot_be_dialled_was_sent_nothing() -> None:
    estate = fleet()

    def away(*_: object) -> object:
        raise Unreachable("does not answer")

    estate.hosts["h2"].run = away  # type: ignore[method-assign,assignment]
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "exclude:away"))
    run.engine.run()
    assert run.recorder.state.unknown() == ()
    assert run.recorder.state.step("roll").actions["all/h2/a"].status is Status.FAILED


def test_a_host_without_room_for_a_job_has_not_done_it() -> None:
    estate = fleet()
    estate.hosts["h1"].full = True
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "quit"))
    with pytest.raises(StateRefuses, match="no room"):
        run.engine.run()
    assert run.recorder.state.unknown() == ()
    assert run.recorder.state.step("roll").actions["all/h1/a"].status is Status.FAILED


def test_a_face_that_is_gone_does_not_take_the_work_down() -> None:
    estate = fleet()

    class Closed(Scripted):
        def show(self, event: Event) -> None:
            if event.kind == "output":
                raise OSError("the terminal was closed")
            super().show(event)

    run = make(estate, site("h1"), DEBT, face=Closed("approve", "quit"))
    run.recorder.face_lost = run.crew.stop.set
    with pytest.raises(RunbookError):
        run.engine.run()
    assert estate.hosts["h1"].values.get("open") != "1"  # the debt was repaid all the same


def test_a_subset_of_hosts_leaves_the_step_unfinished() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), ROLL, hosts=("h2",))
    run.engine.run()
    assert [h.ran for h in estate.hosts.values()] == [[], ["set a 1"], [], []]
    state = run.recorder.state.step("roll")
    assert (state.status, state.why) == (Status.PENDING, "3 actions left on hosts not asked for")


def test_stop_is_heard_while_hosts_are_read() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), ROLL)
    run.crew.stop.set()
    with pytest.raises(Interrupted):
        run.engine.run()


def test_a_dry_run_that_met_trouble_does_not_end_well() -> None:
    estate = fleet()
    estate.hosts["h3"].down = True
    run = make(estate, site(*NAMES), ROLL, mode="dry-run", writers=False)
    with pytest.raises(Unreachable):
        run.engine.run()
    assert "planned" in kinds(run.face)


def test_a_check_of_another_host_gates_the_canary() -> None:
    estate = fleet()
    ca = Check(
        "ca", "the CA answers", lambda facts: Verdict(False, "down"), (("ca", Read("x", "get x")),)
    )
    stage = Stage("all", "All", wants("all", "a", "1"), lambda s, f: (ca,), rollout=True)
    step = Step("roll", "Roll out", "", reads("a"), stages=(stage,))
    estate.hosts["ca"] = FakeHost({"a": "1"})
    run = make(estate, site("ca", *NAMES), step, face=Scripted("approve", "quit"))
    with pytest.raises(RunbookError, match="the CA answers"):
        run.engine.run()
    assert [estate.hosts[n].ran for n in NAMES] == [["set a 1"], [], [], []]


def test_a_roll_out_known_only_later_is_asked_about_once() -> None:
    def plan(site, facts):  # type: ignore[no-untyped-def]
        if not facts.get("h1", "a").ok:
            return tuple(Later("what a is", "first", h.name) for h in site.hosts)
        return wants("second", "b", "1")(site, facts)

    step = Step(
        "rolled",
        "Rolled",
        "",
        reads("a", "b"),
        stages=(
            Stage("first", "First", wants("first", "a", "1")),
            Stage("second", "Second", plan, rollout=True),
        ),
    )
    estate = fleet()
    run = make(estate, site(*NAMES), step)
    run.engine.run()
    assert all(h.values["b"] == "1" for h in estate.hosts.values())
    assert [q.kind for q in run.face.asked] == ["approve", "changed"]


def test_what_is_not_known_of_hosts_nobody_asked_for_is_not_waited_for() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), TWO, hosts=("h1", "h2"), face=Scripted("approve"))
    with contextlib.suppress(RunbookError):
        run.engine.run()
    planned = next(e for e in run.face.events if e.kind == "planned")
    assert planned.data["later"] == []


def removing(host: str) -> Step:
    action = Action(
        f"bad/{host}/x", host, "x", Script("set x 1", removes=("/ssl",)), Compensate("drop x")
    )
    return Step("bad", "Bad", "", reads("x"), stages=(Stage("bad", "B", lambda s, f: (action,)),))


def test_nothing_of_an_ssldir_is_removed_on_the_cas_host() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), removing("h1"), face=Scripted("approve", "quit"))
    with pytest.raises(TrustError):
        run.engine.run()
    assert all(h.ran == [] for h in estate.hosts.values())


def test_a_job_that_trusts_nobody_ends_the_run_with_its_own_exit_code() -> None:
    estate = fleet()
    action = Action("bad/h2/x", "h2", "x", Script("distrust"), Compensate("drop x"))
    step = Step("bad", "Bad", "", reads("x"), stages=(Stage("bad", "B", lambda s, f: (action,)),))
    run = make(estate, site(*NAMES), step, face=Scripted("approve", "quit"))
    with pytest.raises(TrustError, match="another key"):
        run.engine.run()


def distrust(*_: object) -> NoReturn:
    raise TrustError("known_hosts:3 has another key; nothing was sent")


def distrusting(estate: Fleet, name: str) -> None:
    """From the end of its next job on, the host shows another key than the known one."""
    host, run = estate.hosts[name], estate.hosts[name].run

    def last(*args: Any) -> NoReturn:
        run(*args)
        host.read = host.look = host.run = distrust  # type: ignore[method-assign]
        distrust()

    host.run = last  # type: ignore[method-assign]


def trusting(estate: Fleet, name: str) -> None:
    for method in ("read", "look", "run"):
        estate.hosts[name].__dict__.pop(method)


def test_a_key_that_changes_under_a_job_ends_the_run_and_leaves_the_outcome_unknown(
    tmp_path: Path,
) -> None:
    estate = fleet()
    distrusting(estate, "h2")
    first = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "quit"), folder=tmp_path)
    with pytest.raises(TrustError, match="known_hosts:3"):
        first.engine.run()
    for _ in range(2):
        assert [a.status for a in first.recorder.state.unknown()] == [Status.UNKNOWN]
        assert estate.hosts["h4"].ran == []  # of the next batch
        assert first.journal
        first.journal.close()
        first = make(
            estate, site(*NAMES), ROLL, face=Scripted("quit"), mode="resume", folder=tmp_path
        )
        with pytest.raises(TrustError, match="known_hosts:3"):
            first.engine.run()
    assert first.journal
    first.journal.close()
    trusting(estate, "h2")
    again = make(estate, site(*NAMES), ROLL, face=Scripted(), mode="resume", folder=tmp_path)
    again.engine.run()
    assert again.face.asked == [] and again.recorder.state.unknown() == ()
    assert [h.ran for h in estate.hosts.values()] == [["set a 1"]] * 4


def test_what_is_unknown_once_the_host_is_trusted_again_is_no_matter_of_trust() -> None:
    estate = fleet()
    distrusting(estate, "h2")
    estate.hosts["h2"]._do = lambda _: _lost()  # type: ignore[method-assign]

    class Owner(Scripted):
        def ask(self, question):  # type: ignore[no-untyped-def]
            if question.kind == "unknown" and "look" in estate.hosts["h2"].__dict__:
                trusting(estate, "h2")
            return super().ask(question)

    run = make(estate, site(*NAMES), ROLL, face=Owner("approve", "check", "quit"))
    with pytest.raises(OutcomeUnknown):
        run.engine.run()


def test_a_host_that_is_not_trusted_is_within_no_threshold() -> None:
    """Another that failed in the same batch does not hide it either."""
    estate = Fleet(*NAMES, "h5")
    estate.hosts["h2"]._do = lambda c: _failed()  # type: ignore[method-assign]
    distrusting(estate, "h3")
    rollout = Rollout(canary=1, batch=4, max_failures=4)
    run = make(estate, site(*NAMES, "h5", rollout=rollout), ROLL, face=Scripted("approve", "quit"))
    with pytest.raises(TrustError, match="known_hosts:3"):
        run.engine.run()
    assert run.recorder.state.excluded == {}


@pytest.mark.parametrize("stage", [True, False], ids=["stage", "step"])
def test_a_host_that_is_not_trusted_when_the_change_is_proved(stage: bool) -> None:
    estate = fleet()

    def refuse(reads: object, prelude: str = "") -> NoReturn:
        raise TrustError("known_hosts:3 has another key; nothing was sent", host="h3")

    def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
        estate.hosts["h3"].read = refuse  # type: ignore[method-assign]
        return holds("a", "1")(site, facts)

    roll = Stage("all", "All", wants("all", "a", "1"), *([checks] if stage else []))
    step = replace(ROLL, stages=(roll,), checks=holds("a", "1") if stage else checks)
    run = make(estate, site(*NAMES), step, face=Scripted("approve", "quit"))
    with pytest.raises(TrustError, match="known_hosts:3"):
        run.engine.run()


def test_a_host_that_is_not_trusted_is_why_verify_ends_but_the_others_are_told_first() -> None:
    estate = fleet()
    step = replace(ROLL, checks=holds("a", "1"))
    make(estate, site(*NAMES), step).engine.run()
    estate.hosts["h2"].read = distrust  # type: ignore[method-assign]
    run = make(estate, site(*NAMES), step, mode="verify", writers=False)
    with pytest.raises(TrustError, match="known_hosts:3"):
        run.engine.verify()
    told = {e.data["id"]: e.data["ok"] for e in run.face.events if e.kind == "check"}
    assert (told["a/h1"], told["a/h2"], told["a/h4"]) == (True, None, True)


def test_an_undo_on_a_host_that_is_not_trusted_ends_with_that() -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), ROLL, face=Scripted("approve", "approve", "quit"))
    run.engine.run()
    distrusting(estate, "h2")
    with pytest.raises(TrustError, match="known_hosts:3"):
        run.undo.run("roll")


def test_a_host_that_nobody_asked_for_does_not_gate_those_that_were() -> None:
    def plan(site, facts):  # type: ignore[no-untyped-def]
        known = wants("all", "a", "1")(site, facts)
        return tuple(Later("it", "first", a.host) if a.host == "h4" else a for a in known)

    stage = Stage("all", "All", plan, holds("a", "1"), rollout=True)
    step = Step("roll", "Roll out", "", reads("a"), stages=(stage,))
    estate = fleet()
    run = make(estate, site(*NAMES), step, hosts=("h1", "h2"))
    run.engine.run()
    assert [h.values.get("a") for h in estate.hosts.values()] == ["1", "1", None, None]


def test_what_is_done_elsewhere_for_a_host_left_out_is_not_done() -> None:
    def plan(site, facts):  # type: ignore[no-untyped-def]
        return tuple(
            setting("sign", "h1", f"for-{name}", "1", about=name)
            for name in ("h2", "h3")
            if not facts.get("h1", f"for-{name}").ok
        )

    step = Step("s", "S", "", reads("for-h2", "for-h3"), stages=(Stage("sign", "S", plan),))
    for wanted in ({"hosts": ("h2",)}, {"without": ("h3",)}):
        made = planning.make(step, site(*NAMES), Facts(), **wanted)  # type: ignore[arg-type]
        assert [a.about for a in made.actions] == ["h2"]


def test_a_step_looks_anew_at_hosts_that_an_earlier_one_changed_from_afar() -> None:
    def far(site, facts):  # type: ignore[no-untyped-def]
        estate.hosts["h4"].values["name"] = "known"  # as a name server's answer changes for all
        return wants("far", "a", "1")(site, facts)[:1]

    def near(site, facts):  # type: ignore[no-untyped-def]
        known = facts.get("h4", "name").out == "known"
        return (setting("near", "h4", "b", "1"),) if known and not facts.get("h4", "b").ok else ()

    estate = fleet()
    first = Step("first", "F", "", reads("a"), stages=(Stage("far", "F", far),))
    second = Step("second", "S", "", reads("name", "b"), stages=(Stage("near", "N", near),))
    make(estate, site(*NAMES), first, second).engine.run()
    assert estate.hosts["h4"].values["b"] == "1"


def test_a_check_asks_for_more_where_the_first_answer_wants_it() -> None:
    """Digests first: only what differs is read after them, and only once."""
    asked: list[str] = []

    def then(facts: Facts) -> tuple[tuple[str, Read], ...]:
        asked.append("then")
        if facts.get("h1", "a").out == facts.get("h2", "a").out:
            return ()
        return (("h1", Read("closer", "get closer")),)

    def judge(facts: Facts) -> Verdict:
        closer = facts.get("h1", "closer")
        return Verdict(facts.get("h1", "a").out == "same", closer.out, detail=closer.out)

    reads = tuple((host, Read("a", "get a")) for host in ("h1", "h2"))
    check = Check("same", "alike", judge, reads, then=then, cell=("h1", "production"))
    step = replace(TWO, stages=(), topics={"code": lambda site, facts: (check,)})
    estate = Fleet("h1", "h2")
    estate.hosts["h1"].values |= {"a": "other", "closer": "this line"}
    estate.hosts["h2"].values |= {"a": "same"}
    run = make(estate, site("h1", "h2"), step, mode="verify", writers=False, topic="code")
    assert not run.engine.verify()
    seen = run.recorder.state.step("two").checks["same"]
    assert (seen.detail, seen.cell) == ("this line", ("h1", "production"))
    estate.hosts["h1"].values["a"] = "same"
    again = make(estate, site("h1", "h2"), step, mode="verify", writers=False, topic="code")
    assert again.engine.verify()


def test_a_topic_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing called moon"):
        make(Fleet("h1"), site("h1"), TWO, mode="verify", writers=False, topic="moon")


def test_what_a_step_needs_and_was_proved_is_not_asked_again(tmp_path: Path) -> None:
    """A step asked for stands on what was proved lately, with this inventory and runbook."""
    base = replace(TWO, id="base")
    top = Step("top", "On top", "", TWO.reads, needs=("base",))
    estate = Fleet(*NAMES)

    def run(inventory: str) -> list[str]:
        one = replace(site(*NAMES), digest=inventory)
        done = make(estate, one, base, top, folder=tmp_path, asked=("top",), inventory=inventory)
        done.engine.run()
        assert done.journal
        done.journal.close()
        return [e.step for e in done.face.events if e.kind == "step_started"]

    assert run("one") == ["base", "top"]
    assert run("one") == ["top"]
    assert run("two") == ["base", "top"]


def drifts(run: Any, host: str) -> Step:
    """A step whose proof fails once, as somebody took back meanwhile what its action did there."""
    taken: list[str] = []

    def judge(facts: Facts) -> Verdict:
        if not taken and facts.get(host, "a").out.strip() == "1":
            taken.append(host)
            run[0].hosts[host].values["a"] = "0"
            return Verdict(False, "it went back")
        said = facts.get(host, "a").out.strip()
        return Verdict(said == "1", said)

    check = Check("a", f"{host} has a", judge, ((host, Read("a", "get a")),))
    stage = Stage("a", "a", wants("a", "a", "1"))
    return Step("one", "One", "", reads("a"), (stage,), checks=lambda site, facts: (check,))


@pytest.mark.parametrize(
    ("answer", "value", "excluded"), [("retry", "1", False), ("exclude", "0", True)]
)
def test_what_the_proof_finds_undone_is_done_again_or_its_host_left_out(
    answer: str, value: str, excluded: bool
) -> None:
    estate = fleet()
    run = make(estate, site(*NAMES), drifts([estate], "h2"), face=Scripted("approve", answer))
    run.engine.run()
    proof = run.face.asked[1]
    assert proof.title == "1 of 1 check did not pass" and "it went back" in proof.body
    assert estate.hosts["h2"].values["a"] == value
    assert ("h2" in run.recorder.state.excluded) == excluded
    assert run.recorder.state.step("one").status is Status.OK
