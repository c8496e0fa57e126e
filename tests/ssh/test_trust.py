"""Who the host is: every answer known_hosts can give, on the target and on jump hosts."""

from __future__ import annotations

import base64
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from runbook.errors import Exit, TrustError
from runbook.model import Host, Read
from runbook.ports import Job
from runbook.ssh import Hosts
from runbook.ssh.hostkeys import Entry, Identity, fingerprint, read_entries, verify
from tests.ssh.conftest import Running, Sshd, World, children, keygen, wait_for

pytestmark = pytest.mark.ssh


SAID = {"changed": "HAS CHANGED", "unknown": "is not known", "revoked": "is revoked"}


def echo(hosts: Hosts, host: Host) -> str:
    return hosts.reader(host).read([Read("a", "echo in")])["a"].out


def printed(public: Path) -> str:
    """The fingerprint as ssh-keygen prints it."""
    said = subprocess.run(
        ["ssh-keygen", "-lf", str(public)], check=True, capture_output=True, text=True
    )
    return said.stdout.split()[1]


def nothing_was_sent(daemon: Sshd) -> bool:
    return daemon.asked_for() == []


def test_a_changed_key_on_the_target(world: World) -> None:
    daemon = world.sshd(known=False)
    world.trust("# a comment\n", "\n", daemon.known())
    old = printed(Path(f"{daemon.key()}.pub"))
    daemon.change_key()
    new = printed(Path(f"{daemon.key()}.pub"))
    with pytest.raises(TrustError) as error:
        echo(world.hosts(lambda *_: pytest.fail("asked")), world.host(daemon))
    text = str(error.value)
    assert old in text and new in text and f"{world.known_hosts}:3" in text
    assert str(daemon.port) in text
    assert f"ssh-keygen -R '[127.0.0.1]:{daemon.port}'" in error.value.hint
    assert nothing_was_sent(daemon)


def distrust(world: World, way: list[Sshd], at: int, wrong: str) -> str:
    """Nobody can trust that hop any more; where the operator finds out why."""
    match wrong:
        case "changed":
            way[at].change_key()
            return f"{world.known_hosts}:{at + 1}"
        case "unknown":
            others = (daemon.known() for daemon in way if daemon is not way[at])
            world.known_hosts.write_text("".join(others))
            return str(world.known_hosts)
        case _:
            world.trust(f"@revoked * {way[at].public()}\n")
            return f"{world.known_hosts}:{len(way) + 1}"


def through(world: World, way: list[Sshd]) -> Host:
    return world.host(way[-1], jump=tuple(f"root@127.0.0.1:{jump.port}" for jump in way[:-1]))


@pytest.mark.parametrize("at", [0, 1, 2], ids=["first jump", "second jump", "target"])
@pytest.mark.parametrize("wrong", SAID)
def test_every_hop_is_verified_before_anything_is_sent_to_it(
    world: World, wrong: str, at: int
) -> None:
    way = [world.sshd() for _ in range(3)]
    place = distrust(world, way, at, wrong)
    with pytest.raises(TrustError, match=SAID[wrong]) as error:
        echo(world.hosts(), through(world, way))
    assert place in f"{error.value} {error.value.hint}"
    assert str(way[at].port) in str(error.value)
    assert [daemon.logins() for daemon in way] == [int(n < at) for n in range(3)]
    assert all(nothing_was_sent(daemon) for daemon in way[at:])


