"""Every host in one row: what needs a person first, then in the order of the inventory."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from runbook.model import Status
from runbook.symbols import STATUS, span
from runbook.tui.desk import Change, Desk
from runbook.tui.look import Part
from runbook.tui.pane import Pane
from runbook.tui.rows import Rows


class HostsView(Pane):
    """The live table."""

    NAME = "Hosts"
    SIDES = ("hosts",)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "shell", "Shell", id="host.shell"),
        Binding("i", "include", "Take in again", id="host.include"),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._order: list[str] = []

    def body(self) -> ComposeResult:
        yield Rows[str](
            self._draw_host,
            id="hosts",
            arrow=self.look.arrow,
            top_stays=True,
            header=self._draw_header,
        )

    def ready(self) -> None:
        self.query_one("#hosts").border_title = "Hosts"

    def heading(self) -> list[Part]:
        return ["Hosts  ", *self.desk.counted(self.desk.mission.site.hosts)]

    def draw(self, change: Change) -> None:
        table = self.query_one("#hosts", Rows)
        if change.all or change.hosts:
            order = self.desk.hosts_in_order()
            if order != self._order:
                self._order = order
                table.fill(order)
        if change:
            table.redraw()

    def _draw_header(self, width: int) -> Text:
        name, what = self._widths(width)
        columns = f"{'STATUS':12}{'HOST':{name}} {'WHAT':{what}} {'TIME':>7}  LAST LINE"
        return self.look.text((columns, "dim"))

    def _widths(self, width: int) -> tuple[int, int]:
        """Cells for the host's name and for what it does."""
        longest = max((len(h.name) for h in self.desk.mission.site.hosts[:400]), default=8)
        name = max(4, min(longest, 26 if width < 90 else 36))
        return name, max(12, (width - 22 - name) * 2 // 5)

    def _draw_host(self, host: str, width: int) -> Text:
        look = self.look
        status = self.desk.status_of(host)
        known = self.desk.state.hosts.get(host)
        name, what = self._widths(width)
        doing = known.title if known else ""
        said = known.line if known else ""
        tone = "dim"
        if reason := self.desk.state.excluded.get(host):
            said, tone = reason, "warn"
        elif known and known.error:
            said, tone = known.error, "bad"
        running = status is Status.RUNNING and known and known.since
        took = span(self.desk.clock() - known.since) if running and known else ""
        return look.text(
            look.word(STATUS[status], 12),
            look.cell(host, name) + " " + look.cell(doing, what) + " ",
            (took.rjust(7) + "  ", "plain"),
            (look.cell(said, width - name - what - 23), tone),
        )

    @on(Rows.Picked, "#hosts")
    def open_log(self, message: Rows.Picked) -> None:
        self.face.open_log(message.item)

    @on(Rows.Moved, "#hosts")
    def moved(self) -> None:
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "include":
            rows = self.query("#hosts")
            return bool(rows) and self.query_one("#hosts", Rows).cursor in self.desk.state.excluded
        return super().check_action(action, parameters)

    def action_include(self) -> None:
        self.face.take_in(str(self.query_one("#hosts", Rows).cursor))

    def action_shell(self) -> None:
        if host := self.query_one("#hosts", Rows).cursor:
            self.face.open_shell(host)
