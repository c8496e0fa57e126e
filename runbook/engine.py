"""The engine: read, plan, ask, read again, do exactly what was approved, verify.

It emits events and asks questions; it knows no face, no ssh and no Puppet. A dry run is this same
engine over a crew without writers.
"""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from runbook import gates
from runbook.approval import Approval, SkipStep
from runbook.crew import Crew, Failure, Stopped
from runbook.doing import Doing, UndoStep, question_of
from runbook.errors import (
    Interrupted,
    OutcomeUnknown,
    RunbookError,
    StateRefuses,
    TrustError,
    UsageError,
    Waiting,
)
from runbook.model import Check, Runbook, Site, Status, Step, Verdict
from runbook.outcomes import Outcomes
from runbook.plan import Plan
from runbook.recorder import Recorder
from runbook.scout import Scout
from runbook.state import ActionState
from runbook.symbols import count


class Lock(Protocol):
    """The site's lock; `take` raises Locked. Once it is `lost` nothing more may be changed.

    Whoever made it gives it back, after the end of the run was written down.
    """

    @property
    def lost(self) -> bool: ...

    def take(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What of the runbook is asked for."""

    mode: str = "run"  # "run" | "resume" | "dry-run" | "verify"
    steps: tuple[str, ...] = ()  # empty: all
    hosts: tuple[str, ...] = ()  # empty: all
    operator: str = ""
    topic: str = ""  # verify: only the checks of this name
    attested: tuple[ActionState, ...] = ()  # verify: what earlier runs took somebody's word for


def new_run() -> str:
    """An id for a run: when it began and what nobody else's id has."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


class Engine:
    """One run of a runbook on a site."""

    def __init__(
        self,
        site: Site,
        runbook: Runbook,
        recorder: Recorder,
        crew: Crew,
        options: Options,
        lock: Lock | None = None,
        undo: Callable[[str], int] | None = None,
    ) -> None:
        self._site = site
        self._runbook = runbook
        self._rec = recorder
        self._crew = crew
        self._mode = options.mode
        self._lock = lock
        self._undo = undo
        self._locked = False
        self._topic = options.topic
        self._attested = options.attested
        self._options = options
        self._due = about(runbook, options.topic) or self._open()
        self._scout = Scout(site, runbook, recorder, crew)
        self._approval = Approval(site, recorder, self._scout, options.operator, options.hosts)
        self._outcomes = Outcomes(site, runbook, recorder, crew)
        self._limited = bool(options.hosts)
        self._acted = False  # whether a step of this run set out to change anything
        self._back: list[str] = []  # hosts to be taken in again
        self._hindrance: RunbookError | None = None  # the worst a dry run met
        self._doing = Doing(
            site, recorder, crew, self._scout, self._approval, lambda: bool(lock and lock.lost)
        )

    def _open(self) -> tuple[Step, ...]:
        """The steps that are due, but for what a step asked for needs and was proved lately.

        With another inventory or runbook nothing counts as proved; once a step is gone through
        again, so are those after it. What the inventory waives as a gate is not gone through.
        """
        options = self._options
        steps = due(self._runbook, options.steps)
        if options.mode not in ("run", "resume") or not options.steps:
            return steps
        asked = [step for step in steps if step.id in options.steps]
        seconds = min(gates.limit(self._site, step) for step in asked)
        if all(step.fresh for step in asked):
            now = time.time()
            steps = tuple(s for s in steps if s in asked or not gates.waived(self._site, s.id, now))
        now_with = (self._site.digest, self._runbook.digest)
        for number, step in enumerate(steps):
            state = self._rec.state
            proved = gates.fresh(state, step.id, now_with, seconds, time.time())
            if step.id in options.steps or not proved:
                return steps[number:]
            known = state.step(step.id)
            at = time.strftime("%H:%M", time.localtime(known.ended))
            text = f"{step.title}: {gates.proved(known)} at {at}; pmrunbook verify asks again"
            self._rec.say(text, step=step.id)
        return steps

    def run(self) -> None:
        """Every step that is due, in order; returns when all are done, raises otherwise."""
        try:
            if self._mode == "resume" or self._rec.state.debts:
                # The run that broke off left its lock: ours to hold, and to give back in the end.
                # What is temporary, whoever opened it, has to be repaid.
                self._take_lock()
            self._clear_unknown()
            self._scout.begin(self._due)
            for step in self._due:
                self._step(step)
            while self._taken_in():
                # Once more through all of it, and through what was proved without them: what is
                # done is found done.
                self._due = self._open()
                self._scout.begin(self._due)
                for step in self._due:
                    self._step(step)
            if self._hindrance:
                raise self._hindrance
        finally:
            self._taken_in()
            self._leave()

    def take_in(self, host: str) -> None:
        """Go to a host that was left out, once all others are done. From any thread."""
        self._back.append(host)

    def _taken_in(self) -> bool:
        back, self._back = self._back, []
        hosts = [host for host in dict.fromkeys(back) if host in self._rec.state.excluded]
        for host in hosts:
            self._rec.emit("included", "", host, by=self._rec.state.operator)
        return bool(hosts)

    # --- one step ---------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        self._rec.emit("step_started", step.id, title=step.title)
        try:
            if self._mode == "dry-run":
                self._preview(step)
                return
            status, why = self._carry_out(step)
        except SkipStep as skip:
            self._done(step, Status.SKIPPED, str(skip))
        except UndoStep:
            self._done(step, Status.FAILED, "to be taken back")
            left = self._undo(step.id) if self._undo else 0
            if left:
                what = f"{count(left, 'action')} of step {step.id} not taken back"
                raise RunbookError(what, hint=f"pmrunbook undo {step.id}") from None
            raise RunbookError(f"step {step.id} was taken back", hint="pmrunbook") from None
        except RunbookError as error:
            self._done(step, _AFTER.get(type(error), Status.FAILED), str(error))
            raise
        else:
            self._done(step, status, why)

    def _preview(self, step: Step) -> None:
        """The same reads, findings and plan as a real run, and then nothing."""
        silent, blockers = self._scout.silent(step), self._scout.find(step)
        self._gates(step)
        plan = self._approval.plan(step)
        self._approval.show(plan)
        left = [
            *([f"{count(len(silent), 'host')} cannot be read"] if silent else []),
            *([f"{count(len(blockers), 'finding')} to clear"] if blockers else []),
        ]
        if blockers and not self._hindrance:
            self._hindrance = RunbookError("findings have to be cleared first")
        for trouble in (self._crew.troubles.get(host) for host in silent):
            if trouble and not isinstance(self._hindrance, TrustError):
                self._hindrance = trouble
        self._done(step, Status.BLOCKED if left else Status.PENDING, "; ".join(left) or plan.gist)

    def _carry_out(self, step: Step) -> tuple[Status, str]:
        self._need(step)
        if self._acted:
            # What an earlier step changed may show on hosts it never touched: a name, a port.
            self._scout.refresh(step, self._scout.hosts())
        self._scout.reach(step)
        self._scout.clear_blockers(step)
        plan = self._do(step)
        if self._crew.touched:
            self._scout.refresh(step)
        if self._limited and (left := self._approval.left(step)):
            # Its proof is about all hosts: it stands when they are done.
            return Status.PENDING, f"{count(left, 'action')} left on hosts not asked for"
        self._prove(step)
        if word := len(self._rec.state.granted(step.id)):
            return Status.OK, f"{count(word, 'action')} attested, not verified"
        return Status.OK, "nothing to do" if plan.empty else ""

    def _do(self, step: Step) -> Plan:
        """What is needed by what was read: planned, shown, approved and done."""
        plan = self._approval.plan(step)
        self._approval.show(plan)
        if not plan.empty:
            self._take_lock()
            self._approval.ask(plan)
            self._acted = True
            self._doing.step(step)
        return plan

    def _done(self, step: Step, status: Status, why: str = "") -> None:
        self._rec.emit("step_done", step.id, status=status.value, why=why)

    def _gates(self, step: Step) -> tuple[gates.Gate, ...]:
        """What a held step waits for, shown with its age."""
        found = gates.gates(self._runbook, self._site, step, self._rec.state)
        for gate in found:
            self._rec.emit("gate", step.id, **gates.data(gate))
        return found

    def _need(self, step: Step) -> None:
        if step.fresh:
            for gate in self._gates(step):
                if not gate.open:
                    raise StateRefuses(
                        f"{gate.title}: {gate.said}",
                        hint=f"pmrunbook --step {gate.need} proves it; or a waiver of "
                        f"gate-{gate.need} in the inventory, with a reason and an end",
                    )
            return
        for need in step.needs:
            status = self._rec.state.step(need).status
            if status is not Status.OK:
                raise StateRefuses(
                    f"step {step.id} needs step {need}, which is {status.value}",
                    hint=f"pmrunbook --step {need}",
                )

    # --- proof ------------------------------------------------------------------------------------

    def _prove(self, step: Step) -> None:
        """The step's checks on fresh facts; what does not pass is the operator's to decide."""
        while True:
            if self._crew.touched:
                self._scout.refresh(step)
            # A host that the change itself cut off must not vanish from the proof.
            self._scout.reach(step)
            checks = self._scout.checks(step.checks)
            verdicts = self._crew.check(step.id, checks, self._scout.facts)
            bad = [c for c in checks if verdicts[c.id].ok is not True]
            if not bad:
                return
            hosts = list(dict.fromkeys(h for c in bad for h, _ in c.reads))
            host = next(iter(hosts), "")
            said = f"{len(bad)} of {count(len(checks), 'check')} did not pass"
            question = question_of(step, Failure(host, Status.FAILED, said))
            may = len(hosts) == 1 and self._scout.may_exclude(host)
            reply = self._rec.ask(
                replace(
                    question,
                    title=said,
                    body="\n".join(_not_passed(c, verdicts[c.id]) for c in bad),
                    choices=tuple(c for c in question.choices if may or c.key != "exclude"),
                )
            )
            match reply.key:
                case "quit":
                    first = verdicts[bad[0].id]
                    distrust = self._crew.distrusted(*hosts)
                    failed = RunbookError(f"{bad[0].title}: {first.observed}", hint=first.remedy)
                    raise distrust or failed
                case "undo":
                    raise UndoStep
                case "skip":
                    raise SkipStep(reply.text)
                case "exclude":
                    self._scout.exclude(host, reply.text or "its checks did not pass")
            self._scout.refresh(step, self._scout.hosts())
            if reply.key == "retry":
                self._do(step)

    def verify(self) -> bool:
        """Ask every check again and plan again: true when all holds and nothing is left to do.

        Once all of it is told, TrustError for a host whose key is why something could not be.
        """
        self._scout.begin(self._due)
        if self._topic:
            held = [self._on(self._due[0])]
        else:
            held = [self._verified(step) for step in self._due]
        if distrust := self._crew.distrusted(*self._crew.troubles):
            raise distrust
        return all(held)

    def _on(self, step: Step) -> bool:
        """Ask the checks of one topic."""
        self._rec.emit("step_started", step.id, title=step.title)
        silent = self._scout.silent(step)
        checks = self._scout.checks(step.topics[self._topic])
        verdicts = self._crew.check(step.id, checks, self._scout.facts)
        failed = [v for v in verdicts.values() if v.ok is not True]
        why = [
            *([f"{count(len(silent), 'host')} cannot be read"] if silent else []),
            *([f"{count(len(failed), 'check')} not passed"] if failed else []),
            *([] if checks else ["there is nothing to check"]),
        ]
        self._done(step, Status.FAILED if why else Status.OK, "; ".join(why))
        return not why

    def _verified(self, step: Step) -> bool:
        self._rec.emit("step_started", step.id, title=step.title)
        silent, blockers = self._scout.silent(step), self._scout.find(step)
        verdicts = self._crew.check(step.id, self._scout.checks(step.checks), self._scout.facts)
        failed = sum(v.ok is not True for v in verdicts.values())
        if not failed and not self._approval.plan(step).empty:
            # What the first read did not find yet may be what a patient check waited for.
            self._scout.refresh(step, set(self._scout.hosts()) - set(silent))
        word = self._still_attested(step)
        plan = self._approval.plan(step)
        left = [a for a in plan.actions if a.id not in word]
        empty = not left and not plan.later
        self._rec.emit(
            "check",
            step.id,
            id=f"{step.id}/nothing-left",
            title=f"nothing is left to do: {step.title.lower()}",
            # A host that was not read may have anything left to do.
            ok=None if empty and silent else empty,
            observed="; ".join([a.title for a in left][:3])
            or (f"not read: {', '.join(silent)}" if silent else ""),
            remedy="" if empty else f"pmrunbook --step {step.id}",
        )
        why = [
            text
            for bad, text in (
                (silent, f"{count(len(silent), 'host')} cannot be read"),
                (blockers, f"{count(len(blockers), 'finding')} to clear"),
                (failed, f"{count(failed, 'check')} not passed"),
                (not empty, f"{count(len(left), 'action')} left to do"),
                (word, f"{count(len(word), 'action')} attested, not verified"),
            )
            if bad
        ]
        self._done(step, Status.FAILED if why else Status.OK, "; ".join(why))
        return not why

    def _still_attested(self, step: Step) -> list[str]:
        """The ids of what only somebody's word says is done; what shows by now is verified."""
        word = []
        for state in (a for a in self._attested if a.step == step.id):
            needed = self._approval.needed(step, state.id, state.host)
            if needed is not False:
                word.append(state.id)
            told = {True: "; the host still needs it", None: "; the host does not tell"}
            self._rec.emit(
                "check",
                step.id,
                id=f"{step.id}/attested/{state.id}",
                title=f"{state.host}: {state.title}",
                ok=None if needed is not False else True,
                observed=f"{state.note}{told.get(needed, '; found done')}",
                remedy="" if needed is False else f"pmrunbook --step {step.id}",
            )
        return word

    # --- beginning and ending ---------------------------------------------------------------------

    def _take_lock(self) -> None:
        if self._lock and not self._locked:
            self._lock.take()
            self._locked = True

    def _leave(self) -> None:
        """Repay what can be repaid, however the run ended."""
        if self._locked:
            self._locked = False
            self._repay()

    def _repay(self) -> None:
        if self._lock and self._lock.lost:
            self._rec.say("the lock is somebody else's: nothing more is changed", "error")
            return
        dark = {action.host for action in self._rec.state.unknown()}
        for debt in tuple(self._rec.state.debts.values()):
            if debt.host in dark:
                text = f"still open: {debt.title}; pmrunbook --resume repays it"
                self._rec.say(text, "warning", debt.step, debt.host)
                continue
            self._crew.stop.clear()
            self._crew.repay(debt)

    def _clear_unknown(self) -> None:
        """Before anything else: how did what was started end? By looking, never by repeating."""
        if self._mode == "dry-run":
            return
        for state in self._rec.state.unknown():
            self._take_lock()
            self._outcomes.find(state)
        for state in self._rec.state.asked_for():
            self._crew.prove(state)


_AFTER = {
    OutcomeUnknown: Status.UNKNOWN,
    Interrupted: Status.PENDING,
    Stopped: Status.PENDING,
    Waiting: Status.WAITING,
}


def due(runbook: Runbook, asked: tuple[str, ...]) -> tuple[Step, ...]:
    """The steps asked for (none: all) and what they need, in order; UsageError for others."""
    known = {step.id: step for step in runbook.steps}
    wanted: set[str] = set()
    left = list(asked or known)
    while left:
        name = left.pop()
        if name not in known:
            raise UsageError(f"there is no step {name}", hint=f"steps: {', '.join(known)}")
        if name not in wanted:
            wanted.add(name)
            left.extend(known[name].needs)
    return tuple(step for step in runbook.steps if step.id in wanted)


def about(runbook: Runbook, topic: str) -> tuple[Step, ...]:
    """The step that knows this topic; none for none, UsageError for one that nobody knows."""
    known = {name: step for step in runbook.steps for name in step.topics}
    if topic and topic not in known:
        hint = f"topics: {', '.join((*known, 'journal'))}; pmrunbook verify asks everything"
        raise UsageError(f"there is nothing called {topic} to verify", hint=hint)
    return (known[topic],) if topic else ()


def _not_passed(check: Check, verdict: Verdict) -> str:
    text = f"{check.title}: {verdict.observed}"
    return f"{text}\n  {verdict.remedy}" if verdict.remedy else text
