"""A host as its readings show it: which Puppet, from which packaging, with which settings.

Pure: text in, values out. Paths, settings and differences between versions come from
`puppet config print` on the host itself; nothing here guesses where it can know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from runbook.model import Facts, Host, Read, Site, Verdict

from .fields import NONE, Fields, sections

NAME = re.compile(r"(?!-)[\w.-]+", re.ASCII)
"""A certname; other hosts take it over."""
VERSION = re.compile(r"[\w.+:~^-]+", re.ASCII)
PATH = re.compile(r"(?!.*/\.\.(/|$))/[\w./@+:-]*", re.ASCII)
"""A folder of one host that another host is told of."""


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file on a host, byte for byte."""

    path: str  # where it really is, links resolved
    content: bytes | None = None  # None: there is none, or it was not read
    mode: str = ""
    owner: str = ""
    state: str = "absent"  # file | absent | other | large | unknown

    @property
    def sha256(self) -> str:
        return "" if self.content is None else hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What of a certificate matters here; times are seconds since the epoch."""

    subject: str = ""
    issuer: str = ""
    serial: str = ""
    fingerprint: str = ""  # SHA-256, upper-case hex with colons, as Puppet prints it
    not_after: int = 0
    names: tuple[str, ...] = ()  # as in the certificate: "DNS:puppet", "IP:192.0.2.1"
    extensions: tuple[str, ...] = ()  # Puppet's own, as object identifiers
    key: str = ""  # of a host's own: fits | differs | missing

    def carries(self, name: str) -> bool:
        """Whether a client that calls `name` accepts it (RFC 6125: one label for a `*`)."""
        dns = {n[4:].lower() for n in self.names if n.startswith("DNS:")}
        if not dns:
            return self.subject == f"CN={name}"
        return name.lower() in dns or f"*.{name.partition('.')[2]}".lower() in dns


@dataclass(frozen=True, slots=True)
class Crl:
    """A certificate revocation list."""

    issuer: str = ""
    next_update: int = 0
    number: str = ""
    last_update: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a host found at port 8140 of a name."""

    tcp: str = "unknown"  # open | closed | unresolved | unknown
    peer: str = ""
    certificate: Certificate = Certificate()
    trusted: str = "unknown"  # yes | no: REASON | unknown
    ca_service: bool | None = None  # GET /status/v1/simple/ca: 200 running, 404 not a CA
    ca_fingerprint: str = ""
    ahead: float | None = None  # seconds this host's clock is ahead of the one that answered
    error: str = ""


EXTRA = ("code", "code-archive", "packages", "served")
"""Reads that may fail without hiding what else is known: whoever needs them looks."""


