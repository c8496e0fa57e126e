"""routes.yaml of Puppet: which terminus an indirection has on the server.

Only its plain form is edited, mappings in three levels with one key a line; everything else is
left alone with an EditError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runbook.edit.lines import EditError, decode, encode, end_of, insert, split

_ENTRY = re.compile(r"( *)([A-Za-z_]\w*|'\w+'|\"\w+\"):(?:[ ]+(\S.*?))?[ ]*(#.*)?")


@dataclass(frozen=True, slots=True)
class _Entry:
    index: int
    indent: int
    key: str
    value: str


def routes_set(
    data: bytes, sections: Sequence[str], indirection: str, wanted: Mapping[str, str]
) -> bytes:
    """The file with `wanted` for one indirection, in the first of `sections` that it has.

    Where it has none the last one is added. `terminus` is set; of other keys a value that is there
    stays. EditError for a form that is not edited.
    """
    lines = split(data)
    entries = _entries(lines)
    top = {e.key: e for e in entries if e.indent == 0}
    section = next((top[name] for name in sections if name in top), None)
    if section is None:
        head = [] if lines else [b"---"]
        new = [*head, *_block(sections[-1], indirection, wanted, 2)]
        return b"".join(insert(lines, len(lines), *new) if lines else [x + b"\n" for x in new])
    inside = _children(section, entries)
    step = inside[0].indent if inside else 2
    own = next((e for e in inside if e.key == indirection and e.indent == step), None)
    if own is None:
        body = _block("", indirection, wanted, step)
        return b"".join(insert(lines, section.index + 1, *body))
    given = {e.key: e for e in _children(own, entries)}
    at = max((e.index for e in given.values()), default=own.index) + 1
    indent = next((e.indent for e in given.values()), 2 * step)
    missing = [f"{' ' * indent}{k}: {v}" for k, v in wanted.items() if k not in given]
    terminus = given.get("terminus")
    if terminus and terminus.value != wanted["terminus"]:
        line = lines[terminus.index]
        text = decode(line.removesuffix(end_of(line)))
        changed = re.sub(r":[ ]*[^#]*?(?=[ ]*(#.*)?\Z)", f": {wanted['terminus']}", text, count=1)
        lines[terminus.index] = encode(changed) + end_of(line)
    return b"".join(insert(lines, at, *map(encode, missing)) if missing else lines)


def _block(section: str, indirection: str, wanted: Mapping[str, str], step: int) -> list[bytes]:
    lines = [f"{section}:"] if section else []
    lines.append(f"{' ' * step}{indirection}:")
    lines += [f"{' ' * 2 * step}{key}: {value}" for key, value in wanted.items()]
    return [encode(line) for line in lines]


def _entries(lines: Sequence[bytes]) -> list[_Entry]:
    found = []
    for index, line in enumerate(lines):
        text = decode(line.removesuffix(end_of(line))).rstrip()
        if not text or text.lstrip().startswith("#") or text == "---":
            continue
        match = _ENTRY.fullmatch(text)
        if not match or (match[3] or "")[:1] in ("{", "[", "&", "*", "|", ">", "!"):
            raise EditError("a form of YAML that is not edited here", index + 1)
        found.append(_Entry(index, len(match[1]), match[2].strip("'\""), match[3] or ""))
    return found


def _children(of: _Entry, entries: Sequence[_Entry]) -> list[_Entry]:
    """What stands below an entry; EditError where it has a value instead."""
    if of.value:
        raise EditError(f"{of.key} has a value, not a mapping", of.index + 1)
    found = []
    for entry in entries:
        if entry.index <= of.index:
            continue
        if entry.indent <= of.indent:
            break
        found.append(entry)
    return found
