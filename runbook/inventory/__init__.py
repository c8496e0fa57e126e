"""A YAML inventory as a `Site`; everything that is wrong with it is said at once."""

from __future__ import annotations

import contextlib
import datetime
import gc
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook.errors import UsageError
from runbook.inventory.document import parse
from runbook.inventory.problems import Mark, Problem, Problems, TooMany, decode, read_file
from runbook.inventory.roster import Entry, Roster, local, roster
from runbook.inventory.schema import DATABASE, INVENTORY
from runbook.inventory.shapes import Page
from runbook.inventory.topology import check, names_to_cover
from runbook.model import (
    CertificateAuthority,
    Dns,
    Host,
    Login,
    Rollout,
    SecretRef,
    Site,
    Tsig,
    Waiver,
)

MAX_BYTES = 1 << 20

_ADVICE = (
    "`pmrunbook lab up` makes a site to rehearse on and prints its inventory; "
    "inventories/ holds examples"
)


class InventoryError(UsageError):
    """The inventory cannot be used; `problems` are all errors and warnings it has."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join(str(problem) for problem in problems),
            hint="put these right; `pmrunbook validate` checks the inventory again",
        )


def load(path: Path | str, *, today: datetime.date | None = None) -> Site:
    """The site that the inventory at `path` describes; InventoryError with all its problems."""
    site, problems = inspect(path, today=today)
    if site is None:
        raise InventoryError(problems)
    return site


def validate(path: Path | str, *, today: datetime.date | None = None) -> tuple[Problem, ...]:
    """All errors and warnings of the inventory at `path`, in the order of the file."""
    return inspect(path, today=today)[1]


def inspect(
    path: Path | str, *, today: datetime.date | None = None
) -> tuple[Site | None, tuple[Problem, ...]]:
    """The site, None when there are errors, and all errors and warnings.

    `today` is the day that waivers are held against; by default that of this machine's clock.
    """
    file = Path(path)
    problems = Problems(str(path))
    site = None
    with _uncollected(), contextlib.suppress(TooMany):
        site = _read(file, problems, today or datetime.datetime.now().astimezone().date())
    found = problems.all()
    return (None if any(p.severity == "error" for p in found) else site), found


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No loop of references is made here, and to look for one takes a third of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _read(file: Path, problems: Problems, today: datetime.date) -> Site | None:
    data = read_file(file, MAX_BYTES, Mark(), problems, _ADVICE)
    text = None if data is None else decode(data, "", problems)
    node = None if text is None else parse(text, problems)
    if data is None or node is None:
        return None
    page = Page(problems)
    plain = INVENTORY.read(node, (), page)
    if plain is None:
        return None
    folder = file.absolute().parent
    digest = hashlib.sha256(data)
    hosts = roster(plain, page, folder, digest.update)
    check(plain, hosts, page, today)
    logins = _logins(hosts, plain, folder, page)
    if any(p.severity == "error" for p in problems.all()):
        return None
    return _site(plain, hosts, logins, folder, file, digest.hexdigest())


# --- logins -------------------------------------------------------------------------------------


def _logins(hosts: Roster, data: Mapping[str, Any], folder: Path, page: Page) -> dict[str, Login]:
    """How each host is logged in to; hosts that were described together share a login."""
    made: dict[tuple[str, int], tuple[Login, set[str]]] = {}
    nothing: dict[str, Any] = {}
    found = {}
    for entry in hosts.values():
        group, own = entry.override.get("group", ""), entry.override.get("ssh", nothing)
        about = data.get("groups", {}).get(group, nothing)
        key = group, id(own)
        if key not in made:
            layers = (data.get("ssh", nothing), about.get("ssh", nothing), own)
            login = _login(layers, folder)
            made[key] = login, {_hop_host(hop) for hop in login.jump}
        found[entry.name], hops = made[key]
        if entry.name in hops or entry.override.get("address") in hops:
            page.problems.error(
                entry.mark,
                f"{entry.name} would be reached by jumping through itself",
                f"hosts: {{{entry.name}: {{ssh: {{jump: []}}}}}}",
            )
    return found


def _login(layers: Sequence[Mapping[str, Any]], folder: Path) -> Login:
    """A login as the layers say; a later one wins."""
    said: dict[str, Any] = {}
    for layer in layers:
        said |= layer
    login = Login()
    user = said.get("user", login.user)
    jump = tuple(hop for hop in said.get("jump", ()) if hop)
    return Login(
        user=user,
        port=said.get("port", login.port),
        keys=_files(said.get("key", ()), folder),
        jump=jump,
        known_hosts=_files(said.get("known_hosts", ()), folder),
        ssh_config=_config(said.get("ssh_config"), folder, login),
        agent=said.get("agent", login.agent),
        sudo=said.get("sudo", user != "root"),
        sudo_password=_secret(said.get("sudo_password"), folder),
        sudo_shell=said.get("sudo_shell", login.sudo_shell),
        connect_timeout=said.get("connect_timeout", login.connect_timeout),
    )


def _hop_host(hop: str) -> str:
    host = hop.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _files(texts: list[str | None] | tuple[()], folder: Path) -> tuple[str, ...]:
    return tuple(str(local(folder, text)) for text in texts if text)


def _config(text: str | None, folder: Path, login: Login) -> str:
    if text is None:
        return login.ssh_config
    return str(local(folder, text)) if text else ""


def _secret(ref: SecretRef | None, folder: Path) -> SecretRef | None:
    if ref is not None and ref.kind == "file":
        return SecretRef("file", str(local(folder, ref.value)))
    return ref


# --- the site -----------------------------------------------------------------------------------


def _site(
    data: Mapping[str, Any],
    hosts: Roster,
    logins: Mapping[str, Login],
    folder: Path,
    file: Path,
    digest: str,
) -> Site:
    puppet = data.get("puppet", {})
    dns = data.get("dns", {})
    ca = data["ca"]
    module = ca.get("module", {})
    balancing = data.get("load_balancing", {})
    domain = ca.get("srv_domain") or balancing.get("domain") or dns.get("domain") or ""
    return Site(
        name=data.get("site", {}).get("name") or _name(file),
        hosts=tuple(_host(entry, logins[entry.name]) for entry in hosts.values()),
        server=puppet.get("server", "puppet"),
        ca=CertificateAuthority(
            host=ca["host"],
            name=ca.get("name", ca["host"]),
            clients=ca["clients"],
            module=module.get("path", ""),
            environment=module.get("environment", "production"),
            srv_domain=domain if ca["clients"] == "srv" else "",
        ),
        dns_alt_names=tuple(
            puppet.get("dns_alt_names") or (name for name, _ in names_to_cover(data))
        ),
        dns=_dns(dns, folder),
        rollout=_rollout(data.get("rollout"), hosts),
        waivers=tuple(Waiver(**waiver) for waiver in data.get("waivers", ())),
        sections=_sections(data, folder),
        netns=data.get("ssh", {}).get("netns", ""),
        source=str(file.absolute()),
        digest=digest,
    )


def _name(file: Path) -> str:
    """A site's name from its file's: as the schema would have it, for it names folders."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-")[:64] or "site"


