"""Taking back what was done more than once: back to what was there before the first time."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from runbook import shell
from runbook.model import (
    Action,
    Compensate,
    Event,
    Nothing,
    Restore,
    Script,
    Step,
    WriteFile,
    plain,
)
from runbook.state import RunState, fold
from runbook.undo import undo_plan

STEP = Step("step", "Step", "", lambda site, host: ())


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shell._LIBRARY.replace(shell.ROOT, str(tmp_path / "var"))
    if os.geteuid() != 0:
        text = text.replace("= 0 ]", f"= {os.geteuid()} ]")
    monkeypatch.setattr(shell, "_LIBRARY", text)
    monkeypatch.setattr(shell, "BACKUPS", str(tmp_path / "var" / "backups"))


def write(path: Path, content: bytes) -> Action:
    before = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    return Action(
        f"s/h/{path.name}", "h", "write", WriteFile(str(path), content, before), Restore()
    )


def done(number: int, action: Action, status: str = "ok") -> list[Event]:
    about = {"job": f"job{number}", "action": plain(action)}
    return [
        Event("start", number, "step", "h", action.id, about),
        Event(
            "end", number + 0.5, "step", "h", action.id, {"job": f"job{number}", "status": status}
        ),
    ]


def perform(number: int, action: Action) -> list[Event]:
    subprocess.run(["sh"], input=shell.perform(action, f"job{number}"), text=True, check=True)
    return done(number, action)


def scripts(state: RunState) -> list[str]:
    found = [a.do for a in undo_plan(STEP, state).actions]
    return [do.script for do in found if isinstance(do, Script)]


def test_a_file_written_twice_comes_back_as_it_was_before_both(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"a")
    file.chmod(0o640)
    events = perform(1, write(file, b"b"))
    events += perform(2, write(other, b"x"))
    events += perform(3, write(file, b"c"))
    events += perform(4, write(other, b"y"))
    for script in scripts(fold(events)):
        subprocess.run(["sh"], input=script, text=True, check=True)
    assert file.read_bytes() == b"a"
    assert file.stat().st_mode & 0o777 == 0o640
    assert not other.exists()


def test_what_somebody_wrote_between_two_attempts_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    events = perform(1, write(file, b"b"))
    file.write_bytes(b"theirs")
    events += perform(2, write(file, b"c"))
    [script] = scripts(fold(events))
    done = subprocess.run(["sh"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == shell.CHANGED
    assert file.read_bytes() == b"theirs"


def test_a_failed_attempt_counts_and_one_that_never_started_does_not() -> None:
    action = Action("s/h/x", "h", "x", Script("x", saves=("/x",)), Restore())
    state = fold([*done(1, action, "failed"), *done(2, action, "pending"), *done(3, action)])
    assert [a.job for a in state.step("step").actions["s/h/x"].earlier] == ["job1"]


def test_every_way_there_is_taken_back_the_newest_first() -> None:
    """Each attempt knows what was there before it; the last one may have nothing to take back."""
    first = Action("s/h/x", "h", "x", Script("x"), Compensate("to the folder"))
    second = Action("s/h/x", "h", "x", Script("x"), Compensate("to the first revision"))
    third = Action("s/h/x", "h", "x", Script("x"), Nothing())
    [script] = scripts(fold([*done(1, first), *done(2, second), *done(3, third)]))
    assert script.index("to the first revision") < script.index("to the folder")


def test_what_is_compensated_is_compensated_once() -> None:
    action = Action("s/h/x", "h", "x", Script("x"), Compensate("back"))
    assert scripts(fold([*done(1, action), *done(2, action)])) == ["back"]
