"""Who gives the terminal back when the program was killed and cannot.

SIGKILL leaves nobody to take raw mode and the other screen back. So this file is a program of its
own, too: it waits beside ours for the end of a pipe that nobody else holds.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import termios
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, cast

KILLED = "The program was killed; pmrunbook --resume goes on.\r\n"
SECONDS = 10  # for a terminal that takes nothing any more, as after Ctrl+S


class Keeper:
    """Stands by until `close`; `last` is what the terminal gets if it never comes to that."""

    def __init__(self, terminal: int, last: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        # The run is worth more than its keeper, and there may be no terminal.
        with suppress(OSError, termios.error):
            self._knows = termios.tcgetattr(terminal), last.encode()
            # Not by our name and folder, which `pkill -f` finds, and in a session of its own: no
            # signal of the terminal reaches it, and it may set the terminal from the background.
            self._process = subprocess.Popen(
                [Path(sys.executable).resolve(), "-I", "-S", Path(__file__).name],
                cwd=Path(__file__).parent,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=terminal,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self.tell()

    def tell(self, child: int = 0) -> None:
        """Which process has the terminal from us; it is told to end with us."""
        if self._process:
            with suppress(OSError):
                pipe = cast("IO[bytes]", self._process.stdin)
                pipe.write(ascii((*self._knows, child)).encode() + b"\n")

    def close(self) -> None:
        """The terminal is as it was."""
        if self._process:
            with self._process:  # which waits for it
                self._process.kill()


def lend(argv: list[str], stdout: IO[str] | None = None) -> int:
    """Run what has the terminal meanwhile, and does not stay there without us; its exit code."""
    with (
        closing(Keeper(0, f"\r\n{KILLED}")) as keeper,
        subprocess.Popen(argv, stdout=stdout) as process,
    ):
        keeper.tell(process.pid)
        return process.wait()


def _keep() -> None:
    for line in sys.stdin:  # until the program is gone; what was told last holds
        state, last, child = ast.literal_eval(line)
    signal.alarm(SECONDS)
    with suppress(OSError, termios.error):
        if child:
            with suppress(OSError):  # it has ended
                os.kill(child, signal.SIGHUP)
        flags = termios.tcgetattr(1)[3]
        # A shell that was faster has set it for its own line: that has signals, and where it has
        # no echo it takes key by key.
        if not flags & termios.ISIG or (flags & termios.ICANON and not flags & termios.ECHO):
            termios.tcflush(1, termios.TCIFLUSH)  # reports of the mouse are no commands
            termios.tcsetattr(1, termios.TCSANOW, state)
        os.write(1, last)


if __name__ == "__main__":
    _keep()
