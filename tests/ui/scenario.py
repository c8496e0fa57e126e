"""A scripted mission for the faces: no engine, no hosts, only events and questions.

`python tests/ui/scenario.py [NAME]` shows it on this terminal and exits with the mission's code.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from runbook.errors import RunbookError
from runbook.model import (
    Action,
    CertificateAuthority,
    Event,
    Facts,
    Finding,
    Host,
    Irreversible,
    Later,
    Planned,
    Restore,
    Risk,
    Runbook,
    Script,
    Severity,
    Site,
    Stage,
    Status,
    Step,
    WriteFile,
    plain,
)
from runbook.plan import Plan, StagePlan
from runbook.ports import Choice, Face, Question, Reply
from runbook.state import ActionState, RunState, fold

START = 1_760_000_000.0
HOSTILE = "\x1b[31m\x1b]0;owned\x07 [/b] [red]not markup[/red] \u202edetrevni \x9b2J"
PASSWORD = "correct horse"

QUIT = Choice("quit", "Quit; pmrunbook --resume goes on")
APPROVAL = (
    Choice("approve", "Do exactly this"),
    Choice("again", "Look again"),
    Choice("skip", "Skip this step; says why", needs_text=True),
    QUIT,
)

GUIDE = """\
# One certificate authority

All hosts ask **one** server for certificates, under a name of its own.

## Why

A compile master that signs certificates itself issues ones that nobody else trusts.

## What is done

- `ca_server` is set in `[main]` on every host, the canary first.
- A new agent enrols through `ca.example.com`, as proof.
"""

DIFF = """\
--- /etc/puppetlabs/puppet/puppet.conf
+++ /etc/puppetlabs/puppet/puppet.conf
@@ -1,6 +1,7 @@
 [main]
 # The name all agents use.
     server        = puppet.example.com
