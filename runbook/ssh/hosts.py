"""Hosts over SSH: one verified connection each, batched reads, durable jobs.

`Hosts` gives readers; only `Hosts.writers()` gives something that can change a host.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets as randomness
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from fabric import Connection
from paramiko.ssh_exception import SSHException

from runbook.errors import (
    LinkLost,
    NotTried,
    PasswordRefused,
    RunbookError,
    SudoRefused,
    TrustError,
    Unreachable,
)
from runbook.model import Host, Read, Reading, Secret, SecretRef, Site
from runbook.ports import Job, Outcome
from runbook.shell import lend_script
from runbook.ssh.dial import Dialler
from runbook.ssh.frame import Batch, Gate, Lines, Talk
from runbook.ssh.hostkeys import FirstContact
from runbook.ssh.route import route
from runbook.ssh.spool import ROOT, TAIL, Follow, look_script, looked, start_script

# without a handler of its own paramiko's errors land on stderr, in the middle of the screen
logging.getLogger("paramiko").addHandler(logging.NullHandler())

BACKOFF = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts to dial a lost host again; the last one repeats."""
EMPTY_ENDS = 3
"""Times a follower may end without a word before we stop starting new ones."""


class Hosts:
    """The hosts of a site; one connection per host, opened by the thread that uses it first.

    `secrets` resolves a sudo password, at most once per reference and only when sudo asks.
    `on_first_contact(host, key type, fingerprint)` is asked about host keys nobody knows; without
    it, or when it says no, TrustError. Seconds: `keepalive` between signs of life (a link is dead
    after three), `reconnect_for` how long a lost host is dialled again during a job, `patience`
    for one batch of reads.
    """

    def __init__(
        self,
        site: Site,
        secrets: Callable[[SecretRef], Secret],
        on_first_contact: FirstContact | None = None,
        *,
        spool: str = ROOT,
        keepalive: float = 15.0,
        reconnect_for: float = 120.0,
        patience: float = 120.0,
    ) -> None:
        self.site = site
        self.spool = spool
        self.reconnect_for = reconnect_for
        self.patience = patience
        self._secrets = secrets
        self._resolved: dict[SecretRef, Secret] = {}
        self._secrets_lock = threading.Lock()
        self._dialler = Dialler(on_first_contact, keepalive)
        self._lines: dict[str, _Line] = {}
        self._trials: dict[tuple[SecretRef, str], _Trial] = {}
        self._lock = threading.Lock()

    def reader(self, host: Host) -> HostReader:
        return HostReader(self, self.line(host))

    def writers(self) -> HostWriters:
        """What can change hosts, over the same connections."""
        return HostWriters(self)

    def line(self, host: Host) -> _Line:
        with self._lock:
            line = self._lines.get(host.name)
            if line is None:
                password = host.login.sudo_password
                line = _Line(host, self._dialler, self._trial(host) if password else None)
                self._lines[host.name] = line
            return line

    def _trial(self, host: Host) -> _Trial:
        """The password a host shares with all that have it for the same user."""
        login = host.login
        reference = login.sudo_password
        assert reference is not None  # noqa: S101
        key = (reference, login.user)
        if key not in self._trials:
            self._trials[key] = _Trial(lambda: self.secret(reference).reveal())
        return self._trials[key]

    def close(self) -> None:
        """Closes every connection; durable jobs go on."""
        with self._lock:
            for line in self._lines.values():
                line.drop()
            self._lines.clear()
        self._dialler.close()

    def secret(self, reference: SecretRef) -> Secret:
        with self._secrets_lock:
            if reference not in self._resolved:
                self._resolved[reference] = self._secrets(reference)
            return self._resolved[reference]


