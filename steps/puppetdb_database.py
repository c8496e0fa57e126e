"""Stage `database` of the step `puppetdb`: made beside PuppetDB, or one of the site's own."""

from __future__ import annotations

import re

from runbook.model import Action, Facts, Later, Planned, Restore, Script, SecretRef, Site, Stage

from . import reads
from .puppetdb_site import Store, about, local_database, mine, stores
from .shellwords import assignments


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


NO_ROOM = re.compile(r"connection slots|too many")
"""PostgreSQL has no connection left (its error 53300)."""


def closed(store: Store) -> str:
    """What a login as PuppetDB said, where it failed and PuppetDB does not say that it is in.

    It waits a second for its database (`db-up?`): on a busy machine it says no where it is in.
    """
    outcome, _, said = store.facts.one("login").partition(" ")
    inside = store.state.one("read_db_up") == "true" and "authentication failed" not in said
    return said if outcome == "no" and not inside and not NO_ROOM.search(said) else ""


def refused(store: Store) -> bool:
    """Whether the database refuses what PuppetDB has of it, which being told anew can cure.

    A server's own word follows its severity and two blanks (libpq), in whatever language it has.
    Where that is missing nobody was asked; "the database system is" starting up, or going down.
    """
    said = closed(store)
    return ":  " in said and "the database system is " not in said


POOL = 25
"""Connections that PuppetDB opens for writing, and as many again for reading, unless told
otherwise (`maximum-pool-size`; its "Configuring PuppetDB")."""


def crowded(site: Site, facts: Facts, store: Store) -> str:
    """How many connections the PuppetDBs on one PostgreSQL take, where it has not as many."""
    said = store.facts.one("login")
    if NO_ROOM.search(said):
        return said.partition(" ")[2]
    sharing = stores(site, facts) if not local_database(site) else (store,)
    wanted = sum(2 * (s.facts.number("pool") or POOL) for s in sharing)
    given = store.facts.number("connections")
    return f"{wanted} are taken, of {given}" if 0 < given < wanted else ""


def told(site: Site, store: Store) -> bool:
    """Whether PuppetDB has a database in its configuration, by a user whom that does not refuse."""
    if refused(store):
        return False
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
                planned.append(_use(site, store, given))
        elif local_database(site) and not taken(site, store) and not made(site, store):
            planned.append(_create(site, store))
    return tuple(planned)


def taken(site: Site, store: Store) -> bool:
    """A role of that name is somebody's: setting its password anew could lock them out."""
    return store.facts.one("role") == "yes" and "password" not in store.facts


def _script(site: Site, store: Store) -> str:
    """The functions of database.sh, with what they need."""
    own = about(site)["database"]
    options = {key: own[key] for key in ("sslmode", "sslrootcert") if key in own}
    given = assignments(
        etc=store.etc,
        host=own["host"],
        port=str(own["port"]),
        name=own["name"],
        user=own["user"],
        subname=subname(site),
        **options,
    )
    return given + reads.script("database.sh")


def _ini(store: Store) -> str:
    return f"{store.etc}/conf.d/database.ini"


def _making(site: Site, store: Store) -> str:
    own, facts = about(site)["database"], store.facts
    parts = {
        "role": f"role {own['user']}",
        "database": f"database {own['name']}",
        "extension": "extension pg_trgm",
    }
    missing = ", ".join(said for key, said in parts.items() if facts.one(key) != "yes")
    if facts.one("postgres") == "stopped":
        return f"start PostgreSQL, and make what is not there of: {missing}"
    if "password" not in facts:
        return f"make {missing}, with a password that is made there and shown nowhere"
    return f"make {missing}" if missing else f"let {parts['role']} in by the password PuppetDB has"


def _create(site: Site, store: Store) -> Action:
    script = _script(site, store)
    return Action(
        id=f"database/{store.name}/create",
        host=store.name,
        title=_making(site, store),
        do=Script(script + "create_database\n", saves=(_ini(store),), timeout=300.0),
        undo=Restore(first=script + "drop_database\n"),
    )


def _use(site: Site, store: Store, password: SecretRef) -> Action:
    user = about(site)["database"]["user"]
    lines = ("[database]", f"subname = {subname(site)}", f"username = {user}", "...")
    return Action(
        id=f"database/{store.name}/use",
        host=store.name,
        title=f"let PuppetDB use {subname(site)} as {user}",
        do=Script(
            _script(site, store) + "use_database\n",
            saves=(_ini(store),),
            secrets=(("password", password),),
            timeout=120.0,
        ),
        undo=Restore(),
        diff="".join(f"+{line}\n" for line in lines),
    )


DATABASE = Stage("database", "The database", database)