+    ca_server     = ca.example.com
-dns_alt_names=puppet
+dns_alt_names=puppet,ca.example.com
"""


def _no_plan(site: Site, facts: Facts) -> Planned:
    return ()


def _no_reads(site: Site, host: Host) -> tuple[()]:
    return ()


STAGES = (
    Stage("settings", "Point every host at the CA", _no_plan, rollout=True),
    Stage("restart", "Restart the services", _no_plan),
)
STEPS = (
    Step("survey", "Survey the estate", "Reads everything, changes nothing.", _no_reads),
    Step("ca", "Centralize the CA", GUIDE, _no_reads, STAGES, needs=("survey",), skippable=True),
    Step("compilers", "Set up compile masters", "Later.", _no_reads, needs=("ca",)),
)


def site(agents: int = 4) -> Site:
    """A small estate, or one with as many agents as asked for."""
    roles = {
        "ca.example.com": {"ca"},
        "puppet.example.com": {"server"},
        "cm1.example.com": {"compiler"},
        "cm2.example.com": {"compiler"},
        "pdb.example.com": {"puppetdb"},
        "ns.example.com": {"nameserver"},
    }
    hosts = [Host(name, roles=frozenset(r)) for name, r in roles.items()]
    width = max(2, len(str(agents)))
    for n in range(1, agents + 1):
        hosts.append(Host(f"agent{n:0{width}}.example.com", roles=frozenset({"agent"})))
    authority = CertificateAuthority("ca.example.com", "ca.example.com")
    pool = [
        {"name": f"cm{n}.example.com", "weight": n, "priority": 0, "port": 8140} for n in (1, 2)
    ]
    balancing = {"strategy": "tcp-proxy", "host": "lb.example.com", "servers": tuple(pool)}
    sections = {"load_balancing": balancing, "puppetdb": {"hosts": ("pdb.example.com",)}}
    return Site("acme", tuple(hosts), "puppet.example.com", authority, sections=sections)


def setting(host: str, risk: Risk = Risk.CHANGE) -> Action:
    """Set ca_server on one host."""
    return Action(
        f"settings/{host}/ca_server",
        host,
        "set ca_server in puppet.conf",
        WriteFile("/etc/puppetlabs/puppet/puppet.conf", b"new", before="0" * 64),
        Restore(then="systemctl reload puppet"),
        risk=risk,
        diff=DIFF,
    )


def restart(host: str) -> Action:
    """Restart the server on one host."""
    return Action(
        f"restart/{host}/puppetserver",
        host,
        "restart puppetserver",
        Script("systemctl restart puppetserver\n", done="test -e /run/restarted"),
        Irreversible("a restart cannot be taken back"),
        outage=40.0,
    )


def plan(hosts: tuple[str, ...], risk: Risk = Risk.CHANGE) -> Plan:
    """The plan of the CA step for these hosts."""
    settings = tuple(setting(h, risk) for h in hosts)
    later = (Later("whether the agents ask the new CA", "settings"),)
    return Plan(
        STEPS[1],
        (
            StagePlan(STAGES[0], settings, later),
            StagePlan(STAGES[1], (restart("puppet.example.com"),), ()),
        ),
    )


FINDINGS = (
    Finding(
        "ca-name-not-in-certificate",
        Severity.WARNING,
        "puppet.example.com",
        "the certificate carries puppet, puppet.example.com",
        "it carries ca.example.com too",
        "Let the certificate be issued again with the CA's name.",
        "puppetserver ca generate --certname puppet.example.com --ca-client",
        "ca",
        {"puppet": "7.23.0", "server": "7.9.5", "ca": "on"},
    ),
    *(
        Finding(
            "clock-offset",
            Severity.NOTE,
            f"agent{n:02}.example.com",
            "the clock is 3 s behind",
            "less than 1 s",
            "Let chrony run.",
            "systemctl enable --now chrony",
            estate={
                "puppet": "7",
                "calls": "puppet.example.com",
                "served_by": "puppet.example.com",
            },
        )
        for n in (1, 2, 3)
    ),
)


@dataclass
class Script_:
    """A scenario: what it does on the face, and the site it does it on."""

    play: Callable[[Stage_], int]
    site: Site = field(default_factory=site)
    mode: str = "run"


class Stage_:
    """What a scenario plays on: emits events with a clock of its own, and asks."""

    def __init__(self, face: Face, mission: ScriptedMission) -> None:
        self.face = face
        self.mission = mission
        self.now = START

    def emit(
        self, kind: str, step: str = "", host: str = "", action: str = "", /, **data: Any
    ) -> None:
        self.now += 1
        self.face.show(Event(kind, self.now, step, host, action, data))

    def ask(self, question: Question) -> Reply:
        self.emit("asked", question.step, question.host, title=question.title)
        reply = self.face.ask(question)
        self.emit("answered", question.step, question.host, key=reply.key)
        record(reply.key if question.kind == "secret" else f"{reply.key} {reply.text}".strip())
        return reply

    def begin(self) -> None:
        names = [h.name for h in self.mission.site.hosts]
        steps = {s.id: s.title for s in STEPS}
        site, mode = self.mission.site.name, self.mission.mode
        self.emit("run_started", run="r1", site=site, mode=mode, steps=steps, hosts=names)

    def survey(self) -> None:
        self.emit("step_started", "survey", title="Survey the estate")
        for host in self.mission.site.hosts:
            self.emit("reading", "survey", host.name)
        for host in self.mission.site.hosts:
            self.emit("reading", "survey", host.name, done=True)
        for found in FINDINGS:
            self.found("survey", plain(found))
        for ok, title in ((True, "every host answers"), (None, "agent04 asks ca.example.com")):
            self.emit("check", "survey", id=title, title=title, ok=ok, observed="as seen")
        self.emit("step_done", "survey", status="ok")

    def found(self, step: str, data: Mapping[str, Any]) -> None:
        self.now += 1
        self.face.show(Event("finding", self.now, step, str(data["host"]), data=data))

    def planned(self, made: Plan) -> None:
        self.emit("step_started", "ca", title="Centralize the CA")
        self.emit(
            "planned",
            "ca",
            digest=made.digest,
            risk=made.risk.value,
            hosts=len(made.hosts),
            actions=[{**plain(a), "digest": a.digest()} for a in made.actions],
            later=[plain(x) for x in made.later],
        )

    def approve(self, made: Plan, confirm: str = "", kind: str = "approve") -> str:
        hosts = len(made.hosts)
        title = f"Centralize the CA: {len(made.actions)} actions on {hosts} hosts"
        risk = made.risk.value
        asked = Question(kind, title, "", APPROVAL, "ca", risk=risk, confirm=confirm, subject=made)
        reply = self.ask(asked)
        if reply.key == "approve":
            digests = [a.digest() for a in made.actions]
            self.emit("approved", "ca", digest=made.digest, actions=digests, by="operator")
        return reply.key

    def start(self, action: Action) -> None:
        data: Mapping[str, Any] = plain(action)
        self.emit("start", "ca", action.host, action.id, action=data, job=f"j-{action.id}")

    def end(self, action: Action, status: str = "ok", exit_: int = 0, note: str = "") -> None:
        self.emit(
            "end", "ca", action.host, action.id,
            job=f"j-{action.id}", status=status, exit=exit_, note=note,
        )  # fmt: skip

    def say(self, host: str, line: str) -> None:
        """A line of output, in the transcript too."""
        path = self.mission.transcript("ca", host)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"12:00:00   {line}\n")
        self.emit("output", "ca", host, line=line)

    def finish(self, code: int, why: str = "") -> int:
        self.emit("run_ended", exit=code, why=why)
        return code


class ScriptedMission:
    """A `Mission` that plays a scenario."""

    def __init__(self, script: Script_, folder: Path, past: tuple[Event, ...] = ()) -> None:
        self.site = script.site
        self.mode = script.mode
        self.runbook = Runbook("scaling", "Scale a Puppet Server", STEPS)
        self.stopped = threading.Event()
        self.held = threading.Event()  # a scenario waits for it where it wants to stay running
        self._script = script
        self._folder = folder
        self._past = past

    def past(self) -> RunState:
        return fold(self._past)

    def run(self, face: Face) -> int:
        try:
            return self._script.play(Stage_(face, self))
        except RunbookError as error:
            data = {"text": str(error), "level": "error"}
            face.show(Event("message", START, data=data))
            return int(error.exit)

    def stop(self) -> None:
        record("stopped")
        self.stopped.set()

    def shell(self, host: str, start: Callable[[list[str]], int]) -> int:
        """Something that has the terminal for itself, as ssh does, and tells what it read."""
        script = f"""
            exec 3>>$SCENARIO_RECORD
            was=$(stty -g); stty -isig -echo
            echo pid $$ >&3
            echo this is a shell on {host}
            read line
            stty $was
            echo shell $line >&3
        """
        return start(["sh", "-c", script])

    def include(self, host: str) -> None:
        record(f"include {host}")

    def transcript(self, step: str, host: str) -> Path:
        return self._folder / f"{step}-{host}.log"


def record(line: str) -> None:
    """Keep for the test what was answered."""
    if path := os.environ.get("SCENARIO_RECORD"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


# --- scenarios ----------------------------------------------------------------------------------

HOSTS = ("agent01.example.com", "agent02.example.com", "puppet.example.com")


def whole(on: Stage_) -> int:
    """Survey, review, run, a failure, retry, checks, end."""
    on.begin()
    on.survey()
    made = plan(HOSTS)
    on.planned(made)
    while (key := on.approve(made)) == "again":
        on.planned(made)
    if key != "approve":
        on.emit("step_done", "ca", status="skipped", why="skipped by the operator")
        return on.finish(0)
    on.emit("stage", "ca", title="Point every host at the CA")
    done, bad, restarts = setting(HOSTS[0]), setting(HOSTS[1]), restart(HOSTS[2])
    for action in (done, bad):
        on.start(action)
        for n in range(40):
            on.say(action.host, f"line {n} of {action.title}")
    on.end(done)
    on.end(bad, "failed", 1, "exit 1: puppet.conf is read-only")
    failed = ActionState(bad.id, "ca", bad.host, bad.title, "j", Status.FAILED, plain(bad), on.now)
    choices = (
        Choice("check", "Look again"),
        Choice("retry", "Look, and do it again where it is still needed"),
        Choice("shell", f"Shell on {bad.host}"),
        Choice("exclude", f"Leave {bad.host} out, shown to the end", needs_text=True),
        Choice("undo", "Take back what ca did"),
        QUIT,
    )
    title = f"{bad.host}: {bad.title}"
    while True:
        reply = on.ask(
            Question("failure", title, "exit 1: puppet.conf is read-only", choices, "ca", bad.host,
                     subject=failed)
        )  # fmt: skip
        if reply.key == "exclude":
            on.emit("excluded", "", bad.host, reason=reply.text)
            break
        if reply.key == "retry":
            on.start(bad)
            on.end(bad)
            break
        if reply.key == "quit":
            on.emit("step_done", "ca", status="failed", why="exit 1")
            return on.finish(1, "set ca_server failed on agent02")
    on.emit("stage", "ca", title="Restart the services")
    on.start(restarts)
    on.say(restarts.host, "restarting")
    on.end(restarts)
    on.emit("check", "ca", id="enrols", title="a new agent enrols", ok=True, observed="it does")
    on.emit("step_done", "ca", status="ok")
    return on.finish(0)


def running(on: Stage_) -> int:
    """Work that does not end by itself."""
    on.begin()
    on.survey()
    on.planned(plan(HOSTS))
    on.emit("stage", "ca", title="Point every host at the CA")
    opening = setting(HOSTS[0])
    data = dict(plain(opening))
    data["opens"] = {"id": "agent", "title": "the agent is stopped", "repay": "start it"}
    on.emit("start", "ca", opening.host, opening.id, action=data, job="j")
    on.start(setting(HOSTS[1]))
    for n in range(200):
        on.say(HOSTS[0], f"line {n}: unpacking something")
    on.mission.stopped.wait(60)
    return on.finish(130, "the operator stopped the program")


def ask(question: Question) -> Callable[[Stage_], int]:
    """Ask this and end; the exit code is 0 for the first choice."""

    def play(on: Stage_) -> int:
        on.begin()
        reply = on.ask(question)
        return on.finish(0 if reply.key == question.choices[0].key else 1)

    return play


def destructive(on: Stage_) -> int:
    """A plan whose approval needs the host's name typed."""
    on.begin()
    made = plan(HOSTS[:1], Risk.DESTRUCTIVE)
    on.planned(made)
    return on.finish(0 if on.approve(made, confirm=HOSTS[0]) == "approve" else 1)


