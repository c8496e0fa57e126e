"""The same chapter through the screens, in a real terminal, at both sizes; taken back there."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runbook.cli import NETNS
from tests.lab.conftest import Seat, jobs_run, must
from tests.lab.test_ca import ca_name, effective_ca, puppet_hosts
from tests.lab.test_hostile import behind
from tests.ui.conftest import NARROW, WIDE, Terminal

pytestmark = pytest.mark.lab

ASKED = "a Approve or decline"
"""What the footer offers while a plan waits; the line above it may be cut at 80 columns."""


@pytest.fixture
def screen(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    monkeypatch.setenv("SCENARIO_RECORD", str(tmp_path / "record"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    terminal = Terminal(tmp_path, request.param)
    yield terminal
    terminal.close()


def wait(screen: Terminal, *texts: str, seconds: float = 1200) -> str:
    """Until one of these is on the screen."""
    end = time.monotonic() + seconds
    while not any(text in (shown := screen.text()) for text in texts):
        assert time.monotonic() < end, f"{texts} did not come:\n{shown}"
        time.sleep(0.2)
    return shown


def start(screen: Terminal, seat: Seat, *args: str, program: str = "runbook") -> None:
    given = {**seat.env, "XDG_STATE_HOME": str(seat.state), "TERM": "xterm-256color"}
    given[NETNS] = seat.lab.network.name  # other programs than ours do not enter it
    command = [f"{key}={value}" for key, value in given.items()]
    command += seat.lab.seat([sys.executable, "-m", program, *args])
    command += ["--runbook", seat.runbook, "-i", str(seat.inventory)]
    screen.keys("-l", f"clear; {' '.join(command)}; echo left-$((40+$?))")
    screen.keys("Enter")


def approve(screen: Terminal) -> None:
    """Through the dialog, whose focus is on No."""
    screen.keys("a")
    wait(screen, "Do exactly this", seconds=30)
    screen.keys("Down", "Enter")
    end = time.monotonic() + 30
    while "Do exactly this" in screen.text() and time.monotonic() < end:
        time.sleep(0.1)


def to_the_end(screen: Terminal) -> str:
    """Approve whatever is asked until the summary comes."""
    while True:
        shown = wait(screen, ASKED, "Summary")
        if "Summary" in shown:
            return shown
        approve(screen)


def release(screen: Terminal, name: str) -> str:
    """Approve all up to where agents are moved, and let them go; returns that dialog."""
    while "Move the agents" not in wait(screen, ASKED):
        approve(screen)
    screen.keys("a")
    shown = wait(screen, "Do exactly this", seconds=30)
    screen.keys("Down", "Enter")
    wait(screen, name, seconds=30)
    screen.keys("-l", name)
    screen.keys("Enter")
    return shown


@pytest.mark.parametrize("screen", [pytest.param(NARROW, id="80x24")], indirect=True)
def test_a_shell_goes_through_the_jump_host_and_is_noted(
    seat: Seat, screen: Terminal, tmp_path: Path
) -> None:
    lab = seat.lab
    gate, _, file = behind(lab, tmp_path)
    ran = jobs_run(lab, puppet_hosts(lab))
    start(screen, replace(seat, file=file))
    wait(screen, ASKED)
    screen.keys("h")
    wait(screen, "s Shell", seconds=30)
    screen.keys("s")
    wait(screen, ":~$", seconds=60)
    screen.keys("-l", "clear; echo $(hostname -f) from ${SSH_CONNECTION%% *}")
    screen.keys("Enter")
    shown = wait(screen, f" from {gate.address}", seconds=60)
    host = shown.rpartition(f" from {gate.address}")[0].split()[-1]
    screen.keys("-l", "exit 3")
    screen.keys("Enter")
    wait(screen, "s Shell", seconds=30)
    screen.keys("q")
    wait(screen, "Leave while work runs?", seconds=30)
    screen.keys("Down", "Enter")
    wait(screen, "left-170", seconds=60)
    events = [e for e in seat.events() if e.kind.startswith("shell_")]
    assert [(e.kind, e.host, e.data.get("exit")) for e in events] == [
        ("shell_started", host, None),
        ("shell_ended", host, 3),
    ]
    assert jobs_run(lab, puppet_hosts(lab)) == ran


@pytest.mark.parametrize(
    "screen",
    [
        pytest.param(NARROW, id="80x24"),
        pytest.param(WIDE, id="120x36", marks=pytest.mark.turn("trust")),
    ],
    indirect=True,
)
def test_centralized_and_taken_back_on_the_screens(seat: Seat, screen: Terminal) -> None:
    lab = seat.lab
    start(screen, seat)
    shown = wait(screen, ASKED, "Summary")
    assert ASKED in shown and ca_name(lab) in shown
    assert "Done" in to_the_end(screen)
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    for host in puppet_hosts(lab):
        assert effective_ca(lab, host) == ca_name(lab)
    must(seat.pmrunbook("verify", "--plain"))
    start(screen, seat, "undo", "ca")
    to_the_end(screen)
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    status = json.loads(must(seat.pmrunbook("status", "--json")))
    assert status["steps"]["ca"]["status"] == "undone"
    for host in puppet_hosts(lab):
        assert effective_ca(lab, host) != ca_name(lab)
