"""The overview: the steps, the estate by role, and what happened last."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from runbook import estate_map
from runbook.estate_map import Entry
from runbook.model import Host, Status
from runbook.state import StepState
from runbook.symbols import STATUS
from runbook.tui import estate
from runbook.tui.desk import Change, Desk, Group
from runbook.tui.look import Part
from runbook.tui.pane import Pane
from runbook.tui.rows import Rows

FEW = 8
"""A group of more hosts than this is shown as counts and a bar, and those that need a person."""

IN_BAR = (
    ("good", (Status.OK, Status.SKIPPED, Status.UNDONE)),
    ("busy", (Status.RUNNING,)),
    ("bad", (Status.FAILED,)),
    ("warn", (Status.UNKNOWN, Status.WAITING, Status.BLOCKED, Status.EXCLUDED, Status.ATTESTED)),
    ("dim", (Status.PENDING,)),
)
NEEDY = (Status.FAILED, Status.UNKNOWN, Status.WAITING, Status.BLOCKED)


@dataclass(frozen=True, slots=True)
class EstateRow:
    """One line of the map: a group's title, its bar, or one host."""

    group: Group
    kind: str  # "title" | "bar" | "counts" | "host" | "more" | "gap"
    host: Host | None = None
    count: int = 0

    @property
    def key(self) -> str:
        return f"{self.group.title}/{self.kind}/{self.host.name if self.host else ''}"


