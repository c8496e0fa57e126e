"""HAProxy on the balancer's host: installed, configured, and seen to find every server.

Nothing leads agents to it before the step `cutover`: it can be tried and taken away at leisure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from runbook.pools import Member, pools
from runbook.shell import quote

from . import reads
from .balance import PROXIES, about, members, names, proxy, strategy, targets
from .catalogue import found
from .compiler import choose
from .compiler_install import installing
from .fields import NONE, Fields, sections
from .files import Edit, changed, writes
from .layout import FileFact, Seen, file_fact, unknown
from .shellwords import assignments

CONFIG = "/etc/haproxy/haproxy.cfg"
BUNDLE = "/etc/haproxy/puppet-ca.pem"
HEAD = "# Puppet Servers behind one name: written by pmrunbook, which shows any change made here."
CA_BUNDLE = Read("ca-bundle", 'printf "path=%s\\n" "$PS_localcacert"; pc_file "$PS_localcacert"')
PACKAGES = {"haproxy": ((),)}
RECORD = "/var/lib/pmrunbook/installed-proxy"
MOST = 256  # of a weight, for HAProxy
STAYS = 120  # seconds for which an agent's next connection goes to the same server


def files() -> Read:
    """The proxy's files, service and servers."""
    wanted = f"haproxy.cfg {CONFIG}\npuppet-ca.pem {BUNDLE}"
    return Read("proxy", f"pc_files={quote(wanted)}\n{reads.script('proxy.sh')}", limit=262_144)


def read(site: Site, name: str) -> tuple[Read, ...]:
    if not proxy(site):
        return ()
    own: tuple[Read, ...] = (CA_BUNDLE,) if name == site.ca.host else ()
    return (*own, reads.packages(site), files()) if name == proxy(site) else own


# --- as it is -------------------------------------------------------------------------------------


def state(site: Site, facts: Facts) -> dict[str, Fields]:
    return sections(facts.get(proxy(site), "proxy").out)


def file(site: Site, facts: Facts, label: str) -> FileFact:
    return file_fact(state(site, facts).get(label, NONE))


def bundle(site: Site, facts: Facts) -> FileFact:
    """The certificates of the site's CA, as the CA's host trusts them."""
    return file_fact(sections(facts.get(site.ca.host, "ca-bundle").out).get("", NONE))


# --- as it is to be -------------------------------------------------------------------------------


def weights(pool: Sequence[Member]) -> dict[str, int]:
    """Weights as HAProxy takes them: 0 to 256, in the same proportion, none of them lost."""
    top = max((m.weight for m in pool), default=1)
    scale = 1.0 if top <= MOST else MOST / top
    return {m.name: max(1, round(m.weight * scale)) if m.weight else 0 for m in pool}


def config(site: Site, facts: Facts) -> str:
    """haproxy.cfg for the raw TCP mode: TLS passes through, servers show their own certificates."""
    pool = next(p for p in pools(site))
    weight = weights(pool.members)
    lowest = min((m.priority for m in pool.members), default=0)
    probe = "master" if _old(site, facts) else "server"
    servers = "".join(
        f"    server {m.name} {m.name}:{m.port} verifyhost {m.name} weight {weight[m.name]}"
        f"{' backup' if m.priority > lowest else ''}\n"
        for m in pool.members
    )
    return f"""{HEAD}
global
    log /dev/log local0
    user haproxy
    group haproxy
    # What drains a server: echo "set server compilers/NAME state drain" | socat - THIS
    stats socket /run/haproxy/admin.sock mode 600 level admin
    stats timeout 30s

defaults
    log global
    mode tcp
    option tcplog
    option dontlognull
    # A catalog may take minutes (Puppet's http_read_timeout is 10), and nothing is sent meanwhile.
    timeout connect 5s
    timeout client 30m
    timeout server 30m
    # A server that refuses is not the agent's trouble: the next one is asked.
    retries 3
    option redispatch

frontend puppet
    bind :8140{_also_six(site, facts)}
    default_backend compilers

backend compilers
    balance leastconn
    # The connections of one run go to one server, so that its plugins and catalog are of one kind.
    stick-table type ip size 200k expire {STAYS}s
    stick on src
    option httpchk
    http-check send meth GET uri /status/v1/simple/{probe} ver HTTP/1.1 hdr Host {own_name(site)}
    http-check expect status 200
    default-server check check-ssl verify required ca-file {BUNDLE} inter 5s fall 2 rise 2 \
slowstart 30s on-marked-down shutdown-sessions init-addr last,libc,none
{servers}"""


def _also_six(site: Site, facts: Facts) -> str:
    six = any(":" in a for a in targets(site, facts, own_name(site)))
    return "\n    bind :::8140 v6only" if six else ""


def own_name(site: Site) -> str:
    return next(iter(names(site)), site.server)


def _old(site: Site, facts: Facts) -> bool:
    """Whether a server is so old that its status is called `master` (before Puppet Server 6.14)."""
    found = [Seen(m.name, facts).server_version for m in members(site)]
    return any(v and v < (6, 14) for v in found)


