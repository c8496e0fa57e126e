"""`pmrunbook lab`: arguments in, narration on stderr, data on stdout."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from runbook.journal import site_folder
from runbook.lab import estate as estates
from runbook.lab import machine
from runbook.lab.inventory import site_name
from runbook.lab.lab import DEFAULT_NAME, Lab
from runbook.lab.narration import LabError
from runbook.memory import said_folder

EPILOG = (
    "The first `lab up` builds images, which takes some minutes and a network; "
    "later ones need neither."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the lab's subcommands to a parser; `main` carries out what it parsed."""
    parser.epilog = EPILOG
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.add_argument(
            "--name",
            default=DEFAULT_NAME,
            help="which lab; several can run at once (default: default)",
        )
        return added

    up = verb("up", "make the lab, or start it again as it was left")
    up.add_argument(
        "--estate",
        type=Path,
        metavar="FILE",
        help="YAML file with the hosts (default: the guide's site)",
    )
    up.add_argument(
        "--install", action="store_true", help="let apt install what this machine lacks"
    )
    down = verb("down", "power the hosts off; their disks stay")
    down.add_argument("--purge", action="store_true", help="remove disks, keys and records as well")
    reset = verb("reset", "put hosts back to how they were found, and running")
    reset.add_argument("host", metavar="HOST", nargs="*", help="which ones (default: all)")
    status = verb("status", "show the hosts")
    status.add_argument("--json", action="store_true", help="as JSON")
    shell = verb("shell", "log in to a host as the operator")
    shell.add_argument("host", metavar="HOST")
    run = verb("run", "run a command in the lab's network, with its DNS")
    run.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER)


def main(args: argparse.Namespace) -> int:
    """Carry out a parsed command; the exit status is 0, 1 (the reason is on stderr), 2 or 130."""
    try:
        return _perform(args)
    except LabError as error:
        say(f"error: {error.what}")
        say(f"  next: {error.hint}")
        return 1
    except (OSError, subprocess.SubprocessError) as error:
        say(f"error: {error}")
        say("  next: pmrunbook lab status, or the same command again")
        return 1
    except KeyboardInterrupt:
        say("interrupted; what was finished is kept")
        say("  next: pmrunbook lab up goes on, pmrunbook lab down clears it")
        return 130


def say(line: str) -> None:
    """Narrate on stderr; a terminal that was closed stops no work, least of all the cleaning up."""
    with contextlib.suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _perform(args: argparse.Namespace) -> int:
    machine.require_root()
    lab = Lab(args.name)
    match args.verb:
        case "up":
            given = estates.load(args.estate) if args.estate else None
            lab = Lab(args.name, given or (None if lab.exists() else estates.load()))
            lab.up(say, install=args.install)
            say(f"the lab {args.name} is up; its inventory:")
            sys.stdout.write(f"{lab.inventory}\n")
            sys.stdout.flush()
            say(f"  next: pmrunbook --inventory {shlex.quote(str(lab.inventory))}")
        case "down":
            if args.purge:
                forget(lab)
            lab.down(say, purge=args.purge)
        case "reset":
            lab.reset(say, args.host)
            if not args.host:
                forget(lab)
        case "status":
            _show(lab, as_json=args.json)
        case "shell":
            return lab.shell(args.host)
        case "run":
            command = args.command[1:] if args.command[:1] == ["--"] else args.command
            if not command:
                say("error: lab run needs a command")
                say("  next: pmrunbook lab run ping -c1 ns")
                return 2
            return lab.run(command)
    return 0


def forget(lab: Lab) -> None:
    """What tells of disks that are about to be as they never were goes with them."""
    if lab.exists():
        site = site_name(lab.network.name)
        for folder in (site_folder(site), said_folder(site)):
            shutil.rmtree(folder, ignore_errors=True)


def _show(lab: Lab, as_json: bool) -> None:
    hosts = lab.status()
    if as_json:
        data = {
            "name": lab.name,
            "estate": lab.estate.name,
            "release": lab.estate.release,
            "network_namespace": lab.network.name,
            "inventory": str(lab.inventory),
            "hosts": [asdict(host) for host in hosts],
        }
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    for host in hosts:
        state = ("up" if host.ssh else "no ssh") if host.running else "off"
        roles = " ".join(host.roles) or "-"
        sys.stdout.write(f"{host.name:<12} {host.address:<15} {state:<7} {roles}\n")
