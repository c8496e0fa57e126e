"""Stages `quiet` and `install` of the compilers step: nothing else at work, and the packages."""

from __future__ import annotations

from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Facts,
    Nothing,
    Planned,
    Script,
    Site,
    Stage,
    Verdict,
)

from . import reads
from .compiler import SERVERS, Packages, compilers, packages
from .layout import Seen, ca_host, unknown
from .shellwords import assignments

MARK = "/var/lib/pmrunbook/agent-paused"
RESUME = f"[ ! -e {MARK} ] || {{ systemctl start puppet && rm -f -- {MARK}; }}\n"


def daemon(seen: Seen) -> bool:
    return seen.service("puppet").get("ActiveState") == "active"


def pause(seen: Seen) -> Action:
    """An agent's own run in the middle of the change would see half of it."""
    return Action(
        id=f"quiet/{seen.name}/agent",
        host=seen.name,
        title="stop the agent's daemon for the time of the change, after a run under way",
        do=Script(
            assignments(lockfile=seen.setting("agent_catalog_run_lockfile")) + "waited=0\n"
            'while p=$(head -c 20 "$lockfile" 2>/dev/null | tr -dc 0-9); '
            '[ -n "$p" ] && [ -d "/proc/$p" ] && [ "$waited" -lt 600 ]; do\n'
            "    sleep 3; waited=$((waited + 3))\ndone\n"
            f"mkdir -p -m 0700 /var/lib/pmrunbook && : >{MARK} && systemctl stop puppet\n",
            timeout=900.0,
        ),
        undo=Compensate(RESUME),
        opens=Debt(f"agent-daemon/{seen.name}", f"the agent's daemon on {seen.name}", RESUME),
    )


def resume(site: Site, facts: Facts, busy: frozenset[str]) -> Planned:
    """Start the daemons again that the step stopped, or is about to stop."""
    return tuple(
        Action(
            id=f"resume/{seen.name}/agent",
            host=seen.name,
            title="start the agent's daemon again",
            do=Script(RESUME, timeout=120.0),
            undo=Nothing(),
            repays=f"agent-daemon/{seen.name}",
            about=seen.name,
        )
        for seen in compilers(site, facts)
        if "agent_paused" in seen.server_state or (daemon(seen) and seen.name in busy)
    )


def installing(
    stage: str, seen: Seen, wanted: Packages, told: str, *, unit: str = "", **more: str
) -> Action:
    """Install packages, and on undo take away exactly those that were not there.

    `unit` is the service that may not start meanwhile; `told` says what becomes of it. `more` are
    further variables of install.sh: `record`, `preseed`.
    """
    manager = seen.package_manager.one("manager")
    sign = "=" if manager == "apt" else "-"
    specs = " ".join(f"{package}{sign}{v}" for package, v in wanted.specs)
    script = assignments(manager=manager, specs=specs, unit=unit, **more)
    script += reads.script("install.sh")
    said = ", ".join(f"{package} {v}" for package, v in wanted.specs)
    return Action(
        id=f"{stage}/{seen.name}/packages",
        host=seen.name,
        title=f"install {said}; {told}",
        do=Script(script + "install_packages\n", timeout=1800.0),
        undo=Compensate(script + "remove_packages\n"),
    )


def install(site: Site, facts: Facts) -> Planned:
    actions = []
    for seen in compilers(site, facts):
        wanted = packages(site, facts, seen)
        manager = seen.package_manager.one("manager")
        if seen.enterprise or seen.puppetserver or wanted.problem or not manager:
            continue  # there already, or a blocker of the step
        actions.append(
            installing("install", seen, wanted, "nothing is started", unit="puppetserver")
        )
    return tuple(actions)


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return tuple(installed(site, h.name) for h in site.having("compiler"))


def installed(site: Site, name: str) -> Check:
    """The host has the version of Puppet Server that the CA's host has."""
    asked = ((name, reads.SOFTWARE), (site.ca.host, reads.SOFTWARE))

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen, ca = Seen(name, facts), ca_host(site, facts)
        here = next((f"{p} {seen.packages[p]}" for p in SERVERS if p in seen.packages), "")
        said = here or "no Puppet Server"
        return Verdict(bool(here) and seen.server_version == ca.server_version, said)

    return Check(
        f"install/{name}",
        f"{name} has the CA server's version of Puppet Server",
        judge,
        asked,
    )


INSTALL = Stage("install", "Packages, with nothing started", install, checks, rollout=True)
