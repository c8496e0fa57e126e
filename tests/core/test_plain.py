"""The plain face: sentences out, answers from flags, and never a key that cannot come."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import sys
import termios
import time
from dataclasses import replace
from tempfile import NamedTemporaryFile

import pytest

from runbook.errors import UsageError, Waiting
from runbook.model import Action, Event, Human, Nothing, Read
from runbook.plain import Plain
from runbook.ports import Choice, Question, Reply
from tests.core.estate import NAMES, ROLL, TWO, Fleet, Scripted, holds, make, site

APPROVE = Question(
    "approve", "Centralize", "", (Choice("approve", "Do exactly this"), Choice("quit", "Quit"))
)
CUT = Question(
    "approve", "Cut over", "", APPROVE.choices, risk="cut-over", confirm="puppet.example.com"
)
FAILED = Question(
    "failure",
    "h1: it",
    "exit 1",
    (Choice("retry", "Again"), Choice("exclude", "Out"), Choice("quit", "Quit")),
)


def test_a_question_without_a_terminal_ends_with_the_flag_that_answers_it() -> None:
    with pytest.raises(Waiting) as caught:
        Plain(err=io.StringIO()).ask(APPROVE)
    assert caught.value.exit == 7
    assert "--yes" in caught.value.hint


def test_yes_approves_everything_but_the_cut_over() -> None:
    face = Plain(yes=True, err=io.StringIO())
    assert face.ask(APPROVE).key == "approve"
    with pytest.raises(Waiting) as caught:
        face.ask(CUT)
    assert "--cut-over puppet.example.com" in caught.value.hint
    with pytest.raises(Waiting):
        Plain(yes=True, cut_over="other.example.com", err=io.StringIO()).ask(CUT)
    assert Plain(cut_over="puppet.example.com").ask(CUT).key == "approve"


def test_a_failure_ends_the_run_unless_a_flag_says_otherwise() -> None:
    assert Plain(yes=True, err=io.StringIO()).ask(FAILED).key == "quit"
    assert Plain(on_failure="exclude").ask(FAILED).key == "exclude"
    again = Plain(on_failure="retry", err=io.StringIO())
    assert [again.ask(FAILED).key, again.ask(FAILED).key] == ["retry", "quit"]


def test_a_word_is_typed_with_its_reason_and_what_shows_it_until_a_dot() -> None:
    """A shell in between is left to whoever journals it."""
    attest = Choice("attest", "Attested", needs_text=True, needs_evidence=True)
    question = Question("attest", "h1: x", "", (Choice("shell", "Shell"), attest), host="h1")
    with NamedTemporaryFile("w+") as typed:
        typed.write("1\n2\n\nby hand\n.\n$ get a\n1\n.\n")
        typed.seek(0)
        face = Plain(interactive=True, err=io.StringIO(), stdin=typed)
        visits: list[str] = []
        face.shell = lambda host, start: visits.append(host) or 0  # type: ignore[func-returns-value]
        reply = face.ask(question)
    assert reply == Reply("attest", "by hand", "$ get a\n1")
    assert visits == ["h1"]


def test_a_shell_that_cannot_be_started_is_said_and_asked_about_again() -> None:
    question = replace(FAILED, choices=(*FAILED.choices, Choice("shell", "Shell")))
    with NamedTemporaryFile("w+") as typed:
        typed.write("4\n3\n")
        typed.seek(0)
        face = Plain(interactive=True, stdin=typed, err=(err := io.StringIO()))

        def shell(host: str, start: object) -> int:
            raise UsageError("ssh_config is wrong")

        face.shell = shell
        assert face.ask(question).key == "quit"
    assert "ssh_config is wrong" in err.getvalue()


def test_nobody_attests_without_a_terminal() -> None:
    attest = Choice("attest", "Attested", needs_text=True, needs_evidence=True)
    question = Question("attest", "h1: x", "", (attest,), host="h1")
    with pytest.raises(Waiting):
        Plain(yes=True, on_failure="retry", err=io.StringIO()).ask(question)


def test_json_is_the_events() -> None:
    out = io.StringIO()
    face = Plain(as_json=True, out=out)
    run = make(Fleet(*NAMES), site(*NAMES), TWO, face=_Both(face))
    run.engine.run()
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {"planned", "approved", "start", "end", "check", "step_done"} <= {
        r["kind"] for r in records
    }
    start = next(r for r in records if r["kind"] == "start")
    assert start["host"] == "h1"
    assert start["action_id"] == "first/h1/a"
    # What comes later can be told from what was never shown.
    planned = next(r for r in records if r["kind"] == "planned")
    assert [(x["stage"], x["host"]) for x in planned["later"]] == [("second", "h4")]


class _Both(Scripted):
    def __init__(self, face: Plain) -> None:
        super().__init__()
        self._face = face

    def show(self, event: Event) -> None:
        super().show(event)
        self._face.show(event)


def test_the_story_of_a_run_reads_as_sentences() -> None:
    out = io.StringIO()
    run = make(Fleet(*NAMES), site(*NAMES), TWO, face=_Both(Plain(out=out)))
    run.engine.run()
    text = out.getvalue()
    assert "h1: set a to 1  (change; compensated)" in text
    assert "h4: the value of a: known after first" in text
    assert "h4 has a: as read" in text


def test_scripts_are_shown_when_they_are_asked_for() -> None:
    for wanted in (False, True):
        out = io.StringIO()
        face = Plain(scripts=wanted, out=out)
        make(Fleet(*NAMES), site(*NAMES), TWO, face=_Both(face)).engine.run()
        assert ("| set a 1" in out.getvalue()) is wanted


def test_a_plan_tells_a_long_change_once_and_a_person_what_to_do() -> None:
    out = io.StringIO()
    action = {"title": "a program", "risk": "change", "undo": {"kind": "Restore"}}
    by_hand = {"kind": "Human", "instruction": "Do it.\nNow."}
    same = {**action, "diff": "".join(f"+line {n}\n" for n in range(20))}
    plan = {
        "actions": [
            *({"host": h, "do": {"kind": "WriteFile"}, **same} for h in ("h1", "h2")),
            {"host": "h3", "do": {"kind": "WriteFile"}, **action, "diff": "+its own\n"},
            {**action, "host": "h4", "diff": "", "do": by_hand},
        ],
        "later": [],
        "digest": "d" * 64,
        "hosts": 3,
        "risk": "change",
        "outages": {},
    }
    Plain(out=out).show(Event("planned", 0.0, "one", data=plan))
    text = out.getvalue()
    assert text.count("+line 7\n") == 1
    assert "h2: a program  (change; reversible)\n      (20 lines, those of h1)\n" in text
    assert "+its own" in text
    assert "h4: a program  (change; reversible)\n      Do it.\n      Now.\n" in text


def test_a_host_that_stays_silent_is_told_once() -> None:
    """Every step's checks ask it again."""
    out = io.StringIO()
    estate = Fleet(*NAMES)
    make(estate, site(*NAMES), ROLL).engine.run()
    checked = replace(ROLL, checks=holds("a", "1"))
    estate.hosts["h2"].down = True
    face = _Both(Plain(out=out))
    verify = make(estate, site(*NAMES), checked, face=face, mode="verify", writers=False)
    assert not verify.engine.verify()
    assert len([e for e in face.events if e.kind == "unreachable"]) == 2
    assert out.getvalue().count("h2: does not answer") == 1


