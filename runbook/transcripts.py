"""What the hosts said, in files of the operator's own."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import IO

from runbook.journal import file_name, open_own, private_folder, usable


class Transcripts:
    """What every host said, one file a run, step and host, 0600."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[tuple[str, str], IO[str]] = {}
        self._guard = threading.Lock()

    def path(self, step: str, host: str) -> Path:
        return self.folder / step / f"{file_name(host)}.log"

    def write(self, step: str, host: str, text: str) -> None:
        """Append one line; it is there at once, also for who kills us, and for who reads along."""
        path = self.path(step, host)
        with self._guard, usable(path):
            handle = self._open.get((step, host))
            if handle is None:
                private_folder(self.folder)
                private_folder(path.parent)
                fd = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                handle = os.fdopen(fd, "a", buffering=1, encoding="utf-8")
                self._open[(step, host)] = handle
            handle.write(text + "\n")

    def close(self) -> None:
        with self._guard:
            for handle in self._open.values():
                with contextlib.suppress(OSError):  # a full disk: said where it was written to
                    handle.close()
            self._open.clear()
