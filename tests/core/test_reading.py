"""Commands that read the operator's disk: status, log, report, debts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runbook import cli
from runbook.errors import Exit, RunbookError, UsageError
from runbook.inventory import load
from runbook.journal import Journal
from runbook.model import Event
from tests.core.estate import DEBT, ROLL, Fleet, Scripted, make, site

INVENTORY = Path(__file__).parents[2] / "inventories" / "minimal.yaml"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Type a command about a site whose journal holds two runs, the second one broken off."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PMRUNBOOK_ASCII", "1")
    from runbook.inventory import load
    from runbook.journal import site_folder

    folder = site_folder(load(INVENTORY).name)
    folder.parent.mkdir(parents=True)
    estate = Fleet("h1", "h2")
    first = make(estate, site("h1", "h2"), ROLL, folder=folder)
    first.engine.run()
    first.recorder.emit("run_ended", exit=0, why="done", hint="")
    assert first.journal
    first.journal.close()
    journal = Journal(folder)
    second = make(estate, site("h1"), DEBT, face=Scripted("approve", "quit"), journal=journal)
    estate.hosts["h1"].lost_link = True
    with pytest.raises(RunbookError):
        second.engine.run()
    journal.close()

    def typed(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.main([*args, "--inventory", str(INVENTORY)])
        return code, capsys.readouterr().out

    return typed


def test_status_names_what_is_unknown_and_open(run) -> None:  # type: ignore[no-untyped-def]
    code, text = run("status")
    assert code == 8
    assert "broken off" in text
    assert "? unknown   h1: set open to 1" in text
    assert "running" not in text
    assert "the window is open" in text
    assert text.isascii()
    code, text = run("status", "--json")
    assert json.loads(text)["steps"]["roll"]["status"] == "ok"


def test_status_of_a_run_at_work_is_not_alarming(run) -> None:  # type: ignore[no-untyped-def]
    from runbook.inventory import load
    from runbook.journal import site_folder

    journal = Journal(site_folder(load(INVENTORY).name))  # whoever works has it
    start = next(e for e in reversed(journal.events) if e.kind == "start")
    journal.append(start)
    code, text = run("status")
    owed, debts = run("debts")
    journal.close()
    assert code == 7
    assert owed == 1 and "is at work, and ends them itself" in debts and "--repay" not in debts
    assert "> running   h1: set open to 1" in text
    assert "unknown   h1" not in text


def test_debts_are_told_until_they_are_repaid(run) -> None:  # type: ignore[no-untyped-def]
    code, text = run("debts")
    assert code == 1
    assert "h1: the window is open" in text and "debts --repay ends them" in text


def test_a_step_that_is_none_leaves_the_last_run_as_it_is(run) -> None:  # type: ignore[no-untyped-def]
    before = run("status")
    for args in (("undo", "nothing"), ("--step", "nothing", "--new"), ("--step", "x", "--dry-run")):
        code, text = run(*args, "--plain")
        assert code == 2
        assert "there is no step" in text
    assert run("status") == before


def test_the_log_of_a_host_that_is_none_is_refused(run) -> None:  # type: ignore[no-untyped-def]
    assert run("log", "nobody")[0] == 2


def test_an_error_is_text_to_the_terminal(run, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert cli.main(["log", "no\x1b]52;c;eA==\x07body\u202e", "--inventory", str(INVENTORY)]) == 2
    said = capsys.readouterr().err
    assert "no?]52;c;eA==?body? is not in the inventory" in said
    assert said.count("\n") == 2


def test_what_a_journal_of_another_machine_says_is_text_to_the_terminal(run) -> None:  # type: ignore[no-untyped-def]
    from runbook.inventory import load
    from runbook.journal import site_folder

    evil = "\x1b]52;c;eA==\x07 \u202e \x9b2J"
    journal = Journal(site_folder(load(INVENTORY).name))
    debt = next(e for e in journal.events if e.kind == "start" and e.data["action"]["opens"])
    action = debt.data["action"]
    opens = {**action["opens"], "id": "evil", "title": evil}
    at = debt.at
    journal.append(replace(debt, data={**debt.data, "action": {**action, "opens": opens}}))
    journal.append(Event("run_started", at, data={**RESUMED, "operator": evil, "run": evil}))
    journal.append(Event("message", at, host=evil, data={"text": evil}))
    journal.append(Event("excluded", at, host=evil, data={"reason": evil}))
    journal.append(Event("run_ended", at, data={"exit": 1, "why": evil, "hint": evil}))
    journal.close()
    for command in ("status", "log", "report", "debts", "status --json", "log --json"):
        text = run(*command.split())[1]
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text), command
        assert "]52;c;eA==" in text, command


def test_the_log_and_the_report_tell_both_runs(run) -> None:  # type: ignore[no-untyped-def]
    code, text = run("log")
    assert (code, text.count("####")) == (0, 2)
    assert "h2: set a to 1" in text
    code, text = run("report")
    assert code == 0
    assert "approved by me" in text
    assert "passed: h1 has a: as read" in text
    code, text = run("report", "--json")
    assert len(json.loads(text)["runs"]) == 2


def test_the_report_says_which_run_was_broken_off(run) -> None:  # type: ignore[no-untyped-def]
    from runbook.inventory import load
    from runbook.journal import site_folder

    text = run("report")[1]
    first, second = text.split("\n## ")[1:3]
    assert "done (exit 0)" in first
    assert "broken off" not in first
    assert "broken off, no end recorded" in second
    # One that is at work has no end either, and the next one does not hide that it had none.
    folder = site_folder(load(INVENTORY).name)
    journal = Journal(folder)
    begun = next(e for e in journal.events if e.kind == "step_started")
    journal.append(begun)
    text = run("report")[1]
    assert "broken off" not in text
    assert "at work" in text
    assert "▸ running" in text.partition("## Where it stands")[2]
    journal.close()
    stands = run("report")[1].partition("## Where it stands")[2]
    assert "broken off" in stands
    assert "running" not in stands
    journal = Journal(folder)
    journal.append(Event("run_started", begun.at + 5, data=RESUMED))
    journal.append(Event("run_ended", begun.at + 6, data={"exit": 0, "why": "done", "hint": ""}))
    journal.close()
    text = run("report")[1]
    assert text.count("no end recorded") == 1
    assert text.index("no end recorded") < text.index(": resume by")


RESUMED = {
    "run": "third",
    "mode": "resume",
    "resumed": True,
    "operator": "me",
    "version": "0",
    "inventory": "",
    "site": "test",
}


def test_a_host_cannot_write_the_report(run) -> None:  # type: ignore[no-untyped-def]
    from runbook.report.markdown import _cell

    assert _cell("done\n## Where it stands | all `ok` <b>") == (
        "done \\#\\# Where it stands \\| all \\`ok\\` \\<b\\>"
    )


@pytest.mark.parametrize(("lab", "hint"), [("default", ""), ("other", " --name other")])
def test_a_lab_that_is_down_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: str, hint: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "pmrunbook" / "labs" / lab / "inventory.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"{INVENTORY.read_text()}\nssh: {{user: x, netns: pmrb-nosuch}}\n")
    with pytest.raises(UsageError, match="pmrb-nosuch") as refused:
        cli.enter_network(load(file), [])
    assert refused.value.hint == f"pmrunbook lab up{hint}"


def test_offline_a_step_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--dry-run", "--offline", "--step", "nosuch", "--inventory", str(INVENTORY)]
    assert cli.main(asked) == Exit.USAGE
    assert "there is no step nosuch" in capsys.readouterr().err


def test_offline_nobody_is_quoted_and_no_line_lacks_its_beginning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    site = str(INVENTORY.with_name("srv.yaml"))
    for step in ("code", "cutover"):
        assert cli.main(["--dry-run", "--offline", "--step", step, "--inventory", site]) == 0
    out = capsys.readouterr().out
    assert "   _x-puppet._tcp.example.com SRV: known after the name server answers\n" in out
    assert "said not asked" not in out
    assert not [line for line in out.splitlines() if line.strip().startswith(": ")]
