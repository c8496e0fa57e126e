"""Pages made from the code are as the code would make them, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runbook.errors import Exit
from runbook.manual import document

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_commands_page_is_the_command_line() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text()
    # Python 3.13 wraps and names some lines of its own accord; the words are what counts.
    assert words(page) == words(document()), "run: make generate"


def words(text: str) -> list[str]:
    return re.sub(r"[^a-z]+", " ", text.lower()).split()


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)} == set(Exit)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_command_in_the_pages_exists() -> None:
    known = set(words(document()))
    for page in PAGES:
        for command in re.findall(r"^(?:sudo )?pmrunbook ([a-z]+)", page.read_text(), re.M):
            assert command in known, (page.name, command)
