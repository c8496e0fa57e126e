"""When a server is drained at the proxy: while its Puppet Server is away, and others are there."""

from __future__ import annotations

import pytest
from runbook.steps import RUNBOOK, drain
from runbook.steps.survey import SURVEY

from runbook.model import Action, Facts, HostFacts, Nothing, Reading, Script, Stage
from tests.steps.test_balance import LB, MEMBERS, site

FIRST, SECOND = MEMBERS


def pool(**status: str) -> Facts:
    said = "".join(f"[{name}.example.com]\nstatus={text}\n" for name, text in status.items())
    return Facts({LB: HostFacts({"pool-state": Reading(0, said)})})


def work(host: str, what: str, outage: float = 0.0) -> Action:
    return Action(f"s/{host}/{what}", host, what, Script(what), Nothing(), outage=outage)


def planned(facts: Facts, *actions: Action, strategy: str = "tcp-proxy") -> list[tuple[str, str]]:
    stage = Stage("s", "S", lambda s, f: actions)
    (gentle,) = drain.gently(type(SURVEY)("x", "X", "", SURVEY.reads, (stage,))).stages
    found = gentle.plan(site(strategy), facts)
    assert all(isinstance(p, Action) and p.lane == p.id.split("/")[1] for p in found)
    return [(p.host, p.id.split("/")[2]) for p in found if isinstance(p, Action)]


RELOAD = (work(FIRST, "write"), work(FIRST, "reload", 12), work(SECOND, "write"))
AS_IT_IS = [(FIRST, "write"), (FIRST, "reload"), (SECOND, "write")]


def test_who_is_away_for_a_while_is_drained_before_anything_and_filled_after_all() -> None:
    assert planned(pool(cm1="UP", cm2="UP"), *RELOAD) == [
        (LB, "drain"),
        (FIRST, "write"),
        (FIRST, "reload"),
        (LB, "fill"),
        (SECOND, "write"),
    ]


@pytest.mark.parametrize(
    "facts",
    [
        Facts(),  # the proxy is not there yet
        pool(cm1="UP"),  # nobody else could take its agents
        pool(cm1="DOWN", cm2="UP"),  # no agent is sent there anyway
        pool(cm1="DRAIN", cm2="UP"),  # by somebody else, who is not done
        pool(cm2="UP", cm3="UP"),  # agents come by another way
    ],
)
def test_nobody_is_drained_who_gets_no_agents_or_is_the_only_one(facts: Facts) -> None:
    assert planned(facts, *RELOAD) == AS_IT_IS


def test_what_a_broken_off_run_drained_is_taken_up_again() -> None:
    said = f"[{FIRST}]\nstatus=DRAIN\n[{SECOND}]\nstatus=UP 1/2\n[{FIRST}]\nours=yes\n"
    facts = Facts({LB: HostFacts({"pool-state": Reading(0, said)})})
    assert (LB, "fill") in planned(facts, *RELOAD)


def test_another_way_of_balancing_has_nothing_of_ours_to_drain_at() -> None:
    assert planned(pool(cm1="UP", cm2="UP"), *RELOAD, strategy="round-robin") == AS_IT_IS


def test_every_step_that_changes_a_puppet_server_asks_the_proxy() -> None:
    """But for the drill, which is to show what agents meet when a server dies."""
    asked = {
        step.id
        for step in RUNBOOK.steps
        if any(read is drain.POOL for read in step.reads(site(), site().host(LB)))
    }
    assert asked == {"ca", "compilers", "puppetdb", "code", "balancer"}
