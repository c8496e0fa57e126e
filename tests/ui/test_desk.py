"""The parts of the face that need no screen: the feed, the desk, transcripts, symbols, keys."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runbook.errors import Interrupted
from runbook.model import Event, Status
from runbook.ports import Choice, Question, Reply
from runbook.symbols import SEVERITY, STATUS, URGENCY, ascii_only, span, verdict
from runbook.tui import keys
from runbook.tui.desk import Desk
from runbook.tui.feed import Feed
from runbook.tui.look import Look
from runbook.tui.transcript import BLOCK, KEPT, LONGEST, Transcript
from tests.ui import scenario

pytestmark = pytest.mark.ui

ROOT = Path(__file__).parents[2]
ASKED = Question("failure", "what now", "", (Choice("retry", "Try again"),))


# --- the feed -----------------------------------------------------------------------------------


def test_of_a_hosts_output_the_last_line_is_kept() -> None:
    feed = Feed()
    for n in range(1000):
        feed.show(Event("output", n, "ca", "a", data={"line": str(n)}))
    feed.show(Event("output", 1, "ca", "b", data={"line": "x"}))
    assert [e.data["line"] for e in feed.drain()] == ["999", "x"]
    assert feed.drain() == []


def test_output_of_the_action_before_is_not_shown_under_the_next() -> None:
    feed = Feed()
    feed.show(Event("output", 1, "ca", "a", data={"line": "old"}))
    feed.show(Event("start", 2, "ca", "a", "x", {}))
    assert [e.kind for e in feed.drain()] == ["start"]


def test_an_asker_is_blocked_until_it_is_answered() -> None:
    feed = Feed()
    got: list[Reply] = []
    asker = threading.Thread(target=lambda: got.append(feed.ask(ASKED)))
    asker.start()
    while not feed.questions:
        pass
    feed.answer(feed.questions[0], Reply("retry"))
    asker.join(10)
    assert got == [Reply("retry")]
    assert not feed.questions


def test_nobody_is_left_blocked_when_the_operator_is_gone() -> None:
    feed = Feed()
    got: list[BaseException] = []

    def ask() -> None:
        try:
            feed.ask(ASKED)
        except Interrupted as error:
            got.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    while not feed.questions:
        pass
    feed.close()
    asker.join(10)
    assert len(got) == 1
    with pytest.raises(Interrupted):
        feed.ask(ASKED)


# --- the desk -----------------------------------------------------------------------------------


def desk(tmp_path: Path, name: str = "running", at: float = 0.0) -> Desk:
    look = Look(False, {}, native=True)
    return Desk(scenario.mission(name, tmp_path), look, lambda: scenario.START + at)


def said(parts: list[object]) -> str:
    return "".join(p if isinstance(p, str) else p[0] for p in parts)  # type: ignore[index]


def test_it_always_says_why_it_waits(tmp_path: Path) -> None:
    on = desk(tmp_path, at=65)
    assert said(on.why()) == "starts"
    action = {"title": "install puppetserver"}
    for host, at in (("cm1.example.com", 5), ("cm2.example.com", 15)):
        data = {"action": action, "job": "j"}
        on.feed.show(Event("start", scenario.START + at, "ca", host, f"x/{host}", data))
    change = on.take()
    assert change.hosts == {"cm1.example.com", "cm2.example.com"}
    assert change.steps == {"ca"}
    assert said(on.why()) == "waits for cm1.example.com 1:00 and 1 more: install puppetserver"
    on.stopping = True
    assert said(on.why()).startswith("ending: waits for cm1")
    on.code = 3
    assert "exit code 3" in said(on.why())


def test_open_debts_are_named_until_they_are_repaid(tmp_path: Path) -> None:
    on = desk(tmp_path)
    assert on.debts() == []
    opens = {"id": "d1", "title": "the agent is stopped", "repay": "start"}
    data = {"action": {"title": "stop", "opens": opens}, "job": "j"}
    on.feed.show(Event("start", 1, "ca", "cm1.example.com", "x", data))
    on.take()
    assert said(on.debts()) == "1 open debt: the agent is stopped (cm1.example.com)"
    on.feed.show(Event("debt_repaid", 2, "ca", "cm1.example.com", "", {"id": "d1"}))
    assert on.take().all
    assert on.debts() == []


def test_what_was_taken_back_is_named_by_its_title(tmp_path: Path) -> None:
    """An action and the one that took it back are history once that ended."""
    on = desk(tmp_path)
    actions = {
        "x/1": {"title": "stop the agent"},
        "undo:x/1": {"title": "take back: stop the agent", "undoes": "x/1"},
    }
    for number, (id_, action) in enumerate(actions.items()):
        job = {"job": f"j{number}"}
        on.feed.show(Event("start", 1, "ca", "cm1.example.com", id_, {"action": action, **job}))
        on.feed.show(Event("end", 2, "ca", "cm1.example.com", id_, {"status": "ok", **job}))
    on.take()
    assert [said(list(parts)).partition(" ok ")[2] for _, parts in on.activity] == [
        "cm1.example.com: stop the agent",
        "cm1.example.com: take back: stop the agent",
    ]


def test_every_host_stands_under_one_role(tmp_path: Path) -> None:
    on = desk(tmp_path)
    names = [h.name for g in on.groups for h in g.hosts]
    assert sorted(names) == sorted(h.name for h in on.mission.site.hosts)
    assert on.groups[0].title == "Certificate authority"
    assert on.groups[-1].title == "Agents"


def test_what_needs_a_person_comes_first(tmp_path: Path) -> None:
    on = desk(tmp_path)
    on.state.host("ns.example.com").status = Status.FAILED
    on.state.host("agent02.example.com").status = Status.UNKNOWN
    on.state.excluded["pdb.example.com"] = "out"
    order = on.hosts_in_order()
    assert order[:3] == ["ns.example.com", "agent02.example.com", "pdb.example.com"]
    assert order[3:5] == ["ca.example.com", "puppet.example.com"]


# --- text ---------------------------------------------------------------------------------------


def test_nothing_a_terminal_obeys_is_drawn() -> None:
    look = Look(False, {}, native=True)
    for bad in ("\x1b[2J", "\x9b2J", "\u202e", "\u2066", "\x07", "\r", "\x7f", "\u200b", "\u2028"):
        text = look.text(f"a{bad}b", ("[/b]", "bad")).plain
        assert bad not in text
        assert text.startswith("a")
        assert text.endswith("b[/b]")
    assert look.block("one\ntwo\x1b[31m").plain == "one\ntwo·[31m"
    assert look.cell("日本語です", 6) in ("日本…", "日本 …")


def test_ascii_is_all_that_is_drawn_where_it_has_to_be() -> None:
    look = Look(True, {}, native=True)
    marks = [*STATUS.values(), *SEVERITY.values(), *(verdict(ok) for ok in (True, False, None))]
    for mark in marks:
        assert look.text(look.word(mark)).plain.isascii()
        assert look.text(mark.symbol).plain == mark.ascii
    assert look.text("Zürich … ✓ \x1b日").plain.isascii()


def test_no_two_states_look_the_same() -> None:
    assert len({m.word for m in STATUS.values()}) == len(Status)
    assert len({m.symbol for m in STATUS.values()}) == len(Status)
    assert len({m.ascii for m in STATUS.values()}) == len(Status)
    assert set(URGENCY) == set(Status)


@pytest.mark.parametrize(
    ("environ", "ascii_"),
    [
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "C.utf8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": ""}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({}, True),
        ({"LANG": "en_US.UTF-8", "PMRUNBOOK_ASCII": "1"}, True),
        ({"LANG": "en_US.UTF-8", "PMRUNBOOK_ASCII": "0"}, False),
    ],
)
def test_the_locale_decides_about_ascii(environ: dict[str, str], ascii_: bool) -> None:
    assert ascii_only(environ) is ascii_


def test_spans() -> None:
    assert [span(s) for s in (0, 7.9, 760, 11_100, -3)] == [
        "0:00",
        "0:07",
        "12:40",
        "3:05:00",
        "0:00",
    ]


# --- transcripts --------------------------------------------------------------------------------


def test_a_transcript_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    log = Transcript(path)
    assert not log.poll()
    path.write_bytes(b"one\ntwo\nthr")
    assert log.poll()
    assert (log.count, log.line(0), log.line(1), log.line(2)) == (2, "one", "two", "")
    assert not log.poll()
    with path.open("ab") as file:
        file.write(b"ee\r\n\xff\n")
    assert log.poll()
    assert [log.line(n) for n in range(log.count)] == ["one", "two", "three", "\ufffd"]


def test_another_file_of_that_name_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    log = Transcript(path)
    path.write_bytes(b"one\ntwo\n")
    log.poll()
    path.write_bytes(b"other\n")
    assert log.poll()
    assert (log.count, log.line(0)) == (1, "other")
    path.unlink()
    assert log.poll()
    assert log.count == 0


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    total = BLOCK * (KEPT + 20) + 7
    path.write_text("".join(f"line {n}\n" for n in range(total)))
    log = Transcript(path)
    while log.poll():
        pass
    assert log.count == total
    for n in range(total):
        assert log.line(n) == f"line {n}"
    assert len(log._blocks) <= KEPT


def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    path.write_bytes(b"x" * (9 << 20) + b"\nnext\n")
    log = Transcript(path)
    while log.poll():
        pass
    assert log.count == 2
    assert len(log.line(0)) < LONGEST + 10
    assert log.line(1) == "next"


def test_finding_goes_round_in_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "t.log"
    total = BLOCK * 3 + 5
    hits = {3, BLOCK - 1, BLOCK * 2 + 1, total - 1}
    path.write_text("".join(f"{'HIT' if n in hits else 'no'} {n}\n" for n in range(total)))
    log = Transcript(path)
    log.poll()
    for start in (0, 3, 4, BLOCK, BLOCK * 2, total - 1):
        ahead = min((h for h in hits if h >= start), default=min(hits))
        back = max((h for h in hits if h <= start), default=max(hits))
        assert log.find("hit", start) == ahead
        assert log.find("hit", start, -1) == back
    assert log.find("absent", 5) is None


# --- the whole ----------------------------------------------------------------------------------


def test_the_document_of_keys_is_what_the_bindings_say() -> None:
    page = ROOT / "docs" / "reference" / "keys.md"
    assert page.read_text() == keys.document(), "python -m runbook.tui.keys >docs/reference/keys.md"


def test_bindings_have_ids_of_their_own_within_a_place() -> None:
    for title, place in keys.PLACES:
        ids = [b.id for b in keys._own(place)]
        assert len(ids) == len(set(ids)), title


def test_the_package_does_not_load_textual_by_itself() -> None:
    code = "import sys, runbook.tui, runbook.symbols; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_another_machine_did_is_on_the_desk_once_it_is_taken_up(tmp_path: Path) -> None:
    mission = scenario.mission("resumed", tmp_path)
    past, mission._past = mission._past, ()
    desk = Desk(mission, Look(False, {}, False), lambda: 0.0)
    assert desk.state.step("survey").status is Status.PENDING
    mission._past = past
    desk.feed.show(Event("taken_up", 1.0))
    assert desk.take().all
    assert desk.state.step("survey").status is Status.OK
    assert all(step.title for step in desk.state.steps.values())
