"""A walk: through a chapter from its first START to its end, and every action meets a fault.

It is healed, resumed, and the walk goes on to the next: so one walk takes every action once, and
each further one meets it with a fault that it did not meet yet. What was run is kept in
docs/reference/faults.jsonl, and the page beside it is made from that.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from runbook import __version__
from runbook.cli import NETNS
from runbook.errors import Exit
from runbook.lab.lab import Lab
from runbook.model import Event
from tests.lab.conftest import HERE, ROOT, SPOOL, Seat, booted, installed, must, narrate, picture
from tests.lab.fault_kinds import FAULTS, HOLD, Fault, Scene
from tests.lab.faults_page import Cell, add, load, page
from tests.lab.test_compilers import OF_THE_SYSTEM

PAGE = ROOT / "docs" / "reference" / "faults.md"
RESULTS = PAGE.with_suffix(".jsonl")
PATIENCE = 900.0  # seconds after which a process that says nothing hangs
RESUMES = 4
"""Times a run is resumed before it is given up; more than once is a failure all the same."""
EARLY = ("before START", "after START")
LASTING = ("cut-60", "cut", "suspend")  # not the real thing at another pace
MADE_ANEW = re.compile(r"/ssl/|/ca/|/id_ed25519(\.pub)?$|/puppetdb/conf\.d/database\.ini$")
"""Certificates, keys, and what holds a generated password: no two runs make the same."""
OF_THE_CA = re.compile(r"/puppetserver/ca/(serial\d+tmp|infra_serials)$")
ONLY_ASKS = re.compile(r"/(ask|try|mark)$")
"""Actions that change nothing: a question, HAProxy's look at a file, where a log stands now."""
AGAIN = "to be done again, says the operator"
TRIAL = re.compile(r"(prove|enrol|drill|exchange|refresh|refused)[-/]")
SIDE_BY_SIDE = 20.0  # seconds that hosts at work side by side may come after each other


@dataclass(frozen=True)
class Chapter:
    """A step, the estate it is walked on, and what is done there before."""

    title: str
    suffix: str
    estate: str
    before: tuple[str, ...] = ()
    measuring: tuple[str, ...] = ()  # stages that change nothing: they may be done again
    runbook: str = "scaling"
    sections: Mapping[str, Any] = field(default_factory=dict)  # of the inventory, beside the lab's

    def seat(self, lab: Lab, state: Path) -> Seat:
        """An operator of this chapter."""
        file = state / "inventory.yaml"
        data = yaml.safe_load(lab.inventory.read_text()) | self.sections
        file.write_text(yaml.safe_dump(data))
        return Seat(lab, state, installed(lab.folder), file, self.runbook)


CHAPTERS = {
    "ca": Chapter("Central CA", "ca", "ca.yaml", measuring=("existing",)),
    "compilers": Chapter("Compile masters", "cm", "compilers.yaml", ("ca",)),
    "puppetdb": Chapter("PuppetDB and reports", "pdb", "puppetdb.yaml", ("ca", "compilers")),
    "code": Chapter(
        "Code in sync",
        "code",
        "sync.yaml",
        runbook="code-alone",
        sections={"code": {"strategy": "rsync", "every": 20}, "rollout": {"canary": 2}},
    ),
    "cutover": Chapter(
        "Load balancing",
        "lb",
        "balance.yaml",
        measuring=("look", "spread", "drill-run", "drill-back"),
        runbook="balance-alone",
    ),
}


def typed(lab: Lab, chapter: str) -> tuple[str, ...]:
    """The service's name, which the cut-over takes of an operator, also if it is gone on with."""
    return ("--cut-over", lab.estate.agents_server) if chapter == "cutover" else ()


def asked(lab: Lab, chapter: str) -> tuple[str, ...]:
    """What an operator types for a chapter."""
    return ("--step", chapter, *typed(lab, chapter))


@dataclass(frozen=True)
class Place:
    """Where a held process stands; it goes on when told to."""

    line: socket.socket
    at: Mapping[str, str]

    def go(self) -> None:
        self.line.close()


