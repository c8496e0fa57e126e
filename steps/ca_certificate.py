"""Stage `certificate` of the ca step: the CA host's certificate carries the CA's own name."""

from __future__ import annotations

from runbook.model import (
    Action,
    Check,
    Facts,
    Human,
    Nothing,
    Planned,
    Read,
    Restore,
    Risk,
    Script,
    Site,
    Stage,
    Verdict,
)
from runbook.shell import quote

from . import reads
from .layout import Certificate, Seen, ca_host, loopback
from .shellwords import assignments

OUTAGE = 75.0  # seconds: one stop and one start of Puppet Server on two processors


def serving(seen: Seen, port: int = 0) -> str:
    """The functions that start and stop this host's Puppet Server; `port` 0: the CA's."""
    given = assignments(ruby=seen.ruby, certname=seen.certname, port=str(port or seen.port))
    return given + reads.script("serving.sh")


def wanted(site: Site, ca: Seen, now: Certificate) -> tuple[str, ...]:
    """DNS names the certificate has to carry and does not.

    The name agents call counts where it leads to this host: issuing twice would cost two outages.
    """
    names = [site.ca.name]
    if any(a in ca.addresses or loopback(a) for a in ca.resolves(site.server)):
        names.append(site.server)
    return tuple(n for n in names if not now.carries(n))


def plan(site: Site, facts: Facts) -> Planned:
    ca = ca_host(site, facts)
    now = ca.hostcert
    if not ca.reachable or not ca.puppetserver or ca.enterprise or now is None:
        return ()  # a blocker of the survey
    live = ca.endpoint(ca.certname)
    if now.carries(site.ca.name) and now.key == "fits":
        return () if live.certificate.serial == now.serial else (_load(ca),)
    if ca.version < (6,) or "ca_client" not in ca.authority:
        return (_ask(site, ca, now),)
    return (_reissue(ca, now, wanted(site, ca, now)),)


def _reissue(ca: Seen, now: Certificate, missing: tuple[str, ...]) -> Action:
    names = [n for n in now.names if n.startswith(("DNS:", "IP:"))]
    names += [f"DNS:{n}" for n in (ca.certname, *missing) if f"DNS:{n}" not in names]
    certificate = ca.setting("hostcert", "server")
    key = ca.setting("hostprivkey", "server")
    public = ca.setting("hostpubkey", "server")
    signed = f"{ca.setting('signeddir', 'server')}/{ca.certname}.pem"
    given = assignments(
        puppetserver=ca.puppetserver,
        names=",".join(names),
        wanted=" ".join(missing),
        was=now.fingerprint,
        config=ca.setting("config", "server"),
        certificate=certificate,
        key=key,
        public=public,
        signed=signed,
        cadir=ca.setting("cadir", "server"),
        cacert=ca.setting("cacert", "server"),
        localcacert=ca.setting("localcacert", "server"),
        hostcrl=ca.setting("hostcrl", "server"),
    )
    title = f"issue {ca.name}'s certificate anew, with {' and '.join(missing) or 'a fitting key'}"
    diff = [f"--- {certificate}", f"+++ {certificate}", "@@ subjectAltName @@"]
    diff += [f" {n}" for n in now.names]
    diff += [f"+{n}" for n in names if n not in now.names]
    return Action(
        id=f"certificate/{ca.name}/reissue",
        host=ca.name,
        title=title,
        do=Script(
            given + serving(ca) + reads.script("reissue.sh"),
            timeout=1800.0,
            # Never the CA's serial number: an older one over a CA that signed since would give
            # two certificates the same number.
            saves=(certificate, key, public, signed),
        ),
        undo=Restore(first=serving(ca) + "stop_server", then=serving(ca) + "start_server"),
        risk=Risk.CHANGE,
        diff="\n".join(diff) + "\n",
        outage=OUTAGE,
    )


def _load(ca: Seen) -> Action:
    """The right certificate is on disk; Puppet Server reads it at a reload or a start."""
    script = (
        "if systemctl is-active --quiet puppetserver; then systemctl reload puppetserver; "
        "else systemctl start puppetserver; fi && wait_ready"
    )
    return Action(
        id=f"certificate/{ca.name}/load",
        host=ca.name,
        title=f"let Puppet Server on {ca.name} read its certificate again",
        do=Script(serving(ca) + script, timeout=600.0),
        undo=Nothing(),
        outage=10.0,
    )


def _ask(site: Site, ca: Seen, now: Certificate) -> Action:
    """No `puppetserver ca generate --ca-client` here: a person issues the certificate."""
    names = [n.removeprefix("DNS:") for n in now.names if n.startswith("DNS:")]
    text = (
        f"{ca.name} has no `puppetserver ca generate --ca-client` "
        f"(Puppet {ca.system.one('version')}). Issue its certificate by hand, with Puppet Server "
        "stopped and a copy of the ssldir at hand:\n\n"
        "    systemctl stop puppetserver\n"
        f"    puppet cert clean {ca.certname}\n"
        f"    puppet cert generate {ca.certname} "
        f"--dns_alt_names={','.join(dict.fromkeys([*names, site.ca.name]))}\n"
        "    systemctl start puppetserver\n\n"
        "The new certificate has to carry every name the old one has: "
        f"{', '.join(now.names) or now.subject}."
    )
    proof = "\n".join(
        (
            f"pc_names={quote(site.ca.host)} pc_port={ca.port}",
            f"out=$( ( {reads.script('network.sh')} ) )",
            f"printf '%s\\n' \"$out\" | grep -Fx {quote('san=DNS:' + site.ca.name)}",
        )
    )
    return Action(
        id=f"certificate/{ca.name}/by-hand",
        host=ca.name,
        title=f"let {ca.name}'s certificate carry {site.ca.name}",
        do=Human(text, Read("ca-certificate", proof)),
        undo=Nothing(),
        outage=OUTAGE,
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """The CA's host presents a certificate with the CA's name, and its CLI is let in."""
    host = site.host(site.ca.host)

    def judge(facts: Facts) -> Verdict:
        ca = ca_host(site, facts)
        live = ca.endpoint(ca.certname or ca.name)
        good = live.tcp == "open" and live.certificate.carries(site.ca.name)
        seen = ", ".join(live.certificate.names) or live.error or live.tcp
        return Verdict(good, seen, "journalctl -u puppetserver -n 50 --no-pager")

    return (
        Check(
            "certificate/name",
            f"{site.ca.host} presents a certificate that carries {site.ca.name}",
            judge,
            ((host.name, reads.SOFTWARE), (host.name, reads.network(site, host))),
            patience=30.0,
        ),
    )


CERTIFICATE = Stage("certificate", "Its certificate carries the name", plan, checks)
