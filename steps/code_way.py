"""What a strategy for keeping code in sync consists of; see docs/decisions/0013."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from runbook.model import Check, Facts, Finding, Host, Planned, Read, Site

from .layout import Seen


def _no_packages(site: Site, seen: Seen) -> tuple[str, ...]:
    return ()


def _no_reads(site: Site, host: Host) -> tuple[Read, ...]:
    return ()


def _no_findings(site: Site, facts: Facts) -> Iterator[Finding]:
    return iter(())


def _no_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return ()


def _no_intent(site: Site) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Way:
    """One strategy: what it needs on a host, looks at, says, plans in each stage, and proves.

    `plans` are by stage: access (whoever brings the code may read its source), import (today's
    code goes into the source), fetch (beside the old one), switch (what is served changes),
    schedule (it happens by itself).
    """

    packages: Callable[[Site, Seen], tuple[str, ...]] = _no_packages  # still to be installed
    reads: Callable[[Site, Host], tuple[Read, ...]] = _no_reads
    findings: Callable[[Site, Facts], Iterator[Finding]] = _no_findings
    plans: Mapping[str, Callable[[Site, Facts], Planned]] = field(default_factory=dict)
    checks: Callable[[Site, Facts], tuple[Check, ...]] = _no_checks
    intent: Callable[[Site], tuple[str, ...]] = _no_intent