class Held:
    """pmrunbook as an operator starts it, in a process that stops at every boundary."""

    def __init__(
        self, seat: Seat, log: Path, *args: str, answer: str = "", pace: float = 1
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="held-"))  # short: sockets have short names
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._folder / "door"))
        self._door.listen()
        self._come: queue.Queue[Place | None] = queue.Queue()
        self._over = False
        self.parked: deque[Place] = deque()
        self.log = log
        more = {"HELD": str(self._folder / "door"), "HELD_ANSWER": answer, "HELD_PACE": str(pace)}
        command = [sys.executable, "-m", "tests.lab.held", "--plain", "--yes", *args]
        command += ["--runbook", seat.runbook, "-i", str(seat.inventory)]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                seat.lab.seat(command),
                env={**seat.environ(), NETNS: seat.lab.network.name, **more},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        for work in (self._listen, self._wait):
            threading.Thread(target=work, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._door.accept()
                if said := line.makefile().readline():
                    self._come.put(Place(line, json.loads(said)))

    def _wait(self) -> None:
        self.process.wait()
        self._come.put(None)
        # Who waits at the door leaves: a wait that is begun again would be at the next one's door.
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        shutil.rmtree(self._folder)

    def last_word(self) -> str:
        """How it says that it ended."""
        said = self.log.read_text(errors="replace")
        return "; ".join(x.strip() for x in said.rpartition("\n== ")[2].split("\n") if x)[:300]

    def crashed(self) -> bool:
        said = self.log.read_text(errors="replace")
        return "Traceback" in said or "a bug in pmrunbook" in said

    def next(self, patience: float = PATIENCE) -> Place | None:
        """The next place it stops at; None: it has ended. queue.Empty when it is silent."""
        if self.parked:
            return self.parked.popleft()
        place = None if self._over else self._come.get(timeout=patience)
        self._over = place is None
        return place

    def until(
        self, action: str, *whens: str, go: bool = False, over: Callable[[], bool] | None = None
    ) -> Place | None:
        """Where it stops for this action; None: it ended.

        What is about to begin elsewhere waits meanwhile, unless it may `go`. With `over` this
        action need not come again: None then, too, once others are about to begin and it is over,
        or does not come in the time that lies between hosts at work side by side.
        """
        aside: list[Place] = []
        try:
            while place := self.next(SIDE_BY_SIDE if aside and over else PATIENCE):
                if place.at["action"] == action and place.at["when"] in whens:
                    return place
                if go or place.at["action"] == action or place.at["when"] != "before START":
                    place.go()
                    continue
                aside.append(place)
                if over and over():
                    return None
        except queue.Empty:
            if not aside or not over:
                raise
        finally:
            self.parked.extend(aside)
        return None


class Walk:
    """One walk on a lab that is as it was made.

    `choose` says which fault a row's action meets, before each of its STARTs; `pace`: how long all
    lasts that waits for links, the cuts as well as what is to bear them.
    """

    def __init__(
        self,
        seat: Seat,
        chapter: str,
        choose: Callable[[str, int], Fault | None],
        pace: float = 1.0,
    ) -> None:
        self.seat, self.lab, self.chapter = seat, seat.lab, chapter
        self.about = CHAPTERS[chapter]
        self.cells: list[Cell] = []
        self._choose, self._pace = choose, pace
        self._logs = seat.state.parent / f"{seat.state.name}-logs"
        self._logs.mkdir()
        self._started = 0
        roles = {role: h.name for h in self.lab.estate.hosts for role in h.roles}
        self._ca, self._dns = roles["server"], roles["nameserver"]

    def run(self) -> list[Cell]:
        """All cells of the walk; a chapter's end that is not that of an unbroken run fails them."""
        for host in self.lab.estate.hosts:
            must(self.lab.execute(host.name, HOLD))
            self.lab.skew_clock(host.name, 0)  # right; and it can jump under what runs
        for step in self.about.before:
            must(self.seat.pmrunbook("--plain", "--yes", "--step", step))
        process, more = self._start(*asked(self.lab, self.chapter)), 0
        while True:
            while place := process.next():
                process = self._meet(process, place)
            if not (code := process.process.wait()) or more == RESUMES:
                break
            more += 1
            self.cells[-1].fail(f"later the run ended with {code}: {process.last_word()}")
            process = self._resume("retry")
        self._judge(code)
        shutil.copytree(self.seat.state, self._logs / "state")
        return self.cells

    def _judge(self, code: int) -> None:
        """What only the end of the walk can tell."""
        for host in self.lab.estate.hosts:
            self.lab.right_clock(host.name)
        halves, debts = self._halves(), self.seat.pmrunbook("debts").stdout.strip()
        verify = self.seat.pmrunbook("verify", "--plain", "--step", self.chapter)
        wrong = {
            f"the last run ended with {code}": code,
            f"half-written: {' '.join(halves)}": halves,
            f"debts: {debts}": debts != "none",
            f"verify: {verify.stdout[-500:]}": verify.returncode,
        }
        trouble = "; ".join(text for text, bad in wrong.items() if bad)
        for cell in self.cells:
            cell.doubled = self._doubled(cell)
            if cell.doubled:
                cell.fail("the action was done twice")
            if trouble:
                cell.fail(f"at the end of its walk: {trouble}")
        self.cells[-1].halves, self.cells[-1].debts = len(halves), int(debts != "none")

    # --- one cell ---------------------------------------------------------------------------------

    def _start(self, *args: str, answer: str = "") -> Held:
        self._started += 1
        log = self._logs / f"{self._started:02}.log"
        return Held(self.seat, log, *args, answer=answer, pace=self._pace)

    def _resume(self, answer: str) -> Held:
        return self._start("--resume", *typed(self.lab, self.chapter), answer=answer)

    def _meet(self, process: Held, place: Place) -> Held:
        """A cell, if it is one's turn here; the process that goes on."""
        at, began = place.at, time.monotonic()
        host, row = self._row(at["action"], at["host"])
        met = sum(cell.action == at["action"] for cell in self.cells)
        fault = self._choose(row, met) if at["when"] == "before START" else None
        if fault is None:
            place.go()
            return process
        cell = Cell(self.chapter, row, at["action"], host, fault.id, version=__version__)
        self.cells.append(cell)
        pid, past = process.process.pid, len(self.seat.events())
        where = (host, at["file"], at["job"], self._ca, self._dns)
        scene = Scene(self.lab, self.seat.state, pid, *where, self._pace)
        try:
            self._hit(process, place, fault, scene)
            # One that it leaves for lasts until it has: this action may be done by then.
            whens = () if fault.leaves else ("after END",)
            last = process.until(cell.action, *whens, go=fault.leaves)
        except queue.Empty:
            cell.fail("it hangs")
            process.process.kill()
            process.process.wait()
            last = None
        finally:
            fault.heal(scene)
        process = self._until_over(process, last, cell, fault.leaves)
        decided = [e for e in self.seat.events()[past:] if e.kind == "answered"]
        if cell.outcome == "passed" and any(e.data["key"] == "retry" for e in decided):
            cell.outcome = "unknown"
        cell.seconds = round(time.monotonic() - began)
        narrate(f"{row}: {fault.title}: {cell.outcome} {cell.exits} {cell.seconds} s {cell.note}")
        return process

    def _row(self, action: str, where: str) -> tuple[str, str]:
        """The host an action is on, and its row: the action, and what kind of host that is."""
        host = where.partition(".")[0] or self._dns
        role = next(iter(self.lab.estate.host(host).roles), "bare machine")
        words = [word for word in action.split("/") if word.partition(".")[0] != host]
        return host, f"{'/'.join(words)} on {role}"

    def known(self) -> list[Cell]:
        """A cell without a fault for each action that was started: what there is to be met."""
        started = {
            (e.action, e.host): None
            for e in self.seat.events()
            if e.kind == "start" and e.step == self.chapter
        }
        rows = [(action, *self._row(action, host)) for action, host in started]
        return [Cell(self.chapter, row, a, host, "", outcome="") for a, host, row in rows]

    def _hit(self, process: Held, place: Place, fault: Fault, scene: Scene) -> None:
        """Lead the action to where its fault is due, and give it that."""
        in_job = fault.when == "job" and place.at["kind"] not in ("DnsChange", "Human")
        when = "after START" if fault.when == "job" else fault.when
        if in_job:
            scene.on(scene.host, "touch /run/held")
        if when != "before START":
            place.go()
            if (found := process.until(place.at["action"], when)) is None:
                return
            place = found
        if in_job:
            place.go()
            began = f"[ -e {SPOOL}/{scene.job}/start ]"
            scene.on(
                scene.host, f"for i in $(seq 600); do {began} && exit; sleep 0.1; done; exit 1"
            )
        fault.hit(scene)
        if in_job:
            scene.lift()
        place.go()

    def _until_over(self, process: Held, last: Place | None, cell: Cell, leaves: bool) -> Held:
        """Go on, or resume, until the action is done or due again; the process that goes on."""
        answer = ""
        while True:
            while last and last.at["when"] == "after END":
                last.go()
                if last.at["status"] == "ok":
                    return process
                # What it does now is to end in order: no other action's turn.
                last = process.until(cell.action, "before START", "after END", go=True)
            if last:
                process.parked.appendleft(last)  # due again: the next fault's turn
                return process
            if process.process.poll() is None:
                return process  # others go on
            code = process.process.wait()
            cell.exits.append(code)
            if process.crashed():
                cell.fail("a traceback")
            if code == 0:
                if leaves and len(cell.exits) == 1:
                    cell.fail("it did not end before its work did")
                return process
            if len(cell.exits) > RESUMES:
                cell.fail(f"resumed {RESUMES} times, it ends with {code}: {process.last_word()}")
                return process
            if len(cell.exits) > 1 and code == Exit.UNKNOWN:
                answer, cell.note = "retry", process.last_word()
            elif len(cell.exits) > 1:
                cell.fail(f"--resume ended with {code}: {process.last_word()}")
            process = self._resume(answer)
            last = process.until(
                cell.action, "before START", "after END", over=lambda: self._over(cell)
            )

    def _over(self, cell: Cell) -> bool:
        ends = [e for e in self.seat.events() if e.action == cell.action and e.kind == "end"]
        return bool(ends) and ends[-1].data["status"] == "ok"

    # --- what is left -----------------------------------------------------------------------------

    def _doubled(self, cell: Cell) -> int:
        """How often the action was done too often, by the jobs on its host."""
        if ONLY_ASKS.search(cell.action) or cell.action.split("/")[0] in self.about.measuring:
            return 0
        rounds = due(self.seat.events(), cell.action)
        done = 0
        for jobs in rounds:
            look = f"for j in {' '.join(jobs)}; do cut -d' ' -f1 {SPOOL}/$j/rc 2>/dev/null; done; :"
            done = max(done, must(self.lab.execute(cell.host, look)).split().count("0"))
        return max(0, done - 1)

    def _halves(self) -> list[str]:
        find = (
            "find /etc /opt /srv /usr/local /var/lib /var/cache -xdev "
            "-name '.pmrunbook.??????' -o -path '*/jobs/.new.*' -prune 2>/dev/null; :"
        )
        hosts = [host.name for host in self.lab.estate.hosts]
        return [f"{h}:{x}" for h in hosts for x in must(self.lab.execute(h, find)).split()]


def due(events: Iterable[Event], action: str) -> list[list[str]]:
    """The jobs of an action, by how often it was due: once in each, whatever goes wrong.

    What was taken back is due anew, what was opened anew is to be closed again, and so is all of a
    trial that another one broke off, or that an operator had done again.
    """
    rounds: list[list[str]] = [[]]
    debts: dict[str, set[str]] = {}
    own: set[str] = set()
    trial = TRIAL.match(action)
    for event in events:
        touched: set[str] = set()
        if event.kind == "start":
            started = event.data["action"]
            opens = started["opens"]["id"] if started["opens"] else ""
            debts[event.action] = {opens, started["repays"]} - {""}
            if event.action == action:
                rounds[-1].append(event.data["job"])
                own |= debts[event.action]
        elif event.kind == "debt_repaid":
            touched = {str(event.data["id"])}
        elif event.kind == "end" and (event.data["status"] == "ok" or event.data["note"] == AGAIN):
            touched = debts.get(event.action, set())
        if touched and ((event.action != action and touched & own) or trial):
            rounds.append([])
    return rounds


RUNNING = """dpkg-query -W -f 'package:${Package} ${Version} ${db:Status-Status}\n'
systemctl list-unit-files --no-legend --no-pager | sed '/transient/d; s/^/unit:/'
systemctl list-units --no-legend --plain --no-pager --state=active --type=service,timer |
    awk '/puppet|postgres|haproxy|named|ssh|cron|pmrunbook/ {print "active:" $1, $4}'
"""
"""What is installed, what starts with the host, and which services of the site are at work."""


def likeness(lab: Lab) -> dict[str, dict[str, str]]:
    """The estate as far as two runs have to leave the same: of keys and certificates the names."""
    found = {}
    for host in lab.estate.hosts:
        seen = picture(lab, host.name, "/etc", "/var/lib/puppet/ssl")
        found[host.name] = {
            path: what.partition(" ")[0] if MADE_ANEW.search(path) else what
            for path, what in seen.items()
            if not OF_THE_SYSTEM.match(path)
        }
        for line in must(lab.execute(host.name, RUNNING)).splitlines():
            name, _, what = line.partition(" ")
            found[host.name][name] = what
        if {"nameserver", "secondary"} & set(host.roles):
            found[host.name]["the zone"] = _zone(lab, host.name)
    return found


def _zone(lab: Lab, host: str) -> str:
    """Every record a name server has, but the serial number that counts the changes."""
    ask = f"dig +noall +answer -k /etc/bind/tsig.key @127.0.0.1 {lab.estate.domain} AXFR"
    lines = [" ".join(line.split()) for line in must(lab.execute(host, ask)).splitlines()]
    assert len(lines) > 3, lines
    return "\n".join(sorted(line for line in lines if " SOA " not in line))


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [
        f"{host}:{path}"
        for host in one
        for path in sorted(one[host].keys() | other[host].keys())
        if one[host].get(path) != other[host].get(path)
    ]


def blame(cells: Sequence[Cell], differ: Sequence[str]) -> None:
    """Fail the cells that a difference to an unbroken run is of: all, where no single one is known.

    What Puppet Server itself leaves of a file of its CA that it could not write is the full disk's.
    """
    for path in differ:
        host = path.partition(":")[0]
        full = [cell for cell in cells if cell.fault == "target-full" and cell.host == host]
        for cell in full if full and OF_THE_CA.search(path) else cells:
            cell.fail(f"not as after an unbroken run: {path}")


@contextlib.contextmanager
def seated(lab: Lab, folder: Path, chapter: str) -> Iterator[Seat]:
    """An operator whose state is on a small disk of its own."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "pmrunbook", folder], check=True)
    try:
        yield CHAPTERS[chapter].seat(lab, folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def missing(chapter: str, shift: int, most: int) -> Callable[[str, int], Fault | None]:
    """For each action the next faults that its row did not meet in any walk yet.

    `most` of them at once: an action that is still to be done after one meets the next. So those
    come first that hit before its job began; and before all others those that failed last time.
    """
    past = [cell for cell in load(RESULTS) if cell.chapter == chapter]
    failed = {(cell.row, cell.fault) for cell in past if cell.outcome == "failed"}
    met = {(cell.row, cell.fault) for cell in past} - failed
    turn = itertools.count(shift)

    def choose(row: str, met_now: int) -> Fault | None:
        if met_now == most:
            return None
        first = next(turn) % len(FAULTS)
        turned = sorted(
            (*FAULTS[first:], *FAULTS[:first]),
            key=lambda f: ((row, f.id) not in failed, f.when not in EARLY),
        )
        fault = next((f for f in turned if (row, f.id) not in met), None)
        if fault:
            met.add((row, fault.id))
        return fault

    return choose


def write() -> None:
    PAGE.write_text(page(load(RESULTS), FAULTS, {k: c.title for k, c in CHAPTERS.items()}))


def walks(
    name: str, shifts: Sequence[int], most: int, pace: float, folder: Path
) -> Iterator[list[Cell]]:
    """The cells of each walk through a chapter."""
    about = CHAPTERS[name]
    with contextlib.contextmanager(booted)(about.suffix, HERE / "estates" / about.estate) as lab:
        known = lab.folder / f"unbroken-{name}.json"
        if not known.exists():
            (folder / "unbroken").mkdir()
            seat = about.seat(lab, folder / "unbroken")
            for step in (*about.before, name):
                must(seat.pmrunbook("--plain", "--yes", *asked(lab, step)))
            known.write_text(json.dumps(likeness(lab)))
        for n, shift in enumerate(shifts):
            if n or (folder / "unbroken").exists():
                lab.reset(narrate)
            with seated(lab, folder / f"{name}-{n}", name) as seat:
                walk = Walk(seat, name, missing(name, shift, most), pace)
                try:
                    walk.run()
                except Exception as broke:  # noqa: BLE001 - hours of cells are not lost: they did not pass
                    narrate(traceback.format_exc())
                    wrong = f"its walk broke off: {broke!r}"
                    for cell in walk.cells:
                        cell.fail(wrong)
                else:
                    blame(walk.cells, differences(json.loads(known.read_text()), likeness(lab)))
                yield [*walk.cells, *walk.known()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chapter", choices=CHAPTERS, help="not all of them")
    parser.add_argument("--shift", type=int, nargs="+", default=[0], help="a walk with each")
    parser.add_argument("--most", type=int, default=6, help="faults of one action in one walk")
    parser.add_argument("--pace", type=float, default=1.0, help="less: cuts are short, not kept")
    parser.add_argument("--write", action="store_true", help="keep the results, make the page")
    args = parser.parse_args()
    failed = 0
    folder = Path(tempfile.mkdtemp(prefix="faults-"))  # it stays: it tells what failed, and how
    narrate(f"what is said meanwhile is in {folder}")
    for name in [args.chapter] if args.chapter else CHAPTERS:
        for cells in walks(name, args.shift, args.most, args.pace, folder):
            failed += sum(cell.outcome == "failed" for cell in cells)
            if args.write:
                rows = {(cell.chapter, cell.row) for cell in load(RESULTS)}
                news = [c for c in cells if c.fault or (c.chapter, c.row) not in rows]
                add(RESULTS, [c for c in news if args.pace == 1 or c.fault not in LASTING])
                write()
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
