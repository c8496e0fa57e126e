"""Who is in the inventory: every host once, with its roles and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

from runbook.inventory.hostnames import MAX_HOSTS, Pattern, fault
from runbook.inventory.problems import Mark, decode, read_file, shown
from runbook.inventory.shapes import HOSTS_ALIKE, Page, Path, dotted, nearest

MAX_AGENT_BYTES = 10 << 20
MAX_AGENT_FILES = 20


@dataclass(slots=True)
class Entry:
    """One host; `mark` is where it was met first."""

    name: str
    mark: Mark
    roles: set[str] = field(default_factory=set)
    met: dict[str, Mark] = field(default_factory=dict)  # the list it stands in -> where
    override: dict[str, Any] = field(default_factory=dict)  # its address, group, ssh
    paths: dict[str, Path] = field(default_factory=dict)  # where each of these stands


Roster = dict[str, Entry]


def roster(
    data: Mapping[str, Any], page: Page, folder: File, digest: Callable[[bytes], object]
) -> Roster:
    """All hosts of the inventory: the CA first, agents last. `digest` gets the agents' files."""
    call = _RollCall(page, folder, digest)
    call.host("ca.host", data.get("ca", {}).get("host"), ("ca", "host"), "ca", "server")
    for section, roles in (("servers", ("server",)), ("compile_masters", ("server", "compiler"))):
        for i, item in enumerate(data.get(section, ())):
            call.item(section, item or {}, (section, i), *roles)
    for i, item in enumerate(data.get("retired", ())):
        call.item("retired", item or {}, ("retired", i), "retired")
    puppetdb = data.get("puppetdb", {})
    call.host("puppetdb.host", puppetdb.get("host"), ("puppetdb", "host"), "puppetdb")
    for i, name in enumerate(puppetdb.get("hosts", ())):
        call.host("puppetdb.hosts", name, ("puppetdb", "hosts", i), "puppetdb")
    balancer = data.get("load_balancing", {}).get("host")
    call.host("load_balancing.host", balancer, ("load_balancing", "host"), "balancer")
    call.agents(data.get("agents", ()))
    call.describe(data.get("hosts", {}))
    _groups(call.found, data.get("groups", {}), page)
    return call.found


def local(folder: File, text: str) -> File:
    """A path of the inventory as a path here: `~` is the home, the rest relative to `folder`.

    Another user's home is not looked up: that asks the directory of users, for each of thousands.
    """
    path = File(text)
    try:
        return folder / (path.expanduser() if path.parts[:1] == ("~",) else path)
    except RuntimeError:  # nobody's home: said when the file is looked for
        return folder / path


