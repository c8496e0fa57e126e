"""The whole guide through the screens of a small terminal; servers share one name, without a proxy.

The estate is that of `pmrunbook lab up`. An agent runs over and over meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.lab.estate import DEFAULT
from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, booted, must, narrate
from tests.lab.test_balance import Looped, address, everywhere, pool_name, with_
from tests.lab.test_ca_screens import release, screen, start, to_the_end, wait
from tests.ui.conftest import NARROW, Terminal

__all__ = ["screen"]
pytestmark = [pytest.mark.lab, pytest.mark.turn("screens")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from booted("scr", DEFAULT)


@pytest.mark.parametrize("screen", [NARROW], indirect=True, ids=["80x24"])
def test_the_estate_is_finished_on_the_screens(lab: Lab, screen: Terminal, tmp_path: Path) -> None:
    seat = with_(Seat(lab, tmp_path), load_balancing={"strategy": "round-robin"})
    name = pool_name(lab)
    began = time.monotonic()
    loop = Looped(lab, "agent2")
    start(screen, seat)
    release(screen, name)
    assert "Done" in to_the_end(screen)
    many, failed = loop.ended()
    took = time.monotonic() - began
    narrate(f"on the screens: {took:.0f} s; an agent ran {many} times, {len(failed)} failed")
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    assert many >= 10 and failed == []
    assert everywhere(lab, name) == [f"300 {address(lab, h)}" for h in ("cm1", "cm2")]
    state = json.loads(must(seat.pmrunbook("status", "--json")))
    assert {s["status"] for s in state["steps"].values()} == {"ok"}
    assert state["debts"] == {} and state["excluded"] == {}
    assert "all of it holds" in must(seat.pmrunbook("verify", timeout=1800))
