"""The step `puppetdb`: facts, exported resources and reports of every server in one place."""

from __future__ import annotations

from collections.abc import Iterator

from runbook import edit
from runbook.model import Check, Facts, Finding, Host, Read, Site, Stage, Step

from . import (
    compiler_start,
    puppetdb_clients,
    puppetdb_database,
    puppetdb_files,
    puppetdb_host,
    puppetdb_proof,
    puppetdb_start,
    reads,
)
from .catalogue import found
from .compiler import ready
from .compilers import cautious, cramped
from .fields import NONE
from .layout import Seen, joined, version
from .puppetdb_site import (
    LISTS,
    Store,
    about,
    concerns,
    heap,
    local_database,
    processors,
    stores,
    urls,
    wanted_packages,
    wanted_terminus,
)

Findings = Iterator[Finding]
OLDEST = 11
"""PostgreSQL that PuppetDB 7 and 8 ask for at least (its "Configuring PuppetDB")."""
UNPACKED = ("puppetdb",)
"""Report processors that come with a package of ours."""


def read(site: Site, host: Host) -> tuple[Read, ...]:
    """All of the survey and more on PuppetDB's hosts and every server, less on who asks them."""
    if not concerns(site):
        return ()
    found: list[Read] = []
    if host.roles & {"server", "puppetdb"}:
        own = (reads.packages(site), reads.SERVER_FILES, reads.proofs(site))
        found += [*reads.survey(site, host), *own]
    if "server" in host.roles:
        found += [reads.terminus(urls(site)), reads.exchange(site)]
    if "puppetdb" in host.roles:
        found.append(reads.puppetdb(site))
    if host.name == site.ca.host:
        found.append(reads.requests(site))
    elif about(site) and host.name in compiler_start.candidates(site):
        found += [reads.SOFTWARE, reads.AGENT, reads.CERTIFICATES, reads.terminus(urls(site))]
    return tuple(found)


# --- findings: PuppetDB's hosts -------------------------------------------------------------------


def _installing(site: Site, facts: Facts, store: Store) -> Findings:
    seen = store.seen
    if store.foreign:
        if not store.package:
            yield found("puppetdb-not-there", store.name, "no package of PuppetDB")
        return
    wanted = wanted_packages(site, facts, store)
    if wanted.problem:
        yield found("puppetdb-repository", store.name, wanted.problem)
    if wanted.specs and (said := cramped(seen)):
        yield found("no-room-to-install", store.name, said)
    if said := seen.package_manager.one("broken"):
        yield found("packages-half-installed", store.name, said)
    if locked := seen.package_manager.all("locked"):
        yield found("packages-locked", store.name, ", ".join(locked))
    offered = next((v for p, v in wanted.specs if p.startswith("postgresql")), "")
    postgres = store.facts.one("postgres") or offered.partition(":")[2] or offered
    number = version(postgres)[:1]
    if local_database(site) and number and number < (OLDEST,):
        yield found("postgres-too-old", store.name, f"PostgreSQL {postgres}")


def _running(site: Site, facts: Facts, store: Store) -> Findings:
    if store.foreign:
        return
    want = heap(site, store)
    if not want.fits:
        left = " that Puppet Server leaves" if store.seen.puppetserver else ""
        said = f"{want.why}, of {want.memory} MiB{left}"
        yield found("puppetdb-memory", store.name, said)
    unit = store.seen.service("puppetdb")
    if unit.get("LoadState") == "masked" and unit.get("UnitFileState") != "masked-runtime":
        yield found("service-masked", store.name, "puppetdb.service is masked", unit="puppetdb")
    for line in store.facts.all("listener"):
        program, _, pid = line.rpartition(" ")
        if pid != store.facts.one("main_pid"):
            port = str(about(site)["port"])
            said = f"{program} (process {pid}) has port {port}"
            yield found("puppetdb-port-taken", store.name, said, port=port)
    if local_database(site) and puppetdb_database.taken(site, store):
        name = about(site)["database"]["user"]
        yield found("puppetdb-database-taken", store.name, f"the role {name} is there already")
    if said := puppetdb_host.certificate_problem(site, facts, store):
        yield found("puppetdb-certificate", store.name, said)
    jetty = store.file("jetty.ini").content or b""
    try:
        host = edit.ini_get(jetty, "jetty", "host") or ""
    except edit.EditError:
        return
    if host not in ("", "localhost", "127.0.0.1", "::1"):
        yield found("puppetdb-plain-open", store.name, f"host = {host}")


