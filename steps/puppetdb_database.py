"""Stage `database` of the step `puppetdb`: made beside PuppetDB, or one of the site's own."""

from __future__ import annotations

from runbook.model import Action, Facts, Later, Planned, Restore, Script, SecretRef, Site, Stage

from . import reads
from .puppetdb_site import Store, about, local_database, mine
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


def told(site: Site, store: Store) -> bool:
    """Whether PuppetDB has a database in its configuration, by a user whom that lets in."""
    said = store.facts.one("login")
    # Where PuppetDB itself is let in, a login of ours fails for another reason: two PuppetDBs can
    # have all the connections that PostgreSQL gives.
    let_in = store.state.one("read_db_up") == "true" and "authentication failed" not in said
    if said.startswith("no") and not let_in:
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


def _create(site: Site, store: Store) -> Action:
    script = _script(site, store)
    return Action(
        id=f"database/{store.name}/create",
        host=store.name,
        title=f"make role, database {about(site)['database']['name']} and extension pg_trgm, with "
        "a password that is made there and shown nowhere",
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
