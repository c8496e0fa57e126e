"""The table of faults says what was run, and hides nothing that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.model import Event
from tests.lab.faults import due
from tests.lab.faults_page import Cell, Column, add, load, page

COLUMNS = [
    Column("kill", "killed during the job"),
    Column("cut", "link cut for 2 s"),
]
CHAPTERS = {"ca": "Central CA", "code": "Code in sync"}


def cell(host: str, fault: str, **more: object) -> Cell:
    return Cell("ca", "clients/puppet.conf on agent", f"clients/{host}", host, fault, **more)  # type: ignore[arg-type]


def row(text: str) -> list[str]:
    (line,) = [x for x in text.splitlines() if x.startswith("| clients/puppet.conf")]
    return [word.strip() for word in line.strip("|").split("|")][1:]


def test_what_was_not_run_is_shown_as_not_run() -> None:
    text = page([cell("web1", "kill")], COLUMNS, CHAPTERS)
    assert row(text) == ["✓", "·"]
    assert "| cells of those walked | 2 |" in text
    assert "| run | 1 |" in text and "| not run yet | 1 |" in text
    assert "| chapters not walked yet | Code in sync |" in text


def test_an_action_that_met_no_fault_yet_is_a_row_all_the_same() -> None:
    text = page([cell("web1", "", outcome="")], COLUMNS, CHAPTERS)
    assert row(text) == ["·", "·"]
    assert "| cells of those walked | 2 |" in text and "| run | 0 |" in text
    assert "did not pass" not in text


def test_one_host_that_failed_is_the_cell_and_says_why() -> None:
    bad = cell("web2", "cut", outcome="failed", note="it hangs", doubled=1)
    text = page([cell("web1", "cut"), bad, cell("web3", "cut")], COLUMNS, CHAPTERS)
    assert row(text) == ["·", "✗ FAILED"]
    assert "| **failed** | 1 |" in text and "| actions done twice | 1 |" in text
    assert "link cut for 2 s: it hangs" in text


def test_a_decision_of_the_operators_is_told_apart() -> None:
    said = cell("web1", "kill", outcome="unknown", note="the host rebooted during the job")
    text = page([said, cell("web2", "kill")], COLUMNS, CHAPTERS)
    assert row(text)[0] == "?"
    assert "the host rebooted during the job" in text


def test_results_add_up_over_walks_and_the_last_one_counts(tmp_path: Path) -> None:
    file = tmp_path / "faults.jsonl"
    bad = cell("web1", "kill")
    bad.fail("it hangs")
    add(file, [bad, cell("web1", "cut")])
    add(file, [cell("web1", "kill")])
    assert {(c.fault, c.outcome) for c in load(file)} == {("kill", "passed"), ("cut", "passed")}


@pytest.mark.parametrize(
    "action",
    ["drill/ca1/accepted-cm1", "refresh/cm1/crl", "refused/ca1/cm1", "exchange/cm1/store"],
)
def test_all_of_a_trial_is_due_anew_once_it_was_begun_anew(action: str) -> None:
    def done(id_: str, job: str, opens: str = "", repays: str = "") -> list[Event]:
        about = {"opens": {"id": opens} if opens else None, "repays": repays}
        started = Event("start", 1.0, "s", "h", id_, {"job": job, "action": about})
        return [started, Event("end", 2.0, "s", "h", id_, {"status": "ok", "note": ""})]

    def trial(number: int) -> list[Event]:
        return [
            *done("drill/ca1/issue", f"i{number}", opens="crl-drill"),
            *done(action, f"a{number}"),
            *done("drill-end/ca1/clean", f"c{number}", repays="crl-drill"),
        ]

    assert [x for x in due([*trial(1), *trial(2)], action) if x] == [["a1"], ["a2"]]
    twice = [*trial(1)[:4], *done(action, "a2")]
    assert [x for x in due(twice, action) if x] == [["a1", "a2"]]
