"""What a held step waits for: the proof of every step it needs, and how old each may be.

Pure: state and site in, gates out. A held step is the one that moves agents: nothing lets it pass
but proofs that are fresh, or a waiver of the inventory, which has a reason and an end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from runbook.model import Runbook, Site, Status, Step
from runbook.state import RunState, StepState
from runbook.symbols import count, span

DAY = 86_400.0
NAMED = 3  # hosts that are named; more are counted


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether one step's proof stands, as a held step needs it."""

    need: str  # the step's id
    title: str
    ok: bool
    said: str  # "proved at 12:03, 5 min ago"
    waived: str = ""  # why it may be passed all the same, and until when

    @property
    def open(self) -> bool:
        return self.ok or bool(self.waived)


def waived(site: Site, need: str, now: float) -> str:
    """The inventory's reason for which this need is no gate; empty where there is none."""
    waiver = site.waiver(f"gate-{need}", "", datetime.fromtimestamp(now, UTC).date().isoformat())
    return f"{waiver.reason} (until {waiver.expires})" if waiver else ""


def limit(site: Site, step: Step) -> float:
    """Seconds for which a proof is good enough for this step."""
    return step.fresh(site) if step.fresh else DAY / 2


def fresh(state: RunState, step: str, with_: tuple[str, str], seconds: float, now: float) -> bool:
    """Whether the step stands proved, with this inventory and runbook, and not longer ago.

    A proof without a host says nothing of it: it stands only while that host is left out.
    """
    known = state.step(step)
    proved = known.status is Status.OK and known.proved_with == with_
    return proved and not _back(state, known) and known.ended > now - seconds


def proved(known: StepState) -> str:
    """ "proved", or "proved without h3": of which hosts it says nothing."""
    out = known.proved_without
    hosts = ", ".join(out) if len(out) <= NAMED else count(len(out), "host")
    return f"proved without {hosts}" if out else "proved"


def _back(state: RunState, known: StepState) -> tuple[str, ...]:
    """The hosts it was proved without that are not left out any more."""
    return tuple(host for host in known.proved_without if host not in state.excluded)


def gates(runbook: Runbook, site: Site, step: Step, state: RunState) -> tuple[Gate, ...]:
    """The gates of a held step, in the runbook's order; none of any other."""
    if step.fresh is None:
        return ()
    now = time.time()
    with_ = (site.digest, runbook.digest)
    found = []
    for need in (s for s in runbook.steps if s.id in step.needs):
        known = state.step(need.id)
        ok = fresh(state, need.id, with_, limit(site, step), now)
        if not known.ended or known.status is not Status.OK:
            said = f"not proved: {known.status.value}"
        else:
            said = f"{proved(known)} at {_clock(known.ended, now)}, {span(now - known.ended)} ago"
            said += "" if ok else f"; {_stale(state, known, with_)}"
        found.append(Gate(need.id, need.title, ok, said, "" if ok else waived(site, need.id, now)))
    return tuple(found)


def _stale(state: RunState, known: StepState, with_: tuple[str, str]) -> str:
    if known.proved_with != with_:
        return "of another plan"
    if back := _back(state, known):
        return f"{', '.join(back[:NAMED])} not left out any more"
    return "too old"


def data(gate: Gate) -> Mapping[str, object]:
    """The gate as an event's data."""
    return {
        "need": gate.need,
        "title": gate.title,
        "ok": gate.ok,
        "said": gate.said,
        "waived": gate.waived,
    }


def _clock(at: float, now: float) -> str:
    form = "%H:%M" if now - at < DAY else "%Y-%m-%d %H:%M"
    return time.strftime(form, time.localtime(at))
