"""The lock's scripts, run by a real `sh`."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from runbook import lock
from runbook.errors import Locked
from runbook.lock import Holder, SiteLock
from runbook.model import Reading
from runbook.ports import Writer


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "var" / "lock"
    monkeypatch.setattr(lock, "FOLDER", str(folder))
    monkeypatch.setattr(lock, "ROOT", str(tmp_path / "var"))
    monkeypatch.setattr(lock, "_SHOW", lock._SHOW.replace("/var/lib/pmrunbook/lock", str(folder)))
    return folder


def sh(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)


ME = Holder("me", "here", 'run: it\'s "me"', "run1", "/home/me", "token1")
YOU = Holder("you", "there", "run: ca", "run2", "/home/you", "token2")


def test_who_comes_second_is_told_who_came_first() -> None:
    assert sh(lock.take_script(ME)).returncode == 0
    second = sh(lock.take_script(YOU))
    assert second.returncode == 17
    holder = lock.parse(second.stdout)
    assert holder
    assert (holder.who, holder.where, holder.why, holder.run) == (
        "me",
        "here",
        'run: it\'s "me"',
        "run1",
    )
    assert holder.since.endswith("Z")


def test_only_the_holder_gives_it_back(root: Path) -> None:
    sh(lock.take_script(ME))
    sh(lock.release_script("token2"))
    assert root.exists()
    sh(lock.release_script("token1"))
    assert not root.exists()
    assert lock.parse(sh(lock.status_script()).stdout) is None


def test_the_same_process_takes_it_again_when_nobody_heard_that_it_did() -> None:
    assert sh(lock.take_script(ME)).returncode == 0
    assert sh(lock.take_script(ME)).returncode == 0


def test_a_disk_that_takes_nothing_is_nobodys_lock(root: Path) -> None:
    """As when it is full, or read-only: said in its own words, and nothing is left half there."""
    root.parent.symlink_to("/dev/full")
    done = sh(lock.take_script(ME))
    assert done.returncode == 1 and "var" in done.stderr
    root.parent.unlink()
    nowhere = lock.take_script(ME).replace(str(root), "/dev/null/lock")
    done = sh(nowhere)
    assert done.returncode == 1 and "Not a directory" in done.stderr
    unwritten = lock.take_script(ME).replace(f">{root}/beat", ">/dev/full/beat")
    assert sh(unwritten).returncode == 1
    assert not root.exists()


def foreign(folder: Path, elsewhere: Path, kind: str) -> None:
    """`folder` as a link to another one, or as a folder of another user."""
    if kind == "link":
        elsewhere.mkdir()
        folder.symlink_to(elsewhere)
    elif os.geteuid() == 0:
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    else:
        pytest.skip("only root gives a folder away")


@pytest.mark.parametrize("kind", ["link", "owner"])
def test_a_root_that_is_not_roots_own_has_no_lock(root: Path, tmp_path: Path, kind: str) -> None:
    foreign(root.parent, tmp_path / "elsewhere", kind)
    done = sh(lock.take_script(ME))
    assert done.returncode == 1
    assert "symbolic link" in done.stderr or "is not root's" in done.stderr
    assert not root.exists()


def test_a_root_that_is_open_is_closed(root: Path) -> None:
    root.parent.mkdir()
    root.parent.chmod(0o755)
    assert sh(lock.take_script(ME)).returncode == 0
    assert root.parent.stat().st_mode & 0o777 == 0o700


class Local:
    """A writer on this machine."""

    def now(self, script: str, timeout: float = 30.0) -> Reading:
        done = sh(script)
        return Reading(done.returncode, done.stdout, done.stderr)


def test_the_lock_of_who_had_this_journal_open_is_taken_over() -> None:
    def take() -> None:
        lock_ = SiteLock(lambda: cast("Writer", Local()), "ca", ME, lambda _: None)
        try:
            lock_.take()
        finally:
            lock_.release()

    # It is dead: this process has the journal open that it had. Whatever run it was.
    dead = replace(ME, run="run0", token="token0")
    sh(lock.take_script(dead))
    take()
    assert lock.parse(sh(lock.status_script()).stdout) is None
    # The same run at another machine, by another user, or with another state may be alive.
    for alive in (
        replace(dead, run="run1", where="elsewhere"),
        replace(dead, run="run1", who="you"),
        replace(dead, run="run1", state="/home/me/other"),
        replace(dead, run="run1", state="", token=""),
    ):
        sh(lock.take_script(alive))
        with pytest.raises(Locked):
            take()
        sh(lock.break_script())


def test_a_lock_without_a_heartbeat_expires(root: Path) -> None:
    sh(lock.take_script(ME))
    old = time.time() - lock.EXPIRES - 10
    os.utime(root / "beat", (old, old))
    shown = lock.parse(sh(lock.status_script()).stdout)
    assert shown and shown.age > lock.EXPIRES
    assert sh(lock.take_script(YOU)).returncode == 0
    now = lock.parse(sh(lock.status_script()).stdout)
    assert now and now.who == "you"


def test_of_many_at_once_one_gets_it() -> None:
    holders = [Holder(f"u{n}", "h", "why", "run", "s", f"token-{n}") for n in range(8)]
    running = [
        subprocess.Popen(["sh", "-c", lock.take_script(h)], stdout=subprocess.DEVNULL)
        for h in holders
    ]
    assert sorted(p.wait() for p in running) == [0] + [17] * 7


def test_a_heartbeat_that_finds_somebody_else_says_so_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)

    class Host:
        """Runs the scripts here."""

        def now(self, script: str, timeout: float = 30.0) -> Reading:
            done = sh(script)
            return Reading(done.returncode, done.stdout, done.stderr)

    told = threading.Event()
    held = lock.SiteLock(Host, "ca", ME, lambda host: told.set())  # type: ignore[arg-type,return-value]
    held.take()
    before = (root / "beat").stat().st_mtime_ns
    time.sleep(0.1)
    assert (root / "beat").stat().st_mtime_ns > before
    assert not told.is_set()
    sh(lock.break_script())
    assert told.wait(10)
    assert held.lost
    assert sh(lock.take_script(YOU)).returncode == 0
    held.release()  # what is somebody else's stays
    assert lock.parse(sh(lock.status_script()).stdout).who == "you"  # type: ignore[union-attr]
