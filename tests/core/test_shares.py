"""The arithmetic of SRV records and pools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.shares import first_choice, planned, shares, spread, srv


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


# --- pools --------------------------------------------------------------------------------------


def member(name: str, weight: int = 1, priority: int = 0) -> dict[str, object]:
    return {"name": name, "weight": weight, "priority": priority, "port": 8140}


def test_what_a_pool_plans_depends_on_the_strategy() -> None:
    members = [member("a", 3), member("b", 1), member("c", 9, priority=1)]
    assert planned("srv", members) == {"a": 0.75, "b": 0.25}
    assert planned("tcp-proxy", members) == {"a": 0.75, "b": 0.25}
    assert planned("round-robin", members) == pytest.approx(dict.fromkeys("abc", 1 / 3))
    assert planned("hardware", [member("a", 0), member("b", 0)]) == {"a": 0.5, "b": 0.5}
    assert planned("tcp-proxy", []) == {}


def test_a_server_nobody_planned_is_in_what_was_counted() -> None:
    shares_ = spread("t", {"a": 1.0}, {"a": 3, "x": 1}).shares
    assert [(s.server, s.planned, s.measured) for s in shares_] == [
        ("a", 1.0, 0.75),
        ("x", None, 0.25),
    ]
    assert [s.measured for s in spread("t", {"a": 1.0}, {}).shares] == [0.0]
    assert not spread("t", {"a": 1.0}, None).measured
