"""Doing exactly what was approved: stage by stage, canary first, on facts read right before.

After a failure the operator decides per host; a retry looks first and does only what is still
needed, and the stages that take temporary permissions back run in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from runbook import plan as planning
from runbook.approval import Approval, SkipStep
from runbook.crew import ATTEST, Crew, Failure
from runbook.errors import OutcomeUnknown, RunbookError
from runbook.model import Action, Later, Site, Stage, Status, Step
from runbook.plan import StagePlan
from runbook.ports import Choice, Question, Reply
from runbook.recorder import Recorder
from runbook.scout import QUIT, Scout

_OF_A_HOST = ("shell", "exclude")


class UndoStep(Exception):
    """The operator wants this step taken back."""


class Doing:
    """Carries out the stages of a step."""

    def __init__(
        self,
        site: Site,
        recorder: Recorder,
        crew: Crew,
        scout: Scout,
        approval: Approval,
        lock_lost: Callable[[], bool],
    ) -> None:
        self._site = site
        self._rec = recorder
        self._crew = crew
        self._scout = scout
        self._approval = approval
        self._lock_lost = lock_lost

    def step(self, step: Step) -> None:
        """All stages of the step, or the error that ended it."""
        ran: set[str] = set()
        try:
            for stage in step.stages:
                ran.add(stage.id)
                self._stage(step, stage)
        except Exception:
            self._take_back(step, ran)
            raise

    def _take_back(self, step: Step, ran: Collection[str]) -> None:
        """After a failure: the stages that close what earlier ones opened, and nothing else."""
        if self._rec.state.unknown() or self._lock_lost():
            return  # a job, or somebody else, may be at work there; --resume comes back to it
        approved = self._rec.state.step(step.id).approved
        for stage in (s for s in step.stages if s.always and s.id not in ran):
            self._crew.stop.clear()
            try:
                self._scout.refresh(step)
                debts = self._rec.state.debts
                known = self._approval.stage(step, stage).actions
                actions = [a for a in known if not a.repays or a.repays in debts]
                due = [a for a in actions if a.digest() in approved]
                for action in (a for a in actions if a not in due):
                    text = f"NOT taken back, it was not approved: {action.title}"
                    self._rec.say(text, "error", step.id, action.host)
                for failure in self._crew.perform(step.id, due):
                    self._rec.say(f"{stage.title}: {failure.note}", "error", step.id, failure.host)
            except RunbookError as error:
                self._rec.say(f"{stage.title}: {error}", "error", step.id)

    def _stage(self, step: Step, stage: Stage) -> None:
        just = frozenset(self._crew.touched)
        if just:
            self._scout.refresh(step)
        asked = self._rec.asked
        prior = self._known(step, stage)
        if not prior.actions:
            return
        self._rec.emit("stage", step.id, title=stage.title, id=stage.id)
        self._approval.ahead(step, prior)
        lanes = prior.lanes
        whole = planning.make_stage(stage, self._site, self._scout.facts)
        everybody = {*whole.lanes, *(later.host for later in whole.later)}
        rollout = self._site.rollout
        if stage.singly:
            rollout = replace(rollout, canary=1, batch=1)
        groups = tuple(planning.batches(lanes, rollout)) if stage.rollout else (lanes,)
        failed: set[str] = set()
        for number, group in enumerate(groups):
            # Nobody was asked since: that reading is the one right before.
            read = just if not number and self._rec.asked == asked else frozenset[str]()
            failures = self._group(step, stage, group, everybody, read)
            # What is not trusted comes first: a run that ends here ends with that.
            for failure in sorted(failures, key=lambda f: not f.distrust):
                if failure.lane in self._rec.state.excluded:
                    continue
                failed.add(failure.lane)
                known = failure.status is Status.FAILED and self._scout.may_exclude(failure.lane)
                known = known and not failure.distrust
                if known and number and len(failed) <= rollout.max_failures:
                    self._scout.exclude(failure.lane, f"failed: {failure.note}"[:300])
                else:
                    self._mend(step, stage, failure)

    def _known(self, step: Step, stage: Stage) -> StagePlan:
        """The stage's plan with nothing left to `Later`: the stages it waited for ran."""
        plan = self._approval.stage(step, stage)
        while plan.later:
            # What an earlier stage did elsewhere may show here: a request made on one host
            # appears on the CA, which was not touched itself.
            self._scout.refresh(step, {later.host for later in plan.later if later.host})
            plan = self._approval.stage(step, stage)
            if plan.later:
                self._wait_for(step, plan.later[0])
        return plan

    def _wait_for(self, step: Step, later: Later) -> None:
        question = question_of(step, Failure(later.host, Status.FAILED, f"not known: {later.what}"))
        choices = tuple(c for c in question.choices if c.key not in ("retry", "exclude"))
        body = f"It should be known after {later.after}."
        match self._rec.ask(replace(question, body=body, choices=choices)):
            case Reply("quit"):
                raise RunbookError(f"not known: {later.what}", host=later.host)
            case Reply("skip", text):
                raise SkipStep(text)
            case Reply("undo"):
                raise UndoStep

    def _group(
        self,
        step: Step,
        stage: Stage,
        group: Collection[str],
        everybody: Collection[str],
        read: Collection[str],
    ) -> list[Failure]:
        """One batch: read, plan, do, check. A host that fell silent has failed, not finished."""
        plan = self._fresh(step, stage, group, read)
        failures = [
            Failure(host, Status.FAILED, trouble.what, cause=trouble)
            for host in group
            if (trouble := self._crew.troubles.get(host))
        ]
        failures += [
            Failure(later.host, Status.FAILED, f"not known: {later.what}")
            for later in plan.later
            if later.host in group and later.host not in {f.host for f in failures}
        ]
        failures += self._crew.perform(step.id, plan.on(group))
        bad = {f.lane for f in failures}
        return failures + self._judge(step, stage, group, bad, everybody)

    def _fresh(
        self, step: Step, stage: Stage, group: Collection[str], read: Collection[str] = ()
    ) -> StagePlan:
        """The stage's plan on facts read after the last question, all of it approved.

        `read` are the hosts that were read just now.
        """
        while True:
            self._scout.refresh(step, set(group) - set(read))
            read = ()
            plan = self._approval.stage(step, stage)
            plan = replace(plan, actions=plan.on(group))
            if not self._approval.require(step, plan):
                return plan

    def _judge(
        self,
        step: Step,
        stage: Stage,
        group: Collection[str],
        bad: Collection[str] = (),
        everybody: Collection[str] | None = None,
    ) -> list[Failure]:
        """The stage's checks for the hosts just changed; one not passed is its host's failure.

        A check that looks only at hosts the stage does not change (the CA) gates every batch.
        """
        checks = []
        for check in self._scout.checks(stage.checks):
            hosts = {host for host, _ in check.reads}
            elsewhere = everybody is not None and hosts.isdisjoint(everybody)
            if hosts & set(group) - set(bad) or (elsewhere and not bad):
                checks.append(check)
        verdicts = self._crew.check(step.id, checks, self._scout.facts)
        result = []
        for check in checks:
            verdict = verdicts[check.id]
            if verdict.ok is not True:
                host = next((h for h, _ in check.reads if h in group), "")
                more = f" ({verdict.remedy})" if verdict.remedy else ""
                note = f"{check.title}: {verdict.observed}{more}"
                cause = self._crew.distrusted(*(h for h, _ in check.reads))
                result.append(Failure(host, Status.FAILED, note, cause=cause))
        return result

    # --- after a failure --------------------------------------------------------------------------

    def _mend(self, step: Step, stage: Stage, failure: Failure) -> None:
        """Ask what to do about a failure, until it is one no more."""
        current: Failure | None = failure
        while current:
            question = question_of(step, current)
            if not self._scout.may_exclude(current.lane):
                choices = tuple(c for c in question.choices if c.key != "exclude")
                question = replace(question, choices=choices)
            reply = self._rec.ask(question)
            match reply.key:
                case "quit":
                    raise _reason(current)
                case "exclude":
                    self._scout.exclude(current.lane, reply.text or current.note[:300])
                    return
                case "skip":
                    raise SkipStep(reply.text)
                case "undo":
                    raise UndoStep
                case "done":
                    current = self._by_hand(step, stage, current)
                    continue
            current = self._again(step, stage, current, reply)

    def _by_hand(self, step: Step, stage: Stage, failure: Failure) -> Failure | None:
        """Somebody did it on the host: looking decides; where it cannot, an attestation does."""
        action = failure.action
        current = self._again(step, stage, failure, Reply("check"))
        if action is None or current is None or current.action is not action:
            return current
        if self._crew.there(action):
            if state := self._rec.state.step(step.id).actions.get(action.id):
                self._crew.settle(state, Status.OK, note="found done by its own probe")
        else:
            needed = self._approval.needed(step, action.id, action.host)
            reply = self._rec.ask(_attestation(step, action, needed))
            if reply.key != "attest":
                return current
            self._crew.attest(step.id, action, reply)
        return self._again(step, stage, failure, Reply("retry"))

    def _again(self, step: Step, stage: Stage, failure: Failure, reply: Reply) -> Failure | None:
        """Look first; then, where the answer was to retry, do what is still needed."""
        actions = self._rec.state.step(step.id).actions
        state = actions.get(failure.action.id) if failure.action else None
        if state and state.status in (Status.UNKNOWN, Status.RUNNING):
            self._crew.resolve(state)
        hosts = {failure.host, failure.lane} - {""}
        self._scout.refresh(step, hosts)
        if silent := sorted(hosts & self._crew.troubles.keys()):
            trouble = self._crew.troubles[silent[0]]
            return Failure(silent[0], Status.FAILED, trouble.what, failure.action, trouble)
        if failure.status is Status.UNKNOWN:
            failure = replace(failure, cause=None)  # why it could not be looked at; now it can
        if state and state.status not in (Status.OK, Status.ATTESTED):
            needed = self._approval.needed(step, state.id, state.host)
            if needed is None or (needed and reply.key != "retry"):
                return failure
            if not needed:
                self._crew.settle(state, Status.OK, note="found done by looking")
        left = self._approval.stage(step, stage).on({failure.lane})
        if left and reply.key != "retry":
            # What was wrong with an action still is; that the host was silent is not.
            todo = f"to do: {'; '.join(action.title for action in left)}"
            return failure if failure.action else Failure(failure.host, Status.FAILED, todo)
        if left:
            left = self._fresh(step, stage, {failure.lane}).actions
            if failures := self._crew.perform(step.id, left):
                return failures[0]
        return next(iter(self._judge(step, stage, {failure.lane})), None)


