"""What each screen says at both sizes, and what its keys do."""

from __future__ import annotations

import asyncio
import string
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input

from runbook.model import Status
from runbook.ports import Reply
from runbook.tui.dialogs import Asking, Help, Leaving
from runbook.tui.home import Home
from runbook.tui.hosts import HostsView
from runbook.tui.log import LogView, Window
from runbook.tui.review import ReviewView
from runbook.tui.rows import Rows
from runbook.tui.summary import Summary
from tests.ui import scenario
from tests.ui.conftest import NARROW, PATIENCE, WIDE, Seat, play, seated

pytestmark = pytest.mark.ui

Record = Callable[[], list[str]]
SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "120x36"])
GOLDENS = Path(__file__).parent / "goldens"

SCREENS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    # name: scenario, then (key to press or "", text to wait for)
    "overview": ("whole", (("", "a decides"), ("escape", "Activity"))),
    "plan": ("whole", (("", "a decides"),)),
    "approve": ("whole", (("", "a decides"), ("a", "No, back to the plan"))),
    "typed": (
        "destructive",
        (("", "a decides"), ("a", "No, back"), ("down", ""), ("enter", "Type")),
    ),
    "failure": (
        "whole",
        (("", "a decides"), ("a", "No, back"), ("down", ""), ("enter", "read-only")),
    ),
    "step": ("running", (("", "waits for agent01"), ("j", ""), ("enter", "Actions"))),
    "findings": ("running", (("", "waits for agent01"), ("enter", "Findings"), ("2", "clock"))),
    "hosts": ("running", (("", "waits for agent01"), ("h", "LAST LINE"))),
    "log": ("running", (("", "waits for agent01"), ("h", "LAST LINE"), ("enter", "following"))),
    "crowd": ("crowd", (("", "waits for agent0001"), ("tab", "Estate"))),
    "help": ("whole", (("", "a decides"), ("question_mark", "Keys: Plan"))),
    "summary": ("dry", (("", "Done; nothing was changed."),)),
    "map": ("whole", (("", "a decides"), ("m", "Map of the estate"))),
    "balanced": ("balanced", (("", "Done."),)),
    "shares": ("balanced", (("", "Done."), ("m", "Map of the estate"), ("G", "counted"))),
    "compared": ("compared", (("", "Not passed"),)),
    "table": (
        "compared",
        (
            ("", "Not passed"),
            ("escape", "Steps"),
            ("j", ""),
            ("enter", "Checks"),
            ("5", "[5 Table]"),
            ("j", ""),
            ("j", "modules/site/init.pp"),
        ),
    ),
    "secret": ("secret", (("", "sudo password for operator"),)),
    "trust": ("trust", (("", "SHA256:47DEQ"),)),
    "attest": (
        "attest",
        (
            ("", "still needs it"),
            ("down", ""),
            ("down", ""),
            ("enter", "why?"),
            ("x", "x"),
            ("enter", "Paste what shows it"),
            ("y", "y"),
        ),
    ),
    "hostile": ("hostile", (("", "Not now"),)),
    "resumed": ("resumed", (("", "ok"),)),
}


