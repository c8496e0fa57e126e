"""The journal: what is written is found again, and what was touched is noticed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.audit import audit
from runbook.errors import Locked, StateRefuses
from runbook.journal import Journal, head_file, private_folder, read, site_folder
from runbook.model import Event
from runbook.transcripts import Transcripts


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


@pytest.mark.parametrize("existing", [False, True])
def test_all_of_the_state_home_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    home = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    folder = site_folder("acme")
    before = os.umask(0o022)
    try:
        if existing:
            folder.mkdir(parents=True)
        write(folder)
    finally:
        os.umask(before)
    made = [folder, folder.parent, home / "pmrunbook"]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3
    assert home.stat().st_mode & 0o777 == (0o755 if existing else 0o700)  # others' is others'


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_tolerated_and_cut_off(tmp_path: Path, cut: int) -> None:
    before = head_file(write(tmp_path / "before", 3))  # it died while it wrote the fourth
    path = write(tmp_path / "s")
    path.write_bytes(path.read_bytes()[:-cut])
    head_file(path).write_bytes(before.read_bytes())
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


def seen(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: ((info := p.lstat()).st_mode, info.st_uid) for p in folder.rglob("*")}


@pytest.mark.parametrize("which", ["pmrunbook", "sites", "acme"])
@pytest.mark.parametrize("wrong", ["link", "nowhere", "owner", "0777", "0770"])
def test_below_the_state_home_all_is_ours_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, wrong: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    site, elsewhere = site_folder("acme"), tmp_path / "elsewhere"
    folder = next(f for f in (site, *site.parents) if f.name == which)
    private_folder(folder)
    match wrong:
        case "link" | "nowhere":
            folder.rename(elsewhere)
            folder.symlink_to(elsewhere if wrong == "link" else tmp_path / "nowhere")
        case "owner" if os.geteuid():
            pytest.skip("giving a folder away needs root")
        case "owner":
            shutil.chown(folder, "nobody")
        case mode:
            folder.chmod(int(mode, 8))
    before = seen(tmp_path)
    with pytest.raises(StateRefuses) as error:
        Journal(site)
    assert str(error.value).startswith(f"{folder} ")
    assert error.value.hint.startswith("look at it: ls -l") and str(folder) in error.value.hint
    assert seen(tmp_path) == before


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of somebody else's, in which nothing changes."""
    file = tmp_path / "victim"
    file.write_text("as it was\n")
    file.chmod(0o644)
    before = file.stat()
    yield file
    assert file.read_text() == "as it was\n"
    assert (file.stat().st_mode, file.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@pytest.mark.parametrize("name", ["journal.jsonl", "journal.head"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_a_journal_is_not_followed(
    tmp_path: Path, victim: Path, name: str, there: bool
) -> None:
    path = write(tmp_path / "s")
    link = path.with_name(name)
    link.unlink()
    link.symlink_to(victim if there else tmp_path / "nowhere")
    for act in (lambda: Journal(path.parent), lambda: read(path), lambda: audit(path)):
        with pytest.raises(StateRefuses, match=f"{name} is a symbolic link") as error:
            act()
        assert error.value.hint == f"look at it: ls -l {link}"
    assert link.is_symlink() and not (tmp_path / "nowhere").exists()
    link.unlink()
    head_file(path).unlink(missing_ok=True)
    write(path.parent)  # nobody has it any more


@pytest.mark.parametrize("name", ["run/step/h1.log", "run/step", "run"])
def test_a_link_in_place_of_a_transcript_is_not_followed(
    tmp_path: Path, victim: Path, name: str
) -> None:
    private_folder(tmp_path / "run" / "step")
    link = tmp_path / name
    elsewhere = victim
    if link.exists():
        elsewhere = link.rename(tmp_path / "elsewhere")
    link.symlink_to(elsewhere)
    before = seen(tmp_path)
    with pytest.raises(StateRefuses, match=f"{name} is"):
        Transcripts(tmp_path / "run").write("step", "h1", "said")
    assert seen(tmp_path) == before


def test_the_state_home_itself_is_the_users_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(0o777)
    (tmp_path / "state").symlink_to("disk")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert len(read(write(site_folder("acme")))[0]) == 4
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o777


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
    assert (tmp_path / "run" / "step" / "h1.log").read_text() == "as ever\n"  # while it is open
    with Path("/dev/full").open("w", buffering=1, encoding="utf-8") as full:
        transcripts._open["step", "h1"] = full
        with pytest.raises(StateRefuses, match="No space left"):
            transcripts.write("step", "h1", "no room")
        transcripts.close()


# --- how far it went, and what is wrong with it ---------------------------------------------------


def test_records_missing_from_the_end_are_noticed_at_a_boundary_too(tmp_path: Path) -> None:
    path = write(tmp_path / "s")
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    with pytest.raises(StateRefuses, match="ends with record 2, and record 4 was on the disk"):
        read(path)
    with pytest.raises(StateRefuses):
        Journal(tmp_path / "s")
    path.unlink()
    with pytest.raises(StateRefuses, match="ends with record 0"):
        read(path)
    path.write_bytes(whole)
    assert len(read(path)[0]) == 4


def test_a_journal_made_anew_with_hashes_that_fit_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "s")
    other = Journal(tmp_path / "other")
    for n in range(5):
        other.append(Event("message", 1.5 * n, data={"text": "nothing happened"}))
    other.close()
    path.write_bytes(other.path.read_bytes())
    with pytest.raises(StateRefuses, match="written anew: its record 4 is another"):
        read(path)
    assert audit(path).faults == (
        "journal.jsonl: record 4 is another than was written: the file was made anew",
    )


def test_a_journal_without_a_word_of_how_far_it_went_is_read_as_ever(tmp_path: Path) -> None:
    path = write(tmp_path / "s")
    head_file(path).write_bytes(b"\0" * 76)  # the power went while it was written
    assert len(read(path)[0]) == 4
    head_file(path).unlink()
    assert len(read(path)[0]) == 4
    Journal(tmp_path / "s").close()
    assert head_file(path).read_text().startswith("0000000004 ")
    assert head_file(path).stat().st_mode & 0o777 == 0o600


def test_a_sound_journal_has_no_fault(tmp_path: Path) -> None:
    found = audit(write(tmp_path / "s"))
    assert (len(found.records), found.faults, found.torn) == (4, (), 0)
    assert audit(tmp_path / "none").faults == ()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_an_edited_record_is_named(tmp_path: Path, number: int) -> None:
    path = write(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"n":%d' % (number - 1), b'"n":7')
    path.write_bytes(b"".join(lines))
    assert audit(path).faults == (
        f"journal.jsonl:{number}: record {number} (message) was changed, or the one before it",
    )


def test_a_record_edited_with_a_hash_of_its_own_is_named_by_the_next(tmp_path: Path) -> None:
    path = write(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    forged = lines[1].replace(b'"n":1', b'"n":7')
    body = forged[forged.index(b'"record":') + 9 : -2].decode()
    digest = hashlib.sha256((lines[0][9:73].decode() + body).encode()).hexdigest()
    lines[1] = forged.replace(lines[1][9:73], digest.encode())
    path.write_bytes(b"".join(lines))
    assert audit(path).faults == (
        "journal.jsonl:3: record 3 (message) was changed, or the one before it",
    )


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_removed_record_is_named(tmp_path: Path, number: int) -> None:
    path = write(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[number - 1]
    path.write_bytes(b"".join(lines))
    [fault] = audit(path).faults
    assert fault == (
        "journal.jsonl: record 4 is gone from the end, once on the disk"
        if number == 4
        else f"journal.jsonl:{number}: record {number + 1} stands where record {number} should: "
        "one was removed or moved"
    )


def test_moved_records_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2], lines[1], lines[3]]))
    faults = audit(path).faults
    assert faults[0].startswith("journal.jsonl:2: record 3 stands where record 2 should")
    assert faults[1].startswith("journal.jsonl:3: record 2 stands where record 4 should")


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\xff\x00 nothing\n"
    path.write_bytes(b"".join(lines))
    assert audit(path).faults == ("journal.jsonl:3: this is no record; record 3 stood here",)


def test_a_torn_tail_is_told_from_one_that_was_cut_off(tmp_path: Path) -> None:
    before = head_file(write(tmp_path / "before", 3)).read_bytes()
    path = write(tmp_path / "s")
    after = head_file(path).read_bytes()
    path.write_bytes(path.read_bytes()[:-5])
    # It was on the disk, whole: whoever cut it off was not a machine that died.
    found = audit(path)
    assert found.torn == 0
    assert found.faults == ("journal.jsonl: record 4 is gone from the end, once on the disk",)
    assert before != after
    head_file(path).write_bytes(before)
    found = audit(path)
    assert (found.torn, found.faults) == (4, ())


@pytest.mark.parametrize("left", range(5))
def test_a_journal_cut_off_anywhere_at_a_boundary_is_named(tmp_path: Path, left: int) -> None:
    path = write(tmp_path / "s", 5)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:left]))
    [fault] = audit(path).faults
    assert "gone from the end" in fault and f"{left + 1}" in fault
