"""The whole guide through the screens of a small terminal; servers share one name, without a proxy.

The estate is that of `pmrunbook lab up`. An agent runs over and over meanwhile. On the way the
program meets a bug, right where a password was made, and is gone on with.
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
from tests.lab.secrecy import canaries, nowhere, watching
from tests.lab.test_balance import Looped, address, everywhere, fqdn, pool_name, with_
from tests.lab.test_ca_screens import release, screen, start, to_the_end, wait
from tests.lab.test_mission import database_word
from tests.ui.conftest import NARROW, Terminal

__all__ = ["screen"]
pytestmark = [pytest.mark.lab, pytest.mark.turn("screens")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from booted("scr", DEFAULT)


@pytest.mark.parametrize("screen", [NARROW], indirect=True, ids=["80x24"])
def test_the_estate_is_finished_on_the_screens_and_no_secret_was_shown(
    lab: Lab, screen: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "seat").mkdir()
    seat = with_(Seat(lab, tmp_path / "seat"), load_balancing={"strategy": "round-robin"})
    name, places, shown = pool_name(lab), tmp_path / "places", tmp_path / "shown"
    places.write_text(json.dumps([("bug", "end", f"database/{fqdn(lab, 'pdb')}/create")]))
    seat.env["MORTAL"] = str(places)
    screen.tmux("pipe-pane", f"cat >{shown}")
    began = time.monotonic()
    loop = Looped(lab, "agent2")
    with watching(pause=0.5) as watch:
        start(screen, seat, program="tests.lab.mortal")
        assert "a bug in pmrunbook" in to_the_end(screen)
        screen.keys("q")
        wait(screen, "left-41", seconds=30)
        start(screen, seat, "--resume")
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
    words = canaries(lab) | {"database password": database_word(lab)}
    narrate(f"{len(words)} secrets, {shown.stat().st_size} bytes shown, {watch.sweeps} sweeps")
    assert watch.found(words) == set()
    assert b"Summary" in (said := shown.read_bytes())
    assert [word for word, secret in words.items() if secret in said] == []
    assert [f.name for f in seat.state.rglob("crash.txt")] == ["crash.txt"]
    nowhere(seat, words)
