"""HAProxy on the balancer's host: installed, configured, and seen to find every server.

Nothing leads agents to it before the step `cutover`: it can be tried and taken away at leisure.
"""

from __future__ import annotations

from collections.abc import Iterator

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Finding,
    Later,
    Nothing,
    Planned,
    Read,
    Script,
    Site,
    Stage,
    Verdict,
)
from runbook.pools import pools

from . import compiler_start, haproxy, reads
from .balance import PROXIES, about, members, proxy, strategy, ttl
from .balance_config import BUNDLE, config
from .catalogue import found
from .compiler import SERVERS, Packages, choose
from .compiler_install import installing
from .fields import NONE, sections
from .files import Edit, changed, writes
from .layout import FileFact, Seen, ca_host, file_fact, unknown
from .shellwords import assignments

QUIET = 400  # seconds without an agent that are waited for at most before the proxy is taken away
CA_BUNDLE = Read("ca-bundle", 'printf "path=%s\\n" "$PS_localcacert"; pc_file "$PS_localcacert"')


def ends_tls(site: Site) -> bool:
    """Whether it is our own proxy that ends TLS."""
    return strategy(site) == "tls-proxy"


def files(site: Site) -> Read:
    """The proxy's files, service and servers."""
    if ends_tls(site):
        return haproxy.files()
    return haproxy.files(further={"puppet-ca.pem": BUNDLE})


def read(site: Site, name: str) -> tuple[Read, ...]:
    if not proxy(site):
        return ()
    own: tuple[Read, ...] = (CA_BUNDLE,) if name == site.ca.host else ()
    if name != proxy(site):
        return own
    return (*own, reads.packages(site), files(site), reads.SERVER_FILES)


# --- as it is -------------------------------------------------------------------------------------


def bundle(site: Site, facts: Facts) -> FileFact:
    """The certificates of the site's CA, as the CA's host trusts them."""
    return file_fact(sections(facts.get(site.ca.host, "ca-bundle").out).get("", NONE))


# --- as it is to be -------------------------------------------------------------------------------


def edits(site: Site, facts: Facts) -> list[Edit]:
    """What becomes of the proxy's files; EditError where one cannot be written."""
    seen = Seen(proxy(site), facts)
    served = Edit(
        "haproxy.cfg",
        haproxy.file(seen, "haproxy.cfg"),
        config(site, facts).encode(),
        f"balance port 8140 over {' and '.join(m.name for m in members(site))}",
    )
    if ends_tls(site):
        return list(changed([*haproxy.kept_fresh(seen), served]))
    trusted = Edit(
        "puppet-ca.pem",
        haproxy.file(seen, "puppet-ca.pem"),
        bundle(site, facts).content or b"",
        "let it know the site's CA, by which it tells a Puppet Server",
    )
    return list(changed([trusted, served]))


def packages(site: Site, facts: Facts) -> Packages:
    """HAProxy; where it ends TLS also the agent, which gets it a certificate and keeps the list."""
    seen, wanted = Seen(proxy(site), facts), dict(haproxy.PACKAGES)
    if ends_tls(site) and not seen.puppet:
        ca = ca_host(site, facts)
        server = next((p for p in SERVERS if p in ca.packages), "")
        if not server:
            return Packages(problem=f"which package {ca.name} has Puppet Server from is not known")
        wanted |= {SERVERS[server]: (ca.version, ca.version[:1])}
    return choose(seen, wanted)


def waits_for(site: Site, facts: Facts) -> tuple[str, str] | None:
    """What has to be there before it can be configured: what, and the stage or host it is of."""
    seen = Seen(proxy(site), facts)
    if not there(site, facts):
        return "install", proxy(site)
    if ends_tls(site) and seen.hostcert is None:
        return "fetch", proxy(site)
    if not ends_tls(site) and bundle(site, facts).content is None:
        return "it can be read", site.ca.host
    return None


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    host = proxy(site)
    if not host or not facts.reachable(host):
        return
    seen = Seen(host, facts)
    if haproxy.strange(haproxy.file(seen, "haproxy.cfg").content):
        yield found("proxy-in-use", host, f"{haproxy.CONFIG} balances something else")
    other = [p for p in haproxy.service(seen).all("listener") if p != "haproxy"]
    if other:
        yield found("proxy-port-taken", host, f"{other[0]} listens on port 8140")
    wanted = packages(site, facts)
    if wanted.problem and not there(site, facts):
        yield found("proxy-package-missing", host, wanted.problem)
    yield found("health-check-shallow", host, "GET /status/v1/simple, over TLS")


def down(site: Site, facts: Facts) -> Iterator[Finding]:
    """A proxy that was set up and does not run: whoever is sent there finds nobody."""
    host = proxy(site)
    if not host or not facts.reachable(host) or not there(site, facts):
        return
    now = haproxy.service(Seen(host, facts)).one("active")
    if now != "active":
        yield found("proxy-down", host, f"HAProxy is {now or 'not there'}")


