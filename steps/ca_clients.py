"""Stage `clients` of the ca step: every host asks the CA by the CA's own name."""

from __future__ import annotations

from dataclasses import dataclass

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Facts,
    Planned,
    Restore,
    Site,
    Stage,
    Verdict,
    WriteFile,
)

from . import reads
from .layout import FileFact, Seen, ca_host, see

OVERRIDES = ("agent", "server", "master")
"""Sections that beat [main]: for agent runs, and for Puppet Server ([master] is the old
name of [server])."""


@dataclass(frozen=True, slots=True)
class Edited:
    """What puppet.conf becomes."""

    content: bytes
    taken: tuple[str, ...]  # settings taken out, as "ca_server = old in [agent]"


def settings(site: Site) -> dict[str, str]:
    """What stands in [main] of every client.

    With SRV records ca_server stays as what is asked when a resolver fails.
    """
    wanted = {"ca_server": site.ca.name}
    if site.ca.clients == "srv":
        wanted |= {"use_srv_records": "true", "srv_domain": srv_domain(site)}
    return wanted


def srv_domain(site: Site) -> str:
    return site.ca.srv_domain or site.dns.domain or site.ca.name.partition(".")[2]


def edited(site: Site, conf: FileFact) -> Edited:
    """puppet.conf with the settings in [main] and nothing that beats them.

    EditError where it has a header that nobody can read; everything else stays byte for byte.
    """
    data = conf.content or b""
    taken = []
    for key, value in settings(site).items():
        for section in OVERRIDES:
            other = edit.ini_get(data, section, key)
            if other is not None and other != value:
                data = edit.ini_delete(data, section, key)
                taken.append(f"{key} = {other} in [{section}]")
        data = edit.ini_set(data, "main", key, value)
    return Edited(data, tuple(taken))


def editable(seen: Seen) -> bool:
    """Whether this host has a puppet.conf that can be written, or none and Puppet is there."""
    return (
        bool(seen.certname)
        and not seen.enterprise
        and seen.puppet_conf.state in ("file", "absent")
        and bool(seen.puppet_conf.path)
    )


def introduced(site: Site, seen: Seen) -> Action | None:
    """A new host's agent is told whom to ask for a certificate, before it does; an enrolled one's
    puppet.conf is the step `ca`'s."""
    conf = seen.puppet_conf
    if seen.hostcert or not editable(seen):
        return None
    try:
        data = edited(site, conf).content
        if edit.ini_get(data, "main", "server") is None:
            data = edit.ini_set(data, "main", "server", site.server)
    except edit.EditError:
        return None  # a blocker of the step
    if data == (conf.content or b""):
        return None
    return Action(
        id=f"agent/{seen.name}/puppet.conf",
        host=seen.name,
        title=f"let its agent ask {site.ca.name} for a certificate",
        do=WriteFile(conf.path, data, before=conf.sha256),
        undo=Restore(),
        diff=edit.diff(conf.path, conf.content, data),
    )


def direct(site: Site, seen: Seen) -> bool:
    """Whether this host is told over ssh; with a module, agents learn it from their catalog.

    A compile master is told by the step that builds it: its files come and go with that one.
    """
    if "compiler" in site.host(seen.name).roles:
        return False
    return site.ca.clients != "module" or "agent" not in site.host(seen.name).roles


def canary_first(site: Site, facts: Facts) -> list[Seen]:
    """Agents, then servers, the CA's own host last: the first one changed is least missed."""

    def weight(seen: Seen) -> int:
        roles = site.host(seen.name).roles
        return 2 if seen.name == site.ca.host else 1 if "server" in roles else 0

    return sorted(see(site, facts), key=weight)


def plan(site: Site, facts: Facts) -> Planned:
    actions = []
    for seen in canary_first(site, facts):
        if not editable(seen) or not direct(site, seen):
            continue
        try:
            after = edited(site, seen.puppet_conf)
        except edit.EditError:
            continue  # a blocker of the step
        if after.content != (seen.puppet_conf.content or b""):
            actions.append(_write(site, seen, after))
    return tuple(actions)


def _write(site: Site, seen: Seen, after: Edited) -> Action:
    conf = seen.puppet_conf
    title = "set " + ", ".join(f"{k} = {v}" for k, v in settings(site).items()) + " in [main]"
    if after.taken:
        title += "; take out " + ", ".join(after.taken)
    return Action(
        id=f"clients/{seen.name}/puppet.conf",
        host=seen.name,
        title=title,
        do=WriteFile(conf.path, after.content, before=conf.sha256),
        undo=Restore(),
        diff=edit.diff(conf.path, conf.content, after.content),
    )


# --- proof ----------------------------------------------------------------------------------------


def asks(site: Site, host: str) -> Check:
    """This host's agent asks the CA's own name for certificates, and trusts who answers."""
    name = site.ca.name

    def judge(facts: Facts) -> Verdict:
        seen = Seen(host, facts)
        for key, value in settings(site).items():
            if (now := seen.setting(key)) != value:
                remedy = f"look for {key} in {seen.setting('config')}, in every section"
                return Verdict(False, f"its {key} is {now or 'unknown'}", remedy)
        end = seen.endpoint(name)
        if end.tcp != "open":
            known = end.tcp != "unknown"
            return Verdict(False if known else None, f"{name}: {end.error or end.tcp}", "firewall")
        if end.trusted.startswith("no"):
            return Verdict(False, f"{name}: {end.trusted[4:]}", "the step's stage 'certificate'")
        served = ca_host(site, facts).ca_fingerprint or end.ca_fingerprint
        if end.ca_fingerprint != served or seen.trusts not in ("", served):
            return Verdict(False, f"{name} serves another CA certificate", "which CA is this?")
        return Verdict(True, f"{name} answers and is trusted" if seen.trusts else f"{name} answers")

    return Check(
        f"clients/{host}",
        f"{host} asks {name} for certificates",
        judge,
        (
            (host, reads.SOFTWARE),
            (host, reads.network(site, site.host(host))),
            (host, reads.CERTIFICATES),
        ),
        patience=20.0,
        every=4.0,
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return tuple(
        asks(site, seen.name) for seen in see(site, facts) if editable(seen) and direct(site, seen)
    )


def intent(site: Site) -> tuple[str, ...]:
    """As far as the inventory tells: who is told, and what."""
    said = ", ".join(f"{key} = {value}" for key, value in settings(site).items())
    hosts = [h.name for h in site.hosts if "compiler" not in h.roles and "retired" not in h.roles]
    if site.ca.clients == "module":
        hosts = [name for name in hosts if "agent" not in site.host(name).roles]
    more = f" and {len(hosts) - 5} more" if len(hosts) > 5 else ""
    return (f"{', '.join(hosts[:5])}{more}: {said} in [main] of puppet.conf",)


CLIENTS = Stage(
    "clients",
    "Every host asks the CA by that name",
    plan,
    checks,
    rollout=True,
    intent=intent,
)
