"""A host's disk: overlayfs layers; the uppermost holds exactly what happened on that host."""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook.lab.narration import LabError

Mark = tuple[int, ...]
"""One version of one file: inode, mode, owner, group, size, times of content and status, device."""

LOGIN_TRACES = (
    "var/log/wtmp*",
    "var/log/lastlog*",
    "var/log/btmp*",
    "var/log/wtmp.db",
    "var/lib/lastlog/*",
    "var/lib/sudo/*",
    "home/*/.sudo_as_admin_successful",
)
"""Paths that a mere login or sudo writes; no change that anyone made."""


@dataclass(frozen=True)
class Disk:
    """The layers of one host, in `lowers` the uppermost first, and where they are mounted."""

    lowers: tuple[Path, ...]
    upper: Path
    work: Path
    root: Path

    def mount(self) -> None:
        """Mount the layers; the folders for the writable one are made as needed."""
        layers = [*self.lowers, self.upper, self.work]
        awkward = [str(path) for path in layers if set(str(path)) & set(":,\\")]
        if awkward:
            raise LabError(
                f"overlayfs takes no path with ':' or ',': {awkward[0]}",
                "choose another XDG_STATE_HOME",
            )
        for path in (self.upper, self.work, self.root):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o755)  # the mode of `upper` becomes that of / in the host
        # Plain copies only: a layer with redirects could not be read on its own.
        options = ",".join(
            (
                f"lowerdir={':'.join(map(str, self.lowers))}",
                f"upperdir={self.upper}",
                f"workdir={self.work}",
                "index=off,redirect_dir=off,metacopy=off,xino=off",
            )
        )
        done = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(
                f"cannot mount the disk at {self.root}: {done.stderr.strip()}",
                "put XDG_STATE_HOME on a file system such as ext4 or xfs (not another overlay)",
            )

    def unmount(self) -> None:
        """Unmount the layers, and whatever was left mounted below them."""
        unmount_below(self.root)

    def clear(self) -> None:
        """Throw away everything written since the host was made; it must not be mounted."""
        for path in (self.upper, self.work):
            remove_tree(path)

    def marks(self) -> dict[str, Mark]:
        """One mark for each file of the writable layer."""
        return {path: _mark(info) for path, info in _walk(self.upper)}

    def changed_since(
        self, before: Mapping[str, Mark], ignore: Sequence[str] = LOGIN_TRACES
    ) -> list[str]:
        """Absolute paths, sorted, that were written, removed or re-moded since `before`.

        A folder is listed when it is new, or its owner or mode is not what it was: overlayfs copies
        the parents of each changed file, and those copies are no change of the folder.
        """
        now = dict(_walk(self.upper))
        changed = {path for path in before if path not in now}
        for path, info in now.items():
            if stat.S_ISDIR(info.st_mode):
                if (info.st_mode, info.st_uid, info.st_gid) != self._folder_before(path, before):
                    changed.add(path)
            elif before.get(path) != _mark(info):
                changed.add(path)
        return sorted(
            f"/{path}"
            for path in changed
            if not any(fnmatch.fnmatch(path, glob) for glob in ignore)
        )

    def _folder_before(self, path: str, before: Mapping[str, Mark]) -> tuple[int, int, int] | None:
        if path in before:
            _, mode, uid, gid, *_rest = before[path]
            return mode, uid, gid
        for lower in self.lowers:
            try:
                info = os.lstat(lower / path)
            except OSError:
                continue
            return info.st_mode, info.st_uid, info.st_gid
        return None


def copy_layer(source: Path, target: Path) -> None:
    """Put a copy of a layer at `target`, in the place of what was there.

    With attributes and devices: overlayfs keeps in them which files were removed.
    """
    remove_tree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def mounts_below(path: Path) -> list[Path]:
    """Mount points at or below `path`, innermost first."""
    prefix = str(path)
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == prefix or point.startswith(prefix + "/"):
            found.append(Path(point))
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def unmount_below(path: Path) -> None:
    """Unmount everything at or below `path`; what is still in use is detached."""
    for point in mounts_below(path):
        if subprocess.run(["umount", str(point)], capture_output=True, check=False).returncode != 0:
            subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)


def remove_tree(path: Path) -> None:
    """Remove a folder. What is mounted in it is unmounted first, never emptied."""
    if path.is_symlink() or not path.exists():
        return
    unmount_below(path)
    if mounts_below(path):
        raise LabError(f"something is still mounted below {path}", f"umount -R {path}")
    shutil.rmtree(path)


def _walk(top: Path, under: str = "") -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(top / under), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            info = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # a running host removes files while one looks
        path = f"{under}/{entry.name}" if under else entry.name
        yield path, info
        if stat.S_ISDIR(info.st_mode):
            yield from _walk(top, path)


def _mark(info: os.stat_result) -> Mark:
    return (
        info.st_ino,
        info.st_mode,
        info.st_uid,
        info.st_gid,
        info.st_size,
        info.st_mtime_ns,
        info.st_ctime_ns,
        info.st_rdev,
    )
