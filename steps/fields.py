"""The small text format that the reads print: `key=value` lines under `[section]` headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fields:
    """The `key=value` lines of one section; a key may stand there more than once."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def one(self, key: str, default: str = "") -> str:
        """The first value of `key`."""
        return self.values.get(key, (default,))[0]

    def all(self, key: str) -> tuple[str, ...]:
        return self.values.get(key, ())

    def number(self, key: str, default: int = 0) -> int:
        text = self.one(key)
        return int(text) if text.lstrip("-").isdigit() else default

    def __contains__(self, key: str) -> bool:
        return key in self.values


NONE = Fields()


def sections(text: str) -> dict[str, Fields]:
    """Every section of `text` in order; what stands before the first header is section ''.

    Lines that are neither are passed over: a read's tool may say more than it was asked.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {"": {}}
    current = found[""]
    for line in text.splitlines():
        if line.startswith("[") and line.endswith("]"):
            current = found.setdefault(line[1:-1], {})
            continue
        key, sign, value = line.partition("=")
        if sign and key.replace("_", "").isalnum():
            current[key] = (*current.get(key, ()), value.strip())
    return {name: Fields(values) for name, values in found.items()}
