"""The operator's shell: the real ssh goes the way our own connections go, and checks as they do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runbook.model import Host
from runbook.terminal import shell_command
from tests.ssh.conftest import Sshd, World, keygen

pytestmark = pytest.mark.ssh


def shell(host: Host) -> subprocess.CompletedProcess[str]:
    """A command in place of what would be typed; no agent, so that only the hops' keys count."""
    env = {k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"}
    with shell_command(host) as argv:
        config = Path(argv[argv.index("-F") + 1])
        assert config.stat().st_mode & 0o777 == 0o600
        done = subprocess.run(
            [*argv, "echo in"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=env,
            check=False,
        )
    assert not config.exists()
    return done


def through(*daemons: Sshd) -> tuple[str, ...]:
    return tuple(f"root@127.0.0.1:{daemon.port}" for daemon in daemons)


@pytest.mark.parametrize("jumps", [0, 1, 2])
def test_it_goes_through_the_jump_hosts_in_order(world: World, jumps: int) -> None:
    way = [world.sshd()]
    for _ in range(jumps):
        way.insert(0, world.sshd(extra=f"PermitOpen 127.0.0.1:{way[0].port}\n"))
    done = shell(world.host(way[-1], jump=through(*way[:-1])))
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    assert [daemon.logins() for daemon in way] == [1] * (jumps + 1)


@pytest.mark.parametrize("changed", [0, 1, 2], ids=["first jump", "second jump", "target"])
def test_a_changed_key_is_refused_on_every_hop(world: World, changed: int) -> None:
    way = [world.sshd() for _ in range(3)]
    way[changed].change_key()
    host = world.host(way[-1], jump=through(*way[:-1]))
    done = shell(host)
    assert done.returncode == 255 and "HAS CHANGED" in done.stderr
    assert f"{world.known_hosts}:{changed + 1}" in done.stderr
    assert [d.logins() for d in way] == [int(n < changed) for n in range(3)]


@pytest.mark.parametrize("unknown", [0, 1], ids=["jump", "target"])
def test_an_unknown_key_is_refused_and_not_kept(world: World, unknown: int) -> None:
    way = [world.sshd(known=n != unknown) for n in range(2)]
    before = world.known_hosts.read_text()
    done = shell(world.host(way[1], jump=through(way[0])))
    assert done.returncode == 255 and "Host key verification failed" in done.stderr
    assert way[unknown].asked_for() == [] and world.known_hosts.read_text() == before


def test_a_key_that_ssh_config_revokes(world: World) -> None:
    jump, target = world.sshd(), world.sshd()
    revoked, config = world.folder / "revoked keys", world.folder / "config"
    config.write_text(f'RevokedHostKeys "{revoked}"\n')
    revoked.write_text(jump.public())
    done = shell(world.host(target, jump=through(jump), ssh_config=str(config)))
    assert done.returncode == 255 and "revoked by file" in done.stderr
    assert jump.asked_for() == []


def test_what_ssh_config_says_of_every_hop(world: World) -> None:
    target, jump = world.sshd(known=False), world.sshd(known=False)
    folder = world.folder / '100% "own"'
    folder.mkdir()
    known = folder / "known hosts"
    known.write_text(f"alias {target.public()}\n" + jump.known())
    other = keygen(folder / "id jump")
    world.authorized.write_text(Path(f"{other}.pub").read_text())
    config = world.folder / "config"
    config.write_text(
        f"Host target\n  HostName 127.0.0.1\n  Port {target.port}\n  HostKeyAlias alias\n"
        f"  ProxyJump gate\nHost gate\n  HostName 127.0.0.1\n  Port {jump.port}\nHost *\n"
        "  User root\n"
    )
    host = world.host(
        target, port=0, user="", keys=(str(other),), known_hosts=(str(known),),
        ssh_config=str(config),
    )  # fmt: skip
    host = Host("web1", "target", login=host.login)
    done = shell(host)
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    assert (jump.logins(), target.logins()) == (1, 1)


def test_a_proxy_command(world: World) -> None:
    target, way = world.sshd(), world.sshd()
    config = world.folder / "config"
    config.write_text(
        f"Host 127.0.0.1\n  ProxyCommand ssh -F none -q -i {world.key} -p {way.port} "
        f"-o UserKnownHostsFile={world.known_hosts} -W %h:%p root@127.0.0.1\n"
    )
    done = shell(world.host(target, ssh_config=str(config)))
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    assert way.logins() == 1
