"""A balancer that is not ours: a person is told what to set on it, and outside it is proved."""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model import (
    Action,
    Check,
    Facts,
    Human,
    Later,
    Nothing,
    Planned,
    Read,
    Site,
    Stage,
    Verdict,
)
from runbook.pools import Member, pools
from runbook.shell import quote

from . import ca_name, reads
from .balance import about, first_members, strategy
from .balance_config import STAYS, own_name, probe
from .balance_front import relay
from .layout import Seen, ca_host, unknown

PORT = 8140
TIMES = 4  # connections of each host
HOSTS = 20  # hosts that ask


def address(site: Site) -> str:
    """Where the device is; empty where there is none."""
    return str(about(site).get("address", "")) if strategy(site) == "hardware" else ""


def look(site: Site, strict: bool = False) -> Read:
    """What answers there, over several connections; `strict`: whether it does, as exit status."""
    given = (
        f"pc_address={quote(address(site))} pc_port={PORT} pc_name={quote(own_name(site))} "
        f"pc_path=/status/v1/simple pc_times={TIMES} "
        f"pc_strict={'yes' if strict else 'no'}\n"
    )
    return Read("device", given + reads.script("device.sh"), timeout=120.0)


def hosts(site: Site) -> tuple[str, ...]:
    """The hosts that ask, agents first."""
    if not address(site):
        return ()
    return tuple(h.name for h in sorted(site.hosts, key=lambda h: "agent" not in h.roles))[:HOSTS]


def read(site: Site, name: str) -> tuple[Read, ...]:
    return (look(site),) if name in hosts(site) else ()


