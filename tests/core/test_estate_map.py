"""Who serves whom: found, made, to come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runbook.estate_map import (
    AGENTS,
    CERTIFICATES,
    FACTS,
    NAMES,
    SERVERS,
    SERVICES,
    EstateMap,
    before,
    now,
    outline,
    spreads,
)
from runbook.inventory import load
from runbook.state import fold
from runbook.symbols import AS_FOUND, MADE, TO_COME, UNDER_WAY
from tests.core import story

PRIMARY = "server/primary.example.com"
INVENTORIES = Path(__file__).parents[2] / "inventories"


def marks(map_: EstateMap, column: int) -> dict[str, str]:
    return {node.title: node.mark.word for node in map_.column(column)}


def test_nothing_is_known_before_the_first_survey() -> None:
    told = story.Story(story.site())
    told.begin()
    state = fold(told.events)
    assert before(told.site, state).nodes == ()
    map_ = now(told.site, state)
    assert set(marks(map_, SERVERS).values()) == {"to come"}
    assert {line.mark for line in map_.lines} == {TO_COME}


def test_what_a_step_has_begun_is_under_way() -> None:
    """Agents may go there already: whoever looks in the middle of the cut-over is told so."""
    told = story.told(None, story.first, story.second)
    told.start("cutover", story.scripted("lb.example.com", "switch"))
    map_ = now(told.site, fold(told.events))
    pool = [x for x in map_.lines_from("name/puppet.example.com") if x.target != PRIMARY]
    assert pool and {line.mark for line in pool} == {UNDER_WAY}
    texts = [entry.text for entry in outline(map_)]
    assert "60 agents are being moved to puppet.example.com, TCP proxy on lb.example.com" in texts


def test_before_is_who_served_the_agents_at_the_first_survey() -> None:
    told = story.told()
    map_ = before(told.site, fold(told.events))
    assert marks(map_, AGENTS) == {"60 agents": "as found"}
    assert marks(map_, NAMES) == {"puppet.example.com": "as found"}
    assert marks(map_, SERVERS) == {"primary.example.com": "as found"}
    assert [n.notes for n in map_.column(SERVICES)] == [("primary.example.com",)]
    assert {line.what for line in map_.lines} == {"catalogs", CERTIFICATES}


def test_a_later_survey_does_not_move_what_was_before() -> None:
    told = story.told()
    first = before(told.site, fold(told.events))
    told.begin()
    told.step("survey")
    for host in told.site.hosts:
        estate = {"puppet": "8", "calls": "new.example.com", "server": "8.0.0"}
        told.finding("survey", "note", "surveyed", host.name, "all new", estate=estate)
    assert before(told.site, fold(told.events)) == first


def test_what_serves_today_stays_until_the_pool_is_there() -> None:
    told = story.told(None, story.first, story.second)
    map_ = now(told.site, fold(told.events))
    assert marks(map_, SERVERS) == {
        "primary.example.com": "as found",
        "cm1.example.com": "under way",
        "cm2.example.com": "under way",
        "cm3.example.com": "under way",
    }
    [name] = map_.column(NAMES)
    assert name.notes == ("to be: TCP proxy on lb.example.com",)
    leads = {(line.target, line.mark.word) for line in map_.lines_from(name.id)}
    assert ("server/primary.example.com", "as found") in leads
    assert ("server/cm1.example.com", "to come") in leads
    ca = map_.node("ca")
    assert (ca.mark, ca.notes) == (MADE, ("asked as ca.example.com", "on primary.example.com"))


def test_now_is_what_the_finished_steps_made() -> None:
    told = story.told()
    map_ = now(told.site, fold(told.events))
    assert marks(map_, SERVERS) == {f"cm{n}.example.com": "done" for n in (1, 2, 3)}
    [name] = map_.column(NAMES)
    assert [line.share for line in map_.lines_from(name.id)] == [0.5, 0.25, 0.25]
    facts = [line for line in map_.lines if line.what == FACTS]
    assert len(facts) == 3 and {line.mark for line in facts} == {MADE}


def test_a_compile_master_that_was_there_is_as_found() -> None:
    told = story.Story(story.site())
    told.begin()
    told.step("survey")
    estate = {"puppet": "7", "server": "7.9.5"}
    told.finding("survey", "note", "surveyed", "cm2.example.com", "x", estate=estate)
    map_ = now(told.site, fold(told.events))
    assert marks(map_, SERVERS)["cm2.example.com"] == AS_FOUND.word


def test_agents_that_are_not_alike_are_told_apart() -> None:
    told = story.Story(story.site(agents=3))
    told.begin()
    told.step("survey")
    for n, estate in enumerate(
        (
            {"puppet": "7", "calls": "puppet", "served_by": "primary.example.com"},
            {"puppet": "7", "calls": "old", "served_by": "192.0.2.99"},
            {"puppet": ""},
        ),
        1,
    ):
        told.finding("survey", "note", "surveyed", f"web{n:03}.example.com", "x", estate=estate)
    map_ = before(told.site, fold(told.events))
    assert len(map_.column(AGENTS)) == 3
    assert map_.node("server/192.0.2.99").notes == ("not in the inventory",)
    assert map_.column(AGENTS)[2].notes[0] == "without Puppet"
    assert "web003.example.com: without Puppet, site-b" in [e.text for e in outline(map_)]


def test_the_outline_has_every_server_once_under_its_name() -> None:
    told = story.told(None, story.first, story.second)
    lines = [
        (e.text, e.mark.word if e.mark else "") for e in outline(now(told.site, fold(told.events)))
    ]
    assert lines == [
        ("60 agents call puppet.example.com", ""),
        ("primary.example.com", "as found"),
        ("60 agents will call puppet.example.com, TCP proxy on lb.example.com", ""),
        ("cm1.example.com", "to come"),
        ("cm2.example.com", "to come"),
        ("cm3.example.com", "to come"),
        ("Behind them", ""),
        ("Certificate authority", "done"),
        ("PuppetDB", "to come"),
    ]


def test_sites_have_pools_of_their_own() -> None:
    site = load(INVENTORIES / "srv-multi-site.yaml")
    map_ = now(site, fold(()))
    assert [n.title for n in map_.column(NAMES)] == [
        "_x-puppet._tcp.site-a.example.com",
        "_x-puppet._tcp.site-b.example.com",
    ]
    lines = map_.lines_from("name/_x-puppet._tcp.site-a.example.com")
    assert [(line.share, line.standby) for line in lines] == [
        (0.75, False),
        (0.25, False),
        (None, True),
    ]


def test_every_example_inventory_has_a_map() -> None:
    for path in sorted(INVENTORIES.glob("*.yaml")):
        site = load(path)
        map_ = now(site, fold(()))
        nodes = {node.id for node in map_.nodes}
        assert all({line.source, line.target} <= nodes for line in map_.lines), path
        assert list(outline(map_)), path


def test_shares_are_planned_until_they_are_measured() -> None:
    told = story.told(None, story.first)
    [spread] = spreads(told.site, fold(told.events))
    assert not spread.measured
    assert [(s.server, s.planned) for s in spread.shares] == [
        ("cm1.example.com", 0.5),
        ("cm2.example.com", 0.25),
        ("cm3.example.com", 0.25),
    ]
    told = story.told()
    [spread] = spreads(told.site, fold(told.events))
    assert spread.measured
    assert [s.count for s in spread.shares] == [31, 15, 13]
    assert sum(s.measured or 0 for s in spread.shares) == 1


def test_who_was_retired_serves_no_more_and_a_balancer_is_told_apart() -> None:
    of = story.site(agents=2)
    old = story.Host("old.example.com", roles=frozenset({"retired"}))
    of = replace(of, hosts=(*of.hosts, old))
    told = story.Story(of)
    told.begin()
    told.step("survey")
    behind = "old.example.com lb.example.com"
    estate = {"puppet": "7", "calls": "puppet.example.com", "served_by": behind}
    for name in ("web001.example.com", "web002.example.com"):
        told.finding("survey", "note", "surveyed", name, "x", estate=estate)
    assert {"old.example.com", "lb.example.com"} <= set(marks(now(of, fold(told.events)), SERVERS))
    told.emit("step_done", "retire", status="ok")
    state = fold(told.events)
    assert "old.example.com" not in marks(now(of, state), SERVERS)
    assert "old.example.com" in marks(before(of, state), SERVERS)
    assert before(of, state).node("server/lb.example.com").notes == ("load balancer",)
