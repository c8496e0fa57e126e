"""From one operator's machine to another's: the site's journal is taken up where it ends.

What a machine knows that the site does not is given up only where it changed nothing, and is kept
in a file of its own even then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from runbook import lock
from runbook.audit import audit, compare
from runbook.errors import Exit, Interrupted, RunbookError, StateRefuses
from runbook.journal import GENESIS, Journal, Line, digests, head_file, parse, site_folder
from runbook.journal import read as written
from runbook.model import Event, Read, Reading, Site
from runbook.output import say
from runbook.secrets import Secrets, typed
from runbook.sitecopy import head_script, parse_head, pull
from runbook.state import RunState, fold
from runbook.symbols import count, verdict

CHANGES = frozenset({"start", "debt_repaying", "debt_repaid"})
"""Kinds of events without which nothing can have happened on a host."""


@dataclass(frozen=True, slots=True)
class SiteJournal:
    """What the site has."""

    data: bytes
    records: tuple[Line, ...]
    holder: lock.Holder | None

    @property
    def events(self) -> list[Event]:
        return [record.event for record in self.records]

    @property
    def at_work(self) -> bool:
        """Whether the last run in it has the lock, and gives signs of life."""
        held = self.holder
        return bool(held and held.run == fold(self.events).run and held.age <= lock.EXPIRES)


def look(read: Callable[[Read], Reading]) -> SiteJournal | None:
    """The site's journal, whole; None where there is none. StateRefuses where it is not sound."""
    head = parse_head(read(Read("site-journal-head", head_script())))
    if head is None:
        return None
    data = pull(read, head.size)
    records: list[Line] = []
    previous = GENESIS
    for line in data.splitlines(keepends=True):
        record = parse(line, previous)
        if record is None or not record.sound or record.seq != len(records) + 1:
            raise StateRefuses(
                f"the journal kept on the site is broken at its record {len(records) + 1}",
                hint="pmrunbook verify journal on the machine that wrote it last",
            )
        previous = record.digest
        records.append(record)
    held = read(Read("lock", lock.status_script()))
    return SiteJournal(data, tuple(records), lock.parse(held.out) if held.ok else None)


def take_up(
    journal: Journal,
    read: Callable[[Read], Reading],
    wanted: Callable[[SiteJournal], bool],
    say: Callable[[str], None],
    never: Callable[[Event], bool] = lambda start: False,
) -> bool:
    """Bring `journal` up to what the site has; whether there was anything.

    `never` tells of the record of a start whether its host knows nothing of the job: what the site
    was not told of was not begun, unless the link was down. Interrupted where the operator does not
    want it, StateRefuses where both went on and changed something.
    """
    head = parse_head(read(Read("site-journal-head", head_script())))
    ours = digests(journal.path)
    if head is None or (head.seq <= len(ours) and ours[head.seq - 1] == head.digest):
        return False
    there = look(read)
    if there is None:
        return False
    same = next(
        (n for n, (a, b) in enumerate(zip(ours, there.records, strict=False)) if a != b.digest),
        min(len(ours), len(there.records)),
    )
    mine = written(journal.path)[0][same:]
    changed = [event for event in mine if event.kind in CHANGES]
    if not all(event.kind == "start" and never(event) for event in changed):
        raise StateRefuses(
            f"two operators went on from record {same}: this machine changed something that the "
            "site's journal does not know of",
            hint=f"pmrunbook report tells what; then: mv {journal.path} {journal.path}.mine; "
            f"rm -f {journal.path.with_suffix('.head')}; pmrunbook --resume takes up the site's",
        )
    if not wanted(there):
        raise Interrupted("not taken up", hint="pmrunbook status --from-site")
    if mine:
        kept = journal.set_aside()
        say(f"{count(len(mine), 'record')} of this machine, which changed nothing, are in {kept}")
    journal.adopt(there.data[journal.head.size :])
    say(f"taken up from the site: {count(len(there.records) - same, 'record')}, {told(there)}")
    return True


def told(there: SiteJournal) -> str:
    """Whose run it is, in a few words: "the run of alice@desk7, 12 min ago"."""
    state = fold(there.events)
    minutes = max(0, round((time.time() - there.records[-1].event.at) / 60))
    ago = f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"
    at_work = ", at work" if there.at_work else ""
    return f"the {_kind(state)} of {state.operator}, {ago}{at_work}"


def _kind(state: RunState) -> str:
    return "run" if state.mode in ("run", "resume") else state.mode


# --- commands that read the site's journal --------------------------------------------------------


def fetch(site: Site, host: str) -> SiteJournal:
    """The site's journal for a command that only shows it; StateRefuses where there is none."""
    if found := _there(site, host):
        return found
    raise StateRefuses("nothing was done on this site by pmrunbook", host=host)


def _there(site: Site, host: str) -> SiteJournal | None:
    from runbook.ssh import Hosts

    secrets = Secrets(typed)
    hosts = Hosts(site, secrets.get)
    try:
        reader = hosts.reader(site.host(host))
        return look(lambda read: reader.read((read,))[read.id])
    finally:
        hosts.close()


def verify_journal(site: Site, host: str, me: str) -> int:
    """Tell what is wrong with this machine's journal, by itself and against the site's copy.

    `me` is who types here, and where, as the records say it.
    """
    path = site_folder(site.name) / "journal.jsonl"
    there, trouble = None, ""
    try:
        there = _there(site, host)  # first: a run at work writes here before it writes there
    except RunbookError as error:
        trouble = str(error)
    here = audit(path)
    for fault in here.faults:
        _tell(False, fault)
    if here.torn:
        _tell(True, f"{path.name}:{here.torn}: torn while it was written; never acted upon")
    if not here.faults:
        _tell(True, f"{count(len(here.records), 'record')}, none changed, removed or moved")
    ok: bool | None = not here.faults
    if here.records and not head_file(path).exists():
        name = head_file(path).name
        _tell(None, f"{name} is gone: what the site was not told of may be gone from the end")
        ok = ok and None
    if there:
        faults, note = compare(here.records, there.records, me)
        for fault in faults:
            _tell(False, fault)
        if note:
            _tell(True, note)
        ok = ok and not faults
    else:
        # Only what changed something has to be there.
        changed = any(record.event.kind in CHANGES for record in here.records)
        told = None if trouble or changed else True
        _tell(told, f"not compared: {trouble or f'{host} has no copy to compare with'}")
        ok = ok and told
    return int(Exit.DONE if ok else Exit.FAILED)


def _tell(ok: bool | None, text: str) -> None:
    say(f"{verdict(ok).word:8} {text}")
