"""`pmrunbook lock status | break`: who holds the site's lock, and how it is taken from them."""

from __future__ import annotations

import json
from argparse import Namespace

from runbook.errors import Exit, RunbookError, UsageError
from runbook.journal import Journal, site_folder
from runbook.lock import EXPIRES, break_script, parse, status_script
from runbook.mission import load_runbook, operator
from runbook.model import Read, Site
from runbook.output import say
from runbook.plain import Plain
from runbook.recorder import Recorder
from runbook.secrets import Secrets, typed
from runbook.shell import PRIVATE, ROOT, quote
from runbook.ssh import Hosts


def command(args: Namespace, site: Site) -> int:
    """Show the lock (exit 6 when it is held), or break it for a reason that is written down."""
    host = site.host(load_runbook(args.runbook).lock_host(site))
    secrets = Secrets(typed)
    hosts = Hosts(site, secrets.get)
    try:
        reading = hosts.reader(host).read((Read("lock", status_script()),))["lock"]
        holder = parse(reading.out) if reading.ok else None
        if args.what == "status":
            stale = " (expired: the next run takes it)" if holder and holder.age > EXPIRES else ""
            text = f"locked by {holder}{stale}" if holder else "not locked"
            say(f"{host.name}: {text}")
            return int(Exit.LOCKED if holder and not stale else Exit.DONE)
        if not args.reason.strip():
            raise UsageError("breaking a lock needs a reason", hint="--reason TEXT")
        if not holder:
            say(f"{host.name}: not locked")
            return int(Exit.DONE)
        note = {"by": operator(), "reason": args.reason, "held_by": str(holder)}
        line = quote(json.dumps(note, ensure_ascii=True))
        keep = f"umask 077; private {ROOT}; printf '%s\\n' {line} >>{ROOT}/lock-broken.jsonl"
        done = hosts.writers().writer(host).now(f"{PRIVATE}{keep} && {break_script()}")
        if not done.ok:
            raise RunbookError(f"cannot break the lock: {done.err.strip()}", host=host.name)
        _journal(site, host.name, note)
        say(f"{host.name}: the lock of {holder} is broken")
        return int(Exit.DONE)
    finally:
        hosts.close()


def _journal(site: Site, host: str, note: dict[str, str]) -> None:
    journal = Journal(site_folder(site.name))
    try:
        Recorder(Plain(), journal).emit("lock_broken", "", host, **note)
    finally:
        journal.close()
