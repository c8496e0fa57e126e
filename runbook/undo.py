"""Taking a step back: a plan like any other, made from the journal instead of from facts.

Every recorded action becomes one that undoes it, last stage first; it is shown, approved, run as a
durable job and journalled like every other action, so a broken undo is resumed the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby

from runbook import edit, shell
from runbook.crew import Crew, Failure
from runbook.errors import Interrupted, RunbookError, StateRefuses, UsageError
from runbook.model import (
    Action,
    DnsChange,
    Human,
    Nothing,
    Risk,
    Rollout,
    Runbook,
    Script,
    Site,
    Stage,
    Status,
    Step,
    as_read,
)
from runbook.outcomes import Outcomes
from runbook.plan import Plan, StagePlan, batches
from runbook.ports import Choice, Question
from runbook.recorder import Recorder
from runbook.state import RUNS, ActionState, RunState
from runbook.symbols import count

PREFIX = "undo:"
DONE = (Status.OK, Status.ATTESTED, Status.UNKNOWN, Status.RUNNING)  # or may be
WAYS_BACK = ("Restore", "Compensate")


def stage_of(action: str) -> str:
    """The stage an action belongs to: the first part of its id."""
    return action.removeprefix(PREFIX).split("/", 1)[0]


def undo_plan(step: Step, state: RunState) -> Plan:
    """What taking `step` back would do; StateRefuses past an action that cannot be undone."""
    done = sorted(
        (a for a in state.step(step.id).actions.values() if not a.id.startswith(PREFIX)),
        key=lambda a: (a.first.started, a.id),
        reverse=True,
    )
    for past in done:
        undo = past.action["undo"]
        if undo["kind"] == "Irreversible" and past.status in DONE:
            raise StateRefuses(
                f"{past.title} cannot be undone: {undo['reason']}",
                host=past.host,
                hint="what came before it stays as it is; pmrunbook log shows it",
            )
    stages = []
    for name, group in groupby(done, key=lambda a: stage_of(a.id)):
        actions = tuple(_reverse(a, state, force=False) for a in group)
        stages.append(StagePlan(Stage(name, f"take back {name}", _nothing), actions, ()))
    return Plan(step, tuple(stages))


def _leave(host: str) -> Choice:
    return Choice("exclude", f"Leave {host} as it is, shown", needs_text=True)


def _nothing(*_: object) -> tuple[()]:
    return ()


def _reverse(past: ActionState, state: RunState, *, force: bool) -> Action:
    do = _opposite(past, force=force)
    idle = do == Script(shell.IDLE)
    return Action(
        id=PREFIX + past.id,
        host=past.host,
        title=f"{'left as it is' if idle else 'take back'}: {past.title}",
        do=do,
        undo=Nothing(str(past.action["undo"].get("stays", ""))),
        risk=Risk.CHANGE,  # the way back stays open, whatever the way there asked for
        outage=_outage(past, state),
        undoes=past.id,
        turn=str(past.action.get("turn", "")),
        # The oldest attempt knows what was there before all of them.
        diff="" if idle else edit.reverse(str(past.first.action.get("diff", ""))),
    )


def _outage(past: ActionState, state: RunState) -> float:
    """The way back costs what the way there did; nothing where there is none, or where what it
    opened was closed long ago."""
    opened = past.action.get("opens")
    stands = past.action["undo"]["kind"] in WAYS_BACK and (
        not opened or opened["id"] in state.debts
    )
    return float(past.action["outage"]) if stands else 0.0


def _opposite(past: ActionState, *, force: bool) -> Script | DnsChange | Human:
    do, back = past.action["do"], past.first.action["undo"]
    if back["kind"] == "Human":
        return Human(back["instruction"], as_read(back["done"]))
    if do["kind"] == "DnsChange":
        return DnsChange(
            server=do["server"],
            zone=do["zone"],
            name=do["name"],
            rtype=do["rtype"],
            ttl=int(past.first.action["do"]["before_ttl"] or do["ttl"]),
            records=tuple(past.first.action["do"]["before"]),
            before=tuple(do["records"]),
            before_ttl=int(do["ttl"]),
            keep=bool(do.get("keep")),
        )
    # Attempt after attempt, the newest first: the oldest one knows what was there before all of
    # them. What was done in the same way several times is taken back once. Nothing to undo, or
    # irreversible and failed: it still leaves the state, it is not done.
    ways = [
        shell.undo(a.action["do"], a.action["undo"], a.job, force=force)
        for a in (past, *past.earlier)
        if a.action["undo"]["kind"] in WAYS_BACK
    ]
    scripts = tuple(dict.fromkeys(script for script in ways if script))
    if len(scripts) == 1:
        return Script(scripts[0])
    return Script("".join(f"(\n{script}\n) || exit\n" for script in scripts) or shell.IDLE)


class Undo:
    """Takes steps back, with the operator's approval."""

    def __init__(
        self, site: Site, runbook: Runbook, recorder: Recorder, crew: Crew, operator: str
    ) -> None:
        self._site = site
        self._runbook = runbook
        self._rec = recorder
        self._crew = crew
        self._operator = operator
        self._outcomes = Outcomes(site, runbook, recorder, crew)
        self._left: set[str] = set()  # hosts that stay as they are

    def down_to(self, step_id: str, *, dry: bool = False) -> int:
        """Take back all that was done in `step_id` and after it, the last step first.

        How many actions are not taken back, as of `run`.
        StateRefuses before anything is touched where something on that way cannot be undone.
        """
        first = self._runbook.steps.index(self._step(step_id))
        steps = [
            step
            for step in reversed(self._runbook.steps[first:])
            if step.id == step_id or self._rec.state.step(step.id).actions
        ]
        for number, step in enumerate(steps):
            if not dry:
                self._resolve(step)
            try:
                undo_plan(step, self._rec.state)
            except StateRefuses as error:
                after = f"pmrunbook undo --to {steps[number - 1].id} goes as far as possible"
                raise StateRefuses(
                    f"step {step.id} stays: {error.what}",
                    host=error.host,
                    hint=after if number else error.hint,
                ) from error
        return sum(
            self.run(step.id, dry=dry, gone=[s.id for s in steps[:number]] if dry else ())
            for number, step in enumerate(steps)
        )

    def run(self, step_id: str, *, dry: bool = False, gone: Collection[str] = ()) -> int:
        """Take `step_id` back; how many actions are not, on hosts that stay as they are.

        StateRefuses where a later step stands on it that is not `gone`.
        """
        step = self._step(step_id)
        self._refuse_if_needed(step, gone)
        self._rec.emit("step_started", step.id, title=f"take back: {step.title}")
        if not dry:
            self._resolve(step)
        plan = undo_plan(step, self._rec.state)
        self._rec.emit("planned", step.id, **plan.summary())
        if dry:
            self._rec.emit("step_done", step.id, status=Status.SKIPPED.value, why="dry run")
            return 0
        if plan.actions:
            self._approve(plan)
        for stage in plan.stages:
            self._rec.emit("stage", step.id, title=stage.stage.title, id=stage.stage.id)
            for group in self._groups(step, stage):
                due = [a for a in stage.on(group) if not {a.host, a.lane} & set(self._out)]
                for failure in self._crew.perform(step.id, due):
                    self._settle(step, failure)
        left = sum(not id_.startswith(PREFIX) for id_ in self._rec.state.step(step.id).actions)
        if left:
            status, why = Status.FAILED, f"{count(left, 'action')} not taken back"
        else:
            status, why = Status.UNDONE, "" if plan.actions else "nothing to take back"
        self._rec.emit("step_done", step.id, status=status.value, why=why)
        return left

    def _groups(self, step: Step, plan: StagePlan) -> tuple[tuple[str, ...], ...]:
        """As few hosts at a time as on the way there: others serve meanwhile."""
        stage = next((s for s in step.stages if s.id == plan.stage.id), plan.stage)
        if not stage.rollout:
            return (plan.lanes,)
        batch = 1 if stage.singly else self._site.rollout.batch
        return tuple(batches(plan.lanes, Rollout(canary=0, batch=batch)))

    @property
    def _out(self) -> Collection[str]:
        """Hosts not to go to; what a run left out counts only for an undo that is part of it."""
        return self._rec.state.excluded if self._rec.state.mode in RUNS else self._left

    def _step(self, step_id: str) -> Step:
        try:
            return self._runbook.step(step_id)
        except KeyError:
            known = ", ".join(s.id for s in self._runbook.steps)
            raise UsageError(f"there is no step {step_id}", hint=f"steps: {known}") from None

    def _resolve(self, step: Step) -> None:
        """How what was started ended, before any of it is taken back."""
        for state in self._rec.state.unknown():
            if state.step == step.id and state.host not in self._out:
                self._find(state)

    def _find(self, state: ActionState) -> None:
        runs = self._rec.state.mode in RUNS
        way_on = "pmrunbook --resume" if runs else f"pmrunbook undo {state.step}"
        if reply := self._outcomes.find(state, way_on, _leave(state.host)):
            self._exclude(state.host, reply.text)

    def _exclude(self, host: str, reason: str) -> None:
        self._left.add(host)
        self._rec.emit("excluded", "", host, reason=reason)

    def _refuse_if_needed(self, step: Step, gone: Collection[str]) -> None:
        for other in (s for s in self._runbook.steps if s.id not in gone):
            if step.id in other.needs and self._rec.state.step(other.id).actions:
                raise StateRefuses(
                    f"step {other.id} stands on {step.id}",
                    hint=f"pmrunbook undo {other.id}; or both: pmrunbook undo --to {step.id}",
                )

    def _approve(self, plan: Plan) -> None:
        reply = self._rec.ask(
            Question(
                "approve",
                f"Take back {plan.step.title.lower()}: {count(len(plan.actions), 'action')}",
                "",
                (
                    Choice("approve", "Do exactly this"),
                    Choice("quit", "Quit; nothing is taken back"),
                ),
                step=plan.step.id,
                risk=plan.risk.value,
                subject=plan,
            )
        )
        if reply.key != "approve":
            raise Interrupted("not approved; nothing was taken back", hint="pmrunbook status")
        self._rec.emit(
            "approved",
            plan.step.id,
            digest=plan.digest,
            actions=[],
            by=self._operator,
            how=reply.text or "typed",
        )

    def _settle(self, step: Step, failure: Failure) -> None:
        """Somebody changed the file since, or the host failed: the operator decides."""
        current = self._known(step, [failure])
        while current:
            choices = (
                Choice("retry", "Try again"),
                Choice("force", "Put back what was there before, over what is there now"),
                Choice("shell", f"Shell on {current.host}"),
                _leave(current.lane),
                Choice("quit", "Quit; pmrunbook undo goes on"),
            )
            reply = self._rec.ask(
                Question(
                    "failure",
                    f"{current.host}: {current.action.title if current.action else 'undo'}",
                    current.note,
                    choices,
                    step=step.id,
                    host=current.host,
                    subject=current.action,
                )
            )
            if reply.key == "quit" or current.action is None:
                if current.cause and current.distrust:
                    raise current.cause
                raise RunbookError(
                    current.note, host=current.host, hint=f"pmrunbook undo {step.id}"
                )
            if reply.key == "exclude":
                self._exclude(current.lane, reply.text)
                return
            again = self._actions_from(step, current.action, force=reply.key == "force")
            current = self._known(step, self._crew.perform(step.id, again))

    def _known(self, step: Step, failures: Sequence[Failure]) -> Failure | None:
        """What of one host's work failed for certain: a job that may be at work is not repeated."""
        while failures and (action := failures[0].action) and failures[0].status is Status.UNKNOWN:
            state = self._rec.state.step(step.id).actions[action.id]
            self._find(state)
            if {action.host, action.lane} & set(self._out):
                return None
            if state.status not in (Status.OK, Status.ATTESTED):
                return replace(failures[0], status=Status.FAILED, note=state.note, cause=None)
            behind = self._actions_from(step, action, force=False)
            failures = self._crew.perform(step.id, behind)
        return failures[0] if failures else None

    def _actions_from(self, step: Step, failed: Action, *, force: bool) -> Sequence[Action]:
        """The undo that failed and those of the same lane and stage that waited behind it."""
        left = sorted(
            (
                a
                for a in self._rec.state.step(step.id).actions.values()
                if (a.action.get("turn") or a.host) == failed.lane
                and stage_of(a.id) == stage_of(failed.id)
                and not a.id.startswith(PREFIX)
            ),
            key=lambda a: (a.first.started, a.id),
            reverse=True,
        )
        state = self._rec.state
        return [_reverse(a, state, force=force and a.id == failed.undoes) for a in left]
