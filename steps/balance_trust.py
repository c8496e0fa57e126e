"""Proof that a proxy which ends TLS gives nobody a name that is not theirs.

Asked from the hosts of agents, as anybody there could: with forged headers, with and without a
certificate, at the balancer and at each server. Then with a certificate that was revoked.
"""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model import Action, Check, Facts, Later, Planned, Read, Site, Stage, Verdict
from runbook.shell import quote

from . import balance_device, balance_front, compiler_drill, haproxy, reads
from .balance import proxy
from .balance_config import own_name
from .balance_proxy import ends_tls
from .balance_tls import BALANCER
from .compiler import enrolment, fronted, port, wanted_names
from .compiler_drill import Drilled
from .compiler_start import candidates, client, proved, record, run_against, serves_as
from .fields import NONE, Fields
from .layout import Seen, unknown

REFUSED = "403"


def hosts(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """Every host that verifies agents' certificates in a proxy: the balancer first."""
    return (*BALANCER.hosts(site, facts), *balance_front.hosts(site, facts))


def names(site: Site) -> tuple[str, ...]:
    """Whoever ends TLS, a device by the name agents call."""
    device = (own_name(site),) if balance_device.address(site) and balance_front.relay(site) else ()
    return (*((proxy(site),) if ends_tls(site) else ()), *device, *balance_front.names(site))


def serving(site: Site, facts: Facts, seen: Seen) -> bool:
    """Whether it does already, with the certificate it will have."""
    if seen.hostcert is None or haproxy.service(seen).one("active") != "active":
        return False
    if seen.name == proxy(site):
        return haproxy.linked(seen) and not enrolment(site, facts, seen).why
    return fronted(seen) and haproxy.linked(seen)


# --- who asks -------------------------------------------------------------------------------------


def asking(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """An agent's host, and another one: what is shut for one must be for both."""
    first = client(site, facts)
    able = [Seen(n, facts) for n in candidates(site)]
    others = [s for s in able if s.reachable and s.enrolled and s.ruby and s != first]
    return tuple(s for s in (first, *others[-1:]) if s is not None)


def victim(site: Site, facts: Facts, seen: Seen) -> str:
    """Another node's certname."""
    known = [Seen(h.name, facts).certname or h.name for h in site.having("agent", "server")]
    return next((name for name in known if name != seen.certname), site.ca.host)


def forged(site: Site, facts: Facts, seen: Seen) -> Read:
    """What claims about itself get this host, everywhere."""
    lines = []
    for name in names(site):
        at = port(Seen(name, facts)) if name in site else balance_device.PORT
        address = name if name in site else balance_device.address(site)
        inner = at + 1 if name in balance_front.names(site) else 0
        lines.append(f"{name} {address} {at} {inner}")
    given = (
        f"pc_targets={quote(chr(10).join(lines))} pc_victim={quote(victim(site, facts, seen))}\n"
    )
    return Read("forged", given + reads.script("forged.sh"), timeout=120.0)


# --- checks ---------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    if not balance_front.relay(site):
        return ()
    found: list[Check] = []
    for seen in asking(site, facts):
        for name in names(site):
            found += _believed(site, facts, seen, name)
    first = client(site, facts)
    if first is not None and ends_tls(site):
        name = proxy(site)
        answered = {name: (port(Seen(name, facts)), wanted_names(site, facts, name))}
        found.append(serves_as(first, answered, name, "pmrunbook --step balancer"))
        found.append(_ran(site, first.name, name))
    ours = tuple(n for n in names(site) if n in site)
    return (*found, *compiler_drill.checks(site, facts, ours, _DRILLED))


def _believed(site: Site, facts: Facts, seen: Seen, name: str) -> Iterator[Check]:
    asked = (seen.name, forged(site, facts, seen))
    other = victim(site, facts, seen)

    def at(facts: Facts) -> tuple[Verdict | None, Fields]:
        if silent := unknown(facts, asked):
            return silent, NONE
        got = Seen(seen.name, facts).parsed("forged").get(name)
        if got is None:
            return Verdict(None, f"{seen.name} did not ask {name}"), NONE
        return None, got

    def known(facts: Facts) -> Verdict:
        silent, got = at(facts)
        if silent:
            return silent
        answers = {key: got.one(key, "nothing") for key in ("status", "own", "none")}
        good = answers == {"status": "200", "own": "200", "none": REFUSED}
        said = f"its own certificate {answers['own']}, none {answers['none']}, "
        said += f"status without one {answers['status']}"
        return Verdict(good, said, f"journalctl -u haproxy -n 20 --no-pager, on {name}")

    def refused(facts: Facts) -> Verdict:
        silent, got = at(facts)
        if silent:
            return silent
        said = [f"{line.replace('_', ' a ')}" for line in got.all("forged")]
        said += [f"any agent's question, without a certificate {c}" for c in got.all("claimed")]
        bad = [line for line in said if not line.endswith(f" {REFUSED}")]
        remedy = f"systemctl stop haproxy, on {name}, until it takes these headers away"
        return Verdict(
            bool(said) and not bad, "; ".join(bad) or f"{len(said)} claims, all {REFUSED}", remedy
        )

    def shut(facts: Facts) -> Verdict:
        silent, got = at(facts)
        if silent:
            return silent
        said = got.one("inner", "not asked")
        remedy = f"webserver.conf of {name}: ssl-host {balance_front.INSIDE}; then reload it"
        return Verdict(said.endswith(" shut"), f"port {said}", remedy)

    yield Check(
        f"known/{name}/{seen.name}",
        f"{name} knows {seen.name} by its certificate, and nobody without one",
        known,
        (asked,),
        patience=20.0,  # a server may just have been reloaded
        every=5.0,
    )
    yield Check(
        f"forged/{name}/{seen.name}",
        f"{name} gives {seen.name} nothing of {other}'s for headers it makes up",
        refused,
        (asked,),
        patience=20.0,  # a server may just have been reloaded
        every=5.0,
    )
    if name in balance_front.names(site):
        yield Check(
            f"inside/{name}/{seen.name}",
            f"{seen.name} cannot reach {name}'s Puppet Server but through its proxy",
            shut,
            (asked,),
        )


def _ran(site: Site, agent: str, name: str) -> Check:
    asked = (
        (agent, reads.proofs(site)),
        (name, reads.CERTIFICATES),
        (site.ca.host, reads.CERTIFICATES),
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        done = proved(site, facts, Seen(agent, facts), record("run", seen), seen)
        said = "it did" if done else "not with the certificate it has now"
        return Verdict(done, said, "pmrunbook --step balancer")

    return Check(f"run/{name}", f"{agent}'s agent ran through {name}", judge, asked)


# --- stages ---------------------------------------------------------------------------------------


def run(site: Site, facts: Facts) -> Planned:
    """A real agent through each of them, by its own name: no other leads to the balancer yet."""
    first = client(site, facts)
    if first is None or "disabled" in first.agent:
        return ()
    planned: list[Action | Later] = []
    for seen in hosts(site, facts):
        if not serving(site, facts, seen):
            what = f"a no-op run of {first.name}'s agent through {seen.name}"
            planned.append(Later(what, "serve", seen.name))
        elif not proved(site, facts, first, record("run", seen), seen):
            planned.append(run_against("run", site, facts, first, seen))
    return tuple(planned)


_DRILLED = Drilled(hosts, serving, "balancer", "serve")
STAGES = (
    Stage("run", "An agent runs through each proxy, in no-op mode", run),
    *compiler_drill.stages(_DRILLED),
)
