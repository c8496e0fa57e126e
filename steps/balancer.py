"""The step `balancer`: the new way is prepared and tried, and no agent goes it yet."""

from __future__ import annotations

from runbook.model import Check, Facts, Finding, Host, Query, Read, Site, Stage, Step

from . import (
    balance,
    balance_device,
    balance_dns,
    balance_front,
    balance_gates,
    balance_proxy,
    balance_tls,
    balance_trust,
    reads,
)
from .balance import about, ca_records
from .compilers import cautious


def read(site: Site, host: Host) -> tuple[Read, ...]:
    if not about(site):
        return ()
    own = [*balance.read(site, host), *balance_proxy.read(site, host.name)]
    own += [*balance_front.read(site, host.name), *balance_device.read(site, host.name)]
    if balance_front.relay(site) and host.name == site.ca.host:
        own.append(reads.requests(site))
    return tuple({r.id: r for r in own}.values())


def queries(site: Site) -> tuple[Query, ...]:
    return balance.queries(site) if about(site) else ()


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    if not about(site):
        return ()
    return (
        *balance_gates.findings(site, facts),
        *balance_proxy.findings(site, facts),
        *balance_tls.findings(site, facts),
        *balance_front.findings(site, facts),
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """The new way is there: the proxy finds every server, or the CA's records are everywhere."""
    if not about(site):
        return ()
    return (
        *balance_proxy.checks(site, facts),
        *balance_tls.checks(site, facts),
        *balance_front.checks(site, facts),
        *balance_device.checks(site, facts),
        *balance_trust.checks(site, facts),
        *_ca_records(site, facts),
    )


def _ca_records(site: Site, facts: Facts) -> tuple[Check, ...]:
    wants = ca_records(site, facts)
    return (
        *balance_dns.record_checks(site, facts, wants),
        *balance_dns.srv_resolved(site, facts, wants),
    )


STAGES = (
    balance_proxy.INSTALL,
    *balance_tls.STAGES,
    *balance_front.STAGES,
    *balance_proxy.STAGES,
    balance_device.DEVICE,
    *balance_trust.STAGES,
    Stage(
        "ca-records",
        "SRV records of the CA, before any of a pool",
        balance_dns.records,
        _ca_records,
    ),
)

BALANCER = Step(
    id="balancer",
    title="Prepare load balancing",
    guide=reads.script("guide/balancer.md"),
    reads=read,
    stages=tuple(cautious(stage, "server", "balancer") for stage in STAGES),
    findings=findings,
    checks=checks,
    queries=queries,
    needs=("compilers",),
)
