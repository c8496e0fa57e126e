"""One step of the page: found, planned, approved, done, checked, run by run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from runbook.grid import Cell, Grid, gist
from runbook.model import Event, Status
from runbook.report.markup import (
    Markup,
    badge,
    clock,
    folded,
    joined,
    markup,
    moment,
    table,
    tag,
)
from runbook.report.record import Attempt, Checked, Passage, Run
from runbook.symbols import SEVERITY, STATUS, count, shown, span, verdict

FEW = 6
"""Names of hosts that are written out; more are behind a count."""


def chapter(step: str, title: str, found: Sequence[Run]) -> Markup:
    """The section of a step, with every run that came to it."""
    parts = [
        _passage(n, run, run.passages[step], alone=len(found) == 1)
        for n, run in enumerate(found, 1)
        if step in run.passages
    ]
    said = parts or [tag("p", "No run came to it.", class_="quiet")]
    return tag("section", tag("h2", title or step), *said, id=f"step-{step}", class_="step")


def _passage(number: int, run: Run, passage: Passage, *, alone: bool) -> Markup:
    mark = STATUS[passage.status]
    took = f", {span(passage.ended - passage.started)}" if passage.ended else ""
    began = passage.started or run.started
    which = "" if alone else f"run {number}, {run.mode} by {run.operator}, "
    line = [badge(mark), f" {which}", moment(began), took]
    if passage.title.startswith("take back"):
        line.append(f": {passage.title}")
    if passage.why:
        line.append(f": {passage.why}")
    return tag(
        "article",
        tag("p", *line, class_="passage"),
        *_findings(passage),
        *_gates(passage),
        *_plans(passage),
        *_done(passage),
        *_answers(passage),
        *_checks(passage),
    )


# --- found ----------------------------------------------------------------------------------------


def _findings(passage: Passage) -> Iterator[Markup]:
    if not passage.findings:
        return
    alike: dict[tuple[str, str, str], list[Event]] = {}
    for event in passage.findings:
        key = (event.data["severity"], event.data["id"], str(event.data.get("waived", "")))
        alike.setdefault(key, []).append(event)
    order = list(SEVERITY)
    groups = sorted(alike.items(), key=lambda item: order.index(item[0][0]))
    grave = [g for g in groups if g[0][0] != "note"]
    notes = [g for g in groups if g[0][0] == "note"]
    yield _heading("Found", count(len(passage.findings), "finding"))
    if grave:
        yield _found(grave)
    if notes:
        said = count(sum(len(events) for _, events in notes), "note")
        yield folded(said, _found(notes))


def _gates(passage: Passage) -> Iterator[Markup]:
    """What the step was held by: each proof with its age, as it was when agents were moved."""
    if not passage.gates:
        return
    yield _heading("Gates", count(len(passage.gates), "step"))
    rows = []
    for gate in passage.gates.values():
        why = tag("p", "accepted: ", gate["waived"], class_="warn") if gate["waived"] else None
        rows.append((badge(verdict(gate["ok"])), gate["title"], markup(gate["said"], why)))
    yield table(("", "Step", "Proof"), rows, "gates")


def _found(groups: Iterable[tuple[tuple[str, str, str], list[Event]]]) -> Markup:
    rows = []
    for (severity, id_, waived), events in groups:
        data = events[0].data
        observed: dict[str, list[str]] = {}
        for event in events:
            observed.setdefault(str(event.data["observed"]), []).append(event.host)
        seen = tag("ul", *(_seen(text, hosts) for text, hosts in observed.items()), class_="plain")
        remedy = [data.get("remedy", "")]
        if data.get("fixed_by"):
            remedy.append(f" Put right by step {data['fixed_by']}.")
        accepted = tag("p", "accepted: ", waived, class_="warn") if waived else None
        rows.append(
            (
                badge(SEVERITY[severity]),
                markup(tag("b", id_), accepted),
                seen if len(observed) <= FEW else folded(f"on {count(len(events), 'host')}", seen),
                data.get("expected", ""),
                markup(*remedy),
            )
        )
    return table(("", "Finding", "Observed", "Expected", "Remedy"), rows, "findings")


def _seen(text: str, hosts: Sequence[str]) -> Markup:
    names = [h for h in hosts if h]
    if len(names) > FEW:
        return tag("li", text, _hosts(names))
    return tag("li", _hosts(names), ": " if names else "", text)


def _hosts(names: Sequence[str]) -> Markup:
    if len(names) <= FEW:
        return markup(tag("b", ", ".join(names)))
    return markup(folded(f"{len(names):,} hosts", tag("p", ", ".join(names))))


# --- planned and approved -------------------------------------------------------------------------


def _plans(passage: Passage) -> Iterator[Markup]:
    lines = [(event.at, _planned(event)) for event in passage.plans]
    lines += [(event.at, _approved(event)) for event in passage.approvals]
    lines += [(event.at, _waived(event)) for event in passage.waived]
    if not lines:
        return
    lines.sort(key=lambda line: line[0])
    yield _heading("Planned and approved", "")
    yield tag("ul", *(tag("li", clock(at), " ", said) for at, said in lines), class_="plain")


def _planned(event: Event) -> Markup:
    data = event.data
    actions, later = data.get("actions", ()), data.get("later", ())
    hosts = len({a["host"] for a in actions})
    said = f"planned {count(len(actions), 'action')}"
    said += f" on {count(hosts, 'host')}, risk {data.get('risk', '')}" if actions else ""
    said += f", {count(len(later), 'part')} known later" if later else ""
    return markup(said, ", plan ", tag("code", str(data.get("digest", ""))[:12]))


def _approved(event: Event) -> Markup:
    data = event.data
    how = f" ({data['how']})" if data.get("how") else ""
    number = count(len(data.get("actions", ())), "action")
    digest = tag("code", str(data.get("digest", ""))[:12])
    by = tag("b", data.get("by", ""))
    return markup(
        tag("span", "✓ approved", class_="good"), " by ", by, how, f": {number}, plan ", digest
    )


def _waived(event: Event) -> Markup:
    said = f" {event.data['id']} on {event.host}: {event.data['reason']}"
    return markup(tag("span", "▲ accepted", class_="warn"), said)


# --- done -----------------------------------------------------------------------------------------


def _done(passage: Passage) -> Iterator[Markup]:
    if not passage.attempts:
        return
    alike: dict[tuple[str, ...], list[Attempt]] = {}
    for attempt in passage.attempts:
        key = (
            attempt.title,
            str(attempt.data.get("diff", "")),
            attempt.status.value,
            attempt.note,
            str(attempt.taken_back),
            str(attempt.late),
        )
        alike.setdefault(key, []).append(attempt)
    yield _heading("Done", count(len(passage.attempts), "action"))
    rows = [_action(same) for same in alike.values()]
    yield table(("", "What", "Where", "When", "Took"), rows, "actions")


def _action(same: Sequence[Attempt]) -> tuple[object, ...]:
    first = same[0]
    status = Status.UNDONE if first.taken_back else first.status
    what: list[object] = [first.title, _by_hand(first)]
    if first.note:
        tone = "quiet" if first.status is Status.OK else STATUS[first.status].tone
        what.append(tag("p", first.note, class_=tone))
    if first.late:
        read = max(a.ended for a in same)
        what.append(tag("p", "how it ended was read later, ", moment(read), class_="quiet"))
    if diff := str(first.data.get("diff", "")):
        what.append(folded("what changed", _diff(diff)))
    start, end = min(a.started for a in same), max(a.ended or a.started for a in same)
    return (
        badge(STATUS[status]),
        markup(*what),
        _hosts([a.host for a in same]),
        clock(start),
        span(end - start) if all(a.ended and not a.late for a in same) else "",
    )


def _by_hand(attempt: Attempt) -> Markup | None:
    """A person did it; that it was done was read from the host, or nobody would say ok."""
    do = attempt.data.get("do", {})
    if do.get("kind") != "Human":
        return None
    proved = ", proved by a read" if attempt.status is Status.OK else ""
    instruction = folded("what was asked", tag("pre", do.get("instruction", "")))
    return markup(tag("p", f"done by a person{proved}", class_="quiet"), instruction)


def _diff(text: str) -> Markup:
    lines = []
    for line in text.splitlines():
        kind = {"+": "plus", "-": "minus", "@": "at"}.get(line[:1])
        if line.startswith(("+++", "---")):
            kind = "file"
        lines.append(tag("span", line, "\n", class_=kind))
    return tag("pre", *lines, class_="diff")


def _answers(passage: Passage) -> Iterator[Markup]:
    if not passage.answers:
        return
    yield _heading("Decided on the way", "")
    items = []
    for event in passage.answers:
        data = event.data
        text = f": {data['text']}" if data.get("text") else ""
        where = f" {event.host}:" if event.host else ""
        said = f"{where} {data.get('question', '')}, answered {data.get('key', '')}{text}"
        items.append(tag("li", clock(event.at), said))
    yield tag("ul", *items, class_="plain")


# --- checked --------------------------------------------------------------------------------------


def _checks(passage: Passage) -> Iterator[Markup]:
    checks = list(passage.checks.values())
    if not checks:
        return
    passed = sum(c.ok is True for c in checks)
    yield _heading("Checked", f"{passed:,} of {len(checks):,} passed")
    wrong = [c for c in checks if c.ok is not True]
    if wrong:
        yield _checked(wrong)
    cells: dict[Cell, tuple[bool | None, str]] = {}
    for checked in checks:
        row, column = checked.data.get("cell") or ("", "")
        if row:
            cells[row, column] = (checked.ok, gist(str(checked.data.get("observed", ""))))
    if cells:
        yield _grid(Grid(cells))
    right = [c for c in checks if c.ok is True]
    if right:
        yield folded(
            f"{len(right):,} passed", _checked(right), open_=len(right) <= 12 and not cells
        )


def _checked(checks: Iterable[Checked]) -> Markup:
    rows = []
    for check in checks:
        observed: list[object] = [check.data.get("observed", "")]
        if check.ok is not True and check.data.get("remedy"):
            observed.append(tag("p", check.data["remedy"], class_="quiet"))
        if detail := check.data.get("detail"):
            observed.append(folded("in full", _diff(shown(detail))))
        rows.append(
            (badge(verdict(check.ok)), check.data["title"], markup(*observed), clock(check.at))
        )
    return table(("", "Check", "Observed", "When"), rows, "checks")


def _grid(grid: Grid) -> Markup:
    """Servers down, what they are compared in across."""
    rows = []
    for row in grid.rows:
        cells: list[object] = [tag("b", row)]
        for column in grid.columns:
            ok, said = grid.cells.get((row, column), (None, ""))
            there = (row, column) in grid.cells
            cells.append(markup(badge(verdict(ok)), " ", said) if there else "-")
        rows.append(cells)
    return table(("", *grid.columns), rows, "compared")


def _heading(title: str, more: str) -> Markup:
    return tag("h3", joined((title, tag("small", more)), " ") if more else title)
