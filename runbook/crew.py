"""The engine's hands: reading, performing and checking on many hosts side by side.

A thread of our own pool per host at work; each host's connection is opened in the thread that uses
it. Nothing here decides what comes next: that is the engine's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from runbook import shell
from runbook.errors import (
    Interrupted,
    LinkLost,
    RunbookError,
    TrustError,
    Unreachable,
    Waiting,
)
from runbook.memory import Memory
from runbook.model import (
    Action,
    Check,
    DnsChange,
    Facts,
    HostFacts,
    Human,
    Query,
    Read,
    Reading,
    Script,
    Site,
    Status,
    Verdict,
    as_read,
    plain,
)
from runbook.ports import (
    Choice,
    Job,
    JobState,
    Names,
    NamesWriter,
    Outcome,
    Question,
    Readers,
    Reply,
    Writer,
    Writers,
)
from runbook.recorder import Recorder
from runbook.state import ActionState, OpenDebt

T = TypeVar("T")

THREADS = 16  # more connect no faster
ATTEST = "Count it as done, attested and not verified; says why, and shows it"
EVIDENCE = 8000  # characters of what is pasted that are kept
LOOK_EVERY = 1.0  # seconds between looks at a job somebody else started


@dataclass(frozen=True, slots=True)
class Failure:
    """An action, or a host as such, that did not come to a good end."""

    host: str
    status: Status  # FAILED or UNKNOWN
    note: str
    action: Action | None = None
    cause: RunbookError | None = None
    tail: str = ""  # the last lines it said

    @property
    def lane(self) -> str:
        """The host in whose order it was to be done."""
        return self.action.lane if self.action else self.host

    @property
    def distrust(self) -> bool:
        """Whether a key or a certificate is why: no plan's thresholds are for that."""
        return isinstance(self.cause, TrustError)


class Stopped(Interrupted):
    """The operator wants out: nothing more is started."""


