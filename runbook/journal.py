"""The journal: append-only JSON lines, each fsynced and chained to the one before by SHA-256.

A torn last line (the program or the machine died while writing it) is tolerated and cut off at
the next append; a record that was edited, removed or moved breaks the chain and is reported with
its line number, never passed over. How far the journal goes is written beside it after each record
that is on the disk, so that records missing from its end are noticed, too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    return state_home() / "sites" / file_name(site)


def private_folder(path: Path) -> Path:
    """`path` as a folder of our own, mode 0700; StateRefuses where it is not, or cannot be.

    So is all above it that is below the state home; what had to be made elsewhere is private, too.
    """
    ours = [folder for folder in path.parents if folder.is_relative_to(state_home())]
    with usable(path):
        for folder in (*reversed(ours), path):  # nothing is made behind a link of somebody else's
            _make(folder)
            _close(folder)
    return path


def _make(path: Path) -> None:
    """As `mkdir(parents=True)`, which makes the parents for everybody."""
    if not path.parent.exists():
        _make(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)


def _close(folder: Path) -> None:
    """Mode 0700; StateRefuses where others may have had a hand in what is there."""
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise StateRefuses(f"{folder} is not a folder of ours", hint=f"look at it: ls -ld {folder}")
    if info.st_mode & 0o022:
        raise StateRefuses(
            f"{folder} can be written to by others: what is in it need not be ours",
            hint=f"look at it: ls -la {folder}; if all of it is yours: chmod 0700 {folder}",
        )
    if info.st_mode & 0o077:
        folder.chmod(0o700)


def open_own(path: str | Path, flags: int) -> int:
    """An `opener` for files of our own, 0600 where made; StateRefuses where one leads elsewhere."""
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise StateRefuses(
            f"{path} is a symbolic link, not a file of ours", hint=f"look at it: ls -l {path}"
        ) from error


def file_name(host: str) -> str:
    """A name for a file about a host: no path, never hidden."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", host).lstrip(".") or "_"


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
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


@dataclass(frozen=True, slots=True)
class Head:
    """How far a journal goes: its last record, and the bytes up to the end of that."""

    seq: int = 0
    digest: str = GENESIS
    size: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a journal as it claims to be; `sound` where its hash fits what it says."""

    seq: int
    digest: str
    event: Event
    sound: bool


def parse(line: bytes, previous: str) -> Line | None:
    """A line that follows the record with the hash `previous`; None for what is no record."""
    try:
        text = line.decode("ascii")
        record = json.loads(text)["record"]
        body = text[text.index('"record":') + len('"record":') : -2]
        event = Event(
            str(record["kind"]),
            float(record["at"]),
            record.get("step", ""),
            record.get("host", ""),
            record.get("action", ""),
            record.get("data", {}),
        )
        sound = text.startswith(f'{{"hash":"{_hash(body, previous)}",')
        return Line(int(record["seq"]), text[9:73], event, sound)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def head_file(path: Path) -> Path:
    """Where it is written how far the journal at `path` goes."""
    return path.with_suffix(".head")


def written_head(path: Path) -> tuple[int, str]:
    """The last record known to be on the disk: its number and hash; 0 where nothing is known."""
    try:
        with open(head_file(path), opener=open_own) as handle:
            seq, digest = handle.read().split()
        return int(seq), digest
    except (OSError, ValueError):
        return 0, GENESIS


def digests(path: Path) -> list[str]:
    """The hash every record of a sound journal says it has."""
    with path.open("rb") as handle:
        return [line[9:73].decode("ascii") for line in handle if line.endswith(b"\n")]


def _afresh(path: Path) -> str:
    return (
        "pmrunbook verify journal names every record; "
        f"to start afresh: mv {path} {path}.broken; rm -f {head_file(path)}"
    )


def lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Every line of a journal with its number and the bytes before it; none where there is none."""
    nothing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    with nothing, open(path, "rb", opener=open_own) as handle:
        offset = 0
        for number, line in enumerate(handle, 1):
            yield number, offset, line
            offset += len(line)


