"""The scripts, run by a real `sh` on real files (as root, in a folder of their own)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runbook import shell
from runbook.model import (
    Action,
    Nothing,
    RemoveFile,
    Restore,
    Script,
    SecretRef,
    WriteFile,
    plain,
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups go below the test's own folder."""
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "var"))
    monkeypatch.setattr(shell, "BACKUPS", str(tmp_path / "var" / "backups"))


def sh(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)


def action(do: WriteFile | RemoveFile | Script, undo: object = Restore()) -> Action:
    return Action("s/h/x", "h", "t", do, undo)  # type: ignore[arg-type]


def undo(made: Action, job: str = "job1", *, force: bool = False) -> str:
    script = shell.undo(plain(made.do), plain(made.undo), job, force=force)
    assert script is not None
    return script


def look(path: Path) -> tuple[bytes, int, int, int, int]:
    s = path.stat()
    return path.read_bytes(), s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns


def sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["puppet.conf", "with space", "it's", "-dash", 'q"$(id)`'])
def test_write_keeps_owner_and_mode_and_undo_is_byte_equal(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"a\r\n\xff\x00b")
    file.chmod(0o640)
    before = look(file)
    made = action(WriteFile(str(file), b"new\n", sha(file)))
    done = sh(shell.perform(made, "job1"))
    assert done.returncode == 0, done.stderr
    assert file.read_bytes() == b"new\n"
    assert look(file)[1:4] == before[1:4]
    assert sh(undo(made)).returncode == 0
    assert look(file) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".pmrunbook")]


def test_a_new_file_and_its_folders_disappear_again(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c.conf"
    made = action(WriteFile(str(file), b"x", mode="0600", owner=f"{os.getuid()}:{os.getgid()}"))
    assert sh(shell.perform(made, "job1")).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert sh(undo(made)).returncode == 0
    assert not (tmp_path / "a").exists()


def test_a_file_that_changed_since_the_plan_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"somebody's")
    done = sh(shell.perform(action(WriteFile(str(file), b"new", "0" * 64)), "job1"))
    assert done.returncode == shell.CHANGED
    assert file.read_bytes() == b"somebody's"
    appeared = sh(shell.perform(action(WriteFile(str(file), b"new")), "job2"))
    assert appeared.returncode == shell.CHANGED