def hostile(on: Stage_) -> int:
    """Everything that a host can say, said by one that means harm."""
    on.begin()
    host = "agent01.example.com"
    on.emit("message", "", host, text=HOSTILE, level="warning")
    data = {**plain(FINDINGS[0]), "observed": HOSTILE, "remedy": HOSTILE, "command": HOSTILE}
    on.emit("step_started", "ca", title=HOSTILE)
    on.found("ca", {**data, "host": host})
    on.emit("check", "ca", id="x", title=HOSTILE, ok=False, observed=HOSTILE)
    bad = setting(host)
    on.start(bad)
    on.say(host, HOSTILE)
    on.end(bad, "failed", 1, HOSTILE)
    on.emit("unreachable", "", "agent02.example.com", error=HOSTILE)
    choices = (Choice("retry", HOSTILE), QUIT)
    on.ask(Question("failure", HOSTILE, HOSTILE, choices, "ca", host, subject=HOSTILE))
    return on.finish(1, HOSTILE)


def crowd(on: Stage_) -> int:
    """4,000 agents at work at the same time."""
    on.begin()
    on.emit("step_started", "ca", title="Centralize the CA")
    on.emit("stage", "ca", title="Point every host at the CA")
    agents = [h.name for h in on.mission.site.hosts if h.name.startswith("agent")]
    for host in agents:
        on.start(setting(host))
    for n, host in enumerate(agents):
        on.emit("output", "ca", host, line=f"line {n}")
        if n % 100 == 7:
            on.end(setting(host), "failed", 1, "exit 1")
        elif n % 2:
            on.end(setting(host))
    on.emit("excluded", "", agents[-1], reason="out of reach")
    on.mission.stopped.wait(60)
    return on.finish(130)


