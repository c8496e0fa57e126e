"""Survey and central CA, on real hosts: shown, done, verified, killed, resumed, taken back.

The tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from runbook.lab.disk import LOGIN_TRACES
from runbook.lab.lab import Lab
from runbook.model import Event
from tests.lab.conftest import SPOOL, Seat, jobs_run, link_cut, must, narrate, picture
from tests.lab.edits import compared

pytestmark = pytest.mark.lab

COUNTERS = {"serial", "inventory.txt", "infra_crl.pem", "ca_crl.pem"}
"""A CA's counters go forward only: an older serial would be given out twice."""
ACCESS_LOGS = ("var/log/puppetserver/*", "var/log/puppetlabs/puppetserver/*")
"""Whoever asks a server how it is, is in its log: looking leaves that trace, as logging in does."""


def names(lab: Lab, *roles: str) -> list[str]:
    return [h.name for h in lab.estate.hosts if set(h.roles) & set(roles)]


def puppet_hosts(lab: Lab) -> list[str]:
    return names(lab, "server", "agent", "fresh")


def server(lab: Lab) -> str:
    return names(lab, "server")[0]


def ca_name(lab: Lab) -> str:
    data = yaml.safe_load(lab.inventory.read_text())
    return str(data["ca"]["name"])


def confdir(lab: Lab, host: str) -> str:
    """Vendor packages and Debian's keep it in different places."""
    script = "d=/etc/puppetlabs/puppet; [ -d $d ] || d=/etc/puppet; echo $d"
    return must(lab.execute(host, script)).strip()


def effective_ca(lab: Lab, host: str) -> str:
    script = (
        "PATH=/opt/puppetlabs/bin:$PATH; puppet config print ca_server ca_port --section agent "
        "--color=false | sed -n 's/^ca_server = //p'"
    )
    return must(lab.execute(host, script)).strip()


@pytest.fixture(scope="module")
def before(ca_lab: Lab) -> dict[str, dict[str, str]]:
    """The configuration of every host before anything was done."""
    return {h: dict(picture(ca_lab, h, confdir(ca_lab, h))) for h in puppet_hosts(ca_lab)}


def test_a_dry_run_shows_everything_and_changes_no_file(seat: Seat, before: object) -> None:
    lab = seat.lab
    agents = names(lab, "agent")
    for host in agents:  # or an agent's own run would be taken for ours
        must(lab.execute(host, "systemctl stop puppet"))
    (ca,) = names(lab, "server")
    at = 'cd "$(PATH=/opt/puppetlabs/bin:$PATH puppet config print cadir --section server)"'
    must(lab.execute(ca, f"{at} && touch -d '1 hour ago' serial1tmp"))
    marks = {h.name: lab.marks(h.name) for h in lab.estate.hosts}
    out = must(seat.pmrunbook("--dry-run", "--plain"))
    changed = {h: lab.changed_files(h, marks[h], (*LOGIN_TRACES, *ACCESS_LOGS)) for h in marks}
    for host in agents:
        must(lab.execute(host, "systemctl is-enabled -q puppet && systemctl start puppet || :"))
    must(lab.execute(ca, f"{at} && rm serial1tmp"))
    assert changed == {h: [] for h in marks}
    assert re.search(r"ca/serial1tmp +\[ca-write-broken-off\]", out)
    assert f"set ca_server = {ca_name(lab)} in [main]" in out
    assert not (seat.state / "pmrunbook" / "sites").exists()


def test_offline_opens_no_socket(seat: Seat) -> None:
    out = must(seat.pmrunbook("--dry-run", "--offline"))
    assert "no socket is opened" in out


def test_one_unattended_run_centralizes_the_ca(seat: Seat, before: object) -> None:
    lab = seat.lab
    out = must(seat.pmrunbook("--plain", "--yes"))
    assert "done (exit 0)" in out
    for host in puppet_hosts(lab):
        assert effective_ca(lab, host) == ca_name(lab)
    sans = must(
        lab.execute(
            server(lab),
            f"echo | openssl s_client -connect {ca_name(lab)}:8140 2>/dev/null | "
            "openssl x509 -noout -ext subjectAltName",
        )
    )
    assert f"DNS:{ca_name(lab)}" in sans
    assert lab.estate.agents_server in sans  # every old name is still there


def test_existing_agents_still_run(seat: Seat) -> None:
    script = (
        "PATH=/opt/puppetlabs/bin:$PATH; "
        "for i in 1 2 3 4 5 6; do puppet agent -t --color=false; rc=$?; [ $rc = 1 ] || break; "
        "sleep 5; done; [ $rc = 0 ] || [ $rc = 2 ]"
    )
    for host in names(seat.lab, "agent"):
        must(seat.lab.execute(host, script))


def test_comments_order_and_mode_survive(seat: Seat, before: dict[str, dict[str, str]]) -> None:
    lab = seat.lab
    for host in names(lab, "agent"):
        path = f"{confdir(lab, host)}/puppet.conf"
        now = must(lab.execute(host, f"cat {path}"))
        kept = lab.estate.host(host).puppet_conf.splitlines()
        for line in (x for x in kept if "ca_server" not in x):  # that one is the step's
            assert line.replace("${server}", lab.estate.agents_server) in now
        mode = picture(lab, host, path)[path].split()[0]
        assert mode == before[host][path].split()[0]