def test_undo_refuses_what_somebody_changed_since_unless_forced(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    made = action(WriteFile(str(file), b"new", sha(file)))
    sh(shell.perform(made, "job1"))
    file.write_bytes(b"by hand")
    assert sh(undo(made)).returncode == shell.CHANGED
    assert file.read_bytes() == b"by hand"
    assert sh(undo(made, force=True)).returncode == 0
    assert file.read_bytes() == b"old"


def test_undo_twice_and_a_write_twice_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    made = action(WriteFile(str(file), b"new", sha(file)))
    for _ in range(2):
        assert sh(shell.perform(made, "job1")).returncode == 0
    for _ in range(2):
        assert sh(undo(made)).returncode == 0
        assert file.read_bytes() == b"old"


def test_remove_and_back(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    before = look(file)
    made = action(RemoveFile(str(file), sha(file)))
    assert sh(shell.perform(made, "job1")).returncode == 0
    assert not file.exists()
    assert sh(undo(made)).returncode == 0
    assert look(file) == before


def test_a_script_saves_first_whole_folders_included(tmp_path: Path) -> None:
    ssl = tmp_path / "ssl"
    (ssl / "certs").mkdir(parents=True)
    (ssl / "certs" / "a.pem").write_bytes(b"old")
    (ssl / "link").symlink_to("certs/a.pem")
    made = action(Script(f"rm -r {ssl}/certs; echo new >{ssl}/b", saves=(str(ssl),)))
    assert sh(shell.perform(made, "job1")).returncode == 0
    assert sh(undo(made)).returncode == 0
    assert (ssl / "certs" / "a.pem").read_bytes() == b"old"
    assert (ssl / "link").is_symlink()
    assert not (ssl / "b").exists()


def test_a_damaged_backup_is_not_put_back(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    made = action(WriteFile(str(file), b"new", sha(file)))
    sh(shell.perform(made, "job1"))
    tar = tmp_path / "var" / "backups" / "job1" / "0.tar"
    tar.write_bytes(tar.read_bytes()[:-600] + b"x" * 600)
    done = sh(undo(made))
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert file.read_bytes() == b"new"


def test_a_link_in_the_way_of_the_backups_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "backups").symlink_to(tmp_path / "elsewhere")
    file = tmp_path / "f"
    file.write_bytes(b"old")
    done = sh(shell.perform(action(WriteFile(str(file), b"new", sha(file))), "job1"))
    assert done.returncode == 1
    assert file.read_bytes() == b"old"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_backup_is_for_nobody_else_in_folders_that_were_open_too(tmp_path: Path) -> None:
    for folder in (tmp_path / "var", tmp_path / "var" / "backups"):
        folder.mkdir()
        folder.chmod(0o755)
    file = tmp_path / "new" / "f"
    made = action(WriteFile(str(file), b"x", owner=f"{os.getuid()}:{os.getgid()}"))
    other = tmp_path / "other"
    other.write_bytes(b"old")
    other.chmod(0o640)
    script = action(Script(f"umask; echo new >{other}", saves=(str(other),)))
    assert sh("umask 022\n" + shell.perform(made, "job1")).returncode == 0
    done = sh("umask 022\n" + shell.perform(script, "job2"))
    assert done.stdout == "0022\n", done.stderr
    kept = sorted((tmp_path / "var" / "backups").rglob("*"))
    assert [p.name for p in kept] == ["job1", "made", "manifest", "job2", "0.tar", "manifest"]
    for path in (tmp_path / "var", tmp_path / "var" / "backups", *kept):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert sh(undo(script, "job2")).returncode == 0
    assert other.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
@pytest.mark.parametrize("whose", ["var", "var/backups"])
def test_a_folder_of_somebody_elses_in_the_way_of_the_backups_is_refused(
    tmp_path: Path, whose: str
) -> None:
    folder = tmp_path / whose
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    file = tmp_path / "f"
    file.write_bytes(b"old")
    done = sh(shell.perform(action(WriteFile(str(file), b"new", sha(file))), "job1"))
    assert done.returncode == 1 and "is not root's" in done.stderr
    assert file.read_bytes() == b"old"
    assert not (tmp_path / "var" / "backups" / "job1").exists()


def test_the_exit_status_of_a_script_is_its_own(tmp_path: Path) -> None:
    for code in (0, 1, 7):
        made = action(Script(f"false; exit {code}", saves=(str(tmp_path / "none"),)), Nothing())
        assert sh(shell.perform(made, f"job{code}")).returncode == code


@pytest.mark.parametrize(
    "word", ["", " ", "a'b", "$(id)", "`id`", "a\nb", "-n", "*", "\\", "\u202e"]
)
def test_every_value_is_one_word(word: str) -> None:
    done = sh(f'set -- {shell.quote(word)}; printf "%s|%s" $# "$1"')
    assert done.stdout == f"1|{word}"


def test_what_was_stopped_for_an_undo_is_started_again_whatever_happens(tmp_path: Path) -> None:
    file, log = tmp_path / "f", tmp_path / "log"
    file.write_bytes(b"old")
    undo_ = Restore(first=f"echo stop >>{log}", then=f"echo start >>{log}")
    made = action(Script(f"echo new >{file}", saves=(str(file),)), undo_)
    assert sh(shell.perform(made, "job1")).returncode == 0
    assert sh(undo(made)).returncode == 0
    assert (file.read_bytes(), log.read_text()) == (b"old", "stop\nstart\n")
    # A backup that is damaged is seen before anything is stopped.
    tar = tmp_path / "var" / "backups" / "job1" / "0.tar"
    kept = tar.read_bytes()
    tar.write_bytes(b"x")
    assert sh(undo(made)).returncode == 1
    assert log.read_text() == "stop\nstart\n"
    # And where putting back fails in the middle, the service comes back all the same.
    tar.write_bytes(kept)
    broken = undo(made).replace("mv -f -T", "false")
    assert sh(broken).returncode == 1
    assert log.read_text() == "stop\nstart\n" * 2


@pytest.mark.parametrize("link", [False, True])
def test_the_key_of_a_ca_is_never_removed(tmp_path: Path, link: bool) -> None:
    ssl, ca = tmp_path / "ssl", tmp_path / ("ca" if link else "ssl/ca")
    ssl.mkdir()
    ca.mkdir()
    (ca / "ca_key.pem").write_text("key")
    if link:
        (ssl / "ca").symlink_to(ca)
    done = sh(shell.perform(action(Script(f"rm -rf {ssl}/*", removes=(str(ssl),))), "job1"))
    assert done.returncode == shell.DISTRUSTED
    assert (ca / "ca_key.pem").exists()
    (ca / "ca_key.pem").unlink()
    done = sh(shell.perform(action(Script(f"rm -rf {ssl}/*", removes=(str(ssl),))), "job2"))
    assert done.returncode == 0, done.stderr


def test_a_secret_is_taken_by_its_job_alone_and_is_in_no_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "LENT", str(tmp_path / "run"))
    word = "a $(touch x) 'quoted\" \\ word"
    made = action(
        Script('printf %s "$password"; ls -A run', secrets=(("password", SecretRef("env", "X")),)),
        Nothing(),
    )
    script = shell.perform(made, "job1")
    lent = shell.lend_script("job1", {"password": word})
    assert word not in script

    def run(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh"], input=text, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert run(lent).returncode == 0
    assert (tmp_path / "run" / "job1" / "password").stat().st_mode & 0o777 == 0o600
    done = run(script)
    assert done.stdout == word  # and nothing is left in the folder
    again = run(script)
    assert again.returncode == 1
    assert "the secrets of this job are gone" in again.stderr
    assert not (tmp_path / "x").exists()
