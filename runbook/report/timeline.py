"""What was done on which host when, as SVG: hosts down, time across, breaks folded together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from runbook.model import Site, Status
from runbook.report.axis import BREAK, WIDTH, Axis, axis
from runbook.report.markup import Markup, joined, markup, tag
from runbook.report.record import Attempt, Run, attempts
from runbook.symbols import STATUS, URGENCY, count, span

ROW = 22
BAR = 14
ALONE = 12  # so many agents have a row each; more are drawn by group
ODD = 30  # hosts of a group that get a row of their own because something went wrong there


# --- rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A host, or many that are alike, with what was done there."""

    title: str
    attempts: tuple[Attempt, ...]
    hosts: int = 1


def rows(site: Site, all_: Iterable[Attempt]) -> list[Row]:
    """A row for each host that was worked on; many agents are one row, but those that stand out."""
    by_host: dict[str, list[Attempt]] = {}
    for attempt in all_:
        by_host.setdefault(attempt.host, []).append(attempt)
    order = [h.name for h in site.hosts if h.name in by_host]
    order += [name for name in by_host if name not in order]
    agents = {h.name: h.group for h in site.having("agent") if h.roles == {"agent"}}
    many = [name for name in order if name in agents]
    if len(many) <= ALONE:
        return [Row(name, tuple(by_host[name])) for name in order]
    found = [Row(name, tuple(by_host[name])) for name in order if name not in agents]
    for group in dict.fromkeys(agents[name] for name in many):
        hosts = [name for name in many if agents[name] == group]
        together = tuple(a for name in hosts for a in by_host[name])
        title = f"{len(hosts):,} agents" + (f", {group}" if group else "")
        found.append(Row(title, together, len(hosts)))
        odd = [n for n in hosts if any(a.status is not Status.OK for a in by_host[n])]
        found += [Row(name, tuple(by_host[name])) for name in odd[:ODD]]
        if len(odd) > ODD:
            found.append(Row(f"and {len(odd) - ODD} more that failed", ()))
    return found


# --- drawing --------------------------------------------------------------------------------------


def draw(site: Site, found: Sequence[Run]) -> Markup:
    """The timeline of all runs; empty where nothing was done on any host."""
    lines = rows(site, attempts(found))
    if not lines:
        return Markup("")
    time = axis(found)
    top = ROW * 2 + 12
    height = top + ROW * len(lines) + 26
    parts = [
        *(_break(time, end, seconds, height) for end, seconds in time.breaks()),
        *(_tick(time, at, height) for at in time.ticks()),
        *(part for n, run in enumerate(found, 1) for part in _run(time, n, run)),
        *(part for n, row in enumerate(lines) for part in _row(time, row, top + n * ROW)),
    ]
    return tag(
        "svg",
        tag("title", f"What was done on {count(len(lines), 'row')} of hosts, over time"),
        _patterns(),
        *parts,
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        class_="timeline",
    )


def legend(found: Sequence[Run]) -> Markup:
    """The statuses that are there, in words."""
    there = {_status(a) for a in attempts(found)}
    marks = [STATUS[s] for s in URGENCY if s in there]
    keys = (
        markup(tag("span", m.symbol, class_=f"key {m.tone}", aria_hidden="true"), f" {m.word}")
        for m in marks
    )
    folds = tag("span", "a dashed band: nothing happened, not to scale", class_="quiet")
    return tag("p", joined(keys, " \N{MIDDLE DOT} "), " \N{MIDDLE DOT} ", folds, class_="legend")


def _status(attempt: Attempt) -> Status:
    return Status.UNDONE if attempt.taken_back else attempt.status


def _patterns() -> Markup:
    """Hatchings, so that what did not end well differs without its colour, too."""
    found = []
    for name, turn in (("bad", 45), ("warn", -45), ("dim", 90)):
        stripe = tag("rect", width=3, height=6, class_=f"stripe {name}")
        ground = tag("rect", width=6, height=6, class_=f"ground {name}")
        found.append(
            tag(
                "pattern", ground, stripe, id=f"hatch-{name}", width=6, height=6,
                patternUnits="userSpaceOnUse", patternTransform=f"rotate({turn})",
            )
        )  # fmt: skip
    return tag("defs", *found)


def _tick(time: Axis, at: float, height: float) -> Markup:
    when = datetime.fromtimestamp(at, UTC)
    said = when.strftime("%H:%M:%S" if when.second else "%H:%M")
    x = time.x(at)
    return markup(
        tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=ROW * 2 + 6, y2=height - 20, class_="grid"),
        tag("text", said, x=f"{x:.1f}", y=height - 6, class_="tick", text_anchor="middle"),
    )


