"""A lab from the outside: up, down, reset, what its hosts do, and the faults one can give them."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runbook.journal import private_folder
from runbook.lab import bake, boot, faults, images, machine, seed
from runbook.lab.boot import HostStatus, status_of
from runbook.lab.disk import LOGIN_TRACES, Mark, copy_layer, remove_tree
from runbook.lab.estate import Estate, LabHost
from runbook.lab.inventory import inventory_text
from runbook.lab.narration import LabError, Say, narrate, quiet
from runbook.lab.network import Network
from runbook.lab.rack import POWEROFF_TIMEOUT, Rack, Record, stack, valid_name

DEFAULT_NAME = "default"


class Lab:
    """The lab called `name`. `estate` is needed to make one; afterwards the lab knows its own.

    Methods that work on the machine raise `LabError`; those that take time narrate through `say`.
    """

    def __init__(
        self, name: str = DEFAULT_NAME, estate: Estate | None = None, state: Path | None = None
    ) -> None:
        if not valid_name(name):
            raise LabError(
                f"{name!r} is no name for a lab",
                "use up to 24 small letters, digits and '-', such as rehearsal-2",
            )
        self.name = name
        self.folder = (state or machine.state_dir()) / name
        self._wanted = estate
        self._seen: tuple[int, Rack] | None = None

    # Life

    def up(self, say: Say = quiet, install: bool = False) -> None:
        """Make what is missing, boot what is off, and wait until every host and service answers.

        `install` lets apt add tools that this machine lacks.
        """
        machine.require_machine(say, install)
        with self._locked(say):
            rack = self._prepared(say)
            rack.clear_leftovers(say)
            rack.connect()
            boot.boot_all(rack, rack.estate.hosts, say)
            self.inventory.write_text(
                inventory_text(rack.estate, rack.credentials, rack.network.name)
            )

    def down(self, say: Say = quiet, purge: bool = False) -> None:
        """Power all hosts off and take the network away.

        Disks and keys stay for the next `up`, unless `purge`.
        """
        machine.require_root()
        if not self.folder.is_dir():
            say(f"there is no lab {self.name}")
            return
        with self._locked(say):
            if self.exists():
                rack = self.rack
                with narrate(say, f"powering off {len(rack.running())} hosts"):
                    forced = rack.stop(rack.estate.hosts, 0 if purge else POWEROFF_TIMEOUT)
                    rack.clear_leftovers(quiet)
                if forced and not purge:
                    say(f"  forced: {' '.join(host.name for host in forced)}")
            if purge:
                with narrate(say, "removing their disks and keys"):
                    remove_tree(self.folder)

    def reset(self, say: Say = quiet, hosts: Sequence[str] = ()) -> None:
        """Put hosts (all, unless some are named) back to their baked state, and boot them.

        Keys and addresses stay.
        """
        machine.require_machine(say)
        with self._locked(say):
            rack = self._prepared(say)
            chosen = tuple(map(rack.estate.host, hosts)) or rack.estate.hosts
            rack.stop(chosen, 0)
            for host in chosen:
                rack.disk(host).clear()
            rack.clear_leftovers(say)
            rack.connect()
            boot.boot_all(rack, chosen, say)

    def boot(self, host: str, say: Say = quiet) -> None:
        """Start one host that is off, and wait for it and its services."""
        with self._locked(say):
            rack = self.rack
            rack.connect()
            boot.boot_all(rack, (rack.estate.host(host),), say)

    def poweroff(self, host: str, timeout: float = POWEROFF_TIMEOUT) -> None:
        """Power one host off; at once, as by pulling the plug, for a `timeout` of 0 seconds."""
        with self._locked(quiet):
            self.rack.stop([self.estate.host(host)], timeout)

    def reboot(self, host: str, say: Say = quiet) -> None:
        """Power one host off and on, and wait for it."""
        self.poweroff(host)
        self.boot(host, say)

    # Looking

    def exists(self) -> bool:
        """Whether such a lab was made, and not purged."""
        return (self.folder / "lab.json").exists()

    @property
    def rack(self) -> Rack:
        """The lab's machines, as they were last written down by whichever process."""
        path = self.folder / "lab.json"
        version = path.stat().st_ino if path.exists() else 0
        if self._seen is None or self._seen[0] != version:
            record = Record.read(path)
            if record is None:
                raise LabError(
                    f"there is no lab {self.name}", f"pmrunbook lab up --name {self.name}"
                )
            self._seen = version, Rack(self.name, self.folder, record)
        return self._seen[1]

    @property
    def estate(self) -> Estate:
        """The estate the lab was made from."""
        return self.rack.estate

    @property
    def network(self) -> Network:
        """The lab's network; its `name` is the network namespace."""
        return self.rack.network

    @property
    def credentials(self) -> seed.Credentials:
        """The files with the lab's keys and passwords."""
        return self.rack.credentials

    @property
    def inventory(self) -> Path:
        """The inventory file that `up` writes."""
        return self.folder / "inventory.yaml"

    def status(self) -> list[HostStatus]:
        """What each host is doing now."""
        return [status_of(self.rack, host) for host in self.estate.hosts]

    def seat(self, argv: Sequence[str]) -> list[str]:
        """`argv` as a command that runs in the lab's network with the lab's DNS."""
        if not self.rack.network.exists():
            raise LabError(f"the lab {self.name} is not up", f"pmrunbook lab up --name {self.name}")
        return self.rack.network.seat(argv)

    def run(self, argv: Sequence[str]) -> int:
        """Run a command at the operator's seat, on the caller's terminal; its exit status."""
        return subprocess.call(self.seat(argv))

    def ssh(self, host: str, *argv: str) -> list[str]:
        """The command that logs in to a host as the operator, from anywhere on this machine."""
        return self.rack.ssh(self.estate.fqdn(self.estate.host(host)), *argv)

    def shell(self, host: str) -> int:
        """Log in to a host as the operator, on the caller's terminal; ssh's exit status."""
        self.rack.needs_running(self.estate.host(host))
        return subprocess.call(self.ssh(host))

    def execute(
        self, host: str, script: str, stdin: str = "", timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script as root in a host, past its network: works whatever fault it has."""
        return self.rack.execute(self.estate.host(host), script, stdin, timeout)

    # Disks

    def marks(self, host: str) -> dict[str, Mark]:
        """A picture of the host's disk, to hand to `changed_files` later."""
        return self.rack.disk(self.estate.host(host)).marks()

    def changed_files(
        self,
        host: str,
        since: Mapping[str, Mark] | None = None,
        ignore: Sequence[str] = LOGIN_TRACES,
    ) -> list[str]:
        """Absolute paths on the host that were written, removed or re-moded since the marks.

        Without `since`: since the host was made. `ignore`: globs, without the leading slash.
        """
        return self.rack.disk(self.estate.host(host)).changed_since(since or {}, ignore)

    def snapshot(self, host: str, label: str) -> None:
        """Keep a copy of the host's disk; the host is powered off for it, and comes back."""
        chosen = self.estate.host(host)
        self.poweroff(host)
        copy_layer(self.rack.disk(chosen).upper, self._kept(chosen, label))
        self.boot(host)

    def restore(self, host: str, label: str) -> None:
        """Put a kept copy in the place of the host's disk, and boot it."""
        chosen = self.estate.host(host)
        kept = self._kept(chosen, label)
        if not kept.is_dir():
            raise LabError(f"{chosen.name} has no snapshot {label!r}", "take one first")
        self.poweroff(host, 0)
        self.rack.disk(chosen).clear()
        copy_layer(kept, self.rack.disk(chosen).upper)
        self.boot(host)

    # Faults

    def pause_link(self, host: str) -> None:
        """Cut a host off the network; it keeps running."""
        self.rack.set_link(self.estate.host(host), up=False)

    def restore_link(self, host: str) -> None:
        """Connect a host again."""
        self.rack.set_link(self.estate.host(host), up=True)

    def swap_host_key(self, host: str) -> None:
        """Give a host another identity than the one in known_hosts."""
        self._must(host, faults.SWAP_HOST_KEYS)

    def fill_disk(self, host: str, path: str, size: str = "8m") -> None:
        """Put a full file system of this size over a folder, with what the folder held."""
        self._must(host, faults.fill_disk(path, size))

    def free_disk(self, host: str, path: str) -> None:
        """Undo `fill_disk`; what was written into the full file system is gone."""
        self._must(host, faults.free_disk(path))

    def skew_clock(self, host: str, seconds: int) -> None:
        """Put a host's clock ahead, or behind; programs that ran before keep the right time."""
        self._must(host, faults.skew_clock(seconds))

    def right_clock(self, host: str) -> None:
        """Undo `skew_clock`."""
        self._must(host, faults.RIGHT_CLOCK)

    # Inside

    def _must(self, host: str, script: str) -> None:
        done = self.execute(host, script)
        if done.returncode != 0:
            raise LabError(
                f"{host}: {done.stderr.strip() or script}", f"pmrunbook lab shell {host}"
            )

    def _kept(self, host: LabHost, label: str) -> Path:
        return self.folder / "snapshots" / host.name / label

    @contextmanager
    def _locked(self, say: Say) -> Iterator[None]:
        private_folder(self.folder)
        with (self.folder.parent / f".{self.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with narrate(say, f"waiting for another process, which has the lab {self.name}"):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever had the lock may have purged the lab.
            self.folder.mkdir(exist_ok=True, mode=0o700)
            yield

    def _prepared(self, say: Say) -> Rack:
        """The rack with every layer in its place: as it was written down, or made now."""
        if not self.exists():
            self._new_record(say).save(self.folder / "lab.json")
        rack = self.rack
        again = f"pmrunbook lab down --purge --name {self.name}, then lab up"
        if self._wanted not in (None, rack.estate):
            raise LabError(
                f"the lab {self.name} was made from another estate ({rack.estate.name})", again
            )
        for layer in {layer for layers in rack.record.layers.values() for layer in layers}:
            if not layer.is_dir():
                raise LabError(f"the lab's disks stand on {layer}, which is gone", again)
        rack.plant(say)
        return rack

    def _new_record(self, say: Say) -> Record:
        estate = self._wanted
        if estate is None:
            raise LabError(f"there is no lab {self.name}", f"pmrunbook lab up --name {self.name}")
        base = images.image(estate.release, say)
        software = {
            host.name: images.layer(base, images.packages_of(host.roles), say)
            for host in estate.hosts
        }
        baked = bake.layers(estate, base, software, say)
        return Record(estate, base.repository, stack(estate, base.root, software, baked))
