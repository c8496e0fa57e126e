"""What this machine offers: tools, privileges, and how its control groups are laid out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from runbook.lab.narration import LabError, Say, narrate

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "dpkg-scanpackages": "dpkg-dev",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "apt-get": "apt",
}
"""Program the lab calls -> Debian package that holds it."""

CGROUPS = Path("/sys/fs/cgroup")
INOTIFY = 4096


def missing_packages() -> list[str]:
    """Debian packages that must be installed before a lab can run here."""
    # sbin is where ip and its kind live, and it is missing from many an ordinary user's path.
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = {package for tool, package in TOOLS.items() if shutil.which(tool, path=path) is None}
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        absent.add("debian-archive-keyring")
    return sorted(absent)


def require_root() -> None:
    """Raise `LabError` unless the caller may create namespaces and mounts."""
    if os.geteuid() != 0:
        raise LabError(
            "the lab needs root: it makes network namespaces, mounts and control groups",
            "run the same command with sudo",
        )


def require_machine(say: Say, install: bool = False) -> None:
    """Raise `LabError` unless a lab can run here; with `install`, let apt add what is missing."""
    require_root()
    if not Path("/proc/self/ns/net").exists():
        raise LabError(
            "the lab needs a Linux kernel with network namespaces",
            "use a Debian machine or virtual machine",
        )
    absent = missing_packages()
    if absent and install and shutil.which("apt-get"):
        with narrate(say, f"installing {' '.join(absent)}"):
            _install(absent)
        absent = missing_packages()
    if absent:
        raise LabError(
            f"this machine lacks what the lab runs on: {' '.join(absent)}",
            f"apt-get install {' '.join(absent)}    (or: pmrunbook lab up --install)",
        )
    if not _has_overlayfs():
        raise LabError(
            "this kernel offers no overlayfs, which holds the disks of the lab's hosts",
            "modprobe overlay",
        )
    make_room(say)


def make_room(say: Say) -> None:
    """Let root watch as many files as a rack of systemds does.

    Each host's systemd and journald hold some 15 inotify instances, and the kernel's default of
    128 is for all of root's processes: the ninth host would hang with "Too many open files".
    """
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < INOTIFY:
        try:
            limit.write_text(f"{INOTIFY}\n")
        except OSError as error:
            raise LabError(
                f"the kernel's limit of inotify instances cannot be raised: {error}",
                f"sysctl -w fs.inotify.max_user_instances={INOTIFY}",
            ) from error
        say(f"raised fs.inotify.max_user_instances to {INOTIFY}, until the next boot")


def require_space(path: Path, size: int) -> None:
    """Raise `LabError` unless the file system of `path` has `size` bytes left."""
    free = shutil.disk_usage(path).free
    if free < size:
        raise LabError(
            f"{path} has {free / 1e9:.1f} GB left, and {size / 1e9:.1f} GB are needed",
            "free some, or point XDG_CACHE_HOME and XDG_STATE_HOME at a larger disk",
        )


def has_systemd() -> bool:
    """Whether systemd is PID 1, by the test of sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def cgroup_roots() -> list[Path]:
    """Hierarchies in which a host needs a group of its own; none where systemd makes it a scope.

    Without one, all hosts share a `/system.slice/puppetserver.service` and kill each other's.
    """
    if has_systemd():
        return []
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [CGROUPS / name for name in ("systemd", "unified") if (CGROUPS / name).is_dir()]


def boot_id() -> str:
    """The kernel's id of this boot: process ids written down in another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def cache_dir() -> Path:
    """Where images are kept between labs, outside of any checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pmrunbook" / "lab"


def state_dir() -> Path:
    """Where each lab keeps its disks, keys and records."""
    return (
        Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        / "pmrunbook"
        / "labs"
    )


def _install(packages: list[str]) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(
            argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=env, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise LabError(f"{' '.join(argv[:2])} failed: {reason}", " ".join(argv))


def _has_overlayfs() -> bool:
    filesystems = Path("/proc/filesystems")
    if "overlay" not in filesystems.read_text().split():
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
    return "overlay" in filesystems.read_text().split()
