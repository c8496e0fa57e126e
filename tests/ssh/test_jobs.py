"""Durable jobs against a real sshd: once, whole, and with their true end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from runbook.errors import LinkLost, RunbookError, StateRefuses
from runbook.ports import Job, JobState, Outcome
from runbook.ssh import HostWriter
from runbook.ssh import spool as spool_module
from tests.ssh.conftest import Running, World, wait_for

pytestmark = pytest.mark.ssh


def run(writer: HostWriter, job: Job) -> tuple[Outcome, list[str]]:
    lines: list[str] = []
    return writer.run(job, lines.append, threading.Event()), lines


@pytest.fixture
def spool(world: World) -> Path:
    return world.folder / "spool" / "jobs"


def test_a_job_runs_once_and_is_remembered(world: World, spool: Path) -> None:
    daemon = world.sshd()
    writer = world.hosts().writers().writer(world.host(daemon))
    proof = world.folder / "proof"
    job = Job(
        "scale-ca.1",
        f"echo ran >>{proof}; umask; pwd; echo $DEBIAN_FRONTEND $LANG; echo wrong >&2; cat; exit 3",
        30,
        about="a test's job",
    )
    assert writer.look(job.id).state is JobState.ABSENT
    outcome, lines = run(writer, job)
    assert (outcome.state, outcome.exit) == (JobState.DONE, 3)
    assert lines == ["0022", "/", "noninteractive C.UTF-8", "wrong"]
    assert outcome.tail == "\n".join(lines)

    again, repeated = run(writer, job)
    assert (again.state, again.exit, repeated) == (JobState.DONE, 3, lines)
    assert proof.read_text() == "ran\n"
    looked = writer.look(job.id)
    assert (looked.state, looked.exit, looked.tail.splitlines()) == (JobState.DONE, 3, lines)

    folder = spool / job.id
    assert (folder / "about").read_text() == "a test's job\n"
    assert (folder / "script").read_text() == job.script
    for path in (spool.parent, spool, folder):
        assert path.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}
    assert sorted(p.name for p in spool.iterdir()) == [job.id]


def test_a_job_that_fills_its_own_disk_has_its_true_end_and_its_last_words(
    world: World, spool: Path
) -> None:
    spool.parent.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "full", str(spool.parent)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        writer = world.hosts().writers().writer(world.host(world.sshd()))
        full = f"echo begun; dd if=/dev/zero of={spool.parent}/fill bs=4k 2>/dev/null; "
        job = Job("full", full + "echo 'E: No space left on device' >&2; exit 7", 30)
        outcome, lines = run(writer, job)
        assert (outcome.state, outcome.exit) == (JobState.DONE, 7)
        assert lines == ["begun", "E: No space left on device"]
        with pytest.raises(StateRefuses, match="cannot be written to, 0 KiB are free") as caught:
            run(writer, Job("next", "echo on", 30))
        assert caught.value.hint.endswith("then: pmrunbook --resume")
        assert writer.look("full").exit == 7
        (spool.parent / "fill").unlink()
        assert run(writer, Job("next", "echo on", 30))[1] == ["on"]
        assert run(writer, job)[0].exit == 7
    finally:
        subprocess.run(["umount", "-l", str(spool.parent)], check=True)


def test_a_job_whose_folder_is_gone_leaves_no_process(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    running = Running(writer, Job("gone", "echo on; sleep 2", 30))
    wait_for(lambda: running.lines)
    shutil.rmtree(spool / "gone")
    running.stop.set()
    running.thread.join(60)
    command = f"{spool}/gone/run".encode()

    def left() -> list[Path]:
        found = []
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found += [line] if command in line.read_bytes() else []
        return found

    wait_for(lambda: not left())


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/busybox sh"])
def test_other_shells_do_it_too(world: World, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook.ssh.frame.SHELL", shell)
    for name in ("_SUPERVISOR", "_START"):
        text = getattr(spool_module, name).replace("/bin/sh", shell)
        monkeypatch.setattr(spool_module, name, text)
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    for id, script, timeout, status in (("a", "echo on; exit 3", 30, 3), ("b", "sleep 99", 1, 124)):
        job = Job(id, script, timeout)
        assert [run(writer, job)[0].exit for _ in range(2)] == [status] * 2
        assert writer.look(id).exit == status
    assert writer.now("sleep 99", timeout=0.3).exit == 124


def test_another_script_under_the_same_id_is_refused(world: World) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    run(writer, Job("one", "echo 1", 30))
    with pytest.raises(StateRefuses, match="another script"):
        run(writer, Job("one", "echo 2", 30))


def test_many_attachers_at_once_start_it_once(world: World) -> None:
    daemon = world.sshd()
    proof = world.folder / "proof"
    job = Job("race", f"echo ran >>{proof}; sleep 1; echo end; exit 5", 30)
    hosts = [world.hosts() for _ in range(6)]
    running = [Running(h.writers().writer(world.host(daemon)), job) for h in hosts]
    assert [r.end().exit for r in running] == [5] * 6
    assert all(r.lines == ["end"] for r in running)
    assert proof.read_text() == "ran\n"


def test_a_cut_link_attaches_again_and_gets_the_true_end(world: World) -> None:
    daemon = world.sshd()
    writer = world.hosts().writers().writer(world.host(daemon))
    go, proof = world.folder / "go", world.folder / "proof"
    script = (
        f"echo ran >>{proof}; echo first; until [ -e {go} ]; do sleep 0.05; done; echo last; exit 7"
    )
    running = Running(writer, Job("cut", script, 60))
    for _ in range(3):
        sessions = daemon.sessions()
        wait_for(lambda: "first" in running.lines)
        daemon.cut()
        wait_for(lambda: daemon.sessions() > sessions)  # noqa: B023
    go.touch()
    assert running.end().exit == 7
    assert running.lines == ["first", "last"]
    assert proof.read_text() == "ran\n"


def test_every_cut_has_its_own_patience(world: World) -> None:
    """A silent job: that the host came back counts, not that it printed something."""
    daemon = world.sshd()
    writer = world.hosts(reconnect_for=4.0).writers().writer(world.host(daemon))
    go = world.folder / "go"
    running = Running(writer, Job("silent", f"until [ -e {go} ]; do sleep 0.05; done", 60))
    for _ in range(6):
        sessions = daemon.sessions()
        wait_for(lambda: daemon.sessions() > 0)
        time.sleep(0.8)
        daemon.cut()
        wait_for(lambda: daemon.sessions() > sessions)  # noqa: B023
    go.touch()
    assert running.end().exit == 0


def test_output_is_neither_lost_nor_doubled_by_cuts(world: World) -> None:
    daemon = world.sshd()
    writer = world.hosts().writers().writer(world.host(daemon))
    pause = "[ $((n % 100)) = 0 ] && sleep 0.05"
    script = f"n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); {pause}; done; true"
    running = Running(writer, Job("stream", script, 60))
    for target in (500, 1500):
        wait_for(lambda: len(running.lines) > target)  # noqa: B023
        daemon.cut()
    assert running.end().exit == 0
    assert running.lines == [f"line {n}" for n in range(3000)]


def test_a_host_that_stays_away_is_a_lost_link(world: World) -> None:
    daemon = world.sshd()
    writer = world.hosts(reconnect_for=1.0).writers().writer(world.host(daemon))
    go = world.folder / "go"
    running = Running(writer, Job("away", f"echo on; until [ -e {go} ]; do sleep 0.05; done", 60))
    wait_for(lambda: "on" in running.lines)
    daemon.cut()
    daemon.stop()
    with pytest.raises(LinkLost, match="goes on") as error:
        running.end()
    assert error.value.host == "web1"
    daemon.start()
    assert writer.look("away").state is JobState.RUNNING
    go.touch()
    wait_for(lambda: writer.look("away").state is JobState.DONE)


def test_stop_leaves_the_job_running(world: World) -> None:
    daemon = world.sshd()
    writer = world.hosts().writers().writer(world.host(daemon))
    go = world.folder / "go"
    running = Running(writer, Job("stop", f"echo on; until [ -e {go} ]; do sleep 0.05; done", 60))
    wait_for(lambda: "on" in running.lines)
    running.stop.set()
    with pytest.raises(LinkLost, match="goes on"):
        running.end()
    assert writer.look("stop").state is JobState.RUNNING
    go.touch()
    outcome, lines = run(
        writer, Job("stop", (world.folder / "spool/jobs/stop/script").read_text(), 60)
    )
    assert (outcome.exit, lines) == (0, ["on"])


def supervisor(folder: Path) -> int:
    return int((folder / "start").read_text().split()[0])


def test_a_killed_job_is_lost(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    running = Running(writer, Job("killed", "echo on; exec sleep 1000", 60))
    wait_for(lambda: "on" in running.lines)
    folder = spool / "killed"
    child = int((folder / "child").read_text().split()[0])
    os.kill(supervisor(folder), signal.SIGKILL)
    time.sleep(0.5)
    # its script still runs: not over yet
    assert running.outcome is None
    os.kill(child, signal.SIGKILL)
    outcome = running.end()
    assert outcome.state is JobState.LOST and "killed" in outcome.note
    assert writer.look("killed").state is JobState.LOST
    outcome, _ = run(writer, Job("killed", "echo on; exec sleep 1000", 60))
    assert outcome.state is JobState.LOST  # and not started again


def test_a_script_killed_by_a_signal_has_its_status(world: World) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    outcome, _ = run(writer, Job("signal", "kill -9 $$", 60))
    assert (outcome.state, outcome.exit) == (JobState.DONE, 137)


def test_a_job_from_before_a_reboot_is_lost(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    run(writer, Job("boot", "echo on", 60))
    start, rc = spool / "boot" / "start", spool / "boot" / "rc"
    rc.unlink()
    pid, born, at, _ = start.read_text().split()
    start.write_text(f"{pid} {born} {at} another-boot\n")
    outcome = writer.look("boot")
    assert outcome.state is JobState.LOST and "rebooted" in outcome.note


def test_a_pid_used_again_is_not_the_job(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    run(writer, Job("pid", "echo on", 60))
    start = spool / "pid" / "start"
    (spool / "pid" / "rc").unlink()
    _, born, at, boot = start.read_text().split()
    start.write_text(f"{os.getpid()} {born} {at} {boot}\n")  # lives, but was born at another time
    assert writer.look("pid").state is JobState.LOST


def test_a_claim_without_a_start_is_started_by_the_next(world: World, spool: Path) -> None:
    """The window between the rename and the supervisor's first act."""
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    job = Job("claimed", "echo on; exit 4", 60)
    run(writer, job)
    for name in ("start", "rc", "child", "out"):
        (spool / "claimed" / name).unlink()
    (spool / "claimed" / "out").touch()
    assert writer.look("claimed").state is JobState.ABSENT
    outcome, lines = run(writer, job)
    assert (outcome.exit, lines) == (4, ["on"])


