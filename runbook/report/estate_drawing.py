"""The map of the estate as SVG: agents, the names they call, servers, and what is behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runbook.estate_map import (
    AGENTS,
    CERTIFICATES,
    FACTS,
    NAMES,
    SERVERS,
    SERVICES,
    EstateMap,
    Line,
    Node,
)
from runbook.report.markup import Markup, tag
from runbook.symbols import TO_COME, UNDER_WAY

WIDTH = 1180
NODE = 236  # wide
GAP = 16  # between nodes of a column
TOP = 34  # the columns' titles
LANE = 34  # below the nodes, for what passes by all of them
EDGE = 22  # left of the first column
LETTERS = 27  # of a title that fit into a node, and of a note
SMALL = 36
HEADS = {AGENTS: "Agents", NAMES: "Name they call", SERVERS: "Puppet Servers", SERVICES: "Behind"}


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node stands."""

    x: float
    y: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def right(self) -> float:
        return self.x + NODE


def draw(map_: EstateMap, name: str) -> Markup:
    """The map; `name` is unique on the page."""
    boxes, height = _place(map_)
    lines = [_line(line, boxes, height) for line in map_.lines if line.what != CERTIFICATES]
    asked = [line for line in map_.lines if line.what == CERTIFICATES]
    heads = [
        tag("text", title, x=_x(column) + NODE / 2, y=16, class_="head", text_anchor="middle")
        for column, title in HEADS.items()
        if map_.column(column)
    ]
    return tag(
        "svg",
        tag("title", map_.title, id=name),
        *heads,
        *lines,
        *_lane(asked, boxes, height),
        *(_node(node, boxes[node.id]) for node in map_.nodes),
        *(_share(_given(map_, node), boxes[node.id]) for node in map_.nodes),
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_labelledby=name,
        class_="map",
    )


def _x(column: int) -> float:
    return EDGE + column * (WIDTH - EDGE - 4 - NODE) / 3


def _place(map_: EstateMap) -> tuple[Mapping[str, Box], float]:
    """A box for each node, each column in the middle; and the height of it all."""
    columns = [_ordered(map_, column) for column in HEADS]
    heights = [sum(_tall(n) + GAP for n in nodes) - GAP for nodes in columns]
    tallest = max([60.0, *heights])
    boxes: dict[str, Box] = {}
    for column, nodes in enumerate(columns):
        y = TOP + (tallest - heights[column]) / 2
        for node in nodes:
            boxes[node.id] = Box(_x(column), y, _tall(node))
            y += _tall(node) + GAP
    return boxes, TOP + tallest + LANE


def _given(map_: EstateMap, node: Node) -> list[Line]:
    lines = (x for x in map_.lines if x.target == node.id)
    return [x for x in lines if x.share is not None or x.standby]


def _ordered(map_: EstateMap, column: int) -> list[Node]:
    """The CA last: what goes to it comes from below."""
    return sorted(map_.column(column), key=lambda n: n.id.partition("/")[0] == "ca")


def _tall(node: Node) -> float:
    return 29 + 15 * (len(node.notes) + 1)


def _cut(text: str, letters: int) -> str:
    """Long names differ at both ends: what is left out is in the middle."""
    if len(text) <= letters:
        return text
    first = letters * 2 // 5
    return f"{text[:first]}…{text[first + 1 - letters :]}"


def _node(node: Node, box: Box) -> Markup:
    x, y = box.x + 12, box.y + 20
    said = [tag("text", _cut(node.title, LETTERS), x=x, y=y, class_="name")]
    for n, note in enumerate(node.notes, 1):
        said.append(tag("text", _cut(note, SMALL), x=x, y=y + 15 * n, class_="note"))
    word = f"{node.mark.symbol} {node.mark.word}"
    at = y + 15 * (len(node.notes) + 1)
    said.append(tag("text", word, x=x, y=at, class_=f"mark {node.mark.tone}"))
    frame = tag("rect", x=box.x, y=box.y, width=NODE, height=box.height, rx=7)
    whole = ", ".join((node.title, *node.notes, node.mark.word))
    return tag("g", tag("title", whole), frame, *said, class_=f"node {_class(node.mark)}")


def _class(mark: object) -> str:
    return "to-come" if mark in (TO_COME, UNDER_WAY) else "there"


def _line(line: Line, boxes: Mapping[str, Box], height: float) -> Markup:
    source, target = boxes[line.source], boxes[line.target]
    half = (target.x - source.right) / 2
    path = (
        f"M{source.right:g} {source.middle:g}C{source.right + half:g} {source.middle:g} "
        f"{target.x - half:g} {target.middle:g} {target.x - 5:g} {target.middle:g}"
    )
    kind = "facts" if line.what == FACTS else "standby" if line.standby else "catalogs"
    return tag(
        "g",
        tag("path", d=path),
        _arrow(target.x, target.middle),
        class_=f"line {kind} {_class(line.mark)}",
    )


def _arrow(x: float, y: float) -> Markup:
    return tag("path", d=f"M{x:g} {y:g}l-8 -4.5v9z", class_="arrow")


def _share(lines: Iterable[Line], box: Box) -> Markup | None:
    """What a server gets of those who ask for it, in its lower right corner."""
    said = ["standby" if x.share is None else f"{100 * x.share:.0f} %" for x in lines]
    if not said:
        return None
    x, y = box.right - 12, box.y + box.height - 9
    return tag("text", ", ".join(said), x=x, y=y, class_="share", text_anchor="end")


def _lane(asked: list[Line], boxes: Mapping[str, Box], height: float) -> list[Markup]:
    """What the agents ask of the CA goes around everything else, along the bottom."""
    if not asked:
        return []
    y, left = height - 14, EDGE - 13
    ca = boxes[asked[0].target]
    up = ca.x - 16
    paths = []
    for line in asked:
        box = boxes[line.source]
        paths.append(f"M{box.x:g} {box.middle + 8:g}H{left:g}V{y:g}")
    paths.append(f"M{left:g} {y:g}H{up:g}V{ca.middle + 8:g}H{ca.x - 5:g}")
    mark = asked[0].mark
    return [
        tag(
            "g",
            *(tag("path", d=path) for path in paths),
            _arrow(ca.x, ca.middle + 8),
            tag("text", "certificates: every agent asks the CA", x=EDGE + 8, y=y - 6),
            class_=f"line certificates {_class(mark)}",
        )
    ]
