"""How agents are spread, counted and told: the arithmetic and the text, without any host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from runbook.steps import (
    balance,
    balance_agents,
    balance_config,
    balance_dns,
    balance_gates,
    balance_proof,
    haproxy,
    reads,
    trial,
)
from runbook.steps.balance_proof import shares
from runbook.steps.balancer import BALANCER
from runbook.steps.cutover import CUTOVER
from runbook.steps.layout import FileFact, Seen

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
    Later,
    Query,
    Reading,
    Script,
    SecretRef,
    Site,
    Stage,
    Tsig,
)
from runbook.plan import make_stage
from runbook.pools import Member, pools
from tests.steps.test_cases import readings

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


@pytest.mark.parametrize(
    ("strategy", "more", "asked"),
    [("tls-proxy", {}, True), ("hardware", {"mode": "tls"}, True), ("hardware", {}, False)],
)
def test_the_package_of_a_proxy_is_asked_for_wherever_one_is_to_be(
    strategy: str, more: Mapping[str, object], asked: bool
) -> None:
    assert ("haproxy" in reads.packages(site(strategy, **more)).script.split("\n")[0]) is asked


def test_a_ttl_that_ends_as_low_as_others_begin_is_raised_all_the_same() -> None:
    """Else nothing would repay the debt but what was there before."""
    quick = site(ttl=60.0)
    (low,) = actions(balance_dns.lower(quick, Facts(answers=BEFORE)))
    moved = {**BEFORE, Query(NAME, "A", SERVER): Answer(("192.0.2.41",), change(low).ttl)}
    (high,) = actions(balance_dns.raise_(quick, Facts(answers=moved)))
    assert (change(high).ttl, high.repays) == (60, low.opens and low.opens.id)
    done = {**BEFORE, Query(NAME, "A", SERVER): Answer(("192.0.2.41",), 60)}
    assert balance_dns.raise_(quick, Facts(answers=done)) == ()


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


def test_every_record_that_is_wanted_is_looked_for_on_the_hosts() -> None:
    """The domain in which agents find the CA before they move to their site's is one of them."""
    servers = ({"name": MEMBERS[0], "weight": 1, "priority": 0, "port": 8140},)
    sites = {"a": {"domain": "a.example.com", "servers": servers}}
    srv = site("srv", sites=sites)
    hosts = tuple(replace(h, group="a") if h.name in AGENTS else h for h in srv.hosts)
    ca = replace(srv.ca, clients="srv", srv_domain="example.com")
    srv = replace(srv, ca=ca, hosts=hosts)
    wants = (*balance.ca_records(srv, Facts()), *balance.pool_records(srv))
    assert len(wants) == 3
    asked = balance.srv_seen(srv).script
    assert [w.name for w in wants if w.name not in asked] == []


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


def test_records_that_lead_agents_already_are_kept_shortly_before_they_change() -> None:
    """A pool whose weights are to be others: back is as quick as forth."""
    srv = with_pool("srv", 50, 50, domain="example.com")
    name, old = "_x-puppet._tcp.example.com", (f"0 75 8140 {MEMBERS[0]}.",)
    there = {Query(name, "SRV", SERVER): Answer(old, 3600, authoritative=True)}
    none = {q: Answer(error="NXDOMAIN") for q in balance.queries(srv)}
    facts = Facts(answers={**none, **there})
    (low,) = actions(balance_dns.lower(srv, facts))
    assert (change(low).name, change(low).before_ttl, change(low).ttl) == (name, 3600, 60)
    (made,) = actions(balance_dns.pool(srv, facts))
    assert (change(made).before_ttl, change(made).ttl) == (60, 60)
    (high,) = actions(balance_dns.raise_(srv, facts))
    assert change(high).ttl == 300
    assert low.opens and high.repays == low.opens.id
    (check, *_) = balance_dns.srv_resolved(srv, facts, balance.pool_records(srv))
    assert check.patience == 3600 + 120
    first = Facts(answers=none)
    assert balance_dns.lower(srv, first) == () == balance_dns.raise_(srv, first)
    (made,) = actions(balance_dns.pool(srv, first))
    assert change(made).ttl == 300


