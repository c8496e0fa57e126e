"""A compile master as it is, and as the site wants it: names, memory, packages, certificate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runbook import edit
from runbook.model import Facts, Site
from runbook.pools import pools

from .fields import NONE, Fields
from .layout import Certificate, Seen, ca_host, loopback, version

DAYS_LEFT = 30  # a certificate that ends sooner is issued anew
SERVERS = {"puppetserver": "puppet-agent", "openvox-server": "openvox-agent"}
"""Server package -> its agent's, by the vendor, OpenVox and Debian alike."""


def compilers(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The compile masters that answered, in the inventory's order."""
    return tuple(Seen(h.name, facts) for h in site.having("compiler") if facts.reachable(h.name))


def model_master(site: Site) -> str:
    """The server that the other servers' agents take their code from, where the site has one."""
    code = site.sections.get("code", {})
    return str(code.get("source", "")) if code.get("strategy") == "model-master" else ""


def called(site: Site, name: str) -> tuple[str, ...]:
    """The names by which agents call this host, but for its own, as the inventory has them."""
    roles, about = site.host(name).roles, site.sections.get("load_balancing", {})
    if "compiler" in roles:
        return site.dns_alt_names
    if "balancer" in roles and about.get("strategy") == "tls-proxy":
        return tuple(dict.fromkeys((*(p.server for p in pools(site)), *site.dns_alt_names)))
    return ()


_ALT_NAME = re.compile(r"(\*\.)?[\w.-]+", re.ASCII)


def alt_names(site: Site, facts: Facts, names_called: tuple[str, ...]) -> tuple[str, ...]:
    """Every further name a certificate carries.

    Those the inventory gives or the strategy implies, and the short form of one where the
    certificate agents meet today has it: some of them call that.
    """
    now = ca_host(site, facts).hostcert
    names = []
    for name in names_called:
        short = name.partition(".")[0]
        if now and now.names and f"DNS:{short}" in now.names and short != site.ca.name:
            names.append(short)
        names.append(name)
    return tuple(dict.fromkeys(names))


def wanted_names(site: Site, facts: Facts, name: str) -> tuple[str, ...]:
    """Its certname, the further names that agents call it by, and those its files have today.

    Somebody calls the last ones; only the CA's name belongs to no compile master.
    """
    seen = Seen(name, facts)
    further = alt_names(site, facts, called(site, name))
    own = seen.hostcert.names if seen.hostcert else ()
    today = [n.removeprefix("DNS:") for n in own if n.startswith("DNS:")]
    today += [n.strip() for n in seen.setting("dns_alt_names", "server").split(",")]
    names = dict.fromkeys((name, *further, *sorted(filter(_ALT_NAME.fullmatch, today))))
    return tuple(n for n in names if n not in (site.ca.name, seen.certname) or n == name)


def setting_of(file: bytes | None, path: str) -> str:
    """A HOCON setting; empty where it is unset or the file cannot be read."""
    try:
        return edit.hocon_get(file or b"", path) or ""
    except edit.EditError:
        return ""


def fronted(seen: Seen) -> bool:
    """Whether its Puppet Server is asked by its own host alone: a proxy ends TLS there."""
    return loopback(setting_of(seen.server_file("webserver.conf").content, "webserver.ssl-host"))


def port(seen: Seen) -> int:
    """Where clients find its Puppet Server; a proxy in front listens one below."""
    given = setting_of(seen.server_file("webserver.conf").content, "webserver.ssl-port")
    return (int(given) if given.isdigit() else 8140) - fronted(seen)


# --- memory -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sizing:
    """JRuby instances and JVM heap (MiB) of one compile master."""

    instances: int
    heap: int
    memory: int  # MiB the host has
    why: str

    @property
    def fits(self) -> bool:
        """Whether the heap leaves the system and the JVM itself 512 MiB."""
        return not self.memory or self.heap + 512 <= self.memory


def sizing(site: Site, seen: Seen) -> Sizing:
    """From processors and memory, as Puppet Server's own defaults and tuning guide have it.

    One instance less than processors, 1 to 4 (jruby-puppet.max-active-instances); 512 MiB, and 512
    MiB for each instance. The inventory, then what the host's own files say, comes first.
    """
    own = site.sections.get("compilers", {}).get(seen.name, {})
    processors = seen.machine.number("processors", 1)
    memory = seen.machine.number("memory_total") // 1024
    usual = max(1, min(4, processors - 1))
    fitting = max(1, (memory - 1024) // 512 - 1) if memory else usual
    found = setting_of(
        seen.server_file("puppetserver.conf").content, "jruby-puppet.max-active-instances"
    )
    given = own.get("jruby_instances") or (int(found) if found.isdigit() else 0)
    instances = given or min(usual, fitting)
    heap = own.get("heap") or 512 * (1 + instances)
    why = (
        f"{processors} processor{'s' * (processors != 1)}, {memory} MiB of memory: "
        f"{instances} JRuby instance{'s' * (instances != 1)}, a heap of {heap} MiB"
    )
    if "heap" in own or "jruby_instances" in own:
        why += " (as the inventory says)"
    else:
        why += " (512, and 512 for each instance)"
    return Sizing(instances, int(heap), memory, why)


# --- packages ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packages:
    """What to install: package -> version, or why that cannot be."""

    specs: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def packages(site: Site, facts: Facts, seen: Seen) -> Packages:
    """The CA's server package at the CA's version, and the agent that goes with it."""
    ca = ca_host(site, facts)
    server = next((p for p in SERVERS if p in ca.packages), "")
    if not server:
        return Packages(problem=f"which package {ca.name} has Puppet Server from is not known")
    agent = (ca.version, ca.version[:1])
    return choose(seen, {server: (ca.server_version,), SERVERS[server]: agent})


def choose(seen: Seen, wanted: Mapping[str, tuple[tuple[int, ...], ...]]) -> Packages:
    """Of each package the newest version the host is offered that begins with the first numbers
    anything begins with; what is installed stays."""
    specs = []
    for package, goals in wanted.items():
        if package in seen.packages:
            continue
        offered = seen.candidates(package)
        fitting = (
            v
            for goal in goals
            for v in offered
            if version(v.partition(":")[2] or v)[: len(goal)] == goal
        )
        if (best := next(fitting, None)) is None:
            said = ", ".join(dict.fromkeys(offered)) or "none"
            numbers = ".".join(map(str, goals[0])) or "any version"
            return Packages(problem=f"{package} {numbers} is wanted, its repositories have {said}")
        specs.append((package, best))
    return Packages(tuple(specs))


# --- certificate ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How far a compile master's certificate is: what the host has and what the CA has."""

    why: str  # it needs a certificate because ...; empty: the one it has is right
    stale: bool  # the host has files of another certificate or request in the way
    key: str  # digest of the host's public key
    request: str  # fingerprint of the host's own request
    pending: Fields  # what the CA has of this name

    @property
    def signed(self) -> bool:
        """The CA signed this very key."""
        return bool(self.key) and self.pending.one("signed_key") == self.key

    @property
    def requested(self) -> bool:
        """The host's own request waits at the CA."""
        return bool(self.request) and self.pending.one("request") == self.request

    @property
    def superseded(self) -> str:
        """What the CA has of this name that has to go before a new request can be signed."""
        if self.why and "signed" in self.pending and (self.stale or not self.signed):
            return "certificate"
        if self.stale and self.requested:
            return "request"
        return ""


def enrolment(site: Site, facts: Facts, seen: Seen) -> Enrolment:
    """Compares the host's files with the CA's."""
    ca = ca_host(site, facts)
    names = wanted_names(site, facts, seen.name)
    state = seen.server_state
    known = ca.requests.get(seen.name, NONE)
    now = seen.hostcert
    why, stale = "", False
    if not facts.get(ca.name, "requests").ok:
        pass  # nothing is judged by half of what there is
    elif now is None:
        why = "it has none"
        asked = set(state.all("request_name"))
        further = [f"DNS:{n}" for n in names[1:]]
        stale = "request" in state and any(n not in asked for n in further)
    else:
        why = _wrong(seen, now, ca, names, known)
        stale = bool(why)
    return Enrolment(why, stale, state.one("key"), state.one("request"), known)


def _wrong(seen: Seen, now: Certificate, ca: Seen, names: tuple[str, ...], known: Fields) -> str:
    """Why the certificate a host has now cannot stay."""
    missing = [n for n in names if not now.carries(n)]
    if seen.trusts and ca.ca_fingerprint and seen.trusts != ca.ca_fingerprint:
        return "it is of another CA"
    if now.issuer not in {c.subject for c in ca.certificates("cacert")}:
        return f"it was issued by {now.issuer}"
    if now.key != "fits":
        return "its key does not fit" if now.key == "differs" else "its key is missing"
    if missing:
        return f"it does not carry {' and '.join(missing)}"
    if seen.epoch and now.not_after - seen.epoch < DAYS_LEFT * 86_400:
        return f"it ends in {max(0, now.not_after - seen.epoch) // 86_400} days"
    if known.one("signed") != now.fingerprint:
        return "the CA has another one of this name" if "signed" in known else "the CA has none"
    return ""


def ready(seen: Seen) -> bool:
    """Whether packages are there, so that everything else can be read and planned."""
    return bool(seen.puppetserver and seen.certname and seen.reachable and not seen.unread)