@SIZES
@pytest.mark.parametrize("name", SCREENS)
def test_what_the_screen_says(
    name: str, size: tuple[int, int], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    of, path = SCREENS[name]

    async def work() -> None:
        async with seated(of, tmp_path, size) as seat:
            for key, text in path:
                if key:
                    await seat.press(key)
                await seat.see(text)
            golden = GOLDENS / f"{name}-{size[0]}x{size[1]}.txt"
            if request.config.getoption("--update-goldens"):
                golden.write_text(await still(seat), encoding="utf-8")
            said = golden.read_text(encoding="utf-8")
            await seat.until(lambda: seat.text() == said, f"this screen:\n{said}\nbut this")

    play(work)


async def still(seat: Seat) -> str:
    """The screen once nothing moves on it any more, its footer drawn."""
    end = time.monotonic() + PATIENCE
    before, same = "", 0
    while same < 8 and time.monotonic() < end:
        await asyncio.sleep(0.1)
        shown = seat.text()
        same = same + 1 if shown == before and seat.app.desk.state.events else 0
        before = shown
    return before


def test_enter_on_the_dialog_is_no(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("whole", tmp_path) as seat:
            await seat.see("a decides")
            for _ in range(3):
                await seat.press("a")
                assert isinstance(seat.app.screen, Asking)
                await seat.press("enter")
                assert isinstance(seat.app.screen, ReviewView)
            assert record() == []

    play(work)


def test_no_single_key_changes_anything(tmp_path: Path, record: Record) -> None:
    keys = [*string.ascii_letters, *string.digits, "enter", "space", "tab", "escape", "backspace"]
    keys += ["left", "right", "up", "down", "slash", "question_mark", "delete", "f1", "ctrl+c"]

    async def work() -> None:
        async with seated("whole", tmp_path) as seat:
            await seat.see("a decides")
            review = seat.app.screen
            assert isinstance(review, ReviewView)
            for key in (k for k in keys if k != "s"):
                await seat.press(key)
                while seat.app.screen is not review:
                    if isinstance(seat.app.screen, Home):
                        await seat.press("d")
                        review = seat.app.screen
                    else:
                        await seat.press("escape")
                assert not seat.app.desk.feed.questions[0].reply.done(), key
            assert record() == []

    play(work)


def test_destructive_needs_the_name(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("destructive", tmp_path) as seat:
            await seat.see("a decides")
            await seat.press("a", "down", "enter")
            await seat.press(*"agent", "enter")
            await seat.see("That is not agent01.example.com")
            assert record() == []
            await seat.press("escape")
            assert isinstance(seat.app.screen, Asking)
            await seat.press("enter")
            await seat.press(*"agent01", "full_stop", *"example", "full_stop", *"com", "enter")
            await seat.see("Done.")
            assert record() == ["approve"]

    play(work)


def test_a_reason_is_needed_and_handed_over(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("whole", tmp_path) as seat:
            await seat.see("a decides")
            await seat.press("a", "down", "enter")
            await seat.see("read-only")
            await seat.press("down", "down", "down", "down", "enter")
            await seat.see("why?")
            await seat.press("enter")
            await seat.see("A reason is needed")
            await seat.press(*"broken", "enter")
            await seat.see("Done.", "Left out", "agent02.example.com: broken")
            assert record() == ["approve", "exclude broken"]

    play(work)


def test_a_word_needs_a_reason_and_what_shows_it(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("attest", tmp_path) as seat:
            await seat.see("still needs it")
            pending = seat.app.desk.feed.questions[0]
            await seat.press("down", "down", "enter", *"by", "enter")
            await seat.see("Paste what shows it")
            await seat.press("ctrl+s")
            assert not pending.reply.done()
            await seat.press(*"one", "enter", *"two", "ctrl+s")
            await seat.see("ended with exit code 1")
            assert pending.reply.result() == Reply("attest", "by", "one\ntwo")

    play(work)


def test_a_question_may_be_put_off_and_taken_up(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("trust", tmp_path) as seat:
            await seat.see("SHA256:47DEQ")
            await seat.press("enter")
            assert isinstance(seat.app.screen, Home)
            await seat.see("waits for you, d decides: First contact")
            await seat.press("h", "d")
            await seat.see("SHA256:47DEQ")
            await seat.press("down", "enter")
            await seat.see("Done.")
            assert record() == ["trust"]

    play(work)


def test_a_password_is_seen_nowhere(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("secret", tmp_path) as seat:
            await seat.see("sudo password for operator")
            typed = seat.app.screen.query_one("#typed", Input)
            assert typed.has_focus
            pending = seat.app.desk.feed.questions[0]
            await seat.press(*"sesame", "home", "shift+end", "ctrl+x")
            await seat.press("ctrl+c")
            assert "sesame" not in seat.text()
            assert seat.app.clipboard == ""
            while isinstance(seat.app.screen, Leaving):
                await seat.press("escape")
            await seat.press("enter")
            await seat.see("Done.")
            assert pending.reply.result().text == "sesame"
            assert typed.value == ""
            assert "sesame" not in repr(pending) + repr(seat.app.desk.state)
            assert record() == ["give"]

    play(work)


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
def test_leaving_is_asked_about(tmp_path: Path, record: Record, key: str) -> None:
    async def work() -> None:
        async with seated("running", tmp_path) as seat:
            await seat.see("waits for agent01")
            await seat.press(key)
            assert isinstance(seat.app.screen, Leaving)
            await seat.press("enter")
            assert isinstance(seat.app.screen, Home)
            assert record() == []
            await seat.press(key, "down", "enter")
            await seat.until(lambda: seat.app.return_value is not None, "the end")
            assert seat.app.return_value == 130
            assert record() == ["stopped"]

    play(work)


def test_ctrl_c_is_guarded_inside_a_question(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("trust", tmp_path) as seat:
            await seat.see("SHA256:47DEQ")
            await seat.press("ctrl+c")
            assert isinstance(seat.app.screen, Leaving)
            await seat.press("down", "enter")
            await seat.until(lambda: seat.app.return_value is not None, "the end")
            assert seat.app.return_value == 130  # whoever asked was released, as interrupted
            assert record() == ["stopped"]

    play(work)


def test_escape_goes_back_from_everywhere(tmp_path: Path) -> None:
    async def work() -> None:
        async with seated("running", tmp_path, NARROW) as seat:
            await seat.see("waits for agent01")
            for keys in (["h", "enter"], ["j", "enter", "4", "enter"], ["p", "enter"], ["f1"]):
                await seat.press(*keys)
                assert not isinstance(seat.app.screen, Home)
                for _ in range(4):
                    await seat.press("escape")
                assert isinstance(seat.app.screen, Home)
                assert seat.app.screen.side == "left"

    play(work)


def test_the_end_is_left_with_one_key(tmp_path: Path) -> None:
    async def work() -> None:
        async with seated("dry", tmp_path) as seat:
            await seat.see("Done; nothing was changed.")
            await seat.press("q")
            assert seat.app.return_value == 0

    play(work)


def test_a_broken_engine_is_a_sentence(tmp_path: Path) -> None:
    async def work() -> None:
        async with seated("broken", tmp_path) as seat:
            shown = await seat.see("[/b] no such thing")
            assert scenario.PASSWORD not in shown
            assert isinstance(seat.app.screen, Summary)
            await seat.press("q")
            assert seat.app.return_value == 1

    play(work)


def test_the_palette_names_area_and_verb(tmp_path: Path) -> None:
    async def work() -> None:
        async with seated("running", tmp_path) as seat:
            await seat.see("waits for agent01")
            await seat.press("ctrl+p")
            await seat.see("app: Help", "view: Hosts", "app: Quit")
            await seat.press(*"view", "colon", "space", *"Hosts")
            await seat.until(lambda: "app: Help" not in seat.text(), "the one entry")
            await seat.press("enter")
            await seat.until(lambda: isinstance(seat.app.screen, HostsView), "the hosts")

    play(work)


def test_help_names_our_keys_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with seated("whole", tmp_path) as seat:
            await seat.see("a decides")
            await seat.press("question_mark")
            assert isinstance(seat.app.screen, Help)
            shown = seat.text()
            assert "Approve or decline" in shown
            assert "Scroll" not in shown
            assert "Page Left" not in shown

    play(work)


def test_four_thousand_hosts_cost_what_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = HostsView._draw_host

    def counted(self: HostsView, host: str, width: int) -> object:
        drawn.append(host)
        return draw(self, host, width)

    monkeypatch.setattr(HostsView, "_draw_host", counted)

    async def work() -> None:
        async with seated("crowd", tmp_path) as seat:
            await seat.until(lambda: len(seat.app.desk.state.excluded) == 1, "the last event")
            await seat.press("h")
            shown = await seat.see("LAST LINE", "40 failed", "1 excluded")
            assert shown.index("failed") < shown.index("running")
            drawn.clear()
            seat.app.screen.query_one("#hosts").refresh()
            await still(seat)
            rows = WIDE[1]
            assert drawn
            assert len(drawn) <= 10 * rows
            assert len(set(drawn)) <= rows
            await seat.press("G")
            await seat.see("4006 of 4006", "agent3998")

    play(work)


def test_a_host_left_out_is_taken_in_again_after_a_yes(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("crowd", tmp_path) as seat:
            await seat.until(lambda: len(seat.app.desk.state.excluded) == 1, "the last event")
            await seat.press("h")
            await seat.see("LAST LINE", "1 excluded")
            assert "i Take in again" not in seat.text()
            await seat.press("i")  # not for a host that is at work
            assert isinstance(seat.app.screen, HostsView)
            host = next(iter(seat.app.desk.state.excluded))
            seat.app.screen.query_one("#hosts", Rows).go_to(host)
            await seat.see("i Take in again")
            await seat.press("i")
            await seat.see(f"Take {host} in again?", "It was left out: out of reach")
            await seat.press("enter")
            assert record() == []
            await seat.press("i", "down", "enter")
            assert record() == [f"include {host}"]

    play(work)


def test_the_cursor_stays_on_its_host(tmp_path: Path) -> None:
    async def work() -> None:
        async with seated("running", tmp_path) as seat:
            await seat.see("waits for agent01")
            await seat.press("h", "down", "down", "down")
            hosts = seat.app.screen.query_one("#hosts")
            name = hosts.cursor  # type: ignore[attr-defined]
            seat.app.desk.state.host("ns.example.com").status = Status.FAILED
            seat.app.screen.draw(change_of("ns.example.com"))  # type: ignore[attr-defined]
            assert hosts.items[0] == "ns.example.com"  # type: ignore[attr-defined]
            assert hosts.cursor == name  # type: ignore[attr-defined]

    play(work)


def change_of(host: str) -> object:
    from runbook.tui.desk import Change

    return Change(hosts={host})


def test_a_log_grows_is_searched_and_let_go(tmp_path: Path) -> None:
    async def work() -> None:
        async with seated("running", tmp_path) as seat:
            await seat.see("waits for agent01")
            await seat.press("h", "enter")
            await seat.see("line 199", "following")
            path = seat.mission.transcript("ca", scenario.HOSTS[0])
            with path.open("a") as file:
                file.write("one more line\n")
            await seat.see("one more line", "201 of 201, following")
            await seat.press("slash", *"line", "space", *"12", "enter")
            await seat.see("line 12:")
            assert "following" not in seat.text()
            assert isinstance(seat.app.screen, LogView)
            window = seat.app.screen.query_one(Window)
            assert window.found == 12
            await seat.press("n")
            await seat.until(lambda: window.found == 120, "the next line")
            await seat.press("N")
            await seat.until(lambda: window.found == 12, "the line before")
            await seat.press("G")
            await seat.see("one more line", "following")

    play(work)


def test_a_moved_plan_takes_the_place_of_the_one_shown(tmp_path: Path, record: Record) -> None:
    async def work() -> None:
        async with seated("whole", tmp_path) as seat:
            await seat.see("a decides")
            await seat.press("a", "down", "down", "enter")
            await seat.until(lambda: record() == ["again"], "the answer")
            await seat.see("a decides")
            assert isinstance(seat.app.screen, ReviewView)
            assert sum(isinstance(s, ReviewView) for s in seat.app.screen_stack) == 1

    play(work)