def _database(site: Site, facts: Facts, store: Store) -> Findings:
    if store.foreign:
        return
    if said := puppetdb_database.closed(store):
        yield found("puppetdb-database-closed", store.name, said)
    if said := puppetdb_database.crowded(site, facts, store):
        yield found("puppetdb-connections", store.name, said)


def _asking(site: Site, facts: Facts, store: Store) -> Findings:
    keys = {line.split(" ", 1)[0] for line in store.facts.all("list")}
    if set(LISTS) <= keys:
        yield found("puppetdb-two-lists", store.name, " and ".join(sorted(keys)))
    if store.running and not store.list_setting[2]:
        names = ", ".join(store.state.all("producer")[:10]) or "nobody yet"
        yield found("puppetdb-open-to-all", store.name, f"used by {names}")
    if not store.etc:
        return
    try:
        tuple(puppetdb_files.edits(site, facts, store))
    except edit.EditError as error:
        yield found("puppetdb-files-unreadable", store.name, str(error))


# --- findings: servers ----------------------------------------------------------------------------


def _server(site: Site, facts: Facts, seen: Seen) -> Findings:
    if not ready(seen):
        return
    if about(site) and (problem := wanted_terminus(site, facts, seen).problem):
        yield found("puppetdb-repository", seen.name, problem)
    try:
        changes = [e.what for e in puppetdb_clients.edits(site, seen)]
    except edit.EditError as error:
        yield found("puppetdb-files-unreadable", seen.name, str(error))
        return
    config = seen.setting("config")
    if "puppet.conf" in changes and config in seen.agent.all("manages"):
        paths = {"config": config, "resources": seen.setting("resourcefile")}
        yield found("puppet-conf-managed", seen.name, f"{config} is managed", **paths)
    conf = puppetdb_clients.file_of(seen, "puppetdb.conf").content
    if conf and about(site):
        now = edit.ini_get(conf, "main", "server_urls") or "https://puppetdb:8081"
        wanted = {f"https://{url}" for url in urls(site)}
        if strange := [u.strip() for u in now.split(",") if u.strip() not in wanted]:
            yield found("puppetdb-elsewhere", seen.name, ", ".join(strange))
        if edit.ini_get(conf, "main", "soft_write_failure") not in ("true", None):
            yield found("puppetdb-hard-failure", seen.name, "soft_write_failure = false")


def _reports(site: Site, facts: Facts, seen: Seen) -> Findings:
    if not ready(seen):
        return
    state = seen.terminus.get("state", NONE)
    known = {*state.all("processor"), *UNPACKED}
    names = [n.strip() for n in seen.setting("reports", "server").split(",")]
    if unknown := [p for p in processors(site) if p not in known]:
        yield found("report-processor-unknown", seen.name, ", ".join(unknown))
    url = seen.setting("reporturl", "server")
    if "http" in names and "http" not in processors(site) and "//localhost" in url:
        yield found("report-url-local", seen.name, url)
    if "store" in puppetdb_clients.reports(site, seen).split(","):
        kept, _, path = state.one("reports_kept").partition(" ")
        said = f"{int(kept) // 1024} MiB in {path}" if kept.isdigit() else "reports = store"
        yield found("reports-kept", seen.name, said, folder=path or "REPORTDIR")


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    if not concerns(site):
        return ()
    result = [
        finding
        for store in stores(site, facts)
        if not store.seen.enterprise
        for kind in (_installing, _running, _database, _asking)
        for finding in kind(site, facts, store)
    ]
    for seen in joined(site, facts):
        result += [*_server(site, facts, seen), *_reports(site, facts, seen)]
    return tuple(result)


# --- the step -------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """What must stay true of PuppetDB and of every server."""
    here = puppetdb_start.start_checks(site, facts) if about(site) else ()
    return (*here, *puppetdb_clients.checks(site, facts), *puppetdb_proof.checks(site, facts))


STAGES: tuple[Stage, ...] = (
    *puppetdb_host.STAGES,
    puppetdb_database.DATABASE,
    puppetdb_files.CONFIGURE,
    *puppetdb_start.STAGES,
    *puppetdb_clients.STAGES,
    *puppetdb_proof.STAGES,
)

PUPPETDB = Step(
    id="puppetdb",
    title="Centralize facts, exported resources and reports",
    guide=reads.script("guide/puppetdb.md"),
    reads=read,
    stages=tuple(cautious(stage, "server", "puppetdb") for stage in STAGES),
    findings=findings,
    checks=checks,
    needs=("compilers",),
)
