"""What the screens show, as data: the folded state, the open question, and why it waits.

No widget is touched here, so all of it can be looked at without a terminal.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runbook.model import Event, Host, Status, plain
from runbook.plan import Plan
from runbook.ports import Mission, Question
from runbook.state import RunState, StepState
from runbook.symbols import MODES, STATUS, URGENCY, span, verdict
from runbook.tui.feed import Feed, Pending
from runbook.tui.look import Look, Part

ROLES = {
    "ca": "Certificate authority",
    "server": "Puppet Server",
    "primary": "Puppet Server",
    "compiler": "Compile masters",
    "compile-master": "Compile masters",
    "puppetdb": "PuppetDB",
    "database": "Databases",
    "balancer": "Load balancers",
    "load-balancer": "Load balancers",
    "reports": "Reports",
    "nameserver": "Name servers",
}
"""Titles of the roles, in the order of the estate map; other roles follow, agents come last."""

RANK = {status: rank for rank, status in enumerate(URGENCY)}
NO_CHANGE = ("dry-run", "verify", "undo-dry-run")


@dataclass(slots=True)
class Change:
    """What a batch of events touched, so that only that is drawn again."""

    hosts: set[str] = field(default_factory=set)
    steps: set[str] = field(default_factory=set)
    second: bool = False  # a second passed: elapsed times moved
    all: bool = False

    def __bool__(self) -> bool:
        return bool(self.hosts or self.steps or self.second or self.all)


@dataclass(frozen=True, slots=True)
class Review:
    """A plan to look at: actions and what is known later, in their plain form."""

    step: str
    digest: str
    risk: str
    actions: tuple[Mapping[str, Any], ...]
    later: tuple[Mapping[str, Any], ...]
    stages: Mapping[str, str] = field(default_factory=dict)  # the stage's title by action
    new: frozenset[str] = frozenset()  # actions that an earlier approval of the step had not

    @classmethod
    def of(cls, plan: Plan, approved: Collection[str] = ()) -> Review:
        return cls(
            plan.step.id,
            plan.digest,
            plan.risk.value,
            tuple(plain(a) for a in plan.actions),
            tuple(plain(x) for x in plan.later),
            {a.id: stage.stage.title for stage in plan.stages for a in stage.actions},
            frozenset(plan.new(approved)),
        )

    @classmethod
    def recorded(cls, step: StepState) -> Review | None:
        """The plan that the events hold; None when there was none yet."""
        data = step.planned
        if not data:
            return None
        return cls(
            step.id,
            str(data.get("digest", "")),
            str(data.get("risk", "")),
            tuple(data.get("actions", ())),
            tuple(data.get("later", ())),
            new=frozenset(data.get("new", ())),
        )

    @property
    def outage(self) -> dict[str, int]:
        """Seconds of refused service to expect, by host."""
        seconds: Counter[str] = Counter()
        for action in self.actions:
            if action.get("outage"):
                seconds[str(action["host"])] += round(action["outage"])
        return dict(seconds)

    def counts(self) -> list[Part]:
        """What it comes to, in one line."""
        hosts = {a["host"] for a in self.actions}
        files = {
            (a["host"], a["do"].get("path"))
            for a in self.actions
            if a["do"]["kind"] in ("WriteFile", "RemoveFile")
        }
        for_good = sum(a["undo"]["kind"] == "Irreversible" for a in self.actions)
        parts: list[Part] = [
            (f"{many(len(self.actions), 'action')}", "strong"),
            f" on {many(len(hosts), 'host')} · {many(len(files), 'file')} · risk ",
            (self.risk or "read", risk_tone(self.risk)),
        ]
        if self.outage:
            worst = max(self.outage.values())
            parts += [" · ", (f"outage up to {worst} s", "warn")]
        if for_good:
            parts += [" · ", (f"{for_good} IRREVERSIBLE", "bad")]
        if self.later:
            parts.append(f" · {many(len(self.later), 'part')} known later")
        return [*parts, (f" · digest {self.digest[:10]}", "dim")]


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts of one role."""

    title: str
    hosts: tuple[Host, ...]


