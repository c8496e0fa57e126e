"""What one host said in one step: a window on its transcript, which may still be growing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input

from runbook.symbols import STATUS
from runbook.tui.desk import Change, Desk
from runbook.tui.look import Look, Part
from runbook.tui.pane import Pane
from runbook.tui.transcript import Transcript

SIDEWAYS = 20
"""Cells that one key moves a long line."""


class Window(ScrollView, can_focus=True):
    """The visible lines of a transcript."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", "Up", id="text.up", show=False),
        Binding("down,j", "by(1)", "Down", id="text.down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", id="text.page-up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "Page down", id="text.page-down", show=False),
        Binding("home,g", "top", "Top", id="text.top", show=False),
        Binding("end,G", "bottom", "Bottom", id="text.bottom", show=False),
        Binding("left,h", "side(-1)", "Left", id="text.left", show=False),
        Binding("right,l", "side(1)", "Right", id="text.right", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"window--found"}

    def __init__(self, transcript: Transcript, look: Look) -> None:
        super().__init__(id="window")
        self.transcript = transcript
        self.look = look
        self.follow = True
        self.needle = ""
        self.found: int | None = None
        self._aside = 0

    def grow(self) -> None:
        """Show what was appended; stay at the end where that is followed."""
        self.virtual_size = Size(0, self.transcript.count)
        if self.follow:
            self.scroll_to(y=self.transcript.count, animate=False, immediate=True)
        self.told()
        self.refresh()

    def told(self) -> None:
        n = self.transcript.count
        last = min(n, self.scroll_offset.y + self.scrollable_content_region.height)
        self.border_subtitle = f"{last} of {n}" + (", following" if self.follow else "")

    def show_line(self, number: int) -> None:
        """Put line `number` in the middle."""
        self.follow = False
        self.found = number
        middle = number - self.scrollable_content_region.height // 2
        self.scroll_to(y=max(0, middle), animate=False, immediate=True)
        self.told()
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.told()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        base = self.rich_style
        number = y + self.scroll_offset.y
        if number >= self.transcript.count:
            if not self.transcript.count and y == 0:
                said = Text("Nothing was said here yet.", style="dim", end="")
                strip = Strip(said.render(self.app.console))
                return strip.adjust_cell_length(width, base).apply_style(base)
            return Strip.blank(width, base)
        text = self.look.text(self.transcript.line(number))
        if self.needle:
            mark = Style(reverse=True)
            text.highlight_words([self.needle], mark, case_sensitive=False)
        if number == self.found:
            base = base + self.get_component_rich_style("window--found", partial=True)
        strip = Strip(text.render(self.app.console))
        strip = strip.crop(self._aside, self._aside + width)
        return strip.adjust_cell_length(width, base).apply_style(base)

    def action_by(self, lines: int) -> None:
        self.follow = False
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False, immediate=True)
        self.told()

    def action_page(self, pages: int) -> None:
        self.action_by(pages * max(1, self.scrollable_content_region.height - 1))

    def action_top(self) -> None:
        self.action_by(-self.transcript.count)

    def action_bottom(self) -> None:
        self.follow = True
        self.grow()

    def action_side(self, step: int) -> None:
        self._aside = max(0, self._aside + step * SIDEWAYS)
        self.refresh()


class LogView(Pane):
    """One host's log."""

    NAME = "Log"
    SIDES = ("window",)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow", id="log.follow"),
        Binding("slash", "find", "Find", id="log.find"),
        Binding("n", "again(1)", "Next", id="log.next"),
        Binding("N", "again(-1)", "Previous", id="log.previous", show=False),
        Binding("s", "shell", "Shell", id="host.shell"),
    ]

    def __init__(self, desk: Desk, host: str, step: str, path: Path) -> None:
        super().__init__(desk)
        self.host = host
        self.step_id = step
        self._transcript = Transcript(path)

    def body(self) -> ComposeResult:
        yield Window(self._transcript, self.look)
        yield Input(placeholder="find", id="find")

    def ready(self) -> None:
        window = self.query_one(Window)
        window.border_title = Text(self.look.clean(self.host))
        self.query_one("#find").display = False
        while self._transcript.poll() and self._transcript.behind:
            pass
        window.grow()
        self.call_after_refresh(window.grow)

    def heading(self) -> list[Part]:
        status = self.desk.status_of(self.host)
        title = self.desk.state.step(self.step_id).title if self.step_id else ""
        return [self.look.word(STATUS[status]), " ", (self.host, "strong"), f" · {title}"]

    def draw(self, change: Change) -> None:
        if self._transcript.poll():
            self.query_one(Window).grow()

    # --- keys -------------------------------------------------------------------------------------

    def action_back(self) -> None:
        find = self.query_one("#find")
        if find.display:
            find.display = False
            self.query_one(Window).focus()
        else:
            super().action_back()

    def action_follow(self) -> None:
        window = self.query_one(Window)
        window.follow = not window.follow
        window.grow()

    def action_find(self) -> None:
        find = self.query_one("#find", Input)
        find.value = ""
        find.display = True
        find.focus()

    @on(Input.Submitted, "#find")
    def find_submitted(self, event: Input.Submitted) -> None:
        self.query_one("#find").display = False
        window = self.query_one(Window)
        window.focus()
        window.needle = event.value
        window.found = None
        if event.value:
            self._search(window.scroll_offset.y, 1)
        window.refresh()

    def action_again(self, step: int) -> None:
        window = self.query_one(Window)
        if window.needle:
            here = window.found if window.found is not None else window.scroll_offset.y
            self._search((here + step) % max(1, self._transcript.count), step)

    def _search(self, start: int, step: int) -> None:
        self.run_worker(self._searching(start, step), group="find", exclusive=True)

    async def _searching(self, start: int, step: int) -> None:
        window = self.query_one(Window)
        found = await asyncio.to_thread(self._transcript.find, window.needle, start, step)
        if found is None:
            self.face.tell("No line has it.")
        else:
            window.show_line(found)

    def action_shell(self) -> None:
        self.face.open_shell(self.host)
