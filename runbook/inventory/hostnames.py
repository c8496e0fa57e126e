"""Host names: what Puppet accepts as a certname, and patterns that stand for many."""

from __future__ import annotations

import ipaddress
import itertools
import math
import re

MAX_HOSTS = 50_000

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# A letter somewhere, or it is a number or an IPv4 address. Upper case, wildcards and outer hyphens
# are refused by Puppet itself (certificate_request.rb, host.rb: certnames are lower case).
CERTNAME = rf"(?=.{{1,253}}$)(?=.*[a-z]){_LABEL}(?:\.{_LABEL})*"
_CERTNAME = re.compile(CERTNAME)
_RANGE = re.compile(r"\[([a-z0-9,-]+)\]")


def fault(name: str) -> tuple[str, str] | None:
    """What is wrong with `name` as a host's name, and a way out; None when nothing is."""
    if _CERTNAME.fullmatch(name):
        return None
    if not name:
        return "is empty", "write the host's certname"
    if name.startswith("-"):
        return "starts with '-', so programs would take it for an option", ""
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "holds a line break or another control character", ""
    if "/" in name or ".." in name:
        return "is a path, not a name", ""
    if " " in name:
        return "holds a space", "one name per entry"
    if "*" in name:
        return (
            "is a wildcard; Puppet's CA signs names only",
            "list the hosts, or use {pattern: ...}",
        )
    if "[" in name:
        return (
            "is a pattern where one name belongs",
            f"for agents, write {{pattern: '{name[:60]}'}}",
        )
    if _is_address(name):
        return "is an address", "name the host by its certname and put this under address:"
    if name.isascii() and re.search(r"[^A-Za-z0-9._-]", name):
        return "holds a character that no host name has", "letters, digits, '-', '_' and '.'"
    if not name.isascii():
        return "holds letters outside of ASCII", "write the name as DNS does (xn--...)"
    if name != name.lower() and _CERTNAME.fullmatch(name.lower()):
        return "has upper-case letters; a certname has none", f"did you mean '{name.lower()}'?"
    if name.endswith("."):
        return "ends with '.'", f"did you mean '{name.rstrip('.')}'?"
    if len(name) > 253 or any(len(label) > 63 for label in name.split(".")):
        return "is longer than DNS allows (63 characters a label, 253 in all)", ""
    if not re.search("[A-Za-z]", name):
        return "is a number", "write the host's certname"
    return "is not a host name", "labels neither start nor end with '-', and none is empty"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


class Pattern:
    """Many names: `web[001-120,200].example.com`, `db[a-c].example.com`; several brackets multiply.

    ValueError, with a sentence, for a text that is none or stands for more than `MAX_HOSTS` names.
    `size` is their number, known before any is made.
    """

    def __init__(self, text: str) -> None:
        self._pieces = _RANGE.split(text)
        if len(self._pieces) == 1:
            raise ValueError("has no range such as [01-20]")
        self._choices = [
            [_run(inside, part) for part in inside.split(",")] for inside in self._pieces[1::2]
        ]
        self.size = math.prod(sum(len(n) for n, _ in runs) for runs in self._choices)
        if self.size > MAX_HOSTS:
            raise ValueError(f"stands for more than {MAX_HOSTS:,} hosts")

    def names(self) -> tuple[str, ...]:
        """All names; ValueError, with a sentence, if there is one that no host can have."""
        choices = [[form.format(n) for ns, form in runs for n in ns] for runs in self._choices]
        names = []
        for picked in itertools.product(*choices):
            parts = itertools.zip_longest(self._pieces[::2], picked, fillvalue="")
            name = "".join(itertools.chain.from_iterable(parts))
            if wrong := fault(name):
                raise ValueError(f"gives {name[:80]!r}, which {wrong[0]}")
            names.append(name)
        return tuple(names)


def _run(inside: str, part: str) -> tuple[range, str]:
    """A part of a range: its numbers, and how one is written."""
    low, dash, high = part.partition("-")
    if not part or (dash and not (low and high)):
        raise ValueError(f"has a range [{inside[:40]}] with nothing on one side")
    if not dash:
        return range(1), part
    if low.isdigit() and high.isdigit() and len(high) <= 9:
        if len(low) > 9 or int(low) > int(high):
            raise ValueError(f"has a range {part[:40]} that runs backwards")
        width = len(low) if low.startswith("0") else 0
        return range(int(low), int(high) + 1), f"{{:0{width}d}}"
    if len(low) == len(high) == 1 and low.isalpha() and low <= high:
        return range(ord(low), ord(high) + 1), "{:c}"
    raise ValueError(f"has a range {part[:40]}; ranges run from 01 to 20 or from a to f")
