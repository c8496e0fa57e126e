"""An estate in memory for the engine's logic: hosts are dictionaries, scripts are one-liners.

Reads are `get KEY`; actions are `set KEY VALUE`, `fail`, `distrust`
(exit status 4), `lose` (the host reboots in the middle).
What the engine does with real hosts is tested on real hosts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runbook.crew import Crew
from runbook.engine import Engine, Options
from runbook.errors import LinkLost, StateRefuses, Unreachable
from runbook.journal import Journal
from runbook.lock import Holder, SiteLock, release_script
from runbook.model import (
    Action,
    Answer,
    CertificateAuthority,
    Check,
    Compensate,
    Debt,
    Event,
    Facts,
    Host,
    Later,
    Query,
    Read,
    Reading,
    Rollout,
    Runbook,
    Script,
    SecretRef,
    Site,
    Stage,
    Step,
    Verdict,
)
from runbook.ports import Job, JobState, Outcome, Question, Reply
from runbook.recorder import Recorder
from runbook.state import ActionState
from runbook.undo import Undo

RUN = "run1"


@dataclass
class FakeHost:
    """What one host remembers, its job spool included."""

    values: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, Outcome] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    down: bool = False
    lost_link: bool = False
    full: bool = False
    reads: int = 0
    locked: bool = False
    lent: dict[str, dict[str, SecretRef]] = field(default_factory=dict)

    def read(self, reads: Sequence[Read], prelude: str = "") -> Mapping[str, Reading]:
        if self.down:
            raise Unreachable("does not answer")
        self.reads += 1
        return {r.id: self._get(r.script) for r in reads}

    def _get(self, script: str) -> Reading:
        key = script.split()[1]
        return Reading(0, self.values[key]) if key in self.values else Reading(1)

    def run(self, job: Job, on_output: Callable[[str], None], stop: threading.Event) -> Outcome:
        if self.full:
            raise StateRefuses("there is no room for the job")
        if job.id not in self.jobs:
            command = job.script.split("(\n")[-1].split("\n)")[0].strip()
            self.ran.append(command)
            self.jobs[job.id] = self._do(command)
        on_output("working")
        if self.lost_link:
            raise LinkLost("the link broke")
        return self.jobs[job.id]

    def _do(self, command: str) -> Outcome:
        match command.split():
            case ["set", key, value]:
                self.values[key] = value
            case ["drop", key]:
                self.values.pop(key, None)
            case ["fail"]:
                return Outcome(JobState.DONE, 1, "it failed")
            case ["distrust"]:
                return Outcome(JobState.DONE, 4, "error: another key")
            case ["lose"]:
                return Outcome(JobState.LOST, note="the host rebooted during the job")
        return Outcome(JobState.DONE, 0)

    def lend(self, job_id: str, secrets: Mapping[str, SecretRef]) -> None:
        self.lent[job_id] = dict(secrets)

    def look(self, job_id: str) -> Outcome:
        return self.jobs.get(job_id, Outcome(JobState.ABSENT))

    def now(self, script: str, timeout: float = 30.0) -> Reading:
        if script == release_script(RUN):
            self.locked = False
        return Reading(0)


class Fleet:
    """Readers, Writers and Names at once."""

    def __init__(self, *names: str) -> None:
        self.hosts = {name: FakeHost() for name in names}

    def reader(self, host: Host) -> FakeHost:
        return self.hosts[host.name]

    writer = reader

    def ask(self, queries: Iterable[Query]) -> Mapping[Query, Answer]:
        return {q: Answer() for q in queries}


class Scripted(list[str]):
    """A face that answers from a script and remembers what it was asked and shown."""

    def __init__(self, *answers: str) -> None:
        super().__init__(answers)
        self.events: list[Event] = []
        self.asked: list[Question] = []

    def show(self, event: Event) -> None:
        self.events.append(event)

    def ask(self, question: Question) -> Reply:
        self.asked.append(question)
        key, _, text = (self.pop(0) if self else "approve").partition(":")
        assert key in {c.key for c in question.choices}, (key, question)
        reason, _, evidence = text.partition("|")
        return Reply(key, reason, evidence)


def site(*names: str, rollout: Rollout = Rollout(batch=2)) -> Site:
    hosts = tuple(Host(n, roles=frozenset({"agent"})) for n in names)
    return Site("test", hosts, "puppet", CertificateAuthority(names[0], "ca"), rollout=rollout)


def setting(stage: str, host: str, key: str, value: str, **more: object) -> Action:
    return Action(
        f"{stage}/{host}/{key}",
        host,
        f"set {key} to {value}",
        Script(f"set {key} {value}"),
        Compensate(f"drop {key}"),
        **more,  # type: ignore[arg-type]
    )


def wants(stage: str, key: str, value: str, **more: object) -> Callable[..., tuple[Action, ...]]:
    """A stage's plan: every reachable host whose `key` is not `value` gets it."""

    def plan(site: Site, facts: Facts) -> tuple[Action, ...]:
        return tuple(
            setting(stage, h.name, key, value, **more)
            for h in site.hosts
            if facts.reachable(h.name) and facts.get(h.name, key).out != value
        )

    return plan


