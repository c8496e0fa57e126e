"""Load balancing on real hosts: held, moved, drilled, taken back; one strategy after another.

The tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, booted, must, narrate, picture, some
from tests.lab.test_ca_screens import release, screen, start, to_the_end, wait
from tests.lab.test_trust import limit_key
from tests.ui.conftest import WIDE, Terminal

__all__ = ["screen"]
pytestmark = pytest.mark.lab

ESTATE = Path(__file__).parent / "estates" / "balance.yaml"
LOOP = """
rm -f /run/loop.stop /run/loop.log
while [ ! -e /run/loop.stop ]; do
    puppet agent --onetime --no-daemonize --detailed-exitcodes --color=false --logdest console \\
        >/run/loop.out 2>&1
    rc=$?
    # Another run of this agent, one of ours, was under way: this one never began.
    if grep -q 'already in progress' /run/loop.out; then sleep 6; continue; fi
    printf '%s %s\\n' "$rc" "$(grep -m1 Error: /run/loop.out)" >>/run/loop.log
    sleep 6 # longer than ours wait before they look again whether they may run
done
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from booted("bal", ESTATE)


@pytest.fixture(scope="module")
def seat(lab: Lab, alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Seat:
    return Seat(lab, tmp_path_factory.mktemp("state"), alone, runbook="balance-alone")


def fqdn(lab: Lab, host: str) -> str:
    return lab.estate.fqdn(lab.estate.host(host))


def pool_name(lab: Lab) -> str:
    return lab.estate.agents_server


def address(lab: Lab, host: str) -> str:
    return lab.estate.host(host).address


def servers(lab: Lab) -> list[str]:
    return [h.name for h in lab.estate.hosts if "compiler" in h.roles]


def agents(lab: Lab) -> list[str]:
    return [h.name for h in lab.estate.hosts if "agent" in h.roles]


def zone(lab: Lab, name: str, rtype: str = "A") -> dict[str, list[str]]:
    """What each name server says, without pmrunbook: TTL and data of the records, sorted."""
    asked = {}
    for host in lab.estate.having("nameserver", "secondary"):
        script = f"dig +noall +answer +norecurse @127.0.0.1 {name} {rtype}"
        lines = must(lab.execute(host.name, script)).splitlines()
        asked[host.name] = sorted(" ".join([x.split()[1], *x.split()[4:]]) for x in lines)
    return asked


def everywhere(lab: Lab, name: str, rtype: str = "A") -> list[str]:
    """The same at every name server: a secondary has it when it was told, a moment later."""
    for _ in range(15):
        said = list(zone(lab, name, rtype).values())
        if all(x == said[0] for x in said):
            return said[0]
        time.sleep(1)
    raise AssertionError(said)


def with_(seat: Seat, **sections: object) -> Seat:
    """The seat with these parts of the inventory changed; None takes one out."""
    data = yaml.safe_load(seat.lab.inventory.read_text())
    for key, value in sections.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, Mapping) else value
    if isinstance(sections.get("load_balancing"), Mapping):
        data["load_balancing"] = sections["load_balancing"]
    strategy = data["load_balancing"]["strategy"]
    file = seat.state / f"{strategy}.yaml"
    file.write_text(yaml.safe_dump(data))
    return replace(seat, file=file)


