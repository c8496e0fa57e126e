"""Hosts that something stands in the way of, and a compile master that somebody built badly.

Real hosts; the tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.lab.disk import LOGIN_TRACES
from runbook.lab.lab import Lab
from tests.lab.conftest import HERE, Seat, booted, jobs_run, must, picture
from tests.lab.test_ca import ACCESS_LOGS, names, server
from tests.lab.test_compilers import OF_THE_SYSTEM, PATH, fqdn, gets_its_catalog, members

pytestmark = [pytest.mark.lab, pytest.mark.turn("ways")]

MASKED = "systemctl mask puppetserver 2>&1"
PORT = "systemd-run --unit squatter systemd-socket-activate -l 8140 /bin/true"
ROOM = "mkdir -p /opt; mount -t tmpfs -o size=300m small /opt"
REPOSITORY = (
    "mkdir /root/sources; mv /etc/apt/sources.list* /root/sources; rm -rf /var/lib/apt/lists/*"
)
REPAIRED = (
    "systemctl unmask puppetserver; systemctl stop squatter; umount /opt; "
    "mv /root/sources/* /etc/apt; apt-get update -qq"
)
NO_NAMES = (
    "cp /etc/hosts /etc/resolv.conf /root; sed -i /cm1/d /etc/hosts; "
    "echo nameserver 127.0.0.9 >/etc/resolv.conf"
)
NAMES = "cp /root/resolv.conf /root/hosts /etc"

DROP_IN = "/etc/systemd/system/puppetserver.service.d/site.conf"
SITE_CONF = "/etc/puppet/puppetserver/conf.d/site.conf"
LATE = (
    "systemd-run --unit latecomer sh -c "
    "'until [ $(systemctl is-active puppetserver) = activating ]; do sleep 0.1; done; "
    "exec systemd-socket-activate --accept -l 8140 /bin/true'"
)
"""Takes the port when Puppet Server is being started already."""


def unit_with(line: str) -> str:
    return (
        f"install -D /dev/null {DROP_IN} && printf '[Service]\n{line}\n' >{DROP_IN} && "
        "systemctl daemon-reload"
    )


UNIT_AS_IT_WAS = f"rm {DROP_IN} && systemctl daemon-reload"

FAILURES = {
    "memory": (
        unit_with("LimitAS=1G"),
        UNIT_AS_IT_WAS,
        "Could not reserve enough space for ",
        "too little memory for the heap in JAVA_ARGS: more of it, or a smaller heap",
    ),
    "configuration": (
        f"printf 'mine: {{\n  list: [1,\n' >{SITE_CONF}",
        f"rm {SITE_CONF}",
        f"com.typesafe.config.ConfigException$Parse: {SITE_CONF}: 3: ",
        "a file in conf.d is not HOCON: mend it where the lines above say",
    ),
    "port": (
        LATE,
        "systemctl stop latecomer",
        "Caused by: java.net.BindException: Address already in use",
        "port 8140 is taken by systemd-socket-: stop that first",
    ),
    "time": (
        unit_with("TimeoutStartSec=5"),
        UNIT_AS_IT_WAS,
        "start-post operation timed out",
        "it takes longer than its unit allows: a longer TimeoutStartSec, with systemctl edit",
    ),
}
"""What no survey sees: how it comes, how it goes, what the log has of it, what is said of it."""

ODD = (
    "# caf\\xe9 - not UTF-8\\r\\n[main]\\r\\n\\tserver\\t=  {server}\\r\\nserver={server}\\r\\n"
    "[agent]\\r\\nssldir=/srv/tls\\r\\nca_server = ca-that-was\\r\\n"
    "[server]\\r\\n  autosign   = false"
)
"""CRLF, tabs, one key twice, two in the wrong section, a byte that is no UTF-8, no last newline."""

FOREIGN = """set -e
cp -a $(puppet config print ssldir --section agent --color=false) /srv/tls
cd /root
openssl req -x509 -newkey rsa:2048 -nodes -keyout o.key -out o.pem -subj '/CN=Other CA' -days 99
openssl req -new -key /srv/tls/private_keys/{name}.pem -subj /CN={name} -out o.csr
openssl x509 -req -in o.csr -CA o.pem -CAkey o.key -CAcreateserial -days 99 -out o.crt
cat o.crt >/srv/tls/certs/{name}.pem
"""
"""Where the agent's ssldir will be: a certificate of another CA for the host's own key."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """An all-in-one server, two agents, a compile master built by hand, a bare machine."""
    estate = os.environ.get("PMRUNBOOK_TEST_CODE")
    yield from booted("odd", Path(estate) if estate else HERE / "estates" / "sync.yaml")


def bare(lab: Lab) -> str:
    return next(h.name for h in lab.estate.hosts if not h.roles)


@pytest.fixture(scope="module")
def seat(lab: Lab, alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """The bare machine is to be a compile master, too; the CA has its host's name."""
    state = tmp_path_factory.mktemp("state")
    return inventory(Seat(lab, state, alone, runbook="compilers-alone"), "site")


