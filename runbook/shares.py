"""What SRV records, and the weights of a pool, do to a population of agents."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model import Host, Site


@dataclass(frozen=True, slots=True)
class Srv:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str  # lower case, without the final dot


def srv(record: str) -> Srv:
    """The record that `record`, such as "0 5 8140 ca.example.com.", says; ValueError if none."""
    priority, weight, port, target = record.split()
    return Srv(int(priority), int(weight), int(port), target.rstrip(".").lower())


def shares(records: Iterable[str], down: Collection[str] = ()) -> Mapping[int, Mapping[str, float]]:
    """Per priority, the share of the agents that each target gets; each priority sums to 1.

    A priority is used only by agents that failed at every target of the lower ones. Puppet picks
    in proportion to ten times the weight, 1 for a weight of 0, and draws again without a target
    that failed (lib/puppet/network/resolver.rb), so targets that are `down` leave theirs to the
    others of their priority.
    """
    weights: dict[int, dict[str, float]] = {}
    for record in map(srv, records):
        if record.target not in down:
            of = weights.setdefault(record.priority, {})
            weight = 10 * record.weight or 1
            of[record.target] = of.get(record.target, 0) + weight
    return {
        priority: {target: weight / sum(of.values()) for target, weight in sorted(of.items())}
        for priority, of in sorted(weights.items())
    }


def first_choice(records: Iterable[str], down: Collection[str] = ()) -> Mapping[str, float]:
    """The share of all agents that end at each target: the lowest priority that still answers."""
    by_priority = shares(records, down)
    return by_priority[min(by_priority)] if by_priority else {}


# --- what the inventory plans, and what was measured ----------------------------------------------


def planned(strategy: str, pool: Iterable[Mapping[str, Any]]) -> Mapping[str, float]:
    """The share of its agents that each server of a pool of the inventory is to get.

    DNS hands out all addresses alike; a proxy goes by the weights of the lowest priority.
    """
    members = tuple(pool)
    if strategy == "srv":
        return first_choice(
            f"{m['priority']} {m['weight']} {m['port']} {m['name']}." for m in members
        )
    if strategy == "round-robin":
        return {m["name"]: 1 / len(members) for m in members}
    first = [m for m in members if m["priority"] == min(x["priority"] for x in members)]
    total = sum(m["weight"] for m in first)
    return {m["name"]: m["weight"] / total if total else 1 / len(first) for m in first}


@dataclass(frozen=True, slots=True)
class Pool:
    """Agents that call one name, and the servers behind it, as the inventory has them."""

    name: str
    how: str  # "DNS, round robin"
    agents: tuple[Host, ...]
    servers: Mapping[str, float]  # share by server; a standby has none
    standby: tuple[str, ...] = ()


HOW = {
    "round-robin": "DNS, round robin",
    "srv": "DNS SRV records",
    "tcp-proxy": "TCP proxy",
    "tls-proxy": "TLS proxy",
    "hardware": "load balancer",
}


def _pool(
    site: Site, about: Mapping[str, Any], of: Mapping[str, Any], agents: tuple[Host, ...]
) -> Pool:
    strategy = str(about["strategy"])
    name = of.get("server") or site.server
    if strategy == "srv":
        name = f"_x-puppet._tcp.{of.get('domain') or about.get('domain', '')}"
    where = about.get("host") or about.get("address")
    shares = planned(strategy, of["servers"])
    return Pool(
        name,
        HOW.get(strategy, strategy) + (f" on {where}" if where else ""),
        agents,
        shares,
        tuple(m["name"] for m in of["servers"] if m["name"] not in shares),
    )


def pools(site: Site) -> tuple[Pool, ...]:
    """Every pool of the inventory that has agents; none where it says nothing of balancing."""
    about = site.sections.get("load_balancing")
    if not about:
        return ()
    agents = site.having("agent")
    sites: Mapping[str, Mapping[str, Any]] = about.get("sites", {})
    found = [
        _pool(site, about, of, tuple(h for h in agents if h.group == group))
        for group, of in sites.items()
    ]
    rest = tuple(h for h in agents if h.group not in sites)
    found.append(_pool(site, about, {"servers": about["servers"]}, rest))
    return tuple(pool for pool in found if pool.agents)


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