def holds(key: str, value: str, **more: object) -> Callable[..., tuple[Check, ...]]:
    """A check per host that `key` is `value`."""

    def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
        return tuple(
            Check(
                f"{key}/{h.name}",
                f"{h.name} has {key}",
                lambda facts, h=h: Verdict(  # type: ignore[misc]
                    facts.get(h.name, f"check-{key}").out == value, "as read"
                ),
                ((h.name, Read(f"check-{key}", f"get {key}")),),
                **more,  # type: ignore[arg-type]
            )
            for h in site.hosts
        )

    return checks


def reads(*keys: str) -> Callable[[Site, Host], tuple[Read, ...]]:
    return lambda site, host: tuple(Read(k, f"get {k}") for k in keys)


def later_plan(site: Site, facts: Facts) -> tuple[Action | Later, ...]:
    """On the last host: needs what the first host got in the stage before."""
    first, last = site.hosts[0].name, site.hosts[-1].name
    if not facts.get(first, "a").ok:
        return (Later("the value of a", "first", last),)
    if facts.get(last, "b").out == facts.get(first, "a").out:
        return ()
    return (setting("second", last, "b", facts.get(first, "a").out),)


NAMES = ("h1", "h2", "h3", "h4")

TWO = Step(
    "two",
    "Two stages",
    "",
    reads("a", "b"),
    stages=(
        Stage("first", "First", wants("first", "a", "1")),
        Stage("second", "Second", later_plan),
    ),
    checks=holds("a", "1"),
)
COPY = Step(
    "copy",
    "Copy x to a",
    "",
    reads("a", "x"),
    stages=(
        Stage(
            "copy",
            "Copy",
            lambda site, facts: tuple(
                setting("copy", h.name, "a", facts.get(h.name, "x").out)
                for h in site.hosts
                if facts.get(h.name, "x").out != facts.get(h.name, "a").out
            ),
        ),
    ),
)
ROLL = Step(
    "roll",
    "Roll out",
    "",
    reads("a"),
    stages=(Stage("all", "All", wants("all", "a", "1"), holds("a", "1"), rollout=True),),
)
DEBT = Step(
    "debt",
    "With a debt",
    "",
    reads("open", "bad"),
    stages=(
        Stage(
            "open",
            "Open",
            wants("open", "open", "1", opens=Debt("window", "the window is open", "set open 0")),
        ),
        Stage(
            "bad",
            "Bad",
            lambda s, f: (
                Action("bad/x", s.hosts[0].name, "fail", Script("fail"), Compensate("drop x")),
            ),
        ),
    ),
)


@dataclass
class Run:
    """One run on the fleet."""

    engine: Engine
    face: Scripted
    recorder: Recorder
    crew: Crew
    journal: Journal | None
    undo: Undo
    lock: SiteLock


def make(
    fleet: Fleet,
    site: Site,
    *steps: Step,
    face: Scripted | None = None,
    mode: str = "run",
    folder: Path | None = None,
    journal: Journal | None = None,
    writers: bool = True,
    run: str = RUN,
    hosts: tuple[str, ...] = (),
    topic: str = "",
    asked: tuple[str, ...] = (),
    inventory: str = "i" * 64,
    attested: tuple[ActionState, ...] = (),
) -> Run:
    face = Scripted() if face is None else face
    journal = journal or (Journal(folder) if folder else None)
    past = journal.events if journal else []
    recorder = Recorder(face, journal, None, past)
    counter = iter(range(len(past), 10_000))
    crew = Crew(
        site,
        recorder,
        fleet,
        fleet,
        fleet if writers else None,
        None,
        "",
        lambda: f"{run}-{next(counter)}",
    )
    runbook = Runbook("test", "Test", steps)
    undo = Undo(site, runbook, recorder, crew, "me")
    lock = SiteLock(
        lambda: fleet.hosts[site.ca.host],
        site.ca.host,
        Holder("me", "here", "test", run, token=run),
        lambda host: None,
    )
    recorder.emit(
        "run_started",
        run=run,
        mode=mode,
        site="test",
        operator="me",
        version="1",
        inventory=inventory,
        resumed=mode == "resume",
        steps={s.id: s.title for s in steps},
        hosts=[h.name for h in site.hosts],
    )
    options = Options(mode, asked, hosts, "me", topic, attested)
    engine = Engine(site, runbook, recorder, crew, options, lock, undo.run)
    return Run(engine, face, recorder, crew, journal, undo, lock)