def version(text: str) -> tuple[int, ...]:
    """`7.9.5-2+deb12u1` as (7, 9, 5); an empty tuple for what is none."""
    parts = []
    for part in text.partition("-")[0].partition("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


@dataclass(frozen=True)
class Seen:
    """One host, read."""

    name: str
    facts: Facts

    def parsed(self, read: str) -> dict[str, Fields]:
        return sections(self.facts.get(self.name, read).out)

    @property
    def reachable(self) -> bool:
        return self.facts.reachable(self.name)

    @property
    def unread(self) -> str:
        """What of an answering host could not be read, and why; empty when all was."""
        if self.system.one("error"):
            return f"settings: {self.system.one('error')}"
        found = self.facts.hosts[self.name].readings if self.reachable else {}
        for read, reading in found.items():
            if not reading.ok and read not in EXTRA:
                return f"{read}: exit {reading.exit} {reading.err.strip()[:200]}".strip()
        return ""

    # --- software ---------------------------------------------------------------------------------

    @cached_property
    def software(self) -> dict[str, Fields]:
        return self.parsed("software")

    @property
    def system(self) -> Fields:
        return self.software.get("", NONE)

    @cached_property
    def packages(self) -> dict[str, str]:
        """Installed packages that matter here, with their versions."""
        pairs = (line.split() for line in self.system.all("package"))
        return {p[0]: p[1] for p in pairs if len(p) > 1}

    @property
    def family(self) -> str:
        """debian | redhat | the distribution's own id."""
        ids = f"{self.system.one('os')} {self.system.one('os_like')}".split()
        if "debian" in ids or "ubuntu" in ids:
            return "debian"
        return "redhat" if {"rhel", "fedora", "centos"} & set(ids) else self.system.one("os")

    @property
    def enterprise(self) -> bool:
        return "enterprise" in self.system or any(p.startswith("pe-") for p in self.packages)

    @property
    def flavour(self) -> str:
        """puppet | openvox | enterprise | '' where there is none."""
        if self.enterprise:
            return "enterprise"
        if any(p.startswith("openvox") for p in self.packages):
            return "openvox"
        return "puppet" if self.puppet or self.puppetserver else ""

    @property
    def packaging(self) -> str:
        """vendor | distribution | both | '' where there is no Puppet."""
        vendor, own = self.system.one("vendor"), self.system.one("distribution")
        if vendor and own:
            return "both"
        return "vendor" if vendor else "distribution" if own else ""

    @property
    def puppet(self) -> str:
        """The path of `puppet`; empty where it is not installed."""
        return self.system.one("puppet")

    @property
    def puppetserver(self) -> str:
        return self.system.one("puppetserver")

    @property
    def ruby(self) -> str:
        return self.system.one("ruby")

    @property
    def version(self) -> tuple[int, ...]:
        """Of the agent, whose library Puppet Server compiles with."""
        return version(self.system.one("version"))

    @property
    def server_version(self) -> tuple[int, ...]:
        for package in ("puppetserver", "openvox-server"):
            if package in self.packages:
                return version(self.packages[package].partition(":")[2] or self.packages[package])
        return ()

    def setting(self, name: str, section: str = "agent") -> str:
        """A setting as Puppet takes it; `section` is agent or server.

        Empty where Puppet cannot read its configuration: the defaults it names then are no answer.
        """
        return "" if "error" in self.system else self.software.get(section, NONE).one(name)

    @property
    def certname(self) -> str:
        """Empty for a name that could end its word in a file of another host's; Puppet takes it."""
        name = self.setting("certname")
        return name if NAME.fullmatch(name) else ""

    @property
    def port(self) -> int:
        given = self.setting("ca_port")
        return int(given) if given.isdigit() else 8140

    # --- files ------------------------------------------------------------------------------------

    @cached_property
    def puppet_conf(self) -> FileFact:
        return file_fact(self.parsed("puppet.conf").get("", NONE))

    @cached_property
    def server_files(self) -> dict[str, Fields]:
        return self.parsed("server-files")

    def server_file(self, label: str) -> FileFact:
        """ca.cfg, webserver.conf, puppetserver.conf, defaults (its JVM's), or a unit of ours."""
        return file_fact(self.server_files.get(label, NONE))

    @property
    def server_state(self) -> Fields:
        """How far its certificate is, and whether its Puppet Server runs with its files."""
        return self.server_files.get("state", NONE)

    @cached_property
    def package_manager(self) -> Fields:
        return self.parsed("packages").get("", NONE)

    def candidates(self, package: str) -> tuple[str, ...]:
        """The versions of a package that this host could install, the newest first."""
        pairs = (line.split(" ", 1) for line in self.package_manager.all("candidate"))
        offered = [pair[1] for pair in pairs if pair[0] == package and len(pair) == 2]
        return tuple(v for v in offered if VERSION.fullmatch(v))

    @cached_property
    def tree(self) -> dict[str, Fields]:
        """Its code as digests: `trees`, `classifier`, `server`, `auth.conf`."""
        return self.parsed("code")

    @property
    def code(self) -> Fields:
        """Its environments, each with the digest of its code."""
        return self.tree.get("", NONE)

    @cached_property
    def archive(self) -> Fields:
        """All of its code, where that is little, or why it is not here."""
        return self.parsed("code-archive").get("", NONE)

    @cached_property
    def served(self) -> Fields:
        """The nodes that got a catalog from its Puppet Server within the last half hour."""
        return self.parsed("served").get("", NONE)

    @cached_property
    def requests(self) -> dict[str, Fields]:
        """On the CA's host: what it has of each name; `window` and `drill` where they are open."""
        return self.parsed("requests")

    # --- certificates -----------------------------------------------------------------------------

    @cached_property
    def _certificates(self) -> dict[str, Fields]:
        return self.parsed("certificates")

    def _bundle(self, label: str) -> list[Fields]:
        found = self._certificates
        return [f for name, f in found.items() if name.partition(" ")[0] == label]

    def certificates(self, label: str) -> tuple[Certificate, ...]:
        """Of hostcert, localcacert (what this host trusts) or cacert (the CA's own); in order."""
        return tuple(_certificate(f) for f in self._bundle(label))

    def crls(self, label: str) -> tuple[Crl, ...]:
        """Of hostcrl or cacrl; in order, the issuing CA's first."""
        return tuple(
            Crl(
                f.one("issuer"),
                f.number("next_update"),
                f.one("number"),
                f.number("last_update"),
            )
            for f in self._bundle(label)
        )

    @property
    def hostcert(self) -> Certificate | None:
        return next(iter(self.certificates("hostcert")), None)

    @property
    def trusts(self) -> str:
        """The fingerprint of the CA certificate this host trusts; empty: none yet."""
        return next((c.fingerprint for c in self.certificates("localcacert")), "")

    @property
    def ca_fingerprint(self) -> str:
        """The fingerprint of the CA certificate this host issues with."""
        return next((c.fingerprint for c in self.certificates("cacert")), "")

    @property
    def epoch(self) -> int:
        """Seconds since the epoch when its certificates were read."""
        return self._certificates.get("now", NONE).number("epoch")

    @property
    def enrolled(self) -> bool:
        return "enrolled" in self.agent

    # --- the network ------------------------------------------------------------------------------

    @cached_property
    def _endpoints(self) -> dict[str, Fields]:
        return self.parsed("network")

    def endpoint(self, name: str) -> Endpoint:
        """What this host finds at port 8140 of `name`."""
        found = self._endpoints.get(name)
        if found is None:
            return Endpoint()
        status = found.one("status").split(" ", 1)
        service = {"200": True, "404": False}.get(status[0])
        ahead = found.one("ahead")
        return Endpoint(
            tcp=found.one("tcp", "unknown"),
            peer=found.one("peer"),
            certificate=_certificate(found),
            trusted=found.one("trusted", "unknown"),
            ca_service=service,
            ca_fingerprint=found.one("ca_fingerprint"),
            ahead=float(ahead) if ahead else None,
            error=found.one("error"),
        )

    @cached_property
    def _names(self) -> dict[str, Fields]:
        return self.parsed("names")

    def resolves(self, name: str) -> tuple[str, ...]:
        """The addresses `name` has for this host."""
        return self._names.get(name, NONE).all("address")

    def reverse(self, name: str) -> dict[str, str]:
        """The names behind the addresses of `name`, as this host sees them."""
        pairs = (r.partition(" ") for r in self._names.get(name, NONE).all("reverse"))
        return {address: names for address, _, names in pairs}

    # --- state ------------------------------------------------------------------------------------

    @cached_property
    def machine(self) -> Fields:
        return self.parsed("machine").get("", NONE)

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.machine.all("address")

    def service(self, unit: str) -> dict[str, str]:
        """LoadState, ActiveState, SubState and UnitFileState of a unit."""
        for line in self.machine.all("service"):
            pairs = dict(p.split("=", 1) for p in line.split() if "=" in p)
            if pairs.get("Id") == f"{unit}.service":
                return pairs
        return {}

    @cached_property
    def authority(self) -> Fields:
        return self.parsed("authority").get("", NONE)

    @cached_property
    def agent(self) -> Fields:
        return self.parsed("agent").get("", NONE)

    @cached_property
    def ladder(self) -> dict[str, Fields]:
        """What it found at each compile master, asked as a client of the site."""
        return self.parsed("ladder")

    @cached_property
    def catalogs(self) -> dict[str, Fields]:
        """Its own catalog as each server compiles it."""
        return self.parsed("catalogs")

    @cached_property
    def terminus(self) -> dict[str, Fields]:
        """How its Puppet Server is joined to PuppetDB, and what each PuppetDB answers it."""
        return self.parsed("terminus")

    @cached_property
    def exchange(self) -> Fields:
        """Where a probe's environment goes, and what is left of one."""
        return self.parsed("exchange").get("", NONE)

    @cached_property
    def proofs(self) -> dict[str, Fields]:
        return self.parsed("proofs")


def _certificate(found: Fields) -> Certificate:
    return Certificate(
        subject=found.one("subject"),
        issuer=found.one("issuer"),
        serial=found.one("serial"),
        fingerprint=found.one("fingerprint"),
        not_after=found.number("not_after"),
        names=found.all("san"),
        extensions=found.all("extension"),
        key=found.one("key"),
    )


def file_fact(found: Fields) -> FileFact:
    """What `pc_file` printed, behind a line `path=`."""
    path = found.one("link") or found.one("path")
    state = found.one("state", "unknown")
    if state != "file":
        return FileFact(path, None, state=state)
    try:
        content = base64.b64decode(found.one("content"), validate=True)
    except (binascii.Error, ValueError):
        return FileFact(path, None, state="unknown")
    fact = FileFact(path, content, found.one("mode"), found.one("owner"), state)
    # A file that changed while it was read is as good as not read.
    return fact if fact.sha256 == found.one("sha256") else FileFact(path, state="unknown")


def unknown(facts: Facts, *asked: tuple[str, Read]) -> Verdict | None:
    """The verdict where one of these reads gave nothing: neither passed nor failed."""
    for host, read in asked:
        got = facts.get(host, read.id)
        if not got.ok:
            said = got.err.strip()[:200] or f"exit {got.exit}"
            return Verdict(None, f"{host} was not read ({read.id}: {said})")
    return None


def loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def see(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """Every host of the site that answered, in the order of the inventory."""
    return tuple(Seen(h.name, facts) for h in site.hosts if facts.reachable(h.name))


def expected(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """Every host that was not left out, silent or not: what a check of all hosts is about."""
    return tuple(Seen(h.name, facts) for h in site.hosts if h.name in facts.hosts)


def ca_host(site: Site, facts: Facts) -> Seen:
    """The CA's host."""
    return Seen(site.ca.host, facts)


def servers(site: Site) -> tuple[Host, ...]:
    """Every Puppet Server, the CA's own host last: it is the one everybody depends on."""
    return tuple(sorted(site.having("server"), key=lambda host: host.name == site.ca.host))


def joined(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The Puppet Servers that answered and are open source, in that order."""
    seen = (Seen(h.name, facts) for h in servers(site) if facts.reachable(h.name))
    return tuple(s for s in seen if not s.enterprise)
