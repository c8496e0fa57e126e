"""The last stages of the ca step: a new agent enrols by the CA's name, existing ones still run.

What was proved is recorded on the host it was proved on, so that a second run finds nothing to do
until the CA, or its name, is another.
"""

from __future__ import annotations

from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Planned,
    Script,
    Site,
    Stage,
    Verdict,
)

from . import ca_clients, reads
from .layout import Seen, ca_host, expected, see, unknown
from .shellwords import assignments
from .trial import FORGET, Trial, proved

TRIAL = Trial("prove", "ca-enrol", "its server nowhere")


# --- existing agents ------------------------------------------------------------------------------


def runs(site: Site, seen: Seen) -> bool:
    """Whether this host's agent is in use and may run."""
    roles = site.host(seen.name).roles
    used = "agent" in roles or ("last_run" in seen.agent and "compiler" not in roles)
    return used and seen.enrolled and "disabled" not in seen.agent and not seen.enterprise


def existing(site: Site, facts: Facts) -> Planned:
    issuer = ca_host(site, facts).ca_fingerprint
    return tuple(
        Action(
            id=f"existing/{seen.name}/noop",
            host=seen.name,
            title="one run of its agent in no-op mode",
            do=Script(
                assignments(
                    puppet=seen.puppet,
                    lockfile=seen.setting("agent_catalog_run_lockfile"),
                    ca_name=site.ca.name,
                    issuer=issuer,
                )
                + reads.script("agent_run.sh")
                + reads.script("noop.sh"),
                timeout=1800.0,
            ),
            undo=Compensate(FORGET.format("ca-agent")),
        )
        for seen in ca_clients.canary_first(site, facts)
        if issuer and runs(site, seen) and not proved(site, facts, seen, "ca-agent")
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """Enrolment by the CA's name was proved for this CA and left nothing; agents ran since."""
    hosts = [s.name for s in see(site, facts) if s.certname]
    ca = site.host(site.ca.host)
    issuer = (ca.name, reads.CERTIFICATES)
    records = (issuer, *((h, reads.proofs(site)) for h in hosts))
    # One record is proof enough of enrolment; what is said of all hosts is not, without the silent.
    silent_ones = [s.name for s in expected(site, facts) if not s.reachable]
    all_records = (*records, *((h, reads.proofs(site)) for h in silent_ones))
    probe_at_ca = (ca.name, reads.authority(site, ca))
    agents = tuple((h, reads.AGENT) for h in (*hosts, *silent_ones))

    def enrolled(facts: Facts) -> Verdict:
        where = [h for h in hosts if proved(site, facts, Seen(h, facts), "ca-enrol")]
        if not where and (silent := unknown(facts, *records)):
            return silent
        seen = f"proved on {', '.join(where)}" if where else "not proved for this CA"
        return Verdict(bool(where), seen, "pmrunbook --step ca")

    def nothing_left(facts: Facts) -> Verdict:
        state = ca_host(site, facts).authority
        left = [h for h in hosts if "probe" in Seen(h, facts).proofs]
        if "probe_request" in state or "probe_signed" in state:
            left.append(f"the CA on {ca.name}")
        if not left and (silent := unknown(facts, probe_at_ca, *records)):
            return silent
        return Verdict(not left, ", ".join(left) or "nothing", "pmrunbook --step ca")

    def ran(facts: Facts) -> Verdict:
        idle = [
            s.name
            for s in see(site, facts)
            if s.name in hosts and runs(site, s) and not proved(site, facts, s, "ca-agent")
        ]
        if not idle and (silent := unknown(facts, *records, *agents)):
            return silent
        return Verdict(not idle, f"not on {', '.join(idle)}" if idle else "on every host", "")

    return (
        Check("prove/enrolment", f"a new agent enrols through {site.ca.name}", enrolled, records),
        Check(
            "prove/left",
            "nothing is left of the new agent",
            nothing_left,
            (*all_records, probe_at_ca),
        ),
        Check("existing/ran", "existing agents ran since", ran, (*all_records, *agents)),
    )


STAGES = (
    *TRIAL.stages(),
    Stage("existing", "Existing agents still run", existing, rollout=True),
)
