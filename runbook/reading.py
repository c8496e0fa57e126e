"""Commands that only read what is on the operator's disk: validate, status, log, report, debts."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from runbook.errors import Exit, UsageError
from runbook.journal import read, site_folder
from runbook.model import Event, Facts, Later, Runbook, Site, Status
from runbook.output import say
from runbook.plain import Plain
from runbook.state import RunState, fold
from runbook.symbols import STATUS, ascii_only, span, verdict


def show_problems(file: Path) -> int:
    """Every problem of the inventory, one a line; exit 2 when one of them is an error."""
    from runbook.inventory import validate

    problems = validate(file)
    say(*(str(p) for p in problems))
    errors = sum(p.severity == "error" for p in problems)
    if not problems:
        say(f"{file}: ok")
    return int(Exit.USAGE if errors else Exit.DONE)


class There(Protocol):
    """A journal that another machine may have written."""

    @property
    def events(self) -> list[Event]: ...

    @property
    def at_work(self) -> bool: ...


def command(args: Namespace, site: Site, there: There | None = None) -> int:
    """status, log, report or debts of a site; from the journal `there`, or this machine's."""
    folder = site_folder(site.name)
    events, seal, tear = (there.events, "", None) if there else read(folder / "journal.jsonl")
    if tear:
        say(f"the last line of the journal is torn (line {tear.line})", to=sys.stderr)
    at_work = there.at_work if there else _at_work(folder)
    state = fold(events)
    as_json = bool(args.json)
    match args.topic:
        case "status":
            return _status(state, site, as_json, at_work=at_work)
        case "debts":
            return _debts(state, at_work=at_work)
        case "log":
            if args.of:
                return _log_of(args.of, folder, site)
            return _log(events, as_json)
        case _:
            return _report(args, events, site, at_work=at_work, seal=seal)


def _report(args: Namespace, events: list[Event], site: Site, *, at_work: bool, seal: str) -> int:
    """The evidence, to stdout or into a file; UsageError where the file cannot be written."""
    from runbook.report import ENDINGS, render

    to: Path | None = args.output
    format_ = "json" if args.json else args.format
    if not format_:
        format_ = ENDINGS.get(to.suffix.lower(), "md") if to else "md"
    text = render(format_, events, site, at_work=at_work, seal=seal if events else "")
    if to is None:
        sys.stdout.write(text)
        return int(Exit.DONE)
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{to} cannot be written: {error.strerror}", hint="--output FILE in a folder of yours"
        ) from error
    say(f"written: {to}", to=sys.stderr)
    return int(Exit.DONE)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "-"


def _at_work(folder: Path) -> bool:
    """Whether a process of this machine is writing this journal."""
    try:
        with (folder / "journal.jsonl").open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _word(status: Status) -> str:
    mark = STATUS[status]
    return f"{mark.sign(ascii_only(os.environ))} {mark.word:9}"


def _status(state: RunState, site: Site, as_json: bool, *, at_work: bool) -> int:
    if as_json:
        data = asdict(state)
        for name in ("waived",):
            data[name] = [[*key, why] for key, why in data[name].items()]
        for step in data["steps"].values():
            step["findings"] = list(step["findings"].values())
            step["approved"] = sorted(step["approved"])
        say(json.dumps(data, default=lambda v: getattr(v, "value", str(v))))
        return _code(state, at_work=at_work)
    if not state.run:
        say("no run yet")
        return int(Exit.DONE)
    ended = f"ended {_when(state.ended)}: {state.why}"
    if state.exit is None:
        ended = "at work" if at_work else "broken off"
    say(f"run {state.run} by {state.operator}, started {_when(state.started)}, {ended}")
    for step in state.steps.values():
        took = f"  {span(step.ended - step.started)}" if step.ended else ""
        status, why = step.status, step.why
        if status in (Status.RUNNING, Status.WAITING) and not at_work:
            status, why = Status.PENDING, "broken off"
        say(f"{_word(status)} {step.id:12} {step.title}{took}  {why}".rstrip())
        for check in step.checks.values():
            if check.ok is not True:
                say(f"    {verdict(check.ok).word}: {check.title}: {check.observed}")
    for action in state.unknown():
        # Not even the process that does it knows how it will end.
        word = _word(action.status if at_work else Status.UNKNOWN)
        say(f"{word} {action.host}: {action.title}  {action.note}".rstrip())
    for action in state.attested():
        say(f"{_word(Status.ATTESTED)} {action.host}: {action.title}  {action.note}")
    for host, why in state.excluded.items():
        say(f"{_word(Status.EXCLUDED)} {host}: {why}; pmrunbook include {host} takes it in again")
    for debt in state.debts.values():
        say(f"! open      {debt.host}: {debt.title}, since {_when(debt.since)}")
    say(*_serving(state, site))
    return _code(state, at_work=at_work)


