"""The program in a real terminal, driven by keys."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import pytest
from textual.drivers._writer_thread import MAX_QUEUED_WRITES, WriterThread

from runbook.tui.terminal import Lasting
from tests.ui import scenario
from tests.ui.conftest import NARROW, PATIENCE, PYTHON, WIDE, Terminal

pytestmark = pytest.mark.ui

Open = Callable[..., Terminal]
Record = Callable[[], list[str]]

COLORS = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


def ended(pid: int) -> None:
    """Wait until the process is gone."""
    process = Path(f"/proc/{pid}")
    end = time.monotonic() + PATIENCE
    while process.exists():
        assert time.monotonic() < end, (process / "status").read_text()
        time.sleep(0.05)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "120x36"])
def test_a_run_from_the_survey_to_the_end(
    terminal: Open, record: Record, size: tuple[int, int]
) -> None:
    screen = terminal(size)
    screen.start("whole")
    screen.see("Point every host at the CA", "set ca_server in puppet.conf", "a decides")
    screen.keys("a")
    screen.see("No, back to the plan", "Do exactly this")
    screen.keys("Enter")
    screen.gone("No, back to the plan")
    assert record() == []
    screen.keys("a")
    screen.see("No, back to the plan")
    screen.keys("Down", "Enter")
    screen.see("puppet.conf is read-only", "Not now")
    screen.keys("Down", "Down", "Down", "Enter")
    screen.see("this is a shell on agent02.example.com")
    screen.keys("-l", "hello")
    screen.keys("Enter")
    screen.see("puppet.conf is read-only", "Not now")
    assert record() == ["approve", "shell hello"]
    screen.keys("Down", "Down", "Enter")
    screen.see("Summary", "Done.", "pmrunbook verify")
    assert record() == ["approve", "shell hello", "retry"]
    screen.keys("q")
    screen.see("left with 0")
    screen.usable()


def test_leaving_is_guarded_and_ends_the_mission(terminal: Open, record: Record) -> None:
    screen = terminal()
    screen.start("running")
    screen.see("waits for agent01")
    screen.keys("q")
    screen.see("Leave while work runs?", "go on there to their end", "pmrunbook --resume")
    screen.keys("Enter")
    screen.gone("Leave while work runs?")
    assert record() == []
    screen.keys("C-c")
    screen.see("Leave while work runs?")
    screen.keys("Down", "Enter")
    screen.see("left with 130")
    assert record() == ["stopped"]
    screen.usable()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_the_terminal_back(
    terminal: Open, record: Record, number: signal.Signals
) -> None:
    screen = terminal()
    screen.start("running")
    screen.see("waits for agent01")
    os.kill(screen.pid(), number)
    screen.see("left with 130")
    assert record() == ["stopped"]
    screen.usable()


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["alone", "with its group"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "120x36"])
def test_a_program_that_is_killed_leaves_the_terminal_as_it_was(
    terminal: Open, record: Record, size: tuple[int, int], kill: Callable[[int, int], None]
) -> None:
    screen = terminal(size)
    screen.start("running")
    screen.see("waits for agent01")
    assert screen.state("#{alternate_on} #{cursor_flag} #{mouse_any_flag}") == "1 0 1"
    (keeper,) = screen.keepers()
    assert {file.name for file in Path(f"/proc/{keeper}/fd").iterdir()} == {"0", "1", "2"}
    kill(screen.pid(), signal.SIGKILL)
    screen.usable(killed=True)
    assert record() == []


def test_a_program_that_is_killed_at_a_dialog_or_in_a_shell(terminal: Open, record: Record) -> None:
    screen = terminal()
    for with_shell in (False, True):
        screen.start("whole")
        screen.see("a decides")
        screen.keys("a")
        screen.see("No, back to the plan")
        ends = program = screen.pid()
        if with_shell:
            screen.keys("Down", "Enter")
            screen.see("puppet.conf is read-only", "Not now")
            screen.keys("Down", "Down", "Down", "Enter")
            screen.see("this is a shell on agent02")
            ends = screen.pid()
        os.kill(program, signal.SIGKILL)
        screen.usable(killed=True)
        ended(ends)
    assert record() == ["approve"]


@pytest.mark.parametrize("kill", [True, False])
def test_a_password_is_asked_for_without_echo_no_longer_than_the_program_lives(
    terminal: Open, kill: bool
) -> None:
    screen = terminal()
    screen.start("secret", "SCENARIO_PLAIN=1")
    screen.see("sudo password for operator", "\n>")
    (_,) = screen.keepers()
    if kill:
        os.kill(screen.pid(), signal.SIGKILL)
    else:
        screen.keys("-l", scenario.PASSWORD)
        screen.keys("Enter")
        assert scenario.PASSWORD not in screen.see("left with")
    screen.usable(killed=kill)


def test_a_command_without_a_face_that_is_killed_at_a_password(terminal: Open) -> None:
    screen = terminal()
    screen.run(f"{PYTHON} -c 'from runbook.secrets import typed; typed(\"A password\")'")
    screen.see("A password:")
    (keeper,) = screen.keepers()
    status = Path(f"/proc/{keeper}/status").read_text()
    program = int(next(line for line in status.splitlines() if line.startswith("PPid"))[5:])
    os.kill(program, signal.SIGKILL)
    screen.see("Killed")
    screen.usable()


def test_a_window_that_is_closed_ends_the_program(terminal: Open, record: Record) -> None:
    screen = terminal()
    screen.start("running")
    screen.see("waits for agent01")
    program = screen.pid()
    (keeper,) = screen.keepers()
    screen.close()
    ended(program)
    ended(keeper)
    assert record() == ["stopped"]


def test_nobody_waits_for_a_terminal_that_is_gone() -> None:
    """Textual's own writer, with more than its queue holds."""
    ours, theirs = os.openpty()
    with suppress(OSError), os.fdopen(theirs, "w") as file:  # as it is closed, it says so again
        writer = WriterThread(cast("TextIO", Lasting(file)))
        writer.start()
        os.close(ours)
        for _ in range(10 * MAX_QUEUED_WRITES):
            writer._queue.put("x", timeout=5)
        writer.stop()


