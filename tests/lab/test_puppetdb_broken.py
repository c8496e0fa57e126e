"""PuppetDB broken on purpose, one way after the other, on real hosts: what the program says of it.

Each case breaks one thing, looks, and puts it back. After the last one everything holds again, and
what was in PuppetDB before still is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runbook.lab.faults import RIGHT_CLOCK, fill_disk, free_disk, skew_clock
from runbook.lab.lab import Lab
from tests.lab.conftest import HERE, Seat, booted, must
from tests.lab.test_ca import names, server
from tests.lab.test_ca_screens import ASKED, screen, start, to_the_end, wait
from tests.lab.test_compilers import fqdn, gets_its_catalog
from tests.lab.test_puppetdb import ask, inventory, store
from tests.ui.conftest import WIDE, Terminal

__all__ = ["screen"]
pytestmark = [pytest.mark.lab, pytest.mark.turn("broken")]

STEP = ("--plain", "--step", "puppetdb")
DRY, VERIFY, RUN = ("--dry-run", *STEP), ("verify", *STEP), ("--yes", *STEP)
SURVEY = ("--dry-run", "--plain", "--step", "survey")


@dataclass(frozen=True)
class Broken:
    """One thing broken: by which script, what shows it, in which words and with which exit code."""

    what: str
    how: str
    says: tuple[str, ...]
    back: str = ""  # without one, a run of the step cures it
    look: tuple[str, ...] = VERIFY
    code: int = 1
    at_server: bool = False  # not at PuppetDB's host
    agents: bool = False  # an agent asks for its catalog meanwhile, and gets it


# ruff: noqa: S608  # every statement is a constant of this file
SQL = 'sql() { (cd /; runuser -u postgres -- psql -qtAX -d puppetdb -c "$1") >/dev/null; }\n'
STOP = "systemctl stop puppetdb\n"
START = "systemctl start puppetdb\n"
ANSWERS = (
    "n=0; until curl -sf localhost:8080/status/v1/simple >/dev/null; "
    "do sleep 1; n=$((n + 1)); [ $n -lt 200 ]; done\n"
)
OLD_FACTS = """curl -sf -H 'Content-Type: application/json' -d '{"certname": "nobody.example",
  "environment": "production", "producer_timestamp": "2026-01-01T00:00:00Z", "producer": null,
  "values": {}}' 'localhost:8080/pdb/cmd/v1?command=replace_facts&version=5&certname=nobody.example'
