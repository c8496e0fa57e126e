"""Root through sudo: with a password, without, and refused; the password shows up nowhere."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from runbook.errors import NotTried, SudoRefused, Unreachable
from runbook.model import Host, Read, SecretRef
from runbook.ports import Job
from tests.ssh.conftest import PASSWORD, Sshd, User, World, wait_for

pytestmark = pytest.mark.ssh

REFERENCE = SecretRef("prompt", "sudo")


def as_user(world: World, daemon: Sshd, user: User, password: SecretRef | None = REFERENCE) -> Host:
    return world.host(daemon, user=user.name, sudo=True, sudo_password=password)


def test_with_a_password(world: World, user: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    daemon = world.sshd()
    hosts = world.hosts()
    host = as_user(world, daemon, user)
    readings = hosts.reader(host).read([Read("id", "id -u; pwd; umask"), Read("err", "echo e >&2")])
    assert readings["id"].out.splitlines()[:2] == ["0", "/"]
    assert (readings["err"].err, readings["id"].err) == ("e\n", "")
    lines: list[str] = []
    outcome = (
        hosts.writers().writer(host).run(Job("a", "id -u", 30), lines.append, threading.Event())
    )
    assert (outcome.exit, lines) == (0, ["0"])
    assert world.asked == [REFERENCE]  # resolved once for all of it
    assert PASSWORD not in caplog.text and PASSWORD not in daemon.log()
    assert PASSWORD not in user.attempts() and "incorrect" not in user.attempts()


def test_the_password_and_the_script_are_in_no_process_list(world: World, user: User) -> None:
    daemon = world.sshd()
    hosts = world.hosts()
    marker = "SECRETLOOKINGSCRIPT"
    go = world.folder / "go"
    script = f": {marker}; until [ -e {go} ]; do sleep 0.02; done; echo over"
    seen: dict[str, str] = {}

    def read() -> None:
        seen["out"] = hosts.reader(as_user(world, daemon, user)).read([Read("a", script)])["a"].out

    thread = threading.Thread(target=read)
    thread.start()
    wait_for(lambda: "COMMAND" in user.attempts())
    lines = []
    for path in [*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")]:
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().decode("utf-8", "replace"))
    go.touch()
    thread.join()
    assert seen["out"] == "over\n"
    assert any("sudo\0-S" in line for line in lines)  # it was there to be seen
    assert not [line for line in lines if PASSWORD in line or marker in line]


def test_a_wrong_password_is_tried_once(
    world: World, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    daemon = world.sshd()
    hosts = world.hosts(password="a wrong guess")
    host = as_user(world, daemon, user)
    for _ in range(3):  # asking again does not try again
        with pytest.raises(SudoRefused, match="refused the password") as error:
            hosts.reader(host).read([Read("a", "echo a")])
    assert "sudo_password" in error.value.hint and "wrong guess" not in repr(error.value)
    wait_for(lambda: "incorrect password" in user.attempts())
    assert " 1 incorrect password attempt " in user.attempts()
    assert user.attempts().count("incorrect") == 1
    assert daemon.sessions() == 1
    assert "wrong guess" not in caplog.text


@pytest.mark.parametrize(("password", "attempts"), [("a wrong guess", 1), (PASSWORD, 0)])
def test_a_password_that_hosts_share_is_tried_on_one_of_them_first(
    world: World, user: User, password: str, attempts: int
) -> None:
    hosts = world.hosts(password=password)
    fleet = [replace(as_user(world, world.sshd(), user), name=f"web{n}") for n in range(4)]
    errors: list[SudoRefused] = []
    said: list[str] = []

    def read(host: Host) -> None:
        try:
            said.append(hosts.reader(host).read([Read("id", "id -u")])["id"].out)
        except SudoRefused as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(host,)) for host in fleet]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if attempts:
        wait_for(lambda: "incorrect" in user.attempts())
    assert user.attempts().count("incorrect") == attempts
    if attempts:
        first = next(e for e in errors if not isinstance(e, NotTried))
        others = [e.what for e in errors if e is not first]
        assert others == [f"not tried here: sudo on {first.host} refused the same password"] * 3
    else:
        assert said == ["0\n"] * 4


def test_a_wrong_password_where_sudo_asks_only_once(world: World, user: User) -> None:
    user.rule(f"Defaults:{user.name} passwd_tries=1\n{user.name} ALL=(ALL) ALL")
    with pytest.raises(SudoRefused, match="refused the password"):
        world.hosts(password="wrong").reader(as_user(world, world.sshd(), user)).read(
            [Read("a", "echo a")]
        )
    assert user.attempts().count("incorrect") == 1


def test_nopasswd_is_sent_nothing(world: World, user: User) -> None:
    user.rule(f"{user.name} ALL=(ALL) NOPASSWD: ALL")
    reader = world.hosts().reader(as_user(world, world.sshd(), user))
    assert reader.read([Read("a", "cat; id -u")])["a"].out == "0\n"
    assert world.asked == []


def test_nopasswd_without_a_password(world: World, user: User) -> None:
    user.rule(f"{user.name} ALL=(ALL) NOPASSWD: ALL")
    host = as_user(world, world.sshd(), user, None)
    assert world.hosts().reader(host).read([Read("a", "id -u")])["a"].out == "0\n"


def test_a_password_is_needed_and_none_is_named(world: World, user: User) -> None:
    host = as_user(world, world.sshd(), user, None)
    with pytest.raises(SudoRefused, match="names none") as error:
        world.hosts().reader(host).read([Read("a", "id -u")])
    assert "sudo_password" in error.value.hint


def test_requiretty(world: World, user: User) -> None:
    user.rule(f"Defaults:{user.name} requiretty\n{user.name} ALL=(ALL) ALL")
    with pytest.raises(SudoRefused, match="requiretty") as error:
        world.hosts().reader(as_user(world, world.sshd(), user)).read([Read("a", "id -u")])
    assert "!requiretty" in error.value.hint


def test_a_user_who_may_not(world: World, user: User) -> None:
    user.rule(f"{user.name} ALL=(ALL) /bin/true")
    with pytest.raises(SudoRefused) as error:
        world.hosts().reader(as_user(world, world.sshd(), user)).read([Read("a", "id -u")])
    assert "not allowed" in str(error.value) and "sudo -l" in error.value.hint


def test_noise_before_the_way_in_is_not_data(world: World, user: User) -> None:
    """A lecture, a banner and a login shell that talks."""
    lecture = world.folder / "lecture"
    lecture.write_text("We trust you have received the usual lecture. password: \n" * 50)
    user.rule(
        f"Defaults:{user.name} lecture=always,lecture_file={lecture}\n{user.name} ALL=(ALL) ALL"
    )
    noise = world.folder / "noise"
    noise.write_text('#!/bin/sh\necho noise; echo noise >&2\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    noise.chmod(0o755)
    daemon = world.sshd(extra=f"ForceCommand {noise}\n")
    reading = world.hosts().reader(as_user(world, daemon, user)).read([Read("a", "echo a")])["a"]
    assert (reading.exit, reading.out, reading.err) == (0, "a\n", "")


def sudos() -> set[str]:
    """The process ids of every sudo that lets one of our shells in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if words[0] == b"sudo" and any(w.endswith(b"-ask") for w in words):
                found.add(path.parent.name)
    return found


def test_nothing_of_a_read_stays_when_the_connection_goes(world: World, user: User) -> None:
    """sudo stops itself with its child, so it has to be woken when the child is ended."""
    daemon, before = world.sshd(), sudos()
    hosts = world.hosts()
    mark = world.folder / "reading"

    def read() -> None:
        with contextlib.suppress(Unreachable):
            script = f": >{mark}; i=0; while [ $i -lt 300 ]; do sleep 1; i=$((i+1)); done"
            hosts.reader(as_user(world, daemon, user)).read([Read("a", script, timeout=300)])

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    wait_for(mark.exists)
    ours = sudos() - before
    assert ours
    daemon.stop()
    wait_for(lambda: not ours & sudos(), 15)
    hosts.close()
    thread.join(30)
