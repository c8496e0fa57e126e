"""How a status is written: a symbol, a word and a tone, never colour alone.

Both faces use these. A *tone* is the meaning of a colour ("good", "bad", "warn", "busy", "dim",
"plain"); what colour that is, if any, the face decides.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from runbook.model import Severity, Status


@dataclass(frozen=True, slots=True)
class Mark:
    """One way to write a status."""

    symbol: str  # one cell wide, without an emoji form
    ascii: str
    word: str
    tone: str

    def sign(self, ascii_only: bool = False) -> str:
        return self.ascii if ascii_only else self.symbol


STATUS: Mapping[Status, Mark] = {
    Status.PENDING: Mark("·", ".", "pending", "dim"),
    Status.RUNNING: Mark("▸", ">", "running", "busy"),
    Status.WAITING: Mark("◆", "!", "waiting", "warn"),
    Status.OK: Mark("✓", "+", "ok", "good"),
    Status.ATTESTED: Mark("≈", "~", "attested", "warn"),
    Status.FAILED: Mark("✗", "x", "failed", "bad"),
    Status.UNKNOWN: Mark("?", "?", "unknown", "warn"),
    Status.SKIPPED: Mark("»", "-", "skipped", "dim"),
    Status.EXCLUDED: Mark("⊘", "/", "excluded", "warn"),
    Status.BLOCKED: Mark("■", "#", "blocked", "warn"),
    Status.UNDONE: Mark("↶", "<", "undone", "dim"),
}

SEVERITY: Mapping[str, Mark] = {
    Severity.BLOCKER.value: Mark("✗", "x", "blocker", "bad"),
    Severity.WARNING.value: Mark("▲", "!", "warning", "warn"),
    Severity.NOTE.value: Mark("·", ".", "note", "dim"),
}

PASSED = Mark("✓", "+", "passed", "good")
NOT_PASSED = Mark("✗", "x", "failed", "bad")
UNTOLD = Mark("?", "?", "unknown", "warn")
"""A check that could not be told is neither passed nor failed."""

AS_FOUND = Mark("●", "*", "as found", "plain")
MADE = Mark("✓", "+", "done", "good")
UNDER_WAY = Mark("◐", "~", "under way", "warn")
TO_COME = Mark("○", "o", "to come", "dim")
"""What stands in the map: as found, made by a step that is finished or begun, or not yet there."""

URGENCY = (
    Status.FAILED,
    Status.UNKNOWN,
    Status.WAITING,
    Status.BLOCKED,
    Status.RUNNING,
    Status.EXCLUDED,
    Status.ATTESTED,
    Status.PENDING,
    Status.UNDONE,
    Status.SKIPPED,
    Status.OK,
)
"""The order of a live table: what needs a person first."""

MODES: Mapping[str, str] = {
    "run": "RUN",
    "resume": "RESUME",
    "dry-run": "DRY RUN: changes nothing",
    "verify": "VERIFY: changes nothing",
    "undo": "UNDO",
    "undo-dry-run": "UNDO, DRY RUN: changes nothing",
    "repay": "REPAY DEBTS",
}


def verdict(ok: bool | None) -> Mark:
    """The mark of a check's verdict."""
    return UNTOLD if ok is None else PASSED if ok else NOT_PASSED


def ascii_only(environ: Mapping[str, str]) -> bool:
    """Whether only ASCII may be written: PMRUNBOOK_ASCII is set, or the locale is not UTF-8.

    The locale is the first of LC_ALL, LC_CTYPE and LANG that is set (POSIX, chapter 8.2).
    """
    if environ.get("PMRUNBOOK_ASCII", "") not in ("", "0"):
        return True
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environ[n] for n in names if environ.get(n)), "")
    return "utf" not in locale.lower()


def span(seconds: float) -> str:
    """A length of time: "0:07", "12:40", "3:05:00"."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int, noun: str) -> str:
    """ "1 host", "2 hosts"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def shown(text: object, instead: str = "\N{MIDDLE DOT}") -> str:
    """`text` with nothing in it that a terminal would obey or that changes how a page is read.

    Newlines and tabs stay; `instead` stands for every other control, direction override, line
    separator and whatever else has no look of its own.
    """
    said = str(text)
    if said.isprintable():
        return said
    return "".join(instead if _harmful(c) and c not in "\n\t" else c for c in said)


def _harmful(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