@pytest.mark.parametrize(
    ("hops", "at"),
    [
        pytest.param(1, 0, id="target"),
        pytest.param(2, 0, id="jump"),
        pytest.param(2, 1, id="target behind a jump"),
        pytest.param(3, 0, id="first jump"),
        pytest.param(3, 1, id="second jump"),
        pytest.param(3, 2, id="target behind two"),
    ],
)
@pytest.mark.parametrize("wrong", SAID)
@pytest.mark.parametrize("during", [False, True], ids=["between jobs", "during a job"])
def test_every_hop_is_verified_again_when_a_link_was_cut(
    world: World, wrong: str, hops: int, at: int, during: bool
) -> None:
    way = [world.sshd() for _ in range(hops)]
    writer = world.hosts().writers().writer(through(world, way))
    go = world.folder / "go"
    job = Job("second", f"echo on; until [ -e {go} ]; do sleep 0.05; done; echo over", 60)
    assert Running(writer, Job("first", "echo in", 60)).end().exit == 0
    if during:
        running = Running(writer, job)
        wait_for(lambda: running.lines)
    before = [daemon.asked_for() for daemon in way[at:]]
    place = distrust(world, way, at, wrong)
    if wrong != "changed":  # who changes its key has cut its links
        way[0].cut()
    if not during:
        running = Running(writer, job)
    with pytest.raises(TrustError, match=SAID[wrong]) as error:
        running.end()
    assert place in f"{error.value} {error.value.hint}" and error.value.exit == Exit.TRUST
    assert str(way[at].port) in str(error.value)
    with pytest.raises(TrustError, match=SAID[wrong]):
        writer.look(job.id)
    assert [daemon.asked_for() for daemon in way[at:]] == before
    assert (world.folder / "spool" / "jobs" / job.id).exists() is during

    world.known_hosts.write_text("".join(daemon.known() for daemon in way))  # its owner confirmed
    go.touch()
    assert Running(writer, job).end().exit == 0
    assert (world.folder / "spool" / "jobs" / job.id / "out").read_text() == "on\nover\n"


def test_a_name_that_leads_to_another_machine_by_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = world.sshd(known=False), world.sshd(known=False)
    world.trust(f"[moves.test]:2222 {old.public()}\n")
    host = world.host(old, port=2222)
    host = Host("web1", "moves.test", login=host.login)
    known = socket.getaddrinfo
    machine = old

    def resolve(name: str, port: int, **more: Any) -> Any:
        assert (name, port) == ("moves.test", 2222)
        return known("127.0.0.1", machine.port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    hosts = world.hosts(lambda *_: pytest.fail("asked"))
    assert echo(hosts, host) == "in\n"
    machine = new
    old.cut()
    with pytest.raises(TrustError, match="CHANGED") as error:
        echo(hosts, host)
    assert f"{world.known_hosts}:1" in str(error.value) and error.value.exit == Exit.TRUST
    assert nothing_was_sent(new)


@pytest.mark.parametrize("answer", [None, lambda *_: False])
def test_an_unknown_key_is_refused(world: World, answer: object) -> None:
    daemon = world.sshd(known=False)
    with pytest.raises(TrustError, match="not known") as error:
        echo(world.hosts(answer), world.host(daemon))  # type: ignore[arg-type]
    assert printed(Path(f"{daemon.key()}.pub")) in str(error.value)
    assert "ssh-keygen -lf" in error.value.hint
    assert nothing_was_sent(daemon) and not world.known_hosts.exists()


def test_an_unknown_key_that_is_accepted_is_kept(world: World) -> None:
    daemon = world.sshd(known=False)
    world.known_hosts.write_text("other.example ssh-ed25519 AAAA")  # without a newline
    world.known_hosts.chmod(0o600)
    asked: list[tuple[str, str, str]] = []

    def accept(host: str, kind: str, shown: str) -> bool:
        asked.append((host, kind, shown))
        return True

    assert echo(world.hosts(accept), world.host(daemon)) == "in\n"
    shown = printed(Path(f"{daemon.key()}.pub"))
    assert asked == [(f"127.0.0.1:{daemon.port}", "ssh-ed25519", shown)]
    assert world.known_hosts.read_text().splitlines()[1] + "\n" == daemon.known()
    assert world.known_hosts.stat().st_mode & 0o777 == 0o600
    assert echo(world.hosts(), world.host(daemon)) == "in\n"  # nobody to ask
    found = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{daemon.port}", "-f", str(world.known_hosts)]
    )
    assert found.returncode == 0


def test_a_host_that_hangs_up_while_the_operator_compares(world: World) -> None:
    daemon = world.sshd(known=False, extra="LoginGraceTime 1\n")

    def accept(host: str, kind: str, shown: str) -> bool:
        assert daemon.process
        pid = daemon.process.pid
        wait_for(lambda: not children(pid))
        return True

    assert echo(world.hosts(accept), world.host(daemon)) == "in\n"


