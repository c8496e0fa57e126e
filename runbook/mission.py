"""One command of the operator's, wired: the engine, the hosts, the journal and a face."""

from __future__ import annotations

import getpass
import hashlib
import itertools
import os
import secrets as randomness
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook import __version__
from runbook.crew import Crew, Stopped
from runbook.engine import Engine, Options, about, due, new_run
from runbook.errors import (
    Exit,
    Interrupted,
    Locked,
    RunbookError,
    StateRefuses,
    SudoRefused,
    Unreachable,
    UsageError,
)
from runbook.handover import SiteJournal, look, take_up, told
from runbook.journal import Journal, open_own, private_folder, read, site_folder, usable
from runbook.lock import EXPIRES, Holder, SiteLock, locked, parse, status_script
from runbook.memory import Memory, said_folder
from runbook.model import (
    Event,
    Read,
    Reading,
    Runbook,
    Secret,
    SecretRef,
    Site,
    fingerprint,
)
from runbook.output import say
from runbook.ports import Choice, Face, JobState, Question, Writer, Writers
from runbook.recorder import Recorder
from runbook.sitecopy import Claim, SiteCopy
from runbook.state import RunState, fold
from runbook.symbols import count
from runbook.transcripts import Transcripts
from runbook.undo import Undo

if TYPE_CHECKING:
    from runbook.ssh import Hosts

GROUP = "pmrunbook.runbooks"
CHANGES = ("run", "resume", "undo", "repay")


def load_runbook(name: str = "scaling") -> Runbook:
    """The runbook installed under `name`; sites bring their own through the same entry points."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise UsageError(f"there is no runbook {name}", hint=f"installed: {', '.join(found)}")
    runbook = found[name].load()
    if not isinstance(runbook, Runbook):
        raise UsageError(f"{found[name].value} is not a runbook")
    # Its own digest covers the steps it ships; a site's own module is covered here.
    return replace(runbook, digest=fingerprint([runbook.digest, _sources(found[name].module)]))


def _sources(module: str) -> list[str]:
    """SHA-256 of the module's source, or of all in its package: changed code is another runbook."""
    file = Path(sys.modules[module].__file__ or "")
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()]


