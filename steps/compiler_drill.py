"""The CRL drill: a throw-away certificate is accepted by all, revoked, and refused by all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Facts,
    Later,
    Nothing,
    Planned,
    Script,
    Site,
    Stage,
    Verdict,
)

from . import reads, trial
from .compiler import compilers, enrolment, port, ready
from .compiler_configure import refreshes
from .compiler_start import proved, record, serial
from .fields import NONE
from .layout import Seen, ca_host, unknown
from .shellwords import assignments


def _certain(site: Site, facts: Facts, seen: Seen) -> bool:
    return ready(seen) and bool(seen.hostcert) and not enrolment(site, facts, seen).why


@dataclass(frozen=True, slots=True)
class Drilled:
    """Whom a drill is about."""

    hosts: Callable[[Site, Facts], tuple[Seen, ...]]
    certain: Callable[[Site, Facts, Seen], bool] = _certain
    """Whether a host is as it will be, certificate and all: what is proved now stays proved."""
    step: str = "compilers"
    after: str = "start"  # the stage they serve from


COMPILERS = Drilled(compilers)


def due(site: Site, facts: Facts, of: Drilled = COMPILERS) -> tuple[Seen, ...]:
    """The hosts that were not seen to refuse a revoked certificate since they have theirs."""
    ca = ca_host(site, facts)
    return tuple(
        seen
        for seen in of.hosts(site, facts)
        if not seen.enterprise
        and not (
            of.certain(site, facts, seen) and proved(site, facts, ca, record("crl", seen), seen)
        )
    )


def _script(site: Site, facts: Facts, seen: Seen | None = None) -> str:
    ca = ca_host(site, facts)
    given = assignments(
        puppet=ca.puppet,
        puppetserver=ca.puppetserver,
        ruby=ca.ruby,
        legacy="yes" if ca.version < (6,) else "no",
        drill=reads.drill_name(site),
        ssldir=ca.setting("ssldir", "server"),
        signeddir=ca.setting("signeddir", "server"),
        csrdir=ca.setting("csrdir", "server"),
        cacrl=ca.setting("cacrl", "server"),
        localcacert=ca.setting("localcacert", "server"),
        issuer=ca.ca_fingerprint,
        ca_name=site.ca.name,
    )
    if seen is not None:
        given += assignments(
            member=seen.name,
            port=str(port(seen)),
            serial=serial(seen),
            record=record("crl", seen),
        )
    return given + reads.script("drill.sh")


def drill(site: Site, facts: Facts, of: Drilled = COMPILERS) -> Planned:
    """Issue, be accepted by each, revoke."""
    ca = ca_host(site, facts)
    at = ca.requests.get("drill", NONE)
    waiting = due(site, facts, of)
    if not waiting or not ca.ca_fingerprint or "revoked" in at:
        return ()
    planned: list[Action | Later] = [
        Later(f"the drill's certificate tried on {s.name}", of.after, s.name)
        for s in waiting
        if not of.certain(site, facts, s)
    ]
    trying = [s for s in waiting if of.certain(site, facts, s)]
    if not trying:
        return tuple(planned)
    end = _script(site, facts) + "end_drill\n"
    if "issued" not in at:
        planned.append(
            Action(
                id=f"drill/{ca.name}/issue",
                host=ca.name,
                title=f"issue a throw-away certificate, {reads.drill_name(site)}",
                do=Script(_script(site, facts) + "issue\n", timeout=180.0),
                undo=Compensate(end),
                opens=Debt("crl-drill", "the CRL drill's certificate", end),
            )
        )
    planned += [
        Action(
            id=f"drill/{ca.name}/accepted-{seen.name}",
            host=ca.name,
            title=f"{seen.name} accepts it",
            do=Script(_script(site, facts, seen) + "accepted\n", timeout=240.0),
            undo=Nothing(),
            about=seen.name,
        )
        for seen in trying
        if seen.name not in at.all("accepted")
    ]
    planned.append(
        Action(
            id=f"drill/{ca.name}/revoke",
            host=ca.name,
            title="revoke it",
            do=Script(_script(site, facts) + "revoke\n", timeout=180.0),
            undo=Nothing("its serial number in the CA's list of revoked ones"),
        )
    )
    return tuple(planned)


def _revoked(site: Site, facts: Facts, of: Drilled) -> tuple[Seen, ...]:
    """Those that accepted what is now revoked, and have yet to refuse it."""
    at = ca_host(site, facts).requests.get("drill", NONE)
    return tuple(
        s for s in due(site, facts, of) if s.name in at.all("accepted") and "revoked" in at
    )


def newest(site: Site, facts: Facts, seen: Seen) -> bool:
    """The host has the CA's newest list already: fetched before a break, or by the hour."""
    here, there = seen.crls("hostcrl")[:1], ca_host(site, facts).crls("cacrl")[:1]
    return bool(there) and [c.number for c in here] == [c.number for c in there]


