"""Stage `name` of the ca step: the CA's own name leads to the CA's host, everywhere."""

from __future__ import annotations

import ipaddress

from runbook.model import (
    Action,
    Answer,
    Check,
    DnsChange,
    Facts,
    Human,
    Nothing,
    Planned,
    Query,
    Read,
    Restore,
    Site,
    Stage,
    Verdict,
)
from runbook.shell import quote
from runbook.symbols import count

from . import reads
from .layout import Seen, expected, see
from .survey import leads_elsewhere

TTL = 300  # seconds: a name that is new should be quick to correct


def zones(name: str) -> tuple[str, ...]:
    """The zones a name may stand in, the longest first, without top-level domains."""
    labels = name.split(".")
    return tuple(".".join(labels[i:]) for i in range(1, len(labels) - 1))


def zone_of(site: Site, facts: Facts, name: str) -> str:
    """The zone that holds `name`: where a name server has an SOA record, else by the inventory."""
    for zone in zones(name):
        for server in site.dns.servers:
            if facts.answers.get(Query(zone, "SOA", server), Answer()).records:
                return zone
    domain = site.dns.domain
    return domain if domain and name.endswith(f".{domain}") else name.partition(".")[2]


def queries(site: Site) -> tuple[Query, ...]:
    return tuple(
        Query(zone, "SOA", server) for server in site.dns.servers for zone in zones(site.ca.name)
    )


def counted(given: int, named: int) -> str:
    """Name servers that were asked: the zone's own may be the inventory's, under their names."""
    said = f"{count(given, 'name server')} of the inventory"
    return f"{said}, {named} of the zone" if named else said


def addresses(site: Site, facts: Facts, host: str, rtype: str) -> tuple[str, ...]:
    """The addresses of a host of the site: what the zone says of it, else what it has itself."""
    for server in site.dns.servers:
        answer = facts.answers.get(Query(host, rtype, server), Answer())
        if found := tuple(filter(is_address, answer.records)):
            return found
    if host not in site:
        return ()
    seen = Seen(host, facts)
    # A host may have many addresses: best what it is dialled by, then what its own name leads to.
    best = [site.host(host).address, *seen.resolves(host), *seen.addresses]
    own = [a for a in best if a in seen.addresses and (":" in a) == (rtype == "AAAA")]
    return tuple(filter(is_address, own))[:1]


def is_address(text: str) -> bool:
    """Whether it is one: other hosts are told of what a name server or a host says."""
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def lacking(site: Site, facts: Facts) -> tuple[str, ...]:
    """Name servers that are asked and have no address for the CA's name."""
    found = []
    for server in site.dns.servers:
        answers = [facts.answers.get(Query(site.ca.name, t, server)) for t in ("A", "AAAA")]
        known = [a for a in answers if a is not None and a.error in ("", "NXDOMAIN")]
        if known and not any(a.records for a in known):
            found.append(server)
    return tuple(found)


def plan(site: Site, facts: Facts) -> Planned:
    hosts = see(site, facts)
    if any(leads_elsewhere(site, facts, seen) for seen in hosts):
        return ()  # somebody else's name: a blocker of the survey, never overwritten
    blind = [seen for seen in hosts if not seen.resolves(site.ca.name)]
    if site.dns.servers and not lacking(site, facts):
        return ()  # the zone is right; a host that does not see it has a trouble of its own
    if not site.dns.servers and not blind:
        return ()
    records = {
        t: found for t in ("A", "AAAA") if (found := addresses(site, facts, site.ca.host, t))
    }
    if site.dns.tsig and site.dns.servers and records:
        return tuple(_update(site, facts, rtype, found) for rtype, found in records.items())
    return (_ask(site, facts, records, blind),)


def _update(site: Site, facts: Facts, rtype: str, records: tuple[str, ...]) -> Action:
    name = site.ca.name
    change = DnsChange(
        server=site.dns.servers[0],
        zone=zone_of(site, facts, name),
        name=name,
        rtype=rtype,
        ttl=TTL,
        records=records,
    )
    lines = "\n".join(f"+{name}. {TTL} IN {rtype} {r}" for r in records)
    return Action(
        id=f"name/{site.ca.host}/{rtype}",
        host=site.ca.host,
        title=f"add {name} to the zone {change.zone}",
        do=change,
        undo=Restore(),
        diff=f"--- zone {change.zone}\n+++ zone {change.zone}\n@@\n{lines}\n",
    )


def _ask(
    site: Site, facts: Facts, records: dict[str, tuple[str, ...]], blind: list[Seen]
) -> Action:
    name = site.ca.name
    zone = zone_of(site, facts, name)
    lines = [f"{name}. {TTL} IN {t} {r}" for t, found in records.items() for r in found]
    where = ", ".join(lacking(site, facts)) or "the name servers of your hosts"
    text = [f"Add to the zone {zone} on {where}:", "", *(f"    {line}" for line in lines)]
    if not lines:
        text += [f"    {name}. IN A <the address of {site.ca.host}>"]
    text += ["", "Where names come from hosts files, add the line there, on every host."]
    if blind:
        text += ["", "These hosts have no address for it: " + ", ".join(s.name for s in blind)]
    proof = f"getent ahosts {quote(name)} | awk '{{print $1}}' | sort -u | grep ."

    return Action(
        id=f"name/{site.ca.host}/zone",
        host=site.ca.host,
        title=f"let {name} lead to {site.ca.host}",
        do=Human("\n".join(text), Read("ca-name", proof)),
        undo=Nothing(),
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    hosts = [seen.name for seen in expected(site, facts)]

    def judge(facts: Facts) -> Verdict:
        blind = [h for h in hosts if not Seen(h, facts).resolves(site.ca.name)]
        seen = f"no address on {', '.join(blind)}" if blind else f"on {count(len(hosts), 'host')}"
        remedy = "a name server may remember for a while that there was none: check again later"
        return Verdict(not blind, seen, remedy)

    return (
        Check(
            "name/resolves",
            f"{site.ca.name} leads to {site.ca.host}",
            judge,
            tuple((h, reads.names(site)) for h in hosts),
            patience=120.0,
            every=5.0,
        ),
    )


NAME = Stage("name", "The CA has a name of its own", plan, checks)
