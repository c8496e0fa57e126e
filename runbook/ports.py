"""What the engine needs of the world outside, as Protocols: hosts, name servers, a face.

`runbook.ssh` and `runbook.dns` are the real hosts and name servers, `runbook.plain` and
`runbook.tui` the real faces. The engine knows none of them, so a dry run is the same engine that
was handed no `Writers`: it cannot change a host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from runbook.model import (
    Answer,
    DnsChange,
    Event,
    Host,
    Query,
    Read,
    Reading,
    Runbook,
    SecretRef,
    Site,
)
from runbook.state import RunState


@dataclass(frozen=True, slots=True)
class Job:
    """A durable job: `script` runs once, as root, detached from the SSH session.

    `id` names its spool directory on the host (letters, digits, `.`, `_`, `-`); whoever creates
    that directory runs the script, everybody else attaches to it. `about` is stored beside it.
    """

    id: str
    script: str
    timeout: float  # seconds; then the job is ended on the host and counts as failed (exit 124)
    about: str = ""  # one line for a person who finds the spool


class JobState(Enum):
    ABSENT = "absent"  # never started here
    RUNNING = "running"
    DONE = "done"  # `exit` is the true exit status
    LOST = "lost"  # started, not running, no exit status: the host rebooted or it was killed


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a job stands."""

    state: JobState
    exit: int = -1
    tail: str = ""  # the last lines of its output, sanitized
    note: str = ""  # why it is LOST
    seconds: float = 0.0


class Reader(Protocol):
    """One host, read-only. Used by one thread at a time."""

    def read(self, reads: Sequence[Read], prelude: str = "") -> Mapping[str, Reading]:
        """All reads in one round trip. Unreachable, SudoRefused, TrustError, LinkLost."""
        ...


class Writer(Protocol):
    """One host, to be changed. Used by one thread at a time."""

    def run(self, job: Job, on_output: Callable[[str], None], stop: threading.Event) -> Outcome:
        """Start the job, or attach to the one of this id, and follow it to its end.

        Lines of output go to `on_output`. A link that breaks is dialled again for a while; when it
        stays down, LinkLost is raised and the job goes on. `stop` set: LinkLost at once, the job
        goes on.
        """
        ...

    def lend(self, job_id: str, secrets: Mapping[str, SecretRef]) -> None:
        """Put secrets where this job's script takes them from: never on a disk, never in argv."""
        ...

    def look(self, job_id: str) -> Outcome:
        """Where the job of this id stands; starts nothing."""
        ...

    def now(self, script: str, timeout: float = 30.0) -> Reading:
        """Run a short idempotent script as root and wait for it."""
        ...


class Readers(Protocol):
    def reader(self, host: Host) -> Reader: ...


class Writers(Protocol):
    def writer(self, host: Host) -> Writer: ...


class Names(Protocol):
    """Name servers."""

    def ask(self, queries: Iterable[Query]) -> Mapping[Query, Answer]: ...


class NamesWriter(Protocol):
    """Name servers that may be updated."""

    def apply(self, change: DnsChange) -> None: ...


# --- the face -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer a question offers."""

    key: str  # "approve", "retry", "skip", ...
    label: str
    needs_text: bool = False  # a reason is demanded
    needs_evidence: bool = False  # and several lines that show it


@dataclass(frozen=True, slots=True)
class Question:
    """What the engine wants to know of the operator."""

    kind: str  # approve | attest | changed | failure | findings | handover | human | secret | trust
    # | unknown
    title: str
    body: str
    choices: tuple[Choice, ...]
    step: str = ""
    host: str = ""
    risk: str = "change"
    confirm: str = ""  # text that must be typed for the first choice; empty: a yes is enough
    subject: Any = None  # the plan, finding or outcome it is about


@dataclass(frozen=True, slots=True)
class Reply:
    """The operator's answer: the choice's key and, where demanded, a text and evidence for it."""

    key: str
    text: str = ""
    evidence: str = ""


class Face(Protocol):
    """A reader of events that can be asked. Called from the engine's threads."""

    def show(self, event: Event) -> None: ...

    def ask(self, question: Question) -> Reply:
        """Blocks until the operator answers; Waiting when nobody can."""
        ...


class Mission(Protocol):
    """What a face is handed: one command of the operator's, ready to be run."""

    site: Site
    runbook: Runbook
    mode: str  # run | resume | dry-run | verify | undo | undo-dry-run | repay

    def past(self) -> RunState:
        """The state before this command: the fold of the journal as it is on disk."""
        ...

    def run(self, face: Face) -> int:
        """Do it, blocking, and answer the exit code; errors become events, then that code."""
        ...

    def stop(self) -> None:
        """Start nothing more and end; jobs already on the hosts go on. Callable from any thread."""
        ...

    def shell(self, host: str, start: Callable[[list[str]], int]) -> int:
        """An interactive ssh to the host, through the same jump hosts; answers its exit status.

        `start` runs the argument vector it is given and waits for its end. That there was a
        shell, from when to when, is journalled; what is typed there is not.
        """
        ...

    def include(self, host: str) -> None:
        """Take a host in again that was left out: at the end of this run, else by `--resume`."""
        ...

    def transcript(self, step: str, host: str) -> Path:
        """The file with what this host said in this step; may not exist yet."""
        ...