def test_srv_records_of_a_site_whose_name_servers_nobody_may_ask() -> None:
    """What the CA's host finds counts, before and after."""
    srv = replace(with_pool("srv", 75, 25, domain="example.com"), dns=Dns(domain="example.com"))
    (want,) = balance.pool_records(srv)
    (asked,) = actions(balance_dns.pool(srv, seen(1)))
    assert isinstance(asked.do, Human) and want.name in asked.do.instruction
    found = f"[{want.name}]\n" + "\n".join(want.records) + "\n"
    assert balance_dns.pool(srv, seen(1, main={"pool-srv": found})) == ()


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


def seen(agents: int, members: Sequence[str] = MEMBERS, **more: Mapping[str, str]) -> Facts:
    """Hosts as they are found, this many agents among them; `more`: readings by host's label."""
    calls = [["software", "server=puppet.lab.test", f"server={NAME}"]]
    about: dict[str, dict[str, object]] = {
        CA: {"like": "bookworm-server"},
        **{name: {"like": "bookworm-compiler"} for name in members},
        **{name: {"like": "bookworm-agent", "replace": calls} for name in AGENTS[:agents]},
    }
    for name, host in about.items():
        host["readings"] = more.get(name.partition(".")[0], {})
    return Facts({name: readings(name, host) for name, host in about.items()})


def with_pool(strategy: str, *weights: int, **more: object) -> Site:
    servers = [
        {"name": f"cm{n}.example.com", "weight": weight, "priority": 0, "port": 8140}
        for n, weight in enumerate(weights, 1)
    ]
    found = site(strategy, servers=tuple(servers), **more)
    extra = [Host(str(s["name"]), roles=frozenset({"server", "compiler"})) for s in servers[2:]]
    return replace(found, hosts=(*found.hosts, *extra))


@pytest.mark.parametrize("agents", [1, 2, 5, 40])
@pytest.mark.parametrize("weights", [(1, 1), (75, 25), (3, 2, 1), (1,) * 8])
def test_a_server_is_missed_by_chance_hardly_ever(agents: int, weights: tuple[int, ...]) -> None:
    given = with_pool("srv", *weights, domain="example.com")
    facts = seen(agents)
    (pool,) = pools(given)
    runs = balance_agents.times(given, facts, pool) * len(balance_agents.samples(given, facts))
    for name, share in pool.shares().items():
        likely = (1 - share) ** runs <= balance_agents.SURE
        assert (name in balance_agents.expected_ones(given, facts)) == likely
        assert (name in balance_agents.unlikely_ones(given, facts)) != likely


def test_a_server_with_hardly_a_share_is_not_waited_for() -> None:
    """An SRV record of weight 0 has a tenth of one of weight 1."""
    given = with_pool("srv", 75, 0, domain="example.com")
    assert balance_agents.expected_ones(given, seen(2)) == (MEMBERS[0],)
    assert balance_agents.unlikely_ones(given, seen(2)) == (MEMBERS[1],)


def test_a_server_that_only_stands_by_for_an_agent_is_none_of_its_own() -> None:
    """Its runs say nothing of that server: not in the drill, nor where the load is counted."""
    servers = [{"name": n, "weight": 1, "port": 8140} for n in MEMBERS]
    first, second = ({**s, "priority": p} for s, p in zip(servers, (0, 1), strict=True))
    given = site("srv", domain="example.com", servers=(first, second))
    one, other = (Seen(name, seen(1)) for name in MEMBERS)
    agent = Seen(AGENTS[0], seen(1))
    assert balance_proof._asks(given, agent, one)
    assert not balance_proof._asks(given, agent, other)


def test_what_any_host_may_do_is_for_none_that_is_left_out() -> None:
    """A new agent is tried on the first one, and the first ones are samples, while they are in."""
    tried: list[str] = []

    def plan(given: Site, facts: Facts) -> tuple[()]:
        host = trial.prober(given, facts)
        tried.append(host.name if host else "")
        tried.append(balance_agents.samples(given, facts)[0].name)
        return ()

    for out in ((), AGENTS[:1]):
        make_stage(Stage("s", "S", plan), site(), seen(3), without=out)
    assert tried == [AGENTS[0], AGENTS[0], AGENTS[1], AGENTS[1]]


