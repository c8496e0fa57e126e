"""What can go wrong while an action is done, and how a lab makes it go wrong."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runbook.lab.lab import Lab
from tests.lab.conftest import must
from tests.lab.faults_page import Column

HOLD = """cat >/usr/local/sbin/setsid <<'END'
#!/bin/sh
case $2 in */jobs/*/script) while [ -e /run/held ]; do sleep 0.1; done ;; esac
exec /usr/bin/setsid "$@"
END
chmod 755 /usr/local/sbin/setsid
"""
"""A job stands before its first line while /run/held exists: no fault comes too late for it."""

FREE = r"""set -e
rm -f "$p/.full"; b=$(mktemp -d /run/below.XXXXXX); mount --bind / "$b"
(cd "$b$p"; find . -mindepth 1 -depth) | while IFS= read -r f; do
  [ -e "$p/$f" ] || [ -L "$p/$f" ] || rm -rf "$b$p/$f"
done
cp -a "$p/." "$b$p/"; umount "$b"; rmdir "$b"
dev=$(mountpoint -d "$p")
blind=$(grep -ls "^inotify .* sdev:$(printf %x "${dev#*:}") " /proc/[0-9]*/fdinfo/* |
  while IFS=/ read -r _ _ pid _; do cat "/proc/$pid/cgroup"; done |
  sed -n 's|^0::.*/\([^/]*\.service\).*|\1|p' | sort -u)
umount "$p" 2>/dev/null || umount -l "$p"
for unit in $blind; do systemctl restart "$unit"; done
"""
"""Give a full disk its room back, with all that could be written meanwhile.

It is the same folder then for whoever watches it: those below keep their inodes, and a service that
watches the one that goes begins anew. A Puppet Server would never see a revocation list again.
"""

VAR = "/var/lib/pmrunbook /var/lib/puppet /var/lib/dpkg /var/cache/apt /var/tmp /var/backups"
STOP_CA = "systemctl stop puppetserver"


@dataclass
class Scene:
    """An action at the place of its fault: the lab, the process that does it, where it is."""

    lab: Lab
    state: Path  # the operator's folder: a disk of its own
    pid: int
    host: str
    file: str  # one that the action changes
    job: str
    ca: str
    dns: str
    pace: float
    full: tuple[str, ...] = ()  # the folders whose disk is full

    def on(self, host: str, script: str) -> str:
        # A CA that starts beside other estates takes its time.
        return must(self.lab.execute(host, script, timeout=900))

    def lift(self) -> None:
        """Let the job go on."""
        self.on(self.host, "rm -f /run/held")


@dataclass(frozen=True)
class Fault(Column):
    """A column of the table: where it hits an action, what it does, and how it is healed."""

    when: str = "job"  # a boundary; "job": while the job stands before its first line
    hit: Callable[[Scene], object] = lambda scene: None
    heal: Callable[[Scene], object] = lambda scene: None
    leaves: bool = False  # the program is to end by itself, without an END: no host is held then


def _signalled(number: signal.Signals) -> Callable[[Scene], None]:
    return lambda scene: os.kill(scene.pid, number)


def _cut(seconds: float) -> Callable[[Scene], None]:
    def cut(scene: Scene) -> None:
        scene.lab.pause_link(scene.host)
        scene.lift()
        time.sleep(seconds * scene.pace)
        scene.lab.restore_link(scene.host)

    return cut


def _suspend(scene: Scene) -> None:
    """Nothing is heard of it for longer than a link lives, and its lock is long past its time."""
    os.kill(scene.pid, signal.SIGSTOP)
    scene.lift()
    scene.on(scene.host, f"pkill -f '^sshd: {scene.lab.estate.ssh_user}'; :")
    scene.on(scene.ca, "touch -d '-10 minutes' /var/lib/pmrunbook/lock/beat")
    time.sleep(60 * scene.pace)
    os.kill(scene.pid, signal.SIGCONT)


def _unplug(scene: Scene) -> None:
    """Off, in the middle of the job or right after it."""
    scene.lift()
    time.sleep(0.5)
    scene.lab.poweroff(scene.host, 0)
    scene.lab.boot(scene.host)


def _fill(scene: Scene, *folders: str, size: str = "16m") -> None:
    for folder in folders:
        scene.full += (folder,)
        scene.lab.fill_disk(scene.host, folder, size)


def _free(scene: Scene) -> None:
    for folder in scene.full:
        scene.on(scene.host, f"p={folder}\n{FREE}")


def _fill_var(scene: Scene) -> None:
    """All below /var that a job writes to, its own spool among that; services keep theirs."""
    there = f"for p in {VAR}; do [ ! -d $p ] || echo $p; done"
    _fill(scene, *scene.on(scene.host, there).split(), size="200m")


def _fill_target(scene: Scene) -> None:
    """Where it writes; what replaces no file writes to the CA, or to an agent's state."""
    ca = "/etc/puppet/puppetserver/ca" if scene.host == scene.ca else "/var/lib/puppet"
    folder = str(Path(scene.file).parent) if scene.file else ca
    there = f"p={folder}; until [ -d $p ]; do p=$(dirname $p); done; echo $p"
    _fill(scene, scene.on(scene.host, there).strip())


