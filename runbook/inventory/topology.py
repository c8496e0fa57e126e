"""Mistakes that no single value shows: roles that exclude each other, names that clash."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runbook.inventory import pools
from runbook.inventory.roster import Roster
from runbook.inventory.schema import PROXIES
from runbook.inventory.shapes import HOSTS_ALIKE, Page, Path, dotted, nearest

Data = Mapping[str, Any]


def check(data: Data, found: Roster, page: Page, today: datetime.date) -> None:
    """Put every mistake of the site's shape on the page."""
    _ca(data, page)
    _roles(data, found, page)
    _names(data, page)
    pools.check(data, found, page)
    _sections(data, found, page)
    _addresses(data, page)
    _waivers(data, found, page, today)


def same_name(one: str, other: str) -> bool:
    """Whether both names are one to an agent: `puppet` is `puppet.example.com` in its domain."""
    if "." in one and "." in other:
        return one == other
    return one.partition(".")[0] == other.partition(".")[0]


# --- the CA -------------------------------------------------------------------------------------


def _ca(data: Data, page: Page) -> None:
    ca = data.get("ca", {})
    name = ca.get("name") or ca.get("host")
    path: Path = ("ca", "name") if "name" in ca else ("ca", "host")
    if name is None or (("ca", "name") in page.marks and "name" not in ca):
        return
    for shared, where in _shared_names(data):
        if same_name(name, shared):
            page.error(
                path,
                f"the CA's name {name} is also a name agents share ({shared}, {where})",
                "once that name leads to compile masters, certificate requests would end there; "
                "give the CA a name of its own: ca: {name: ca.example.com}",
            )
            return
    balancing = data.get("load_balancing", {})
    domain = _srv_domain(data)
    if ca.get("clients") == "srv" and not domain and ("ca", "srv_domain") not in page.marks:
        page.error(
            ("ca", "clients"),
            "clients find the CA by an SRV record, and no domain says where it is",
            "add ca.srv_domain or dns.domain",
        )
    if balancing.get("strategy") == "srv" and ca.get("clients", "srv") != "srv":
        page.warning(
            ("ca", "clients"),
            "agents that use SRV records ignore ca_server: they ask _x-puppet-ca, and without that "
            "record a compile master",
            "ca: {clients: srv}",
        )


def _srv_domain(data: Data) -> str:
    return (
        data.get("ca", {}).get("srv_domain")
        or data.get("load_balancing", {}).get("domain")
        or data.get("dns", {}).get("domain")
        or ""
    )


def _shared_names(data: Data) -> Iterator[tuple[str, str]]:
    puppet = data.get("puppet", {})
    yield puppet.get("server", "puppet"), "puppet.server"
    for name in puppet.get("dns_alt_names", ()):
        if name is not None:
            yield name, "puppet.dns_alt_names"
    for site, about in data.get("load_balancing", {}).get("sites", {}).items():
        if "server" in about:
            yield about["server"], f"load_balancing.sites.{site}.server"


# --- roles --------------------------------------------------------------------------------------

_EXCLUDE = (
    ("retired", "ca.host", "the CA's host stays"),
    ("retired", "compile_masters", "a retired server compiles no more"),
    ("retired", "servers", "a retired server serves no more"),
    ("compile_masters", "ca.host", "a compile master leaves the CA to another host"),
    ("compile_masters", "servers", "a server is either there already or to be built"),
    ("load_balancing.host", "compile_masters", "both listen on port 8140"),
    ("load_balancing.host", "ca.host", "both listen on port 8140"),
    ("load_balancing.host", "servers", "both listen on port 8140"),
)


def _roles(data: Data, found: Roster, page: Page) -> None:
    for entry in found.values():
        for one, other, why in _EXCLUDE:
            if one in entry.met and other in entry.met:
                page.problems.error(
                    entry.met[one],
                    f"{entry.name} is in {one} and in {other}, and cannot be both: {why}",
                    f"{other} has it in line {entry.met[other].line}",
                )
        if "ca.host" in entry.met and "servers" in entry.met:
            page.problems.warning(
                entry.met["servers"], f"{entry.name} runs the CA, so it is a server anyway"
            )
        if {"puppetdb", "compiler"} <= entry.roles:
            mark = entry.met.get("puppetdb.host") or entry.met["puppetdb.hosts"]
            page.problems.warning(
                mark,
                f"{entry.name} is a compile master and runs PuppetDB: they compete for memory, and "
                "taking the one out of service takes the other out for all",
            )


# --- names agents use ---------------------------------------------------------------------------


def names_to_cover(data: Data) -> tuple[tuple[str, str], ...]:
    """Names by which agents reach compile masters directly, and why: certificates carry them."""
    balancing = data.get("load_balancing", {})
    strategy = balancing.get("strategy", "")
    names: dict[str, str] = {}
    ends_tls = strategy == "tls-proxy" or balancing.get("mode") == "tls"
    if not ends_tls and strategy not in ("srv", "server-list"):
        names[data.get("puppet", {}).get("server", "puppet")] = "puppet.server"
    for site, about in balancing.get("sites", {}).items():
        if "server" in about and not ends_tls:
            names.setdefault(about["server"], f"load_balancing.sites.{site}.server")
    return tuple(names.items())


