"""What a good inventory becomes."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest

from runbook.inventory import InventoryError, load, validate
from runbook.inventory.hostnames import Pattern
from runbook.lab import estate, inventory, seed
from runbook.model import SecretRef, Site, Waiver, fingerprint

ROOT = Path(__file__).parents[2]
HEAD = "ca: {host: primary.example.com, name: ca.example.com}\n"


def site(tmp_path: Path, text: str) -> Site:
    (tmp_path / "site.yaml").write_text(text)
    return load(tmp_path / "site.yaml", today=datetime.date(2026, 7, 1))


def test_the_least_inventory(tmp_path: Path) -> None:
    found = site(tmp_path, "ca: {host: primary.example.com}\n")
    assert (found.name, found.server) == ("site", "puppet")
    assert (found.ca.host, found.ca.name) == ("primary.example.com",) * 2
    assert found.ca.clients == "hosts"
    (host,) = found.hosts
    assert host.roles == {"ca", "server"}
    assert host.login.sudo
    assert host.login.sudo_password is None
    assert found.source == str(tmp_path / "site.yaml")


def test_every_role(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        HEAD
        + "servers: [old.example.com]\n"
        + "compile_masters: [cm1.example.com, {name: cm2.example.com, address: 192.0.2.12}]\n"
        + "puppetdb: {hosts: [pdb1.example.com, pdb2.example.com], "
        + "database: {host: db, password: {env: DB}}}\n"
        + "load_balancing: {strategy: tcp-proxy, host: lb.example.com}\n"
        + "agents: [a1.example.com, cm1.example.com]\n",
    )
    assert {host.name.partition(".")[0]: set(host.roles) for host in found.hosts} == {
        "primary": {"ca", "server"},
        "old": {"server"},
        "cm1": {"server", "compiler", "agent"},
        "cm2": {"server", "compiler"},
        "pdb1": {"puppetdb"},
        "pdb2": {"puppetdb"},
        "lb": {"balancer"},
        "a1": {"agent"},
    }
    assert found.host("cm2.example.com").dial == "192.0.2.12"


def test_logins_are_defaults_then_group_then_host(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        HEAD
        + "ssh: {user: operator, port: 22, jump: [gate, bastion], key: keys/one,\n"
        + "      known_hosts: [known, ~/.ssh/known_hosts], sudo_password: {file: secret},\n"
        + "      connect_timeout: 1.5m, agent: false, ssh_config: '', netns: lab}\n"
        + "groups: {site-a: {ssh: {port: 2222, jump: 'me@far:2022'}}}\n"
        + "compile_masters:\n"
        + "  - {name: cm1.example.com, group: site-a}\n"
        + "  - {name: cm2.example.com, group: site-a, ssh: {port: 2223}}\n"
        + "hosts: {cm2.example.com: {address: '2001:db8::2', ssh: {user: root, jump: []}}}\n",
    )
    assert found.netns == "lab"
    primary = found.host("primary.example.com").login
    assert (primary.user, primary.port, primary.jump) == ("operator", 22, ("gate", "bastion"))
    assert primary.keys == (str(tmp_path / "keys/one"),)
    assert primary.known_hosts == (str(tmp_path / "known"), str(Path.home() / ".ssh/known_hosts"))
    assert primary.sudo_password == SecretRef("file", str(tmp_path / "secret"))
    assert primary.connect_timeout == 90.0
    assert primary.ssh_config == ""
    assert not primary.agent
    cm1 = found.host("cm1.example.com")
    assert (cm1.group, cm1.login.port, cm1.login.jump) == ("site-a", 2222, ("me@far:2022",))
    cm2 = found.host("cm2.example.com")
    assert (cm2.dial, cm2.group) == ("2001:db8::2", "site-a")
    assert (cm2.login.user, cm2.login.port, cm2.login.jump) == ("root", 2223, ())
    assert not cm2.login.sudo, "root needs no sudo"


def test_agents_from_names_patterns_and_files(tmp_path: Path) -> None:
    (tmp_path / "agents.txt").write_text("# web\nweb1.example.com\r\n\n  web2.example.com # two\n")
    found = site(
        tmp_path,
        HEAD
        + "groups: {a: {}}\n"
        + "agents:\n"
        + "  - {file: agents.txt, group: a}\n"
        + "  - {pattern: 'db[a-b][09-10].example.com'}\n"
        + "  - last.example.com\n",
    )
    names = [host.name.removesuffix(".example.com") for host in found.having("agent")]
    assert names == ["web1", "web2", "dba09", "dba10", "dbb09", "dbb10", "last"]
    assert found.host("web2.example.com").group == "a"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("w[1-3]", ["w1", "w2", "w3"]),
        ("w[08-10]", ["w08", "w09", "w10"]),
        ("w[8-10]", ["w8", "w9", "w10"]),
        ("w[a-c]x", ["wax", "wbx", "wcx"]),
        ("w[1,5-6,db]", ["w1", "w5", "w6", "wdb"]),
        ("[a-b]w[1-2]", ["aw1", "aw2", "bw1", "bw2"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert list(Pattern(pattern).names()) == names


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("w", "no range"),
        ("w[]", "no range"),
        ("w[3-1]", "backwards"),
        ("w[1-", "no range"),
        ("w[1-]", "nothing on one side"),
        ("w[,]", "nothing on one side"),
        ("w[a-1]", "ranges run"),
        ("w[1-50001]", "more than 50,000"),
        ("w[1-999][1-999]", "more than 50,000"),
        ("w[1-9999999999]", "ranges run"),
        ("w[1-2]-", "not a host name"),
        ("[1-2]", "is a number"),
        ("-w[1-2]", "option"),
    ],
)
def test_patterns_that_are_none(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Pattern(pattern).names()


def test_sections_come_with_their_defaults(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        HEAD
        + "compile_masters: [cm1.example.com, {name: cm2.example.com, heap: 2g, "
        + "jruby_instances: 3}]\n"
        + "puppetdb: {host: pdb.example.com, database: {password: {file: pw}}}\n"
        + "code: {strategy: rsync}\n"
        + "load_balancing: {strategy: round-robin}\n",
    )
    puppetdb = found.sections["puppetdb"]
    assert (puppetdb["hosts"], puppetdb["port"]) == (("pdb.example.com",), 8081)
    assert puppetdb["database"]["password"] == SecretRef("file", str(tmp_path / "pw"))
    assert puppetdb["database"]["user"] == "puppetdb"
    assert found.sections["reports"] == {"processors": ("puppetdb",)}
    code = found.sections["code"]
    assert (code["source"], code["every"]) == ("primary.example.com", 300.0)
    balancing = found.sections["load_balancing"]
    assert [member["name"] for member in balancing["servers"]] == [
        "cm1.example.com",
        "cm2.example.com",
    ]
    assert {member["weight"] for member in balancing["servers"]} == {1}
    own = {"heap": 2048, "jruby_instances": 3}  # MiB
    assert found.sections["compilers"] == {"cm1.example.com": {}, "cm2.example.com": own}
    assert fingerprint(found), "a site has a plain form"


def test_two_sites_as_in_the_guide() -> None:
    found = load(ROOT / "inventories/srv-multi-site.yaml")
    sites = found.sections["load_balancing"]["sites"]
    shares = {
        name: [(m["name"], m["priority"], m["weight"], m["port"]) for m in about["servers"]]
        for name, about in sites.items()
    }
    one, two, far = (
        f"{n}.example.com" for n in ("master-1.site-a", "master-2.site-a", "master.site-b")
    )
    assert shares["site-a"] == [(one, 0, 75, 8140), (two, 0, 25, 8140), (far, 1, 5, 8140)]
    assert shares["site-b"] == [(far, 0, 5, 8140), (one, 1, 75, 8140), (two, 1, 25, 8140)]


@pytest.mark.parametrize(
    ("balancing", "names"),
    [
        ("{strategy: round-robin}", ("puppet.example.com",)),
        ("{strategy: tcp-proxy, host: lb.example.com}", ("puppet.example.com",)),
        ("{strategy: hardware}", ("puppet.example.com",)),
        ("{strategy: hardware, mode: tls}", ()),
        ("{strategy: tls-proxy, host: lb.example.com}", ()),
        ("{strategy: srv, domain: example.com}", ()),
        ("{strategy: server-list}", ()),
        (
            "{strategy: round-robin, sites: {a: {server: puppet.a.example.com, servers: []}}}",
            ("puppet.example.com", "puppet.a.example.com"),
        ),
    ],
)
def test_alt_names_are_what_agents_call(
    tmp_path: Path, balancing: str, names: tuple[str, ...]
) -> None:
    head = "ca: {host: primary.example.com, name: ca.example.com, clients: srv}\n"
    text = "puppet: {server: puppet.example.com}\ndns: {domain: example.com}\ngroups: {a: {}}\n"
    found = site(tmp_path, f"{head}{text}load_balancing: {balancing}\n")
    assert found.dns_alt_names == names


def test_ca_dns_rollout_and_waivers(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        "ca: {host: primary.example.com, name: ca.example.com, clients: srv}\n"
        + "dns: {servers: ['192.0.2.53', '[2001:db8::53]:5353'], domain: example.com,\n"
        + "      tsig: {name: key, secret: {env: TSIG}}}\n"
        + "agents: {pattern: 'a[001-100].example.com'}\n"
        + "rollout: {max_failures: 5%}\n"
        + "waivers: [{finding: clock-skew, reason: known, expires: 2027-01-31}]\n",
    )
    assert found.ca.srv_domain == "example.com"
    assert found.dns.servers == ("192.0.2.53", "[2001:db8::53]:5353")
    assert found.dns.tsig is not None
    assert found.dns.tsig.algorithm == "hmac-sha256"
    assert (found.rollout.canary, found.rollout.batch, found.rollout.max_failures) == (1, 20, 5)
    assert found.waivers == (Waiver("clock-skew", "*", "known", "2027-01-31"),)


def test_module(tmp_path: Path) -> None:
    found = site(tmp_path, "ca: {host: p.example.com, clients: module, module: {path: /m}}\n")
    assert (found.ca.clients, found.ca.module, found.ca.environment) == (
        "module",
        "/m",
        "production",
    )


def test_digest_covers_the_agents_file(tmp_path: Path) -> None:
    (tmp_path / "agents.txt").write_text("a1.example.com\n")
    text = HEAD + "agents: {file: agents.txt}\n"
    before = site(tmp_path, text)
    assert site(tmp_path, text).digest == before.digest
    (tmp_path / "agents.txt").write_text("a1.example.com # still the same\n")
    assert site(tmp_path, text).digest != before.digest
    assert site(tmp_path, text + "# more\n").digest != before.digest


def test_anchors_and_words_of_yaml_1_1_are_read(tmp_path: Path) -> None:
    found = site(
        tmp_path,
        "ca: {host: &p primary.example.com, name: ca.example.com}\n"
        + "ssh: {sudo: yes, agent: Off}\ncode: {strategy: rsync, source: *p}\n",
    )
    assert found.hosts[0].login.sudo
    assert not found.hosts[0].login.agent
    assert found.sections["code"]["source"] == "primary.example.com"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_and_windows_lines(tmp_path: Path, newline: str, start: bytes) -> None:
    path = tmp_path / "site.yaml"
    text = (ROOT / "inventories/tcp-proxy.yaml").read_text()
    path.write_bytes(start + text.replace("\n", newline).encode())
    assert len(load(path).hosts) == 66


def test_a_warning_does_not_stop(tmp_path: Path) -> None:
    text = HEAD + "waivers: [{finding: x, reason: y, expires: 2026-06-30}]\n"
    assert len(site(tmp_path, text).waivers) == 1
    (problem,) = validate(tmp_path / "site.yaml", today=datetime.date(2026, 7, 1))
    assert problem.severity == "warning"
    assert validate(tmp_path / "site.yaml", today=datetime.date(2026, 6, 30)) == ()


def test_paths_are_relative_to_the_inventory_not_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/agents.txt").write_text("a1.example.com\n")
    (tmp_path / "sub/site.yaml").write_text(HEAD + "ssh: {key: k}\nagents: {file: agents.txt}\n")
    monkeypatch.chdir(tmp_path)
    found = load("sub/site.yaml")
    assert found.hosts[0].login.keys == (str(tmp_path / "sub/k"),)
    assert found.source == str(tmp_path / "sub/site.yaml")


def test_the_labs_inventory_loads(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(
        inventory.inventory_text(estate.load(), seed.Credentials(tmp_path), "pmrb-default")
    )
    found = load(path)
    assert validate(path) == ()
    assert found.netns == "pmrb-default"
    assert found.having("balancer")
    assert found.having("puppetdb")
    assert len(found.having("compiler")) == 2
    assert found.dns.tsig is not None
    assert found.dns.tsig.secret == SecretRef("file", str(tmp_path / "tsig.secret"))


def test_examples_do_not_depend_on_where_they_are(tmp_path: Path) -> None:
    shutil.copy(ROOT / "inventories/minimal.yaml", tmp_path / "site.yaml")
    assert load(tmp_path / "site.yaml").name == "site"


@pytest.mark.parametrize(
    ("file", "name"),
    [("acme.yaml", "acme"), ("my site.yaml", "my-site"), ("-rf.yaml", "rf"), ("..yaml", "site")],
)
def test_a_site_without_a_name_has_its_files(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text(HEAD)
    assert load(tmp_path / file).name == name


def test_the_error_holds_all_problems(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("ca: {hots: a}\nagent: [a]\n")
    with pytest.raises(InventoryError) as caught:
        load(tmp_path / "site.yaml")
    assert len(caught.value.problems) == 3
    assert str(caught.value).count("\n") == 2
    assert caught.value.exit == 2
    assert "pmrunbook validate" in caught.value.hint
