"""Lists and texts that only draw what is visible: a list of 4,000 rows costs what 30 cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Static

T = TypeVar("T")

MOVES: list[BindingType] = [
    Binding("up,k", "up", "Up", id="list.up", show=False),
    Binding("down,j", "down", "Down", id="list.down", show=False),
    Binding("pageup,ctrl+b", "page_up", "Page up", id="list.page-up", show=False),
    Binding("pagedown,ctrl+f,space", "page_down", "Page down", id="list.page-down", show=False),
    Binding("home,g", "top", "First", id="list.top", show=False),
    Binding("end,G", "bottom", "Last", id="list.bottom", show=False),
]


class Rows(ScrollView, Generic[T], can_focus=True):
    """A list of one-line rows with a cursor; rows are drawn by a function, when visible."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor", "rows--cursor-blurred"}
    BINDINGS: ClassVar[list[BindingType]] = [
        *MOVES,
        Binding("enter", "pick", "Open", id="list.open"),
        Binding("right,l", "pick", "Open", id="list.open-right", show=False),
    ]

    class Picked(Message):
        """Enter, or a click on the row under the cursor."""

        def __init__(self, rows: Rows[Any], item: Any) -> None:
            super().__init__()
            self.rows = rows
            self.item = item

        @property
        def control(self) -> Rows[Any]:
            return self.rows

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, rows: Rows[Any], item: Any) -> None:
            super().__init__()
            self.rows = rows
            self.item = item

        @property
        def control(self) -> Rows[Any]:
            return self.rows

    def __init__(
        self,
        draw: Callable[[T, int], Text],
        key: Callable[[T], str] = str,
        *,
        empty: str = "",
        arrow: str = ">",
        top_stays: bool = False,
        header: Callable[[int], Text] | None = None,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._draw = draw
        self._key = key
        self._empty = empty
        self._arrow = arrow
        self._top_stays = top_stays  # a cursor on the first row stays there
        self._header = header
        self._over = 1 if header else 0  # lines above the first row
        self._items: Sequence[T] = ()
        self._at = 0

    # --- what is in it ----------------------------------------------------------------------------

    @property
    def items(self) -> Sequence[T]:
        return self._items

    @property
    def cursor(self) -> T | None:
        """The row under the cursor; None in an empty list."""
        return self._items[self._at] if self._items else None

    def fill(self, items: Sequence[T]) -> None:
        """Show these rows; the cursor stays on the row it was on, wherever that is now."""
        before = self._key(self._items[self._at]) if self._items else None
        self._items = items
        self.virtual_size = Size(0, len(items) + self._over)
        at = was = self._at
        same = at < len(items) and self._key(items[at]) == before
        if before is not None and not same and not (self._top_stays and at == 0):
            at = next((n for n, item in enumerate(items) if self._key(item) == before), at)
        self._at = max(0, min(at, len(items) - 1))
        if self._at != was:  # the row moved, not the eye
            top = self.scroll_offset.y + self._at - was
            self.scroll_to(y=max(0, top), animate=False, immediate=True)
        self._told()
        self.refresh()
        if items and (before is None or self._key(items[self._at]) != before):
            self.post_message(self.Moved(self, items[self._at]))

    @property
    def room(self) -> int:
        """Rows that are visible at once."""
        return max(0, self.scrollable_content_region.height - self._over)

    def redraw(self) -> None:
        """The rows are the same, what they say is not."""
        self.refresh()

    def go(self, at: int) -> None:
        """Put the cursor on row number `at`, or the nearest there is."""
        if not self._items:
            return
        at = max(0, min(at, len(self._items) - 1))
        moved, self._at = at != self._at, at
        height = self.room
        top = self.scroll_offset.y
        if at < top:
            self.scroll_to(y=at, animate=False, immediate=True)
        elif height and at >= top + height:
            self.scroll_to(y=at - height + 1, animate=False, immediate=True)
        self._told()
        self.refresh()
        if moved:
            self.post_message(self.Moved(self, self._items[at]))

    def go_to(self, key: str) -> None:
        """Put the cursor on the row with this key, if there is one."""
        for at, item in enumerate(self._items):
            if self._key(item) == key:
                self.go(at)
                return

    def _told(self) -> None:
        """Where the cursor is, in words, for lists longer than the screen."""
        n = len(self._items)
        long = n > self.room > 0
        self.border_subtitle = f"{self._at + 1} of {n}" if long else ""

    # --- drawing ----------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        base = self.rich_style
        console = self.app.console
        if self._header and y == 0:
            strip = Strip(Text.assemble("  ", self._header(width - 2), end="").render(console))
            return strip.adjust_cell_length(width, base).apply_style(base)
        at = y - self._over + self.scroll_offset.y
        if at >= len(self._items):
            if not self._items and y == self._over and self._empty:
                strip = Strip(Text("  " + self._empty, end="", style="dim").render(console))
                return strip.adjust_cell_length(width, base).apply_style(base)
            return Strip.blank(width, base)
        here = at == self._at
        gutter = f"{self._arrow} " if here and self.has_focus else "  "
        text = Text.assemble(gutter, self._draw(self._items[at], width - 2), end="", no_wrap=True)
        strip = Strip(text.render(console)).adjust_cell_length(width, base)
        if here:
            name = "rows--cursor" if self.has_focus else "rows--cursor-blurred"
            base = base + self.get_component_rich_style(name, partial=True)
        return strip.apply_style(base)

    # --- keys and mouse ---------------------------------------------------------------------------

    def action_up(self) -> None:
        self.go(self._at - 1)

    def action_down(self) -> None:
        self.go(self._at + 1)

    def action_page_up(self) -> None:
        self.go(self._at - max(1, self.room - 1))

    def action_page_down(self) -> None:
        self.go(self._at + max(1, self.room - 1))

    def action_top(self) -> None:
        self.go(0)

    def action_bottom(self) -> None:
        self.go(len(self._items) - 1)

    def action_pick(self) -> None:
        if self._items:
            self.post_message(self.Picked(self, self._items[self._at]))

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        at = offset.y - self._over + self.scroll_offset.y
        if at < 0:
            return
        if at == self._at:
            self.action_pick()
        elif at < len(self._items):
            self.go(at)

    def on_resize(self) -> None:
        self.go(self._at)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()


class Detail(VerticalScroll, can_focus=True):
    """A text to read, scrolled with the same keys as a list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", id="text.up", show=False),
        Binding("down,j", "scroll_down", "Down", id="text.down", show=False),
        Binding("pageup,ctrl+b", "page_up", "Page up", id="text.page-up", show=False),
        Binding("pagedown,ctrl+f,space", "page_down", "Page down", id="text.page-down", show=False),
        Binding("home,g", "scroll_home", "Top", id="text.top", show=False),
        Binding("end,G", "scroll_end", "Bottom", id="text.bottom", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        self._static = Static(Text(""), markup=False)
        super().__init__(self._static, id=id)
        self._shown: Text | None = None

    def say(self, text: Text) -> None:
        """Show `text`; from its top when it is another one."""
        if text == self._shown:
            return
        top = self._shown is None or text.plain[:40] != self._shown.plain[:40]
        self._shown = text
        self._static.update(text)
        if top:
            self.scroll_home(animate=False)
