"""Every answer to every question of the engine can be given on the screens."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from runbook.ports import Choice, Question, Reply
from runbook.tui.app import PLANS, RunbookApp
from runbook.tui.dialogs import Asking
from tests.core.questions import QUESTIONS, STEP
from tests.ui import scenario
from tests.ui.conftest import NARROW, Seat, play, seated

pytestmark = pytest.mark.ui


@pytest.mark.parametrize("name", [n for n, q in QUESTIONS.items() if q.kind != "secret"])
def test_an_answer_is_chosen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is asked once for each of its choices, and they are taken one by one."""
    question = QUESTIONS[name]
    answers = [choice for choice in question.choices if choice.key != "shell"]
    replies: list[Reply] = []
    visits: list[str] = []

    def ask(on: scenario.Stage_) -> int:
        on.begin()
        for _ in answers:
            replies.append(on.face.ask(question))
        return on.finish(0)

    def script() -> scenario.Script_:
        return scenario.Script_(ask)

    monkeypatch.setitem(scenario.SCENARIOS, "each", script)
    monkeypatch.setattr(scenario, "STEPS", (STEP,))
    # That the terminal is handed over, and given back, is tested on a real one.
    monkeypatch.setattr(RunbookApp, "open_shell", lambda self, host: visits.append(host))

    async def work() -> None:
        async with seated("each", tmp_path, NARROW) as seat:
            for number, choice in enumerate(answers):
                await opened(seat, question)
                if number == 0 and len(answers) < len(question.choices):
                    shell = next(c for c in question.choices if c.key == "shell")
                    await take(seat, question, shell)  # who comes back is asked again
                    await opened(seat, question)
                await take(seat, question, choice)
                await seat.until(lambda n=number: len(replies) > n, choice.label)  # type: ignore[misc]
            await seat.see("Done.")

    play(work)
    assert visits == [question.host] * (len(question.choices) - len(answers))
    assert replies == [
        Reply(c.key, "by hand" * c.needs_text, "$ get a\n1" * c.needs_evidence) for c in answers
    ]


async def opened(seat: Seat, question: Question) -> None:
    """Wait for the dialog; that of a plan is opened from the plan."""
    if question.kind in PLANS:
        await seat.see("a decides")
        await seat.press("a")
    await seat.until(lambda: isinstance(seat.app.screen, Asking), question.title)
    await seat.see(question.choices[-1].label)


async def take(seat: Seat, question: Question, choice: Choice) -> None:
    """Pick this choice, and give what it demands."""
    await seat.press(*["down"] * (1 + question.choices.index(choice)), "enter")
    if question.confirm and choice is question.choices[0]:
        await seat.see(f"Type {question.confirm} to go on")
        seat.app.screen.query_one("#typed", Input).value = question.confirm
        await seat.press("enter")
    if choice.needs_text:
        await seat.see("why? It is written down.")
        seat.app.screen.query_one("#typed", Input).value = "by hand"
        await seat.press("enter")
    if choice.needs_evidence:
        await seat.see("Paste what shows it")
        seat.app.screen.query_one("#pasted", TextArea).text = "$ get a\n1\n"
        await seat.press("ctrl+s")
