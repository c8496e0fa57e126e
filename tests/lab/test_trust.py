"""Nothing lost, nothing done twice, nobody let in: on real hosts, with operators at two machines.

The tests share one estate and build on each other, in the order of the file. Clients learn of the
CA by an SRV record here, so that a TSIG key is needed, too.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from runbook.cli import NETNS
from runbook.journal import head_file
from runbook.lab.lab import Lab
from runbook.lab.seed import TSIG_NAME
from tests.lab.conftest import ROOT, Seat, jobs_run, must, picture
from tests.lab.secrecy import canaries, nowhere, watching
from tests.lab.test_ca import COUNTERS, confdir, names, puppet_hosts, server

pytestmark = pytest.mark.lab

PAGE = ROOT / "docs" / "how-to" / "least-privilege.md"
LOOK = "/usr/local/sbin/pmrunbook-look"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def limit_key(lab: Lab) -> None:
    """The TSIG key may change the names of the page from now on, and no others."""
    (policy,) = blocks("named")
    policy = policy.replace("grant KEY", f"grant {TSIG_NAME}")
    policy = policy.replace("puppet.example.com", lab.estate.agents_server)
    policy = " ".join(policy.replace("example.com", lab.estate.domain).split())
    config = "/etc/bind/named.conf.local"
    edit = f"sed -i '0,/allow-update .*;$/s//{policy}/' {config} && grep -c update-policy {config}"
    (host,) = lab.estate.having("nameserver")
    assert must(lab.execute(host.name, f"{edit} && rndc reconfig")).strip() == "1"


@pytest.fixture(scope="module")
def desk(seat: Seat, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """The operator's: an inventory with an SRV record, and the password of sudo in a variable."""
    data = yaml.safe_load(seat.inventory.read_text())
    data["ca"] |= {"clients": "srv", "srv_domain": seat.lab.estate.domain}
    data["ssh"]["sudo_password"] = {"env": "SUDO_WORD"}
    file = tmp_path_factory.mktemp("desk") / "inventory.yaml"
    file.write_text(yaml.safe_dump(data))
    word = seat.lab.credentials.sudo_password.read_text().strip()
    return Seat(seat.lab, seat.state, {"SUDO_WORD": word}, file)


