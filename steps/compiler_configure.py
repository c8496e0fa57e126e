"""Stage `configure` of the compilers step: every file right before the server's first start."""

from __future__ import annotations

from collections.abc import Iterator

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Facts,
    Later,
    Planned,
    Site,
    Stage,
    Verdict,
)

from . import ca_clients, reads
from .compiler import compilers, model_master, ready, sizing, wanted_names
from .files import Edit, changed, writes
from .layout import Seen, unknown

CA_ON = "puppetlabs.services.ca.certificate-authority-service/certificate-authority-service"
CA_OFF = (
    "puppetlabs.services.ca.certificate-authority-disabled-service/"
    "certificate-authority-disabled-service"
)
WATCHER = (
    "puppetlabs.trapperkeeper.services.watcher.filesystem-watch-service/filesystem-watch-service"
)
"""Bootstrap services of Puppet Server 5 to 8; without the watcher a new CRL is not read."""

TLS = {
    "ssl-cert": "hostcert",
    "ssl-key": "hostprivkey",
    "ssl-ca-cert": "localcacert",
    "ssl-crl-path": "hostcrl",
}
"""webserver.conf's settings and where their files are: with one set, all have to be."""

CRL_INTERVAL = "1h"


def refreshes(seen: Seen) -> bool:
    """Whether this Puppet can fetch a newer CRL (setting crl_refresh_interval, 6.5 on)."""
    return seen.version >= (6, 5)


def settings(site: Site, facts: Facts, name: str) -> dict[str, str]:
    """What stands in [main] of every compile master, but for what depends on its version."""
    return {
        **ca_clients.settings(site),
        # The CA's host, not the pool: a broken compile master can still be mended from there.
        "server": site.ca.host,
        "dns_alt_names": ",".join(wanted_names(site, facts, name)[1:]),
    }


def moved_ssldir(data: bytes) -> str:
    """The ssldir that a puppet.conf has in sections other than [main], where it is to be; empty:
    in none. EditError when they differ."""
    homes = {s: edit.ini_get(data, s, "ssldir") for s in ("main", *ca_clients.OVERRIDES)}
    others = {v for s, v in homes.items() if v and s != "main"}
    if others and len(others | {homes["main"] or next(iter(others))}) > 1:
        raise edit.EditError(f"ssldir differs between sections: {homes}")
    return next(iter(others), "")


def puppet_conf(site: Site, facts: Facts, seen: Seen) -> Edit:
    """EditError where the file cannot be edited without harm."""
    data = seen.puppet_conf.content or b""
    wanted = settings(site, facts, seen.name)
    if not wanted["dns_alt_names"]:
        del wanted["dns_alt_names"]
    if seen.certname != seen.name:
        wanted["certname"] = seen.name
    if refreshes(seen):
        wanted["crl_refresh_interval"] = CRL_INTERVAL
    said, taken = [], []
    if home := moved_ssldir(data):
        wanted["ssldir"] = home
    for key, value in wanted.items():
        for section in ca_clients.OVERRIDES:
            other = edit.ini_get(data, section, key)
            if key == "server" and other == model_master(site):
                continue  # its agent takes the code from there: the step that keeps it in sync
            if other is not None and (other != value or key == "ssldir"):
                data = edit.ini_delete(data, section, key)
                taken.append(f"{key} = {other} in [{section}]")
        if edit.ini_get(data, "main", key) != value:
            said.append(f"{key} = {value}")
        data = edit.ini_set(data, "main", key, value)
    title = f"set {', '.join(said) or 'nothing'} in [main]"
    if taken:
        title += "; take out " + ", ".join(taken)
    return Edit("puppet.conf", seen.puppet_conf, data, title)


def ca_cfg(seen: Seen) -> Edit:
    file = seen.server_file("ca.cfg")
    data = edit.service_disable(file.content or b"", CA_ON)
    data = edit.service_enable(data, CA_OFF)
    if seen.server_version >= (5, 1):
        data = edit.service_enable(data, WATCHER)
    return Edit("ca.cfg", file, data, "switch the CA service off")


def webserver_conf(seen: Seen) -> Edit:
    """All four ssl-* settings or none, and those of puppet.conf where its ssldir moves."""
    file = seen.server_file("webserver.conf")
    data = file.content or b""
    conf, now = seen.puppet_conf.content or b"", seen.setting("ssldir", "server")
    home = moved_ssldir(conf) or now
    if "$" in home:
        section = "agent" if edit.ini_get(conf, "agent", "ssldir") else "server"
        home = seen.setting("ssldir", section)
    given = {key: edit.hocon_get(data, f"webserver.{key}") for key in TLS}
    added: list[str] = []
    follow: list[str] = []
    for key, setting in TLS.items():
        today = seen.setting(setting, "server")
        inside = now and today.startswith(f"{now}/")
        place = home + today.removeprefix(now) if inside else today
        if any(given.values()) and (given[key] or today) == today and given[key] != place:
            (follow if given[key] else added).append(key)
            data = edit.hocon_set(data, f"webserver.{key}", place)
    why = "or revoked certificates are accepted" if "ssl-crl-path" in added else "all or none"
    said = [f"add {', '.join(added)}: {why}"] if added else []
    said += [f"let {', '.join(follow)} follow ssldir to {home}"] if follow else []
    return Edit("webserver.conf", file, data, "; ".join(said))


