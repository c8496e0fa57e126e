"""Compile masters, on real hosts: from machines without Puppet, killed, attacked, taken back.

The tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

import pytest
import yaml

from runbook.lab.disk import LOGIN_TRACES
from runbook.lab.lab import Lab
from runbook.model import Event
from tests.lab.conftest import Seat, as_shown, jobs_run, link_cut, must, narrate, picture
from tests.lab.test_ca import ACCESS_LOGS, ca_name, names, server
from tests.lab.test_ca_screens import ASKED, screen, start, to_the_end, wait
from tests.ui.conftest import WIDE, Terminal

__all__ = ["screen"]
pytestmark = pytest.mark.lab

PATH = "PATH=/opt/puppetlabs/bin:$PATH; "
OF_THE_SYSTEM = re.compile(
    r"/etc/(\.pwd\.lock|(group|gshadow|passwd|shadow|subuid|subgid)-?|ld\.so\.cache|machine-id|mtab|"
    r"alternatives/.*|ssl/certs/.*|fonts/.*)$"
)
"""What installing and purging packages leaves behind on every Debian."""


@pytest.fixture(scope="module")
def seat(cm_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    return Seat(cm_lab, tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def before(cm_lab: Lab) -> dict[str, dict[str, str]]:
    return {h: dict(picture(cm_lab, h, "/etc")) for h in [*members(cm_lab), server(cm_lab)]}


def members(lab: Lab) -> list[str]:
    return [h.name for h in lab.estate.hosts if h.name.startswith("cm")]


def fqdn(lab: Lab, host: str) -> str:
    return lab.estate.fqdn(lab.estate.host(host))


def hosts(lab: Lab) -> list[str]:
    return [server(lab), *names(lab, "agent"), *members(lab)]


def ca_conf(lab: Lab) -> str:
    find = "find /etc/puppet /etc/puppetlabs -path '*/conf.d/ca.conf' -exec cat {} + 2>/dev/null; :"
    return must(lab.execute(server(lab), find))


def ask(lab: Lab, at: str, member: str, path: str, cert: str = "") -> str:
    """HTTP status of a question to a compile master, asked by curl from a host; 000: none."""
    script = (
        f"cd /; curl -s -o /dev/null -m 20 --cacert {ssl(lab, at)}/certs/ca.pem {cert} "
        f"-w '%{{http_code}}' https://{fqdn(lab, member)}:8140{path} || :"
    )
    return must(lab.execute(at, script)).strip()


def ssl(lab: Lab, host: str) -> str:
    script = PATH + "puppet config print ssldir --section agent --color=false"
    return must(lab.execute(host, script)).strip()


def gets_its_catalog(lab: Lab, agent: str, member: str) -> None:
    """A real run of a real agent against this server, and that server's own word for it."""
    script = PATH + (
        "for i in 1 2 3 4 5 6; do puppet agent -t --color=false --no-use_srv_records "
        f"--server_list {fqdn(lab, member)}:8140 --ca_server {ca_name(lab)} "
        "--no-usecacheonfailure; rc=$?; [ $rc = 1 ] || break; sleep 5; done; "
        "[ $rc = 0 ] || [ $rc = 2 ]"
    )
    must(lab.execute(agent, script, timeout=300))
    log = "find /var/log -name puppetserver-access.log -exec cat {} +"
    said = must(lab.execute(member, log))
    assert re.search(rf"/puppet/v3/catalog/{re.escape(fqdn(lab, agent))}\S* \S+ 200 ", said)


def built(lab: Lab) -> None:
    """What a compile master is, asked without pmrunbook."""
    agent = names(lab, "agent")[0]
    for member in members(lab):
        assert ask(lab, agent, member, "/status/v1/simple") == "200"
        assert ask(lab, agent, member, "/status/v1/simple/ca") == "404"
        assert ask(lab, agent, member, "/puppet-ca/v1/certificate/ca") == "404"
        found = must(lab.execute(member, "find /etc /var/lib /opt -name ca_key.pem 2>/dev/null; :"))
        assert "/var/lib/pmrunbook/" in found or not found.strip()
        gets_its_catalog(lab, agent, member)


# --- the tests ------------------------------------------------------------------------------------


