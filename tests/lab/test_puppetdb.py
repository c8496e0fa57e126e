"""PuppetDB and reports, on real hosts: from a bare machine, proved, broken, taken back, killed.

Before that, its estate's compile master, which somebody built by hand, is adopted.

The tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from runbook.lab.disk import LOGIN_TRACES
from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, as_shown, jobs_run, must, narrate, picture, todays
from tests.lab.secrecy import nowhere
from tests.lab.test_ca import ACCESS_LOGS, COUNTERS, names, server
from tests.lab.test_ca_screens import ASKED, screen, start, to_the_end, wait
from tests.lab.test_compilers import (
    OF_THE_SYSTEM,
    PATH,
    boundaries,
    fqdn,
    gets_its_catalog,
    members,
    ssl,
)
from tests.ui.conftest import WIDE, Terminal

__all__ = ["screen"]
pytestmark = pytest.mark.lab

STORE_TRACES = ("var/log/puppetdb/*", "var/log/postgresql/*", "var/lib/postgresql/*")
"""Who asks PuppetDB is in its log; its database writes by itself."""
PLANNED = ("planned", "compilers")
SECRET = "a-word-of-the-site-0815"


@dataclass(frozen=True)
class Found:
    """A host before anything was done to it."""

    files: dict[str, str]
    texts: dict[str, str]
    serial: str


def serial(lab: Lab, host: str) -> str:
    """Serial number and names of its certificate."""
    cert = f"{ssl(lab, host)}/certs/{fqdn(lab, host)}.pem"
    return must(lab.execute(host, f"openssl x509 -noout -serial -ext subjectAltName -in {cert}"))


CHANGED_BY_ADOPTION = {
    "/etc/puppet/puppet.conf": ["   server=puppet.facts-test.example"],
    "/etc/puppet/puppetserver/conf.d/webserver.conf": [],
    "/etc/default/puppetserver": ['JAVA_ARGS="-Xms600m -Xmx600m"'],
}
"""Files of a compile master built by hand that change, and the lines of them that go."""


@pytest.fixture(scope="module")
def by_hand(pdb_lab: Lab) -> Found:
    """A compile master as somebody built it: its files, and those that are to change in full."""
    member = members(pdb_lab)[0]
    texts = {p: must(pdb_lab.execute(member, f"cat {p}")) for p in CHANGED_BY_ADOPTION}
    return Found(dict(picture(pdb_lab, member, "/etc")), texts, serial(pdb_lab, member))


@pytest.fixture(scope="module")
def seat(pdb_lab: Lab, by_hand: Found, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """The compile master is adopted; what follows is this chapter."""
    made = Seat(pdb_lab, tmp_path_factory.mktemp("state"))
    must(made.pmrunbook("--plain", "--yes", "--step", "compilers", timeout=1800))
    return made


@pytest.fixture(scope="module")
def before(seat: Seat) -> dict[str, dict[str, str]]:
    return {h: dict(picture(seat.lab, h, "/etc")) for h in [*servers(seat.lab), store(seat.lab)]}


def store(lab: Lab) -> str:
    return next(h.name for h in lab.estate.hosts if h.name.startswith("pdb"))


def servers(lab: Lab) -> list[str]:
    return [*members(lab), server(lab)]


def hosts(lab: Lab) -> list[str]:
    return [*servers(lab), store(lab), *names(lab, "agent")]


def ask(lab: Lab, at: str, path: str, where: str = "") -> tuple[str, Any]:
    """What PuppetDB answers a host that shows its own certificate: status and JSON."""
    folder, name = ssl(lab, at), fqdn(lab, at)
    script = (
        f"cd /; curl -s -m 20 --cacert {folder}/certs/ca.pem --cert {folder}/certs/{name}.pem "
        f"--key {folder}/private_keys/{name}.pem -w '\\n%{{http_code}}' "
        f"'https://{fqdn(lab, where or store(lab))}:8081{path}' || :"
    )
    body, _, code = must(lab.execute(at, script)).rpartition("\n")
    return code.strip(), json.loads(body) if code.strip() == "200" else body


def of(lab: Lab, kind: str, node: str, where: str = "") -> Any:
    return ask(lab, server(lab), f"/pdb/query/v4/{kind}/{fqdn(lab, node)}", where)[1]


def stored(lab: Lab, where: str = "") -> None:
    """A real agent runs through every server; PuppetDB has it all, through the right one."""
    agent = names(lab, "agent")[0]
    for host in servers(lab):
        began = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 1))
        gets_its_catalog(lab, agent, host)
        for _ in range(20):
            found = {kind: of(lab, kind, agent, where) for kind in ("factsets", "catalogs")}
            if {f["producer"] for f in found.values() if f} == {fqdn(lab, host)}:
                break
            time.sleep(1)
        assert {f["producer"] for f in found.values()} == {fqdn(lab, host)}
        assert all(f["producer_timestamp"] > began for f in found.values())
        query = quote(f'["=","certname","{fqdn(lab, agent)}"]')
        reports = ask(lab, host, f"/pdb/query/v4/reports?query={query}", where)[1]
        assert fqdn(lab, host) in {r["producer"] for r in reports}


def inventory(seat: Seat, folder: Path, change: dict[str, Any]) -> Seat:
    """The same seat with another inventory: the lab's, changed."""
    data = {**yaml.safe_load(seat.lab.inventory.read_text()), **change}
    file = folder / "inventory.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}))
    return replace(seat, file=file)


