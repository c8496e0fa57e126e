"""A proxy that ends TLS, and a device that is somebody else's, on real hosts.

The tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
import yaml

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, booted, must, picture
from tests.lab.test_balance import (
    ESTATE,
    address,
    agents,
    back,
    everywhere,
    fqdn,
    moved,
    pool_name,
    servers,
    unnoticed,
    well,
    with_,
)

pytestmark = [pytest.mark.lab, pytest.mark.turn("tls")]

FILES = ("/etc/puppet", "/etc/systemd/system", "/etc/haproxy")
SERVED = """systemctl is-active puppetserver haproxy; systemctl is-enabled puppetserver
ss -Hltn | awk '{print $4}' | sort; true"""
ASK = """ruby -ropenssl -rsocket -e '
  address, name, path, pem, *headers = ARGV
  c = OpenSSL::SSL::SSLContext.new
  c.verify_mode = OpenSSL::SSL::VERIFY_NONE
  unless pem.empty?
    c.cert = OpenSSL::X509::Certificate.new(File.read(pem))
    c.key = OpenSSL::PKey.read(File.read(pem.sub("/certs/", "/private_keys/")))
  end
  s = OpenSSL::SSL::SSLSocket.new(TCPSocket.new(address, 8140), c)
  s.hostname = name
  s.connect
  lines = ["GET #{path} HTTP/1.1", "Host: #{name}", "Connection: close", *headers]
  s.write(lines.join("\\r\\n") + "\\r\\n\\r\\n")
  puts s.read[/ (\\d+)/, 1]
' """


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from booted("tls", ESTATE)


