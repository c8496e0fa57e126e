"""Two ways to sit in front of the program: in a real terminal, and on its screen as data."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from textual.pilot import Pilot

from runbook.tui.app import RunbookApp
from tests.ui import scenario

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
NARROW, WIDE = (80, 24), (120, 36)
PATIENCE = float(os.environ.get("UI_PATIENCE", "40"))
"""Seconds until something that should appear counts as missing; the machine may be busy."""

_numbers = count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write the screens' texts anew")


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same colours, letters and time zone wherever the tests run."""
    for name in ("NO_COLOR", "PMRUNBOOK_ASCII", "SSH_CONNECTION", "TEXTUAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("SCENARIO_RECORD", str(tmp_path / "record"))
    time.tzset()


@pytest.fixture
def record(tmp_path: Path) -> Callable[[], list[str]]:
    """What the mission was answered, line by line; without process ids."""
    path = tmp_path / "record"

    def read() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if not line.startswith("pid ")]

    return read


class Seat:
    """The app without a terminal: keys in, the screen's text out."""

    def __init__(self, app: RunbookApp, pilot: Pilot[int], mission: scenario.ScriptedMission):
        self.app = app
        self.pilot = pilot
        self.mission = mission

    def text(self) -> str:
        """The screen as text, line by line."""
        width, height = self.app.size
        console = Console(
            width=width, height=height, file=io.StringIO(), force_terminal=True,
            record=True, legacy_windows=False, safe_box=False,
        )  # fmt: skip
        behind = self.app._background_screens  # a dialog lets them through
        compositor = self.app.screen._compositor
        console.print(compositor.render_update(full=True, screen_stack=behind))
        lines = console.export_text().split("\n")[:height]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    async def until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"{what} did not come:\n{self.text()}"
            await asyncio.sleep(0.02)
        await self.pilot.pause()

    async def see(self, *texts: str) -> str:
        """Wait until all of these are on the screen."""
        for text in texts:
            await self.until(lambda text=text: text in self.text(), text)  # type: ignore[misc]
        return self.text()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()


@asynccontextmanager
async def seated(name: str, folder: Path, size: tuple[int, int] = WIDE) -> AsyncIterator[Seat]:
    """The scenario of this name, running."""
    mission = scenario.mission(name, folder)
    app = RunbookApp(mission, clock=lambda: scenario.START + 300)
    async with app.run_test(size=size) as pilot:
        try:
            yield Seat(app, pilot, mission)
        finally:
            mission.stopped.set()
            app.desk.feed.close()


def play(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an asynchronous test."""
    asyncio.run(work())


class Terminal:
    """A real terminal: a shell in tmux, of its own server."""

    def __init__(self, folder: Path, size: tuple[int, int], **environ: str) -> None:
        self._socket = str(folder / f"tmux-{next(_numbers)}")
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LC_ALL", "TZ")}
        keep.update(SCENARIO_RECORD=os.environ["SCENARIO_RECORD"], SCENARIO_FOLDER=str(folder))
        self._environ = {**keep, **environ}
        width, height = size
        self.tmux(
            "-u", "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
            "-c", str(ROOT), "sh",
        )  # fmt: skip
        self.tmux("set", "-g", "status", "off")
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def tmux(self, *args: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *args],
            env=self._environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout

    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def raw(self) -> str:
        """The screen with the escape sequences for colours."""
        return self.tmux("capture-pane", "-p", "-e")

    def state(self, what: str) -> str:
        return self.tmux("display-message", "-p", what).strip()

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def see(self, *texts: str) -> str:
        """Wait until all of these are on the screen."""
        end = time.monotonic() + PATIENCE
        while not all(text in (shown := self.text()) for text in texts):
            assert time.monotonic() < end, f"{texts} did not come:\n{shown}"
            time.sleep(0.05)
        return shown

    def gone(self, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text in (shown := self.text()):
            assert time.monotonic() < end, f"{text} stays:\n{shown}"
            time.sleep(0.05)

    def start(self, name: str, prefix: str = "") -> None:
        """Type the command that shows a scenario."""
        self.run(f"{prefix} {PYTHON} -m tests.ui.scenario {name}")

    def run(self, command: str) -> None:
        while not self.text().strip():  # the shell asks once its terminal is set
            time.sleep(0.05)
        self._modes = self.modes()
        self.keys("-l", command)
        self.keys("Enter")

    def modes(self) -> list[Any]:
        """What `stty -g` says of the terminal."""
        file = os.open(self.state("#{pane_tty}"), os.O_RDWR | os.O_NOCTTY)
        try:
            return termios.tcgetattr(file)
        finally:
            os.close(file)

    def keepers(self) -> list[int]:
        """The processes that wait to give this terminal back."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended meanwhile
                if b"keeper.py" in (process / "cmdline").read_bytes().split(b"\0") and (
                    str((process / "fd/1").readlink()) == self.state("#{pane_tty}")
                ):
                    found.append(int(process.name))
        return found

    def pid(self) -> int:
        """The process id of the program."""
        lines = Path(self._environ["SCENARIO_RECORD"]).read_text().splitlines()
        return int(next(line for line in reversed(lines) if line.startswith("pid "))[4:])

    def usable(self, *, killed: bool = False) -> None:
        """The shell has its terminal back, by us or by our keeper: all modes, cursor, mouse."""
        if killed:
            self.see("The program was killed; pmrunbook --resume goes on.")
        assert ("was killed" in self.text()) == killed
        end = time.monotonic() + PATIENCE
        while self.keepers():
            assert time.monotonic() < end, "the keeper stays"
            time.sleep(0.05)
        assert self.modes() == self._modes
        self.keys("-l", "clear; stty -a; echo back-$((1+1))")
        self.keys("Enter")
        shown = self.see("back-2")
        words = shown.replace(";", " ").split()
        assert "icanon" in words, shown
        assert "echo" in words, shown
        assert self.state("#{alternate_on} #{cursor_flag} #{mouse_any_flag}") == "0 1 0"

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], check=False)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_(size: tuple[int, int] = NARROW, **environ: str) -> Terminal:
        opened.append(Terminal(tmp_path, size, **environ))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()
