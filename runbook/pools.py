"""Who gets which share of the agents: the pools of an inventory, and SRV arithmetic (RFC 2782).

Pure: a site in, shares out. The same arithmetic serves every strategy, since each of them is a
priority and a weight for a server; how faithfully it is kept is the strategy's own matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runbook.model import Site


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


# --- the pools of an inventory ----------------------------------------------------------------

EQUAL = ("round-robin", "server-list")
"""Strategies that know no weights: addresses in turn, or an order of its own for each agent."""


@dataclass(frozen=True, slots=True)
class Member:
    """A Puppet Server in a pool."""

    name: str
    weight: int = 1
    priority: int = 0
    port: int = 8140


HOW = {
    "round-robin": "DNS, round robin",
    "srv": "DNS SRV records",
    "tcp-proxy": "TCP proxy",
    "tls-proxy": "TLS proxy",
    "hardware": "load balancer",
    "server-list": "a list of its own",
}


@dataclass(frozen=True, slots=True)
class Pool:
    """The servers that one group of agents is spread over."""

    group: str  # of the inventory; empty: the agents in none of the groups with a pool
    server: str  # the name these agents call
    domain: str  # where their SRV records are; empty with other strategies
    members: tuple[Member, ...]
    agents: tuple[str, ...]
    strategy: str
    where: str = ""  # the balancer's host or address

    @property
    def name(self) -> str:
        """What its agents ask for: the name they call, or the SRV records of their domain."""
        return f"_x-puppet._tcp.{self.domain}" if self.strategy == "srv" else self.server

    @property
    def how(self) -> str:
        """The strategy in words, and where it is put into effect."""
        words = HOW.get(self.strategy, self.strategy)
        return f"{words} on {self.where}" if self.where else words

    @property
    def standby(self) -> tuple[str, ...]:
        """The servers that get agents only when others fail."""
        used = self.shares()
        return tuple(m.name for m in self.members if m.name not in used)

    @property
    def first(self) -> tuple[Member, ...]:
        """The members that are used while all is well: those of the lowest priority."""
        lowest = min((m.priority for m in self.members), default=0)
        return tuple(m for m in self.members if m.priority == lowest)

    @property
    def records(self) -> tuple[str, ...]:
        """The pool as SRV records: priority, weight, port, target."""
        return tuple(f"{m.priority} {m.weight} {m.port} {m.name}." for m in self.members)

    def shares(self, down: Collection[str] = ()) -> Mapping[str, float]:
        """The share of its agents that each server gets, by name, while those are `down`.

        A proxy gives nothing to a weight of 0, an SRV record of weight 0 a tenth of one of 1.
        """
        members = self.members
        if self.strategy in EQUAL:
            members = tuple(Member(m.name, 1, m.priority, m.port) for m in members)
        elif self.strategy != "srv":
            members = tuple(m for m in members if m.weight)
        return first_choice((f"{m.priority} {m.weight} {m.port} {m.name}." for m in members), down)


def pools(site: Site) -> tuple[Pool, ...]:
    """The pools of a site, those of groups first; none where it does not say how to balance."""
    about = site.sections.get("load_balancing")
    if not about:
        return ()
    groups = about.get("sites", {})
    found = [
        _pool(site, about["strategy"], group, of, of.get("domain", ""))
        for group, of in groups.items()
    ]
    rest = _pool(site, about["strategy"], "", about, about.get("domain", ""))
    if not groups or rest.agents:
        found.append(rest)
    return tuple(found)


def _pool(site: Site, strategy: str, group: str, of: Mapping[str, object], domain: str) -> Pool:
    about = site.sections["load_balancing"]
    groups = about.get("sites", {})
    agents = site.having("agent")
    mine = [h for h in agents if (h.group if h.group in groups else "") == group]
    entries = of["servers"]
    assert isinstance(entries, Sequence)  # noqa: S101 - the loader makes it one
    return Pool(
        group=group,
        server=str(of.get("server") or site.server),
        domain=domain,
        members=tuple(
            Member(e["name"], e.get("weight", 1), e.get("priority", 0), e.get("port", 8140))
            for e in entries
        ),
        agents=tuple(h.name for h in mine),
        strategy=strategy,
        where=str(about.get("host") or about.get("address") or ""),
    )


def outages(site: Site, pool: Pool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What may be down, in words, and which servers that takes: each one, then each whole group."""
    for member in pool.members:
        yield member.name, (member.name,)
    groups: dict[str, list[str]] = {}
    for member in pool.members:
        groups.setdefault(site.host(member.name).group, []).append(member.name)
    for group, names in groups.items():
        if group and len(names) > 1:
            yield f"all of {group}", tuple(names)
