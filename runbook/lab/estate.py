"""The estate as data: which hosts a lab has, what they are, and what is on them at the start."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from runbook.lab.narration import LabError

RELEASES = ("bookworm", "trixie")
ROLES = ("server", "compiler", "agent", "fresh", "nameserver", "secondary")
DEFAULT = Path(__file__).with_name("estates") / "default.yaml"

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


@dataclass(frozen=True)
class LabHost:
    """One host of an estate.

    `roles`: `server` (all-in-one Puppet Server with the CA), `compiler` (a compile master that
    somebody built by hand), `agent` (enrolled with the server), `fresh` (agent installed, never
    run), `nameserver`, `secondary`; none for a machine as the installer left it. `names`: further
    DNS names that lead to it. `cert_names`: further names in a server's certificate.
    `puppet_conf`: text of its puppet.conf, with ${server}, ${domain}, ${fqdn} replaced. `heap`: JVM
    heap as "512m..768m". `daemon`: whether `puppet.service` is enabled.
    """

    name: str
    address: str
    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    cert_names: tuple[str, ...] = ()
    puppet_conf: str = ""
    heap: str = "512m..768m"
    daemon: bool = False


@dataclass(frozen=True)
class Estate:
    """A site as it is found: hosts in one domain, one network, one Debian release."""

    name: str
    hosts: tuple[LabHost, ...]
    release: str = "bookworm"
    domain: str = "lab.test"
    network: str = "192.0.2.0/24"
    ssh_user: str = "operator"
    ssh_port: int = 22
    server: str = ""
    code: Mapping[str, str] = field(default_factory=dict)

    def host(self, name: str) -> LabHost:
        """The host called `name`, short or fully qualified; `LabError` names those there are."""
        for host in self.hosts:
            if name in (host.name, self.fqdn(host)):
                return host
        raise LabError(
            f"the lab has no host {name!r}",
            f"its hosts are: {', '.join(host.name for host in self.hosts)}",
        )

    def fqdn(self, host: LabHost) -> str:
        """The full name of a host."""
        return f"{host.name}.{self.domain}"

    def having(self, *roles: str) -> tuple[LabHost, ...]:
        """Hosts with at least one of these roles, in the estate's order."""
        return tuple(host for host in self.hosts if set(roles) & set(host.roles))

    @property
    def agents_server(self) -> str:
        """The name agents have as their `server`: as the estate says, else the server's own."""
        servers = self.having("server")
        return self.server or (self.fqdn(servers[0]) if servers else f"puppet.{self.domain}")

    @property
    def gateway(self) -> str:
        """Address of the operator's seat in the estate's network."""
        return str(next(ipaddress.ip_network(self.network).hosts()))

    @property
    def prefix_length(self) -> int:
        """Length of the network's prefix."""
        return ipaddress.ip_network(self.network).prefixlen

    def data(self) -> dict[str, Any]:
        """Plain data, from which `parse` makes an equal estate."""
        data = asdict(self)
        data["ssh"] = {"user": data.pop("ssh_user"), "port": data.pop("ssh_port")}
        data["hosts"] = {host.pop("name"): host for host in data["hosts"]}
        return data


