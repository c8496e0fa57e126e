"""Every mistake is said at its place, with the way out, and all of them at once."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from runbook.inventory import inspect, validate
from runbook.inventory.problems import Problem

HEAD = "ca: {host: primary.example.com, name: ca.example.com}\n"
TODAY = datetime.date(2026, 7, 1)


def problems(folder: Path, text: str) -> tuple[Problem, ...]:
    (folder / "site.yaml").write_text(text)
    return validate(folder / "site.yaml", today=TODAY)


def said(folder: Path, text: str) -> list[str]:
    prefix = f"{folder}/"
    return [str(problem).replace(prefix, "") for problem in problems(folder, text)]


def cases(text: str) -> list[tuple[str, list[str]]]:
    """Blocks of YAML, each followed by the beginnings of its problems as `> line:column: ...`."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        yaml = [line for line in lines if not line.startswith("> ")]
        wanted = [line[2:] for line in lines if line.startswith("> ")]
        found.append((HEAD * (not block.startswith("ca:")) + "\n".join(yaml) + "\n", wanted))
    return found


SHAPES = """
compile_master: [cm1]
> 2:1: the inventory has no key 'compile_master' (did you mean 'compile_masters'?)

server: puppet.example.com
> 2:1: the inventory has no key 'server' (did you mean puppet: {server: ...}?)

nonsense: 1
> 2:1: the inventory has no key 'nonsense' (it has site, ssh, puppet, ca,

ssh: {prot: 22}
> 2:7: ssh has no key 'prot' (did you mean 'port'?)

ssh: {connect-timeout: 3s}
> 2:7: ssh has no key 'connect-timeout' (did you mean 'connect_timeout'?)

<<: {a: b}
> 2:1: the inventory has no key '<<' (merge keys are not read;

ca: {name: ca.example.com}
> 1:5: ca needs the key host: The host the CA runs on. (such as host: primary.example.com)

ca: primary.example.com
> 1:5: ca wants a mapping, and this is 'primary.example.com' (such as {host: primary.example.com})

ca: {host: [a]}
> 1:12: ca.host wants a host name, and this is a list (such as cm1.example.com)

ssh:
> 2:5: ssh wants a mapping, and this is empty (such as {user: operator})

ssh: {port: abc}
> 2:13: ssh.port wants a port from 1 to 65535, and this is 'abc' (such as 22)

ssh: {port: 65536}
> 2:13: ssh.port wants a port from 1 to 65535, and this is the number 65536

ssh: {port: 08}
> 2:13: ssh.port wants a port from 1 to 65535, and this is 08, a number with a leading zero

ssh: {port: true}
> 2:13: ssh.port wants a port from 1 to 65535, and this is true, which YAML reads as true

ssh: {sudo: maybe}
> 2:13: ssh.sudo wants true or false, and this is 'maybe'

ssh: {user: no}
> 2:13: ssh.user wants a user name, and this is no, which YAML reads as false (if it is meant as text, quote it: 'no')

ssh: {user: 1234}
> 2:13: ssh.user wants a user name, and this is the number 1234 (if it is meant as text, quote it: '1234')

ssh: {user: -oProxyCommand=x}
> 2:13: ssh.user wants a user name, and this is '-oProxyCommand=x'

ssh: {key: -x}
> 2:12: ssh.key wants a path of a file here, and this is '-x'

ssh: {jump: 'a b'}
> 2:13: ssh.jump wants a jump host as user@host:port, and this is 'a b'

ssh: {jump: [a, a, a, a, a, a, a, a, a]}
> 2:13: ssh.jump wants a jump host as user@host:port, or a list of them (at most 8), and this is a list of 9

ssh: {connect_timeout: soon}
> 2:24: ssh.connect_timeout wants a time such as 15s, 2m or 1h, and this is 'soon'

compile_masters: [{name: cm1, ssh: {netns: x}}]
> 2:37: compile_masters[0].ssh has no key 'netns'

compile_masters: [{address: x}]
> 2:19: compile_masters[0] needs the key name: Its certname.

compile_masters: [cm1]
load_balancing: {strategy: tcp_proxy, host: lb}
> 3:28: load_balancing.strategy wants one of round-robin, tcp-proxy, tls-proxy, hardware, srv, server-list, and this is 'tcp_proxy' (did you mean 'tcp-proxy'?)

code: {strategy: rsnc}
> 2:18: code.strategy wants one of r10k, git, mercurial, subversion, rsync, model-master, command, and this is 'rsnc' (did you mean 'rsync'?)

code: {strategy: git}
> 2:7: code needs the key repository with strategy: git: Where the code is kept.

code: {strategy: git, repository: x, config: /x}
> 2:38: code: config means nothing with strategy: git (it belongs to r10k)

code: {strategy: r10k, path: ../x}
> 2:30: code.path wants a path on the hosts, and this is '../x'

ca: {host: p, clients: module}
> 1:5: ca needs the key module with clients: module: The module to write.

ca: {host: p, module: {path: /x}}
> 1:15: ca: module means nothing with clients: hosts (it belongs to module)

puppetdb: {}
> 2:11: puppetdb wants exactly one of host, hosts

puppetdb: {host: a, hosts: [b]}
> 2:11: puppetdb wants exactly one of host, hosts

rollout: {canary: 0, max_failures: 101%}
> 2:19: rollout.canary wants a number of hosts, 1 or more, and this is the number 0
> 2:36: rollout.max_failures wants a number of hosts, or a share of them such as 5%, and this is '101%'

groups: {1: {}, 'a b': {}}
> 2:10: groups.1 wants a short name, and this is the number 1
> 2:17: groups.a b wants a short name, and this is 'a b'

waivers: [{finding: x, expires: soon}]
> 2:11: waivers[0] needs the key reason: Why it is accepted, and by whom.
> 2:33: waivers[0].expires wants a date, and this is 'soon' (such as 2027-01-31)

dns: {servers: ns1.example.com}
> 2:16: dns.servers wants the address of a name server, with or without a port, and this is 'ns1.example.com'

site: {name: ../../etc}
> 2:14: site.name wants a short name, and this is '../../etc'

ssh: {port: 1}
ssh: {port: 2}
> 3:1: the key 'ssh' is given twice; first in line 2, column 1 (keep one of the two)

[a]: b
> 2:1: a key is a single word, not a list or a mapping
"""  # noqa: E501

