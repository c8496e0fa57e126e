"""What a host or the inventory says is one word of a script, whatever is in it.

The cases are planned again, each time with one value hostile that came into a script. Where it was
quoted its own quote is escaped, so the hostile text as it stands was put into the script bare.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import yaml
from runbook.steps import RUNBOOK, layout, reads
from runbook.steps.fields import sections

from runbook import edit, shell
from runbook.model import Action, Facts, Human, Irreversible, Site, Step, plain
from tests.steps.test_cases import case_files, load

HOSTILE = "$(reboot)'`reboot`(\""
"""Bare it is found as it stands; in quotes within quotes its parenthesis is a syntax error."""
OURS = sorted((path.read_text() for path in reads.HERE.glob("*.sh")), key=len, reverse=True)


@pytest.fixture(autouse=True)
def _parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same readings are planned from hundreds of times."""
    monkeypatch.setattr(layout, "sections", cache(sections))


def cases(step: Step) -> Iterator[tuple[Site, Facts]]:
    for path in case_files():
        case = yaml.safe_load(path.read_text())
        if case["step"] == step.id:
            yield load(case)


# --- what runs on the hosts -----------------------------------------------------------------------


def scripts(step: Step, site: Site, facts: Facts) -> Iterator[tuple[str, str]]:
    """Each script that would run on a host, whole, and what it is for."""
    for stage in step.stages:
        try:
            planned = stage.plan(site, facts)
        except edit.EditError:
            continue  # a file that cannot be edited: the step's findings say so
        for action in planned:
            if isinstance(action, Action):
                yield from ((action.id, script) for script in of_action(action))
    for where in (step, *step.stages):
        for check in where.checks(site, facts):
            yield from ((check.id, r.script) for _, r in (*check.reads, *check.then(facts)))
    for host in site.hosts:
        yield from ((read.id, read.script) for read in step.reads(site, host))


def of_action(action: Action) -> Iterator[str]:
    try:
        yield shell.perform(action, "job")
        if not isinstance(action.undo, Irreversible | Human):
            yield shell.undo(plain(action.do), plain(action.undo), "job") or ""
    except TypeError:
        pass  # it is not performed on a host
    for done in (getattr(action.do, "done", ""), getattr(action.undo, "done", "")):
        yield done if isinstance(done, str) else done.script
    if action.opens and isinstance(action.opens.repay, str):
        yield action.opens.repay


def fault(script: str) -> str:
    """Where a hostile value can act, if it can."""
    if HOSTILE in script:
        at = script.index(HOSTILE)
        return script[max(0, at - 120) : at + 60]
    if "(reboot)" in script:
        return subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True).stderr
    return ""


# --- what is made hostile -------------------------------------------------------------------------


def unpacked(line: str) -> bytes:
    """The file in a line of a reading; empty for every other line."""
    try:
        return base64.b64decode(line.removeprefix("content="), validate=True)
    except (binascii.Error, ValueError):
        return b""


def told(facts: Facts) -> set[str]:
    """The values of all readings, whole and in words, also those in files."""
    found: set[str] = set()
    for host in facts.hosts.values():
        for line in "\n".join(r.out for r in host.readings.values()).splitlines():
            key, _, value = line.partition("=")
            inside = unpacked(line).decode("utf-8", "ignore")
            if key != "sha256":  # that of a file is made from its content, here
                found |= {value.strip(), *re.split(r"[\s,]+", value)}
            found |= set(re.findall(r"[^\s=,:\"'\[\]{}]+", inside))
    return found


def retold(text: str, old: str) -> str:
    """A reading in which `old` is hostile, also in the files that it holds."""
    lines = text.replace(old, old + HOSTILE).splitlines(keepends=True)
    for n, line in enumerate(lines):
        if content := unpacked(line.rstrip("\n")).replace(old.encode(), (old + HOSTILE).encode()):
            lines[n] = f"content={base64.b64encode(content).decode()}\n"
            if lines[n - 1].startswith("sha256="):
                lines[n - 1] = f"sha256={hashlib.sha256(content).hexdigest()}\n"
    return "".join(lines)


