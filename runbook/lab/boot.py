"""Whether hosts are up: an answer in time, or an error that names the host and its console."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from runbook.lab.estate import LabHost
from runbook.lab.narration import Say, narrate
from runbook.lab.rack import Rack

BOOT_TIMEOUT = 120.0
"""Seconds within which a host must let the operator in, and a name server must answer."""

SERVER_TIMEOUT = 300.0
"""Seconds a Puppet Server may take to start; Debian's unit allows as many."""

# Debian 12's unit can fail at once: its ExecStartPost looks for the process before it is there
# (Debian bug 1069162).
START_AGAIN = (
    "! systemctl is-failed -q puppetserver || "
    "{ systemctl reset-failed puppetserver; systemctl start --no-block puppetserver; }"
)
ASK_SERVER = "curl -s -k -m 5 https://127.0.0.1:8140/status/v1/simple | grep -q running"
PARALLEL = 16
SERVERS = {"server", "compiler"}
"""Roles with a Puppet Server that runs from the start."""


@dataclass(frozen=True)
class HostStatus:
    """One host in `lab status`; `ssh` tells whether its port is open, `console` is the boot log."""

    name: str
    address: str
    roles: tuple[str, ...]
    running: bool
    ssh: bool
    console: str


def status_of(rack: Rack, host: LabHost) -> HostStatus:
    """What a host is doing now."""
    running = rack.process(host) is not None
    ssh = rack.listens(host, rack.estate.ssh_port)
    console = str(rack.container(host).console)
    return HostStatus(host.name, host.address, host.roles, running, ssh, console)


def boot_all(rack: Rack, hosts: tuple[LabHost, ...], say: Say) -> None:
    """Boot hosts side by side, and wait until they and their services answer.

    A Puppet Server takes both cores for half a minute: it starts last,
    when the others have what they need.
    """
    servers = tuple(host for host in hosts if SERVERS & set(host.roles))
    others = tuple(host for host in hosts if host not in servers)
    with narrate(say, f"booting {len(hosts)} hosts"):
        for host in (*others, *servers):
            rack.boot(host)
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="lab") as pool:
            waits = [pool.submit(wait_for_login, rack, host) for host in hosts]
            try:
                for wait in waits:
                    wait.result()
            except BaseException:
                rack.give_up.set()  # nobody waits for the others' answers any more
                raise
    for host in (*others, *servers):
        wait_for_services(rack, host, say)


def wait_for_login(rack: Rack, host: LabHost) -> None:
    """Wait until the operator can log in, with the lab's key and known_hosts."""
    login = rack.ssh(host.address, "true")

    def lets_in() -> bool:
        # The kernel's table costs nothing to look at; a login is tried only when it can succeed.
        return rack.listens(host, rack.estate.ssh_port) and _succeeds(login)

    rack.wait_for(host, "letting the operator in over ssh", lets_in, BOOT_TIMEOUT)


def wait_for_services(rack: Rack, host: LabHost, say: Say) -> None:
    """Wait until the name server or the Puppet Server on a host answers, if it is one."""
    if {"nameserver", "secondary"} & set(host.roles):
        ask = rack.network.seat(["getent", "ahostsv4", rack.estate.fqdn(host)])
        rack.wait_for(host, "answering DNS queries", lambda: _succeeds(ask), BOOT_TIMEOUT)
    if SERVERS & set(host.roles) and not server_answers(rack, host):
        with narrate(say, f"waiting for Puppet Server on {host.name}"):
            wait_for_server(rack, host)


def wait_for_server(rack: Rack, host: LabHost) -> None:
    """Wait until the Puppet Server on a host says that it runs."""

    def answers() -> bool:
        if server_answers(rack, host):
            return True
        rack.execute(host, START_AGAIN)
        return False

    rack.wait_for(host, "answering as Puppet Server", answers, SERVER_TIMEOUT, pause=1.0)


def server_answers(rack: Rack, host: LabHost) -> bool:
    """Whether the Puppet Server on a host says that it runs."""
    return rack.listens(host, 8140) and rack.execute(host, ASK_SERVER).returncode == 0


def _succeeds(argv: list[str]) -> bool:
    quiet = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return quiet.returncode == 0