def test_a_failing_screen_shows_no_local_variables(terminal: Open) -> None:
    screen = terminal(WIDE)
    screen.start("running", "SCENARIO_CRASH=1")
    shown = screen.see("The screen failed", "left with 1")
    assert scenario.PASSWORD not in shown
    assert "]0;owned" in shown
    assert screen.state("#{pane_title}") != "owned"
    screen.usable()


def test_another_size_is_another_layout(terminal: Open) -> None:
    screen = terminal(WIDE)
    screen.start("running")
    screen.see("Steps", "Estate", "Activity", "waits for agent01")
    screen.tmux("resize-window", "-x", "80", "-y", "24")
    screen.gone("Estate")
    screen.see("Steps", "Activity")
    screen.keys("Tab")
    screen.see("Estate", "agent01.example.com")
    screen.tmux("resize-window", "-x", "120", "-y", "36")
    screen.see("Steps", "Estate", "Activity")


def test_a_hostile_host_reaches_nothing(terminal: Open) -> None:
    screen = terminal(WIDE)
    screen.start("hostile")
    shown = screen.see("[/b] [red]not markup[/red]", "Not now")
    assert "\u202e" not in shown
    assert "\x9b" not in screen.raw()
    assert "owned" not in screen.state("#{pane_title}")
    screen.keys("Escape")
    screen.gone("Not now")
    screen.keys("h")
    screen.see("LAST LINE", "[/b]")
    screen.keys("Enter")
    screen.see("12:00:00", "following")
    assert "owned" not in screen.state("#{pane_title}")


def test_no_color_is_no_color(terminal: Open) -> None:
    screen = terminal(WIDE, NO_COLOR="1")
    screen.start("whole")
    screen.see("set ca_server", "a decides")
    assert not COLORS.findall(screen.raw())
    screen.keys("a")
    screen.see("\u276f No, back to the plan")
    assert not COLORS.findall(screen.raw())
    assert re.search(r"\x1b\[(?:[0-9;]*;)?7m[^\x1b]*No, back", screen.raw())


def test_sixteen_colors_are_those_of_the_terminal(terminal: Open) -> None:
    screen = terminal(WIDE)
    screen.start("whole", "TERM=screen")
    screen.see("set ca_server", "a decides")
    raw = screen.raw()
    assert COLORS.search(raw)
    assert "38;2;" not in raw
    assert "38;5;" not in raw
    assert "48;5;" not in raw
    screen.keys("a")
    screen.see("\u276f No, back to the plan")
    row = next(line for line in screen.raw().splitlines() if "No, back" in line)
    # Seen on a dark and on a light terminal alike: its own two colours, changed over.
    assert re.search(r"\x1b\[(?:[0-9;]*;)?7m[^\x1b]*No, back", row.replace("\x1b[1m", "")), repr(
        row
    )


@pytest.mark.parametrize("prefix", ["PMRUNBOOK_ASCII=1", "LC_ALL=C LANG=C"])
def test_ascii_is_ascii_on_every_screen(terminal: Open, prefix: str) -> None:
    screen = terminal(WIDE)
    screen.start("whole", prefix)
    steps = (
        ("", "", "a decides"),
        ("a", "", "No, back to the plan"),
        ("Escape", "No, back to the plan", "a decides"),
        ("?", "", "Keys: Plan"),
        ("Escape", "Keys: Plan", "a decides"),
        ("Escape", "What it does", "Activity"),
        ("m", "", "Map of the estate"),
        ("Escape", "Map of the estate", "Who serves the agents"),
        ("h", "", "LAST LINE"),
        ("Enter", "LAST LINE", "Nothing was said"),
        ("s", "Nothing was said", "this is a shell"),
        ("Enter", "this is a shell", "Nothing was said"),
        ("n", "", "Nothing was said"),
        ("C-p", "", "app: Help"),
    )
    for key, gone, text in steps:
        if key:
            screen.keys(key)
        if gone:
            screen.gone(gone)
        shown = screen.see(text)
        assert shown.isascii(), shown
