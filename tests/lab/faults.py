"""A walk: through a chapter from its first START to its end, and every action meets a fault.

The k-th action meets fault number k + shift, is healed and resumed, and the walk goes on to the
next: so one walk takes every action once, and as many walks as there are faults take all cells.
What was run is kept in docs/reference/faults.jsonl, and the page beside it is made from that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook import __version__
from runbook.cli import NETNS
from runbook.lab.lab import Lab
from tests.lab.conftest import HERE, ROOT, SPOOL, Seat, booted, must, narrate, picture
from tests.lab.fault_kinds import FAULTS, HOLD, Fault, Scene
from tests.lab.faults_page import Cell, Column, add, load, page

PAGE = ROOT / "docs" / "reference" / "faults.md"
RESULTS = PAGE.with_suffix(".jsonl")
PATIENCE = 900.0  # seconds after which a process that says nothing hangs
SIDE_BY_SIDE = 20.0  # seconds that hosts at work side by side may come after each other


@dataclass(frozen=True)
class Chapter:
    """A step, the estate it is walked on, and what is done there before."""

    title: str
    suffix: str
    estate: str
    before: tuple[str, ...] = ()
    measuring: tuple[str, ...] = ()  # stages that change nothing: they may be done again


CHAPTERS = {
    "ca": Chapter("Central CA", "ca", "ca.yaml"),
    "compilers": Chapter("Compile masters", "cm", "compilers.yaml", ("ca",)),
    "puppetdb": Chapter("PuppetDB and reports", "pdb", "puppetdb.yaml", ("ca", "compilers")),
    "code": Chapter("Code in sync", "code", "sync.yaml", ("ca", "compilers")),
    "balancer": Chapter(
        "Load balancing", "lb", "balance.yaml", ("ca", "compilers"), ("look", "spread")
    ),
}


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
        self._door.close()
        shutil.rmtree(self._folder)

    def next(self, patience: float = PATIENCE) -> Place | None:
        """The next place it stops at; None: it has ended. queue.Empty when it is silent."""
        return self.parked.popleft() if self.parked else self._come.get(timeout=patience)

    def until(self, action: str, *whens: str, over: Any = lambda: False) -> Place | None:
        """Where it stops for this action; what is about to begin on other hosts waits meanwhile.

        None also when others are about to begin and it is `over`, or does not come any more.
        """
        aside: list[Place] = []
        try:
            while place := self.next(SIDE_BY_SIDE if aside else PATIENCE):
                if place.at["action"] == action and place.at["when"] in whens:
                    return place
                if place.at["action"] != action and place.at["when"] == "before START":
                    aside.append(place)
                    if over():
                        return None
                else:
                    place.go()
            return None
        except queue.Empty:
            if aside:
                return None
            raise
        finally:
            self.parked.extend(aside)


class Walk:
    """One walk on a lab that is as it was made."""

    def __init__(
        self, seat: Seat, chapter: str, faults: Sequence[Fault], most: int = 1, pace: float = 1
    ) -> None:
        """`most`: how many faults one action meets at most, while it is still to be done.

        `pace`: how long all lasts that waits for links, cuts as well as what is to bear them.
        """
        self._pace = pace
        self.seat, self.lab, self.chapter, self.most = seat, seat.lab, chapter, most
        self.about = CHAPTERS[chapter]
        self._left = iter(faults)
        self._had: dict[str, int] = {}
        self._logs = seat.state.parent / f"{seat.state.name}-logs"
        self._logs.mkdir(exist_ok=True)
        self._started = 0
        self.cells: list[Cell] = []
        roles = {role: h.name for h in self.lab.estate.hosts for role in h.roles}
        self._ca, self._dns = roles["server"], roles["nameserver"]

    def run(self) -> list[Cell]:
        """All cells of the walk; a chapter's end that is not that of an unbroken run fails them."""
        hosts = [h.name for h in self.lab.estate.hosts]
        for host in hosts:
            must(self.lab.execute(host, HOLD))
        for step in self.about.before:
            must(self.seat.pmrunbook("--plain", "--yes", "--step", step))
        process = self._start("--step", self.chapter)
        while place := process.next():
            action = place.at["action"]
            met = self._had.get(action, 0)
            fault = None
            if place.at["when"] == "before START" and met < self.most:
                fault = next(self._left, None)
            if fault is None:
                place.go()
                continue
            self._had[action] = met + 1
            process = self._cell(process, place, fault)
        code = process.process.wait()
        trouble = [f"the last run ended with {code}"] if code else []
        halves = self._halves(hosts)
        debts = self.seat.pmrunbook("debts").stdout.strip()
        verify = self.seat.pmrunbook("verify", "--plain", "--step", self.chapter)
        trouble += [f"debts: {debts}"] if debts != "none" else []
        trouble += [f"half-written: {' '.join(halves)}"] if halves else []
        trouble += [f"verify: {verify.stdout[-500:]}"] if verify.returncode else []
        for cell in self.cells:
            cell.doubled = self._doubled(cell)
            if cell.doubled:
                cell.fail("the action was done twice")
        if self.cells and trouble:
            self.cells[0].halves, self.cells[0].debts = len(halves), int(debts != "none")
            for cell in self.cells:
                cell.fail(f"at the end of its walk: {'; '.join(trouble)}")
        return self.cells

    # --- one cell ---------------------------------------------------------------------------------

    def _start(self, *args: str, answer: str = "") -> Held:
        self._started += 1
        return Held(
            self.seat, self._logs / f"{self._started:02}.log", *args, answer=answer, pace=self._pace
        )

    def _cell(self, process: Held, place: Place, fault: Fault) -> Held:
        """The fault at its place, healed, and all resumed until the action is over."""
        at, began = place.at, time.monotonic()
        host = at["host"].partition(".")[0] or self._dns
        role = next(iter(self.lab.estate.host(host).roles), "bare machine")
        words = [w for w in at["action"].split("/") if w.partition(".")[0] != host]
        row = f"{'/'.join(words)} on {role}"
        cell = Cell(self.chapter, row, at["action"], host, fault.id, version=__version__)
        self.cells.append(cell)
        scene = Scene(
            self.lab,
            self.seat.state,
            process.process.pid,
            host,
            at["file"],
            at["job"],
            self._ca,
            self._dns,
            self._pace,
        )
        try:
            self._hit(process, place, fault, scene)
            last = process.until(at["action"], "after END")
        except queue.Empty:
            cell.fail("it hangs")
            process.process.kill()
            process.process.wait()
            last = None
        finally:
            fault.heal(scene)
        process = self._until_over(process, last, cell)
        cell.seconds = round(time.monotonic() - began)
        narrate(
            f"{cell.row}: {fault.title}: {cell.outcome} {cell.exits} {cell.seconds} s; {cell.note}"
        )
        return process

    def _hit(self, process: Held, place: Place, fault: Fault, scene: Scene) -> None:
        action = place.at["action"]
        when = fault.when
        if when == "job":
            when = "after START" if place.at["kind"] in ("DnsChange", "Human") else when
        if when == "job":
            scene.on(scene.host, "touch /run/held")
            place.go()
            if (there := process.until(action, "after START")) is None:
                return
            there.go()
            began = f"[ -e {SPOOL}/{scene.job}/start ]"
            scene.on(
                scene.host, f"for i in $(seq 600); do {began} && exit; sleep 0.1; done; exit 1"
            )
            fault.hit(scene)
            with contextlib.suppress(Exception):
                scene.lift()
            return
        if place.at["when"] != when:
            place.go()
            found = process.until(action, when)
            if found is None:
                return
            place = found
        fault.hit(scene)
        place.go()

    def _until_over(self, process: Held, last: Place | None, cell: Cell) -> Held:
        """Go on, or resume, until the action is done or due again; the process that goes on."""
        action, answer = cell.action, ""

        def done() -> bool:
            ends = [e for e in self.seat.events() if e.action == action and e.kind == "end"]
            return bool(ends) and ends[-1].data["status"] == "ok"

        while True:
            while last:
                if last.at["when"] == "before START":
                    if self._had[action] < self.most:
                        process.parked.appendleft(last)  # it is due again: the next fault's turn
                        return process
                    last.go()
                else:
                    good = last.at["status"] == "ok"
                    last.go()
                    if good:
                        return process
                last = process.until(action, "before START", "after END")
            if process.process.poll() is None:
                return process
            code = process.process.wait()
            cell.exits.append(code)
            said = process.log.read_text(errors="replace")
            if "Traceback" in said or "a bug in pmrunbook" in said:
                cell.fail("a traceback")
            if code == 0 or len(cell.exits) > 4:
                if code:
                    cell.fail(f"resumed {len(cell.exits) - 1} times, and it ends with {code}")
                return process
            if len(cell.exits) > 1:
                why = [x for x in said.splitlines() if x.startswith("== ")][-1:]
                cell.note = "; ".join(filter(None, (cell.note, *why)))
            if code == 8 and len(cell.exits) > 1:
                answer = "retry"
                cell.outcome = "unknown" if cell.outcome == "passed" else cell.outcome
            elif len(cell.exits) > 2:
                cell.fail("one --resume was not enough")
            process = self._start("--resume", answer=answer)
            last = process.until(action, "before START", "after END", over=done)

    # --- what is left -----------------------------------------------------------------------------

    def _doubled(self, cell: Cell) -> int:
        """How often the action was done too often, by the jobs on its host."""
        if cell.action.endswith("/ask") or cell.action.split("/")[0] in self.about.measuring:
            return 0
        starts = (e for e in self.seat.events() if e.kind == "start" and e.action == cell.action)
        jobs = " ".join(e.data["job"] for e in starts)
        count = f"cd {SPOOL}; for j in {jobs}; do cut -d' ' -f1 $j/rc 2>/dev/null; done; :"
        codes = must(self.lab.execute(cell.host, count)).split()
        return max(0, codes.count("0") - 1)

    def _halves(self, hosts: Sequence[str]) -> list[str]:
        find = (
            "find /etc /opt /srv /usr/local /var/lib /var/cache -xdev "
            "-name '.pmrunbook.??????' -o -path '*/jobs/.new.*' -prune 2>/dev/null; :"
        )
        return [f"{h}:{x}" for h in hosts for x in must(self.lab.execute(h, find)).split()]