def load(path: Path = DEFAULT) -> Estate:
    """The estate in a YAML file; `LabError` with the file's name and what is wrong in it."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(
            f"cannot read the estate {path}: {error.strerror}", "give another file with --estate"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise LabError(f"{path} is no YAML: {reason}", f"compare it with {DEFAULT}") from error
    return parse(data, str(path), path.parent)


def parse(data: object, origin: str = "estate", folder: Path | None = None) -> Estate:
    """An estate from plain data; `origin` names it in errors, `code` may be a file in `folder`."""
    problems: list[str] = []
    top = _mapping(data, "the estate", problems)
    allowed = {"name", "release", "domain", "network", "ssh", "server", "code", "hosts"}
    problems += [f"unknown key {key!r}" for key in top if key not in allowed]
    ssh = _mapping(top.get("ssh", {}), "ssh", problems)
    problems += [f"unknown key ssh.{key}" for key in ssh if key not in ("user", "port")]
    hosts = tuple(
        _host(str(name), entry, problems)
        for name, entry in _mapping(top.get("hosts"), "hosts", problems).items()
    )
    given = {
        key: top[key] for key in ("name", "release", "domain", "network", "server") if key in top
    }
    problems += [
        f"{key} must be text" for key, value in given.items() if not isinstance(value, str)
    ]
    estate = Estate(
        **{"name": "lab", **{key: str(value) for key, value in given.items()}},
        hosts=hosts,
        ssh_user=str(ssh.get("user", "operator")),
        ssh_port=ssh["port"] if isinstance(ssh.get("port", 22), int) and "port" in ssh else 22,
        code=_code(top.get("code", {}), folder, problems),
    )
    if not isinstance(ssh.get("port", 22), int):
        problems.append("ssh.port must be a number")
    problems += _contradictions(estate)
    if problems:
        raise LabError(f"{origin}: {'; '.join(problems)}", f"correct it; an example is {DEFAULT}")
    return estate


def _host(name: str, entry: object, problems: list[str]) -> LabHost:
    where = f"hosts.{name}"
    values: dict[str, Any] = {}
    known = {spec.name: spec for spec in fields(LabHost) if spec.name != "name"}
    for key, value in _mapping(entry, where, problems).items():
        if key not in known:
            problems.append(f"unknown key {where}.{key}")
            continue
        default = known[key].default
        if isinstance(default, tuple):
            if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
                values[key] = tuple(value)
            else:
                problems.append(f"{where}.{key} must be a list of names")
        elif isinstance(value, str if default is MISSING else type(default)):
            values[key] = value
        else:
            problems.append(
                f"{where}.{key} must be {'text' if default is MISSING else type(default).__name__}"
            )
    return LabHost(name, **{"address": "", **values})


def _code(value: object, folder: Path | None, problems: list[str]) -> dict[str, str]:
    """Files below the code folder, path -> text; a name stands for the YAML file with them."""
    if isinstance(value, str):
        given, shipped = (folder or DEFAULT.parent) / value, DEFAULT.parent / value
        path = shipped if shipped.exists() and not given.exists() else given
        try:
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            problems.append(f"code: cannot read {path}: {' '.join(str(error).split())}")
            return {}
    found = _mapping(value, "code", problems)
    for path_text in found:
        if str(path_text).startswith("/") or ".." in str(path_text).split("/"):
            problems.append(f"code: {path_text} does not stay in the code folder")
    return {str(path): str(text) for path, text in found.items()}


def _mapping(value: object, where: str, problems: list[str]) -> dict[Any, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    problems.append(f"{where} must be a mapping, not {type(value).__name__}")
    return {}


def _contradictions(estate: Estate) -> list[str]:
    found = []
    if estate.release not in RELEASES:
        found.append(f"release {estate.release!r} is none of {', '.join(RELEASES)}")
    if not all(_LABEL.fullmatch(label) for label in estate.domain.split(".")):
        found.append(f"domain {estate.domain!r} is no DNS name")
    if not _USER.fullmatch(estate.ssh_user) or estate.ssh_user == "root":
        found.append(f"ssh.user {estate.ssh_user!r} must be the name of an ordinary user")
    if not 0 < estate.ssh_port < 65536:
        found.append(f"ssh.port {estate.ssh_port} is no port")
    if not estate.hosts:
        found.append("hosts: there are none")
    try:
        network = ipaddress.ip_network(estate.network)
    except ValueError as error:
        return [*found, f"network: {error}"]
    if network.version != 4 or network.prefixlen not in (8, 16, 24):
        found.append(
            "network must be an IPv4 network with a prefix of 8, 16 or 24 (one reverse zone)"
        )
    taken = {estate.gateway: "the operator's seat"}
    for host in estate.hosts:
        if not _LABEL.fullmatch(host.name):
            found.append(f"hosts.{host.name}: no host name (small letters, digits and '-')")
        found += [
            f"hosts.{host.name}: unknown role {role!r}" for role in host.roles if role not in ROLES
        ]
        if not re.fullmatch(r"\d+[mg]\.\.\d+[mg]", host.heap):
            found.append(f"hosts.{host.name}.heap must look like 512m..768m")
        try:
            inside = ipaddress.ip_address(host.address) in network
        except ValueError:
            inside = False
        if not inside:
            found.append(f"hosts.{host.name}.address {host.address!r} is not in {estate.network}")
        if host.address in taken:
            found.append(f"hosts.{host.name}.address is that of {taken[host.address]}")
        taken.setdefault(host.address, host.name)
    if len(estate.having("nameserver")) > 1:
        found.append("two hosts are nameserver: make the second one secondary")
    if estate.having("secondary") and not estate.having("nameserver"):
        found.append("a secondary needs a nameserver")
    if len(estate.having("server")) > 1:
        found.append("two hosts are server: the estate starts with one all-in-one Puppet Server")
    if estate.having("agent", "compiler") and not estate.having("server"):
        found.append("agents need a server to be enrolled with; use the role fresh")
    return found
