"""The step `cutover`: agents are moved, held until everything before it is proved and fresh."""

from __future__ import annotations

from dataclasses import replace

from runbook.model import Check, Facts, Finding, Host, Planned, Query, Read, Site, Stage, Step

from . import (
    balance,
    balance_agents,
    balance_dns,
    balance_gates,
    balance_proof,
    balance_proxy,
    reads,
)
from .balance import about, ca_records, names, pool_records, wanted
from .compilers import cautious


def read(site: Site, host: Host) -> tuple[Read, ...]:
    if not about(site):
        return ()
    return (*balance.read(site, host), *balance_proxy.read(site, host.name))


def queries(site: Site) -> tuple[Query, ...]:
    return balance.queries(site) if about(site) else ()


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    if not about(site):
        return ()
    return (
        *balance_gates.findings(site, facts),
        *balance_proxy.down(site, facts),
        *balance_agents.findings(site, facts),
        *balance_proof.undrilled(site),
    )


def fresh(site: Site) -> float:
    """Seconds for which the proofs of the steps before are good enough."""
    return float(about(site).get("fresh", 12 * 3600))


def _switched(site: Site, facts: Facts) -> tuple[Check, ...]:
    return (
        *balance_dns.record_checks(site, facts, wanted(site, facts)),
        *balance_dns.resolved(site, facts),
    )


def _records(site: Site, facts: Facts) -> tuple[Check, ...]:
    wants = (*ca_records(site, facts), *pool_records(site)) if pool_records(site) else ()
    return (
        *balance_dns.record_checks(site, facts, wants),
        *balance_dns.srv_resolved(site, facts, wants),
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """Where agents go, that they do, and what nothing may be left of."""
    if not about(site):
        return ()
    return (
        *(_switched(site, facts) if names(site) else ()),
        *_records(site, facts),
        *balance_agents.checks(site, facts),
        *balance_proof.spread_check(site, facts),
        *balance_proof.drill_check(site, facts),
        *balance_proof.enrol_check(site, facts),
    )


def intent(site: Site) -> tuple[str, ...]:
    said = [f"{site.ca.host}: {name} leads to the new way" for name in names(site)]
    if about(site) and not names(site):
        said = [f"{h.name}: told its servers in puppet.conf" for h in site.having("agent")[:5]]
    return tuple(said)


STAGES = (
    Stage("ttl", "Name servers' answers are kept shortly", balance_dns.lower),
    Stage("trial", "SRV records are tried where nobody asks", balance_dns.try_records),
    Stage(
        "agents",
        "Agents go the new way, the canary first",
        balance_agents.ahead,
        balance_agents.ahead_checks,
        rollout=True,
        intent=intent,
    ),
    Stage("switch", "The names lead the new way, for everybody", balance_dns.switch, _switched),
    Stage("records", "SRV records of the pools, for everybody", balance_dns.pool, _records),
    Stage(
        "told",
        "Agents are told their domain, the canary first",
        balance_agents.told,
        balance_agents.told_checks,
        rollout=True,
    ),
    Stage("trial-end", "The records of the trial go", balance_dns.end_trial),
    Stage("unpin", "What went ahead needs no line of its own any more", balance_agents.unpin),
    Stage("ttl-back", "Answers are kept as long as before", balance_dns.raise_),
    *balance_proof.STAGES,
)


def _where_wanted(stage: Stage) -> Stage:
    """The stage, for a site that says how agents are balanced; any other stays as it is."""

    def plan(site: Site, facts: Facts) -> Planned:
        return stage.plan(site, facts) if about(site) else ()

    return replace(stage, plan=plan)


CUTOVER = Step(
    id="cutover",
    title="Move the agents: load balancing",
    guide=reads.script("guide/cutover.md"),
    reads=read,
    stages=tuple(_where_wanted(cautious(stage, "server", "agent")) for stage in STAGES),
    findings=findings,
    checks=checks,
    queries=queries,
    needs=("survey", "ca", "compilers", "puppetdb", "code", "balancer"),
    fresh=fresh,
)