def test_many_hosts_behind_one_unknown_jump_host_ask_once(world: World) -> None:
    jump, target = world.sshd(known=False), world.sshd()
    asked: list[str] = []

    def accept(host: str, kind: str, shown: str) -> bool:
        asked.append(host)
        return True

    hosts = world.hosts(accept)
    way = (f"root@127.0.0.1:{jump.port}",)
    threads = [
        threading.Thread(target=echo, args=(hosts, world.host(target, f"h{n}", jump=way)))
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert jump.logins() == 1 and target.logins() == 5


def test_hashed_names(world: World) -> None:
    daemon = world.sshd()
    world.sshd()
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", str(world.known_hosts)], check=True, capture_output=True
    )
    assert "127.0.0.1" not in world.known_hosts.read_text()
    assert echo(world.hosts(), world.host(daemon)) == "in\n"
    daemon.change_key()
    with pytest.raises(TrustError, match="CHANGED"):
        echo(world.hosts(), world.host(daemon))


def test_the_known_type_of_key_is_asked_for(world: World) -> None:
    kinds = ("ed25519", "ecdsa", "rsa")
    for kind in kinds:
        daemon = world.sshd(known=False, kinds=kinds)
        world.trust(daemon.known(kind))
        assert echo(world.hosts(), world.host(daemon)) == "in\n"


def test_another_type_than_the_known_one_is_a_change(world: World) -> None:
    daemon = world.sshd(known=False, kinds=("ecdsa",))
    other = keygen(world.folder / "other", "rsa")
    public = " ".join(Path(f"{other}.pub").read_text().split()[:2])
    world.trust(f"[127.0.0.1]:{daemon.port} {public}\n")
    with pytest.raises(TrustError, match="CHANGED"):
        echo(world.hosts(lambda *_: True), world.host(daemon))
    assert nothing_was_sent(daemon)


def test_a_revoked_key(world: World) -> None:
    daemon = world.sshd()
    world.trust(f"@revoked * {daemon.public()}\n")
    with pytest.raises(TrustError, match="revoked"):
        echo(world.hosts(lambda *_: True), world.host(daemon))
    assert nothing_was_sent(daemon)


@pytest.mark.parametrize("krl", [False, True], ids=["text", "krl"])
def test_the_revoked_keys_of_ssh_config(world: World, krl: bool) -> None:
    good, bad = world.sshd(), world.sshd()
    revoked, config = world.folder / "revoked keys", world.folder / "config"
    config.write_text(f'RevokedHostKeys "{revoked}"\n')
    revoked.write_text(f"# lost\n{bad.public()} a comment\n")
    place = f"{revoked}:2"
    if krl:
        revoked.unlink()
        make = ["ssh-keygen", "-q", "-k", "-f", str(revoked), f"{bad.key()}.pub"]
        subprocess.run(make, check=True)
        place = str(revoked)
    hosts = world.hosts(lambda *_: True)
    assert echo(hosts, world.host(good, ssh_config=str(config))) == "in\n"
    with pytest.raises(TrustError, match="is revoked") as error:
        echo(hosts, world.host(bad, "web2", ssh_config=str(config)))
    assert f"({place})" in str(error.value)
    assert nothing_was_sent(bad)


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "No such file"), ("no key\n", "revoked:1 is no"), ("SSHKRL\n\0", "cannot be asked")],
)
def test_revoked_keys_that_cannot_be_read_are_no_reason_to_trust(
    world: World, text: str | None, said: str
) -> None:
    daemon = world.sshd()
    revoked, config = world.folder / "revoked", world.folder / "config"
    config.write_text(f"RevokedHostKeys {revoked}\n")
    if text:
        revoked.write_text(text)
    with pytest.raises(TrustError, match=said):
        echo(world.hosts(lambda *_: True), world.host(daemon, ssh_config=str(config)))
    assert nothing_was_sent(daemon)


