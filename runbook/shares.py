"""How a load is spread over servers: what was planned beside what was counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """One server's part of a population of agents, from 0 to 1, and the requests counted."""

    server: str
    planned: float | None = None  # None: nobody planned that it serves any
    measured: float | None = None  # None: not measured
    count: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """How agents are spread over servers."""

    title: str
    shares: tuple[Share, ...]

    @property
    def measured(self) -> bool:
        return any(share.measured is not None for share in self.shares)


def spread(title: str, plan: Mapping[str, float], counts: Mapping[str, int] | None) -> Spread:
    """Planned shares beside what was counted per server; `counts` None: nothing was measured."""
    if counts is None:
        return Spread(title, tuple(Share(name, part) for name, part in plan.items()))
    total = sum(counts.values())
    return Spread(
        title,
        tuple(
            Share(
                name,
                plan.get(name),
                counts.get(name, 0) / total if total else 0.0,
                counts.get(name, 0),
            )
            for name in dict.fromkeys((*plan, *counts))
        ),
    )
