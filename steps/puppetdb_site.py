"""PuppetDB as it is and as the site wants it: hosts, packages, memory, who may ask.

The guide's "inventory service" is PuppetDB's facts today, its "storeconfigs" PuppetDB's exported
resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runbook import edit
from runbook.model import Facts, Site

from .compiler import SERVERS, Packages, choose
from .fields import NONE, Fields, sections
from .layout import FileFact, Seen, ca_host, file_fact, servers, version
from .reads import DATABASES, TERMINI

LISTS = ("certificate-allowlist", "certificate-whitelist")
"""The setting that names who may ask: today's, and that of before PuppetDB 6.12.1."""


def about(site: Site) -> Mapping[str, Any]:
    """What the inventory says of PuppetDB; empty where the site has none."""
    return site.sections.get("puppetdb", {})


def processors(site: Site) -> tuple[str, ...]:
    """The report processors every server is to have; empty: nobody asked for any."""
    return tuple(site.sections.get("reports", {}).get("processors", ()))


def concerns(site: Site) -> bool:
    """Whether there is anything for this chapter to do."""
    return bool(about(site) or processors(site))


def urls(site: Site) -> tuple[str, ...]:
    """The PuppetDBs in the order servers try them, as host:port."""
    return tuple(f"{name}:{about(site)['port']}" for name in about(site).get("hosts", ()))


def certname(site: Site, facts: Facts, host: str) -> str:
    """What PuppetDB knows a server by: its certname, where that could be read."""
    return Seen(host, facts).certname or host


# --- one PuppetDB -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """One PuppetDB host, read."""

    seen: Seen
    site: Site

    @cached_property
    def _read(self) -> dict[str, Fields]:
        return sections(self.seen.facts.get(self.seen.name, "puppetdb").out)

    @property
    def name(self) -> str:
        return self.seen.name

    @property
    def read(self) -> bool:
        """Whether everything about it could be read."""
        return self.seen.reachable and self.seen.facts.get(self.name, "puppetdb").ok

    @property
    def facts(self) -> Fields:
        return self._read.get("", NONE)

    @property
    def state(self) -> Fields:
        """Its running service, as far as it has one."""
        return self._read.get("state", NONE)

    def file(self, label: str) -> FileFact:
        """jetty.ini, puppetdb.ini, allowlist or defaults (its JVM's)."""
        return file_fact(self._read.get(label, NONE))

    @property
    def etc(self) -> str:
        """Its configuration folder; empty where it is not installed."""
        return self.facts.one("etc") if self.package else ""

    @property
    def package(self) -> str:
        return next((p for p in DATABASES if p in self.seen.packages), "")

    @property
    def version(self) -> tuple[int, ...]:
        return version(self.seen.packages.get(self.package, ""))

    @property
    def enrolled(self) -> bool:
        """It has Puppet, and so a certname and places for a certificate."""
        return bool(self.seen.puppet and self.seen.certname and not self.seen.unread)

    @property
    def running(self) -> bool:
        return self.seen.service("puppetdb").get("ActiveState") in ("active", "activating")

    @property
    def foreign(self) -> bool:
        """It is somebody else's: only who may ask is ours to add to."""
        return bool(about(self.site).get("existing"))

    @property
    def list_setting(self) -> tuple[str, str, str]:
        """The setting that names the list, its file and its value, where one is set."""
        for line in self.facts.all("list"):
            key, file, *value = line.split(" ", 2)
            return key, file, value[0] if value else ""
        return "", "", ""

    @property
    def ours(self) -> bool:
        """Nobody works with it yet, or it has a list: naming who may ask locks nobody out."""
        return bool(self.list_setting[2]) or not self.running


def stores(site: Site, facts: Facts) -> tuple[Store, ...]:
    """The PuppetDB hosts that answered, in the order they are tried."""
    return tuple(
        Store(Seen(name, facts), site)
        for name in about(site).get("hosts", ())
        if facts.reachable(name)
    )


def mine(site: Site, facts: Facts) -> tuple[Store, ...]:
    """The PuppetDBs that are ours to set up."""
    return tuple(s for s in stores(site, facts) if not s.foreign and not s.seen.enterprise)