class Crew:
    """All hosts of a site, reached through Protocols; without `writers` nothing can be changed."""

    def __init__(
        self,
        site: Site,
        recorder: Recorder,
        readers: Readers,
        names: Names,
        writers: Writers | None = None,
        names_writer: NamesWriter | None = None,
        prelude: str = "",
        new_job: Callable[[], str] = lambda: "",
        memory: tuple[Read, Memory] | None = None,
    ) -> None:
        self._site = site
        self._rec = recorder
        self._readers = readers
        self._names = names
        self._writers = writers
        self._names_writer = names_writer
        self._prelude = prelude
        self._memory = memory
        self._new_job = new_job
        self.stop = threading.Event()
        self.touched: set[str] = set()  # hosts changed since they were last read
        self.troubles: dict[str, RunbookError] = {}  # why a host could not be read

    # --- reading ----------------------------------------------------------------------------------

    def gather(
        self, wanted: Mapping[str, Sequence[Read]], queries: Iterable[Query] = (), step: str = ""
    ) -> Facts:
        """Every read of every host, one round trip a host, and every answer."""
        asked = {host: reads for host, reads in wanted.items() if reads}
        results = self._each(asked, lambda host: self._read(host, asked[host], step))
        queries = tuple(dict.fromkeys(queries))
        answers = self._names.ask(queries) if queries else {}
        return Facts(results, dict(answers))

    def _read(self, name: str, reads: Sequence[Read], step: str) -> HostFacts:
        if self.stop.is_set():
            raise Stopped("stopped by the operator")
        self._rec.emit("reading", step, name, done=False)
        unique = tuple({read.id: read for read in reads}.values())
        try:
            readings = self._ask(name, unique)
        except (Interrupted, Waiting):
            raise
        except RunbookError as error:
            before, self.troubles[name] = self.troubles.get(name), error
            again = before is not None and before.what == error.what  # faces said it already
            self._rec.emit(
                "unreachable", step, name, error=error.what, hint=error.hint, again=again
            )
            return HostFacts(error=error.what)
        self.troubles.pop(name, None)
        self._rec.emit("reading", step, name, done=True)
        return HostFacts(dict(readings))

    def _ask(self, name: str, reads: Sequence[Read]) -> Mapping[str, Reading]:
        """One batch of reads of a host, which is told what it said before."""
        reader = self._readers.reader(self._site.host(name))
        if not self._memory:
            return reader.read(reads, self._prelude)
        ask, memory = self._memory
        told = f"pc_told={shell.quote(memory.recall(name))}\n"
        readings = dict(reader.read((*reads, ask), told + self._prelude))
        if (said := readings.pop(ask.id)).ok and not said.truncated:
            memory.keep(name, said.out.rstrip("\n"))
        return readings

    def distrusted(self, *hosts: str) -> TrustError | None:
        """Why one of these hosts could not be read, where that is its key."""
        troubles = (self.troubles.get(host) for host in hosts)
        return next((t for t in troubles if isinstance(t, TrustError)), None)

    # --- performing -------------------------------------------------------------------------------

    def perform(self, step: str, actions: Sequence[Action]) -> list[Failure]:
        """The actions, each lane's in order until one fails, the lanes side by side.

        Lanes that come to one other host wait for each other: what one opens there, it closes
        before the next one comes.
        """
        lanes: dict[str, list[Action]] = {}
        for action in actions:
            lanes.setdefault(action.lane, []).append(action)
        visited = {a.host: threading.Lock() for a in actions if a.host != a.lane}

        def work(lane: str) -> Failure | None:
            with contextlib.ExitStack() as held:
                for host in sorted({a.host for a in lanes[lane]} - {lane}):
                    held.enter_context(visited[host])
                return self._work(step, lanes[lane])

        failures = self._each(lanes, work)
        return [f for f in failures.values() if f]

    def _work(self, step: str, actions: Sequence[Action]) -> Failure | None:
        for action in actions:
            if self.stop.is_set():
                raise Stopped("stopped by the operator")
            try:
                failure = self._perform(step, action)
            except (Stopped, Waiting):
                raise
            except RunbookError as error:
                failure = Failure(action.host, Status.FAILED, error.what, action, error)
            if failure:
                return failure
        return None

    def _perform(self, step: str, action: Action) -> Failure | None:
        self._may_change()
        if action.host:
            self._site.host(action.host)  # refuses what is not of this site any more
        match action.do:
            case Human():
                return self._instruct(step, action, action.do)
            case DnsChange():
                return self._update_names(step, action, action.do)
            case Script(removes=removes) if removes and action.host == self._site.ca.host:
                raise TrustError(
                    f"{action.title}: would remove {removes[0]} on the CA's own host; refused",
                    host=action.host,
                    hint="the inventory names the CA's host in another part",
                )
            case _ if self.there(action):
                self._rec.say(f"{action.title}: there already", step=step, host=action.host)
                return None
        timeout = action.do.timeout if isinstance(action.do, Script) else 120.0
        name = self._new_job()
        # Rendered before it is journalled: what cannot be rendered was never started.
        job = Job(name, shell.perform(action, name), timeout, about=action.title)
        self._begin(step, action, name)
        return self._follow(step, action, job)

    def there(self, action: Action) -> bool:
        """Whether the action's own probe finds its effect; False for one that has none."""
        done = action.do.done if isinstance(action.do, Script) else ""
        if not done:
            return False
        return self._ask(action.host, (Read("done", done),))["done"].ok

    def attest(self, step: str, action: Action, reply: Reply) -> None:
        """Record that a person says it is done, who, why, and what they showed for it."""
        state = self._rec.state.step(step).actions.get(action.id)
        if state is None or state.status in (Status.OK, Status.PENDING):
            self._begin(step, action)
            state = self._rec.state.step(step).actions[action.id]
        self.take_word(state, reply)

    def take_word(self, state: ActionState, reply: Reply) -> None:
        """The same for an earlier start of which nobody can tell how it ended."""
        note = f"attested by {self._rec.state.operator}: {reply.text}"
        self.settle(state, Status.ATTESTED, note=note, evidence=_shown(reply.evidence))

    def _may_change(self) -> Writers:
        if self._writers is None:
            raise RunbookError("this run may not change anything")
        return self._writers

    def _begin(self, step: str, action: Action, job: str = "") -> str:
        job = job or self._new_job()
        self.touched.add(action.host)
        self._rec.emit("start", step, action.host, action.id, job=job, action=plain(action))
        if self.stop.is_set():  # the lock was found lost when the site was told of it
            raise Stopped("stopped before it was begun")
        return job

    def _follow(self, step: str, action: Action, job: Job) -> Failure | None:
        try:
            writer = self._may_change().writer(self._site.host(action.host))
            if isinstance(action.do, Script) and action.do.secrets:
                writer.lend(job.id, dict(action.do.secrets))
            outcome = writer.run(
                job, lambda line: self._rec.emit("output", step, action.host, line=line), self.stop
            )
        except LinkLost as error:
            if self.stop.is_set():
                raise Stopped("stopped by the operator; the job goes on") from error
            note = f"{error.what}; whether it is done is not known"
            return self._ended(step, action, job.id, Status.UNKNOWN, None, note, error)
        except RunbookError as error:
            # A host that cannot be dialled was sent nothing; after anything else, look.
            never = type(error) is Unreachable or self._absent(action.host, job.id)
            status = Status.FAILED if never else Status.UNKNOWN
            return self._ended(step, action, job.id, status, None, error.what, error)
        expect = action.do.expect if isinstance(action.do, Script) else (0,)
        status, note = judge(outcome, expect)
        failure = self._ended(step, action, job.id, status, outcome.exit, note)
        if failure and outcome.exit == shell.DISTRUSTED:
            failure = replace(failure, cause=TrustError(note, host=action.host))
        return replace(failure, tail=outcome.tail.strip()) if failure else None

    def _absent(self, host: str, job: str) -> bool:
        """Whether the host surely knows nothing of this job, such as one it had no room for."""
        try:
            outcome = self._may_change().writer(self._site.host(host)).look(job)
        except RunbookError:
            return False
        return outcome.state is JobState.ABSENT

    def _ended(
        self,
        step: str,
        action: Action,
        job: str,
        status: Status,
        exit_: int | None,
        note: str = "",
        cause: RunbookError | None = None,
    ) -> Failure | None:
        self._rec.emit(
            "end", step, action.host, action.id, job=job, status=status.value, exit=exit_, note=note
        )
        return None if status is Status.OK else Failure(action.host, status, note, action, cause)

    def _update_names(self, step: str, action: Action, change: DnsChange) -> Failure | None:
        if self._names_writer is None:
            raise RunbookError("this run may not update names")
        job = self._begin(step, action)
        try:
            self._names_writer.apply(change)
        except LinkLost as error:
            note = f"{error.what}; whether it is done is not known"
            return self._ended(step, action, job, Status.UNKNOWN, None, note, error)
        except RunbookError as error:
            return self._ended(step, action, job, Status.FAILED, None, error.what, error)
        return self._ended(step, action, job, Status.OK, 0)

    def _instruct(self, step: str, action: Action, human: Human) -> Failure | None:
        """Ask a person to do it, until the read proves that it was done.

        That they were asked is on record: who does it after the run has ended did it for us.
        """
        job = ""
        while True:
            proof = self._ask(action.host, (human.done,))[human.done.id]
            if proof.ok:
                break
            if not job:
                job = self._begin(step, action)
                state = self._rec.state.step(step).actions[action.id]
                self.settle(state, Status.WAITING, note="asked of a person")
            seen = (proof.out or proof.err).strip()
            reply = self._rec.ask(
                Question(
                    "human",
                    action.title,
                    human.instruction + (f"\n\nNow: {seen}" if seen else ""),
                    (
                        Choice("check", "Done: check it"),
                        Choice("attest", ATTEST, needs_text=True, needs_evidence=True),
                        Choice("quit", "Quit; --resume goes on"),
                    ),
                    step=step,
                    host=action.host,
                    subject=action,
                )
            )
            if reply.key == "quit":
                raise Stopped(f"waits for a person: {action.title}")
            if reply.key == "attest":
                self.attest(step, action, reply)
                return None
        job = job or self._begin(step, action)
        return self._ended(step, action, job, Status.OK, 0, _proved(proof))

    def prove(self, state: ActionState) -> None:
        """Settle what a person was asked for, if they did it meanwhile."""
        proof = as_read(state.action["do"]["done"])
        with contextlib.suppress(RunbookError):  # whoever reads the host next says so
            if (found := self._ask(state.host, (proof,))[proof.id]).ok:
                self.settle(state, Status.OK, 0, _proved(found))

    def repay(self, debt: OpenDebt) -> None:
        """End a temporary state; a debt that cannot be repaid stays in the ledger, and is said."""
        writers = self._may_change()
        self._rec.say(f"repaying: {debt.title}", step=debt.step, host=debt.host)
        try:
            if not isinstance(debt.repay, str):
                self._repay_names(debt.repay)
                self._rec.emit("debt_repaid", debt.step, debt.host, id=debt.id)
                return
            writer = writers.writer(self._site.host(debt.host))
            job = self._repayment(debt, writer)
            outcome = writer.run(
                Job(job, debt.repay, 600.0, about=f"repay: {debt.title}"),
                lambda line: self._rec.emit("output", debt.step, debt.host, line=line),
                self.stop,
            )
            status, note = judge(outcome, (0,))
        except RunbookError as error:
            status, note = Status.FAILED, error.what
        self.touched.add(debt.host)
        if status is Status.OK:
            self._rec.emit("debt_repaid", debt.step, debt.host, id=debt.id)
        else:
            self._rec.say(f"NOT repaid: {debt.title}: {note}", "error", debt.step, debt.host)

    def _repay_names(self, change: Mapping[str, Any]) -> None:
        if self._names_writer is None:
            raise RunbookError("this run may not update names")
        self._names_writer.apply(
            DnsChange(
                server=change["server"],
                zone=change["zone"],
                name=change["name"],
                rtype=change["rtype"],
                ttl=int(change["ttl"]),
                records=tuple(change["records"]),
                keep=bool(change["keep"]),
            )
        )

    def _repayment(self, debt: OpenDebt, writer: Writer) -> str:
        """The job that repays: the one that was begun, unless that one failed or was lost."""
        if debt.job:
            begun = writer.look(debt.job)
            if begun.state in (JobState.ABSENT, JobState.RUNNING) or begun.exit == 0:
                return debt.job
        job = self._new_job()
        self._rec.emit("debt_repaying", debt.step, debt.host, id=debt.id, job=job)
        return job

    # --- what was left in the dark ----------------------------------------------------------------

    def resolve(self, state: ActionState) -> Status:
        """Find out how an action ended whose outcome is not known: by looking, never by repeating.

        A job still running is followed to its end. PENDING: it never started. UNKNOWN: only
        the host's reads can tell now. RUNNING: nobody can look, so it may be at work.
        """
        if state.action["do"]["kind"] in ("DnsChange", "Human") or self._writers is None:
            return Status.UNKNOWN
        if state.host not in self._site:
            self.settle(state, Status.UNKNOWN, note="its host is not in the inventory any more")
            return Status.UNKNOWN
        try:
            status = self._look(state, self._writers.writer(self._site.host(state.host)))
        except (Interrupted, Waiting):
            raise
        except RunbookError as error:
            self.troubles[state.host] = error
            self.settle(state, Status.UNKNOWN, note=f"nobody can look: {error.what}")
            return Status.RUNNING
        self.troubles.pop(state.host, None)
        return status

    def _look(self, state: ActionState, writer: Writer) -> Status:
        outcome = writer.look(state.job)
        if outcome.state is JobState.RUNNING:
            self._rec.say(f"{state.title}: still running, waiting for it", host=state.host)
        said = ""
        while True:
            for line in added(said, outcome.tail).splitlines():
                self._rec.emit("output", state.step, state.host, line=line)
            said = outcome.tail
            if outcome.state is not JobState.RUNNING:
                break
            if self.stop.wait(LOOK_EVERY):
                raise Stopped("stopped by the operator; the job goes on")
            outcome = writer.look(state.job)
        if outcome.state is JobState.ABSENT:
            status, note = Status.PENDING, "it was never started"
        else:
            status, note = judge(outcome, tuple(state.action["do"].get("expect", (0,))))
        self.touched.add(state.host)
        self.settle(state, status, outcome.exit, note)
        return status

    def settle(
        self,
        state: ActionState,
        status: Status,
        exit_: int | None = None,
        note: str = "",
        evidence: str = "",
    ) -> None:
        """Record how an earlier start ended."""
        more = {"evidence": evidence} if evidence else {}
        self._rec.emit(
            "end",
            state.step,
            state.host,
            state.id,
            job=state.job,
            status=status.value,
            exit=exit_,
            note=note,
            **more,
        )

    # --- checking ---------------------------------------------------------------------------------

    def check(self, step: str, checks: Sequence[Check], known: Facts) -> dict[str, Verdict]:
        """The verdict of each check, by id; patient ones are asked until they pass or time out."""
        verdicts: dict[str, Verdict] = {}
        if len({check.id for check in checks}) < len(checks):
            raise RunbookError(f"step {step} asks two checks of one id", hint="report this")
        began = time.monotonic()
        dark = set(self.troubles)  # silent already: no check waits for them to come back
        left = list(checks)
        while left:
            wanted: dict[str, list[Read]] = {}
            for check in left:
                for host, read in check.reads:
                    wanted.setdefault(host, []).append(read)
            queries = [q for check in left for q in check.queries]
            facts = known.merged(self.gather(wanted, queries, step))
            while more := _more(left, facts):
                facts = facts.merged(self.gather(more, (), step))
            spent = time.monotonic() - began
            waiting: list[Check] = []
            for check in left:
                verdict = _unread(check, facts) or check.judge(facts)
                verdicts[check.id] = verdict
                hopeless = verdict.final or any(
                    host in dark for host, _ in check.reads if not facts.reachable(host)
                )
                if verdict.ok is not True and spent < check.patience and not hopeless:
                    waiting.append(check)
                    continue
                self._rec.emit(
                    "check",
                    step,
                    id=check.id,
                    title=check.title,
                    ok=verdict.ok,
                    observed=verdict.observed,
                    remedy=verdict.remedy,
                    detail=verdict.detail,
                    cell=list(check.cell),
                )
                if verdict.shares:
                    self._rec.emit("shares", step, **_as_shares(check.title, verdict))
            left = waiting
            if left and self.stop.wait(min(check.every for check in left)):
                raise Stopped("stopped by the operator")
        return verdicts

    # --- side by side -----------------------------------------------------------------------------

    def _each(self, hosts: Iterable[str], work: Callable[[str], T]) -> dict[str, T]:
        """`work` for each host in a thread of ours; the first error is raised when all ended."""
        names = list(hosts)
        if not names:
            return {}
        with ThreadPoolExecutor(min(THREADS, len(names)), thread_name_prefix="host") as pool:
            futures = {name: pool.submit(work, name) for name in names}
        return {name: future.result() for name, future in futures.items()}