def _serving(state: RunState, site: Site) -> Iterator[str]:
    """Who serves the agents now; nothing where nobody knows."""
    from runbook.estate_map import AGENTS, now, outline

    map_ = now(site, state)
    if not map_.column(AGENTS):
        return
    yield f"\n{map_.title}:"
    for entry in outline(map_):
        if entry.mark is None:
            yield entry.text
            continue
        share = "" if entry.share is None else f"  {100 * entry.share:.0f} %"
        sign = entry.mark.sign(ascii_only(os.environ))
        yield f"{sign} {entry.mark.word:9} {entry.text}{share}  {entry.note}".rstrip()


def _code(state: RunState, *, at_work: bool) -> int:
    """0 done, 8 something is unknown, 1 a run ended badly, 7 one is at work or was broken off."""
    if any(not at_work or action.status is Status.UNKNOWN for action in state.unknown()):
        return int(Exit.UNKNOWN)
    if state.run and state.exit is None:
        return int(Exit.WAITING)
    return int(Exit.FAILED if state.exit else Exit.DONE)


def _debts(state: RunState, *, at_work: bool) -> int:
    for debt in state.debts.values():
        say(f"{debt.host}: {debt.title}, since {_when(debt.since)}, by step {debt.step}")
    if not state.debts:
        here = "none" if state.events else "none that this machine knows of"
        say(here, *(() if state.events else ("pmrunbook debts --from-site asks the site",)))
        return int(Exit.DONE)
    at_it = f"the run of {state.operator} is at work, and ends them itself"
    say(at_it if at_work else "pmrunbook debts --repay ends them")
    return int(Exit.FAILED)


def _log_of(host: str, folder: Path, site: Site) -> int:
    """What one host said, also one that is not in the inventory any more."""
    found = sorted((folder / "transcripts").glob(f"*/*/{host}.log"))
    if not found and host not in site:
        raise UsageError(f"{host} is not in the inventory", hint=f"look at {site.source}")
    for path in found:
        say(f"== {path.parent.parent.name} {path.parent.name}")
        with path.open(encoding="utf-8", errors="replace") as handle:
            for line in handle:
                say(line, end="")
    return int(Exit.DONE)


def _log(events: Iterable[Event], as_json: bool) -> int:
    face = Plain(as_json=as_json)
    for event in events:
        if not as_json and event.kind == "run_started":
            say(f"\n#### {event.data['run']} {_when(event.at)} {event.data['operator']}")
        face.show(event)
    return int(Exit.DONE)


def offline(site: Site, runbook: Runbook, only: tuple[str, ...]) -> int:
    """Every command that can be known without opening a socket."""
    known = [step.id for step in runbook.steps]
    if unknown := [name for name in only if name not in known]:
        raise UsageError(f"there is no step {unknown[0]}", hint=f"steps: {', '.join(known)}")
    say("DRY RUN, OFFLINE: no socket is opened; what depends on the hosts is not known")
    for step in runbook.steps:
        if only and step.id not in only:
            continue
        say(f"\n== {step.title}  [{step.id}]")
        shown: set[str] = set()
        for host in site.hosts:
            for read_ in step.reads(site, host):
                if read_.script in shown:
                    continue
                shown.add(read_.script)
                say(f"-- read {read_.id}", *(f"   {x}" for x in read_.script.strip().splitlines()))
            count = len(step.reads(site, host))
            if count:
                say(f"{host.name} ({host.dial}): {count} reads in one round trip")
        for query in step.queries(site):
            say(f"DNS: {query.name} {query.rtype} at {query.server or 'the resolver'}")
        for stage in step.stages:
            say(f"-- {stage.title}")
            planned = stage.plan(site, Facts())
            for item in planned:
                at = f"{item.host}: " if item.host else ""
                if isinstance(item, Later):
                    say(f"   {at}{item.what}: known after {item.after}")
                    continue
                say(f"   {at}{item.title}")
                script = getattr(getattr(item, "do", None), "script", "")
                say(*(f"      {x}" for x in script.strip().splitlines()))
            intent = stage.intent(site)
            say(*(f"   {line}" for line in intent))
            if not planned:
                more = "the rest is" if intent else "it is"
                say(f"   {more} known after the hosts were read")
    return int(Exit.DONE)
