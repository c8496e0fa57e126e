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


def fill_disk(path: str, size: str) -> str:
    """Script that puts a full tmpfs of a size (such as 8m) over a folder, with what it held."""
    return f"p={shlex.quote(path)} size={shlex.quote(size)}\n{FILL_DISK}"


def free_disk(path: str) -> str:
    """Script that takes that tmpfs away."""
    return f"umount {shlex.quote(path)}"
