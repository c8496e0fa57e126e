"""Mistakes in how agents are spread: members that are no servers, sites without a domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook.inventory.roster import Roster
from runbook.inventory.shapes import HOSTS_ALIKE, Page, Path, dotted, nearest

Data = Mapping[str, Any]


def check(data: Data, found: Roster, page: Page) -> None:
    """Put every mistake of `load_balancing` on the page."""
    balancing = data.get("load_balancing")
    if not balancing:
        return
    strategy = balancing.get("strategy")
    sites = balancing.get("sites", {})
    pools: list[tuple[Path, Any]] = [(("load_balancing", "servers"), balancing.get("servers"))]
    for site, about in sites.items():
        path: Path = ("load_balancing", "sites", site)
        pools.append(((*path, "servers"), about.get("servers")))
        if ("groups", site) not in page.marks:
            page.error(
                path,
                f"there is no group {site}, so no agent belongs to this site",
                nearest(site, data.get("groups", {}), f"add groups: {{{site}: {{}}}}"),
            )
        if strategy == "srv" and (*path, "domain") not in page.marks:
            page.error(path, f"site {site} has no domain, where its SRV records would stand")
        if strategy not in ("srv", None) and "domain" in about:
            page.error(
                (*path, "domain"), f"a site's domain means nothing with strategy: {strategy}"
            )
    servers = {entry.name: entry for entry in found.values() if "server" in entry.roles}
    for path, pool in pools:
        _pool(path, pool, servers, page)
        _ignored(path, pool, strategy, page)
    if not any("compiler" in entry.roles for entry in found.values()) and not any(
        pool for _, pool in pools
    ):
        page.warning(("load_balancing",), "there are no compile masters to spread agents over")
    if strategy == "srv":
        _srv(data, sites, found, page)


def _pool(path: Path, pool: Any, servers: Roster, page: Page) -> None:
    seen: set[str] = set()
    for i, member in enumerate(pool or ()):
        name = (member or {}).get("name")
        if name is None:
            continue
        here = (*path, i, "name")
        if name in seen:
            page.error(here, f"{dotted(path)} lists {name} twice", "keep one")
        elif name not in servers:
            advice = "add it to compile_masters or servers"
            hint = nearest(name, servers, advice, cutoff=HOSTS_ALIKE)
            page.error(here, f"{name} is not a Puppet Server of this inventory", hint)
        seen.add(name)


IGNORED = {
    "round-robin": {
        "weight": "each server gets as many agents",
        "priority": "servers of a higher number get none, even if the others fail",
    },
    "server-list": {"weight": "each server gets as many agents"},
}
"""What a strategy cannot tell anybody, and what happens in its place."""


def _ignored(path: Path, pool: Any, strategy: Any, page: Page) -> None:
    for key, happens in IGNORED.get(strategy, {}).items():
        given = [(*path, i, key) for i, _ in enumerate(pool or ()) if (*path, i, key) in page.marks]
        if given and len({(member or {}).get(key) for member in pool}) > 1:
            page.warning(
                given[0],
                f"{key} means nothing with strategy: {strategy}: {happens}",
                "leave it out, or use tcp-proxy or srv",
            )


def _srv(data: Data, sites: Data, found: Roster, page: Page) -> None:
    if ("load_balancing", "domain") in page.marks or data.get("dns", {}).get("domain"):
        return
    outside = [
        entry.name
        for entry in found.values()
        if "agent" in entry.roles and entry.override.get("group") not in sites
    ]
    if not sites or outside:
        who = (
            f"; {len(outside)} agents are in none of the sites, such as {outside[0]}"
            if sites
            else ""
        )
        page.error(
            ("load_balancing", "strategy"),
            f"agents find their servers by SRV records, and no domain says where they are{who}",
            "add load_balancing.domain, such as domain: example.com",
        )
