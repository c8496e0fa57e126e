"""Arguments in, a command out; imports what a command needs only when it runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runbook import __version__
from runbook.errors import Exit, RunbookError, UsageError

if TYPE_CHECKING:
    from runbook.mission import Mission
    from runbook.model import Site
    from runbook.plain import Plain

NETNS = "PMRUNBOOK_NETNS"  # set once the network namespace of the site was entered
INVENTORY = "PMRUNBOOK_INVENTORY"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def parser(*, lab_too: bool = True) -> argparse.ArgumentParser:
    """The command line; the lab is a world of its own, its arguments are loaded when asked for."""
    top = argparse.ArgumentParser(
        prog="pmrunbook",
        description="Scale an open-source Puppet Server safely: see before, approve, "
        "verify after, resume, undo, prove.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage or inventory, 3 unreachable, 4 trust, "
        "5 the state refuses, 6 locked, 7 waits for the operator, 8 an outcome is unknown, "
        "130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"pmrunbook {__version__}")
    _common(top)
    how = top.add_argument_group("what to run")
    how.add_argument("--dry-run", action="store_true", help="read the hosts, show the plan, stop")
    how.add_argument("--offline", action="store_true", help="with --dry-run: open no socket")
    how.add_argument("--resume", action="store_true", help="go on with the run that was broken off")
    how.add_argument("--new", action="store_true", help="plan afresh although a run is unfinished")
    how.add_argument(
        "--step",
        action="append",
        default=[],
        metavar="STEP",
        help="only this step, and what of its needs was not proved within 12 hours",
    )
    how.add_argument("--host", action="append", default=[], metavar="HOST", help="change only it")
    _answers(top)
    verbs = top.add_subparsers(dest="topic", metavar="COMMAND")
    _verify(verbs.add_parser("verify", help="ask every check again; changes nothing"))
    status = verbs.add_parser("status", help="where the last run stands")
    _common(status, again=True)
    _json(status)
    _from_site(status)
    log = verbs.add_parser("log", help="what happened, or what one host said")
    _common(log, again=True)
    _json(log)
    log.add_argument("of", nargs="?", default="", metavar="HOST")
    report = verbs.add_parser("report", help="the evidence of all runs: a page, or for programs")
    _report(report)
    _from_site(report)
    undo = verbs.add_parser("undo", help="take back a step, or all down to one, from the backups")
    _common(undo, again=True)
    _answers(undo, again=True)
    undo.add_argument("steps", nargs="?", metavar="STEP")
    undo.add_argument(
        "--to", metavar="STEP", help="all that was done in this step and after it, the last first"
    )
    undo.add_argument("--dry-run", action="store_true", help="show what would be taken back")
    include = verbs.add_parser("include", help="take a host in again that was left out")
    _common(include, again=True)
    include.add_argument("hosts", nargs="+", metavar="HOST")
    validate = verbs.add_parser("validate", help="every problem of an inventory at once")
    _common(validate, again=True)
    validate.add_argument("file", nargs="?", type=Path, metavar="FILE")
    lock = verbs.add_parser("lock", help="who holds the site's lock; break it")
    _common(lock, again=True)
    lock.add_argument("what", choices=["status", "break"])
    lock.add_argument("--reason", default="", help="why it may be broken")
    debts = verbs.add_parser("debts", help="temporary changes that are still there")
    _common(debts, again=True)
    _answers(debts, again=True)
    either = debts.add_mutually_exclusive_group()
    either.add_argument("--repay", action="store_true", help="end them now")
    _from_site(either)
    dns = verbs.add_parser("dns", help="which share of the agents each server is to get")
    _common(dns, again=True)
    _json(dns)
    dns.add_argument("what", choices=["plan"])
    dns.add_argument(
        "--down", action="append", default=[], metavar="HOST", help="as if this server were down"
    )
    lab = verbs.add_parser("lab", help="a real Puppet estate on this machine, to rehearse on")
    if lab_too:
        from runbook.lab.commands import add_arguments

        add_arguments(lab)
    return top


def _common(to: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Options every command takes; `again` keeps what stood before the command's name."""
    nothing = argparse.SUPPRESS if again else None
    to.add_argument(
        "-i",
        "--inventory",
        type=Path,
        default=nothing,
        metavar="FILE",
        help=f"the site (default: ${INVENTORY}, ./inventory.yaml, the default lab)",
    )
    to.add_argument(
        "--runbook", default=nothing or "scaling", help="an installed runbook (default: scaling)"
    )