def puppetserver_conf(site: Site, seen: Seen) -> Edit:
    file = seen.server_file("puppetserver.conf")
    data = file.content or b""
    want = sizing(site, seen)
    key = "jruby-puppet.max-active-instances"
    usual = max(1, min(4, seen.machine.number("processors", 1) - 1))
    now = edit.hocon_get(data, key)
    if (now or str(usual)) != str(want.instances):
        data = edit.hocon_set(data, key, str(want.instances))
    return Edit("puppetserver.conf", file, data, f"max-active-instances {want.instances}")


def jvm(site: Site, seen: Seen) -> Edit:
    """The heap: as the inventory says, or grown to what its instances need; never cut otherwise."""
    file = seen.server_file("defaults")
    data = file.content or b""
    want = sizing(site, seen)
    now = edit.heap_get(data)
    chosen = "heap" in site.sections.get("compilers", {}).get(seen.name, {})
    grows = now is None or (now < want.heap and want.fits)
    if now != want.heap and (chosen or grows):
        data = edit.heap_set(data, want.heap)
    return Edit("jvm", file, data, f"a heap of {want.heap} MiB: {want.why}")


def timer(seen: Seen) -> Iterator[Edit]:
    """The units that fetch the CA's CRL every hour, whether the agent runs or not."""
    if not refreshes(seen):
        return
    service = (
        "# Written by pmrunbook: keeps the revocation list of this Puppet Server fresh.\n"
        "[Unit]\nDescription=Fetch the certificate revocation list of the Puppet CA\n"
        "Wants=network-online.target\nAfter=network-online.target\n\n"
        "[Service]\nType=oneshot\nTimeoutStartSec=180\n"
        f"ExecStart={seen.puppet} ssl bootstrap --waitforcert 0 --crl_refresh_interval 1s "
        "--color=false\n"
    )
    units = (
        "# Written by pmrunbook.\n"
        "[Unit]\nDescription=Fetch the revocation list of the Puppet CA every hour\n\n"
        "[Timer]\nOnCalendar=hourly\nRandomizedDelaySec=15min\nPersistent=true\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    title = "a unit that fetches the CA's revocation list"
    yield Edit("crl-service", seen.server_file("crl-service"), service.encode(), title)
    title = "a timer for it, every hour"
    yield Edit("crl-timer", seen.server_file("crl-timer"), units.encode(), title)


def edits(site: Site, facts: Facts, seen: Seen) -> Iterator[Edit]:
    """Every file of this host that changes; EditError where one cannot be edited."""
    found = (
        ca_cfg(seen),
        puppet_conf(site, facts, seen),
        webserver_conf(seen),
        puppetserver_conf(site, seen),
        jvm(site, seen),
        *timer(seen),
    )
    yield from changed(found)


def plan(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in compilers(site, facts):
        if seen.enterprise:
            continue
        if not ready(seen):
            planned.append(Later(_intended(site, facts, seen), "install", seen.name))
            continue
        try:
            changes = tuple(edits(site, facts, seen))
        except edit.EditError:
            continue  # a blocker of the step
        running = seen.service("puppetserver").get("ActiveState") == "active"
        again = _again({c.what for c in changes}) if running else ""
        planned += writes("configure", seen.name, changes, again)
    return tuple(planned)


def _again(changed: set[str]) -> str:
    """How a running server takes its files back: a reload reads no ca.cfg, no JVM arguments."""
    how = "restart" if changed & {"ca.cfg", "jvm"} else "reload"
    return f"if systemctl is-active --quiet puppetserver; then systemctl {how} puppetserver; fi"


def _intended(site: Site, facts: Facts, seen: Seen) -> str:
    said = [f"{k} = {v}" for k, v in settings(site, facts, seen.name).items() if v]
    return (
        f"the files as the packages leave them, to set {', '.join(said)} in [main], switch the CA "
        f"service off, fetch the CRL every hour; {sizing(site, seen).why}"
    )


# --- proof ------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return tuple(configured(site, h.name) for h in site.having("compiler"))


def configured(site: Site, name: str) -> Check:
    """Every file says what the site wants, as its own programs read it."""
    asked = (
        (name, reads.SOFTWARE),
        (name, reads.PUPPET_CONF),
        (name, reads.SERVER_FILES),
        (name, reads.MACHINE),
        (site.ca.host, reads.CERTIFICATES),
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        if not ready(seen):
            return Verdict(None, seen.unread) if seen.unread else Verdict(False, "no Puppet Server")
        try:
            wrong = [change.file.path for change in edits(site, facts, seen)]
        except edit.EditError as error:
            return Verdict(False, str(error))
        for key, value in settings(site, facts, seen.name).items():
            right = {value, model_master(site) or value} if key == "server" else {value}
            for section in ("agent", "server"):
                if value and (now := seen.setting(key, section)) not in right:
                    wrong.append(f"{key} = {now} for the {section}")
        return Verdict(not wrong, ", ".join(wrong) or "as the site wants them")

    return Check(
        f"configure/{name}",
        f"{name}'s files are those of a compile master",
        judge,
        asked,
    )


def intent(site: Site) -> tuple[str, ...]:
    """As far as the inventory tells: [main] of each, and what else its files are for."""
    lines = []
    for host in site.having("compiler"):
        wanted = settings(site, Facts(), host.name).items()
        said = ", ".join(f"{key} = {value}" for key, value in wanted if value)
        lines.append(f"{host.name}: {said} in [main] of puppet.conf")
        lines.append(f"{host.name}: {CA_OFF} in ca.cfg, and not {CA_ON}")
    return tuple(lines)


CONFIGURE = Stage(
    "configure", "Its files, before it starts", plan, checks, rollout=True, intent=intent
)
