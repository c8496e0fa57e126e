"""`state = fold(events)`: where a run stands, read from the journal and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runbook.model import Event, Status

LIVE = frozenset({"output", "reading", "message"})
"""Kinds of events that are shown but not journalled: they decide nothing."""

RUNS = ("run", "resume")
"""Modes that go through the runbook; the others take back, or end what is open."""


@dataclass(slots=True)
class ActionState:
    """The last attempt at one action."""

    id: str
    step: str
    host: str
    title: str
    job: str
    status: Status
    action: Mapping[str, Any]  # its plain form: do, undo, diff, ...
    started: float
    ended: float = 0.0
    exit: int | None = None
    note: str = ""
    run: str = ""  # the one that told how it ended
    evidence: str = ""  # what was pasted by whom attests it
    attempts: int = 1
    earlier: tuple[ActionState, ...] = ()
    """Attempts before it that may have left something, the newest first: undo goes back past them,
    to what was there before the first one."""

    @property
    def first(self) -> ActionState:
        """The oldest of its attempts."""
        return self.earlier[-1] if self.earlier else self


@dataclass(slots=True)
class CheckState:
    """The last verdict of one check."""

    id: str
    title: str
    ok: bool | None
    observed: str
    remedy: str
    at: float
    detail: str = ""
    cell: tuple[str, str] = ("", "")


@dataclass(slots=True)
class StepState:
    """Where one step stands."""

    id: str
    title: str = ""
    status: Status = Status.PENDING
    why: str = ""  # it waits, failed or was skipped
    stage: str = ""
    started: float = 0.0
    ended: float = 0.0
    findings: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    checks: dict[str, CheckState] = field(default_factory=dict)
    actions: dict[str, ActionState] = field(default_factory=dict)
    planned: Mapping[str, Any] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)  # digests of actions
    proved_with: tuple[str, str] = ("", "")  # inventory and runbook, where it stands proved
    proved_without: tuple[str, ...] = ()
    """Hosts that were left out then: it stands for as long as they are."""
    gates: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # of a held step, by need
    shares: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What was measured of how agents are spread, by title: `planned`, a part of 1 by server, and
    `measured`, a count by server."""


@dataclass(slots=True)
class HostState:
    """What one host is doing, for a live table."""

    name: str
    status: Status = Status.PENDING
    step: str = ""
    title: str = ""
    since: float = 0.0
    line: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class OpenDebt:
    """A temporary state that is still there."""

    id: str
    step: str
    host: str
    title: str
    repay: str | Mapping[str, Any]  # a script, or the plain form of a DnsChange
    since: float
    job: str = ""  # the repayment that was begun


@dataclass(slots=True)
class RunState:
    """Everything the events say; `apply` takes the next one."""

    run: str = ""
    mode: str = ""
    operator: str = ""
    begun: Mapping[str, Any] = field(default_factory=dict)  # the run that `--resume` goes on with
    runs: list[str] = field(default_factory=list)  # the ids of all that this journal knows
    started: float = 0.0
    ended: float = 0.0
    exit: int | None = None
    why: str = ""
    steps: dict[str, StepState] = field(default_factory=dict)
    hosts: dict[str, HostState] = field(default_factory=dict)
    debts: dict[str, OpenDebt] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)  # host: why
    waived: dict[tuple[str, str], str] = field(default_factory=dict)  # (finding, host): why
    found: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What each host was when it was first surveyed: `Finding.estate`."""
    waiting: str = ""  # what the operator is asked right now
    undone: list[ActionState] = field(default_factory=list)
    events: int = 0

    def unknown(self) -> tuple[ActionState, ...]:
        """Actions that were started and whose outcome nobody has read yet."""
        open_ = (Status.RUNNING, Status.UNKNOWN)
        return tuple(
            a for s in self.steps.values() for a in s.actions.values() if a.status in open_
        )

    def asked_for(self) -> tuple[ActionState, ...]:
        """What a person was asked for, and nobody has seen done."""
        return tuple(
            a for s in self.steps.values() for a in s.actions.values() if a.status is Status.WAITING
        )

    def attested(self) -> tuple[ActionState, ...]:
        """Actions a person says are done, where nothing that was read says so."""
        all_ = (a for s in self.steps.values() for a in s.actions.values())
        return tuple(a for a in all_ if a.status is Status.ATTESTED)

    def granted(self, step_id: str) -> tuple[str, ...]:
        """The ids of a step's actions that count as done in this run because a person says so."""
        actions = self.step(step_id).actions.values()
        return tuple(a.id for a in actions if a.status is Status.ATTESTED and a.run == self.run)

    def step(self, step_id: str) -> StepState:
        return self.steps.setdefault(step_id, StepState(step_id))

    def host(self, name: str) -> HostState:
        return self.hosts.setdefault(name, HostState(name))

    def apply(self, event: Event) -> None:
        """Take one event; kinds this version does not know are passed over."""
        self.events += 1
        handler = _HANDLERS.get(event.kind)
        if handler:
            handler(self, event, event.data)


