"""`pmrunbook dns plan`: who would get which share of the agents, and what if a server is down."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runbook.errors import Exit, UsageError
from runbook.model import Site
from runbook.output import say
from runbook.pools import Pool, outages, pools
from runbook.symbols import ascii_only, count

BAR = 20  # characters of a whole

DOWN = {
    "round-robin": "Names know no health: a connection to a server that refuses goes on to the "
    "next address, one to a server that is silent waits for up to two minutes.",
    "server-list": "An agent asks the servers of its list in order and takes the first that "
    "answers its status.",
    "tcp-proxy": "The proxy asks every server for its status each 5 seconds; after two failures "
    "it gets no more connections, and those it has are closed.",
    "hardware": "What the device does then is its own; the checks ask it.",
    "srv": "An agent goes on to the next record when it cannot connect; an answer 500 or 503 is "
    "no failure to it.",
}
DOWN["tls-proxy"] = DOWN["tcp-proxy"]


def bar(share: float, *, plain: bool = False, width: int = BAR) -> str:
    """A share, 0 to 1, as a bar of `width` characters."""
    full = round(share * width)
    on, off = ("#", ".") if plain else ("█", "░")
    return on * full + off * (width - full)


def as_data(site: Site, down: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The pools as JSON values: shares now, and for each outage."""
    return [
        {
            "group": pool.group,
            "strategy": pool.strategy,
            "name": pool.name,
            "agents": len(pool.agents),
            "shares": dict(pool.shares(down)),
            "outages": [
                {"down": words, "servers": list(names), "shares": dict(pool.shares(names))}
                for words, names in outages(site, pool)
            ],
        }
        for pool in pools(site)
    ]


def _shares(shares: Mapping[str, float], *, plain: bool) -> Iterator[str]:
    width = max((len(name) for name in shares), default=0)
    for name, share in sorted(shares.items(), key=lambda s: (-s[1], s[0])):
        yield f"  {name:{width}}  {bar(share, plain=plain)} {share:6.1%}"


def as_text(site: Site, down: Sequence[str] = (), *, plain: bool = False) -> str:
    """The same as text with bars; `plain`: ASCII only."""
    lines: list[str] = []
    for pool in pools(site):
        of = f"{pool.group}: " if pool.group else ""
        lines += [f"{of}{count(len(pool.agents), 'agent')} call {pool.name} ({pool.strategy})"]
        now = pool.shares(down)
        lines += _shares(now, plain=plain) if now else ["  nobody answers"]
        away = [m for m in pool.members if m.name not in now and m.name not in down]
        lines += [f"  {m.name} stands by, with priority {m.priority}" for m in away if m.weight]
        idle = [m for m in away if not m.weight]
        lines += [f"  {m.name} gets nothing: its weight is 0" for m in idle]
        if site.ca.host not in {m.name for m in pool.members}:
            lines.append(f"  {site.ca.host} compiles for none of them: it keeps the CA")
        if not down:
            lines += _if_down(site, pool)
        lines.append("")
    if lines:
        lines.append(DOWN[pools(site)[0].strategy])
    return "\n".join(lines)


def _if_down(site: Site, pool: Pool) -> Iterator[str]:
    for words, names in outages(site, pool):
        after = pool.shares(names)
        ranked = sorted(after.items(), key=lambda s: (-s[1], s[0]))
        said = ", ".join(f"{name} {share:.0%}" for name, share in ranked) or "nobody answers"
        yield f"  if {words} is down: {said}"


def command(site: Site, down: Sequence[str], *, as_json: bool) -> int:
    """Print it; UsageError where the inventory does not say how agents are spread."""
    found = pools(site)
    if not found:
        raise UsageError("the inventory has no load_balancing", hint=f"look at {site.source}")
    known = {m.name for pool in found for m in pool.members}
    if strange := [name for name in down if name not in known]:
        raise UsageError(
            f"{strange[0]} is in no pool", hint=f"the pools have {', '.join(sorted(known))}"
        )
    text = json.dumps(as_data(site, down), indent=2) if as_json else ""
    say(text or as_text(site, down, plain=ascii_only(os.environ)))
    return int(Exit.DONE)
