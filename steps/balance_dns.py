"""Records of the pools: updated where the site allows it, else asked for; and proved everywhere.

A name server may be stale, a resolver may remember: every authoritative server is asked, and every
host by its own resolver, before and after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from runbook.model import (
    Action,
    Answer,
    Check,
    Debt,
    DnsChange,
    Facts,
    Human,
    Later,
    Nothing,
    Planned,
    Query,
    Read,
    Restore,
    Risk,
    Site,
    Verdict,
)
from runbook.shell import quote
from runbook.symbols import count

from . import ca_name, reads
from .balance import (
    UNASKED,
    Wanted,
    alias,
    answer,
    ca_records,
    full,
    low,
    names,
    pool_names,
    pool_records,
    same,
    srv_seen,
    strategy,
    targets,
    trial_records,
    ttl,
    wanted,
)
from .fields import NONE, sections
from .layout import expected
from .shellwords import assignments

DENIED = 900  # seconds that are waited at most until resolvers forget that there was none
REMEMBERED = 7200.0  # seconds that are waited at most until resolvers forget an old answer


# --- what is there --------------------------------------------------------------------------------


def updatable(site: Site) -> bool:
    return bool(site.dns.tsig and site.dns.servers)


def now(site: Site, facts: Facts, want: Wanted) -> Answer:
    """What the server that is updated, the first one, says."""
    if not site.dns.servers:
        return Answer(error="nobody to ask")
    return answer(site, facts, want, site.dns.servers[0])


def known(got: Answer) -> bool:
    return got.error in ("", "NXDOMAIN")


def resolves(site: Site, facts: Facts, host: str, name: str) -> bool:
    """Whether this host finds the name at just the addresses it is to have."""
    seen = sections(facts.get(host, "pool-names").out).get(name, NONE).all("address")
    return bool(seen) and set(seen) == set(targets(site, facts, name))


def done(site: Site, facts: Facts, want: Wanted) -> bool:
    """Whether the record is as wanted; without name servers to ask, as the CA's host sees it."""
    if site.dns.servers:
        return same(want, now(site, facts, want))
    if want.rtype == "SRV":
        return same(want, Answer(_told(site, facts, want)))
    return (
        all(resolves(site, facts, site.ca.host, n) for n in names(site)) if names(site) else False
    )


def switched(site: Site, facts: Facts) -> bool:
    """Whether the names lead where they are to."""
    return all(done(site, facts, want) for want in wanted(site, facts))


# --- actions --------------------------------------------------------------------------------------


def change(
    site: Site, facts: Facts, stage: str, want: Wanted, seconds: int, risk: Risk
) -> Action | Later | None:
    """The record becomes what is wanted; None where it is already, Later while nobody answers."""
    got = now(site, facts, want)
    if site.dns.servers and not known(got):
        # Offline nobody is asked, and nobody said anything.
        said = "" if got.error == UNASKED else f": {site.dns.servers[0]} said {got.error}"
        return Later(f"{want.name} {want.rtype}{said}", "the name server answers")
    if done(site, facts, want):
        return None
    if not updatable(site):
        return None  # asked for, all records at once: see `ask`
    # What agents' names lead to was lowered before: the plan says so from the beginning.
    before_ttl = min(got.ttl, low(site)) if risk is Risk.CUTOVER else got.ttl
    if got.records and risk is Risk.CHANGE:
        risk = Risk.DESTRUCTIVE  # a record that is there sends agents somewhere already
    zone = ca_name.zone_of(site, facts, want.name)
    lines = [f"-{want.name}. {before_ttl} IN {want.rtype} {r}" for r in got.records]
    lines += [f"+{want.name}. {seconds} IN {want.rtype} {r}" for r in want.records]
    what = f"{want.name} {want.rtype}"
    said = ", ".join(want.records)
    return Action(
        id=f"{stage}/{site.ca.host}/{want.rtype}-{want.name}",
        host=site.ca.host,
        title=f"let {what} be {said}" if said else f"take {what} out of the zone",
        do=DnsChange(
            server=site.dns.servers[0],
            zone=zone,
            name=want.name,
            rtype=want.rtype,
            ttl=seconds,
            records=want.records,
            before=got.records,
            before_ttl=before_ttl,
        ),
        undo=Restore(),
        risk=risk,
        diff=f"--- zone {zone}\n+++ zone {zone}\n@@\n" + "\n".join(lines) + "\n",
    )