def likeness(lab: Lab) -> dict[str, dict[str, str]]:
    """The estate as far as two runs have to leave the same: of keys and certificates the names."""
    found = {}
    for host in lab.estate.hosts:
        seen = picture(lab, host.name, "/etc", "/var/lib/puppet/ssl")
        found[host.name] = {
            path: what.rsplit(" ", 1)[0] if "/ssl/" in path else what for path, what in seen.items()
        }
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [
        f"{host}:{path}"
        for host in one
        for path in sorted(one[host].keys() | other[host].keys())
        if one[host].get(path) != other[host].get(path)
    ]


@contextlib.contextmanager
def seated(lab: Lab, folder: Path) -> Iterator[Seat]:
    """An operator whose state is on a small disk of its own."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "pmrunbook", folder], check=True)
    try:
        yield Seat(lab, folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def shifted(shift: int) -> list[Fault]:
    """The faults of a walk, in their order, again and again."""
    possible = [fault for fault in FAULTS if not fault.impossible]
    return [possible[(shift + n) % len(possible)] for n in range(200)]


def write() -> None:
    columns = [Column(f.id, f.title, f.impossible) for f in FAULTS]
    PAGE.write_text(page(load(RESULTS), columns, {k: c.title for k, c in CHAPTERS.items()}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chapter", choices=CHAPTERS, action="append", default=[])
    parser.add_argument("--shift", type=int, action="append", default=[])
    parser.add_argument("--all", action="store_true", help="every chapter and every shift: days")
    parser.add_argument("--write", action="store_true", help="keep the results, make the page")
    args = parser.parse_args()
    failed = 0
    shifts = range(len(FAULTS)) if args.all else args.shift or [0]
    for name in CHAPTERS if args.all else args.chapter:
        chapter = CHAPTERS[name]
        with (
            contextlib.contextmanager(booted)(
                chapter.suffix, HERE / "estates" / chapter.estate
            ) as lab,
            tempfile.TemporaryDirectory() as folder,
        ):
            known = lab.folder / f"unbroken-{name}.json"
            if not known.exists():
                seat = Seat(lab, Path(folder) / "unbroken")
                for step in (*chapter.before, name):
                    must(seat.pmrunbook("--plain", "--yes", "--step", step))
                known.write_text(json.dumps(likeness(lab)))
                lab.reset(narrate)
            for n, shift in enumerate(shifts):
                if n:
                    lab.reset(narrate)
                with seated(lab, Path(folder) / str(shift)) as seat:
                    cells = Walk(seat, name, shifted(shift)).run()
                differ = differences(json.loads(known.read_text()), likeness(lab))
                for cell in cells if differ else ():
                    cell.fail(f"the estate is not that of an unbroken run: {' '.join(differ[:5])}")
                failed += sum(cell.outcome == "failed" for cell in cells)
                if args.write:
                    add(RESULTS, cells)
                    write()
    if args.write:
        write()
    return int(failed > 0)


if __name__ == "__main__":
    os.chdir(ROOT)
    raise SystemExit(main())
