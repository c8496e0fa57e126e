"""A world with nothing in it but a real `sh`: what a script runs there is told, and harms nobody.

Every command is a stand-in that writes down its words. Tools that read and write files do their
work too, in a folder that is the root of the file system, without any network and without rights
outside of it (unshare, chroot).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

TOOLS = (
    *("awk", "base64", "basename", "cat", "chmod", "chown", "cmp", "comm", "cp", "cut", "date"),
    *("dirname", "env", "expr", "find", "grep", "head", "id", "ln", "ls", "mkdir", "mktemp", "mv"),
    *("paste", "readlink", "rm", "rmdir", "sed", "seq", "sh", "sha256sum", "sort", "stat", "sync"),
    *("tail", "tar", "tee", "test", "timeout", "touch", "tr", "uniq", "wc", "xargs"),
)
STAND_IN = """\
#!/bin/sh
printf '%s\\0' $# "$0" "$@" >>"$CALLS"
[ ! -x "/tools/${0##*/}" ] || exec "/tools/${0##*/}" "$@"
"""
# What one script made is gone before the next one starts.
EACH = """\
PATH=/stubs n=0
while cd / && [ -e /asked/$n ]; do
    /tools/rm -rf /[!abdlostu]* /srv /tmp
    /tools/mkdir -p /etc /run /srv /tmp /var/lib
    cd /tmp
    CALLS=/told/$n /tools/timeout -s KILL 10 /bin/sh /asked/$n </dev/null >/dev/null 2>&1
    n=$((n + 1))
done
"""
ALONE = ("unshare", "-r", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--")
Call = Sequence[str]


class World:
    def __init__(self, root: Path) -> None:
        self._root = root
        for folder in ("asked", "bin", "dev", "stubs", "told", "tools"):
            (root / folder).mkdir(parents=True)
        (root / "dev" / "null").touch()
        (root / "stubs" / ".one").write_text(STAND_IN)
        (root / "stubs" / ".one").chmod(0o755)
        self._copy("/bin/sh", "bin/sh")
        for tool in TOOLS:
            self._copy(shutil.which(tool) or tool, f"tools/{tool}")

    def _copy(self, program: str, to: str) -> None:
        shutil.copy(os.path.realpath(program), self._root / to)
        needs = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"/\S+", needs):
            place = self._root / library.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                shutil.copy(os.path.realpath(library), place)

    def _stand_in(self, place: str) -> None:
        path = self._root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            path.symlink_to("/stubs/.one")

    def run(self, scripts: Iterable[str]) -> list[list[Call]]:
        """What each of the scripts ran: a program and its words each."""
        number = -1
        for number, script in enumerate(scripts):
            # Without a dot at its start: no name leads out of the world.
            for word in set(re.findall(r"(?<![\w./-])[A-Za-z_][\w.+-]{0,60}", script)):
                self._stand_in(f"stubs/{word}")
            for path in set(
                re.findall(r"(?<![\w.-])/(?:opt|usr)(?:/[\w-]+)*/s?bin/[\w-]+", script)
            ):
                self._stand_in(path.lstrip("/"))
            (self._root / "asked" / str(number)).write_bytes(script.encode("utf-8", "replace"))
        inside = 'mount --bind /dev/null "$0/dev/null" && exec chroot "$0" /bin/sh -c "$1"'
        subprocess.run([*ALONE, "sh", "-c", inside, self._root, EACH], check=True)
        told = (self._root / "told" / str(n) for n in range(number + 1))
        return [list(_calls(path.read_bytes())) if path.exists() else [] for path in told]


def _calls(told: bytes) -> Iterator[Call]:
    words = told.decode("utf-8", "surrogateescape").split("\0")
    at = 0
    while at < len(words) - 1:
        end = at + 2 + int(words[at])
        yield words[at + 1 : end]
        at = end
