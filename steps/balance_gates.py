"""What has to be right before agents are moved: names in certificates, capacity, pitfalls."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from runbook.model import Answer, Facts, Finding, Query, Site
from runbook.pools import EQUAL, Pool, pools
from runbook.symbols import count

from . import balance, balance_dns, ca_name
from .balance import (
    about,
    ca_records,
    full,
    members,
    names,
    pool_records,
    proxy,
    strategy,
    targets,
    wanted,
)
from .catalogue import found
from .compiler import sizing
from .fields import NONE, sections
from .layout import Seen

DAY = 86_400
BUSY = 0.7  # of all JRuby instances in use: what is above makes agents queue at busy times
UNLIKE = 0.15  # of the agents more, or less, than a server's part of the pool
ASSUMED = 10.0  # seconds a catalog takes where no log says
HALF_HOUR = 1800.0
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": DAY, "y": 365 * DAY}


def seconds(text: str) -> float:
    """A duration as Puppet writes it (30m, 1800), in seconds; 30 minutes for what is none."""
    match = re.fullmatch(r"(\d+)([smhdy]?)", text.strip())
    return int(match[1]) * _UNITS[match[2]] if match else HALF_HOUR


def load(site: Site, facts: Facts) -> tuple[float, str]:
    """JRuby instances that are busy at any time, and where that comes from.

    Agents x seconds for a catalog / run interval: Puppet Server's tuning guide.
    """
    agents = max(len(site.having("agent")), 1)
    counted = [
        (log.number("catalogs"), log.number("mean_ms"))
        for host in site.having("server")
        if (log := sections(facts.get(host.name, "catalog-log").out).get("", NONE))
        and log.number("catalogs")
    ]
    many = sum(n for n, _ in counted)
    mean = sum(n * ms for n, ms in counted) / many / 1000 if many else ASSUMED
    intervals = [
        seconds(text)
        for host in site.having("agent")
        if (text := Seen(host.name, facts).setting("runinterval"))
    ]
    every = sum(intervals) / len(intervals) if intervals else HALF_HOUR
    source = "as its logs have it" if many else "assumed"
    said = f"{count(agents, 'agent')}, {mean:.1f} s a catalog ({source}), "
    said += f"a run every {every / 60:.0f} min"
    return agents * mean / every, said


def capacity(site: Site, facts: Facts) -> Iterator[Finding]:
    """Whether each pool can do the work, and still can with its largest server down."""
    needed, source = load(site, facts)
    built = {host.name for host in site.having("compiler")}
    has = {
        m.name: sizing(site, Seen(m.name, facts)).instances
        for m in members(site)
        # A compile master that is not built yet counts as what it is going to be.
        if facts.reachable(m.name) and (m.name in built or Seen(m.name, facts).puppetserver)
    }
    everybody = sum(len(pool.agents) for pool in pools(site))
    verdicts = []
    for pool in pools(site) if has else ():
        if everybody and not pool.agents:
            continue
        part = len(pool.agents) / everybody if everybody else 1.0
        largest = max((m.name for m in pool.members), key=lambda name: has.get(name, 0))
        whole = _bears(pool, has)
        without = _bears(pool, has, down=(largest,))
        name = f"{pool.group}: " if pool.group else ""
        said = f"{name}{needed * part:.1f} JRuby instances busy of {round(whole, 1):g}"
        if needed * part > whole * BUSY:
            verdicts.append(("capacity-short", said))
        elif needed * part > without * BUSY:
            said += f", {round(without, 1):g} with the largest server down"
            verdicts.append(("capacity-tight", said))
        else:
            verdicts.append(("capacity", said))
        yield from _unlike(pool, has)
    for kind in dict(verdicts):
        yield found(kind, "", f"{source}: {'; '.join(said for k, said in verdicts if k == kind)}")


def _unlike(pool: Pool, has: Mapping[str, int]) -> Iterator[Finding]:
    """Servers whose part of the work is far from their part of the pool's JRuby instances."""
    shares = {name: share for name, share in pool.shares().items() if name in has}
    whole = sum(has[name] for name in shares)
    far = any(abs(share - has[name] / whole) > UNLIKE for name, share in shares.items())
    if far and pool.strategy not in EQUAL:
        said = ", ".join(
            f"{name} {share:.0%} of the agents, weight {has[name]} by its JRuby instances"
            for name, share in shares.items()
        )
        yield found("weights-unlike-size", "", said)


def _bears(pool: Pool, has: Mapping[str, int], down: Collection[str] = ()) -> float:
    """JRuby instances that can be busy, all servers having their shares, until one has no more."""
    shares = pool.shares(down).items()
    full = [has[name] / share for name, share in shares if share and name in has]
    return min((*full, sum(has.get(name, 0) for name, _ in shares)), default=0.0)


def covered(site: Site, facts: Facts) -> Iterator[Finding]:
    """Every server of a pool answers to the name its agents call."""
    if strategy(site) == "tls-proxy" or about(site).get("mode") == "tls":
        return  # the proxy's certificate carries it
    for pool in pools(site):
        called = [pool.server] if pool.server in names(site) else []
        for member in pool.members:
            own = Seen(member.name, facts).hostcert
            if own is None:
                continue
            for name in called or [member.name]:
                if not own.carries(name):
                    said = f"its certificate does not carry {name}"
                    yield found("member-name-missing", member.name, said)


