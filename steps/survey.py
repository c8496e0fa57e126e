"""The survey: what is there, and what has to be right before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from runbook.model import Check, Facts, Finding, Query, Severity, Site, Step, Verdict
from runbook.shell import quote

from . import reads
from .catalogue import found
from .expiry import expiries
from .layout import Seen, ca_host, expected, loopback, see

Findings = Iterator[Finding]


def roles(site: Site, seen: Seen) -> frozenset[str]:
    return site.host(seen.name).roles


def is_ca(site: Site, seen: Seen) -> bool:
    return seen.name == site.ca.host


# --- what is installed ----------------------------------------------------------------------------


def installed(site: Site, seen: Seen) -> Findings:
    if seen.enterprise:
        yield found("puppet-enterprise", seen.name, "Puppet Enterprise is installed")
        return
    if seen.packaging == "both":
        both = f"{seen.system.one('vendor')} and {seen.system.one('distribution')}"
        yield found("mixed-packaging", seen.name, both)
    if seen.family not in ("debian", "redhat"):
        name = seen.system.one("os_name") or seen.system.one("os") or "an unknown system"
        yield found("unsupported-system", seen.name, name)
    if "server" in roles(site, seen) and seen.system.one("init") != "systemd":
        yield found("no-systemd", seen.name, "no systemd runs on this host")
    if is_ca(site, seen) and not seen.puppetserver:
        yield found("ca-host-without-puppet-server", seen.name, "no Puppet Server")
    elif not seen.puppet:
        kind = "agent-not-installed" if "agent" in roles(site, seen) else "puppet-not-installed"
        yield found(kind, seen.name, "no Puppet")


def surveyed(site: Site, seen: Seen) -> Findings:
    """The host in one line; hosts that are alike say the same, so that faces can count them."""
    if not seen.reachable or seen.unread:
        return
    origin = {"vendor": "vendor's packages", "distribution": "distribution's packages"}
    parts = [seen.system.one("os_name") or seen.system.one("os") or "unknown system"]
    if seen.puppet:
        flavour = {"openvox": "OpenVox"}.get(seen.flavour, "Puppet")
        parts.append(f"{flavour} {seen.system.one('version')} ({origin.get(seen.packaging, '?')})")
    if seen.server_version:
        parts.append(f"Puppet Server {'.'.join(map(str, seen.server_version))}")
    if memory := seen.machine.number("memory_total"):
        parts.append(f"{memory / 1024 / 1024:.0f} GiB")
    if processors := seen.machine.number("processors"):
        parts.append(f"{processors} processor{'s' * (processors != 1)}")
    if seen.certname:
        parts.append(f"server {seen.setting('server')}, ca_server {seen.setting('ca_server')}")
    yield replace(found("surveyed", seen.name, "; ".join(parts)), estate=place(site, seen))


def place(site: Site, seen: Seen) -> dict[str, str]:
    """What the host is to the others: `Finding.estate`, which runbook.estate_map draws.

    `calls` is the name its agent asks for catalogs, `served_by` what that leads to: hosts of the
    inventory, else addresses. `puppet` is always there; the others where there is something to say.
    """
    calls = seen.setting("server_list") or seen.setting("server")
    if seen.setting("use_srv_records") == "true":
        calls = f"_x-puppet._tcp.{seen.setting('srv_domain')}"
    running = seen.service("puppetserver").get("ActiveState") == "active"
    told = {
        "calls": calls,
        "served_by": " ".join(behind(site, seen, calls)),
        "asks_ca": seen.setting("ca_server"),
        "server": ".".join(map(str, seen.server_version)) if running else "",
        "ca": "on" if seen.endpoint(seen.certname).ca_service else "",
        "puppetdb": "on" if seen.service("puppetdb").get("ActiveState") == "active" else "",
    }
    return {"puppet": seen.system.one("version"), **{k: v for k, v in told.items() if v}}


def behind(site: Site, seen: Seen, name: str) -> tuple[str, ...]:
    """The hosts of the inventory that have the addresses of `name`, else those addresses."""
    there = set(seen.resolves(name)) or {name} & {h.name for h in site.hosts}
    hosts = []
    for host in site.having("server", "balancer", "retired"):
        its = {host.name, *Seen(host.name, seen.facts).addresses}
        if there & its or (host.name == seen.name and any(map(loopback, there))):
            hosts.append(host.name)
    return tuple(hosts) or tuple(sorted(there))


def read(site: Site, seen: Seen) -> Findings:
    if seen.unread and "error" not in seen.system:
        yield found("not-read", seen.name, seen.unread)


def configured(site: Site, seen: Seen) -> Findings:
    if not seen.puppet or seen.enterprise:
        return
    if said := seen.system.one("error"):
        # Puppet goes on with its defaults, so nothing it says of its settings counts.
        yield found("settings-unreadable", seen.name, said, puppet=seen.puppet)
        return
    if seen.certname != seen.name:
        said = seen.setting("certname")
        yield found("certname-differs", seen.name, said, puppet=seen.puppet)
    if seen.version and seen.version < (6,):
        yield found("puppet-too-old", seen.name, f"Puppet {seen.system.one('version')}")
    if seen.puppetserver and " " in seen.setting("dns_alt_names", "server").strip():
        names = seen.setting("dns_alt_names", "server")
        yield found("alt-names-with-spaces", seen.name, names, puppet=seen.puppet)
    if is_ca(site, seen) and "cadir_in_ssldir" in seen.authority:
        cadir = seen.authority.one("cadir")
        yield found("cadir-in-ssldir", seen.name, cadir, puppetserver=seen.puppetserver)


def versions(site: Site, facts: Facts) -> Findings:
    hosts = [s for s in see(site, facts) if not s.enterprise]
    servers = {s.name: ".".join(map(str, s.server_version)) for s in hosts if s.server_version}
    if len(set(servers.values())) > 1:
        said = ", ".join(f"{name} {version}" for name, version in servers.items())
        yield found("servers-differ-in-version", "", said)
    oldest = min((s.version for s in hosts if s.server_version and s.version), default=())
    for seen in hosts:
        if oldest and seen.version and seen.version[0] > oldest[0]:
            said = f"agent {seen.system.one('version')}, oldest server {oldest[0]}"
            yield found("agent-newer-than-server", seen.name, said)


# --- services -------------------------------------------------------------------------------------


def services(site: Site, seen: Seen) -> Findings:
    if not seen.puppetserver or seen.enterprise:
        return
    confdir = seen.system.one("server_confdir")
    configured = set(seen.authority.all("service")) & {"on", "off"}
    live = seen.endpoint(seen.certname)
    if len(configured) != 1:
        said = "both CA services" if configured else "no CA service at all"
        yield found("ca-cfg-contradiction", seen.name, said, confdir=confdir)
    elif live.ca_service is not None and live.ca_service is not ("on" in configured):
        said = f"services.d says {configured.pop()}, the server runs it " + (
            "on" if live.ca_service else "off"
        )
        yield found("restart-pending", seen.name, said)
    unit = seen.service("puppetserver")
    if unit.get("ActiveState") == "active" and unit.get("UnitFileState") == "disabled":
        yield found("server-not-enabled", seen.name, "running, but not enabled")
    disk = seen.hostcert
    if disk and live.certificate.serial and live.certificate.serial != disk.serial:
        said = f"serial {live.certificate.serial} presented, {disk.serial} on disk"
        yield found("certificate-not-loaded", seen.name, said)
    if is_ca(site, seen):
        if live.tcp != "open":
            said = f"port {seen.port} of {seen.certname}: {live.error or live.tcp}"
            yield found("ca-not-answering", seen.name, said)
        elif live.ca_service is False or configured == {"off"}:
            yield found("ca-service-off", seen.name, "the CA service is off", confdir=confdir)
    elif live.ca_service:
        said = "GET /status/v1/simple/ca answers 200 running"
        yield found("more-than-one-ca", seen.name, said, confdir=confdir)
    elif "ca_key" in seen.authority:
        cadir = seen.authority.one("cadir")
        yield found("rogue-ca-key", seen.name, f"{cadir}/ca_key.pem", cadir=cadir)


# --- clock, room ----------------------------------------------------------------------------------


def clock(site: Site, seen: Seen) -> Findings:
    """Offsets come from the Date header of the CA's own answer, so when a host was read, and how
    long that took, does not matter (resolution: one second)."""
    ahead = next(
        (
            e.ahead
            for n in (site.ca.name, site.ca.host)
            if (e := seen.endpoint(n)).ahead is not None
        ),
        0.0,
    )
    if abs(ahead) >= 30:
        said = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the CA"
        yield found("clock-wrong" if abs(ahead) >= 300 else "clock-skew", seen.name, said)


def room(site: Site, seen: Seen) -> Findings:
    for line in seen.machine.all("disk"):
        mount, size, free = line.rsplit(" ", 2)
        total, left = int(size), int(free)  # KiB
        said = f"{mount}: {left // 1024} MiB free of {total // 1024}"
        if left < 50 * 1024:
            yield found("disk-full", seen.name, said)
        elif left < 500 * 1024 or left * 20 < total:
            yield found("disk-low", seen.name, said)
    memory = seen.machine.number("memory_total")  # KiB
    if seen.puppetserver and 0 < memory < 1_800_000:
        yield found("memory-low", seen.name, f"{memory // 1024} MiB")


# --- names ----------------------------------------------------------------------------------------


def names(site: Site, seen: Seen) -> Findings:
    ca = site.ca.name
    if not seen.resolves(ca):
        yield found("ca-name-unresolved", seen.name, f"{ca} has no address here", name=ca)
    if not seen.resolves(site.server):
        said = f"{site.server} has no address here"
        yield found("server-name-unresolved", seen.name, said, name=site.server)
    own = seen.certname or seen.name
    if seen.puppetserver and not seen.resolves(own):
        yield found("own-name-unresolved", seen.name, f"{own} has no address here", name=own)
    for address, behind in seen.reverse(own).items():
        if own not in behind.lower().split() and address in seen.addresses:
            said = f"{address} is {behind or 'without a name'}"
            yield found("reverse-differs", seen.name, said, address=address)


def elsewhere(site: Site, facts: Facts) -> Findings:
    for seen in see(site, facts):
        if (there := leads_elsewhere(site, facts, seen)) and seen.resolves(site.ca.name):
            said = f"{site.ca.name} is {there}"
            yield found("ca-name-elsewhere", seen.name, said, name=site.ca.name)


def leads_elsewhere(site: Site, facts: Facts, seen: Seen) -> str:
    """The addresses the CA's name has on this host that are surely not the CA's host.

    Where none of them is the CA's but the certificate presented there is, the CA stands behind a
    translated address: the same server all the same.
    """
    ca = ca_host(site, facts)
    if not ca.addresses:
        return ""
    there = seen.resolves(site.ca.name)
    known = {*ca.addresses, *seen.resolves(site.ca.host)}
    if seen.name == site.ca.host:
        known |= {a for a in there if loopback(a)}
    extra = [a for a in there if a not in known]
    presented = seen.endpoint(site.ca.name).certificate.fingerprint
    same = presented and ca.hostcert and presented == ca.hostcert.fingerprint
    return "" if same and len(extra) == len(there) else ", ".join(extra)


def name_servers(site: Site, facts: Facts) -> Findings:
    for name in dict.fromkeys((site.ca.name, site.ca.host)):
        answers = {}
        for server in site.dns.servers:
            if answer := facts.answers.get(Query(name, "A", server)):
                answers[server] = answer.error or " ".join(answer.records) or "no address"
        if len(set(answers.values())) > 1:
            said = "; ".join(f"{server}: {text}" for server, text in answers.items())
            yield found("name-servers-differ", "", f"{name}: {said}")


# --- TLS ------------------------------------------------------------------------------------------


def certificates(site: Site, facts: Facts) -> Findings:
    ca = ca_host(site, facts)
    live = ca.endpoint(ca.certname or ca.name).certificate
    if live.fingerprint and not live.carries(site.ca.name):
        said = f"it carries {', '.join(live.names) or live.subject}"
        yield found("ca-name-not-in-certificate", ca.name, said, host=ca.name)
    answering = ca.endpoint(site.server)
    if answering.tcp == "open" and not answering.certificate.carries(site.server):
        said = f"{site.server} answers with {', '.join(answering.certificate.names)}"
        yield found("server-name-not-in-certificate", ca.name, said, host=site.server)
    for seen in see(site, facts):
        if not seen.enterprise:
            yield from trust(site, ca, seen)


def trust(site: Site, ca: Seen, seen: Seen) -> Findings:
    name = site.ca.name if seen.resolves(site.ca.name) else site.ca.host
    end = seen.endpoint(name)
    if end.tcp == "closed" and seen.name != site.ca.host:
        said = f"port {seen.port} of {name}: {end.error or 'closed'}"
        yield found("ca-unreachable", seen.name, said, name=name)
    served = ca.ca_fingerprint or ca.endpoint(ca.certname).ca_fingerprint
    if seen.trusts and served and seen.trusts != served:
        said = f"trusts {seen.trusts[:23]}..., the CA's is {served[:23]}..."
        yield found("another-ca-trusted", seen.name, said, puppet=seen.puppet)
    crl = next(iter(seen.crls("hostcrl")), None)
    subjects = {c.subject for c in seen.certificates("localcacert")}
    if crl and subjects and crl.issuer not in subjects:
        said = f"{crl.issuer}, but it trusts {', '.join(sorted(subjects))}"
        where = seen.setting("hostcrl")
        yield found("crl-from-another-ca", seen.name, said, hostcrl=where, puppet=seen.puppet)


# --- the CA's state -------------------------------------------------------------------------------


def authority(site: Site, facts: Facts) -> Findings:
    ca = ca_host(site, facts)
    if not ca.puppetserver or ca.enterprise:
        return
    state = ca.authority
    tool = ca.puppetserver
    said = state.one("list")
    if said.startswith("refused") and ("403" in said or "Forbidden" in said):
        yield found("ca-cli-refused", ca.name, said.removeprefix("refused "), puppetserver=tool)
    signs = state.all("autosign")
    everything = "true" in signs or "name *" in signs
    if everything and "alt_names_allowed" in state:
        said = f"autosign {', '.join(signs)} and {state.one('alt_names_allowed')}"
        yield found("autosign-with-alt-names", ca.name, said, puppet=ca.puppet)
    elif everything:
        yield found("autosign-all", ca.name, f"autosign {', '.join(signs)}", puppet=ca.puppet)
    elif "alt_names_allowed" in state:
        yield found("alt-names-allowed", ca.name, f"true in {state.one('alt_names_allowed')}")
    if twice := state.all("duplicate"):
        yield found("duplicate-requests", ca.name, ", ".join(twice[:20]), puppetserver=tool)
    ours = reads.probe_name(site)
    if waiting := [n for n in state.all("pending") if n != ours]:
        yield found("requests-pending", ca.name, ", ".join(waiting[:20]), puppetserver=tool)
    if torn := state.all("torn")[:20]:
        files = " ".join(quote(path) for path in torn)
        yield found("ca-write-broken-off", ca.name, ", ".join(torn), files=files)


# --- clients --------------------------------------------------------------------------------------


def clients(site: Site, seen: Seen) -> Findings:
    if not seen.certname or seen.enterprise:
        return
    now = seen.setting("ca_server")
    config = seen.setting("config")
    if now != site.ca.name and site.ca.clients != "srv":
        yield found("ca-server-not-set", seen.name, f"ca_server is {now}", puppet=seen.puppet)
        if config in seen.agent.all("manages"):
            paths = {"config": config, "resources": seen.setting("resourcefile")}
            yield found("puppet-conf-managed", seen.name, f"{config} is managed", **paths)
        if listed := seen.setting("server_list"):
            yield found("server-list-captures-ca", seen.name, listed, puppet=seen.puppet)
    if seen.setting("use_srv_records") == "true" and site.ca.clients != "srv":
        said = f"use_srv_records with srv_domain {seen.setting('srv_domain')}"
        yield found("srv-overrides-ca", seen.name, said, puppet=seen.puppet)
    if "disabled" in seen.agent:
        why = seen.agent.one("disabled") or "no reason given"
        yield found("agent-disabled", seen.name, why, puppet=seen.puppet)
    if not seen.enrolled:
        yield found("agent-not-enrolled", seen.name, "no certificate yet", puppet=seen.puppet)


PER_HOST: tuple[Callable[[Site, Seen], Findings], ...] = (
    surveyed,
    read,
    installed,
    configured,
    services,
    clock,
    room,
    names,
    expiries,
    clients,
)
PER_SITE: tuple[Callable[[Site, Facts], Findings], ...] = (
    versions,
    elsewhere,
    name_servers,
    certificates,
    authority,
)


MENDED = {
    "another-ca-trusted",
    "ca-server-not-set",
    "ca-cfg-contradiction",
    "certificate-expired",
    "crl-from-another-ca",
    "more-than-one-ca",
    "restart-pending",
    "rogue-ca-key",
}
"""What the step that builds compile masters puts right on them."""


def mended(site: Site, finding: Finding) -> Finding:
    """The finding, less grave where a later step is there to mend it."""
    compiler = finding.host in site and "compiler" in site.host(finding.host).roles
    if not compiler or finding.id not in MENDED:
        return finding
    severity = Severity.WARNING if finding.severity is Severity.BLOCKER else finding.severity
    return replace(finding, severity=severity, fixed_by="compilers")


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    """Everything found, the worst first, then host by host."""
    all_ = [f for seen in see(site, facts) for kind in PER_HOST for f in kind(site, seen)]
    all_ += [f for kind in PER_SITE for f in kind(site, facts)]
    all_ = [mended(site, f) for f in all_]
    rank = {"blocker": 0, "warning": 1, "note": 2}
    return tuple(sorted(all_, key=lambda f: (rank[f.severity.value], f.id, f.host)))


# --- what stays true ------------------------------------------------------------------------------


def one_ca(site: Site, facts: Facts) -> Check:
    """Exactly one server of the site signs certificates; compile masters have a check of theirs."""
    hosts = [site.host(seen.name) for seen in expected(site, facts)]
    servers = [h for h in hosts if "server" in h.roles and "compiler" not in h.roles]

    def judge(facts: Facts) -> Verdict:
        on = []
        for host in servers:
            seen = Seen(host.name, facts)
            if seen.puppetserver and seen.endpoint(seen.certname).ca_service:
                on.append(host.name)
        text = ", ".join(on) or "none"
        return Verdict(on == [site.ca.host], text, f"the CA service belongs on {site.ca.host} only")

    asked = tuple((h.name, r) for h in servers for r in (reads.SOFTWARE, reads.network(site, h)))
    return Check("one-ca", f"{site.ca.host} is the one CA of the site", judge, asked)


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return (one_ca(site, facts),)


def queries(site: Site) -> tuple[Query, ...]:
    """The CA's name and its host's, at every authoritative name server."""
    return tuple(
        Query(name, rtype, server)
        for server in site.dns.servers
        for name in dict.fromkeys((site.ca.name, site.ca.host))
        for rtype in ("A", "AAAA")
    )


SURVEY = Step(
    id="survey",
    title="Survey and preflight",
    guide=reads.script("guide/survey.md"),
    reads=reads.survey,
    findings=findings,
    checks=checks,
    queries=queries,
)