def test_a_dry_run_shows_everything_and_changes_no_file(seat: Seat, before: object) -> None:
    lab = seat.lab
    for host in names(lab, "agent"):
        must(lab.execute(host, "systemctl stop puppet"))
    marks = {h: lab.marks(h) for h in hosts(lab)}
    out = must(seat.pmrunbook("--dry-run", "--json"))
    changed = {h: lab.changed_files(h, marks[h], (*LOGIN_TRACES, *ACCESS_LOGS)) for h in marks}
    assert changed == {h: [] for h in marks}
    assert not (seat.state / "pmrunbook" / "sites").exists()
    for member in members(lab):
        assert f'"install/{fqdn(lab, member)}/packages"' in out
        assert f"the request for {fqdn(lab, member)}, " in out
    (seat.state / "shown").write_text(out)


def test_one_unattended_run_builds_them_all(seat: Seat, before: object) -> None:
    lab = seat.lab
    was = ca_conf(lab)
    away = members(lab)[-1]  # while it installs packages
    with link_cut(lab, away, "pgrep -f 'apt-get .*[i]nstall puppet' && pgrep -x dpkg", 20):
        out = must(seat.pmrunbook("--plain", "--yes", timeout=1800))
    assert "done (exit 0)" in out
    installed_once(seat, away)
    built(lab)
    assert ca_conf(lab) == was  # the window for alternative names is closed, byte for byte
    # What the dry run said would be done was done; what it said would be set Puppet takes now.
    said = (seat.state / "shown").read_text()
    counted = as_shown(said, seat.events())
    narrate(f"as the dry run showed: {counted['shown']} actions, {counted['later']} announced")
    later = [x for line in said.splitlines() for x in json.loads(line).get("later", ())]
    for member in members(lab):
        [what] = [
            x["what"] for x in later if (x["host"], x["stage"]) == (fqdn(lab, member), "configure")
        ]
        line = re.search(r"to set (.*?) in \[main\]", what)
        assert line
        wanted = dict(pair.split(" = ") for pair in line[1].split(", "))
        assert {"ca_server", "server", "dns_alt_names"} <= wanted.keys()
        for key, value in wanted.items():
            print_ = f"puppet config print {key} --section agent --color=false"
            assert must(lab.execute(member, PATH + print_)).strip() == value
        cert = f"{ssl(lab, member)}/certs/{fqdn(lab, member)}.pem"
        certificate = f"openssl x509 -noout -ext subjectAltName -in {cert}"
        sans = must(lab.execute(member, certificate))
        for name in wanted["dns_alt_names"].split(","):
            assert f"DNS:{name}" in sans
    tell_the_time(seat)


def installed_once(seat: Seat, member: str) -> None:
    """Followed to its true end over a second connection, and started one time only."""
    lab, name = seat.lab, fqdn(seat.lab, member)
    told = [e for e in seat.events() if e.action == f"install/{name}/packages"]
    assert [(e.kind, e.data.get("status")) for e in told if e.kind in ("start", "end")] == [
        ("start", None),
        ("end", "ok"),
    ]
    since = int(told[0].at) + 1
    again = f"journalctl -u ssh --since @{since} --no-pager -o cat | grep Accepted"
    must(lab.execute(member, again))
    apt = "grep -c '^Commandline: apt-get .*install puppet' /var/log/apt/history.log"
    assert int(must(lab.execute(member, apt))) == 1


def tell_the_time(seat: Seat) -> None:
    """Wall time per compile master, and the share that is waiting for packages and the JVM."""
    began: dict[tuple[str, str], float] = {}
    spent: dict[str, float] = {}
    for event in seat.events():
        if event.step != "compilers" or not event.action:
            continue
        if event.kind == "start":
            began[event.host, event.action] = event.at
        elif event.kind == "end":
            kind = event.action.split("/")[0]
            spent[kind] = spent.get(kind, 0) + event.at - began[event.host, event.action]
    total = sum(spent.values())
    waiting = spent.get("install", 0) + spent.get("start", 0)
    many = len(members(seat.lab))
    packages, jvm = (spent.get(kind, 0) / many for kind in ("install", "start"))
    narrate(
        f"compile masters: {total / many:.0f} s of work each, {100 * waiting / total:.0f} % of it "
        f"packages ({packages:.0f} s) and JVM ({jvm:.0f} s)"
    )


def test_verify_is_green_and_a_second_run_changes_no_file(seat: Seat) -> None:
    lab = seat.lab
    must(seat.pmrunbook("verify", "--plain"))
    ran = jobs_run(lab, hosts(lab))
    marks = {h: lab.marks(h) for h in hosts(lab)}
    out = must(seat.pmrunbook("--plain", "--yes"))
    assert out.count("nothing to do") >= 3
    assert jobs_run(lab, hosts(lab)) == ran
    for host in hosts(lab):
        assert [f for f in lab.changed_files(host, marks[host]) if f.startswith("/etc/")] == []


