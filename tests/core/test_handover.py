"""Two operators at machines of their own, one site: whole commands, hosts in memory.

The site's lock and journal are files here, kept by the real scripts.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import runbook.ssh
from runbook import handover, lock, locking, mission, sitecopy
from runbook.errors import Exit, RunbookError, Unreachable, UsageError
from runbook.journal import Journal, head_file, site_folder
from runbook.journal import read as read_journal
from runbook.lock import Holder
from runbook.mission import Mission
from runbook.model import (
    Check,
    Event,
    Facts,
    Host,
    Read,
    Reading,
    Runbook,
    Site,
    Step,
    Verdict,
    plain,
)
from runbook.ports import JobState, Outcome, Question, Reply
from runbook.state import fold
from tests.core.estate import DEBT, NAMES, ROLL, FakeHost, Fleet, Scripted, holds, setting, site

HERE = replace(site(*NAMES), digest="i" * 64)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is /var/lib/pmrunbook on the lock's host."""
    root = tmp_path / "var"
    monkeypatch.setattr(lock, "ROOT", str(root))
    monkeypatch.setattr(lock, "FOLDER", str(root / "lock"))
    monkeypatch.setattr(lock, "_SHOW", lock._SHOW.replace("/var/lib/pmrunbook", str(root)))
    monkeypatch.setattr(sitecopy, "FOLDER", str(root / "site"))
    monkeypatch.setattr(sitecopy, "FILE", str(root / "site" / "journal.jsonl"))
    return root


class CaHost(FakeHost):
    """The lock's host: what is asked of the lock and the copy is done by a real `sh`."""

    def read(self, reads: Sequence[Read], prelude: str = "") -> Mapping[str, Reading]:
        if self.down:
            raise Unreachable("does not answer", host="h1")
        if reads[0].id in ("site-journal-head", "site-journal", "lock"):
            return {r.id: self.now(r.script) for r in reads}
        return super().read(reads, prelude)

    def now(self, script: str, timeout: float = 30.0) -> Reading:
        done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)
        return Reading(done.returncode, done.stdout, done.stderr)


class Machine:
    """An operator's own machine: its state, who they are, and commands typed there."""

    def __init__(self, home: Path, who: str, estate: Fleet, *steps: Step) -> None:
        self.home, self.who, self.estate = home, who, estate
        self.book = Runbook("own", "Own", steps, digest="r" * 64)

    @contextmanager
    def sat_at(self) -> Iterator[None]:
        estate = self.estate

        class Hosts:
            def __init__(self, site: Site, *_: object) -> None: ...

            def reader(self, host: Host) -> FakeHost:
                return estate.hosts[host.name]

            def writers(self) -> Fleet:
                return estate

            def close(self) -> None: ...

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(self.home))
            patch.setattr(mission, "operator", lambda: self.who)
            patch.setattr(runbook.ssh, "Hosts", Hosts)
            yield

    def types(self, mode: str, *answers: str, **more: Any) -> tuple[int, Scripted]:
        face = more.pop("face", None)
        face = Scripted(*answers) if face is None else face
        with self.sat_at():
            return Mission(HERE, self.book, mode, **more).run(face), face

    @property
    def journal(self) -> Path:
        with self.sat_at():
            return site_folder(HERE.name) / "journal.jsonl"


@pytest.fixture
def estate() -> Fleet:
    fleet = Fleet(*NAMES)
    fleet.hosts["h1"] = CaHost()
    return fleet


@pytest.fixture
def two(tmp_path: Path, estate: Fleet) -> Callable[..., tuple[Machine, Machine]]:
    def at(*steps: Step) -> tuple[Machine, Machine]:
        return (
            Machine(tmp_path / "a", "alice@laptop", estate, *steps),
            Machine(tmp_path / "b", "bob@desk7", estate, *steps),
        )

    return at


def why(face: Scripted) -> str:
    ended = [e for e in face.events if e.kind == "run_ended"][-1]
    return f"{ended.data['why']} | {ended.data['hint']}"


def failing(estate: Fleet, name: str) -> None:
    """Every job there fails; `del` of its `_do` mends it."""
    estate.hosts[name]._do = lambda command: Outcome(JobState.DONE, 1, "no")  # type: ignore[method-assign]


Two = Callable[..., tuple[Machine, Machine]]