def operator() -> str:
    """Who types, and where: what the journal and the lock say."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def include(site: Site, hosts: tuple[str, ...]) -> int:
    """Take hosts in again that the last run left out: `--resume` goes to them, too."""
    journal = Journal(site_folder(site.name))
    try:
        out = fold(journal.events).excluded
        for host in hosts:
            if host not in out:
                known = f"left out: {', '.join(out)}" if out else "no host is left out"
                raise UsageError(f"{host} is not left out", hint=known)
        for host in dict.fromkeys(hosts):
            journal.append(Event("included", time.time(), host=host, data={"by": operator()}))
    finally:
        journal.close()
    say(f"taken in again: {', '.join(hosts)}; next: pmrunbook --resume")
    return int(Exit.DONE)


class Mission:
    """What a face is handed; see `runbook.ports.Mission`."""

    def __init__(
        self,
        site: Site,
        runbook: Runbook,
        mode: str = "run",
        *,
        steps: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
        new: bool = False,
        topic: str = "",
        down_to: bool = False,
    ) -> None:
        """`down_to`: an undo takes back the steps after the one asked for as well."""
        self.site = site
        self.runbook = runbook
        self.mode = mode
        self._steps = steps
        self._hosts = hosts
        self._new = new
        self._topic = topic
        self._down_to = down_to
        self._folder = site_folder(site.name)
        self._crew: Crew | None = None
        self._stopped = False
        self._run = ""
        self._recorder: Recorder | None = None  # while a run is under way
        self._engine: Engine | None = None  # while it goes through the steps
        self._known: RunState | None = None  # before this command, once the site was asked

    def past(self) -> RunState:
        if self._known:
            return self._known
        if self.mode not in CHANGES:
            return RunState()
        return fold(self._read())

    def transcript(self, step: str, host: str) -> Path:
        return Transcripts(self._folder / "transcripts" / (self._run or "none")).path(step, host)

    def shell(self, host: str, start: Callable[[list[str]], int]) -> int:
        from runbook.terminal import shell_command

        with shell_command(self.site.host(host)) as argv:
            self._note("shell_started", host, operator=operator())
            code = start(argv)
        self._note("shell_ended", host, exit=code)
        return code

    def include(self, host: str) -> None:
        if engine := self._engine:
            engine.take_in(host)
        else:
            self._note("included", host, by=operator())

    def _note(self, kind: str, host: str, **data: Any) -> None:
        """Journal what an operator does beside the run, also when that one has ended."""
        if recorder := self._recorder:
            recorder.emit(kind, "", host, **data)
        elif self.mode in CHANGES:
            journal = Journal(self._folder)
            try:
                journal.append(Event(kind, time.time(), host=host, data=data))
            finally:
                journal.close()

    def stop(self) -> None:
        self._stopped = True
        if self._crew:
            self._crew.stop.set()

    def run(self, face: Face) -> int:
        try:
            return self._run_with(face)
        except RunbookError as error:  # before there was anything to record it in
            recorder = Recorder(face)
            recorder.emit("run_ended", exit=int(error.exit), why=str(error), hint=error.hint)
            return int(error.exit)

    def _run_with(self, face: Face) -> int:
        due(self.runbook, self._steps)  # a mistyped one must not become the last run's
        about(self.runbook, self._topic)
        changes = self.mode in CHANGES
        journal = Journal(self._folder) if changes else None
        transcripts = None
        hosts = lock_hosts = claim = None
        recorder = Recorder(face)  # what is asked before the site's journal is ours is not in it
        try:
            from runbook.dns import NameServers
            from runbook.secrets import Secrets
            from runbook.ssh import Hosts

            secrets = Secrets(lambda label: self._prompt(recorder, label))

            def trust(host: str, kind: str, fingerprint: str) -> bool:
                return self._trust(recorder, host, kind, fingerprint)

            if journal:
                # A connection of its own: the heartbeat must not wait behind a long job there.
                lock_hosts = Hosts(self.site, secrets.get, trust)
                self._take_up(journal, lock_hosts, recorder)
            past = journal.events if journal else self._history(secrets.get, trust)
            try:
                self._run = self._begin(fold(past))
            except StateRefuses as error:
                raise (lock_hosts and self._at_work(lock_hosts)) or error from None
            if journal:
                transcripts = Transcripts(self._folder / "transcripts" / self._run)
            recorder = self._recorder = Recorder(face, journal, transcripts, past)
            hosts = Hosts(self.site, secrets.get, trust)
            names = NameServers(self.site.dns, secrets.get)
            number = itertools.count(len(past))
            # Another machine may have begun a job of this run that we do not know of.
            name = f"{self._run}-{randomness.token_hex(2)}" if self.mode == "resume" else self._run
            self._crew = Crew(
                self.site,
                recorder,
                hosts,
                names,
                hosts.writers() if changes else None,
                names if changes else None,
                self.runbook.prelude,
                lambda: f"{name}-{next(number)}",
                (ask, Memory(said_folder(self.site.name)))
                if (ask := self.runbook.memory)
                else None,
            )
            recorder.face_lost = self.stop
            if self._stopped:
                self._crew.stop.set()
            self._announce(recorder)
            if journal and lock_hosts:
                claim = self._claim(lock_hosts.writers(), journal, recorder)
            code, why, hint = self._attempt(recorder, self._crew, claim)
            recorder.emit("run_ended", exit=int(code), why=why, hint=hint)
            return int(code)
        finally:
            self._recorder = None
            if claim:
                try:
                    claim.release()
                except RunbookError as error:
                    recorder.say(f"the lock stays until it expires: {error}", "warning")
            if transcripts:
                transcripts.close()
            for opened in (hosts, lock_hosts):
                if opened:
                    opened.close()
            if journal:
                journal.close()

    def _history(
        self, secret: Callable[[SecretRef], Secret], trust: Callable[[str, str, str], bool]
    ) -> list[Event]:
        """What a command that changes nothing may know of earlier runs, on any machine."""
        if self.mode != "undo-dry-run":
            return []
        from runbook.ssh import Hosts

        ours, hosts = self._read(), Hosts(self.site, secret, trust)
        try:
            there = look(self._reader(hosts))
        except SudoRefused:
            raise
        except Unreachable:
            there = None
        finally:
            hosts.close()
        return there.events if there and len(there.records) >= len(ours) else ours

    def _reader(self, hosts: Hosts) -> Callable[[Read], Reading]:
        """Reads on the host that has the lock."""
        host = self.site.host(self.runbook.lock_host(self.site))
        return lambda asked: hosts.reader(host).read((asked,))[asked.id]

    def _read(self) -> list[Event]:
        return read(self._folder / "journal.jsonl")[0]

    def _attempt(self, recorder: Recorder, crew: Crew, lock: Claim | None) -> tuple[Exit, str, str]:
        """Do what was asked; how it ended, as exit code, sentence and what to type next."""
        try:
            return self._perform(recorder, crew, lock)
        except Stopped as error:
            dark = len(recorder.state.unknown())
            left = f"; {count(dark, 'job')} may still run on the hosts" if dark else ""
            return Exit.INTERRUPTED, f"{error}{left}", self._way_on()
        except RunbookError as error:
            return error.exit, str(error), error.hint
        except Exception as error:  # noqa: BLE001  # the face must end, and the journal say why
            what = f"a bug in pmrunbook {__version__}: {type(error).__name__}"
            try:
                trace = self._keep(error)
            except StateRefuses as refused:
                return Exit.FAILED, f"{what}; {refused}", refused.hint
            return Exit.FAILED, what, f"please report {trace}; then: pmrunbook --resume"

    def _keep(self, error: Exception) -> Path:
        """Where a bug shows, for who looks for it."""
        trace = private_folder(self._folder) / "crash.txt"
        with usable(trace), open(trace, "w", opener=open_own) as handle:
            traceback.print_exception(error, file=handle)
        return trace

    def _perform(self, recorder: Recorder, crew: Crew, lock: Claim | None) -> tuple[Exit, str, str]:
        undo = Undo(self.site, self.runbook, recorder, crew, operator())
        if self.mode == "undo-dry-run":
            self._take_back(undo, dry=True)
            return Exit.DONE, "nothing was changed", self._undoing()
        if lock and self.mode in ("undo", "repay"):
            lock.take()
            if self.mode == "repay":
                return _repay(recorder, crew)
            left = self._take_back(undo)
            return _undone(recorder.state, left, self._undoing())
        word = fold(self._read()).attested() if self.mode == "verify" else ()
        options = Options(self.mode, self._steps, self._hosts, operator(), self._topic, word)
        engine = Engine(self.site, self.runbook, recorder, crew, options, lock, undo.run)
        if self.mode == "verify":
            good = engine.verify()
            return (
                (Exit.DONE, "all of it holds", "") if good else (Exit.FAILED, "not all holds", "")
            )
        self._engine = engine
        try:
            engine.run()
        finally:
            self._engine = None
        if self.mode == "dry-run":
            return Exit.DONE, "nothing was changed", "pmrunbook"
        return _still_open(recorder.state, "pmrunbook --resume") or _done(recorder.state)

    def _way_on(self) -> str:
        return self._undoing() if self.mode == "undo" else "pmrunbook --resume"

    def _undoing(self) -> str:
        return f"pmrunbook undo {'--to ' if self._down_to else ''}{self._steps[0]}"

    def _take_back(self, undo: Undo, *, dry: bool = False) -> int:
        take = undo.down_to if self._down_to else undo.run
        return sum(take(step, dry=dry) for step in self._steps)

    def _begin(self, past: RunState) -> str:
        """The id of this run, or why it may not begin."""
        if self.mode == "resume":
            if not past.run:
                raise StateRefuses("there is no run to go on with", hint="pmrunbook")
            if not past.begun:
                hint = "pmrunbook undo STEP goes on with it; pmrunbook starts a run"
                raise StateRefuses(f"the last command was not a run: {past.mode}", hint=hint)
            self._go_on_with(past.begun.get("asked", {}))
            for what, now in (("inventory", self.site.digest), ("runbook", self.runbook.digest)):
                if past.begun.get(what) != now:
                    raise StateRefuses(
                        f"the {what} changed since that run was started",
                        hint="put it back as it was; or: pmrunbook --new, which looks at what "
                        "is unknown, then plans afresh (what is done is found done)",
                    )
            return str(past.begun["run"])
        dark, debts = len(past.unknown()), len(past.debts)
        if self.mode == "run" and not self._new and (dark or debts):
            raise StateRefuses(
                f"the last run left {count(dark, 'unknown outcome')} and "
                f"{count(debts, 'open debt')}",
                hint="pmrunbook --resume goes on with it; pmrunbook --new starts afresh",
            )
        return new_run()

    def _at_work(self, hosts: Hosts) -> Locked | None:
        """Another operator's run that goes on right now: so the last one has no end yet."""
        try:
            said = self._reader(hosts)(Read("lock", status_script()))
        except Unreachable:
            return None
        holder = parse(said.out) if said.ok else None
        if holder is None or holder.age > EXPIRES or self._holder().succeeds(holder):
            return None
        return locked(holder, self.runbook.lock_host(self.site))

    def _take_up(self, journal: Journal, hosts: Hosts, recorder: Recorder) -> None:
        """Begin with what other operators did meanwhile, from other machines."""
        where = self.runbook.lock_host(self.site)
        empty = not journal.events

        def wanted(there: SiteJournal) -> bool:
            if self.mode != "resume" or not (empty or _another(there, journal)):
                return True
            reply = recorder.ask(
                Question(
                    "handover",
                    f"{told(there)}, is on {where}",
                    f"It has {count(len(there.records), 'record')}; this machine "
                    f"has {len(journal.events) or 'none'}.",
                    (Choice("take", "Go on with it"), Choice("no", "Not now")),
                    host=where,
                )
            )
            return reply.key == "take"

        def never(start: Event) -> bool:
            kind = start.data["action"]["do"]["kind"]
            if start.host not in self.site or kind in ("DnsChange", "Human"):
                return False
            writer = hosts.writers().writer(self.site.host(start.host))
            return writer.look(str(start.data["job"])).state is JobState.ABSENT

        try:
            if take_up(journal, self._reader(hosts), wanted, recorder.say, never):
                self._known = fold(journal.events)
                recorder.emit("taken_up")
        except SudoRefused:
            raise
        except Unreachable:
            pass  # nor can the lock be taken there: the run says so when it comes to that

    def _go_on_with(self, asked: Mapping[str, Any]) -> None:
        """A run that was limited to some steps and hosts goes on with those."""
        steps, hosts = tuple(asked.get("steps", ())), tuple(asked.get("hosts", ()))
        if self._steps not in ((), steps) or self._hosts not in ((), hosts):
            raise StateRefuses(
                f"that run was asked for steps {', '.join(steps) or 'all'} "
                f"on hosts {', '.join(hosts) or 'all'}",
                hint="pmrunbook --resume alone goes on with it; pmrunbook --new starts another",
            )
        self._steps, self._hosts = steps, hosts

    def _announce(self, recorder: Recorder) -> None:
        recorder.emit(
            "run_started",
            run=self._run,
            mode=self.mode,
            resumed=self.mode == "resume",
            asked={"steps": list(self._steps), "hosts": list(self._hosts)},
            site=self.site.name,
            operator=operator(),
            version=__version__,
            inventory=self.site.digest,
            runbook=self.runbook.digest,
            steps={s.id: s.title for s in self.runbook.steps},
            hosts=[h.name for h in self.site.hosts],
        )

    def _claim(self, writers: Writers, journal: Journal, recorder: Recorder) -> Claim:
        host = self.runbook.lock_host(self.site)
        token = randomness.token_hex(8)
        me = replace(self._holder(), why=self._why(), run=self._run, token=token)

        def lost(where: str) -> None:
            recorder.say("somebody broke our lock: stopping", "error", host=where)
            self.stop()

        def behind(text: str) -> None:
            recorder.say(text, "warning", host=host)

        def writer() -> Writer:
            return writers.writer(self.site.host(host))

        copy = SiteCopy(writer, journal, token, behind, lambda: lost(host))
        recorder.copy = copy
        return Claim(SiteLock(writer, host, me, lost), copy)

    def _holder(self) -> Holder:
        who, _, where_from = operator().partition("@")
        return Holder(who, where_from, "", "", str(self._folder))

    def _why(self) -> str:
        what = ", ".join(self._steps) or self.runbook.title
        return f"{self.mode}: {what}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC"

    def _prompt(self, recorder: Recorder, label: str) -> str:
        question = Question("secret", label, "", (Choice("ok", "OK", needs_text=True),))
        return recorder.ask(question).text

    def _trust(self, recorder: Recorder, host: str, kind: str, fingerprint: str) -> bool:
        if self._stopped:
            raise Interrupted("stopped by the operator")
        reply = recorder.ask(
            Question(
                "trust",
                f"{host} is not in known_hosts",
                f"Its {kind} key has the fingerprint\n  {fingerprint}\n"
                "Compare it with what the host's owner gave you. Nothing was sent yet.",
                (
                    Choice("no", "Do not trust it"),
                    Choice("yes", "It is right: add it to known_hosts"),
                ),
                host=host,
                risk="destructive",
            )
        )
        return reply.key == "yes"


