"""Plans and their approval: an operator approves actions by digest, and only those are done."""

from __future__ import annotations

from runbook import plan as planning
from runbook.errors import Interrupted
from runbook.model import Site, Stage, Step
from runbook.plan import Plan, StagePlan
from runbook.ports import Choice, Question
from runbook.recorder import Recorder
from runbook.scout import QUIT, Scout
from runbook.symbols import count, verdict


class SkipStep(Exception):
    """The operator skips this step; the text is the reason."""


class Approval:
    """Makes plans from the scout's facts and asks for what was not approved yet."""

    def __init__(
        self,
        site: Site,
        recorder: Recorder,
        scout: Scout,
        operator: str,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self._site = site
        self._rec = recorder
        self._scout = scout
        self._operator = operator
        self._hosts = hosts

    def plan(self, step: Step) -> Plan:
        """What the step would do on what is known now."""
        out, granted = self._rec.state.excluded, self._rec.state.granted(step.id)
        facts = self._scout.facts
        return planning.make(
            step, self._site, facts, hosts=self._hosts, without=out, granted=granted
        )

    def stage(self, step: Step, stage: Stage) -> StagePlan:
        """What one stage would do on what is known now."""
        out, granted = self._rec.state.excluded, self._rec.state.granted(step.id)
        facts = self._scout.facts
        return planning.make_stage(
            stage, self._site, facts, hosts=self._hosts, without=out, granted=granted
        )

    def needed(self, step: Step, action: str, host: str) -> bool | None:
        """Whether what was read says that this action is still to be done; None: nobody can tell.

        Told from the whole plan: what is left out or not asked for now may well be needed.
        """
        facts = self._scout.facts
        if host and (host not in self._site or not facts.reachable(host)):
            return None
        plan = planning.make(step, self._site, facts)
        if action in {a.id for a in plan.actions}:
            return True
        stages = [s for s in plan.stages if s.stage.id == action.split("/", 1)[0]]
        if later := [x for s in stages for x in s.later if x.host in ("", host)]:
            # What it was built on is gone, and is to be made again: then so is this.
            anew = {s.stage.id for s in plan.stages if s.actions}
            return True if all(x.after in anew for x in later) else None
        return False if stages else None

    def left(self, step: Step) -> int:
        """How many actions the step has yet, on all hosts but those left out."""
        out, granted = self._rec.state.excluded, self._rec.state.granted(step.id)
        facts = self._scout.facts
        return len(planning.make(step, self._site, facts, without=out, granted=granted).actions)

    def show(self, plan: Plan) -> None:
        approved = self._rec.state.step(plan.step.id).approved
        self._rec.emit("planned", plan.step.id, new=list(plan.new(approved)), **plan.summary())

    def ask(self, plan: Plan) -> None:
        """Have every action of the plan approved; SkipStep or Interrupted when it is not."""
        step = plan.step
        approved = self._rec.state.step(step.id).approved
        if not plan.unapproved(approved):
            return  # what is only known later is asked about when it is
        while True:
            reply = self._rec.ask(self._question(plan, again=bool(approved)))
            if reply.key == "approve":
                break
            if reply.key == "skip":
                raise SkipStep(reply.text)
            if reply.key == "quit":
                raise Interrupted(
                    "not approved; nothing of this plan was done", hint="pmrunbook --resume"
                )
            self._scout.refresh(step, self._scout.hosts())
            plan = self.plan(step)
            self.show(plan)
        self._rec.emit(
            "approved",
            step.id,
            digest=plan.digest,
            actions=[a.digest() for a in plan.actions],
            by=self._operator,
            how=reply.text or "typed",
        )

    def ahead(self, step: Step, stage: StagePlan) -> None:
        """Once something of a stage has to be asked: all that is known of the step by now, at once.

        So an operator is not asked batch by batch, and stage by stage only where it must be.
        """
        approved = self._rec.state.step(step.id).approved
        if Plan(step, (stage,)).unapproved(approved):
            plan = self.plan(step)
            self.show(plan)
            self.ask(plan)

    def require(self, step: Step, stage: StagePlan) -> bool:
        """The same for what became known only now; false where nothing had to be asked."""
        plan = Plan(step, (stage,))
        if not plan.unapproved(self._rec.state.step(step.id).approved):
            return False
        self.show(plan)
        self.ask(plan)
        return True

    def _question(self, plan: Plan, *, again: bool) -> Question:
        step = plan.step
        choices = [Choice("approve", "Do exactly this"), Choice("again", "Look again")]
        if step.skippable:
            choices.append(Choice("skip", "Skip this step; says why", needs_text=True))
        destructive = [a.host for a in plan.actions if a.risk.value == "destructive"]
        confirm = {
            "destructive": next(iter(destructive), ""),
            "cut-over": self._site.server,
        }.get(plan.risk.value, "")
        actions, hosts = count(len(plan.actions), "action"), count(len(plan.hosts), "host")
        new = plan.new(self._rec.state.step(step.id).approved)
        why = f"New since it was approved, and marked so: {len(new)} of {actions}. "
        why += "It is known only now, or a host changed."
        held = self._held(step) if step.fresh else ""
        body = "\n\n".join(x for x in (why if again else "", held) if x)
        return Question(
            "changed" if again else "approve",
            f"{step.title}: {actions} on {hosts}",
            body,
            (*choices, QUIT),
            step=step.id,
            risk=plan.risk.value,
            confirm=confirm,
            subject=plan,
        )

    def _held(self, step: Step) -> str:
        """What an operator should know before agents are moved: the gates, and the way back."""
        lines = []
        for gate in self._rec.state.step(step.id).gates.values():
            mark = verdict(True if gate["ok"] else None)
            why = f"; waived: {gate['waived']}" if gate["waived"] else ""
            lines.append(f"{mark.symbol} {gate['title']}: {gate['said']}{why}")
        lines.append(
            "Once approved, agents are moved, the canary first. Stop at any point: it goes on with "
            f"--resume, and back with: pmrunbook undo {step.id}"
        )
        return "\n".join(lines)