class Desk:
    """All that the operator has in front of them; one per run, touched by the screen alone."""

    def __init__(self, mission: Mission, look: Look, clock: Callable[[], float]) -> None:
        self.mission = mission
        self.look = look
        self.clock = clock
        self.feed = Feed()
        self.state: RunState = mission.past()
        self.question: Pending | None = None
        self.seen_plan: Review | None = None  # of the question, or the last one looked at
        self.code: int | None = None  # the mission's, once it ended
        self.stopping = False
        self.at_plan = False  # the plan that waits is on the screen
        self.activity: deque[tuple[float, tuple[Part, ...]]] = deque(maxlen=500)
        self.hint = ""  # what to type next, says the engine
        self.troubles: deque[str] = deque(maxlen=20)  # error messages, for the summary
        self.groups = _groups(mission)
        self._title_steps()
        self._second = 0

    def _title_steps(self) -> None:
        for step in self.mission.runbook.steps:
            if not self.state.step(step.id).title:
                self.state.step(step.id).title = step.title

    # --- taking what came -------------------------------------------------------------------------

    def take(self) -> Change:
        """Fold what the engine sent since the last time."""
        change = Change()
        for event in self.feed.drain():
            if event.kind == "taken_up":  # another machine's journal is this one's now
                self.state, change.all = self.mission.past(), True
                self._title_steps()
            self.state.apply(event)
            if event.host:
                change.hosts.add(event.host)
            if event.step:
                change.steps.add(event.step)
            if event.kind in ("run_started", "run_ended", "debt_repaid", "message"):
                change.all = True
            self._note(event)
        now = int(self.clock())
        change.second, self._second = now != self._second, now
        return change

    def _note(self, event: Event) -> None:
        """Keep what a person would want to read afterwards."""
        said = _sentence(self.state, event)
        if said:
            self.activity.append((event.at, said))
        if event.kind == "run_ended":
            self.hint = str(event.data.get("hint", ""))
        if event.kind == "message" and event.data.get("level") == "error":
            self.troubles.append(_text(event))

    def look_at(self, question: Question) -> None:
        """Lay the plan the question is about on the desk."""
        if isinstance(question.subject, Plan):
            self.seen_plan = Review.of(question.subject, self.state.step(question.step).approved)

    # --- what is going on -------------------------------------------------------------------------

    @property
    def current(self) -> str:
        """The step being worked on; empty when there is none."""
        busy = (Status.RUNNING, Status.WAITING)
        return next((s.id for s in self.state.steps.values() if s.status in busy), "")

    def why(self) -> list[Part]:
        """Why it waits, always."""
        if self.code is not None:
            return [("ended", "strong"), f" with exit code {self.code} · q leaves"]
        if self.question:
            key = self.question.question.kind
            ask = "a" if key in ("approve", "changed") and self.at_plan else "d"
            return [
                ("waits for you", "warn"),
                (f", {ask} decides: ", "dim"),
                (self.question.question.title, "strong"),
            ]
        running = [h for h in self.state.hosts.values() if h.status is Status.RUNNING]
        ending: list[Part] = [("ending: ", "warn")] if self.stopping else []
        if running:
            eldest = min(running, key=lambda h: h.since)
            others = f" and {len(running) - 1} more" if len(running) > 1 else ""
            return [
                *ending,
                "waits for ",
                (eldest.name, "strong"),
                f" {span(self.clock() - eldest.since)}{others}: {eldest.title}",
            ]
        if self.current:
            step = self.state.step(self.current)
            return [*ending, "works on ", (step.title, "strong"), f": {step.stage}"]
        return ending or [("starts", "dim")]

    def debts(self) -> list[Part]:
        """The temporary states that are still there; empty when there are none."""
        open_ = tuple(self.state.debts.values())
        if not open_:
            return []
        first = ", ".join(f"{d.title} ({d.host})" for d in open_[:3])
        more = f", and {len(open_) - 3} more" if len(open_) > 3 else ""
        noun = "debt" if len(open_) == 1 else "debts"
        return [(f"{len(open_)} open {noun}: ", "warn"), first + more]

    def title(self) -> list[Part]:
        mode = MODES.get(self.mission.mode, self.mission.mode.upper())
        tone = "good" if self.mission.mode in NO_CHANGE else "warn"
        return [(self.mission.site.name, "strong"), " · ", (mode, tone)]

    def elapsed(self) -> str:
        if not self.state.started:
            return ""
        return span((self.state.ended or self.clock()) - self.state.started)

    def step_time(self, step: StepState) -> str:
        if not step.started:
            return ""
        return span((step.ended or self.clock()) - step.started)

    def status_of(self, host: str) -> Status:
        if host in self.state.excluded:
            return Status.EXCLUDED
        known = self.state.hosts.get(host)
        return known.status if known else Status.PENDING

    def hosts_in_order(self) -> list[str]:
        """Every host, what needs a person first, else as the inventory has them."""
        names = [h.name for h in self.mission.site.hosts]
        return sorted(names, key=lambda name: RANK[self.status_of(name)])

    def counted(self, hosts: Sequence[Host]) -> list[Part]:
        """How many hosts stand where, what needs a person first."""
        tally = self.tally(hosts)
        parts: list[Part] = []
        for status in (s for s in URGENCY if tally[s]):
            mark = STATUS[status]
            sign = mark.sign(self.look.ascii)
            parts += [(f"{sign} {tally[status]} {mark.word}", mark.tone), "  "]
        return parts[:-1]

    def tally(self, hosts: Sequence[Host]) -> Counter[Status]:
        return Counter(self.status_of(h.name) for h in hosts)


