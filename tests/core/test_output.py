"""One way out to the terminal, which every text passes."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest

from runbook.output import say
from runbook.symbols import shown

CODE = Path(__file__).parents[2] / "runbook"


def test_nothing_is_printed_but_by_the_one_that_makes_it_harmless() -> None:
    found = [
        f"{path.relative_to(CODE)}:{node.lineno}"
        for path in CODE.rglob("*.py")
        if path.name != "output.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert found == []


def test_lines_keep_their_newlines_and_tabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMRUNBOOK_ASCII", "0")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    out = io.StringIO()
    say("a\tb\nç\x1b[31m", "\ud800", to=out)
    assert out.getvalue() == "a\tb\nç·[31m\n·\n"
    monkeypatch.setenv("PMRUNBOOK_ASCII", "1")
    say("\x07", end="", to=out)
    assert out.getvalue().endswith("?")


def test_text_without_harm_is_left_alone() -> None:
    assert shown("naïve → ✓ 日本") == "naïve → ✓ 日本"
    assert shown("a\u2028b\u200bc\x7f\r") == "a·b·c··"