def ask(site: Site, facts: Facts, stage: str, wants: tuple[Wanted, ...], risk: Risk) -> Planned:
    """All records that are missing, as zone lines for a person."""
    missing = [w for w in wants if not done(site, facts, w)]
    if not missing or updatable(site):
        return ()
    where = ", ".join(site.dns.servers) or "the name servers of your hosts"
    there = [replace(w, records=now(site, facts, w).records) for w in missing]
    what = ", ".join(dict.fromkeys(w.name for w in missing))
    text = (
        f"Change the zone on {where}:\n\n{_zone_lines(there, missing, low(site))}\n"
        f"Lower the TTL of what is replaced to {low(site)} one old TTL before, and raise it to "
        f"{ttl(site)} when all is done: back is as quick as it is low."
    )
    old = (
        f"Put back in the zone on {where} what stood there:\n\n"
        f"{_zone_lines(missing, there, ttl(site))}\n"
        "Agents go the new way until their resolvers forget it: nothing of it goes before."
    )
    then = _proof({w.name: _wanted(site, facts, w) for w in missing})
    before = _proof({w.name: _told(site, facts, w) for w in missing})
    return (
        Action(
            id=f"{stage}/{site.ca.host}/zone",
            host=site.ca.host,
            title=f"change {what} in the zone",
            do=Human(text, Read("pool-zone", then)),
            undo=Human(old, Read("pool-zone", before)),
            risk=risk,
        ),
    )


def _zone_lines(old: Sequence[Wanted], new: Sequence[Wanted], seconds: int) -> str:
    lines = [f"    remove  {w.name}. IN {w.rtype} {r}\n" for w in old for r in w.records]
    lines += [f"    add     {w.name}. {seconds} IN {w.rtype} {r}\n" for w in new for r in w.records]
    return "".join(lines)


def _wanted(site: Site, facts: Facts, want: Wanted) -> tuple[str, ...]:
    """What a host is to find under this name: SRV records, or addresses of both families."""
    if want.rtype == "SRV":
        return want.records
    name = next(n for n in names(site) if full(site, n) == want.name)
    return targets(site, facts, name)


def _told(site: Site, facts: Facts, want: Wanted) -> tuple[str, ...]:
    """What the CA's host, where a person's work is proved, finds there now."""
    if want.rtype == "SRV":
        lines = facts.get(site.ca.host, "pool-srv").out.splitlines()
        return tuple(_section(lines, f"[{want.name}]"))
    name = next(n for n in names(site) if full(site, n) == want.name)
    return sections(facts.get(site.ca.host, "pool-names").out).get(name, NONE).all("address")


def _proof(found: Mapping[str, Sequence[str]]) -> str:
    """Exits 0 once this host's resolver finds just this under each name."""
    lines = ["set -u"]
    for name, records in found.items():
        if name.startswith("_"):
            asked = f"$( {assignments(name=name)}{reads.script('srv.sh')} )"
        else:
            asked = f"$(getent ahosts {quote(name)} | awk '{{print $1}}')"
        expected_ = quote("\n".join(sorted({r.lower() for r in records})))
        lines.append(
            f"out={asked}; out=$(printf '%s\\n' \"$out\" | tr A-Z a-z | LC_ALL=C sort -u)\n"
            f'printf \'%s\\n\' "$out"; [ "$out" = {expected_} ] || exit 1'
        )
    return "\n".join(lines) + "\n"


