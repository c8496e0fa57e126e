"""The evidence a person looks at, and what a pipeline reads: structure, escapes, no secrets."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from runbook import cli
from runbook.errors import Waiting
from runbook.journal import Journal
from runbook.model import Site, Status, Waiver
from runbook.plain import Plain
from runbook.ports import Choice, Question
from runbook.report import render, timeline
from runbook.report.axis import LEFT, WIDTH, axis
from runbook.report.markup import VOID, Markup, badge, markup, tag
from runbook.report.record import attempts, runs
from runbook.symbols import STATUS, shown
from tests.core import story
from tests.core.story import HOSTILE, Story

INVENTORY = Path(__file__).parents[2] / "inventories" / "minimal.yaml"


class Page(HTMLParser):
    """The elements of a page; fails where they do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.parents: list[str] = []  # the class of what each of them is in
        self.texts: list[tuple[tuple[str, ...], str]] = []  # each with the elements it is in
        self._classes: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {k: v or "" for k, v in attrs}
        self.elements.append((tag, said))
        self.parents.append(self._classes[-1] if self._classes else "")
        if tag not in VOID:
            self.stack.append(tag)
            self._classes.append(said.get("class", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag
        self._classes.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.texts.append((tuple(self.stack), data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for _, text in self.texts).split())

    def named(self, tag: str, class_: str = "") -> list[dict[str, str]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and (not class_ or class_ in attrs.get("class", "").split())
        ]


def page(told: Story, **more: object) -> Page:
    return Page(render("html", told.events, told.site, **more))  # type: ignore[arg-type]


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314  # our own


# --- the page -----------------------------------------------------------------------------------


def test_the_gates_of_the_cut_over_are_shown_with_their_age_and_what_waived_one() -> None:
    done = story.told()
    said = Page(render("html", done.events, done.site)).text
    assert "proved at 09:12, 4 min ago" in said and "accepted: Friday, says Ann" in said
    text = render("md", done.events, done.site)
    assert "gate passed: " in text and "(waived: Friday, says Ann)" in text


def test_the_page_is_whole_and_needs_nothing_beside_itself() -> None:
    told = story.told()
    text = render("html", told.events, told.site, seal="ab" * 32)
    made = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert [tag for tag, _ in made.elements if tag in ("script", "link", "img", "iframe")] == []
    for _, attrs in made.elements:
        assert not {"src", "srcset", "onclick", "onload", "style"} & set(attrs)
        assert attrs.get("href", "#").startswith("#")
        ids = [a["id"] for _, a in made.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in made.named("a")} <= set(ids)
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{x}" for x in ids}
    assert "@import" not in text and "http:" not in text and "https:" not in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert made.named("meta", "") and made.named("html")[0]["lang"] == "en"


def test_the_page_says_who_did_what_when_and_how_it_ended() -> None:
    text = page(story.told(), seal="ab" * 32).text
    for said in (
        "done, exit 0",
        "66",
        "3, the last one 20261126-3",
        "pmrunbook 0.1.0",
        "abababababababab",
        "✓ approved by ada (typed)",
        "web060.example.com: disk is being replaced",
        "disk-low on pdb.example.com: moves in March (inventory, until 2026-04-01)",
        "done by a person, proved by a read",
        "how it ended was read later",
        "broken off",
        "exit 1: port 8140 is taken",
        "serial 4, the CA has 7",
        "failure, answered exclude",
        "2025-10-09 08:53:21",
    ):
        assert said in text, said


def test_what_is_open_is_said_first() -> None:
    told = story.told(None, story.first)
    text = page(told).text
    assert "Outcome unknown (2)" in text
    assert "? unknown web059.example.com: set ca_server" in text
    at_work = page(told, at_work=True).text
    assert "▸ running web059.example.com: set ca_server" in at_work
    assert "broken off" not in at_work
    assert "Under way (2)" in at_work and "Outcome unknown" not in at_work
    told.emit("waived", "ca", "web001.example.com", id="clock-skew", reason="seen to")
    debts = story.scripted("primary.example.com", "open the window")
    data = {"title": "the window", "opens": {"id": "w", "title": "it signs names", "repay": "x"}}
    told.emit("start", "ca", debts.host, debts.id, job="w", action=data)
    told.done("ca", "skipped", "not this year")
    text = page(told).text
    assert "Still open (1)" in text and "it signs names, since step ca" in text
    assert "clock-skew on web001.example.com: seen to (during the run)" in text
    assert "Centralize the certificate authority: not this year" in text


def test_every_status_has_a_symbol_and_a_word() -> None:
    for status, mark in STATUS.items():
        said = Page(badge(mark)).text
        assert said == f"{mark.symbol} {mark.word}", status
    whole = page(story.told(None, story.first, story.second))
    bars = whole.named("g", "bar")
    assert bars
    for word in ("ok", "failed"):
        assert re.search(rf"[^ ]+ {word} ?·", whole.text), word


OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")
"""What a terminal obeys, and what turns the direction of a line."""


def hostile(site: Site | None = None) -> Story:
    """A host, an operator and a step that mean harm, everywhere they can say something."""
    told = Story(site or story.site(agents=2))
    told.begin()
    told.step("ca")
    host = "web001.example.com"
    estate = {"puppet": HOSTILE, "calls": HOSTILE, "served_by": "<b>x</b> y", "server": HOSTILE}
    told.finding("ca", "warning", HOSTILE, host, HOSTILE, remedy=HOSTILE, estate=estate)
    told.finding("ca", "note", "surveyed", HOSTILE, HOSTILE, waived=HOSTILE, estate=estate)
    bad = story.scripted(host, HOSTILE, diff=f"--- a\n+++ b\n+{HOSTILE}\n-{HOSTILE}\n")
    told.plan("ca", bad)
    told.end("ca", bad, told.start("ca", bad), "failed", HOSTILE)
    told.start("ca", bad)
    told.emit("answered", "ca", HOSTILE, question=HOSTILE, key=HOSTILE, text=HOSTILE)
    told.emit("excluded", "", HOSTILE, reason=HOSTILE)
    told.emit("waived", "ca", HOSTILE, id=HOSTILE, reason=HOSTILE)
    told.check("ca", "a", HOSTILE, False, HOSTILE, remedy=HOSTILE, detail=HOSTILE)
    told.check("ca", "b", HOSTILE, None, HOSTILE, cell=[HOSTILE, HOSTILE])
    told.emit("shares", "ca", title=HOSTILE, planned={HOSTILE: 1.0}, measured={HOSTILE: 3})
    told.done("ca", "failed", HOSTILE)
    told.emit("run_ended", exit=1, why=HOSTILE, hint=HOSTILE)
    return told


def test_a_host_cannot_write_the_page() -> None:
    text = render("html", hostile().events, story.site(agents=2))
    made = Page(text)
    assert made.named("script") == [] and "<script" not in text
    assert "<script>alert(1)</script>" in made.text  # as text, for everybody to see
    assert not OBEYED.search(text)
    assert made.named("b", "x") == []
    quiet = {tag for tag, _ in page(story.told()).elements}
    assert {tag for tag, _ in made.elements} <= quiet | {"br"}


def test_a_host_cannot_write_the_markdown() -> None:
    text = render("md", hostile(story.site(agents=2)).events, story.site(agents=2))
    assert not OBEYED.search(text)
    assert "·\\[31m\\</td\\>\\<script\\>alert(1)" in text  # as text, for everybody to see
    headings = re.findall("^#+ .*", text, re.MULTILINE)
    assert [h.partition(":")[0] for h in headings][2:] == [
        "### Centralize the certificate authority",
        "## Where it stands",
    ]


def test_a_host_cannot_act_on_the_terminal() -> None:
    out, err = io.StringIO(), io.StringIO()
    face = Plain(out=out, err=err)
    for event in hostile().events:
        face.show(event)
    with pytest.raises(Waiting):
        face.ask(Question("approve", HOSTILE, HOSTILE, (Choice("quit", HOSTILE),)))
    for text in (out.getvalue(), err.getvalue()):
        assert not OBEYED.search(text)
        assert "[31m</td><script>alert(1)</script>" in text
    assert len(out.getvalue().splitlines()) > 30  # our own newlines stay


def test_markup_is_what_was_made_as_markup() -> None:
    assert markup("<b>", Markup("<i></i>"), None, 3) == "&lt;b&gt;<i></i>3"
    assert tag("p", "x", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;">x</p>'
    assert shown("a\u202eb\x1bc\nd") == "a·b·c\nd"


def test_a_secret_is_in_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_DB_PASSWORD", "correct horse battery staple")
    told = story.told()
    told.emit("answered", "ca", "x", question="secret", key="give", text="")
    for format_ in ("md", "html", "json", "junit"):
        text = render(format_, told.events, told.site)
        assert "correct horse" not in text
        assert "ACME_DB_PASSWORD" not in text or format_ == "json"


def test_nothing_yet_is_a_page_too() -> None:
    site = story.site()
    assert "Nothing was done yet." in Page(render("html", [], site)).text
    assert parsed(render("junit", [], site)).get("tests") == "0"


def test_many_hosts_do_not_make_a_long_page() -> None:
    small, large = (
        render("html", t.events, t.site) for t in map(story.told, map(story.site, (60, 2000)))
    )
    assert len(large) < 4 * len(small)


def test_an_inventory_that_moved_is_said() -> None:
    told = story.told()
    told.site = Site(**{**fields(told.site), "digest": "e" * 64})
    assert "the file was changed since" in page(told).text


def fields(site: Site) -> dict[str, object]:
    return {k: getattr(site, k) for k in site.__dataclass_fields__ if k != "_by_name"}


def test_a_waiver_for_everybody_says_so() -> None:
    told = story.told()
    waivers = (Waiver("clock-skew", "*", "known", "2027-01-01"),)
    told.site = Site(**{**fields(told.site), "waivers": waivers})
    assert "clock-skew on every host: known" in page(told).text


# --- its pictures -------------------------------------------------------------------------------


def section(told: Story, title: str) -> Page:
    """The part of the page under this heading; sections do not nest."""
    text = render("html", told.events, told.site)
    found = re.findall(rf"<section><h2>{re.escape(title)}</h2>(.*?)</section>", text, re.DOTALL)
    assert len(found) == 1, title
    return Page(found[0])


def titles(of: Page) -> list[str]:
    """What is said of the parts of a drawing to who points at them."""
    return [text for stack, text in of.texts if stack[-2:] == ("g", "title")]


def test_the_estate_is_drawn_as_it_was_and_as_it_is() -> None:
    made = section(story.told(), "The estate, before and after")
    captions = [text for stack, text in made.texts if stack[-1] == "figcaption"]
    assert captions == ["Before, as first surveyed", "Now, 5 steps of 5 finished"]
    assert len(made.named("figure")) == len(made.named("svg", "map")) == 2
    # Agents, the name they call, who serves them, and what is behind.
    before = [
        "60 agents, site-a, site-b, as found",
        "puppet.example.com, as found",
        "primary.example.com, Puppet Server 7.9.5, as found",
        "Certificate authority, primary.example.com, as found",
    ]
    nodes = titles(made)
    assert nodes[:4] == before
    assert {
        "puppet.example.com, TCP proxy on lb.example.com, done",
        "cm1.example.com, done",
        "cm2.example.com, done",
        "cm3.example.com, done",
        "PuppetDB, on pdb.example.com, done",
        "Certificate authority, asked as ca.example.com, on primary.example.com, done",
    } <= set(nodes[4:])
    shares = [text for stack, text in made.texts if stack[-2:] == ("svg", "text") and "%" in text]
    assert shares == ["50 %", "25 %", "25 %"]
    kinds = ("catalogs", "facts", "certificates")
    drawn = [len([a for a in made.named("g", "line") if kind in a["class"]]) for kind in kinds]
    assert drawn == [2 + 4, 3, 1 + 1]
    for words in ("60 agents call puppet.example.com", "50 %", "asked as ca.example.com"):
        assert words in made.text  # the same in words


def test_what_is_to_come_is_drawn_so_and_what_nobody_surveyed_is_said() -> None:
    nodes = titles(section(story.told(None, story.first), "The estate, before and after"))
    assert "cm1.example.com, to come" in nodes
    told = Story(story.site(agents=2))
    told.begin()
    told.step("ca")
    told.done("ca")
    made = section(told, "The estate, before and after")
    assert "No host was surveyed in a run that is in the journal." in made.text
    assert len(made.named("svg", "map")) == 1


def test_shares_are_bars_as_planned_and_as_measured() -> None:
    made = section(story.told(), "Shares")
    assert "puppet.example.com, agents counted in 10 minutes" in made.text
    for kind, widths in {
        "planned": ["50.00", "25.00", "25.00"],
        "measured": [f"{100 * n / 59:.2f}" for n in (31, 15, 13)],
    }.items():
        assert [bar["width"] for bar in made.named("rect", kind)] == widths
    cells = [text for stack, text in made.texts if stack[-1] == "td"]
    assert cells[:5] == ["cm1.example.com", "50 %", "53 %", "31", "+3 points"]
    assert cells[5:9] == ["cm2.example.com", "25 %", "25 %", "15"]


def test_hosts_are_drawn_over_time_with_the_steps_above_them() -> None:
    told = story.told()
    made = section(told, "Hosts over time (UTC)")
    found = runs(told.events)
    rows = [row.title for row in timeline.rows(told.site, attempts(found))]
    assert len(made.named("text", "host")) == len(rows)
    assert [t for stack, t in made.texts if stack[-2:] == ("text", "title")] == rows
    said = titles(made)
    whole = [
        "run 20261126-1, 1 run: broken off, by ada",
        "run 20261126-2, 2 resume: exit 1, by ada",
    ]
    assert [t for t in said if t.startswith("run ")][:2] == whole
    steps = [p for run in found for p in run.passages.values() if p.started]
    assert [f"{p.title}: {STATUS[p.status].word}" for p in steps] == [
        t for t in said if t.partition(":")[0] in story.STEPS.values()
    ]
    assert len(made.named("g", "run")) == 3 and len(made.named("g", "step")) == len(steps) == 7
    assert "cm3.example.com: start puppetserver, 0:20: failed" in said
    assert "40 agents, site-a: 40 actions: ok" in said
    # To scale and on the row of its host: the failure is right of the installation.
    installed, failed = (
        bar
        for bar in bars(made)
        if bar[0].startswith("cm3.") and ("install" in bar[0] or "0:20" in bar[0])
    )
    assert installed[1] < failed[1] and installed[2] == failed[2]
    assert "14 h" in made.text and "23:26" in made.text


def bars(made: Page) -> list[tuple[str, float, float]]:
    """What each bar of a timeline says, and where it begins."""
    places = [
        (float(attrs["x"]), float(attrs["y"]))
        for (name, attrs), parent in zip(made.elements, made.parents, strict=True)
        if name == "rect" and "bar" in parent.split()
    ]
    said = [t for t in titles(made) if t.count(": ") == 2]
    return [(text, *place) for text, place in zip(said, places, strict=True)]


def test_a_step_took_what_all_runs_took_that_came_to_it() -> None:
    told = story.told()
    cells = [text for stack, text in section(told, "Where it stands").texts if stack[-1] == "td"]
    assert [c for c in cells if re.fullmatch(r"\d+:\d\d", c)] == [
        "0:01", "5:17", "5:42", "2:27", "1:00",
    ]  # fmt: skip
    assert "| Build the compile masters | ✓ ok | 5:42 |" in render("md", told.events, told.site)


# --- the timeline -------------------------------------------------------------------------------


def test_many_agents_are_a_row_and_those_that_failed_have_their_own() -> None:
    told = story.told()
    rows = timeline.rows(told.site, attempts(runs(told.events)))
    assert [r.title for r in rows] == [
        "primary.example.com",
        "cm1.example.com",
        "cm2.example.com",
        "cm3.example.com",
        "pdb.example.com",
        "lb.example.com",
        "40 agents, site-a",
        "20 agents, site-b",
        "web060.example.com",
    ]
    few = story.told(story.site(agents=8))
    assert "web001.example.com" in [
        r.title for r in timeline.rows(few.site, attempts(runs(few.events)))
    ]


def test_time_without_work_is_folded_and_never_runs_backwards() -> None:
    found = runs(story.told().events)
    across = axis(found)
    folds = [round(seconds) for _, seconds in across.breaks()]
    assert folds[0] > 50_000 and len(folds) == 3
    at = [run.started + n for run in found for n in range(0, 400, 7)]
    xs = [across.x(t) for t in at]
    assert xs == sorted(xs)
    assert xs[0] >= LEFT and across.x(found[-1].last) <= WIDTH


def test_many_runs_stay_on_the_page() -> None:
    told = story.told()
    for _ in range(60):
        told.begin(after=5_000)
        told.emit("run_ended", exit=0, why="done", hint="")
    found = runs(told.events)
    across = axis(found)
    assert across.x(found[-1].last) <= WIDTH
    assert page(told).named("svg", "timeline")


def test_how_an_action_ended_is_known_from_a_later_run() -> None:
    found = runs(story.told().events)
    late = [a for a in attempts(found) if a.late]
    assert [(a.host, a.status) for a in late] == [
        ("web059.example.com", Status.OK),
        ("web060.example.com", Status.FAILED),
    ]


def test_what_was_taken_back_is_said_to_be() -> None:
    told = Story(story.site(agents=2))
    told.begin()
    told.step("ca")
    action = story.setting("web001.example.com")
    told.batch("ca", action)
    told.done("ca")
    told.begin("undo")
    told.emit("step_started", "ca", title="take back: Centralize")
    back = story.Action(
        f"undo:{action.id}",
        action.host,
        "put puppet.conf back",
        action.do,
        action.undo,
        undoes=action.id,
    )
    told.batch("ca", back)
    told.done("ca", "undone")
    told.emit("run_ended", exit=0, why="done", hint="")
    first, second = attempts(runs(told.events))
    assert (first.taken_back, second.taken_back) == (True, False)
    assert "↶ undone" in page(told).text


# --- JUnit --------------------------------------------------------------------------------------


def test_junit_has_a_suite_for_each_step_and_a_case_for_each_check() -> None:
    told = story.told(None, story.first, story.second)
    top = parsed(render("junit", told.events, told.site))
    assert [suite.get("name") for suite in top] == list(story.STEPS)
    suite = next(s for s in top if s.get("name") == "compilers")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("11", "2", "1")
    assert float(suite.get("time") or 0) > 100 and suite.get("timestamp") == "2025-10-09T23:25:26"
    by_name = {case.get("name"): case for case in suite}
    failure = by_name["cm2.example.com has the CA's CRL"].find("failure")
    assert failure is not None and failure.get("message") == "serial 4, the CA has 7"
    assert "systemctl start" in (failure.text or "")
    untold = by_name["cm2.example.com: catalog"].find("skipped")
    assert untold is not None and untold.get("message") == "unknown: not read: timeout"
    assert list(by_name["cm1.example.com: modules"]) == []
    assert float(by_name["cm1.example.com: modules"].get("time") or 0) == pytest.approx(0.4)
    assert (top.get("tests"), top.get("failures")) == ("17", "2")


def test_a_step_that_broke_off_before_its_checks_is_no_success() -> None:
    told = story.told(None, story.first)
    top = parsed(render("junit", told.events, told.site))
    suite = next(s for s in top if s.get("name") == "ca")
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    error = suite.find("testcase/error")
    assert error is not None and error.get("message") == "unknown: broken off"
    assert "web059.example.com: set ca_server" in (error.text or "")
    at_work = parsed(render("junit", told.events, told.site, at_work=True))
    assert at_work.get("errors") == "0"


def test_junit_is_xml_whatever_a_host_says() -> None:
    text = render("junit", hostile().events, story.site(agents=2))
    top = parsed(text)
    assert top.find("testsuite/testcase/failure") is not None
    assert "\u202e" not in text and "\x1b" not in text


def test_junit_says_who_approved_what_and_what_was_found() -> None:
    told = story.told()
    top = parsed(render("junit", told.events, told.site))
    suites = {suite.get("name"): suite for suite in top}
    approved = [p.get("value") or "" for p in suites["ca"].findall("properties/property")]
    assert [a.rpartition(",")[0] for a in approved] == [
        "2025-10-09 08:53:50 UTC by ada (typed)",
        "2025-10-09 23:24:23 UTC by ada (typed)",
    ]
    found = (suites["survey"].findtext("system-out") or "").splitlines()
    assert len(found) == 69
    for line in (
        "2025-10-09 08:53:22 UTC warning clock-skew: web007.example.com: 41 s behind the CA",
        "2025-10-09 08:53:22 UTC warning disk-low: pdb.example.com: /: 300 MiB "
        "(accepted: moves in March)",
    ):
        assert line in found


# --- Markdown and JSON --------------------------------------------------------------------------


def test_markdown_says_what_was_found_and_who_approved_it_when() -> None:
    told = story.told()
    lines = render("md", told.events, told.site).splitlines()
    for line in (
        "## 2025-10-09 08:53:21 UTC: run by ada with pmrunbook 0.1.0",
        "- 08:53:22 warning: web007.example.com: 41 s behind the CA",
        "- 08:53:22 blocker: primary.example.com: ca\\_server is puppet",
        "- 23:24:23 approved by ada (typed), plan `326361000000`",
        "- 23:28:59 cm3.example.com: start puppetserver",
        "- 23:29:19 cm3.example.com: **failed** exit 1: port 8140 is taken",
        "**2025-10-09 23:59:42**: done (exit 0)",
    ):
        assert line in lines, line


def test_json_is_the_journal_run_by_run() -> None:
    told = story.told()
    data = json.loads(render("json", told.events, told.site))
    assert [run["mode"] for run in data["runs"]] == ["run", "resume", "resume"]
    events = [event for run in data["runs"] for event in run["events"]]
    assert [e["at"] for e in events] == [e.at for e in told.events]
    approved = [e for e in events if e["kind"] == "approved"]
    assert {(e["data"]["by"], e["data"]["how"]) for e in approved} == {("ada", "typed")}
    [skew] = [e for e in events if e["data"].get("id") == "clock-skew"]
    assert (skew["step"], skew["host"]) == ("survey", "web007.example.com")
    assert skew["data"]["observed"] == "41 s behind the CA"


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Type `pmrunbook report ...` about a site with a journal; its exit code and stdout."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    from runbook.inventory import load
    from runbook.journal import site_folder

    folder = site_folder(load(INVENTORY).name)
    folder.parent.mkdir(parents=True)
    journal = Journal(folder)
    for event in story.told().events:
        journal.append(event)
    journal.close()

    def type_(*args: str, verb: str = "report") -> tuple[int, str]:
        capsys.readouterr()
        code = cli.main([verb, *args, "--inventory", str(INVENTORY)])
        return code, capsys.readouterr().out

    return type_


def test_the_format_is_asked_for_or_follows_from_the_file(typed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert typed()[1].startswith("# What was done to")
    assert typed("--format", "html")[1].startswith("<!DOCTYPE html>")
    assert typed("--format", "json") == typed("--json")
    assert typed("--format", "junit")[1].startswith("<?xml")
    for name, start in (
        ("a.html", "<!DOCTYPE"),
        ("a.xml", "<?xml"),
        ("a.json", "{"),
        ("a.md", "#"),
    ):
        assert typed("--output", str(tmp_path / name)) == (0, "")
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert typed("--output", str(tmp_path / "b.html"), "--format", "json")[0] == 0
    assert (tmp_path / "b.html").read_text(encoding="utf-8").startswith("{")


def test_a_file_that_cannot_be_written_is_said(typed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert typed("--output", str(tmp_path / "nowhere" / "a.html")) == (2, "")


def test_status_says_who_serves_the_agents(typed, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PMRUNBOOK_ASCII", "1")
    code, text = typed(verb="status")
    assert code == 0 and text.isascii()
    assert text.partition("Now, 5 steps of 5 finished:\n")[2].splitlines() == [
        "agent1.example.com: not surveyed",
        "Behind them",
        "+ done      Certificate authority  asked as ca.example.com, on primary.example.com",
    ]