def _another(there: SiteJournal, journal: Journal) -> bool:
    """Whether the last run there is not the last one here."""
    return fold(there.events).operator != fold(journal.events).operator


def _still_open(state: RunState, way_on: str) -> tuple[Exit, str, str] | None:
    """What keeps a command that changed something from a clean end, whatever else it did."""
    if dark := len(state.unknown()):
        return Exit.UNKNOWN, f"{count(dark, 'outcome')} unknown", way_on
    if debts := len(state.debts):
        return Exit.FAILED, f"{count(debts, 'debt')} still open", "pmrunbook debts --repay"
    return None


def _undone(state: RunState, left: int, way_on: str) -> tuple[Exit, str, str]:
    """An undo that came to its end, with this many actions `left` on hosts it left as they are."""
    how = f"{count(left, 'action')} not taken back" if left else "taken back"
    if open_ := _still_open(state, "pmrunbook status"):
        code, why, hint = open_
        return code, f"{how}; {why}", way_on if left else hint
    return (Exit.FAILED, how, way_on) if left else (Exit.DONE, how, "")


def _done(state: RunState) -> tuple[Exit, str, str]:
    """A run that came to its end, and what has to be said of it all the same."""
    out = len(state.excluded)
    word = sum(len(state.granted(step)) for step in state.steps)
    said = [
        "done",
        *([f"{count(out, 'host')} left out"] if out else []),
        *([f"{count(word, 'action')} attested, not verified"] if word else []),
    ]
    return Exit.DONE, "; ".join(said), "pmrunbook status" if out or word else "pmrunbook report"


def _repay(recorder: Recorder, crew: Crew) -> tuple[Exit, str, str]:
    """End every temporary state that is still there."""
    for state in recorder.state.unknown():
        crew.resolve(state)
    dark = {state.host for state in recorder.state.unknown()}
    for debt in tuple(recorder.state.debts.values()):
        if debt.host in dark:
            recorder.say(f"nobody can tell how far it is: {debt.title}", "warning", host=debt.host)
        else:
            crew.repay(debt)
    left = len(recorder.state.debts)
    if left:
        return Exit.FAILED, f"{count(left, 'debt')} still open", "pmrunbook log"
    return Exit.DONE, "nothing temporary is left", ""
