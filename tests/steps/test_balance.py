"""How agents are spread, counted and told: the arithmetic and the text, without any host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from runbook.steps import (
    balance,
    balance_agents,
    balance_config,
    balance_dns,
    balance_gates,
    haproxy,
)
from runbook.steps.balance_proof import shares
from runbook.steps.balancer import BALANCER
from runbook.steps.cutover import CUTOVER
from runbook.steps.layout import FileFact

from runbook.model import (
    Action,
    Answer,
    CertificateAuthority,
    Dns,
    DnsChange,
    Facts,
    Host,
    HostFacts,
    Human,
    Query,
    Reading,
    SecretRef,
    Site,
    Tsig,
)
from runbook.pools import Member, pools

CA, LB = "main.example.com", "lb.example.com"
MEMBERS = ("cm1.example.com", "cm2.example.com")
NAME = "puppet.example.com"
AGENTS = tuple(f"web{n}.example.com" for n in range(40))
SERVER = "192.0.2.53"


def site(strategy: str = "tcp-proxy", **more: object) -> Site:
    host = {"host": LB} if "proxy" in strategy else {}
    servers = tuple({"name": n, "weight": 1, "priority": 0, "port": 8140} for n in MEMBERS)
    hosts = [Host(CA, roles=frozenset({"server", "ca"})), Host(LB)]
    hosts += [Host(n, roles=frozenset({"server", "compiler"})) for n in MEMBERS]
    hosts += [Host(n, roles=frozenset({"agent"})) for n in AGENTS]
    about = {"strategy": strategy, **host, "servers": servers, "sites": {}, "ttl": 300.0, **more}
    return Site(
        "site",
        tuple(hosts),
        NAME,
        CertificateAuthority(CA, "ca.example.com"),
        dns=Dns((SERVER,), Tsig("k", "hmac-sha256", SecretRef("env", "K")), "example.com"),
        sections={"load_balancing": about},
    )


def zone(**records: tuple[tuple[str, ...], int]) -> dict[Query, Answer]:
    """Answers of the name server: `name_TYPE` -> records and TTL."""
    found = {}
    for key, (values, ttl) in records.items():
        name, _, rtype = key.rpartition("_")
        full = f"{name}.example.com"
        found[Query(full, rtype, SERVER)] = Answer(values, ttl, authoritative=True)
    return found


BEFORE = {
    **zone(
        puppet_A=(("192.0.2.10",), 3600),
        puppet_AAAA=((), 0),
        puppet_CNAME=((), 0),
        lb_A=(("192.0.2.41",), 3600),
        cm1_A=(("192.0.2.21",), 3600),
        cm2_A=(("192.0.2.22",), 3600),
    ),
    Query("example.com", "SOA", SERVER): Answer(("soa",), 3600),
}


def actions(planned: object) -> list[Action]:
    assert isinstance(planned, tuple)
    return [a for a in planned if isinstance(a, Action)]


def change(action: Action) -> DnsChange:
    assert isinstance(action.do, DnsChange)
    return action.do


# --- names ----------------------------------------------------------------------------------------


def test_the_name_leads_to_the_proxy_and_its_ttl_is_a_debt_until_the_end() -> None:
    facts = Facts(answers=BEFORE)
    (low,) = actions(balance_dns.lower(site(), facts))
    assert (change(low).ttl, change(low).keep, change(low).before_ttl) == (60, True, 3600)
    assert low.opens and isinstance(low.opens.repay, DnsChange) and low.opens.repay.ttl == 3600
    (switch,) = actions(balance_dns.switch(site(), facts))
    assert change(switch).records == ("192.0.2.41",)
    assert change(switch).before == ("192.0.2.10",)
    (high,) = actions(balance_dns.raise_(site(), facts))
    assert (change(high).ttl, high.repays) == (300, low.opens.id)


def test_what_was_shown_at_the_beginning_is_what_is_done_in_the_end() -> None:
    """The plan is approved before the TTL is lowered: its digests must not move with that."""
    first = Facts(answers=BEFORE)
    lowered = {**BEFORE, Query(NAME, "A", SERVER): Answer(("192.0.2.10",), 60)}
    moved = {**BEFORE, Query(NAME, "A", SERVER): Answer(("192.0.2.41",), 60)}
    (shown,), (done,) = (
        actions(balance_dns.switch(site(), Facts(answers=a))) for a in (BEFORE, lowered)
    )
    assert shown.digest() == done.digest()
    (shown,) = actions(balance_dns.raise_(site(), first))
    (done,) = actions(balance_dns.raise_(site(), Facts(answers=moved)))
    assert shown.digest() == done.digest()


def test_addresses_of_a_family_the_pool_does_not_have_go() -> None:
    answers = {**BEFORE, Query(NAME, "AAAA", SERVER): Answer(("2001:db8::10",), 3600)}
    made = {
        change(a).rtype: change(a)
        for a in actions(balance_dns.switch(site(), Facts(answers=answers)))
    }
    assert made["A"].records == ("192.0.2.41",)
    assert made["AAAA"].records == () and made["AAAA"].before == ("2001:db8::10",)


def test_an_alias_becomes_one_of_the_proxy_and_is_in_the_way_of_several_addresses() -> None:
    alias = {**BEFORE, Query(NAME, "CNAME", SERVER): Answer(("main.example.com.",), 3600)}
    (made,) = actions(balance_dns.switch(site(), Facts(answers=alias)))
    assert (change(made).rtype, change(made).records) == ("CNAME", (f"{LB}.",))
    found = balance_gates.findings(site("round-robin"), Facts(answers=alias))
    assert "name-is-alias" in {f.id for f in found}


def test_a_ttl_lowered_just_now_is_no_measure_of_what_resolvers_remember() -> None:
    def patience(ttl: int) -> float:
        answers = {**BEFORE, Query(NAME, "A", SERVER): Answer(("192.0.2.41",), ttl)}
        hosts = {h.name: HostFacts({}) for h in site().hosts}
        (check,) = balance_dns.resolved(site(), Facts(hosts, answers))
        return check.patience

    assert patience(60) == balance_dns.REMEMBERED + 60
    assert patience(300) == 360


def test_every_address_of_the_pool_in_turn() -> None:
    (made,) = actions(balance_dns.switch(site("round-robin"), Facts(answers=BEFORE)))
    assert change(made).records == ("192.0.2.21", "192.0.2.22")


def test_without_a_key_a_person_is_asked_for_the_lines() -> None:
    unsigned = site()
    unsigned = Site(
        unsigned.name,
        unsigned.hosts,
        NAME,
        unsigned.ca,
        dns=Dns((SERVER,), None, "example.com"),
        sections=unsigned.sections,
    )
    (asked,) = actions(balance_dns.switch(unsigned, Facts(answers=BEFORE)))
    text = getattr(asked.do, "instruction", "")
    assert f"remove  {NAME}. IN A 192.0.2.10" in text
    assert f"add     {NAME}. 60 IN A 192.0.2.41" in text
    assert balance_dns.lower(unsigned, Facts(answers=BEFORE)) == ()


def test_what_a_person_changed_a_person_puts_back() -> None:
    unsigned = replace(site(), dns=Dns((SERVER,), None, "example.com"))
    seen = Reading(0, f"[{NAME}]\naddress=192.0.2.10\n")
    facts = Facts({CA: HostFacts({"pool-names": seen})}, BEFORE)
    (asked,) = actions(balance_dns.switch(unsigned, facts))
    assert isinstance(asked.undo, Human)
    assert f"remove  {NAME}. IN A 192.0.2.41" in asked.undo.instruction
    assert f"add     {NAME}. 300 IN A 192.0.2.10" in asked.undo.instruction
    assert "= 192.0.2.10 ]" in asked.undo.done.script and "192.0.2.41" not in asked.undo.done.script


def test_a_silent_name_server_is_no_zone_without_the_name() -> None:
    silent = {q: Answer(error="timeout") for q in BEFORE}
    assert actions(balance_dns.switch(site(), Facts(answers=silent))) == []
    ids = {f.id for f in balance_gates.findings(site(), Facts(answers=silent))}
    assert "name-server-silent" in ids


# --- SRV ------------------------------------------------------------------------------------------


def test_the_cas_record_stands_in_every_domain_of_a_pool() -> None:
    wants = balance.ca_records(site("srv", domain="example.com"), Facts())
    assert [(w.name, w.records) for w in wants] == [
        ("_x-puppet-ca._tcp.example.com", ("0 5 8140 ca.example.com.",))
    ]


def test_records_are_tried_below_a_name_nobody_asks() -> None:
    srv = site("srv", domain="example.com")
    none = {q: Answer(error="NXDOMAIN") for q in balance.queries(srv)}
    tried = actions(balance_dns.try_records(srv, Facts(answers=none)))
    assert [change(a).name for a in tried] == [
        "_x-puppet-ca._tcp.pmrunbook.example.com",
        "_x-puppet._tcp.pmrunbook.example.com",
    ]
    ended = actions(balance_dns.end_trial(srv, Facts(answers=none)))
    assert [a.repays for a in ended] == [a.opens.id for a in tried if a.opens]


@pytest.mark.parametrize(("minimum", "waited"), [(600, 720), (86_400, 1020), (0, 120)])
def test_resolvers_forget_that_there_was_none(minimum: int, waited: int) -> None:
    """As long as the zone says (RFC 2308); a day of it is told, and nobody waits for that."""
    srv = site("srv", domain="example.com")
    soa = Answer((f"ns.example.com. mail.example.com. 1 2 3 4 {minimum}",) if minimum else (), 3600)
    facts = Facts(answers={Query("example.com", "SOA", SERVER): soa})
    (check,) = balance_dns.srv_resolved(srv, facts, balance.ca_records(srv, facts))
    assert check.patience == waited
    silent = Facts({host: HostFacts() for host in AGENTS})
    assert f"for {minimum or 10_800} s" in check.judge(silent).remedy


# --- agents ---------------------------------------------------------------------------------------


def test_each_server_comes_first_in_the_list_of_about_as_many_agents() -> None:
    (pool,) = pools(site("server-list"))
    firsts = Counter(balance_agents.order(pool, name)[0] for name in AGENTS)
    assert set(firsts) == {f"{m}:8140" for m in MEMBERS}
    assert min(firsts.values()) >= len(AGENTS) // 4
    again = [balance_agents.order(pool, name) for name in AGENTS]
    assert again == [balance_agents.order(pool, name) for name in AGENTS]


def test_what_an_agent_is_told_goes_into_main_and_out_of_agent() -> None:
    srv = site("srv", domain="example.com")

    conf = FileFact("/p", b"# mine\n[agent]\nsrv_domain = old.example.com\nnoop=true\n")
    text = balance_agents.edited(srv, AGENTS[0], conf).decode()
    assert "old.example.com" not in text and "noop=true" in text and "# mine" in text
    assert "use_srv_records=true" in text and "srv_domain=example.com" in text
    assert balance_agents.settings(site(), AGENTS[0]) == {}


def test_a_server_is_missed_by_chance_hardly_ever() -> None:
    """One run each where many run; some more where few do; a proxy keeps an agent anyway."""
    assert balance_agents.times(site("round-robin"), Facts()) == 8
    assert balance_agents.times(site(), Facts()) == 1


# --- the proxy ------------------------------------------------------------------------------------


def test_weights_as_haproxy_takes_them() -> None:
    def of(*weights: int) -> Mapping[str, int]:
        return balance_config.weights([Member(f"m{n}", w) for n, w in enumerate(weights)])

    assert of(75, 25) == {"m0": 75, "m1": 25}
    assert of(0, 1) == {"m0": 0, "m1": 1}
    assert of(65_535, 1) == {"m0": 256, "m1": 1}  # the least one is not lost


def test_the_configuration_names_every_server_and_asks_it_over_tls() -> None:
    text = balance_config.config(site(), Facts(answers=BEFORE))
    for member in MEMBERS:
        assert f"server {member} {member}:8140 verifyhost {member} weight 1" in text
    # Without a name server it finds them, too.
    assert "init-addr libc,192.0.2.21\n" in text and "init-addr libc,192.0.2.22\n" in text
    assert "check-ssl verify required" in text and "stick on src" in text
    assert "bind :8140\n" in text and "v6only" not in text
    assert not haproxy.strange(text.encode())
    assert haproxy.strange(b"global\nfrontend web\n  bind :443\n")
    assert not haproxy.strange(b"global\n  log /dev/log\ndefaults\n  mode http\n")


# --- gates ----------------------------------------------------------------------------------------


def test_durations_as_puppet_writes_them() -> None:
    assert [balance_gates.seconds(x) for x in ("1800", "30m", "2h", "1d", "whenever")] == [
        1800,
        1800,
        7200,
        86_400,
        1800,
    ]


def test_the_load_is_agents_by_time_by_interval() -> None:
    log = Reading(0, "catalogs=10\nmean_ms=9000\n")
    facts = Facts({CA: HostFacts({"catalog-log": log})})
    busy, said = balance_gates.load(site(), facts)
    assert round(busy, 3) == round(40 * 9 / 1800, 3)
    assert "40 agents, 9.0 s a catalog (as its logs have it), a run every 30 min" in said


def test_planned_and_measured_shares_are_of_the_same_whole() -> None:
    proofs = {
        name: HostFacts({"proofs": Reading(0, f"[balanced]\nway=x\ncount={n}\n")})
        for name, n in zip(MEMBERS, (3, 1), strict=True)
    }
    got = shares(site(), Facts(proofs))
    assert [(name, n) for name, _, n in got] == []  # no agent that could have run


def test_a_site_that_says_nothing_of_balancing_is_left_as_it_is() -> None:
    """Not even a new agent is tried there."""
    plain = replace(site(), sections={})
    hosts = {h.name: HostFacts({"software": Reading(0, "")}) for h in plain.hosts}
    for step in (BALANCER, CUTOVER):
        assert [p for stage in step.stages for p in stage.plan(plain, Facts(hosts))] == []
        assert step.findings(plain, Facts(hosts)) == () and step.checks(plain, Facts(hosts)) == ()
