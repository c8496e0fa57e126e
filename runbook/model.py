"""The frozen values every part of pmrunbook shares: the site, steps, actions, checks, events.

Nothing here does I/O. A step of a runbook is a value whose fields are pure functions over these
values; the engine is the only one that acts on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from runbook.errors import StateRefuses

# --- the site ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that never shows itself; `reveal()` is the one way to get it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is found: `env` NAME, `file` PATH, `command` LINE, or `prompt` LABEL."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Login:
    """How a host is reached: everything ssh and sudo need, and no secret itself."""

    user: str = ""  # empty: ssh_config, then the operator's own name
    port: int = 0  # 0: ssh_config, then 22
    keys: tuple[str, ...] = ()  # private key files; empty: the agent and ssh_config
    jump: tuple[str, ...] = ()  # "user@host:port" hops, nearest to the operator first
    known_hosts: tuple[str, ...] = ()  # empty: what ssh_config says, then ~/.ssh/known_hosts
    ssh_config: str = "~/.ssh/config"  # empty: none
    agent: bool = True
    sudo: bool = True  # False: the login user is root
    sudo_password: SecretRef | None = None
    sudo_shell: str = ""  # what sudo starts in place of /bin/sh
    connect_timeout: float = 15.0  # seconds


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the site."""

    name: str  # its certname and the key by which everything refers to it
    address: str = ""  # what ssh dials; empty: the name
    roles: frozenset[str] = frozenset()
    group: str = ""  # the site or zone it stands in
    login: Login = Login()

    @property
    def dial(self) -> str:
        return self.address or self.name


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """The one CA: the host it runs on and the unique name under which everybody reaches it."""

    host: str
    name: str
    clients: str = "hosts"  # how clients learn of it: hosts | module | srv
    module: str = ""  # with `module`: the module's directory in the site's code
    environment: str = "production"  # with `module`: the environment that gets it
    srv_domain: str = ""  # with `srv`


@dataclass(frozen=True, slots=True)
class Tsig:
    """The key that signs dynamic DNS updates (RFC 8945)."""

    name: str
    algorithm: str
    secret: SecretRef


@dataclass(frozen=True, slots=True)
class Dns:
    """The name servers to ask, and whether they may be updated (RFC 2136)."""

    servers: tuple[str, ...] = ()  # authoritative ones, addresses or "address:port"
    tsig: Tsig | None = None
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a change spreads: `canary` hosts, then `batch` at a time, at most `max_failures`."""

    canary: int = 1
    batch: int = 20
    max_failures: int = 0


@dataclass(frozen=True, slots=True)
class Waiver:
    """An accepted finding: who accepts it says why, and until when (ISO date)."""

    finding: str
    host: str  # "*": every host
    reason: str
    expires: str


@dataclass(frozen=True, slots=True)
class Site:
    """Everything the inventory says."""

    name: str
    hosts: tuple[Host, ...]
    server: str  # the name agents call
    ca: CertificateAuthority
    dns_alt_names: tuple[str, ...] = ()  # further names agents use
    dns: Dns = Dns()
    rollout: Rollout = Rollout()
    waivers: tuple[Waiver, ...] = ()
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What later chapters read: puppetdb, reports, code, load_balancing; validated, plain data."""
    netns: str = ""  # the network namespace to enter first (the embedded lab)
    source: str = ""  # the inventory file
    digest: str = ""  # of its content
    _by_name: Mapping[str, Host] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {host.name: host for host in self.hosts})

    def host(self, name: str) -> Host:
        """The host called `name`; StateRefuses where there is none, or none any more."""
        if name not in self._by_name:
            raise StateRefuses(
                "this host is not in the inventory any more",
                host=name,
                hint="give the inventory it was done with",
            )
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def waiver(self, finding: str, host: str, today: str) -> Waiver | None:
        """The waiver of this finding on this host that has not ended on `today` (ISO date)."""
        for waiver in self.waivers:
            fits = waiver.finding == finding and waiver.host in ("*", host)
            if fits and waiver.expires >= today:
                return waiver
        return None

    def having(self, *roles: str) -> tuple[Host, ...]:
        """The hosts with any of these roles, in the order of the inventory."""
        return tuple(h for h in self.hosts if h.roles.intersection(roles))


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """A read-only `sh` snippet, run as root in a subshell of the host's one batch."""

    id: str
    script: str
    limit: int = 65_536  # bytes of stdout that travel
    timeout: float = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Reading:
    """What a read gave: exit status and text, already stripped of escapes and bounded."""

    exit: int
    out: str = ""
    err: str = ""
    truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.exit == 0