def test_a_run_that_broke_on_one_machine_is_gone_on_with_from_another(
    estate: Fleet, two: Two, root: Path
) -> None:
    alice, bob = two(ROLL)
    failing(estate, "h3")
    code, _ = alice.types("run", "approve", "quit")
    assert code == Exit.FAILED
    ran = {name: list(h.ran) for name, h in estate.hosts.items()}
    del estate.hosts["h3"]._do

    code, face = bob.types("resume", "take")
    assert code == Exit.DONE, why(face)
    ask = face.asked[0]
    assert ask.kind == "handover"
    assert ask.title == "the run of alice@laptop, 0 min ago, is on h1"
    assert [q.kind for q in face.asked] == ["handover"]  # what was approved there is approved
    assert [h.values.get("a") for h in estate.hosts.values()] == ["1"] * 4
    again = {name: h.ran[len(ran[name]) :] for name, h in estate.hosts.items()}
    assert again == {"h1": [], "h2": [], "h3": ["set a 1"], "h4": ["set a 1"]}

    # Alice's machine knows it, too, as soon as she types anything, and asks for nothing again.
    code, face = alice.types("run")
    assert (code, face.asked) == (Exit.DONE, [])
    kinds = [(e.kind, e.data.get("operator")) for e in read_journal(alice.journal)[0]]
    assert ("run_started", "bob@desk7") in kinds
    assert not (root / "lock").exists()


def test_a_run_that_is_at_work_on_one_machine_is_not_gone_on_with_from_another(
    estate: Fleet, two: Two
) -> None:
    """It is the same run, and the same name: that makes it nobody's to take."""
    alice, bob = two(ROLL)
    codes: list[int] = []

    class Meanwhile(Scripted):
        def ask(self, question: Question) -> Reply:
            if not codes:
                codes.append(bob.types("resume", "take")[0])
            return super().ask(question)

    code, _ = alice.types("run", face=Meanwhile())
    assert (code, codes) == (Exit.DONE, [Exit.LOCKED])
    assert [h.ran for h in estate.hosts.values()] == [["set a 1"]] * 4


def test_who_starts_a_run_while_another_is_in_the_middle_of_one_is_told_whose(
    estate: Fleet, two: Two
) -> None:
    """Not that it left something unknown: what is at work is none of that."""
    alice, bob = two(ROLL)
    said: list[tuple[int, str]] = []
    doing = estate.hosts["h2"]._do

    def meanwhile(command: str) -> Outcome:
        code, face = bob.types("run")
        said.append((code, why(face)))
        return doing(command)

    estate.hosts["h2"]._do = meanwhile  # type: ignore[method-assign]
    code, _ = alice.types("run", "approve")
    assert code == Exit.DONE
    assert said[0][0] == Exit.LOCKED
    assert "the site is locked by alice on laptop" in said[0][1]


@pytest.mark.parametrize("begun", [False, True])
def test_a_start_the_site_was_not_told_of_is_looked_for_on_its_host(
    estate: Fleet, two: Two, begun: bool
) -> None:
    """The process died between its own disk and the site, or the link was down."""
    alice, bob = two(ROLL)
    alice.types("run", "quit")
    run = next(e for e in read_journal(alice.journal)[0] if e.kind == "run_started").data["run"]
    action = setting("all", "h2", "a", "1")
    with alice.sat_at():
        journal = Journal(site_folder(HERE.name))
        about = {"job": f"{run}-77", "action": plain(action)}
        journal.append(Event("start", 1.0, "roll", "h2", action.id, about))
        journal.close()
    if begun:
        estate.hosts["h2"].jobs[f"{run}-77"] = Outcome(JobState.DONE, 0)
    assert bob.types("resume", "take", "approve")[0] == Exit.DONE
    code, face = alice.types("run")
    assert code == (Exit.REFUSED if begun else Exit.DONE)
    said = why(face) if begun else str([e.data for e in face.events if e.kind == "message"])
    assert ("two operators went on" if begun else "which changed nothing, are in") in said


def test_what_is_not_wanted_stays_where_it_is(estate: Fleet, two: Two) -> None:
    alice, bob = two(ROLL)
    alice.types("run")
    code, face = bob.types("resume", "no")
    assert code == Exit.INTERRUPTED
    assert "status --from-site" in why(face)
    assert read_journal(bob.journal)[0] == []