def _fill_journal(scene: Scene) -> None:
    dd = ["dd", "if=/dev/zero", f"of={scene.state / 'full'}", "bs=4k"]
    subprocess.run(dd, capture_output=True, check=False)


def _start_ca(scene: Scene) -> None:
    ready = "for i in $(seq 600); do ss -ltn | grep -q :8140 && exit 0; sleep 1; done; exit 1"
    scene.on(scene.ca, f"systemctl start puppetserver; {ready}")


def _password(scene: Scene, value: str) -> None:
    scene.on(scene.host, f"echo '{scene.lab.estate.ssh_user}:{value}' | chpasswd")


def _right_password(scene: Scene) -> None:
    _password(scene, scene.lab.credentials.sudo_password.read_text().strip())


def _named(word: str) -> Callable[[Scene], object]:
    return lambda scene: scene.on(scene.dns, f"systemctl kill -s {word} named")


KILL = _signalled(signal.SIGKILL)
FAULTS = (
    Fault("kill-before-start", "killed before START", when="before START", hit=KILL),
    Fault("kill-before-job", "killed between START and the job", when="after START", hit=KILL),
    Fault("kill-in-job", "killed during the job", hit=KILL),
    Fault("kill-before-end", "killed after the job, before END", when="before END", hit=KILL),
    Fault("kill-after-end", "killed after END", when="after END", hit=KILL),
    Fault("cut-2", "link cut for 2 s", hit=_cut(2)),
    Fault("cut-60", "link cut for 60 s", hit=_cut(60)),
    Fault(
        "cut",
        "link cut until the program ended",
        hit=lambda s: s.lab.pause_link(s.host),
        heal=lambda s: s.lab.restore_link(s.host),
    ),
    Fault("reboot", "host rebooted", hit=lambda s: s.lab.reboot(s.host)),
    Fault("unplugged", "host unplugged and started", hit=_unplug),
    Fault("ca-down", "CA down", hit=lambda s: s.on(s.ca, STOP_CA), heal=_start_ca),
    Fault(
        "spool-full",
        "disk of the job spool full",
        when="after START",
        hit=lambda s: _fill(s, "/var/lib/pmrunbook"),
        heal=_free,
    ),
    Fault("target-full", "disk full where it writes", hit=_fill_target, heal=_free),
    Fault("var-full", "/var full during the job", hit=_fill_var, heal=_free),
    Fault(
        "journal-full",
        "operator's disk full",
        when="before START",  # an END is short: it may fit where the last block has room
        hit=_fill_journal,
        heal=lambda s: (s.state / "full").unlink(),
        leaves=True,
    ),
    Fault(
        "clock",
        "host's clock jumps an hour",
        hit=lambda s: s.lab.skew_clock(s.host, 3600),
        heal=lambda s: s.lab.skew_clock(s.host, 0),
    ),
    Fault("names-silent", "name server silent", hit=_named("STOP"), heal=_named("CONT")),
    Fault(
        "password",
        "sudo password changed",
        when="after START",
        hit=lambda s: _password(s, secrets.token_hex(8)),
        heal=_right_password,
    ),
    Fault("hangup", "terminal closed (SIGHUP)", hit=_signalled(signal.SIGHUP), leaves=True),
    Fault("term", "SIGTERM", hit=_signalled(signal.SIGTERM), leaves=True),
    Fault("int", "ctrl+c", hit=_signalled(signal.SIGINT), leaves=True),
    Fault("suspend", "laptop suspended", hit=_suspend),
)
"""The columns, in their order."""
