"""The journal: append-only JSON lines, each fsynced and chained to the one before by SHA-256.

A torn last line (the program or the machine died while writing it) is tolerated and cut off at
the next append; a record that was edited, removed or moved breaks the chain and is reported with
its line number, never passed over.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runbook.errors import Locked, StateRefuses
from runbook.model import Event

GENESIS = "0" * 64
LAZY = frozenset({"finding"})
"""Nothing is done on the strength of one of these: they reach the disk with the next record."""


def state_home() -> Path:
    """$XDG_STATE_HOME/pmrunbook, by default ~/.local/state/pmrunbook."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "pmrunbook"


def site_folder(site: str) -> Path:
    """Where the journal and the transcripts of the site called `site` are kept."""
    return state_home() / "sites" / re.sub(r"[^A-Za-z0-9._-]", "_", site).lstrip(".")


def private_folder(path: Path) -> Path:
    """`path` as a folder of our own, mode 0700; StateRefuses where it is not, or cannot be."""
    with _usable(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
            raise StateRefuses(f"{path} is not a folder of ours", hint=f"look at it: ls -ld {path}")
        if info.st_mode & 0o077:
            path.chmod(0o700)
    return path


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    """What the system says of a place where nothing can be kept, as StateRefuses."""
    try:
        yield
    except OSError as error:
        raise StateRefuses(
            f"cannot write down what is done: {path}: {error.strerror}",
            hint="put that right, or write it elsewhere: XDG_STATE_HOME=FOLDER pmrunbook ...",
        ) from error


def _hash(body: str, previous: str) -> str:
    return hashlib.sha256((previous + body).encode()).hexdigest()


def _encode(seq: int, event: Event, previous: str) -> tuple[bytes, str]:
    record: dict[str, Any] = {"seq": seq, "at": event.at, "kind": event.kind}
    for name in ("step", "host", "action"):
        if value := getattr(event, name):
            record[name] = value
    if event.data:
        record["data"] = dict(event.data)
    body = json.dumps(record, ensure_ascii=True, separators=(",", ":"))
    digest = _hash(body, previous)
    return f'{{"hash":"{digest}","record":{body}}}\n'.encode(), digest


@dataclass(frozen=True, slots=True)
class Tear:
    """A last line that was cut off while it was written."""

    line: int
    offset: int  # bytes; where the sound part ends


def _records(handle: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    for number, line in enumerate(handle, 1):
        yield number, offset, line
        offset += len(line)


def read(path: Path) -> tuple[list[Event], str, Tear | None]:
    """The events of a journal, the hash of its last record, and its torn tail if it has one.

    StateRefuses, naming the line, where the chain is broken.
    """
    events: list[Event] = []
    previous = GENESIS
    if not path.exists():
        return events, previous, None
    with path.open("rb") as handle:
        for number, offset, line in _records(handle):
            if not line.endswith(b"\n"):
                return events, previous, Tear(number, offset)
            try:
                text = line.decode("ascii")
                record = json.loads(text)["record"]
                body = text[text.index('"record":') + len('"record":') : -2]
                sound = text.startswith(f'{{"hash":"{_hash(body, previous)}",')
            except (ValueError, KeyError, TypeError):
                record, sound = {}, False
            if not sound or record.get("seq") != len(events) + 1:
                raise StateRefuses(
                    f"the journal is broken at {path}:{number}: "
                    "a record was changed, removed or moved",
                    hint=f"look at the file; to start afresh: mv {path} {path}.broken",
                )
            previous = text[9:73]
            events.append(
                Event(
                    record["kind"],
                    record["at"],
                    record.get("step", ""),
                    record.get("host", ""),
                    record.get("action", ""),
                    record.get("data", {}),
                )
            )
    return events, previous, None


class Journal:
    """The journal of one site, open for appending by this process alone."""

    def __init__(self, folder: Path) -> None:
        """Open it; Locked when another process of this machine has it, StateRefuses if broken."""
        self.folder = private_folder(folder)
        self.path = self.folder / "journal.jsonl"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with _usable(self.path):
            self._fd = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise Locked(
                f"another pmrunbook on {socket.gethostname()} works on this site",
                hint="wait for it, or look: pmrunbook status",
            ) from None
        self.events, self._previous, tear = read(self.path)
        if tear:
            os.ftruncate(self._fd, tear.offset)
            os.fsync(self._fd)
        self._seq = len(self.events)
        self._size = os.fstat(self._fd).st_size
        self._broken = ""  # why nothing more may be written
        self._guard = threading.Lock()

    def append(self, event: Event) -> None:
        """Write one event, and wait until it and all before it are on the disk."""
        with self._guard:
            line, digest = _encode(self._seq + 1, event, self._previous)
            try:
                if self._broken:
                    raise OSError(self._broken)
                if os.write(self._fd, line) != len(line):
                    raise OSError("no space left on it")
                if event.kind not in LAZY:
                    os.fsync(self._fd)
            except OSError as error:
                self._give_up(error)
                raise StateRefuses(
                    f"cannot write the journal {self.path}: {error}",
                    hint="free some space there; then: pmrunbook --resume",
                ) from error
            self._seq += 1
            self._size += len(line)
            self._previous = digest

    def _give_up(self, error: OSError) -> None:
        """Nothing may follow a record of which it is not known whether it is on the disk."""
        self._broken = self._broken or str(error)
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)

    def close(self) -> None:
        os.close(self._fd)


class Transcripts:
    """What every host said, one file a run, step and host, 0600."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[tuple[str, str], IO[str]] = {}
        self._guard = threading.Lock()

    def path(self, step: str, host: str) -> Path:
        name = re.sub(r"[^A-Za-z0-9._-]", "_", host).lstrip(".") or "_"
        return self.folder / step / f"{name}.log"

    def write(self, step: str, host: str, text: str) -> None:
        """Append one line; flushed at the end of each action, not at each line."""
        path = self.path(step, host)
        with self._guard, _usable(path):
            handle = self._open.get((step, host))
            if handle is None:
                private_folder(self.folder)
                private_folder(path.parent)
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
                handle = self._open[(step, host)] = os.fdopen(fd, "a", encoding="utf-8")
            handle.write(text + "\n")

    def flush(self) -> None:
        with self._guard, _usable(self.folder):
            for handle in self._open.values():
                handle.flush()

    def close(self) -> None:
        with self._guard:
            for handle in self._open.values():
                with contextlib.suppress(OSError):  # a full disk: said where it was written to
                    handle.close()
            self._open.clear()