TOPOLOGY = """
ca: {host: primary.example.com, name: puppet.example.com}
puppet: {server: puppet.example.com}
> 1:39: the CA's name puppet.example.com is also a name agents share (puppet.example.com, puppet.server) (once that name leads to compile masters, certificate requests would end there;

ca: {host: puppet.example.com}
> 1:12: the CA's name puppet.example.com is also a name agents share (puppet, puppet.server)

ca: {host: primary.example.com, name: ca.example.com}
puppet: {server: puppet.example.com, dns_alt_names: [puppet.example.com, ca.example.com]}
> 1:39: the CA's name ca.example.com is also a name agents share (ca.example.com, puppet.dns_alt_names)

ca: {host: p.example.com, clients: srv}
> 1:36: clients find the CA by an SRV record, and no domain says where it is (add ca.srv_domain

compile_masters: [primary.example.com]
> 2:19: primary.example.com is in compile_masters and in ca.host, and cannot be both: a compile master leaves the CA to another host (ca.host has it in line 1)

servers: [cm1]
compile_masters: [cm1]
> 3:19: cm1 is in compile_masters and in servers, and cannot be both

servers: [primary.example.com]
> 2:11: warning: primary.example.com runs the CA, so it is a server anyway

compile_masters: [cm1]
load_balancing: {strategy: tcp-proxy, host: cm1}
> 3:45: cm1 is in load_balancing.host and in compile_masters, and cannot be both: both listen on port 8140

compile_masters: [cm1]
load_balancing: {strategy: tcp-proxy, host: primary.example.com}
> 3:45: primary.example.com is in load_balancing.host and in ca.host, and cannot be both

compile_masters: [cm1]
load_balancing: {strategy: tls-proxy}
> 3:17: load_balancing needs the key host with strategy: tls-proxy: The host of the proxy.

compile_masters: [cm1]
load_balancing: {strategy: round-robin, host: lb}
> 3:41: load_balancing: host means nothing with strategy: round-robin (it belongs to tcp-proxy, tls-proxy)

ca: {host: p.example.com, clients: srv, srv_domain: example.com}
compile_masters: [cm1]
load_balancing: {strategy: srv}
> 3:28: agents find their servers by SRV records, and no domain says where they are (add load_balancing.domain

compile_masters: [cm1]
load_balancing: {strategy: srv, domain: example.com}
> 1:5: warning: agents that use SRV records ignore ca_server

ca: {host: p.example.com, clients: srv, srv_domain: example.com}
compile_masters: [cm1]
groups: {a: {}}
load_balancing: {strategy: srv, sites: {a: {servers: [cm1]}, b: {domain: b.example.com, servers: [cm1]}}}
agents: [a1, {name: a2, group: a}]
> 4:28: agents find their servers by SRV records, and no domain says where they are; 1 agents are in none of the sites, such as a1
> 4:41: site a has no domain, where its SRV records would stand
> 4:62: there is no group b, so no agent belongs to this site (add groups: {b: {}})

load_balancing: {strategy: round-robin}
> 2:17: warning: there are no compile masters to spread agents over

compile_masters: [cm1.example.com]
load_balancing: {strategy: round-robin, servers: [cm1.example.com, cm1.example.com, cm2.example.com]}
> 3:68: load_balancing.servers lists cm1.example.com twice
> 3:85: cm2.example.com is not a Puppet Server of this inventory (did you mean 'cm1.example.com'?)

compile_masters: [cm1.example.com, cm2.example.com]
load_balancing: {strategy: round-robin, servers: [{name: cm1.example.com, weight: 3}, {name: cm2.example.com, priority: 1}]}
> 3:83: warning: weight means nothing with strategy: round-robin: each server gets as many agents (leave it out, or use tcp-proxy or srv)
> 3:121: warning: priority means nothing with strategy: round-robin: servers of a higher number get none, even if the others fail (leave it out, or use tcp-proxy or srv)

compile_masters: [cm1]
puppetdb: {host: cm1}
> 3:18: warning: cm1 is a compile master and runs PuppetDB

puppet: {server: puppet.example.com, dns_alt_names: [puppet]}
compile_masters: [cm1]
load_balancing: {strategy: round-robin}
> 2:53: dns_alt_names leaves out puppet.example.com, which agents call (puppet.server)

puppet: {server: puppet.example.com, dns_alt_names: [puppet.example.com]}
compile_masters: [cm1]
groups: {a: {}}
load_balancing: {strategy: tcp-proxy, host: lb, sites: {a: {server: puppet.a.example.com, servers: [cm1]}}}
> 2:53: dns_alt_names leaves out puppet.a.example.com, which agents call (load_balancing.sites.a.server)

puppet: {server: cm1.example.com}
compile_masters: [cm1.example.com]
load_balancing: {strategy: round-robin}
> 3:19: cm1.example.com is the name of the pool (puppet.server) and of this one member

agents: [a, b, a]
> 2:16: agents lists a twice; first in line 2 (keep one)

agents: [a, {pattern: 'a[1-2]'}, a2]
> 2:34: agents lists a2 twice; first in line 2 (keep one)

agents: [{name: a, group: site-q}]
groups: {site-a: {}}
> 2:27: there is no group 'site-q' (did you mean 'site-a'?)

agents: {pattern: 'a[1-2]', address: 192.0.2.1}
> 2:38: one address cannot belong to many agents (use hosts:)

agents: [{name: a, address: 192.0.2.1}]
compile_masters: [{name: a, address: 192.0.2.2}]
> 2:29: the address of a is given here and in line 3 (keep one)

hosts: {primary.exmple.com: {}}
> 2:9: hosts describes primary.exmple.com, which nothing in the inventory uses (did you mean 'primary.example.com'?)

hosts: {elsewhere.example.org: {}}
> 2:9: hosts describes elsewhere.example.org, which nothing in the inventory uses (add it to agents

ssh: {jump: [operator@primary.example.com:22]}
> 1:12: primary.example.com would be reached by jumping through itself (hosts: {primary.example.com: {ssh: {jump: []}}})

ssh: {jump: '[2001:db8::1]:22'}
hosts: {primary.example.com: {address: '2001:db8::1'}}
> 1:12: primary.example.com would be reached by jumping through itself

ssh: {jump: [bastion:99999]}
> 2:14: ssh.jump[0]: there is no port 99999

dns: {servers: [999.1.1.1, '192.0.2.1:0', '[::1]:53', '::1', '1::2::3']}
> 2:17: dns.servers[0]: 999.1.1.1 is not an IP address
> 2:28: dns.servers[1]: there is no port 0
> 2:62: dns.servers[4]: 1::2::3 is not an IP address

compile_masters: [{name: cm1, address: '1:2:3'}]
> 2:40: compile_masters[0].address: 1:2:3 is not an IP address

puppetdb: {hosts: [p1.example.com, p2.example.com]}
> 2:19: several PuppetDBs, each with a database of its own

puppetdb: {hosts: [p1.example.com, p2.example.com], database: {host: p1.example.com}}
> 2:19: several PuppetDBs, each with a database of its own

puppetdb: {hosts: [p1.example.com, p2.example.com], database: {host: p1.example.com, password: {env: DB}}}

puppetdb: {host: p1.example.com, database: {host: db.example.com}}
> 2:51: the database on db.example.com is not made for you, and no password is named to use it with

puppetdb: {host: p1.example.com, database: {host: p1.example.com}}

puppetdb: {host: p1.example.com, existing: true, database: {host: db.example.com}}

reports: {processors: [http, puppetdb]}
> 2:23: the report processor http needs reports.url
> 2:23: reports go to PuppetDB, and the inventory has none

reports: {url: 'https://r.example.com'}
> 2:16: warning: reports.url is only used by the processor http

code: {strategy: model-master, source: cm9.example.com}
> 2:40: the model master cm9.example.com is not a Puppet Server of this inventory

waivers: [{finding: x, reason: y, expires: 2026-06-30}, {finding: x, host: q, reason: y, expires: 2027-02-31}]
> 2:44: warning: the waiver of x expired on 2026-06-30 (put the finding right, or waive it anew)
> 2:76: the waiver is for q, which is not in the inventory
> 2:99: there is no day 2027-02-31
"""  # noqa: E501


