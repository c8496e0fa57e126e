"""Load balancing as the inventory has it: pools, names agents call, and where these are to lead.

Shared by the steps `balancer` (the new way is prepared, nobody goes it yet) and `cutover`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model import Answer, Facts, Host, Query, Read, Site
from runbook.pools import Member, Pool, pools
from runbook.shell import quote

from . import ca_name, reads
from .ca_clients import srv_domain
from .layout import Seen, ca_host

NAMED = ("round-robin", "tcp-proxy", "tls-proxy", "hardware")
"""Strategies by which a name agents call already leads elsewhere; the others change the agents."""
PROXIES = ("tcp-proxy", "tls-proxy")
TRIAL = "pmrunbook"
"""Below a pool's domain: where its records are tried before anybody's domain has them."""
LOW = 60  # seconds: what a TTL is lowered to, at most, while agents are moved
TTL = 300  # seconds, where the inventory says nothing
MARK = "pmrunbook: until the cut-over"
UNASKED = "not asked"
"""The error of an answer where no name server was asked: nobody said anything."""


def about(site: Site) -> Mapping[str, Any]:
    """What the inventory says of load balancing; empty where it says nothing."""
    return site.sections.get("load_balancing", {})


def strategy(site: Site) -> str:
    return str(about(site).get("strategy", ""))


def proxy(site: Site) -> str:
    """The proxy's host; empty where there is none of ours."""
    return str(about(site).get("host", "")) if strategy(site) in PROXIES else ""


def ttl(site: Site) -> int:
    """Seconds others may keep the pool's records when all is done."""
    return int(about(site).get("ttl", TTL))


def low(site: Site) -> int:
    """Seconds others may keep them while agents are moved: less than in the end, to be raised."""
    return max(1, min(LOW, ttl(site) - 1))


def names(site: Site) -> tuple[str, ...]:
    """The names that are to lead elsewhere."""
    if strategy(site) not in NAMED:
        return ()
    return tuple(dict.fromkeys(pool.server for pool in pools(site)))


def full(site: Site, name: str) -> str:
    """The name as a zone has it: a short one stands in the site's domain."""
    return name if "." in name else f"{name}.{site.dns.domain or site.ca.name.partition('.')[2]}"


def members(site: Site) -> tuple[Member, ...]:
    """Every server of any pool, once."""
    return tuple({m.name: m for pool in pools(site) for m in pool.members}.values())


def first_members(site: Site) -> tuple[str, ...]:
    """The servers that get agents while all is well."""
    found = (name for pool in pools(site) for name, share in pool.shares().items() if share)
    return tuple(dict.fromkeys(found))


def pool_of(site: Site, agent: str) -> Pool | None:
    """The pool this agent belongs to."""
    return next((pool for pool in pools(site) if agent in pool.agents), None)


# --- where names are to lead ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Records as they are to be: of one name and type."""

    name: str
    rtype: str
    records: tuple[str, ...]  # as a zone file has them


def leads_to(site: Site, pool: Pool) -> tuple[str, ...]:
    """The hosts, or the address, that a pool's name is to lead to."""
    if strategy(site) == "hardware":
        return (str(about(site).get("address", "")),) if about(site).get("address") else ()
    return (proxy(site),) if proxy(site) else tuple(m.name for m in pool.first)


def addresses(site: Site, facts: Facts, pool: Pool, rtype: str) -> tuple[str, ...]:
    """The addresses of one family that the pool's name is to have; sorted."""
    found: list[str] = []
    for target in leads_to(site, pool):
        if target in site:
            found += ca_name.addresses(site, facts, target, rtype)
        elif (":" in target) == (rtype == "AAAA") and not target[-1:].isalpha():
            found.append(target)
    return tuple(sorted(dict.fromkeys(found)))


def targets(site: Site, facts: Facts, name: str) -> tuple[str, ...]:
    """Every address the name is to have."""
    pool = next(p for p in pools(site) if p.server == name)
    return tuple(a for t in ("A", "AAAA") for a in addresses(site, facts, pool, t))


def alias(site: Site, facts: Facts, name: str) -> str:
    """What the name is an alias of, where it is one (CNAME)."""
    for server in site.dns.servers:
        asked = Query(full(site, name), "CNAME", server)
        if found := facts.answers.get(asked, Answer()).records:
            return found[0].rstrip(".").lower()
    return ""


def wanted(site: Site, facts: Facts) -> tuple[Wanted, ...]:
    """The records of the pool's names; a name that is an alias stays one, of the proxy.

    Addresses of a family that nothing of the pool has are to go: they lead to the old server.
    """
    found = []
    for name in names(site):
        pool = next(p for p in pools(site) if p.server == name)
        if alias(site, facts, name) and proxy(site):
            found.append(Wanted(full(site, name), "CNAME", (f"{proxy(site)}.",)))
            continue
        for rtype in ("A", "AAAA"):
            want = Wanted(full(site, name), rtype, addresses(site, facts, pool, rtype))
            old = any(answer(site, facts, want, server).records for server in site.dns.servers)
            if want.records or old:
                found.append(want)
    return tuple(found)


def domains(site: Site) -> tuple[str, ...]:
    """Where agents look for SRV records: the pools' domains, and where they find the CA now."""
    found = dict.fromkeys([*(p.domain for p in pools(site)), srv_domain(site)])
    return tuple(filter(None, found))


