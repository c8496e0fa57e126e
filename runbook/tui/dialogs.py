"""Questions to the operator. What is focused first never changes anything."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from runbook.ports import Choice, Question, Reply
from runbook.tui import wording
from runbook.tui.desk import Desk, Review, risk_tone
from runbook.tui.footer import Keys
from runbook.tui.look import Part
from runbook.tui.rows import Detail, Rows

R = TypeVar("R")

NOT_NOW = Choice("", "Not now: look around first (d comes back here)")
NO = Choice("", "No, back to the plan")
STAY = Choice("", "No, stay")
LEAVE = Choice("leave", "Yes, leave")


class Dialog(ModalScreen[R], Generic[R]):
    """A box with a text and choices; the first choice changes nothing and has the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", id="dialog.back"),
        Binding("tab", "app.focus_next", "Text/choices", id="dialog.other", show=False),
        Binding(
            "shift+tab", "app.focus_previous", "Choices/text", id="dialog.other-back", show=False
        ),
    ]

    def __init__(
        self, desk: Desk, title: str, body: list[Part], choices: tuple[Choice, ...]
    ) -> None:
        super().__init__()
        self.desk = desk
        self._title = title
        self._body = body
        self._choices = choices

    def compose(self) -> ComposeResult:
        look = self.desk.look
        with Vertical(id="dialog"):
            yield Static(look.text((self._title, "strong")), id="question", markup=False)
            yield Detail(id="about")
            yield from self.between()
            yield Rows[Choice](self._draw, lambda c: c.key, id="choices", arrow=look.arrow)
        yield Keys(lambda: self.desk.look)

    def between(self) -> ComposeResult:
        yield from ()

    def on_mount(self) -> None:
        about = self.query_one("#about", Detail)
        about.say(self.desk.look.block(*self._body))
        about.display = bool(self._body)
        choices = self.query_one("#choices", Rows)
        choices.fill(self._choices)
        choices.styles.height = len(self._choices)
        choices.focus()
        self.fit()
        self.ready()

    def ready(self) -> None:
        """Called once when the widgets are there; Textual calls `on_mount` of every class."""

    def on_resize(self) -> None:
        self.fit()

    def fit(self) -> None:
        """The choices stay in sight; the text scrolls in what is left."""
        taken = len(self._choices) + 11
        self.query_one("#about").styles.max_height = max(2, self.app.size.height - taken)

    def _draw(self, choice: Choice, width: int) -> Text:
        look = self.desk.look
        return look.text(look.cell(choice.label or choice.key, width))

    def action_back(self) -> None:
        self.dismiss(None)


class Pasted(TextArea):
    """Several lines that the operator pastes or types, until they say that it is all."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "done", "Done", id="dialog.done")]

    class Done(Message):
        """It is all there."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def action_done(self) -> None:
        self.post_message(self.Done(self.text))


class Asking(Dialog[Reply]):
    """A question of the engine's; dismissed with the reply, or with None for "not now"."""

    def __init__(self, desk: Desk, question: Question) -> None:
        self.question = question
        plan = question.kind in ("approve", "changed")
        super().__init__(
            desk,
            question.title,
            _about(desk, question),
            (NO if plan else NOT_NOW, *question.choices),
        )
        self._taking: Choice | None = None  # the choice whose text is being typed
        self._wants = ""  # "confirm" | "text" | "secret"
        self._reason = ""  # typed already, while what shows it is being pasted

    def between(self) -> ComposeResult:
        yield Static("", id="demand", markup=False)
        yield Sealed(id="typed")
        yield Pasted(id="pasted")

    def ready(self) -> None:
        self.query_one("#demand").display = False
        self.query_one("#typed").display = False
        self.query_one("#pasted").display = False
        if self.question.kind == "secret" and self.question.choices:
            self._taking = self.question.choices[0]
            self._demand("secret", "It is used and not kept.")

    def _draw(self, choice: Choice, width: int) -> Text:
        look = self.desk.look
        said = choice.label or choice.key
        first = self.question.choices[0] if self.question.choices else None
        if choice is first and self.question.kind in ("approve", "changed"):
            return look.text((look.cell(said, width), risk_tone(self.question.risk)))
        if choice.needs_text:
            said += " …"
        return look.text(look.cell(said, width))

    def _demand(self, wants: str, said: str) -> None:
        self._wants = wants
        look = self.desk.look
        demand = self.query_one("#demand", Static)
        demand.update(look.block((said, "warn")))
        demand.display = True
        typed = self.query_one("#typed", Sealed)
        typed.password = wants == "secret"
        typed.value = ""
        typed.display = True
        typed.focus()

    @on(Rows.Picked, "#choices")
    def choice_picked(self, message: Rows.Picked) -> None:
        choice: Choice = message.item
        if not choice.key:
            self.dismiss(None)
            return
        self._taking = choice
        first = choice is self.question.choices[0]
        if first and self.question.kind == "secret":
            self._demand("secret", "It is used and not kept.")
        elif first and self.question.confirm:
            self._demand("confirm", f"Type {self.question.confirm} to go on, Esc to go back.")
        elif choice.needs_text:
            self._demand("text", f"{choice.label or choice.key}: why? It is written down.")
        else:
            self.dismiss(Reply(choice.key))

    @on(Input.Submitted, "#typed")
    def typed_submitted(self, event: Input.Submitted) -> None:
        choice, text = self._taking, event.value
        event.input.value = ""
        if choice is None:
            return
        match self._wants:
            case "confirm" if text.strip() != self.question.confirm:
                self._demand("confirm", f"That is not {self.question.confirm}. Nothing was done.")
            case "confirm" if choice.needs_text:
                self._demand("text", f"{choice.label or choice.key}: why? It is written down.")
            case "text" if not text.strip():
                self._demand("text", "A reason is needed; it is written down.")
            case "confirm":
                self.dismiss(Reply(choice.key))
            case "text" if choice.needs_evidence:
                self._demand_evidence(text.strip())
            case "text":
                self.dismiss(Reply(choice.key, text.strip()))
            case _:
                self.dismiss(Reply(choice.key, text))

    def _demand_evidence(self, reason: str) -> None:
        self._reason = reason
        said = "Paste what shows it: a command and what it printed. ^s when it is there."
        self.query_one("#demand", Static).update(self.desk.look.block((said, "warn")))
        self.query_one("#typed").display = False
        pasted = self.query_one("#pasted", Pasted)
        pasted.display = True
        pasted.focus()

    @on(Pasted.Done)
    def pasted_done(self, message: Pasted.Done) -> None:
        if self._taking and message.text.strip():
            self.dismiss(Reply(self._taking.key, self._reason, message.text.strip()))

    def action_back(self) -> None:
        """Out of the typing first, then out of the dialog."""
        typed, pasted = self.query_one("#typed", Sealed), self.query_one("#pasted", Pasted)
        if (typed.has_focus or pasted.has_focus) and self.question.kind != "secret":
            typed.value = ""
            typed.display = pasted.display = self.query_one("#demand").display = False
            self.query_one("#choices").focus()
        else:
            typed.value = ""
            self.dismiss(None)