def fold(events: Iterable[Event]) -> RunState:
    """The state after all of `events`, in order."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


Data = Mapping[str, Any]


def _run_started(state: RunState, event: Event, data: Data) -> None:
    state.mode = str(data.get("mode", "run"))
    begins = state.mode in RUNS and not data.get("resumed")
    if begins or not state.begun:
        # What was granted was granted for the run that `--resume` goes on with.
        state.excluded, state.waived = {}, {}
        for step in state.steps.values():
            step.approved = set()
    state.run = str(data["run"])
    state.operator = str(data.get("operator", ""))
    state.runs.append(state.run)
    if state.mode in RUNS:
        state.begun = data
    state.started, state.ended, state.exit, state.why = event.at, 0.0, None, ""
    state.waiting = ""
    for step_id, title in data.get("steps", {}).items():
        state.step(step_id).title = str(title)
    for name in data.get("hosts", ()):
        state.host(name)


def _run_ended(state: RunState, event: Event, data: Data) -> None:
    state.ended, state.exit, state.why = event.at, int(data["exit"]), str(data.get("why", ""))
    state.waiting = ""


def _step_started(state: RunState, event: Event, data: Data) -> None:
    step = state.step(event.step)
    step.title = str(data.get("title", step.title))
    step.status, step.why, step.started, step.ended = Status.RUNNING, "", event.at, 0.0
    step.findings, step.checks, step.gates, step.shares = {}, {}, {}, {}


def _finding(state: RunState, event: Event, data: Data) -> None:
    state.step(event.step).findings[(str(data["id"]), event.host)] = data
    if estate := data.get("estate"):
        state.found.setdefault(event.host, estate)


def _gate(state: RunState, event: Event, data: Data) -> None:
    state.step(event.step).gates[str(data["need"])] = data


def _planned(state: RunState, event: Event, data: Data) -> None:
    state.step(event.step).planned = data


def _approved(state: RunState, event: Event, data: Data) -> None:
    state.step(event.step).approved.update(data.get("actions", ()))


def _stage(state: RunState, event: Event, data: Data) -> None:
    state.step(event.step).stage = str(data["title"])


def _start(state: RunState, event: Event, data: Data) -> None:
    if state.mode not in RUNS:
        state.begun = {}  # only now: an undo that did nothing is no reason not to go on
        state.excluded.pop(event.host, None)  # the run it was left out of is over
    action = data["action"]
    step = state.step(event.step)
    before = step.actions.get(event.action)
    step.actions[event.action] = ActionState(
        id=event.action,
        step=event.step,
        host=event.host,
        title=str(action["title"]),
        job=str(data["job"]),
        status=Status.RUNNING,
        action=action,
        started=event.at,
        attempts=before.attempts + 1 if before else 1,
        earlier=_attempts(before),
    )
    _busy(state, event, str(action["title"]))
    if debt := action.get("opens"):
        # Entered before it is known whether it happened: better to repay what was not opened.
        state.debts[debt["id"]] = OpenDebt(
            debt["id"], event.step, event.host, debt["title"], debt["repay"], event.at
        )


def _attempts(before: ActionState | None) -> tuple[ActionState, ...]:
    """What an action's next attempt stands on; one that never started left nothing."""
    if before is None:
        return ()
    if before.status is Status.PENDING:
        return before.earlier
    return (replace(before, earlier=()), *before.earlier)


def _end(state: RunState, event: Event, data: Data) -> None:
    action = state.step(event.step).actions.get(event.action)
    if action is None or action.job != data.get("job"):
        return
    action.status = Status(data["status"])
    action.ended, action.exit = event.at, data.get("exit")
    action.note, action.run = str(data.get("note", "")), state.run
    action.evidence = str(data.get("evidence", ""))
    host = state.host(event.host)
    host.status, host.since = action.status, event.at
    host.error = "" if action.status is Status.OK else action.note
    if action.status is Status.OK and action.action.get("repays"):
        state.debts.pop(str(action.action["repays"]), None)
    # Of what only a person could take back there may be no more than their word.
    if action.status not in (Status.OK, Status.ATTESTED):
        return
    if undoes := action.action.get("undoes"):
        _take_back(state, state.step(event.step), str(undoes), event)


