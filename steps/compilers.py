"""The step `compilers`: bare machines become Puppet Servers that only compile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Facts,
    Finding,
    Host,
    Later,
    Planned,
    Read,
    Site,
    Stage,
    Step,
)

from . import (
    compiler_certificate,
    compiler_configure,
    compiler_drill,
    compiler_install,
    compiler_start,
    reads,
)
from .catalogue import found
from .compiler import (
    alt_names,
    compilers,
    enrolment,
    fronted,
    packages,
    port,
    ready,
    setting_of,
    sizing,
)
from .layout import Seen, ca_host, loopback, see

Findings = Iterator[Finding]
ROOM = 1024 * 1024
"""KiB free for Puppet Server and a JVM, or PuppetDB and PostgreSQL, and what is unpacked beside."""


def read(site: Site, host: Host) -> tuple[Read, ...]:
    """All of the survey and more on compile masters and the CA's host, less on who asks them."""
    if host.name == site.ca.host:
        return (
            *reads.survey(site, host),
            reads.proofs(site),
            reads.SERVER_FILES,
            reads.code(site),
            reads.CODE_ARCHIVE,
            reads.requests(site),
        )
    if "compiler" in host.roles:
        own = (reads.packages(site), reads.SERVER_FILES, reads.code(site))
        return (*reads.survey(site, host), reads.proofs(site), *own)
    if host.name in compiler_start.candidates(site):
        return (reads.SOFTWARE, reads.AGENT, reads.CERTIFICATES, reads.proofs(site))
    return ()


# --- findings -------------------------------------------------------------------------------------


def installing(site: Site, facts: Facts, seen: Seen) -> Findings:
    if seen.puppetserver:
        return
    offer = packages(site, facts, seen)
    manager = seen.package_manager
    if not manager.one("manager"):
        yield found("no-package-manager", seen.name, "neither apt nor dnf nor yum")
    elif offer.problem:
        yield found("repository-lacks-version", seen.name, offer.problem)
    if said := cramped(seen):
        yield found("no-room-to-install", seen.name, said)
    if said := manager.one("broken"):
        yield found("packages-half-installed", seen.name, said)
    if locked := manager.all("locked"):
        yield found("packages-locked", seen.name, ", ".join(locked))


def cramped(seen: Seen) -> str:
    """The file systems that packages go to and that have too little room, as words."""
    found = []
    for line in seen.machine.all("disk"):
        mount, _, free = line.rsplit(" ", 2)
        if mount in ("/", "/usr", "/opt", "/var", "/var/lib") and int(free) < ROOM:
            found.append(f"{mount}: {int(free) // 1024} MiB free")
    return ", ".join(found)


def fitting(site: Site, facts: Facts, seen: Seen) -> Findings:
    want = sizing(site, seen)
    chosen = bool(site.sections.get("compilers", {}).get(seen.name))
    if not want.fits and (chosen or not seen.puppetserver):
        yield found("compiler-memory", seen.name, want.why)
    elif not seen.puppetserver or not ready(seen):
        yield found("compiler-sizing", seen.name, want.why)
    ca = ca_host(site, facts)
    # Without Puppet there is no Ruby to ask the CA for its time: the two reads tell, roughly.
    times = [float(s.machine.one("epoch") or 0) for s in (seen, ca)]
    if not seen.ruby and all(times) and abs(times[0] - times[1]) > 300 + 60:
        said = f"{abs(times[0] - times[1]):.0f} s away from {ca.name}"
        yield found("clock-wrong", seen.name, said)


def reachable(site: Site, facts: Facts, seen: Seen) -> Findings:
    here = seen.resolves(seen.name)
    if not here:
        yield found("compiler-name-unresolved", seen.name, "no address", name=seen.name)
    elif seen.addresses and not [a for a in here if a in seen.addresses or loopback(a)]:
        yield found("compiler-name-unresolved", seen.name, ", ".join(here), name=seen.name)
    end = seen.endpoint(site.ca.name)
    known = bool(ca_host(site, facts).resolves(site.ca.name))  # else the step ca adds the name
    if end.tcp == "closed" or (end.tcp == "unresolved" and known):
        said = f"{site.ca.name}: {end.error or end.tcp}"
        yield found("compiler-without-ca", seen.name, said, name=site.ca.name)


def hindered(site: Site, facts: Facts, seen: Seen) -> Findings:
    unit = seen.service("puppetserver")
    # Until the next boot only: by an installation of ours that was broken off; `start` undoes it.
    if unit.get("LoadState") == "masked" and unit.get("UnitFileState") != "masked-runtime":
        said = "puppetserver.service is masked"
        yield found("service-masked", seen.name, said, unit="puppetserver")
    own = seen.server_state.one("main_pid")
    for line in seen.server_state.all("listener"):
        program, _, pid = line.rpartition(" ")
        if pid != own and port(seen) == 8140 and not (fronted(seen) and program == "haproxy"):
            yield found("port-taken", seen.name, f"{program} (process {pid}) has port 8140")
    if not ready(seen):
        return
    try:
        changes = [e.what for e in compiler_configure.edits(site, facts, seen)]
    except edit.EditError as error:
        yield found("puppet-conf-unreadable", seen.name, str(error))
        return
    if "ca.cfg" not in changes and "on" in seen.authority.all("service"):
        confdir = seen.system.one("server_confdir")
        said = "another file than ca.cfg switches the CA service on"
        yield found("ca-cfg-contradiction", seen.name, said, confdir=confdir)
    web = seen.server_file("webserver.conf").content
    elsewhere = [
        f"{key} = {value}"
        for key, setting in compiler_configure.TLS.items()
        if (value := setting_of(web, f"webserver.{key}"))
        and value != seen.setting(setting, "server")
    ]
    if elsewhere:
        yield found("tls-files-elsewhere", seen.name, ", ".join(elsewhere))
    ca = ca_host(site, facts)
    if ca.server_version and seen.server_version not in ((), ca.server_version):
        said = ".".join(map(str, seen.server_version))
        yield found("compiler-version-differs", seen.name, said)
    config = seen.setting("config")
    if "puppet.conf" in changes and config in seen.agent.all("manages"):
        paths = {"config": config, "resources": seen.setting("resourcefile")}
        yield found("puppet-conf-managed", seen.name, f"{config} is managed", **paths)
    if not compiler_configure.refreshes(seen):
        said = f"Puppet {seen.system.one('version')}"
        yield found("crl-not-refreshed", seen.name, said, hostcrl=seen.setting("hostcrl"))


