"""The terminal that Textual drives, and what is left of it once its window is closed."""

from __future__ import annotations

import io
from contextlib import ExitStack, closing, suppress
from typing import Any, TextIO, cast

from textual.drivers.linux_driver import LinuxDriver

from runbook.keeper import KILLED, Keeper

STDERR = 2  # where Textual draws
LEAVE = (
    "\x1b\\"  # whatever was cut short
    "\x1b[?2026l"  # frames drawn at once
    "\x1b[?2004l\x1b[?7h\x1b[?2048l"  # bracketed paste, no wrapping, sizes in band
    "\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?1004l"  # mouse, focus
    "\x1b[<u"  # Kitty's keys; they belong to the other screen
    "\x1b[?1049l\x1b[?25h\x1b[0m"
)
"""What Textual says when it leaves, and what it could not say of a frame half drawn."""


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
    """Textual's own, on a stream that lasts, and kept as long as it has the terminal."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._kept = ExitStack()
        self._file = cast("Any", Lasting(cast("TextIO", self._file)))

    def start_application_mode(self) -> None:
        self._kept.close()  # of a start that came to nothing, in the background
        self._kept.enter_context(closing(Keeper(STDERR, LEAVE + KILLED)))
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        super().close()  # which waits until all is written
        self._kept.close()
