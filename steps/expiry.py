"""What ends soon: certificates and revocation lists, by the clock of the host they are on."""

from __future__ import annotations

from collections.abc import Iterator

from runbook.model import Finding, Site

from .catalogue import found
from .layout import Seen

DAY = 86_400
MARGIN = 90 * DAY


def expiries(site: Site, seen: Seen) -> Iterator[Finding]:
    """Certificates and CRLs of this host that end within 90 days."""
    now = seen.epoch
    own = seen.hostcert
    if not now:
        return
    if own and own.not_after:
        left = (own.not_after - now) // DAY
        if own.not_after <= now:
            said = f"ended {-left} days ago"
            yield found("certificate-expired", seen.name, said, puppet=seen.puppet)
        elif own.not_after - now < MARGIN:
            where = seen.setting("hostcert")
            yield found("certificate-expires", seen.name, f"{left} days left", hostcert=where)
    if seen.name != site.ca.host:
        return
    for certificate in seen.certificates("cacert"):
        if certificate.not_after and certificate.not_after - now < MARGIN:
            said = f"{certificate.subject}: {(certificate.not_after - now) // DAY} days left"
            where = seen.setting("cacert", "server")
            yield found("ca-certificate-expires", seen.name, said, cacert=where)
    renews = seen.server_version >= (8, 4)
    for crl in seen.crls("cacrl"):
        if crl.next_update and crl.next_update - now < (0 if renews else MARGIN):
            said = f"{crl.issuer}: {(crl.next_update - now) // DAY} days left"
            yield found("crl-expires", seen.name, said, cacrl=seen.setting("cacrl", "server"))
