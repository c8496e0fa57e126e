"""The keys that work here, on one line.

Textual's own footer is a widget for each key, made anew whenever the focus moves; this is one text.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual import events
from textual.screen import Screen
from textual.widgets import Static

from runbook.tui.look import Look


class Keys(Static):
    """The shown bindings of the screen, nearest first; a click is the key."""

    def __init__(self, look: Callable[[], Look]) -> None:
        super().__init__("", id="keys", markup=False)
        self._look = look
        self._said: Text | None = None
        self._ends: list[tuple[int, str]] = []  # where a key's words end, and the key

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self._changed(self.screen)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is not self.screen:
            return
        look, said, seen = self._look(), Text(end=""), set[str]()
        self._ends.clear()
        for bound in screen.active_bindings.values():
            key = bound.binding
            if not key.show or not bound.enabled or key.action in seen:
                continue
            seen.add(key.action)
            shown = self.app.get_key_display(key)
            said.append_text(look.text((shown, "head"), " ", (key.description, "dim"), "  "))
            self._ends.append((said.cell_len, key.key))
        if said != self._said:
            self._said = said
            self.update(said)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        key = next((key for end, key in self._ends if offset and offset.x < end), "")
        if key:
            self.app.simulate_key(key)
