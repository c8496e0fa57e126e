"""Kinds of values an inventory may hold; each reads a node and describes itself as JSON Schema.

`read` returns the value as plain data, or None where the node has another shape; then the problem
is on the page already. No shape has None as a value.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from runbook.inventory.document import Entries, Items, Node, Scalar, value
from runbook.inventory.problems import Hint, Mark, Problems, shown

Path = tuple[str | int, ...]
Fault = Callable[[str], tuple[str, str] | None]


class Page:
    """One inventory being read: its problems, and where each value stands."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.marks: dict[Path, Mark] = {}

    def mark(self, path: Path) -> Mark:
        """Where the value at `path` stands, or the nearest thing around it that is in the file."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(1, 1))

    def error(self, path: Path, message: str, hint: Hint = "") -> None:
        self.problems.error(self.mark(path), message, hint)

    def warning(self, path: Path, message: str, hint: Hint = "") -> None:
        self.problems.warning(self.mark(path), message, hint)

    def wrong(self, path: Path, shape: Shape, found: str) -> None:
        self.error(
            path,
            f"{dotted(path)} wants {shape.noun}, and this is {found}",
            f"such as {shape.example}",
        )


class Shape(Protocol):
    """What a value must look like."""

    @property
    def noun(self) -> str: ...  # "a port from 1 to 65535"

    @property
    def example(self) -> str: ...  # as it would stand in the file

    def read(self, node: Node, path: Path, page: Page) -> Any: ...

    def json(self, defs: dict[str, Any]) -> dict[str, Any]: ...


def dotted(path: Path) -> str:
    """`compile_masters[0].name`."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{shown(p)[1:-1]}" for p in path)
    return text.removeprefix(".") or "the inventory"


def describe(node: Node) -> str:
    """What stands there, in a few words."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Entries):
        return "a mapping"
    try:
        meant = value(node)
    except ValueError:
        return f"{node.text[:20]}, a number with a leading zero"
    if meant is None:
        return "empty"
    if isinstance(meant, bool):
        return f"{node.text}, which YAML reads as {str(meant).lower()}"
    if isinstance(meant, (int, float)):
        return f"the number {node.text[:20]}"
    return shown(meant)


def _take(node: Node) -> str | int | float | bool | None:
    """The scalar's value; None for everything that has no definite one."""
    try:
        return value(node) if isinstance(node, Scalar) else None
    except ValueError:
        return None


def _anchored(pattern: str) -> str:
    # `$` alone would let a final line break pass in Python, and not in an editor's engine.
    return rf"^(?:{pattern})$(?!\n)"


@dataclass(frozen=True, slots=True)
class Text:
    """A string that matches `pattern` from end to end; `fault` explains one that does not."""

    noun: str
    example: str
    pattern: str = r"[^\x00-\x1f\x7f]+"
    fault: Fault | None = None
    secret: bool = False  # never repeated in a message

    def read(self, node: Node, path: Path, page: Page) -> str | None:
        page.marks[path] = node.mark
        text = _take(node)
        if isinstance(text, str):
            if re.search(_anchored(self.pattern), text):
                return text
            if self.secret:
                page.wrong(path, self, "not one")
            elif self.fault and (why := self.fault(text)):
                page.error(path, f"{dotted(path)}: {shown(text)} {why[0]}", why[1])
            else:
                page.wrong(path, self, shown(text))
        elif self.secret:
            page.wrong(path, self, "something else")
        elif isinstance(node, Scalar) and node.text not in ("", "~"):
            page.error(
                path,
                f"{dotted(path)} wants {self.noun}, and this is {describe(node)}",
                f"if it is meant as text, quote it: '{node.text[:20]}'",
            )
        else:
            page.wrong(path, self, describe(node))
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        return {"type": "string", "pattern": _anchored(self.pattern)}


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from `low` to `high`."""

    noun: str
    example: str
    low: int
    high: int

    def read(self, node: Node, path: Path, page: Page) -> int | None:
        page.marks[path] = node.mark
        number = _take(node)
        whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
        if whole and not isinstance(number, bool) and self.low <= float(number or 0) <= self.high:
            return int(number or 0)
        page.wrong(path, self, describe(node))
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Measure:
    """A number, not negative, or a text with a unit; `convert` makes one value of both."""

    noun: str
    example: str
    pattern: str
    convert: Callable[[str], Any]

    def read(self, node: Node, path: Path, page: Page) -> Any:
        page.marks[path] = node.mark
        meant = _take(node)
        if isinstance(meant, (int, float)) and not isinstance(meant, bool):
            if 0 <= meant <= 10**9 and float(meant).is_integer():
                return self.convert(str(int(meant)))
        elif isinstance(meant, str) and re.search(_anchored(self.pattern), meant):
            return self.convert(meant)
        page.wrong(path, self, describe(node))
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 0, "maximum": 10**9}
        return {"anyOf": [number, {"type": "string", "pattern": _anchored(self.pattern)}]}


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    noun: str = "true or false"
    example: str = "true"

    def read(self, node: Node, path: Path, page: Page) -> bool | None:
        page.marks[path] = node.mark
        meant = _take(node)
        if isinstance(meant, bool):
            return meant
        page.wrong(path, self, describe(node))
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def noun(self) -> str:
        return f"one of {', '.join(self.words)}"

    @property
    def example(self) -> str:
        return self.words[0]

    def read(self, node: Node, path: Path, page: Page) -> str | None:
        page.marks[path] = node.mark
        word = _take(node)
        if isinstance(word, str) and word in self.words:
            return word
        hint: Hint = nearest(word, self.words) if isinstance(word, str) else ""
        found = describe(node)
        page.error(path, f"{dotted(path)} wants {self.noun}, and this is {found}", hint)
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}


HOSTS_ALIKE = 0.8


def nearest(
    word: str,
    known: Iterable[str],
    otherwise: str = "",
    *,
    always: bool = False,
    cutoff: float = 0.6,
) -> Callable[[], str]:
    """The hint that names the nearest of the first 100 `known`, or all of them with `always`.

    `cutoff` is how alike they must be, from 0 to 1; names of hosts share a domain, so they want
    more than words do.
    """

    def hint() -> str:
        names = list(itertools.islice(known, 100))
        lower = word[:64].lower()
        for spelling in dict.fromkeys((lower.replace("-", "_"), lower)):
            if close := difflib.get_close_matches(spelling, names, 1, cutoff):
                return f"did you mean '{close[0]}'?"
        return f"it has {', '.join(names)}" if always else otherwise

    return hint
