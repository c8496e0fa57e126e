"""The evidence: what was found, planned, approved by whom, done and checked, with times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from runbook.model import Event, Site, Status
from runbook.report.record import runs, took
from runbook.state import fold
from runbook.symbols import STATUS, count, shown, span, verdict


def as_data(events: Iterable[Event], site: Site) -> Mapping[str, Any]:
    """The journal as JSON values, by run."""
    runs: list[dict[str, Any]] = []
    for event in events:
        if event.kind == "run_started":
            runs.append({"run": event.data["run"], "mode": event.data["mode"], "events": []})
        if runs:
            runs[-1]["events"].append(
                {
                    "kind": event.kind,
                    "at": event.at,
                    "step": event.step,
                    "host": event.host,
                    "action": event.action,
                    "data": dict(event.data),
                }
            )
    return {"site": site.name, "inventory": site.digest, "runs": runs}


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _cell(text: object) -> str:
    """Text of a host or an operator as text: no markup, and no line of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(shown(text).split()))


def as_markdown(events: Iterable[Event], site: Site, *, at_work: bool = False) -> str:
    """A page for the change record; `at_work`: the last run has no end because it goes on."""
    events = list(events)
    state, found = fold(events), runs(events)
    lines = [f"# What was done to {_cell(site.name)}", ""]
    if not state.run:
        return "\n".join([*lines, "Nothing yet.", ""])
    last: Event | None = None  # of a run whose end was not seen yet
    for event in events:
        data = event.data
        if event.kind == "run_started":
            lines += _broken_off(last)
            who = f"{_cell(data['operator'])} with pmrunbook {_cell(data['version'])}"
            lines += [f"## {_time(event.at)} UTC: {_cell(data['mode'])} by {who}", ""]
            run, inventory = _cell(data["run"]), _cell(data["inventory"][:12])
            lines += [f"Run `{run}`, inventory `{inventory}`.", ""]
        elif event.kind == "run_ended":
            lines += ["", f"**{_time(event.at)}**: {_cell(data['why'])} (exit {data['exit']})", ""]
        else:
            lines += _line(event, data)
        last = None if event.kind == "run_ended" else event
    lines += ["", f"**{_time(last.at)}**: at work", ""] if last and at_work else _broken_off(last)
    lines += ["## Where it stands", "", "| step | status | took | why |", "|---|---|---|---|"]
    for step in state.steps.values():
        status, why = step.status, step.why
        if status in (Status.RUNNING, Status.WAITING) and not at_work:
            status, why = Status.PENDING, "broken off"
        mark = STATUS[status]
        seconds = took(found, step.id)
        long = span(seconds) if seconds else ""
        lines.append(f"| {_cell(step.title)} | {mark.symbol} {mark.word} | {long} | {_cell(why)} |")
    if state.excluded:
        lines += [
            "",
            "Left out: " + "; ".join(f"{_cell(h)} ({_cell(w)})" for h, w in state.excluded.items()),
        ]
    if word := state.attested():
        lines += ["", "Attested, not verified:", ""]
        lines += [f"- {_cell(a.host)}: {_cell(a.title)}: {_cell(a.note)}" for a in word]
    if state.debts:
        lines += ["", "Still open: " + "; ".join(_cell(d.title) for d in state.debts.values())]
    return "\n".join([*lines, ""])


def _broken_off(last: Event | None) -> list[str]:
    """What stands in the place of an end that nobody wrote down: killed, or the power went."""
    if last is None:
        return []
    return ["", f"**{_time(last.at)}**: broken off, no end recorded (the last entry's time)", ""]


def _line(event: Event, data: Mapping[str, Any]) -> list[str]:
    at, host = _time(event.at)[11:], _cell(event.host)
    where = f"{host}: " if host else ""
    digest = _cell(data.get("digest", ""))[:12]
    match event.kind:
        case "step_started":
            return ["", f"### {_cell(data['title'])}", ""]
        case "finding":
            waived = f" (waived: {_cell(data['waived'])})" if data.get("waived") else ""
            return [f"- {at} {_cell(data['severity'])}: {where}{_cell(data['observed'])}{waived}"]
        case "gate":
            waived = f" (waived: {_cell(data['waived'])})" if data["waived"] else ""
            said = f"{_cell(data['title'])}: {_cell(data['said'])}{waived}"
            return [f"- {at} gate {verdict(data['ok']).word}: {said}"]
        case "planned":
            return [f"- {at} planned {count(len(data['actions']), 'action')}, plan `{digest}`"]
        case "approved":
            who = f"{_cell(data['by'])} ({_cell(data['how'])})"
            return [f"- {at} approved by {who}, plan `{digest}`"]
        case "start":
            return [f"- {at} {where}{_cell(data['action']['title'])}", *_diff(data)]
        case "end" if data["status"] != "ok":
            said = f"- {at} {where}**{data['status']}** {_cell(data.get('note', ''))}"
            return [said, *_fenced(str(data.get("evidence", "")))]
        case "check":
            said = ": ".join(_cell(x) for x in (data["title"], data["observed"]) if x)
            return [f"- {at} {verdict(data['ok']).word}: {said}"]
        case "excluded":
            return [f"- {at} left out {host}: {_cell(data['reason'])}"]
        case "included":
            return [f"- {at} taken in again {host}"]
        case "shell_started":
            return [f"- {at} shell on {host} opened by {_cell(data['operator'])}"]
        case "shell_ended":
            return [f"- {at} shell on {host} left (exit {data['exit']})"]
        case "step_done":
            return [f"- {at} {data['status']} {_cell(data['why'])}".rstrip()]
    return []


def _diff(data: Mapping[str, Any]) -> list[str]:
    return _fenced(str(data["action"]["diff"]), "diff")


def _fenced(text: str, kind: str = "") -> list[str]:
    if not text:
        return []
    # A fence longer than any the text itself may hold.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    lines = (f"  {line}" for line in shown(text).splitlines())
    return ["", f"  {fence}{kind}", *lines, f"  {fence}", ""]
