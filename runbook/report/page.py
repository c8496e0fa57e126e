"""The evidence as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

from runbook import __version__, estate_map
from runbook.model import Event, Site, Status
from runbook.report import bars, estate_drawing, timeline
from runbook.report.chapter import chapter
from runbook.report.markup import Markup, badge, clock, folded, joined, markup, moment, table, tag
from runbook.report.record import Run, runs, took
from runbook.state import RunState, StepState, fold
from runbook.symbols import STATUS, Mark, span


def as_page(events: Sequence[Event], site: Site, *, at_work: bool = False, seal: str = "") -> str:
    """The page; `seal` is the hash of the journal's last record."""
    state, found = fold(events), runs(events, at_work=at_work)
    body: list[Markup | None] = [tag("p", "Nothing was done yet.")]
    if found:
        body = [
            _where(state, found),
            _open(state, site, found),
            _estate(site, state),
            _spreads(site, state),
            _time(site, found),
            *(chapter(step.id, step.title, found) for step in state.steps.values()),
            _runs(found),
        ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{site.name}: what was done"),
        tag("style", Markup(files("runbook.report").joinpath("page.css").read_text("utf-8"))),
    )
    main = tag("main", _header(site, state, found, seal), *body, _footer())
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', main), lang='en')}\n"


# --- the top --------------------------------------------------------------------------------------


def _header(site: Site, state: RunState, found: Sequence[Run], seal: str) -> Markup:
    facts: list[tuple[str, object]] = [("Hosts", f"{len(site.hosts):,}")]
    if found:
        first, last = found[0], found[-1]
        whole = [moment(first.started), " to ", moment(last.last), " UTC"]
        operators = dict.fromkeys(run.operator for run in found)
        versions = dict.fromkeys(str(run.data.get("version", "")) for run in found)
        digest = str(last.data.get("inventory", ""))
        facts += [
            ("When", markup(*whole)),
            ("Runs", f"{len(found)}, the last one {last.id}"),
            ("By", ", ".join(operators)),
            ("With", f"pmrunbook {', '.join(versions)}"),
            ("Inventory", markup(tag("code", digest[:16], title=digest), _moved(site, digest))),
        ]
    if seal:
        entries = f"{state.events:,} entries, unbroken, the last one "
        facts.append(("Journal", markup(entries, tag("code", seal[:16], title=seal))))
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in facts)
    return tag(
        "header",
        tag("p", "Evidence of a change", class_="kicker"),
        tag("h1", site.name, " ", _outcome(found)),
        tag("dl", *pairs),
    )


def _moved(site: Site, digest: str) -> str:
    return "" if site.digest in ("", digest) else " (the file was changed since)"


def _outcome(found: Sequence[Run]) -> Markup:
    if not found:
        return badge(STATUS[Status.PENDING])
    last = found[-1]
    status = {0: Status.OK, 7: Status.WAITING, 8: Status.UNKNOWN, 130: Status.UNKNOWN}
    mark = STATUS[status.get(last.exit if last.exit is not None else 8, Status.FAILED)]
    if last.at_work:
        mark = STATUS[Status.RUNNING]
    return badge(mark, ", ".join(filter(None, (last.why, last.outcome))))


def _where(state: RunState, found: Sequence[Run]) -> Markup:
    """Every step in a line."""
    rows = []
    for step in state.steps.values():
        mark, why = _stands(step, found)
        checks = list(step.checks.values())
        passed = sum(c.ok is True for c in checks)
        rows.append(
            (
                tag("a", step.title or step.id, href=f"#step-{step.id}"),
                badge(mark),
                span(seconds) if (seconds := took(found, step.id)) else "",
                f"{len(step.actions):,}" if step.actions else "",
                f"{passed:,} of {len(checks):,}" if checks else "",
                why,
            )
        )
    heads = ("Step", "Status", "Took", "Changes", "Checks passed", "Why")
    return _section("Where it stands", table(heads, rows, "steps"))


def _stands(step: StepState, found: Sequence[Run]) -> tuple[Mark, str]:
    if step.status in (Status.RUNNING, Status.WAITING) and not found[-1].at_work:
        return STATUS[Status.PENDING], "broken off"
    return STATUS[step.status], step.why