@pytest.mark.parametrize(
    "script", ["echo on; sleep 1000", "trap '' TERM; echo on; while :; do sleep 1; done"]
)
def test_a_timeout_ends_the_whole_group(world: World, spool: Path, script: str) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    outcome, _ = run(writer, Job("slow", script, 1))
    assert (outcome.state, outcome.exit) == (JobState.DONE, 124)
    group = int((spool / "slow" / "child").read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_timeout_ends_a_job_where_nothing_can_be_written_any_more(
    world: World, spool: Path
) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    pid_file = world.folder / "pid"
    # The watch is read from the folder: it has begun half a second after its argument was written.
    watched = f"while [ ! -e {spool}/gone/child ]; do sleep 0.1; done; sleep 0.5"
    script = f"echo $$ >>{pid_file}; {watched}; rm -r {spool}/gone; exec sleep 60"
    outcome, _ = run(writer, Job("gone", script, 3))
    assert (outcome.state, outcome.note) == (
        JobState.LOST,
        "what the spool held of the job is gone",
    )
    pids = pid_file.read_text().split()
    assert len(pids) == 1, "it was started again"

    def ended() -> bool:
        try:
            os.kill(int(pids[0]), 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(ended)


def test_a_job_whose_folder_went_while_the_link_was_cut_is_not_started_again(
    world: World, spool: Path
) -> None:
    daemon = world.sshd()
    writer = world.hosts().writers().writer(world.host(daemon))
    runs = world.folder / "runs"
    running = Running(writer, Job("gone", f"echo ran >>{runs}; echo on; sleep 60", 5))
    wait_for(lambda: "on" in running.lines)
    shutil.move(spool, f"{spool}.away")
    daemon.cut()
    assert running.end().state is JobState.LOST
    assert runs.read_text() == "ran\n"


def test_a_short_job_leaves_no_process(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    run(writer, Job("short", "true", 600))

    def left() -> list[bytes]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found.append(path.read_bytes())
        return [line for line in found if str(spool).encode() in line]

    wait_for(lambda: not left())


def test_a_daemon_started_by_a_job_outlives_it(world: World) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    pid_file = world.folder / "daemon"
    script = f"sleep 60 & echo $! >{pid_file}; echo started"
    outcome, lines = run(writer, Job("daemon", script, 60))
    assert (outcome.exit, lines) == (0, ["started"])
    os.kill(int(pid_file.read_text()), signal.SIGTERM)


def test_a_gigabyte_of_output_stays_small(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    lines = 0
    size = 0

    def count(line: str) -> None:
        nonlocal lines, size
        lines += 1
        size += len(line)

    job = Job("loud", "yes 0123456789 | head -c 1000000000; echo; echo the end; exit 9", 120)
    outcome = writer.run(job, count, threading.Event())
    assert outcome.exit == 9
    assert outcome.tail.endswith("the end")
    assert size < 10_000_000
    kept = (spool / "loud" / "out").stat()
    assert kept.st_size > 1_000_000_000 and kept.st_blocks * 512 < 17_000_000


def test_what_a_job_says_without_end_does_not_fill_the_disk(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    go = world.folder / "go"
    script = (
        f"echo first; (until [ -e {go} ]; do sleep 0.1; done; echo daemon) & n=0; "
        "while [ $n -lt 20 ]; do yes 0123456789abcde | head -c 8388608; n=$((n+1)); sleep 0.2; "
        "done; exit 6"
    )
    running = Running(writer, Job("yes", script, 60))
    out, most = spool / "yes" / "out", 0
    while running.thread.is_alive():
        with contextlib.suppress(FileNotFoundError):
            most = max(most, out.stat().st_blocks * 512)
        time.sleep(0.05)
    assert running.end().exit == 6
    assert running.lines[0] == "first" and running.lines[-1] == "0123456789abcde"
    assert out.stat().st_size > 160_000_000 and most < 100_000_000
    assert out.stat().st_blocks * 512 < 17_000_000
    go.touch()  # what the job left behind still has its output
    wait_for(lambda: out.read_bytes().endswith(b"daemon\n"))


def test_who_comes_late_is_told_the_beginning_and_the_end(world: World, spool: Path) -> None:
    """However much a job has said before anybody looked."""
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    job = Job("late", "echo first; yes 0123456789abcde | head -c 20971520; echo last", 60)
    for _ in range(2):  # the second time all of it is there at the first look
        outcome, lines = run(writer, job)
        assert outcome.exit == 0
        assert lines[0] == "first" and lines[-1] == "last"
        left = [line for line in lines if line.startswith("... ")]
        middle = 6 + 20971520 + 5 - spool_module.MOST - spool_module.END
        assert left == [f"... {middle} bytes of output left out ..."]
        at = lines.index(left[0])
        assert {len(line) for line in (*lines[1 : at - 1], *lines[at + 2 : -1])} == {15}
        cut = sum(len(line) + 1 for line in lines[:at]) - spool_module.MOST
        assert cut in (0, 1)  # a line that was cut got its end


def test_output_is_made_harmless(world: World) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    script = "printf '\\033]0;x\\007\\033[2Jhi\\r50%%\\r100%%\\n'; printf tail"
    _, lines = run(writer, Job("escapes", script, 30))
    assert lines == ["hi", "50%", "100%", "tail"]


@pytest.mark.parametrize("which", ["spool", "jobs"])
@pytest.mark.parametrize("wrong", ["link", "owner"])
def test_a_spool_that_is_not_root_s_own_is_refused(
    world: World, spool: Path, wrong: str, which: str
) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    elsewhere = world.folder / "elsewhere"
    elsewhere.mkdir()
    folder = spool if which == "jobs" else spool.parent
    folder.parent.mkdir(exist_ok=True)
    if wrong == "link":
        folder.symlink_to(elsewhere)
    else:
        folder.mkdir(mode=0o755)
        shutil.chown(folder, "nobody")
    with pytest.raises(StateRefuses, match=f"{folder} is not a directory of root's own") as error:
        run(writer, Job("strange", "echo on", 30))
    assert error.value.hint.endswith("then: pmrunbook --resume")
    assert list(folder.iterdir()) == list(elsewhere.iterdir()) == []
    assert wrong == "link" or folder.stat().st_mode & 0o777 == 0o755  # untouched


def test_a_name_that_leads_elsewhere_is_refused(world: World) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    for name in ("../x", "a/b", "", ".hidden", "a b"):
        with pytest.raises(RunbookError, match="cannot name a job"):
            run(writer, Job(name, "echo on", 30))


def test_now_gives_status_and_output_and_ends_in_time(world: World) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    reading = writer.now("echo out; echo err >&2; exit 2")
    assert (reading.exit, reading.out, reading.err) == (2, "out\n", "err\n")
    assert writer.now("sleep 100", timeout=0.3).exit == 124
    big = "x" * 3_000_000
    assert writer.now(f"v={big}; echo ${{#v}}").out == "3000000\n"


def test_a_script_with_everything_in_it_arrives_as_it_is(world: World, spool: Path) -> None:
    writer = world.hosts().writers().writer(world.host(world.sshd()))
    script = "cat <<'END'\n$HOME `x` \\ 'quoted' \"double\" ü %s\nEND\n"
    _, lines = run(writer, Job("text", script, 30))
    assert lines == ["$HOME `x` \\ 'quoted' \"double\" ü %s"]