def refresh(site: Site, facts: Facts, of: Drilled = COMPILERS) -> Planned:
    """By the very unit that does it every hour, so the way itself is proved."""
    at = ca_host(site, facts).requests.get("drill", NONE)
    if "revoked" not in at:
        return tuple(
            Later("fetching the CRL with the revocation, by the hourly unit", "drill", s.name)
            for s in due(site, facts, of)
        )
    return tuple(
        Action(
            id=f"refresh/{seen.name}/crl",
            host=seen.name,
            title="fetch the CA's revocation list now, by the unit that does it every hour",
            do=Script(f"systemctl start {reads.CRL_TIMER}.service\n", timeout=240.0),
            undo=Nothing(),
        )
        for seen in _revoked(site, facts, of)
        # A proxy has read it only when the unit had it do so.
        if refreshes(seen) and (not newest(site, facts, seen) or of is not COMPILERS)
    )


def refused(site: Site, facts: Facts, of: Drilled = COMPILERS) -> Planned:
    ca = ca_host(site, facts)
    if "revoked" not in ca.requests.get("drill", NONE):
        return tuple(
            Later("that it refuses the revoked certificate", "refresh", s.name)
            for s in due(site, facts, of)
        )
    return tuple(
        Action(
            id=f"refused/{ca.name}/{seen.name}",
            host=ca.name,
            title=f"{seen.name} refuses the revoked certificate",
            do=Script(_script(site, facts, seen) + "refused\n", timeout=180.0),
            undo=Compensate(trial.FORGET.format(record("crl", seen))),
            about=seen.name,
        )
        for seen in _revoked(site, facts, of)
    )


def end(site: Site, facts: Facts, of: Drilled = COMPILERS) -> Planned:
    ca = ca_host(site, facts)
    if "drill" not in ca.requests and not due(site, facts, of):
        return ()
    return (
        Action(
            id=f"drill-end/{ca.name}/clean",
            host=ca.name,
            title=f"take {reads.drill_name(site)} back, key and certificate",
            do=Script(_script(site, facts) + "end_drill\n", timeout=180.0),
            undo=Nothing(),
            repays="crl-drill",
        ),
    )


def checks(
    site: Site, facts: Facts, names: tuple[str, ...], of: Drilled = COMPILERS
) -> tuple[Check, ...]:
    """Each was seen to refuse a revoked certificate; nothing of the drill is left."""
    ca = site.host(site.ca.host)

    def enforced(name: str) -> Check:
        asked = (
            (ca.name, reads.proofs(site)),
            (ca.name, reads.CERTIFICATES),
            (name, reads.CERTIFICATES),
            (name, reads.SERVER_FILES),
        )

        def judge(facts: Facts) -> Verdict:
            if silent := unknown(facts, *asked):
                return silent
            seen = Seen(name, facts)
            done = proved(site, facts, ca_host(site, facts), record("crl", seen), seen)
            said = "seen to refuse it" if done else "not tried with the certificate it has"
            return Verdict(done, said, f"pmrunbook --step {of.step}")

        return Check(f"drill/{name}", f"{name} refuses a revoked certificate", judge, asked)

    requests = (ca.name, reads.requests(site))

    def nothing_left(facts: Facts) -> Verdict:
        if silent := unknown(facts, requests):
            return silent
        left = "drill" in ca_host(site, facts).requests
        return Verdict(not left, "its folder" if left else "nothing", "pmrunbook debts --repay")

    return (
        *(enforced(name) for name in names),
        Check(
            "drill/left",
            "nothing is left of the CRL drill",
            nothing_left,
            (requests,),
        ),
    )


def stages(of: Drilled = COMPILERS) -> tuple[Stage, ...]:
    return (
        Stage("drill", "A certificate is issued, accepted, and revoked", partial(drill, of=of)),
        Stage("refresh", "Each fetches the revocation list", partial(refresh, of=of), rollout=True),
        Stage("refused", "Each refuses it now", partial(refused, of=of)),
        Stage("drill-end", "Nothing is left of the drill", partial(end, of=of), always=True),
    )
