"""One step: its guide beside its findings, checks and actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Markdown, Static

from runbook.model import Status
from runbook.state import ActionState, CheckState
from runbook.symbols import SEVERITY, STATUS, span, verdict
from runbook.tui import wording
from runbook.tui.desk import RANK, Change, Desk
from runbook.tui.look import Part
from runbook.tui.pane import Line, Pane
from runbook.tui.rows import Detail, Rows

SEVERITIES = {"blocker": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Shared:
    """One finding, and all the hosts that have it."""

    data: Mapping[str, Any]
    hosts: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.data['id']}/{self.data['observed']}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table of checks: its cells, column by column; the first names the columns."""

    id: str
    columns: tuple[str, ...]
    cells: tuple[CheckState, ...] = ()


Item = Shared | CheckState | ActionState | Row


def _key(item: Item) -> str:
    return item.key if isinstance(item, Shared) else item.id


class Guide(VerticalScroll, can_focus=True):
    """The step's text; as it is written where only ASCII may be drawn."""

    BINDINGS = Detail.BINDINGS

    def __init__(self, text: str, ascii_only: bool) -> None:
        plain = Text(text.encode("ascii", "replace").decode())
        super().__init__(
            Static(plain, markup=False) if ascii_only else Markdown(text, open_links=False),
            id="guide",
        )