def _names(data: Data, page: Page) -> None:
    puppet = data.get("puppet", {})
    if "dns_alt_names" in puppet:
        given = [name for name in puppet["dns_alt_names"] if name is not None]
        complete = len(given) == len(puppet["dns_alt_names"])
        known = set(given)
        for name, why in names_to_cover(data):
            if complete and name not in known:
                page.error(
                    ("puppet", "dns_alt_names"),
                    f"dns_alt_names leaves out {name}, which agents call ({why}): they would all "
                    "refuse a compile master's certificate",
                    f"add {name}, or remove dns_alt_names to have it computed",
                )
    strategy = data.get("load_balancing", {}).get("strategy")
    if strategy in ("round-robin", "hardware", *PROXIES):
        server = puppet.get("server")
        for i, item in enumerate(data.get("compile_masters", ())):
            if item and server and item.get("name") == server:
                page.error(
                    ("compile_masters", i, "name"),
                    f"{server} is the name of the pool (puppet.server) and of this one member",
                    "give the pool a name that is no host's own",
                )


# --- the rest -----------------------------------------------------------------------------------


def _sections(data: Data, found: Roster, page: Page) -> None:
    reports = data.get("reports", {})
    wants_url = "http" in (reports.get("processors") or ())
    if wants_url and ("reports", "url") not in page.marks:
        page.error(
            ("reports", "processors"),
            "the report processor http needs reports.url, or every server reports to itself",
            "such as url: https://reports.example.com/upload",
        )
    if "url" in reports and not wants_url:
        page.warning(("reports", "url"), "reports.url is only used by the processor http")
    if "puppetdb" in (reports.get("processors") or ()) and "puppetdb" not in data:
        page.error(
            ("reports", "processors"),
            "reports go to PuppetDB, and the inventory has none",
            "add puppetdb: {host: pdb.example.com}",
        )
    puppetdb = data.get("puppetdb", {})
    if not puppetdb.get("existing"):
        _database(puppetdb, page)
    code = data.get("code", {})
    source = code.get("source")
    if source and code.get("strategy") == "model-master":
        servers = [entry.name for entry in found.values() if "server" in entry.roles]
        if source not in servers:
            page.error(
                ("code", "source"),
                f"the model master {source} is not a Puppet Server of this inventory",
                nearest(source, servers, cutoff=HOSTS_ALIKE),
            )


def _database(puppetdb: Data, page: Page) -> None:
    """One that several use, or that is elsewhere, is the site's: we are told its password."""
    database = puppetdb.get("database", {})
    hosts = puppetdb.get("hosts") or (puppetdb.get("host"),)
    host, given = database.get("host", "localhost"), "password" in database
    local = host in ("localhost", "127.0.0.1", "::1")
    if len(hosts) > 1 and (local or (host in hosts and not given)):
        page.error(
            ("puppetdb", "hosts"),
            "several PuppetDBs, each with a database of its own, know different things: servers "
            "write to the first one that answers",
            "name the one they share: database: {host: ..., password: ...}, or name one PuppetDB",
        )
    elif not local and host not in hosts and not given:
        page.error(
            ("puppetdb", "database", "host"),
            f"the database on {host} is not made for you, and no password is named to use it with",
            "database: {password: {file: ...}}",
        )


def _addresses(data: Data, page: Page) -> None:
    for path, name in _walk(data, ()):
        if path[-1] == "address" or path[:2] == ("dns", "servers"):
            _address(path, name, page)
        elif "jump" in path[-2:]:
            port = re.search(r":([0-9]+)$", name)
            if port and not 0 < int(port[1]) < 65_536:
                page.error(path, f"{dotted(path)}: there is no port {port[1]}")


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _walk(item, (*path, i))


def _address(path: Path, text: str, page: Page) -> None:
    bare = text
    if path[0] == "dns" and (match := re.fullmatch(r"\[(.*)\](?::(\d+))?|([\d.]+):(\d+)", text)):
        bare = match[1] or match[3]
        port = match[2] or match[4]
        if port and not 0 < int(port) < 65_536:
            page.error(path, f"{dotted(path)}: there is no port {port}")
    if ":" not in bare and not re.fullmatch(r"[0-9.]+", bare):
        return
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        page.error(path, f"{dotted(path)}: {bare} is not an IP address", "such as 192.0.2.53")


def _waivers(data: Data, found: Roster, page: Page, today: datetime.date) -> None:
    for i, waiver in enumerate(data.get("waivers", ())):
        if waiver is None:
            continue
        path: Path = ("waivers", i)
        host = waiver.get("host", "*")
        if host != "*" and host not in found:
            page.error(
                (*path, "host"),
                f"the waiver is for {host}, which is not in the inventory",
                nearest(host, found, cutoff=HOSTS_ALIKE),
            )
        if "expires" not in waiver:
            continue
        try:
            last = datetime.date.fromisoformat(waiver["expires"])
        except ValueError:
            page.error((*path, "expires"), f"there is no day {waiver['expires']}")
            continue
        if last < today:
            page.warning(
                (*path, "expires"),
                f"the waiver of {waiver.get('finding', 'a finding')} expired on {last}",
                "put the finding right, or waive it anew",
            )
