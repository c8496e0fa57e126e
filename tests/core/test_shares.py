"""Planned shares beside what was counted."""

from __future__ import annotations

from runbook.shares import spread


def test_a_server_nobody_planned_is_in_what_was_counted() -> None:
    shares_ = spread("t", {"a": 1.0}, {"a": 3, "x": 1}).shares
    assert [(s.server, s.planned, s.measured) for s in shares_] == [
        ("a", 1.0, 0.75),
        ("x", None, 0.25),
    ]
    assert [s.measured for s in spread("t", {"a": 1.0}, {}).shares] == [0.0]
    assert not spread("t", {"a": 1.0}, None).measured