class HostWriters:
    """Gives the writer of a host; the engine holds one only when it may change something."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def writer(self, host: Host) -> HostWriter:
        return HostWriter(self._hosts, self._hosts.line(host))


class HostReader:
    """Reads one host: a batch is one exec on an open connection."""

    def __init__(self, hosts: Hosts, line: _Line) -> None:
        self._hosts = hosts
        self._line = line

    def read(self, reads: Sequence[Read], prelude: str = "") -> Mapping[str, Reading]:
        """All reads, by id. A read that hangs, floods or kills its shell costs another exec.

        Unreachable, SudoRefused, TrustError, LinkLost; RunbookError when the prelude fails.
        """
        with self._line.lock:
            fresh = not self._line.open
            try:
                return self._line.batch(reads, prelude, self._hosts.patience)
            except LinkLost:
                if fresh:
                    raise
                # the connection had died while it was idle; nothing was changed, so ask again
                return self._line.batch(reads, prelude, self._hosts.patience)


class HostWriter:
    """Changes one host."""

    def __init__(self, hosts: Hosts, line: _Line) -> None:
        self._hosts = hosts
        self._line = line

    def run(self, job: Job, on_output: Callable[[str], None], stop: threading.Event) -> Outcome:
        """Runs the job once, whoever asks and however often, and follows it to its end.

        StateRefuses when a job of this id had another script. LinkLost when the host stays away:
        the job goes on.
        """
        recent: deque[str] = deque(maxlen=100)

        def emit(line: str) -> None:
            recent.append(line)
            on_output(line)

        lines = Lines(emit)
        with self._line.lock:
            self._line.dial()  # unreachable from the start is no lost link
            offset, attempt, empty = 0, 0, 0
            until, begun = math.inf, False
            while True:
                token = _token()
                follow = Follow(job, token, lines, stop, host=self._line.host.name, offset=offset)
                try:
                    script = start_script(job, token, offset, self._hosts.spool, begun=begun)
                    self._line.talk(token, script, follow)
                    if follow.done:
                        return follow.outcome(lambda: "\n".join(recent)[-TAIL:])
                    empty += 1
                    raise LinkLost(
                        f"the follower of the job {job.id} was ended", host=self._line.host.name
                    )
                except (SudoRefused, TrustError):
                    raise
                except Unreachable as error:
                    if follow.attached:  # it was back meanwhile
                        attempt, until, begun = 0, math.inf, True
                    offset = follow.offset
                    now = time.monotonic()
                    until = min(until, now + self._hosts.reconnect_for)
                    pause = BACKOFF[min(attempt, len(BACKOFF) - 1)]
                    attempt += 1
                    if now >= until or empty >= EMPTY_ENDS or stop.wait(pause):
                        raise self._lost(job, error) from error

    def lend(self, job_id: str, secrets: Mapping[str, SecretRef]) -> None:
        """Secrets for one job, in memory of the host; it travels as the sudo password does."""
        values = {name: self._hosts.secret(ref).reveal() for name, ref in secrets.items()}
        if not (got := self.now(lend_script(job_id, values))).ok:
            raise RunbookError(
                f"secrets cannot be handed over: {got.err.strip()}", host=self._line.host.name
            )

    def look(self, job_id: str) -> Outcome:
        """Where the job stands."""
        read = Read("look", look_script(job_id, self._hosts.spool))
        with self._line.lock:
            return looked(self._line.batch([read], "", self._hosts.patience)["look"])

    def now(self, script: str, timeout: float = 30.0) -> Reading:
        """Runs an idempotent script; it is ended with the connection, or after `timeout` s."""
        with self._line.lock:
            read = Read("now", script, timeout=timeout)
            return self._line.batch([read], "", self._hosts.patience)["now"]

    def _lost(self, job: Job, error: Unreachable) -> LinkLost:
        return LinkLost(
            f"{error.what}; the job {job.id} goes on there",
            host=self._line.host.name,
            hint="`pmrunbook --resume` looks how it ended.",
        )


def _token() -> str:
    return "pm" + randomness.token_hex(16)


class _Trial:
    """A password that many hosts share is tried on one of them before any other.

    A fleet often asks one directory: fifty wrong guesses at once would lock the account.
    """

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal
        self._turn = threading.Lock()
        self._trying = ""  # the host whose turn it is
        self._accepted = False
        self._refused_by = ""

    def answer(self, host: str) -> str:
        """The password, once it is this host's turn; PasswordRefused where another refused it.

        Whoever tries it first calls `over` in any case.
        """
        if not self._accepted:
            self._turn.acquire()
            if self._accepted:
                self._turn.release()
            elif self._refused_by:
                self._turn.release()
                raise NotTried(
                    f"not tried here: sudo on {self._refused_by} refused the same password",
                    host=host,
                    hint="Correct what `sudo_password` in the inventory refers to and start again.",
                )
            else:
                self._trying = host
        return self._reveal()

    def over(self, host: str, *, accepted: bool = False, refused: bool = False) -> None:
        """What became of it there, if it was its turn; the others go on."""
        if self._trying == host:
            self._trying, self._accepted = "", accepted
            self._refused_by = host if refused else ""
            self._turn.release()


class _Line:
    """The connection of one host. Whoever uses it holds `lock`."""

    def __init__(self, host: Host, dialler: Dialler, password: _Trial | None) -> None:
        self.host = host
        self.lock = threading.Lock()
        self._dialler = dialler
        self._password = password
        self._connection: Connection | None = None
        self._refused: SudoRefused | None = None

    @property
    def open(self) -> bool:
        return self._connection is not None and bool(self._connection.is_connected)

    def dial(self) -> Connection:
        """The open connection; dials when there is none."""
        if self._refused:
            raise self._refused  # a second wrong password might lock the account
        if self._connection is None or not self._connection.is_connected:
            self.drop()
            try:
                self._connection = self._dialler.reach(route(self.host))
            except RunbookError as error:
                error.host = error.host or self.host.name
                raise
        return self._connection

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, EOFError, SSHException):
                connection.close()

    def talk(self, token: str, script: bytes, inner: Talk) -> int:
        """Runs `script` as root; the exit status, -1 when `inner` was done before the end."""
        connection = self.dial()
        login, name, trial = self.host.login, self.host.name, self._password
        gate = Gate(
            token,
            script,
            inner,
            host=name,
            sudo=login.sudo,
            shell=login.sudo_shell if login.sudo else "",
            password=partial(trial.answer, name) if trial else None,
            accepted=partial(trial.over, name, accepted=True) if trial else lambda: None,
        )
        refused = False
        try:
            status: int = connection.run(gate.command, talk=gate, host=name)
            gate.check(status)
        except SudoRefused as error:
            self._refused = error if gate.asked else None
            refused = isinstance(error, PasswordRefused)
            raise
        except LinkLost:
            self.drop()
            raise
        finally:
            if trial:
                trial.over(name, refused=refused)
        return status

    def batch(self, reads: Sequence[Read], prelude: str, patience: float) -> Mapping[str, Reading]:
        readings: dict[str, Reading] = {}
        pending = tuple(reads)
        # what takes longer than usual by its own word gets that time on top
        deadline = time.monotonic() + patience + sum(max(0.0, r.timeout - 30.0) for r in pending)
        while pending:
            token = _token()
            # the way in and the frame have marks of their own: the first is in the process list
            batch = Batch(pending, prelude, _token(), host=self.host.name, deadline=deadline)
            status = self.talk(token, batch.script(), batch)
            settled, pending = batch.settle(status)
            readings.update(settled)
        return readings
