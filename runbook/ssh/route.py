"""The way to a host: which hops, as whom, with which keys. Inventory first, then ssh_config."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from paramiko import SSHConfig
from paramiko.config import SSHConfigDict
from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

from runbook.errors import UsageError
from runbook.model import Host, Login
from runbook.ssh.hostkeys import Identity

USER_CONFIG = "~/.ssh/config"
SYSTEM_CONFIG = "/etc/ssh/ssh_config"
_DEEPEST = 8  # jump hosts of jump hosts, files including files


@dataclass(frozen=True, slots=True)
class Hop:
    """One ssh server on the way; the last one is the host itself."""

    identity: Identity
    address: str
    port: int
    user: str
    keys: tuple[str, ...]  # private key files, in the order to try
    named: bool  # the inventory or ssh_config named them
    only: bool  # nothing but them is offered
    agent: bool
    timeout: float  # seconds
    command: str = ""  # ProxyCommand that carries the connection instead of TCP

    @property
    def place(self) -> str:
        return self.identity.host


def route(host: Host) -> tuple[Hop, ...]:
    """The hops to `host`, nearest to the operator first; UsageError for a bad ssh_config."""
    return _route(host.dial, host.login, host.login.jump, _DEEPEST)


def _route(name: str, login: Login, jump: tuple[str, ...], deep: int) -> tuple[Hop, ...]:
    if not deep:
        raise UsageError(
            f"the jump hosts of {name} lead in a circle", hint="Look at ProxyJump in ssh_config."
        )
    said = _lookup(login, name)
    command = ""
    if not jump:
        proxy = said.get("proxyjump", "none")
        if proxy.lower() != "none":
            jump = tuple(hop.strip() for hop in proxy.split(","))
        else:
            command = said.get("proxycommand", "none") or "none"
            command = "" if command.lower() == "none" else command
    before: tuple[Hop, ...] = ()
    for number, entry in enumerate(jump):
        user, address, port = parse_jump(entry)
        through = Login(
            user=user,
            port=port,
            known_hosts=login.known_hosts,
            ssh_config=login.ssh_config,
            agent=login.agent,
            connect_timeout=login.connect_timeout,
        )
        if "identityfile" not in _lookup(through, address):
            through = replace(through, keys=login.keys)
        way = _route(address, through, (), deep - 1)
        # like ssh -J: only the first hop is reached by its own ProxyJump or ProxyCommand
        before += way if number == 0 else way[-1:]
    return (*before, _hop(name, login, said, command))


def _hop(name: str, login: Login, said: SSHConfigDict, command: str) -> Hop:
    address = said.get("hostname", name)
    port = login.port or int(said.get("port", 22))
    user = login.user or said.get("user", "") or getpass.getuser()
    alias = said.get("hostkeyalias", "")
    revoked = said.get("revokedhostkeys", "none")
    label = name if port == 22 else f"{name}:{port}"
    identity = Identity(
        label if address == name else f"{label} ({address})",
        alias or address,
        22 if alias else port,
        _known_hosts(login, said, address),
        said.get("hashknownhosts", "no").lower() == "yes",
        None if revoked.lower() == "none" else Path(revoked).expanduser(),
    )
    keys = login.keys or tuple(said.get("identityfile", ()))
    named = bool(keys)
    if not keys:
        keys = tuple(f"~/.ssh/id_{kind}" for kind in ("ed25519", "ecdsa", "rsa"))
    only = bool(login.keys) or said.get("identitiesonly", "no").lower() == "yes"
    timeout = login.connect_timeout
    if timeout == Login().connect_timeout:
        timeout = float(said.get("connecttimeout", timeout))
    return Hop(identity, address, port, user, keys, named, only, login.agent, timeout, command)


def _known_hosts(login: Login, said: SSHConfigDict, address: str) -> tuple[Path, ...]:
    if login.known_hosts:
        return tuple(Path(file).expanduser() for file in login.known_hosts)
    mine = said.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
    all_of_us = said.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts").split()
    home = str(Path.home())
    files = []
    for file in (*mine, *all_of_us):
        if file.lower() != "none":
            tokens = {"%h": address, "%d": home, "%u": getpass.getuser(), "%%": "%"}
            filled = re.sub("%[hdu%]", lambda m: tokens[m[0]], file.strip('"'))  # noqa: B023
            files.append(Path(filled).expanduser())
    return tuple(files)


def parse_jump(entry: str) -> tuple[str, str, int]:
    """`user@host:port` as user ('' if none), host and port (0 if none); IPv6 in brackets."""
    match = re.fullmatch(r"(?:ssh://)?(?:([^@]+)@)?(?:\[([^]]+)\]|([^:@]+))(?::(\d+))?/?", entry)
    if not match:
        raise UsageError(f"{entry!r} is no jump host", hint="Write it as user@host:port.")
    return match[1] or "", match[2] or match[3], int(match[4] or 0)


# --- ssh_config -------------------------------------------------------------------------------


def _lookup(login: Login, name: str) -> SSHConfigDict:
    if not login.ssh_config:
        return SSHConfigDict(hostname=name)
    # as ssh -p and -l do: what the inventory says fills %p and %r, and is what Match sees
    said = f"Host *\nPort {login.port}\n" if login.port else ""
    said += f"Host *\nUser {login.user}\n" if login.user else ""
    try:
        return _parsed(login.ssh_config, said).lookup(name)
    except (CouldNotCanonicalize, KeyError) as error:
        raise UsageError(f"ssh_config cannot be applied to {name}: {error}") from error


@lru_cache(maxsize=64)
def _parsed(config: str, first: str) -> SSHConfig:
    """`first`, the file and, for the usual one, the system's behind it, as ssh(1) reads them."""
    paths = [Path(config).expanduser()]
    if config == USER_CONFIG:
        paths.append(Path(SYSTEM_CONFIG))
    text = (
        first
        + "Host *\n"
        + "Host *\n".join("\n".join(_expand(path, _DEEPEST)) + "\n" for path in paths)
    )
    try:
        return SSHConfig.from_text(text)
    except ConfigParseError as error:
        raise UsageError(f"{config}: {error}", hint="`ssh -G HOST` shows what is wrong.") from error


def _expand(path: Path, deep: int) -> list[str]:
    """The lines of an ssh_config with its Include files put in: paramiko does not read them."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    base = Path("~/.ssh").expanduser() if path.is_relative_to(Path.home()) else path.parent
    result, block = [], "Host *"
    for line in lines:
        words = line.replace("=", " ", 1).split()
        keyword = words[0].lower() if words else ""
        if keyword in ("host", "match"):
            block = line
        if keyword != "include" or not deep:
            result.append(line)
            continue
        for pattern in words[1:]:
            wanted = Path(pattern.strip('"')).expanduser()
            folder = Path(wanted.anchor) if wanted.is_absolute() else base
            parts = wanted.relative_to(wanted.anchor) if wanted.is_absolute() else wanted
            for file in sorted(folder.glob(str(parts))):
                result += _expand(file, deep - 1)
        result.append(block)  # what an included file opened ends with it
    return result
