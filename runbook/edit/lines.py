"""Files as lines of bytes: what is not edited stays, whatever its encoding and line ends."""

from __future__ import annotations

import re

BOM = b"\xef\xbb\xbf"


class EditError(ValueError):
    """A file cannot be edited safely: the *reason*, and the *line* (from 1) that is to blame."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line


def decode(data: bytes) -> str:
    """Text of any bytes; `encode` gives the same bytes back."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes that `decode` read; EditError for a text that no bytes give."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise EditError(f"{text!r} cannot be written as UTF-8") from None


def split(data: bytes) -> list[bytes]:
    """The lines with their ends; only a line feed ends a line, as Puppet reads it."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def end_of(line: bytes) -> bytes:
    """How the line ends: CR LF, LF, or nothing at the end of a file."""
    return next((end for end in (b"\r\n", b"\n") if line.endswith(end)), b"")


def insert(lines: list[bytes], index: int, *bodies: bytes) -> list[bytes]:
    """The lines with *bodies* before `lines[index]`, ended as their neighbours are.

    A missing final newline stays missing.
    """
    above, below = lines[:index], lines[index:]
    ends = map(end_of, [*reversed(above), *below])
    end = next(filter(None, ends), b"\n")
    new = [body + end for body in bodies]
    if above and not end_of(above[-1]):
        above[-1] += end
        new[-1] = bodies[-1]
    return above + new + below


def remove(lines: list[bytes], gone: set[int]) -> list[bytes]:
    """The lines without those at the *gone* indexes; a missing final newline stays missing."""
    kept = [line for index, line in enumerate(lines) if index not in gone]
    if kept and not end_of(lines[-1]):
        kept[-1] = kept[-1].removesuffix(end_of(kept[-1]))
    return kept
