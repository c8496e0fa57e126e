"""The line-oriented face: sentences, no cursor movement, nothing that a screen reader cannot read.

stdout is data, stderr is narration: the plan and the results go to stdout, questions to stderr.
With `as_json` stdout is the events, one JSON object a line. It never waits for a key that cannot
come: without a terminal a question is answered by a flag, or ends the run with exit 7 and the name
of the flag.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from runbook.errors import Interrupted, RunbookError, Waiting
from runbook.grid import Cell, grid
from runbook.keeper import KILLED, Keeper, lend
from runbook.model import Event, Status, plain
from runbook.output import say
from runbook.ports import Question, Reply
from runbook.shell import IDLE
from runbook.symbols import STATUS, ascii_only, count

FLAGS = {
    "approve": "--yes approves what the plan shows",
    "changed": "--yes approves what the plan shows",
    "failure": "--on-failure retry|exclude|undo|quit decides",
    "unknown": "look at the host, then: pmrunbook --resume, in a terminal",
    "findings": "put them right, or accept them in the inventory (waivers:)",
    "handover": "--yes goes on with it",
    "attest": "in a terminal: what a person says is done needs a reason, and evidence",
    "human": "do it, then: pmrunbook --resume",
    "trust": "compare the fingerprint, then add the key to known_hosts",
    "secret": "name the secret in the inventory by env, file or command",
}
TABLE_WIDTH = 100  # columns
DETAIL_LINES = 40
SAME_LINES = 8
"""From how many lines on a change that another host has too is shown once."""
OUTPUT_EVERY = 1.0  # seconds between two lines of one host's output


def _nothing() -> None:
    pass


class Plain:
    """A Face for pipes, logs, screen readers and small terminals."""

    def __init__(
        self,
        *,
        yes: bool = False,
        cut_over: str = "",
        on_failure: str = "",
        as_json: bool = False,
        interactive: bool = False,
        scripts: bool = False,
        out: IO[str] | None = None,
        err: IO[str] | None = None,
        stdin: IO[str] | None = None,
    ) -> None:
        self._yes = yes
        self._cut_over = cut_over
        self._on_failure = on_failure
        self._json = as_json
        self._interactive = interactive
        self._scripts = scripts  # whether a plan shows what runs on the hosts
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._in = stdin or sys.stdin
        self._ascii = ascii_only(os.environ)
        self._guard = threading.Lock()
        self.stopped = threading.Event()  # set from outside: a question waits no longer
        self.give_back: Callable[[], None] = _nothing  # the terminal, as it was, from any thread
        self.shell: Callable[[str, Callable[[list[str]], int]], int] | None = None
        self._said: dict[str, float] = {}
        self._retried: set[tuple[str, str]] = set()
        self._cells: list[tuple[Cell, bool | None, str]] = []  # of the step under way

    # --- showing ----------------------------------------------------------------------------------

    def show(self, event: Event) -> None:
        if self._json:
            record = {"kind": event.kind, "at": round(event.at, 3), **plain(event.data)}
            for name in ("step", "host", "action"):
                if value := getattr(event, name):
                    record[name if name not in record else f"{name}_id"] = value
            with self._guard:
                say(json.dumps(record, ensure_ascii=True), to=self._out, flush=True)
            return
        text = self._sentence(event, event.data)
        if text:
            with self._guard:
                say(text, to=self._out, flush=True)

    def _sentence(self, event: Event, data: Mapping[str, Any]) -> str:
        where = f"{event.host}: " if event.host else ""
        match event.kind:
            case "run_started":
                mode = {"dry-run": "DRY RUN: nothing will be changed", "resume": "going on"}
                return f"== {data['site']}: {mode.get(data['mode'], data['mode'])}"
            case "step_started":
                self._cells.clear()
                return f"\n== {data['title']}  [{event.step}]"
            case "unreachable" if not data.get("again"):
                return f"{self._mark('failed')}  {where}{data['error']}"
            case "finding":
                return self._finding(event, data)
            case "gate":
                why = f"; waived: {data['waived']}" if data["waived"] else ""
                mark = self._mark("ok" if data["ok"] else "skipped" if why else "failed")
                return f"{mark}  gate: {data['title']}: {data['said']}{why}"
            case "planned":
                return self._plan(data)
            case "approved":
                return f"approved by {data['by']} ({data['how']}), plan {data['digest'][:12]}"
            case "stage":
                return f"-- {data['title']}"
            case "start":
                return f"{self._mark('running')}  {where}{data['action']['title']}"
            case "end":
                note = f": {data['note']}" if data.get("note") else ""
                title = "done" if data["status"] == "ok" else data["status"]
                return f"{self._mark(data['status'])}  {where}{title}{note}"
            case "output":
                return self._output(event, str(data["line"]))
            case "check":
                return self._check(data)
            case "message":
                return f"{where}{data['text']}"
            case "excluded":
                return f"{self._mark('excluded')}  {where}left out: {data['reason']}"
            case "waived":
                return f"{where}{data['id']} waived: {data['reason']}"
            case "included":
                return f"{where}taken in again"
            case "shell_started":
                return f"{where}shell opened by {data['operator']}"
            case "shell_ended":
                return f"{where}shell left (exit {data['exit']})"
            case "debt_repaid":
                return f"{self._mark('ok')}  {where}repaid: {data['id']}"
            case "step_done":
                why = f": {data['why'].partition(chr(10))[0]}" if data["why"] else ""
                table = grid(self._cells).lines(TABLE_WIDTH, ascii_only=self._ascii)
                said = f"{self._mark(data['status'])}  step {event.step}{why}"
                return "\n".join(["", *table, "", said] if table else [said])
            case "run_ended":
                hint = f"\n   {data['hint']}" if data.get("hint") else ""
                return f"\n== {data['why']} (exit {data['exit']}){hint}"
        return ""

    def _check(self, data: Mapping[str, Any]) -> str:
        word = {True: "ok", False: "failed"}.get(data["ok"], "unknown")
        row, column = data.get("cell") or ("", "")
        self._cells.append(((row, column), data["ok"], data["observed"]))
        seen = f": {data['observed']}" if data["observed"] else ""
        lines = [f"{self._mark(word)}  {data['title']}{seen}"]
        if data["ok"] is not True:
            lines += [f"      {data['remedy']}"] if data["remedy"] else []
            shown = str(data.get("detail", "")).splitlines()
            lines += [f"      {line}" for line in shown[:DETAIL_LINES]]
            if len(shown) > DETAIL_LINES:
                lines.append(f"      … {len(shown) - DETAIL_LINES} more lines")
        return "\n".join(lines)

    def _finding(self, event: Event, data: Mapping[str, Any]) -> str:
        if data.get("waived"):
            return f"waived   {event.host}: {data['id']}: {data['waived']}"
        where = f"{event.host}: " if event.host else ""
        lines = [f"{data['severity']:8} {where}{data['observed']}  [{data['id']}]"]
        if data["severity"] != "note":
            lines.append(f"         expected: {data['expected']}")
            if data.get("fixed_by"):
                lines.append(f"         step {data['fixed_by']} puts it right")
            elif data["remedy"]:
                lines.append(f"         {data['remedy']}")
            if data["command"]:
                lines.append(f"         $ {data['command']}")
        return "\n".join(lines)

    def _plan(self, data: Mapping[str, Any]) -> str:
        actions, later = data["actions"], data["later"]
        if not actions and not later:
            return "plan: nothing to do"
        files = sum(a["do"]["kind"] in ("WriteFile", "RemoveFile") for a in actions)
        lines = [
            f"plan {data['digest'][:12]}: {count(len(actions), 'action')} on "
            f"{count(data['hosts'], 'host')}, {count(files, 'file')}, risk: {data['risk']}"
        ]
        for host, seconds in data["outages"].items():
            lines.append(f"  expect {round(seconds)} s without service on {host}")
        whose: dict[str, str] = {}  # diff -> the first host it is shown of
        idle = 0
        for action in actions:
            undo = action["undo"]
            if action["do"].get("script") == IDLE and not undo.get("stays"):
                idle += 1
                continue
            back = {
                "Restore": "reversible",
                "Compensate": "compensated",
                "Human": "by a person",
                "Nothing": f"stays: {undo['stays']}" if undo.get("stays") else "leaves no trace",
            }
            how = back.get(undo["kind"], f"IRREVERSIBLE: {undo.get('reason', '')}")
            new = "new; " if action.get("id") in data.get("new", ()) else ""
            lines.append(
                f"  {action['host'] or 'DNS'}: {action['title']}  ({new}{action['risk']}; {how})"
            )
            change = action["diff"].splitlines()
            first = whose.setdefault(action["diff"], action["host"])
            if first != action["host"] and len(change) > SAME_LINES:
                change = [f"({len(change)} lines, those of {first})"]
            change += str(action["do"].get("instruction", "")).splitlines()
            lines += [f"      {line}" for line in change]
            if self._scripts:
                text = str(action["do"].get("script", ""))
                lines += [f"      | {line}" for line in text.strip("\n").splitlines()]
        if idle:
            lines.append(f"  {count(idle, 'action')} more left nothing to take back")
        lines += [
            f"  {x['host'] + ': ' if x['host'] else ''}{x['what']}: known after {x['after']}"
            for x in later
        ]
        return "\n".join(lines)

    def _output(self, event: Event, line: str) -> str:
        now = time.monotonic()
        if not line.strip() or now - self._said.get(event.host, 0.0) < OUTPUT_EVERY:
            return ""  # all of it is in the transcript
        self._said[event.host] = now
        return f"      {event.host} | {line[:160]}"

    def _mark(self, word: str) -> str:
        mark = STATUS[Status(word)]
        return f"{mark.sign(self._ascii)} {mark.word:8}"

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, question: Question) -> Reply:
        keys = {choice.key for choice in question.choices}
        cut_over = question.risk == "cut-over"
        if question.kind in ("approve", "changed"):
            if cut_over and self._cut_over and self._cut_over == question.confirm:
                return Reply("approve", f"--cut-over {self._cut_over}")
            if self._yes and not cut_over:
                return Reply("approve", "--yes")
        if question.kind == "handover" and self._yes:
            return Reply("take", "--yes")
        if question.kind == "failure" and self._on_failure in keys:
            once = (question.step, question.title)
            if self._on_failure != "retry" or once not in self._retried:
                self._retried.add(once)
                return Reply(self._on_failure, f"--on-failure {self._on_failure}")
        if self._interactive:
            return self._prompt(question)
        if question.kind in ("failure", "findings", "unknown") and "quit" in keys:
            self._tell(question)
            return Reply("quit")
        flag = f"--cut-over {question.confirm}" if cut_over else FLAGS.get(question.kind, "")
        self._tell(question)
        if getattr(question.subject, "undoes", ""):
            flag = flag.replace("--resume", f"undo {question.step}")
        raise Waiting(f"waiting for the operator: {question.title}", host=question.host, hint=flag)

    def _tell(self, question: Question) -> None:
        with self._guard:
            say(f"\n{question.title}", *filter(None, [question.body]), to=self._err, flush=True)

    def _prompt(self, question: Question) -> Reply:
        self._tell(question)
        if question.kind == "secret":
            return Reply("ok", self._secret("> "))
        choices = [c for c in question.choices if c.key != "shell" or self.shell]
        while True:
            for number, choice in enumerate(choices, 1):
                say(f"  {number}. {choice.label}", to=self._err)
            first = choices[0]
            how = f'type "{question.confirm}" for the first' if question.confirm else "a number"
            answer = self._line(f"{how}> ")
            if question.confirm and answer == question.confirm:
                return Reply(first.key)
            if not answer.isdecimal() or not 1 <= int(answer) <= len(choices):
                continue
            choice = choices[int(answer) - 1]
            if question.confirm and choice is first:
                continue
            if choice.key == "shell" and self.shell:
                try:
                    self.shell(question.host, lend)
                except (OSError, RunbookError) as error:  # no ssh here, a bad ssh_config
                    say(str(error), to=self._err)
                continue
            text = evidence = ""
            while choice.needs_text and not text:
                text = self._line("reason> ")
            while choice.needs_evidence and not evidence:
                evidence = self._lines("what shows it, pasted; a line with a dot alone ends it")
            return Reply(choice.key, text, evidence)

    def _lines(self, prompt: str) -> str:
        lines: list[str] = []
        say(prompt, to=self._err)
        while (line := self._line("| ")) != ".":
            lines.append(line)
        return "\n".join(lines).strip()

    def _secret(self, prompt: str) -> str:
        """One line without echo; `getpass` would hear of no stop, and leave the echo off."""
        terminal = self._in.fileno()
        shown = termios.tcgetattr(terminal)
        hidden = [*shown[:3], shown[3] & ~termios.ECHO, *shown[4:]]
        keeper = Keeper(terminal, f"\r\n{KILLED}")

        def show() -> None:
            with contextlib.suppress(termios.error):  # it was closed meanwhile
                termios.tcsetattr(terminal, termios.TCSAFLUSH, shown)
            keeper.close()

        self.give_back = show
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, hidden)
            line = self._read(prompt)
        finally:
            show()
            self.give_back = _nothing
        say("", to=self._err)
        return line.removesuffix("\n")

    def _line(self, prompt: str) -> str:
        return self._read(prompt).strip()

    def _read(self, prompt: str) -> str:
        say(prompt, to=self._err, end="", flush=True)
        while not self.stopped.is_set():
            if select.select([self._in], [], [], 0.3)[0]:
                if line := self._in.readline():
                    return line
                raise Waiting("the terminal was closed", hint="pmrunbook --resume")
        raise Interrupted("stopped by the operator", hint="pmrunbook --resume")
