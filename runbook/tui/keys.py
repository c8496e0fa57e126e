"""The keys of every screen as a document, made from the bindings themselves.

`python -m runbook.tui.keys` prints docs/reference/keys.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from textual.app import App
from textual.binding import Binding, BindingType
from textual.dom import DOMNode

from runbook.tui.app import RunbookApp, key_name
from runbook.tui.dialogs import Asking, Pasted
from runbook.tui.home import Home
from runbook.tui.hosts import HostsView
from runbook.tui.log import LogView, Window
from runbook.tui.pane import Pane
from runbook.tui.review import ReviewView
from runbook.tui.rows import Detail, Rows
from runbook.tui.step import StepView

PLACES: tuple[tuple[str, type[DOMNode]], ...] = (
    ("Everywhere", RunbookApp),
    ("Every full screen", Pane),
    ("Lists", Rows),
    ("Texts", Detail),
    ("Overview", Home),
    ("Step", StepView),
    ("Plan", ReviewView),
    ("Hosts", HostsView),
    ("Log", LogView),
    ("Text of a log", Window),
    ("Dialogs", Asking),
    ("Pasting into a dialog", Pasted),
)

OPENING = """\
# Keys

Every binding has an id that stays the same when its key changes. What changes something is never
done by one key alone: a key opens the plan or a dialog, in which *No* has the focus.
Command names in the palette (^p) are "area: Verb", from the same bindings.
"""


def document() -> str:
    """The reference page, in Markdown."""
    parts = [OPENING]
    for title, place in PLACES:
        bindings = list(_own(place))
        if not bindings:
            continue
        parts.append(f"\n## {title}\n\n| Keys | What | Id |\n|---|---|---|\n")
        for binding in bindings:
            keys = ", ".join(f"`{binding.key_display or key_name(k)}`" for k in _keys(binding))
            parts.append(f"| {keys} | {binding.description} | `{binding.id}` |\n")
    return "".join(parts)


def _keys(binding: Binding) -> list[str]:
    first, *rest = binding.key.split(",")
    return [first] if binding.key_display and not rest else [first, *rest]


def _own(place: type[DOMNode]) -> Iterable[Binding]:
    """The bindings that our own classes give this place, not those Textual gives all."""
    classes = [c for c in place.__mro__ if c.__module__.startswith("runbook.")]
    if place not in (RunbookApp, Pane):
        classes = [c for c in classes if c is not Pane]
    for own in classes:
        found: list[BindingType] = list(vars(own).get("BINDINGS", ()))
        yield from (b for b in found if isinstance(b, Binding) and b.id)
    if issubclass(place, App):
        yield Binding(place.COMMAND_PALETTE_BINDING, "", "Palette", id="app.palette")


if __name__ == "__main__":
    sys.stdout.write(document())