def many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def risk_tone(risk: str) -> str:
    return {"destructive": "bad", "cut-over": "bad", "change": "warn"}.get(risk, "good")


def _groups(mission: Mission) -> tuple[Group, ...]:
    """The hosts by role, each host under its first."""
    site = mission.site
    other = sorted({r for h in site.hosts for r in h.roles} - set(ROLES) - {"agent"})
    order = [*ROLES, *other, "agent", ""]
    by_title: dict[str, list[Host]] = {}
    for role in order:
        title = ROLES.get(role) or {"agent": "Agents", "": "Other hosts"}.get(role)
        by_title.setdefault(title or role.replace("-", " ").capitalize(), [])
    for host in site.hosts:
        roles = set(host.roles) | ({"ca"} if host.name == site.ca.host else set())
        first = next((r for r in order if r in roles), "")
        title = ROLES.get(first) or {"agent": "Agents", "": "Other hosts"}.get(first)
        by_title[title or first.replace("-", " ").capitalize()].append(host)
    return tuple(Group(title, tuple(hosts)) for title, hosts in by_title.items() if hosts)


def _text(event: Event) -> str:
    text = str(event.data.get("text", ""))
    return f"{event.host}: {text}" if event.host else text


def _title(state: RunState, event: Event) -> str:
    """What the action was; one that took another back is history with it once it ended well."""
    if action := state.step(event.step).actions.get(event.action):
        return action.title
    undone = event.action.removeprefix("undo:")
    gone = next((a for a in reversed(state.undone) if a.id == undone), None)
    return f"take back: {gone.title}" if gone else event.action


def _sentence(state: RunState, event: Event) -> tuple[Part, ...]:
    """One line of activity for the event; empty for what is only progress."""
    data = event.data
    title = state.step(event.step).title if event.step else ""
    match event.kind:
        case "message":
            tone = {"error": "bad", "warning": "warn"}.get(str(data.get("level")), "plain")
            return ((_text(event), tone),)
        case "step_started":
            return (("▸ ", "busy"), title)
        case "step_done":
            mark = STATUS[Status(data["status"])]
            why = f": {data['why']}" if data.get("why") else ""
            return ((f"{mark.symbol} {mark.word} ", mark.tone), f"{title}{why}")
        case "stage":
            return (("stage ", "dim"), str(data["title"]))
        case "planned":
            n = len(data.get("actions", ()))
            return (("plan ", "dim"), f"{title}: {many(n, 'action')}")
        case "approved":
            return (("approved ", "good"), f"{title} by {data.get('by', '')}")
        case "end":
            mark = STATUS[Status(data["status"])]
            what = _title(state, event)
            note = f": {data['note']}" if data.get("note") else ""
            return ((f"{mark.symbol} {mark.word} ", mark.tone), f"{event.host}: {what}{note}")
        case "check":
            mark = verdict(data["ok"])
            if data["ok"]:
                return ((f"{mark.symbol} {mark.word} ", mark.tone), str(data["title"]))
            said = f"{data['title']}: {data.get('observed', '')}"
            return ((f"{mark.symbol} {mark.word} ", mark.tone), said)
        case "unreachable" if not data.get("again"):
            return (("✗ unreachable ", "bad"), f"{event.host}: {data['error']}")
        case "excluded":
            return (("⊘ excluded ", "warn"), f"{event.host}: {data.get('reason', '')}")
        case "included":
            return (("included ", "good"), f"{event.host}: taken in again")
        case "shell_started":
            return (("shell ", "dim"), f"{event.host}: opened by {data['operator']}")
        case "shell_ended":
            return (("shell ", "dim"), f"{event.host}: left, exit {data['exit']}")
        case "debt_repaid":
            return (("repaid ", "good"), f"{event.host}: {data['id']}")
        case "answered":
            return (("answered ", "dim"), f"{data.get('key', '')}")
        case _:
            return ()
