"""The last verdict on everything as JUnit XML, for a pipeline: a suite for each step.

The dialect is the one Jenkins and GitLab read: `testsuites/testsuite/testcase` with `failure`,
`error` and `skipped`. A check that could not be told is `skipped`, and its step then did not end
well, so it cannot pass for good. Who approved what and when is in the suite's `properties`, what
was found in its `system-out`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from runbook.model import Event, Site, Status
from runbook.report.record import Checked, Passage, Run, runs
from runbook.state import StepState, fold
from runbook.symbols import shown


def as_junit(events: Sequence[Event], site: Site, *, at_work: bool = False) -> str:
    """The document."""
    state, found = fold(events), runs(events, at_work=at_work)
    top = ET.Element("testsuites", name=_text(f"pmrunbook {site.name}"))
    for step in state.steps.values():
        top.append(_suite(site, step, list(_passages(found, step.id)), at_work))
    for name in ("tests", "failures", "errors", "skipped"):
        top.set(name, str(sum(int(suite.get(name, "0")) for suite in top)))
    top.set("time", _seconds(float(suite.get("time", "0")) for suite in top))
    ET.indent(top)
    return ET.tostring(top, encoding="unicode", xml_declaration=True) + "\n"


def _passages(found: Iterable[Run], step: str) -> Iterator[Passage]:
    for run in found:
        if step in run.passages:
            yield run.passages[step]


def _suite(site: Site, step: StepState, passages: Sequence[Passage], at_work: bool) -> ET.Element:
    class_ = _text(f"pmrunbook.{site.name}.{step.id}")
    last = passages[-1] if passages else Passage(step.id)
    cases = [_check(check, class_) for check in last.checks.values()]
    cases.append(_step(step, class_, last, at_work))
    suite = ET.Element("testsuite", name=_text(step.id), tests=str(len(cases)))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(kind) is not None for case in cases)))
    suite.set("time", _seconds(p.seconds for p in passages))
    if last.started:
        began = datetime.fromtimestamp(last.started, UTC)
        suite.set("timestamp", began.strftime("%Y-%m-%dT%H:%M:%S"))
    if approved := [_approval(event) for passage in passages for event in passage.approvals]:
        properties = ET.SubElement(suite, "properties")
        for said in approved:
            ET.SubElement(properties, "property", name="approved", value=_text(said))
    suite.extend(cases)
    if found := [_finding(event) for passage in passages for event in passage.findings]:
        ET.SubElement(suite, "system-out").text = _text("\n".join(found))
    return suite


def _approval(event: Event) -> str:
    data = event.data
    how = f" ({data['how']})" if data.get("how") else ""
    digest = str(data.get("digest", ""))[:12]
    return f"{_time(event.at)} by {data.get('by', '')}{how}, plan {digest}"


def _finding(event: Event) -> str:
    data = event.data
    where = f"{event.host}: " if event.host else ""
    accepted = f" (accepted: {data['waived']})" if data.get("waived") else ""
    said = f"{data['severity']} {data['id']}: {where}{data['observed']}{accepted}"
    return " ".join([_time(event.at), *said.split()])


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _check(check: Checked, class_: str) -> ET.Element:
    data = check.data
    case = ET.Element(
        "testcase", name=_text(data["title"]), classname=class_, time=_seconds([check.took])
    )
    observed, remedy = str(data.get("observed", "")), str(data.get("remedy", ""))
    if check.ok is True:
        return case
    if check.ok is None:
        ET.SubElement(case, "skipped", message=_text(f"unknown: {observed}"))
        return case
    failure = ET.SubElement(case, "failure", message=_text(observed), type="check")
    failure.text = _text("\n".join(x for x in (remedy, str(data.get("detail", ""))) if x))
    return case


def _step(step: StepState, class_: str, last: Passage, at_work: bool) -> ET.Element:
    """The step itself: one that failed before it came to its checks is no success."""
    name = _text(f"step {step.id}: {step.title}")
    took = last.ended - last.started if last.ended else 0.0
    case = ET.Element("testcase", name=name, classname=class_, time=_seconds([took]))
    status, why = step.status, step.why
    if status in (Status.RUNNING, Status.WAITING) and not at_work:
        status, why = Status.UNKNOWN, "broken off"
    said = _text(f"{status.value}: {why}" if why else status.value)
    if status in (Status.FAILED, Status.UNKNOWN, Status.BLOCKED):
        kind = "failure" if status is Status.FAILED else "error"
        problem = ET.SubElement(case, kind, message=said, type="step")
        problem.text = "\n".join(
            _text(f"{a.host}: {a.title}: {a.status.value} {a.note}".rstrip())
            for a in step.actions.values()
            if a.status is not Status.OK
        )
    elif status is not Status.OK:
        ET.SubElement(case, "skipped", message=said)
    return case


def _seconds(spans: Iterable[float]) -> str:
    return f"{max(0.0, sum(spans)):.3f}"


def _text(said: object) -> str:
    """Only what XML 1.0 may hold (section 2.2), and nothing that changes how a line is read."""
    return "".join(c for c in shown(said) if c not in "\ufffe\uffff")
