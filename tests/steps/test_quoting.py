"""What a host, the inventory or a name server says is one word of a script, whatever is in it.

The cases are planned again, each time with one value hostile that came into a script. Where it was
quoted its own quote is escaped, so the hostile text as it stands was put into the script bare. And
the scripts are run by a real `sh` where every command tells which words it was given.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml
from runbook.steps import RUNBOOK, layout, reads
from runbook.steps.fields import NONE, sections
from runbook.steps.layout import Seen

from runbook import edit, shell
from runbook.inventory.shapes import Text
from runbook.inventory.vocabulary import ENVIRONMENT, NAME, REMOTE, REPOSITORY, ROLE
from runbook.model import (
    Action,
    Facts,
    Human,
    Irreversible,
    Site,
    Step,
    WriteFile,
    plain,
)
from tests.steps.test_cases import case_files, load
from tests.steps.world import ALONE, Call, World

HEAD, TAIL = "Zq'", "qZ"  # what was in one word between them has to come out of it in one
WORST = f"{HEAD} ( $(PWNED) * ';PWNED;`PWNED`{TAIL}"
HOSTILE = (
    *(WORST, f'{HEAD}$(PWNED)`PWNED`(";PWNED;*>PWNED{TAIL}'),
    *(WORST, f"{HEAD}\nPWNED\n$(PWNED)\n(`PWNED`\n{TAIL}"),
    *(WORST, f"{HEAD}\\$(PWNED)\\'PWNED'\t{{a,b}}~(!{TAIL}"),
)
"""Bare they are found as they stand; in quotes within quotes a parenthesis is a syntax error."""
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


def actions(step: Step, site: Site, facts: Facts) -> Iterator[Action]:
    for stage in step.stages:
        # A file that cannot be edited: the step's findings say so.
        with contextlib.suppress(edit.EditError):
            yield from (a for a in stage.plan(site, facts) if isinstance(a, Action))


def scripts(step: Step, site: Site, facts: Facts) -> Iterator[tuple[str, str]]:
    """Each script that would run on a host, whole, and what it is for."""
    for action in actions(step, site, facts):
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


def fault(script: str, hostile: str) -> str:
    """Where a hostile value can act, if it can."""
    if hostile in script:
        at = script.index(hostile)
        return script[max(0, at - 120) : at + 60]
    if HEAD[:-1] in script:
        return subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True).stderr
    return ""


def torn(calls: list[Call], hostile: str, *ends: str) -> str:
    """The first command that is the hostile value's own, or got an end of it without the rest."""
    for program, *words in calls:
        parts = [w for w in words if hostile not in w and any(end in w for end in ends)]
        if parts or program.endswith("/PWNED"):
            return f"{program} {parts}"
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


def retold(text: str, old: str, hostile: str) -> str:
    """A reading in which `old` is hostile, also in the files that it holds."""
    lines = text.replace(old, old + hostile).splitlines(keepends=True)
    for n, line in enumerate(lines):
        if content := unpacked(line.rstrip("\n")).replace(old.encode(), (old + hostile).encode()):
            lines[n] = f"content={base64.b64encode(content).decode()}\n"
            if lines[n - 1].startswith("sha256="):
                lines[n - 1] = f"sha256={hashlib.sha256(content).hexdigest()}\n"
    return "".join(lines)


