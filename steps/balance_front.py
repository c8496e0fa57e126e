"""A proxy in front of each Puppet Server of a pool whose TLS another host ends.

Puppet Server believes headers from everybody or from nobody (`allow-header-cert-info`). So it is
moved to loopback, where only its own host's HAProxy, by certificate, may ask it; that one verifies
agents and believes the balancer alone. See docs/decisions/0017-a-proxy-that-ends-tls.md.
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
from runbook.shell import quote

from . import compiler_start, haproxy, haproxy_tls, reads
from .balance import about, members, proxy, strategy
from .balance_config import own_name
from .ca_certificate import serving
from .catalogue import found
from .compiler import choose, port, ready, setting_of
from .compiler_install import installing
from .files import Edit, changed, writes
from .layout import Seen, unknown
from .shellwords import assignments

INSIDE = "127.0.0.1"
BELIEVES = "authorization.allow-header-cert-info"


def relay(site: Site) -> str:
    """The certname of the balancer that is believed about agents; empty where none ends TLS."""
    if strategy(site) == "tls-proxy":
        return proxy(site)
    if strategy(site) == "hardware" and about(site).get("mode") == "tls":
        return own_name(site)
    return ""


def names(site: Site) -> tuple[str, ...]:
    """The servers that get a proxy of their own; never the CA's."""
    if not relay(site):
        return ()
    return tuple(m.name for m in members(site) if m.name != site.ca.host)


def hosts(site: Site, facts: Facts) -> tuple[Seen, ...]:
    found = (Seen(name, facts) for name in names(site) if facts.reachable(name))
    return tuple(s for s in found if not s.enterprise)


def files(site: Site, name: str) -> Read:
    return haproxy.files(next(m.port for m in members(site) if m.name == name))


def read(site: Site, name: str) -> tuple[Read, ...]:
    return (reads.packages(site), files(site, name)) if name in names(site) else ()


# --- as it is to be -------------------------------------------------------------------------------


def inner(seen: Seen) -> int:
    """Where Puppet Server listens on loopback."""
    return port(seen) + 1


def config(site: Site, seen: Seen) -> str:
    own = haproxy_tls.trust(seen)
    six = any(":" in a for a in seen.addresses)
    return f"""{haproxy_tls.base(haproxy.HEAD)}
frontend puppet
{haproxy_tls.bind(own, port(seen), six)}{haproxy_tls.identity(relay(site))}\
    default_backend own

backend own
    # Its certificate does not carry the names agents call, which newer Jettys would mind.
    http-request set-header Host {seen.name}
    server own {INSIDE}:{inner(seen)} ssl {own.verified} verify required verifyhost {seen.name} \
sni str({seen.name})
"""


def outside(site: Site, seen: Seen) -> list[Edit]:
    """Files of HAProxy, and of what keeps its revocation list fresh."""
    served = Edit(
        "haproxy.cfg",
        haproxy.file(seen, "haproxy.cfg"),
        config(site, seen).encode(),
        f"end TLS at port {port(seen)}, and believe {relay(site)} alone about others",
    )
    return [*haproxy.kept_fresh(seen), served]


def inside(seen: Seen) -> list[Edit]:
    """Files of Puppet Server; EditError where one cannot be edited."""
    web, auth = seen.server_file("webserver.conf"), seen.server_file("auth.conf")
    listens = web.content or b""
    wanted = {"ssl-host": INSIDE, "ssl-port": str(inner(seen)), "client-auth": "need"}
    for key, value in wanted.items():
        listens = edit.hocon_set(listens, f"webserver.{key}", value)
    believes = edit.hocon_set(auth.content or b"", BELIEVES, "true")
    return [
        Edit("webserver.conf", web, listens, f"listen on {INSIDE}:{inner(seen)} alone"),
        Edit("auth.conf", auth, believes, "believe the proxy in front about who asks"),
    ]


def right(seen: Seen) -> bool:
    """Whether Puppet Server is inside, and HAProxy in its place, with the files there are."""
    return haproxy.linked(seen) and needs(seen) == ("", "")


def needs(seen: Seen) -> tuple[str, str]:
    """What it takes until Puppet Server and HAProxy run with the files they have."""
    at = haproxy.service(seen)
    kinds = {line.partition(" ")[0] for line in seen.server_state.all("stale")}
    server = "" if seen.service("puppetserver").get("ActiveState") == "active" else "start"
    if not server and ("reload" in kinds or at.all("inner") != ("java",)):
        server = "reload"
    if at.one("active") != "active" or at.all("listener") != ("haproxy",):
        return server, "restart" if at.one("active") == "active" else "start"
    enabled = at.one("enabled") == "enabled"
    return server, "reload" if at.all("stale") or not enabled else ""


