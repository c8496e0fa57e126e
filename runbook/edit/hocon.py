"""HOCON settings of Puppet Server's conf.d, edited without touching anything else.

A setting has a dotted path, `certificate-authority.allow-subject-alt-names`; a part with a dot in
it is quoted as in a file. Only what the file's own text decides is answered: EditError, with the
line, for a file that is not HOCON and for a path that an include, a substitution or `+=` may set.
Of several fields with one path the last counts; blocks of one path are one block.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from runbook.edit.hocon_reader import Block, Document, Field, Kind, Path, Value
from runbook.edit.lines import EditError, encode, insert, remove, split

_NUMBER = r"-?\d*\.?\d*(?:[eE]-?\d+)?\Z"  # 1e3 is 1000 to a program, unless it is quoted
_SIMPLE = re.compile(rf"(?!.*//)(?!{_NUMBER})[\w./-]+", re.ASCII)
_SAFE = re.compile(r"true|false|0|[1-9]\d*", re.ASCII)
_REST_OF_LINE = re.compile(r"[^\S\n]*,?[^\S\n]*(?:(?:#|//)[^\n]*)?(?:\n|\Z)")
_COMMA = re.compile(r"[^\S\n]*,[^\S\n]*")
_COMMA_BEFORE = re.compile(r"[^\S\n]*,[^\S\n]*\Z")
_CONTROL = re.compile(r"[\x7f-\x9f]")  # JSON leaves these; Puppet's library reads none in quotes
_INDENT = re.compile(r"(?m)^[ \t]+(?=\S)")


def hocon_get(data: bytes, path: str) -> str | None:
    """What a program gets at the path: the text of a string, number or boolean, without quotes.

    The source of a list or block, comments included. None when it is not set, or null.
    """
    document = Document(data)
    field = _effective(document, _path(path))
    if field is None:
        return None
    if field.value.kind is Kind.TEXT:
        return field.value.text
    return document.text[field.value.start : field.value.end]


def hocon_list(data: bytes, path: str) -> tuple[str, ...] | None:
    """The texts of the list at the path (the source of an item that is not a text); None if unset.

    Raises EditError when there is something else than a list.
    """
    document = Document(data)
    field = _effective(document, _path(path))
    return None if field is None else _items(document, field)


def hocon_set(data: bytes, path: str, value: str | Sequence[str]) -> bytes:
    """The file in which a program gets *value*: a text, or a list of texts for a sequence.

    The same bytes if it does already. An existing value changes alone. A new field comes after the
    comment that shows it (`# key: value`), else after the last field of its block, written like
    it; a new block at the end of the file.
    """
    keys = _path(path)
    document = Document(data)
    field = _effective(document, keys)
    if field is None:
        if any(other.path[: len(keys)] == keys for other in document.fields):
            raise EditError(f"{path} is a block")
        for length in range(1, len(keys)):
            outer = _effective(document, keys[:length])
            if outer and outer.value.kind is not Kind.BLOCK:
                raise document.error(f"{'.'.join(keys[:length])} is not a block", outer.start)
        after = _added(document, keys, _written(value))
    elif field.value.kind is Kind.BLOCK:
        raise document.error(f"{path} is a block", field.start)
    elif _same(document, field, value):
        return data
    else:
        bare = not document.text.startswith(('"', "["), field.value.start)
        after = _replaced(document, field.value.start, field.value.end, _written(value, bare))
    return _checked(after, keys, value)


def hocon_list_add(data: bytes, path: str, item: str) -> bytes:
    """The file with *item* at the end of the list at the path; the same bytes if it is in it.

    A list that is not there is set to the item alone.
    """
    keys = _path(path)
    document = Document(data)
    field = _effective(document, keys)
    if field is None:
        return hocon_set(data, path, [item])
    present = _items(document, field)
    if item in present:
        return data
    return _checked(_appended(document, field.value, item), keys, [*present, item])


def hocon_list_add_block(data: bytes, path: str, block: str) -> bytes:
    """The file with *block*, the source of a `{...}`, at the end of the list at the path.

    Raises EditError where no such list is, or the file would not be read as that.
    """
    document = Document(data)
    field = _effective(document, _path(path))
    if field is None:
        raise EditError(f"{path} is not set")
    before = _items(document, field)
    items = field.value.items
    indent = _indent(document, items[-1].start if items else field.start)
    body = "\n".join(indent + line if line else line for line in block.splitlines())
    if items:
        at, inserted = items[-1].end, f",\n{body}"
    else:
        at, inserted = field.value.start + 1, f"\n{body}\n{indent}"
    after = _replaced(document, at, at, inserted)
    if hocon_list(after, path) != (*before, body.strip()):
        raise EditError(f"{path}: a block behind the others would not be read as that")
    return after


def hocon_delete(data: bytes, path: str) -> bytes:
    """The file without the field or block at the path; blocks around it and comments stay."""
    keys = _path(path)
    while True:
        document = Document(data)
        _effective(document, keys)
        gone = [field for field in document.fields if field.path[: len(keys)] == keys]
        if not gone:
            return data
        data = _removed(document, gone[0])


def _path(path: str) -> Path:
    """The parts of a dotted path, read as a key of a file is."""
    document = Document(encode(f"{path}: 0"))
    fields = document.fields
    if len(fields) != 1 or fields[0].value.start != len(document.text) - 1:
        raise EditError(f"{path!r} is no path of a setting")
    return fields[0].path


def _effective(document: Document, path: Path) -> Field | None:
    """The field that decides what is at the path."""
    for block in document.blocks:
        if block.include is not None and path[: len(block.path)] == block.path:
            raise document.error("an include that may set it", block.include)
    found = None
    for field in document.fields:
        if field.path[: len(path)] == path != field.path:
            if found and found.value.kind is not Kind.BLOCK:
                found = None  # it has become a block
        elif field.path != path[: len(field.path)]:
            continue
        elif field.value.kind is Kind.OPEN:
            raise document.error("not known without the rest of the configuration", field.start)
        elif field.path == path:
            found = field
        elif field.value.kind is not Kind.BLOCK:
            found = None  # what was in the block before is gone
    return found


def _items(document: Document, field: Field) -> tuple[str, ...]:
    if field.value.kind is not Kind.LIST:
        raise document.error("not a list", field.start)
    return tuple(
        document.text[item.start : item.end] if item.text is None else item.text
        for item in field.value.items
    )


def _same(document: Document, field: Field, value: str | Sequence[str]) -> bool:
    if isinstance(value, str):
        return field.value.kind is Kind.TEXT and field.value.text == value
    return field.value.kind is Kind.LIST and _items(document, field) == tuple(value)


def _checked(after: bytes, path: Path, value: str | Sequence[str]) -> bytes:
    document = Document(after)
    field = _effective(document, path)
    if field is None or not _same(document, field, value):
        raise EditError(f"{'.'.join(path)} = {value!r} would not be read as that")
    return after


def _written(value: str | Sequence[str], bare: bool = False) -> str:
    if not isinstance(value, str):
        return f"[{', '.join(_written(item) for item in value)}]"
    if _SAFE.fullmatch(value) or (bare and value != "null" and _SIMPLE.fullmatch(value)):
        return value
    return _CONTROL.sub(
        lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def _replaced(document: Document, start: int, end: int, text: str) -> bytes:
    return document.bom + encode(document.text[:start] + text + document.text[end:])


def _indent(document: Document, at: int) -> str:
    """The blanks that begin the line of this offset."""
    begin = document.text.rfind("\n", 0, at) + 1
    line = document.text[begin:at]
    return line[: len(line) - len(line.lstrip())]


def _line(document: Document, at: int) -> int:
    """The index of the line of this offset."""
    return document.text.count("\n", 0, at)


def _inserted(document: Document, text: str, index: int, bodies: Sequence[str]) -> bytes:
    lines = split(encode(text))
    return document.bom + b"".join(insert(lines, min(index, len(lines)), *map(encode, bodies)))


def _added(document: Document, path: Path, written: str) -> bytes:
    text = document.text
    around = [block for block in document.blocks if path[: len(block.path)] == block.path]
    block = max(around, key=lambda block: (len(block.path), block.start))
    keys = [_key(part) for part in path[len(block.path) :]]
    sign, step = _style(document, block)
    shown = _shown(block, keys[0]) if len(keys) == 1 else None
    inline = f"{'.'.join(keys)}{sign}{written}"
    blank: list[str] = []
    if shown:
        at, indent = shown.end(), shown[0][: -len(shown[1])]
    elif not block.braces and (len(keys) > 1 or not block.fields):
        at, indent = len(text), ""
        blank = (
            [""] if len(keys) > 1 and text.removesuffix("\n").rpartition("\n")[2].strip() else []
        )
    elif block.fields:
        last = block.fields[-1]
        at, indent = last.value.end, _indent(document, last.start)
        if not _REST_OF_LINE.match(text, at):
            return _replaced(document, at, at, f", {inline}")
    else:
        inside = text[block.start : block.end]
        if "\n" not in inside:
            return _replaced(document, block.start, block.start, " " * bool(inside) + inline)
        at = block.start + inside.rindex("\n")
        comment = block.comments[0] if block.comments else None
        indent = _indent(document, block.end) + step
        indent = comment[0][: -len(comment[1])] if comment else indent
    bodies = [*blank, *_nested(keys, sign, written, indent, step)]
    return _inserted(document, text, _line(document, at) + 1, bodies)


def _key(part: str) -> str:
    return part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part)


def _style(document: Document, block: Block) -> tuple[str, str]:
    """What stands between key and value, and one step of indentation, as this file has them."""
    known = [
        field.sign
        for field in [*document.fields, *block.fields]
        if field.value.kind in {Kind.TEXT, Kind.LIST} and "\n" not in field.sign
    ]
    step = min(_INDENT.findall(document.text), key=len, default="    ")
    return known[-1] if known else ": ", step


def _shown(block: Block, key: str) -> re.Match[str] | None:
    """The last line of the comment that shows the key with a value."""
    shows = re.compile(rf'(?:#+|//+)\s*"?{re.escape(key)}"?\s*[:=]')
    for index, first in enumerate(block.comments):
        if shows.match(first[1]):
            depth = 0
            for comment in block.comments[index:]:
                line = comment[1]
                depth += sum(map(line.count, "[{")) - sum(map(line.count, "]}"))
                if depth <= 0:
                    return comment
            return first
    return None


def _nested(keys: list[str], sign: str, written: str, indent: str, step: str) -> list[str]:
    key, *rest = keys
    if not rest:
        return [indent + key + sign + written]
    inside = _nested(rest, sign, written, indent + step, step)
    return [indent + key + sign + "{", *inside, indent + "}"]


def _appended(document: Document, value: Value, item: str) -> bytes:
    text = document.text
    if not value.items:
        inside = text[value.start + 1 : value.end - 1]
        if "\n" not in inside:
            return _replaced(document, value.start + 1, value.end - 1, _written(item))
        indent = _indent(document, value.end - 1) + _style(document, document.blocks[0])[1]
        index = _line(document, value.end - 1)
        return _inserted(document, text, index, [indent + _written(item)])
    last = value.items[-1]
    written = _written(item, bare=not text.startswith('"', last.start))
    if not _REST_OF_LINE.match(text, last.end):
        return _replaced(document, last.end, last.end, f", {written}")
    body = _indent(document, last.start) + written
    if _COMMA.match(text, last.end):
        body += ","
    elif len(value.items) == 1 or _COMMA.match(text, value.items[0].end):
        text = f"{text[: last.end]},{text[last.end :]}"
    return _inserted(document, text, _line(document, last.end) + 1, [body])


def _removed(document: Document, field: Field) -> bytes:
    text, start, end = document.text, field.start, field.value.end
    before = text[text.rfind("\n", 0, start) + 1 : start]
    if not before.strip() and _REST_OF_LINE.match(text, end):
        gone = set(range(_line(document, start), _line(document, end) + 1))
        return document.bom + b"".join(remove(split(encode(text)), gone))
    if comma := _COMMA_BEFORE.search(before):
        return _replaced(document, start - len(comma[0]), end, "")
    if comma := _COMMA.match(text, end):
        return _replaced(document, start, comma.end(), "")
    return _replaced(document, start - len(before) + len(before.rstrip()), end, "")
