"""What makes a host itself: name, address, keys, the operator's account, a name server's zones.

All of it goes into a layer of its own, below the writable one: a reset keeps the host's identity.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import secrets
import string
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from runbook.lab.disk import Disk
from runbook.lab.estate import Estate, LabHost
from runbook.lab.images import mounted
from runbook.lab.narration import LabError

TSIG_NAME = "pmrunbook"
TSIG_ALGORITHM = "hmac-sha256"
KEY_TYPES = ("ed25519", "ecdsa")


@dataclass(frozen=True)
class Credentials:
    """The secrets of one lab, each in a file that only root reads."""

    folder: Path

    @property
    def key(self) -> Path:
        """The operator's private key."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The host keys of the lab, by name and by address."""
        return self.folder / "known_hosts"

    @property
    def sudo_password(self) -> Path:
        """The operator's password on every host."""
        return self.folder / "sudo-password"

    @property
    def tsig_secret(self) -> Path:
        """The secret that signs DNS updates, in base64."""
        return self.folder / "tsig.secret"

    @property
    def tsig_key(self) -> Path:
        """The same secret in the form BIND and nsupdate read."""
        return self.folder / "tsig.key"

    def create(self) -> None:
        """Make what is not there yet."""
        if not self.key.exists():
            _keygen("ed25519", self.key, "pmrunbook-lab")
        if not self.sudo_password.exists():
            _private(self.sudo_password, secrets.token_urlsafe(12) + "\n")
        if not self.tsig_secret.exists():
            _private(self.tsig_secret, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        secret = self.tsig_secret.read_text().strip()
        _private(
            self.tsig_key,
            f'key "{TSIG_NAME}" {{\n\talgorithm {TSIG_ALGORITHM};\n\tsecret "{secret}";\n}};\n',
        )


def plant(estate: Estate, host: LabHost, disk: Disk, credentials: Credentials) -> list[str]:
    """Write the identity of `host` into the upper layer; returns its lines for known_hosts."""
    with mounted(disk):
        root = disk.root
        _write(root, "etc/hostname", f"{host.name}\n")
        _write(root, "etc/hosts", hosts_file(estate, host))
        _write(root, "etc/resolv.conf", resolver_file(estate))
        _write(root, "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
        _write(
            root,
            "etc/systemd/network/10-host0.network",
            f"[Match]\nName=host0\n\n[Network]\nAddress={host.address}/{estate.prefix_length}\n"
            "LinkLocalAddressing=no\nLLDP=no\nIPv6AcceptRA=no\n",
        )
        _write(
            root,
            "etc/ssh/sshd_config.d/lab.conf",
            f"Port {estate.ssh_port}\nPermitRootLogin no\nPasswordAuthentication yes\nUseDNS no\n",
        )
        _account(root, estate.ssh_user, credentials)
        if {"nameserver", "secondary"} & set(host.roles):
            _name_server(root, estate, host, credentials)
        return _host_keys(root, estate, host)


def resolver_file(estate: Estate) -> str:
    """The resolv.conf of every host and of the operator's seat."""
    servers = "".join(
        f"nameserver {host.address}\n" for host in estate.having("nameserver", "secondary")
    )
    return f"search {estate.domain}\n{servers}options timeout:2 attempts:2\n"


def hosts_file(estate: Estate, host: LabHost | None = None) -> str:
    """The hosts file of `host`, or of the operator's seat; the whole estate where no DNS is."""

    def line(found: LabHost, names: tuple[str, ...]) -> str:
        return " ".join([found.address, *(f"{name}.{estate.domain} {name}" for name in names)])

    lines = ["127.0.0.1 localhost"]
    if host:
        lines.append(line(host, (host.name,)))
    if not estate.having("nameserver"):
        lines += [line(other, (other.name, *other.names)) for other in estate.hosts]
    return "\n".join(lines) + "\n"


def forward_zone(estate: Estate) -> str:
    """The estate's domain as a zone file (RFC 1035, section 5)."""
    records = [
        f"{name}\tIN A {host.address}" for host in estate.hosts for name in (host.name, *host.names)
    ]
    return _zone(estate, estate.domain, records)


def reverse_zone(estate: Estate) -> str:
    """The estate's network as a zone file."""
    records = [
        f"{host.address.split('.')[-1]}\tIN PTR {estate.fqdn(host)}." for host in estate.hosts
    ]
    if estate.prefix_length != 24:
        records = [
            f"{ipaddress.ip_address(host.address).reverse_pointer}.\tIN PTR {estate.fqdn(host)}."
            for host in estate.hosts
        ]
    return _zone(estate, reverse_name(estate), records)


def reverse_name(estate: Estate) -> str:
    """Name of the reverse zone of the estate's network."""
    octets = str(ipaddress.ip_network(estate.network).network_address).split(".")[
        : estate.prefix_length // 8
    ]
    return ".".join(reversed(octets)) + ".in-addr.arpa"


def _zone(estate: Estate, name: str, records: list[str]) -> str:
    servers = [f"{estate.fqdn(host)}." for host in estate.having("nameserver", "secondary")]
    head = string.Template(
        "$$TTL 3600\n$$ORIGIN ${name}.\n"
        "@\tIN SOA ${primary} hostmaster.${domain}. 1 3600 600 1209600 300\n"
    ).substitute(name=name, primary=servers[0], domain=estate.domain)
    return head + "".join(
        f"{line}\n" for line in [*(f"@\tIN NS {server}" for server in servers), *records]
    )


def _name_server(root: Path, estate: Estate, host: LabHost, credentials: Credentials) -> None:
    uid, gid = _ids(root, "bind")
    _write(root, "etc/bind/tsig.key", credentials.tsig_key.read_text(), 0o640, 0, gid)
    _write(
        root,
        "etc/bind/named.conf.options",
        'options {\n\tdirectory "/var/cache/bind";\n\trecursion no;\n\tdnssec-validation no;\n'
        "\tlisten-on { any; };\n\tlisten-on-v6 { none; };\n\tnotify explicit;\n};\n",
    )
    zones = {estate.domain: forward_zone(estate), reverse_name(estate): reverse_zone(estate)}
    others = " ".join(f"{other.address};" for other in estate.having("secondary"))
    primary = next(iter(estate.having("nameserver"))).address
    config = 'include "/etc/bind/tsig.key";\n'
    for name, text in zones.items():
        if "nameserver" in host.roles:
            path = f"var/lib/bind/db.{name}"
            _write(root, path, text, 0o644, uid, gid)
            config += (
                f'zone "{name}" {{\n\ttype primary;\n\tfile "/{path}";\n'
                f"\tallow-update {{ key {TSIG_NAME}; }};\n"
                f"\tallow-transfer {{ key {TSIG_NAME}; {others} }};\n"
                f"\talso-notify {{ {others} }};\n}};\n"
            )
        else:
            config += (
                f'zone "{name}" {{\n\ttype secondary;\n\tfile "/var/cache/bind/db.{name}";\n'
                f"\tprimaries {{ {primary}; }};\n\tallow-transfer {{ key {TSIG_NAME}; }};\n}};\n"
            )
    _write(root, "etc/bind/named.conf.local", config)


def _account(root: Path, user: str, credentials: Credentials) -> None:
    argv = ["useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", user]
    if any(line.startswith(f"{user}:") for line in (root / "etc/group").read_text().splitlines()):
        argv[1:1] = ["--gid", user]  # such as `operator`, a group that every Debian has
    _chroot(root, argv)
    _chroot(root, ["chpasswd"], f"{user}:{credentials.sudo_password.read_text().strip()}\n")
    uid, gid = _ids(root, user)
    ssh = root / "home" / user / ".ssh"
    ssh.mkdir(mode=0o700)
    os.chown(ssh, uid, gid)
    public = credentials.key.with_suffix(".pub").read_text()
    _write(root, f"home/{user}/.ssh/authorized_keys", public, 0o600, uid, gid)


def _host_keys(root: Path, estate: Estate, host: LabHost) -> list[str]:
    names = [estate.fqdn(host), host.name, host.address]
    if estate.ssh_port != 22:
        names = [f"[{name}]:{estate.ssh_port}" for name in names]
    lines = []
    for kind in KEY_TYPES:
        path = root / f"etc/ssh/ssh_host_{kind}_key"
        _keygen(kind, path, f"root@{host.name}")
        algorithm, key, *_comment = path.with_suffix(".pub").read_text().split()
        lines.append(f"{','.join(names)} {algorithm} {key}")
    return lines


def _keygen(kind: str, path: Path, comment: str) -> None:
    path.unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)


def _ids(root: Path, user: str) -> tuple[int, int]:
    """User and group id of an account as the tree has it."""
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == user:
            return int(fields[2]), int(fields[3])
    raise LabError(
        f"the image has no account {user!r}", "remove the lab's cache and run lab up again"
    )


def _chroot(root: Path, argv: list[str], stdin: str = "") -> None:
    done = subprocess.run(
        ["chroot", str(root), *argv], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(
            f"{argv[0]} failed in a new host: {done.stderr.strip()}",
            "check that the ssh user's name is free",
        )


def _write(root: Path, path: str, text: str, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()  # a link in the tree could point at a file of this machine
    target.write_text(text)
    os.chown(target, uid, gid)
    target.chmod(mode)


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
