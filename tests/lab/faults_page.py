"""The page docs/reference/faults.md, from what walks found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

SIGNS = {"passed": "✓", "unknown": "?", "failed": "✗ FAILED", "": "·"}


@dataclass(frozen=True)
class Column:
    """A fault as the page knows it."""

    id: str
    title: str


@dataclass
class Cell:
    """What became of one action and one fault."""

    chapter: str
    row: str  # the action, and what kind of host it is on
    action: str
    host: str
    fault: str  # "": it is known to be there
    outcome: str = "passed"  # | "unknown" | "failed" | "": it met none
    note: str = ""
    exits: list[int] = field(default_factory=list)  # of the run that was hit, and of the next
    seconds: int = 0
    doubled: int = 0  # times the action was done once too often
    debts: int = 0
    halves: int = 0  # files left half-written, at the end of the walk
    version: str = ""

    def fail(self, note: str) -> None:
        self.outcome = "failed"
        self.note = "; ".join(filter(None, (self.note, note)))


def load(path: Path) -> list[Cell]:
    """The results kept so far; of the same cell on the same host the last one counts."""
    kept: dict[tuple[str, ...], Cell] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        cell = Cell(**json.loads(line))
        kept[cell.chapter, cell.row, cell.action, cell.fault] = cell
    return list(kept.values())


def add(path: Path, cells: Iterable[Cell]) -> None:
    with path.open("a") as file:
        for cell in cells:
            file.write(json.dumps(asdict(cell)) + "\n")


def _worst(cells: Sequence[Cell]) -> str:
    outcomes = {cell.outcome for cell in cells}
    return next((o for o in ("failed", "unknown", "passed") if o in outcomes), "")


def page(cells: Sequence[Cell], columns: Sequence[Column], chapters: Mapping[str, str]) -> str:
    """The whole page; `chapters` are all there are, by id, with their titles."""
    rows: dict[str, dict[str, list[Cell]]] = {chapter: {} for chapter in chapters}
    for cell in cells:
        rows[cell.chapter].setdefault(cell.row, []).append(cell)
    many = sum(len(found) for found in rows.values()) * len(columns)
    outcomes = [
        _worst([c for c in found if c.fault == column.id])
        for chapter in rows.values()
        for found in chapter.values()
        for column in columns
    ]
    walked = [chapters[chapter] for chapter in chapters if rows[chapter]]
    never = [chapters[chapter] for chapter in chapters if not rows[chapter]]
    lines = [
        "# What was broken on purpose, and how it went on",
        "",
        "Made by `make faults` from `faults.jsonl`, which holds what was really run in the lab; do "
        "not edit.",
        "In each cell an action met a fault, the fault was healed, and `--resume` went on.",
        "",
        "| | |",
        "|---|---|",
        f"| chapters walked | {', '.join(walked) or 'none'} |",
        f"| chapters not walked yet | {', '.join(never) or 'none'} |",
        f"| cells of those walked | {many} |",
        *(
            f"| {label} | {sum(o in which for o in outcomes)} |"
            for label, which in (
                ("run", ("passed", "unknown", "failed")),
                ("passed", ("passed",)),
                ("stood at a named UNKNOWN, and passed once that was decided", ("unknown",)),
                ("**failed**", ("failed",)),
                ("not run yet", ("",)),
            )
        ),
        f"| actions done twice | {sum(c.doubled for c in cells)} |",
        f"| debts left | {sum(c.debts for c in cells)} |",
        f"| half-written files left | {sum(c.halves for c in cells)} |",
        "",
        "✓ passed: the estate ends as that of an unbroken run. ? the run stood at UNKNOWN, said of "
        "what, and the operator",
        "said to do it again. · not run yet.",
        "",
        "| | fault |",
        "|---|---|",
        *(f"| {n} | {column.title} |" for n, column in enumerate(columns, 1)),
    ]
    for chapter, title in chapters.items():
        if not rows[chapter]:
            continue
        numbers = range(1, len(columns) + 1)
        lines += ["", f"## {title}", "", f"| action | {' | '.join(map(str, numbers))} |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for row, found in rows[chapter].items():
            signs = (SIGNS[_worst([c for c in found if c.fault == x.id])] for x in columns)
            lines += [f"| {row} | {' | '.join(signs)} |"]
    titles = {column.id: column.title for column in columns}
    told = [
        f"- {SIGNS[c.outcome]} {c.row}, {titles.get(c.fault, c.fault)}: {c.note}"
        for c in cells
        if c.outcome not in ("passed", "")
    ]
    lines += ["", "## What did not pass at once", "", *told] if told else []
    return "\n".join(lines) + "\n"
