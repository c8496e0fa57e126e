"""What brings code to a server by itself: a program of ours, and a systemd timer that runs it."""

from __future__ import annotations

from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Nothing,
    Planned,
    Read,
    Script,
    Site,
    Verdict,
)

from . import reads
from .code_site import about, readied
from .fields import NONE, sections
from .files import Edit, changed, writes
from .layout import FileFact, Seen, file_fact, unknown

UNIT = "puppet-code"
PROGRAM = f"/usr/local/sbin/{UNIT}"
SCHEDULE = Read("schedule", f"pc_unit={UNIT}\n{reads.script('schedule.sh')}", limit=200_000)

SERVICE = f"""\
# Written by pmrunbook: brings this Puppet Server's code as the site's strategy says.
[Unit]
Description=Bring the code that Puppet Server compiles
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={PROGRAM} deploy
TimeoutStartSec=30min
Nice=5
"""
TIMER = """\
# Written by pmrunbook.
[Unit]
Description=Bring the code that Puppet Server compiles, every {seconds} s

[Timer]
OnBootSec=60
OnUnitInactiveSec={seconds}
# Servers do not all come at the same moment.
RandomizedDelaySec={delay}
AccuracySec=1

[Install]
WantedBy=timers.target
"""


def every(site: Site) -> int:
    """Seconds between two runs; 0: only when told."""
    return int(about(site).get("every", 0))


def _file(seen: Seen, label: str) -> FileFact:
    return file_fact(sections(seen.facts.get(seen.name, SCHEDULE.id).out).get(label, NONE))


def state(seen: Seen) -> dict[str, str]:
    """timer, result, status, active, ago (seconds), log: what is known of the last run."""
    found = sections(seen.facts.get(seen.name, SCHEDULE.id).out).get("state", NONE)
    return {key: found.one(key) for key in found.values}


def program(seen: Seen, text: str) -> list[Action]:
    """The action that puts our program there, or brings it up to date; none where it is right."""
    title = f"the program that brings the code, {PROGRAM}"
    wanted = Edit("program", _file(seen, "program"), text.encode(), title, mode="0755")
    if wanted.file.state not in ("file", "absent"):
        return []  # something else has its place: what it would do fails, and says so
    return writes("access", seen.name, tuple(changed([wanted])))


def units(site: Site, seen: Seen) -> tuple[Edit, ...]:
    seconds = every(site)
    timer = TIMER.format(seconds=seconds, delay=max(1, seconds // 10))
    wanted = [
        Edit("service", _file(seen, "service"), SERVICE.encode(), f"{UNIT}.service"),
        Edit("timer", _file(seen, "timer"), timer.encode(), f"{UNIT}.timer, every {seconds} s"),
    ]
    return tuple(changed(wanted))


def plan(site: Site, facts: Facts, members: tuple[Seen, ...] | None = None) -> Planned:
    """The timer on these servers (all of them), where the site wants code to come by itself."""
    planned: list[Action] = []
    for seen in (readied(site, facts) if members is None else members) if every(site) else ():
        changes = units(site, seen)
        again = "systemctl daemon-reload"
        planned += writes("schedule", seen.name, changes, again)
        if changes or state(seen).get("timer") != "active enabled":
            planned.append(
                Action(
                    id=f"schedule/{seen.name}/enable",
                    host=seen.name,
                    title=f"start and enable {UNIT}.timer",
                    do=Script(
                        f"systemctl daemon-reload && systemctl enable --quiet {UNIT}.timer && "
                        f"systemctl restart {UNIT}.timer\n",
                        timeout=120.0,
                    ),
                    undo=Compensate(
                        f"systemctl disable --now --quiet {UNIT}.timer 2>/dev/null; "
                        f"systemctl reset-failed --quiet {UNIT}.service 2>/dev/null; :\n"
                    ),
                )
            )
        elif state(seen).get("result", "success") != "success":
            # What it failed of may be gone: nobody has to wait for the timer to see that.
            planned.append(
                Action(
                    id=f"schedule/{seen.name}/run",
                    host=seen.name,
                    title=f"run {UNIT}.service now: its last run failed",
                    do=Script(
                        f"systemctl start {UNIT}.service || {{\n"
                        f"    journalctl -u {UNIT}.service -n 20 --no-pager -o cat >&2\n"
                        "    exit 1\n}\n",
                        timeout=1860.0,
                    ),
                    undo=Nothing(),
                )
            )
    return tuple(planned)


def checks(site: Site, names: tuple[str, ...]) -> tuple[Check, ...]:
    """The last run on each of these hosts was clean, and not long ago."""
    return tuple(_clean(site, name) for name in names) if every(site) else ()


def _clean(site: Site, name: str) -> Check:
    asked = ((name, SCHEDULE),)

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        found = state(Seen(name, facts))
        log = f"journalctl -u {UNIT} -n 50 --no-pager, on {name}"
        if found.get("timer") != "active enabled":
            said = f"{UNIT}.timer is {found.get('timer') or 'not there'}"
            return Verdict(False, said, f"systemctl enable --now {UNIT}.timer")
        ago = int(found.get("ago") or -1)
        if found.get("active") == "activating":
            since = f"the last one ended {ago} s ago" if ago >= 0 else "none has ended yet"
            return Verdict(True, f"a run is under way; {since}", log)
        if ago < 0:
            return Verdict(None, "no run has ended yet", log)
        if found.get("result") != "success":
            said = f"{found.get('result')}, status {found.get('status')}: {found.get('log', '')}"
            return Verdict(False, said, log)
        limit = 2 * every(site) + 120
        return Verdict(ago <= limit, f"clean, {ago} s ago (every {every(site)} s)", log)

    return Check(
        f"schedule/{name}",
        f"{name} fetches code by itself, and did so lately",
        judge,
        asked,
        patience=float(min(120, every(site) + 30)),
        every=5.0,
    )
