"""A throw-away agent enrols: asks on a host, is signed by its fingerprint, fetches, is taken back.

What was proved is recorded on the host it was proved on, so that a second run finds nothing to do
until the CA, its name, or the way there is another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runbook.model import (
    Action,
    Compensate,
    Debt,
    Facts,
    Later,
    Nothing,
    Planned,
    Script,
    Site,
    Stage,
)

from . import ca_clients, reads
from .fields import NONE
from .layout import Seen, ca_host, see
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
    seen = (s for s in see(site, facts) if s.name not in facts.idle)
    able = [s for s in seen if s.certname and s.ruby and not s.enterprise]
    agents = [s for s in able if "agent" in site.host(s.name).roles]
    others = [s for s in able if s.name != site.ca.host]
    modern = [s for s in agents if s.version >= (6, 4)]
    return next(iter(modern or agents or others or able), None)


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


def _nothing_more(site: Site, agent: str) -> Mapping[str, str]:
    return {}


def _no_way(site: Site) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One proof that a new agent can enrol: where its server is, and how the proof is recorded."""

    stage: str  # what its stages' ids begin with
    record: str
    words: str  # about its server, for a title
    settings: Callable[[Site, str], Mapping[str, str]] = _nothing_more
    """Further settings of the new agent, given the host that it is tried on."""
    way: Callable[[Site], str] = _no_way
    """What else the proof holds for; for another one it has to be made again."""

    def proved(self, site: Site, facts: Facts, seen: Seen) -> bool:
        """Whether the record on this host is of this CA, this name and this way."""
        same = seen.proofs.get(self.record, NONE).one("way") == self.way(site)
        return same and proved(site, facts, seen, self.record)

    def probe(self, site: Site, facts: Facts) -> Probe | None:
        """The state of the proof; None where no host can try it."""
        host, ca = prober(site, facts), ca_host(site, facts)
        if host is None or not ca.certname:
            return None
        left = host.proofs.get("probe", NONE)
        return Probe(
            host=host,
            ca=ca,
            fresh=any(self.proved(site, facts, s) for s in see(site, facts)),
            requested=left.one("request"),
            fetched="certificate" in left,
            pending=ca.authority.one("probe_request"),
            signed="probe_signed" in ca.authority,
        )

    def _new_agent(self, site: Site, at: Probe) -> str:
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
        main |= self.settings(site, at.host.name)
        given = assignments(
            puppet=at.host.puppet,
            ruby=at.host.ruby,
            legacy="yes" if at.host.version < (6, 4) else "no",
            probe=reads.probe_name(site),
            main="\n".join(f"{k} = {v}" for k, v in main.items()),
            issuer=at.ca.ca_fingerprint,
            ca_name=site.ca.name,
            record=self.record,
            way=self.way(site),
            serves="no" if main["server"] == NOWHERE else "yes",
        )
        return given + reads.script("enrol.sh")

    def prepare(self, site: Site, facts: Facts) -> Planned:
        """Only after a proof that was broken off, and whose request nobody can finish any more."""
        at = self.probe(site, facts)
        if at is None or at.fresh or at.consistent:
            return ()
        return (_clean_ca(site, at, f"{self.stage}-prepare"),)

    def request(self, site: Site, facts: Facts) -> Planned:
        at = self.probe(site, facts)
        if at is None or at.fresh or at.begun or not at.ca.ca_fingerprint:
            return ()
        remove = "rm -rf -- /var/lib/pmrunbook/probe"
        return (
            Action(
                id=f"{self.stage}-request/{at.host.name}/request",
                host=at.host.name,
                title=f"a new agent, {self.words}, asks {site.ca.name} for a certificate",
                do=Script(self._new_agent(site, at) + "request\n", timeout=300.0),
                undo=Compensate(remove),
                opens=Debt("ca-probe-folder", f"the new agent's folder on {at.host.name}", remove),
            ),
        )

    def sign(self, site: Site, facts: Facts) -> Planned:
        at = self.probe(site, facts)
        if at is None or at.fresh or at.signed:
            return ()
        if not at.requested or not at.pending:
            what = "the fingerprint of the new agent's request, as the host and the CA have it"
            return (Later(what, f"{self.stage}-request", at.ca.name),)
        clean = _at_the_ca(site, at) + "clean\n"
        return (
            Action(
                id=f"{self.stage}-sign/{at.ca.name}/sign",
                host=at.ca.name,
                title=f"sign {reads.probe_name(site)}, if its fingerprint is {at.requested}",
                do=Script(_at_the_ca(site, at, at.requested) + "sign\n", timeout=180.0),
                undo=Compensate(clean),
                opens=Debt("ca-probe-certificate", "the new agent's certificate", clean),
            ),
        )

    def fetch(self, site: Site, facts: Facts) -> Planned:
        at = self.probe(site, facts)
        if at is None or at.fresh or not at.ca.ca_fingerprint:
            return ()
        return (
            Action(
                id=f"{self.stage}-fetch/{at.host.name}/fetch",
                host=at.host.name,
                title="the new agent fetches its certificate and verifies it",
                do=Script(self._new_agent(site, at) + "fetch\n", timeout=300.0),
                undo=Compensate(FORGET.format(self.record)),
            ),
        )

    def clean(self, site: Site, facts: Facts) -> Planned:
        at = self.probe(site, facts)
        if at is None:
            return ()
        left = "probe" in at.host.proofs or at.pending or at.signed
        if at.fresh and not left:
            return ()
        return (
            _clean_ca(site, at, f"{self.stage}-clean", repays="ca-probe-certificate"),
            Action(
                id=f"{self.stage}-clean/{at.host.name}/folder",
                host=at.host.name,
                title="remove the new agent's folder",
                do=Script("rm -rf -- /var/lib/pmrunbook/probe\n", timeout=60.0),
                undo=Nothing(),
                repays="ca-probe-folder",
            ),
        )

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage(f"{self.stage}-prepare", "Clear what an interrupted proof left", self.prepare),
            Stage(f"{self.stage}-request", "A new agent asks for a certificate", self.request),
            Stage(f"{self.stage}-sign", "Compare fingerprints and sign", self.sign),
            Stage(f"{self.stage}-fetch", "It fetches the certificate", self.fetch),
            Stage(f"{self.stage}-clean", "Take the new agent back", self.clean, always=True),
        )
