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


DATABASE = Stage("database", "The database", database)
