"""`ca.clients: srv`: agents find the CA by the record _x-puppet-ca._tcp of their domain.

For Puppet SRV records beat server_list and every setting, ca_server included, and a service without
a record of its own takes _x-puppet: so this record has to be there before _x-puppet lists compile
masters, on every name server an agent may ask.
"""

from __future__ import annotations

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
    Risk,
    Site,
    Stage,
    Verdict,
)
from runbook.shell import quote
from runbook.symbols import count

from . import ca_name, reads
from .ca_clients import srv_domain
from .layout import Seen, ca_host, expected, see
from .shellwords import assignments

TTL = 300


def record_name(site: Site) -> str:
    return f"_x-puppet-ca._tcp.{srv_domain(site)}"


def record(site: Site, facts: Facts) -> str:
    """Priority, weight, port and target (RFC 2782); the certificate has to carry the target."""
    return f"0 5 {ca_host(site, facts).port} {site.ca.name}."


def queries(site: Site) -> tuple[Query, ...]:
    if site.ca.clients != "srv":
        return ()
    name = record_name(site)
    zones = ca_name.zones(name)
    return tuple(
        q
        for server in site.dns.servers
        for q in (
            Query(name, "SRV", server),
            *(Query(z, kind, server) for z in zones for kind in ("SOA", "NS")),
        )
    )


def others(site: Site, facts: Facts) -> tuple[str, ...]:
    """The zone's name servers as it names them: there may be some the inventory leaves out."""
    zone = ca_name.zone_of(site, facts, record_name(site))
    found = (facts.answers.get(Query(zone, "NS", s), Answer()).records for s in site.dns.servers)
    return tuple(sorted({record.rstrip(".").lower() for records in found for record in records}))


def as_hosts_see(site: Site) -> Read:
    """The record through the host's own resolver, as Puppet asks for it."""
    given = assignments(name=record_name(site))
    return Read("srv", given + reads.script("srv.sh"))


def read(site: Site) -> tuple[Read, ...]:
    return (as_hosts_see(site),) if site.ca.clients == "srv" else ()


def leads(site: Site, records: tuple[str, ...]) -> bool:
    """Whether the records lead to the CA's name and nowhere else."""
    targets = {r.split()[-1].rstrip(".").lower() for r in records if r.split()}
    return targets == {site.ca.name}


def plan(site: Site, facts: Facts) -> Planned:
    if site.ca.clients != "srv":
        return ()
    wrong = {}
    for server in site.dns.servers:
        answer = facts.answers.get(Query(record_name(site), "SRV", server), Answer(error="?"))
        if answer.error in ("", "NXDOMAIN") and not leads(site, answer.records):
            wrong[server] = answer
    if site.dns.servers and not wrong:
        return ()
    if site.dns.tsig and site.dns.servers:
        return (_update(site, facts, wrong[next(iter(wrong))]),)
    hosts = [s for s in see(site, facts) if s.ruby]
    if not site.dns.servers and all(leads(site, _seen(s)) for s in hosts):
        return ()
    return (_ask(site, facts),)


def _seen(seen: Seen) -> tuple[str, ...]:
    return tuple(seen.facts.get(seen.name, "srv").out.splitlines())


def _update(site: Site, facts: Facts, now: Answer) -> Action:
    name, wanted = record_name(site), record(site, facts)
    zone = ca_name.zone_of(site, facts, name)
    lines = [f"-{name}. {now.ttl} IN SRV {r}" for r in now.records]
    lines += [f"+{name}. {TTL} IN SRV {wanted}"]
    return Action(
        id=f"srv/{site.ca.host}/record",
        host=site.ca.host,
        title=f"publish {name}",
        do=DnsChange(
            server=site.dns.servers[0],
            zone=zone,
            name=name,
            rtype="SRV",
            ttl=TTL,
            records=(wanted,),
            before=now.records,
            before_ttl=now.ttl,
        ),
        undo=Restore(),
        # A record that is there sends agents somewhere already.
        risk=Risk.DESTRUCTIVE if now.records else Risk.CHANGE,
        diff=f"--- zone {zone}\n+++ zone {zone}\n@@\n" + "\n".join(lines) + "\n",
    )


def _ask(site: Site, facts: Facts) -> Action:
    name = record_name(site)
    text = (
        f"Publish this record, and no other of that name, on every name server agents may ask:\n\n"
        f"    {name}. {TTL} IN SRV {record(site, facts)}"
    )
    script, target = as_hosts_see(site).script, quote(f" {site.ca.name}.")
    proof = f"out=$( {script} )\nprintf '%s\\n' \"$out\" | grep -i -F {target}"
    return Action(
        id=f"srv/{site.ca.host}/zone",
        host=site.ca.host,
        title=f"publish {name}",
        do=Human(text, Read("srv-record", proof)),
        undo=Nothing(),
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """The record is the same on every name server, and every host finds it."""
    if site.ca.clients != "srv":
        return ()
    name = record_name(site)
    asked = tuple(Query(name, "SRV", server) for server in site.dns.servers)
    further = tuple(Query(name, "SRV", server) for server in others(site, facts))
    hosts = [s.name for s in expected(site, facts) if s.ruby or not s.reachable]

    def judge(facts: Facts) -> Verdict:
        bad = []
        for query in asked:
            answer = facts.answers.get(query, Answer(error="not asked"))
            if not leads(site, answer.records):
                bad.append(f"{query.server}: {answer.error or ', '.join(answer.records) or 'none'}")
        silent = []
        for query in further:
            answer = facts.answers.get(query, Answer(error="not asked"))
            if answer.error not in ("", "NXDOMAIN"):  # perhaps it is not for us to ask
                silent.append(f"{query.server} ({answer.error})")
            elif not leads(site, answer.records):
                bad.append(f"{query.server}: {', '.join(answer.records) or 'none'}")
        for host in hosts:
            if not leads(site, _seen(Seen(host, facts))):
                bad.append(f"{host}: {', '.join(_seen(Seen(host, facts))) or 'none'}")
        remedy = "a resolver may remember for a while that there was none: check again later"
        said = ca_name.counted(len(asked), len(further) - len(silent))
        said = f"at {said}, on {count(len(hosts), 'host')}"
        said += f"; not asked: {', '.join(silent)}" if silent else ""
        return Verdict(not bad, "; ".join(bad) or said, remedy)

    return (
        Check(
            "srv/record",
            f"{name} leads to {site.ca.name}, from every name server and host",
            judge,
            tuple((h, as_hosts_see(site)) for h in hosts),
            queries=(*asked, *further),
            patience=120.0,
            every=5.0,
        ),
    )


SRV = Stage("srv", "An SRV record leads to the CA", plan, checks)
