"""Stages `install` to `fetch` of the step `puppetdb`: PuppetDB's host has packages and a name."""

from __future__ import annotations

from runbook.model import Action, Facts, Later, Planned, Site, Stage

from . import ca_clients, compiler_certificate
from .compiler import enrolment
from .compiler_certificate import Applicants
from .compiler_install import installing
from .layout import ca_host
from .puppetdb_site import Store, mine, wanted_packages

# --- packages, and who the host is ----------------------------------------------------------------


def install(site: Site, facts: Facts) -> Planned:
    actions = []
    for store in mine(site, facts):
        wanted = wanted_packages(site, facts, store)
        manager = store.seen.package_manager.one("manager")
        if wanted.problem or not manager or not wanted.specs:
            continue  # there already, or a blocker of the step
        apt = {"preseed": "puppetdb puppetdb/dbconfig-install boolean false"}
        actions.append(
            installing(
                "install",
                store.seen,
                wanted,
                "PuppetDB is not started",
                unit="" if store.package else "puppetdb",
                # Of its own: the host may be a Puppet Server that was installed by us, too.
                record="/var/lib/pmrunbook/installed-puppetdb",
                # Debian's package would ask for a database of its own, and go on without one.
                **(apt if manager == "apt" else {}),
            )
        )
    return tuple(actions)


def agent(site: Site, facts: Facts) -> Planned:
    """Whom its agent asks: settled before it asks for a certificate."""
    planned: list[Action | Later] = []
    for store in mine(site, facts):
        seen = store.seen
        if not seen.puppet:
            wanted = {**ca_clients.settings(site), "server": site.server}
            said = ", ".join(f"{key} = {value}" for key, value in wanted.items())
            planned.append(Later(f"{said} in [main] of puppet.conf", "install", store.name))
            continue
        if told := ca_clients.introduced(site, seen):
            planned.append(told)
    return tuple(planned)


APPLICANTS = Applicants(
    lambda site, facts: tuple(s.seen for s in mine(site, facts) if s.name != site.ca.host),
    lambda seen: bool(seen.puppet and seen.certname and not seen.unread),
)


def without(site: Site, facts: Facts) -> Applicants:
    """Those that have no certificate yet: one that is there and wrong is a person's to judge."""
    hosts = tuple(s for s in APPLICANTS.hosts(site, facts) if s.hostcert is None)
    return Applicants(lambda site, facts: hosts, APPLICANTS.ready)


def renew(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.renew(site, facts, without(site, facts))


def request(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.request(site, facts, without(site, facts))


def sign(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.sign(site, facts, without(site, facts))


def fetch(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.fetch(site, facts, without(site, facts))


def certificate_problem(site: Site, facts: Facts, store: Store) -> str:
    """Why the certificate it has is no good for PuppetDB; empty where it is, or there is none."""
    now, ca = store.seen.hostcert, ca_host(site, facts)
    if now is None or not ca.ca_fingerprint:
        return ""
    state = enrolment(site, facts, store.seen)
    # That the CA keeps no copy of it does not make it wrong.
    if state.why in ("the CA has none", "the CA has another one of this name"):
        return ""
    return state.why


STAGES = (
    Stage("install", "Packages, with PuppetDB not started", install),
    Stage("agent", "Whom its agent asks", agent),
    Stage("renew", "What the CA has of an earlier host of that name", renew),
    Stage("request", "It makes its key and its request", request),
    Stage("sign", "Fingerprints are compared, and signed", sign),
    Stage("fetch", "It has its certificate", fetch),
)