class Looped:
    """An agent that runs over and over, as its daemon would, while something happens."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab, self._host = lab, host
        must(lab.execute(host, f"cat >/run/loop.sh <<'EOF'\n{LOOP}EOF\n"))
        start = "systemd-run --quiet --collect --unit=loop sh /run/loop.sh"
        must(lab.execute(host, f"export PATH=/opt/puppetlabs/bin:$PATH; {start}"))

    def ended(self, least: int = 1) -> tuple[int, list[str]]:
        """How many runs there were, which are waited for, and the ones that failed."""
        stop = f"until [ $(cat /run/loop.log 2>/dev/null | wc -l) -ge {least} ]; do sleep 1; done; "
        stop += ": >/run/loop.stop; while systemctl -q is-active loop; do sleep 1; done; "
        stop += "cat /run/loop.log"
        lines = must(self._lab.execute(self._host, stop, timeout=300)).splitlines()
        return len(lines), [x for x in lines if x.split()[0] not in ("0", "2")]


def cut_over(seat: Seat, *more: str, code: int = 0, timeout: float = 1800) -> str:
    name = pool_name(seat.lab)
    asked = ("--plain", "--yes", "--cut-over", name, "--step", "cutover", *more)
    return must(seat.pmrunbook(*asked, timeout=timeout), code)


def run_agent(lab: Lab, host: str) -> None:
    script = "PATH=/opt/puppetlabs/bin:$PATH; puppet agent -t --noop --color=false"
    must(lab.execute(host, f"{script}; rc=$?; [ $rc = 0 ] || [ $rc = 2 ]", timeout=300))


def well(lab: Lab) -> set[str]:
    """The servers that the proxy finds up."""
    ask = """perl -MIO::Socket::UNIX -e '
        $s = IO::Socket::UNIX->new(Peer => "/run/haproxy/admin.sock");
        print $s "show stat\\n"; print while <$s>'"""
    said = must(lab.execute("lb1", ask))
    return {x.split(",")[1] for x in said.splitlines() if x.startswith("compilers,") and ",UP" in x}


# --- a proxy that passes TLS through ----------------------------------------------------------


def test_yes_prepares_the_proxy_and_moves_nobody(seat: Seat) -> None:
    lab = seat.lab
    before = {h: picture(lab, h, "/etc/puppet", "/etc/hosts") for h in agents(lab)}
    out = must(seat.pmrunbook("--plain", "--yes", timeout=1800), 7)
    assert "step balancer" in out
    assert "gate: Prepare load balancing: proved at" in out
    assert everywhere(lab, pool_name(lab)) == [f"3600 {address(lab, 'main1')}"]
    assert {fqdn(lab, m) for m in servers(lab)} <= well(lab)
    assert {h: picture(lab, h, "/etc/puppet", "/etc/hosts") for h in agents(lab)} == before


REFUSING = """
cp -p /usr/sbin/haproxy /root/haproxy
cat >/usr/sbin/haproxy.new <<'EOF'
#!/bin/sh
case "$*" in *-c*) echo "[ALERT] unknown keyword"; exit 1 ;; esac
exec /root/haproxy "$@"
EOF
chmod 755 /usr/sbin/haproxy.new
mv -f /usr/sbin/haproxy.new /usr/sbin/haproxy
"""


@pytest.mark.turn("balance")
def test_a_configuration_that_haproxy_refuses_is_never_used(seat: Seat) -> None:
    """The old one stays, the proxy runs on, and the run says what HAProxy said."""
    lab = seat.lab
    look = "sha256sum /etc/haproxy/haproxy.cfg; systemctl show -p MainPID haproxy"
    was = must(lab.execute("lb1", look))
    must(lab.execute("lb1", REFUSING))
    first, second = (fqdn(lab, m) for m in servers(lab))
    pool = [{"name": first, "weight": 3}, second]
    proxied = {"strategy": "tcp-proxy", "host": fqdn(lab, "lb1"), "servers": pool}
    try:
        other = with_(seat, load_balancing=proxied)
        out = must(other.pmrunbook("--plain", "--yes", "--step", "balancer"), 1)
        assert "refuses the new configuration" in out
    finally:
        must(lab.execute("lb1", "mv -f /root/haproxy /usr/sbin/haproxy"))
    assert must(lab.execute("lb1", look)) == was


def unmoved(lab: Lab) -> None:
    """Nobody went anywhere, and nothing temporary is left."""
    assert everywhere(lab, pool_name(lab)) == [f"3600 {address(lab, 'main1')}"]
    for host in agents(lab):
        assert "pmrunbook" not in must(lab.execute(host, "cat /etc/hosts"))


@pytest.mark.turn("balance")
def test_a_name_server_that_refuses_the_key_moves_nobody(seat: Seat, tmp_path: Path) -> None:
    lab = seat.lab
    wrong = tmp_path / "tsig"
    wrong.write_text("bm9ib2R5IGtub3dzIHRoaXMga2V5IGF0IGFsbC4uLi4=\n")
    wrong.chmod(0o600)
    tsig = yaml.safe_load(lab.inventory.read_text())["dns"]["tsig"]
    other = with_(seat, dns={"tsig": {**tsig, "secret": {"file": str(wrong)}}})
    out = cut_over(other, code=1)
    assert "the name server refuses the key" in out
    unmoved(lab)


