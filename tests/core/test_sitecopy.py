"""The journal's copy on the site, its scripts run by a real `sh`; and taking it up elsewhere."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook import handover, lock, sitecopy
from runbook.audit import audit, compare
from runbook.errors import Interrupted, LinkLost, StateRefuses
from runbook.handover import SiteJournal, take_up, told
from runbook.journal import Head, Journal, head_file
from runbook.lock import Holder, SiteLock
from runbook.model import Event, Read, Reading
from runbook.recorder import Recorder
from runbook.sitecopy import Claim, SiteCopy, head_script, parse_head
from tests.core.estate import Scripted

ME = Holder("alice", "laptop", "run: ca", "run1", "/a", "token1")


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy's file on "the site"."""
    root = tmp_path / "var"
    monkeypatch.setattr(lock, "ROOT", str(root))
    monkeypatch.setattr(lock, "FOLDER", str(root / "lock"))
    monkeypatch.setattr(lock, "_SHOW", lock._SHOW.replace("/var/lib/pmrunbook", str(root)))
    monkeypatch.setattr(sitecopy, "FOLDER", str(root / "site"))
    monkeypatch.setattr(sitecopy, "FILE", str(root / "site" / "journal.jsonl"))
    return root / "site" / "journal.jsonl"


class Host:
    """The lock's host, which is this machine; its link may be down."""

    def __init__(self) -> None:
        self.down = False
        self.asked = 0

    def now(self, script: str, timeout: float = 30.0) -> Reading:
        if self.down:
            raise LinkLost("the link is down")
        self.asked += 1
        done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
        return Reading(done.returncode, done.stdout, done.stderr)

    def read(self, asked: Read) -> Reading:
        return self.now(asked.script)

    def run(self, *_: object) -> Any: ...

    lend = look = run


def started(run: str = "run1", who: str = "alice@laptop", at: float = 1.0) -> Event:
    data = {"run": run, "mode": "run", "operator": who, "steps": {}, "hosts": []}
    return Event("run_started", at, data=data)


def some(number: int, kind: str = "message", **data: object) -> Event:
    return Event(kind, float(number), "step", "h", f"do/h/{number}", {"n": number, **data})


def action(number: int) -> Event:
    return some(number, "start", job=f"j{number}", action={"title": "it's it", "opens": None})


class Desk:
    """An operator at a machine of their own: a journal, a lock, a copy."""

    def __init__(self, folder: Path, host: Host, holder: Holder = ME) -> None:
        self.journal = Journal(folder)
        self.host = host
        self.said: list[str] = []
        self.copy = SiteCopy(lambda: host, self.journal, holder.token, self.said.append)
        lock_ = SiteLock(lambda: host, "ca", holder, self.said.append)
        self.claim = Claim(lock_, self.copy)

    def write(self, *events: Event) -> None:
        for event in events:
            self.journal.append(event)

    def take_up(self, wanted: Callable[[SiteJournal], bool] = lambda _: True) -> bool:
        return take_up(self.journal, self.host.read, wanted, self.said.append)

    def leave(self) -> None:
        self.claim.release()
        self.journal.close()


def test_what_was_written_is_on_the_site_with_the_last_record_when_the_lock_is_given_back(
    tmp_path: Path, there: Path
) -> None:
    desk = Desk(tmp_path / "a", Host())
    desk.write(started(), some(2))
    desk.claim.take()
    assert there.read_bytes() == desk.journal.path.read_bytes()
    assert there.stat().st_mode & 0o777 == 0o600
    desk.write(some(3), some(4, "run_ended", exit=0))
    desk.leave()
    assert there.read_bytes() == desk.journal.path.read_bytes()
    assert not (there.parent.parent / "lock").exists()