@pytest.mark.parametrize(("text", "wanted"), cases(SHAPES) + cases(TOPOLOGY))
def test_problem(tmp_path: Path, text: str, wanted: list[str]) -> None:
    found = said(tmp_path, text)
    assert len(found) == len(wanted), found
    for line, start in zip(found, wanted, strict=True):
        assert line.startswith(f"site.yaml:{start}"), line


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CM1.example.com", "has upper-case letters; a certname has none (did you mean 'cm1"),
        ("'*.example.com'", "is a wildcard"),
        ("-cm1", "starts with '-', so programs would take it for an option"),
        ("cm1-", "is not a host name"),
        ("'cm1 cm2'", "holds a space"),
        ("'a;reboot'", "holds a character that no host name has"),
        ("'$(reboot)'", "holds a character that no host name has"),
        ("../etc/x", "is a path, not a name"),
        ('"a\\nb"', "holds a line break or another control character"),
        ('"a\\e[31m"', "holds a line break or another control character"),
        ("192.0.2.1", "is an address (name the host by its certname"),
        ("'2001:db8::1'", "is an address"),
        ("'42'", "is a number"),
        ("'web[1-3]'", "is a pattern where one name belongs"),
        ("m\u00fcll", "holds letters outside of ASCII"),
        ("cm1.", "ends with '.' (did you mean 'cm1'?)"),
        ("''", "is empty"),
        ("a" * 64, "is longer than DNS allows"),
    ],
)
def test_names_that_are_none(tmp_path: Path, name: str, why: str) -> None:
    (line,) = said(tmp_path, f"{HEAD}compile_masters: [{name}]\n")
    assert line.startswith("site.yaml:2:19: compile_masters[0].name: ")
    assert why in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "ssh: {sudo_password: hunter2}",
        "ssh: {sudo_password: 'hunter2'}",
        "ssh: {sudo_password: [hunter2]}",
        "ssh: {sudo_password: {hunter2}}",
        "ssh: {sudo_password: {hunter2: x}}",
        "ssh: {sudo_password: {env: 'the hunter2'}}",
        "ssh: {sudo_password: {env: {a: hunter2}}}",
        'ssh: {sudo_password: {file: "\\ehunter2"}}',
        "ssh: {sudo_password: !hunter2}",
        "ssh: {sudo_password: !!hunter2 x}",
        "ssh: {sudo_password: *hunter2}",
        "ssh: {sudo_password: @hunter2}",
        "ssh: {sudo_password: %hunter2}",
        "ssh: {sudo_password: 'hunter2}",
        "ssh: {sudo_password: }hunter2",
        "ssh: {password: hunter2}",
        "dns: {tsig: {name: k, secret: hunter2}}",
        "puppetdb: {host: p, database: {password: hunter2}}",
        "reports: {processors: [http], url: 'https://u:hunter2@reports.example.com'}",
        "code: {strategy: git, repository: 'https://u:hunter2@git.example.com/x'}",
    ],
)
def test_a_secret_that_is_written_out_is_refused_and_never_repeated(
    tmp_path: Path, text: str
) -> None:
    site, found = inspect_text(tmp_path, HEAD + text + "\n")
    assert site is None
    assert found
    for problem in found:
        assert problem.line >= 2
        assert "hunter2" not in repr(problem)


