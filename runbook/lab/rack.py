"""The machines of one lab: made, booted, stopped and removed by what was written down.

What a rack makes on the machine (processes, namespace, mounts, control groups) stands in its
record, or follows from the lab's name: whoever comes after a hard kill finds it and clears it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runbook.lab import machine, seed
from runbook.lab.container import Container, Process
from runbook.lab.disk import Disk, remove_tree
from runbook.lab.estate import Estate, LabHost, parse
from runbook.lab.narration import LabError, Say, last_line, narrate
from runbook.lab.network import Network

FORMAT = 1
POWEROFF_TIMEOUT = 90.0
"""Seconds a host may take to power off before it is forced."""

Result = TypeVar("Result")


@dataclass
class Record:
    """What a lab wrote down: its estate, the layers its disks stand on, and its processes."""

    estate: Estate
    repository: Path
    layers: dict[str, tuple[Path, ...]]
    planted: bool = False
    network_boot: str = ""
    processes: dict[str, Process] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the record so that a reader, or a crash, sees the old one or the new one."""
        layers = {name: [str(layer) for layer in found] for name, found in self.layers.items()}
        data = {
            "format": FORMAT,
            "estate": self.estate.data(),
            "repository": str(self.repository),
            "layers": layers,
            "planted": self.planted,
            "network_boot": self.network_boot,
            "processes": {name: asdict(process) for name, process in self.processes.items()},
        }
        beside = path.with_suffix(".new")
        with beside.open("w") as sink:
            json.dump(data, sink, indent=1)
            sink.flush()
            os.fsync(sink.fileno())
        beside.rename(path)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record at `path`; None where no lab is."""
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            layers = {name: tuple(map(Path, found)) for name, found in data["layers"].items()}
            return cls(
                parse(data["estate"], str(path)),
                Path(data["repository"]),
                layers,
                data["planted"],
                data["network_boot"],
                {name: Process(**process) for name, process in data["processes"].items()},
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise LabError(
                f"{path} is no record of a lab: {error}",
                f"if no host of it runs any more: rm -r {path.parent}",
            ) from error


class Rack:
    """The hosts of the lab `name`, whose files are in `folder`.

    Callers hold the lab's lock while they change it.
    """

    def __init__(self, name: str, folder: Path, record: Record) -> None:
        estate = record.estate
        self.name = name
        self.folder = folder
        self.record = record
        self.estate = estate
        self.network = Network(f"pmrb-{name}", estate.gateway, estate.prefix_length)
        self.credentials = seed.Credentials(folder)
        self.give_up = threading.Event()
        self._writing = threading.Lock()

    def save(self) -> None:
        """Write down what is known now."""
        with self._writing:
            self.record.save(self.folder / "lab.json")

    # Hosts

    def disk(self, host: LabHost) -> Disk:
        """The disk of a host: its identity over the layers it stands on, and the writable one."""
        own = self.folder / "disks" / host.name
        lowers = (own / "seed", *self.record.layers[host.name])
        return Disk(lowers, own / "upper", own / "work", own / "root")

    def container(self, host: LabHost) -> Container:
        """How a host is run."""
        console = self.folder / "console" / f"{host.name}.log"
        name = f"{self.network.name}-{host.name}"
        return Container(name, self.disk(host), self.network, self.record.repository, console)

    def process(self, host: LabHost) -> Process | None:
        """The process of a host, if it runs."""
        found = self.record.processes.get(host.name)
        return found if found and found.alive() else None

    def needs_running(self, host: LabHost) -> Process:
        """The process of a host; `LabError` if it does not run."""
        process = self.process(host)
        if process is None:
            raise LabError(f"{host.name} is powered off", f"pmrunbook lab up --name {self.name}")
        return process

    def running(self) -> list[LabHost]:
        """Hosts that run."""
        return [host for host in self.estate.hosts if self.process(host)]

    def execute(
        self, host: LabHost, script: str, stdin: str = "", timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root in a host; see `Container.execute`."""
        return self.container(host).execute(self.needs_running(host), script, stdin, timeout)

    def listens(self, host: LabHost, port: int) -> bool:
        """Whether something on a host listens on a TCP port."""
        process = self.process(host)
        return process is not None and self.container(host).listens(process, port)

    def set_link(self, host: LabHost, up: bool) -> None:
        """Cut or restore a host's link to the network."""
        self.container(host).set_link(self.needs_running(host), up)

    def ssh(self, target: str, *argv: str) -> list[str]:
        """The command that logs in to `target`, a name or an address, as the operator."""
        options = {
            "IdentityFile": self.credentials.key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.credentials.known_hosts,
            "StrictHostKeyChecking": "yes",
            "Port": self.estate.ssh_port,
        }
        words = [f"-o{name}={value}" for name, value in options.items()]
        login = f"{self.estate.ssh_user}@{target}"
        return self.network.seat(["ssh", "-F", "/dev/null", *words, login, *argv])

    # Life

    def plant(self, say: Say) -> None:
        """Give each host its identity, once; what an interrupted attempt left is removed first."""
        if self.record.planted:
            return
        self.credentials.create()
        (self.folder / "console").mkdir(exist_ok=True)

        def one(host: LabHost) -> list[str]:
            disk = self.disk(host)
            own = disk.upper.parent
            remove_tree(own)
            planting = Disk(disk.lowers[1:], own / "seed", disk.work, disk.root)
            lines = seed.plant(self.estate, host, planting, self.credentials)
            remove_tree(disk.work)
            return lines

        with narrate(say, f"giving {len(self.estate.hosts)} hosts their names and keys"):
            lines = [line for found in _each(self.estate.hosts, one) for line in found]
        self.credentials.known_hosts.write_text("".join(f"{line}\n" for line in lines))
        self.record.planted = True
        self.save()

    def clear_leftovers(self, say: Say) -> None:
        """Remove what hosts that died left; the network too, when no host runs."""
        for host in self.estate.hosts:
            if self.process(host) is None:
                if self.record.processes.pop(host.name, None):
                    say(f"{host.name} did not power off properly: clearing what it left")
                self.container(host).stop(None, 0)
        self.save()
        if not self.running():
            self.disconnect()

    def connect(self) -> None:
        """Make the network, unless this rack has it; one that somebody else made is left alone."""
        ours = self.record.network_boot == machine.boot_id()
        if self.network.exists():
            if ours:
                return
            raise LabError(
                f"the network namespace {self.network.name} exists, and this lab did not make it",
                "choose another --name, or take that lab down where it was started",
            )
        self.record.network_boot = machine.boot_id()
        self.save()
        resolver, names = seed.resolver_file(self.estate), seed.hosts_file(self.estate)
        self.network.create({"resolv.conf": resolver, "hosts": names})

    def disconnect(self) -> None:
        """Remove the network, if it is this rack's."""
        if self.record.network_boot == machine.boot_id():
            self.network.remove()
        self.record.network_boot = ""
        self.save()

    def boot(self, host: LabHost) -> None:
        """Start one host, unless it runs; it is up when `wait_for` says so."""
        if self.process(host) is None:
            container = self.container(host)
            container.stop(None, 0)  # clears what an earlier one left, if it died
            self.record.processes[host.name] = container.start()
            self.save()

    def stop(self, hosts: Iterable[LabHost], timeout: float = POWEROFF_TIMEOUT) -> list[LabHost]:
        """Power hosts off, by force at once for a `timeout` of 0; returns the forced ones."""
        chosen = list(hosts)

        def one(host: LabHost) -> bool:
            process = self.record.processes.get(host.name)
            return self.container(host).stop(process, timeout)

        clean = _each(chosen, one)
        for host in chosen:
            self.record.processes.pop(host.name, None)
        self.save()
        return [host for host, was_clean in zip(chosen, clean, strict=True) if not was_clean]

    def wait_for(
        self,
        host: LabHost,
        what: str,
        ready: Callable[[], bool],
        timeout: float,
        pause: float = 0.3,
    ) -> None:
        """Wait until `ready`; `LabError` names host and console when it died or time is over."""
        console = self.container(host).console
        end = time.monotonic() + timeout
        while not ready():
            if self.process(host) is None:
                died = f"{host.name} died before {what}: {last_line(console)}"
                raise LabError(died, f"read {console}")
            if time.monotonic() > end:
                raise LabError(f"{host.name}: not {what} after {timeout:.0f} s", f"read {console}")
            if self.give_up.wait(pause):
                raise LabError(f"{host.name}: nobody waits any more", "run lab up again")


def stack(
    estate: Estate,
    base: Path,
    software: Mapping[str, Path | None],
    baked: Mapping[str, Path],
) -> dict[str, tuple[Path, ...]]:
    """For each host the layers it stands on, the uppermost first."""
    return {
        host.name: tuple(
            layer for layer in (baked.get(host.name), software.get(host.name), base) if layer
        )
        for host in estate.hosts
    }


def valid_name(name: str) -> bool:
    """Whether a lab may be called that: namespaces, machines and folders carry the name."""
    return re.fullmatch(r"[a-z0-9][a-z0-9-]{0,23}", name) is not None


def _each(hosts: Iterable[LabHost], work: Callable[[LabHost], Result]) -> list[Result]:
    with ThreadPoolExecutor(max_workers=16, thread_name_prefix="lab") as pool:
        return list(pool.map(work, hosts))
