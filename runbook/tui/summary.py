"""The end: how it went, what is still open, what to type next."""

from __future__ import annotations

from textual.app import ComposeResult

from runbook.errors import Exit
from runbook.grid import grid
from runbook.model import Status
from runbook.symbols import STATUS, Mark
from runbook.tui import estate
from runbook.tui.desk import NO_CHANGE, Change, Desk
from runbook.tui.look import Part
from runbook.tui.pane import Pane
from runbook.tui.rows import Detail

OUTCOMES = {
    Exit.DONE: "Done.",
    Exit.FAILED: "A step or a check failed.",
    Exit.USAGE: "The command line or the inventory is wrong.",
    Exit.UNREACHABLE: "A host does not answer.",
    Exit.TRUST: "A host key or a certificate is not the expected one; nothing was sent.",
    Exit.REFUSED: "The recorded state does not allow this.",
    Exit.LOCKED: "Another operator holds the lock.",
    Exit.WAITING: "It waits for an answer.",
    Exit.UNKNOWN: "A change was started, and nobody can tell yet how it ended.",
    Exit.INTERRUPTED: "Interrupted.",
}


def outcome(desk: Desk) -> list[Part]:
    """The summary of a run that ended."""
    code = desk.code if desk.code is not None else int(Exit.FAILED)
    state, look = desk.state, desk.look
    mark = _mark(code)
    said = OUTCOMES[Exit(code)] if code in OUTCOMES else f"It ended with exit code {code}."
    if code == 0 and desk.mission.mode in NO_CHANGE:
        said = "Done; nothing was changed."
    parts: list[Part] = [(f"{mark.sign(look.ascii)} {said}\n", mark.tone)]
    if state.why and state.why not in said:
        parts.append(f"{state.why}\n")
    parts += [f"{trouble}\n" for trouble in dict.fromkeys(desk.troubles) if trouble != state.why]
    parts.append("\n")
    for step in desk.mission.runbook.steps:
        known = state.step(step.id)
        sign = STATUS[known.status]
        why = f"  {known.why}" if known.why else ""
        parts += [look.word(sign, 12), f"{known.title}", (f"{why}\n", "dim")]
    left_out = [f"{host}: {why}\n" for host, why in state.excluded.items()]
    failed = [
        f"{h.name}: {h.error}\n"
        for h in state.hosts.values()
        if h.status is Status.FAILED and h.name not in state.excluded
    ]
    checks = [c for step in state.steps.values() for c in step.checks.values()]
    wrong = [f"{c.title}: {c.observed}\n" for c in checks if c.ok is not True]
    table = grid((c.cell, c.ok, c.observed) for c in checks).lines(76, ascii_only=look.ascii)
    dark = [f"{a.host}: {a.title}\n" for a in state.unknown()]
    debts = [f"{d.host}: {d.title}\n" for d in state.debts.values()]
    for title, lines in (
        ("Not passed", wrong),
        ("Compared", [f"{line}\n" for line in table]),
        ("Failed", failed),
        ("Outcome unknown", dark),
        ("Left out", left_out),
        ("Still open", debts),
    ):
        if lines:
            parts += [(f"\n{title}\n", "head"), *lines[:50]]
            if len(lines) > 50:
                parts.append((f"and {len(lines) - 50} more\n", "dim"))
    parts += [("\nNext\n", "head")]
    for command, why in _next(desk, code):
        parts += [(f"{command:24}", "accent"), f"{why}\n"]
    return [*parts, "\n", *estate.whole(desk, 74)]


def _mark(code: int) -> Mark:
    if code == Exit.DONE:
        return STATUS[Status.OK]
    if code in (Exit.UNKNOWN, Exit.INTERRUPTED, Exit.WAITING):
        return STATUS[Status.UNKNOWN]
    return STATUS[Status.FAILED]


def _next(desk: Desk, code: int) -> list[tuple[str, str]]:
    """What to type, and why; the engine's own hint comes first."""
    said = _usual(desk, code)
    if desk.hint and desk.hint not in [command for command, _ in said]:
        return [(desk.hint, ""), *said]
    return said


def _usual(desk: Desk, code: int) -> list[tuple[str, str]]:
    if code == 0:
        if desk.mission.mode in ("dry-run", "undo-dry-run"):
            command = "pmrunbook" if desk.mission.mode == "dry-run" else "pmrunbook undo STEP"
            return [(command, "does this, asking before each change")]
        return [
            ("pmrunbook verify", "asks every check again"),
            ("pmrunbook report", "the record for whoever wants to know"),
        ]
    if code in (Exit.USAGE, Exit.LOCKED):
        return [
            ("pmrunbook validate" if code == Exit.USAGE else "pmrunbook lock status", "says more")
        ]
    if desk.mission.mode in NO_CHANGE:
        return [
            (f"pmrunbook {'verify' if desk.mission.mode == 'verify' else '--dry-run'}", "again")
        ]
    return [
        ("pmrunbook --resume", "goes on from here; looks first, repeats nothing"),
        ("pmrunbook status", "where everything stands"),
        ("pmrunbook undo STEP", "takes a step back"),
    ]


class Summary(Pane):
    """What is shown when the run has ended; q leaves."""

    NAME = "Summary"
    SIDES = ("outcome",)

    def body(self) -> ComposeResult:
        yield Detail(id="outcome")

    def ready(self) -> None:
        self.query_one("#outcome").border_title = "Summary"

    def draw(self, change: Change) -> None:
        if change.all:
            self.query_one("#outcome", Detail).say(self.look.block(*outcome(self.desk)))
