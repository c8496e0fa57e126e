"""YAML text as nodes with positions: bounded in depth and aliases, every mistake located.

The nodes are built from the parser's events, so nothing in the file is ever constructed, a loop of
aliases cannot arise, and the cost of an alias is known before anybody walks it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runbook.inventory.problems import Mark, Problems, shown

MAX_DEPTH = 16  # the schema itself needs 7
MAX_NODES = 100_000  # with every alias written out
MAX_TEXT = 4_096  # characters of one value: as long as a path may be


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it is written; `plain` when it stands without quotes."""

    text: str
    plain: bool
    mark: Mark


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Node, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Entries:
    pairs: tuple[tuple[Scalar, Node], ...]
    mark: Mark


Node = Scalar | Items | Entries

_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,3})?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")


def value(scalar: Scalar) -> str | int | float | bool | None:
    """What the scalar means: YAML 1.2, and `yes`, `no`, `on`, `off` as YAML 1.1 has them.

    A number with a leading zero means one thing in YAML 1.1 and another in 1.2: ValueError.
    """
    text = scalar.text
    if not scalar.plain:
        return text
    if text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    if text in ("", "~") or text.lower() == "null":
        return None
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(text)
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


# --- YAML ---------------------------------------------------------------------------------------


class _Refused(Exception):
    """The document is not read any further."""

    def __init__(self, mark: Mark, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.mark, self.message, self.hint = mark, message, hint


def parse(text: str, problems: Problems) -> Node | None:
    """The one document in `text`; None, and a problem, where there is no such thing."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(yaml.parse(text, Loader=loader), problems).document()
    except yaml.MarkedYAMLError as error:
        spot = error.problem_mark or error.context_mark
        mark = _mark(spot) if spot else Mark()
        lines = text.splitlines()
        line = lines[mark.line - 1] if 0 < mark.line <= len(lines) else ""
        if "\t" in line[: len(line) - len(line.lstrip())] or line[mark.column - 1 :][:1] == "\t":
            problems.error(mark, "a tab stands where YAML wants spaces", "indent with spaces")
        else:
            problems.error(mark, f"this is not YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:
        problems.error(Mark(1, 1), f"this is not YAML: {shown(str(error), 120)}")
    except _Refused as refused:
        problems.error(refused.mark, refused.message, refused.hint)
    return None


def _mark(spot: Any) -> Mark:
    return Mark(spot.line + 1, spot.column + 1)


# Tags and aliases are not repeated in messages: either may be an unquoted password.
_QUOTE = "a text that starts with '!', '&' or '*' needs quotes"


class _Composer:
    """Events to nodes. Aliases share the node; their weight counts as if written out."""

    def __init__(self, events: Iterator[Any], problems: Problems) -> None:
        self._events = events
        self._problems = problems
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._open: set[str] = set()
        self._nodes = 0

    def document(self) -> Node | None:
        next(self._events)  # the start of the stream
        first = next(self._events)
        if not _is(first, "DocumentStart"):
            raise _Refused(Mark(1, 1), "the file is empty", "inventories/minimal.yaml is a start")
        root = self._node(next(self._events), 0)
        next(self._events)  # the end of the document
        after = next(self._events)
        if _is(after, "DocumentStart"):
            raise _Refused(
                _mark(after.start_mark),
                "a second document starts here",
                "one file holds one inventory: remove the '---'",
            )
        return root

    def _node(self, event: Any, depth: int) -> Node:
        mark = _mark(event.start_mark)
        if _is(event, "Alias"):
            return self._alias(event.anchor, mark)
        if depth > MAX_DEPTH:
            raise _Refused(mark, f"this is nested deeper than {MAX_DEPTH} levels")
        if event.tag is not None:
            raise _Refused(mark, "tags are not used here", _QUOTE)
        before = self._nodes
        self._count(1, mark)
        if event.anchor:
            self._open.add(event.anchor)
        node: Node
        if _is(event, "Scalar"):
            if len(event.value) > MAX_TEXT:
                raise _Refused(mark, f"a text of more than {MAX_TEXT:,} characters starts here")
            node = Scalar(event.value, not event.style, mark)
        elif _is(event, "SequenceStart"):
            node = Items(tuple(self._items(depth)), mark)
        else:
            node = self._mapping(mark, depth)
        if event.anchor:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = (node, self._nodes - before)
        return node

    def _items(self, depth: int) -> Iterator[Node]:
        while not _is(event := next(self._events), "SequenceEnd"):
            yield self._node(event, depth + 1)

    def _mapping(self, mark: Mark, depth: int) -> Entries:
        pairs: dict[str, tuple[Scalar, Node]] = {}
        while not _is(event := next(self._events), "MappingEnd"):
            key = self._node(event, depth + 1)
            child = self._node(next(self._events), depth + 1)
            here = _mark(event.start_mark)
            if not isinstance(key, Scalar):
                self._problems.error(here, "a key is a single word, not a list or a mapping")
            elif key.text in pairs:
                first = pairs[key.text][0].mark
                self._problems.error(
                    here,
                    f"the key {shown(key.text)} is given twice; "
                    f"first in line {first.line}, column {first.column}",
                    "keep one of the two",
                )
            else:
                pairs[key.text] = (key, child)
        return Entries(tuple(pairs.values()), mark)

    def _alias(self, name: str, mark: Mark) -> Node:
        if name in self._open:
            raise _Refused(mark, "this alias stands inside of what it names: a loop")
        if name not in self._anchors:
            raise _Refused(mark, "this alias has no anchor before it", _QUOTE)
        node, weight = self._anchors[name]
        self._count(weight, mark)
        return node

    def _count(self, nodes: int, mark: Mark) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _Refused(
                mark,
                f"the document holds more than {MAX_NODES:,} values once its aliases are expanded",
                "put long lists of agents into a file: agents: {file: agents.txt}",
            )


def _is(event: Any, kind: str) -> bool:
    return type(event).__name__ == f"{kind}Event"
