"""The documented example of a site's own step is code that works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from runbook.model import CertificateAuthority, Facts, Host, HostFacts, Reading, Site

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-your-own-step.md"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert code
    module: dict[str, Any] = {"__name__": "site_steps"}
    exec(compile(code[1], str(PAGE), "exec"), module)  # noqa: S102  # the page's own code
    return module


def site() -> Site:
    hosts = (Host("ca.example.com", roles=frozenset({"ca", "server"})), Host("web.example.com"))
    return Site("s", hosts, "puppet", CertificateAuthority("ca.example.com", "ca"))


def facts(motd: str) -> Facts:
    return Facts({"ca.example.com": HostFacts({"site-motd": Reading(0, motd)})})


def test_it_stands_behind_the_survey_in_the_runbook(example: dict[str, Any]) -> None:
    ids = [s.id for s in example["RUNBOOK"].steps]
    assert ids[:2] == ["survey", "motd"]
    assert example["RUNBOOK"].digest != example["SCALING"].digest


def test_it_plans_what_is_missing_and_then_nothing(example: dict[str, Any]) -> None:
    actions = example["plan"](site(), facts("Welcome\n"))
    assert [a.host for a in actions] == ["ca.example.com"]
    after = actions[0].do.content.decode()
    assert after.startswith("Welcome\n")
    assert example["plan"](site(), facts(after)) == ()
    judge = example["checks"](site(), facts(""))[0].judge
    assert judge(facts(after)).ok and not judge(facts("Welcome\n")).ok