# --- stages ---------------------------------------------------------------------------------------


def install(site: Site, facts: Facts) -> Planned:
    if not proxy(site) or not facts.reachable(proxy(site)) or there(site, facts):
        return ()
    seen, wanted = Seen(proxy(site), facts), packages(site, facts)
    if wanted.problem or not seen.package_manager.one("manager"):
        return ()  # a blocker of the step
    told = "nothing leads to it yet"
    unit = "" if haproxy.there(seen) else "haproxy"
    return (installing("install", seen, wanted, told, unit=unit, record=haproxy.RECORD),)


def there(site: Site, facts: Facts) -> bool:
    """Whether its packages are."""
    seen = Seen(proxy(site), facts)
    return haproxy.there(seen) and bool(seen.puppet or not ends_tls(site))


def configure(site: Site, facts: Facts) -> Planned:
    if not proxy(site) or not facts.reachable(proxy(site)):
        return ()
    if awaited := waits_for(site, facts):
        return (Later(f"{haproxy.CONFIG}, and by what it knows the CA", *awaited),)
    try:
        todo = edits(site, facts)
    except edit.EditError:
        return ()  # a blocker of the step
    again = "systemctl daemon-reload\n"
    again += "if systemctl is-active --quiet haproxy; then systemctl reload haproxy; fi"
    seen = Seen(proxy(site), facts)
    made = writes("configure", seen.name, todo, again)
    for place, change in enumerate(todo):
        if change.what == "haproxy.cfg":
            made.insert(place, haproxy.tried("configure", seen.name, change))
    if ends_tls(site) and not haproxy.linked(seen):
        made.insert(0, haproxy.link("configure", seen))
    return (
        *made,
        *(compiler_start.keep_fresh("configure", seen, "crl-hourly") if ends_tls(site) else ()),
    )


def serve(site: Site, facts: Facts) -> Planned:
    if not proxy(site) or not facts.reachable(proxy(site)):
        return ()
    seen = Seen(proxy(site), facts)
    at, lost = haproxy.service(seen), haproxy.lost(seen)
    if not there(site, facts):
        return (Later("starting HAProxy, enabled at boot", "install", proxy(site)),)
    try:
        todo = bool(waits_for(site, facts)) or bool(edits(site, facts))
    except edit.EditError:
        return ()
    running, old = at.one("active") == "active", todo or at.all("stale") or lost
    kind = "" if running and not old else "reload" if running else "start"
    enabled = at.one("enabled") == "enabled"
    if not kind and enabled:
        return ()
    up = " ".join(m.name for m in pools(site)[0].members if m.weight)
    script = assignments(members=up) + haproxy.SERVE
    script += "" if enabled else "systemctl enable --quiet haproxy || exit 1\n"
    script += f"serve {kind}\n" if kind else ""
    words = {
        "start": "start HAProxy, enabled at boot, and wait until it sees every server up",
        "reload": "reload HAProxy: connections go on; wait until it sees every server up",
        "": "enable HAProxy at boot",
    }
    if lost:
        words["reload"] += f" ({' and '.join(lost)}: no address when it started)"
    back = f"quiet {min(ttl(site), QUIET)} && systemctl stop haproxy || exit 1\n"
    back = assignments(members="") + haproxy.SERVE + back if kind == "start" else ""
    back += "" if enabled else "systemctl disable --quiet haproxy\n"
    return (
        Action(
            id=f"serve/{proxy(site)}/{kind or 'enable'}",
            host=proxy(site),
            title=words[kind],
            do=Script(script, timeout=180.0),
            undo=Compensate(back) if back else Nothing(),
        ),
    )


# --- proof ----------------------------------------------------------------------------------------


def up(site: Site, name: str) -> Check:
    """The proxy finds this server well."""
    asked = (proxy(site), files(site))

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, asked):
            return silent
        at = haproxy.state(Seen(proxy(site), facts)).get(name)
        remedy = f"journalctl -u haproxy -n 20 --no-pager, on {proxy(site)}"
        if at is None:
            return Verdict(False, "HAProxy does not know it, or does not run", remedy)
        return Verdict(
            at.one("status").startswith("UP"), f"{at.one('status')} {at.one('check')}", remedy
        )

    return Check(
        f"up/{name}", f"{proxy(site)} finds {name} up", judge, (asked,), patience=40.0, every=4.0
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    if not proxy(site):
        return ()
    return tuple(up(site, m.name) for m in pools(site)[0].members if m.weight)


def intent(site: Site) -> tuple[str, ...]:
    if strategy(site) not in PROXIES:
        return ()
    kind = "passing TLS through" if strategy(site) == "tcp-proxy" else "ending TLS"
    return (f"{about(site)['host']}: HAProxy on port 8140, {kind}",)


INSTALL = Stage("install", "The proxy's packages, with nothing started", install)
STAGES = (
    Stage("configure", "Its configuration, checked before it is used", configure, intent=intent),
    Stage("serve", "It runs, and finds every server well", serve, checks),
)
