"""How fast the SSH layer is, as ratios measured in one run against a real sshd on loopback.

    python -m tests.bench.bench_ssh [--rounds N] [--rivals DIR] [--no-rivals]

Needs root (it starts sshds) and OpenSSH. pyinfra and Ansible are installed into a virtual
environment of their own below ~/.cache/pmrunbook/bench; without a network they are left out, and
it says so. Rounds are interleaved and medians compared, so a busy machine harms all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fabric import Config, Connection
from paramiko import RejectPolicy, SSHConfig

from runbook.model import CertificateAuthority, Host, Login, Read, Secret, Site
from runbook.ports import Job
from runbook.ssh import Hosts
from runbook.ssh.frame import clean
from tests.ssh.conftest import free_port, keygen, wait_for

READS = 100
HOSTS = 50
PORTS = 16  # as many as one sshd listens on
SIDE_BY_SIDE = 16
PROBES = tuple(f"cat /proc/loadavg; [ -e /etc/hosts ]; echo {n}" for n in range(20))
BIG = 4 * 1024 * 1024
PRODUCE = f"yes 0123456789abcde | head -c {BIG}"

Contender = Callable[[], object]


class Bench:
    """Sshds that listen on fifty ports together, and everything needed to reach them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(HOSTS)]
        self.key = keygen(folder / "id")
        host_key = keygen(folder / "host")
        public = " ".join(Path(f"{host_key}.pub").read_text().split()[:2])
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(
            "".join(f"[127.0.0.1]:{port} {public}\n" for port in self.ports)
        )
        self.config = folder / "ssh_config"
        self.config.write_text(
            "".join(f"Host h{n}\n  Port {port}\n" for n, port in enumerate(self.ports))
            + f"Host *\n  HostName 127.0.0.1\n  User root\n  IdentityFile {self.key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n  LogLevel ERROR\n"
            f"  ControlPath {folder}/mux-%n\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._daemons = [
            self._start(number, self.ports[number : number + PORTS], host_key)
            for number in range(0, HOSTS, PORTS)
        ]

    def _start(self, number: int, ports: list[int], host_key: Path) -> subprocess.Popen[bytes]:
        config, log = self.folder / f"sshd{number}", self.folder / f"log{number}"
        config.write_text(
            "".join(f"Port {port}\n" for port in ports)
            + f"ListenAddress 127.0.0.1\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"HostKey {host_key}\nAuthorizedKeysFile {self.key}.pub\nMaxStartups 500\n"
            "MaxSessions 200\nUseDNS no\nSubsystem sftp internal-sftp\n"
            # the start-up files of this machine's root would be measured otherwise
            f"SetEnv HOME={self.folder}\n"
        )
        daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(config), "-E", str(log)])
        wait_for(lambda: log.exists() and log.read_text().count("listening") >= len(ports))
        return daemon

    def close(self) -> None:
        for daemon in self._daemons:
            daemon.terminate()
            daemon.wait()

    def host(self, number: int) -> Host:
        login = Login(
            user="root",
            port=self.ports[number],
            keys=(str(self.key),),
            known_hosts=(str(self.known_hosts),),
            ssh_config="",
            agent=False,
            sudo=False,
        )
        return Host(f"h{number}", "127.0.0.1", login=login)

    def hosts(self) -> Hosts:
        site = Site("bench", (), "puppet", CertificateAuthority("ca", "ca"))
        return Hosts(site, lambda _: Secret(""), spool=str(self.folder / "spool"))

    def ssh(self, *words: str, script: str = "") -> str:
        done = subprocess.run(
            ["ssh", "-F", str(self.config), *words],
            input=script,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


def compare(
    title: str, aims: dict[str, float], contenders: dict[str, Contender], rounds: int
) -> None:
    """Runs the contenders in turn, prints the first one's ratio to each of the others."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(of) for name, of in times.items()}
    ours = next(iter(contenders))
    print(f"\n{title}")
    for name, median in medians.items():
        spread = f"{min(times[name]) * 1000:.0f}..{max(times[name]) * 1000:.0f}"
        line = f"  {name:<44} {median * 1000:9.1f} ms  ({spread})"
        if name != ours:
            ratio = medians[ours] / median
            aim = aims.get(name)
            line += f"   we need {ratio:.3f}x"
            if aim is not None:
                line += f" (aim {aim}x: {'met' if ratio <= aim else 'MISSED'})"
        print(line, flush=True)


def expect(text: str, wanted: str) -> None:
    if wanted not in text:
        raise SystemExit(f"a contender did not do its work: {text[:200]!r}")


# --- the comparisons ------------------------------------------------------------------------------


def reads(bench: Bench, rounds: int) -> None:
    hosts = bench.hosts()
    reader = hosts.reader(bench.host(0))
    script = "echo $((6 * 7)); [ -d /etc ]"
    batch = [Read(str(n), script) for n in range(READS)]
    reader.read(batch[:1])
    master = subprocess.Popen(["ssh", "-F", str(bench.config), "-MN", "h0"])
    wait_for(lambda: (bench.folder / "mux-h0").exists())
    fabric = Connection(
        "127.0.0.1",
        user="root",
        port=bench.ports[0],
        config=Config(ssh_config=SSHConfig()),
        connect_kwargs={"key_filename": str(bench.key), "allow_agent": False},
    )
    fabric.client.load_host_keys(str(bench.known_hosts))
    fabric.client.set_missing_host_key_policy(RejectPolicy())
    fabric.open()

    def ours() -> None:
        readings = reader.read(batch)
        if any(r.out != "42\n" for r in readings.values()) or len(readings) != READS:
            raise SystemExit("a read went wrong")

    def shared() -> None:
        for _ in range(READS):
            expect(bench.ssh("h0", script), "42")

    def plain_fabric() -> None:
        for _ in range(READS):
            expect(fabric.run(script, hide=True, in_stream=False).stdout, "42")

    try:
        compare(
            f"{READS} reads on an open connection",
            {"OpenSSH, shared connection": 0.05},
            {
                "pmrunbook, one batch": ours,
                "OpenSSH, shared connection": shared,
                "Fabric as it comes": plain_fabric,
            },
            rounds,
        )
    finally:
        fabric.close()
        master.terminate()
        master.wait()
        hosts.close()


def survey(bench: Bench, rounds: int, rivals: Path | None) -> None:
    script = "\n".join(f"( {probe} )" for probe in PROBES) + "\n"
    batch = [Read(str(n), probe) for n, probe in enumerate(PROBES)]

    def ours() -> None:
        hosts = bench.hosts()

        def one(number: int) -> str:
            return hosts.reader(bench.host(number)).read(batch)["19"].out

        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            for said in pool.map(one, range(HOSTS)):
                expect(said, "19")
        hosts.close()

    def in_turn() -> None:
        for number in range(HOSTS):
            expect(bench.ssh(f"h{number}", "sh", "-s", script=script), "19")

    def together() -> None:
        def one(number: int) -> str:
            return bench.ssh(f"h{number}", "sh", "-s", script=script)

        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            for said in pool.map(one, range(HOSTS)):
                expect(said, "19")

    contenders: dict[str, Contender] = {
        "pmrunbook": ours,
        "plain ssh, host after host": in_turn,
        f"plain ssh, {SIDE_BY_SIDE} at a time": together,
    }
    if rivals:
        contenders |= _rivals(bench, rivals, script)
    compare(
        f"connect to {HOSTS} hosts and read {len(PROBES)} things on each",
        {"plain ssh, host after host": 0.25, "pyinfra": 0.7, "Ansible as it comes": 0.07},
        contenders,
        max(1, rounds // 2),
    )


def _rivals(bench: Bench, rivals: Path, script: str) -> dict[str, Contender]:
    """pyinfra and Ansible with all probes as one command: the best case for them."""
    command = f"sh -c {shlex.quote(script)}"
    inventory = bench.folder / "pyinfra_hosts.py"
    options = {
        "ssh_user": "root",
        "ssh_hostname": "127.0.0.1",
        "ssh_key": str(bench.key),
        "ssh_known_hosts_file": str(bench.known_hosts),
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
    }
    listed = [(f"h{n}", {**options, "ssh_port": port}) for n, port in enumerate(bench.ports)]
    inventory.write_text(f"hosts = {listed!r}\n")
    hosts = bench.folder / "ansible_hosts"
    hosts.write_text("".join(f"h{n}\n" for n in range(HOSTS)))
    environment = os.environ | {
        "ANSIBLE_SSH_ARGS": f"-F {bench.config} -o ControlMaster=no -o ControlPath=none",
        "ANSIBLE_HOME": str(bench.folder / "ansible"),
        "LC_ALL": "C.UTF-8",
    }

    def run(*words: str, **more: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, env=environment | more)
        if done.returncode:
            raise SystemExit(f"{words[0]} failed:\n{done.stdout[-800:]}\n{done.stderr[-800:]}")

    def pyinfra() -> None:
        run(str(rivals / "bin/pyinfra"), "-y", str(inventory), "exec", "--", command)

    def ansible(**more: str) -> None:
        there = f"ansible_python_interpreter={rivals}/bin/python"
        words = ("-i", str(hosts), "all", "-m", "shell", "-e", there, "-a", script)
        run(str(rivals / "bin/ansible"), *words, **more)

    def tuned() -> None:
        ansible(ANSIBLE_PIPELINING="1", ANSIBLE_FORKS=str(SIDE_BY_SIDE))

    found: dict[str, Contender] = {}
    for name, program, contender in (
        ("pyinfra", "pyinfra", pyinfra),
        ("Ansible as it comes", "ansible", ansible),
        (f"Ansible, pipelining, {SIDE_BY_SIDE} forks", "ansible", tuned),
    ):
        if (rivals / "bin" / program).exists():
            found[name] = contender
        else:
            print(f"left out: {name} is not installed in {rivals}")
    return found


def output(bench: Bench, rounds: int) -> None:
    hosts = bench.hosts()
    reader = hosts.reader(bench.host(0))
    writer = hosts.writers().writer(bench.host(0))
    reader.read([Read("warm", ":")])
    master = subprocess.Popen(["ssh", "-F", str(bench.config), "-MN", "h0"])
    wait_for(lambda: (bench.folder / "mux-h0").exists())
    numbers = iter(range(1000))

    def read() -> None:
        said = reader.read([Read("big", PRODUCE, limit=BIG)])["big"].out
        if len(said) != BIG:
            raise SystemExit(f"{len(said)} of {BIG} bytes came")

    def job() -> None:
        size = 0

        def count(line: str) -> None:
            nonlocal size
            size += len(line) + 1

        job = Job(f"big{next(numbers)}", PRODUCE, 60)
        writer.run(job, count, threading.Event())
        if size != BIG:
            raise SystemExit(f"{size} of {BIG} bytes came")

    def shared() -> None:
        if len(clean(bench.ssh("h0", PRODUCE).encode())) != BIG:
            raise SystemExit("ssh did not deliver")

    try:
        compare(
            "4 MB of output",
            {"OpenSSH, shared connection": 1.0},
            {"pmrunbook, a read": read, "OpenSSH, shared connection": shared},
            rounds,
        )
        compare(
            "the same as a durable job", {}, {"pmrunbook, a job": job, "OpenSSH": shared}, rounds
        )
    finally:
        master.terminate()
        master.wait()
        hosts.close()


def version(rounds: int) -> None:
    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    compare(
        "pmrunbook --version (we may need 3x)",
        {"bare python": 3.0},
        {
            "pmrunbook --version": lambda: run("-m", "runbook", "--version"),
            "bare python": lambda: run("-c", "pass"),
        },
        max(rounds, 7),
    )


# --- running --------------------------------------------------------------------------------------


def install(rivals: Path) -> Path | None:
    """The virtual environment with pyinfra and Ansible; None, said aloud, when it cannot be had."""
    if not (rivals / "bin/pyinfra").exists():
        print(f"installing pyinfra and Ansible into {rivals} ...", flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(rivals)], check=True)
            pip = [str(rivals / "bin/pip"), "install", "-q", "pyinfra", "ansible-core"]
            subprocess.run(pip, check=True)
        except subprocess.CalledProcessError as error:
            print(f"left out: pyinfra and Ansible could not be installed ({error})")
            return None
    return rivals


@contextlib.contextmanager
def running() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="pmrunbook-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            yield bench
        finally:
            bench.close()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--rivals", type=Path, default=Path("~/.cache/pmrunbook/bench"))
    arguments.add_argument("--no-rivals", action="store_true")
    given = arguments.parse_args()
    if os.geteuid() or not shutil.which("ssh") or not Path("/usr/sbin/sshd").exists():
        print("this needs root, ssh and /usr/sbin/sshd", file=sys.stderr)
        return 2
    rivals = None if given.no_rivals else install(given.rivals.expanduser())
    with running() as bench:
        reads(bench, given.rounds)
        survey(bench, given.rounds, rivals)
        output(bench, given.rounds)
    version(given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