def test_a_file_of_a_clock_that_ran_ahead_costs_one_restart(seat: Seat) -> None:
    lab, member = seat.lab, members(seat.lab)[0]
    must(lab.execute(member, "touch -d '+1 hour' $(find /etc -path '*/services.d/ca.cfg')"))
    asked, restart = ("--plain", "--yes", "--step", "compilers"), "its start-up files changed"
    assert restart in must(seat.pmrunbook(*asked))
    assert restart not in must(seat.pmrunbook(*asked))


def test_a_revoked_certificate_is_refused(seat: Seat) -> None:
    lab, ca = seat.lab, server(seat.lab)
    cert = (
        PATH + "puppetserver ca generate --certname revoked-soon >/dev/null && d=$(puppet config "
        "print ssldir --section server) && cp $d/certs/revoked-soon.pem /root/c.pem && "
        "cp $d/private_keys/revoked-soon.pem /root/k.pem"
    )
    must(lab.execute(ca, cert))
    use = "--cert /root/c.pem --key /root/k.pem"
    for member in members(lab):
        assert ask(lab, ca, member, "/puppet/v3/environments", use) == "200"
    must(lab.execute(ca, PATH + "puppetserver ca clean --certname revoked-soon"))
    for member in members(lab):
        # What the timer starts every hour.
        must(lab.execute(member, "systemctl start puppet-crl-refresh.service"))
        for _ in range(20):
            if (code := ask(lab, ca, member, "/puppet/v3/environments", use)) == "000":
                break
            time.sleep(1)
        assert code == "000"


def test_verify_sees_an_empty_environment_and_a_stopped_timer(seat: Seat) -> None:
    lab, member = seat.lab, members(seat.lab)[0]
    code = must(
        lab.execute(member, PATH + "puppet config print environmentpath --section server")
    ).strip()
    must(lab.execute(member, f"mv {code} {code}.away && mkdir {code}"))
    must(lab.execute(members(lab)[-1], "systemctl stop puppet-crl-refresh.timer"))
    try:
        done = seat.pmrunbook("verify", "--plain")
        assert done.returncode == 1
        assert re.search(rf"{fqdn(lab, member)} has the code .*: without", done.stdout)
        assert "puppet-crl-refresh.timer is not active" in done.stdout
    finally:
        must(lab.execute(member, f"rmdir {code} && mv {code}.away {code}"))
        must(lab.execute(members(lab)[-1], "systemctl start puppet-crl-refresh.timer"))


def test_undo_gives_the_machines_back(seat: Seat, before: dict[str, dict[str, str]]) -> None:
    lab = seat.lab
    must(seat.pmrunbook("undo", "compilers", "--plain", "--yes"))
    for member in members(lab):
        now = dict(picture(lab, member, "/etc"))
        differ = {p for p in now.keys() | before[member] if now.get(p) != before[member].get(p)}
        assert {p for p in differ if not OF_THE_SYSTEM.search(p)} == set()
        assert must(lab.execute(member, "dpkg -l | grep -c puppet || :")).strip() == "0"
        gone = "ls -d /etc/puppet /var/lib/puppet /var/lib/puppetserver 2>/dev/null; :"
        assert must(lab.execute(member, gone)) == ""
    listed = must(lab.execute(server(lab), PATH + "puppetserver ca list --all"))
    signed = listed.partition("Revoked")[0]
    assert not [m for m in members(lab) if fqdn(lab, m) in signed]