# --- the tests ------------------------------------------------------------------------------------


def test_a_compile_master_built_by_hand_is_adopted(seat: Seat, by_hand: Found) -> None:
    """Only what differs changes, and every comment stays; the next test finds nothing left."""
    lab, member = seat.lab, members(seat.lab)[0]
    now = dict(picture(lab, member, "/etc"))
    differ = {p for p in now.keys() | by_hand.files if now.get(p) != by_hand.files.get(p)}
    differ = {p for p in differ if not OF_THE_SYSTEM.search(p)}
    timer = {p for p in differ if "/puppet-crl-refresh." in p}
    assert len(timer) == 3
    assert differ - timer == CHANGED_BY_ADOPTION.keys()
    for path, gone in CHANGED_BY_ADOPTION.items():
        lines = must(lab.execute(member, f"cat {path}")).splitlines()
        left = iter(lines)
        # All other lines are there, in their order.
        lost = [x for x in by_hand.texts[path].splitlines() if x not in gone and x not in left]
        assert lost == [], path
        assert not set(gone) & set(lines)
    started = {e.action for e in seat.events() if e.kind == "start" and e.step == "compilers"}
    assert not {a for a in started if a.startswith(("install/", "code/"))}
    found = serial(lab, member)
    assert f"DNS:{lab.estate.agents_server}" in found
    assert f"DNS:{lab.estate.agents_server}" not in by_hand.serial
    number = re.search("serial=(.*)", by_hand.serial)
    revoked = must(lab.execute(server(lab), REVOKED))
    assert number and number[1] in revoked
    gets_its_catalog(lab, names(lab, "agent")[0], member)


REVOKED = PATH + (
    "openssl crl -noout -text -in $(puppet config print cacrl --section server --color=false) | "
    "sed -n 's/.*Serial Number: //p'"
)


def test_a_dry_run_shows_everything_and_changes_no_file(seat: Seat, before: object) -> None:
    lab = seat.lab
    for host in names(lab, "agent"):
        must(lab.execute(host, "systemctl stop puppet"))
    marks = {h: lab.marks(h) for h in hosts(lab)}
    out = must(seat.pmrunbook("--dry-run", "--json"))
    changed = {h: lab.changed_files(h, marks[h], (*LOGIN_TRACES, *ACCESS_LOGS)) for h in marks}
    assert changed == {h: [] for h in marks}
    assert f"+server_urls = https://{fqdn(lab, store(lab))}:8081" in out
    assert f"the request for {fqdn(lab, store(lab))}, with a key made there" in out
    [compilers] = [
        event
        for line in out.splitlines()
        if (event := json.loads(line)) and (event["kind"], event.get("step")) == PLANNED
    ]
    assert (compilers["actions"], compilers["later"]) == ([], [])  # adopted: nothing is left
    (seat.state / "shown").write_text(out)