def test_the_end_of_a_run_is_on_the_site_before_the_lock_is_free(
    estate: Fleet, two: Two, root: Path
) -> None:
    alice, _ = two(ROLL)
    seen: list[bool] = []

    class Watch(Scripted):
        def show(self, event: Event) -> None:
            super().show(event)
            if event.kind == "run_ended":
                seen.append((root / "lock").exists())

    code, _ = alice.types("run", face=Watch())
    assert code == Exit.DONE
    assert seen == [True]
    assert not (root / "lock").exists()
    assert (root / "site" / "journal.jsonl").read_bytes() == alice.journal.read_bytes()


def test_the_lock_is_held_through_verification_and_repayment(
    estate: Fleet, two: Two, root: Path
) -> None:
    def judge(facts: Facts) -> Verdict:
        held.append((root / "lock").exists())
        return Verdict(True, "")

    check = Check("held", "held", judge, (("h1", Read("check", "get a")),))
    held: list[bool] = []
    step = replace(DEBT, stages=DEBT.stages[:1], checks=lambda site, facts: (check,))
    alice, _ = two(step)

    class Watch(Scripted):
        def show(self, event: Event) -> None:
            super().show(event)
            if event.kind == "debt_repaid":
                held.append((root / "lock").exists())

    one = replace(HERE, hosts=HERE.hosts[:1])
    with alice.sat_at():
        code = Mission(one, alice.book, "run").run(Watch())
    assert code == Exit.DONE
    assert held == [True, True]
    assert not (root / "lock").exists()


def test_a_debt_somebody_else_left_is_found_and_keeps_a_run_from_ending_well(
    estate: Fleet, two: Two
) -> None:
    one = replace(HERE, hosts=HERE.hosts[:1])
    alice, bob = two(replace(DEBT, stages=DEBT.stages[:1]))
    host = estate.hosts["h1"]
    do = host._do

    def stuck(command: str) -> Outcome:
        return Outcome(JobState.DONE, 1, "stuck") if command == "set open 0" else do(command)

    host._do = stuck  # type: ignore[method-assign]
    with alice.sat_at():
        face = Scripted()
        assert Mission(one, alice.book, "run").run(face) == Exit.FAILED
    assert "1 debt still open | pmrunbook debts --repay" in why(face)

    with bob.sat_at():
        face = Scripted()
        assert Mission(one, bob.book, "run").run(face) == Exit.REFUSED
        assert "1 open debt" in why(face)
        # Planned afresh there is nothing to do, and the debt is still not forgotten.
        face = Scripted()
        assert Mission(one, bob.book, "run", new=True).run(face) == Exit.FAILED
        assert "1 debt still open" in why(face)
        del host._do
        face = Scripted()
        assert Mission(one, bob.book, "repay").run(face) == Exit.DONE
    assert host.values["open"] == "0"
    with alice.sat_at():
        assert Mission(one, alice.book, "repay").run(Scripted()) == Exit.DONE
    assert len([c for c in host.ran if c == "set open 0"]) == 3


def test_a_host_left_out_stays_so_after_debts_were_repaid(estate: Fleet, two: Two) -> None:
    alice, _ = two(ROLL)
    failing(estate, "h3")
    alice.types("run", "approve", "exclude:broken disk")
    assert alice.types("repay")[0] == Exit.DONE
    del estate.hosts["h3"]._do
    code, face = alice.types("resume")
    assert code == Exit.DONE
    assert "1 host left out" in why(face)
    assert face.asked == []
    assert estate.hosts["h3"].values == {}


def test_an_undo_goes_to_the_hosts_that_the_run_left_out_too(estate: Fleet, two: Two) -> None:
    alice, _ = two(ROLL)
    alice.types("run", "approve")
    estate.hosts["h3"].values["a"] = "2"
    failing(estate, "h3")
    alice.types("run", "approve", "exclude:broken disk")
    del estate.hosts["h3"]._do
    assert alice.types("undo", "approve", steps=("roll",))[0] == Exit.DONE
    assert [h.values for h in estate.hosts.values()] == [{}] * 4
    assert fold(read_journal(alice.journal)[0]).excluded == {}


def test_an_undo_that_left_something_does_not_end_well(estate: Fleet, two: Two) -> None:
    alice, _ = two(ROLL)
    alice.types("run")
    failing(estate, "h2")
    code, face = alice.types("undo", "approve", "exclude:broken disk", steps=("roll",))
    assert code == Exit.FAILED
    assert why(face) == "1 action not taken back | pmrunbook undo roll"
    code, face = alice.types("undo", "approve", "exclude:x", steps=("roll",), down_to=True)
    assert why(face) == "1 action not taken back | pmrunbook undo --to roll"
    del estate.hosts["h2"]._do
    code, face = alice.types("undo", steps=("roll",))
    assert (code, why(face)) == (Exit.DONE, "taken back | ")
    assert estate.hosts["h2"].values == {}