@pytest.fixture(scope="module")
def other(desk: Seat, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """Another operator, at a machine that knows nothing."""
    state, env = tmp_path_factory.mktemp("other"), desk.env | {"SUDO_USER": "bob"}
    return Seat(desk.lab, state, env, desk.file, beside=desk.state)


@pytest.fixture(scope="module")
def before(desk: Seat) -> dict[str, dict[str, str]]:
    lab = desk.lab
    return {h: dict(picture(lab, h, confdir(lab, h))) for h in puppet_hosts(lab)}


def mortal(seat: Seat, place: tuple[str, str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """pmrunbook, which dies or meets a bug at this place."""
    places = seat.state / "places"
    places.write_text(json.dumps([place]))
    env = {**seat.environ(), "MORTAL": str(places), NETNS: seat.lab.network.name}
    command = [sys.executable, "-m", "tests.lab.mortal", *args, "-i", str(seat.inventory)]
    return subprocess.run(
        seat.lab.seat(command),
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_the_sudoers_file_of_the_documentation_is_enough(desk: Seat, before: object) -> None:
    """And stays in force for all that follows."""
    lab = desk.lab
    text = blocks("sudoers")[0]
    user = lab.estate.ssh_user
    rules = text.replace("pmrunbook", user).replace(f"sudoers.d/{user}", "sudoers.d/pmrunbook")
    for host in puppet_hosts(lab):
        script = (
            "umask 227; cat >/etc/sudoers.d/pmrunbook && visudo -cf /etc/sudoers.d/pmrunbook && "
            f"gpasswd -d {user} sudo && ! su -c 'sudo -n -l /bin/cat' {user}"
        )
        must(lab.execute(host, script, rules))
    assert "actions on" in must(desk.pmrunbook("--dry-run", "--plain"))


@contextlib.contextmanager
def looking(seat: Seat, folder: Path, hosts: Sequence[str]) -> Iterator[Path]:
    """An inventory whose account has a root's shell that cannot write, and no other, as told."""
    lab, user = seat.lab, seat.lab.estate.ssh_user
    (wrapper,) = blocks("sh")
    rules = PAGE.read_text().split("pmrunbook-look\nDefaults")[1].split("```")[0]
    rules = f"Defaults{rules}".replace("looker", user)
    swap = "cd /etc/sudoers.d; mkdir /root/rights; mv * /root/rights; cat >look; visudo -qcf look"
    leave = f"id -nG {user} | grep -qw sudo && touch /root/rights.sudo && gpasswd -d {user} sudo"
    for host in hosts:
        must(lab.execute(host, f"cat >{LOOK}; chmod 755 {LOOK}", wrapper))
        must(lab.execute(host, f"{swap}; {leave}; :", rules))
    data = yaml.safe_load(seat.inventory.read_text())
    data["ssh"]["sudo_shell"] = LOOK
    file = folder / "look.yaml"
    file.write_text(yaml.safe_dump(data))
    back = f"cd /etc/sudoers.d; rm look {LOOK}; mv /root/rights/* .; rmdir /root/rights;"
    back += f"[ ! -e /root/rights.sudo ] || {{ rm /root/rights.sudo; gpasswd -a {user} sudo; }}"
    try:
        yield file
    finally:
        for host in hosts:
            must(lab.execute(host, back))


def test_an_account_that_can_only_look_finds_all_and_writes_nothing(
    desk: Seat, tmp_path: Path
) -> None:
    lab = desk.lab

    def found(inventory: Path) -> list[dict[str, object]]:
        """What a dry run planned and verify judged, but for words that change by themselves."""
        said = must(desk.pmrunbook("--dry-run", "--json", inventory=inventory))
        said += must(desk.pmrunbook("verify", "--json", "--step", "survey", inventory=inventory))
        events = [json.loads(x) for x in said.splitlines()]
        keys = ("kind", "step", "host", "id", "ok", "severity", "title", "actions", "later")
        kinds = ("planned", "finding", "check", "unreachable")
        return [{k: e.get(k) for k in keys} for e in events if e["kind"] in kinds]

    as_root = found(desk.inventory)
    with looking(desk, tmp_path, puppet_hosts(lab)) as file:
        assert as_root and found(file) == as_root
        out = must(desk.pmrunbook("--plain", "--yes", inventory=file), 1)
        assert "cannot take the lock: " in out and "Read-only file system" in out
        for host in puppet_hosts(lab):
            assert jobs_run(lab, [host]) == 0


def test_who_may_not_become_root_is_told_so_and_nothing_is_half_read(
    desk: Seat, tmp_path: Path
) -> None:
    data = yaml.safe_load(desk.inventory.read_text())
    data["ssh"]["sudo"] = False
    del data["ssh"]["sudo_password"]
    file = tmp_path / "inventory.yaml"
    file.write_text(yaml.safe_dump(data))
    for words in (("--dry-run",), ("verify",)):
        done = desk.pmrunbook(*words, "--plain", inventory=file)
        assert done.returncode != 0
        assert done.stdout.count("this account is not root") >= len(puppet_hosts(desk.lab))
        assert "plan:" not in done.stdout or "nothing to do" in done.stdout


def test_a_run_that_meets_a_bug_and_is_gone_on_with_leaves_no_secret_anywhere(
    desk: Seat,
) -> None:
    lab, words = desk.lab, canaries(desk.lab)
    said: list[str] = []
    with watching() as watch:
        bug = mortal(desk, ("bug", "end", ""), "--plain", "--yes")
        assert bug.returncode == 1, bug.stdout[-3000:] + bug.stderr[-3000:]
        assert "a bug in pmrunbook" in bug.stdout
        done = desk.pmrunbook("--resume", "--plain", "--yes", "--scripts")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        said += [bug.stdout, bug.stderr, done.stdout, done.stderr]
        for asked in (
            ("verify", "--plain"),
            ("verify", "journal"),
            ("status",),
            ("status", "--json", "--from-site"),
            ("report",),
            ("report", "--json"),
            ("log",),
            ("log", lab.estate.fqdn(lab.estate.host(names(lab, "agent")[0]))),
            ("--dry-run", "--json"),
        ):
            again = desk.pmrunbook(*asked)
            assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
            said += [again.stdout, again.stderr]
    assert watch.sweeps > 100 and len(watch.seen) > 50
    assert watch.found(words) == set()
    shown = "\n".join(said).encode()
    assert [name for name, word in words.items() if word in shown] == []
    files = [f for f in desk.state.rglob("*") if f.is_file()]
    assert {"journal.jsonl", "journal.head", "crash.txt"} <= {f.name for f in files}
    assert any(f.suffix == ".log" for f in files)  # transcripts
    nowhere(desk, words)


def test_a_run_killed_on_one_machine_is_gone_on_with_from_another(desk: Seat, other: Seat) -> None:
    lab = desk.lab
    must(desk.pmrunbook("undo", "ca", "--plain", "--yes"))
    ran = jobs_run(lab, puppet_hosts(lab))
    past = len(desk.events())
    starts = [e.action for e in desk.events() if e.kind == "start" and e.step == "ca"]
    # After its start was written down, with the job on its way or not: the worst place.
    middle = starts[len(starts) // 2].removeprefix("undo:")
    killed = mortal(desk, ("after", "start", middle), "--plain", "--yes")
    assert killed.returncode in (-9, 137), killed.stdout[-2000:]

    status = other.pmrunbook("status", "--from-site")
    assert status.returncode in (7, 8), status.stdout
    assert "run 20" in status.stdout
    waits = other.pmrunbook("--resume", "--plain")
    assert waits.returncode == 7, waits.stdout + waits.stderr
    assert f"is on {lab.estate.fqdn(lab.estate.host(server(lab)))}" in waits.stderr
    assert "--yes goes on with it" in waits.stdout
    time.sleep(1)
    done = other.pmrunbook("--resume", "--plain", "--yes")
    if done.returncode == 6:  # the dead run's lock: another machine waits until it expires
        must(lab.execute(server(lab), "touch -d '10 minutes ago' /var/lib/pmrunbook/lock/beat"))
        done = other.pmrunbook("--resume", "--plain", "--yes")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    events = other.events()[past:]
    ended = [e.action for e in events if e.kind == "end" and e.data["status"] == "ok"]
    assert len(ended) == len(set(ended))
    kinds = {e.action: e.data["action"]["do"]["kind"] for e in events if e.kind == "start"}
    jobs = [action for action in ended if kinds[action] not in ("DnsChange", "Human")]
    assert jobs_run(lab, puppet_hosts(lab)) - ran == len(jobs)
    must(other.pmrunbook("verify", "--plain"))

    # Back at the first machine: it takes up what the other did, and finds nothing to do.
    out = must(desk.pmrunbook("--plain", "--yes"))
    assert "taken up from the site" in out and "nothing to do" in out
    mine, theirs = (sorted(s.state.rglob("journal.jsonl"))[0].read_bytes() for s in (desk, other))
    assert mine.startswith(theirs)
    for seat in (desk, other):
        assert "none changed, removed or moved" in must(seat.pmrunbook("verify", "journal"))


def test_a_debt_of_a_dead_run_is_found_and_ended_from_another_machine(
    desk: Seat, other: Seat
) -> None:
    lab = desk.lab
    must(desk.pmrunbook("undo", "ca", "--plain", "--yes"))
    starts = [e for e in desk.events() if e.kind == "start" and e.action.endswith("/request")]
    host, opening = starts[-1].host, starts[-1].action.removeprefix("undo:")
    killed = mortal(desk, ("after", "end", opening), "--plain", "--yes")
    assert killed.returncode in (-9, 137), killed.stdout[-2000:]
    left = "[ -d /var/lib/pmrunbook/probe ]"
    must(lab.execute(host.partition(".")[0], left))
    must(lab.execute(server(lab), "touch -d '10 minutes ago' /var/lib/pmrunbook/lock/beat"))

    told = other.pmrunbook("debts", "--from-site")
    assert told.returncode != 0
    assert f"{host}: the new agent's folder" in told.stdout
    new = other.pmrunbook("--new", "--plain", "--step", "survey")
    assert new.returncode == 0 and "the new agent's folder" in new.stdout, new.stdout + new.stderr
    must(other.pmrunbook("debts", "--repay", "--plain", "--yes"))
    assert lab.execute(host.partition(".")[0], left).returncode != 0
    assert must(other.pmrunbook("debts", "--from-site")).strip() == "none"
    must(desk.pmrunbook("--plain", "--yes"))


def test_a_journal_that_was_cut_off_is_found_by_the_site(other: Seat) -> None:
    path = sorted(other.state.rglob("journal.jsonl"))[0]
    whole, head = path.read_bytes(), head_file(path).read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-5]))
    try:
        done = other.pmrunbook("verify", "journal")
        assert done.returncode == 1
        assert "gone from the end, once on the disk" in done.stdout
        head_file(path).unlink()
        done = other.pmrunbook("verify", "journal")
        assert done.returncode == 1
        assert "gone from the end: the site has" in done.stdout
    finally:
        path.write_bytes(whole)
        head_file(path).write_bytes(head)


@pytest.mark.turn("trust")
def test_a_host_left_out_is_shown_and_taken_in_again(desk: Seat) -> None:
    lab, host = desk.lab, names(desk.lab, "agent")[0]
    must(desk.pmrunbook("undo", "ca", "--plain", "--yes"))
    fqdn = lab.estate.fqdn(lab.estate.host(host))
    must(lab.execute(host, f"mount --bind -o ro {confdir(lab, host)} {confdir(lab, host)}"))
    try:
        out = must(desk.pmrunbook("--plain", "--yes", "--on-failure", "exclude"))
        assert "1 host left out" in out
        assert f"pmrunbook include {fqdn} takes it in again" in desk.pmrunbook("status").stdout
        assert f"Left out: {fqdn}" in must(desk.pmrunbook("report"))
    finally:
        must(lab.execute(host, f"umount {confdir(lab, host)}"))
    assert desk.pmrunbook("include", "nobody.example").returncode == 2
    must(desk.pmrunbook("include", fqdn))
    out = must(desk.pmrunbook("--resume", "--plain", "--yes"))
    assert "left out" not in out
    must(desk.pmrunbook("verify", "--plain"))
    assert "Left out" not in must(desk.pmrunbook("report"))


@pytest.mark.turn("trust")
def test_all_down_to_the_first_step_is_taken_back_with_one_command(
    desk: Seat, before: dict[str, dict[str, str]]
) -> None:
    lab = desk.lab
    shown = must(desk.pmrunbook("undo", "--to", "survey", "--dry-run", "--plain"))
    assert "take back" in shown
    must(desk.pmrunbook("undo", "--to", "survey", "--plain", "--yes"))
    for host in puppet_hosts(lab):
        now = dict(picture(lab, host, confdir(lab, host)))
        differ = {p for p in now.keys() | before[host].keys() if now.get(p) != before[host].get(p)}
        assert {p for p in differ if p.rsplit("/", 1)[-1] not in COUNTERS} == set(), host