def read(path: Path) -> tuple[list[Event], str, Tear | None]:
    """The events of a journal, the hash of its last record, and its torn tail if it has one.

    StateRefuses, naming the line, where the chain is broken, or records are gone from its end.
    """
    events: list[Event] = []
    previous, tear = GENESIS, None
    seq, digest = written_head(path)  # before the journal: whoever writes may be at it
    fits = seq == 0
    for number, offset, line in lines(path):
        if not line.endswith(b"\n"):
            tear = Tear(number, offset)
            break
        record = parse(line, previous)
        if record is None or not record.sound or record.seq != len(events) + 1:
            raise StateRefuses(
                f"the journal is broken at {path}:{number}: a record was changed, removed or moved",
                hint=_afresh(path),
            )
        previous = record.digest
        events.append(record.event)
        fits = fits or (record.seq, record.digest) == (seq, digest)
    if not fits:
        gone = len(events) < seq
        raise StateRefuses(
            f"the journal {path} ends with record {len(events)}, and record {seq} was on the disk"
            if gone
            else f"the journal {path} was written anew: its record {seq} is another",
            hint=_afresh(path),
        )
    return events, previous, tear


class Journal:
    """The journal of one site, open for appending by this process alone."""

    def __init__(self, folder: Path) -> None:
        """Open it; Locked when another process of this machine has it, StateRefuses if broken."""
        self.folder = private_folder(folder)
        self.path = self.folder / "journal.jsonl"
        with usable(self.path):
            self._fd = open_own(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise Locked(
                f"another pmrunbook on {socket.gethostname()} works on this site",
                hint="wait for it, or look: pmrunbook status",
            ) from None
        try:
            self.events, self._previous, tear = read(self.path)
            with usable(head_file(self.path)):
                self._head_fd = open_own(head_file(self.path), os.O_WRONLY | os.O_CREAT)
        except BaseException:
            os.close(self._fd)
            raise
        if tear:
            os.ftruncate(self._fd, tear.offset)
            os.fsync(self._fd)
        self._seq = len(self.events)
        self._size = os.fstat(self._fd).st_size
        self._keep_head()
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
            if event.kind not in LAZY:
                self._keep_head()

    @property
    def head(self) -> Head:
        """How far it goes now."""
        with self._guard:
            return Head(self._seq, self._previous, self._size)

    def since(self, size: int) -> bytes:
        """The records behind the first `size` bytes."""
        end = self.head.size
        return os.pread(self._fd, end - size, size)

    def adopt(self, data: bytes) -> None:
        """Go on with records that were written elsewhere; StateRefuses where they do not follow."""
        events: list[Event] = []
        previous = self._previous
        for line in data.splitlines(keepends=True):
            record = parse(line, previous) if line.endswith(b"\n") else None
            number = self._seq + len(events) + 1
            if record is None or not record.sound or record.seq != number:
                raise StateRefuses(
                    f"record {number} of the journal kept on the site does not follow the one "
                    "before it",
                    hint="pmrunbook verify journal",
                )
            previous = record.digest
            events.append(record.event)
        with self._guard, usable(self.path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            os.fsync(self._fd)
            self._seq, self._previous = self._seq + len(events), previous
            self._size += len(data)
            self.events += events
            self._keep_head()

    def set_aside(self) -> Path:
        """Keep what it holds in another file beside it, and begin with nothing."""
        kept = self.path.with_suffix(f".{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl")
        with self._guard, usable(self.path):
            shutil.copyfile(self.path, kept)
            kept.chmod(0o600)
            os.ftruncate(self._fd, 0)
            self._seq, self._previous, self._size, self.events = 0, GENESIS, 0, []
            self._keep_head()
        return kept

    def _keep_head(self) -> None:
        """Only ever after the record is on the disk: so it is never ahead of it."""
        text = f"{self._seq:010} {self._previous}\n"  # always as long: one block, written at once
        with contextlib.suppress(OSError):  # a full disk: it stays behind, which is no harm
            os.pwrite(self._head_fd, text.encode(), 0)

    def _give_up(self, error: OSError) -> None:
        """Nothing may follow a record of which it is not known whether it is on the disk."""
        self._broken = self._broken or str(error)
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
            self._keep_head()
        os.close(self._fd)
        os.close(self._head_fd)