def test_an_undo_whose_outcome_is_unknown_says_so(estate: Fleet, two: Two) -> None:
    def silent(job_id: str) -> Outcome:
        raise Unreachable("does not answer", host="h2")

    alice, _ = two(ROLL)
    alice.types("run")
    estate.hosts["h2"].lost_link = True
    estate.hosts["h2"].look = silent  # type: ignore[method-assign]
    code, face = alice.types("undo", "approve", "quit", steps=("roll",))
    assert code == Exit.UNKNOWN
    assert why(face).endswith("| look at the host, then: pmrunbook undo roll")
    code, face = alice.types("undo", "exclude:away", "approve", steps=("roll",))
    assert code == Exit.UNKNOWN
    assert why(face) == "1 action not taken back; 1 outcome unknown | pmrunbook undo roll"
    assert estate.hosts["h2"].ran == ["set a 1", "drop a"]


def test_an_undo_does_not_end_well_while_a_debt_is_open(estate: Fleet, two: Two) -> None:
    one = replace(HERE, hosts=HERE.hosts[:1])
    alice, _ = two(ROLL, replace(DEBT, stages=DEBT.stages[:1]))
    host = estate.hosts["h1"]
    do, stuck = host._do, Outcome(JobState.DONE, 1, "stuck")
    host._do = lambda c: stuck if c == "set open 0" else do(c)  # type: ignore[method-assign]
    with alice.sat_at():
        assert Mission(one, alice.book, "run").run(Scripted()) == Exit.FAILED
        face = Scripted()
        assert Mission(one, alice.book, "undo", steps=("roll",)).run(face) == Exit.FAILED
    assert why(face) == "taken back; 1 debt still open | pmrunbook debts --repay"
    assert host.values == {"open": "1"}


def test_readers_ask_nobody_for_the_lock_and_write_nothing(
    estate: Fleet, two: Two, root: Path
) -> None:
    alice, bob = two(replace(ROLL, checks=holds("a", "1")))
    alice.types("run")
    before = sorted(p.name for p in root.rglob("*"))
    (root / "lock").mkdir()
    (root / "lock" / "holder").write_text('{"who": "carol", "run": "other"}')
    for mode in ("verify", "dry-run"):
        code, face = bob.types(mode)
        assert code == Exit.DONE, why(face)
    assert not bob.journal.exists()
    code, face = bob.types("resume", "take")
    assert code == Exit.LOCKED
    assert "carol" in why(face)
    (root / "lock" / "holder").unlink()
    (root / "lock").rmdir()
    assert sorted(p.name for p in root.rglob("*")) == before


def test_a_lock_lost_in_between_starts_nothing_at_all_more(
    estate: Fleet, two: Two, root: Path
) -> None:
    alice, _ = two(ROLL)

    class Breaker(Scripted):
        def ask(self, question: Question) -> Reply:
            subprocess.run(["sh"], input=lock.break_script(), text=True, check=True)
            return super().ask(question)

    code, face = alice.types("run", face=Breaker())
    assert code == Exit.INTERRUPTED
    said = [e.data["text"] for e in face.events if e.kind == "message"]
    assert "somebody broke our lock: stopping" in said
    # Not even the first: the site was told of it before it began, and did not take it.
    assert all(host.ran == [] for host in estate.hosts.values())


def test_a_site_that_does_not_answer_is_the_runs_to_tell(estate: Fleet, two: Two) -> None:
    alice, _ = two(ROLL)
    estate.hosts["h1"].down = True
    code, face = alice.types("run", "quit")
    assert code == Exit.UNREACHABLE
    assert [q.kind for q in face.asked] == ["failure"]


def test_a_job_of_another_machine_is_never_taken_for_ours(
    estate: Fleet, two: Two, root: Path
) -> None:
    """Its start did not reach the site: the machine died while the link was down."""
    alice, bob = two(ROLL)
    code, _ = alice.types("run", "quit")
    first = next(e for e in read_journal(alice.journal)[0] if e.kind == "run_started")
    # Whatever number comes next there: a job of that run and number ended well, doing other things.
    for number in range(200):
        estate.hosts["h2"].jobs[f"{first.data['run']}-{number}"] = Outcome(JobState.DONE, 0)
    code, face = bob.types("resume", "take", "approve")
    assert code == Exit.DONE, why(face)
    assert estate.hosts["h2"].values == {"a": "1"}


