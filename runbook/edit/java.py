"""The heap of a JVM in the shell file that its service reads (JAVA_ARGS="-Xms2g -Xmx2g ...")."""

from __future__ import annotations

import re

from runbook.edit.lines import EditError, decode, encode, insert, split

_LINE = re.compile(rb"\s*(?:export\s+)?JAVA_ARGS=")
_UNITS = {"": 1 / 1024 / 1024, "k": 1 / 1024, "m": 1, "g": 1024}


def heap_get(data: bytes) -> int | None:
    """The largest heap (-Xmx) in MiB that JAVA_ARGS gives; None where it gives none."""
    found = None
    for line in split(data):
        if _LINE.match(line):
            sizes = re.findall(r"-Xmx(\d+)([kmg]?)", decode(line), re.IGNORECASE)
            found = sizes[-1] if sizes else None
    return int(int(found[0]) * _UNITS[found[1].lower()]) if found else None


def heap_set(data: bytes, mebibytes: int) -> bytes:
    """The file with this heap, from the start (-Xms) and at most (-Xmx); other arguments stay.

    Raises EditError where JAVA_ARGS is set by something else than a text in its line.
    """
    lines = split(data)
    at = [i for i, line in enumerate(lines) if _LINE.match(line)]
    new = [f"-Xms{mebibytes}m", f"-Xmx{mebibytes}m"]
    if not at:
        text = f'JAVA_ARGS="{" ".join(new)}"'
        return b"".join(insert(lines, len(lines), encode(text)))
    line = decode(lines[at[-1]])
    for option, value in zip(("-Xms", "-Xmx"), new, strict=True):
        if option in line:
            line = re.sub(rf"{option}\d+[kmgKMG]?", value, line)
        else:
            line, changed = re.subn(r'(JAVA_ARGS=["\']?)', rf"\g<1>{value} ", line, count=1)
            if not changed or not re.search(r"JAVA_ARGS=[\"']", line):
                raise EditError("JAVA_ARGS is not a quoted text", at[-1] + 1)
    lines[at[-1]] = encode(line)
    return b"".join(lines)
