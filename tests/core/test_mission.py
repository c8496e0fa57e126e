"""When a run may begin, and when the state refuses it: before any host is dialled."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import cast

import pytest

from runbook import cli, mission
from runbook.errors import Exit, RunbookError, UsageError
from runbook.journal import Journal, private_folder, read, site_folder
from runbook.mission import Mission
from runbook.model import Event, Runbook, Site
from runbook.plain import Plain
from runbook.recorder import Recorder
from runbook.state import RunState, fold
from tests.core.estate import TWO, Scripted, site


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(mission, "take_up", lambda *_: False)  # nothing is on the site


HERE = replace(site("h1"), digest="i" * 64)
BOOK = Runbook("own", "Own", tuple(replace(TWO, id=name) for name in "ab"), digest="r" * 64)


def past(*events: Event, **more: object) -> None:
    """A journal of a run that was broken off."""
    about = {
        "run": "run1",
        "mode": "run",
        "asked": {"steps": ["a"], "hosts": []},
        "site": "test",
        "operator": "me",
        "version": "1",
        "inventory": HERE.digest,
        "runbook": BOOK.digest,
        "steps": {},
        "hosts": ["h1"],
    }
    journal = Journal(site_folder(HERE.name))
    journal.append(Event("run_started", 1.0, data={**about, **more}))
    for event in events:
        journal.append(event)
    journal.close()


def refused(mission: Mission) -> tuple[int, str]:
    face = Scripted()
    code = mission.run(face)
    ended = [e for e in face.events if e.kind == "run_ended"]
    return code, f"{ended[-1].data['why']} | {ended[-1].data['hint']}"


def test_nothing_to_go_on_with() -> None:
    code, said = refused(Mission(HERE, BOOK, "resume"))
    assert code == Exit.REFUSED
    assert "no run to go on with" in said


@pytest.mark.parametrize(
    ("site_", "book", "what"),
    [
        (replace(HERE, digest="j" * 64), BOOK, "the inventory changed"),
        (HERE, replace(BOOK, digest="s" * 64), "the runbook changed"),
    ],
)
def test_what_changed_underneath_is_refused_with_a_way_on(
    site_: Site, book: Runbook, what: str
) -> None:
    past()
    code, said = refused(Mission(site_, book, "resume"))
    assert code == Exit.REFUSED
    assert what in said and "--new" in said


def test_a_resumed_run_keeps_what_it_was_asked_for() -> None:
    past()
    code, said = refused(Mission(HERE, BOOK, "resume", steps=("b",)))
    assert code == Exit.REFUSED
    assert "asked for steps a" in said


@pytest.mark.parametrize("linked", [False, True])
def test_a_bug_is_told_and_kept_in_a_file_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    trace = private_folder(site_folder(HERE.name)) / "crash.txt"
    if linked:
        trace.symlink_to(victim)
    monkeypatch.setattr(Mission, "_perform", lambda *_: {}["a bug"])
    code, said = refused(Mission(HERE, BOOK, "dry-run"))
    assert code == Exit.FAILED and "a bug in pmrunbook" in said and str(trace) in said
    if linked:
        assert "crash.txt is a symbolic link" in said and f"ls -l {trace}" in said
    else:
        assert "KeyError: 'a bug'" in trace.read_text()
        assert trace.stat().st_mode & 0o777 == 0o600
    assert victim.read_text() == "as it was"


def test_a_new_run_is_refused_while_an_outcome_is_unknown_or_a_debt_open() -> None:
    past(
        Event(
            "start",
            2.0,
            "a",
            "h1",
            "a/h1/x",
            {
                "job": "run1-1",
                "action": {
                    "id": "a/h1/x",
                    "host": "h1",
                    "title": "t",
                    "do": {"kind": "Script", "script": "x"},
                    "undo": {"kind": "Nothing"},
                    "opens": {"id": "d", "title": "a debt", "repay": "x"},
                    "repays": "",
                    "undoes": "",
                },
            },
        )
    )
    code, said = refused(Mission(HERE, BOOK, "run"))
    assert code == Exit.REFUSED
    assert "1 unknown outcome and 1 open debt" in said


def test_no_shell_is_opened_on_a_host_that_left_the_inventory() -> None:
    past()
    with pytest.raises(RunbookError, match="not in the inventory any more"):
        Mission(HERE, BOOK, "run").shell("gone", lambda words: 0)


def test_a_shell_is_noted_with_its_end_during_a_run_and_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    past()
    visit = Mission(HERE, BOOK, "run")
    argv: list[str] = []
    assert visit.shell("h1", lambda words: argv.extend(words) or 3) == 3  # type: ignore[func-returns-value]
    assert argv[0] == "ssh"
    recorder = visit._recorder = Recorder(Scripted())
    assert visit.shell("h1", lambda words: 0) == 0
    assert recorder.state.events == 2
    events = read(site_folder(HERE.name) / "journal.jsonl")[0]
    assert [(e.kind, e.host, e.data.get("exit")) for e in events[1:]] == [
        ("shell_started", "h1", None),
        ("shell_ended", "h1", 3),
    ]
    Mission(HERE, BOOK, "verify").shell("h1", lambda words: 0)  # keeps no journal
    assert len(read(site_folder(HERE.name) / "journal.jsonl")[0]) == 3


def test_only_what_was_left_out_is_taken_in_again(capsys: pytest.CaptureFixture[str]) -> None:
    past(Event("excluded", 2.0, host="h1", data={"reason": "broken"}))
    with pytest.raises(UsageError, match="h2 is not left out") as refused_:
        mission.include(HERE, ("h1", "h2"))
    assert refused_.value.hint == "left out: h1"
    assert mission.include(HERE, ("h1",)) == Exit.DONE
    events = read(site_folder(HERE.name) / "journal.jsonl")[0]
    assert fold(events).excluded == {}
    assert events[-1].data["by"] == mission.operator()


def test_what_is_left_out_attested_or_open_is_said_at_the_end() -> None:
    state = RunState(excluded={"h1": "broken"})
    assert mission._done(state) == (Exit.DONE, "done; 1 host left out", "pmrunbook status")


def test_a_runbook_knows_the_code_of_a_sites_own_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "acme_runbook.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("acme", "acme_runbook:RUNBOOK", mission.GROUP)
    monkeypatch.setattr(mission, "entry_points", lambda group: [point])
    text = "from runbook.model import Runbook\nRUNBOOK = Runbook('a', 'A', (), digest='d')\n"
    module.write_text(text)
    first = mission.load_runbook("acme").digest
    assert mission.load_runbook("acme").digest == first
    module.write_text(text + "# another\n")
    assert mission.load_runbook("acme").digest != first


class Waits:
    """A mission that sends its process a signal, and ends when it is told to stop."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers
        self.told = threading.Event()
        self.handlers: list[object] = []

    def run(self, face: object) -> int:
        self.handlers = [signal.getsignal(n) for n in cli.SIGNALS]
        for number in self.numbers:
            os.kill(os.getpid(), number)
        return Exit.INTERRUPTED if self.told.wait(5 if self.numbers else 0) else Exit.DONE

    def stop(self) -> None:
        self.told.set()

    def shell(self, host: str, start: object) -> int:
        return 0


def test_a_signal_stops_a_plain_run_and_is_the_callers_again_afterwards() -> None:
    heard: list[int] = []
    before = {n: signal.signal(n, lambda got, _: heard.append(got)) for n in cli.SIGNALS}
    ours = [signal.getsignal(n) for n in cli.SIGNALS]
    try:
        for number in cli.SIGNALS:
            face = Plain()
            assert cli.run_plain(cast(Mission, Waits(number)), face) == Exit.INTERRUPTED
            assert face.stopped.is_set()
            assert [signal.getsignal(n) for n in cli.SIGNALS] == ours
        assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)  # the second one: it does not end the process
        assert heard == [signal.SIGTERM]
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


def test_a_signal_that_is_ignored_stays_ignored_as_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = Waits()
        assert cli.run_plain(cast(Mission, run), Plain()) == Exit.DONE
        assert run.handlers[cli.SIGNALS.index(signal.SIGHUP)] is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
