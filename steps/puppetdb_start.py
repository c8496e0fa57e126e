"""Stage `start` of the step `puppetdb`: it runs, and every server's certificate may ask it."""

from __future__ import annotations

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Later,
    Nothing,
    Planned,
    Read,
    Script,
    Site,
    Stage,
    Verdict,
)

from . import reads
from .layout import Seen, joined
from .puppetdb_database import closed
from .puppetdb_files import edits
from .puppetdb_site import Store, stores, urls
from .shellwords import assignments

START = 60.0  # seconds a restart takes on two processors


def start(site: Site, facts: Facts) -> Planned:
    """The first one: where several share a database, it alone makes the tables."""
    return _start(site, facts, stores(site, facts)[:1])


def start_others(site: Site, facts: Facts) -> Planned:
    return _start(site, facts, stores(site, facts)[1:])


def _start(site: Site, facts: Facts, these: tuple[Store, ...]) -> Planned:
    planned: list[Action | Later] = []
    for store in these:
        if not store.etc:
            if not store.foreign:
                what = "starting PuppetDB, enabled at boot"
                planned.append(Later(what, "configure", store.name))
            continue
        try:
            changed = any(True for _ in edits(site, facts, store)) or (
                not store.foreign and store.state.one("tls") != "same"
            )
        except edit.EditError:
            continue
        # Of somebody else's only the list is ours, and with it the restart that reads it.
        unread = store.state.all("stale")
        list_path = store.file("allowlist").path
        stale = changed or bool(list_path in unread if store.foreign else unread)
        how = "restart" if store.running and stale else "" if store.running else "start"
        enabled = store.seen.service("puppetdb").get("UnitFileState") == "enabled"
        if not how and (enabled or store.foreign):
            continue
        planned.append(_serve(store, how, enabled or store.foreign))
    return tuple(planned)


def _serve(store: Store, how: str, enabled: bool) -> Action:
    vendor = store.etc.startswith("/etc/puppetlabs")
    jetty = store.file("jetty.ini").content or b""
    host = edit.ini_get(jetty, "jetty", "host") or "127.0.0.1"
    given = assignments(
        ruby=store.seen.ruby,
        logdir="/var/log/puppetlabs/puppetdb" if vendor else "/var/log/puppetdb",
        plain=edit.ini_get(jetty, "jetty", "port") or "8080",
        plain_host="127.0.0.1" if host in ("localhost", "0.0.0.0") else host,  # noqa: S104
        etc=store.etc,
    )
    enable = "" if enabled else "systemctl enable --quiet puppetdb || exit 1\n"
    words = {
        "start": "start PuppetDB, wait until it answers",
        "restart": "restart PuppetDB: it reads its files, and who may ask, at the start only",
        "": "enable PuppetDB at boot",
    }
    back = "systemctl stop puppetdb\n" if how == "start" else ""
    back += "" if enabled else "systemctl disable --quiet puppetdb\n"
    serve = f"serve {how}\n" if how else ""
    start = "".join(map(reads.script, ("denials.sh", "dated.sh", "puppetdb_start.sh")))
    return Action(
        id=f"start/{store.name}/{how or 'enable'}",
        host=store.name,
        title=words[how],
        do=Script(given + start + enable + serve, timeout=1200.0),
        undo=Compensate(back) if back else Nothing(),
        outage=START if how == "restart" else 0.0,
    )


# --- proof ---------------------------------------------------------------------------------------


def _reads(site: Site, name: str) -> tuple[tuple[str, Read], ...]:
    return (
        (name, reads.SOFTWARE),
        (name, reads.MACHINE),
        (name, reads.puppetdb(site)),
    )


def answers(site: Site, name: str) -> Check:
    """PuppetDB runs, its database is up, nothing waits or was thrown away."""

    def judge(facts: Facts) -> Verdict:
        store = Store(Seen(name, facts), site)
        if not store.read:
            return Verdict(None, f"{name} was not read")
        state = store.state
        log = f"journalctl -u puppetdb -n 50 --no-pager, on {name}"
        if not store.running:
            return Verdict(False, f"it does not run. {MEANWHILE}", log, final=True)
        if said := closed(store):
            said = f"its database does not let it in: {said}. {QUEUED}"
            return Verdict(False, said, log, final=True)
        if state.one("state") != "running" or state.one("maintenance_mode") == "true":
            said = state.one("error") or state.one("state") or "it does not answer"
            return Verdict(False, f"{said}. {MEANWHILE}", log)
        if state.one("write_db_up") == "false" or state.one("read_db_up") == "false":
            return Verdict(False, f"its database does not answer. {QUEUED}", log)
        if (queue := state.number("queue_depth")) > QUEUE:
            return Verdict(False, f"{queue} commands wait to be stored", log)
        if stuck := state.number("stuck"):
            said = f"commands that wait to be stored for more than 90 min: {stuck}"
            return Verdict(False, said, log, final=True)
        if lost := state.number("discarded"):
            said = f"{lost} files of commands thrown away within a day"
            remedy = f"look into stockpile/discard in its vardir, on {name}"
            return Verdict(False, said, remedy, final=True)
        return Verdict(True, f"{state.one('version')}, queue {queue}, none thrown away")

    title = f"{name} runs PuppetDB, with its database and an empty queue"
    return Check(f"answers/{name}", title, judge, _reads(site, name), patience=60.0, every=5.0)


QUEUE = 100
"""Commands that may wait: a busy site always has some."""

MEANWHILE = (
    "Servers with soft_write_failure compile on; facts and catalogs of these runs come with the "
    "next run, their reports are lost, nothing is queued on the servers"
)
QUEUED = (
    "What servers send waits in its queue, on its disk, and is tried again, in the end once an hour"
)


def accepts(site: Site, name: str) -> Check:
    """This server's certificate may ask every PuppetDB."""
    again = "pmrunbook --step puppetdb"

    def judge(facts: Facts) -> Verdict:
        found = Seen(name, facts).terminus
        for url in urls(site):
            at = found.get(f"ask {url}")
            if at is None:
                return Verdict(None, f"{name} did not ask {url}")
            if at.one("status") == "403":
                return Verdict(False, f"{url} does not have {name} in its list", again)
            if at.one("status") != "200":
                said = at.one("error") or f"status {at.one('status')} {at.one('said')}"
                look = f"systemctl status puppetdb, on {url.partition(':')[0]}"
                mend = "certificate verify failed" in said  # with copies of what it has now
                return Verdict(False, f"{url}: {said}", again if mend else look)
        return Verdict(True, f"by {', '.join(urls(site))}")

    return Check(
        f"accepts/{name}",
        f"{name} may ask PuppetDB with its certificate",
        judge,
        ((name, reads.SOFTWARE), (name, reads.terminus(urls(site)))),
        patience=20.0,
        every=4.0,
    )


def start_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """Asked before any server is pointed at it."""
    return (
        *(answers(site, s.name) for s in stores(site, facts)),
        *(accepts(site, s.name) for s in joined(site, facts)),
    )


def _first(site: Site, facts: Facts) -> tuple[Check, ...]:
    """What can be asked while the others are not started yet."""
    found = stores(site, facts)
    if len(found) < 2:
        return start_checks(site, facts)
    return (answers(site, found[0].name),)


def _others(site: Site, facts: Facts) -> tuple[Check, ...]:
    return start_checks(site, facts) if len(stores(site, facts)) > 1 else ()


STAGES = (
    Stage("start", "PuppetDB runs, and accepts every server", start, _first),
    Stage(
        "start-others", "The others on its database, once it made the tables", start_others, _others
    ),
)
