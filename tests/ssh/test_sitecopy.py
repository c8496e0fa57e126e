"""The journal's copy, over a real sshd: megabytes there and back, and a link that is cut."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from runbook import lock, sitecopy
from runbook.handover import take_up
from runbook.journal import Journal
from runbook.lock import Holder, SiteLock
from runbook.model import Event, Read, Reading
from runbook.sitecopy import Claim, SiteCopy
from tests.ssh.conftest import World

pytestmark = pytest.mark.ssh

ME = Holder("alice", "laptop", "run: ca", "run1", "/a", "token1")


def started(number: int) -> dict[str, object]:
    return {"job": f"j{number}", "action": {"title": "it's it", "opens": None}}


@pytest.fixture(autouse=True)
def there(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = world.folder / "var"
    monkeypatch.setattr(lock, "ROOT", str(root))
    monkeypatch.setattr(lock, "FOLDER", str(root / "lock"))
    monkeypatch.setattr(lock, "_SHOW", lock._SHOW.replace("/var/lib/pmrunbook", str(root)))
    monkeypatch.setattr(sitecopy, "FOLDER", str(root / "site"))
    monkeypatch.setattr(sitecopy, "FILE", str(root / "site" / "journal.jsonl"))
    return root / "site" / "journal.jsonl"


def test_megabytes_travel_there_and_back_and_a_start_costs_one_round_trip(
    world: World, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 600)  # a heartbeat between would be counted as a round trip
    daemon = world.sshd()
    hosts, host = world.hosts(), world.host(daemon)
    writer = hosts.writers().writer(host)
    journal = Journal(tmp_path / "a")
    for n in range(60):
        diff = f"+ it's 'quoted' \\ and $(not run) `at all` {n}\n" * 2000
        journal.append(Event("planned", float(n), "ca", data={"diff": diff}))
    assert journal.head.size > 5_000_000
    said: list[str] = []
    copy = SiteCopy(lambda: writer, journal, ME.token, said.append)
    claim = Claim(SiteLock(lambda: writer, "ca", ME, said.append), copy)
    began = time.monotonic()
    claim.take()
    took = time.monotonic() - began
    assert there.read_bytes() == journal.path.read_bytes()

    began = time.monotonic()
    for _ in range(20):
        writer.now(":")
    bare = (time.monotonic() - began) / 20
    sessions, began = daemon.sessions(), time.monotonic()
    for n in range(20):
        journal.append(Event("start", float(n), "ca", "h", f"x{n}", started(n)))
        assert copy.keep()
    each = (time.monotonic() - began) / 20
    assert daemon.sessions() - sessions == 20
    size = journal.head.size / 1e6
    print(f"{size:.1f} MB in {took:.2f} s, a start {each:.3f} s, anything at all {bare:.3f} s")
    claim.release()
    assert said == []

    other = Journal(tmp_path / "b")
    reader = world.hosts().reader(host)

    def read(asked: Read) -> Reading:
        return reader.read((asked,))[asked.id]

    assert take_up(other, read, lambda found: True, said.append)
    assert other.path.read_bytes() == journal.path.read_bytes()


def test_a_link_that_is_cut_again_and_again_loses_and_doubles_nothing(
    world: World, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitecopy, "RETRY", 0.1)
    daemon = world.sshd()
    hosts = world.hosts()
    writer = hosts.writers().writer(world.host(daemon))
    journal = Journal(tmp_path / "a")
    said: list[str] = []
    copy = SiteCopy(lambda: writer, journal, ME.token, said.append)
    claim = Claim(SiteLock(lambda: writer, "ca", ME, said.append), copy)
    claim.take()
    over = threading.Event()

    def cut() -> None:
        while not over.wait(0.15):
            daemon.cut()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        for n in range(60):
            journal.append(Event("start", float(n), "ca", "h", f"x{n}", {"text": "x" * 20_000}))
            copy.keep(1.0)
    finally:
        over.set()
        thread.join()
    time.sleep(0.3)
    claim.release()
    assert there.read_bytes() == journal.path.read_bytes()
    assert not copy.lost
