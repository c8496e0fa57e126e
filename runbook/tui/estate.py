"""The map of the estate in lines: who serves the agents, before and now, and their shares."""

from __future__ import annotations

from textual.app import ComposeResult

from runbook import estate_map
from runbook.estate_map import Entry, EstateMap
from runbook.shares import Spread
from runbook.tui.desk import Change, Desk
from runbook.tui.look import Look, Part
from runbook.tui.pane import Pane
from runbook.tui.rows import Detail

BAR = 12
"""Cells of a bar for a share."""


def entry(look: Look, of: Entry, width: int) -> list[Part]:
    """One line of the map, `width` cells wide: status, name, then its share or a note."""
    if of.mark is None:
        return [look.cell(of.text, width).rstrip()]
    share = "" if of.share is None else f"{100 * of.share:3.0f} %"
    if width < 60:  # no room for bars and notes
        room = width - 12 - (len(share) + 1 if share else 0)
        return [look.word(of.mark, 12), f"{look.cell(of.text, room)} {share}".rstrip()]
    room = min(34, width // 2 - 7)
    parts: list[Part] = [look.word(of.mark, 12), look.cell(of.text, room) + " "]
    left = width - 13 - room
    if share:
        parts += [f"{share} ", *share_bar(look, of.share or 0), " "]
        left -= len(share) + BAR + 2
    return [*parts, (look.cell(of.note, left).rstrip(), "dim")]


def share_bar(look: Look, part: float, tone: str = "plain") -> list[Part]:
    """A share of the whole, 0 to 1, as a bar."""
    whole = 1000
    filled = min(whole, round(whole * part))
    return look.bar(((filled, tone), (whole - filled, "dim")), BAR)


def lines(look: Look, map_: EstateMap, width: int) -> list[Part]:
    """The map with its title, a line each."""
    parts: list[Part] = [(f"{map_.title}\n", "head")]
    for of in estate_map.outline(map_):
        parts += [*entry(look, of, width), "\n"]
    return parts


def spread_lines(look: Look, spread: Spread, width: int) -> list[Part]:
    """Planned shares, and the measured ones below where there are any."""
    parts: list[Part] = [(f"{look.cell(spread.title, width).rstrip()}\n", "head")]
    room = max(16, min(34, width // 2 - 7))
    for share in spread.shares:
        rows = [("planned", share.planned, "busy", "")]
        if spread.measured:
            rows.append(("measured", share.measured, "plain", f"{share.count:,} counted"))
        for n, (word, part, tone, note) in enumerate(rows):
            name = look.cell("" if n else share.server, room)
            parts += [f"{name} ", (f"{word:9}", "dim")]
            if part is None:
                parts += [("  -\n", "dim")]
                continue
            parts += [f"{100 * part:3.0f} % ", *share_bar(look, part, tone), (f"  {note}\n", "dim")]
    if not spread.measured:
        parts.append(("not measured yet\n", "dim"))
    return parts


def whole(desk: Desk, width: int) -> list[Part]:
    """Before, now and the shares, under each other; what is not known is left out."""
    site, state = desk.mission.site, desk.state
    parts: list[Part] = []
    for map_ in (estate_map.before(site, state), estate_map.now(site, state)):
        if map_.nodes:
            parts += [*(["\n"] if parts else []), *lines(desk.look, map_, width)]
    for spread in estate_map.spreads(site, state):
        parts += ["\n", *spread_lines(desk.look, spread, width)]
    return parts


class MapView(Pane):
    """Who serves the agents: as first surveyed, and now."""

    NAME = "Map"
    SIDES = ("map",)

    def body(self) -> ComposeResult:
        yield Detail(id="map")

    def ready(self) -> None:
        self.query_one("#map").border_title = "Map of the estate"

    def on_resize(self) -> None:
        self.draw(Change(all=True))

    def draw(self, change: Change) -> None:
        if change.all or change.steps:
            width = max(40, self.app.size.width - 6)
            self.query_one("#map", Detail).say(self.look.block(*whole(self.desk, width)))