def asking(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """Those of them that answered and know the CA."""
    found = (Seen(name, facts) for name in hosts(site) if facts.reachable(name))
    return tuple(s for s in found if s.ruby and s.trusts)


# --- what it has to be told -----------------------------------------------------------------------


def instruction(site: Site, facts: Facts) -> str:
    name, path = own_name(site), f"/status/v1/simple/{probe(site, facts)}"
    lowest = min((m.priority for p in pools(site) for m in p.members), default=0)
    lines = [f"Set up the balancer at {address(site)}, port {PORT}, for {name}.", "", "Servers:"]
    lines += [_member(site, facts, m, lowest) for m in pools(site)[0].members]
    lines += [
        "",
        f"Health: GET {path} over TLS, HTTP/1.1, with the header Host: {name}; 200 and the word",
        "  running mean up. Every 5 s; down after 2 failures, up after 2. Verify the certificate,",
        f"  for the server's own name, by the CA in {ca_host(site, facts).setting('localcacert')}",
        f"  of {site.ca.host}.",
        "Idle timeouts: 30 minutes, of clients and of servers: a catalog may take minutes.",
        f"Spread: least connections; one source address stays with one server for {STAYS} seconds.",
    ]
    lines += _ending(site, facts) if relay(site) else _passing(name)
    return "\n".join(lines)


def _member(site: Site, facts: Facts, member: Member, lowest: int) -> str:
    found = [*ca_name.addresses(site, facts, member.name, "A")]
    found += ca_name.addresses(site, facts, member.name, "AAAA")
    where = " ".join(found) or "(its address)"
    later = "" if member.priority == lowest else ", only when all of the others are down"
    weight = f"weight {member.weight}" if member.weight else "weight 0: no agents"
    return f"  {member.name}  {where}  port {member.port}  {weight}{later}"


def _passing(name: str) -> list[str]:
    return [
        "TLS: passed through as it is, on layer 4; no PROXY protocol. The servers' certificates",
        f"  carry {name}.",
    ]


def _ending(site: Site, facts: Facts) -> list[str]:
    name, ca = own_name(site), ca_host(site, facts)
    further = ",".join(f"DNS:{n}" for n in dict.fromkeys((name, *site.dns_alt_names)))
    crl = f"https://{site.ca.name}:{ca.port}/puppet-ca/v1/certificate_revocation_list/ca"
    return [
        "TLS: ended by the device.",
        f"  Its certificate: make the key there, and a request for CN={name} with the alternative",
        f"  names {further}. Put the request on {site.ca.host} as",
        f"  {ca.setting('csrdir', 'server')}/{name}.pem, compare its digest on both, and sign:",
        f"  puppetserver ca sign --certname {name} (with allow-subject-alt-names in ca.conf).",
        "  Agents' certificates: asked for, not demanded; who shows one is verified by the CA's",
        f"  certificates and its revocation list, fetched every hour from {crl}",
        "  No session is resumed without that.",
        "  Headers: X-Client-Verify, X-Client-DN and X-Client-Cert are taken out of every request,",
        "  whoever sent them. Then X-Client-Verify: NONE without a certificate; with one SUCCESS,",
        "  X-Client-DN: CN=... (RFC 2253), X-Client-Cert: the PEM, URI-encoded (a blank is %20).",
        "  To the servers: TLS again, with that same certificate shown: they believe no other one;",
        "  each server's certificate is verified, for the server's own name.",
    ]


# --- the stage ------------------------------------------------------------------------------------


def answers(facts: Facts, host: str) -> bool:
    """Whether this host was served there, each time it asked."""
    found = Seen(host, facts).parsed("device")[""]
    said = found.all("status")
    return bool(said) and "error" not in found and all(s.startswith("200 ") for s in said)


def plan(site: Site, facts: Facts) -> Planned:
    if not address(site) or all(answers(facts, s.name) for s in asking(site, facts)):
        return ()
    ca = ca_host(site, facts)
    if not ca.ruby:
        return (Later("what the device is to be told", "it can be read", ca.name),)
    return (
        Action(
            id=f"device/{ca.name}/device",
            host=ca.name,
            title=f"set up the balancer at {address(site)}",
            do=Human(instruction(site, facts), look(site, strict=True)),
            undo=Nothing("the device's settings: nothing leads agents there any more"),
        ),
    )


# --- proof: from the outside ----------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    if not address(site):
        return ()
    return (*_answers(site, facts), *_members(site, facts))


def _answers(site: Site, facts: Facts) -> Iterator[Check]:
    read = look(site)
    where, name = f"{address(site)}:{PORT}", own_name(site)
    for seen in asking(site, facts):
        asked = (seen.name, read)

        def judge(facts: Facts, host: str = seen.name, asked: tuple[str, Read] = asked) -> Verdict:
            if silent := unknown(facts, asked):
                return silent
            found = Seen(host, facts).parsed("device")[""]
            said = [*found.all("error"), *(f"status {s}" for s in found.all("status"))]
            remedy = f"on the device: its listener, its servers' health, the certificate of {name}"
            return Verdict(answers(facts, host), "; ".join(said) or "not asked", remedy)

        yield Check(
            f"device/{seen.name}",
            f"{seen.name} is served at {where}, by a certificate for {name}",
            judge,
            (asked,),
            patience=20.0,
            every=5.0,
        )


def _members(site: Site, facts: Facts) -> Iterator[Check]:
    """Where TLS passes through, each server is known by its own certificate."""
    if relay(site):
        return
    ask = [s.name for s in asking(site, facts)]
    wanted = first_members(site)
    asked = tuple((h, look(site)) for h in ask)
    known = tuple((name, reads.CERTIFICATES) for name in wanted)

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked, *known):
            return silent
        counted: dict[str, int] = {}
        for host in ask:
            for line in Seen(host, facts).parsed("device")[""].all("serial"):
                serial, _, n = line.partition(" ")
                counted[serial] = counted.get(serial, 0) + int(n)
        own = {m: (c.serial if (c := Seen(m, facts).hostcert) else "") for m in wanted}
        missing = [m for m, serial in own.items() if not counted.get(serial)]
        strange = sorted(counted.keys() - set(own.values()))
        said = [f"{m} {counted.get(serial, 0)}" for m, serial in own.items()]
        said += [f"a certificate of no member (serial {serial})" for serial in strange]
        remedy = f"on the device: is {' and '.join(missing) or 'nothing else'} in the pool, and up?"
        if len(ask) < 2 * len(wanted):
            remedy += " With few hosts, let no source stay with one server while this is checked."
        return Verdict(not missing and not strange, ", ".join(said), remedy)

    yield Check(
        "device/members",
        f"{address(site)} leads to {' and '.join(wanted)}",
        judge,
        (*asked, *known),
        patience=float(STAYS) + 30,
        every=15.0,
    )


def intent(site: Site) -> tuple[str, ...]:
    return (f"{address(site)}: you are told what to set on it",) if address(site) else ()


DEVICE = Stage("device", "The balancer is set up, by a person", plan, checks, intent=intent)
