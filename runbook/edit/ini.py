"""INI settings as Puppet and PuppetDB read them, edited without touching anything else.

The rules are those of Puppet's `lib/puppet/settings/ini_file.rb`, `config_file.rb` and
`value_translator.rb`: no continuation lines, no trailing comments, settings above the first header
belong to `main`, sections of one name are one section, and of duplicate settings the first counts.
Wider than Puppet, for the files of PuppetDB (ini4j): hyphens and dots in names, `:` for `=`, `;`
comments. Puppet refuses a file with these, or with a byte order mark. Files are bytes; names and
values are text, with undecodable bytes as lone surrogates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from runbook.edit.lines import BOM, EditError, decode, encode, insert, remove, split

_HEADER = re.compile(rb"\s*\[([\w.-]+)\]\s*")
_SETTING = re.compile(
    rb"(?P<indent>\s*)(?P<key>[\w.-]+)(?P<gap>[^\S\n]*)(?P<sign>[=:][^\S\r\n]*)"
    rb"(?P<value>(?:.*\S)?)(?P<rest>\s*)",
    re.DOTALL,
)
_OWNERSHIP = r"\{\s*(?:owner|group|mode)\s*=\s*\w+\s*(?:,\s*(?:owner|group|mode)\s*=\s*\w+\s*)*\}"
_QUOTES = re.compile(r"""\A["']|["']\Z""")
_BLANKS = " \t\r\n\f\v"


@dataclass(frozen=True)
class Setting:
    """One `key = value` of a file: the value as Puppet takes it, and its line, from 1."""

    section: str
    key: str
    value: str
    line: int


def ini_settings(data: bytes) -> tuple[Setting, ...]:
    """Every setting of the file in its order, duplicates included.

    Raises EditError for a header that no reader understands, as what follows has no section.
    """
    return tuple(
        Setting(section, decode(match["key"]), _taken(match["value"]), index + 1)
        for index, section, match in _scan(split(data.removeprefix(BOM)))
        if match
    )


def ini_get(data: bytes, section: str, key: str) -> str | None:
    """The value Puppet takes, without quotes and `{ owner = x }`, not interpolated.

    None when the section does not set it. Raises EditError as `ini_settings` does.
    """
    settings = ini_settings(data)
    return next((s.value for s in settings if (s.section, s.key) == (section, key)), None)


def ini_set(data: bytes, section: str, key: str, value: str) -> bytes:
    """The file in which every reader takes *value* for the key; the same bytes if they already do.

    An existing setting changes in its value alone, a `{ mode = 0640 }` behind it stays. Duplicates
    are all set: Puppet takes the first, `puppetserver ca` the last, PuppetDB refuses them. A new
    setting comes after the last one of its section, written like it; a new section at the end.
    Raises EditError when the value would not be read back as it is.
    """
    bom, lines = _opened(data)
    duplicates = _settings(lines, section, key)
    for index, match in duplicates.items():
        lines[index] = _replaced(match, value)
    if not duplicates:
        lines = _added(lines, section, key, value)
    result = bom + b"".join(lines)
    taken = ini_get(result, section, key)
    if taken != value:
        raise EditError(f"{key} = {value!r} in [{section}] would be read as {taken!r}")
    return result


def ini_delete(data: bytes, section: str, key: str) -> bytes:
    """The file without the setting, duplicates included; its section's header and comments stay."""
    bom, lines = _opened(data)
    return bom + b"".join(remove(lines, set(_settings(lines, section, key))))


def _opened(data: bytes) -> tuple[bytes, list[bytes]]:
    bom = BOM if data.startswith(BOM) else b""
    return bom, split(data.removeprefix(BOM))


def _scan(lines: list[bytes]) -> Iterator[tuple[int, str, re.Match[bytes] | None]]:
    """The index and section of each setting with its match, and of each header with None."""
    section = "main"
    for index, line in enumerate(lines):
        if header := _HEADER.fullmatch(line):
            section = decode(header[1])
            yield index, section, None
        elif match := _SETTING.fullmatch(line):
            yield index, section, match
        elif line.lstrip().startswith(b"["):
            raise EditError("a section header that cannot be read", index + 1)


def _settings(lines: list[bytes], section: str, key: str) -> dict[int, re.Match[bytes]]:
    return {
        index: match
        for index, found, match in _scan(lines)
        if match and (found, decode(match["key"])) == (section, key)
    }


def _taken(raw: bytes) -> str:
    text = _QUOTES.sub("", decode(raw)).rstrip(_BLANKS)
    return re.sub(_OWNERSHIP, "", text, count=1).rstrip(_BLANKS)


def _replaced(match: re.Match[bytes], value: str) -> bytes:
    if _taken(match["value"]) == value:
        return match[0]
    ownership = re.search(rf"(?<!\s)\s*{_OWNERSHIP}\Z", decode(match["value"]))
    kept = encode(ownership[0]) if ownership else b""
    return match.string[: match.start("value")] + encode(value) + kept + match["rest"]


def _added(lines: list[bytes], section: str, key: str, value: str) -> list[bytes]:
    scanned = list(_scan(lines))
    inside = [(index, match) for index, found, match in scanned if found == section]
    written = [match for _, match in inside if match] or [match for *_, match in scanned if match]
    body = _like(written[-1] if written else None, key, value)
    if inside:
        last = max((index for index, match in inside if match), default=inside[0][0])
        return insert(lines, last + 1, body)
    blank = [b""] if lines and lines[-1].strip() else []
    return insert(lines, len(lines), *blank, encode(f"[{section}]"), body)


def _like(model: re.Match[bytes] | None, key: str, value: str) -> bytes:
    if model is None:
        return encode(f"{key} = {value}")
    indent = model["indent"]
    gap, column = len(model["gap"]), len(model["key"]) + len(model["gap"])
    if gap > 1:  # the signs stand in a column
        gap = max(1, column - len(key))
    sign = model["sign"] if model["value"] else model["sign"][:1] + b" " * min(gap, 1)
    return indent + encode(key) + b" " * gap + sign + encode(value)