def certify(world: World, daemon: Sshd, *options: str, kind: str = "ed25519") -> str:
    """Gives the daemon a host certificate; the authority's public key."""
    authority = world.folder / "authority"
    if not authority.exists():
        keygen(authority, "rsa", "-b", "2048")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", *options]
    subprocess.run([*sign, f"{daemon.key(kind)}.pub"], check=True, capture_output=True)
    daemon.stop()
    daemon.extra = f"HostCertificate {daemon.key(kind)}-cert.pub\n"
    daemon.start()
    return " ".join(Path(f"{authority}.pub").read_text().split()[:2])


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_host_certificate(world: World, kind: str) -> None:
    daemon = world.sshd(known=False, kinds=(kind,))
    authority = certify(world, daemon, "-h", "-n", "other,127.0.0.1", "-V", "-1h:+1h", kind=kind)
    world.trust(f"@cert-authority [127.0.0.*]:* {authority}\n")
    assert echo(world.hosts(), world.host(daemon)) == "in\n"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-h", "-n", "elsewhere"), "not for 127.0.0.1"),
        (("-h",), "for nobody"),
        (("-h", "-n", "127.0.0.1", "-V", "-2h:-1h"), "not valid at this time"),
        (("-h", "-n", "127.0.0.1", "-V", "+1h:+2h"), "not valid at this time"),
    ],
)
def test_a_host_certificate_that_is_not_good(
    world: World, options: tuple[str, ...], reason: str
) -> None:
    daemon = world.sshd(known=False)
    authority = certify(world, daemon, *options)
    world.trust(f"@cert-authority * {authority}\n")
    with pytest.raises(TrustError, match=reason):
        echo(world.hosts(lambda *_: True), world.host(daemon))
    assert nothing_was_sent(daemon)
    world.trust(daemon.known())  # the key itself is good all the same
    assert echo(world.hosts(), world.host(daemon)) == "in\n"


def test_a_host_certificate_of_another_authority(world: World) -> None:
    daemon = world.sshd(known=False)
    certify(world, daemon, "-h", "-n", "127.0.0.1")
    other = keygen(world.folder / "stranger")
    public = " ".join(Path(f"{other}.pub").read_text().split()[:2])
    world.trust(f"@cert-authority * {public}\n")
    with pytest.raises(TrustError, match="not a @cert-authority"):
        echo(world.hosts(lambda *_: True), world.host(daemon))
    assert nothing_was_sent(daemon)


def test_a_revoked_authority(world: World) -> None:
    daemon = world.sshd(known=False)
    authority = certify(world, daemon, "-h", "-n", "127.0.0.1")
    world.trust(f"@cert-authority * {authority}\n", f"@revoked * {authority}\n")
    with pytest.raises(TrustError, match="revoked"):
        echo(world.hosts(lambda *_: True), world.host(daemon))


def test_a_forged_certificate(world: World) -> None:
    """The trusted authority's public key put into a certificate that another one signed."""
    daemon = world.sshd(known=False)
    authority = certify(world, daemon, "-h", "-n", "127.0.0.1")
    world.trust(f"@cert-authority * {authority}\n")
    words = Path(f"{daemon.key()}-cert.pub").read_text().split()
    blob = bytearray(base64.b64decode(words[1]))
    identity = Identity("x", "127.0.0.1", files=(world.known_hosts,))
    verify(identity, bytes(blob), lambda *_: False)
    place = blob.index(b"127.0.0.1")
    blob[place : place + 9] = b"127.0.0.2"
    identity = Identity("x", "127.0.0.2", files=(world.known_hosts,))
    with pytest.raises(TrustError, match="signature"):
        verify(identity, bytes(blob), lambda *_: True)


def test_names_as_openssh_matches_them(world: World) -> None:
    def entry(names: str) -> Entry:
        return Entry("", names, "ssh-ed25519", b"", "f:1")

    assert entry("web*,!web2").names_host("web1")
    assert not entry("web*,!web2").names_host("web2")
    assert entry("[host]:2222").names_host("[host]:2222")
    assert not entry("[host]:2222").names_host("host")
    assert not entry("[abc]").names_host("a")  # brackets are no character class
    assert entry("HOST").names_host("host")
    world.known_hosts.write_text("nonsense\n@strange a b c\na ssh-rsa !!!\n")
    assert read_entries([world.known_hosts, world.folder / "none"]) == ()


def test_a_key_known_without_port_is_good_on_another_port(world: World) -> None:
    daemon = world.sshd(known=False)
    world.trust(f"127.0.0.1 {daemon.public()}\n")
    assert echo(world.hosts(), world.host(daemon)) == "in\n"


def test_the_fingerprint_is_openssh_s(world: World) -> None:
    blob = base64.b64decode(Path(f"{world.key}.pub").read_text().split()[1])
    assert fingerprint(blob) == printed(Path(f"{world.key}.pub"))
