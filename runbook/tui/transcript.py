"""A growing text file, read in windows: what is in memory does not grow with the file."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

BLOCK = 256
"""Every so many lines the place in the file is remembered."""

GULP = 4 << 20
"""Bytes looked at in one `poll`; what is left comes with the next."""

LONGEST = 2_000
"""Characters of a line that are kept; a longer line is cut and says so."""

KEPT = 24
"""Blocks of lines kept in memory."""


class Transcript:
    """One host's output in one step; the file may not exist yet, may grow, may be replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.count = 0  # whole lines seen so far
        self._size = 0
        self._inode = 0
        self._marks = array("q", [0])  # where lines 0, BLOCK, 2 * BLOCK, ... begin
        self._blocks: OrderedDict[int, list[str]] = OrderedDict()

    def poll(self) -> bool:
        """Look at what was appended; True when there are other lines than before."""
        try:
            status = self.path.stat()
        except OSError:
            changed = self.count > 0
            self._forget()
            return changed
        if status.st_ino != self._inode or status.st_size < self._size:
            self._forget()
            self._inode = status.st_ino
        if status.st_size == self._size:
            return False
        with self.path.open("rb") as file:
            file.seek(self._size)
            data = file.read(GULP)
        end = data.rfind(b"\n") + 1
        if not end:
            if len(data) < GULP:
                return False  # a line that is still being written
            end = len(data)
        before = self.count
        self._index(data[:end])
        self._blocks.pop(before // BLOCK, None)  # it was not full
        return True

    @property
    def behind(self) -> bool:
        """Whether the file has more than was looked at."""
        try:
            return self.path.stat().st_size > self._size
        except OSError:
            return False

    def _index(self, data: bytes) -> None:
        at = data.find(b"\n")
        while at >= 0:
            self.count += 1
            if self.count % BLOCK == 0:
                self._marks.append(self._size + at + 1)
            at = data.find(b"\n", at + 1)
        self._size += len(data)

    def line(self, number: int) -> str:
        """Line `number`, counted from 0; empty beyond the end."""
        if not 0 <= number < self.count:
            return ""
        block = self._block(number // BLOCK)
        at = number % BLOCK
        return block[at] if at < len(block) else ""

    def _block(self, number: int) -> list[str]:
        if number not in self._blocks:
            self._blocks[number] = self._read(number, self._marks, self._size)
        self._blocks.move_to_end(number)
        while len(self._blocks) > KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[number]

    def _read(self, number: int, marks: array[int], size: int) -> list[str]:
        start = marks[number]
        end = marks[number + 1] if number + 1 < len(marks) else size
        lines: list[str] = []
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                while file.tell() < end:
                    lines.append(_read_line(file))
        except OSError:
            return []
        return lines

    def find(self, needle: str, start: int, step: int = 1) -> int | None:
        """The nearest line from `start` on that holds `needle`, whatever its case; None: no line.

        Goes round at the end. Reads the file by itself, so another thread may call it.
        """
        wanted = needle.lower()
        count, marks, size = self.count, self._marks, self._size
        blocks = len(range(0, count, BLOCK))
        if not blocks:
            return None
        start = max(0, min(start, count - 1))
        first = start // BLOCK
        for n in range(blocks + 1):  # the first block twice: its other half comes last
            number = (first + n * step) % blocks
            lines = self._read(number, marks, size)[: count - number * BLOCK]
            order = range(len(lines)) if step > 0 else range(len(lines) - 1, -1, -1)
            for at in order:
                line = number * BLOCK + at
                ahead = line >= start if step > 0 else line <= start
                if (n > 0 or ahead) and wanted in lines[at].lower():
                    return line
        return None


def _read_line(file: BinaryIO) -> str:
    """The next line, cut to LONGEST characters; the rest of it is passed over."""
    first = chunk = file.readline(LONGEST * 4)
    while chunk and not chunk.endswith(b"\n"):
        chunk = file.readline(1 << 20)
    text = first.rstrip(b"\r\n").decode("utf-8", "replace")
    return text if len(text) <= LONGEST else text[:LONGEST] + " (cut)"
