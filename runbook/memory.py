"""What hosts want to be told again: answers that hold while what they were made from stays.

A host decides itself whether it still holds, by a mark it puts first; see `Runbook.memory`. Losing
all of it costs a host the time to find out anew, so nothing here fails a run.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from runbook.errors import StateRefuses
from runbook.journal import file_name, private_folder


def said_folder(site: str) -> Path:
    """Below $XDG_CACHE_HOME, by default ~/.cache: looking at a site leaves no state behind."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return base / "pmrunbook" / "said" / file_name(site)


class Memory:
    """One file a host, in a folder of the operator's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._said: dict[str, str] = {}

    def recall(self, host: str) -> str:
        """What this host said the last time, to whichever command; empty if never."""
        if host not in self._said:
            self._said[host] = ""
            with contextlib.suppress(OSError, UnicodeDecodeError):
                said = self._path(host).read_text(encoding="utf-8")
                self._said[host] = "" if "\0" in said else said
        return self._said[host]

    def keep(self, host: str, said: str) -> None:
        """Tell it that again from now on; one thread a host."""
        if said == self._said.get(host):
            return
        self._said[host] = said
        new = self._path(host).with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError, StateRefuses):
            private_folder(self._folder)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(said)
            new.replace(self._path(host))

    def _path(self, host: str) -> Path:
        return self._folder / f"{file_name(host)}.said"
