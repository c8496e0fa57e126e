"""What every full screen has in common: title, why it waits, open debts, footer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from runbook.tui.desk import Change, Desk
from runbook.tui.footer import Keys
from runbook.tui.look import Look, Part

if TYPE_CHECKING:
    from runbook.tui.app import RunbookApp


class Line(Static):
    """One line, cut to the width; hidden when it has nothing to say."""

    def __init__(self, id: str) -> None:
        super().__init__("", id=id, markup=False)
        self._said: object = None

    def say(self, look: Look, parts: list[Part]) -> None:
        if (text := look.text(*parts)) != self._said:
            self._said = text
            self.update(text)
        self.display = bool(parts)


class Pane(Screen[None]):
    """A full screen over the desk; `body` is what it adds, `draw` brings it up to date."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="view.back"),
        Binding("left,backspace", "back", "Back", id="view.back-left", show=False),
        Binding("tab", "other", "Other pane", id="view.other-pane", show=False),
        Binding("shift+tab", "other(-1)", "Other pane", id="view.other-pane-back", show=False),
    ]
    AUTO_FOCUS = ""  # `show_side` gives the keys to a pane
    NAME: ClassVar[str] = ""
    """What this screen is called in its title line and in the help."""

    SIDES: ClassVar[tuple[str, ...]] = ()
    """Ids of the panes side by side; one at a time where the screen is narrow."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self._side = 0

    @property
    def face(self) -> RunbookApp:
        return cast("RunbookApp", self.app)

    @property
    def look(self) -> Look:
        return self.desk.look

    def compose(self) -> ComposeResult:
        yield Line("title")
        yield from self.body()
        yield Line("why")
        yield Line("debts")
        yield Keys(lambda: self.look)

    def body(self) -> ComposeResult:
        yield from ()

    def heading(self) -> list[Part]:
        """What the title line says after site and mode."""
        return [self.NAME]

    def draw(self, change: Change) -> None:
        """Show what `change` says is new."""

    def bring_up_to_date(self, change: Change) -> None:
        if change:
            self._draw_frame()
        self.draw(change)

    def _draw_frame(self) -> None:
        title = [*self.desk.title(), " · ", *self.heading()]
        clock: list[Part] = [(f" · {t}", "dim")] if (t := self.desk.elapsed()) else []
        self.query_one("#title", Line).say(self.look, [*title, *clock])
        self.query_one("#why", Line).say(self.look, self.desk.why())
        self.query_one("#debts", Line).say(self.look, self.desk.debts())

    def ready(self) -> None:
        """Called once when the widgets are there; Textual calls `on_mount` of every class."""

    def on_mount(self) -> None:
        self.ready()
        self.show_side(self._side)
        self.bring_up_to_date(Change(all=True))

    def on_screen_resume(self) -> None:
        if self.is_mounted:
            self.bring_up_to_date(Change(all=True))

    @property
    def laid_out(self) -> bool:
        """Whether there is something on the screen."""
        return self.query_one("#title").size.width > 0

    # --- sides ------------------------------------------------------------------------------------

    @property
    def narrow(self) -> bool:
        return self.app.size.width < 100

    @property
    def side(self) -> str:
        return self.SIDES[self._side] if self.SIDES else ""

    def show_side(self, number: int, *, focus: bool = True) -> None:
        """Turn to side `number`: show it where only one fits, and give it the keys."""
        if not self.SIDES:
            return
        self._side = number % len(self.SIDES)
        for n, name in enumerate(self.SIDES):
            self.query_one(f"#{name}").set_class(n != self._side, "-turned")
        if focus:
            self._focus_within(self.query_one(f"#{self.side}"))

    def _focus_within(self, widget: Widget) -> None:
        inner = [widget, *widget.query("*").results(Widget)]
        target = next((w for w in inner if w.can_focus and w.display), None)
        if target:
            target.focus()

    def action_other(self, step: int = 1) -> None:
        if self.SIDES:
            self.show_side(self._side + step)
        elif step > 0:
            self.focus_next()
        else:
            self.focus_previous()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "back" or self._can_go_back()

    def _can_go_back(self) -> bool:
        return len(self.app.screen_stack) > 1 or (self.narrow and self._side > 0)

    def action_back(self) -> None:
        """To the first pane where one is shown at a time, else to the screen before."""
        if self.narrow and self._side:
            self.show_side(0)
        elif len(self.app.screen_stack) > 1:
            self.app.pop_screen()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        for n, name in enumerate(self.SIDES):
            side = self.query_one(f"#{name}")
            if event.widget is side or side in event.widget.ancestors:
                self._side = n
                if self.narrow:
                    self.show_side(n, focus=False)
        self.turned()

    def turned(self) -> None:
        """Another side has the keys."""
