"""The last stages of the ca step: a new agent enrols by the CA's name, existing ones still run.

What was proved is recorded on the host it was proved on, so that a second run finds nothing to do
until the CA, or its name, is another.
"""

from __future__ import annotations

from dataclasses import dataclass

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

from . import ca_clients, reads
from .fields import NONE
from .layout import Seen, ca_host, expected, see, unknown
from .shellwords import assignments

NOWHERE = "puppet.pmrunbook.invalid"  # RFC 6761: never resolves
FORGET = "rm -f -- /var/lib/pmrunbook/proofs/{}; rmdir /var/lib/pmrunbook/proofs 2>/dev/null || :"


def proved(site: Site, facts: Facts, seen: Seen, what: str) -> bool:
    """Whether the record on this host is of this CA and this name."""
    record = seen.proofs.get(what, NONE)
    issuer = ca_host(site, facts).ca_fingerprint
    return bool(issuer) and (record.one("name"), record.one("ca")) == (site.ca.name, issuer)


@dataclass(frozen=True, slots=True)
class Probe:
    """How far the proof of enrolment is."""

    host: Seen
    ca: Seen
    fresh: bool  # proved already
    requested: str  # the request's fingerprint on the host
    fetched: bool
    pending: str  # the request's fingerprint at the CA
    signed: bool

    @property
    def consistent(self) -> bool:
        """What the CA has comes from what the host has."""
        if self.pending:
            return self.pending == self.requested
        return not self.signed or bool(self.requested) or self.fetched

    @property
    def begun(self) -> bool:
        return self.consistent and bool(self.pending or self.signed)


def prober(site: Site, facts: Facts) -> Seen | None:
    """The host on which a new agent is tried: the first agent, best one that knows `puppet ssl`."""
    able = [s for s in see(site, facts) if s.certname and s.ruby and not s.enterprise]
    agents = [s for s in able if "agent" in site.host(s.name).roles]
    others = [s for s in able if s.name != site.ca.host]
    modern = [s for s in agents if s.version >= (6, 4)]
    return next(iter(modern or agents or others or able), None)


def probe(site: Site, facts: Facts) -> Probe | None:
    """The state of the proof; None where no host can try it."""
    host, ca = prober(site, facts), ca_host(site, facts)
    if host is None or not ca.certname:
        return None
    left = host.proofs.get("probe", NONE)
    return Probe(
        host=host,
        ca=ca,
        fresh=any(proved(site, facts, s, "ca-enrol") for s in see(site, facts)),
        requested=left.one("request"),
        fetched="certificate" in left,
        pending=ca.authority.one("probe_request"),
        signed="probe_signed" in ca.authority,
    )


def _new_agent(site: Site, at: Probe) -> str:
    """The shell functions of the new agent, with the settings it is given."""
    srv = site.ca.clients == "srv"
    folder = "/var/lib/pmrunbook/probe"
    main = {
        "certname": reads.probe_name(site),
        "server": NOWHERE,
        "ca_server": NOWHERE if srv else site.ca.name,
        "ca_port": str(at.ca.port),
        "use_srv_records": "true" if srv else "false",
        "vardir": f"{folder}/var",
        "statedir": f"{folder}/var/state",
        "publicdir": f"{folder}/public",
        "ssldir": f"{folder}/ssl",
        "logdir": f"{folder}/log",
        "rundir": f"{folder}/run",
    }
    if srv:
        main["srv_domain"] = ca_clients.srv_domain(site)
    given = assignments(
        puppet=at.host.puppet,
        ruby=at.host.ruby,
        legacy="yes" if at.host.version < (6, 4) else "no",
        probe=reads.probe_name(site),
        main="\n".join(f"{k} = {v}" for k, v in main.items()),
        issuer=at.ca.ca_fingerprint,
        ca_name=site.ca.name,
    )
    return given + reads.script("enrol.sh")