def test_the_proxy_dies_in_the_middle_and_agents_are_back_where_they_were(seat: Seat) -> None:
    """The canary goes through it, HAProxy stops: the run fails, and what was ahead goes back."""
    lab = seat.lab
    canary = agents(lab)[0]
    watch = "while ! grep -q pmrunbook /etc/hosts; do sleep 0.2; done; : >/run/went-ahead"
    must(lab.execute(canary, f"systemd-run --quiet --collect --unit=watch sh -c '{watch}'"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cut_over, seat, code=1)
        ahead = (
            "n=0; while [ ! -e /run/went-ahead ] && [ $n -lt 900 ]; do sleep 1; n=$((n+1)); done"
        )
        must(lab.execute(canary, f"{ahead}; [ -e /run/went-ahead ]", timeout=1000))
        must(lab.execute("lb1", "systemctl stop haproxy"))
        out = running.result()
    assert "one run of its agent through the new way" in out
    unmoved(lab)
    assert must(seat.pmrunbook("debts")).strip() == "none"
    for host in agents(lab):
        run_agent(lab, host)
    # As long as it is down, nobody is sent there again, however lately it was proved.
    assert "[proxy-down]" in cut_over(seat, code=1)
    must(lab.execute("lb1", "systemctl start haproxy"))


def test_agents_are_moved_and_none_of_their_runs_fails(seat: Seat) -> None:
    lab = seat.lab
    before = {h: picture(lab, h, "/etc/hosts") for h in agents(lab)}
    loop = Looped(lab, agents(lab)[-1])
    out = cut_over(seat)
    many, failed = loop.ended()
    narrate(f"the cut-over: {many} runs of an agent meanwhile, {len(failed)} failed")
    assert many and failed == []
    assert everywhere(lab, pool_name(lab)) == [f"300 {address(lab, 'lb1')}"]
    assert {h: picture(lab, h, "/etc/hosts") for h in agents(lab)} == before
    assert must(seat.pmrunbook("debts")).strip() == "none"
    # The canary's server is named, and the shares are shown beside the plan.
    assert re.search(rf"{fqdn(lab, agents(lab)[0])} runs through the new way: compiled by cm", out)
    assert re.search(r"every server of the pool compiles for agents: .*\(50% planned\)", out)
    assert "agents do not need" in out and "a new agent enrols, and is served the new way" in out
    shares = [e.data for e in seat.events() if e.kind == "shares"]
    assert shares and set(shares[-1]["measured"]) == {fqdn(lab, m) for m in servers(lab)}
    for member in servers(lab):
        assert must(lab.execute(member, "systemctl is-active puppetserver")).strip() == "active"


def test_it_is_green_and_a_second_run_does_nothing(seat: Seat) -> None:
    must(seat.pmrunbook("verify", timeout=900))
    past = len(seat.events())
    cut_over(seat)
    assert not [e for e in seat.events()[past:] if e.kind == "start"]


NEW = """PATH=/opt/puppetlabs/bin:$PATH
set -- --waitforcert 0 --certname new.example --server {name} --color=false
puppet ssl bootstrap "$@" --confdir /root/new --ssldir /root/new/ssl 2>&1
rc=$?
rm -rf /root/new
[ $rc != 0 ]
"""


def test_a_new_machine_that_knows_the_name_alone_is_found(seat: Seat) -> None:
    """It takes a compile master for the CA. Before anybody is moved, a note says who would."""
    lab = seat.lab
    asked = ("--dry-run", "--plain", "--step", "cutover")
    before = must(seat.pmrunbook(*asked, timeout=900))
    assert "[new-machines]" in before and "[ca-asked-here]" not in before
    must(lab.execute(agents(lab)[0], NEW.format(name=pool_name(lab)), timeout=300))
    after = must(seat.pmrunbook(*asked, timeout=900))
    assert f"{address(lab, 'lb1')} (the proxy): " in after.partition("[ca-asked-here]")[2]


SLOW = """PATH=/opt/puppetlabs/bin:$PATH
cd "$(puppet config print environmentpath --section server)"/production/manifests || exit
printf '$slept = generate("/bin/sleep", "20")\\n' >zz_slow.pp
"""


@pytest.mark.turn("balance")
def test_each_server_is_drained_before_it_is_reloaded(seat: Seat) -> None:
    """No agent fails, though each of its catalogs takes longer than a server stays away.

    The step finds compile masters built by hand, which agents use: what differs is changed.
    """
    lab = seat.lab
    for host in ("main1", *servers(lab)):
        must(lab.execute(host, SLOW))
    loops = [Looped(lab, host) for host in agents(lab)]
    past = len(seat.events())
    must(replace(seat, runbook="compilers-alone").pmrunbook("--plain", "--yes", timeout=2400))
    ended = [loop.ended() for loop in loops]
    many, failed = sum(n for n, _ in ended), [x for _, lines in ended for x in lines]
    narrate(f"each server away for a while: {many} runs of agents, {len(failed)} failed")
    for host in ("main1", *servers(lab)):
        must(lab.execute(host, SLOW.replace("printf", "rm -f zz_slow.pp #")))
    assert many and failed == []
    begun = [(e.action, e.host) for e in seat.events()[past:] if e.kind == "start"]
    for member in (fqdn(lab, m) for m in servers(lab)):
        ids = [f"start/{member}/{x}" for x in ("restart", "reload")]
        (at,) = (n for n, (action, _) in enumerate(begun) if action in ids)
        drain, fill = (
            begun.index((f"start/{member}/{x}", fqdn(lab, "lb1"))) for x in ("drain", "fill")
        )
        assert drain < at < fill
        assert not [x for x, _ in begun[drain:fill] if x.endswith("/drain") and member not in x]
    assert {fqdn(lab, m) for m in servers(lab)} <= well(lab)
    assert must(seat.pmrunbook("debts")).strip() == "none"
    must(replace(seat, runbook="compilers-alone").pmrunbook("verify", timeout=900))


def test_back_in_one_command_and_nobody_notices(seat: Seat) -> None:
    lab = seat.lab
    loop = Looped(lab, agents(lab)[0])
    must(seat.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))
    many, failed = loop.ended(least=3)
    narrate(f"the way back: {many} runs of an agent meanwhile, {len(failed)} failed")
    assert failed == []
    assert everywhere(lab, pool_name(lab)) == [f"3600 {address(lab, 'main1')}"]
    for host in agents(lab):
        run_agent(lab, host)


