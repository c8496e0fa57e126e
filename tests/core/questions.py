"""Every question there is, as the engine asks it: got by letting go wrong what can go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from runbook.errors import Interrupted, RunbookError
from runbook.mission import Mission
from runbook.model import (
    Action,
    Facts,
    Finding,
    Human,
    Later,
    Nothing,
    Read,
    Risk,
    Severity,
    Site,
    Stage,
    Step,
)
from runbook.ports import Choice, JobState, Outcome, Question, Reply
from runbook.recorder import Recorder
from tests.core.estate import Fleet, Scripted, holds, later_plan, make, reads, site, wants

HOSTS = ("h1", "h2")
STAGE = Stage("do", "Do", wants("do", "a", "1"))
STEP = Step("ca", "One", "", reads("a"), stages=(STAGE,), skippable=True)
FAILED = Outcome(JobState.DONE, 1, "no")
LOST = Outcome(JobState.LOST, note="it rebooted")


class Gone(Scripted):
    """An operator who leaves where the script ends."""

    def ask(self, question: Question) -> Reply:
        if self:
            return super().ask(question)
        self.asked.append(question)
        raise Interrupted("nobody answers any more")


def asked(step: Step, *answers: str, ends: Outcome | None = None, down: bool = False) -> Gone:
    """Run this step; on h2 jobs end so, or nothing answers."""
    estate = Fleet(*HOSTS)
    estate.hosts["h2"].down = down
    if ends:
        estate.hosts["h2"]._do = lambda command: ends  # type: ignore[method-assign]
    face = Gone(*answers)
    with suppress(RunbookError):
        make(estate, site(*HOSTS), step, face=face).engine.run()
    return face


def by_hand(site: Site, facts: Facts) -> tuple[Action, ...]:
    do = Human("Open the firewall", Read("open", "get open"))
    return (Action("do/h2/x", "h2", "the firewall is open", do, Nothing()),)


def never_known(site: Site, facts: Facts) -> tuple[Later, ...]:
    return (Later("the value of a", "before", "h2"),)


def blocked(site: Site, facts: Facts) -> tuple[Finding, ...]:
    said = ("it is off", "it is on", "Switch it on.")
    return (Finding("off", Severity.BLOCKER, "h2", *said),)


def in_the_dark() -> Question:
    """An outcome that a run left unknown, at the next one."""
    estate, face = Fleet(*HOSTS), Gone("approve", "quit")
    estate.hosts["h2"]._do = lambda command: LOST  # type: ignore[method-assign]
    run = make(estate, site(*HOSTS), STEP, face=face)
    for again in (run.engine.run, run.engine._clear_unknown):
        with suppress(RunbookError):
            again()
    return face.asked[-1]


def taken_back() -> tuple[Question, Question]:
    """The plan of an undo, and what it asks where it fails."""
    estate, face = Fleet(*HOSTS), Gone("approve", "approve")
    run = make(estate, site(*HOSTS), STEP, face=face)
    run.engine.run()
    for host in estate.hosts.values():
        host._do = lambda command: FAILED  # type: ignore[method-assign]
    with suppress(RunbookError):
        run.undo.run(STEP.id)
    return face.asked[1], face.asked[2]


def of_the_mission(ask: Callable[[Any, Recorder], object]) -> Question:
    face = Gone()
    with suppress(Interrupted):
        ask(SimpleNamespace(_stopped=False), Recorder(face))
    return face.asked[0]


def questions() -> Iterator[tuple[str, Question]]:
    destructive = Stage("do", "Do", wants("do", "a", "1", risk=Risk.DESTRUCTIVE))
    later = (Stage("first", "First", wants("first", "a", "1")), Stage("second", "", later_plan))
    yield "plan", asked(STEP).asked[0]
    yield "plan-confirmed", asked(replace(STEP, stages=(destructive,))).asked[0]
    two = replace(STEP, reads=reads("a", "b"), stages=later)
    yield "plan-changed", asked(two, "approve").asked[1]
    yield "failure", asked(STEP, "approve", ends=FAILED).asked[1]
    yield "unknown", asked(STEP, "approve", ends=LOST).asked[1]
    yield "unknown-left", in_the_dark()
    yield "attest", asked(STEP, "approve", "done", ends=FAILED).asked[2]
    yield "human", asked(replace(STEP, stages=(Stage("do", "Do", by_hand),)), "approve").asked[1]
    yield "silent", asked(STEP, down=True).asked[0]
    yield "blocked", asked(replace(STEP, findings=blocked)).asked[0]
    unknown = replace(STEP, stages=(STAGE, Stage("then", "Then", never_known)))
    yield "not-known", asked(unknown, "approve").asked[1]
    yield "not-passed", asked(replace(STEP, checks=holds("b", "1")), "approve").asked[1]
    yield from zip(("undo", "undo-failed"), taken_back(), strict=True)
    yield "trust", of_the_mission(lambda me, rec: Mission._trust(me, rec, "h1", "RSA", "SHA"))
    yield "secret", of_the_mission(lambda me, rec: Mission._prompt(me, rec, "sudo"))
    take = (Choice("take", "Go on with it"), Choice("no", "Not now"))
    yield "handover", Question("handover", "another operator's run", "", take, host="h1")


QUESTIONS = dict(questions())
CHOICES = [(name, choice.key) for name, asked_ in QUESTIONS.items() for choice in asked_.choices]