class StepView(Pane):
    """What one step is for, found, proves and does."""

    NAME = "Step"
    SIDES = ("guide", "facts")
    TABS = ("findings", "checks", "actions", "table")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "tab('guide')", "Guide", id="step.guide", show=False),
        Binding("2", "tab('findings')", "Findings", id="step.findings", show=False),
        Binding("3", "tab('checks')", "Checks", id="step.checks", show=False),
        Binding("4", "tab('actions')", "Actions", id="step.actions", show=False),
        Binding("5", "tab('table')", "Table", id="step.table", show=False),
        Binding("c", "copy", "Copy", id="step.copy"),
        Binding("p", "plan", "Plan", id="step.plan"),
    ]

    def __init__(self, desk: Desk, step_id: str) -> None:
        super().__init__(desk)
        self.step_id = step_id
        self._tab = "findings"

    def body(self) -> ComposeResult:
        step = self.desk.mission.runbook.step(self.step_id)
        yield Line("tabs")
        with Horizontal(id="step"):
            yield Guide(step.guide, self.look.ascii)
            with Vertical(id="facts"):
                yield Rows[Item](self._draw_item, _key, id="items", arrow=self.look.arrow)
                yield Detail(id="item")

    def ready(self) -> None:
        self.query_one("#guide").border_title = "Guide"
        state = self.desk.state.step(self.step_id)
        first = "actions" if state.actions else "findings" if state.findings else "checks"
        self._tab = first
        self._side = 0 if state.status is Status.PENDING else 1

    def heading(self) -> list[Part]:
        step = self.desk.state.step(self.step_id)
        mark = STATUS[step.status]
        why = f": {step.why}" if step.why else ""
        return [self.look.word(mark), " ", (step.title, "strong"), why]

    def draw(self, change: Change) -> None:
        if not (change.all or self.step_id in change.steps):
            return
        self.query_one("#tabs", Line).say(self.look, self._tabs())
        rows = self.query_one("#items", Rows)
        rows.border_title = self._tab.capitalize()
        rows.fill(self._items())
        self._draw_detail()

    # --- the three lists --------------------------------------------------------------------------

    def _items(self) -> list[Item]:
        state = self.desk.state.step(self.step_id)
        if self._tab == "checks":
            checks = state.checks.values()
            return [*sorted(checks, key=lambda c: (c.ok is True, c.ok is None))]
        if self._tab == "table":
            return [*self._table()]
        if self._tab == "actions":
            return [*sorted(state.actions.values(), key=lambda a: RANK[a.status])]
        return list(self._findings())

    def _table(self) -> list[Row]:
        """The checks that have a place in the step's table, by row."""
        placed = [c for c in self.desk.state.step(self.step_id).checks.values() if c.cell[0]]
        columns = tuple(dict.fromkeys(c.cell[1] for c in placed))
        rows = dict.fromkeys(c.cell[0] for c in placed)
        found = [Row(r, columns, tuple(c for c in placed if c.cell[0] == r)) for r in rows]
        return [Row("", columns), *found] if found else []

    def _findings(self) -> list[Shared]:
        """Findings that say the same of several hosts are one row."""
        same: dict[tuple[str, str, str], tuple[Mapping[str, Any], list[str]]] = {}
        for (name, host), data in self.desk.state.step(self.step_id).findings.items():
            key = (name, str(data["observed"]), str(data["expected"]))
            same.setdefault(key, (data, []))[1].append(host)
        rows = [Shared(data, tuple(hosts)) for data, hosts in same.values()]
        return sorted(rows, key=lambda f: SEVERITIES.get(str(f.data["severity"]), 3))

    def _tabs(self) -> list[Part]:
        state = self.desk.state.step(self.step_id)
        passed = sum(c.ok is True for c in state.checks.values())
        done = sum(a.status is Status.OK for a in state.actions.values())
        words = {
            "guide": "1 Guide",
            "findings": f"2 Findings {len(state.findings)}",
            "checks": f"3 Checks {passed}/{len(state.checks)}",
            "actions": f"4 Actions {done}/{len(state.actions)}",
        }
        if any(c.cell[0] for c in state.checks.values()):
            words["table"] = "5 Table"
        on_guide = self.side == "guide"
        parts: list[Part] = []
        for name, said in words.items():
            here = name == "guide" if on_guide else name == self._tab
            parts += [(f"[{said}]" if here else f" {said} ", "head" if here else "dim"), "  "]
        return parts

    def _draw_item(self, item: Item, width: int) -> Text:
        look = self.look
        if isinstance(item, Shared):
            mark = SEVERITY[str(item.data["severity"])]
            n = len(item.hosts)
            where = item.hosts[0] if n == 1 else f"{n} hosts"
            said = f"{where}: {item.data['observed']}"
            return look.text(look.word(mark, 11), look.cell(said, width - 11))
        if isinstance(item, CheckState):
            return look.text(look.word(verdict(item.ok), 11), look.cell(item.title, width - 11))
        if isinstance(item, Row):
            return self._draw_row(item, width)
        end = item.ended or self.desk.clock()
        took = span(end - item.started)
        said = look.cell(f"{item.host}: {item.title}", width - 13 - len(took))
        return look.text(look.word(STATUS[item.status], 12), said, (f" {took}", "dim"))

    def _draw_row(self, row: Row, width: int) -> Text:
        look, first = self.look, max(10, width // 3)
        wide = max(3, (width - first) // max(1, len(row.columns)))

        def fit(text: str, room: int) -> str:
            return look.cell(text, room - 1).ljust(room)

        if not row.cells:
            return look.text(" " * first, *((fit(c, wide), "head") for c in row.columns))
        parts: list[Part] = [fit(row.id, first)]
        for column in row.columns:
            mark = next((verdict(c.ok) for c in row.cells if c.cell[1] == column), None)
            said = "-"
            if mark:
                sign = mark.sign(look.ascii)
                said = f"{sign} {mark.word}" if wide > 9 else sign
            parts.append((fit(said, wide), mark.tone if mark else "dim"))
        return look.text(*parts)

    def _draw_detail(self) -> None:
        item = self.query_one("#items", Rows).cursor
        look = self.look
        planned = " p shows the plan." if self._tab == "actions" else ""
        parts: list[Part] = [(f"No {self._tab} yet.{planned}", "dim")]
        if isinstance(item, Shared):
            parts = wording.finding(item.data, item.hosts)
            if item.data.get("command"):
                parts.append(("\nc copies the command\n", "dim"))
        elif isinstance(item, CheckState):
            parts = [look.word(verdict(item.ok)), "  ", (f"{item.title}\n\n", "strong")]
            parts += [("observed  ", "dim"), f"{item.observed}\n"]
            if item.remedy and item.ok is not True:
                parts += [("remedy    ", "dim"), f"{item.remedy}\n"]
            if item.detail and item.ok is not True:
                parts += [f"\n{item.detail}\n"]
        elif isinstance(item, Row):
            parts = [(f"{item.id or 'Every server, and what it is compared in'}\n\n", "strong")]
            for check in item.cells:
                parts += [look.word(verdict(check.ok)), f"  {check.cell[1]}: {check.observed}\n"]
                if check.detail and check.ok is not True:
                    parts += [f"{check.detail}\n"]
        elif isinstance(item, ActionState):
            parts = wording.attempt(look, item)
        self.query_one("#item", Detail).say(look.block(*parts))

    # --- keys -------------------------------------------------------------------------------------

    def action_tab(self, name: str) -> None:
        if name == "guide":
            self.show_side(0)
        else:
            self._tab = name
            self.show_side(1, focus=False)
            self.query_one("#items").focus()
        self.bring_up_to_date(Change(all=True))

    def turned(self) -> None:
        self.query_one("#tabs", Line).say(self.look, self._tabs())

    def action_copy(self) -> None:
        item = self.query_one("#items", Rows).cursor
        command = item.data.get("command") if isinstance(item, Shared) else ""
        if command:
            self.app.copy_to_clipboard(str(command))
            self.face.tell("The command is on the clipboard.")
        else:
            self.face.tell("There is no command to copy here.")

    def action_plan(self) -> None:
        self.face.open_plan(self.step_id)

    @on(Rows.Moved, "#items")
    def item_moved(self) -> None:
        self._draw_detail()

    @on(Rows.Picked, "#items")
    def item_picked(self, message: Rows.Picked) -> None:
        item: Item = message.item
        if isinstance(item, ActionState):
            self.face.open_log(item.host, item.step)
        else:
            self.query_one("#item").focus()
