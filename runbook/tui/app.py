"""The Textual app: one engine thread, one timer that picks up what it sent, screens over a desk."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from rich.console import Console
from rich.segment import Segments
from rich.text import Text
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input

from runbook.errors import Exit, RunbookError
from runbook.keeper import lend
from runbook.output import say
from runbook.ports import Mission, Reply
from runbook.symbols import ascii_only, shown
from runbook.tui.desk import Change, Desk, Review
from runbook.tui.dialogs import Asking, Help, Including, Leaving
from runbook.tui.estate import MapView
from runbook.tui.feed import Pending
from runbook.tui.home import Home
from runbook.tui.hosts import HostsView
from runbook.tui.log import LogView
from runbook.tui.look import CALM, PAPER, Look, Part
from runbook.tui.pane import Pane
from runbook.tui.review import ReviewView
from runbook.tui.step import StepView
from runbook.tui.summary import Summary
from runbook.tui.terminal import TerminalDriver

R = TypeVar("R")
PLANS = ("approve", "changed")
LEAVE_WAIT = 5.0
"""Seconds the engine is given to end after the screen is gone."""


class RunbookApp(App[int]):
    """The operator's screen on one mission."""

    TITLE = "pmrunbook"
    CSS_PATH = "runbook.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012  # as Textual has it
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "decide", "Decide", id="run.decide"),
        Binding("h", "hosts", "Hosts", id="view.hosts"),
        Binding("m", "map", "Map", id="view.map"),
        Binding("p", "plan", "Plan", id="view.plan", show=False),
        Binding("o", "home", "Overview", id="view.overview", show=False),
        Binding("question_mark,f1", "help", "Help", id="app.help"),
        Binding("q", "quit", "Quit", id="app.quit"),
        Binding("ctrl+q,ctrl+c", "quit", "Quit", id="app.quit-now", show=False, priority=True),
    ]

    def __init__(self, mission: Mission, *, clock: Callable[[], float] = time.time) -> None:
        few = few_colors()
        super().__init__(driver_class=TerminalDriver, ansi_color=True if few else None)
        for theme in (CALM, PAPER):
            self.register_theme(theme)
        self._ascii = ascii_only(os.environ)
        self.theme = "ansi-dark" if few else CALM.name
        self.desk = Desk(mission, self._look(), clock)
        self._thread = threading.Thread(target=self._engine, name="engine", daemon=True)
        self._ended: int | None = None
        self._leaving = False
        self._held: set[Pending] = set()  # what was brought before the operator

    def _look(self) -> Look:
        native = bool(self.native_ansi_color)
        colors = self.current_theme.to_color_system().generate()
        return Look(self._ascii, colors, native)

    def get_default_screen(self) -> Screen[Any]:
        return Home(self.desk)

    # --- life -------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.set_class(self._ascii, "-ascii")
        self.theme_changed_signal.subscribe(self, self._theme_changed)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_end)
        rate = 4 if os.environ.get("SSH_CONNECTION") else 8
        # On the screen that is always there: timers of an app still fire while it closes.
        self.screen_stack[0].set_interval(1 / rate, self.tick)
        self._thread.start()

    def _theme_changed(self, theme: Theme) -> None:
        self.desk.look = self._look()
        self._refresh_panes(Change(all=True))

    def _engine(self) -> None:
        """The engine's thread; whatever goes wrong in it is an exit code and a sentence."""
        try:
            self._ended = self.desk.mission.run(self.desk.feed)
        except BaseException as error:  # noqa: BLE001  # a thread has nobody above it to tell
            self.desk.troubles.append(f"{type(error).__name__}: {error}")
            self._ended = int(Exit.FAILED)

    def _told_to_end(self) -> None:
        """SIGTERM, SIGHUP: nothing more is started, and the terminal is given back."""
        self.desk.mission.stop()
        self.desk.feed.close()
        self._go(int(Exit.INTERRUPTED))

    def _go(self, code: int) -> None:
        """Leave; keys that are still on their way open nothing any more."""
        self._leaving = True
        self.exit(code)

    def _open(self, screen: Screen[R], then: Callable[[R | None], None] | None = None) -> None:
        if not self._leaving:
            self.push_screen(screen, then)

    def code(self) -> int:
        """The exit code, after the screen is gone."""
        self.desk.feed.close()
        if self._ended is None and self._thread.is_alive():
            self._thread.join(LEAVE_WAIT)
        if self.return_code:  # the screen itself failed
            return int(Exit.FAILED)
        return self._ended if self._ended is not None else int(Exit.INTERRUPTED)

    def _fatal_error(self) -> None:
        """Textual would print local variables, and with them what must not be seen."""
        self.desk.mission.stop()
        last = shown(traceback.format_exc(limit=-4))
        text = Text("The screen failed; the run was stopped: pmrunbook --resume goes on.\n" + last)
        self._exit_renderables.append(Segments(self.console.render(text, self.console.options)))
        self._close_messages_no_wait()

    # --- the tick ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Take what the engine sent, show it, and put its question."""
        # The question before the events: what was shown before it was asked is then on the desk.
        waiting = next(iter(self.desk.feed.questions), None)
        ended = self._ended
        change = self.desk.take()
        if ended is not None and self.desk.code is None:
            self._end(ended)
            change.all = True
        asked = waiting if self.desk.code is None else None
        if asked is not self.desk.question:
            self.desk.question = asked
            change.all = True
            self.refresh_bindings()
            if asked:
                self.desk.look_at(asked.question)
        self._refresh_panes(change)
        self._put_question()

    def _refresh_panes(self, change: Change) -> None:
        top = next((s for s in reversed(self.screen_stack) if isinstance(s, Pane)), None)
        at_plan = isinstance(top, ReviewView) and top.asked
        if at_plan != self.desk.at_plan:
            self.desk.at_plan = at_plan
            self.refresh_bindings()
            change.all = True
        if top and top.is_mounted:
            top.bring_up_to_date(change)

    def _end(self, code: int) -> None:
        self.desk.code = code
        if self.desk.stopping:
            self._go(code)
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self._open(Summary(self.desk))

    # --- questions --------------------------------------------------------------------------------

    def _put_question(self) -> None:
        """Bring a new question before the operator, once; they may put it off."""
        pending = self.desk.question
        if pending is None or pending in self._held or not isinstance(self.screen, Pane):
            return
        if not self.screen.laid_out or isinstance(self.focused, Input):
            return  # nothing gets between the operator and what they are typing
        self._held.add(pending)
        if pending.question.kind in PLANS and self.desk.seen_plan:
            if isinstance(self.screen, ReviewView):
                self.screen.show_plan(self.desk.seen_plan)
            else:
                self._open(ReviewView(self.desk, self.desk.seen_plan))
        else:
            self.action_decide()

    def action_decide(self) -> None:
        """Show the question; a plan is shown before it is asked about."""
        if (pending := self.desk.question) is None:
            self.tell("Nothing waits for you.")
        elif pending.question.kind in PLANS and not isinstance(self.screen, ReviewView):
            self.open_plan(pending.question.step)
        else:
            self._open(Asking(self.desk, pending.question), partial(self._decided, pending))

    def _decided(self, pending: Pending, reply: Reply | None) -> None:
        if reply is None or pending.reply.done():
            return
        if reply.key == "shell" and pending.question.host:
            self.open_shell(pending.question.host)
            self.action_decide()
            return
        self.desk.feed.answer(pending, reply)
        self._held.discard(pending)
        self.desk.question = None
        self.refresh_bindings()
        if pending.question.kind in PLANS and isinstance(self.screen, ReviewView):
            self.pop_screen()
        self._refresh_panes(Change(all=True))

    # --- where to look ----------------------------------------------------------------------------

    def open_step(self, step_id: str) -> None:
        self._open(StepView(self.desk, step_id))

    def open_log(self, host: str, step: str = "") -> None:
        known = self.desk.state.hosts.get(host)
        step = step or (known.step if known else "") or self.desk.current
        path = self.desk.mission.transcript(step or "run", host)
        self._open(LogView(self.desk, host, step, path))

    def open_plan(self, step_id: str = "") -> None:
        """The plan of the step, or of the question, or the last one seen."""
        review = self.desk.seen_plan
        if step_id and (review is None or review.step != step_id):
            review = Review.recorded(self.desk.state.step(step_id))
        if review is None and self.desk.current:
            review = Review.recorded(self.desk.state.step(self.desk.current))
        if review is None:
            self.tell("There is no plan yet.")
        elif not isinstance(self.screen, ReviewView):
            self._open(ReviewView(self.desk, review))

    def open_shell(self, host: str) -> None:
        """Give the terminal to an interactive ssh; the engine goes on meanwhile."""
        loop = asyncio.get_running_loop()
        with self.suspend():
            # Ctrl+C is the shell's while it has the terminal. Not SIG_IGN: that is inherited.
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, lambda *_: None)
            try:
                say(f"Shell on {host}; leave it to come back.", to=sys.__stderr__)
                self.desk.mission.shell(host, partial(lend, stdout=sys.__stderr__))
            except (OSError, RunbookError) as error:
                self.tell(str(error), "error")
            finally:
                loop.add_signal_handler(signal.SIGINT, self._told_to_end)
        self.refresh()

    def take_in(self, host: str) -> None:
        """Ask whether a host that was left out is taken in again."""

        def answered(sure: bool | None) -> None:
            if sure:
                self.desk.mission.include(host)
                when = "once the others are done" if self.desk.code is None else "by --resume"
                self.tell(f"{host} is taken in again {when}.")

        self._open(Including(self.desk, host), answered)

    def tell(self, text: str, severity: Any = "information") -> None:
        """A short notice that goes away by itself."""
        self.notify(self.desk.look.clean(text), markup=False, severity=severity, timeout=4)

    def action_hosts(self) -> None:
        if not isinstance(self.screen, HostsView):
            self._open(HostsView(self.desk))

    def action_map(self) -> None:
        if not isinstance(self.screen, MapView):
            self._open(MapView(self.desk))

    def action_plan(self) -> None:
        self.open_plan()

    def action_home(self) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()

    def get_key_display(self, binding: Binding) -> str:
        """Keys by name, as they are written on keyboards."""
        return binding.key_display or key_name(binding.key)

    # --- help, palette, leaving -------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "hosts":
            return not isinstance(self.screen, HostsView)
        if action == "map":
            return not isinstance(self.screen, MapView)
        if action == "decide":  # the plan's own key says it better
            return self.desk.question is not None and not self.desk.at_plan
        return True

    def action_help(self) -> None:
        if isinstance(self.screen, Pane):
            body = list(_keys(self))
            self._open(Help(self.desk, f"Keys: {self.screen.NAME}", body))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers, as "area: Verb", from the bindings of the screen."""
        offered: set[str] = set()
        for bound in screen.active_bindings.values():
            area, _, _ = (bound.binding.id or "").partition(".")
            name = f"{area}: {bound.binding.description}"
            if area in ("", "list", "text", "dialog") or name in offered or not bound.enabled:
                continue
            offered.add(name)
            run = partial(self.run_action, bound.binding.action, bound.node)
            yield SystemCommand(name, f"key {self.get_key_display(bound.binding)}", run)
        yield SystemCommand("app: Change the theme", "colours", self.action_change_theme)

    def action_command_palette(self) -> None:
        if not CommandPalette.is_open(cast("App[object]", self)):
            self._open(CommandPalette(placeholder="area: verb", id="--command-palette"))

    async def action_quit(self) -> None:
        """Leave at once when nothing runs, else say what leaving means first."""
        if self._ended is not None:
            self._go(self._ended)
        elif not isinstance(self.screen, Leaving):
            self._open(Leaving(self.desk), self._leave)

    def _leave(self, sure: bool | None) -> None:
        if not sure:
            return
        if self.desk.stopping:
            self._go(int(Exit.INTERRUPTED))
            return
        self.desk.stopping = True
        self.desk.mission.stop()
        self.desk.feed.close()
        self.desk.feed.questions.clear()


def _keys(app: RunbookApp) -> Iterable[Part]:
    """The keys of the screen shown now, nearest first."""
    named: dict[str, list[str]] = {}
    for bound in app.screen.active_bindings.values():
        if bound.binding.description and bound.binding.id and bound.enabled:
            said = f"{bound.binding.description}"
            named.setdefault(said, []).append(app.get_key_display(bound.binding))
    for said, keys in named.items():
        yield (f"{', '.join(dict.fromkeys(keys)):24}", "accent")
        yield f"{said}\n"


def key_name(key: str) -> str:
    """ "ctrl+p" as "^p", "question_mark" as "?", everything else as it is."""
    named = {"question_mark": "?", "slash": "/", "escape": "esc"}
    if key.startswith("ctrl+") and len(key) == 6:
        return f"^{key[-1]}"
    return named.get(key, key)


def few_colors() -> bool:
    """NO_COLOR, or a terminal of 16 colours: the terminal's own colours are used, if any."""
    environ = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    console = Console(stderr=True, force_terminal=True, _environ=environ)
    return "NO_COLOR" in os.environ or console.color_system in (None, "standard")


def start(mission: Mission) -> int:
    """Show the mission, run it, and answer its exit code."""
    app = RunbookApp(mission)
    app.run()
    return app.code()