def test_verify_is_green_and_a_second_run_finds_nothing_to_do(seat: Seat) -> None:
    lab = seat.lab
    must(seat.pmrunbook("verify", "--plain"))
    ran = jobs_run(lab, puppet_hosts(lab))
    marks = {h: lab.marks(h) for h in puppet_hosts(lab)}
    out = must(seat.pmrunbook("--plain", "--yes"))
    assert "nothing to do" in out
    assert jobs_run(lab, puppet_hosts(lab)) == ran
    for host in puppet_hosts(lab):
        # The agents' own daemons run meanwhile; what pmrunbook may touch is all of /etc.
        assert [f for f in lab.changed_files(host, marks[host]) if f.startswith("/etc/")] == []


def test_verify_names_a_client_that_drifted(seat: Seat) -> None:
    lab, host = seat.lab, names(seat.lab, "agent")[0]
    path = f"{confdir(lab, host)}/puppet.conf"
    must(lab.execute(host, f"cp -a {path} /root/kept; sed -i /ca_server/d {path}"))
    try:
        done = seat.pmrunbook("verify", "--plain")
        assert done.returncode == 1
        assert lab.estate.fqdn(lab.estate.host(host)) in done.stdout
    finally:
        must(lab.execute(host, f"cp -a /root/kept {path}"))


COUNTED = """
p=$(PATH=/opt/puppetlabs/bin:$PATH; readlink -f "$(command -v puppet)")
mkdir -p /root/kept.d; cp -p "$p" /root/kept.d/puppet
cat >"$p.new" <<'EOF'
#!/bin/sh
echo "$*" >>/root/puppet.asked
exec /root/kept.d/puppet "$@"
EOF
chmod 755 "$p.new"
mv -f "$p.new" "$p"
"""
UNCOUNTED = """
p=$(PATH=/opt/puppetlabs/bin:$PATH; readlink -f "$(command -v puppet)")
mv -f /root/kept.d/puppet "$p"; rm -f /root/puppet.asked
"""


def test_puppet_is_asked_for_its_settings_only_when_they_may_have_changed(seat: Seat) -> None:
    """Loading Puppet takes seconds; what it said holds while all that it was made from does."""
    lab, host = seat.lab, names(seat.lab, "agent")[-1]
    path = f"{confdir(lab, host)}/puppet.conf"

    def asked() -> int:
        look = ("verify", "--plain", "--step", "survey")
        must(lab.execute(host, ": >/root/puppet.asked"))
        must(seat.pmrunbook(*look))
        return must(lab.execute(host, "cat /root/puppet.asked")).count("config print")

    must(seat.pmrunbook("verify", "--plain", "--step", "survey"))
    must(lab.execute(host, COUNTED + f"cp -a {path} /root/kept"))
    try:
        assert asked() == 0
        must(lab.execute(host, f"echo '# looked at' >>{path}; sleep 2"))
        assert asked() == 1 and asked() == 0
        must(lab.execute(host, f"cp -a /root/kept {path}; echo 192.0.2.1 x >>/etc/hosts; sleep 2"))
        assert asked() == 1
    finally:
        back = "sed -i '/^192.0.2.1 x$/d' /etc/hosts"
        must(lab.execute(host, UNCOUNTED + f"cp -a /root/kept {path}; {back}"))


def test_what_was_done_is_told(seat: Seat) -> None:
    status = json.loads(must(seat.pmrunbook("status", "--json")))
    assert status["steps"]["ca"]["status"] == "ok"
    report = must(seat.pmrunbook("report"))
    assert "approved by" in report and "ca_server" in report
    log = must(seat.pmrunbook("log"))
    assert "step ca" in log


def test_a_second_operator_is_told_who_is_at_work(seat: Seat, tmp_path: Path) -> None:
    lab = seat.lab
    where = server(lab)
    host = names(lab, "agent")[0]
    path = f"{confdir(lab, host)}/puppet.conf"
    must(lab.execute(host, f"cp -a {path} /root/kept; sed -i /ca_server/d {path}"))
    hold = (
        "mkdir -p -m 0700 /var/lib/pmrunbook; mkdir /var/lib/pmrunbook/lock; "
        'echo \'{"who": "alice", "where": "desk7", "why": "run: ca", "run": "other"}\' '
        ">/var/lib/pmrunbook/lock/holder; touch /var/lib/pmrunbook/lock/beat"
    )
    must(lab.execute(where, hold))
    try:
        other = Seat(lab, tmp_path)
        done = other.pmrunbook("--plain", "--yes")
        assert done.returncode == 6
        assert "alice on desk7" in done.stdout
        assert must(other.pmrunbook("lock", "status"), 6).count("alice")
        assert other.pmrunbook("lock", "break").returncode == 2  # a reason is needed
        must(other.pmrunbook("lock", "break", "--reason", "alice went home"))
        must(other.pmrunbook("lock", "status"))
        assert "alice went home" in must(
            lab.execute(where, "cat /var/lib/pmrunbook/lock-broken.jsonl")
        )
    finally:
        must(lab.execute(where, "rm -rf /var/lib/pmrunbook/lock"))
        must(lab.execute(host, f"cp -a /root/kept {path}"))


