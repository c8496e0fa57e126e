"""What the lab says while it works, and the one error it raises."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]
"""Takes one line of narration; the caller decides where it goes."""

TICK = 10.0
"""Seconds after which a long piece of work says that it is still going on."""

_going_on: list[object] = []  # of nested pieces of work, only the innermost one ticks


class LabError(Exception):
    """The lab cannot go on: `what` happened, and the `hint` says what to type next."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def quiet(_line: str) -> None:
    """Narration for those who want none."""


@contextmanager
def narrate(say: Say, work: str) -> Iterator[None]:
    """Say that `work` starts, every `TICK` seconds that it goes on, and how long it took."""
    began = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(TICK):
            if _going_on and _going_on[-1] is done:
                say(f"  ... {work} ({time.monotonic() - began:.0f} s)")

    ticker = threading.Thread(target=tick, name="lab-narration", daemon=True)
    _going_on.append(done)
    say(f"{work} ...")
    ticker.start()
    try:
        yield
    finally:
        _going_on.remove(done)
        done.set()
        ticker.join()
    say(f"{work}: {time.monotonic() - began:.1f} s")


def logged(argv: Sequence[str], log: Path, work: str, env: Mapping[str, str] | None = None) -> None:
    """Run `argv` with its output appended to `log`; a failure raises `LabError` with its last line.

    The command does not outlive this process: a second build must never meet the first one's.
    """
    bound = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    with log.open("ab") as sink:
        done = subprocess.run(
            bound,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=env,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(
            f"{work} failed with status {done.returncode}: {last_line(log)}",
            f"read {log}; what was finished is kept, so the same command goes on from there",
        )


def last_line(log: Path, window: int = 4096) -> str:
    """The last non-empty line of a log file, as printable text."""
    try:
        with log.open("rb") as source:
            source.seek(max(0, log.stat().st_size - window))
            text = source.read().decode("utf-8", "replace")
    except OSError:
        return "(no output)"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(c for c in lines[-1] if c.isprintable()) if lines else "(no output)"