def inspect_text(folder: Path, text: str) -> tuple[object, tuple[Problem, ...]]:
    (folder / "site.yaml").write_text(text)
    return inspect(folder / "site.yaml", today=TODAY)


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "site: {nam: x}\nca: {host: A}\nssh: {port: x}\ncompile_masters: [cm1, cm1]\n"
        "load_balancing: {strategy: what}\nhosts: {q: {}}\n",
    )
    assert [problem.line for problem in found] == [1, 2, 3, 4, 5, 6]


def test_problems_of_an_agents_file_are_at_its_own_lines(tmp_path: Path) -> None:
    agents = tmp_path / "agents.txt"
    agents.write_text("a1.example.com\n  A2.example.com\n-x\na1.example.com\n")
    found = said(tmp_path, HEAD + "agents: {file: agents.txt}\n")
    assert [line.partition(": ")[0] for line in found] == [
        "agents.txt:2:3",
        "agents.txt:3:1",
        "agents.txt:4:1",
    ]
    assert "upper-case" in found[0]
    assert "lists a1.example.com twice; first in line 1" in found[2]


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [
        ("none.txt", lambda p: None, "there is no file"),
        ("folder", lambda p: p.mkdir(), "is a directory"),
        ("nul.txt", lambda p: p.write_bytes(b"a1\n\0"), "is not text"),
        ("utf16.txt", lambda p: p.write_text("a1", encoding="utf-16"), "is UTF-16"),
        ("big.txt", lambda p: p.write_bytes(b"#" * (11 << 20)), "at most 10 MiB are read"),
        ("many.txt", lambda p: p.write_text("\n".join(f"a{i}" for i in range(50_001))), "50,000"),
    ],
)
def test_agents_files_that_cannot_be_read(
    tmp_path: Path, name: str, make: object, why: str
) -> None:
    assert callable(make)
    make(tmp_path / name)
    (line,) = said(tmp_path, f"{HEAD}agents: {{file: {name}}}\n")
    assert why in line


def test_as_many_agents_as_a_file_may_list(tmp_path: Path) -> None:
    (tmp_path / "agents.txt").write_text("\n".join(f"a{i}" for i in range(50_000)))
    assert problems(tmp_path, HEAD + "agents: {file: agents.txt}\n") == ()


def test_only_a_hundred_problems_are_spelled_out(tmp_path: Path) -> None:
    found = said(tmp_path, HEAD + "".join(f"k{i}: 1\n" for i in range(500)))
    assert len(found) == 101
    assert found[-1] == "site.yaml: and 400 more problems"
    found = said(tmp_path, HEAD + "".join(f"k{i}: 1\n" for i in range(5_000)))
    assert len(found) == 101
    assert found[-1] == "site.yaml: more than 1,000 problems: read no further"


def test_many_warnings_are_no_error(tmp_path: Path) -> None:
    waiver = "- {{finding: f{}, expires: '2001-01-01', reason: x}}\n".format
    (tmp_path / "site.yaml").write_text(HEAD + "waivers:\n" + "".join(map(waiver, range(150))))
    site, found = inspect(tmp_path / "site.yaml")
    assert site
    assert str(found[-1]).endswith("site.yaml: warning: and 50 more problems")