def test_one_unattended_run_ends_in_proof(seat: Seat, before: object) -> None:
    lab, began, past = seat.lab, time.monotonic(), len(seat.events())
    out = must(seat.pmrunbook("--plain", "--yes", timeout=1800))
    narrate(f"PuppetDB and {len(servers(lab))} servers: {time.monotonic() - began:.0f} s")
    assert "done (exit 0)" in out
    counted = as_shown((seat.state / "shown").read_text(), seat.events()[past:])
    narrate(f"as the dry run showed: {counted['shown']} actions, {counted['later']} announced")
    stored(lab)
    code, said = ask(lab, names(lab, "agent")[0], "/pdb/meta/v1/version")
    assert code == "403" and "allowlist" in said
    # Plain HTTP is for the host itself.
    ports = must(lab.execute(store(lab), "ss -Hltn 'sport = :8080' | awk '{print $4}'"))
    assert set(ports.split()) <= {"127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"}
    left = (
        "ls -d /etc/puppet*/code/environments/pmrunbook* /var/lib/pmrunbook/exchange 2>/dev/null; :"
    )
    for host in servers(lab):
        assert must(lab.execute(host, left)) == ""
    nodes = ask(lab, server(lab), "/pdb/query/v4/nodes")[1]
    assert not [n for n in nodes if "pmrunbook" in n["certname"]]


def test_the_password_is_nowhere_but_where_it_belongs(seat: Seat) -> None:
    lab = seat.lab
    ini = "find /etc -name database.ini -exec cat {} +"
    said = must(lab.execute(store(lab), ini))
    word = re.search(r"^password = (\S+)", said, re.M)
    assert word and len(word[1]) > 20
    nowhere(seat, {"database password": word[1].encode()})


def test_verify_is_green_and_a_second_run_changes_no_file(seat: Seat) -> None:
    lab = seat.lab
    must(seat.pmrunbook("verify", "--plain"))
    ran, marks = jobs_run(lab, hosts(lab)), {h: lab.marks(h) for h in hosts(lab)}
    out = must(seat.pmrunbook("--plain", "--yes"))
    assert out.count("nothing to do") >= 4
    assert jobs_run(lab, hosts(lab)) == ran
    for host in hosts(lab):
        ignored = (*LOGIN_TRACES, *ACCESS_LOGS, *STORE_TRACES)
        changed = lab.changed_files(host, marks[host], ignored)
        assert [f for f in changed if f.startswith("/etc/")] == []


def test_a_server_missing_in_the_list_is_one_red_check_that_names_it(seat: Seat) -> None:
    lab, gone = seat.lab, fqdn(seat.lab, members(seat.lab)[0])
    forget = f"find /etc -name certificate-allowlist -exec sed -i '/^{gone}$/d' {{}} +; "
    must(lab.execute(store(lab), forget + "systemctl restart puppetdb", timeout=300))
    done = seat.pmrunbook("verify", "--plain", "--step", "puppetdb")
    assert done.returncode == 1
    red = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    about = [line for line in red if "step " not in line and "nothing is left" not in line]
    assert len(about) == 1 and gone in about[0] and "in its list" in about[0]
    must(seat.pmrunbook("--plain", "--yes"))
    assert ask(lab, members(lab)[0], "/pdb/meta/v1/version")[0] == "200"


@pytest.mark.turn("puppetdb")
def test_a_puppetdb_of_somebody_elses_gets_names_and_nothing_else(
    seat: Seat, tmp_path: Path
) -> None:
    lab, gone = seat.lab, fqdn(seat.lab, members(seat.lab)[0])
    theirs = {"puppetdb": {"host": fqdn(lab, store(lab)), "existing": True}}
    other = inventory(replace(seat, state=tmp_path / "state"), tmp_path, theirs)
    was = dict(picture(lab, store(lab), "/etc"))
    forget = f"find /etc -name certificate-allowlist -exec sed -i '/^{gone}$/d' {{}} +"
    must(lab.execute(store(lab), forget))
    must(other.pmrunbook("--plain", "--yes"))
    now = dict(picture(lab, store(lab), "/etc"))
    differ = {p for p in now.keys() | was if now.get(p) != was.get(p)}
    differ = {p for p in differ if not OF_THE_SYSTEM.search(p)}
    assert {p for p in differ if not p.endswith("/certificate-allowlist")} == set()
    started = [e.action for e in other.events() if e.kind == "start" and e.step == "puppetdb"]
    assert started == [what.format(fqdn(lab, store(lab))) for what in ADDED]
    must(other.pmrunbook("verify", "--plain"))
    listed = must(lab.execute(store(lab), "find /etc -name certificate-allowlist -exec cat {} +"))
    assert gone in listed.split()


