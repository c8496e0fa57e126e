"""Where the engine's threads hand over events and questions, and the screen picks them up."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from runbook.errors import Interrupted
from runbook.model import Event
from runbook.ports import Question, Reply


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A question whose asker is blocked until `reply` is set."""

    question: Question
    reply: Future[Reply] = field(default_factory=Future, repr=False)


class Feed:
    """The `Face` the engine sees; `drain` and `questions` are the screen's side of it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._events: deque[Event] = deque()
        self._lines: dict[str, Event] = {}  # the last output of each host: no more is shown
        self.questions: deque[Pending] = deque()
        self._closed = False

    def show(self, event: Event) -> None:
        with self._guard:
            if event.kind == "output":
                self._lines[event.host] = event
                return
            if event.kind == "start":
                self._lines.pop(event.host, None)  # it belongs to the action before
            self._events.append(event)

    def ask(self, question: Question) -> Reply:
        """Block until the operator answers; Interrupted when there is nobody left to ask."""
        pending = Pending(question)
        with self._guard:
            if self._closed:
                raise _gone()
            self.questions.append(pending)
        return pending.reply.result()

    def drain(self) -> list[Event]:
        """Everything shown since the last call, in order; of each host's output the last line."""
        with self._guard:
            events, self._events = self._events, deque()
            lines, self._lines = self._lines, {}
        return [*events, *lines.values()]

    def close(self) -> None:
        """Release whoever is blocked in `ask`, now and from now on, with Interrupted."""
        with self._guard:
            self._closed = True
            left = [p for p in self.questions if not p.reply.done()]
        for pending in left:
            pending.reply.set_exception(_gone())

    def answer(self, pending: Pending, reply: Reply) -> None:
        """Give the reply; a question that was released meanwhile stays released."""
        with self._guard:
            if pending in self.questions:
                self.questions.remove(pending)
        if not pending.reply.done():
            pending.reply.set_result(reply)


def _gone() -> Interrupted:
    return Interrupted("the operator left", hint="pmrunbook --resume")
