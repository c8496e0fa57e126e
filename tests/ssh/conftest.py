"""Real sshds on loopback, with keys, users and known_hosts of their own."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from runbook.errors import RunbookError
from runbook.model import CertificateAuthority, Host, Login, Secret, SecretRef, Site
from runbook.ports import Job, Outcome
from runbook.ssh import Hosts, HostWriter

PASSWORD = "a pass'word with $signs"


def keygen(path: Path, kind: str = "ed25519", *more: str) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path), *more], check=True
    )
    return path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(what: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(") ")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


@dataclass
class Sshd:
    """One sshd: its port, its host key, what it logged."""

    folder: Path
    authorized: Path
    port: int = field(default_factory=free_port)
    kinds: tuple[str, ...] = ("ed25519",)
    extra: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sshd:
        self.folder.mkdir(exist_ok=True)
        for kind in self.kinds:
            if not self.key(kind).exists():
                keygen(self.key(kind), kind)
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\n"
            f"StrictModes no\nPermitRootLogin prohibit-password\nMaxStartups 200\n"
            f"AuthorizedKeysFile {self.authorized}\nLogLevel VERBOSE\nUseDNS no\n"
            + "".join(f"HostKey {self.key(kind)}\n" for kind in self.kinds)
            + self.extra
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-f", str(config), "-E", str(self.folder / "log")]
        )
        wait_for(self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def key(self, kind: str = "ed25519") -> Path:
        return self.folder / f"host_{kind}"

    def public(self, kind: str = "ed25519") -> str:
        return " ".join(Path(f"{self.key(kind)}.pub").read_text().split()[:2])

    def known(self, kind: str = "ed25519", name: str = "127.0.0.1") -> str:
        return f"[{name}]:{self.port} {self.public(kind)}\n"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def asked_for(self) -> list[str]:
        """The authentications and commands it saw."""
        words = ("Accepted", "Failed", "Postponed", "Starting session", "Invalid user", "for user")
        return [line for line in self.log().splitlines() if any(w in line for w in words)]

    def logins(self) -> int:
        return self.log().count("Accepted publickey")

    def sessions(self) -> int:
        return self.log().count("Starting session: command")

    def cut(self) -> None:
        """Kills every connection, and the commands of no one."""
        assert self.process
        for pid in children(self.process.pid):
            os.kill(pid, signal.SIGKILL)
            for inner in children(pid):  # the unprivileged half
                if b"sshd" in Path(f"/proc/{inner}/cmdline").read_bytes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(inner, signal.SIGKILL)

    def change_key(self, kind: str = "ed25519") -> None:
        """As after a reinstallation, or with somebody in the middle."""
        self.stop()
        self.key(kind).unlink()
        Path(f"{self.key(kind)}.pub").unlink()
        self.start()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            sessions = children(self.process.pid)
            self.process.terminate()
            self.process.wait()
            for pid in sessions:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)


@dataclass
class World:
    """What a test needs: daemons, a user key, a known_hosts file, hosts over them."""

    folder: Path
    key: Path
    authorized: Path
    known_hosts: Path
    daemons: list[Sshd] = field(default_factory=list)
    opened: list[Hosts] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    asked: list[SecretRef] = field(default_factory=list)

    def sshd(self, *, known: bool = True, **options: object) -> Sshd:
        folder = self.folder / f"sshd{next(self.numbers)}"
        daemon = Sshd(folder, self.authorized, **options).start()  # type: ignore[arg-type]
        self.daemons.append(daemon)
        if known:
            self.trust(*(daemon.known(kind) for kind in daemon.kinds))
        return daemon

    def trust(self, *lines: str) -> None:
        with self.known_hosts.open("a") as stream:
            stream.writelines(lines)

    def host(self, daemon: Sshd, name: str = "web1", **login: object) -> Host:
        base = Login(
            user="root",
            port=daemon.port,
            keys=(str(self.key),),
            known_hosts=(str(self.known_hosts),),
            ssh_config="",
            agent=False,
            sudo=False,
            connect_timeout=10.0,
        )
        return Host(name, "127.0.0.1", login=replace(base, **login))  # type: ignore[arg-type]

    def hosts(
        self,
        first_contact: Callable[[str, str, str], bool] | None = None,
        password: str = PASSWORD,
        **options: object,
    ) -> Hosts:
        def secret(reference: SecretRef) -> Secret:
            self.asked.append(reference)
            return Secret(password)

        site = Site("test", (), "puppet", CertificateAuthority("ca", "ca.test"))
        options.setdefault("spool", str(self.folder / "spool"))
        hosts = Hosts(site, secret, first_contact, **options)  # type: ignore[arg-type]
        self.opened.append(hosts)
        return hosts


@pytest.fixture
def world() -> Iterator[World]:
    # not below pytest's own folder: an ordinary user has to get here too
    with tempfile.TemporaryDirectory(
        prefix="pmrunbook-ssh-",
        ignore_cleanup_errors=True,  # a session may still write its last
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)
        key = keygen(folder / "id")
        authorized = folder / "authorized"
        authorized.write_text(Path(f"{key}.pub").read_text())
        authorized.chmod(0o644)
        made = World(folder, key, authorized, folder / "known_hosts")
        try:
            yield made
        finally:
            for hosts in made.opened:
                hosts.close()
            for daemon in made.daemons:
                daemon.stop()


class Running:
    """A job followed in a thread of its own."""

    def __init__(self, writer: HostWriter, job: Job) -> None:
        self.lines: list[str] = []
        self.stop = threading.Event()
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

        def follow() -> None:
            try:
                self.outcome = writer.run(job, self.lines.append, self.stop)
            except RunbookError as error:
                self.error = error

        self.thread = threading.Thread(target=follow)
        self.thread.start()

    def end(self) -> Outcome:
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error:
            raise self.error
        assert self.outcome
        return self.outcome


@dataclass
class User:
    """An ordinary user with sudo; what sudo logged of it."""

    name: str
    sudo_log: Path
    drop_in: Path

    def rule(self, text: str) -> None:
        """Replaces what sudo says about the user."""
        self.drop_in.write_text(f"Defaults:{self.name} logfile={self.sudo_log}\n{text}\n")

    def attempts(self) -> str:
        return self.sudo_log.read_text() if self.sudo_log.exists() else ""


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    name = f"pmt{secrets.token_hex(3)}"
    subprocess.run(["useradd", "-M", "-d", "/", "-s", "/bin/sh", name], check=True)
    made = User(name, tmp_path / "sudo.log", Path(f"/etc/sudoers.d/pmrunbook-{name}"))
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{PASSWORD}".encode(), check=True)
        made.drop_in.touch(0o440)
        made.rule(f"{name} ALL=(ALL) ALL")
        yield made
    finally:
        made.drop_in.unlink(missing_ok=True)
        # -f: a session of the user may still be closing
        subprocess.run(["userdel", "-f", name], check=True, stderr=subprocess.DEVNULL)