def ca_records(site: Site, facts: Facts) -> tuple[Wanted, ...]:
    """Where agents with SRV records find the CA: without these, at a compile master."""
    if strategy(site) != "srv":
        return ()
    record = f"0 5 {ca_host(site, facts).port} {site.ca.name}."
    return tuple(Wanted(f"_x-puppet-ca._tcp.{d}", "SRV", (record,)) for d in domains(site))


def pool_records(site: Site) -> tuple[Wanted, ...]:
    """The pools as SRV records; a report or a file takes these too, without any of its own."""
    if strategy(site) != "srv":
        return ()
    return tuple(
        Wanted(f"_x-puppet._tcp.{p.domain}", "SRV", tuple(sorted(p.records)))
        for p in pools(site)
        if p.domain
    )


def trial_records(site: Site, facts: Facts) -> tuple[Wanted, ...]:
    """The same records below a name that no agent asks for, unless it is told to for one run."""
    wants = (*ca_records(site, facts), *pool_records(site))
    domains = {p.domain for p in pools(site)}
    found = []
    for want in wants:
        kind, _, domain = want.name.partition("._tcp.")
        if domain in domains:
            found.append(Wanted(f"{kind}._tcp.{TRIAL}.{domain}", "SRV", want.records))
    return tuple(found)


def answer(site: Site, facts: Facts, want: Wanted, server: str) -> Answer:
    """What a name server says now."""
    return facts.answers.get(Query(want.name, want.rtype, server), Answer(error=UNASKED))


def same(want: Wanted, got: Answer) -> bool:
    """Whether the answer is just what is wanted."""
    return {r.lower() for r in got.records} == {r.lower() for r in want.records}


def queries(site: Site) -> tuple[Query, ...]:
    """What every authoritative name server is asked."""
    asked: list[tuple[str, str]] = []
    for name in names(site):
        asked += [(full(site, name), t) for t in ("A", "AAAA", "CNAME")]
        zones = ca_name.zones(full(site, name))
        asked += [(zone, t) for zone in zones for t in ("SOA", "NS")]
    if names(site):
        hosts = {proxy(site)} if proxy(site) else {m.name for m in members(site)}
        asked += [(host, t) for host in sorted(hosts) for t in ("A", "AAAA")]
    if strategy(site) == "srv":
        for domain in domains(site):
            kinds = ("_x-puppet-ca", "_x-puppet", "_x-puppet-report", "_x-puppet-fileserver")
            asked += [(f"{kind}._tcp.{domain}", "SRV") for kind in kinds]
            asked += [(f"{kind}._tcp.{TRIAL}.{domain}", "SRV") for kind in kinds[:2]]
            zones = ca_name.zones(f"_tcp.{domain}")
            asked += [(zone, t) for zone in zones for t in ("SOA", "NS")]
        asked += [(m.name, t) for m in members(site) for t in ("A", "AAAA")]
    unique = dict.fromkeys(asked)
    return tuple(Query(n, t, server) for server in site.dns.servers for n, t in unique)


def digest(site: Site) -> str:
    """Of the way agents are to go: what was proved for one proves nothing for another."""
    said = [strategy(site), proxy(site), str(about(site).get("address", ""))]
    said += [f"{p.group} {p.server} {p.domain} {' '.join(p.records)}" for p in pools(site)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


# --- reads ----------------------------------------------------------------------------------------


def catalog_log(site: Site) -> Read:
    """Who got a catalog from a Puppet Server, and how long that took."""
    nodes = " ".join(h.name for h in site.having("agent")[:200])
    return Read(
        "catalog-log",
        f"pc_nodes={quote(nodes)}\n{reads.script('catalog_log.sh')}",
        limit=131_072,
    )


def pins(site: Site) -> Read:
    """What this host's hosts file says of the names."""
    wanted_names = quote(" ".join(names(site)))
    return Read(
        "pins",
        f"pc_names={wanted_names} pc_mark={quote(MARK)}\n{reads.script('pins.sh')}",
    )


def pool_names(site: Site) -> Read:
    """Where the pool's names lead to, from the host's own point of view."""
    wanted_names = quote(" ".join(names(site)))
    return Read("pool-names", f"pc_names={wanted_names}\n{reads.script('names.sh')}")


def srv_seen(site: Site) -> Read:
    """The SRV records of the pools, and the CA's, by the host's own resolver."""
    if strategy(site) != "srv":
        return Read("pool-srv", ":")
    lines = []
    for domain in domains(site):
        for kind in ("_x-puppet-ca", "_x-puppet"):
            name = f"{kind}._tcp.{domain}"
            word = quote(name)
            lines.append(f"(printf '[%s]\\n' {word}; name={word}\n{reads.script('srv.sh')}\n)")
    return Read("pool-srv", "\n".join(lines))


def read(site: Site, host: Host) -> tuple[Read, ...]:
    """What both steps look at on a host."""
    if not about(site):
        return ()
    own: list[Read] = [*reads.survey(site, host), reads.proofs(site), pins(site), pool_names(site)]
    if "server" in host.roles:
        own += [reads.SERVER_FILES, catalog_log(site)]
    if strategy(site) == "srv":
        own.append(srv_seen(site))
    return tuple(own)


def agents(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The enrolled agents that answered, in the inventory's order."""
    found = (Seen(h.name, facts) for h in site.having("agent") if facts.reachable(h.name))
    return tuple(s for s in found if s.enrolled and not s.enterprise)