def test_a_journal_cut_off_is_not_gone_on_with(estate: Fleet, two: Two) -> None:
    alice, _ = two(ROLL)
    alice.types("run")
    lines = alice.journal.read_bytes().splitlines(keepends=True)
    alice.journal.write_bytes(b"".join(lines[:-3]))
    code, face = alice.types("resume")
    assert code == Exit.REFUSED
    assert "verify journal" in why(face)
    # The site has it whole.
    head_file(alice.journal).unlink()
    code, face = alice.types("run")
    assert code == Exit.DONE
    assert Journal(alice.journal.parent).events[: len(lines)][-1].kind == "run_ended"


# --- the lock, as a command -----------------------------------------------------------------------


def broken(machine: Machine, reason: str) -> int:
    with machine.sat_at(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(locking, "Hosts", runbook.ssh.Hosts)
        patch.setattr(locking, "ROOT", str(Path(lock.FOLDER).parent))
        patch.setattr(locking, "load_runbook", lambda name: machine.book)
        patch.setattr(locking, "operator", lambda: machine.who)
        args = Namespace(what="break", reason=reason, runbook="own")
        return locking.command(args, HERE)


def test_a_lock_is_broken_for_a_reason_that_both_sides_keep(
    two: Two, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, bob = two(ROLL)
    carol = Holder("carol", "desk1", "run: ca", "run9", "/c", "token9")
    subprocess.run(["sh"], input=lock.take_script(carol), text=True, check=True)
    with pytest.raises(UsageError, match="needs a reason"):
        broken(bob, "  ")
    assert (root / "lock").exists()
    assert broken(bob, "carol went home") == Exit.DONE
    assert not (root / "lock").exists()
    [line] = (root / "lock-broken.jsonl").read_text().splitlines()
    there = json.loads(line)
    [here] = [e for e in read_journal(bob.journal)[0] if e.kind == "lock_broken"]
    assert there == here.data
    assert (there["by"], there["reason"]) == ("bob@desk7", "carol went home")
    assert there["held_by"].startswith("carol on desk1")
    capsys.readouterr()
    assert broken(bob, "again") == Exit.DONE
    assert capsys.readouterr().out == "h1: not locked\n"
    assert len((root / "lock-broken.jsonl").read_text().splitlines()) == 1


def test_no_lock_is_broken_through_a_link(two: Two, root: Path, tmp_path: Path) -> None:
    _, bob = two(ROLL)
    carol = Holder("carol", "desk1", "run: ca", "run9", "/c", "token9")
    subprocess.run(["sh"], input=lock.take_script(carol), text=True, check=True)
    elsewhere = root.rename(tmp_path / "elsewhere")
    root.symlink_to(elsewhere)
    with pytest.raises(RunbookError, match="symbolic link; refusing"):
        broken(bob, "carol went home")
    assert [path.name for path in elsewhere.iterdir()] == ["lock"]


def test_who_was_broken_in_upon_finds_it_in_the_sites_journal_too(
    estate: Fleet, two: Two, root: Path
) -> None:
    """The breaker's next run takes their word for it there."""
    alice, bob = two(ROLL)
    alice.types("run")
    bob.types("run")
    carol = Holder("carol", "desk1", "run: ca", "run9", "/c", "token9")
    subprocess.run(["sh"], input=lock.take_script(carol), text=True, check=True)
    assert broken(bob, "carol went home") == Exit.DONE
    estate.hosts["h3"].values.clear()
    assert bob.types("run")[0] == Exit.DONE
    alice.types("run")
    assert "lock_broken" in {e.kind for e in read_journal(alice.journal)[0]}


def test_a_crashed_holders_lock_is_taken_by_another_machine_once_it_expired(
    estate: Fleet, two: Two, root: Path
) -> None:
    _, bob = two(ROLL)
    carol = Holder("carol", "desk1", "run: ca", "run9", "/c", "token9")
    subprocess.run(["sh"], input=lock.take_script(carol), text=True, check=True)
    old = time.time() - lock.EXPIRES + 30
    os.utime(root / "lock" / "beat", (old, old))
    assert bob.types("run")[0] == Exit.LOCKED
    old -= 60
    os.utime(root / "lock" / "beat", (old, old))
    assert bob.types("run", new=True)[0] == Exit.DONE


def test_an_undo_is_shown_on_any_machine(estate: Fleet, two: Two) -> None:
    alice, bob = two(ROLL)
    alice.types("run")
    code, face = bob.types("undo-dry-run", steps=("roll",))
    assert code == Exit.DONE
    [planned] = [e for e in face.events if e.kind == "planned"]
    assert len(planned.data["actions"]) == 4
    assert not bob.journal.exists()
    code, face = bob.types("undo", "approve", steps=("roll",))
    assert code == Exit.DONE, why(face)
    assert all("a" not in host.values for host in estate.hosts.values())


def verified(machine: Machine, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    with machine.sat_at():
        code = handover.verify_journal(HERE, "h1", machine.who)
    return code, capsys.readouterr().out


@pytest.mark.parametrize("harm", ["none", "cut", "forge", "no copy"])
def test_verify_journal_holds_a_machines_journal_against_the_sites(
    estate: Fleet, two: Two, root: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, _ = two(ROLL)
    alice.types("run")
    lines = alice.journal.read_bytes().splitlines(keepends=True)
    match harm:
        case "cut":
            alice.journal.write_bytes(b"".join(lines[:-2]))
            head_file(alice.journal).unlink()
        case "forge":
            alice.journal.unlink()
            head_file(alice.journal).unlink()
            forged = Journal(alice.journal.parent)
            for line in lines:
                record = json.loads(line)["record"]
                text = "nobody" if record["kind"] == "approved" else record.get("step", "")
                forged.append(Event(record["kind"], record["at"], text, data=record["data"]))
            forged.close()
        case "no copy":
            (root / "site" / "journal.jsonl").unlink()
    code, out = verified(alice, capsys)
    assert code == (Exit.DONE if harm == "none" else Exit.FAILED)
    assert {
        "none": "the site has",
        "cut": "gone from the end: the site has 2 records more",
        "forge": "is another than on the site",
        "no copy": "unknown  not compared: h1 has no copy",
    }[harm] in out
    assert f"passed   {len(lines) - 2 * (harm == 'cut')} records, none changed" in out


@pytest.mark.parametrize("left", ["a run", "nothing"])
def test_verify_journal_misses_the_runs_of_whoever_types_here(
    estate: Fleet, two: Two, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is cut where a run ends looks like a machine that was away meanwhile."""
    alice, bob = two(ROLL)
    alice.types("run")
    whole = alice.journal.read_bytes()
    estate.hosts["h3"].values.clear()
    bob.types("run", "approve")
    code, out = verified(alice, capsys)
    assert (code, "bob@desk7 went on from here" in out) == (Exit.DONE, True)
    estate.hosts["h3"].values.clear()
    alice.types("run", "approve")
    if left == "nothing":
        alice.journal.unlink()
    else:
        alice.journal.write_bytes(whole)
    head_file(alice.journal).unlink()
    code, out = verified(alice, capsys)
    assert code == Exit.FAILED
    assert "what follows are gone from the end: the site has" in out
    assert "alice@laptop wrote some of them" in out
    assert ("journal.head is gone" in out) == (left == "a run")


def test_verify_journal_knows_what_another_wrote_beside_a_run(
    estate: Fleet, two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, bob = two(ROLL)
    alice.types("run")
    estate.hosts["h3"].values.clear()
    bob.types("run", "approve")
    for file in (alice.journal, head_file(alice.journal)):  # taken up
        file.write_bytes((bob.journal.parent / file.name).read_bytes())
    with bob.sat_at():
        Mission(HERE, bob.book, "run").include("h3")
    estate.hosts["h3"].values.clear()
    bob.types("run", "approve")
    code, out = verified(alice, capsys)
    assert (code, "bob@desk7 went on from here" in out) == (Exit.DONE, True)


def test_verify_journal_tells_that_its_head_was_removed(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    """The site has all of it; what it was not told of, nobody knows."""
    alice, _ = two(ROLL)
    alice.types("run")
    head_file(alice.journal).unlink()
    code, out = verified(alice, capsys)
    assert code == Exit.FAILED
    assert "unknown  journal.head is gone" in out
    alice.types("run")
    assert verified(alice, capsys)[0] == Exit.DONE