def question_of(step: Step, failure: Failure) -> Question:
    """What to do about a failure."""
    what, note = failure.note, ""
    if failure.action:
        what, note = failure.action.title, failure.note
    choices = (
        Choice("check", "Look again"),
        Choice("retry", "Look, and do it again where it is still needed"),
        Choice("done", "It was done by hand: look, and go on"),
        Choice("shell", f"Shell on {failure.host}"),
        Choice("exclude", f"Leave {failure.lane} out, shown to the end", needs_text=True),
        Choice("skip", "Skip the step; says why", needs_text=True),
        Choice("undo", f"Take back what {step.id} did"),
        QUIT,
    )
    missing = {
        "" if step.skippable else "skip",
        "" if failure.action else "done",
        *(() if failure.host else _OF_A_HOST),
    }
    hint = failure.cause.hint if failure.cause else ""
    return Question(
        "unknown" if failure.status is Status.UNKNOWN else "failure",
        f"{failure.host}: {what}" if failure.host else what,
        "\n".join(x for x in (note, failure.tail, hint) if x),
        tuple(c for c in choices if c.key not in missing),
        step=step.id,
        host=failure.host,
        subject=failure.action,
    )


def _attestation(step: Step, action: Action, needed: bool | None) -> Question:
    said = "The host, read again, still needs it." if needed else "The hosts do not tell."
    return Question(
        "attest",
        f"{action.host}: {action.title}",
        f"{said} It may count as attested: shown so to the end, and never as verified.",
        (
            Choice("back", "It is not done: back"),
            Choice("attest", ATTEST, needs_text=True, needs_evidence=True),
            Choice("shell", f"Shell on {action.host}"),
        ),
        step=step.id,
        host=action.host,
        subject=action,
    )


def _reason(failure: Failure) -> RunbookError:
    """The error a failure ends the run with."""
    if failure.cause and failure.distrust:
        return failure.cause  # what became of the action is found out once the host is trusted
    if failure.status is Status.UNKNOWN:
        return OutcomeUnknown(failure.note, host=failure.host, hint="pmrunbook --resume looks")
    if failure.cause:
        return failure.cause
    return RunbookError(failure.note, host=failure.host, hint="pmrunbook --resume")