def _open(state: RunState, site: Site, found: Sequence[Run]) -> Markup | None:
    """What somebody has to know of before they call it done."""
    dark = ("Outcome unknown", "A change was started and nobody has read yet how it ended.")
    mark = STATUS[Status.UNKNOWN]
    if found[-1].at_work:
        dark, mark = ("Under way", "Hosts are at these changes now."), STATUS[Status.RUNNING]
    groups: tuple[tuple[str, str, Iterable[object]], ...] = (
        (
            *dark,
            (markup(badge(mark), f" {a.host}: {a.title} {a.note}") for a in state.unknown()),
        ),
        (
            "Still open",
            "Temporary changes that are still there; pmrunbook debts --repay ends them.",
            (f"{d.host}: {d.title}, since step {d.step}" for d in state.debts.values()),
        ),
        (
            "Left out",
            "These hosts were not changed.",
            (
                markup(badge(STATUS[Status.EXCLUDED]), f" {host}: {why}")
                for host, why in state.excluded.items()
            ),
        ),
        (
            "Findings that were accepted",
            "They stand, and somebody said why.",
            _accepted(site, state),
        ),
        (
            "Skipped",
            "Steps that somebody decided not to do.",
            (
                f"{step.title}: {step.why}"
                for step in state.steps.values()
                if step.status is Status.SKIPPED
            ),
        ),
    )
    said = []
    for title, about, lines in groups:
        items = [tag("li", line) for line in lines]
        if items:
            heading = tag("h3", f"{title} ({len(items)})")
            said.append(tag("div", heading, tag("p", about), tag("ul", *items), class_="open"))
    return _section("What to know", tag("div", *said, class_="cards")) if said else None


def _accepted(site: Site, state: RunState) -> Iterator[str]:
    for waiver in site.waivers:
        where = "every host" if waiver.host == "*" else waiver.host
        yield f"{waiver.finding} on {where}: {waiver.reason} (inventory, until {waiver.expires})"
    for (finding, host), why in state.waived.items():
        yield f"{finding} on {host}: {why} (during the run)"


# --- pictures -------------------------------------------------------------------------------------


def _estate(site: Site, state: RunState) -> Markup:
    figures = []
    for name, map_ in (
        ("before", estate_map.before(site, state)),
        ("now", estate_map.now(site, state)),
    ):
        if not map_.nodes:
            said = "No host was surveyed in a run that is in the journal."
            figures.append(tag("figure", tag("figcaption", map_.title), tag("p", said)))
            continue
        drawing = tag("div", estate_drawing.draw(map_, f"map-{name}"), class_="scroll drawing")
        words = folded("The same in words", _words(map_))
        figures.append(tag("figure", tag("figcaption", map_.title), drawing, words))
    keys = joined(
        (
            tag("span", tag("i", class_=f"stroke {kind}", aria_hidden="true"), said, class_="item")
            for kind, said in (
                ("catalogs", "catalogs"),
                ("standby", "only when the others fail"),
                ("facts", "facts and reports"),
                ("certificates", "certificates"),
                ("to-come", "faint: to come, or under way"),
            )
        ),
        " ",
    )
    return _section("The estate, before and after", *figures, tag("p", keys, class_="legend"))


def _words(map_: estate_map.EstateMap) -> Markup:
    items: list[Markup] = []
    for entry in estate_map.outline(map_):
        if entry.mark is None:
            items.append(tag("li", tag("b", entry.text)))
            continue
        share = "" if entry.share is None else f" {100 * entry.share:.0f} %"
        note = f", {entry.note}" if entry.note else ""
        items.append(tag("li", badge(entry.mark), f" {entry.text}{share}{note}"))
    return tag("ul", *items, class_="plain")


def _spreads(site: Site, state: RunState) -> Markup | None:
    spreads = estate_map.spreads(site, state)
    if not spreads:
        return None
    about = "How the agents are spread over the Puppet Servers: as planned, and as counted."
    return _section("Shares", tag("p", about), *(bars.draw(spread) for spread in spreads))


def _time(site: Site, found: Sequence[Run]) -> Markup | None:
    drawn = timeline.draw(site, found)
    if not drawn:
        return None
    box = tag("div", drawn, class_="scroll drawing")
    return _section("Hosts over time (UTC)", tag("figure", box), timeline.legend(found))


# --- the bottom -----------------------------------------------------------------------------------


def _runs(found: Sequence[Run]) -> Markup:
    rows = [
        (
            str(n),
            tag("code", run.id),
            run.mode,
            run.operator,
            moment(run.started),
            clock(run.last) if run.ended is not None else markup("last entry ", clock(run.last)),
            run.outcome,
            run.why,
        )
        for n, run in enumerate(found, 1)
    ]
    heads = ("", "Run", "Mode", "By", "Started", "Ended", "Outcome", "Why")
    return _section("Runs", table(heads, rows))


def _section(title: str, *children: object) -> Markup:
    return tag("section", tag("h2", title), *children)


def _footer() -> Markup:
    said = f"Made by pmrunbook {__version__} from the journal; times are UTC. "
    more = "What a host said in full: pmrunbook log HOST."
    return tag("footer", tag("p", said, more))