def inventory(seat: Seat, name: str, **changes: Any) -> Seat:
    data = yaml.safe_load(seat.lab.inventory.read_text())
    data["compile_masters"].append(fqdn(seat.lab, bare(seat.lab)))
    data["ca"]["name"] = data["ca"]["host"]
    file = seat.state / f"{name}.yaml"
    file.write_text(yaml.safe_dump(data | changes))
    return replace(seat, file=file)


@pytest.fixture(scope="module")
def before(lab: Lab) -> dict[str, str]:
    """The compile master as somebody built it."""
    [member] = members(lab)
    foreign = FOREIGN.format(name=fqdn(lab, member))
    must(lab.execute(member, f"systemctl stop puppet; {PATH}{foreign}"))
    text = ODD.format(server=lab.estate.server)
    must(lab.execute(member, f"printf '{text}' >{conf(lab, member)}"))
    return dict(picture(lab, member, "/etc", "/srv/tls"))


def conf(lab: Lab, host: str) -> str:
    """A host's puppet.conf."""
    return must(
        lab.execute(
            host, "ls /etc/puppet/puppet.conf /etc/puppetlabs/puppet/puppet.conf 2>/dev/null; :"
        )
    ).strip()


def found(out: str) -> dict[tuple[str, str], str]:
    """(finding, host) -> what was observed, of a run's JSON lines."""
    told = [e for line in out.splitlines() if (e := json.loads(line))["kind"] == "Finding"]
    return {(e["id"], e["host"]): e["observed"] for e in told}


# --- the tests ------------------------------------------------------------------------------------


def test_a_name_in_upper_case_is_refused_with_the_right_one(seat: Seat) -> None:
    name = fqdn(seat.lab, bare(seat.lab))
    shouted = inventory(seat, "shouted", compile_masters=[name.upper()])
    done = shouted.pmrunbook("--dry-run", "--plain")
    assert done.returncode == 2
    assert f"did you mean '{name}'?" in done.stdout + done.stderr


def test_everything_in_the_way_is_found_at_once_and_nothing_is_touched(
    seat: Seat, before: object
) -> None:
    lab, machine, [member] = seat.lab, bare(seat.lab), members(seat.lab)
    one, other = names(lab, "agent")[:2]
    for plant in (MASKED, PORT, ROOM, REPOSITORY):
        must(lab.execute(machine, plant))
    lab.skew_clock(machine, 3600)
    ca = lab.estate.host(server(lab)).address
    must(lab.execute(machine, f"ip route add prohibit {ca}"))
    must(lab.execute(member, NO_NAMES))
    for agent, name in ((one, fqdn(lab, member)), (other, fqdn(lab, other).upper())):
        file = conf(lab, agent)
        must(lab.execute(agent, f"cp -p {file} /root; printf '[main]\ncertname={name}\n' >>{file}"))
    signs = "puppet config set --section server autosign true"
    must(lab.execute(server(lab), f"cp -p {conf(lab, server(lab))} /root; {PATH}{signs}"))
    large = [fqdn(lab, member), {"name": fqdn(lab, machine), "heap": "99000m"}]
    marks = {h.name: lab.marks(h.name) for h in lab.estate.hosts}
    try:
        done = inventory(seat, "large", compile_masters=large).pmrunbook(
            "--dry-run", "--json", "--step", "compilers"
        )
        changed = {h: lab.changed_files(h, marks[h], (*LOGIN_TRACES, *ACCESS_LOGS)) for h in marks}
        assert changed == {h: [] for h in marks}
    finally:
        must(lab.execute(machine, f"ip route del prohibit {ca}"))
        must(lab.execute(member, NAMES))
        for agent in (one, other, server(lab)):
            must(lab.execute(agent, f"cp -p /root/puppet.conf {conf(lab, agent)}"))
    assert done.returncode == 1, done.stdout[-3000:]
    told = found(done.stdout)
    here = fqdn(lab, machine)
    assert told["service-masked", here] == "puppetserver.service is masked"
    assert "has port 8140" in told["port-taken", here]
    assert told["no-room-to-install", here] == "/opt: 300 MiB free"
    assert "its repositories have none" in told["repository-lacks-version", here]
    assert "s away from" in told["clock-wrong", here]
    assert "99000 MiB (as the inventory says)" in told["compiler-memory", here]
    assert "closed" in told["compiler-without-ca", here]
    assert told["compiler-name-unresolved", fqdn(lab, member)] == "no address"
    assert fqdn(lab, one) in told["certname-shared", fqdn(lab, one)]
    assert ("autosign-all", fqdn(lab, server(lab))) in told
    assert ("autosign-in-window", fqdn(lab, server(lab))) in told
    assert told["certname-differs", fqdn(lab, one)] == fqdn(lab, member)
    assert "lower" in told["settings-unreadable", fqdn(lab, other)]