def of_hosts(site: Site, facts: Facts, old: str, hostile: str) -> tuple[Site, Facts]:
    hosts = {
        name: replace(
            host,
            readings={
                k: replace(r, out=retold(r.out, old, hostile)) for k, r in host.readings.items()
            },
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


def regiven(value: Any, old: str, hostile: str) -> Any:
    if isinstance(value, Mapping):
        return {key: regiven(inner, old, hostile) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(regiven(inner, old, hostile) for inner in value)
    return old + hostile if value == old else value


OF_THE_CA = ("name", "module", "environment", "srv_domain")
OF_DNS = ("servers", "domain")
INVENTORY = ("server", "dns_alt_names", "sections")


def of_inventory(site: Site, facts: Facts, old: str, hostile: str) -> tuple[Site, Facts]:
    def anew(of: Any, *names: str) -> dict[str, Any]:
        return {name: regiven(getattr(of, name), old, hostile) for name in names}

    answers = {replace(q, **anew(q, "name", "server")): a for q, a in facts.answers.items()}
    ca, dns = (
        replace(site.ca, **anew(site.ca, *OF_THE_CA)),
        replace(site.dns, **anew(site.dns, *OF_DNS)),
    )
    return replace(site, ca=ca, dns=dns, **anew(site, *INVENTORY)), Facts(facts.hosts, answers)


def loaded(value: str, hostile: str) -> bool:
    """Whether an inventory with this in it would be taken: most values are names or paths."""
    shapes = [s for s in (NAME, ENVIRONMENT, REMOTE, REPOSITORY, ROLE) if matches(s, value)]
    return all(matches(s, value + hostile) for s in shapes)


def matches(shape: Text, value: str) -> bool:
    return re.fullmatch(shape.pattern, value) is not None


def of_name_servers(site: Site, facts: Facts, old: str, hostile: str) -> tuple[Site, Facts]:
    def retold(record: str) -> str:
        return record.replace(old, old + hostile)

    answers = {
        q: replace(a, records=tuple(map(retold, a.records))) for q, a in facts.answers.items()
    }
    return site, Facts(facts.hosts, answers)


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

Make = Callable[[Site, Facts, str, str], tuple[Site, Facts]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    if subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("no folder can be a world of its own here: unshare")
    return World(tmp_path / "world")


def tried(
    step: Step, say: Callable[[Site, Facts], set[str]], make: Make
) -> Iterator[tuple[str, str, str, str]]:
    """The place of each script with something hostile in it, the value, that, and the script."""
    places: set[tuple[str, str]] = set()
    hostile = cycle(HOSTILE)
    for site, facts in cases(step):
        if not (said := say(site, facts)):
            continue
        base = [(place, ours_removed(text)) for place, text in scripts(step, site, facts)]
        for value, reached in reaching(site, said, base):
            if reached <= places:
                continue
            places |= reached
            bad = next(hostile)
            for place, text in scripts(step, *make(site, facts, value, bad)):
                if HEAD[:-1] in text:
                    yield place, value, bad, text


def check(world: World, step: Step, say: Callable[[Site, Facts], set[str]], make: Make) -> int:
    """Nothing was put bare into a script of this step, and nothing of it runs or is torn."""
    found: set[str] = set()
    asked: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for place, value, bad, text in tried(step, say, make):
        alike = re.sub(r"[\w-]+\.lab\.test", "@", f"{place} {value}")
        asked.setdefault((alike, bad), (place, value, bad, text))
    ran = world.run(text for *_, text in asked.values())
    for (place, value, bad, text), calls in zip(asked.values(), ran, strict=True):
        ends = [HEAD, TAIL]
        if make is of_hosts:
            ends = [TAIL]  # a reading is read by lines and words: the rest may be lost
        elif make is of_inventory and not loaded(value, bad):
            ends = []  # lists of names are split at blanks, which no name has
        if where := fault(text, bad) or torn(calls, bad, *ends):
            found.add(f"{place}: {value}: {bad!r}: {where}")
    assert not found, "\n".join(sorted(found))
    return len(asked)


@pytest.mark.parametrize("step", RUNBOOK.steps, ids=lambda step: step.id)
def test_what_a_host_says_is_one_word_of_a_script(world: World, step: Step) -> None:
    reached = check(world, step, lambda _, facts: told(facts), of_hosts)
    assert reached or step.id == "survey"  # which does nothing


@pytest.mark.parametrize("step", RUNBOOK.steps, ids=lambda step: step.id)
def test_what_the_inventory_says_is_one_word_of_a_script(world: World, step: Step) -> None:
    def said(site: Site, _: Facts) -> set[str]:
        of_ca, of_dns = (
            [getattr(of, n) for n in names]
            for of, names in ((site.ca, OF_THE_CA), (site.dns, OF_DNS))
        )
        return {*given([getattr(site, name) for name in INVENTORY]), *given(of_ca), *given(of_dns)}

    reached = check(world, step, said, of_inventory)
    assert reached or step.id == "retire"  # whose scripts know but names of hosts


def test_what_a_name_server_says_is_one_word_of_a_script(world: World) -> None:
    def said(_: Site, facts: Facts) -> set[str]:
        return {word for a in facts.answers.values() for r in a.records for word in (r, *r.split())}

    for step in RUNBOOK.steps:
        check(world, step, said, of_name_servers)


def test_what_a_server_says_of_itself_is_in_no_file_of_another() -> None:
    step = next(step for step in RUNBOOK.steps if step.id == "code")
    asked = 0
    for site, facts in cases(step):
        for name, host in facts.hosts.items():
            seen = Seen(name, facts)
            itself = {seen.certname, seen.parsed("model").get("", NONE).one("environments")}
            for old in itself - {""}:
                _, one = of_hosts(site, Facts({name: host}), old, "'] or true {\"")
                hosts = {**facts.hosts, **one.hosts}
                for action in actions(step, site, Facts(hosts, facts.answers)):
                    if isinstance(action.do, WriteFile) and action.host != name:
                        assert b"or true" not in action.do.content, action.id
                        asked += 1
    assert asked
