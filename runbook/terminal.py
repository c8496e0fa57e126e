"""A shell for the operator: OpenSSH, by the very way that our own connections take."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook.model import Host
from runbook.ssh.route import Hop, route


@contextmanager
def shell_command(host: Host) -> Iterator[list[str]]:
    """The argument vector of an interactive ssh to `host`, good while the context lasts.

    What the inventory and ssh_config say of every hop stands in a file of its own: options of a
    command line are the target's alone, its jump hosts would be checked against other files.
    """
    hops = route(host)
    with tempfile.NamedTemporaryFile("w", prefix="pmrunbook-", suffix=".conf") as file:
        file.write(ssh_config(hops))
        file.flush()
        yield ["ssh", "-t", "-F", file.name, "--", f"hop{len(hops)}"]


def ssh_config(hops: tuple[Hop, ...]) -> str:
    """The hops as hop1, hop2, ... of an ssh_config, each reached through the one before."""
    lines = []
    for number, hop in enumerate(hops, 1):
        lines += [f"Host hop{number}", *_options(hop)]
        if number > 1:
            lines.append(f"ProxyJump hop{number - 1}")
        elif hop.command:
            lines.append(f"ProxyCommand {_literal(hop.command)}")
    # The known addresses of a name are not looked at, as in `hostkeys`.
    lines += ["Host *", "StrictHostKeyChecking yes", "CheckHostIP no"]
    return "\n".join(lines) + "\n"


def _options(hop: Hop) -> Iterator[str]:
    identity = hop.identity
    yield f"HostName {_literal(hop.address)}"
    yield f"Port {hop.port}"
    yield f"User {_word(hop.user)}"
    if (identity.address, identity.port) != (hop.address, hop.port):
        yield f"HostKeyAlias {_word(identity.address)}"
    files = " ".join(map(_path, identity.files)) or "none"
    yield f"UserKnownHostsFile {files}"
    yield "GlobalKnownHostsFile none"
    if identity.revoked:
        yield f"RevokedHostKeys {_word(str(identity.revoked))}"
    if hop.named:
        for key in hop.keys:
            yield f"IdentityFile {_path(Path(key))}"
    if hop.only:
        yield "IdentitiesOnly yes"
    if not hop.agent:
        yield "IdentityAgent none"


def _path(path: Path) -> str:
    return _word(_literal(str(path.expanduser())))


def _word(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _literal(text: str) -> str:
    """`text` where ssh_config fills in tokens."""
    return text.replace("%", "%%")
