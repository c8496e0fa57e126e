"""Every fault once, each on another action of the CA's chapter: a part of the faults table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat
from tests.lab.faults import FAULTS, Walk, seated

pytestmark = pytest.mark.lab


@pytest.fixture
def seat(ca_lab: Lab, tmp_path: Path) -> Iterator[Seat]:
    with seated(ca_lab, tmp_path / "seat", "ca") as seat:
        yield seat


def test_every_fault_is_survived(seat: Seat) -> None:
    left = iter(FAULTS)
    # There are fewer actions than faults: one that is due again after its fault meets another.
    cells = Walk(seat, "ca", lambda _, met: next(left, None) if met < 4 else None, pace=0.1).run()
    assert [(c.row, c.fault, c.note) for c in cells if c.outcome == "failed"] == []
    assert {cell.fault for cell in cells} == {fault.id for fault in FAULTS}