def _answers(to: argparse.ArgumentParser, *, again: bool = False) -> None:
    def default(value: object) -> object:
        return argparse.SUPPRESS if again else value

    group = to.add_argument_group("faces and answers")
    group.add_argument(
        "--plain", action="store_true", default=default(False), help="lines instead of screens"
    )
    group.add_argument(
        "--json", action="store_true", default=default(False), help="the events, one a line"
    )
    group.add_argument(
        "--scripts",
        action="store_true",
        default=default(False),
        help="with --plain: show what each action runs on its host, too",
    )
    group.add_argument(
        "-y",
        "--yes",
        action="store_true",
        default=default(False),
        help="approve every plan but the cut-over; without screens",
    )
    group.add_argument(
        "--cut-over",
        default=default(""),
        metavar="NAME",
        help="approve the cut-over of this service name",
    )
    group.add_argument(
        "--on-failure",
        default=default(""),
        choices=["retry", "exclude", "undo", "force", "quit"],
        help="the answer to a failure (retry: once; force: in an undo, put back what was there "
        "before, over what somebody changed since)",
    )


def _json(to: argparse.ArgumentParser) -> None:
    to.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")


def _report(to: argparse.ArgumentParser) -> None:
    _common(to, again=True)
    to.add_argument(
        "--format",
        choices=["md", "html", "json", "junit"],
        default="",
        help="Markdown; one HTML page that needs nothing beside itself; JSON; JUnit XML "
        "(default: by the ending of --output, else Markdown)",
    )
    to.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write it there, not to stdout"
    )
    to.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="as --format json"
    )


def _from_site(to: argparse._ActionsContainer) -> None:
    to.add_argument(
        "--from-site",
        action="store_true",
        help="not of this machine's runs: of the site's, whoever ran them, from where its lock is",
    )


