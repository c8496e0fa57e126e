"""Secrets behind references, and what is said where there is none."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from runbook.errors import Exit, RunbookError, UsageError, Waiting
from runbook.model import SecretRef
from runbook.secrets import Secrets, resolve


def private(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def refused(ref: SecretRef) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(ref)
    assert caught.value.exit == Exit.USAGE
    assert caught.value.__cause__ is None
    return f"{caught.value} ({caught.value.hint})"


def test_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMRB_TEST", "pass word ")
    assert resolve(SecretRef("env", "PMRB_TEST")).reveal() == "pass word "
    monkeypatch.delenv("PMRB_TEST")
    assert "PMRB_TEST is not set" in refused(SecretRef("env", "PMRB_TEST"))
    monkeypatch.setenv("PMRB_TEST", "")
    assert "is empty" in refused(SecretRef("env", "PMRB_TEST"))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_file(tmp_path: Path, end: bytes) -> None:
    path = private(tmp_path / "secret", "geh\u00e4im ".encode() + end)
    assert resolve(SecretRef("file", str(path))).reveal() == "geh\u00e4im "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "secret", b"hunter2\n")
    path.chmod(mode)
    said = refused(SecretRef("file", str(path)))
    assert f"mode {mode:04o}" in said
    assert f"chmod 600 {path}" in said


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\nmore\n", "more than one line"),
        (b"hunter2\0", "more than one line"),
        (b"hunter2\xff", "not UTF-8"),
        (b"hunter2" * 10_000, "larger than 64 KiB"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path: Path, data: bytes, why: str) -> None:
    said = refused(SecretRef("file", str(private(tmp_path / "secret", data))))
    assert why in said
    assert "hunter2" not in said


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "No such file" in refused(SecretRef("file", str(tmp_path / "none")))
    assert "it is a directory" in refused(SecretRef("file", str(tmp_path)))
    assert "not a regular file" in refused(SecretRef("file", str(tmp_path / "fifo")))


def test_command() -> None:
    line = f"{sys.executable} -c \"print('two words'); print('login: me')\""
    assert resolve(SecretRef("command", line)).reveal() == "two words"


def test_a_command_runs_without_a_shell_and_without_our_keys(tmp_path: Path) -> None:
    line = f"{sys.executable} -c 'import sys; print(sys.argv[1:], sys.stdin.read())' $HOME ; x"
    assert resolve(SecretRef("command", line)).reveal() == "['$HOME', ';', 'x'] "


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/nowhere/pass show x", "cannot run the secret's command '/nowhere/pass'"),
        ("pass 'show", "cannot be split"),
        ("  ", "is empty"),
        ("sh -c 'echo hunter2; echo locked >&2; exit 3'", "ended with status 3: 'locked'"),
        ("sh -c 'exit 0'", "is empty"),
        ("sh -c 'kill -9 $$'", "ended with status -9"),
    ],
)
def test_a_command_that_gives_none(line: str, why: str) -> None:
    said = refused(SecretRef("command", line))
    assert why in said
    assert "hunter2" not in said.replace(line, "")


def test_prompt() -> None:
    asked: list[str] = []

    def ask(label: str) -> str:
        asked.append(label)
        return "typed"

    assert resolve(SecretRef("prompt", "sudo password"), ask).reveal() == "typed"
    assert asked == ["sudo password"]
    with pytest.raises(Waiting) as caught:
        resolve(SecretRef("prompt", "sudo password"))
    assert caught.value.exit == Exit.WAITING
    assert "env, file or command" in caught.value.hint


def test_a_secret_does_not_show_itself() -> None:
    secret = resolve(SecretRef("prompt", "x"), lambda label: "hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"


def test_many_threads_ask_once_and_a_refused_secret_is_asked_for_again() -> None:
    answers = iter(["wrong", "right"])
    asked = threading.Semaphore(0)

    def ask(label: str) -> str:
        asked.release()
        return next(answers)

    secrets = Secrets(ask)
    ref = SecretRef("prompt", "sudo password")
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(secrets.get(ref).reveal())) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["wrong"] * 20
    secrets.forget(ref)
    assert secrets.get(ref).reveal() == "right"


def test_an_unknown_kind() -> None:
    with pytest.raises(RunbookError, match="cannot come from 'vault'"):
        resolve(SecretRef("vault", "x"))
