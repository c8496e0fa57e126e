"""Actions, findings and questions in words and colours; shared by review, step view and dialogs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

from runbook.model import Action, Finding, plain
from runbook.state import ActionState
from runbook.symbols import SEVERITY, STATUS, span
from runbook.tui.desk import Review, risk_tone
from runbook.tui.look import Look, Part

Data = Mapping[str, Any]


def undo_words(undo: Data) -> Part:
    """Whether it can be taken back."""
    match undo["kind"]:
        case "Restore":
            return ("reversible", "good")
        case "Compensate":
            return ("compensated", "good")
        case "Human":
            return ("by a person", "warn")
        case "Irreversible":
            return ("IRREVERSIBLE", "bad")
        case _ if undo.get("stays"):
            return ("stays", "warn")
        case _:
            return ("nothing to undo", "dim")


def diff(text: str) -> list[Part]:
    """A unified diff, its + and - kept and coloured."""
    parts: list[Part] = []
    for line in text.splitlines():
        if line.startswith(("+++", "---")):
            tone = "strong"
        elif line.startswith("@@"):
            tone = "accent"
        else:
            tone = {"+": "good", "-": "bad"}.get(line[:1], "plain")
        parts.append((line + "\n", tone))
    return parts


def action(data: Data) -> list[Part]:
    """One action in full: what it does and risks, how it is taken back, its diff, its scripts."""
    do, undo = data["do"], data["undo"]
    parts: list[Part] = [
        (f"{data['title']}\n\n", "strong"),
        ("host    ", "dim"), f"{data['host']}\n",
        ("risk    ", "dim"), (f"{data['risk']}\n", risk_tone(str(data["risk"]))),
        ("undo    ", "dim"), undo_words(undo), f"{_undo_detail(undo)}\n",
    ]  # fmt: skip
    if data.get("outage"):
        said = f"{round(data['outage'])} s of refused service\n"
        parts += [("outage  ", "dim"), (said, "warn")]
    if data.get("opens"):
        said = f"{data['opens']['title']}; stays open until it is repaid\n"
        parts += [("debt    ", "dim"), (said, "warn")]
    if data.get("repays"):
        parts += [("repays  ", "dim"), f"{data['repays']}\n"]
    parts += [("does    ", "dim"), *_does(do)]
    if data.get("diff"):
        parts += ["\n", *diff(str(data["diff"]))]
    parts += _script("what it runs", do.get("script"))
    if do["kind"] == "Human":
        parts += _script("what proves it", do["done"]["script"])
    else:
        parts += _script("only where this fails", do.get("done"))
    for title, key in _TAKES_BACK.items():
        parts += _script(title, undo.get(key))
    return parts


_TAKES_BACK = {
    "what takes it back": "script",
    "what runs before the backup is put back": "first",
    "what runs after the backup was put back": "then",
}


def _script(title: str, text: str | None) -> list[Part]:
    """A script, which is long, behind what says in short what it is for."""
    if not text:
        return []
    lines = text.strip("\n").split("\n")
    return [(f"\n{title}\n", "dim"), *(f"  {line}\n" for line in lines)]


def _undo_detail(undo: Data) -> str:
    match undo["kind"]:
        case "Restore":
            return ", from the backup kept on the host"
        case "Compensate":
            return ", by a script"
        case "Human":
            return f": {undo['instruction']}"
        case "Irreversible":
            return f": {undo['reason']}"
        case _:
            return f": {undo['stays']}" if undo.get("stays") else ""


def _does(do: Data) -> list[Part]:
    match do["kind"]:
        case "WriteFile":
            new = f", new, mode {do['mode']}, {do['owner']}" if not do["before"] else ""
            return [f"writes {do['path']}{new}\n"]
        case "RemoveFile":
            return [f"removes {do['path']}\n"]
        case "Script":
            return ["runs a script as root\n"]
        case "DnsChange":
            before = ", ".join(do["before"]) or "none"
            after = ", ".join(do["records"]) or "none"
            return [
                f"updates {do['name']} {do['rtype']} at {do['server']}\n",
                (f"  - {before} (TTL {do['before_ttl']})\n", "bad"),
                (f"  + {after} (TTL {do['ttl']})\n", "good"),
            ]
        case "Human":
            return [f"asks you: {do['instruction']}\n"]
        case kind:
            return [f"{kind}\n"]


def finding(data: Data, hosts: Iterable[str]) -> list[Part]:
    """One finding in full, for all the hosts that have it."""
    mark = SEVERITY[str(data["severity"])]
    names = tuple(hosts)
    where = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    parts: list[Part] = [
        (f"{mark.word}  ", mark.tone), (f"{data['id']}\n\n", "strong"),
        ("host      ", "dim"), f"{where}\n",
        ("observed  ", "dim"), f"{data['observed']}\n",
        ("expected  ", "dim"), f"{data['expected']}\n",
        ("remedy    ", "dim"), f"{data['remedy']}\n",
    ]  # fmt: skip
    if data.get("fixed_by"):
        parts += [("fixed by  ", "dim"), f"step {data['fixed_by']}\n"]
    if data.get("waived"):
        parts += [("waived    ", "dim"), (f"{data['waived']}\n", "warn")]
    if data.get("command"):
        parts += [("command   ", "dim"), (f"{data['command']}\n", "accent")]
    return parts


def attempt(look: Look, state: ActionState) -> list[Part]:
    """One action that was started: how it went, then what it was."""
    mark = STATUS[state.status]
    took = span(state.ended - state.started) if state.ended else ""
    exit_ = f"  exit {state.exit}" if state.exit is not None else ""
    tries = f"  attempt {state.attempts}" if state.attempts > 1 else ""
    note = f"{state.note}\n" if state.note else ""
    said: list[Part] = [look.word(mark), f"  {took}{exit_}{tries}\n{note}\n"]
    if state.evidence:
        said += [("what was shown for it\n", "dim"), f"{state.evidence}\n\n"]
    return [*said, *action(state.action)]


def subject(look: Look, about: Any) -> list[Part]:
    """What a question is about, as far as its own text does not say it."""
    if isinstance(about, Review):
        return about.counts()
    if isinstance(about, ActionState):
        return attempt(look, about)
    if isinstance(about, Action):
        return action(plain(about))
    if isinstance(about, str):
        return [about]
    if isinstance(about, Finding):
        return finding(plain(about), (about.host,))
    if isinstance(about, tuple):
        return [part for one in about for part in (*subject(look, one), "\n")]
    return [] if about is None or is_dataclass(about) else [str(about)]
