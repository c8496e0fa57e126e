"""pmrunbook in a process that stops before and after every START and END, until it may go on.

Each time it says where it is on the socket that HELD names, as one line of JSON, and waits for the
other end to close: so whoever holds it can do to it, and to the hosts, whatever it is to survive
right there. Another host's thread may be held meanwhile, and nothing else is. HELD_ANSWER is the
operator's answer to the first outcome that is unknown, where it is offered; HELD_PACE shortens the
time after which a silent link is dead, and given up. Used as `python -m tests.lab.held ARGUMENTS`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any

from runbook import cli
from runbook.crew import Crew, Failure
from runbook.model import Action, Script, Status, WriteFile
from runbook.plain import Plain
from runbook.ports import Question, Reply
from runbook.ssh import Hosts

PACE = float(os.environ.get("HELD_PACE", "1"))

_hosts, _begin, _ended, _ask = Hosts.__init__, Crew._begin, Crew._ended, Plain.ask


def hold(when: str, step: str, action: Action, job: str, **more: str) -> None:
    """Say where we are, and wait."""
    do = action.do
    saves = (do.path,) if isinstance(do, WriteFile) else do.saves if isinstance(do, Script) else ()
    place = {"when": when, "step": step, "action": action.id, "host": action.host, "job": job}
    place |= {"kind": type(do).__name__, "title": action.title, "file": next(iter(saves), "")}
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ["HELD"])
        line.sendall(json.dumps(place | more).encode() + b"\n")
        line.recv(1)


def hosts(self: Hosts, *args: Any) -> None:
    _hosts(self, *args, keepalive=15 * PACE, reconnect_for=120 * PACE)


def begin(crew: Crew, step: str, action: Action, job: str = "") -> str:
    job = job or crew._new_job()
    hold("before START", step, action, job)
    _begin(crew, step, action, job)
    hold("after START", step, action, job)
    return job


def ended(
    crew: Crew, step: str, action: Action, job: str, status: Status, *rest: Any
) -> Failure | None:
    hold("before END", step, action, job, status=status.value)
    failure = _ended(crew, step, action, job, status, *rest)
    hold("after END", step, action, job, status=status.value)
    return failure


def ask(face: Plain, question: Question) -> Reply:
    answer = os.environ.get("HELD_ANSWER", "")
    if question.kind == "unknown" and answer in {choice.key for choice in question.choices}:
        del os.environ["HELD_ANSWER"]
        return Reply(answer)
    return _ask(face, question)


signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, whoever starts it,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup among them
Hosts.__init__ = hosts  # type: ignore[method-assign]
Crew._begin, Crew._ended = begin, ended  # type: ignore[method-assign]
Plain.ask = ask  # type: ignore[method-assign]
raise SystemExit(cli.main())
