"""Shell scripts that give a host a fault, and take it away."""

from __future__ import annotations

import shlex

SWAP_HOST_KEYS = """set -e
for type in ed25519 ecdsa; do
  key=/etc/ssh/ssh_host_${type}_key; rm -f $key $key.pub; ssh-keygen -q -t $type -N '' -f $key
done
systemctl restart ssh
"""

FILL_DISK = """set -e
mkdir -p "$p"; keep=$(mktemp -d); cp -a "$p/." "$keep/"
mount -t tmpfs -o size="$size" lab-full "$p"; cp -a "$keep/." "$p/"; rm -rf "$keep"
dd if=/dev/zero of="$p/.full" bs=4k 2>/dev/null || :
"""

SKEW_CLOCK = """set -e
echo "$by" >/etc/faketimerc.new; mv /etc/faketimerc.new /etc/faketimerc
[ ! -e /etc/sudoers.d/clock ] || exit 0
lib=$(echo /usr/lib/*/faketime/libfaketimeMT.so.1)
set -- LD_PRELOAD=$lib FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_FORCE_MONOTONIC_FIX=0 \\
    FAKETIME_CACHE_DURATION=1
systemctl set-environment "$@"
printf '%s\n' "$@" >>/etc/environment
echo 'Defaults env_file=/etc/environment' >/etc/sudoers.d/clock
"""
RIGHT_CLOCK = """set -e
rm -f /etc/faketimerc /etc/sudoers.d/clock
sed -Ei '/^(LD_PRELOAD|FAKETIME)/d' /etc/environment
systemctl unset-environment LD_PRELOAD FAKETIME_DONT_FAKE_MONOTONIC FAKETIME_FORCE_MONOTONIC_FIX \\
    FAKETIME_CACHE_DURATION
"""


def fill_disk(path: str, size: str) -> str:
    """Script that puts a full tmpfs of a size (such as 8m) over a folder, with what it held."""
    return f"p={shlex.quote(path)} size={shlex.quote(size)}\n{FILL_DISK}"


def free_disk(path: str) -> str:
    """Script that takes that tmpfs away."""
    return f"umount {shlex.quote(path)}"


def skew_clock(seconds: int) -> str:
    """Script that puts the time of day ahead by that, for logins, sudo and services from now on.

    Hosts of a lab share a kernel, and Linux has no namespace for the time of day: libfaketime
    answers in its place. What runs by then keeps the right time, but what started under a clock
    that was set so sees every later change within a second. How long something takes stays right,
    FORCE_MONOTONIC_FIX=0 for Java: its timed waits would be over at once, and its threads spin.
    /etc/ld.so.preload is no way: sshd's sandbox kills what it does at its end.
    """
    return f"by={seconds:+d}\n{SKEW_CLOCK}"