STAGES = "ttl|agents|switch|unpin|ttl-back|look|spread|counted"


def test_killed_in_the_middle_it_goes_on_to_the_end(seat: Seat) -> None:
    """At boundaries all over the step: no debt is forgotten, no action is done twice."""
    lab = seat.lab
    name = pool_name(lab)
    proxied = {"strategy": "tcp-proxy", "host": fqdn(lab, "lb1"), "drill": False}
    quick = with_(seat, load_balancing=proxied)
    shown = must(quick.pmrunbook("--dry-run", "--json", "--step", "cutover", timeout=900))
    ids = dict.fromkeys(re.findall(rf'"id": "((?:{STAGES})/[^"]+)"', shown))
    boundaries = (("after", "start"), ("before", "end"), ("after", "end"))
    places = [(when, kind, action) for action in ids for when, kind in boundaries]
    hosts = [h.name for h in lab.estate.hosts]
    asked = ("--cut-over", name, "--step", "cutover")
    quick.killed_at(some(places), hosts, *asked, measuring=("look", "spread"))
    assert everywhere(lab, name) == [f"300 {address(lab, 'lb1')}"]
    assert must(quick.pmrunbook("debts")).strip() == "none"
    must(quick.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))


# --- the other strategies ---------------------------------------------------------------------


def moved(seat: Seat) -> None:
    """From the state before the chapter to proof."""
    cut_over(seat)
    must(seat.pmrunbook("verify", "--step", "cutover", timeout=900))
    assert must(seat.pmrunbook("debts")).strip() == "none"