class Sealed(Input):
    """An input whose text never leaves by the clipboard while it is hidden."""

    def action_copy(self) -> None:
        if not self.password:
            super().action_copy()

    def action_cut(self) -> None:
        if not self.password:
            super().action_cut()


class Leaving(Dialog[bool]):
    """What happens when the operator leaves now; answers whether to."""

    def __init__(self, desk: Desk) -> None:
        if desk.stopping:
            body = "It is ending already and waits for what is under way. Leave without waiting?\n"
        else:
            body = "Nothing more is started.\n"
        body += (
            "Jobs that run on hosts go on there to their end; nothing is cut off.\n"
            "pmrunbook --resume goes on from here: it looks first and repeats nothing."
        )
        super().__init__(desk, "Leave while work runs?", [body], (STAY, LEAVE))

    @on(Rows.Picked, "#choices")
    def choice_picked(self, message: Rows.Picked) -> None:
        self.dismiss(message.item is LEAVE)


class Including(Dialog[bool]):
    """Whether a host that was left out is taken in again."""

    def __init__(self, desk: Desk, host: str) -> None:
        when = "Once the others are done, this run goes" if desk.code is None else "--resume goes"
        body = f"It was left out: {desk.state.excluded[host]}\n\n{when} through its steps again."
        choices = (Choice("", "No, it stays out"), Choice("take", "Yes, take it in again"))
        super().__init__(desk, f"Take {host} in again?", [body], choices)

    @on(Rows.Picked, "#choices")
    def choice_picked(self, message: Rows.Picked) -> None:
        self.dismiss(message.item.key == "take")


class Help(Dialog[None]):
    """The keys of the screen it was opened on."""

    def __init__(self, desk: Desk, title: str, body: list[Part]) -> None:
        super().__init__(desk, title, body, (Choice("", "Close"),))

    def ready(self) -> None:
        self.query_one("#about").focus()

    @on(Rows.Picked, "#choices")
    def choice_picked(self) -> None:
        self.dismiss(None)


def _about(desk: Desk, question: Question) -> list[Part]:
    """The text above the choices."""
    look = desk.look
    parts: list[Part] = []
    if question.kind in ("approve", "changed"):
        if question.body:
            text = f"{question.body}\n"
            parts.append((text, "warn") if question.kind == "changed" else text)
        if isinstance(desk.seen_plan, Review):
            parts += desk.seen_plan.counts()
        parts.append(("\nExactly what the plan shows is done, nothing else.", "dim"))
        return parts
    if question.body:
        parts.append(f"{question.body}\n")
    known = desk.state.hosts.get(question.host)
    if known and known.line:
        parts += [("last line  ", "dim"), f"{known.line}\n"]
    if not isinstance(question.subject, tuple) or not question.body:
        said = wording.subject(look, question.subject)
        if said:
            parts += ["\n", *said]
    return parts