def test_checks_that_are_a_table_are_shown_as_one() -> None:
    out = io.StringIO()
    face = Plain(out=out)
    cells = {("one", "production"): True, ("two", "production"): False, ("two", "settings"): None}
    for (row, column), ok in cells.items():
        data = {
            "id": f"same/{row}/{column}",
            "title": f"{row} has {column}",
            "ok": ok,
            "observed": "init.pp, unlike one" if ok is False else "9 files",
            "remedy": "bring it",
            "detail": "-old\n+new\n" if ok is False else "",
            "cell": [row, column],
        }
        face.show(Event("check", 0.0, "code", data=data))
    face.show(Event("step_done", 0.0, "code", data={"status": "failed", "why": "1 check"}))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["-old"] in lines and ["+new"] in lines
    assert lines[-6:] == [
        [],
        ["production", "settings"],
        ["one", face._mark("ok")[0], "9", "files", "-"],
        ["two", face._mark("failed")[0], "init.pp", "?", "9", "files"],
        [],
        ["x" if face._ascii else "✗", "failed", "step", "code:", "1", "check"],
    ]


# --- a real terminal ------------------------------------------------------------------------------

ASKS = """
import sys
from runbook.cli import run_plain
from runbook.errors import RunbookError
from runbook.plain import Plain
from runbook.ports import Choice, Question

class Mission:
    shell = None
    def run(self, face):
        try:
            reply = face.ask(Question("secret", "A password", "", (Choice("ok", "OK"),)))
        except RunbookError as error:
            print(error)
            return int(error.exit)
        print(ascii(reply.text))
        return 0
    def stop(self):
        pass

face = Plain(interactive=True)
if "deaf" in sys.argv:
    face.stopped.set = lambda: print("heard")
sys.exit(run_plain(Mission(), face))
"""


class Prompt:
    """A process of its own that asks for a password on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            # Whoever started the tests in the background has them ignore it.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execv(sys.executable, [sys.executable, "-c", ASKS, *words])  # noqa: S606
        self.said = ""
        self.sees("> ")
        assert not self.echo()

    def sees(self, text: str) -> None:
        end = time.monotonic() + 30
        while text not in self.said:
            assert select.select([self.terminal], [], [], end - time.monotonic())[0], self.said
            self.said += os.read(self.terminal, 1024).decode()

    def types(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def echo(self) -> bool:
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def end(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert self.echo()
        os.close(self.terminal)
        return code


def test_a_password_is_not_shown_and_is_taken_as_it_was_typed() -> None:
    prompt = Prompt()
    prompt.types(" a word \n")
    prompt.sees("' a word '")
    assert prompt.said.count("a word") == 1
    assert prompt.end() == 0


def test_the_first_ctrl_c_at_a_password_ends_the_run_in_order() -> None:
    prompt = Prompt()
    prompt.types("half\x03")
    prompt.sees("stopped by the operator")
    assert "half" not in prompt.said
    assert prompt.end() == 130


def test_the_second_ctrl_c_ends_it_at_once_and_what_is_typed_is_shown_again() -> None:
    prompt = Prompt("deaf")
    prompt.types("\x03")
    prompt.sees("heard")
    assert not prompt.echo()
    prompt.types("\x03")
    assert prompt.end() == 130


@pytest.mark.parametrize(("undoes", "way"), [("", "--resume"), ("do/h1/x", "undo one")])
def test_who_is_asked_for_something_is_told_how_to_go_on(undoes: str, way: str) -> None:
    done = Human("Open the firewall", Read("open", "true"))
    action = Action("do/h1/x", "h1", "it is open", done, Nothing(), undoes=undoes)
    choices = (Choice("check", "Done: check it"), Choice("quit", "Quit"))
    question = Question("human", "it is open", "", choices, step="one", host="h1", subject=action)
    with pytest.raises(Waiting) as waits:
        Plain(yes=True, err=io.StringIO()).ask(question)
    assert waits.value.hint == f"do it, then: pmrunbook {way}"
