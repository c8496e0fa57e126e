"""Hosts that are not what they should be, on a real estate: another key on the way, tools that lie.

Nothing here changes a host: the estate is as the next module of tests needs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from runbook.lab.estate import LabHost
from runbook.lab.lab import Lab
from tests.lab.conftest import ROOT, Seat, must
from tests.lab.test_ca import names, puppet_hosts

pytestmark = pytest.mark.lab


def logins(lab: Lab, host: str, since: str) -> list[str]:
    """Lines of the host's sshd about sessions that were let in since then."""
    script = f"journalctl -u ssh --since @{since} --no-pager -o cat | grep Accepted || :"
    return must(lab.execute(host, script)).splitlines()


def behind(lab: Lab, folder: Path) -> tuple[LabHost, Path, Path]:
    """A jump host, the known_hosts of one operator, and the inventory of hosts only reached so."""
    gate = lab.estate.host(names(lab, "nameserver")[0])
    data = yaml.safe_load(lab.inventory.read_text())
    known = folder / "known_hosts"
    known.write_text(Path(data["ssh"]["known_hosts"]).read_text())
    through = f"{lab.estate.ssh_user}@{lab.estate.fqdn(gate)}:{lab.estate.ssh_port}"
    data["ssh"] |= {"jump": through, "known_hosts": str(known)}
    file = folder / "inventory.yaml"
    file.write_text(yaml.safe_dump(data))
    return gate, known, file


def test_a_jump_host_with_another_key_ends_it_before_anything_is_sent(
    fresh_lab: Lab, tmp_path: Path
) -> None:
    lab, seat = fresh_lab, Seat(fresh_lab, tmp_path / "state")
    gate, known, file = behind(lab, tmp_path)

    since = must(lab.execute(gate.name, "date +%s")).strip()
    must(seat.pmrunbook("--dry-run", "--plain", inventory=file))
    for host in puppet_hosts(lab):
        assert [line for line in logins(lab, host, since) if f" from {gate.address} " in line]

    stranger = tmp_path / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    key = " ".join(Path(f"{stranger}.pub").read_text().split()[:2])
    lines = known.read_text().splitlines()
    at = [n for n, line in enumerate(lines) if lab.estate.fqdn(gate) in line]
    for n in at:
        lines[n] = f"{lines[n].split()[0]} {key}"
    known.write_text("\n".join(lines) + "\n")
    time.sleep(1)  # what was let in before is not of this second
    since = must(lab.execute(gate.name, "date +%s")).strip()
    done = seat.pmrunbook("--plain", "--yes", inventory=file)
    assert done.returncode == 4, done.stdout
    said = done.stdout + done.stderr
    assert f"{known}:{at[0] + 1}" in said
    assert lab.estate.fqdn(gate) in said
    for host in (gate.name, *puppet_hosts(lab)):
        assert logins(lab, host, since) == []


ESCAPES = "\x1b]52;c;cm0gLXJm\x07\x1b[31mred\x1b[2J\x1b]0;title\x07\x9b31m"
"""A clipboard, colours, an empty screen and a window's title, for whoever prints them."""

LIE = f"""set -e
mkdir -p /root/kept
cp -a /home/OPS/.bashrc /root/kept/ 2>/dev/null || :
cp -a /etc/os-release /root/kept/
puppet=$(PATH=/opt/puppetlabs/bin:$PATH; readlink -f "$(command -v puppet)")
mv "$puppet" /root/kept/puppet
echo "$puppet" >/root/kept/where
escapes='{ESCAPES}'
printf 'printf %%s "%s"; printf %%s "%s" >&2\\n' "$escapes" "$escapes" >/home/OPS/.bashrc
cp --remove-destination /usr/lib/os-release /etc/os-release
printf 'PRETTY_NAME="Debian %s"\\n' "$escapes" >>/etc/os-release
cat >"$puppet" <<END
#!/bin/sh
echo "Error: $escapes"; echo "$escapes"
yes 'Error: $(printf %01000d 0)' | head -c 1000000000
exec /root/kept/puppet "\\$@"
END
cat >/usr/local/sbin/ip <<END
#!/bin/sh
while :; do echo "2: host0 inet $escapes/24"; done
END
chmod 755 "$puppet" /usr/local/sbin/ip
"""
"""A login's banner, the system's name, a Puppet that errs for a gigabyte first, an endless ip."""

TRUTH = """set -e
rm -f /usr/local/sbin/ip /home/OPS/.bashrc /etc/os-release
mv /root/kept/puppet "$(cat /root/kept/where)"
cp -a /root/kept/os-release /etc/
[ ! -e /root/kept/.bashrc ] || cp -a /root/kept/.bashrc /home/OPS/
rm -r /root/kept
"""


def test_what_a_host_says_reaches_neither_the_terminal_nor_the_memory(
    fresh_lab: Lab, tmp_path: Path
) -> None:
    # What it said as long as it was honest is not to be told to it again.
    lab, seat = fresh_lab, Seat(fresh_lab, tmp_path / "state", {"XDG_CACHE_HOME": str(tmp_path)})
    liar = names(lab, "agent")[-1]
    must(lab.execute(liar, LIE.replace("OPS", lab.estate.ssh_user)))
    try:
        shown, seconds, memory = measured(seat, "--plain", "--yes", "--step", "survey")
    finally:
        must(lab.execute(liar, TRUTH.replace("OPS", lab.estate.ssh_user)))
    assert f"{lab.estate.fqdn(lab.estate.host(liar))}: red 0000".encode() in shown
    assert b"[settings-unreadable]" in shown
    assert seconds < 120
    assert memory < 150_000
    kept = [f for f in seat.state.rglob("*") if f.is_file() and f.suffix == ".jsonl"]
    assert kept
    for text in (shown, *(f.read_bytes() for f in kept)):
        for sign in (b"\x1b", b"\x07", rb"\u001b", rb"\u0007", b"]52;", "\x9b".encode()):
            assert sign not in text


def measured(seat: Seat, *args: str) -> tuple[bytes, float, int]:
    """Everything the command printed, seconds it took, and KiB it had at most."""
    command = [sys.executable, "-m", "runbook", *args, "-i", str(seat.inventory)]
    out = seat.state.parent / "out"
    began = time.monotonic()
    with out.open("wb") as file:
        run = subprocess.Popen(
            command,
            env=seat.environ(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        _, _, usage = os.wait4(run.pid, 0)
    return out.read_bytes(), time.monotonic() - began, usage.ru_maxrss
