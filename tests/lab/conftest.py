"""One booted estate for all tests that can share it, and the operator's seat in front of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from runbook.cli import NETNS
from runbook.journal import read
from runbook.lab import estate as estates
from runbook.lab.lab import Lab
from runbook.model import Event

HERE = Path(__file__).parent
SPOOL = "/var/lib/pmrunbook/jobs"
ROOT = HERE.parent.parent


def narrate(line: str) -> None:
    """Progress of slow work, where a person who runs the tests sees it."""
    print(line, file=sys.__stderr__, flush=True)


def lab_name(suffix: str) -> str:
    """A name of this checkout's and this process's own, so that several can test at once."""
    whose = f"{ROOT}{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    return f"t{hashlib.sha256(whose.encode()).hexdigest()[:6]}-{suffix}"


_sat: dict[str, str] = {}
"""Whose journal lies on the site of each lab."""


@dataclass
class Seat:
    """An operator in front of a lab, with a state folder of their own."""

    lab: Lab
    state: Path
    env: dict[str, str] = field(default_factory=dict)
    file: Path | None = None  # another inventory than the lab's
    runbook: str = "scaling"
    beside: Path | None = None  # the state of a seat that works on the same site

    @property
    def inventory(self) -> Path:
        return self.file or self.lab.inventory

    def environ(self) -> dict[str, str]:
        """The environment of a command about to be typed here.

        Estates are shared by tests that have nothing to do with each other: each seat finds the
        site's journal of its own, or of the seat it sits beside.
        """
        mine = hashlib.sha256(str(self.beside or self.state).encode()).hexdigest()[:12]
        last = _sat.setdefault(self.lab.name, mine)
        if last != mine:
            _sat[self.lab.name] = mine
            swap = (
                "cd /var/lib/pmrunbook 2>/dev/null || exit 0; "
                f"[ ! -e site ] || mv -T site site.{last}; "
                f"[ ! -e site.{mine} ] || mv -T site.{mine} site"
            )
            must(self.lab.execute(self.lab.estate.having("server")[0].name, swap))
        return {**os.environ, "XDG_STATE_HOME": str(self.state), **self.env}

    def pmrunbook(
        self, *args: str, timeout: float = 900, inventory: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command as an operator types it; stdin is closed."""
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "runbook",
                *args,
                "--runbook",
                self.runbook,
                "--inventory",
                str(inventory or self.inventory),
            ],
            env=self.environ(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def mortal(self, places: Path, *args: str) -> bool:
        """The same command in a process that kills itself at the first of `places`: has it?"""
        env = {**self.environ(), "MORTAL": str(places), NETNS: self.lab.network.name}
        command = [sys.executable, "-m", "tests.lab.mortal", *args, "--runbook", self.runbook]
        command += ["-i", str(self.inventory)]
        done = subprocess.run(
            self.lab.seat(command),
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if done.returncode not in (0, -9, 137):
            raise AssertionError(f"{done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.returncode != 0

    def killed_at(
        self,
        places: Sequence[Sequence[str]],
        hosts: Sequence[str],
        *args: str,
        measuring: tuple[str, ...] = (),
    ) -> None:
        """One long way through a run: die, resume, die at the next place, resume, ... to the end.

        Every action ran exactly once on these hosts then, but for those that only ask, and those
        of stages that are `measuring`: what was not counted to its end is counted anew.
        """
        left = self.state / "places"
        left.write_text(json.dumps(places))
        past, ran = len(self.events()), jobs_run(self.lab, hosts)
        died = int(self.mortal(left, "--plain", "--yes", *args))
        while self.mortal(left, "--plain", "--yes", "--resume"):
            died += 1
            assert died <= len(places)
        # Hosts work side by side: a process that dies for one may pass the other's place.
        assert died >= len(places) - max(2, len(places) // 5), json.loads(left.read_text())
        events = self.events()[past:]
        ended = [e.action for e in events if e.kind == "end" and e.data["status"] == "ok"]
        # A change of the zone is a message to a name server, no job on a host.
        began = {e.action: e.data["action"]["do"]["kind"] for e in events if e.kind == "start"}
        jobs = [action for action in ended if began[action] not in ("DnsChange", "Human")]
        assert jobs_run(self.lab, hosts) - ran == len(jobs)
        effects = [
            action
            for action in ended
            if not action.endswith("/ask") and action.partition("/")[0] not in measuring
        ]
        assert len(effects) == len(set(effects))

    def events(self) -> list[Event]:
        folder = next(iter((self.state / "pmrunbook" / "sites").iterdir()))
        return read(folder / "journal.jsonl")[0]


def must(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    """The output of a command that has to end with `code`."""
    assert done.returncode == code, (
        f"exit {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout


def as_shown(shown: str, events: Sequence[Event]) -> dict[str, int]:
    """A run did what a dry run (its JSON lines) showed: no more, no less, and nothing else.

    What was started was shown with the same title and diff, or is of a stage and a host of which
    the dry run said that it is known later. What was shown was done, and what it announced came.
    Returns how many actions were shown, and how many came later.
    """
    plans = {
        e["step"]: e for line in shown.splitlines() if (e := json.loads(line))["kind"] == "planned"
    }
    stage, strange, came = "", [], set()
    done: dict[str, set[str]] = {step: set() for step in plans}
    counted = {"shown": 0, "later": 0}
    for event in events:
        if event.kind == "stage":
            stage = event.data["id"]
        if event.kind == "end" and event.data["status"] == "ok":
            done[event.step].add(event.action)
        if event.kind != "start":
            continue
        plan, now = plans[event.step], event.data["action"]
        known = next((a for a in plan["actions"] if a["id"] == event.action), None)
        if known:
            counted["shown"] += 1
            strange += [
                f"{event.action}: {key} is {now[key]!r}, {known[key]!r} was shown"
                for key in ("host", "title", "diff", "risk")
                if now[key] != known[key]
            ]
            continue
        # What is done on the CA's host for a host is about that one; without a word, for all.
        for_all = not now["about"] and event.host not in {x["host"] for x in plan["later"]}
        announced = [
            (event.step, n)
            for n, x in enumerate(plan["later"])
            if x["stage"] == stage and (for_all or x["host"] in ("", event.host, now["about"]))
        ]
        counted["later"] += 1
        came.update(announced)
        if not announced:
            strange.append(f"{event.action} was not shown, and nothing of it was announced")
    for step, plan in plans.items():
        strange += [
            f"{a['id']} was shown and not done"
            for a in plan["actions"]
            if a["id"] not in done[step]
        ]
        strange += [
            f"announced on {x['host']}, and it did not come: {x['what']}"
            for n, x in enumerate(plan["later"])
            if (step, n) not in came
        ]
    assert strange == []
    return counted


def some(places: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Every sixth of them, spread over all stages; all with PMRUNBOOK_TEST_ALL=1.

    A resumed run proves everything before it anew, half a minute for each place.
    """
    return places if os.environ.get("PMRUNBOOK_TEST_ALL") else places[1::6]


TURNS = (
    *("puppetdb", "refusals", "balance", "broken", "rights", "tls"),
    *("trust", "ways", "mission", "screens"),
)
"""Tests that are too many for one run of CI, which takes those of one of these a day."""


def day() -> int:
    """Whose turn it is, by the day on which the check began: it may last beyond midnight."""
    began = os.environ.get("PMRUNBOOK_TEST_TURN")
    return (date.fromisoformat(began) if began else date.today()).toordinal()


LONGEST = re.compile(r"/test_(mission|least_privilege)")
"""Modules that go through the whole guide: they begin first, so that none is alone in the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not os.environ.get("PMRUNBOOK_TEST_TURN"):
        return
    now = TURNS[day() % len(TURNS)]
    marks = {item: item.get_closest_marker("turn") for item in items}
    if strange := {x for mark in marks.values() if mark for x in mark.args} - set(TURNS):
        raise pytest.UsageError(f"nobody's turn: {', '.join(sorted(strange))}")
    later = [item for item, mark in marks.items() if mark and now not in mark.args]
    config.hook.pytest_deselected(items=later)
    items[:] = [item for item in items if item not in later]
    items.sort(key=lambda item: not LONGEST.search(item.nodeid))


def pytest_report_header() -> str | None:
    if not os.environ.get("PMRUNBOOK_TEST_TURN"):
        return None
    return f"of {', '.join(TURNS)} it is the turn of {TURNS[day() % len(TURNS)]}"


def todays(places: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Every sixth of them, and others each day: six days take them all."""
    if os.environ.get("PMRUNBOOK_TEST_ALL"):
        return places
    turn = day() % 6
    narrate(f"killed at places {turn + 1}, {turn + 7}, ... of {len(places)}, others tomorrow")
    return places[turn::6]


def jobs_run(lab: Lab, hosts: Sequence[str]) -> int:
    """How many actions really ran there: every job's first act is its `start` file."""
    count = f"ls {SPOOL}/*/start 2>/dev/null | wc -l"
    return sum(int(must(lab.execute(h, count))) for h in hosts)


@contextmanager
def link_cut(lab: Lab, host: str, once: str, seconds: float) -> Iterator[None]:
    """Once a script succeeds on the host, it drops off the net, and its sessions end meanwhile."""
    over, cut = threading.Event(), threading.Event()

    def cutter() -> None:
        while lab.execute(host, once).returncode:
            if over.wait(0.3):
                return
        lab.pause_link(host)
        try:
            cut.set()
            must(lab.execute(host, f"pkill -f '^sshd: {lab.estate.ssh_user}'"))
            time.sleep(seconds)
        finally:
            lab.restore_link(host)

    thread = threading.Thread(target=cutter)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert cut.is_set()


def picture(lab: Lab, host: str, *paths: str) -> Mapping[str, str]:
    """Mode, owner, kind and SHA-256 of every file and link below `paths` on a host."""
    find = f"find {' '.join(paths)} -xdev \\( -type f -o -type l \\)"
    script = (
        f"{{ {find} -printf '%m:%U:%G:%y %p\\n'; echo; "
        f"{find} -print0 | xargs -0r sha256sum --; }} 2>/dev/null; :"
    )
    modes, _, sums = must(lab.execute(host, script)).partition("\n\n")
    digests = {line[66:]: line[:64] for line in sums.splitlines()}
    found = (line.split(" ", 1) for line in modes.splitlines())
    return {path: f"{mode} {digests.get(path, '')}" for mode, path in found}


_used: set[str] = set()
"""Labs that a module of tests had already: the next one gets the estate as it was made."""


def booted(suffix: str, estate: Path) -> Iterator[Lab]:
    """A lab of this checkout's own, from its estate as it was made; gone in the end."""
    lab = Lab(lab_name(suffix), estates.load(estate))
    keep = bool(os.environ.get("PMRUNBOOK_TEST_KEEP"))  # while writing tests: it stays up
    if keep and lab.exists():
        lab.reset(narrate)
        lab.up(narrate)  # writes the inventory anew
    else:
        lab.down(purge=True)
        lab.up(narrate)
    try:
        yield lab
    finally:
        if not keep:
            lab.down(narrate, purge=True)


@pytest.fixture(scope="session")
def ca_lab() -> Iterator[Lab]:
    """One all-in-one Puppet Server, a name server, two enrolled agents and a new machine."""
    estate = os.environ.get("PMRUNBOOK_TEST_ESTATE")  # the same tests on another estate
    yield from booted("ca", Path(estate) if estate else HERE / "estates" / "ca.yaml")


@pytest.fixture(scope="module")
def cm_lab() -> Iterator[Lab]:
    """An all-in-one Puppet Server, a name server, an agent, two machines without Puppet."""
    estate = os.environ.get("PMRUNBOOK_TEST_COMPILERS")
    yield from booted("cm", Path(estate) if estate else HERE / "estates" / "compilers.yaml")


@pytest.fixture(scope="module")
def pdb_lab() -> Iterator[Lab]:
    """An all-in-one Puppet Server, a name server, an agent, two machines without Puppet."""
    estate = os.environ.get("PMRUNBOOK_TEST_PUPPETDB")
    yield from booted("pdb", Path(estate) if estate else HERE / "estates" / "puppetdb.yaml")


def installed(folder: Path) -> dict[str, str]:
    """The environment in which the runbooks of one chapter are installed; see alone.py."""
    package = folder / "alone-1.dist-info"
    package.mkdir(exist_ok=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: alone\nVersion: 1\n")
    points = (
        "[pmrunbook.runbooks]\n"
        "compilers-alone = tests.lab.alone:COMPILERS_ALONE\n"
        "puppetdb-alone = tests.lab.alone:PUPPETDB_ALONE\n"
        "code-alone = tests.lab.alone:CODE_ALONE\n"
        "balance-alone = tests.lab.alone:BALANCE_ALONE\n"
    )
    (package / "entry_points.txt").write_text(points)
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def code_lab() -> Iterator[Lab]:
    """An all-in-one Puppet Server, a compile master, an agent in each environment."""
    estate = os.environ.get("PMRUNBOOK_TEST_CODE")
    yield from booted("code", Path(estate) if estate else HERE / "estates" / "sync.yaml")


@pytest.fixture(scope="module")
def fresh_lab(ca_lab: Lab) -> Lab:
    """The same, as it was made, for a module of tests."""
    if ca_lab.name in _used:
        ca_lab.reset(narrate)
    _used.add(ca_lab.name)
    return ca_lab


@pytest.fixture(scope="module")
def seat(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    return Seat(fresh_lab, tmp_path_factory.mktemp("state"))
