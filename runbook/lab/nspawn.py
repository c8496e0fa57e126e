"""systemd-nspawn: its command line on this machine, and one-off scripts in unbooted trees."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from runbook.lab import machine
from runbook.lab.narration import logged

ENVIRONMENT = (
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
    "HOME=/root",
)


def command(root: Path, *options: str, binds: Mapping[Path, str] | None = None) -> list[str]:
    """Argv of systemd-nspawn on the tree `root`, without the program to run."""
    argv = ["systemd-nspawn", "--quiet", "--settings=no", "--register=no", f"--directory={root}"]
    # systemd as PID 1 makes a scope for each container; elsewhere nspawn has to stay in its group.
    if not machine.has_systemd():
        argv.append("--keep-unit")
    argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", *options]
    argv += [f"--bind-ro={source}:{target}" for source, target in (binds or {}).items()]
    return argv


def run_in_tree(
    root: Path, script: str, log: Path, work: str, binds: Mapping[Path, str] | None = None
) -> None:
    """Run a shell script in a tree that is not booted, with no network; output goes to `log`.

    A bare chroot would not do: openjdk's package fails without /proc, and puppetserver's with it.
    """
    argv = command(
        root,
        "--pipe",
        "--private-network",
        *(f"--setenv={pair}" for pair in ENVIRONMENT),
        binds=binds,
    )
    logged([*in_own_cgroup("", [*argv, "/bin/sh", "-c", script])], log, work)


def in_own_cgroup(group: str, argv: list[str]) -> list[str]:
    """`argv`, executed from a control group named `group` in each hierarchy that calls for one."""
    folders = [root / group for root in machine.cgroup_roots()] if group else []
    enter = "".join(
        f"mkdir -p {folder} && echo $$ > {folder}/cgroup.procs || exit 71\n"
        for folder in map(shlex.quote, map(str, folders))
    )
    return ["/bin/sh", "-c", f'{enter}SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec "$@"', "lab", *argv]