def test_a_changed_host_key_ends_it_before_anything_is_sent(seat: Seat) -> None:
    lab, host = seat.lab, names(seat.lab, "agent")[-1]
    must(lab.execute(host, "cp -a /etc/ssh /root/ssh.kept"))
    lab.swap_host_key(host)
    try:
        since = must(lab.execute(host, "date +%s")).strip()
        done = seat.pmrunbook("--plain", "--yes")
        assert done.returncode == 4, done.stdout
        assert "known_hosts:" in done.stdout + done.stderr
        seen = must(lab.execute(host, f"journalctl -u ssh --since @{since} --no-pager"))
        assert "Accepted" not in seen
    finally:
        must(
            lab.execute(
                host, "rm -rf /etc/ssh && mv /root/ssh.kept /etc/ssh && systemctl restart ssh"
            )
        )


def test_a_wrong_sudo_password_is_tried_once(seat: Seat, tmp_path: Path) -> None:
    data = yaml.safe_load(seat.inventory.read_text())
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password\n")
    wrong.chmod(0o600)
    data["ssh"]["sudo_password"] = {"file": str(wrong)}
    file = tmp_path / "inventory.yaml"
    file.write_text(yaml.safe_dump(data))
    hosts = puppet_hosts(seat.lab)
    since = {h: must(seat.lab.execute(h, "date +%s")).strip() for h in hosts}
    done = seat.pmrunbook("--dry-run", "--plain", inventory=file)
    assert done.returncode == 3
    assert "sudo refused the password" in done.stdout
    assert "refused the same password" in done.stdout  # by one host, for all of them
    assert "not-the-password" not in done.stdout + done.stderr
    seen = [
        must(seat.lab.execute(h, f"journalctl --since @{since[h]} --no-pager -t sudo"))
        for h in hosts
    ]
    assert sum(text.count("authentication failure") for text in seen) == 1


def test_undo_gives_back_every_file(seat: Seat, before: dict[str, dict[str, str]]) -> None:
    lab = seat.lab
    shown = must(seat.pmrunbook("undo", "ca", "--dry-run", "--plain"))
    assert "take back" in shown
    assert re.search(rf"^ +-.*ca_server\s*=\s*{re.escape(ca_name(lab))}", shown, re.MULTILINE)
    must(seat.pmrunbook("undo", "ca", "--plain", "--yes"))
    for host in puppet_hosts(lab):
        now = dict(picture(lab, host, confdir(lab, host)))
        differ = {p for p in now.keys() | before[host].keys() if now.get(p) != before[host].get(p)}
        assert {p for p in differ if p.rsplit("/", 1)[-1] not in COUNTERS} == set(), host
    status = json.loads(must(seat.pmrunbook("status", "--json")))
    assert status["steps"]["ca"]["status"] == "undone"


def boundaries(events: list[Event]) -> list[tuple[str, str, str]]:
    """Every place of the step's first run where a dying process leaves something to find out.

    After START the job may never have been sent, before END it is done and nobody wrote it down,
    after END the next thing is due. (Dying before a record is dying after the one before it.)
    """
    result: list[tuple[str, str, str]] = []
    for event in events:
        if event.step != "ca":
            continue
        if event.action.startswith("undo:"):
            break
        match event.kind:
            case "start":
                result.append(("after", "start", event.action))
            case "end":
                result += [("before", "end", event.action), ("after", "end", event.action)]
            case "planned" | "approved" | "step_done":
                result.append(("after", event.kind, ""))
    return list(dict.fromkeys(result))


def test_killed_at_every_boundary_and_resumed_it_ends_like_an_unbroken_run(seat: Seat) -> None:
    lab = seat.lab
    places = boundaries(seat.events())
    assert len(places) > 30
    seat.killed_at(places, puppet_hosts(lab))
    for host in puppet_hosts(lab):
        assert effective_ca(lab, host) == ca_name(lab)
    must(seat.pmrunbook("verify", "--plain"))


def test_a_link_cut_during_a_job_loses_nothing(seat: Seat) -> None:
    lab = seat.lab
    must(seat.pmrunbook("undo", "ca", "--plain", "--yes"))
    # Once the CA's certificate is being issued anew, its host drops off the net for a while.
    issuing = (
        f"ls {SPOOL}/*/start >/dev/null && case $(systemctl is-active puppetserver) in "
        "inactive | activating | deactivating) ;; *) false ;; esac"
    )
    with link_cut(lab, server(lab), issuing, 12):
        must(seat.pmrunbook("--plain", "--yes"))
    must(seat.pmrunbook("verify", "--plain"))


def test_puppet_reads_what_was_set_and_all_else_as_before(ca_lab: Lab) -> None:
    """And just what it reads where it has set the same itself."""
    many, asked = compared(ca_lab, server(ca_lab))
    narrate(f"{many} of {asked} files compared with what Puppet reads and writes")
    assert many > 300