def allowed(site: Site, facts: Facts, store: Store) -> bytes:
    """The list with every server in it, and no retired one; who else is in it stays."""
    data = store.file("allowlist").content or b""
    for host in site.having("retired"):
        data = edit.allowlist_remove(data, host.name)
    for host in servers(site):
        data = edit.allowlist_add(data, certname(site, facts, host.name))
    return data


# --- memory -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heap:
    """PuppetDB's JVM heap (MiB)."""

    size: int
    memory: int  # MiB the host has, less the heap of a Puppet Server there
    why: str

    @property
    def fits(self) -> bool:
        """Whether it leaves PostgreSQL, the system and the JVM itself 1 GiB."""
        return not self.memory or self.size + 1024 <= self.memory


def _heap_beside(seen: Seen) -> int:
    """MiB that a Puppet Server on the same host has for itself."""
    if not seen.puppetserver:
        return 0
    # Without an -Xmx the JVM takes a quarter of the memory.
    quarter = seen.machine.number("memory_total") // 4096
    return edit.heap_get(seen.server_file("defaults").content or b"") or quarter


def heap(site: Site, store: Store) -> Heap:
    """128 MiB, and 1 MiB for each node (PuppetDB's documentation, "Tuning guide"); the package's
    192 MiB at least."""
    given = about(site).get("heap")
    memory = store.seen.machine.number("memory_total") // 1024
    if beside := _heap_beside(store.seen):
        memory = max(1, memory - beside)
    nodes = len([h for h in site.hosts if h.roles & {"agent", "server"}])
    size = int(given or max(192, -(-(128 + nodes) // 64) * 64))
    why = "as the inventory says" if given else f"128, and 1 for each of {nodes} nodes"
    return Heap(size, memory, f"a heap of {size} MiB ({why})")


# --- packages -----------------------------------------------------------------------------------


def wanted_packages(site: Site, facts: Facts, store: Store) -> Packages:
    """Agent, PuppetDB and PostgreSQL, in the flavour and major version the CA's host has."""
    ca, seen = ca_host(site, facts), store.seen
    server = next((p for p in SERVERS if p in ca.packages), "")
    if not server:
        return Packages(problem=f"which package {ca.name} has Puppet Server from is not known")
    database = DATABASES[server.startswith("openvox")]
    wanted = {
        SERVERS[server]: (ca.version, ca.version[:1]),
        database: (ca.server_version[:1],),
    }
    if local_database(site) and "postgres" not in store.facts:
        # Debian's `postgresql` has the extension in it, Red Hat's is in a package of its own.
        names = [p for p in ("postgresql-server", "postgresql-contrib") if seen.candidates(p)]
        names = names if "postgresql-server" in names else ["postgresql"]
        wanted |= dict.fromkeys(names, ((),))
    elif about(site)["database"].get("password") and "psql" not in store.facts:
        # To try the password with: PuppetDB itself tries for ever, and does not tell.
        wanted |= dict.fromkeys(
            [p for p in ("postgresql-client", "postgresql") if seen.candidates(p)][:1], ((),)
        )
    return choose(seen, wanted)


def wanted_terminus(site: Site, facts: Facts, seen: Seen) -> Packages:
    """The terminus of PuppetDB's own version, else of its major version."""
    if any(p in seen.packages for p in TERMINI):
        return Packages()
    goal = next((s.version for s in stores(site, facts) if s.version), ())
    major = ca_host(site, facts).server_version[:1]
    name = next((p for p in TERMINI if seen.candidates(p)), "")
    if not name:
        return Packages(problem="its repositories have none of " + ", ".join(TERMINI))
    return choose(seen, {name: (goal or major, major)})


def local_database(site: Site) -> bool:
    """Whether PostgreSQL runs beside PuppetDB, so that we make the database.

    One that the inventory has the password of is the site's own, wherever it is.
    """
    database = about(site).get("database", {})
    here = ("localhost", "127.0.0.1", "::1", *about(site).get("hosts", ()))
    return database.get("host") in here and "password" not in database