def test_a_foreign_request_under_the_right_name_is_not_signed(seat: Seat) -> None:
    lab, member, agent = seat.lab, members(seat.lab)[0], names(seat.lab, "agent")[0]
    name = fqdn(lab, member)
    was = ca_conf(lab)
    there = f"https://{ca_name(lab)}:8140/puppet-ca/v1/certificate_request/{name}"
    foreign = (
        "cd /root; openssl req -new -newkey rsa:2048 -nodes -keyout f.key -out f.csr "
        f"-subj /CN={name} 2>/dev/null; curl -s -o /dev/null -w '%{{http_code}}' -k -X PUT "
        f"-H 'Content-Type: text/plain' --data-binary @f.csr {there}; "
        "openssl req -in f.csr -outform der | sha256sum | cut -c1-64"
    )
    said = must(lab.execute(agent, foreign))
    assert said.startswith("200")
    theirs = ":".join(re.findall("..", said.splitlines()[0].removeprefix("200").strip().upper()))
    done = seat.pmrunbook("--plain", "--yes", "--step", "compilers", "--host", name, timeout=1800)
    assert done.returncode == 4, done.stdout[-3000:]
    assert theirs in done.stdout
    assert len(set(re.findall(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", done.stdout))) >= 2
    assert ca_conf(lab) == was
    waiting = must(lab.execute(server(lab), PATH + "puppetserver ca list"))
    assert name in waiting
    must(lab.execute(server(lab), PATH + f"puppetserver ca clean --certname {name} || [ $? = 24 ]"))


@pytest.mark.turn("trust")
def test_a_request_replaced_while_it_is_signed_gets_no_certificate(seat: Seat) -> None:
    """After the fingerprints were compared, and before the CA reads the request that it signs."""
    lab, ca, name = seat.lab, server(seat.lab), fqdn(seat.lab, members(seat.lab)[0])
    was = ca_conf(lab)
    make = (
        "cd /root; openssl req -new -newkey rsa:2048 -nodes -keyout f.key -out f.csr "
        f"-subj /CN={name} 2>/dev/null; openssl pkey -in f.key -pubout -outform der | "
        "sha256sum | cut -c1-64"
    )
    theirs = ":".join(re.findall("..", must(lab.execute(ca, make)).strip().upper()))
    swap = (
        PATH + "d=$(puppet config print csrdir --section server --color=false); "
        f"( until pgrep -f 'ca [s]ign --certname {name}'; do sleep 0.02; done; "
        f"cat /root/f.csr >$d/{name}.pem ) >/dev/null 2>&1 & :"
    )
    must(lab.execute(ca, swap))
    done = seat.pmrunbook("--plain", "--yes", "--resume", timeout=1800)
    assert done.returncode == 4, done.stdout[-3000:]
    told = [x for x in done.stdout.splitlines() if "replaced while it was signed" in x]
    said = next(x for x in told if x.startswith("✗"))
    ours = set(re.findall(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", said)) - {theirs}
    assert theirs in said and len(ours) == 1
    assert ca_conf(lab) == was
    listed = must(lab.execute(ca, PATH + "puppetserver ca list --all"))
    assert name not in listed.partition("Revoked")[0]
    must(seat.pmrunbook("undo", "compilers", "--plain", "--yes"))


def boundaries(events: list[Event], step: str = "compilers") -> list[tuple[str, str, str]]:
    """Between every two actions of the first run of a step."""
    done = []
    for event in events:
        if event.step == step and event.action.startswith("undo:"):
            break
        if event.step == step and event.kind == "end":
            done.append(("after", "end", event.action))
    return list(dict.fromkeys(done))


def test_killed_between_any_two_actions_it_ends_like_an_unbroken_run(seat: Seat) -> None:
    lab = seat.lab
    places = boundaries(seat.events())
    assert len(places) > 25
    seat.killed_at(places, hosts(lab), "--step", "compilers")
    built(lab)
    must(seat.pmrunbook("verify", "--plain"))
    must(seat.pmrunbook("undo", "compilers", "--plain", "--yes"))


@pytest.mark.parametrize("screen", [WIDE], indirect=True, ids=["120x36"])
def test_built_through_the_screens(seat: Seat, screen: Terminal) -> None:
    start(screen, seat)
    shown = wait(screen, ASKED, "Summary")
    assert ASKED in shown
    assert "Done" in to_the_end(screen)
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    built(seat.lab)


def test_a_server_that_made_a_ca_of_its_own_is_put_right(seat: Seat) -> None:
    """Somebody switched the CA service on and restarted: the classic. An agent daemon runs too."""
    lab, member = seat.lab, members(seat.lab)[-1]
    break_it = (
        "f=$(ls /etc/puppet/puppetserver/services.d/ca.cfg /etc/puppetlabs/puppetserver/services.d/"
        "ca.cfg 2>/dev/null); sed -i -E 's|^#(puppetlabs.*certificate-authority-service)$|\\1|; "
        "s|^(puppetlabs.*disabled-service)$|#\\1|' $f; "
        "systemctl restart puppetserver || { sleep 3; systemctl restart puppetserver; }; "
        "systemctl start puppet; sleep 3; systemctl is-active puppet"
    )
    must(lab.execute(member, break_it, timeout=300))
    done = seat.pmrunbook("verify", "--plain")
    assert done.returncode == 1
    out = must(seat.pmrunbook("--plain", "--yes", timeout=1800))
    assert "rogue-ca" in out
    built(lab)
    other = fqdn(lab, members(lab)[0])
    acted = [line for line in out.splitlines() if line.startswith(f"▸ running   {other}")]
    assert [line for line in acted if "revocation list" not in line] == []  # only what differs
    assert must(lab.execute(member, "systemctl is-active puppet")).strip() == "active"
    must(seat.pmrunbook("verify", "--plain"))
    must(seat.pmrunbook("debts"))


SMALL_VAR = """set -e
mkdir /mnt/var
mount -t tmpfs -o size=1500m small /mnt/var
cp -a /var/. /mnt/var/
mount --bind /mnt/var /var
umount /mnt/var
( until pgrep -f 'apt-get .*[i]nstall puppet'; do sleep 0.02; done
  used=$(df -k --output=used /var | tail -n 1)
  mount -o remount,size=$((used + 500))k /var
) >/dev/null 2>&1 &
"""
"""A file system of its own, with room enough to begin with, until packages are installed."""


def test_a_dead_one_is_replaced_under_its_name(seat: Seat) -> None:
    lab, member = seat.lab, members(seat.lab)[0]
    lab.reset(narrate, [member])
    # Somebody else installs packages; and then the power of our installation is pulled.
    hold = (
        "$lock = pack('s s x4 q q i', 1, 0, 0, 0, 0); "  # F_WRLCK, as dpkg itself locks
        "open(F, '>>', '/var/lib/dpkg/lock-frontend'); fcntl(F, 6, $lock) or die; "
        "for (1..600) { sleep 1; last unless system('pgrep -x apt-get') }"
    )
    must(lab.execute(member, f"perl -e {shlex.quote(hold)} >/dev/null 2>&1 & sleep 1"))
    must(lab.execute(member, "pgrep -x perl"))
    kill = (
        "until [ -e /usr/bin/puppet ]; do sleep 0.05; done; pkill -9 -x apt-get; pkill -9 -x dpkg"
    )
    must(lab.execute(member, f"( {kill} ) >/dev/null 2>&1 & :"))
    done = seat.pmrunbook("--plain", "--yes", timeout=1800)
    assert "packages-locked" in done.stdout
    assert done.returncode == 1, done.stdout[-3000:]
    # And then its disk runs full in the middle, with our own jobs on it.
    must(lab.execute(member, SMALL_VAR))
    full = seat.pmrunbook("--plain", "--yes", "--resume", timeout=1800)
    assert full.returncode == 1, full.stdout[-3000:]
    assert re.search(r"Error: little room is left: /var has \d MiB free", full.stdout)
    must(lab.execute(member, "mount -o remount,size=1500m /var"))
    out = must(seat.pmrunbook("--plain", "--yes", "--resume", timeout=1800))
    out = done.stdout + full.stdout + out
    assert "packages-half-installed" in out
    assert f"clean the old certificate of {fqdn(lab, member)}" in out
    built(lab)
    must(seat.pmrunbook("verify", "--plain"))


def test_one_is_retired_only_when_it_is_drained(seat: Seat, tmp_path: Path) -> None:
    lab, member = seat.lab, members(seat.lab)[-1]
    data = yaml.safe_load(seat.inventory.read_text())
    data["compile_masters"].remove(fqdn(lab, member))
    data["retired"] = [fqdn(lab, member)]
    file = tmp_path / "inventory.yaml"
    file.write_text(yaml.safe_dump(data))
    other = Seat(lab, tmp_path / "state")
    done = other.pmrunbook("--plain", "--yes", "--step", "retire", inventory=file)
    assert done.returncode == 1, done.stdout[-3000:]
    assert "still-serving" in done.stdout  # an agent of these tests ran against it
    must(lab.execute(member, "find /var/log -name puppetserver-access.log -exec truncate -s0 {} +"))
    must(other.pmrunbook("--plain", "--yes", "--step", "retire", inventory=file))
    said = lab.execute(
        member, "systemctl is-active puppetserver; systemctl is-enabled puppetserver"
    )
    assert said.stdout.split() == ["inactive", "disabled"]
    listed = must(lab.execute(server(lab), PATH + "puppetserver ca list --all"))
    assert fqdn(lab, member) not in listed.partition("Revoked")[0]
    must(other.pmrunbook("debts", inventory=file))
