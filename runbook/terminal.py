"""A shell for the operator: OpenSSH with what the inventory says, through the same jump hosts."""

from __future__ import annotations

from pathlib import Path

from runbook.model import Host


def shell_command(host: Host) -> list[str]:
    """The argument vector of an interactive ssh to `host`; host keys are checked as strictly."""
    login = host.login
    command = ["ssh", "-t", "-o", "StrictHostKeyChecking=yes"]
    config = Path(login.ssh_config).expanduser() if login.ssh_config else None
    if config is None or not config.exists():
        command += ["-F", "none"]
    elif config != Path("~/.ssh/config").expanduser():
        command += ["-F", str(config)]
    if login.known_hosts:
        files = " ".join(f'"{Path(f).expanduser()}"' for f in login.known_hosts)
        command += ["-o", f"UserKnownHostsFile={files}"]
    for key in login.keys:
        command += ["-i", str(Path(key).expanduser())]
    if login.keys:
        command += ["-o", "IdentitiesOnly=yes"]
    if login.jump:
        command += ["-J", ",".join(login.jump)]
    if login.user:
        command += ["-l", login.user]
    if login.port:
        command += ["-p", str(login.port)]
    return [*command, "--", host.dial]