ADDED = ("configure/{}/allowlist", "start/{}/restart")


def test_agents_get_catalogs_while_puppetdb_is_away(seat: Seat) -> None:
    lab, agent = seat.lab, names(seat.lab, "agent")[0]
    must(lab.execute(store(lab), "systemctl stop puppetdb"))
    try:
        for host in servers(lab):
            gets_its_catalog(lab, agent, host)
        done = seat.pmrunbook("verify", "--plain", "--step", "puppetdb", timeout=1200)
        assert done.returncode == 1
        assert "their reports are lost, nothing is queued" in done.stdout
    finally:
        must(lab.execute(store(lab), "systemctl start puppetdb", timeout=300))
    must(seat.pmrunbook("verify", "--plain", "--step", "puppetdb"))
    stored(lab)


RECEIVER = r"""
nohup ruby -rsocket -e '
  server = TCPServer.new("0.0.0.0", 3001)
  loop do
    peer = server.accept
    size, line = 0, nil
    while (line = peer.gets) && line != "\r\n"
      size = line[/\d+/].to_i if line =~ /\Acontent-length:/i
    end
    text = peer.read(size)
    File.open("/root/reports", "a") { |f| f.puts(text[/^host: (.*)$/, 1]) }
    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    peer.close
  end
' >/dev/null 2>&1 &
sleep 1
"""


@pytest.mark.turn("puppetdb")
def test_an_http_report_server_is_proved_by_a_report_of_each_server(
    seat: Seat, tmp_path: Path
) -> None:
    lab, agent = seat.lab, names(seat.lab, "agent")[0]
    reports = {"processors": ["http", "puppetdb"], "url": f"http://{fqdn(lab, agent)}:3001/upload"}
    other = inventory(seat, tmp_path, {"reports": reports})
    done = other.pmrunbook("--plain", "--yes", timeout=1200)
    assert done.returncode == 1
    assert "was not delivered" in done.stdout
    gets_its_catalog(lab, agent, members(lab)[0])  # no agent's run fails for it
    must(lab.execute(agent, RECEIVER))
    must(other.pmrunbook("--plain", "--yes", "--resume", timeout=1200))
    got = set(must(lab.execute(agent, "cat /root/reports")).split())
    assert {fqdn(lab, h) for h in servers(lab)} <= got
    for host in servers(lab):
        script = PATH + "puppet config print reports --section server --color=false"
        assert {"http", "puppetdb"} <= set(must(lab.execute(host, script)).strip().split(","))


def test_undo_gives_files_and_services_back_and_keeps_the_data(
    seat: Seat, before: dict[str, dict[str, str]]
) -> None:
    lab = seat.lab
    done = seat.pmrunbook("undo", "puppetdb", "--plain", "--yes", timeout=1800)
    assert done.returncode == 1  # a test took a name out of the list between two of our writes
    assert "certificate-allowlist: changed by somebody" in done.stdout
    taking_back = ("undo", "puppetdb", "--plain", "--yes", "--on-failure", "force")
    must(seat.pmrunbook(*taking_back, timeout=1800))
    for host in [*servers(lab), store(lab)]:
        now = dict(picture(lab, host, "/etc"))
        differ = {p for p in now.keys() | before[host] if now.get(p) != before[host].get(p)}
        differ = {p for p in differ if p.rsplit("/", 1)[-1] not in COUNTERS}
        assert {p for p in differ if not OF_THE_SYSTEM.search(p)} == set(), host
    assert must(lab.execute(store(lab), "ls /var/lib/pmrunbook/left/*.dump")).strip()
    installed = "dpkg -l | grep -cE '^ii +(puppetdb|postgresql|puppet-agent)' || :"
    assert must(lab.execute(store(lab), installed)).strip() == "0"
    gets_its_catalog(lab, names(lab, "agent")[0], members(lab)[0])
    listed = must(lab.execute(server(lab), PATH + "puppetserver ca list --all"))
    assert fqdn(lab, store(lab)) not in listed.partition("Revoked")[0]


