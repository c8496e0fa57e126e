"""The journal: what is written is found again, and what was touched is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.errors import Locked, StateRefuses
from runbook.journal import Journal, Transcripts, read
from runbook.model import Event


def write(folder: Path, count: int = 4) -> Path:
    journal = Journal(folder)
    for n in range(count):
        journal.append(Event("message", 1.5 * n, host="h\u00e9", data={"text": 'a "b"', "n": n}))
    journal.close()
    return folder / "journal.jsonl"


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    events, _, tear = read(write(tmp_path / "s"))
    assert tear is None
    assert events[2] == Event("message", 3.0, host="h\u00e9", data={"text": 'a "b"', "n": 2})


def test_mappings_keep_their_order(tmp_path: Path) -> None:
    """The steps of a run stand there in the runbook's order, and are told in it."""
    journal = Journal(tmp_path / "s")
    journal.append(Event("run_started", 0.0, data={"steps": {"survey": "", "ca": ""}}))
    journal.close()
    assert list(read(journal.path)[0][0].data["steps"]) == ["survey", "ca"]


def test_modes_are_private(tmp_path: Path) -> None:
    path = write(tmp_path / "s")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_tolerated_and_cut_off(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "s")
    path.write_bytes(path.read_bytes()[:-cut])
    events, _, tear = read(path)
    assert len(events) == 3
    assert tear and tear.line == 4
    again = Journal(tmp_path / "s")
    again.append(Event("message", 9.0))
    again.close()
    assert [e.at for e in read(path)[0]] == [0.0, 1.5, 3.0, 9.0]


@pytest.mark.parametrize("harm", ["edit", "remove", "swap", "double"])
def test_a_touched_record_is_named(tmp_path: Path, harm: str) -> None:
    path = write(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    match harm:
        case "edit":
            lines[1] = lines[1].replace(b'"n":1', b'"n":7')
        case "remove":
            del lines[1]
        case "swap":
            lines[1], lines[2] = lines[2], lines[1]
        case _:
            lines.insert(1, lines[1])
    path.write_bytes(b"".join(lines))
    with pytest.raises(StateRefuses, match=r"journal\.jsonl:[23]"):
        read(path)


def test_only_one_process_has_it(tmp_path: Path) -> None:
    first = Journal(tmp_path / "s")
    with pytest.raises(Locked):
        Journal(tmp_path / "s")
    first.close()


def test_somebody_elses_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "s").symlink_to(tmp_path / "real")
    with pytest.raises(StateRefuses):
        Journal(tmp_path / "s")


def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateRefuses, match="file/s: Not a directory"):
        Journal(tmp_path / "file" / "s")
    (tmp_path / "s" / "journal.jsonl").mkdir(parents=True)
    with pytest.raises(StateRefuses, match=r"journal\.jsonl: Is a directory"):
        Journal(tmp_path / "s")


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    kept = journal._fd
    with Path("/dev/full").open("wb") as full:
        journal._fd = full.fileno()
        with pytest.raises(StateRefuses, match="cannot write the journal"):
            journal.append(Event("message", 0.0))
    journal._fd = kept
    journal.close()


def test_a_full_disk_under_a_transcript_is_said_in_words(tmp_path: Path) -> None:
    transcripts = Transcripts(tmp_path / "run")
    transcripts.write("step", "h1", "as ever")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        transcripts._open["step", "h1"] = full
        transcripts.write("step", "h1", "no room")
        with pytest.raises(StateRefuses, match="No space left"):
            transcripts.flush()
        transcripts.close()
