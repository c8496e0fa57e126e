"""Stage `configure` of the step `puppetdb`: TLS, memory, and who may ask.

The files are made here, not by `puppetdb ssl-setup`: Debian's writes the path of a CA certificate
that only the CA's host has, and fails when it is called again.
"""

from __future__ import annotations

from collections.abc import Iterator

from runbook import edit
from runbook.model import Action, Facts, Later, Planned, Restore, Script, Site, Stage

from .files import Edit, changed, writes
from .puppetdb_site import LISTS, Store, about, allowed, heap, stores
from .shellwords import assignments


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
    return Edit("allowlist", file, data, title, owner="root:puppetdb")


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
    yield from changed(found)


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
        again = "systemctl try-restart puppetdb" if store.running else ""
        planned += writes("configure", store.name, changes, again)
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


def intent(site: Site) -> tuple[str, ...]:
    """As far as the inventory tells: its port, and who may ask."""
    names = ", ".join(h.name for h in site.having("server"))
    return tuple(
        f"{h.name}: TLS on port {about(site)['port']}, for {names}" for h in site.having("puppetdb")
    )


CONFIGURE = Stage("configure", "Its files, and who may ask", configure, intent=intent)
