"""A HOCON file as blocks, fields and values with their places in the text.

The grammar is that of the HOCON specification (lightbend/config, HOCON.md) as far as places need
it: nothing is resolved, merged or included; what cannot be known from the text alone is marked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import Enum, auto

from runbook.edit.lines import BOM, EditError, decode

_BLANKS = re.compile(r"(?:[^\S\n]|\ufeff)*")
_GAP = re.compile(r"(?:\s|\ufeff|#[^\n]*|//[^\n]*)*")
_COMMENT = re.compile(r"(?m)^[^\S\n]*((?:#|//)[^\n]*)")
_LONG = re.compile(r'"""(.*?)"""(?!")', re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_BARE = re.compile(r'(?:(?!//)[^$"{}\[\]:=,+#`^?!@*&\\\s\ufeff])+')
_SUBSTITUTION = re.compile(r"\$\{[^}\n]*\}")
_INCLUDE = re.compile(r'include[^\S\n]+(?:[a-z]+\([^\S\n]*)*"(?:[^"\\\n]|\\.)*"(?:[^\S\n]*\))*')
_VALUE_END = re.compile(r"[\n,}\]#]|//|\Z")
_SIGN = re.compile(r"\+=|[:=]")
_DOUBTFUL = re.compile(r"[\x1c-\x1f\x85]")  # blanks to some readers of HOCON, and not to others
_DEPTH = 64  # blocks and lists inside one another; configuration has a handful

Path = tuple[str, ...]


class Kind(Enum):
    TEXT = auto()  # a string, number, boolean or null
    LIST = auto()
    BLOCK = auto()
    OPEN = auto()  # substitutions, or several blocks or lists in a row: not known from the text


@dataclass(frozen=True)
class Value:
    """A value between two offsets of the text; *text* is what a program gets, None for null."""

    kind: Kind
    start: int
    end: int
    text: str | None = None
    items: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Field:
    """`key: value` at its full path; *sign* is what stands between them."""

    path: Path
    start: int
    sign: str
    value: Value


@dataclass
class Block:
    """The fields between two braces, or of the whole file; *comments* fill their lines alone."""

    path: Path
    start: int
    end: int = -1
    braces: bool = True
    fields: list[Field] = field(default_factory=list)
    comments: list[re.Match[str]] = field(default_factory=list)
    include: int | None = None  # where it includes another file


class Document:
    """A file with every block and field that has a path, in the order of the file.

    Raises EditError with its line for what is not HOCON.
    """

    def __init__(self, data: bytes) -> None:
        self.bom = BOM if data.startswith(BOM) else b""
        self.text = decode(data.removeprefix(BOM))
        self.blocks: list[Block] = []
        self.fields: list[Field] = []
        self._at = 0
        self._depth = 0
        if doubtful := _DOUBTFUL.search(self.text):
            raise self.error(f"the control character {doubtful[0]!r}", doubtful.start())
        root = Block((), 0)
        root.braces = self._past_gap() == "{"
        root.start = self._at = self._at + 1 if root.braces else 0
        self._block(root, ())
        if self._past_gap():
            raise self.error("more behind the end of the outermost block", self._at)

    def error(self, reason: str, at: int) -> EditError:
        """An EditError about the line of this offset."""
        return EditError(reason, self.text.count("\n", 0, at) + 1)

    def _past(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self._at)
        if match:
            self._at = match.end()
        return match

    def _past_gap(self, block: Block | None = None) -> str:
        """Pass blanks, line ends and comments; the character behind them, empty at the end."""
        start = self._at
        self._past(_GAP)
        if block:
            block.comments += _COMMENT.finditer(self.text, start, self._at)
        return self.text[self._at : self._at + 1]

    def _block(self, block: Block, path: Path | None) -> None:
        """Read up to the closing brace; *path* is None inside a list, where nothing has a path."""
        if path is not None:
            self.blocks.append(block)
        while (here := self._past_gap(block)) not in {"", "}"}:
            if here == ",":
                self._at += 1
            elif include := self._past(_INCLUDE):
                block.include = include.start()
            else:
                self._field(block, path)
        if block.braces and not here:
            raise self.error("a block that is never closed", block.start)
        if here and not block.braces:
            raise self.error("a } that closes nothing", self._at)
        block.end = self._at
        self._at += block.braces

    def _field(self, block: Block, path: Path | None) -> None:
        start = self._at
        key = self._key()
        after = self._at
        here = self._past_gap()
        sign = self._past(_SIGN)
        if sign:
            self._past_gap()
        elif here != "{":
            raise self.error("a key without a value", start)
        between = self.text[after : self._at]
        full = None if path is None else path + key
        index = len(self.fields)
        value = self._value(full)
        if sign and sign[0] == "+=":
            value = Value(Kind.OPEN, value.start, value.end)
        if full is not None:
            found = Field(full, start, between, value)
            block.fields.append(found)
            self.fields.insert(index, found)  # before the fields inside it

    def _key(self) -> Path:
        start = end = self._at
        keys, current, named = [], "", False
        while self._past(_BLANKS):
            between = self.text[end : self._at]
            if quoted := self._past(_QUOTED):
                current += between + self._unescaped(quoted)
                named = True
            elif bare := self._past(_BARE):
                first, *rest = (between + bare[0]).split(".")
                current += first
                for piece in rest:
                    if not current and not named:
                        raise self.error("a key with an empty part", start)
                    keys.append(current)
                    current, named = piece, False
            else:
                break
            end = self._at
        if not current and not named:
            raise self.error("a key was expected", start)
        self._at = end
        return (*keys, current)

    def _value(self, path: Path | None) -> Value:
        self._depth += 1
        if self._depth > _DEPTH:
            raise self.error("blocks or lists too deep for a configuration", self._at)
        parts: list[Value] = []
        text, end = "", self._at
        while self._past(_BLANKS) and not _VALUE_END.match(self.text, self._at):
            between = self.text[end : self._at] if parts else ""
            parts.append(self._part(path))
            text += between + ("null" if parts[-1].text is None else parts[-1].text)
            end = self._at
        if not parts:
            raise self.error("a value was expected", self._at)
        self._depth -= 1
        self._at = end
        if len(parts) == 1:
            return parts[0]
        known = all(part.kind is Kind.TEXT for part in parts)
        return Value(Kind.TEXT if known else Kind.OPEN, parts[0].start, end, text)

    def _part(self, path: Path | None) -> Value:
        start = self._at
        here = self.text[start]
        if here == "{":
            self._at += 1
            self._block(Block(path or (), self._at), path)
            return Value(Kind.BLOCK, start, self._at)
        if here == "[":
            items = self._items()
            return Value(Kind.LIST, start, self._at, items=items)
        if self._past(_SUBSTITUTION):
            return Value(Kind.OPEN, start, self._at)
        if self.text.startswith('"""', start):
            if long := self._past(_LONG):
                return Value(Kind.TEXT, start, self._at, long[1])
        elif quoted := self._past(_QUOTED):
            return Value(Kind.TEXT, start, self._at, self._unescaped(quoted))
        elif bare := self._past(_BARE):
            return Value(Kind.TEXT, start, self._at, None if bare[0] == "null" else bare[0])
        raise self.error(f"{here} cannot stand here, or is never closed", start)

    def _items(self) -> tuple[Value, ...]:
        start = self._at
        self._at += 1
        items: list[Value] = []
        while (here := self._past_gap()) != "]":
            if not here:
                raise self.error("a list that is never closed", start)
            if here == ",":
                self._at += 1
            else:
                items.append(self._value(None))
        self._at += 1
        return tuple(items)

    def _unescaped(self, quoted: re.Match[str]) -> str:
        try:
            return str(json.loads(quoted[0]))
        except ValueError:
            raise self.error(
                "a string with an unknown escape or a control character", quoted.start()
            ) from None