def of_hosts(site: Site, facts: Facts, old: str) -> tuple[Site, Facts]:
    hosts = {
        name: replace(
            host, readings={k: replace(r, out=retold(r.out, old)) for k, r in host.readings.items()}
        )
        for name, host in facts.hosts.items()
    }
    return site, Facts(hosts, facts.answers)


def given(value: Any) -> Iterator[str]:
    """The texts in a part of the inventory; a host's name is one by its form (RFC 1123)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from given(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from given(inner)


def regiven(value: Any, old: str) -> Any:
    if isinstance(value, Mapping):
        return {key: regiven(inner, old) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(regiven(inner, old) for inner in value)
    return old + HOSTILE if value == old else value


OF_THE_CA = ("name", "module", "environment", "srv_domain")
INVENTORY = ("server", "dns_alt_names", "sections")


def of_inventory(site: Site, facts: Facts, old: str) -> tuple[Site, Facts]:
    ca = {name: regiven(getattr(site.ca, name), old) for name in OF_THE_CA}
    parts = {name: regiven(getattr(site, name), old) for name in INVENTORY}
    return replace(site, ca=replace(site.ca, **ca), **parts), facts


def reaching(
    site: Site, said: set[str], base: list[tuple[str, str]]
) -> Iterator[tuple[str, set[tuple[str, str]]]]:
    """Those of `said` that are in a script, with the places; of paths, the folder they are in."""
    names = "|".join(re.escape(host.name) for host in site.hosts)
    folders: tuple[str, ...] = ()
    for value in sorted(said):
        of_a_name = any(value in host.name for host in site.hosts)
        if len(value) < 4 or of_a_name or value.startswith(folders or "\n"):
            continue
        word = re.compile(rf"(?<![\w./-]){re.escape(value)}(?!\w)")
        if places := {place for place, text in base if value in text and word.search(text)}:
            folders += (f"{value}/",)
            # Hosts are alike.
            yield value, {(re.sub(names, "@", value), re.sub(names, "@", at)) for at in places}


def ours_removed(script: str) -> str:
    for text in OURS:
        script = script.replace(text, "")
    return script


# --- the tests ------------------------------------------------------------------------------------


def bare(
    step: Step,
    say: Callable[[Site, Facts], set[str]],
    make: Callable[[Site, Facts, str], tuple[Site, Facts]],
) -> tuple[set[str], int]:
    """What was put bare into a script of this step, and how many scripts had something hostile."""
    tried: set[tuple[str, str]] = set()
    found: set[str] = set()
    reached = 0
    for site, facts in cases(step):
        base = [(place, ours_removed(text)) for place, text in scripts(step, site, facts)]
        for value, places in reaching(site, say(site, facts), base):
            if places <= tried:
                continue
            tried |= places
            for place, text in scripts(step, *make(site, facts, value)):
                reached += "(reboot)" in text
                if where := fault(text):
                    found.add(f"{place}: {value}: {where}")
    return found, reached


@pytest.mark.parametrize("step", RUNBOOK.steps, ids=lambda step: step.id)
def test_what_a_host_says_is_one_word_of_a_script(step: Step) -> None:
    found, reached = bare(step, lambda _, facts: told(facts), of_hosts)
    assert not found, "\n".join(sorted(found))
    assert reached or step.id == "survey"  # which does nothing


@pytest.mark.parametrize("step", RUNBOOK.steps, ids=lambda step: step.id)
def test_what_the_inventory_says_is_one_word_of_a_script(step: Step) -> None:
    def said(site: Site, facts: Facts) -> set[str]:
        parts = [getattr(site, name) for name in INVENTORY]
        return {*given(parts), *(getattr(site.ca, name) for name in OF_THE_CA)}

    found, reached = bare(step, said, of_inventory)
    assert not found, "\n".join(sorted(found))
    assert reached or step.id == "retire"  # whose scripts know but names of hosts