def _at_the_ca(site: Site, at: Probe, expected: str = "") -> str:
    given = assignments(
        puppetserver=at.ca.puppetserver,
        puppet=at.ca.puppet,
        ruby=at.ca.ruby,
        legacy="yes" if at.ca.version < (6,) else "no",
        certname=reads.probe_name(site),
        expected=expected,
        csrdir=at.ca.setting("csrdir", "server"),
        signeddir=at.ca.setting("signeddir", "server"),
    )
    return given + reads.script("sign.sh")


def _clean_ca(site: Site, at: Probe, stage: str, repays: str = "") -> Action:
    return Action(
        id=f"{stage}/{at.ca.name}/clean",
        host=at.ca.name,
        title=f"clean {reads.probe_name(site)} at the CA: certificate, or request",
        do=Script(_at_the_ca(site, at) + "clean\n", timeout=180.0),
        undo=Nothing(),
        repays=repays,
    )


def prepare(site: Site, facts: Facts) -> Planned:
    """Only after a proof that was broken off, and whose request nobody can finish any more."""
    at = probe(site, facts)
    if at is None or at.fresh or at.consistent:
        return ()
    return (_clean_ca(site, at, "prove-prepare"),)


def request(site: Site, facts: Facts) -> Planned:
    at = probe(site, facts)
    if at is None or at.fresh or at.begun or not at.ca.ca_fingerprint:
        return ()
    remove = "rm -rf -- /var/lib/pmrunbook/probe"
    return (
        Action(
            id=f"prove-request/{at.host.name}/request",
            host=at.host.name,
            title=f"a new agent, its server nowhere, asks {site.ca.name} for a certificate",
            do=Script(_new_agent(site, at) + "request\n", timeout=300.0),
            undo=Compensate(remove),
            opens=Debt("ca-probe-folder", f"the new agent's folder on {at.host.name}", remove),
        ),
    )


def sign(site: Site, facts: Facts) -> Planned:
    at = probe(site, facts)
    if at is None or at.fresh or at.signed:
        return ()
    if not at.requested or not at.pending:
        what = "the fingerprint of the new agent's request, as the host and the CA have it"
        return (Later(what, "prove-request", at.ca.name),)
    clean = _at_the_ca(site, at) + "clean\n"
    return (
        Action(
            id=f"prove-sign/{at.ca.name}/sign",
            host=at.ca.name,
            title=f"sign {reads.probe_name(site)}, if its fingerprint is {at.requested}",
            do=Script(_at_the_ca(site, at, at.requested) + "sign\n", timeout=180.0),
            undo=Compensate(clean),
            opens=Debt("ca-probe-certificate", "the new agent's certificate", clean),
        ),
    )


def fetch(site: Site, facts: Facts) -> Planned:
    at = probe(site, facts)
    if at is None or at.fresh or not at.ca.ca_fingerprint:
        return ()
    return (
        Action(
            id=f"prove-fetch/{at.host.name}/fetch",
            host=at.host.name,
            title="the new agent fetches its certificate and verifies it",
            do=Script(_new_agent(site, at) + "fetch\n", timeout=300.0),
            undo=Compensate(FORGET.format("ca-enrol")),
        ),
    )


def clean(site: Site, facts: Facts) -> Planned:
    at = probe(site, facts)
    if at is None:
        return ()
    left = "probe" in at.host.proofs or at.pending or at.signed
    if at.fresh and not left:
        return ()
    return (
        _clean_ca(site, at, "prove-clean", repays="ca-probe-certificate"),
        Action(
            id=f"prove-clean/{at.host.name}/folder",
            host=at.host.name,
            title="remove the new agent's folder",
            do=Script("rm -rf -- /var/lib/pmrunbook/probe\n", timeout=60.0),
            undo=Nothing(),
            repays="ca-probe-folder",
        ),
    )


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
    Stage("prove-prepare", "Clear what an interrupted proof left", prepare),
    Stage("prove-request", "A new agent asks for a certificate", request),
    Stage("prove-sign", "Compare fingerprints and sign", sign),
    Stage("prove-fetch", "It fetches the certificate", fetch),
    Stage("prove-clean", "Take the new agent back", clean, always=True),
    Stage("existing", "Existing agents still run", existing, rollout=True),
)
