"""The frame of batched reads, the way in through sudo, and text made harmless."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import RunbookError, SudoRefused, Unreachable
from runbook.model import Read
from runbook.ssh.frame import ERR_LIMIT, SLACK, Batch, Gate, Lines, clean

TOKEN = "pm0123456789abcdef0123456789abcdef"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def batch(*reads: Read, clock: Clock | None = None, deadline: float = 100.0) -> Batch:
    return Batch(reads, "", TOKEN, host="h", deadline=deadline, clock=clock or Clock())


def mark(index: int, status: int = 0) -> bytes:
    return f"{TOKEN} {index} {status}\n".encode()


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain\n\ttab", "plain\n\ttab"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]0;no end\nnext", "\nnext"),
        (b"\x1bPdcs\x1b\\after", "after"),
        (b"\x1b(Bx\x1b=y\x1b", "xy"),
        (b"\xc2\x9b31mx\xc2\x85", "x"),
        (b"a\x00\x07\x08\x7fb", "ab"),
        ("a\u202eb\u2066c\u200fd\u2028e".encode(), "abcde"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"1\r\n2\r3", "1\n2\n3"),
        ("Grüße".encode(), "Grüße"),
    ],
)
def test_clean(raw: bytes, text: str) -> None:
    assert clean(raw) == text


@given(st.binary(max_size=200))
def test_nothing_clean_can_act_on_a_terminal(raw: bytes) -> None:
    text = clean(raw)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert clean(text.encode()) == text


@given(
    st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N"])), max_size=8),
    st.lists(st.integers(0, 500), max_size=8),
)
def test_lines_do_not_depend_on_how_they_arrive(lines: list[str], cuts: list[int]) -> None:
    seen: list[str] = []
    reader = Lines(seen.append)
    for piece in pieces("".join(f"{line}\n" for line in lines).encode(), cuts):
        reader.feed(piece)
    reader.end()
    assert seen == lines


def test_a_line_without_end_is_broken() -> None:
    seen: list[str] = []
    reader = Lines(seen.append)
    for _ in range(100):
        reader.feed(b"x" * 1000)
    assert [len(line) for line in seen] == [8192] * 12


# --- batches --------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 255))),
    st.lists(st.integers(0, 5000), max_size=20),
    st.lists(st.integers(0, 5000), max_size=20),
)
def test_a_batch_does_not_depend_on_how_it_arrives(
    parts: list[tuple[bytes, bytes, int]], cuts: list[int], more: list[int]
) -> None:
    reads = [Read(str(n), "") for n in range(len(parts))]
    made = batch(*reads)
    out, err = b"prelude" + mark(0), b"" + mark(0)
    for n, (o, e, status) in enumerate(parts, 1):
        out += o + mark(n, status)
        err += e + mark(n, status)
    for piece in pieces(out, cuts):
        assert not made.done
        made.out(piece)
    for piece in pieces(err, more):
        assert not made.done
        made.err(piece)
    assert made.done
    readings, rest = made.settle(0)
    assert rest == ()
    for n, (o, e, status) in enumerate(parts):
        reading = readings[str(n)]
        assert (reading.out, reading.err, reading.exit) == (clean(o), clean(e), status)


def test_a_mark_of_another_part_is_data() -> None:
    made = batch(Read("a", ""), Read("b", ""))
    forged = mark(2) + mark(0) + f"{TOKEN} 1 x\n".encode() + TOKEN.encode()
    made.out(mark(0) + forged + mark(1, 3) + b"b" + mark(2, 4))
    made.err(mark(0) + mark(1, 3) + mark(2, 4))
    readings, _ = made.settle(0)
    assert readings["a"].out == clean(forged) and readings["a"].exit == 3
    assert (readings["b"].out, readings["b"].exit) == ("b", 4)


def test_what_a_read_prints_is_bounded() -> None:
    made = batch(Read("a", "", limit=10), Read("b", ""))
    made.out(mark(0) + b"x" * 50 + mark(1))
    made.err(mark(0) + b"e" * 9000 + mark(1))
    made.out(b"fine" + mark(2))
    made.err(mark(2))
    readings, rest = made.settle(0)
    assert readings["a"].out == "x" * 10 and readings["a"].truncated
    assert readings["a"].err == "e" * ERR_LIMIT and readings["a"].exit == 0
    assert not readings["b"].truncated and rest == ()


@pytest.mark.parametrize("stream", ["out", "err"])
def test_a_flood_ends_its_batch_and_the_rest_is_left(stream: str) -> None:
    reads = Read("a", ""), Read("flood", "", limit=10), Read("c", "")
    made = batch(*reads)
    made.out(mark(0) + mark(1))
    made.err(mark(0) + mark(1))
    feed: Callable[[bytes], None] = getattr(made, stream)
    for _ in range((SLACK + ERR_LIMIT) // 1000 + 2):
        feed(b"y" * 1000)
    assert made.done
    readings, rest = made.settle(-1)
    assert list(readings) == ["a", "flood"] and rest == reads[2:]
    assert readings["flood"].truncated and readings["flood"].exit == 141
    assert len(readings["flood"].out) <= 10 and not readings["a"].truncated


def test_a_flood_on_stderr_is_not_blamed_on_the_read_before() -> None:
    reads = Read("a", ""), Read("flood", ""), Read("c", "")
    made = batch(*reads)
    made.err(mark(0) + mark(1) + b"y" * (SLACK + ERR_LIMIT + 100))
    made.out(mark(0))
    assert not made.done
    made.out(b"late" + mark(1))
    assert made.done
    readings, rest = made.settle(-1)
    assert (readings["a"].exit, readings["a"].out) == (0, "late")
    assert readings["flood"].exit == 141 and rest == reads[2:]


def test_time_is_counted_per_read() -> None:
    clock = Clock()
    reads = Read("a", "", timeout=5), Read("b", "", timeout=2), Read("c", "")
    made = batch(*reads, clock=clock)
    made.out(mark(0))
    assert made.due() == 5
    clock.now = 4
    made.out(mark(1))
    assert made.due() == 6
    clock.now = 5.9
    made.late()
    assert not made.done
    made.out(b"half")
    clock.now = 6
    made.late()
    assert made.done
    readings, rest = made.settle(-1)
    assert (readings["b"].exit, readings["b"].out, rest) == (124, "half", reads[2:])


def test_the_deadline_is_for_all_of_it() -> None:
    clock = Clock()
    made = batch(Read("a", ""), Read("b", ""), clock=clock, deadline=7.0)
    made.out(mark(0) + mark(1))
    assert made.due() == 7
    clock.now = 7
    with pytest.raises(Unreachable, match="1 of 2"):
        made.late()


def test_a_shell_that_dies_costs_one_read() -> None:
    reads = Read("a", ""), Read("b", ""), Read("c", "")
    made = batch(*reads)
    made.out(mark(0) + mark(1) + b"last words")
    readings, rest = made.settle(137)
    assert (readings["b"].exit, readings["b"].out) == (137, "last words")
    assert "ended the shell" in readings["b"].err and rest == reads[2:]
    made = batch(*reads)
    made.out(mark(0))
    assert made.settle(0)[0]["a"].exit == 255  # it did not end, whatever the shell says


def test_a_prelude_that_fails() -> None:
    made = batch(Read("a", ""))
    made.err(b"sh: 1: Syntax error")
    with pytest.raises(RunbookError, match="Syntax error"):
        made.settle(2)


def test_a_script_with_a_nul_is_refused() -> None:
    with pytest.raises(RunbookError, match="NUL"):
        batch(Read("a", "echo \0")).script()


# --- the way in -----------------------------------------------------------------------------------


class Inner:
    done = False

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    def out(self, data: bytes) -> None:
        self.seen.append(("out", data))

    def err(self, data: bytes) -> None:
        self.seen.append(("err", data))

    def due(self) -> float:
        return 1e9

    def late(self) -> None: ...


def gate(
    *, sudo: bool = True, password: Callable[[], str] | None = lambda: "pw"
) -> tuple[Gate, Inner]:
    inner = Inner()
    made = Gate(TOKEN, b"script", inner, host="h", sudo=sudo, password=password, clock=Clock())
    return made, inner


READY, ASK = f"{TOKEN}-in".encode(), f"{TOKEN}-ask".encode()


@given(st.lists(st.integers(0, 300), max_size=10))
def test_the_password_is_sent_once_and_the_script_after_the_way_in(cuts: list[int]) -> None:
    made, inner = gate()
    assert made.outbox == []
    for piece in pieces(b"We trust you have received the usual lecture\n" + ASK, cuts):
        made.err(piece)
    assert made.outbox == [b"pw\n"]
    for piece in pieces(b"noise" + READY + b"out", cuts):
        made.out(piece)
    for piece in pieces(READY + b"err", cuts):
        made.err(piece)
    assert made.outbox == [b"pw\n", b"script"]
    assert b"".join(d for s, d in inner.seen if s == "out") == b"out"
    assert b"".join(d for s, d in inner.seen if s == "err") == b"err"
    made.check(0)


def test_nothing_is_sent_that_is_not_asked_for() -> None:
    made, _ = gate()
    made.out(READY)
    made.err(READY)
    assert made.outbox == [b"script"]
    ahead = [f"{TOKEN}\nscript".encode()]
    made, _ = gate(sudo=False)
    assert made.outbox == ahead and "sudo" not in made.command
    made, _ = gate(password=None)
    assert made.outbox == ahead and "sudo -n" in made.command


@pytest.mark.parametrize("sudo", [False, True])
def test_a_login_shell_that_took_what_was_sent_is_no_refusal_of_sudos(sudo: bool) -> None:
    made, _ = gate(sudo=sudo, password=None)
    made.out(b"Your name? ")
    made.err(f"{TOKEN}-taken".encode())
    with pytest.raises(Unreachable, match="login shell reads") as error:
        made.check(1)
    assert not isinstance(error.value, SudoRefused)


def test_the_command_line_is_constant() -> None:
    made, _ = gate()
    assert "pw" not in made.command.replace(TOKEN, "") and "script" not in made.command


def test_a_second_question_is_a_wrong_password() -> None:
    made, _ = gate()
    made.err(ASK)
    with pytest.raises(SudoRefused, match="refused the password"):
        made.err(b"\nSorry, try again.\n" + ASK)
    assert made.outbox == [b"pw\n"]


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"sudo: sorry, you must have a tty to run sudo", "requiretty"),
        (b"sudo: a password is required", "names none"),
        (b"Sorry, user x is not allowed to execute '/bin/sh' as root on h.", "not allowed"),
        (b"sh: 1: sudo: not found", "cannot be run"),
    ],
)
def test_why_sudo_let_nobody_in(said: bytes, match: str) -> None:
    made, _ = gate()
    made.err(b"\x1b[31m" + said + b"\n")
    with pytest.raises(SudoRefused, match=match) as error:
        made.check(1)
    assert error.value.hint and "\x1b" not in str(error.value)


def test_an_answer_that_cannot_be_a_password() -> None:
    for answer in ("", "two\nlines"):
        made, _ = gate(password=lambda answer=answer: answer)  # type: ignore[misc]
        with pytest.raises(SudoRefused, match="empty or has a newline"):
            made.err(ASK)
        assert made.outbox == []
