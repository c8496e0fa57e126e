"""Problems of a file, each at its line and column, and reading files that may be anything."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal

MAX_PROBLEMS = 100  # spelled out
MAX_MET = 1_000
MAX_SOUGHT = 10


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file, counted from 1; line 0 is the file as a whole."""

    line: int = 0
    column: int = 0
    file: str = ""  # empty: the inventory itself


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at one place of a file, and what to do about it."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        label = "warning: " if self.severity == "warning" else ""
        return f"{place}: {label}{self.message}" + (f" ({self.hint})" if self.hint else "")


class TooMany(Exception):
    """So much is wrong with the file that it is read no further."""


Hint = str | Callable[[], str]  # a function, where it takes time to find one


class Problems:
    """Problems as they are found; after `MAX_PROBLEMS` only their number is kept.

    After `MAX_MET` it is `TooMany`: a file that is all wrong takes long to be found so. Hints that
    take time are sought for the first `MAX_SOUGHT`.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[Problem, None] = {}
        self._more = 0
        self._worst: Literal["error", "warning"] = "warning"  # of those
        self._met = 0  # the same one may be met often
        self._sought = 0  # hints

    def error(self, mark: Mark, message: str, hint: Hint = "") -> None:
        self._add(mark, message, hint, "error")

    def warning(self, mark: Mark, message: str, hint: Hint = "") -> None:
        self._add(mark, message, hint, "warning")

    def _add(
        self, mark: Mark, message: str, hint: Hint, severity: Literal["error", "warning"]
    ) -> None:
        self._met += 1
        if self._met > MAX_MET:
            raise TooMany
        if len(self._found) >= MAX_PROBLEMS:
            self._more += 1
            self._worst = "error" if severity == "error" else self._worst
            return
        file = mark.file or self.file
        if not isinstance(hint, str):
            self._sought += 1
            hint = hint() if self._sought <= MAX_SOUGHT else ""
        self._found[Problem(file, mark.line, mark.column, message, hint, severity)] = None

    def all(self) -> tuple[Problem, ...]:
        """All problems, in the order of the file; the last one counts those left off."""
        found = sorted(self._found, key=lambda p: (p.file != self.file, p.file, p.line, p.column))
        if self._met > MAX_MET:
            found.append(
                Problem(self.file, 0, 0, f"more than {MAX_MET:,} problems: read no further")
            )
        elif self._more:
            more = f"and {self._more} more problems"
            found.append(Problem(self.file, 0, 0, more, severity=self._worst))
        return tuple(found)


def shown(text: str, width: int = 48) -> str:
    """`text` in quotes, control characters escaped, cut to `width`."""
    return repr(text if len(text) <= width else text[: width - 3] + "...")


# --- files --------------------------------------------------------------------------------------


def open_file(path: Path | str) -> BufferedReader:
    """A regular file, open for reading; OSError for everything else."""
    # Not blocking: opening a FIFO would wait for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    raise OSError(errno.EINVAL, "it is not a regular file")


def read_file(path: Path, limit: int, mark: Mark, problems: Problems, advice: str) -> bytes | None:
    """The bytes of a regular file of at most `limit` bytes; otherwise a problem at `mark`."""
    name = shown(str(path), 200)
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(limit + 1)
    except FileNotFoundError:
        problems.error(mark, f"there is no file {name}", advice)
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.error(mark, f"cannot read {name}: {reason}", advice)
        return None
    if len(data) > limit:
        mib = max(size, len(data)) / (1 << 20)
        problems.error(
            mark, f"{name} has {mib:.1f} MiB; at most {limit >> 20} MiB are read", advice
        )
        return None
    return data


# What YAML 1.1 (section 5.1) does not allow in a file.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def decode(data: bytes, file: str, problems: Problems) -> str | None:
    """UTF-8 text without its byte order mark; otherwise a problem at the first bad character."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.error(Mark(1, 1, file), "the file is UTF-16", "save it as UTF-8")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head = data[: error.start].decode("utf-8", "replace")
        problems.error(_place(head, file), "the file is not UTF-8 text", "save it as UTF-8")
        return None
    if match := _UNPRINTABLE.search(text):
        problems.error(
            _place(text[: match.start()], file),
            f"the file holds the character {shown(match[0])}, so it is not text",
            "is this the right file?",
        )
        return None
    return text


def _place(head: str, file: str) -> Mark:
    return Mark(head.count("\n") + 1, len(head) - head.rfind("\n"), file)