# --- findings -------------------------------------------------------------------------------------


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    if relay(site) and site.ca.host in {m.name for m in members(site)}:
        yield found("proxy-ca-member", site.ca.host, "it is a member of the pool")
    for seen in hosts(site, facts):
        if not ready(seen):
            continue
        try:
            inside(seen)
        except edit.EditError as error:
            yield found("puppet-conf-unreadable", seen.name, str(error))
            continue
        web = seen.server_file("webserver.conf").content
        plain = [k for k in ("port", "host") if setting_of(web, f"webserver.{k}")]
        if plain:
            said = ", ".join(f"{k} = {setting_of(web, f'webserver.{k}')}" for k in plain)
            yield found("server-plain-open", seen.name, said)
        believes = setting_of(seen.server_file("auth.conf").content, BELIEVES) == "true"
        if believes and port(seen) == int(setting_of(web, "webserver.ssl-port") or 8140):
            yield found("headers-believed", seen.name, f"{BELIEVES}: true")
        if haproxy.strange(haproxy.file(seen, "haproxy.cfg").content):
            yield found("proxy-in-use", seen.name, f"{haproxy.CONFIG} balances something else")
        if other := [p for p in haproxy.service(seen).all("inner") if p != "java"]:
            yield found("proxy-port-taken", seen.name, f"{other[0]} listens on port {inner(seen)}")
        wanted = choose(seen, haproxy.PACKAGES)
        if wanted.problem and not haproxy.there(seen):
            yield found("proxy-package-missing", seen.name, wanted.problem)


# --- stages ---------------------------------------------------------------------------------------


def install(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in hosts(site, facts):
        if haproxy.there(seen):
            continue
        wanted = choose(seen, haproxy.PACKAGES)
        if wanted.problem or not seen.package_manager.one("manager"):
            continue  # a blocker of the step
        told = "its Puppet Server goes on to serve"
        record = haproxy.RECORD
        planned.append(
            installing("front-install", seen, wanted, told, unit="haproxy", record=record)
        )
    return tuple(planned)


def _script(seen: Seen) -> str:
    given = assignments(inner=str(inner(seen)))
    return serving(seen, port(seen)) + given + reads.script("front.sh")


def plan(site: Site, facts: Facts) -> Planned:
    """One server at a time: the others serve meanwhile."""
    planned: list[Action | Later] = []
    for seen in hosts(site, facts):
        if not ready(seen) or not haproxy.there(seen):
            after = "front-install" if ready(seen) else "its Puppet Server is there"
            what = f"HAProxy at port 8140, its Puppet Server behind it at {INSIDE} alone"
            planned.append(Later(what, after, seen.name))
            continue
        try:
            outer, moved = list(changed(outside(site, seen))), list(changed(inside(seen)))
        except edit.EditError:
            continue  # a blocker of the step
        server, proxy_ = needs(seen)
        if moved:
            server = "start" if server == "start" else "reload"
        if outer and not proxy_:
            proxy_ = "reload"
        if not haproxy.linked(seen):
            planned.append(haproxy.link("front", seen))
        for change in outer:
            if change.what == "haproxy.cfg":
                planned.append(haproxy.tried("front", seen.name, change))
        planned += writes("front", seen.name, outer, "systemctl daemon-reload")
        planned += compiler_start.keep_fresh("front", seen, "crl-hourly")
        back = _script(seen) + "systemctl reload puppetserver && wait_ready\n"
        planned += writes("front", seen.name, moved, back)
        if server or proxy_:
            planned.append(_take_over(seen, server, proxy_ or "reload"))
    return tuple(planned)


def _take_over(seen: Seen, server: str, proxy_: str) -> Action:
    first = proxy_ == "start"
    words = f"{server} Puppet Server: it listens on loopback alone; " if server else ""
    script = f"systemctl daemon-reload\n{_script(seen)}take_over {quote(server)} {proxy_}\n"
    return Action(
        id=f"front/{seen.name}/take-over",
        host=seen.name,
        title=f"{words}{proxy_} HAProxy in front of it, wait until both serve",
        do=Script(script, timeout=600.0),
        undo=Compensate(_script(seen) + "give_back\n") if first else Nothing(),
        outage=compiler_start.RELOAD + 3 if server else 0.0,
    )


# --- proof ----------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return tuple(_fronted(site, name) for name in names(site))


def _fronted(site: Site, name: str) -> Check:
    asked = (
        (name, reads.SOFTWARE),
        (name, reads.MACHINE),
        (name, reads.SERVER_FILES),
        (name, files(site, name)),
    )
    remedy = f"on {name}: journalctl -u haproxy -n 20 --no-pager; then pmrunbook --step balancer"

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        try:
            wrong = [e.file.path for e in changed([*outside(site, seen), *inside(seen)])]
        except edit.EditError as error:
            return Verdict(False, str(error), remedy)
        if wrong:
            return Verdict(False, f"not as it is to be: {', '.join(wrong)}", remedy)
        if not right(seen):
            at = haproxy.service(seen)
            said = f"port {port(seen)} is {' and '.join(at.all('listener')) or 'nobody'}'s, "
            said += f"{inner(seen)} {' and '.join(at.all('inner')) or 'nobody'}'s"
            return Verdict(False, said, remedy)
        if said := haproxy.unread(seen):
            return Verdict(False, said, f"systemctl start {reads.CRL_TIMER}.service, on {name}")
        return Verdict(True, f"HAProxy at {port(seen)}, Puppet Server at {INSIDE}:{inner(seen)}")

    title = f"{name} verifies agents in a proxy of its own, and believes {relay(site)} alone"
    return Check(f"front/{name}", title, judge, asked, patience=20.0, every=4.0)


def intent(site: Site) -> tuple[str, ...]:
    return tuple(
        f"{name}: HAProxy ends TLS, and Puppet Server listens on {INSIDE} alone"
        for name in names(site)
    )


STAGES = (
    Stage("front-install", "A proxy's package on each server", install, rollout=True),
    Stage(
        "front",
        "Each server is asked through its own proxy",
        plan,
        checks,
        rollout=True,
        singly=True,
        intent=intent,
    ),
)
