"""How what was started ended: by looking at its job, else by reading the hosts, else by asking.

Never by doing it again.
"""

from __future__ import annotations

from runbook.approval import Approval
from runbook.crew import ATTEST, Crew
from runbook.errors import OutcomeUnknown
from runbook.model import Runbook, Site, Status
from runbook.ports import Choice, Question, Reply
from runbook.recorder import Recorder
from runbook.scout import Scout
from runbook.state import ActionState


class Outcomes:
    """Finds out about actions whose end nobody has read."""

    def __init__(self, site: Site, runbook: Runbook, recorder: Recorder, crew: Crew) -> None:
        self._runbook = runbook
        self._rec = recorder
        self._crew = crew
        self._scout = Scout(site, runbook, recorder, crew)
        self._approval = Approval(site, recorder, self._scout, "")

    def find(
        self, state: ActionState, way_on: str = "pmrunbook --resume", *more: Choice
    ) -> Reply | None:
        """Settle how it ended; OutcomeUnknown where the operator quits, to go on by `way_on`.

        TrustError where the host's key is why nobody can look. A reply that is one of `more` is
        handed back: it is as unknown as it was.
        """
        while (status := self._crew.resolve(state)) in (Status.UNKNOWN, Status.RUNNING):
            # What is read beside a job that may be at work says nothing of its end.
            needed = self._needed(state) if status is Status.UNKNOWN else None
            if needed is False:
                self._crew.settle(state, Status.OK, note="found done by looking")
                return None
            if needed and state.action.get("undoes"):
                self._crew.settle(state, Status.PENDING, note="not taken back yet")
                return None
            reply = self._rec.ask(_question(state, needed, way_on, more))
            match reply.key:
                case "quit":
                    raise self._crew.distrusted(state.host) or OutcomeUnknown(
                        f"{state.title}: {state.note}",
                        host=state.host,
                        hint=f"look at the host, then: {way_on}",
                    )
                case "retry":
                    note = "to be done again, says the operator"
                    self._crew.settle(state, Status.PENDING, note=note)
                    return None
                case "attest":
                    self._crew.take_word(state, reply)
                    return None
                case "failed":
                    note = f"says the operator: {reply.text}"
                    self._crew.settle(state, Status.FAILED, note=note)
                    return None
                case key if key in {choice.key for choice in more}:
                    return reply
        return None

    def _needed(self, state: ActionState) -> bool | None:
        """Whether an action in the dark is still to be done; None: nobody can tell.

        One that takes another back is done when that other one is needed again.
        """
        known = {step.id: step for step in self._runbook.steps}
        if state.step not in known:
            return None
        step = known[state.step]
        self._scout.refresh(step, self._scout.hosts())
        if undoes := state.action.get("undoes"):
            again = self._approval.needed(step, str(undoes), state.host)
            return None if again is None else not again
        return self._approval.needed(step, state.id, state.host)


def _question(
    state: ActionState, needed: bool | None, way_on: str, more: tuple[Choice, ...]
) -> Question:
    told = {True: "The host, read again, still needs it.", None: "The hosts do not tell."}
    choices = (
        Choice("check", "Look again"),
        *((Choice("retry", "It may be done again"),) if needed else ()),
        Choice("failed", "Count it as failed; says why", needs_text=True),
        Choice("attest", ATTEST, needs_text=True, needs_evidence=True),
        *((Choice("shell", f"Shell on {state.host}"),) if state.host else ()),
        *more,
        Choice("quit", f"Quit; {way_on} goes on"),
    )
    return Question(
        "unknown",
        f"{state.host}: {state.title}",
        f"It was started; {state.note or 'nobody can tell how it ended'}. {told.get(needed, '')}",
        choices,
        step=state.step,
        host=state.host,
        subject=state,
    )