def test_what_cannot_be_built_is_not_begun(seat: Seat) -> None:
    lab, machine = seat.lab, bare(seat.lab)
    done = seat.pmrunbook("--plain", "--yes", "--step", "compilers", timeout=1800)
    assert done.returncode == 1, done.stdout[-3000:]
    assert "[service-masked]" in done.stdout and "[clock-wrong]" in done.stdout
    assert jobs_run(lab, [machine, *members(lab)]) == 0
    must(lab.execute(machine, REPAIRED))
    lab.right_clock(machine)


@pytest.mark.parametrize(("comes", "goes", "logged", "said"), FAILURES.values(), ids=FAILURES)
def test_a_server_that_does_not_start_says_why_and_what_to_do(
    seat: Seat, comes: str, goes: str, logged: str, said: str
) -> None:
    lab, machine = seat.lab, bare(seat.lab)
    must(lab.execute(machine, comes))
    done = seat.pmrunbook("--plain", "--yes", "--resume", timeout=1800)
    must(lab.execute(machine, goes))
    with (seat.state / "failed").open("a") as kept:
        kept.write(done.stdout)
    assert done.returncode == 1, done.stdout[-3000:]
    why = f"exit 1: Error: Puppet Server does not start: {said}"
    assert f"== {fqdn(lab, machine)}: {why}" in done.stdout
    assert logged in done.stderr  # with what the job said, before what can be done next is asked
    assert "pmrunbook --resume" in done.stdout


def test_one_built_badly_is_put_right_beside_a_new_one(seat: Seat) -> None:
    lab, [member] = seat.lab, members(seat.lab)
    out = (seat.state / "failed").read_text()
    out += must(seat.pmrunbook("--plain", "--yes", "--resume", timeout=1800))
    ended = [e for e in seat.events() if e.kind == "end" and e.data["status"] == "ok"]
    here = [e.action for e in ended if e.host == fqdn(lab, bare(lab))]
    assert len(here) == len(set(here))  # what was done before it failed was not done again
    assert "it was issued by CN=Other CA" in out
    assert "follow ssldir to /srv/tls" in out
    file = must(lab.execute(member, f"cat {conf(lab, member)}", timeout=60))
    assert "ssldir" in file.partition("[agent]")[0]
    assert "ca-that-was" not in file
    agent = names(lab, "agent")[0]
    for built in (member, bare(lab)):
        gets_its_catalog(lab, agent, built)
    must(seat.pmrunbook("verify", "--plain"))


def test_a_second_run_finds_nothing_to_do(seat: Seat) -> None:
    ran = jobs_run(seat.lab, [server(seat.lab), bare(seat.lab), *members(seat.lab)])
    out = must(seat.pmrunbook("--plain", "--yes", "--step", "compilers"))
    assert "nothing to do" in out
    assert jobs_run(seat.lab, [server(seat.lab), bare(seat.lab), *members(seat.lab)]) == ran


def test_undo_gives_its_odd_files_back(seat: Seat, before: dict[str, str]) -> None:
    lab, [member] = seat.lab, members(seat.lab)
    must(seat.pmrunbook("undo", "compilers", "--plain", "--yes"))
    now = dict(picture(lab, member, "/etc", "/srv/tls"))
    differ = {p for p in now.keys() | before.keys() if now.get(p) != before.get(p)}
    left = {p for p in differ if not OF_THE_SYSTEM.match(p)}
    assert left == {"/srv/tls/crl.pem"}  # the CA's newest: an older one would let revoked ones in
