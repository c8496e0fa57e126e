"""Secrets behind their references: a variable, a private file, a command's output, an answer.

No message of this module holds a secret, and none is kept anywhere but in `Secrets`.
"""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import stat
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing

from runbook.errors import UsageError, Waiting
from runbook.inventory.problems import open_file
from runbook.keeper import Keeper
from runbook.model import Secret, SecretRef

MAX_BYTES = 65_536
COMMAND_SECONDS = 120.0  # an agent may ask for a passphrase meanwhile

Ask = Callable[[str], str]
"""Shows a label, takes an answer without echo."""


def typed(label: str) -> str:
    """The answer at the terminal, for a command without a face."""
    with closing(Keeper(0, "\r\n")):
        return getpass.getpass(f"{label}: ")


class Secrets:
    """Resolves each reference once, for all the threads of a run."""

    def __init__(self, ask: Ask | None = None) -> None:
        self._ask = ask
        self._known: dict[SecretRef, Secret] = {}
        self._lock = threading.Lock()

    def get(self, ref: SecretRef) -> Secret:
        """The secret behind `ref`; UsageError or Waiting, as `resolve`."""
        # One lock for all: fifty hosts that need one password ask for it once.
        with self._lock:
            if ref not in self._known:
                self._known[ref] = resolve(ref, self._ask)
            return self._known[ref]

    def forget(self, ref: SecretRef) -> None:
        """Ask anew the next time: the secret was refused."""
        with self._lock:
            self._known.pop(ref, None)


def resolve(ref: SecretRef, ask: Ask | None = None) -> Secret:
    """The secret behind `ref`.

    UsageError says what is missing and where. A prompt that nobody can answer (`ask` is None)
    raises Waiting.
    """
    match ref.kind:
        case "env":
            value = _variable(ref.value)
        case "file":
            value = _file(ref.value)
        case "command":
            value = _command(ref.value)
        case "prompt" if ask is not None:
            value = ask(ref.value)
        case "prompt":
            raise Waiting(
                f"the secret {ref.value!r} has to be typed, and nobody can be asked here",
                hint="name it in the inventory by env, file or command",
            )
        case _:
            raise UsageError(f"a secret cannot come from {ref.kind!r}")
    if not value:
        raise UsageError(f"the secret from {ref.kind} {ref.value!r} is empty")
    if any(c in value for c in "\n\r\0"):
        raise UsageError(
            f"the secret from {ref.kind} {ref.value!r} has more than one line",
            hint="a secret is one line of text",
        )
    return Secret(value)


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise UsageError(
            f"the environment variable {name} is not set, and a secret is looked for there",
            hint=f"read -rs {name} && export {name}",
        )
    return value


def _file(path: str) -> str:
    try:
        file = open_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read the secret in {path!r}: {reason}") from None
    with file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o077:
            raise UsageError(
                f"others may read the secret in {path!r} (mode {stat.S_IMODE(status.st_mode):04o})",
                hint=f"chmod 600 {shlex.quote(path)}",
            )
        if status.st_uid not in (0, os.geteuid()):
            raise UsageError(
                f"the secret in {path!r} belongs to another user (uid {status.st_uid})",
                hint=f"chown {os.geteuid()} {shlex.quote(path)}",
            )
        return _text(file.read(MAX_BYTES + 1), f"file {path!r}").removesuffix("\n").rstrip("\r")


def _command(line: str) -> str:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the secret's command {line!r} cannot be split: {error}") from None
    if not words:
        raise UsageError("the secret's command is empty")
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,  # it must not take the keys meant for us
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(
            f"cannot run the secret's command {words[0]!r}: {error.strerror}",
            hint="it runs without a shell; write sh -c '...' for one",
        ) from None
    with process:
        try:
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise UsageError(
                f"the secret's command {words[0]!r} took longer than {COMMAND_SECONDS:.0f} s"
            ) from None
    if process.returncode:
        said = err.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        raise UsageError(
            f"the secret's command {words[0]!r} ended with status {process.returncode}"
            + (f": {said!r}" if said else "")
        )
    return _text(out, f"command {words[0]!r}").partition("\n")[0].rstrip("\r")


def _text(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise UsageError(f"the secret from {source} is larger than {MAX_BYTES // 1024} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"the secret from {source} is not UTF-8 text") from None