def certificate(site: Site, facts: Facts, seen: Seen) -> Findings:
    if not ready(seen):
        return
    if compiler_certificate.rogue(site, seen):
        yield found("rogue-ca", seen.name, seen.authority.one("cadir") or "its CRL is another CA's")
    state = enrolment(site, facts, seen)
    if state.stale and state.why:
        yield found("compiler-certificate", seen.name, state.why)


def site_wide(site: Site, facts: Facts) -> Findings:
    ca = ca_host(site, facts)
    yield from compiler_certificate.findings(site, facts)
    shared: dict[str, list[str]] = {}
    for seen in see(site, facts):
        if seen.certname and seen.certname != seen.name and not seen.enterprise:
            shared.setdefault(seen.certname, []).append(seen.name)
    for name, hosts in shared.items():
        others = [*hosts, *([name] if name in site else [])]
        if len(others) > 1:
            yield found("certname-shared", hosts[0], f"{name} on {', '.join(others)}")
    bare = [s for s in compilers(site, facts) if ready(s) and not compiler_start.environments(s)]
    bare += [s for s in compilers(site, facts) if not s.puppetserver]
    if bare and compiler_start.archive(ca) is None and facts.get(ca.name, "code-archive").ok:
        why = {"large": "more than 4 MB", "secrets": "with private keys"}
        said = next(
            (text for key, text in why.items() if key in ca.archive), "none that can be copied"
        )
        yield found("code-not-copied", ca.name, f"{said}, for {', '.join(s.name for s in bare)}")
    covered = {
        *alt_names(site, facts, site.dns_alt_names),
        site.ca.name,
        *(h.name for h in site.having("server")),
    }
    called = {s.setting("server") for s in see(site, facts) if s.certname} - {""}
    if site.dns_alt_names and (other := sorted(called - covered)):
        yield found("name-not-covered", "", ", ".join(other))


PER_HOST = (installing, fitting, reachable, hindered, certificate)


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    result = [
        finding
        for seen in compilers(site, facts)
        if not seen.enterprise
        for kind in PER_HOST
        for finding in kind(site, facts, seen)
    ]
    return (*result, *site_wide(site, facts))


# --- the step -------------------------------------------------------------------------------------

WORK = (
    compiler_install.INSTALL,
    compiler_configure.CONFIGURE,
    *compiler_certificate.BEFORE,
    compiler_start.CODE,
    compiler_start.START_STAGE,
)


def busy(site: Site, facts: Facts) -> frozenset[str]:
    """The compile masters on which something is left to do."""
    return frozenset(p.host for stage in WORK for p in stage.plan(site, facts))


def quiet(site: Site, facts: Facts) -> Planned:
    hosts = busy(site, facts)
    return tuple(
        compiler_install.pause(seen)
        for seen in compilers(site, facts)
        if compiler_install.daemon(seen) and seen.name in hosts
    )


def resume(site: Site, facts: Facts) -> Planned:
    return compiler_install.resume(site, facts, busy(site, facts))


def cautious(stage: Stage, *roles: str) -> Stage:
    """The stage, saying what it cannot know of hosts with these roles, or the CA's: a read that
    failed is no host with nothing to do."""

    def plan(site: Site, facts: Facts) -> Planned:
        asked = dict.fromkeys((*site.having(*roles), site.host(site.ca.host)))
        unread: list[Action | Later] = [
            Later(f"{seen.name} ({seen.unread})", "it can be read", seen.name)
            for h in asked
            if (seen := Seen(h.name, facts)).reachable and seen.unread
        ]
        return (*unread, *stage.plan(site, facts))

    return replace(stage, plan=plan)


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """What must stay true of every compile master."""
    if not site.having("compiler"):
        return ()
    return (
        *compiler_install.checks(site, facts),
        *compiler_configure.checks(site, facts),
        *compiler_certificate.checks(site, facts),
        *compiler_certificate.closed(site, facts),
        *compiler_start.code_checks(site, facts),
        *compiler_start.start_checks(site, facts),
        *compiler_drill.checks(site, facts, tuple(h.name for h in site.having("compiler"))),
    )


STAGES = (
    Stage("quiet", "Nothing else at work", quiet, rollout=True),
    *WORK,
    *compiler_drill.stages(),
    compiler_start.RUN,
    Stage("resume", "What was stopped runs again", resume, always=True),
)

COMPILERS = Step(
    id="compilers",
    title="Build the compile masters",
    guide=reads.script("guide/compilers.md"),
    reads=read,
    stages=tuple(cautious(stage, "compiler") for stage in STAGES),
    findings=findings,
    checks=checks,
    needs=("ca",),
)