def broken(on: Stage_) -> int:
    """The engine itself fails."""
    password = PASSWORD
    on.begin()
    raise ValueError(f"[/b] no such thing, {len(password)} characters")


def resumed(on: Stage_) -> int:
    """What an earlier run did is shown as done."""
    on.emit("run_started", run="r1", mode="resume", resumed=True)
    on.mission.stopped.wait(60)
    return on.finish(130)


def dry(on: Stage_) -> int:
    on.begin()
    on.survey()
    on.planned(plan(HOSTS))
    on.emit("step_done", "ca", status="skipped", why="dry run")
    return on.finish(0)


def compared(on: Stage_) -> int:
    """Checks that are a table: one cell differs."""
    on.begin()
    for host in HOSTS:
        for column in ("production", "settings"):
            differs = (host, column) == (HOSTS[1], "production")
            on.emit(
                "check",
                "ca",
                id=f"same/{host}/{column}",
                title=f"{host} has {column} as the others have it",
                ok=not differs,
                observed="modules/site/init.pp, unlike the others"
                if differs
                else "a1b2c3, 9 files",
                remedy="bring the same code to both" if differs else "",
                detail=DIFF if differs else "",
                cell=[host, column],
            )
    on.emit("step_done", "ca", status="failed", why="1 check not passed")
    return on.finish(1, "not all holds")


