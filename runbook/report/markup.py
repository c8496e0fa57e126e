"""HTML and SVG as values: what is not markup already is escaped, so nothing a host said is."""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import UTC, datetime

from runbook.symbols import Mark, shown

VOID = ("meta", "br", "col")


class Markup(str):
    """Text that is markup; everything else is text."""

    __slots__ = ()


def markup(*children: object) -> Markup:
    """The children side by side; None is nothing."""
    return Markup(
        "".join(
            c if isinstance(c, Markup) else html.escape(shown(c)) for c in children if c is not None
        )
    )


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. `class_` and `stroke_width` are `class` and `stroke-width`; None is left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(shown(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = markup(*children)
    if name in VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{inner}</{name}>")


def joined(parts: Iterable[object], between: object = "") -> Markup:
    """The parts with `between` between them."""
    found: list[object] = []
    for part in parts:
        found += [between, part] if found else [part]
    return markup(*found)


def badge(mark: Mark, word: str = "") -> Markup:
    """Symbol and word in the colour of the tone: never colour alone."""
    sign = tag("span", mark.symbol, class_="sign", aria_hidden="true")
    return tag("span", sign, " ", word or mark.word, class_=f"badge {mark.tone}")


def table(heads: Iterable[str], rows: Iterable[Iterable[object]], class_: str = "") -> Markup:
    """A table that scrolls by itself where the page is narrow."""
    titles = tuple(heads)
    head = tag("thead", tag("tr", *(tag("th", h, scope="col") for h in titles)))
    body = tag(
        "tbody",
        *(
            tag("tr", *(tag("td", cell, data_head=h) for h, cell in zip(titles, row, strict=True)))
            for row in rows
        ),
    )
    return tag("div", tag("table", head, body, class_=class_ or None), class_="scroll")


def folded(summary: object, *children: object, open_: bool = False) -> Markup:
    """Details behind a line of summary."""
    return tag("details", tag("summary", summary), *children, open="" if open_ else None)


def moment(at: float) -> Markup:
    """A time in UTC."""
    when = datetime.fromtimestamp(at, UTC)
    return tag("time", when.strftime("%Y-%m-%d %H:%M:%S"), datetime=when.isoformat())


def clock(at: float) -> Markup:
    """The time of day in UTC."""
    when = datetime.fromtimestamp(at, UTC)
    return tag("time", when.strftime("%H:%M:%S"), datetime=when.isoformat())
