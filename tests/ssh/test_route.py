"""The way to a host: jump chains, ssh_config, keys, and links that die."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from runbook.errors import LinkLost, Unreachable, UsageError
from runbook.model import Host, Login, Read
from runbook.ports import Job
from runbook.ssh import Hosts
from runbook.ssh.route import parse_jump, route
from tests.ssh.conftest import World, free_port, keygen

pytestmark = pytest.mark.ssh


def echo(hosts: Hosts, host: Host) -> str:
    return hosts.reader(host).read([Read("a", "echo in")])["a"].out


def test_two_jump_hosts_in_order(world: World) -> None:
    target = world.sshd()
    second = world.sshd(extra=f"PermitOpen 127.0.0.1:{target.port}\n")
    first = world.sshd(extra=f"PermitOpen 127.0.0.1:{second.port}\n")
    jump = (f"root@127.0.0.1:{first.port}", f"root@127.0.0.1:{second.port}")
    assert echo(world.hosts(), world.host(target, jump=jump)) == "in\n"
    with pytest.raises(Unreachable, match="jump host"):
        echo(world.hosts(), world.host(target, jump=jump[::-1]))


def test_proxy_jump_of_ssh_config_in_order(world: World) -> None:
    target = world.sshd()
    second = world.sshd(extra=f"PermitOpen 127.0.0.1:{target.port}\n")
    first = world.sshd(extra=f"PermitOpen 127.0.0.1:{second.port}\n")
    config = world.folder / "config"
    config.write_text(
        f"Host target\n  HostName 127.0.0.1\n  Port {target.port}\n  ProxyJump one,two\n"
        f"Host one\n  Port {first.port}\nHost two\n  Port {second.port}\n"
        "Host one two\n  HostName 127.0.0.1\n"
        f"Host *\n  User root\n  IdentityFile {world.key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {world.known_hosts}\n"
    )
    host = Host("certname", "target", login=Login(ssh_config=str(config), sudo=False))
    assert echo(world.hosts(), host) == "in\n"
    assert [d.logins() for d in (first, second, target)] == [1, 1, 1]


def test_a_jump_host_that_dies_is_dialled_again(world: World) -> None:
    target, jump = world.sshd(), world.sshd()
    hosts = world.hosts()
    host = world.host(target, jump=(f"root@127.0.0.1:{jump.port}",))
    assert echo(hosts, host) == "in\n"
    jump.cut()
    assert echo(hosts, host) == "in\n"


def test_proxy_command(world: World) -> None:
    target, way = world.sshd(), world.sshd()
    config = world.folder / "config"
    config.write_text(
        f"Host 127.0.0.1\n  ProxyCommand ssh -F none -q -i {world.key} -p {way.port} "
        f"-o UserKnownHostsFile={world.known_hosts} -W %h:%p root@127.0.0.1\n"
    )
    assert echo(world.hosts(), world.host(target, ssh_config=str(config))) == "in\n"
    assert way.logins() == 1


def test_the_inventory_wins_over_ssh_config(world: World, tmp_path: Path) -> None:
    config = tmp_path / "config"
    (tmp_path / "more.conf").write_text("Host web*\n  Port 2200\n")
    config.write_text(
        "Include more.conf\n"
        "HostKeyAlias alias\n"  # after an Include, and for every host again
        "Host web1\n  User config\n  HostName 10.0.0.1\n  ProxyJump jump\n  ConnectTimeout 3\n"
        "Host jump\n  User jumper\n"
        "Host *\n  IdentityFile ~/.ssh/id_config\n  UserKnownHostsFile /k1 /k2/%h\n"
        "  GlobalKnownHostsFile none\n  HashKnownHosts yes\n"
    )
    plain = route(Host("web1", login=Login(ssh_config=str(config))))
    jump, hop = plain
    assert (jump.address, jump.port, jump.user) == ("jump", 22, "jumper")
    assert (hop.address, hop.port, hop.user, hop.timeout) == ("10.0.0.1", 2200, "config", 3.0)
    assert hop.keys == (str(Path("~/.ssh/id_config").expanduser()),)
    assert hop.identity.name == "alias" and hop.identity.hashed
    assert hop.identity.files == (Path("/k1"), Path("/k2/10.0.0.1"))

    login = Login(
        user="me", port=23, keys=("/key",), jump=("j@other:24",), known_hosts=("/mine",),
        ssh_config=str(config), connect_timeout=9,
    )  # fmt: skip
    jump, hop = route(Host("web1", login=login))
    assert (jump.address, jump.port, jump.user) == ("other", 24, "j")
    assert (hop.address, hop.port, hop.user, hop.timeout) == ("10.0.0.1", 23, "me", 9)
    assert (hop.keys, hop.only, hop.identity.files) == (("/key",), True, (Path("/mine"),))
    assert jump.identity.files == (Path("/mine"),)


def test_jump_hosts_in_a_circle(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  ProxyJump other\n")
    with pytest.raises(UsageError, match="circle"):
        route(Host("web1", login=Login(ssh_config=str(config))))


def test_how_a_jump_host_is_written() -> None:
    assert parse_jump("me@host:22") == ("me", "host", 22)
    assert parse_jump("host") == ("", "host", 0)
    assert parse_jump("me@[::1]:2222") == ("me", "::1", 2222)
    assert parse_jump("ssh://host:1") == ("", "host", 1)
    for wrong in ("", "a:b", "me@", "::1"):
        with pytest.raises(UsageError):
            parse_jump(wrong)


def test_a_key_that_is_not_welcome(world: World) -> None:
    daemon = world.sshd()
    stranger = keygen(world.folder / "stranger")
    with pytest.raises(Unreachable, match="does not let root in") as error:
        echo(world.hosts(), world.host(daemon, keys=(str(stranger),)))
    assert "1 key offered" in str(error.value) and error.value.host == "web1"


def test_a_key_with_a_passphrase_comes_from_the_agent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = world.sshd()
    host = world.host(daemon, agent=True)
    protect = ["ssh-keygen", "-q", "-p", "-P", "", "-f", str(world.key), "-N"]
    sock = str(world.folder / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", sock], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", sock)
        while not Path(sock).exists():
            pass
        subprocess.run(["ssh-add", "-q", str(world.key)], check=True)
        subprocess.run([*protect, "secret"], check=True, stdout=subprocess.DEVNULL)
        assert echo(world.hosts(), host) == "in\n"
        subprocess.run(["ssh-add", "-q", "-D"], check=True, stderr=subprocess.DEVNULL)
        with pytest.raises(Unreachable) as error:
            echo(world.hosts(), host)
        assert "ssh-add" in error.value.hint
    finally:
        agent.terminate()
        agent.wait()


class Wire:
    """A TCP relay that can go silent without closing anything, as a dead network does."""

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self.silent = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._to = to
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        while not self._over:
            ready, _, _ = select.select([self._listener, *pairs], [], [], 0.05)
            for sock in ready:
                if sock is self._listener:
                    ours, _ = self._listener.accept()
                    theirs = socket.create_connection(("127.0.0.1", self._to))
                    pairs |= {ours: theirs, theirs: ours}
                elif not self.silent:
                    data = sock.recv(65536)
                    if data:
                        pairs[sock].sendall(data)
                    else:
                        other = pairs.pop(sock)
                        pairs.pop(other)
                        sock.close()
                        other.close()
                else:
                    break
        for sock in pairs:
            sock.close()

    def close(self) -> None:
        self._over = True
        self._thread.join()
        self._listener.close()


def test_a_dead_link_is_noticed(world: World) -> None:
    daemon = world.sshd(known=False)
    world.trust(f"127.0.0.1 {daemon.public()}\n")
    with contextlib.closing(Wire(daemon.port)) as wire:
        hosts = world.hosts(keepalive=0.3, reconnect_for=0.5)
        writer = hosts.writers().writer(world.host(daemon, port=wire.port, connect_timeout=1.0))
        lines: list[str] = []
        errors: list[Exception] = []

        def follow() -> None:
            try:
                writer.run(Job("dead", "echo on; sleep 8", 60), lines.append, threading.Event())
            except LinkLost as error:
                errors.append(error)

        thread = threading.Thread(target=follow)
        thread.start()
        while not lines:
            thread.join(0.02)
        thread.join(2)
        assert thread.is_alive()  # a silent job on a living link is waited for
        wire.silent = True
        thread.join(20)
        assert not thread.is_alive() and len(errors) == 1