def records(site: Site, facts: Facts) -> Planned:
    """SRV records, the CA's first: an agent without them would ask a compile master for it."""
    return (*_of(site, facts, "ca-records", ca_records(site, facts)),)


def published(site: Site, facts: Facts) -> bool:
    """Whether the pools' records are there."""
    return all(done(site, facts, want) for want in pool_records(site))


def pool(site: Site, facts: Facts) -> Planned:
    """Agents that ask this domain already, for the CA, are moved by it: all at once."""
    wants = pool_records(site)
    there = tuple(w for w in wants if now(site, facts, w).records)
    new = tuple(w for w in wants if w not in there)
    return (
        *_changes(site, facts, "records", there, low(site), Risk.CUTOVER),
        *_changes(site, facts, "records", new, ttl(site), Risk.CUTOVER),
        *ask(site, facts, "records", wants, Risk.CUTOVER),
    )


def _try_debt(want: Wanted) -> str:
    return f"trial/{want.name}"


def try_records(site: Site, facts: Facts) -> Planned:
    """The records where nobody asks for them, so that a canary can; they go again in the end."""
    actions: list[Action | Later] = []
    for want in trial_records(site, facts) if not published(site, facts) else ():
        made = change(site, facts, "trial", want, low(site), Risk.CHANGE)
        if isinstance(made, Action):
            title = f"the records of {want.name}, for a trial"
            made = replace(made, opens=Debt(_try_debt(want), title, _gone(site, facts, want)))
        if made:
            actions.append(made)
    return tuple(actions)


def _gone(site: Site, facts: Facts, want: Wanted) -> DnsChange:
    return DnsChange(
        server=site.dns.servers[0],
        zone=ca_name.zone_of(site, facts, want.name),
        name=want.name,
        rtype=want.rtype,
        ttl=low(site),
        records=(),
        before=want.records,
        before_ttl=low(site),
    )


def end_trial(site: Site, facts: Facts) -> Planned:
    if not updatable(site):
        return ()
    coming = not published(site, facts)
    return tuple(
        Action(
            id=f"trial-end/{site.ca.host}/{want.name}",
            host=site.ca.host,
            title=f"take {want.name} out of the zone again",
            do=_gone(site, facts, want),
            undo=Nothing(),
            repays=_try_debt(want),
        )
        for want in trial_records(site, facts)
        if coming or now(site, facts, want).records
    )


def switch(site: Site, facts: Facts) -> Planned:
    """The names that agents call lead the new way: from here on everybody's."""
    return _of(site, facts, "switch", wanted(site, facts), low(site), Risk.CUTOVER)


def _of(
    site: Site,
    facts: Facts,
    stage: str,
    wants: tuple[Wanted, ...],
    seconds: int = 0,
    risk: Risk = Risk.CHANGE,
) -> Planned:
    made = _changes(site, facts, stage, wants, seconds or ttl(site), risk)
    return (*made, *ask(site, facts, stage, wants, risk))


def _changes(
    site: Site, facts: Facts, stage: str, wants: tuple[Wanted, ...], seconds: int, risk: Risk
) -> Planned:
    made = (change(site, facts, stage, want, seconds, risk) for want in wants)
    return tuple(m for m in made if m)


# --- TTL ------------------------------------------------------------------------------------------


def _set_ttl(site: Site, facts: Facts, want: Wanted, before: int, to: int) -> DnsChange:
    return DnsChange(
        server=site.dns.servers[0],
        zone=ca_name.zone_of(site, facts, want.name),
        name=want.name,
        rtype=want.rtype,
        ttl=to,
        records=(),
        before_ttl=before,
        keep=True,
    )


def _debt(want: Wanted) -> str:
    return f"ttl/{want.name}/{want.rtype}"


def _leading(site: Site, facts: Facts) -> tuple[Wanted, ...]:
    """The records that lead agents somewhere already."""
    there = (w for w in pool_records(site) if now(site, facts, w).records)
    return (*wanted(site, facts), *there) if updatable(site) else ()


