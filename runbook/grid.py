"""Checks that belong into a table: servers down, what they are compared in across."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runbook.symbols import verdict

Cell = tuple[str, str]  # row, column


@dataclass(frozen=True, slots=True)
class Grid:
    """Verdict and first words of each cell; rows and columns in the order they came."""

    cells: Mapping[Cell, tuple[bool | None, str]] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row for row, _ in self.cells))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for _, column in self.cells))

    def lines(self, width: int, *, ascii_only: bool = False) -> list[str]:
        """The table as text, at most `width` wide: one that is wider goes on below, column by
        column."""
        first = max((len(row) for row in self.rows), default=0)
        said = {
            cell: f"{verdict(ok).sign(ascii_only)} {words}"
            for cell, (ok, words) in self.cells.items()
        }
        lines: list[str] = []
        left = list(self.columns)
        while left:
            wide = first
            some: list[tuple[str, int]] = []
            while left:
                column = left[0]
                own = max(len(column), *(len(said.get((r, column), "-")) for r in self.rows))
                if some and wide + 2 + own > width:
                    break
                some.append((left.pop(0), own))
                wide += 2 + own
            lines += [""] if lines else []
            lines.append("  ".join([" " * first, *(c.ljust(w) for c, w in some)]).rstrip())
            for row in self.rows:
                words = (said.get((row, c), "-").ljust(w) for c, w in some)
                lines.append("  ".join([row.ljust(first), *words]).rstrip())
        return lines


def gist(observed: str) -> str:
    """The first words of what was observed, for a cell."""
    words = observed.partition(",")[0].partition(";")[0]
    return words if len(words) <= 26 else f"{words[:25]}…"


def grid(checks: Iterable[tuple[Cell, bool | None, str]]) -> Grid:
    """The table of those that have a place in one."""
    return Grid({cell: (ok, gist(observed)) for cell, ok, observed in checks if cell[0]})
