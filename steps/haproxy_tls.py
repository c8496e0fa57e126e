"""haproxy.cfg where HAProxy ends TLS itself: whom it believes, and how it tells who asks.

Pure text. Two HAProxies speak it: the balancer's, and one in front of each Puppet Server that
belongs to a pool behind such a balancer. See docs/decisions/0017-a-proxy-that-ends-tls.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from .layout import Seen

PEM = "/etc/haproxy/puppet.pem"
"""A link to the host's own certificate; HAProxy takes the key from the same name with `.key`."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The CA's certificates and its revocation list, as the host's own Puppet keeps them."""

    bundle: str
    crl: str

    @property
    def verified(self) -> str:
        """The words of a `bind` or a `server` line."""
        return f"crt {PEM} ca-file {self.bundle} crl-file {self.crl}"


def trust(seen: Seen) -> Trust:
    return Trust(seen.setting("localcacert"), seen.setting("hostcrl"))


def base(head: str) -> str:
    """Sections `global` and `defaults`."""
    return f"""{head}
global
    log /dev/log local0
    user haproxy
    group haproxy
    stats socket /run/haproxy/admin.sock mode 600 level admin
    stats timeout 30s
    # A certificate travels in a header: room for it beside a request that fills the buffer.
    tune.bufsize 32768
    tune.maxrewrite 8192
    # No session is resumed: a certificate that was revoked meanwhile would not be looked at again.
    tune.ssl.cachesize 0
    # What the process before a reload still carries ends: it knows only the older revocations.
    hard-stop-after 35m

defaults
    log global
    mode http
    option httplog
    option dontlognull
    # A catalog may take minutes (Puppet's http_read_timeout is 10), and nothing is sent meanwhile.
    timeout connect 5s
    timeout client 30m
    timeout server 30m
    timeout http-request 1m
    timeout http-keep-alive 10s
    retries 3
"""


def bind(own: Trust, port: int, six: bool) -> str:
    """Who has no certificate is let in (a new agent has none); who has one of no use is not."""
    words = f"ssl {own.verified} verify optional no-tls-tickets ssl-min-ver TLSv1.2"
    return f"    bind :{port} {words}\n" + (f"    bind :::{port} v6only {words}\n" if six else "")


def identity(relay: str = "") -> str:
    """Rules that tell the server behind who asks, whatever the client says of itself.

    `relay` is the certname of a balancer that is believed about its own clients. It always says
    something of them; what comes from its host without a word is that host's own agent.
    """
    known = "{ ssl_c_used } { ssl_c_verify 0 }"
    rules = [
        "acl agent var(txn.who) -m str agent",
        "acl relayed var(txn.who) -m str relayed",
        "http-request set-var(txn.who) str(nobody)",
        f"http-request set-var(txn.who) str(agent) if {known}",
    ]
    if relay:
        rules.append(
            "http-request set-var(txn.who) str(relayed) if agent "
            f"{{ ssl_c_s_dn(,0,rfc2253) -m str CN={relay} }} {{ req.fhdr_cnt(X-Client-Verify) 1 }}"
        )
    rules += [
        "http-request del-header X-Client-DN unless relayed",
        "http-request del-header X-Client-Cert unless relayed",
        "http-request set-header X-Client-Verify NONE unless relayed",
        "http-request set-header X-Client-Verify SUCCESS if agent",
        "http-request set-header X-Client-DN %[ssl_c_s_dn(,0,rfc2253)] if agent",
        # URI-encoded PEM: of its base64 only + has another meaning there.
        "http-request set-header X-Client-Cert -----BEGIN%%20CERTIFICATE-----%%0A"
        "%[ssl_c_der,base64,regsub(\\+,%2B,g)]%%0A-----END%%20CERTIFICATE-----%%0A if agent",
    ]
    return "".join(f"    {rule}\n" for rule in rules)
