"""Pure edits of the files a runbook changes; what is not edited stays byte-identical.

INI and HOCON settings are re-exported; here are the files that are lists of lines, digests and
unified diffs.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from itertools import islice

from runbook.edit.hocon import (
    hocon_delete,
    hocon_get,
    hocon_list,
    hocon_list_add,
    hocon_list_add_block,
    hocon_set,
)
from runbook.edit.ini import Setting, ini_delete, ini_get, ini_set, ini_settings
from runbook.edit.java import heap_get, heap_set
from runbook.edit.lines import EditError, decode, encode, end_of, insert, remove, split
from runbook.edit.routes import routes_set

__all__ = [
    "EditError",
    "Setting",
    "allowlist_add",
    "allowlist_names",
    "allowlist_remove",
    "diff",
    "heap_get",
    "heap_set",
    "hocon_delete",
    "hocon_get",
    "hocon_list",
    "hocon_list_add",
    "hocon_list_add_block",
    "hocon_set",
    "ini_delete",
    "ini_get",
    "ini_set",
    "ini_settings",
    "reverse",
    "routes_set",
    "service_disable",
    "service_enable",
    "services",
    "sha256",
]


def sha256(data: bytes) -> str:
    """The SHA-256 of the bytes in lower-case hex, as sha256sum prints it."""
    return hashlib.sha256(data).hexdigest()


def services(data: bytes) -> tuple[str, ...]:
    """The services a Trapperkeeper bootstrap file starts, in its order (bootstrap.clj)."""
    return tuple(service for line in split(data) if (service := _service(line)))


def service_enable(data: bytes, service: str) -> bytes:
    """The bootstrap file that starts this service: its commented-out line restored, or a new one.

    The same bytes if it starts it already. Raises EditError for what cannot be a service.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", service, re.ASCII):
        raise EditError(f"{service!r} is no service: namespace/service")
    if service in services(data):
        return data
    lines = split(data)
    for index, line in enumerate(lines):
        commented = re.match(rb"(\s*)[#;]+[ \t]*(?=\S)", line)
        if commented and _service(line[commented.end() :]) == service:
            lines[index] = commented[1] + line[commented.end() :]
            return b"".join(lines)
    return b"".join(insert(lines, len(lines), service.encode()))


def service_disable(data: bytes, service: str) -> bytes:
    """The bootstrap file with every line that starts this service commented out."""
    return b"".join(b"#" + line if _service(line) == service else line for line in split(data))


def _service(line: bytes) -> str:
    return decode(re.sub(rb"[#;].*", b"", line, flags=re.DOTALL).strip())


def allowlist_names(data: bytes) -> tuple[str, ...]:
    """The names of a file with one name a line, blanks around them included as PuppetDB does."""
    return tuple(decode(line.removesuffix(end_of(line))) for line in split(data))


def allowlist_add(data: bytes, name: str) -> bytes:
    """The file with *name* on a line of its own at its end; the same bytes if it has one.

    Raises EditError for a name with blanks in it, and for none.
    """
    if not re.fullmatch(r"\S+", name):
        raise EditError(f"{name!r} is no name")
    if name in allowlist_names(data):
        return data
    lines = split(data)
    return b"".join(insert(lines, len(lines), encode(name)))


def allowlist_remove(data: bytes, name: str) -> bytes:
    """The file without the lines of exactly this name."""
    gone = {index for index, found in enumerate(allowlist_names(data)) if found == name}
    return b"".join(remove(split(data), gone))


def diff(path: str, before: bytes | None, after: bytes | None, *, limit: int = 400) -> str:
    """The change as a unified diff to look at, at most *limit* lines long; empty for no change.

    None is a file that is not there. Undecodable bytes and every character that does not print
    are escaped (a line that ends in CR LF shows `\\r`), so that no two texts look alike.
    """
    if before == after:
        return ""
    name = path.lstrip("/")
    lines = _unified(
        "/dev/null" if before is None else f"a/{name}",
        "/dev/null" if after is None else f"b/{name}",
        split(before or b""),
        split(after or b""),
    )
    shown = list(islice(lines, limit))
    more = sum(1 for _ in lines)
    if more:
        shown.append(f"… {more} more lines")
    return "".join(f"{line}\n" for line in shown)


def reverse(shown: str) -> str:
    """What the way back of a change changes: `diff` of the same files the other way round."""
    lines = shown.splitlines()
    head: list[str] = []
    if len(lines) > 1 and lines[0].startswith("--- ") and lines[1].startswith("+++ "):
        old, new = lines[0][4:], lines[1][4:]
        head = [f"--- {re.sub('^b/', 'a/', new)}", f"+++ {re.sub('^a/', 'b/', old)}"]
    gone: list[str] = []  # of the change at hand: what comes back goes after it
    come: list[str] = []
    body: list[str] = []
    last = body
    for line in lines[len(head) :]:
        match line[:1]:
            case "-":
                (last := come).append(f"+{line[1:]}")
            case "+":
                (last := gone).append(f"-{line[1:]}")
            case "\\":  # no newline at the end of the line before
                last.append(line)
            case _:
                body += [*gone, *come, re.sub(r"^@@ -(\S+) \+(\S+) @@", r"@@ -\2 +\1 @@", line)]
                gone, come, last = [], [], body
    return "".join(f"{line}\n" for line in [*head, *body, *gone, *come])


_WIDTH = 1000  # characters of a line that are shown


def _unified(old: str, new: str, before: list[bytes], after: list[bytes]) -> Iterator[str]:
    yield f"--- {_visible(old.encode())}"
    yield f"+++ {_visible(new.encode())}"
    for line in islice(difflib.diff_bytes(difflib.unified_diff, before, after), 2, None):
        yield _visible(line.removesuffix(b"\n"))
        if not line.endswith(b"\n"):
            yield "\\ No newline at end of file"


def _visible(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    shown = "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text[:_WIDTH]
    )
    return shown if len(text) <= _WIDTH else f"{shown} … {len(text) - _WIDTH} more characters"
