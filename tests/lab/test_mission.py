"""The whole guide in one unattended run: from one overloaded server to the finished estate.

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
from tests.lab.conftest import Seat, booted, jobs_run, must, narrate
from tests.lab.faults import differences, likeness
from tests.lab.secrecy import at_home, canaries, nowhere, watching
from tests.lab.test_balance import Looped, address, everywhere, fqdn, pool_name
from tests.lab.test_trust import looking

pytestmark = [pytest.mark.lab, pytest.mark.turn("mission")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from booted("all", DEFAULT)


@pytest.fixture(scope="module")
def seat(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    return Seat(lab, tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def before(lab: Lab) -> dict[str, dict[str, str]]:
    return likeness(lab)


def test_one_run_finishes_the_estate_and_no_agent_fails(seat: Seat, before: object) -> None:
    lab = seat.lab
    name = pool_name(lab)
    began = time.monotonic()
    loop = Looped(lab, "agent2")
    with watching(pause=0.5) as watch:
        out = must(seat.pmrunbook("--plain", "--yes", "--cut-over", name, timeout=3600))
    many, failed = loop.ended()
    took = time.monotonic() - began
    narrate(f"the whole guide: {took:.0f} s; an agent ran {many} times, {len(failed)} failed")
    assert "done (exit 0)" in out
    assert many >= 10 and failed == []
    assert everywhere(lab, name) == [f"300 {address(lab, 'lb')}"]
    state = json.loads(must(seat.pmrunbook("status", "--json")))
    assert {s["status"] for s in state["steps"].values()} == {"ok"}
    assert state["debts"] == {} and state["excluded"] == {}
    words = canaries(lab) | {"database password": database_word(lab)}
    narrate(f"{len(words)} secrets, {len(watch.seen)} command lines, {watch.sweeps} sweeps")
    assert watch.found(words) == set()
    assert [name for name, word in words.items() if word in out.encode()] == []
    nowhere(seat, words)
    keys = at_home(seat)
    narrate(f"{keys} private keys, each on its own host alone")
    assert keys > 5


def database_word(lab: Lab) -> bytes:
    """What PuppetDB's host made for the database."""
    word = "sed -n 's/^password *= *//p' $(find /etc -name database.ini)"
    found = must(lab.execute("pdb", word)).strip().encode()
    assert len(found) > 20
    return found


def test_all_of_it_is_green(seat: Seat) -> None:
    out = must(seat.pmrunbook("verify", timeout=1800))
    assert "all of it holds" in out
    assert must(seat.pmrunbook("debts")).strip() == "none"


def test_the_shares_are_in_the_evidence(seat: Seat, tmp_path: Path) -> None:
    lab = seat.lab
    (measured,) = [e.data for e in seat.events() if e.kind == "shares"][-1:]
    assert set(measured["measured"]) == {fqdn(lab, "cm1"), fqdn(lab, "cm2")}
    assert all(n > 0 for n in measured["measured"].values())


def test_an_account_that_can_only_look_proves_all_of_it(seat: Seat, tmp_path: Path) -> None:
    lab = seat.lab
    hosts = [host.name for host in lab.estate.hosts if "nameserver" not in host.roles]
    ran = jobs_run(lab, hosts)
    with looking(seat, tmp_path, hosts) as file:
        out = must(seat.pmrunbook("verify", inventory=file, timeout=1800))
        assert "all of it holds" in out
        out = must(seat.pmrunbook("--dry-run", "--plain", inventory=file, timeout=1800))
        assert "nothing to do" in out
    assert jobs_run(lab, hosts) == ran


def test_all_of_it_is_taken_back_with_one_command_and_no_agent_fails(
    seat: Seat, before: dict[str, dict[str, str]]
) -> None:
    lab = seat.lab
    loop = Looped(lab, "agent2")
    must(seat.pmrunbook("undo", "--to", "survey", "--plain", "--yes", timeout=1800))
    many, failed = loop.ended()
    narrate(f"the whole guide taken back; an agent ran {many} times, {len(failed)} failed")
    assert many >= 3 and failed == []
    # The first certificate that is revoked gives its list Puppet Server's own mode.
    differ = [x for x in differences(before, likeness(lab)) if not x.endswith("/ca/ca_crl.pem")]
    assert differ == []
