"""Stages of the step `puppetdb` on PuppetDB's own hosts, from the packages to the start.

The files are made here, not by `puppetdb ssl-setup`: Debian's writes the path of a CA certificate
that only the CA's host has, and fails when it is called again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Later,
    Nothing,
    Planned,
    Read,
    Restore,
    Script,
    SecretRef,
    Site,
    Stage,
    Verdict,
    WriteFile,
)

from . import ca_clients, compiler_certificate, reads
from .compiler import enrolment
from .compiler_certificate import Applicants
from .layout import FileFact, Seen, ca_host
from .puppetdb_site import LISTS, Store, about, allowed, heap, joined, local_database, stores, urls
from .puppetdb_site import wanted_packages as packages
from .shellwords import assignments

START = 60.0  # seconds a restart takes on two processors


def mine(site: Site, facts: Facts) -> tuple[Store, ...]:
    """The PuppetDBs that are ours to set up."""
    return tuple(s for s in stores(site, facts) if not s.foreign and not s.seen.enterprise)


# --- packages, and who the host is ----------------------------------------------------------------


def install(site: Site, facts: Facts) -> Planned:
    actions = []
    for store in mine(site, facts):
        wanted = packages(site, facts, store)
        manager = store.seen.package_manager.one("manager")
        if wanted.problem or not manager or not wanted.specs:
            continue  # there already, or a blocker of the step
        sign = "=" if manager == "apt" else "-"
        given = assignments(
            manager=manager,
            specs=" ".join(f"{package}{sign}{v}" for package, v in wanted.specs),
            unit="" if store.package else "puppetdb",
            # Debian's package would ask for a database of its own, and go on without one.
            preseed="puppetdb puppetdb/dbconfig-install boolean false" if manager == "apt" else "",
        )
        said = ", ".join(f"{package} {v}" for package, v in wanted.specs)
        actions.append(
            Action(
                id=f"install/{store.name}/packages",
                host=store.name,
                title=f"install {said}; PuppetDB is not started",
                do=Script(
                    given + reads.script("install.sh") + "install_packages\n", timeout=1800.0
                ),
                undo=Compensate(given + reads.script("install.sh") + "remove_packages\n"),
            )
        )
    return tuple(actions)


def agent(site: Site, facts: Facts) -> Planned:
    """Whom its agent asks: settled before it asks for a certificate."""
    planned: list[Action | Later] = []
    for store in mine(site, facts):
        seen = store.seen
        if not seen.puppet:
            wanted = {**ca_clients.settings(site), "server": site.server}
            said = ", ".join(f"{key} = {value}" for key, value in wanted.items())
            planned.append(Later(f"{said} in [main] of puppet.conf", "install", store.name))
            continue
        conf = seen.puppet_conf
        if seen.hostcert or not ca_clients.editable(seen):
            continue  # enrolled: the step ca cares for its puppet.conf
        try:
            data = ca_clients.edited(site, conf).content
            if edit.ini_get(data, "main", "server") is None:
                data = edit.ini_set(data, "main", "server", site.server)
        except edit.EditError:
            continue  # a blocker of the step
        if data != (conf.content or b""):
            planned.append(
                Action(
                    id=f"agent/{store.name}/puppet.conf",
                    host=store.name,
                    title=f"let its agent ask {site.ca.name} for a certificate",
                    do=WriteFile(conf.path, data, before=conf.sha256),
                    undo=Restore(),
                    diff=edit.diff(conf.path, conf.content, data),
                )
            )
    return tuple(planned)


APPLICANTS = Applicants(
    lambda site, facts: tuple(s.seen for s in mine(site, facts) if s.name != site.ca.host),
    lambda seen: bool(seen.puppet and seen.certname and not seen.unread),
)


def without(site: Site, facts: Facts) -> Applicants:
    """Those that have no certificate yet: one that is there and wrong is a person's to judge."""
    hosts = tuple(s for s in APPLICANTS.hosts(site, facts) if s.hostcert is None)
    return Applicants(lambda site, facts: hosts, APPLICANTS.ready)