def _verify(to: argparse.ArgumentParser) -> None:
    _common(to, again=True)
    _answers(to, again=True)
    to.add_argument("--step", action="append", default=argparse.SUPPRESS, metavar="STEP")
    to.add_argument(
        "what",
        nargs="?",
        default="",
        metavar="TOPIC",
        help="only this: code (every server has the same), catalogs (every server compiles the "
        "same), journal (nothing that was written down was changed or is gone)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (docs/reference/exit-codes.md)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parser(lab_too=arguments[:1] == ["lab"]).parse_args(arguments)
        return _command(args, arguments)
    except RunbookError as error:
        from runbook.output import say

        say(f"pmrunbook: {error}", to=sys.stderr)
        if error.hint:
            say(f"  next: {error.hint}", to=sys.stderr)
        return int(error.exit)
    except BrokenPipeError:
        # Whoever read us has enough; Python's own farewell would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.DONE)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)


def _command(args: argparse.Namespace, arguments: list[str]) -> int:
    if args.topic == "lab":
        from runbook.lab.commands import main as lab

        return lab(args)
    file = getattr(args, "file", None) or find_inventory(args.inventory)
    if args.topic == "validate":
        from runbook.reading import show_problems

        return show_problems(file)
    from runbook.inventory import load

    site = load(file)
    if getattr(args, "from_site", False):
        enter_network(site, arguments)
        from runbook import reading
        from runbook.handover import fetch
        from runbook.mission import load_runbook

        there = fetch(site, load_runbook(args.runbook).lock_host(site))
        return reading.command(args, site, there)
    if args.topic in ("status", "log", "report") or (args.topic == "debts" and not args.repay):
        from runbook import reading

        return reading.command(args, site)
    if args.topic == "dns":
        from runbook.dns_plan import command as dns_plan

        return dns_plan(site, args.down, as_json=args.json)
    if args.topic == "include":
        from runbook.mission import include

        return include(site, tuple(args.hosts))
    if args.topic is None and args.dry_run and args.offline:
        from runbook.mission import load_runbook
        from runbook.reading import offline

        return offline(site, load_runbook(args.runbook), tuple(args.step))
    if args.offline:
        raise UsageError("--offline goes with --dry-run")
    enter_network(site, arguments)
    if args.topic == "lock":
        from runbook.locking import command

        return command(args, site)
    if args.topic == "verify" and args.what == "journal":
        from runbook.handover import verify_journal
        from runbook.mission import load_runbook, operator

        return verify_journal(site, load_runbook(args.runbook).lock_host(site), operator())
    return _mission(args, site)


def find_inventory(given: Path | None) -> Path:
    """The inventory asked for, or the one that stands to reason; UsageError when there is none."""
    if given:
        return given
    if named := os.environ.get(INVENTORY):
        return Path(named)
    here = Path("inventory.yaml")
    if here.exists():
        return here
    from runbook.journal import state_home

    lab = state_home() / "labs" / "default" / "inventory.yaml"
    if lab.exists():
        return lab
    raise UsageError(
        "there is no inventory",
        hint="name one with --inventory FILE, or rehearse on a lab: pmrunbook lab up",
    )


def enter_network(site: Site, arguments: list[str]) -> None:
    """Run this very command again inside the site's network namespace, with its resolver.

    `ip netns exec` also mounts the namespace's own resolv.conf, which entering it by setns(2)
    would not.
    """
    if not site.netns or os.environ.get(NETNS) == site.netns:
        return
    if not Path("/run/netns", site.netns).exists():
        from runbook.journal import state_home

        lab = Path(site.source).parent
        named = lab.parent == state_home() / "labs" and lab.name != "default"
        raise UsageError(
            f"the network namespace {site.netns} does not exist",
            hint=f"pmrunbook lab up --name {lab.name}" if named else "pmrunbook lab up",
        )
    if os.geteuid() != 0:
        raise UsageError("entering a network namespace needs root", hint="sudo pmrunbook ...")
    os.environ[NETNS] = site.netns
    command = ["ip", "netns", "exec", site.netns, sys.executable, "-m", "runbook", *arguments]
    os.execvp(command[0], command)  # noqa: S606  # no shell is wanted


def _mission(args: argparse.Namespace, site: Site) -> int:
    from runbook.mission import Mission, load_runbook

    mode = args.topic or ("dry-run" if args.dry_run else "resume" if args.resume else "run")
    if args.topic == "debts":
        mode = "repay"
    if args.topic == "undo" and args.dry_run:
        mode = "undo-dry-run"
    steps = tuple(args.step)
    if args.topic == "undo":
        steps = tuple(name for name in (args.steps, args.to) if name)
        if len(steps) != 1:
            raise UsageError("undo takes one STEP, or --to STEP")
    unknown = [name for name in args.host if name not in {h.name for h in site.hosts}]
    if unknown:
        raise UsageError(f"{unknown[0]} is not in the inventory", hint=f"look at {site.source}")
    topic = args.what if args.topic == "verify" else ""
    if topic and steps:
        raise UsageError("verify takes a topic or --step, not both")
    mission = Mission(
        site,
        load_runbook(args.runbook),
        mode,
        steps=steps,
        hosts=tuple(args.host),
        new=args.new,
        topic=topic,
        down_to=args.topic == "undo" and bool(args.to),
    )
    # Textual draws on stderr; a screen needs both ends to be a terminal.
    terminal = sys.stdin.isatty() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if terminal and not (args.plain or args.json or args.yes):
        from runbook.tui import run

        return run(mission)
    from runbook.plain import Plain

    face = Plain(
        yes=args.yes,
        cut_over=args.cut_over,
        on_failure=args.on_failure,
        as_json=args.json,
        interactive=sys.stdin.isatty() and sys.stderr.isatty(),
        scripts=args.scripts,
    )
    return run_plain(mission, face)


def run_plain(mission: Mission, face: Plain) -> int:
    """Run it in a thread of its own, so that signals are heard while hosts are at work."""
    codes: list[int] = []
    done = threading.Event()

    def work() -> None:
        try:
            codes.append(mission.run(face))
        finally:
            done.set()

    def now(*_: object) -> None:
        face.give_back()
        os._exit(int(Exit.INTERRUPTED))

    def leave(number: int, _frame: object) -> None:
        # The second time at once: the journal is on the disk, and jobs go on where they run.
        signal.signal(number, now)
        face.stopped.set()
        mission.stop()

    face.shell = mission.shell

    # One that is ignored (nohup, a job in the background of a script) stays so.
    heard = [n for n in SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {name: signal.signal(name, leave) for name in heard}
    try:
        thread = threading.Thread(target=work, name="mission")
        thread.start()
        done.wait()
        thread.join()
    finally:
        # Whoever called is not this run: a second signal must not end the process at once.
        for name, handler in before.items():
            signal.signal(name, handler)
    return codes[0] if codes else int(Exit.FAILED)
