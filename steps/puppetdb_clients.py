"""Stages of the step `puppetdb` on every Puppet Server: the terminus, then its files, one by one.

A server is reloaded, not restarted, and the next one only when this one serves again: agents always
find one that works.
"""

from __future__ import annotations

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Facts,
    Later,
    Nothing,
    Planned,
    Script,
    Site,
    Stage,
    Verdict,
)

from . import reads
from .compiler import ready
from .compiler_install import installing
from .compiler_start import AGAIN, reload
from .fields import NONE
from .files import Edit, changed, writes
from .layout import FileFact, Seen, file_fact, joined, servers
from .puppetdb_site import about, concerns, processors, urls, wanted_terminus
from .reads import TERMINI
from .shellwords import assignments

GONE = ("thin_storeconfigs", "async_storeconfigs")
"""Settings of Puppet 2 and 3: the terminus does not work beside them."""


# --- the terminus -------------------------------------------------------------------------------


def terminus(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in joined(site, facts) if about(site) else ():
        if not ready(seen):
            planned.append(Later("the terminus of PuppetDB", "its Puppet Server", seen.name))
            continue
        wanted = wanted_terminus(site, facts, seen)
        manager = seen.package_manager.one("manager")
        if wanted.problem or not wanted.specs or not manager:
            continue
        told, record = "the server runs on as it is", "/var/lib/pmrunbook/installed-terminus"
        planned.append(installing("terminus", seen, wanted, told, record=record))
    return tuple(planned)


# --- files --------------------------------------------------------------------------------------


def file_of(seen: Seen, label: str) -> FileFact:
    """puppetdb.conf or routes.yaml."""
    return file_fact(seen.terminus.get(label, NONE))


def section(seen: Seen, key: str) -> str:
    """The section in which Puppet Server reads this setting: where it stands now, else the usual.

    [master] is the old name of [server]; with both, [server] counts (Puppet 6.19 on).
    """
    usual = seen.system.one("section") or "server"
    data = seen.puppet_conf.content or b""
    for name in (usual, "master"):
        if edit.ini_get(data, name, key) is not None:
            return name
    return usual


def reports(site: Site, seen: Seen) -> str:
    """The processors this server has, and those the site wants: none is taken away.

    Where nobody set any, `store` is Puppet's default. It stays on the CA's server, whose disk has
    today's reports; on compile masters it would scatter them over as many disks.
    """
    data = seen.puppet_conf.content or b""
    given = [
        value
        for name in ("server", "master", "main")
        if (value := edit.ini_get(data, name, "reports")) is not None
    ]
    now = given[0] if given else ("store" if seen.name == site.ca.host else "")
    names = [n.strip() for n in now.split(",") if n.strip() not in ("", "none")]
    return ",".join(dict.fromkeys([*names, *processors(site)]))


def settings(site: Site, seen: Seen) -> dict[str, str]:
    """What Puppet Server has to be told in puppet.conf."""
    wanted: dict[str, str] = {}
    if about(site):
        wanted |= {"storeconfigs": "true", "storeconfigs_backend": "puppetdb"}
    if processors(site):
        wanted["reports"] = reports(site, seen)
    if "http" in processors(site):
        wanted["reporturl"] = site.sections["reports"]["url"]
    return wanted


def _puppet_conf(site: Site, seen: Seen) -> Edit:
    data = seen.puppet_conf.content or b""
    said = []
    for key, value in settings(site, seen).items():
        where = section(seen, key)
        if (now := edit.ini_get(data, where, key)) != value:
            said.append(f"{key} = {value}" + (f" (was {now})" if now else ""))
            data = edit.ini_set(data, where, key, value)
    for key in GONE if about(site) else ():
        for where in ("main", "server", "master"):
            if edit.ini_get(data, where, key) is not None:
                data = edit.ini_delete(data, where, key)
                said.append(f"no {key}")
    return Edit("puppet.conf", seen.puppet_conf, data, f"set {', '.join(said)}")


def _puppetdb_conf(site: Site, seen: Seen) -> Edit:
    file = file_of(seen, "puppetdb.conf")
    data = file.content or b""
    wanted = {
        "server_urls": ",".join(f"https://{url}" for url in urls(site)),
        "soft_write_failure": "true",
    }
    for key in ("server", "port"):  # retired: with one of them the terminus takes its default
        if edit.ini_get(data, "main", key) is not None:
            data = edit.ini_delete(data, "main", key)
    said = []
    for key, value in wanted.items():
        if (now := edit.ini_get(data, "main", key)) != value:
            said.append(f"{key} = {value}" + (f" (was {now})" if now else ""))
            data = edit.ini_set(data, "main", key, value)
    return Edit("puppetdb.conf", file, data, f"set {', '.join(said)}")


def _routes(seen: Seen) -> Edit:
    """Facts go to PuppetDB, and come from there where they are not cached."""
    file = file_of(seen, "routes.yaml")
    data = edit.routes_set(
        file.content or b"",
        ("server", "master"),
        "facts",
        {"terminus": "puppetdb", "cache": "yaml"},
    )
    return Edit("routes.yaml", file, data, "facts go to PuppetDB (the guide's inventory service)")


def edits(site: Site, seen: Seen) -> tuple[Edit, ...]:
    """Every file of this server that changes; EditError where one cannot be edited."""
    found = [_puppet_conf(site, seen)]
    if about(site):
        # puppet.conf last: with it the server begins to ask.
        found = [_puppetdb_conf(site, seen), _routes(seen), *found]
    return tuple(changed(found))


def unread(seen: Seen) -> tuple[str, ...]:
    """The files its running server has not read since they were written."""
    read = seen.server_state.number("read")
    pairs = [line.partition(" ") for line in seen.terminus.get("state", NONE).all("written")]
    late = [path for at, _, path in pairs if read and at.isdigit() and int(at) > read]
    stale = [line.partition(" ")[2] for line in seen.server_state.all("stale")]
    return (*late, *(p for p in stale if p == seen.setting("config")))


def connect(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in joined(site, facts) if concerns(site) else ():
        if not ready(seen):
            urls_said = ", ".join(urls(site)) or "the report server"
            planned.append(Later(f"pointing it at {urls_said}", "its Puppet Server", seen.name))
            continue
        try:
            changes = edits(site, seen)
        except edit.EditError:
            continue  # a blocker of the step
        if not changes and not unread(seen):
            continue
        if about(site):
            planned.append(_ask_first(site, seen))
        planned += writes("connect", seen.name, changes, AGAIN)
        planned.append(reload("connect", seen))
    return tuple(planned)


def _ask_first(site: Site, seen: Seen) -> Action:
    given = assignments(
        ruby=seen.ruby,
        cert=seen.setting("hostcert"),
        key=seen.setting("hostprivkey"),
        bundle=seen.setting("localcacert"),
        urls=" ".join(urls(site)),
    )
    script = given + reads.CLIENT + reads.script("ask_first.sh")
    return Action(
        id=f"connect/{seen.name}/ask",
        host=seen.name,
        title="ask PuppetDB with its certificate: nothing is changed here unless it is accepted",
        do=Script(script, timeout=60.0),
        undo=Nothing(),
    )


# --- proof --------------------------------------------------------------------------------------


def connected(site: Site, name: str) -> Check:
    """What its Puppet Server takes from its files, not what they say."""

    def judge(facts: Facts) -> Verdict:
        seen = Seen(name, facts)
        if not ready(seen) or not facts.get(name, "terminus").ok:
            return Verdict(None, seen.unread or "it was not read")
        wrong = [
            f"{key} = {seen.setting(key, 'server') or 'unset'}"
            for key, value in settings(site, seen).items()
            if seen.setting(key, "server").replace(" ", "") != value
        ]
        state = seen.terminus.get("state", NONE)
        if about(site):
            if not any(p in seen.packages for p in TERMINI):
                wrong.append("no terminus is installed")
            if state.one("facts_terminus") != "puppetdb":
                wrong.append(f"facts go to {state.one('facts_terminus') or 'its own disk'}")
        try:
            wrong += [change.file.path for change in edits(site, seen)]
        except edit.EditError as error:
            wrong.append(str(error))
        wrong += [f"Puppet Server was not reloaded since {path} changed" for path in unread(seen)]
        said = "; ".join(wrong) or ", ".join(f"{k} {v}" for k, v in settings(site, seen).items())
        return Verdict(not wrong, said, "pmrunbook --step puppetdb")

    return Check(
        f"connected/{name}",
        f"{name} sends facts, catalogs and reports where the site wants them",
        judge,
        (
            (name, reads.SOFTWARE),
            (name, reads.PUPPET_CONF),
            (name, reads.SERVER_FILES),
            (name, reads.terminus(urls(site))),
        ),
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    if not concerns(site):
        return ()
    return tuple(connected(site, host.name) for host in servers(site))


def intent(site: Site) -> tuple[str, ...]:
    """As far as the inventory tells: what every server is told."""
    said = []
    if about(site):
        said += [f"server_urls = {','.join(f'https://{url}' for url in urls(site))}"]
        said += ["storeconfigs_backend = puppetdb"]
    if processors(site):
        said += [f"reports with {','.join(processors(site))}"]
    return tuple(f"{h.name}: {', '.join(said)}" for h in servers(site)) if said else ()


STAGES = (
    Stage("terminus", "The terminus on every server", terminus, rollout=True),
    Stage(
        "connect",
        "Every server is told, one by one",
        connect,
        checks,
        rollout=True,
        singly=True,
        intent=intent,
    ),
)
