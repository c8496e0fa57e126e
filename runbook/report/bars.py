"""Planned and measured shares as bars."""

from __future__ import annotations

from runbook.report.markup import Markup, markup, tag
from runbook.shares import Share, Spread


def draw(spread: Spread) -> Markup:
    """One spread, a row for each server."""
    heads = ["server", "", "planned"] + (["measured", "counted", ""] if spread.measured else [])
    head = tag("tr", *(tag("th", h, scope="col") for h in heads))
    rows = [_row(share, spread.measured) for share in spread.shares]
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="shares")
    said = "Upper bar: planned; lower bar: measured." if spread.measured else "Not measured yet."
    note = tag("p", said, class_="legend")
    return markup(tag("h3", spread.title), tag("div", table, class_="scroll"), note)


def _row(share: Share, measured: bool) -> Markup:
    bars = [_bar(share.planned, "planned")] + ([_bar(share.measured, "measured")] * measured)
    cells: list[object] = [share.server, tag("div", *bars, class_="bars"), _percent(share.planned)]
    if measured:
        cells += [_percent(share.measured), f"{share.count:,}", _off(share)]
    return tag("tr", *(tag("td", cell) for cell in cells))


def _bar(part: float | None, kind: str) -> Markup:
    wide = f"{100 * (part or 0):.2f}"
    return tag(
        "svg",
        tag("title", f"{kind}: {_percent(part)}"),
        tag("rect", width=100, height=10, class_="room"),
        tag("rect", width=wide, height=10, class_=kind),
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        role="img",
    )


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.0f} %"


def _off(share: Share) -> str:
    """How far the measured share is from the planned one; whether that is near, a check says."""
    if share.planned is None:
        return "not in the plan"
    off = round(100 * ((share.measured or 0) - share.planned))
    return f"{off:+d} points" if off else "as planned"