def _take_back(state: RunState, step: StepState, undoes: str, event: Event) -> None:
    """Both the action and the one that took it back are history now, and so is its approval."""
    step.approved = set()
    step.actions.pop(event.action, None)
    gone = step.actions.pop(undoes, None)
    if gone:
        if debt := gone.action.get("opens"):
            state.debts.pop(debt["id"], None)
        gone.status, gone.ended = Status.UNDONE, event.at
        state.undone.append(gone)
    state.host(event.host).status = Status.UNDONE


def _waived(state: RunState, event: Event, data: Data) -> None:
    state.waived[(str(data["id"]), event.host)] = str(data["reason"])


def _check(state: RunState, event: Event, data: Data) -> None:
    state.step(event.step).checks[str(data["id"])] = CheckState(
        str(data["id"]),
        str(data["title"]),
        data["ok"],
        str(data.get("observed", "")),
        str(data.get("remedy", "")),
        event.at,
        str(data.get("detail", "")),
        _cell(data),
    )


def _cell(data: Data) -> tuple[str, str]:
    row, column = data.get("cell") or ("", "")
    return str(row), str(column)


def _shares(state: RunState, event: Event, data: Data) -> None:
    state.step(event.step).shares[str(data["title"])] = data


def _debt_repaying(state: RunState, event: Event, data: Data) -> None:
    if debt := state.debts.get(str(data["id"])):
        state.debts[debt.id] = replace(debt, job=str(data["job"]))


def _debt_repaid(state: RunState, event: Event, data: Data) -> None:
    state.debts.pop(str(data["id"]), None)


def _excluded(state: RunState, event: Event, data: Data) -> None:
    state.excluded[event.host] = str(data.get("reason", ""))
    state.host(event.host).status = Status.EXCLUDED


def _included(state: RunState, event: Event, data: Data) -> None:
    state.excluded.pop(event.host, None)
    state.host(event.host).status = Status.PENDING


def _step_done(state: RunState, event: Event, data: Data) -> None:
    step = state.step(event.step)
    step.status, step.why, step.ended = Status(data["status"]), str(data.get("why", "")), event.at
    step.stage = ""
    with_ = (str(state.begun.get("inventory", "")), str(state.begun.get("runbook", "")))
    proved = step.status is Status.OK and not state.granted(step.id)
    step.proved_with = with_ if proved else ("", "")
    step.proved_without = tuple(state.excluded) if proved else ()


def _asked(state: RunState, event: Event, data: Data) -> None:
    state.waiting = str(data["title"])
    if event.step:
        state.step(event.step).status = Status.WAITING


def _answered(state: RunState, event: Event, data: Data) -> None:
    state.waiting = ""
    if event.step:
        state.step(event.step).status = Status.RUNNING


def _unreachable(state: RunState, event: Event, data: Data) -> None:
    host = state.host(event.host)
    host.status, host.error, host.since = Status.FAILED, str(data["error"]), event.at


def _reading(state: RunState, event: Event, data: Data) -> None:
    host = state.host(event.host)
    done = bool(data.get("done"))
    host.status = Status.OK if done else Status.RUNNING
    host.title, host.since = ("read" if done else "reading"), event.at
    if done:
        host.error = ""


def _output(state: RunState, event: Event, data: Data) -> None:
    state.host(event.host).line = str(data["line"])


def _busy(state: RunState, event: Event, title: str) -> None:
    host = state.host(event.host)
    host.status, host.step, host.title = Status.RUNNING, event.step, title
    host.since, host.line, host.error = event.at, "", ""


_HANDLERS = {
    "run_started": _run_started,
    "run_ended": _run_ended,
    "step_started": _step_started,
    "finding": _finding,
    "gate": _gate,
    "planned": _planned,
    "approved": _approved,
    "stage": _stage,
    "start": _start,
    "end": _end,
    "waived": _waived,
    "check": _check,
    "shares": _shares,
    "debt_repaying": _debt_repaying,
    "debt_repaid": _debt_repaid,
    "excluded": _excluded,
    "included": _included,
    "step_done": _step_done,
    "asked": _asked,
    "answered": _answered,
    "unreachable": _unreachable,
    "reading": _reading,
    "output": _output,
}
