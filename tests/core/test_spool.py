"""Durable jobs: what the follower says, read back; the scripts themselves run in tests/ssh."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import LinkLost, RunbookError, StateRefuses
from runbook.model import Reading
from runbook.ports import Job, JobState
from runbook.ssh.frame import Lines
from runbook.ssh.spool import GRACE, MOST, Follow, look_script, looked, start_script

TOKEN = "pmfeed"
JOB = Job("a.1", "echo on", 30)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def follow(
    offset: int = 0, clock: Clock | None = None
) -> tuple[Follow, list[str], threading.Event]:
    lines: list[str] = []
    stop = threading.Event()
    made = Follow(
        JOB, TOKEN, Lines(lines.append), stop, host="h", offset=offset, clock=clock or Clock()
    )
    return made, lines, stop


@given(st.integers(1, 40), st.booleans())
def test_it_is_done_when_all_of_the_output_is_here(size: int, first: bool) -> None:
    made, lines, _ = follow(offset=100)
    end = f"noise\n{TOKEN} done 7 3 10 \n".encode()
    out = b"one\ntwo\n33"
    if first:
        for at in range(0, len(end), size):
            made.err(end[at : at + size])
        assert not made.done
        made.out(out)
    else:
        made.out(out)
        assert not made.done
        for at in range(0, len(end), size):
            made.err(end[at : at + size])
    assert made.done and made.offset == 110
    outcome = made.outcome(lambda: "tail")
    assert (outcome.state, outcome.exit, outcome.seconds) == (JobState.DONE, 7, 3.0)
    assert outcome.tail == "tail" and lines == ["one", "two", "33"]


def test_a_lost_job_says_why_and_has_no_status() -> None:
    made, _, _ = follow()
    made.err(f"{TOKEN} lost 0 9 0 the job was killed\n".encode())
    outcome = made.outcome(lambda: "")
    assert (outcome.state, outcome.exit, outcome.note) == (JobState.LOST, -1, "the job was killed")


def test_left_out_output_counts_as_seen() -> None:
    made, lines, _ = follow()
    made.out(b"begin\n")
    assert made.offset == 6
    made.err(f"{TOKEN} skipped 6 1000\n".encode())
    made.out(b"end\n")
    assert made.offset == 1010
    assert any("1000 bytes" in line for line in lines)


def test_a_follower_that_was_heard() -> None:
    made, _, _ = follow()
    assert not made.attached
    made.err(f"{TOKEN} following\n".encode())
    assert made.attached and not made.done


def test_words_without_the_token_are_noise() -> None:
    made, _, _ = follow()
    made.err(b"pmfake done 0 0 0 \ndone 0 0 0 \n")
    assert not made.done
    with pytest.raises(LinkLost):
        made.outcome(lambda: "")


def test_refusals() -> None:
    made, _, _ = follow()
    with pytest.raises(StateRefuses, match="another script"):
        made.err(f"{TOKEN} refused another script ran here under this id\n".encode())
    made, _, _ = follow()
    with pytest.raises(LinkLost, match="does not report"):
        made.err(f"{TOKEN} silent\n".encode())


def test_when_following_ends_without_the_job() -> None:
    clock = Clock()
    made, _, stop = follow(clock=clock)
    made.late()
    assert clock.now < made.due() <= 1
    stop.set()
    with pytest.raises(LinkLost, match="goes on"):
        made.late()
    stop.clear()
    clock.now = JOB.timeout + GRACE
    with pytest.raises(LinkLost, match="reports nothing"):
        made.late()


def test_a_host_that_sends_without_end_is_cut() -> None:
    made, _, _ = follow()
    with pytest.raises(LinkLost, match="more than"):
        for _ in range(3):
            made.out(b"x\n" * (MOST // 2))


@pytest.mark.parametrize(
    ("first", "state", "status"),
    [
        ("absent -1 0 ", JobState.ABSENT, -1),
        ("claimed -1 0 ", JobState.ABSENT, -1),
        ("running -1 12 ", JobState.RUNNING, -1),
        ("done 3 12 ", JobState.DONE, 3),
        ("lost -1 12 the host rebooted during the job", JobState.LOST, -1),
    ],
)
def test_a_look(first: str, state: JobState, status: int) -> None:
    outcome = looked(Reading(0, f"{first}\nlast\nlines\n"))
    assert (outcome.state, outcome.exit, outcome.tail) == (state, status, "last\nlines\n")
    assert outcome.note == ("the host rebooted during the job" if "host" in first else "")


def test_a_look_that_says_nothing_known() -> None:
    with pytest.raises(RunbookError, match="no such thing"):
        looked(Reading(2, "", "no such thing"))


def test_values_are_quoted() -> None:
    job = Job("a", "it's `$x`\n", 30, about="o'clock\nsecond line")
    text = start_script(job, TOKEN).decode()
    assert "script='it'\"'\"'s `$x`\n'" in text
    assert "about='o'\"'\"'clock second line'" in text
    with pytest.raises(RunbookError, match="NUL"):
        start_script(Job("a", "\0", 30), TOKEN)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a b", "a\n", "x" * 201, "-rf"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(RunbookError, match="cannot name a job"):
        look_script(name)