def edits(site: Site, facts: Facts) -> list[Edit]:
    """What becomes of the proxy's files; EditError where one cannot be written."""
    trusted = bundle(site, facts).content or b""
    return list(
        changed(
            [
                Edit(
                    "puppet-ca.pem",
                    file(site, facts, "puppet-ca.pem"),
                    trusted,
                    "let it know the site's CA, by which it tells a Puppet Server",
                ),
                Edit(
                    "haproxy.cfg",
                    file(site, facts, "haproxy.cfg"),
                    config(site, facts).encode(),
                    f"balance port 8140 over {' and '.join(m.name for m in members(site))}",
                ),
            ]
        )
    )


def strange(content: bytes | None) -> bool:
    """Whether this configuration serves something of somebody else's."""
    text = (content or b"").decode("utf-8", "replace")
    if text.startswith(HEAD):
        return False
    lines = (line.split("#")[0].split() for line in text.splitlines())
    return any(words and words[0] in ("frontend", "backend", "listen") for words in lines)


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    host = proxy(site)
    if not host or not facts.reachable(host):
        return
    seen = Seen(host, facts)
    now = file(site, facts, "haproxy.cfg")
    if strange(now.content):
        yield found("proxy-in-use", host, f"{CONFIG} balances something else")
    other = [p for p in state(site, facts).get("service", NONE).all("listener") if p != "haproxy"]
    if other:
        yield found("proxy-port-taken", host, f"{other[0]} listens on port 8140")
    wanted = choose(seen, PACKAGES)
    if wanted.problem and not there(site, facts):
        yield found("proxy-package-missing", host, wanted.problem)
    yield found("health-check-shallow", host, "GET /status/v1/simple, over TLS")


# --- stages ---------------------------------------------------------------------------------------


def install(site: Site, facts: Facts) -> Planned:
    if not proxy(site) or not facts.reachable(proxy(site)):
        return ()
    seen = Seen(proxy(site), facts)
    if there(site, facts):
        return ()
    wanted = choose(seen, PACKAGES)
    if wanted.problem or not seen.package_manager.one("manager"):
        return ()  # a blocker of the step
    told = "nothing leads to it yet"
    return (installing("install", seen, wanted, told, unit="haproxy", record=RECORD),)


def there(site: Site, facts: Facts) -> bool:
    return bool(state(site, facts).get("service", NONE).one("version"))


def configure(site: Site, facts: Facts) -> Planned:
    if not proxy(site) or not facts.reachable(proxy(site)):
        return ()
    if not there(site, facts):
        return (Later(f"{CONFIG}, and the CA's certificate", "install", proxy(site)),)
    if bundle(site, facts).content is None:
        return (Later("the CA's certificate", "it can be read", site.ca.host),)
    try:
        todo = edits(site, facts)
    except edit.EditError:
        return ()  # a blocker of the step
    again = "if systemctl is-active --quiet haproxy; then systemctl reload haproxy; fi"
    made = writes("configure", proxy(site), todo, again)
    tried = next((e for e in todo if e.what == "haproxy.cfg"), None)
    if tried is None:
        return tuple(made)
    return (*made[:-1], _try(site, tried), made[-1])


def _try(site: Site, new: Edit) -> Action:
    """HAProxy reads the new file before it is put into the old one's place."""
    text = new.content.decode()
    script = (
        assignments(members="", config=text)
        + reads.script("proxy_serve.sh")
        + 'new=$(mktemp) && trap \'rm -f -- "$new"\' EXIT && printf %s "$config" >"$new"\n'
        + 'accepted "$new"\n'
    )
    return Action(
        id=f"configure/{proxy(site)}/try",
        host=proxy(site),
        title="have HAProxy check the new configuration, before it replaces the old one",
        do=Script(script, timeout=60.0),
        undo=Nothing(),
    )


def serve(site: Site, facts: Facts) -> Planned:
    if not proxy(site) or not facts.reachable(proxy(site)):
        return ()
    at = state(site, facts).get("service", NONE)
    if not there(site, facts):
        return (Later("starting HAProxy, enabled at boot", "install", proxy(site)),)
    try:
        todo = bundle(site, facts).content is None or bool(edits(site, facts))
    except edit.EditError:
        return ()
    running = at.one("active") == "active"
    kind = "" if running and not todo and not at.all("stale") else "reload" if running else "start"
    enabled = at.one("enabled") == "enabled"
    if not kind and enabled:
        return ()
    up = " ".join(m.name for m in pools(site)[0].members if m.weight)
    script = assignments(members=up) + reads.script("proxy_serve.sh")
    script += "" if enabled else "systemctl enable --quiet haproxy || exit 1\n"
    script += f"serve {kind}\n" if kind else ""
    words = {
        "start": "start HAProxy, enabled at boot, and wait until it sees every server up",
        "reload": "reload HAProxy: connections go on; wait until it sees every server up",
        "": "enable HAProxy at boot",
    }
    back = "systemctl stop haproxy\n" if kind == "start" else ""
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
    asked = (proxy(site), files())

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, asked):
            return silent
        at = state(site, facts).get(name)
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


STAGES = (
    Stage("install", "The proxy's package, with nothing started", install),
    Stage("configure", "Its configuration, checked before it is used", configure, intent=intent),
    Stage("serve", "It runs, and finds every server well", serve, checks),
)