@dataclass(frozen=True, slots=True)
class Query:
    """A DNS question; `server` empty means the operator's own resolver."""

    name: str
    rtype: str
    server: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the name server said: `records` as text, sorted; `error` when it did not say."""

    records: tuple[str, ...] = ()
    ttl: int = 0
    error: str = ""  # "NXDOMAIN", "timeout", ...; empty with no records: the name has no such type
    authoritative: bool = False


@dataclass(frozen=True, slots=True)
class HostFacts:
    """All readings of one host, or why there are none."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    error: str = ""

    @property
    def reachable(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the estate at one moment."""

    hosts: Mapping[str, HostFacts] = field(default_factory=dict)
    answers: Mapping[Query, Answer] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    """Hosts that are left out of what is planned: what is known of them counts, as in a list of
    all servers, but whatever any host may do is for another."""

    def get(self, host: str, read: str) -> Reading:
        """The reading, or one with exit 255 that says why there is none."""
        facts = self.hosts.get(host)
        if facts is None:
            return Reading(255, err="not read")
        return facts.readings.get(read) or Reading(255, err=facts.error or "not read")

    def reachable(self, host: str) -> bool:
        return host in self.hosts and self.hosts[host].reachable

    def without(self, hosts: Iterable[str]) -> Facts:
        """These facts as if those hosts had never been read."""
        out = set(hosts)
        kept = {n: f for n, f in self.hosts.items() if n not in out}
        return Facts(kept, self.answers, self.idle)

    def merged(self, other: Facts) -> Facts:
        """These facts with `other`'s on top, host by host and read by read."""
        hosts = dict(self.hosts)
        for name, new in other.hosts.items():
            old = hosts.get(name)
            keep = dict(old.readings) if old and new.reachable else {}
            hosts[name] = HostFacts({**keep, **new.readings}, new.error)
        return Facts(hosts, {**self.answers, **other.answers}, self.idle)


# --- changing -----------------------------------------------------------------------------------


class Risk(Enum):
    """How an action is confirmed: shown only, approved, host name typed, service name typed."""

    READ = "read"
    CHANGE = "change"
    DESTRUCTIVE = "destructive"
    CUTOVER = "cut-over"

    @property
    def rank(self) -> int:
        return list(Risk).index(self)


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Put `content` at `path` at once (write beside, fsync, rename).

    Refuses on the host when the file there is not the one the plan was made from (`before`, a
    SHA-256 in hex; empty: must not exist). An existing file keeps its owner and mode.
    """

    path: str
    content: bytes
    before: str = ""
    mode: str = "0644"  # for a new file
    owner: str = "root:root"  # for a new file

    @property
    def after(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove the file at `path` if it still is `before` (SHA-256)."""

    path: str
    before: str


@dataclass(frozen=True, slots=True)
class Script:
    """Run `script` with `sh` as root, as a durable job on the host.

    `done` is a read-only probe that exits 0 where the effect is there already; the engine asks it
    right before the start. `saves` are the paths put into the action's backup first.
    """

    script: str
    done: str = ""
    timeout: float = 900.0  # seconds
    saves: tuple[str, ...] = ()
    expect: tuple[int, ...] = (0,)  # exit statuses that are success
    secrets: tuple[tuple[str, SecretRef], ...] = ()
    """Shell variables that hold secrets while it runs: name, and where the value is found. They
    reach the host over the channel, in memory there, and are gone once the script has read them."""
    removes: tuple[str, ...] = ()
    """Folders it removes keys and certificates from: never on the CA's host, nor where a CA's own
    key lies in them."""


@dataclass(frozen=True, slots=True)
class DnsChange:
    """Replace the records of one name and type (RFC 2136), sent by pmrunbook, signed by TSIG."""

    server: str
    zone: str
    name: str
    rtype: str
    ttl: int
    records: tuple[str, ...]  # empty: delete
    before: tuple[str, ...] = ()  # what the plan saw; what undo puts back
    before_ttl: int = 0
    keep: bool = False  # only the TTL: the records stay what they are when it is sent


@dataclass(frozen=True, slots=True)
class Human:
    """An instruction for a person; `done` is the read that proves it was followed."""

    instruction: str
    done: Read


Do = WriteFile | RemoveFile | Script | DnsChange | Human


@dataclass(frozen=True, slots=True)
class Restore:
    """Undo by putting the backup back, byte for byte, owner and mode included, then `then`."""

    then: str = ""  # a script, such as a reload
    first: str = ""  # a script before it, such as a stop


@dataclass(frozen=True, slots=True)
class Compensate:
    """Undo by another script."""

    script: str


@dataclass(frozen=True, slots=True)
class Irreversible:
    """Cannot be undone, and says why; the plan shows it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to undo: the action leaves no trace of its own, or what `stays` says."""

    stays: str = ""


Undo = Restore | Compensate | Human | Irreversible | Nothing


@dataclass(frozen=True, slots=True)
class Debt:
    """A temporary state an action opens, and what repays it: a script, or an update of names."""

    id: str
    title: str
    repay: str | DnsChange


@dataclass(frozen=True, slots=True)
class Action:
    """One change on one host."""

    id: str  # unique within its step and stable over re-planning: "stage/host/what"
    host: str
    title: str
    do: Do
    undo: Undo
    risk: Risk = Risk.CHANGE
    diff: str = ""  # unified
    outage: float = 0.0  # seconds of refused service to expect
    opens: Debt | None = None
    repays: str = ""  # id of the debt whose temporary state this ends
    undoes: str = ""  # id of the action this takes back
    about: str = ""  # the host it is done for, where that is another: who leaves that out, or asks
    # for others only, does not want it
    turn: str = ""  # the host among whose actions it stands in its order, where that is another

    @property
    def lane(self) -> str:
        """The host in whose order it is done; lanes run side by side."""
        return self.turn or self.host

    def digest(self) -> str:
        return fingerprint(self)


@dataclass(frozen=True, slots=True)
class Later:
    """Something the plan cannot know yet: `what`, known once the stage `after` ran."""

    what: str
    after: str
    host: str = ""


# --- judging ------------------------------------------------------------------------------------


class Severity(Enum):
    BLOCKER = "blocker"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something an operator should know before a change."""

    id: str  # stable, such as "ca-name-not-in-certificate"
    severity: Severity
    host: str
    observed: str
    expected: str
    remedy: str  # a sentence
    command: str = ""  # the same as a command to type
    fixed_by: str = ""  # the step that puts it right, if one does
    estate: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Of the finding that tells what a host is: its place in the map (runbook.estate_map)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a check ended; `ok` None means it could not be told."""

    ok: bool | None
    observed: str
    remedy: str = ""
    detail: str = ""  # lines that show it, such as a unified diff
    shares: tuple[tuple[str, float, int], ...] = ()
    """How a load was spread: server, planned share of the whole, measured count."""
    final: bool = False  # waiting would not change it: a patient check ends with it


def _no_more(facts: Facts) -> tuple[tuple[str, Read], ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Check:
    """A question that a read on one or more hosts, or a DNS query, answers."""

    id: str
    title: str  # reads as a sentence: "agent1 asks ca.example.com for certificates"
    judge: Callable[[Facts], Verdict]
    reads: tuple[tuple[str, Read], ...] = ()  # (host, read)
    queries: tuple[Query, ...] = ()
    patience: float = 0.0  # seconds it may take to become true; then it fails
    every: float = 2.0
    then: Callable[[Facts], tuple[tuple[str, Read], ...]] = _no_more
    """What has to be read as well, now that the answers so far are known: asked until it names
    nothing new. So digests travel first, and only what differs after them."""
    cell: tuple[str, str] = ("", "")
    """Its place, row and column, in the table that all such checks of a step are shown as."""


# --- steps --------------------------------------------------------------------------------------

Planned = tuple[Action | Later, ...]


def _no_findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    return ()


def _no_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return ()


def _no_intent(site: Site) -> tuple[str, ...]:
    return ()


def _no_queries(site: Site) -> tuple[Query, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of a step whose actions may all be known once the stages before it ran.

    Actions of one lane run in order; lanes run side by side. With `rollout` the canary goes first
    and the stage's checks must pass on it before the next batch. An `always` stage also runs when
    an earlier one failed: it takes back what that one allowed.
    """

    id: str
    title: str
    plan: Callable[[Site, Facts], Planned]
    checks: Callable[[Site, Facts], tuple[Check, ...]] = _no_checks
    rollout: bool = False
    always: bool = False
    singly: bool = False  # with `rollout`: one host at a time, whatever the site's batch
    intent: Callable[[Site], tuple[str, ...]] = _no_intent
    """What it is about to do as far as the inventory alone tells, a line each: "HOST: ..."."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a runbook: what it reads, finds, does and proves."""

    id: str
    title: str
    guide: str  # Markdown shown beside the step
    reads: Callable[[Site, Host], tuple[Read, ...]]
    stages: tuple[Stage, ...] = ()
    findings: Callable[[Site, Facts], tuple[Finding, ...]] = _no_findings
    checks: Callable[[Site, Facts], tuple[Check, ...]] = _no_checks
    queries: Callable[[Site], tuple[Query, ...]] = _no_queries
    needs: tuple[str, ...] = ()  # ids of steps
    skippable: bool = False
    fresh: Callable[[Site], float] | None = None
    """A held step: it begins only while every step it needs was proved less than so many seconds
    ago. Nothing lets it pass otherwise but a waiver of the finding `gate-STEP`."""
    topics: Mapping[str, Callable[[Site, Facts], tuple[Check, ...]]] = field(default_factory=dict)
    """Checks that may be asked for by name, without the rest: `pmrunbook verify TOPIC`."""


@dataclass(frozen=True, slots=True)
class Runbook:
    """Steps in order, and the `sh` prelude that every batch of their reads starts with."""

    id: str
    title: str
    steps: tuple[Step, ...]
    prelude: str = ""
    memory: Read | None = None
    """Asked along with every batch; what it printed is `$pc_told` to the host's next prelude, in
    this command or a later one. The prelude judges whether that still holds."""
    lock_host: Callable[[Site], str] = lambda site: site.ca.host
    digest: str = ""  # of the code and texts it is made from

    def step(self, step_id: str) -> Step:
        """The step called `step_id`; KeyError if there is none."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def extended(self, after: str, *steps: Step) -> Runbook:
        """This runbook with a site's own steps behind the step `after`; KeyError if none is."""
        place = self.steps.index(self.step(after)) + 1
        digest = fingerprint([self.digest, *(step.id for step in steps)])
        own = (*self.steps[:place], *steps, *self.steps[place:])
        return replace(self, steps=own, digest=digest)


# --- what happened ------------------------------------------------------------------------------


class Status(Enum):
    """Where a step, a host or an action stands. UNKNOWN is neither success nor failure.

    ATTESTED is an action that a person says is done where nothing that was read says so.
    """

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    OK = "ok"
    ATTESTED = "attested"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    EXCLUDED = "excluded"
    BLOCKED = "blocked"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; `data` holds JSON values only."""

    kind: str
    at: float  # seconds since the epoch
    step: str = ""
    host: str = ""
    action: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


# --- digests ------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """`value` as JSON values: dataclasses as objects with their kind, bytes as SHA-256.

    Secrets and callables have no plain form: TypeError.
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest(), "size": len(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (Secret, type)) or callable(value):
        raise TypeError(f"{type(value).__name__} has no plain form")
    if hasattr(value, "__dataclass_fields__"):
        body = {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"kind": type(value).__name__, **body}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    if isinstance(value, Iterable):
        return [plain(v) for v in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def as_read(data: Mapping[str, Any]) -> Read:
    """The read whose plain form this is."""
    return Read(data["id"], data["script"], data["limit"], data["timeout"])


def fingerprint(value: Any) -> str:
    """SHA-256 in hex over the plain form of `value`; equal values have equal fingerprints."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