def test_a_start_is_on_the_site_before_the_host_hears_of_it(tmp_path: Path, there: Path) -> None:
    desk = Desk(tmp_path / "a", Host())
    desk.write(started())
    desk.claim.take()
    recorder = Recorder(Scripted(), desk.journal)
    recorder.copy = desk.copy
    asked = desk.host.asked
    recorder.emit("start", "step", "h", "x", job="j", action={"title": "it's it", "opens": None})
    assert there.read_bytes() == desk.journal.path.read_bytes()
    assert desk.host.asked == asked + 1  # all that came before it travels with it
    recorder.emit("asked", "step", title="q")
    recorder.emit("answered", "step", title="q")
    recorder.emit("start", "step", "h", "y", job="k", action={"title": "y", "opens": None})
    assert desk.host.asked == asked + 2
    desk.leave()


def test_starts_of_many_hosts_share_a_round_trip(tmp_path: Path, there: Path) -> None:
    class Slow(Host):
        def now(self, script: str, timeout: float = 30.0) -> Reading:
            time.sleep(0.1)
            return super().now(script, timeout)

    desk = Desk(tmp_path / "a", Slow())
    desk.write(started())
    desk.claim.take()
    recorder = Recorder(Scripted(), desk.journal)
    recorder.copy = desk.copy
    asked = desk.host.asked

    def start(n: int) -> None:
        about = {"title": "x", "opens": None}
        recorder.emit("start", "step", f"h{n}", f"x{n}", job=f"j{n}", action=about)

    threads = [threading.Thread(target=start, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert there.read_bytes() == desk.journal.path.read_bytes()
    assert desk.host.asked - asked <= 6
    desk.leave()


def test_a_link_that_is_down_is_told_once_and_caught_up_with(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitecopy, "RETRY", 0.05)
    desk = Desk(tmp_path / "a", Host())
    desk.write(started())
    desk.claim.take()
    desk.host.down = True
    desk.write(some(2))
    assert desk.copy.keep(5) is False
    desk.write(some(3))
    assert desk.copy.keep(5) is False
    desk.host.down = False
    desk.write(some(4))
    desk.leave()
    assert there.read_bytes() == desk.journal.path.read_bytes()
    assert len(desk.said) == 1 and "stays behind" in desk.said[0]


@pytest.mark.parametrize("left", [1, 40, 200, 10_000])
def test_what_a_cut_link_left_of_a_batch_is_mended(tmp_path: Path, there: Path, left: int) -> None:
    """The script was ended in the middle, or nobody heard that it was done."""
    desk = Desk(tmp_path / "a", Host())
    desk.write(started())
    desk.claim.take()
    at = desk.journal.head.size
    desk.write(some(2), some(3))
    with there.open("ab") as copy:
        copy.write(desk.journal.since(at)[:left])
    desk.leave()
    assert there.read_bytes() == desk.journal.path.read_bytes()


def test_more_than_fits_a_batch_goes_in_several(
    tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitecopy, "CHUNK", 300)
    monkeypatch.setattr(sitecopy, "PULL", 256)
    desk = Desk(tmp_path / "a", Host())
    desk.write(started(), *(some(n) for n in range(2, 12)), some(12, text="x" * 1000))
    desk.claim.take()
    desk.leave()
    assert there.read_bytes() == desk.journal.path.read_bytes()
    other = Desk(tmp_path / "b", Host())
    assert other.take_up()
    assert other.journal.path.read_bytes() == there.read_bytes()


def test_nobody_writes_without_the_lock(tmp_path: Path, there: Path) -> None:
    desk = Desk(tmp_path / "a", Host())
    told: list[int] = []
    desk.copy._refused = lambda: told.append(1)
    desk.write(started())
    desk.claim.take()
    subprocess.run(["sh"], input=lock.break_script(), text=True, check=True)
    before = there.read_bytes()
    desk.write(some(2))
    assert desk.copy.keep() is False
    assert there.read_bytes() == before
    assert desk.claim.lost and told == [1]


@pytest.mark.parametrize("at", ["", "site"], ids=["root", "site"])
def test_a_copy_is_written_through_no_link(tmp_path: Path, there: Path, at: str) -> None:
    host, journal = Host(), Journal(tmp_path / "a")
    SiteLock(lambda: host, "ca", ME, lambda _: None).take()
    journal.append(some(1))
    folder = there.parents[1] / at
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere) if folder.exists() else elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    done = host.now(sitecopy.push_script(Head(), journal.since(0), ME.token))
    assert done.exit == 1 and "is a symbolic link; refusing" in done.err
    assert sorted(elsewhere.rglob("*")) == before


def test_a_torn_copy_counts_up_to_its_last_whole_record(tmp_path: Path, there: Path) -> None:
    desk = Desk(tmp_path / "a", Host())
    desk.write(started(), some(2))
    desk.claim.take()
    desk.leave()
    head = parse_head(desk.host.now(head_script()))
    assert head and (head.seq, head.size) == (2, len(there.read_bytes()))
    with there.open("ab") as copy:
        copy.write(b'{"hash":"12')
    assert parse_head(desk.host.now(head_script())) == head
    there.unlink()
    assert parse_head(desk.host.now(head_script())) is None


# --- from one machine to another ------------------------------------------------------------------


def test_another_machine_goes_on_and_the_first_one_takes_that_up(
    tmp_path: Path, there: Path
) -> None:
    host = Host()
    alice = Desk(tmp_path / "a", host)
    alice.write(started(), action(2))
    alice.claim.take()
    alice.leave()

    bob = Desk(tmp_path / "b", host, Holder("bob", "desk7", "run: ca", "run2", "/b", "token2"))
    assert bob.take_up()
    assert bob.said[-1].startswith("taken up from the site: 2 records, the run of alice@laptop")
    assert [e.kind for e in bob.journal.events] == ["run_started", "start"]
    bob.write(started("run2", "bob@desk7"), action(4))
    bob.claim.take()
    bob.leave()

    alice = Desk(tmp_path / "a", host)
    assert alice.take_up()
    assert alice.journal.path.read_bytes() == there.read_bytes()
    assert not alice.take_up()  # nothing is new
    alice.leave()
    assert audit(tmp_path / "a" / "journal.jsonl").faults == ()


def test_who_looked_before_another_went_on_is_refused_at_the_lock(tmp_path: Path) -> None:
    host = Host()
    alice, bob = Desk(tmp_path / "a", host), Desk(tmp_path / "b", host, ME)
    alice.take_up()
    bob.write(started("run2", "bob@desk7"), action(2))
    bob.claim.take()
    bob.leave()
    alice.write(started())
    with pytest.raises(StateRefuses, match="another operator changed the site"):
        alice.claim.take()
    # And the lock it had for a moment is free again.
    again = Desk(tmp_path / "c", host)
    again.take_up()
    again.claim.take()
    again.leave()


def test_what_changed_nothing_is_put_aside_for_what_did(tmp_path: Path, there: Path) -> None:
    host = Host()
    bob = Desk(tmp_path / "b", host)
    bob.write(started("run2", "bob@desk7"), action(2))
    bob.claim.take()
    bob.leave()
    alice = Desk(tmp_path / "a", host)
    alice.write(started(), some(2), some(3, "run_ended", exit=0))
    mine = alice.journal.path.read_bytes()
    assert alice.take_up()
    assert alice.journal.path.read_bytes() == there.read_bytes()
    [kept] = (tmp_path / "a").glob("journal.2*.jsonl")
    assert kept.read_bytes() == mine
    assert str(kept) in alice.said[0] and "3 records of this machine" in alice.said[0]
    alice.write(started("run3"))
    alice.claim.take()
    alice.leave()


def test_two_histories_that_both_changed_something_are_never_made_one(tmp_path: Path) -> None:
    host = Host()
    bob = Desk(tmp_path / "b", host)
    bob.write(started("run2", "bob@desk7"), action(2))
    bob.claim.take()
    bob.leave()
    alice = Desk(tmp_path / "a", host)
    alice.write(started(), action(2))
    before = alice.journal.path.read_bytes()
    with pytest.raises(StateRefuses, match="two operators went on from record 0"):
        alice.take_up()
    assert alice.journal.path.read_bytes() == before


def test_nothing_is_taken_up_that_the_operator_does_not_want(tmp_path: Path) -> None:
    host = Host()
    bob = Desk(tmp_path / "b", host)
    bob.write(started("run2", "bob@desk7", time.time() - 720))
    bob.claim.take()
    alice = Desk(tmp_path / "a", host)
    shown: list[str] = []
    with pytest.raises(Interrupted):
        alice.take_up(lambda found: bool(shown.append(told(found))))
    assert shown == ["the run of bob@desk7, 12 min ago"]
    assert alice.journal.events == []
    bob.leave()


def test_a_run_that_still_has_the_lock_is_told_as_at_work(tmp_path: Path) -> None:
    host = Host()
    bob = Desk(tmp_path / "b", host)
    bob.write(started())
    bob.claim.take()
    found = handover.look(host.read)
    assert found and found.at_work and told(found).endswith(", at work")
    beat = Path(lock.FOLDER) / "beat"
    old = time.time() - lock.EXPIRES - 10
    os.utime(beat, (old, old))
    found = handover.look(host.read)
    assert found and not found.at_work
    bob.leave()


def test_a_copy_that_was_tampered_with_is_not_taken_up(tmp_path: Path, there: Path) -> None:
    host = Host()
    bob = Desk(tmp_path / "b", host)
    bob.write(started(), action(2), some(3))
    bob.claim.take()
    bob.leave()
    there.write_bytes(there.read_bytes().replace(b"it's it", b"it's me"))
    alice = Desk(tmp_path / "a", host)
    with pytest.raises(StateRefuses, match="broken at its record 2"):
        alice.take_up()
    assert alice.journal.events == []


# --- the site's copy as a witness -----------------------------------------------------------------


def test_the_site_tells_a_history_that_was_made_anew(tmp_path: Path, there: Path) -> None:
    host = Host()
    alice = Desk(tmp_path / "a", host)
    alice.write(started(), action(2), some(3))
    alice.claim.take()
    alice.leave()
    forged = Journal(tmp_path / "forged")
    for event in (started(), some(2, "message"), some(3)):
        forged.append(event)
    forged.close()
    here = audit(forged.path)
    assert here.faults == ()  # its own hashes fit
    found = handover.look(host.read)
    assert found
    faults, _ = compare(here.records, found.records, "alice@laptop")
    assert faults == ["record 2 is another than on the site (start there, message here)"]


def test_the_site_tells_what_is_gone_from_the_end_from_who_went_on(tmp_path: Path) -> None:
    host = Host()
    alice = Desk(tmp_path / "a", host)
    alice.write(started(), action(2), some(3))
    alice.claim.take()
    alice.leave()
    found = handover.look(host.read)
    assert found
    path = alice.journal.path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    head_file(path).unlink()  # whoever cut it off took that as well
    here = audit(path)
    assert here.faults == ()
    faults, _ = compare(here.records, found.records, "alice@laptop")
    assert faults == ["record 3 and what follows are gone from the end: the site has 1 record more"]
    later = audit_of(tmp_path / "later", started(), action(2), some(3), started("r", "bob@desk7"))
    assert compare(found.records, later, "alice@laptop") == (
        [],
        "bob@desk7 went on from here: the site has 1 record more",
    )


def audit_of(folder: Path, *events: Event) -> tuple[Any, ...]:
    journal = Journal(folder)
    for event in events:
        journal.append(event)
    journal.close()
    return audit(journal.path).records


def test_a_head_knows_nothing_of_an_empty_copy() -> None:
    assert Head().seq == 0
    assert parse_head(Reading(0, "12\nnot a record\n")) is None