"""
OTHER_CA = """set -e
for ssl in /var/lib/puppet/ssl /etc/puppetlabs/puppet/ssl; do [ ! -d $ssl/certs ] || break; done
name=$(hostname -f) cert=$ssl/certs/$(hostname -f).pem
cd /root
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj '/CN=Another CA'
openssl req -new -key $ssl/private_keys/$name.pem -subj /CN=$name -out req.pem
openssl x509 -req -in req.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 99 -out other.pem
"""

CASES = (
    Broken(
        "its database is down",
        "systemctl stop postgresql",
        (
            "[puppetdb-database-closed]",
            "Connection refused",
            "Servers compile on",
            "waits in its queue",
            "start PostgreSQL",
        ),
        back="systemctl start postgresql",
        agents=True,
    ),
    Broken(
        "its password is wrong",
        SQL + "sql \"alter role puppetdb password 'another'\"",
        (
            "[puppetdb-database-closed]",
            'password authentication failed for user "puppetdb"',
            "let role puppetdb in by the password PuppetDB has",
        ),
    ),
    Broken(
        "an extension is missing",
        SQL + "sql 'drop extension pg_trgm cascade'",
        ("make extension pg_trgm",),
        back=SQL + "sql 'create extension pg_trgm'",
        look=DRY,
        code=0,
    ),
    Broken(
        "a disk is full",
        fill_disk("/var/lib/puppetdb", "64m"),
        ("[disk-full]", "/var/lib/puppetdb: 0 MiB free", "Make room"),
        back=free_disk("/var/lib/puppetdb"),
        look=SURVEY,
        agents=True,
    ),
    Broken(
        "its clock is wrong",
        skew_clock(-3600),
        ("[clock-wrong]", "s behind the CA", "Set it before anything is signed"),
        back=RIGHT_CLOCK,
        look=SURVEY,
        agents=True,
    ),
    Broken(
        "its queue is stuck",
        # As it would be if the lock were held for longer than anybody looks.
        "cd /; nohup runuser -u postgres -- psql -d puppetdb -c "
        "'begin; lock table factsets; select pg_sleep(900)' >/dev/null 2>&1 &\n"
        "sleep 1; "
        + OLD_FACTS
        + "sleep 2; touch -d '2 hours ago' /var/lib/puppetdb/stockpile/cmd/q/*",
        ("commands that wait to be stored for more than 90 min: 1", "journalctl"),
        back=SQL + 'sql "select pg_terminate_backend(pid) from pg_stat_activity '
        "where query like 'begin; lock%'\"",
        agents=True,
    ),
    Broken(
        "a server has a typo in server_urls",
        "cd /etc/puppet*/ && cp -p puppetdb.conf /root && sed -i s,//pdb1,//pbd1, puppetdb.conf",
        ("[puppetdb-elsewhere]", "https://pbd1.", "set server_urls = https://pdb1."),
        back="cp -p /root/puppetdb.conf /etc/puppet*/",
        at_server=True,
    ),
    Broken(
        "its certificate is of another CA",
        OTHER_CA + "cp $cert kept.pem; echo $cert >where; cat other.pem >$cert",
        ("[puppetdb-certificate]", "it was issued by CN=Another CA"),
        back="cat /root/kept.pem >$(cat /root/where)",
        look=DRY,
    ),
    Broken(
        "it shows a certificate of another CA",
        OTHER_CA + "cat other.pem >/etc/puppetdb/ssl/public.pem\n" + STOP + START + ANSWERS,
        ("certificate verify failed", "copies of its certificate"),
    ),
    Broken(
        "its port is taken",
        STOP + "nohup ruby -rsocket -e 'TCPServer.new(8081); sleep' >/dev/null 2>&1 & sleep 1",
        ("[puppetdb-port-taken]", "ruby (process ", "has port 8081"),
        # It stays down for the next one.
        back="kill $(ss -Hltnp 'sport = :8081' | sed 's/.*pid=//; s/,.*//')",
        look=DRY,
    ),
    Broken(
        "its tables are of a newer version",
        STOP + SQL + "sql 'insert into schema_migrations values (9999, now())'",
        ("the database was written by a newer PuppetDB",),
        back=SQL + "sql 'delete from schema_migrations where version = 9999'\n" + START + ANSWERS,
        look=RUN,
    ),
)


@pytest.fixture(scope="module")
def seat(alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seat]:
    """A site of one server."""
    for lab in booted("broken", HERE / "estates" / "puppetdb-broken.yaml"):
        for host in names(lab, "agent"):
            must(lab.execute(host, "systemctl stop puppet"))
        yield Seat(lab, tmp_path_factory.mktemp("state"), alone, runbook="puppetdb-alone")


@pytest.fixture(scope="module")
def before(seat: Seat) -> dict[str, Any]:
    return known(seat.lab)


def known(lab: Lab) -> dict[str, Any]:
    """Every node that PuppetDB has, and which reports of it."""
    nodes = ask(lab, server(lab), "/pdb/query/v4/nodes")[1]
    reports = ask(lab, server(lab), "/pdb/query/v4/reports")[1]
    return {
        n["certname"]: {r["hash"] for r in reports if r["certname"] == n["certname"]} for n in nodes
    }


@pytest.mark.parametrize("screen", [WIDE], indirect=True, ids=["120x36"])
def test_set_up_for_the_only_server_through_the_screens(seat: Seat, screen: Terminal) -> None:
    start(screen, seat)
    assert ASKED in wait(screen, ASKED, "Summary")
    assert "Done" in to_the_end(screen)
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    must(seat.pmrunbook(*VERIFY))
    agent = names(seat.lab, "agent")[0]
    gets_its_catalog(seat.lab, agent, server(seat.lab))
    assert (
        ask(seat.lab, server(seat.lab), f"/pdb/query/v4/catalogs/{fqdn(seat.lab, agent)}")[0]
        == "200"
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "-"))
def test_what_is_broken_is_said(seat: Seat, before: object, case: Broken) -> None:
    lab = seat.lab
    host = server(lab) if case.at_server else store(lab)
    must(lab.execute(host, case.how, timeout=300))
    try:
        done = seat.pmrunbook(*case.look)
        if case.agents:
            gets_its_catalog(lab, names(lab, "agent")[0], server(lab))
    finally:
        if case.back:
            must(lab.execute(host, case.back, timeout=300))
        else:
            must(seat.pmrunbook(*RUN))
    said = must(done, case.code)
    for words in case.says:
        assert words in said, said


def test_everything_holds_again_and_nothing_is_lost(seat: Seat, before: dict[str, Any]) -> None:
    lab = seat.lab
    must(seat.pmrunbook(*RUN))
    must(seat.pmrunbook(*VERIFY))
    now = known(lab)
    assert before.keys() <= now.keys()
    assert all(reports <= now[node] for node, reports in before.items())
    gets_its_catalog(lab, names(lab, "agent")[0], server(lab))


def test_no_run_of_an_agent_fails_for_a_report_server_that_is_away(
    seat: Seat, tmp_path: Path
) -> None:
    lab = seat.lab
    reports = {"processors": ["http", "puppetdb"], "url": f"http://{fqdn(lab, store(lab))}:3001/"}
    other = inventory(seat, tmp_path, {"reports": reports})
    said = must(other.pmrunbook(*RUN), 1)
    assert "the report of this run was not delivered" in said
    gets_its_catalog(lab, names(lab, "agent")[0], server(lab))