def _host(entry: Entry, login: Login) -> Host:
    return Host(
        name=entry.name,
        address=entry.override.get("address", ""),
        roles=frozenset(entry.roles),
        group=entry.override.get("group", ""),
        login=login,
    )


def _dns(dns: Mapping[str, Any], folder: Path) -> Dns:
    tsig = None
    if key := dns.get("tsig"):
        secret = _secret(key["secret"], folder)
        if secret is not None:
            tsig = Tsig(key["name"], key["algorithm"], secret)
    return Dns(tuple(dns.get("servers", ())), tsig, dns.get("domain", ""))


def _rollout(rollout: Mapping[str, Any] | None, hosts: Roster) -> Rollout:
    if rollout is None:
        return Rollout()
    text = rollout["max_failures"]
    failures = int(text.rstrip("%"))
    if text.endswith("%"):
        agents = sum("agent" in entry.roles for entry in hosts.values())
        failures = agents * failures // 100
    return Rollout(rollout["canary"], rollout["batch"], failures)


def _sections(data: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The later chapters' sections with every default filled in."""
    found: dict[str, dict[str, Any]] = {}
    if puppetdb := data.get("puppetdb"):
        hosts = puppetdb.get("hosts") or [puppetdb["host"]]
        defaults = {key.name: key.default for key in DATABASE.keys if key.default is not None}
        database = {**defaults, **puppetdb.get("database", {})}
        if "password" in database:
            database["password"] = _secret(database["password"], folder)
        found["puppetdb"] = {
            **puppetdb,
            "host": hosts[0],
            "hosts": tuple(hosts),
            "database": database,
        }
    processors = ("puppetdb",) if "puppetdb" in data else ()
    reports = data.get("reports", {})
    found["reports"] = {**reports, "processors": tuple(reports.get("processors") or processors)}
    found["compilers"] = {
        item["name"]: {key: item[key] for key in ("heap", "jruby_instances") if key in item}
        for item in data.get("compile_masters", ())
    }
    if code := data.get("code"):
        sourced = code["strategy"] in ("rsync", "model-master")
        source = {"source": code.get("source", data["ca"]["host"])} if sourced else {}
        if code["strategy"] == "rsync":
            source["every"] = code.get("every", 300.0)  # seconds
        lists = {k: tuple(code.get(k, ())) for k in ("environments", "files", "samples", "ignore")}
        found["code"] = {**code, **source, **lists}
    if balancing := data.get("load_balancing"):
        found["load_balancing"] = _load_balancing(balancing, data)
    return found


def _load_balancing(balancing: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    everybody = [
        {"name": item["name"], "weight": 1, "priority": 0, "port": 8140}
        for item in data.get("compile_masters", ())
    ]
    domain = balancing.get("domain") or data.get("dns", {}).get("domain", "")
    sites = {
        name: {**site, "servers": tuple(site["servers"])}
        for name, site in balancing.get("sites", {}).items()
    }
    return {
        **balancing,
        **({"domain": domain} if balancing["strategy"] == "srv" else {}),
        "servers": tuple(balancing.get("servers") or everybody),
        "sites": sites,
    }
