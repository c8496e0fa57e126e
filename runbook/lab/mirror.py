"""Where Debian packages come from: the sources of this machine's own apt, for any release."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from runbook.lab.narration import LabError

OVERRIDE = "PMRUNBOOK_LAB_MIRROR"
"""Environment variable with the URL of a Debian mirror, for machines whose own apt has none."""

# Suites of the Debian archive itself: those of third parties have other names, and stay out.
_SUITE = re.compile(
    r"(?:bullseye|bookworm|trixie|forky|sid|unstable|testing|stable|oldstable|oldoldstable)"
    r"(?P<pocket>-security|-updates|/updates)?/?$"
)
_KEPT_OPTIONS = re.compile(
    r"^Acquire::(?:https?::(?:\S*::)?Proxy|Check-\S+|Retries|http::Timeout)\b"
)


@dataclass(frozen=True)
class Source:
    """One entry of apt's sources, with what its signature is checked against."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: bool = False

    def deb822(self) -> str:
        """The entry as a deb822 stanza (sources.list(5)), which can hold an embedded key too."""
        lines = [
            "Types: deb",
            f"URIs: {' '.join(self.uris)}",
            f"Suites: {' '.join(self.suites)}",
            f"Components: {' '.join(self.components)}",
        ]
        if self.signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        if self.trusted:
            lines.append("Trusted: yes")
        return "\n".join(lines) + "\n"


def sources_for(release: str, etc_apt: Path = Path("/etc/apt")) -> str:
    """Deb822 text with the Debian sources of this machine, pointed at `release`."""
    override = os.environ.get(OVERRIDE, "")
    entries = (
        [Source((override,), (release,), ("main",))]
        if override
        else list(_for_release(read_sources(etc_apt), release))
    )
    if not entries:
        raise LabError(
            "this machine's apt knows no Debian archive to build the lab's hosts from",
            f"set {OVERRIDE} to the URL of a Debian mirror and run the same command again",
        )
    return "\n".join(entry.deb822() for entry in entries)


def apt_options() -> str:
    """The machine's own apt settings about proxies and checks, as text for an apt.conf."""
    dump = subprocess.run(
        ["apt-config", "dump"], capture_output=True, text=True, check=False
    ).stdout
    return "".join(f"{line}\n" for line in dump.splitlines() if _KEPT_OPTIONS.match(line))


def read_sources(etc_apt: Path) -> Iterator[Source]:
    """Every `deb` entry of an apt directory, in both of apt's file forms."""
    parts = etc_apt / "sources.list.d"
    for path in [etc_apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from parse_one_line(path.read_text(errors="replace"))
    for path in sorted(parts.glob("*.sources")):
        yield from parse_deb822(path.read_text(errors="replace"))


def parse_one_line(text: str) -> Iterator[Source]:
    """Entries of the form `deb [options] URI SUITE COMPONENT...`."""
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        found = re.match(
            r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<rest>.*)$",
            line,
        )
        if not found:
            continue
        options = dict(
            word.split("=", 1) for word in shlex.split(found["options"] or "") if "=" in word
        )
        yield Source(
            (found["uri"],),
            (found["suite"],),
            tuple(found["rest"].split()),
            options.get("signed-by", ""),
            options.get("trusted", "") == "yes",
        )


def parse_deb822(text: str) -> Iterator[Source]:
    """Entries of the stanza form; a key embedded in Signed-By keeps its lines."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get(
            "enabled", "yes"
        ).lower() not in ("no", "false"):
            yield Source(
                tuple(fields.get("uris", "").split()),
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                fields.get("signed-by", ""),
                fields.get("trusted", "").lower() == "yes",
            )


def _for_release(entries: Iterable[Source], release: str) -> Iterator[Source]:
    for entry in entries:
        pockets = [
            found["pocket"] or "" for suite in entry.suites if (found := _SUITE.match(suite))
        ]
        if pockets and "main" in entry.components:
            yield replace(
                entry,
                suites=tuple(dict.fromkeys(release + pocket for pocket in pockets)),
                components=("main",),
            )
