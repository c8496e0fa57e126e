"""Shapes made of shapes: lists, mappings with known keys, and secrets by reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runbook.inventory.document import Entries, Items, Node, Scalar
from runbook.inventory.problems import Hint, Mark, shown
from runbook.inventory.shapes import Measure, Page, Path, Shape, Text, describe, dotted, nearest
from runbook.model import SecretRef

_MERGE = "merge keys are not read; groups: and the top-level ssh: share settings"


@dataclass(frozen=True, slots=True)
class Many:
    """A list; `single` lets one item stand without its list. Items that are wrong come as None."""

    item: Shape
    plural: str  # "host names"
    single: bool = False
    most: int = 0  # 0: no limit of its own

    @property
    def noun(self) -> str:
        limit = f" (at most {self.most})" if self.most else ""
        if self.single:
            return f"{self.item.noun}, or a list of them{limit}"
        return f"a list of {self.plural}{limit}"

    @property
    def example(self) -> str:
        return f"[{self.item.example}]"

    def read(self, node: Node, path: Path, page: Page) -> list[Any] | None:
        page.marks[path] = node.mark
        if isinstance(node, Items):
            if self.most and len(node.items) > self.most:
                page.wrong(path, self, f"a list of {len(node.items)}")
                return None
            return [self.item.read(child, (*path, i), page) for i, child in enumerate(node.items)]
        if self.single:
            return [self.item.read(node, path if isinstance(node, Scalar) else (*path, 0), page)]
        page.wrong(path, self, describe(node))
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        item = self.item.json(defs)
        many: dict[str, Any] = {"type": "array", "items": item}
        if self.most:
            many["maxItems"] = self.most
        return {"anyOf": [item, many]} if self.single else many


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping from names to values of one shape."""

    name: Text
    item: Shape
    noun: str

    @property
    def example(self) -> str:
        return f"{{{self.name.example}: {self.item.example}}}"

    def read(self, node: Node, path: Path, page: Page) -> dict[str, Any] | None:
        page.marks[path] = node.mark
        if not isinstance(node, Entries):
            page.wrong(path, self, describe(node))
            return None
        found = {}
        for key, child in node.pairs:
            here = (*path, key.text)
            name = self.name.read(key, here, page)
            item = self.item.read(child, here, page)
            page.marks[here] = key.mark
            if name is not None and item is not None:
                found[name] = item
        return found

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": self.name.json(defs),
            "additionalProperties": self.item.json(defs),
        }


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    name: str
    shape: Shape
    meaning: str
    example: str = ""  # empty: the shape's own
    default: Any = None  # filled in where the key is absent
    otherwise: str = ""  # what an absent key means, where that is no fixed value
    required: bool = False
    only: tuple[str, ...] = ()  # the choices of the table's `by` that it belongs to; empty: all
    needed: tuple[str, ...] = ()  # the choices of the table's `by` that cannot do without it

    @property
    def shown(self) -> str:
        return self.example or self.shape.example

    @property
    def implied(self) -> Any:
        """What the loader takes for an absent key: the default as it would be written, read."""
        return self.shape.convert(self.default) if isinstance(self.shape, Measure) else self.default


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping with known keys."""

    title: str  # "a host", "the CA"
    keys: tuple[Key, ...]
    one_of: tuple[str, ...] = ()  # exactly one of these keys
    by: str = ""  # the key whose choice decides which others belong
    define: str = ""  # its name in the JSON Schema's $defs
    secret: bool = False  # unknown keys are not repeated in a message

    @property
    def noun(self) -> str:
        return "a mapping"

    @property
    def example(self) -> str:
        chosen = [k for k in self.keys if k.required or k.name in self.one_of[:1]] or self.keys[:1]
        return "{" + ", ".join(f"{k.name}: {k.shown}" for k in chosen) + "}"

    def read(self, node: Node, path: Path, page: Page) -> dict[str, Any] | None:
        page.marks[path] = node.mark
        if not isinstance(node, Entries):
            page.wrong(path, self, describe(node))
            return None
        keys = {key.name: key for key in self.keys}
        given = {key.text: key.mark for key, _ in node.pairs}
        found: dict[str, Any] = {}
        for written, child in node.pairs:
            if (key := keys.get(written.text)) is None:
                self._unknown(written, path, page)
                continue
            item = key.shape.read(child, (*path, key.name), page)
            if item is not None:
                found[key.name] = item
        self._complete(found, given, path, page)
        for key in self.keys:
            fits = not key.only or found.get(self.by) in key.only
            if key.name not in given and key.default is not None and fits:
                found[key.name] = key.implied
        return found

    def has(self, name: str) -> bool:
        return any(key.name == name for key in self.keys)

    @property
    def _usual(self) -> str:
        """The choice where the key `by` is absent."""
        return next((key.default or "" for key in self.keys if key.name == self.by), "")

    def _unknown(self, written: Scalar, path: Path, page: Page) -> None:
        hint: Hint = nearest(written.text, [key.name for key in self.keys], always=True)
        if written.text == "<<":
            hint = _MERGE
        for key in self.keys:
            if isinstance(key.shape, Table) and key.shape.has(written.text):
                hint = f"did you mean {key.name}: {{{written.text}: ...}}?"
                break
        name = "of that name" if self.secret else shown(written.text)
        page.problems.error(written.mark, f"{dotted(path)} has no key {name}", hint)

    def _complete(
        self, found: dict[str, Any], given: dict[str, Mark], path: Path, page: Page
    ) -> None:
        choice = found.get(self.by) or ("" if self.by in given else self._usual)
        for key in self.keys:
            if key.name in given:
                if choice and key.only and choice not in key.only:
                    page.problems.error(
                        given[key.name],
                        f"{dotted(path)}: {key.name} means nothing with {self.by}: {choice}",
                        f"it belongs to {', '.join(key.only)}",
                    )
            elif key.required or choice in key.needed:
                because = f" with {self.by}: {choice}" if choice in key.needed else ""
                page.error(
                    path,
                    f"{dotted(path)} needs the key {key.name}{because}: {key.meaning}",
                    f"such as {key.name}: {key.shown}",
                )
        if self.one_of and sum(name in given for name in self.one_of) != 1:
            names = ", ".join(self.one_of)
            page.error(
                path, f"{dotted(path)} wants exactly one of {names}", f"such as {self.example}"
            )

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        if not self.define:
            return self._object(defs)
        if self.define not in defs:
            defs[self.define] = {}  # taken, in case the table holds itself
            defs[self.define] = self._object(defs)
        return {"$ref": f"#/$defs/{self.define}"}

    def _object(self, defs: dict[str, Any]) -> dict[str, Any]:
        properties = {}
        for key in self.keys:
            about = {"description": key.meaning, **key.shape.json(defs)}
            properties[key.name] = (
                about if key.default is None else {**about, "default": key.default}
            )
        body: dict[str, Any] = {
            "title": self.title,
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
        if required := [key.name for key in self.keys if key.required]:
            body["required"] = required
        if self.one_of:
            body["oneOf"] = [{"required": [name]} for name in self.one_of]
        if self.by:
            body["allOf"] = list(self._choices(properties[self.by]["enum"]))
        return body

    def _choices(self, words: list[str]) -> Iterator[dict[str, Any]]:
        for word in words:
            then: dict[str, Any] = {}
            if needed := [key.name for key in self.keys if word in key.needed]:
                then["required"] = needed
            if foreign := [key.name for key in self.keys if key.only and word not in key.only]:
                then["properties"] = dict.fromkeys(foreign, False)
            if then:
                case: dict[str, Any] = {"properties": {self.by: {"const": word}}}
                if word != self._usual:
                    case["required"] = [self.by]
                yield {"if": case, "then": then}


@dataclass(frozen=True, slots=True)
class NameOr:
    """A table, or its key `name` alone: `x` is short for `{name: x}`."""

    table: Table

    @property
    def name(self) -> Shape:
        return next(key.shape for key in self.table.keys if key.name == "name")

    @property
    def noun(self) -> str:
        return f"{self.name.noun}, or {self.table.noun}"

    @property
    def example(self) -> str:
        return self.name.example

    def read(self, node: Node, path: Path, page: Page) -> Any:
        if isinstance(node, Scalar):
            node = Entries(((Scalar("name", True, node.mark), node),), node.mark)
        if isinstance(node, Entries):
            return self.table.read(node, path, page)
        page.marks[path] = node.mark
        page.wrong(path, self, describe(node))
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [self.name.json(defs), self.table.json(defs)]}


@dataclass(frozen=True, slots=True)
class Secrecy:
    """A secret by reference; one that is written out is refused and never repeated."""

    table: Table
    noun: str = "a reference to a secret"

    @property
    def example(self) -> str:
        return self.table.example

    def read(self, node: Node, path: Path, page: Page) -> SecretRef | None:
        if isinstance(node, Entries):
            found = self.table.read(node, path, page)
            pairs = list((found or {}).items())
            return SecretRef(*pairs[0]) if len(pairs) == 1 else None
        page.marks[path] = node.mark
        page.error(
            path,
            f"{dotted(path)}: secrets are given by reference only, never in the inventory",
            "{env: NAME}, {file: PATH}, {command: 'pass show NAME'} or {prompt: LABEL}",
        )
        return None

    def json(self, defs: dict[str, Any]) -> dict[str, Any]:
        return self.table.json(defs)