class Home(Pane):
    """Where everything starts and ends."""

    NAME = "Overview"
    SIDES = ("left", "estate")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "other", "Steps/estate", id="view.estate", show=False),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._noted: tuple[float, int] = (0.0, -1)
        self._served: object = None  # what the map was drawn of

    def body(self) -> ComposeResult:
        with Horizontal(id="home"):
            with Vertical(id="left"):
                yield Rows[str](self._draw_step, id="steps", arrow=self.look.arrow)
                with Vertical(id="serving"):
                    yield Static("", id="serving-lines", markup=False)
            yield Rows[EstateRow](
                self._draw_estate, lambda r: r.key, id="estate", arrow=self.look.arrow
            )
        with Vertical(id="activity"):
            yield Static("", id="activity-lines", markup=False)

    def ready(self) -> None:
        self.query_one("#steps").border_title = "Steps"
        self.query_one("#serving").border_title = "Who serves the agents"
        self.query_one("#estate").border_title = "Estate"
        self.query_one("#activity").border_title = "Activity"

    def heading(self) -> list[Part]:
        return [self.desk.mission.runbook.title]

    def draw(self, change: Change) -> None:
        steps = self.query_one("#steps", Rows)
        if change.all:
            steps.fill([s.id for s in self.desk.mission.runbook.steps])
            steps.styles.height = len(steps.items) + 2
        if change.steps or change.second:
            steps.redraw()
        if change.all or change.steps:
            self._draw_serving()
        if change.all or change.hosts:
            self.query_one("#estate", Rows).fill(self._estate())
        elif change.second:
            self.query_one("#estate", Rows).redraw()
        self._draw_activity()

    # --- steps ------------------------------------------------------------------------------------

    def _draw_step(self, step_id: str, width: int) -> Text:
        step = self.desk.state.step(step_id)
        look = self.look
        time_ = self.desk.step_time(step)
        about = self._about(step)
        room = width - 13 - len(time_) - (len(about) + 2 if about else 0)
        title = look.cell(step.title or step.id, room) + " "
        said: list[Part] = [look.word(STATUS[step.status], 12), (title, "plain")]
        if about:
            said.append((about + "  ", "warn"))
        return look.text(*said, (time_, "dim"))

    def _about(self, step: StepState) -> str:
        blockers = sum(f.get("severity") == "blocker" for f in step.findings.values())
        return f"{blockers} blocking" if blockers else ""

    # --- who serves whom --------------------------------------------------------------------------

    def _draw_serving(self) -> None:
        """The map as it is now, in the room the steps leave; `m` shows all of it."""
        size, state = self.query_one("#left").size, self.desk.state
        stands = [step.status for step in state.steps.values()]
        of = (stands, len(state.found), len(state.excluded), size, self.look)
        if of == self._served or not size.height:  # not seen now: the other side is
            return
        self._served = of
        room = size.height - len(self.query_one("#steps", Rows).items) - 4
        self.query_one("#serving").display = room >= 3
        map_ = estate_map.now(self.desk.mission.site, state)
        entries = list(estate_map.outline(map_))
        if len(entries) > room:
            rest = len(entries) - max(0, room - 1)
            entries = [*entries[: max(0, room - 1)], Entry(f"and {rest} more; m shows the map")]
        lines = Text(end="")
        for entry in entries:
            lines.append_text(self.look.text(*estate.entry(self.look, entry, size.width - 4)))
            lines.append("\n")
        lines.rstrip()
        self.query_one("#serving-lines", Static).update(lines)

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw_serving)

    def turned(self) -> None:
        self.call_after_refresh(self._draw_serving)

    # --- estate -----------------------------------------------------------------------------------

    def _estate(self) -> list[EstateRow]:
        rows: list[EstateRow] = []
        for group in self.desk.groups:
            if rows and not self.narrow:
                rows.append(EstateRow(group, "gap"))
            rows.append(EstateRow(group, "title"))
            shown: Sequence[Host] = group.hosts
            if len(group.hosts) > FEW:
                rows += [EstateRow(group, "bar"), EstateRow(group, "counts")]
                needy = [h for h in group.hosts if self.desk.status_of(h.name) in NEEDY]
                shown = needy[:FEW]
                rows += [EstateRow(group, "host", host) for host in shown]
                if len(needy) > FEW:
                    rows.append(EstateRow(group, "more", count=len(needy) - FEW))
            else:
                rows += [EstateRow(group, "host", host) for host in shown]
        return rows

    def _draw_estate(self, row: EstateRow, width: int) -> Text:
        look = self.look
        match row.kind:
            case "gap":
                return look.text("")
            case "title":
                n = len(row.group.hosts)
                return look.text((row.group.title, "head"), (f"  {n}" if n > 1 else "", "dim"))
            case "more":
                return look.text((f"  and {row.count} more; h shows every host", "dim"))
            case "bar":
                tally = self.desk.tally(row.group.hosts)
                counts = tuple((sum(tally[s] for s in group), tone) for tone, group in IN_BAR)
                return look.text(*look.bar(counts, min(60, width)))
            case "counts":
                return look.text(*self.desk.counted(row.group.hosts))
        assert row.host is not None  # noqa: S101  # the remaining kind
        name = row.host.name
        status = self.desk.status_of(name)
        known = self.desk.state.hosts.get(name)
        said = self.desk.state.excluded.get(name) or (known.error or known.title if known else "")
        room = max(16, min(34, width // 2 - 7))
        return look.text(
            look.word(STATUS[status], 12),
            look.cell(name, room) + " ",
            (look.cell(said, width - 13 - room), "dim"),
        )

    @on(Rows.Picked, "#steps")
    def open_step(self, message: Rows.Picked) -> None:
        self.face.open_step(message.item)

    @on(Rows.Picked, "#estate")
    def open_host(self, message: Rows.Picked) -> None:
        row: EstateRow = message.item
        if host := row.host:
            self.face.open_log(host.name)
        else:
            self.face.action_hosts()

    # --- activity ---------------------------------------------------------------------------------

    def _draw_activity(self) -> None:
        room = self.query_one("#activity").content_size.height
        log = self.desk.activity
        now = (log[-1][0] if log else 0.0, len(log) * 100 + room)
        if now == self._noted and room:
            return
        self._noted = now
        lines = Text(end="")
        for at, parts in list(log)[-room or None :]:
            stamp = time.strftime("%H:%M:%S", time.localtime(at))
            lines.append_text(self.look.text((f"{stamp}  ", "dim"), *parts))
            lines.append("\n")
        lines.rstrip()
        self.query_one("#activity-lines", Static).update(lines)
