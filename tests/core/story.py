"""A journal to draw: three runs over an estate with many agents, one broken off, one resumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runbook.model import (
    Action,
    CertificateAuthority,
    Compensate,
    Event,
    Host,
    Human,
    Read,
    Restore,
    Script,
    SecretRef,
    Site,
    Waiver,
    WriteFile,
    plain,
)

START = 1_760_000_000.0
HOSTILE = "\x1b[31m</td><script>alert(1)</script> \u202egnp.x \x00\x9b2J & \"quoted\" 'too'"
STEPS = {
    "survey": "Survey and preflight",
    "ca": "Centralize the certificate authority",
    "compilers": "Build the compile masters",
    "puppetdb": "Centralize facts, exported resources and reports",
    "cutover": "Spread the agents over the compile masters",
}
DIFF = """\
--- /etc/puppet/puppet.conf
+++ /etc/puppet/puppet.conf
@@ -1,4 +1,5 @@
 [main]
 server = puppet.example.com
+ca_server = ca.example.com
-environment = old
+environment = production
"""


def pool(*names: str, weights: tuple[int, ...] = ()) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"name": n, "weight": w, "priority": 0, "port": 8140}
        for n, w in zip(names, weights or (1,) * len(names), strict=True)
    )


def site(agents: int = 60, **balancing: Any) -> Site:
    """One server that is to become a CA, three compile masters, a proxy, PuppetDB, agents."""
    hosts = [Host("primary.example.com", roles=frozenset({"ca", "server"}))]
    hosts += [
        Host(f"cm{n}.example.com", roles=frozenset({"server", "compiler"})) for n in (1, 2, 3)
    ]
    hosts += [Host("pdb.example.com", roles=frozenset({"puppetdb"}))]
    hosts += [Host("lb.example.com", roles=frozenset({"balancer"}))]
    for n in range(1, agents + 1):
        group = "site-a" if n % 3 else "site-b"
        hosts.append(Host(f"web{n:03}.example.com", roles=frozenset({"agent"}), group=group))
    servers = pool("cm1.example.com", "cm2.example.com", "cm3.example.com", weights=(2, 1, 1))
    about = {"strategy": "tcp-proxy", "host": "lb.example.com", "servers": servers, "sites": {}}
    return Site(
        "acme",
        tuple(hosts),
        "puppet.example.com",
        CertificateAuthority("primary.example.com", "ca.example.com"),
        waivers=(Waiver("disk-low", "pdb.example.com", "moves in March", "2026-04-01"),),
        sections={
            "load_balancing": {**about, **balancing},
            "puppetdb": {"hosts": ("pdb.example.com",), "port": 8081, "existing": False},
        },
        digest="d" * 64,
    )


def setting(host: str) -> Action:
    """Set ca_server on one host."""
    return Action(
        f"settings/{host}/ca_server",
        host,
        "set ca_server in puppet.conf",
        WriteFile("/etc/puppet/puppet.conf", b"new", before="0" * 64),
        Restore(),
        diff=DIFF,
    )


def scripted(host: str, what: str, stage: str = "build", **more: Any) -> Action:
    secrets = (("PASSWORD", SecretRef("env", "ACME_DB_PASSWORD")),)
    do = Script("true", secrets=secrets)
    return Action(f"{stage}/{host}/{what}", host, what, do, Compensate("true"), **more)


@dataclass
class Story:
    """Events with a clock of its own."""

    site: Site
    now: float = START
    events: list[Event] = field(default_factory=list)
    run: int = 0

    def emit(
        self,
        kind: str,
        step: str = "",
        host: str = "",
        action: str = "",
        /,
        after: float = 1,
        **data: Any,
    ) -> None:
        self.now += after
        self.events.append(Event(kind, self.now, step, host, action, data))

    def begin(self, mode: str = "run", after: float = 1) -> None:
        self.run += 1
        self.emit(
            "run_started", after=after, run=f"20261126-{self.run}", mode=mode, operator="ada",
            resumed=mode == "resume", version="0.1.0", inventory="d" * 64, steps=STEPS,
            hosts=[h.name for h in self.site.hosts], site=self.site.name,
        )  # fmt: skip

    def step(self, step: str) -> None:
        self.emit("step_started", step, title=STEPS[step])

    def plan(self, step: str, *actions: Action, approve: bool = True) -> None:
        digest = f"{self.run}{step}".encode().hex().ljust(64, "0")
        listed = [{**plain(a), "digest": a.digest()} for a in actions]
        hosts = len({a.host for a in actions})
        self.emit(
            "planned", step, digest=digest, risk="change", hosts=hosts, outages={},
            actions=listed, later=[],
        )  # fmt: skip
        if approve:
            digests = [a.digest() for a in actions]
            self.emit(
                "approved", step, after=25, digest=digest, actions=digests, by="ada", how="typed"
            )

    def start(self, step: str, action: Action, after: float = 0.2) -> str:
        job = f"j{len(self.events)}"
        self.emit("start", step, action.host, action.id, after=after, job=job, action=plain(action))
        return job

    def end(
        self,
        step: str,
        action: Action,
        job: str,
        status: str = "ok",
        note: str = "",
        after: float = 1,
    ) -> None:
        exit_ = {"ok": 0, "unknown": None}.get(status, 1)
        self.emit(
            "end",
            step,
            action.host,
            action.id,
            after=after,
            job=job,
            status=status,
            exit=exit_,
            note=note,
        )

    def batch(self, step: str, *actions: Action, took: float = 4) -> None:
        """Side by side."""
        jobs = [(action, self.start(step, action)) for action in actions]
        self.now += took
        for action, job in jobs:
            self.end(step, action, job, after=0.3)

    def check(
        self,
        step: str,
        id_: str,
        title: str,
        ok: bool | None = True,
        observed: str = "as read",
        **more: Any,
    ) -> None:
        data = {"remedy": "", "observed": observed, **more}
        self.emit("check", step, id=id_, title=title, ok=ok, after=0.4, **data)

    def done(self, step: str, status: str = "ok", why: str = "") -> None:
        self.emit("step_done", step, status=status, why=why)

    def finding(
        self, step: str, severity: str, id_: str, host: str, observed: str, **more: Any
    ) -> None:
        said = {"expected": "as the guide has it", "remedy": "Put it right.", "command": "true"}
        data = {"id": id_, "severity": severity, "host": host, "observed": observed, **said, **more}
        self.events.append(Event("finding", self.now, step, host, "", {**data, "host": host}))


def survey(story: Story) -> None:
    """Everybody calls one name, which leads to the one server."""
    story.step("survey")
    for host in story.site.hosts:
        estate = {"puppet": ""}
        if "agent" in host.roles or "ca" in host.roles:
            estate = {
                "puppet": "7.23.0",
                "calls": "puppet.example.com",
                "served_by": "primary.example.com",
                "asks_ca": "puppet.example.com",
            }
        if "ca" in host.roles:
            estate |= {"server": "7.9.5", "ca": "on"}
        story.finding("survey", "note", "surveyed", host.name, "Debian 12; 4 GiB", estate=estate)
    story.finding("survey", "warning", "clock-skew", "web007.example.com", "41 s behind the CA")
    story.finding(
        "survey", "warning", "disk-low", "pdb.example.com", "/: 300 MiB", waived="moves in March"
    )
    story.finding(
        "survey", "blocker", "ca-server-not-set", "primary.example.com", "ca_server is puppet",
        fixed_by="ca",
    )  # fmt: skip
    story.check("survey", "one-ca", "primary.example.com is the one CA of the site")
    story.done("survey")


def first(story: Story) -> None:
    """Survey and CA; the machine of the operator dies while two hosts are at work."""
    story.begin()
    survey(story)
    story.step("ca")
    agents = [h.name for h in story.site.having("agent")]
    actions = [setting(h) for h in ("primary.example.com", *agents)]
    story.plan("ca", *actions)
    story.emit("stage", "ca", title="Point every host at the CA", id="settings")
    story.batch("ca", actions[0])
    for n in range(1, len(actions) - 2, 20):
        story.batch("ca", *actions[n : min(n + 20, len(actions) - 2)], took=9)
    for action in actions[-2:]:
        story.start("ca", action)


def second(story: Story) -> None:
    """Resumed the day after; a host fails and is left out, the rest goes well."""
    broken = [e for e in story.events if e.kind == "start"][-2:]
    story.begin("resume", after=52_000)
    for event, status in zip(broken, ("ok", "failed"), strict=True):
        note = "looked at: puppet.conf is read-only" if status != "ok" else ""
        job, exit_ = event.data["job"], int(status != "ok")
        at = ("ca", event.host, event.action)
        story.emit("end", *at, job=job, status=status, exit=exit_, note=note)
    story.step("ca")
    host = broken[1].host
    story.emit(
        "asked", "ca", host, question="failure", title=f"{host}: set ca_server in puppet.conf"
    )
    story.emit(
        "answered",
        "ca",
        host,
        after=140,
        question="failure",
        key="exclude",
        text="disk is being replaced",
    )
    story.emit("excluded", "", host, reason="disk is being replaced")
    by_hand = Action(
        "names/primary.example.com/record", "primary.example.com", "add ca.example.com to the zone",
        Human("Add an A record: ca.example.com. 300 IN A 192.0.2.10", Read("names", "true")),
        Restore(),
    )  # fmt: skip
    story.plan("ca", by_hand)
    story.batch("ca", by_hand, took=60)
    story.check("ca", "enrols", "a new agent enrols through ca.example.com")
    story.done("ca")
    story.step("compilers")
    masters = [h.name for h in story.site.having("compiler")]
    installs = [scripted(h, "install puppetserver") for h in masters]
    starts = [scripted(h, "start puppetserver", "start") for h in masters]
    story.plan("compilers", *installs, *starts)
    story.batch("compilers", *installs, took=75)
    for action in starts[:2]:
        story.batch("compilers", action, took=55)
    job = story.start("compilers", starts[2])
    story.end("compilers", starts[2], job, "failed", "exit 1: port 8140 is taken", after=20)
    story.emit(
        "answered", "compilers", masters[2], after=50, question="failure", key="retry", text=""
    )
    story.batch("compilers", starts[2], took=52)
    for master in masters:
        for column, ok, observed in (
            ("environments", True, "3 alike"),
            ("modules", True, "120 alike"),
            ("catalog", master != masters[1] or None, "not read: timeout"),
        ):
            seen = observed if ok is None or column != "catalog" else "same as the CA's"
            title = f"{master}: {column}"
            story.check("compilers", title, title, ok, seen, cell=[master, column])
    story.check(
        "compilers",
        "crl",
        "cm2.example.com has the CA's CRL",
        False,
        "serial 4, the CA has 7",
        remedy="systemctl start puppet-crl-refresh",
        detail="- serial 7\n+ serial 4",
    )
    story.done("compilers", "failed", "2 checks not passed")
    story.emit("run_ended", exit=1, why="compilers: 2 checks not passed", hint="")


def third(story: Story) -> None:
    """All the rest, with a debt left and the shares measured."""
    story.begin("resume", after=1_500)
    story.step("compilers")
    story.check("compilers", "crl", "cm2.example.com has the CA's CRL")
    story.done("compilers")
    story.step("puppetdb")
    install = scripted("pdb.example.com", "install puppetdb")
    joins = [scripted(h.name, "join PuppetDB") for h in story.site.having("server")]
    story.plan("puppetdb", install, *joins)
    story.batch("puppetdb", install, took=70)
    for action in joins:
        story.batch("puppetdb", action, took=12)
    story.check("puppetdb", "facts", "facts of web001.example.com are in PuppetDB")
    story.done("puppetdb")
    story.step("cutover")
    for need, ok, waived in (("puppetdb", True, ""), ("code", False, "Friday, says Ann")):
        title = STEPS.get(need, need)
        said = "proved at 09:12, 4 min ago" if ok else "not proved: failed"
        story.emit("gate", "cutover", need=need, title=title, ok=ok, said=said, waived=waived)
    proxy = scripted("lb.example.com", "set up HAProxy")
    story.plan("cutover", proxy)
    story.batch("cutover", proxy, took=30)
    story.emit(
        "shares",
        "cutover",
        title="puppet.example.com, agents counted in 10 minutes",
        planned={"cm1.example.com": 0.5, "cm2.example.com": 0.25, "cm3.example.com": 0.25},
        measured={"cm1.example.com": 31, "cm2.example.com": 15, "cm3.example.com": 13},
    )
    story.check("cutover", "spread", "agents are spread as planned")
    story.done("cutover")
    story.emit("run_ended", exit=0, why="done", hint="")


def told(of: Site | None = None, *parts: Any) -> Story:
    """The whole story, or those parts of it."""
    story = Story(of or site())
    for part in parts or (first, second, third):
        part(story)
    return story
