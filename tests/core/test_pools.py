"""Who gets which share of the agents: SRV arithmetic, the guide's own example, every strategy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runbook.inventories
from hypothesis import given
from hypothesis import strategies as st

from runbook.cli import main
from runbook.inventory import load
from runbook.pools import first_choice, outages, pools, shares, srv

EXAMPLES = Path(runbook.inventories.__file__).parent

# --- SRV -----------------------------------------------------------------------------------


def test_shares_follow_the_weights() -> None:
    records = ["0 75 8140 cm1.lab.test.", "0 25 8140 CM2.lab.test.", "10 0 8140 old.lab.test."]
    assert shares(records) == {
        0: {"cm1.lab.test": 0.75, "cm2.lab.test": 0.25},
        10: {"old.lab.test": 1.0},
    }
    assert first_choice(records) == {"cm1.lab.test": 0.75, "cm2.lab.test": 0.25}
    assert first_choice(records, down=["cm1.lab.test"]) == {"cm2.lab.test": 1.0}
    assert first_choice(records, ["cm1.lab.test", "cm2.lab.test"]) == {"old.lab.test": 1.0}
    assert first_choice([]) == {}


def test_a_weight_of_nothing_is_a_tenth_of_one() -> None:
    assert shares(["0 0 1 a.", "0 1 1 b."]) == {0: {"a": 1 / 11, "b": 10 / 11}}
    assert shares(["0 0 1 a.", "0 0 1 b."]) == {0: {"a": 0.5, "b": 0.5}}


def test_a_target_on_two_ports_is_one_target() -> None:
    assert shares(["0 1 1 a.", "0 1 2 a.", "0 2 1 b."]) == {0: {"a": 0.5, "b": 0.5}}
    assert srv("1 2 3 X.Y.").target == "x.y"


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 65535), st.sampled_from("abcdef")), max_size=12
    ),
    st.sets(st.sampled_from("abcdef")),
)
def test_shares_of_a_priority_are_the_whole(
    given_records: list[tuple[int, int, str]], down: set[str]
) -> None:
    records = [f"{p} {w} 8140 {t}." for p, w, t in given_records]
    for of in shares(records, down).values():
        assert sum(of.values()) == pytest.approx(1)
        assert not down & set(of) and all(share > 0 for share in of.values())


# --- pools ------------------------------------------------------------------------------------

A1, A2 = "master-1.site-a.example.com", "master-2.site-a.example.com"
B = "master.site-b.example.com"


def test_the_guides_example_comes_out_as_it_says() -> None:
    site = load(EXAMPLES / "srv-multi-site.yaml")
    at_a, at_b = pools(site)
    assert (at_a.group, at_b.group) == ("site-a", "site-b")
    assert at_a.shares() == {A1: 0.75, A2: 0.25}
    assert at_b.shares() == {B: 1.0}
    # One of two leaves its share to the other; the site over there comes when both are gone.
    assert at_a.shares([A1]) == {A2: 1.0}
    assert at_a.shares([A1, A2]) == {B: 1.0}
    assert at_b.shares([B]) == {A1: 0.75, A2: 0.25}
    assert dict(outages(site, at_a))["all of site-a"] == (A1, A2)
    assert (len(at_a.agents), len(at_b.agents)) == (80, 40)


def test_the_plan_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(EXAMPLES / "srv-multi-site.yaml")
    assert main(["dns", "plan", "-i", file]) == 0
    text = capsys.readouterr().out
    assert "site-a: 80 agents call _x-puppet._tcp.site-a.example.com (srv)" in text
    assert f"  {A1}  ███████████████░░░░░  75.0%" in text
    assert f"  if all of site-a is down: {B} 100%" in text
    assert f"  if {B} is down: {A1} 75%, {A2} 25%" in text
    assert main(["dns", "plan", "-i", file, "--down", A1, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["shares"] == {A2: 1.0}


def test_a_server_in_no_pool_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(EXAMPLES / "tcp-proxy.yaml")
    assert main(["dns", "plan", "-i", file, "--down", "nobody.example.com"]) == 2
    assert "nobody.example.com is in no pool" in capsys.readouterr().err


def test_weights_mean_nothing_to_addresses_in_turn(tmp_path: Path) -> None:
    text = (EXAMPLES / "tcp-proxy.yaml").read_text()
    (proxied,) = pools(load(EXAMPLES / "tcp-proxy.yaml"))
    assert proxied.shares()["cm1.example.com"] == 0.5
    other = tmp_path / "inventory.yaml"
    turn = text.replace("strategy: tcp-proxy", "strategy: round-robin")
    other.write_text(turn.replace("  host: lb.example.com\n", ""))
    (pool,) = pools(load(other))
    assert set(pool.shares().values()) == {1 / 3}


def test_a_proxy_gives_nothing_to_a_weight_of_nothing(tmp_path: Path) -> None:
    text = (EXAMPLES / "tcp-proxy.yaml").read_text().replace("weight: 2", "weight: 0")
    file = tmp_path / "inventory.yaml"
    file.write_text(text)
    (pool,) = pools(load(file))
    assert pool.shares() == {"cm2.example.com": 0.5, "cm3.example.com": 0.5}
