"""Batched reads against a real sshd."""

from __future__ import annotations

import resource
import threading
import time
from pathlib import Path

import pytest

from runbook.errors import RunbookError, Unreachable
from runbook.model import Read, SecretRef
from runbook.ports import Job
from runbook.ssh import frame
from tests.ssh.conftest import User, World, children, wait_for

pytestmark = pytest.mark.ssh


def test_a_hundred_reads_are_one_exec(world: World) -> None:
    daemon = world.sshd()
    reader = world.hosts().reader(world.host(daemon))
    reads = [Read(f"r{n}", f"echo out {n} $shared; echo err {n} >&2; exit {n}") for n in range(100)]
    readings = reader.read(reads, "shared=all")
    assert [readings[f"r{n}"].out for n in range(100)] == [f"out {n} all\n" for n in range(100)]
    assert [readings[f"r{n}"].err for n in range(100)] == [f"err {n}\n" for n in range(100)]
    assert [readings[f"r{n}"].exit for n in range(100)] == list(range(100))
    assert daemon.sessions() == 1
    reader.read(reads[:3])
    assert daemon.sessions() == 2
    assert daemon.logins() == 1


HOSTILE = {
    "exits": ("exit 3", 3),
    "set -e": ("set -eu; false; echo no", 1),
    "syntax": ("if then fi (", 2),
    "open quote": ("echo 'never closed", 2),
    "closes everything": ("exec >&- 2>&- <&-; exit 4", 4),
    "kills itself by signal": ("sh -c 'kill -9 $$'", 137),
    "reads stdin": ("cat; exit 5", 5),
    "redefines": ("printf() { :; }; kill() { :; }; PATH=/none; cd /tmp; exit 6", 6),
    "kills the shell of the batch": ("kill -9 $$; sleep 5", None),
    "traps": ("trap '' EXIT HUP TERM; exit 7", 7),
}


