"""Strategy `command`: the site deploys by a command of its own; what it leaves is verified."""

from __future__ import annotations

from runbook.model import Action, Facts, Planned, Restore, Script, Site

from .code_site import about, columns, differing, environments, readied, roots, usual
from .code_way import Way
from .layout import Seen


def alike(site: Site, facts: Facts) -> bool:
    """Whether all servers have the same environments already."""
    found = columns(site, facts)
    for name in environments(site, facts):
        like = usual(site, facts, found[name])
        if like is None or any(
            differing(found[name](seen), found[name](like)) for seen in readied(site, facts)
        ):
            return False
    return True


def _switch(site: Site, facts: Facts) -> Planned:
    if alike(site, facts):
        return ()
    return tuple(_run(site, seen) for seen in readied(site, facts))


def _run(site: Site, seen: Seen) -> Action:
    command = str(about(site)["command"])
    return Action(
        id=f"switch/{seen.name}/command",
        host=seen.name,
        title=f"run {command}",
        do=Script(f"{command}\n", timeout=1800.0, saves=tuple(sorted(roots(seen).values()))),
        undo=Restore(),
    )


def _intent(site: Site) -> tuple[str, ...]:
    return (f"every Puppet Server: {about(site)['command']}",)


WAY = Way(plans={"switch": _switch}, intent=_intent)
