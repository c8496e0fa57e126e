"""The step `retire`: a compile master leaves for good, once no agent calls it any more."""

from __future__ import annotations

from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Finding,
    Host,
    Irreversible,
    Planned,
    Read,
    Risk,
    Script,
    Site,
    Stage,
    Step,
    Verdict,
)

from . import compiler_certificate, reads, trial
from .catalogue import found
from .fields import NONE
from .layout import Seen, ca_host

UNITS = ("puppetserver", "puppet")
GONE = ("inactive", "failed", "unknown", "")


def read(site: Site, host: Host) -> tuple[Read, ...]:
    if "retired" in host.roles:
        return (reads.SOFTWARE, reads.MACHINE, reads.SERVED)
    if host.name == site.ca.host and site.having("retired"):
        return (reads.SOFTWARE, reads.CERTIFICATES, reads.requests(site))
    return ()


def retired(site: Site, facts: Facts) -> tuple[Seen, ...]:
    return tuple(Seen(h.name, facts) for h in site.having("retired"))


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    """Drained is what its own log says, not what somebody changed elsewhere."""
    result = []
    for seen in retired(site, facts):
        others = [n for n in seen.served.all("node") if n.partition(" ")[0] != seen.name]
        if others and seen.service("puppetserver").get("ActiveState") == "active":
            said = f"{len(others)} in the last half hour: {', '.join(others[:5])}"
            result.append(found("still-serving", seen.name, said))
    return tuple(result)


def running(seen: Seen) -> tuple[str, ...]:
    """The units that run, or would at the next boot."""
    return tuple(
        unit
        for unit in (*UNITS,)
        if seen.service(unit).get("ActiveState", "") not in GONE
        or seen.service(unit).get("UnitFileState") == "enabled"
    )


def stop(site: Site, facts: Facts) -> Planned:
    actions = []
    for seen in retired(site, facts):
        units = running(seen) if seen.reachable else ()
        if not units:
            continue
        timer = f"{reads.CRL_TIMER}.timer"
        names = " ".join(units)
        actions.append(
            Action(
                id=f"stop/{seen.name}/services",
                host=seen.name,
                title=f"stop and disable {' and '.join(units)}, and {timer}",
                do=Script(
                    f"systemctl disable --now {names} || exit 1\n"
                    f"systemctl disable --now {timer} 2>/dev/null\n:\n",
                    timeout=300.0,
                ),
                undo=Compensate(
                    f"systemctl enable --now {names}\nsystemctl enable --now {timer} 2>/dev/null\n:"
                ),
                risk=Risk.DESTRUCTIVE,
            )
        )
    return tuple(actions)


def revoke(site: Site, facts: Facts) -> Planned:
    ca = ca_host(site, facts)
    actions = []
    for seen in retired(site, facts):
        has = ca.requests.get(seen.name, NONE)
        if "signed" not in has and "request" not in has:
            continue
        clean = compiler_certificate.at_the_ca(ca, seen.name) + "clean || exit\n"
        actions.append(
            Action(
                id=f"revoke/{ca.name}/{seen.name}",
                host=ca.name,
                title=f"revoke and clean the certificate of {seen.name}",
                do=Script(clean + trial.FORGET.format(f"crl-{seen.name}") + "\n", timeout=180.0),
                undo=Irreversible("a revoked certificate stays revoked"),
                risk=Risk.DESTRUCTIVE,
            )
        )
    return tuple(actions)


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    ca = site.host(site.ca.host)

    def known(name: str) -> Check:
        def judge(facts: Facts) -> Verdict:
            if not facts.get(ca.name, "requests").ok:
                return Verdict(None, f"{ca.name} was not read")
            left = ca_host(site, facts).requests.get(name, NONE)
            there = "signed" in left or "request" in left
            return Verdict(not there, "it is there" if there else "none", "pmrunbook --step retire")

        title = f"the CA has no certificate of {name}"
        return Check(f"revoke/{name}", title, judge, ((ca.name, reads.requests(site)),))

    def silent(name: str) -> Check:
        def judge(facts: Facts) -> Verdict:
            left = running(Seen(name, facts))
            return Verdict(not left, ", ".join(left) or "nothing of Puppet runs")

        asked = ((name, reads.SOFTWARE), (name, reads.MACHINE))
        return Check(f"stop/{name}", f"{name} serves no more", judge, asked)

    gone = [h.name for h in site.having("retired")]
    return (*map(known, gone), *(silent(n) for n in gone if facts.reachable(n)))


RETIRE = Step(
    id="retire",
    title="Retire compile masters",
    guide=reads.script("guide/retire.md"),
    reads=read,
    stages=(
        Stage("stop", "They serve no more", stop, rollout=True),
        Stage("revoke", "Nobody trusts them any more", revoke),
    ),
    findings=findings,
    checks=checks,
    needs=("ca",),
    skippable=True,  # the last step, and not to be taken back: nothing is built on it
)