@pytest.mark.parametrize("shell", ["/bin/dash", "/bin/bash", "/bin/busybox"])
def test_hostile_reads_do_not_harm_their_neighbours(
    world: World, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"exec {shell} sh -c" if "busybox" in shell else f"exec {shell} -c"
    monkeypatch.setattr("runbook.ssh.frame.SHELL", text.removeprefix("exec ").removesuffix(" -c"))
    reader = world.hosts().reader(world.host(world.sshd()))
    reads = []
    for name, (script, _) in HOSTILE.items():
        reads += [Read(name, script), Read(f"after {name}", "pwd; echo fine; echo fine >&2")]
    readings = reader.read(reads)
    for name, (_, status) in HOSTILE.items():
        after = readings[f"after {name}"]
        assert (after.exit, after.out, after.err) == (0, "/\nfine\n", "fine\n"), name
        if status is None:
            assert readings[name].exit not in (0, -1) and "ended the shell" in readings[name].err
        else:
            assert readings[name].exit == status, name


def test_the_marks_cannot_be_found_out_by_a_read(world: World) -> None:
    """Everything a read can print of its surroundings, printed: the frame still holds."""
    reader = world.hosts().reader(world.host(world.sshd()))
    spy = "set; env; ps axww; tr '\\0' ' ' </proc/$$/cmdline; tr '\\0' ' ' </proc/$$/environ"
    readings = reader.read([Read("spy", spy), Read("next", "echo fine")])
    assert "-in" in readings["spy"].out  # it saw the mark of the way in, and that is all
    assert readings["spy"].exit == 0
    assert (readings["next"].exit, readings["next"].out) == (0, "fine\n")


def test_output_is_bounded_decoded_and_harmless(world: World) -> None:
    reader = world.hosts().reader(world.host(world.sshd()))
    readings = reader.read(
        [
            Read("cut", "head -c 70000 /dev/zero | tr '\\0' x", limit=1000),
            Read("errors", "head -c 70000 /dev/zero | tr '\\0' e >&2"),
            Read(
                "garbage", "printf '\\377\\000\\033[31mred\\033[0m\\033]0;title\\007 \\302\\233mx'"
            ),
            Read("bidi", "printf 'a\\342\\200\\256b\\r\\nc\\td'"),
            Read("no newline", "printf last"),
        ]
    )
    assert readings["cut"].out == "x" * 1000 and readings["cut"].truncated
    assert readings["cut"].exit == 0
    assert len(readings["errors"].err) == 4096 and not readings["errors"].truncated
    assert readings["garbage"].out == "\ufffdred x"
    assert readings["bidi"].out == "ab\nc\td"
    assert readings["no newline"].out == "last"


def test_a_gigabyte_costs_little(world: World) -> None:
    daemon = world.sshd()
    reader = world.hosts().reader(world.host(daemon))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    readings = reader.read(
        [
            Read("flood", "head -c 1000000000 /dev/zero", limit=5000),
            Read("stderr flood", "head -c 1000000000 /dev/zero >&2"),
            Read("for ever", "while :; do echo y; done"),
            Read("fine", "echo fine"),
        ]
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert readings["fine"].out == "fine\n"
    for name in ("flood", "stderr flood", "for ever"):
        assert readings[name].truncated and readings[name].exit == 141
    assert grown < 20_000  # KiB
    assert daemon.sessions() == 4


def test_four_megabytes_arrive_intact(world: World) -> None:
    reader = world.hosts().reader(world.host(world.sshd()))
    script = "yes 0123456789abcde | head -c 4194304"
    reading = reader.read([Read("big", script, limit=5_000_000)])["big"]
    assert reading.out == "0123456789abcde\n" * 262_144 and not reading.truncated


def test_a_read_that_never_ends_is_ended_on_the_host(world: World, tmp_path: Path) -> None:
    daemon = world.sshd()
    reader = world.hosts().reader(world.host(daemon))
    mark = tmp_path / "pid"
    readings = reader.read(
        [
            Read("hangs", f"echo some; sh -c 'echo $$ >{mark}; sleep 1000; :'", timeout=0.5),
            Read("dribbles", "while :; do echo x; sleep 0.1; done", timeout=0.5),
            Read("fine", "echo fine"),
        ]
    )
    assert (readings["hangs"].exit, readings["hangs"].out) == (124, "some\n")
    assert "0.5 s" in readings["hangs"].err
    assert readings["dribbles"].exit == 124
    assert readings["fine"].ok
    pid = int(mark.read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert children(pid) == []


def test_a_host_that_dribbles_for_ever_is_cut(world: World) -> None:
    reader = world.hosts(patience=4.0).reader(world.host(world.sshd()))
    with pytest.raises(Unreachable, match=r"took too long: [1-9]"):
        reader.read([Read(f"r{n}", "sleep 0.2") for n in range(100)])


def test_a_bad_prelude_is_an_error(world: World) -> None:
    reader = world.hosts().reader(world.host(world.sshd()))
    with pytest.raises(RunbookError, match="prelude"):
        reader.read([Read("a", "echo a")], "if then")
    assert reader.read([Read("a", "false; echo a")], "set -eu; false || :")["a"].out == "a\n"


def test_reads_after_the_connection_died_dial_again(world: World) -> None:
    daemon = world.sshd()
    reader = world.hosts().reader(world.host(daemon))
    assert reader.read([Read("a", "echo 1")])["a"].out == "1\n"
    daemon.cut()
    assert reader.read([Read("a", "echo 2")])["a"].out == "2\n"


def test_fifty_threads_with_a_host_each(world: World) -> None:
    daemon = world.sshd()
    hosts = world.hosts()
    seen: dict[str, str] = {}

    def look(name: str) -> None:
        reader = hosts.reader(world.host(daemon, name))
        seen[name] = reader.read([Read("n", f"echo {name}")])["n"].out

    threads = [threading.Thread(target=look, args=(f"h{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {f"h{n}": f"h{n}\n" for n in range(20)}


def test_a_host_that_cannot_run_sh_says_so(world: World) -> None:
    daemon = world.sshd(extra="ForceCommand /usr/sbin/nologin\n")
    with pytest.raises(Unreachable, match="login shell"):
        world.hosts().reader(world.host(daemon)).read([Read("a", "echo a")])


def at_login(world: World, script: str) -> str:
    """An sshd_config by which every session begins with `script`, as with a ~/.bashrc."""
    file = world.folder / "login"
    file.write_text(f'#!/bin/sh\n{script}\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    file.chmod(0o755)
    return f"ForceCommand {file}\n"


ASKS = "printf 'Your name? '; read -r name"


def test_a_login_that_asks_is_told_at_once(world: World) -> None:
    daemon = world.sshd(extra=at_login(world, ASKS))
    began = time.monotonic()
    with pytest.raises(Unreachable, match="login shell reads the input") as error:
        world.hosts().reader(world.host(daemon)).read([Read("a", "echo a")])
    assert time.monotonic() - began < 20 and "~/.bashrc" in error.value.hint


def test_a_login_that_reads_everything_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "ENTRY_SECONDS", 1.0)
    daemon = world.sshd(extra=at_login(world, "echo 'Who are you?'; cat >/dev/null"))
    with pytest.raises(Unreachable, match="within 1 s; it said: Who are you"):
        world.hosts().reader(world.host(daemon)).read([Read("a", "echo a")])


def test_a_login_that_asks_gets_no_password(
    world: World, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "ENTRY_SECONDS", 1.0)
    daemon = world.sshd(extra=at_login(world, ASKS))
    reference = SecretRef("prompt", "sudo")
    host = world.host(daemon, user=user.name, sudo=True, sudo_password=reference)
    with pytest.raises(Unreachable, match=r"sudo did not let us in .* it said: Your name"):
        world.hosts().reader(host).read([Read("a", "echo a")])
    assert world.asked == []


@pytest.mark.parametrize("password", [False, True], ids=["root", "sudo"])
def test_a_banner_and_a_message_of_the_day_are_passed_over(
    world: World, user: User, password: bool
) -> None:
    banner = world.folder / "banner"
    banner.write_text("\x1b[31mAuthorized use only: [sudo] password for root:\n" * 500)
    motd = "echo 'Welcome! Password:'; echo 'You have mail.' >&2; head -c 20000 /dev/zero"
    daemon = world.sshd(extra=f"Banner {banner}\n" + at_login(world, motd))
    host = world.host(daemon)
    if password:
        reference = SecretRef("prompt", "sudo")
        host = world.host(daemon, user=user.name, sudo=True, sudo_password=reference)
    hosts = world.hosts()
    reading = hosts.reader(host).read([Read("a", "echo a; echo b >&2; exit 3")])["a"]
    assert (reading.exit, reading.out, reading.err) == (3, "a\n", "b\n")
    lines: list[str] = []
    job = Job("motd", "echo a; exit 4", 30)
    assert hosts.writers().writer(host).run(job, lines.append, threading.Event()).exit == 4
    assert lines == ["a"]


def test_nobody_answers(world: World) -> None:
    daemon = world.sshd()
    daemon.stop()
    said = rf"no connection to [^\s:]+ port {daemon.port}: Connection refused$"
    with pytest.raises(Unreachable, match=said) as error:
        world.hosts().reader(world.host(daemon)).read([Read("a", "echo a")])
    assert error.value.host == "web1" and "ssh -v" in error.value.hint