def back(seat: Seat) -> None:
    must(seat.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))


@contextmanager
def unnoticed(lab: Lab, host: str) -> Iterator[None]:
    """Not one run of this agent fails meanwhile."""
    loop = Looped(lab, host)
    yield
    many, failed = loop.ended()
    narrate(f"{many} runs of an agent meanwhile, {len(failed)} failed")
    assert many and failed == []


@pytest.mark.turn("balance")
def test_round_robin(seat: Seat) -> None:
    lab = seat.lab
    turn = with_(seat, load_balancing={"strategy": "round-robin"})
    with unnoticed(lab, agents(lab)[-1]):
        moved(turn)
        assert everywhere(lab, pool_name(lab)) == [f"300 {address(lab, m)}" for m in servers(lab)]
        back(turn)
    assert everywhere(lab, pool_name(lab)) == [f"3600 {address(lab, 'main1')}"]


@pytest.mark.turn("balance")
@pytest.mark.parametrize("screen", [WIDE], indirect=True, ids=["120x36"])
def test_a_list_of_servers_on_the_screens(seat: Seat, screen: Terminal) -> None:
    """The name has to be typed; a yes alone moves nobody."""
    lab = seat.lab
    listed = with_(seat, load_balancing={"strategy": "server-list"})
    before = {h: picture(lab, h, "/etc/puppet", "/etc/hosts") for h in agents(lab)}
    start(screen, listed, "--step", "cutover")
    shown = release(screen, pool_name(lab))
    assert "proved at" in shown and "pmrunbook undo cutover" in shown
    assert "Done" in to_the_end(screen)
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    for host in agents(lab):
        said = must(lab.execute(host, "puppet config print server_list --section agent"))
        assert {x.split(":")[0] for x in said.strip().split(",")} == {
            fqdn(lab, m) for m in servers(lab)
        }
    must(listed.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))
    assert {h: picture(lab, h, "/etc/puppet", "/etc/hosts") for h in agents(lab)} == before


REMEMBERING = """set -e
DEBIAN_FRONTEND=noninteractive apt-get -qq -y install bind9 >/dev/null
cat >/etc/bind/named.conf.options <<'EOF'
options {{
    directory "/var/cache/bind"; listen-on {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    forward only; forwarders {{ {server}; }}; dnssec-validation no; max-ncache-ttl 60;
}};
EOF
systemctl restart named
echo nameserver 127.0.0.1 >/etc/resolv.conf
ruby -rresolv -e 'exit !Resolv::DNS.new.getresources("{name}", Resolv::DNS::Resource::IN::SRV)[0]'
"""
"""A resolver of the host's own that remembers for a minute what it asked last: there is none."""


@pytest.mark.turn("balance")
def test_srv_records(seat: Seat) -> None:
    """The CA's first, then the pool's; agents told of them, and the old ones as before.

    One agent's resolver remembers that there were none: it is waited for. The key may change no
    name but those of the page on least privilege.
    """
    lab = seat.lab
    config = "/etc/bind/named.conf.local"
    must(lab.execute("dns1", f"cp -p {config} /root/named"))
    limit_key(lab)
    domain = lab.estate.domain
    server = lab.estate.having("nameserver")[0].address
    asked = REMEMBERING.format(server=server, name=f"_x-puppet._tcp.{domain}")
    must(lab.execute(agents(lab)[1], asked, timeout=300))
    srv = with_(
        seat,
        ca={"clients": "srv"},
        dns={"domain": domain},
        load_balancing={
            "strategy": "srv",
            "servers": [
                {"name": fqdn(lab, servers(lab)[0]), "weight": 75},
                {"name": fqdn(lab, servers(lab)[1]), "weight": 25},
            ],
        },
    )
    moved(srv)
    assert everywhere(lab, f"_x-puppet-ca._tcp.{domain}", "SRV") == [f"300 0 5 8140 ca.{domain}."]
    assert everywhere(lab, f"_x-puppet._tcp.{domain}", "SRV") == sorted(
        f"300 0 {w} 8140 {fqdn(lab, m)}." for w, m in zip((75, 25), servers(lab), strict=True)
    )
    back(srv)
    assert everywhere(lab, f"_x-puppet._tcp.{domain}", "SRV") == []
    must(lab.execute("dns1", f"mv /root/named {config} && rndc reconfig"))


