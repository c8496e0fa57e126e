"""The lab itself, on two bare hosts: what it promises to those who rehearse and test on it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runbook.journal import site_folder
from runbook.lab import commands, machine, mirror
from runbook.lab import estate as estates
from runbook.lab.disk import mounts_below
from runbook.lab.estate import Estate, LabHost
from runbook.lab.inventory import site_name
from runbook.lab.lab import Lab
from runbook.lab.narration import LabError
from runbook.memory import said_folder
from tests.lab.conftest import must
from tests.lab.fault_kinds import FREE

pytestmark = pytest.mark.lab

TWO = Estate(
    "two",
    (LabHost("alpha", "192.0.2.11", names=("alias",)), LabHost("beta", "192.0.2.12")),
    ssh_user="ops",
    ssh_port=2222,
)
WATCH = r"""my ($init, $add) = `uname -m` =~ /x86_64/ ? (294, 254) : (26, 27);
my $folder = "/srv/small/sub";
my $fd = syscall($init, 0);
syscall($add, $fd, $folder, 256) >= 0 or die;
open(my $in, "<&=", $fd);
$| = 1;
while (sysread($in, my $event, 4096)) { print "seen\n" if $event =~ /new/ }
"""
"""inotify, as Java has it: of one folder's inode."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")


def name(suffix: str) -> str:
    """A lab's name that no other test run on this machine has."""
    return f"t{os.getpid()}-{suffix}"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labs")


@pytest.fixture(scope="module")
def lab(state: Path) -> Iterator[Lab]:
    lab = Lab(name("a"), TWO, state)
    try:
        lab.up()
        yield lab
    finally:
        lab.down(purge=True)


def remains(lab: Lab) -> list[str]:
    """What of a lab is left on the machine, its folder aside."""
    prefix = f"pmrb-{lab.name}"
    found = [str(path) for path in mounts_below(lab.folder)]
    for folder in (Path("/run/netns"), Path("/etc/netns"), *machine.cgroup_roots()):
        if folder.is_dir():
            found += [str(path) for path in folder.iterdir() if path.name.startswith(prefix)]
    return found


