"""Images shared by all labs of a user: Debian as installed, a package repository, software layers.

They are built once, beside their final place, and renamed into it when complete: what has its final
name is whole. An interrupted build goes on with the stages it had finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook.lab import machine, mirror
from runbook.lab.disk import Disk, remove_tree
from runbook.lab.narration import LabError, Say, logged, narrate
from runbook.lab.nspawn import run_in_tree

BASE = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "ca-certificates",
    "curl",
    "sudo",
    "procps",
    "netbase",
    "less",
    "nano",
    "libfaketime",
]
"""A server fresh from a site's installer: no Puppet on it."""

REPOSITORY = [
    "puppet-agent",
    "puppetserver",
    "puppetdb",
    "puppet-terminus-puppetdb",
    "postgresql",
    "postgresql-contrib",
    "r10k",
    "hiera-eyaml",
    "haproxy",
    "nginx-light",
    "bind9",
    "bind9-dnsutils",
    "git",
    "mercurial",
    "subversion",
    "rsync",
    "cron",
    "augeas-tools",
    "python3-minimal",
]
"""What apt can install in the lab's hosts without a network; dependencies come along."""

SOFTWARE = {
    "agent": ("puppet-agent",),
    "fresh": ("puppet-agent",),
    "server": ("puppet-agent", "puppetserver", "cron"),
    "compiler": ("puppet-agent", "puppetserver", "cron"),
    "nameserver": ("bind9", "bind9-dnsutils"),
    "secondary": ("bind9", "bind9-dnsutils"),
}
"""Role of a host -> packages that a host with it starts with."""

FINISH = """set -e
rm -f /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap
echo 'deb [trusted=yes] file:/srv/repo ./' > /etc/apt/sources.list
printf 'force-unsafe-io\\n' > /etc/dpkg/dpkg.cfg.d/lab
apt-get -qq update
# Background work of a real machine that would only cost time here.
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \\
    e2scrub_all.timer e2scrub_reap.service console-getty.service getty@.service \\
    systemd-networkd-wait-online.service
systemctl enable --quiet systemd-networkd.service ssh.service
# The JVMs of a rehearsal start often and work little: the quick compiler alone more than halves
# the start of a Puppet Server on two cores, and the site's own files stay as Debian has them.
mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\\nDefaultEnvironment="JDK_JAVA_OPTIONS=%s"\\n' \\
    '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC' > /etc/systemd/system.conf.d/lab.conf
# Logs in memory: the disk then shows what an operator changed, and nothing else.
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\nRuntimeMaxUse=64M\\n' > /etc/systemd/journald.conf.d/lab.conf
rm -f /etc/ssh/ssh_host_*_key* /etc/hostname /etc/resolv.conf
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/cache/apt/archives/*.deb
"""


FINISH_OF = {
    # Mounts and watches that its systemd wants for itself and does not get in a container.
    "trixie": "systemctl mask --quiet dev-hugepages.mount dev-mqueue.mount run-lock.mount "
    "tmp.mount systemd-ask-password-console.path systemd-ask-password-wall.path\n",
}
"""Release -> what else has to be done to its image."""

SPACE = 2_000_000_000
"""Bytes that an image and what is built on it take."""


@dataclass(frozen=True)
class Image:
    """A release as installed, and the folder of packages that its hosts see as /srv/repo."""

    key: str
    root: Path
    repository: Path


def image(release: str, say: Say) -> Image:
    """The image of a Debian release, built on first use."""
    key = f"{release}-{_digest(release, *BASE, *REPOSITORY, _finish_script(release))}"
    final = machine.cache_dir() / f"image-{key}"
    made = Image(key, final / "root", final / "repo")
    if final.is_dir():
        return made
    with building(final, say) as work:
        if work:
            say(f"building the image of Debian {release}, once, for {machine.cache_dir()}")
            machine.require_space(work, SPACE)
            sources = work / "lab.sources"
            sources.write_text(mirror.sources_for(release))
            _stage(work, "root", lambda: _install_base(work, release, sources, say))
            _stage(work, "repo", lambda: _fetch_packages(work, sources, say))
            _stage(work, "finish", lambda: _finish(work, release, say))
    return made