def served(lab: Lab, agent: str) -> str:
    """The server that compiles for this agent now, by the servers' own words."""
    log = "find /var/log -name puppetserver-access.log -exec cat {} +"
    count = f"{log} | grep -c '/puppet/v3/catalog/{fqdn(lab, agent)}?'; :"
    pool = ("main1", *servers(lab))
    was = {h: must(lab.execute(h, count)) for h in pool}
    run_agent(lab, agent)
    (by,) = (h for h in pool if must(lab.execute(h, count)) != was[h])
    return by


@contextmanager
def down(lab: Lab, *hosts: str) -> Iterator[None]:
    """Their Puppet Servers are stopped, and serve again afterwards."""
    serves = (
        "n=0; until curl -skf -m 5 https://127.0.0.1:8140/status/v1/simple >/dev/null; do "
        # Debian 12's unit now and then looks for the process before it is there.
        "! systemctl -q is-failed puppetserver || systemctl start --no-block puppetserver; "
        "n=$((n+1)); [ $n -lt 600 ] || { systemctl status puppetserver --no-pager; "
        "journalctl -u puppetserver -n 40 --no-pager -o cat; exit 1; }; sleep 1; done"
    )
    for host in hosts:
        must(lab.execute(host, "systemctl stop puppetserver", timeout=120))
    try:
        yield
    finally:
        for host in hosts:
            must(lab.execute(host, "systemctl start --no-block puppetserver"))
        for host in hosts:
            must(lab.execute(host, serves, timeout=900))


@pytest.mark.turn("mission")
def test_srv_records_of_two_sites(seat: Seat) -> None:
    """The guide's example: 75 and 25 at site A, one server at site B; each helps the other out."""
    lab = seat.lab
    domain, (one, two) = lab.estate.domain, agents(lab)
    first, second, main = (fqdn(lab, h) for h in (*servers(lab), "main1"))

    def pool(at: str, **priorities: int) -> dict[str, object]:
        weighed = ((first, "a", 75), (second, "a", 25), (main, "b", 5))
        members = [
            {"name": name, "priority": priorities[where], "weight": weight}
            for name, where, weight in weighed
        ]
        return {"domain": f"{at}.{domain}", "servers": members}

    srv = with_(
        seat,
        ca={"clients": "srv"},
        dns={"domain": domain},
        groups={"site-a": {}, "site-b": {}},
        agents=[
            {"name": fqdn(lab, one), "group": "site-a"},
            {"name": fqdn(lab, two), "group": "site-b"},
        ],
        load_balancing={
            "strategy": "srv",
            "sites": {"site-a": pool("a", a=0, b=1), "site-b": pool("b", a=1, b=0)},
        },
    )
    planned = must(srv.pmrunbook("dns", "plan"))
    assert "75" in planned and "25" in planned
    with unnoticed(lab, two):
        moved(srv)
    for at, (a, b) in {"a": (0, 1), "b": (1, 0)}.items():
        assert everywhere(lab, f"_x-puppet-ca._tcp.{at}.{domain}", "SRV") == [
            f"300 0 5 8140 ca.{domain}."
        ]
        assert everywhere(lab, f"_x-puppet._tcp.{at}.{domain}", "SRV") == sorted(
            f"300 {x} 8140 {name}."
            for x, name in ((f"{a} 75", first), (f"{a} 25", second), (f"{b} 5", main))
        )
    assert served(lab, one) in servers(lab)
    assert served(lab, two) == "main1"
    with down(lab, *servers(lab)):
        assert served(lab, one) == "main1"
    assert served(lab, one) in servers(lab)
    with down(lab, "main1"):
        assert served(lab, two) in servers(lab)
    assert served(lab, two) == "main1"
    with unnoticed(lab, two):
        back(srv)
    for at in ("a", "b"):
        assert everywhere(lab, f"_x-puppet._tcp.{at}.{domain}", "SRV") == []
    for host in agents(lab):
        assert served(lab, host) == "main1"
