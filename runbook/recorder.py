"""One place where events are born: journalled first, then folded, written down and shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from runbook.journal import Journal
from runbook.model import Event
from runbook.ports import Face, Question, Reply
from runbook.state import LIVE, RunState, fold
from runbook.transcripts import Transcripts

AHEAD = ("start", "debt_repaying")
"""What the site has to know of before it happens there: whoever goes on must not do it twice."""


class Copy(Protocol):
    """The journal's copy on the site."""

    def wake(self) -> None: ...

    def keep(self) -> bool: ...


class Recorder:
    """Turns what happens into events; safe to use from every host's thread."""

    def __init__(
        self,
        face: Face,
        journal: Journal | None = None,
        transcripts: Transcripts | None = None,
        past: Iterable[Event] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.state: RunState = fold(past)
        self._face = face
        self._journal = journal
        self._transcripts = transcripts
        self._clock = clock
        self.copy: Copy | None = None  # while this process may write it
        self.face_lost: Callable[[], None] = lambda: None
        self.asked = 0  # questions so far
        self._deaf = False
        self._guard = threading.Lock()
        self._asking = threading.Lock()

    def emit(
        self, kind: str, step: str = "", host: str = "", action: str = "", /, **data: Any
    ) -> None:
        """Record one event; StateRefuses when it cannot be written down."""
        event = Event(kind, self._clock(), step, host, action, data)
        with self._guard:
            # The disk first: what the operator sees is what a resume would find.
            if self._journal and kind not in LIVE:
                self._journal.append(event)
            self.state.apply(event)
        if self.copy and kind in AHEAD:
            self.copy.keep()
        elif self.copy and kind == "end":
            self.copy.wake()
        if self._transcripts and host and kind in ("output", "start", "end"):
            self._write_down(event)
        self._show(event)

    def _show(self, event: Event) -> None:
        """A face that is gone (its terminal was closed) must not take the work down with it."""
        if self._deaf:
            return
        try:
            self._face.show(event)
        except Exception:  # noqa: BLE001  # whatever it was, there is nobody to tell
            self._deaf = True
            self.face_lost()

    def say(self, text: str, level: str = "info", step: str = "", host: str = "") -> None:
        """A sentence for the operator; not part of the state."""
        self.emit("message", step, host, text=text, level=level)

    def ask(self, question: Question) -> Reply:
        """One question at a time, whichever thread asks; Waiting when nobody can answer."""
        with self._asking:
            self.asked += 1
            at = (question.step, question.host)
            self.emit("asked", *at, question=question.kind, title=question.title)
            reply = self._face.ask(question)
            text = "" if question.kind == "secret" else reply.text
            self.emit("answered", *at, question=question.kind, key=reply.key, text=text)
            return reply

    def _write_down(self, event: Event) -> None:
        assert self._transcripts is not None  # noqa: S101  # narrowed by the caller
        stamp = time.strftime("%H:%M:%S", time.gmtime(event.at))
        match event.kind:
            case "output":
                text = f"{stamp}   {event.data['line']}"
            case "start":
                text = f"{stamp} > {event.data['action']['title']}"
            case _:
                text = f"{stamp} < {event.data['status']} (exit {event.data.get('exit')})"
        self._transcripts.write(event.step or "run", event.host, text)
