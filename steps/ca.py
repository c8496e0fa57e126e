"""The step `ca`: one certificate authority, under a name of its own, known to every host."""

from __future__ import annotations

from dataclasses import replace

from runbook import edit
from runbook.model import (
    Check,
    Facts,
    Finding,
    Host,
    Later,
    Planned,
    Query,
    Read,
    Site,
    Stage,
    Step,
)

from . import ca_certificate, ca_clients, ca_module, ca_name, ca_proof, ca_srv, reads, survey
from .catalogue import found
from .layout import see


def read(site: Site, host: Host) -> tuple[Read, ...]:
    """The survey's reads, what was proved before, and what the chosen way to clients needs."""
    way = (*ca_srv.read(site), *ca_module.read(site, host.name))
    return (*reads.survey(site, host), reads.proofs(site), *way)


def queries(site: Site) -> tuple[Query, ...]:
    return (*survey.queries(site), *ca_name.queries(site), *ca_srv.queries(site))


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    """What of the survey concerns this step is found there; here, what hinders its edits."""
    result = list(ca_module.findings(site, facts))
    for seen in see(site, facts):
        if not seen.certname or seen.enterprise:
            continue
        try:
            after = ca_clients.edited(site, seen.puppet_conf)
        except edit.EditError as error:
            result.append(found("puppet-conf-unreadable", seen.name, str(error)))
            continue
        if seen.puppet_conf.state not in ("file", "absent"):
            said = f"{seen.setting('config')} is {seen.puppet_conf.state}"
            result.append(found("puppet-conf-unreadable", seen.name, said))
        if after.taken:
            config = seen.puppet_conf.path
            result.append(
                found("ca-server-overridden", seen.name, "; ".join(after.taken), config=config)
            )
    return tuple(result)


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """What must stay true from now on."""
    return (
        survey.one_ca(site, facts),
        *ca_name.checks(site, facts),
        *ca_certificate.checks(site, facts),
        *ca_srv.checks(site, facts),
        *ca_clients.checks(site, facts),
        *ca_module.checks(site, facts),
        *ca_proof.checks(site, facts),
    )


def cautious(stage: Stage) -> Stage:
    """The stage, saying what it cannot know: a read that failed is no host with nothing to do."""

    def plan(site: Site, facts: Facts) -> Planned:
        unread = (
            Later(f"{s.name} ({s.unread})", "it can be read", s.name)
            for s in see(site, facts)
            if s.unread
        )
        return (*unread, *stage.plan(site, facts))

    return replace(stage, plan=plan)


STAGES = (
    ca_name.NAME,
    ca_certificate.CERTIFICATE,
    ca_srv.SRV,
    ca_clients.CLIENTS,
    ca_module.MODULE,
    *ca_proof.STAGES,
)

CA = Step(
    id="ca",
    title="Centralize the certificate authority",
    guide=reads.script("guide/ca.md"),
    reads=read,
    stages=tuple(cautious(stage) for stage in STAGES),
    findings=findings,
    checks=checks,
    queries=queries,
    needs=("survey",),
)
