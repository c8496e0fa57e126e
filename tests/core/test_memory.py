"""What a host said is told to it again, by this command and by the next one."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from runbook.crew import Crew
from runbook.memory import Memory
from runbook.model import Read, Reading
from runbook.recorder import Recorder
from tests.core.estate import Fleet, Scripted, site

ASK = Read("memory", "say")


class Talkative(Fleet):
    """Hosts that remember every prelude they were sent, and say how many that were."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.preludes: list[str] = []

    def reader(self, host: object) -> Talkative:  # type: ignore[override]
        return self

    def read(self, reads: Sequence[Read], prelude: str = "") -> Mapping[str, Reading]:
        self.preludes.append(prelude)
        said = Reading(0, f"it's {len(self.preludes)}\n")
        return {r.id: said if r is ASK else Reading(0, "x") for r in reads}


def asked(fleet: Talkative, folder: Path) -> None:
    crew = Crew(
        site("h1"), Recorder(Scripted()), fleet, fleet, prelude="P", memory=(ASK, Memory(folder))
    )
    for _ in range(2):
        facts = crew.gather({"h1": [Read("a", "get a")]})
        assert facts.get("h1", "a").out == "x"
        assert not facts.get("h1", "memory").ok  # for the prelude alone


def test_a_host_is_told_what_it_said_the_last_time(tmp_path: Path) -> None:
    fleet = Talkative("h1")
    asked(fleet, tmp_path / "said")
    asked(fleet, tmp_path / "said")  # another command
    assert fleet.preludes == [
        "pc_told=''\nP",
        "pc_told='it'\"'\"'s 1'\nP",
        "pc_told='it'\"'\"'s 2'\nP",
        "pc_told='it'\"'\"'s 3'\nP",
    ]


def test_it_lies_in_files_of_the_operators_own(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "said")
    memory.keep("../h1", "a")
    (file,) = (tmp_path / "said").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert Memory(tmp_path / "said").recall("../h1") == "a"


def test_what_cannot_be_kept_or_read_is_asked_anew(tmp_path: Path) -> None:
    (tmp_path / "said").write_text("no folder")
    memory = Memory(tmp_path / "said")
    assert memory.recall("h1") == ""
    memory.keep("h1", "a")
    assert memory.recall("h1") == "a"  # by this command at least
    (tmp_path / "said").unlink()
    (tmp_path / "said").mkdir()
    (tmp_path / "said" / "h1.said").write_bytes(b"\xff\x00")
    assert Memory(tmp_path / "said").recall("h1") == ""
    (tmp_path / "said" / "h1.said").write_bytes(b"a\x00")  # no shell word
    assert Memory(tmp_path / "said").recall("h1") == ""