def renew(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.renew(site, facts, without(site, facts))


def request(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.request(site, facts, without(site, facts))


def sign(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.sign(site, facts, without(site, facts))


def fetch(site: Site, facts: Facts) -> Planned:
    return compiler_certificate.fetch(site, facts, without(site, facts))


def certificate_problem(site: Site, facts: Facts, store: Store) -> str:
    """Why the certificate it has is no good for PuppetDB; empty where it is, or there is none."""
    now, ca = store.seen.hostcert, ca_host(site, facts)
    if now is None or not ca.ca_fingerprint:
        return ""
    state = enrolment(site, facts, store.seen)
    # That the CA keeps no copy of it does not make it wrong.
    if state.why in ("the CA has none", "the CA has another one of this name"):
        return ""
    return state.why


# --- database -------------------------------------------------------------------------------------


def _given_password(site: Site) -> SecretRef | None:
    password = about(site)["database"].get("password")
    return password if isinstance(password, SecretRef) else None


def subname(site: Site) -> str:
    """The database as PuppetDB's JDBC driver is told of it."""
    database = about(site)["database"]
    options = {key: database[key] for key in ("sslmode", "sslrootcert") if key in database}
    query = "&".join(f"{key}={value}" for key, value in options.items())
    place = f"//{database['host']}:{database['port']}/{database['name']}"
    return f"{place}?{query}" if query else place


def made(site: Site, store: Store) -> bool:
    """Whether role, database and extension are here, and PuppetDB was told of them."""
    there = all(store.facts.one(key) == "yes" for key in ("role", "database", "extension"))
    return there and told(site, store)


def told(site: Site, store: Store) -> bool:
    """Whether PuppetDB has a database in its configuration, by a user with a password."""
    if _given_password(site):
        right = (store.facts.one("subname"), store.facts.one("username"))
        return right == (subname(site), about(site)["database"]["user"])
    return "password" in store.facts


def database(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    own = about(site).get("database", {})
    for store in mine(site, facts):
        if not store.etc:
            what = f"the database {own['name']}, with a password made there"
            planned.append(Later(what, "install", store.name))
        elif given := _given_password(site):
            if not told(site, store):
                planned.append(_tell(site, store, given))
        elif local_database(site) and not taken(site, store) and not made(site, store):
            values = assignments(
                etc=store.etc, name=own["name"], user=own["user"], port=str(own["port"])
            )
            script = values + reads.script("database.sh")
            planned.append(
                Action(
                    id=f"database/{store.name}/create",
                    host=store.name,
                    title=f"make role, database {own['name']} and extension pg_trgm, with a "
                    "password that is made there and shown nowhere",
                    do=Script(
                        script + "create_database\n",
                        saves=(f"{store.etc}/conf.d/database.ini",),
                        timeout=300.0,
                    ),
                    undo=Restore(first=script + "drop_database\n"),
                )
            )
    return tuple(planned)


def taken(site: Site, store: Store) -> bool:
    """A role of that name is somebody's: setting its password anew could lock them out."""
    return store.facts.one("role") == "yes" and not told(site, store)


def _tell(site: Site, store: Store, password: SecretRef) -> Action:
    own = about(site)["database"]
    path = f"{store.etc}/conf.d/database.ini"
    values = assignments(path=path, subname=subname(site), user=own["user"])
    script = values + (
        "set -u\numask 077\n"
        '{ printf "[database]\\nsubname = %s\\nusername = %s\\n" "$subname" "$user"\n'
        '    printf "password = %s\\n" "$password"; } >"$path.new" &&\n'
        '    chown root:puppetdb -- "$path.new" && chmod 0640 -- "$path.new" &&\n'
        '    sync -- "$path.new" && mv -f -T -- "$path.new" "$path"\n'
    )
    return Action(
        id=f"database/{store.name}/tell",
        host=store.name,
        title=f"let PuppetDB use {subname(site)} as {own['user']}",
        do=Script(script, saves=(path,), secrets=(("password", password),), timeout=120.0),
        undo=Restore(),
        diff="".join(
            f"+{line}\n"
            for line in (
                "[database]",
                f"subname = {subname(site)}",
                f"username = {own['user']}",
                "...",
            )
        ),
    )


# --- its files ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of one file."""

    what: str  # the last part of the action's id
    file: FileFact
    content: bytes
    title: str


def _jetty(site: Site, store: Store) -> Edit:
    file = store.file("jetty.ini")
    data = file.content or b""
    keep = edit.ini_get(data, "jetty", "ssl-host")
    wanted = {
        "ssl-host": keep or "0.0.0.0",  # noqa: S104  # every server has to reach it
        "ssl-port": str(about(site)["port"]),
        "ssl-key": f"{store.etc}/ssl/private.pem",
        "ssl-cert": f"{store.etc}/ssl/public.pem",
        "ssl-ca-cert": f"{store.etc}/ssl/ca.pem",
    }
    for key, value in wanted.items():
        if edit.ini_get(data, "jetty", key) != value:
            data = edit.ini_set(data, "jetty", key, value)
    title = f"answer by TLS on port {about(site)['port']}; the plain port stays as it is"
    return Edit("jetty.ini", file, data, title)


def _setting(store: Store) -> Edit:
    """The list is in force; its setting may stand in any file of the folder."""
    file = store.file("puppetdb.ini")
    data = file.content or b""
    key, where, value = store.list_setting
    if not value:
        key = LISTS[0] if store.version >= (6, 12, 1) or not store.version else LISTS[1]
        data = edit.ini_set(data, "puppetdb", key, f"{store.etc}/certificate-allowlist")
    title = "let only those in the list ask" + (f" (set in {where})" if value else "")
    return Edit("puppetdb.ini", file, data, title)


def _list(site: Site, facts: Facts, store: Store) -> Edit:
    file = store.file("allowlist")
    data = allowed(site, facts, store)
    had = edit.allowlist_names(file.content or b"")
    now = edit.allowlist_names(data)
    new, gone = [n for n in now if n not in had], [n for n in had if n not in now]
    title = f"allow {', '.join(new)}" if new else "allow nobody new"
    if gone:
        title += f"; no longer {', '.join(gone)}"
    return Edit("allowlist", file, data, title)


def _heap(site: Site, store: Store) -> Edit:
    file = store.file("defaults")
    data = file.content or b""
    want, now = heap(site, store), edit.heap_get(data)
    chosen = bool(about(site).get("heap"))
    if (now != want.size and chosen) or now is None or (now < want.size and want.fits):
        data = edit.heap_set(data, want.size)
    return Edit("jvm", file, data, want.why)


def edits(site: Site, facts: Facts, store: Store) -> Iterator[Edit]:
    """Every file of this host that changes; EditError where one cannot be edited."""
    found = []
    if not store.foreign:
        found += [_jetty(site, store), _heap(site, store)]
    if store.ours:
        found.append(_list(site, facts, store))
        found += [] if store.foreign else [_setting(store)]
    for change in found:
        if change.file.state not in ("file", "absent"):
            raise edit.EditError(f"{change.file.path} is {change.file.state}")
        if change.content != (change.file.content or b""):
            yield change


def configure(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for store in stores(site, facts):
        if not store.etc:
            if not store.foreign:
                names = ", ".join(h.name for h in site.having("server"))
                what = (
                    f"its files: TLS on port {about(site)['port']}, {heap(site, store).why}, "
                    f"and that only {names} may ask"
                )
                planned.append(Later(what, "install", store.name))
            continue
        try:
            changes = tuple(edits(site, facts, store))
        except edit.EditError:
            continue  # a blocker of the step
        if not store.foreign:
            planned += _copies(store)
        for number, change in enumerate(changes):
            again = "systemctl try-restart puppetdb" if store.running and not number else ""
            owner = "root:puppetdb" if change.what == "allowlist" else "root:root"
            planned.append(
                Action(
                    id=f"configure/{store.name}/{change.what}",
                    host=store.name,
                    title=change.title,
                    do=WriteFile(
                        change.file.path, change.content, before=change.file.sha256, owner=owner
                    ),
                    undo=Restore(then=again),
                    diff=edit.diff(change.file.path, change.file.content, change.content),
                )
            )
    return tuple(planned)


def _copies(store: Store) -> list[Action | Later]:
    """PuppetDB's own copies of certificate and key, which its user can read (as upstream's
    `puppetdb ssl-setup` has them)."""
    if store.state.one("tls") == "same":
        return []
    if store.seen.hostcert is None:
        return [Later("copies of certificate and key that PuppetDB can read", "fetch", store.name)]
    folder = f"{store.etc}/ssl"
    values = assignments(
        folder=folder,
        private=store.seen.setting("hostprivkey"),
        public=store.seen.setting("hostcert"),
        ca=store.seen.setting("localcacert"),
    )
    script = values + (
        "set -u\numask 077\n"
        'install -d -m 0700 -o puppetdb -g puppetdb -- "$folder" || exit 1\n'
        'install -m 0600 -o puppetdb -g puppetdb -- "$private" "$folder/private.pem" &&\n'
        '    install -m 0644 -o puppetdb -g puppetdb -- "$public" "$folder/public.pem" &&\n'
        '    install -m 0644 -o puppetdb -g puppetdb -- "$ca" "$folder/ca.pem"\n'
    )
    return [
        Action(
            id=f"configure/{store.name}/tls",
            host=store.name,
            title="copies of its certificate and key that PuppetDB can read",
            do=Script(script, saves=(folder,), timeout=60.0),
            undo=Restore(),
            diff="".join(f"+{folder}/{f}.pem\n" for f in ("private", "public", "ca")),
        )
    ]


# --- start ----------------------------------------------------------------------------------------


def start(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for store in stores(site, facts):
        if not store.etc:
            if not store.foreign:
                what = "starting PuppetDB, enabled at boot"
                planned.append(Later(what, "configure", store.name))
            continue
        try:
            changed = any(True for _ in edits(site, facts, store)) or (
                not store.foreign and store.state.one("tls") != "same"
            )
        except edit.EditError:
            continue
        # Of somebody else's only the list is ours, and with it the restart that reads it.
        unread = store.state.all("stale")
        list_path = store.file("allowlist").path
        stale = changed or bool(list_path in unread if store.foreign else unread)
        how = "restart" if store.running and stale else "" if store.running else "start"
        enabled = store.seen.service("puppetdb").get("UnitFileState") == "enabled"
        if not how and (enabled or store.foreign):
            continue
        planned.append(_serve(store, how, enabled or store.foreign))
    return tuple(planned)


def _serve(store: Store, how: str, enabled: bool) -> Action:
    vendor = store.etc.startswith("/etc/puppetlabs")
    jetty = store.file("jetty.ini").content or b""
    host = edit.ini_get(jetty, "jetty", "host") or "127.0.0.1"
    given = assignments(
        ruby=store.seen.ruby,
        logdir="/var/log/puppetlabs/puppetdb" if vendor else "/var/log/puppetdb",
        plain=edit.ini_get(jetty, "jetty", "port") or "8080",
        plain_host="127.0.0.1" if host in ("localhost", "0.0.0.0") else host,  # noqa: S104
    )
    enable = "" if enabled else "systemctl enable --quiet puppetdb || exit 1\n"
    words = {
        "start": "start PuppetDB, wait until it answers",
        "restart": "restart PuppetDB: it reads its files, and who may ask, at the start only",
        "": "enable PuppetDB at boot",
    }
    back = "systemctl stop puppetdb\n" if how == "start" else ""
    back += "" if enabled else "systemctl disable --quiet puppetdb\n"
    serve = f"serve {how}\n" if how else ""
    return Action(
        id=f"start/{store.name}/{how or 'enable'}",
        host=store.name,
        title=words[how],
        do=Script(given + reads.script("puppetdb_start.sh") + enable + serve, timeout=1200.0),
        undo=Compensate(back) if back else Nothing(),
        outage=START if how == "restart" else 0.0,
    )


# --- proof ----------------------------------------------------------------------------------------


def _reads(site: Site, name: str) -> tuple[tuple[str, Read], ...]:
    return (
        (name, reads.SOFTWARE),
        (name, reads.MACHINE),
        (name, reads.puppetdb(site)),
    )


def answers(site: Site, name: str) -> Check:
    """PuppetDB runs, its database is up, nothing waits or was thrown away."""

    def judge(facts: Facts) -> Verdict:
        store = Store(Seen(name, facts), site)
        if not store.read:
            return Verdict(None, f"{name} was not read")
        state = store.state
        log = f"journalctl -u puppetdb -n 50 --no-pager, on {name}"
        if state.one("state") != "running" or state.one("maintenance_mode") == "true":
            said = state.one("error") or state.one("state") or "it does not run"
            return Verdict(False, f"{said}. {MEANWHILE}", log)
        if state.one("write_db_up") == "false" or state.one("read_db_up") == "false":
            return Verdict(False, f"its database does not answer. {MEANWHILE}", log)
        if (queue := state.number("queue_depth")) > QUEUE:
            return Verdict(False, f"{queue} commands wait to be stored", log)
        if lost := state.number("discarded"):
            said = f"{lost} files of commands thrown away within a day"
            return Verdict(False, said, f"look into stockpile/discard in its vardir, on {name}")
        return Verdict(True, f"{state.one('version')}, queue {queue}, none thrown away")

    title = f"{name} runs PuppetDB, with its database and an empty queue"
    return Check(f"answers/{name}", title, judge, _reads(site, name), patience=60.0, every=5.0)


QUEUE = 100
"""Commands that may wait: a busy site always has some."""

MEANWHILE = (
    "Servers with soft_write_failure compile on; facts and catalogs of these runs come with the "
    "next run, their reports are lost, nothing is queued on the servers"
)


def accepts(site: Site, name: str) -> Check:
    """This server's certificate may ask every PuppetDB."""

    def judge(facts: Facts) -> Verdict:
        found = Seen(name, facts).terminus
        for url in urls(site):
            at = found.get(f"ask {url}")
            if at is None:
                return Verdict(None, f"{name} did not ask {url}")
            if at.one("status") == "403":
                remedy = "pmrunbook --step puppetdb"
                return Verdict(False, f"{url} does not have {name} in its list", remedy)
            if at.one("status") != "200":
                said = at.one("error") or f"status {at.one('status')} {at.one('said')}"
                return Verdict(False, f"{url}: {said}", f"systemctl status puppetdb, on {url}")
        return Verdict(True, f"by {', '.join(urls(site))}")

    return Check(
        f"accepts/{name}",
        f"{name} may ask PuppetDB with its certificate",
        judge,
        ((name, reads.SOFTWARE), (name, reads.terminus(urls(site)))),
        patience=20.0,
        every=4.0,
    )


def start_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """Asked before any server is pointed at it."""
    return (
        *(answers(site, s.name) for s in stores(site, facts)),
        *(accepts(site, s.name) for s in joined(site, facts)),
    )


STAGES = (
    Stage("install", "Packages, with PuppetDB not started", install),
    Stage("agent", "Whom its agent asks", agent),
    Stage("renew", "What the CA has of an earlier host of that name", renew),
    Stage("request", "It makes its key and its request", request),
    Stage("sign", "Fingerprints are compared, and signed", sign),
    Stage("fetch", "It has its certificate", fetch),
    Stage("database", "The database", database),
    Stage("configure", "Its files, and who may ask", configure),
    Stage("start", "PuppetDB runs, and accepts every server", start, start_checks),
)