@pytest.mark.parametrize("strategy", ["tcp-proxy", "hardware"])
def test_where_agents_are_kept_each_runs_once_and_then_again_where_none_came(strategy: str) -> None:
    given = with_pool(strategy, *(1,) * 8)
    members = [m.name for m in pools(given)[0].members]
    facts = seen(3, members)
    assert balance_agents.times(given, facts, pools(given)[0]) == 1
    assert balance_agents.expected_ones(given, facts) == tuple(members)
    assert len(balance_agents.samples(given, seen(40, members))) == 8
    rounds = balance_proof.SPREAD_ROUNDS
    assert len(actions(rounds.count(given, facts))) == 8
    (later,) = rounds.settle(given, facts, 2)  # type: ignore[misc]
    assert isinstance(later, Later)
    assert rounds.runs(given, facts, 2) == () == rounds.count(given, facts, 2)
    # Of the first round the last three got nothing.
    way = f"way={balance.digest(given)}\n"
    none = {f"cm{n}": {"proofs": f"[balanced-none]\n{way}"} for n in (6, 7, 8)}
    had = {f"cm{n}": {"proofs": f"[balanced]\n{way}count=1\n"} for n in range(1, 6)}
    facts = seen(3, members, **none, **had)
    (wait,) = actions(rounds.settle(given, facts, 2))
    assert "cm6.example.com, cm7.example.com, cm8.example.com had none" in wait.title
    assert len(actions(rounds.runs(given, facts, 2))) == len(balance_agents.samples(given, facts))
    counting = actions(rounds.count(given, facts, 2))
    assert [a.host for a in counting] == members[5:]
    assert all(a.do.script.endswith(" again\n") for a in counting if isinstance(a.do, Script))
    last = actions(rounds.count(given, facts, balance_proof.ROUNDS))
    assert all(a.do.script.endswith(" ''\n") for a in last if isinstance(a.do, Script))


@pytest.mark.parametrize(
    ("compiled", "just", "ok", "said"),
    [
        ("", True, False, "it ran, and no server"),
        ("", False, True, "it ran"),
        (f"catalog={AGENTS[0]} 1000", True, False, "cm1.example.com compiled for it before"),
        (f"catalog={AGENTS[0]} 1000", False, False, "cm1.example.com compiled for it before"),
        (f"catalog={AGENTS[0]} 5000", True, True, "compiled by cm1.example.com"),
    ],
)
def test_an_agent_went_the_new_way_if_a_server_of_the_pool_knows_of_it(
    compiled: str, just: bool, ok: bool, said: str
) -> None:
    proof = f"[cut-over]\nway={balance.digest(site())}\nbegan=4900\n"
    facts = seen(1, web0={"pins": "", "proofs": proof}, cm1={"catalog-log": compiled + "\n"})
    found = balance_agents.went(site(), AGENTS[0], just=just).judge(facts)
    assert (found.ok, found.observed[: len(said)]) == (ok, said)


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
    counts = {"cm1": 3, "cm2": 1}
    proofs = {h: {"proofs": f"[balanced]\nway=x\ncount={n}\n"} for h, n in counts.items()}
    given = with_pool("srv", 75, 25, domain="example.com")
    assert shares(given, seen(2, **proofs)) == ((MEMBERS[0], 0.75, 3), (MEMBERS[1], 0.25, 1))
    assert shares(given, seen(0, **proofs)) == ()  # no agent that could have run


def test_each_pool_has_to_do_its_own_agents_work() -> None:
    """A site that idles helps no other one; and a share is more than a small server may bear."""
    servers = [{"name": n, "weight": 1, "priority": 0, "port": 8140} for n in MEMBERS]
    sites = {g: {"domain": g, "servers": (servers[i],)} for i, g in enumerate(("a", "b"))}
    given = site("srv", sites=sites)
    groups = {name: "b" if name == AGENTS[0] else "a" for name in AGENTS}
    hosts = tuple(replace(h, group=groups.get(h.name, "")) for h in given.hosts)
    given = replace(given, hosts=hosts)
    slow = {"catalog-log": "catalogs=40\nmean_ms=60000\n"}
    said = {f.id: f.observed for f in balance_gates.capacity(given, seen(40, cm1=slow))}
    assert "a: 1.3 JRuby instances busy of 1" in said["capacity-short"]
    assert "b: 0.0 JRuby instances busy of 1, 0 with" in said["capacity-tight"]


def test_a_site_that_says_nothing_of_balancing_is_left_as_it_is() -> None:
    """Not even a new agent is tried there."""
    plain = replace(site(), sections={})
    hosts = {h.name: HostFacts({"software": Reading(0, "")}) for h in plain.hosts}
    for step in (BALANCER, CUTOVER):
        assert [p for stage in step.stages for p in stage.plan(plain, Facts(hosts))] == []
        assert step.findings(plain, Facts(hosts)) == () and step.checks(plain, Facts(hosts)) == ()
