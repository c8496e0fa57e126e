"""The certificate of the proxy that ends TLS: the site's CA issues it, for every name agents call.

As with a compile master the key is made on the host and stays there, and the CA signs by
fingerprint. The agent there enrols; HAProxy uses its certificate, key and revocation list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runbook.model import Check, Facts, Finding, Later, Planned, Site, Stage, Verdict

from . import ca_clients, compiler_certificate, haproxy, reads
from .balance import proxy
from .balance_proxy import ends_tls, files, there
from .compiler import enrolment, wanted_names
from .compiler_certificate import Applicants
from .compiler_start import fresh_crl
from .layout import Seen, unknown


def _hosts(site: Site, facts: Facts) -> tuple[Seen, ...]:
    name = proxy(site)
    return (Seen(name, facts),) if ends_tls(site) and facts.reachable(name) else ()


BALANCER = Applicants(_hosts, lambda seen: bool(seen.puppet and seen.certname and not seen.unread))


def agent(site: Site, facts: Facts) -> Planned:
    """Whom its agent asks: settled before it asks for a certificate."""
    for seen in _hosts(site, facts):
        if not there(site, facts):
            return (Later(f"its agent asks {site.ca.name}", "install", seen.name),)
        told = ca_clients.introduced(site, seen)
        return (told,) if told else ()
    return ()


def _for_it(
    plan: Callable[[Site, Facts, Applicants], Planned],
) -> Callable[[Site, Facts], Planned]:
    def planned(site: Site, facts: Facts) -> Planned:
        return plan(site, facts, BALANCER) if ends_tls(site) else ()

    return planned


def _closed(site: Site, facts: Facts) -> tuple[Check, ...]:
    return compiler_certificate.closed(site, facts) if ends_tls(site) else ()


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """It has the certificate, and knows what is revoked."""
    if not ends_tls(site):
        return ()
    name = proxy(site)
    asked = (
        (name, reads.SOFTWARE),
        (name, reads.CERTIFICATES),
        (name, reads.SERVER_FILES),
        (name, files(site)),
        (site.ca.host, reads.SOFTWARE),
        (site.ca.host, reads.CERTIFICATES),
        (site.ca.host, reads.requests(site)),
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        why, remedy = enrolment(site, facts, seen).why, "pmrunbook --step balancer"
        if why:
            return Verdict(False, why, remedy)
        if not haproxy.linked(seen):
            return Verdict(False, "HAProxy uses another certificate", remedy)
        if said := haproxy.unread(seen):
            return Verdict(False, said, f"systemctl start {reads.CRL_TIMER}.service, on {name}")
        return Verdict(True, f"for {', '.join(wanted_names(site, facts, name))}")

    title = f"{name} ends TLS with a certificate of the site's CA, for every name agents call"
    return (
        Check(f"certificate/{name}", title, judge, asked),
        fresh_crl(site, name),
        *_closed(site, facts),
    )


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    if ends_tls(site):
        yield from compiler_certificate.findings(site, facts, BALANCER)


STAGES = (
    Stage("agent", "Whom the proxy's agent asks", agent),
    Stage("clear", "What is in the way on the proxy's host", _for_it(compiler_certificate.clear)),
    Stage("renew", "What the CA has of that name", _for_it(compiler_certificate.renew)),
    Stage("request", "It makes its key and its request", _for_it(compiler_certificate.request)),
    Stage("window", "The CA may sign alternative names", _for_it(compiler_certificate.window)),
    Stage("sign", "Fingerprints are compared, and signed", _for_it(compiler_certificate.sign)),
    Stage(
        "close",
        "The CA signs no more of them",
        _for_it(compiler_certificate.close),
        _closed,
        always=True,
    ),
    Stage("fetch", "It has its certificate", _for_it(compiler_certificate.fetch)),
)
