"""The faults once, each on another action of the CA's chapter: a part of the faults table.

The chapter has one action too few for /var full, which is left to the walks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, must, narrate
from tests.lab.faults import FAULTS, OF_THE_CA, Walk, asked, blame, differences, likeness, seated

pytestmark = pytest.mark.lab


@pytest.fixture
def seat(fresh_lab: Lab, tmp_path: Path) -> Iterator[Seat]:
    with seated(fresh_lab, tmp_path / "seat", "ca") as seat:
        yield seat


def test_every_fault_is_survived_and_the_estate_is_that_of_an_unbroken_run(
    seat: Seat, tmp_path: Path
) -> None:
    (tmp_path / "unbroken").mkdir()
    unbroken = Seat(seat.lab, tmp_path / "unbroken")
    must(unbroken.pmrunbook("--plain", "--yes", *asked(seat.lab, "ca")))
    wanted = likeness(seat.lab)
    seat.lab.reset(narrate)
    faults = [fault for fault in FAULTS if fault.id != "var-full"]
    left = iter(faults)
    # There are fewer actions than faults: one that is due again after its fault meets another.
    cells = Walk(seat, "ca", lambda _, met: next(left, None) if met < 4 else None, pace=0.1).run()
    differ = differences(wanted, likeness(seat.lab))
    blame(cells, [path for path in differ if not OF_THE_CA.search(path)])
    for host, _, path in (path.partition(":") for path in differ if path.endswith("tmp")):
        must(seat.lab.execute(host, f"touch -d '10 minutes ago' {path}"))  # it is not at work there
        assert "ca-write-broken-off" in seat.pmrunbook("--dry-run", "--json").stdout
    assert [(c.row, c.fault, c.note) for c in cells if c.outcome == "failed"] == []
    assert {cell.fault for cell in cells} == {fault.id for fault in faults}
