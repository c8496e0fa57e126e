"""What the journal tells, by run and by step: what the page and JUnit are made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook.model import Event, Status

Data = Mapping[str, Any]


@dataclass(slots=True)
class Attempt:
    """One start of one action, and how it ended, whichever run found that out."""

    step: str
    host: str
    action: str
    job: str
    data: Data  # the action's plain form
    started: float
    ended: float = 0.0  # 0: no end was recorded
    status: Status = Status.UNKNOWN
    exit: int | None = None
    note: str = ""
    taken_back: bool = False
    late: bool = False  # how it ended was found out by a later run

    @property
    def title(self) -> str:
        return str(self.data["title"])


@dataclass(frozen=True, slots=True)
class Checked:
    """The verdict on one check, and the seconds since the entry before it."""

    data: Data
    at: float
    took: float

    @property
    def ok(self) -> bool | None:
        return None if self.data["ok"] is None else bool(self.data["ok"])


@dataclass(slots=True)
class Passage:
    """What one run did in one step."""

    step: str
    title: str = ""
    started: float = 0.0
    ended: float = 0.0
    last: float = 0.0  # the time of its last entry
    status: Status = Status.PENDING
    why: str = ""
    findings: list[Event] = field(default_factory=list)
    gates: dict[str, Data] = field(default_factory=dict)  # of a held step, by what it needs
    plans: list[Event] = field(default_factory=list)
    approvals: list[Event] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    checks: dict[str, Checked] = field(default_factory=dict)  # the last verdict of each
    waived: list[Event] = field(default_factory=list)
    answers: list[Event] = field(default_factory=list)  # to questions other than approval

    @property
    def seconds(self) -> float:
        """How long it took, up to its last entry where nobody wrote its end."""
        return (self.ended or self.last) - self.started if self.started else 0.0


@dataclass(slots=True)
class Run:
    """One run, from its start to its end, or to where it broke off."""

    data: Data
    started: float
    last: float  # the time of its last entry
    ended: float | None = None
    exit: int | None = None
    why: str = ""
    passages: dict[str, Passage] = field(default_factory=dict)
    excluded: list[Event] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # of all entries
    at_work: bool = False  # it has no end because it goes on

    @property
    def id(self) -> str:
        return str(self.data["run"])

    @property
    def mode(self) -> str:
        return str(self.data.get("mode", "run"))

    @property
    def operator(self) -> str:
        return str(self.data.get("operator", ""))

    @property
    def outcome(self) -> str:
        if self.ended is not None:
            return f"exit {self.exit}"
        return "at work" if self.at_work else "broken off"

    def passage(self, step: str) -> Passage:
        return self.passages.setdefault(step, Passage(step))


def runs(events: Iterable[Event], *, at_work: bool = False) -> list[Run]:
    """The runs of the journal, the oldest first; `at_work`: the last has no end as it goes on."""
    found: list[Run] = []
    open_: dict[tuple[str, str], Attempt] = {}  # by action and job
    done: dict[tuple[str, str], Attempt] = {}  # the last that went well, by step and action
    for event in events:
        if event.kind == "run_started":
            found.append(Run(event.data, event.at, event.at))
        if not found:
            continue
        run = found[-1]
        before, run.last = run.last, event.at
        run.times.append(event.at)
        match event.kind:
            case "run_ended":
                run.ended, run.exit = event.at, int(event.data["exit"])
                run.why = str(event.data.get("why", ""))
            case "excluded":
                run.excluded.append(event)
            case "start":
                data = event.data["action"]
                job = str(event.data["job"])
                attempt = Attempt(event.step, event.host, event.action, job, data, event.at)
                open_[event.action, job] = attempt
                run.passage(event.step).attempts.append(attempt)
            case "end":
                attempt_ = open_.get((event.action, str(event.data.get("job"))))
                _end(event, attempt_, done, run.started)
            case _ if event.step:
                _note(run.passage(event.step), event, event.at - before)
        if event.step in run.passages:
            run.passages[event.step].last = event.at
    if found:
        found[-1].at_work = at_work and found[-1].ended is None
    for run in found:
        _settle(run)
    return found


def _settle(run: Run) -> None:
    """What nobody wrote the end of goes on, or was broken off: then nobody knows how it ended."""
    for passage in run.passages.values():
        if passage.status in (Status.RUNNING, Status.WAITING) and not run.at_work:
            passage.status, passage.why = Status.PENDING, "broken off"
        for attempt in passage.attempts:
            if not attempt.ended and run.at_work:
                attempt.status = Status.RUNNING


def _end(
    event: Event, attempt: Attempt | None, done: dict[tuple[str, str], Attempt], since: float
) -> None:
    if attempt is None:
        return
    attempt.late = attempt.started < since
    attempt.ended, attempt.status = event.at, Status(event.data["status"])
    attempt.exit, attempt.note = event.data.get("exit"), str(event.data.get("note", ""))
    if attempt.status is not Status.OK:
        return
    undoes = str(attempt.data.get("undoes", ""))
    if undone := done.get((attempt.step, undoes)):
        undone.taken_back = True
    done[attempt.step, attempt.action] = attempt


def _note(passage: Passage, event: Event, took: float) -> None:
    data = event.data
    match event.kind:
        case "step_started":
            passage.title = str(data["title"])
            passage.started, passage.status = event.at, Status.RUNNING
            passage.findings.clear()
            passage.checks.clear()
            passage.gates.clear()
        case "gate":
            passage.gates[str(data["need"])] = data
        case "finding":
            passage.findings.append(event)
        case "planned":
            passage.plans.append(event)
        case "approved":
            passage.approvals.append(event)
        case "waived":
            passage.waived.append(event)
        case "check":
            passage.checks[str(data["id"])] = Checked(data, event.at, took)
        case "answered" if data.get("question") not in ("approve", "changed", "secret", "trust"):
            passage.answers.append(event)
        case "step_done":
            passage.status, passage.ended = Status(data["status"]), event.at
            passage.why = str(data.get("why", ""))


def took(found: Iterable[Run], step: str) -> float:
    """The seconds that all runs together were at this step."""
    return sum(run.passages[step].seconds for run in found if step in run.passages)


def attempts(found: Iterable[Run]) -> Iterator[Attempt]:
    """Every attempt at every action, in the order they were started."""
    for run in found:
        for passage in run.passages.values():
            yield from passage.attempts