def _break(time: Axis, end: float, seconds: float, height: float) -> Markup:
    x, top, wide = time.x(end), ROW * 2 + 6, time.fold
    parts = [
        tag("title", f"nothing happened for {span(seconds)}"),
        tag("rect", x=f"{x + wide / 10:.1f}", y=top, width=f"{wide * 0.8:.1f}",
            height=height - top - 20),
    ]  # fmt: skip
    if wide >= BREAK:
        middle = f"{x + wide / 2:.1f}"
        said = _short(seconds)
        parts.append(tag("text", said, x=middle, y=height - 6, class_="tick", text_anchor="middle"))
    return tag("g", *parts, class_="fold")


def _short(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _run(time: Axis, number: int, run: Run) -> Iterator[Markup]:
    """The run itself, and its steps below it."""
    end = run.last if run.ended is None else run.ended
    x, wide = time.x(run.started), max(4.0, time.x(end) - time.x(run.started))
    said = f"{number} {run.mode}: {run.outcome}"
    whole = f"run {run.id}, {said}, by {run.operator}"
    yield tag(
        "g",
        tag("title", whole),
        tag("rect", x=f"{x:.1f}", y=2, width=f"{wide:.1f}", height=BAR + 4, rx=3),
        tag("text", _fit(said, wide), x=f"{x + 5:.1f}", y=15),
        class_="run" if run.ended is not None or run.at_work else "run broken",
    )
    for passage in run.passages.values():
        if not passage.started:
            continue
        mark = STATUS[passage.status]
        left = time.x(passage.started)
        room = max(3.0, time.x(passage.ended or end) - left)
        whole = f"{passage.title}: {mark.word}"
        yield tag(
            "g",
            tag("title", whole),
            tag("rect", x=f"{left:.1f}", y=ROW + 2, width=f"{room:.1f}", height=BAR + 4, rx=3),
            tag(
                "text",
                _fit(f"{mark.symbol} {passage.title}", room),
                x=f"{left + 4:.1f}",
                y=ROW + 15,
            ),
            class_=f"step {mark.tone}",
        )


def _fit(text: str, room: float) -> str:
    letters = int((room - 8) / 6.2)
    if letters < 1:
        return ""
    return (
        text if len(text) <= letters else text[: max(1, letters - 1)] + ("…" if letters > 2 else "")
    )


def _row(time: Axis, row: Row, y: float) -> Iterator[Markup]:
    name = row.title if len(row.title) <= 31 else row.title[:30] + "…"
    yield tag("line", x1=0, x2=WIDTH, y1=y + ROW - 0.5, y2=y + ROW - 0.5, class_="grid")
    yield tag("text", tag("title", row.title), name, x=0, y=y + 15, class_="host")
    if row.hosts == 1:
        for attempt in row.attempts:
            end = attempt.ended or _open_end(time)
            said = f"{attempt.title}, {span(end - attempt.started)}"
            yield _bar(time, y, attempt.started, end, _status(attempt), f"{row.title}: {said}")
        return
    for status, start, end, n in _merged(row.attempts, time):
        yield _bar(time, y, start, end, status, f"{row.title}: {count(n, 'action')}", str(n))


def _open_end(time: Axis) -> float:
    return time.stretches[-1][1]


def _merged(all_: Iterable[Attempt], time: Axis) -> Iterator[tuple[Status, float, float, int]]:
    """Work that overlaps, or nearly, as one stretch with the number of actions in it."""
    for status in reversed(URGENCY):  # what needs a person is drawn last, on top
        same = sorted((a.started, a.ended or _open_end(time)) for a in all_ if _status(a) is status)
        start, end, n = 0.0, -1.0, 0
        for began, ended in same:
            if n and time.x(began) - time.x(end) <= 3:
                end, n = max(end, ended), n + 1
                continue
            if n:
                yield status, start, end, n
            start, end, n = began, ended, 1
        if n:
            yield status, start, end, n


def _bar(
    time: Axis, y: float, start: float, end: float, status: Status, whole: str, number: str = ""
) -> Markup:
    mark = STATUS[status]
    x, wide = time.x(start), max(3.0, time.x(end) - time.x(start))
    parts = [
        tag("title", f"{whole}: {mark.word}"),
        tag("rect", x=f"{x:.1f}", y=y + 4, width=f"{wide:.1f}", height=BAR, rx=2),
    ]
    said = f"{mark.symbol} {number}".strip()
    if wide >= 6 + 6.5 * len(said):
        middle = x + wide / 2
        parts.append(tag("text", said, x=f"{middle:.1f}", y=y + 15, text_anchor="middle"))
    elif status is not Status.OK:
        parts.append(tag("text", mark.symbol, x=f"{x + wide + 2:.1f}", y=y + 15, class_="beside"))
    return tag("g", *parts, class_=f"bar {mark.tone}")
