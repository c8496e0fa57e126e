"""What goes wrong while agents are moved, and what is in the way before: on real hosts.

The tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
import yaml

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, booted, must
from tests.lab.test_balance import (
    ESTATE,
    REFUSING,
    address,
    agents,
    cut_over,
    everywhere,
    fqdn,
    pool_name,
    run_agent,
    servers,
    unmoved,
    well,
    with_,
    zone,
)
from tests.lab.test_compilers_ways import conf, found

pytestmark = [pytest.mark.lab, pytest.mark.turn("refusals")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from booted("balbad", ESTATE)


@pytest.fixture(scope="module")
def seat(lab: Lab, alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Seat:
    return Seat(lab, tmp_path_factory.mktemp("state"), alone, runbook="balance-alone")


@pytest.fixture(scope="module")
def turn(seat: Seat) -> Seat:
    """The pool behind one name with the address of each server."""
    return with_(seat, load_balancing={"strategy": "round-robin", "drill": False})


def name_servers(lab: Lab) -> tuple[str, str]:
    return lab.estate.having("nameserver")[0].name, lab.estate.having("secondary")[0].name


def update(lab: Lab, *lines: str) -> None:
    """Change the zone without pmrunbook."""
    told = "\n".join(("server 127.0.0.1", *lines, "send"))
    first, _ = name_servers(lab)
    must(lab.execute(first, f"nsupdate -k /etc/bind/tsig.key <<'EOF'\n{told}\nEOF"))


@contextmanager
def broken(lab: Lab, host: str, how: str, back: str) -> Iterator[None]:
    must(lab.execute(host, how))
    try:
        yield
    finally:
        must(lab.execute(host, back))


def look(seat: Seat, code: int = 0) -> dict[tuple[str, str], str]:
    return found(must(seat.pmrunbook("--dry-run", "--json", "--step", "cutover"), code))


# --- a zone of somebody else's -----------------------------------------------------------------


def test_a_zone_that_only_a_person_may_change_there_and_back(turn: Seat) -> None:
    """Asked for, proved, and asked for again on the way back: not undone before that is done."""
    lab, name = turn.lab, pool_name(turn.lab)
    file = turn.state / "unsigned.yaml"
    data = yaml.safe_load(turn.inventory.read_text())
    del data["dns"]["tsig"]
    file.write_text(yaml.safe_dump(data))
    unsigned = replace(turn, file=file)
    old, new = address(lab, "main1"), [address(lab, m) for m in servers(lab)]
    out = cut_over(unsigned, code=7)
    for a in new:
        assert f"add     {name}. IN A {a}" in out.replace(". 60 IN", ". IN")
    added = [f"update add {name} 60 A {a}" for a in new]
    update(lab, f"update delete {name} A", *added)
    asked = ("--plain", "--yes", "--resume", "--cut-over", name)
    must(unsigned.pmrunbook(*asked, timeout=1800))
    must(unsigned.pmrunbook("verify", "--step", "cutover", timeout=900))
    back = ("undo", "cutover", "--plain", "--yes")
    out = must(unsigned.pmrunbook(*back, timeout=900), 7)
    assert f"add     {name}. 300 IN A {old}" in out
    assert "do it, then: pmrunbook undo cutover" in out
    state = json.loads(unsigned.pmrunbook("status", "--json").stdout)
    assert state["steps"]["cutover"]["status"] != "undone"
    update(lab, f"update delete {name} A", f"update add {name} 3600 A {old}")
    must(unsigned.pmrunbook(*back, timeout=900))
    unmoved(lab)


# --- before anybody is moved ----------------------------------------------------------------------


def proxied(seat: Seat, *weights: int) -> Seat:
    """The pool behind a proxy, a weight for each server."""
    pool = [
        {"name": fqdn(seat.lab, m), "weight": n}
        for m, n in zip(servers(seat.lab), weights, strict=True)
    ]
    host = fqdn(seat.lab, "lb1")
    balanced = {"strategy": "tcp-proxy", "host": host, "servers": pool, "drill": False}
    return with_(seat, load_balancing=balanced)


@contextmanager
def led_by(lab: Lab, record: str) -> Iterator[None]:
    """The name agents call has this record instead of its own."""
    name, own = pool_name(lab), f"3600 A {address(lab, 'main1')}"
    update(lab, f"update delete {name} A", f"update add {name} {record}")
    try:
        yield
    finally:
        update(lab, f"update delete {name}", f"update add {name} {own}")


def test_what_makes_it_slow_or_uneven_is_said_before(seat: Seat) -> None:
    """A TTL of a day, a server without a weight, agents that go elsewhere."""
    lab, name = seat.lab, pool_name(seat.lab)
    pinned, fixed = agents(lab)
    there = f"[agent]\\nserver = {fqdn(lab, 'main1')}\\n"
    kept = conf(lab, pinned)
    with (
        led_by(lab, f"86400 A {address(lab, 'main1')}"),
        broken(
            lab,
            pinned,
            f"cp -p {kept} /root; printf '{there}' >>{kept}",
            f"cp -p /root/puppet.conf {kept}",
        ),
        broken(
            lab,
            fixed,
            f"cp -p /etc/hosts /root; echo '{address(lab, 'main1')} {name}' >>/etc/hosts",
            "cp -p /root/hosts /etc/hosts",
        ),
    ):
        told = look(proxied(seat, 0, 1))
    assert told["ttl-long", ""] == f"{name} A: 86400 s"
    assert told["weight-zero", ""] == f"{fqdn(lab, servers(lab)[0])} gets no agents"
    assert told["agent-elsewhere", fqdn(lab, pinned)] == f"server is {fqdn(lab, 'main1')}"
    assert name in told["name-in-hosts-file", fqdn(lab, fixed)]


def test_an_alias_where_addresses_are_to_be_holds_it(turn: Seat) -> None:
    lab = turn.lab
    with led_by(lab, f"3600 CNAME {fqdn(lab, 'main1')}."):
        told = look(turn, 1)
    said = f"{pool_name(lab)} is an alias of {fqdn(lab, 'main1')}"
    assert told["name-is-alias", ""] == said


def test_a_member_that_has_an_ipv6_address_alone_is_named(turn: Seat) -> None:
    lab, member = turn.lab, servers(turn.lab)[1]
    name = fqdn(lab, member)
    update(lab, f"update delete {name} A", f"update add {name} 3600 AAAA fd00::22")
    try:
        told = look(turn, 3)  # neither can we reach it
        assert told["member-ipv6-only", name] == "it has no IPv4 address"
    finally:
        update(lab, f"update delete {name}", f"update add {name} 3600 A {address(lab, member)}")


def test_a_pool_in_which_nobody_works_holds_it(seat: Seat) -> None:
    assert "every weight is 0" in look(proxied(seat, 0, 0), 1)["pool-empty", ""]


def test_a_name_server_that_is_away_holds_it(turn: Seat) -> None:
    first, _ = name_servers(turn.lab)
    with broken(turn.lab, first, "systemctl stop named", "systemctl start named"):
        told = look(turn, 1)
    assert address(turn.lab, first) in told["name-server-silent", ""]


# --- while they are moved -------------------------------------------------------------------------


def test_a_stale_secondary_holds_it_until_it_follows(turn: Seat) -> None:
    lab, name = turn.lab, pool_name(turn.lab)
    first, second = name_servers(lab)
    source = lab.estate.host(first).address
    with broken(lab, second, f"ip route add prohibit {source}", f"ip route del prohibit {source}"):
        out = cut_over(turn, code=1)
        assert zone(lab, name)[second] == [f"3600 {address(lab, 'main1')}"]
    assert "a secondary may be stale" in out and address(lab, second) in out
    for host in agents(lab):
        run_agent(lab, host)
    must(lab.execute(second, "rndc retransfer " + lab.estate.domain))
    must(turn.pmrunbook("--plain", "--yes", "--cut-over", name, "--resume", timeout=1800))
    assert everywhere(lab, name) == [f"300 {address(lab, m)}" for m in servers(lab)]
    assert must(turn.pmrunbook("debts")).strip() == "none"


def test_a_record_that_is_missing_is_found_and_put_back(turn: Seat) -> None:
    lab, name = turn.lab, pool_name(turn.lab)
    update(lab, f"update delete {name} A {address(lab, servers(lab)[1])}")
    out = must(turn.pmrunbook("verify", "--step", "cutover", timeout=900), 1)
    assert f"{address(lab, name_servers(lab)[0])}: {address(lab, servers(lab)[0])}" in out
    cut_over(turn)
    assert everywhere(lab, name) == [f"300 {address(lab, m)}" for m in servers(lab)]


def test_a_host_whose_resolver_is_down_is_named(turn: Seat) -> None:
    lab, host = turn.lab, agents(turn.lab)[1]
    with broken(
        lab,
        host,
        "cp -p /etc/resolv.conf /root; echo nameserver 127.0.0.9 >/etc/resolv.conf",
        "cp -p /root/resolv.conf /etc/resolv.conf",
    ):
        out = must(turn.pmrunbook("verify", "--step", "cutover", timeout=900), 1)
    assert f"{fqdn(lab, host)}: {pool_name(lab)} is unknown" in out
    must(turn.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))
    unmoved(lab)


def test_an_agent_that_is_away_is_left_out_and_taken_in_later(turn: Seat) -> None:
    lab, host = turn.lab, agents(turn.lab)[1]
    lab.pause_link(host)
    try:
        out = cut_over(turn, "--on-failure", "exclude")
        assert "1 host left out" in out
        assert f"pmrunbook include {fqdn(lab, host)}" in turn.pmrunbook("status").stdout
        assert f"Left out: {fqdn(lab, host)}" in must(turn.pmrunbook("report"))
    finally:
        lab.restore_link(host)
    must(turn.pmrunbook("include", fqdn(lab, host)))
    out = cut_over(turn)
    assert "left out" not in out
    must(turn.pmrunbook("verify", "--step", "cutover", timeout=900))
    assert "Left out" not in must(turn.pmrunbook("report"))
    must(turn.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))


def when_ahead(lab: Lab, running: Callable[[], str], then: Callable[[], object]) -> str:
    """What a run says during which something happens as soon as its canary goes ahead."""
    canary = agents(lab)[0]
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(running)
        ahead = "n=0; until grep -q pmrunbook /etc/hosts; do sleep 1; n=$((n+1)); [ $n -lt 900 ]"
        must(lab.execute(canary, f"set -e; {ahead}; done", timeout=1000))
        then()
        return said.result()


def test_a_server_that_dies_in_the_middle_fails_no_agent(seat: Seat) -> None:
    """The proxy leaves it out; that every server compiles is not claimed until it is back."""
    lab, dead = seat.lab, servers(seat.lab)[1]
    other = proxied(seat, 1, 1)
    must(other.pmrunbook("--plain", "--yes", "--step", "balancer", timeout=1800))

    def dies() -> None:
        must(lab.execute(dead, "systemctl kill -s KILL puppetserver; systemctl stop puppetserver"))

    out = when_ahead(lab, lambda: cut_over(other, code=1), dies)
    assert fqdn(lab, dead) in out
    for host in agents(lab):
        run_agent(lab, host)
    must(lab.execute(dead, "systemctl start puppetserver", timeout=300))
    cut_over(other)
    must(other.pmrunbook("verify", "--step", "cutover", timeout=900))
    assert must(other.pmrunbook("debts")).strip() == "none"
    must(other.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))
    unmoved(lab)


def also(seat: Seat, name: str, **sections: object) -> Seat:
    """The seat with these sections beside its own, in a file of this name."""
    file = seat.state / f"{name}.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(seat.inventory.read_text()) | sections))
    return replace(seat, file=file)


def test_an_agent_that_fails_the_new_way_stops_it_before_the_zone(seat: Seat) -> None:
    """As many as may fail are left out, and named; one more, and who went ahead comes back."""
    lab = seat.lab
    cut_off = agents(lab)[1]
    balanced = proxied(seat, 1, 1)
    lenient = also(balanced, "lenient", rollout={"max_failures": "1"})
    must(lenient.pmrunbook("--plain", "--yes", "--step", "balancer", timeout=1800))
    must(balanced.pmrunbook("--plain", "--yes", "--step", "balancer", timeout=1800))
    way = f"prohibit {address(lab, 'lb1')}"
    with broken(lab, cut_off, f"ip route add {way}", f"ip route del {way}"):
        out = cut_over(balanced, code=1)
        assert f"{fqdn(lab, agents(lab)[0])} runs through the new way: compiled by cm" in out
        assert fqdn(lab, cut_off) in out
        unmoved(lab)
        assert must(balanced.pmrunbook("debts")).strip() == "none"
        for host in agents(lab):
            run_agent(lab, host)
        out = cut_over(lenient)
        assert "1 host left out" in out
        assert everywhere(lab, pool_name(lab)) == [f"300 {address(lab, 'lb1')}"]
        assert f"Left out: {fqdn(lab, cut_off)}" in must(lenient.pmrunbook("report"))
    must(lenient.pmrunbook("include", fqdn(lab, cut_off)))
    assert "left out" not in cut_over(lenient)
    must(lenient.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))
    unmoved(lab)


def test_a_gate_that_stays_shut_is_passed_by_a_waiver_alone(seat: Seat) -> None:
    """It has a reason and an end, which the report tells; once ended it counts no more."""
    lab = seat.lab
    other = proxied(seat, 3, 1)
    why = "the new weights wait for Friday's HAProxy"
    waiver = {"finding": "gate-balancer", "reason": why, "expires": "2019-12-31"}
    ended = also(other, "ended", waivers=[waiver])
    waived = also(other, "waived", waivers=[waiver | {"expires": "2199-12-31"}])
    with broken(lab, "lb1", REFUSING, "mv -f /root/haproxy /usr/sbin/haproxy"):
        for held in (other, ended):
            assert "refuses the new configuration" in cut_over(held, code=1)
            unmoved(lab)
        out = cut_over(waived)
    assert f"waived: {why} (until 2199-12-31)" in out
    assert everywhere(lab, pool_name(lab)) == [f"300 {address(lab, 'lb1')}"]
    assert why in must(waived.pmrunbook("report"))
    must(waived.pmrunbook("undo", "cutover", "--plain", "--yes", timeout=900))
    unmoved(lab)


def test_a_proxy_that_starts_while_no_name_server_answers_finds_its_servers(seat: Seat) -> None:
    lab = seat.lab
    first, second = name_servers(lab)
    stop, start = "systemctl stop named", "systemctl start named"
    with broken(lab, first, stop, start), broken(lab, second, stop, start):
        must(lab.execute("lb1", "systemctl restart haproxy", timeout=300))
        left = {fqdn(lab, m) for m in servers(lab)}
        for _ in range(30):
            if left <= well(lab):
                break
            time.sleep(2)
        assert left <= well(lab)