def _as_shares(title: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "title": title,
        "planned": {name: share for name, share, _ in verdict.shares},
        "measured": {name: count for name, _, count in verdict.shares},
    }


def _proved(proof: Reading) -> str:
    return "proved: " + proof.out.strip()[:200]


def _shown(evidence: str) -> str:
    """What was pasted, bounded and without what acts on a terminal."""
    return "".join(c for c in evidence if c.isprintable() or c in "\n\t")[:EVIDENCE].strip()


def _more(checks: Iterable[Check], facts: Facts) -> dict[str, list[Read]]:
    """What these checks want to be read now, of hosts that answered, and was not read yet."""
    wanted: dict[str, list[Read]] = {}
    for check in checks:
        for host, read in check.then(facts):
            if facts.reachable(host) and read.id not in facts.hosts[host].readings:
                wanted.setdefault(host, []).append(read)
    return wanted


def _unread(check: Check, facts: Facts) -> Verdict | None:
    """UNKNOWN where a host it looks at was not read, or it looks at none: silence is no proof."""
    if not check.reads and not check.queries:
        return Verdict(None, "no host was read")
    silent = dict.fromkeys(host for host, _ in check.reads if not facts.reachable(host))
    return Verdict(None, f"not read: {', '.join(silent)}") if silent else None


def added(before: str, now: str) -> str:
    """What the end of an output has that an earlier look at it had not."""
    starts = (n for n in range(len(before) + 1) if now.startswith(before[n:]))
    return now[len(before) - next(starts) :]


def judge(outcome: Outcome, expect: Sequence[int]) -> tuple[Status, str]:
    """A job's outcome as a status, with one line that says why it is not OK."""
    said = gist(outcome.tail)
    if outcome.state is JobState.DONE:
        if outcome.exit in expect:
            return Status.OK, ""
        if outcome.exit == shell.CHANGED:
            return Status.FAILED, f"the host changed since the plan was made: {said}"
        if outcome.exit == 124:
            return Status.FAILED, f"took longer than allowed and was ended: {said}"
        return Status.FAILED, f"exit {outcome.exit}: {said}".removesuffix(": ")
    if outcome.state is JobState.ABSENT:
        return Status.UNKNOWN, "the host knows nothing of it"
    return Status.UNKNOWN, outcome.note or "nobody can tell how it ended"


def gist(tail: str) -> str:
    """The line of an output that says most: its last error, else its last line."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "e:", "fatal"))]
    return next(reversed(errors or lines), "")