def lower(site: Site, facts: Facts) -> Planned:
    """Answers are kept shortly while agents are moved, so that back is as quick as forth."""
    actions = []
    for want in _leading(site, facts):
        got = now(site, facts, want)
        if not got.records or got.ttl <= low(site) or same(want, got):
            continue
        title = f"lower the TTL of {want.name} {want.rtype} from {got.ttl} s to {low(site)} s"
        back = _set_ttl(site, facts, want, low(site), got.ttl)
        actions.append(
            Action(
                id=f"ttl/{site.ca.host}/{want.rtype}-{want.name}",
                host=site.ca.host,
                title=title,
                do=_set_ttl(site, facts, want, got.ttl, low(site)),
                undo=Restore(),
                opens=Debt(_debt(want), f"the TTL of {want.name} {want.rtype}", back),
                diff="".join(
                    f"{sign}{want.name}. {seconds} IN {want.rtype}\n"
                    for sign, seconds in (("-", got.ttl), ("+", low(site)))
                ),
            )
        )
    return tuple(actions)


def raise_(site: Site, facts: Facts) -> Planned:
    """The TTL that the inventory wants, once the records lead the new way."""
    actions = []
    for want in _leading(site, facts):
        got = now(site, facts, want)
        if not want.records or not known(got) or (same(want, got) and got.ttl == ttl(site)):
            continue
        actions.append(
            Action(
                id=f"ttl-back/{site.ca.host}/{want.rtype}-{want.name}",
                host=site.ca.host,
                title=f"raise the TTL of {want.name} {want.rtype} to {ttl(site)} s",
                do=_set_ttl(site, facts, want, min(got.ttl or low(site), low(site)), ttl(site)),
                undo=Restore(),
                repays=_debt(want),
            )
        )
    return tuple(actions)


# --- proof ----------------------------------------------------------------------------------------


def _servers(site: Site, facts: Facts, want: Wanted) -> Iterator[Query]:
    """Every authoritative server: those of the inventory, then those the zone names itself."""
    zone = ca_name.zone_of(site, facts, want.name)
    others = {
        record.rstrip(".").lower()
        for server in site.dns.servers
        for record in facts.answers.get(Query(zone, "NS", server), Answer()).records
    }
    for server in (*site.dns.servers, *sorted(others)):
        yield Query(want.name, want.rtype, server)


def everywhere(site: Site, facts: Facts, want: Wanted) -> Check:
    """The record is the same at every authoritative name server."""
    asked = tuple(_servers(site, facts, want))

    def judge(facts: Facts) -> Verdict:
        bad: list[str] = []
        silent: list[str] = []
        good: list[bool] = []  # of the inventory, or of the zone alone
        for query in asked:
            got = facts.answers.get(query, Answer(error="not asked"))
            if not known(got):
                into = bad if query.server in site.dns.servers else silent
                into.append(f"{query.server}: {got.error}")
            elif not same(want, got):
                bad.append(f"{query.server}: {', '.join(got.records) or got.error or 'none'}")
            else:
                good.append(query.server in site.dns.servers)
        said = f"at {ca_name.counted(good.count(True), good.count(False))}"
        said += f"; not asked: {', '.join(silent)}" if silent else ""
        remedy = "a secondary may be stale: look at its transfers, and at the zone's serial"
        return Verdict(not bad, "; ".join(bad) or said, remedy)

    said = ", ".join(want.records) or "gone"
    return Check(
        f"zone/{want.rtype}-{want.name}",
        f"{want.name} {want.rtype} is {said}, at every name server",
        judge,
        queries=asked,
        patience=90.0,
        every=3.0,
    )


def record_checks(site: Site, facts: Facts, wants: tuple[Wanted, ...]) -> tuple[Check, ...]:
    return tuple(everywhere(site, facts, w) for w in wants) if site.dns.servers else ()


