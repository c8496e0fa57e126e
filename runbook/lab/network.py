"""A lab's network: a namespace with a bridge, so that equal addresses in two labs never meet."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook.lab.narration import LabError

BRIDGE = "br0"
RESOLVERS = Path("/etc/netns")
"""Where ip-netns(8) finds files that stand for those in /etc inside a namespace."""


@dataclass(frozen=True)
class Network:
    """The network namespace `name`, with the operator's seat at `gateway` on its bridge."""

    name: str
    gateway: str
    prefix_length: int

    @property
    def path(self) -> Path:
        """The namespace as a file."""
        return Path("/run/netns") / self.name

    def exists(self) -> bool:
        """Whether the namespace is there, whoever made it."""
        return self.path.exists()

    def create(self, files: dict[str, str]) -> None:
        """Make namespace and bridge; commands run in it see `files` in place of those in /etc."""
        folder = RESOLVERS / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        self._ip("netns", "add", self.name)
        self._inside("link", "set", "lo", "up")
        # No route leaves the namespace: whatever runs in the lab cannot reach anybody's network.
        self._inside(
            "link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0"
        )
        self._inside("address", "add", f"{self.gateway}/{self.prefix_length}", "dev", BRIDGE)
        self._inside("link", "set", BRIDGE, "up")

    def remove(self) -> None:
        """Remove the namespace, with the bridge and all links in it."""
        if self.exists():
            self._ip("netns", "delete", self.name)
        folder = RESOLVERS / self.name
        if folder.is_dir():
            for entry in folder.iterdir():
                entry.unlink()
            folder.rmdir()
        with contextlib.suppress(OSError):  # others may have files there
            RESOLVERS.rmdir()

    def seat(self, argv: Sequence[str]) -> list[str]:
        """`argv` as run from the operator's seat: the lab's network and DNS."""
        return ["ip", "netns", "exec", self.name, *argv]

    def set_link(self, index: int, up: bool) -> None:
        """Cut or restore the link with this interface index."""
        for link in json.loads(self._inside("-json", "link", "show")):
            if link["ifindex"] == index:
                self._inside("link", "set", str(link["ifname"]), "up" if up else "down")
                return
        raise LabError(f"the network {self.name} has no link {index}", "pmrunbook lab status")

    def _inside(self, *words: str) -> str:
        return self._ip("-netns", self.name, *words)

    def _ip(self, *words: str) -> str:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(
                f"ip {' '.join(words)}: {done.stderr.strip()}",
                "pmrunbook lab down, then lab up again",
            )
        return done.stdout