def login(lab: Lab, host: str, command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        lab.ssh(host, command), input=stdin, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_terminal_that_was_closed_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo powers its lab off when its window is closed."""
    went_on = False
    ours, theirs = os.openpty()
    with suppress(OSError), os.fdopen(theirs, "w") as gone:  # as it is closed, it says so again
        os.close(ours)
        monkeypatch.setattr(sys, "stderr", gone)
        commands.say("powering off 2 hosts ...")
        monkeypatch.undo()
        went_on = True
    assert went_on


@needs_root
class TestRunning:
    def test_the_operator_logs_in_and_needs_a_password_for_sudo(self, lab: Lab) -> None:
        assert [(host.running, host.ssh) for host in lab.status()] == [(True, True)] * 2
        assert login(lab, "alpha", "id -un; hostname -f").stdout == "ops\nalpha.lab.test\n"
        assert login(lab, "alpha", "sudo -n true").returncode != 0
        password = lab.credentials.sudo_password.read_text()
        assert login(lab, "beta", "sudo -S -p '' id -u", password).stdout == "0\n"

    def test_secrets_are_for_root_only(self, lab: Lab) -> None:
        assert lab.folder.stat().st_mode & 0o777 == 0o700
        secret = ("id_ed25519", "sudo-password", "tsig.secret", "tsig.key")
        modes = {file: (lab.folder / file).stat().st_mode & 0o777 for file in secret}
        assert modes == dict.fromkeys(secret, 0o600)

    def test_names_resolve_and_nothing_leads_out(self, lab: Lab) -> None:
        inside = "getent hosts alias.lab.test; ip route; ping -c1 -W2 beta >/dev/null && echo pong"
        out = lab.execute("alpha", inside).stdout
        assert out.startswith("192.0.2.11") and out.endswith("pong\n")
        assert "default" not in out

    def test_packages_install_without_a_network(self, lab: Lab) -> None:
        done = lab.execute("beta", "apt-get install -qq -y rsync 2>&1; rsync --version | head -1")
        assert "rsync  version 3" in done.stdout

    def test_a_login_changes_no_file_and_a_change_is_seen(self, lab: Lab) -> None:
        login(lab, "alpha", "true")
        before = lab.marks("alpha")
        password = lab.credentials.sudo_password.read_text()
        assert login(lab, "alpha", "sudo -S -p '' cat /etc/shadow", password).returncode == 0
        assert lab.changed_files("alpha", before) == []
        script = "echo x >> /etc/hosts; rm /etc/issue; chmod 700 /srv; mkdir /opt/new; cd /etc"
        lab.execute("alpha", f"{script}; touch -r hosts keep; mv keep hosts.d")
        assert lab.changed_files("alpha", before) == [
            "/etc/hosts",
            "/etc/hosts.d",
            "/etc/issue",
            "/opt/new",
            "/srv",
        ]

    def test_a_second_lab_has_the_same_addresses_at_the_same_time(
        self, lab: Lab, state: Path
    ) -> None:
        other = Lab(name("b"), TWO, state)
        try:
            other.up()
            lab.execute("alpha", "echo first > /tmp/which")
            other.execute("alpha", "echo second > /tmp/which")
            assert login(lab, "alpha", "cat /tmp/which").stdout == "first\n"
            assert login(other, "alpha", "cat /tmp/which").stdout == "second\n"
        finally:
            other.down(purge=True)
        assert remains(other) == []
        assert not other.folder.exists()
        assert login(lab, "alpha", "true").returncode == 0

    def test_a_cut_link_leaves_the_host_running(self, lab: Lab) -> None:
        lab.pause_link("beta")
        try:
            assert lab.execute("alpha", "ping -c1 -W1 beta").returncode != 0
            assert lab.execute("beta", "echo alive").stdout == "alive\n"
        finally:
            lab.restore_link("beta")
        assert lab.execute("alpha", "ping -c1 -w10 beta").returncode == 0

    def test_a_full_disk_keeps_what_was_there(self, lab: Lab) -> None:
        lab.fill_disk("beta", "/etc/apt", size="1m")
        refused = lab.execute("beta", "cat /etc/apt/sources.list; cp /etc/passwd /etc/apt/new")
        assert "/srv/repo" in refused.stdout
        assert "No space left" in refused.stderr
        lab.free_disk("beta", "/etc/apt")
        assert lab.execute("beta", "touch /etc/apt/new").returncode == 0

    def test_who_watches_a_folder_still_does_once_its_disk_has_room_again(self, lab: Lab) -> None:
        perl = f"perl -e {shlex.quote(WATCH)}; sleep 1"
        must(lab.execute("beta", f"mkdir -p /srv/small/sub; systemd-run -q --unit=early {perl}"))
        lab.fill_disk("beta", "/srv/small", size="1m")
        room = "rm /srv/small/.full; echo it >/srv/small/sub/kept"
        must(lab.execute("beta", f"{room}; systemd-run -q --unit=late {perl}"))
        must(lab.execute("beta", f"p=/srv/small\n{FREE}\nsleep 1"))
        told = "cat /srv/small/sub/kept; touch /srv/small/sub/new; sleep 1; "
        told += "for u in early late; do journalctl -q -o cat -u $u | grep -x seen; done"
        assert lab.execute("beta", told).stdout.split() == ["it", "seen", "seen"]

    def test_a_clock_is_wrong_on_one_host_alone(self, lab: Lab) -> None:
        """For all that starts there from now on; what measures how long it takes is right."""
        lab.skew_clock("beta", -3600)
        try:
            ask = "date +%s; perl -MTime::HiRes=clock_gettime -e 'print clock_gettime(1)'"
            told, up = login(lab, "beta", ask).stdout.split()
            assert abs(time.time() - 3600 - int(told)) < 60
            assert float(up) <= time.clock_gettime(time.CLOCK_MONOTONIC)
            lab.skew_clock("beta", 3600)
            root = f"echo {lab.credentials.sudo_password.read_text().strip()} | sudo -S date +%s"
            assert abs(time.time() + 3600 - int(login(lab, "beta", root).stdout)) < 60
            unit = "systemd-run --quiet --pipe --wait date +%s"
            assert abs(time.time() + 3600 - int(lab.execute("beta", unit).stdout)) < 60
            assert abs(time.time() - int(login(lab, "alpha", "date +%s").stdout)) < 60
        finally:
            lab.right_clock("beta")
        assert abs(time.time() - int(login(lab, "beta", "date +%s").stdout)) < 60

    def test_a_swapped_host_key_is_refused(self, lab: Lab) -> None:
        lab.swap_host_key("beta")
        refused = login(lab, "beta", "true")
        assert refused.returncode == 255
        assert "Host key verification failed" in refused.stderr
        lab.reset(hosts=["beta"])
        assert login(lab, "beta", "ls /etc/apt/new").returncode == 2

    def test_disks_survive_a_reboot_and_go_back_to_a_snapshot(self, lab: Lab) -> None:
        lab.execute("beta", "echo one > /root/state; rm /etc/issue.net")
        lab.snapshot("beta", "one")
        assert lab.execute("beta", "cat /root/state").stdout == "one\n"
        lab.execute("beta", "echo two > /root/state")
        lab.restore("beta", "one")
        assert lab.execute("beta", "cat /root/state").stdout == "one\n"
        assert lab.execute("beta", "cat /etc/issue.net").returncode != 0

    def test_what_was_written_of_its_disks_goes_with_them(
        self, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = []
        for variable, folder in (("XDG_STATE_HOME", site_folder), ("XDG_CACHE_HOME", said_folder)):
            monkeypatch.setenv(variable, str(tmp_path / variable))
            for site in (site_name(lab.network.name), "another"):
                folders.append(folder(site))
                folders[-1].mkdir(parents=True)
        commands.forget(lab)
        assert [folder.exists() for folder in folders] == [False, True] * 2

    def test_hosts_that_were_killed_hard_are_cleared_and_boot_again(self, lab: Lab) -> None:
        lab.execute("alpha", "echo kept > /root/state; sync")
        for host in lab.estate.hosts:
            os.kill(lab.rack.needs_running(host).pid, signal.SIGKILL)
        time.sleep(0.2)
        assert [host.running for host in lab.status()] == [False, False]
        said: list[str] = []
        lab.up(said.append)
        assert any("clearing" in line for line in said)
        assert login(lab, "alpha", "true").returncode == 0
        assert lab.execute("alpha", "cat /root/state").stdout == "kept\n"


@needs_root
def test_a_killed_up_leaves_nothing_that_down_does_not_clear(state: Path) -> None:
    lab = Lab(name("c"), TWO, state)
    script = (
        "import sys; from pathlib import Path; from runbook.lab.lab import Lab\n"
        "from test_lab import TWO\n"
        "Lab(sys.argv[1], TWO, Path(sys.argv[2])).up()\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.pathsep.join(sys.path)}"}
    up = subprocess.Popen([sys.executable, "-c", script, lab.name, str(state)], env=env)
    end = time.monotonic() + 60
    while not (lab.exists() and len(lab.rack.record.processes) == 2) and time.monotonic() < end:
        time.sleep(0.02)
    up.kill()
    up.wait()
    assert remains(lab)
    lab.down()
    assert remains(lab) == []
    lab.down(purge=True)
    assert not lab.folder.exists()


@needs_root
def test_a_namespace_of_somebody_else_is_left_alone(state: Path) -> None:
    lab = Lab(name("d"), TWO, state)
    subprocess.run(["ip", "netns", "add", f"pmrb-{lab.name}"], check=True)
    try:
        with pytest.raises(LabError, match="did not make it"):
            lab.up()
        lab.down(purge=True)
        assert Path(f"/run/netns/pmrb-{lab.name}").exists()
    finally:
        subprocess.run(["ip", "netns", "delete", f"pmrb-{lab.name}"], check=True)


def test_the_default_estate_is_what_the_guide_starts_from() -> None:
    estate = estates.load()
    assert estates.parse(estate.data()) == estate
    assert estate.agents_server == "puppet.lab.test"
    server = estate.having("server")[0]
    assert "ca" in server.names
    assert "ca.lab.test" not in server.cert_names


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "hosts: there are none"),
        ("- a", "the estate must be a mapping"),
        ("hosts: {a: {address: 10.0.0.1}}", "is not in 192.0.2.0/24"),
        ("hosts: {a: {address: 192.0.2.9, role: [server]}}", "unknown key hosts.a.role"),
        ("hosts: {a: {address: 192.0.2.9, roles: [king]}}", "unknown role 'king'"),
        ("hosts: {a: {address: 192.0.2.1}}", "that of the operator's seat"),
        ("hosts: {a: {address: 192.0.2.9, roles: [agent]}}", "agents need a server"),
        ("{release: potato, hosts: {a: {address: 192.0.2.9}}}", "release 'potato'"),
        ("hosts: {a: *b}", "is no YAML"),
        ("{code: no/where.yaml, hosts: {a: {address: 192.0.2.9}}}", "cannot read"),
        ("{code: /no/where.yaml, hosts: {a: {address: 192.0.2.9}}}", "cannot read /no/where.yaml"),
    ],
)
def test_a_wrong_estate_is_refused_with_the_reason(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "estate.yaml"
    path.write_text(text)
    with pytest.raises(LabError) as caught:
        estates.load(path)
    assert problem in caught.value.what
    assert caught.value.hint


def test_sources_are_read_in_both_forms_and_pointed_at_a_release(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text(
        "# a comment\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] "
        "http://mirror.test/debian bookworm main\n"
        "deb-src http://mirror.test/debian bookworm main\n"
        "deb http://vendor.test/apt nodistro main\n"
    )
    (parts / "debian.sources").write_text(
        "Types: deb deb-src\nURIs: http://security.test/debian\nSuites: bookworm-security\n"
        "Components: main contrib\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
        "\n"
        "Types: deb\nEnabled: no\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n"
    )
    text = mirror.sources_for("trixie", tmp_path)
    assert text == (
        "Types: deb\nURIs: http://mirror.test/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/k.gpg\n"
        "\n"
        "Types: deb\nURIs: http://security.test/debian\nSuites: trixie-security\nComponents: main\n"
        "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )
