"""The terminal that Textual drives, and what is left of it once its window is closed."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any, TextIO, cast

from textual.drivers.linux_driver import LinuxDriver


class Lasting(io.TextIOBase):
    """A stream that takes text even when nobody is there to read it.

    Textual's writer ends with the first error it meets, and whoever writes then waits for ever on
    its full queue (textual/drivers/_writer_thread.py): the program would outlive its window.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()


class TerminalDriver(LinuxDriver):
    """Textual's own, on a stream that lasts."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._file = cast("Any", Lasting(cast("TextIO", self._file)))
