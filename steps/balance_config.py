"""haproxy.cfg of the balancer: which servers it has, and what becomes of TLS."""

from __future__ import annotations

from collections.abc import Sequence

from runbook.model import Facts, Site
from runbook.pools import Member, pools

from . import ca_name, haproxy_tls
from .balance import members, names, proxy, strategy, targets
from .haproxy import HEAD
from .layout import Seen

BUNDLE = "/etc/haproxy/puppet-ca.pem"
MOST = 256  # of a weight, for HAProxy
STAYS = 120  # seconds for which an agent's next connection goes to the same server


def weights(pool: Sequence[Member]) -> dict[str, int]:
    """Weights as HAProxy takes them: 0 to 256, in the same proportion, none of them lost."""
    top = max((m.weight for m in pool), default=1)
    scale = 1.0 if top <= MOST else MOST / top
    return {m.name: max(1, round(m.weight * scale)) if m.weight else 0 for m in pool}


def config(site: Site, facts: Facts) -> str:
    """The file of the strategy."""
    return ending(site, facts) if strategy(site) == "tls-proxy" else passing(site, facts)


def _address(site: Site, facts: Facts, name: str) -> str:
    """Where HAProxy looks for a server if no name server answers while it starts, or `none`."""
    known = (a for t in ("A", "AAAA") for a in sorted(ca_name.addresses(site, facts, name, t)))
    return next(known, "none")


def _servers(site: Site, facts: Facts) -> str:
    pool = next(p for p in pools(site))
    weight = weights(pool.members)
    lowest = min((m.priority for m in pool.members), default=0)
    return "".join(
        f"    server {m.name} {m.name}:{m.port} verifyhost {m.name} weight {weight[m.name]}"
        f"{' backup' if m.priority > lowest else ''}"
        f" init-addr libc,{_address(site, facts, m.name)}\n"
        for m in pool.members
    )


def _asked(site: Site, facts: Facts) -> str:
    """Its question after the health of a server, and how agents are spread."""
    path, name = f"/status/v1/simple/{probe(site, facts)}", own_name(site)
    return f"""    balance leastconn
    # The connections of one run go to one server, so that its plugins and catalog are of one kind.
    stick-table type ip size 200k expire {STAYS}s
    stick on src
    option httpchk
    http-check send meth GET uri {path} ver HTTP/1.1 hdr Host {name}
    http-check expect status 200
"""


def ending(site: Site, facts: Facts) -> str:
    """TLS ends here: agents see the proxy's certificate, servers are told who asks."""
    trusted = haproxy_tls.trust(Seen(proxy(site), facts))
    return f"""{haproxy_tls.base(HEAD)}    option redispatch

frontend puppet
{haproxy_tls.bind(trusted, 8140, _six(site, facts))}{haproxy_tls.identity()}\
    default_backend compilers

backend compilers
{_asked(site, facts)}\
    default-server check ssl {trusted.verified} verify required inter 5s fall 2 rise 2 \
slowstart 30s on-marked-down shutdown-sessions
{_servers(site, facts)}"""


def passing(site: Site, facts: Facts) -> str:
    """The raw TCP mode: TLS passes through, servers show their own certificates."""
    six = "\n    bind :::8140 v6only" if _six(site, facts) else ""
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
    bind :8140{six}
    default_backend compilers

backend compilers
{_asked(site, facts)}\
    default-server check check-ssl verify required ca-file {BUNDLE} inter 5s fall 2 rise 2 \
slowstart 30s on-marked-down shutdown-sessions
{_servers(site, facts)}"""


def _six(site: Site, facts: Facts) -> bool:
    return any(":" in a for a in targets(site, facts, own_name(site)))


def own_name(site: Site) -> str:
    return next(iter(names(site)), site.server)


def probe(site: Site, facts: Facts) -> str:
    """What the status of Puppet Server's main service is called: `master` before 6.14."""
    found = [Seen(m.name, facts).server_version for m in members(site)]
    return "master" if any(v and v < (6, 14) for v in found) else "server"