def balanced(on: Stage_) -> int:
    """All is done, and it was counted who served whom."""
    on.begin()
    on.survey()
    for step in ("ca", "compilers", "puppetdb"):
        on.emit("step_done", step, status="ok")
    title = "puppet.example.com, agents counted in 10 minutes"
    planned = {"cm1.example.com": 1 / 3, "cm2.example.com": 2 / 3}
    measured = {"cm1.example.com": 40, "cm2.example.com": 74, "puppet.example.com": 1}
    on.emit("shares", "cutover", title=title, planned=planned, measured=measured)
    on.emit("step_done", "cutover", status="ok")
    return on.finish(0)


PROMPT = Question("secret", "sudo password for operator", "", (Choice("give", "Use it"), QUIT))
TRUST = Question(
    "trust",
    "First contact with agent01.example.com",
    "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU (ED25519)",
    (Choice("trust", "It is this host; remember the key"), QUIT),
    host="agent01.example.com",
)

ATTEST = Question(
    "attest",
    "agent01.example.com: server = puppet-ca.example.com",
    "The host, read again, still needs it. It may count as attested: shown so to the end, "
    "and never as verified.",
    (
        Choice("back", "It is not done: back"),
        Choice(
            "attest",
            "Count it as done, attested and not verified; says why, and shows it",
            needs_text=True,
            needs_evidence=True,
        ),
    ),
    host="agent01.example.com",
)

SCENARIOS: dict[str, Callable[[], Script_]] = {
    "whole": lambda: Script_(whole),
    "running": lambda: Script_(running),
    "destructive": lambda: Script_(destructive),
    "hostile": lambda: Script_(hostile),
    "crowd": lambda: Script_(crowd, site(4000)),
    "broken": lambda: Script_(broken),
    "resumed": lambda: Script_(resumed, mode="resume"),
    "dry": lambda: Script_(dry, mode="dry-run"),
    "balanced": lambda: Script_(balanced),
    "compared": lambda: Script_(compared, mode="verify"),
    "secret": lambda: Script_(ask(PROMPT)),
    "trust": lambda: Script_(ask(TRUST)),
    "attest": lambda: Script_(ask(ATTEST)),
}


def mission(name: str, folder: Path) -> ScriptedMission:
    """The scenario of this name, its transcripts in `folder`."""
    past: tuple[Event, ...] = ()
    if name == "resumed":
        past = (
            Event(
                "run_started", START, data={"run": "r1", "steps": {s.id: s.title for s in STEPS}}
            ),
            Event("step_started", START + 1, "survey", data={"title": "Survey the estate"}),
            Event("step_done", START + 8, "survey", data={"status": "ok"}),
        )
    return ScriptedMission(SCENARIOS[name](), folder, past)


def main() -> int:
    from runbook import tui
    from runbook.cli import run_plain
    from runbook.plain import Plain

    name = sys.argv[1] if len(sys.argv) > 1 else "whole"
    folder = Path(os.environ.get("SCENARIO_FOLDER", "."))
    record(f"pid {os.getpid()}")
    if "SCENARIO_CRASH" in os.environ:
        _break_the_screen()
    played = cast("Any", mission(name, folder))
    plainly = "SCENARIO_PLAIN" in os.environ
    code = run_plain(played, Plain(interactive=True)) if plainly else tui.run(played)
    print(f"left with {code}")
    return code


def _break_the_screen() -> None:
    """Let the face itself fail, with a password in a local variable, over what a host said."""
    from runbook.tui.home import Home

    def draw(self: Home, change: object) -> None:
        password = PASSWORD
        raise ValueError(f"{len(password)} characters, {HOSTILE}")

    Home.draw = draw  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