class _RollCall:
    def __init__(self, page: Page, folder: File, digest: Callable[[bytes], object]) -> None:
        self.found: Roster = {}
        self._page = page
        self._folder = folder
        self._digest = digest
        self._agents = 0
        self._files = 0

    def host(self, section: str, name: str | None, path: Path, *roles: str) -> None:
        if name is not None:
            self._enter(section, name, self._page.mark(path), roles)

    def item(self, section: str, item: dict[str, Any], path: Path, *roles: str) -> None:
        if "name" in item:
            mark = self._page.mark((*path, "name"))
            self._describe(self._enter(section, item["name"], mark, roles), item, path)

    def agents(self, items: Iterable[dict[str, Any] | None]) -> None:
        for i, item in enumerate(items):
            path: Path = ("agents", i)
            if item is None:
                continue
            if "address" in item and "name" not in item:
                self._page.error(
                    (*path, "address"), "one address cannot belong to many agents", "use hosts:"
                )
            for name, mark in self._named(item, path):
                self._describe(self._enter("agents", name, mark, ("agent",)), item, path)
            if self._agents > MAX_HOSTS:
                self._page.error(path, f"the inventory names more than {MAX_HOSTS:,} agents")
                return

    def describe(self, hosts: Mapping[str, dict[str, Any]]) -> None:
        """What `hosts:` says about single ones; it wins over the lists."""
        for name, about in hosts.items():
            if entry := self.found.get(name):
                ssh = {**entry.override.get("ssh", {}), **about.get("ssh", {})}
                entry.override |= {**about, **({"ssh": ssh} if ssh else {})}
                entry.paths |= {key: ("hosts", name, key) for key in about}
            else:
                self._page.error(
                    ("hosts", name),
                    f"hosts describes {name}, which nothing in the inventory uses",
                    nearest(
                        name,
                        self.found,
                        "add it to agents or compile_masters",
                        cutoff=HOSTS_ALIKE,
                    ),
                )

    def _enter(self, section: str, name: str, mark: Mark, roles: tuple[str, ...]) -> Entry:
        entry = self.found.setdefault(name, Entry(name, mark))
        if first := entry.met.get(section):
            where = f" of {first.file}" if first.file != mark.file else ""
            self._page.problems.error(
                mark, f"{section} lists {name} twice; first in line {first.line}{where}", "keep one"
            )
        entry.met.setdefault(section, mark)
        entry.roles.update(roles)
        return entry

    def _describe(self, entry: Entry, item: Mapping[str, Any], path: Path) -> None:
        for key in ("address", "group", "ssh"):
            if key in item and key in entry.override:
                self._page.error(
                    (*path, key),
                    f"the {key} of {entry.name} is given here and in line "
                    f"{self._page.mark(entry.paths[key]).line}",
                    "keep one",
                )
            elif key in item:
                entry.override[key], entry.paths[key] = item[key], (*path, key)

    def _named(self, item: Mapping[str, Any], path: Path) -> Iterable[tuple[str, Mark]]:
        """The agents one entry stands for, and where each is named."""
        if "file" in item:
            return self._listed(item["file"], self._page.mark((*path, "file")))
        if "pattern" in item:
            return self._expanded(item["pattern"], self._page.mark((*path, "pattern")), path)
        self._agents += 1
        return [(item["name"], self._page.mark((*path, "name")))] if "name" in item else []

    def _expanded(self, pattern: str, mark: Mark, path: Path) -> Iterator[tuple[str, Mark]]:
        try:
            many = Pattern(pattern)
            self._agents += many.size  # also where a name is wrong: finding that takes as long
            names = many.names() if self._agents <= MAX_HOSTS else ()
        except ValueError as error:
            self._page.problems.error(
                mark,
                f"{dotted(path)}: the pattern {shown(pattern)} {error}",
                "such as 'web[001-120].example.com'",
            )
        else:
            yield from ((name, mark) for name in names)

    def _listed(self, text: str, mark: Mark) -> Iterator[tuple[str, Mark]]:
        """The agents a file lists: one certname a line, `#` starts a comment."""
        problems = self._page.problems
        self._files += 1
        if self._files > MAX_AGENT_FILES:
            problems.error(mark, f"agents come from more than {MAX_AGENT_FILES} files")
            return
        path = local(self._folder, text)
        advice = "one certname a line; the path is relative to the inventory's folder"
        data = read_file(path, MAX_AGENT_BYTES, mark, problems, advice)
        if data is None:
            return
        self._digest(data)
        content = decode(data, str(path), problems) or ""
        for number, line in enumerate(content.split("\n"), 1):
            name = line.partition("#")[0].strip()
            if not name:
                continue
            here = Mark(number, line.index(name[0]) + 1, str(path))
            if wrong := fault(name):
                problems.error(here, f"{shown(name)} {wrong[0]}", wrong[1])
                continue
            self._agents += 1
            if self._agents > MAX_HOSTS:
                return
            yield name, here


def _groups(found: Roster, groups: Mapping[str, Any], page: Page) -> None:
    told: set[Path] = set()
    for entry in found.values():
        group = entry.override.get("group")
        if group and ("groups", group) not in page.marks and entry.paths["group"] not in told:
            told.add(entry.paths["group"])
            page.error(
                entry.paths["group"],
                f"there is no group {shown(group)}",
                nearest(group, groups, "add it under groups:"),
            )