def _remembered(site: Site, facts: Facts, wants: tuple[Wanted, ...]) -> float:
    """Seconds until resolvers forget what these records were; not more than are waited for it."""
    ttls = [got.ttl for w in wants if (got := now(site, facts, w)).records]
    # One that was lowered just now may be remembered for as long as it was before.
    return (
        REMEMBERED if any(t <= low(site) for t in ttls) else min(max(ttls, default=0), REMEMBERED)
    )


def resolved(site: Site, facts: Facts) -> tuple[Check, ...]:
    """Every host finds the names where they are to lead, by its own resolver and hosts file."""
    if not names(site):
        return ()
    hosts = [s.name for s in expected(site, facts)]

    def judge(facts: Facts) -> Verdict:
        wrong = []
        for host in hosts:
            seen = sections(facts.get(host, "pool-names").out)
            for name in names(site):
                if not resolves(site, facts, host, name):
                    there = seen.get(name, NONE).all("address")
                    wrong.append(f"{host}: {name} is {', '.join(there) or 'unknown'}")
        remedy = "a resolver may remember the old answer for as long as its TTL was; a hosts file "
        remedy += "or nscd for ever"
        return Verdict(not wrong, "; ".join(wrong[:5]) or f"on {count(len(hosts), 'host')}", remedy)

    return (
        Check(
            "resolves/everywhere",
            f"{' and '.join(names(site))} leads the new way, on every host",
            judge,
            tuple((h, pool_names(site)) for h in hosts),
            patience=_remembered(site, facts, wanted(site, facts)) + 60.0,
            every=5.0,
        ),
    )


def _denied_for(site: Site, facts: Facts, name: str) -> int:
    """Seconds for which a resolver may remember that there was no such record (RFC 2308, 5)."""
    for zone in ca_name.zones(name):
        for server in site.dns.servers:
            if soa := facts.answers.get(Query(zone, "SOA", server), Answer()).records:
                return int(soa[0].split()[-1])
    return 0


def srv_resolved(site: Site, facts: Facts, wants: tuple[Wanted, ...]) -> tuple[Check, ...]:
    """Every host finds these SRV records by its own resolver."""
    if not wants:
        return ()
    hosts = [s.name for s in expected(site, facts) if s.ruby or not s.reachable]
    denied = max(_denied_for(site, facts, want.name) for want in wants)

    def judge(facts: Facts) -> Verdict:
        wrong = []
        for host in hosts:
            lines = facts.get(host, "pool-srv").out.splitlines()
            for want in wants:
                got = _section(lines, f"[{want.name}]")
                if got and {r.lower() for r in got} != {r.lower() for r in want.records}:
                    wrong.append(f"{host}: {want.name} is {', '.join(got)}")
                elif not got:
                    wrong.append(f"{host}: no {want.name}")
        remedy = "a resolver may remember the old ones for as long as their TTL was, and for "
        remedy += f"{denied or 10_800} s that there was none: check again then"
        return Verdict(not wrong, "; ".join(wrong[:5]) or f"on {count(len(hosts), 'host')}", remedy)

    return (
        Check(
            "srv/everywhere",
            f"every host finds {', '.join(w.name for w in wants)}",
            judge,
            tuple((h, srv_seen(site)) for h in hosts),
            patience=max(_remembered(site, facts, wants), min(denied, DENIED)) + 120.0,
            every=5.0,
        ),
    )


def _section(lines: list[str], head: str) -> list[str]:
    """The lines behind a head, up to the next one."""
    found: list[str] = []
    inside = False
    for line in lines:
        if line.startswith("["):
            inside = line == head
        elif inside and line:
            found.append(line)
    return found


def aliased(site: Site, facts: Facts) -> Iterator[tuple[str, str]]:
    """Names that are aliases where addresses are needed."""
    for name in names(site):
        if strategy(site) in ("round-robin", "hardware") and (of := alias(site, facts, name)):
            yield name, of
