"""One running host: a systemd-nspawn process with a disk, a control group and a link of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from runbook.lab import machine
from runbook.lab.disk import Disk
from runbook.lab.narration import LabError, last_line
from runbook.lab.network import BRIDGE, Network
from runbook.lab.nspawn import ENVIRONMENT, command, in_own_cgroup

POWEROFF = signal.SIGRTMIN + 4
"""What systemd(1) takes as the order to start poweroff.target."""

LISTENING = "0A"
"""State TCP_LISTEN in the kernel's tables of sockets."""

# Children of this process, kept so that each is reaped when it ends; hosts are meant to outlive it.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Process:
    """A process beyond doubt: its id, its start in ticks after boot, and which boot that was."""

    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this id now."""
        return cls(pid, (_stat(pid) or ("", -1))[1], machine.boot_id())

    def alive(self) -> bool:
        """Whether that very process still runs; a zombie does not."""
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            _children.pop(self.pid, None)
        found = _stat(self.pid)
        if found is None or found[0] in "ZX":
            return False
        return found[1] == self.start and self.boot == machine.boot_id()


@dataclass(frozen=True)
class Container:
    """How one host is run; `name` carries the lab's name and is unique on the machine."""

    name: str
    disk: Disk
    network: Network
    repository: Path
    console: Path

    def start(self) -> Process:
        """Mount the disk and boot; the host outlives this process, and writes to `console`."""
        self.disk.unmount()
        self.disk.mount()
        options = ("--boot", f"--machine={self.name}", f"--network-bridge={BRIDGE}")
        argv = command(self.disk.root, *options, binds={self.repository: "/srv/repo"})
        # Not `ip netns exec`: it remounts /sys, and then nspawn finds no control groups.
        inside = ["nsenter", f"--net={self.network.path}", *argv]
        with self.console.open("ab") as sink:
            child = subprocess.Popen(
                in_own_cgroup(self.name, inside),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _children[child.pid] = child
        return Process.of(child.pid)

    def execute(
        self, process: Process, script: str, stdin: str = "", timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root in the host, through its namespaces.

        Works with the link cut or sshd down. Raises `subprocess.TimeoutExpired`.
        """
        target = f"--target={self.leader(process)}"
        enter = ["nsenter", target, "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        return subprocess.run(
            [*enter, "env", "-i", *ENVIRONMENT, "/bin/sh", "-c", script],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd="/",
            check=False,
        )

    def leader(self, process: Process) -> int:
        """Process id, as seen from outside, of the host's own PID 1."""
        if process.alive():
            with contextlib.suppress(OSError):
                task = Path(f"/proc/{process.pid}/task/{process.pid}")
                for child in (task / "children").read_text().split():
                    status = Path(f"/proc/{child}/status").read_text().splitlines()
                    ids = next((line for line in status if line.startswith("NSpid:")), "")
                    if ids.split()[-1:] == ["1"]:
                        return int(child)
        raise LabError(f"{self.name} does not run: {last_line(self.console)}", "pmrunbook lab up")

    def listens(self, process: Process, port: int) -> bool:
        """Whether something in the host listens on a TCP port; the kernel's tables tell."""
        try:
            tables = Path(f"/proc/{self.leader(process)}/net")
            text = (tables / "tcp").read_text() + (tables / "tcp6").read_text()
        except (OSError, LabError):
            return False
        rows = [line.split() for line in text.splitlines()]
        return any(row[3] == LISTENING and row[1].endswith(f":{port:04X}") for row in rows)

    def set_link(self, process: Process, up: bool) -> None:
        """Cut or restore the host's link to the bridge; the host itself keeps running."""
        peer = Path(f"/proc/{self.leader(process)}/root/sys/class/net/host0/iflink")
        self.network.set_link(int(peer.read_text()), up)

    def stop(self, process: Process | None, timeout: float) -> bool:
        """Power the host off, by force after `timeout` seconds, and leave nothing but its disk.

        Without a process: clear what a host that died left. Returns whether no force was needed.
        """
        clean = True
        if process and process.alive():
            clean = timeout > 0 and self._power_off(process, timeout)
        # Killing nspawn alone would not do: its host goes on without it.
        self._kill_rest()
        if process and not _gone(process, 10.0):
            raise LabError(f"{self.name} cannot be stopped", f"kill -9 {process.pid}")
        self.disk.unmount()
        for root in machine.cgroup_roots():
            _remove_cgroup(root / self.name)
        return clean

    def _power_off(self, process: Process, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            # Said again and again: a systemd that has only just started does not hear it yet.
            with contextlib.suppress(LabError, ProcessLookupError):
                os.kill(self.leader(process), POWEROFF)
            if _gone(process, min(3.0, timeout)):
                return True
        return False

    def _kill_rest(self) -> None:
        """Kill whatever is in the host's own control group, which bears the lab's name."""
        if machine.has_systemd():
            stop = ["systemctl", "kill", "--signal=KILL", f"{self.name}.scope"]
            subprocess.run(stop, capture_output=True, check=False)
        end = time.monotonic() + 10.0
        while time.monotonic() < end:
            pids = [pid for root in machine.cgroup_roots() for pid in _members(root / self.name)]
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def _gone(process: Process, timeout: float) -> bool:
    end = time.monotonic() + timeout
    while process.alive():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time of a process, from proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    rest = text.rpartition(")")[2].split()
    return rest[0], int(rest[19])


def _groups(folder: Path) -> list[Path]:
    """A control group and those below it, the innermost first."""
    return [Path(below) for below, _dirs, _files in os.walk(folder, topdown=False)]


def _members(folder: Path) -> list[int]:
    """Processes in a control group and below it."""
    found: list[int] = []
    for group in _groups(folder):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    return [pid for pid in found if pid != 0]


def _remove_cgroup(folder: Path) -> None:
    """Remove a control group; the kernel lets go of it a moment after its last process."""
    for _ in range(40):
        for group in _groups(folder):
            with contextlib.suppress(OSError):
                group.rmdir()
        if not folder.exists():
            return
        time.sleep(0.05)