def test_killed_between_any_two_actions_it_ends_like_an_unbroken_run(seat: Seat) -> None:
    lab = seat.lab
    places = boundaries(seat.events(), "puppetdb")
    assert len(places) > 20
    seat.killed_at(todays(places), hosts(lab), "--step", "puppetdb")
    stored(lab)
    must(seat.pmrunbook("verify", "--plain"))
    must(seat.pmrunbook("undo", "puppetdb", "--plain", "--yes", timeout=1800))


@pytest.mark.turn("puppetdb")
def test_it_comes_and_goes_beside_the_cas_puppet_server(seat: Seat, tmp_path: Path) -> None:
    lab, ca = seat.lab, server(seat.lab)
    other = replace(seat, state=tmp_path / "state")
    other = inventory(other, tmp_path, {"puppetdb": {"host": fqdn(lab, ca)}})
    was = dict(picture(lab, ca, "/etc"))
    must(other.pmrunbook("--plain", "--yes", timeout=1800))
    stored(lab, ca)
    must(other.pmrunbook("verify", "--plain"))
    must(other.pmrunbook("undo", "puppetdb", "--plain", "--yes", timeout=1800))
    now = dict(picture(lab, ca, "/etc"))
    differ = {p for p in now.keys() | was if now.get(p) != was.get(p)}
    differ = {p for p in differ if p.rsplit("/", 1)[-1] not in COUNTERS}
    assert {p for p in differ if not OF_THE_SYSTEM.search(p)} == set()
    for host in servers(lab):
        gets_its_catalog(lab, names(lab, "agent")[0], host)


OWN_DATABASE = """set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -y install --no-install-recommends postgresql ssl-cert >/dev/null
etc=$(ls -d /etc/postgresql/*/main)
sed -i "s/^#*listen_addresses.*/listen_addresses = '*'/" $etc/postgresql.conf
echo 'hostssl facts factsuser all scram-sha-256' >>$etc/pg_hba.conf
systemctl restart postgresql
cd /
until runuser -u postgres -- psql -qc 'select 1' >/dev/null; do sleep 1; done
runuser -u postgres -- psql -q <<SQL
create role factsuser login password 'WORD';
create database facts owner factsuser encoding 'UTF8' template template0;
\\c facts
create extension pg_trgm;
SQL
"""


@pytest.mark.parametrize("screen", [WIDE], indirect=True, ids=["120x36"])
@pytest.mark.turn("puppetdb")
def test_two_on_a_database_of_the_sites_own_through_the_screens(
    seat: Seat, screen: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, over TLS, with a password the inventory refers to; one is on the CA's host."""
    lab, both = seat.lab, (store(seat.lab), server(seat.lab))
    elsewhere = names(lab, "nameserver")[0]
    must(lab.execute(elsewhere, OWN_DATABASE.replace("WORD", SECRET), timeout=300))
    password = tmp_path / "password"
    password.touch(0o600)
    database = {
        "host": fqdn(lab, elsewhere),
        "name": "facts",
        "user": "factsuser",
        "sslmode": "require",
        "password": {"file": str(password)},
    }
    change = {"puppetdb": {"hosts": [fqdn(lab, h) for h in both], "database": database}}
    other = inventory(replace(seat, state=tmp_path / "state"), tmp_path, change)
    password.write_text("not-that-one\n")
    done = other.pmrunbook("--plain", "--yes", timeout=1800)
    assert done.returncode == 1
    assert "password authentication failed" in done.stdout
    password.write_text(SECRET + "\n")
    start(screen, other)
    shown = wait(screen, ASKED, "Summary")
    assert ASKED in shown
    assert "Done" in to_the_end(screen)
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    said = must(other.pmrunbook("verify", "--plain"))
    # They take all connections that PostgreSQL has: a login of ours fails, and nothing is wrong.
    assert "[puppetdb-connections]" in said
    assert "[puppetdb-database-closed]" not in said
    stored(lab)
    must(lab.execute(both[0], "systemctl stop puppetdb"))
    stored(lab, both[1])
    must(lab.execute(both[0], "systemctl start puppetdb", timeout=300))
    query = "/pdb/query/v4/catalogs"
    assert ask(lab, server(lab), query, both[0])[1] == ask(lab, server(lab), query, both[1])[1]
    for file in other.state.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    search = f"grep -rlF -- {SECRET} /var/lib/pmrunbook /run/pmrunbook 2>/dev/null; :"
    for host in both:
        assert must(lab.execute(host, search)) == ""