@pytest.fixture(scope="module")
def seat(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    return Seat(lab, tmp_path_factory.mktemp("state"))


def ended(seat: Seat) -> Seat:
    """The site with a proxy that ends TLS; what leads to it is forgotten within a minute."""
    proxied = {"strategy": "tls-proxy", "host": fqdn(seat.lab, "lb1"), "ttl": "60s"}
    return with_(seat, load_balancing=proxied)


def there_and_back(seat: Seat, to: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """All agents go a new way, a server is stopped meanwhile, they go back, and no run fails."""
    lab = seat.lab
    with unnoticed(lab, agents(lab)[-1]):
        moved(seat)
        assert everywhere(lab, pool_name(lab)) == [to]
        meanwhile()
        back(seat)
    assert everywhere(lab, pool_name(lab)) == [f"3600 {address(lab, 'main1')}"]


def pictures(lab: Lab) -> dict[str, object]:
    """Files and listeners of every host that the step touches, but for what the CA remembers."""
    found: dict[str, object] = {}
    for host in ("lb1", "main1", *servers(lab)):
        files = {
            f: x for f, x in picture(lab, host, *FILES).items() if "/puppetserver/ca/" not in f
        }
        found[host] = (files, must(lab.execute(host, SERVED)))
    return found


def ask(lab: Lab, host: str, server: str, path: str, *headers: str, cert: bool = False) -> str:
    """The status that a host gets, by none of our own code."""
    pem = f"/var/lib/puppet/ssl/certs/{fqdn(lab, host)}.pem" if cert else ""
    words = [address(lab, server), fqdn(lab, server), path, pem, *headers]
    quoted = " ".join(f"'{w}'" for w in words)
    return must(lab.execute(host, ASK + quoted)).strip()


# --- a proxy that ends TLS ------------------------------------------------------------------------


def test_servers_are_built_first(seat: Seat) -> None:
    must(seat.pmrunbook("--plain", "--yes", "--step", "compilers", timeout=1800))


@pytest.fixture(scope="module")
def before(lab: Lab) -> dict[str, object]:
    return pictures(lab)


def test_the_proxy_ends_tls_and_servers_are_asked_through_their_own(
    seat: Seat, before: dict[str, object]
) -> None:
    lab = seat.lab
    out = must(ended(seat).pmrunbook("--plain", "--yes", "--step", "balancer", timeout=1800))
    assert f"{fqdn(lab, 'lb1')} ends TLS with a certificate of the site's CA" in out
    names = must(
        lab.execute("lb1", "openssl x509 -in /etc/haproxy/puppet.pem -noout -ext subjectAltName")
    )
    assert f"DNS:{pool_name(lab)}" in names and "DNS:puppet," in names
    for host in ("lb1", *servers(lab)):
        # The key stays where it was made, readable by root and puppet at most.
        assert must(lab.execute(host, "grep -rl PRIVATE /etc/haproxy --exclude=*.key; true")) == ""
        mode = must(lab.execute(host, "stat -L -c %a /etc/haproxy/puppet.pem.key")).strip()
        assert mode in ("600", "640")
    for host in servers(lab):
        said = must(lab.execute(host, "ss -Hltn 'sport = :8141' | awk '{print $4}'"))
        assert said.split() in (["127.0.0.1:8141"], ["[::ffff:127.0.0.1]:8141"])


def test_forged_headers_give_nobody_anything(seat: Seat) -> None:
    lab = seat.lab
    asking, other = agents(lab)[0], fqdn(lab, agents(lab)[1])
    verified, cert = "X-Client-Verify: SUCCESS", "X-Client-Cert: x"
    for server in ("lb1", *servers(lab)):
        catalog = f"/puppet/v3/catalog/{other}?environment=production"
        for dn in (f"X-Client-DN: CN={other}", f"X-Client-DN: /CN={other}"):
            assert ask(lab, asking, server, catalog, verified, dn) == "403"
            assert ask(lab, asking, server, catalog, verified, dn, cert=True) == "403"
            assert ask(lab, asking, server, catalog, verified, dn, cert) == "403"
            # As underscores, or twice.
            assert ask(lab, asking, server, catalog, "X_Client_Verify: SUCCESS", dn) == "403"
            assert ask(lab, asking, server, catalog, verified, verified, dn, dn) == "403"
        own = "/puppet/v3/environments"  # for whoever has a certificate
        assert ask(lab, asking, server, own, cert=True) == "200"
        assert ask(lab, asking, server, own) == "403"
        assert ask(lab, asking, server, "/status/v1/simple") == "200"


def test_the_steps_before_leave_it_as_it_is(seat: Seat) -> None:
    """Servers are proved as before; neither step undoes the other."""
    tls = ended(seat)
    past = len(seat.events())
    must(tls.pmrunbook("--plain", "--yes", "--step", "compilers", timeout=900))
    must(tls.pmrunbook("--plain", "--yes", "--step", "balancer", timeout=900))
    assert [e.action for e in seat.events()[past:] if e.kind == "start"] == []


OPEN = """
cp -p /etc/haproxy/haproxy.cfg /root/haproxy.cfg
sed -i '/http-request .*X-Client-/d' /etc/haproxy/haproxy.cfg
systemctl reload haproxy
"""


def test_a_server_that_believes_anybody_is_found(seat: Seat) -> None:
    lab = seat.lab
    server = servers(lab)[0]
    must(lab.execute(server, OPEN))
    try:
        out = must(ended(seat).pmrunbook("verify", "--step", "balancer", timeout=900), 1)
        lines = [x for x in out.splitlines() if "for headers it makes up" in x]
        assert any(fqdn(lab, server) in x for x in lines)
        assert f"systemctl stop haproxy, on {fqdn(lab, server)}" in out
    finally:
        back = "cp -p /root/haproxy.cfg /etc/haproxy/haproxy.cfg; systemctl reload haproxy"
        must(lab.execute(server, back))


def test_agents_are_moved_to_the_proxy_and_back(seat: Seat, alone: dict[str, str]) -> None:
    cut = ended(replace(seat, env=alone, runbook="balance-alone"))
    there_and_back(cut, f"60 {address(seat.lab, 'lb1')}", lambda: grown(ended(seat)))


def grown(seat: Seat) -> None:
    """A server gets another heap: it is drained at the proxy, and agents wait for nobody."""
    lab, member = seat.lab, fqdn(seat.lab, servers(seat.lab)[0])
    site = yaml.safe_load(seat.inventory.read_text())
    heaps = [{"name": m, "heap": "1100m"} if m == member else m for m in site["compile_masters"]]
    past = len(seat.events())
    larger = with_(seat, compile_masters=heaps, load_balancing=site["load_balancing"])
    must(larger.pmrunbook("--plain", "--yes", "--step", "compilers", timeout=1200))
    begun = [(e.action, e.host) for e in seat.events()[past:] if e.kind == "start"]
    drain, fill = (
        begun.index((f"start/{member}/{x}", fqdn(lab, "lb1"))) for x in ("drain", "fill")
    )
    assert begun[drain + 1 : fill] == [(f"start/{member}/restart", member)]
    assert {fqdn(lab, m) for m in servers(lab)} <= well(lab)
    assert must(seat.pmrunbook("debts")).strip() == "none"


def test_back_to_the_byte(seat: Seat, before: dict[str, object]) -> None:
    must(ended(seat).pmrunbook("undo", "balancer", "--plain", "--yes", timeout=1800))
    assert pictures(seat.lab) == before
    must(seat.pmrunbook("verify", "--step", "compilers", timeout=900))


# --- somebody else's ------------------------------------------------------------------------------


def device(lab: Lab, *members: str) -> str:
    """What somebody sets up on a machine of theirs, as they were asked to: HAProxy, by hand."""
    lines = "\n".join(
        f"    server {m} {address(lab, m)}:8140 check check-ssl verify none" for m in members
    )
    return f"""
DEBIAN_FRONTEND=noninteractive apt-get -q -y install haproxy >/dev/null || exit 1
cat >/etc/haproxy/haproxy.cfg <<'EOF'
defaults
    mode tcp
    timeout connect 5s
    timeout client 30m
    timeout server 30m
listen puppet
    bind :8140
    balance roundrobin
    stick-table type ip size 1m expire 120s
    stick on src
    option httpchk GET /status/v1/simple
{lines}
EOF
systemctl restart haproxy
"""


def by_a_device(seat: Seat) -> Seat:
    """The site whose balancer nobody here may touch."""
    theirs = {"strategy": "hardware", "mode": "tcp", "address": address(seat.lab, "lb1")}
    return with_(seat, load_balancing=theirs)


def test_a_device_is_told_to_a_person_and_proved_from_outside(seat: Seat) -> None:
    lab = seat.lab
    hardware = by_a_device(seat)
    out = must(hardware.pmrunbook("--plain", "--yes", "--step", "balancer", timeout=900), 7)
    assert f"Set up the balancer at {address(lab, 'lb1')}, port 8140" in out
    for member in servers(lab):
        assert f"{fqdn(lab, member)}  {address(lab, member)}  port 8140  weight 1" in out
    # Half of it: the pool lacks a member, which is seen by the certificates.
    first, second = servers(lab)
    must(lab.execute("lb1", device(lab, first), timeout=300))
    out = must(hardware.pmrunbook("verify", "--step", "balancer", timeout=900), 1)
    assert f"{fqdn(lab, second)} 0" in out
    must(lab.execute("lb1", device(lab, first, second), timeout=300))
    must(hardware.pmrunbook("--plain", "--yes", "--resume", timeout=900))
    out = must(hardware.pmrunbook("verify", "--step", "balancer", timeout=900))
    assert f"leads to {fqdn(lab, first)} and {fqdn(lab, second)}" in out


def test_agents_are_moved_to_a_device_and_back(seat: Seat, alone: dict[str, str]) -> None:
    hardware = by_a_device(replace(seat, env=alone, runbook="balance-alone"))
    there_and_back(hardware, f"300 {address(seat.lab, 'lb1')}")


REQUESTED = """DEBIAN_FRONTEND=noninteractive apt-get -q -y install haproxy >/dev/null || exit 1
umask 077
openssl req -newkey rsa:2048 -nodes -keyout /etc/haproxy/device.pem.key -subj /CN={name} \\
    -addext subjectAltName={further} -out /root/device.csr 2>/dev/null
cat /root/device.csr
"""
SIGNED = """set -e
conf=/etc/puppet/puppetserver/conf.d/ca.conf
served() {{
    systemctl reload puppetserver
    n=0; until curl -skf -m 5 https://127.0.0.1:8140/status/v1/simple >/dev/null; do
        n=$((n+1)); [ $n -lt 300 ]; sleep 1
    done
}}
cat >{csr}
chown puppet: {csr}
cp -p $conf /root/ca.conf
sed -i 's/# *allow-subject-alt-names: false/allow-subject-alt-names: true/' $conf
served
puppetserver ca sign --certname {name} >&2
cp -p /root/ca.conf $conf
served
cat "$(puppet config print signeddir --section server)/{name}.pem"
"""
ENDING = """
global
    tune.bufsize 32768
    tune.maxrewrite 8192
    tune.ssl.cachesize 0
defaults
    mode http
    timeout connect 5s
    timeout client 30m
    timeout server 30m
frontend puppet
    bind :8140 ssl {verified} verify optional no-tls-tickets
    acl known ssl_c_used
    http-request del-header X-Client-Verify
    http-request del-header X-Client-DN
    http-request del-header X-Client-Cert
    http-request set-header X-Client-Verify NONE unless known
    http-request set-header X-Client-Verify SUCCESS if known
    http-request set-header X-Client-DN %[ssl_c_s_dn(,0,rfc2253)] if known
    http-request set-header X-Client-Cert {pem} if known
    default_backend servers
backend servers
    balance leastconn
    stick-table type ip size 1m expire 120s
    stick on src
    option httpchk
    http-check send meth GET uri /status/v1/simple ver HTTP/1.1 hdr Host {name}
{members}
"""
PEM_IN_A_HEADER = (
    "-----BEGIN%%20CERTIFICATE-----%%0A%[ssl_c_der,base64,regsub(\\+,%2B,g)]"
    "%%0A-----END%%20CERTIFICATE-----%%0A"
)


def put(lab: Lab, host: str, files: Mapping[str, str]) -> None:
    for path, content in files.items():
        must(lab.execute(host, f"cat >{path}", content))


def device_that_ends(lab: Lab, certificate: str) -> None:
    """Somebody else's HAProxy with this certificate, its key and the CA's files beside it."""
    ssl = "/var/lib/puppet/ssl"
    verified = "crt /etc/haproxy/device.pem ca-file /etc/haproxy/ca crl-file /etc/haproxy/crl"
    members = "\n".join(
        f"    server {m} {address(lab, m)}:8140 check inter 5s fall 2 rise 2 ssl verify required "
        f"{verified} verifyhost {fqdn(lab, m)} sni str({fqdn(lab, m)})"
        for m in servers(lab)
    )
    config = ENDING.format(
        verified=verified, pem=PEM_IN_A_HEADER, name=pool_name(lab), members=members
    )
    files = {
        "device.pem": certificate,
        "ca": must(lab.execute("main1", f"cat {ssl}/certs/ca.pem")),
        "crl": must(lab.execute("main1", f"cat {ssl}/crl.pem")),
        "haproxy.cfg": config,
    }
    put(lab, "lb1", {f"/etc/haproxy/{label}": content for label, content in files.items()})
    must(lab.execute("lb1", "haproxy -c -f /etc/haproxy/haproxy.cfg && systemctl restart haproxy"))


def test_a_device_that_ends_tls_is_believed_by_its_certificate_alone(
    seat: Seat, alone: dict[str, str]
) -> None:
    """It is set up word for word as a person is told; then agents go there and back."""
    lab, name = seat.lab, pool_name(seat.lab)
    theirs = {"strategy": "hardware", "mode": "tls", "address": address(lab, "lb1")}
    ending = with_(seat, load_balancing=theirs)
    must(lab.execute("lb1", "systemctl stop haproxy 2>/dev/null; :"))  # what the last test set up
    out = must(ending.pmrunbook("--plain", "--yes", "--step", "balancer", timeout=1800), 7)
    told = re.search(r"names (DNS:\S+)\. Put the request on \S+ as (\S+),", " ".join(out.split()))
    assert told
    further, csr = told.groups()
    request = must(lab.execute("lb1", REQUESTED.format(name=name, further=further), timeout=300))
    sign = SIGNED.format(name=name, csr=csr)
    certificate = must(lab.execute("main1", sign, request, timeout=900))
    device_that_ends(lab, certificate)
    must(ending.pmrunbook("--plain", "--yes", "--resume", timeout=1800))
    asking, other = agents(lab)[0], fqdn(lab, agents(lab)[1])
    catalog = f"/puppet/v3/catalog/{other}?environment=production"
    forged = ("X-Client-Verify: SUCCESS", f"X-Client-DN: CN={other}")
    for server in ("lb1", *servers(lab)):
        assert ask(lab, asking, server, catalog, *forged, cert=True) == "403"
        assert ask(lab, asking, server, "/puppet/v3/environments", cert=True) == "200"
    there_and_back(replace(ending, env=alone, runbook="balance-alone"), f"300 {theirs['address']}")
    must(ending.pmrunbook("undo", "balancer", "--plain", "--yes", timeout=1800))
    must(seat.pmrunbook("verify", "--step", "compilers", timeout=900))