def destinations(site: Site, facts: Facts) -> Iterator[Finding]:
    """The names can be made to lead there at all."""
    for name, of in balance_dns.aliased(site, facts):
        yield found("name-is-alias", "", f"{name} is an alias of {of}")
    for name in names(site):
        if not targets(site, facts, name):
            yield found("address-unknown", "", f"{name} would lead nowhere")
        if "." not in name and not site.dns.domain:
            yield found("name-is-short", "", f"{name}, taken for {full(site, name)}")
    for pool in pools(site):
        for member in pool.members:
            four = ca_name.addresses(site, facts, member.name, "A")
            if not four and ca_name.addresses(site, facts, member.name, "AAAA"):
                yield found("member-ipv6-only", member.name, "it has no IPv4 address")
        if not any(pool.shares().values()):
            yield found("pool-empty", "", f"{pool.group or pool.server}: every weight is 0")
        elif idle := [m.name for m in pool.first if not m.weight and pool.strategy not in EQUAL]:
            part = "hardly any agents" if pool.strategy == "srv" else "no agents"
            yield found("weight-zero", "", f"{', '.join(idle)} gets {part}")


def records(site: Site, facts: Facts) -> Iterator[Finding]:
    """What of the zone is in the way, or takes long."""
    for want in (*wanted(site, facts), *pool_records(site), *ca_records(site, facts)):
        got = balance_dns.now(site, facts, want)
        if got.records and got.ttl >= DAY // 2 and not balance.same(want, got):
            yield found("ttl-long", "", f"{want.name} {want.rtype}: {got.ttl} s")
    yield from silent(site, facts)
    if strategy(site) == "srv":
        agents = count(len(site.having("agent")), "agent")
        yield found("srv-pitfalls", "", f"SRV records for {agents}")
        yield from _elsewhere(site, facts)
        if site.ca.clients != "srv":
            yield found("srv-without-ca", site.ca.host, "ca.clients is not srv")
    if strategy(site) == "round-robin":
        yield found("round-robin-blind", "", f"{len(members(site))} addresses of one name")


def _elsewhere(site: Site, facts: Facts) -> Iterator[Finding]:
    """Records of what Puppet asks for beside catalogs (its SRV guide) that are not the pool's."""
    for pool in pools(site):
        ours = {m.name for m in pool.members}
        for kind in ("_x-puppet-report", "_x-puppet-fileserver"):
            name = f"{kind}._tcp.{pool.domain}"
            there = {
                record.split()[-1].rstrip(".").lower()
                for server in site.dns.servers
                for record in facts.answers.get(Query(name, "SRV", server), Answer()).records
            }
            if other := sorted(there - ours):
                said = f"{name} leads to {', '.join(other)}"
                yield found("srv-leads-elsewhere", "", said)


def silent(site: Site, facts: Facts) -> Iterator[Finding]:
    """The name server that is updated has to answer: what it does not say is not planned on.

    For the records, that is: zones above its own, and names of members in others, it may refuse.
    """
    ours = {full(site, name) for name in names(site)}
    ours |= {want.name for want in (*pool_records(site), *ca_records(site, facts))}
    for server in site.dns.servers[:1]:
        asked = [q for q in balance.queries(site) if q.server == server and q.name in ours]
        errors = {
            got.error
            for q in asked
            if (got := facts.answers.get(q)) is not None and not balance_dns.known(got)
        }
        if errors:
            said = f"{server}: {', '.join(sorted(errors))}"
            yield found("name-server-silent", "", said, server=server)


def shares(site: Site, facts: Facts) -> Iterator[Finding]:
    """The CA server's own share of the compiling afterwards, made visible."""
    everybody = sum(len(pool.agents) for pool in pools(site)) or 1
    parts = ((pool.shares().get(site.ca.host, 0.0), len(pool.agents)) for pool in pools(site))
    own = sum(share * agents for share, agents in parts) / everybody
    said = f"{own:.0%} of the agents" if own else "none: it keeps the CA"
    yield found("ca-share", site.ca.host, said)


def strangers(site: Site, facts: Facts) -> Iterator[Finding]:
    """Machines that know nothing but the name: it is not the CA's any more."""
    if called := names(site):
        yield found("new-machines", "", f"{' and '.join(called)} leads to servers without a CA")
    ours = [a for t in ("A", "AAAA") for a in ca_name.addresses(site, facts, proxy(site), t)]
    for host in site.having("compiler"):
        log = sections(facts.get(host.name, "catalog-log").out).get("", NONE)
        asked = [line.partition(" ") for line in log.all("no_ca")]
        said = [f"{a}{' (the proxy)' if a in ours else ''}: {n} times" for a, _, n in asked]
        if said:
            yield found("ca-asked-here", host.name, ", ".join(said), name=site.ca.name)


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    """Everything that hinders or should be known; the host of the proxy has its own."""
    if not about(site):
        return
    for kind in (capacity, covered, destinations, records, shares, strangers):
        yield from kind(site, facts)
    if (proxy(site) or strategy(site) == "hardware") and len(pools(site)) > 1:
        yield found("proxy-one-pool", proxy(site), f"{len(pools(site))} pools")
    elif shared := [n for n in names(site) if sum(p.server == n for p in pools(site)) > 1]:
        yield found("pools-one-name", "", f"several pools are called {', '.join(shared)}")
