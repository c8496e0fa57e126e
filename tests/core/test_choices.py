"""Every answer to every question of the engine can be given in lines, and some by a flag."""

from __future__ import annotations

import ast
import io
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from runbook.cli import parser
from runbook.plain import Plain
from runbook.ports import Reply
from tests.core.questions import CHOICES, QUESTIONS

CODE = Path(__file__).parents[2] / "runbook"


def test_every_choice_there_is_is_among_them() -> None:
    there = {
        ast.literal_eval(node.args[0])
        for path in CODE.glob("*.py")  # the faces' own are deeper
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Choice"
    }
    assert there == {key for _, key in CHOICES}


# A password is typed on a terminal of its own: test_plain.
@pytest.mark.parametrize(("name", "key"), [c for c in CHOICES if c[0] != "secret"])
def test_an_answer_is_typed(name: str, key: str) -> None:
    question = QUESTIONS[name]
    keys = [choice.key for choice in question.choices]
    choice = question.choices[keys.index(key)]
    visits: list[str] = []
    with NamedTemporaryFile("w+") as typed:
        first = question.confirm and choice is question.choices[0]
        print("", "99", question.confirm if first else keys.index(key) + 1, sep="\n", file=typed)
        if choice.needs_text:
            print("", "by hand", sep="\n", file=typed)
        if choice.needs_evidence:
            print("$ get a", "1", ".", sep="\n", file=typed)
        if key == "shell":  # who comes back is asked again
            print(1, file=typed)
        typed.seek(0)
        err = io.StringIO()
        face = Plain(interactive=True, err=err, stdin=typed)
        face.shell = lambda host, start: visits.append(host) or 0  # type: ignore[func-returns-value]
        reply = face.ask(question)
        assert typed.read() == ""
    for offered in question.choices:
        assert offered.label in err.getvalue()
    if key == "shell":
        assert (visits, reply) == ([question.host], Reply(keys[0]))
        return
    assert visits == []
    assert reply == Reply(key, "by hand" * choice.needs_text, "$ get a\n1" * choice.needs_evidence)


@pytest.mark.parametrize("name", [n for n, q in QUESTIONS.items() if q.kind == "failure"])
def test_an_answer_to_a_failure_is_a_flag(name: str) -> None:
    """What a question does not offer is not answered with: then the run ends."""
    question = QUESTIONS[name]
    offered = {choice.key for choice in question.choices}
    [flag] = [a for a in parser()._actions if "--on-failure" in a.option_strings]
    for key in flag.choices or ():
        reply = Plain(on_failure=key, err=io.StringIO()).ask(question)
        assert reply.key == (key if key in offered else "quit")