def layer(base: Image, packages: Sequence[str], say: Say) -> Path | None:
    """The layer over `base` with these packages, built on first use; None for no packages."""
    if not packages:
        return None
    final = machine.cache_dir() / f"layer-{base.key}-{_digest(*packages)}"
    if not final.is_dir():
        with building(final, say, keep=False) as work:
            if work:
                names = " ".join(packages)
                disk = Disk((base.root,), work / "upper", work / "work", work / "root")
                with narrate(say, f"installing {names}"), mounted(disk):
                    run_in_tree(
                        disk.root,
                        f"apt-get install -qq -y --no-install-recommends {names} && apt-get clean",
                        work / "log",
                        f"installing {names}",
                        {base.repository: "/srv/repo"},
                    )
                remove_tree(disk.work)
                disk.root.rmdir()
    return final / "upper"


def packages_of(roles: Sequence[str]) -> tuple[str, ...]:
    """Packages that a host with these roles starts with, in a stable order."""
    return tuple(sorted({package for role in roles for package in SOFTWARE.get(role, ())}))


@contextmanager
def mounted(disk: Disk) -> Iterator[Disk]:
    """Have a disk mounted, and unmounted whatever happens."""
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()


@contextmanager
def building(final: Path, say: Say, keep: bool = True) -> Iterator[Path | None]:
    """A folder to build `final` in, renamed at the end; None when another builder made it.

    `keep` leaves the folder of an interrupted build to the next one.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / f".{final.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with narrate(say, f"waiting for another process, which builds {final.name}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            yield None
            return
        work = final.with_name(f"{final.name}.building")
        if not keep:
            remove_tree(work)
        work.mkdir(exist_ok=True)
        yield work
        os.sync()
        work.rename(final)


def _stage(work: Path, name: str, build: Callable[[], None]) -> None:
    stamp = work / f".{name}.done"
    if not stamp.exists():
        build()
        os.sync()
        stamp.touch()


def _install_base(work: Path, release: str, sources: Path, say: Say) -> None:
    options = work / "apt.conf"
    options.write_text(mirror.apt_options())
    remove_tree(work / "root")
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(BASE)}",
        f"--aptopt={options}",
    ]
    argv += [release, str(work / "root"), str(sources)]
    env = {**os.environ, "TMPDIR": str(work)}
    with narrate(say, f"1 of 3: installing Debian {release}"):
        logged(argv, work / "log", f"mmdebstrap {release}", env)


def _fetch_packages(work: Path, sources: Path, say: Say) -> None:
    repo, fetch = work / "repo", work / "fetch"
    remove_tree(repo)
    for folder in (repo, fetch / "lists" / "partial", fetch / "cache" / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    # The machine's own apt does the work, on lists, a cache and package states made for this.
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": fetch,
        "Dir::State::lists": fetch / "lists",
        "Dir::State::status": work / "root/var/lib/dpkg/status",
        "Dir::Cache": fetch / "cache",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "APT::Keep-Downloaded-Packages": "true",
    }
    apt = ["apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in options.items())]
    with narrate(
        say, f"2 of 3: fetching the packages of the guide ({len(REPOSITORY)} and what they need)"
    ):
        logged([*apt, "update"], work / "log", "apt-get update")
        logged(
            [*apt, "install", "--download-only", *REPOSITORY],
            work / "log",
            "apt-get install --download-only",
        )
        for package in sorted((fetch / "cache/archives").glob("*.deb")):
            # apt writes the epoch's colon as %3a; a plain name needs no quoting in a URL.
            package.rename(repo / package.name.replace("%3a", "."))
        scan = subprocess.run(
            ["dpkg-scanpackages", "--multiversion", "--hash", "sha256", "."],
            cwd=repo,
            capture_output=True,
            check=False,
        )
        if scan.returncode != 0 or not scan.stdout:
            raise LabError(
                "dpkg-scanpackages failed on the fetched packages", f"dpkg-scanpackages {repo}"
            )
        (repo / "Packages").write_bytes(scan.stdout)
        repo.chmod(0o755)
        shutil.rmtree(fetch)


def _finish_script(release: str) -> str:
    return FINISH + FINISH_OF.get(release, "")


def _finish(work: Path, release: str, say: Say) -> None:
    with narrate(say, "3 of 3: finishing the image"):
        (work / "root/srv/repo").mkdir(parents=True, exist_ok=True)
        run_in_tree(
            work / "root",
            _finish_script(release),
            work / "log",
            "finishing the image",
            {work / "repo": "/srv/repo"},
        )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
