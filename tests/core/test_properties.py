"""What holds whatever comes in: shell words, inventories, edited files, journals, hosts' bytes.

Further properties stand beside what they are about: test_frame, test_edit_ini, test_edit_hocon,
test_inventory_hostile, test_inventory_schema, test_state.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from runbook.steps.shellwords import assignments

from runbook import lock, shell, sitecopy
from runbook.audit import audit
from runbook.edit import (
    EditError,
    heap_get,
    heap_set,
    hocon_delete,
    hocon_get,
    hocon_list_add,
    hocon_set,
    ini_delete,
    ini_get,
    ini_set,
    ini_settings,
    service_enable,
)
from runbook.errors import RunbookError
from runbook.inventory import InventoryError, load
from runbook.journal import GENESIS, Head, Journal, parse, read
from runbook.lock import Holder
from runbook.model import Action, Event, Read, Reading, Restore, Site, WriteFile
from runbook.ports import Job, JobState, Outcome
from runbook.ssh import frame, spool
from runbook.state import RunState, fold
from tests.core.estate import DEBT, NAMES, ROLL, TWO, Fleet, Scripted, make, site

ROOT = Path(__file__).parents[2]
SLOW_IS_FINE = settings(deadline=None, suppress_health_check=list(HealthCheck))

# --- words of a shell -----------------------------------------------------------------------------

NASTY = st.sampled_from(
    [
        *["", " ", "'", '"', "\\", "$(touch pwned)", "`id`", "$IFS", "*", "~", "-n", "-e", "--"],
        *["#", ";", "&&", "|", ">x", "EOF", "PMRUNBOOK-END", "!", "{a,b}", "%s", "\\n", "="],
        *["\n", "\r\n", "a\nb\n", "\t", "é", "\u2028", "\x1b[2J", "\x01", "\x7f"],
    ]
)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
WORDS = st.lists(
    st.builds("".join, st.lists(NASTY | TEXT, min_size=1, max_size=4)),
    min_size=1,
    max_size=20,
)


def ran(script: str, **more: Any) -> bytes:
    done = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True, **more)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("quoted", [shell.quote, frame.quote])
@settings(SLOW_IS_FINE, max_examples=80)
@given(words=WORDS)
def test_every_text_is_one_word(quoted: Callable[[str], str], words: list[str]) -> None:
    """NUL-terminated arguments of a program: what the shell made of the script."""
    script = f"printf '%s\\0' {' '.join(map(quoted, words))}"
    assert ran(script) == b"".join(word.encode() + b"\0" for word in words)
    # And as the engine sends it: a script inside of a script.
    assert ran(f"( eval {frame.quote(script)} )") == ran(script)


@settings(SLOW_IS_FINE, max_examples=80)
@given(WORDS)
def test_every_assignment_is_its_value(words: list[str]) -> None:
    values = {f"v{n}": word for n, word in enumerate(words)}
    shown = " ".join(f'"${name}"' for name in values)
    out = ran(f"{assignments(**values)}printf '%s\\0' {shown}")
    assert out == b"".join(word.encode() + b"\0" for word in words)


@pytest.mark.parametrize("quoted", [shell.quote, frame.quote])
def test_what_no_word_can_carry_is_refused(quoted: Callable[[str], str]) -> None:
    with pytest.raises((ValueError, RunbookError)):
        quoted("a\0b")


@settings(SLOW_IS_FINE, max_examples=15)
@given(words=WORDS)
def test_every_path_of_a_written_file_is_that_file(words: list[str]) -> None:
    names = {w.replace("/", "_")[:60] for w in words[:6]} - {"", ".", ".."}
    assume(names)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell, "BACKUPS", f"{folder}/var/backups")
        patch.setattr(shell, "ROOT", f"{folder}/var")
        (Path(folder) / "etc").mkdir()
        scripts: list[str] = []
        for number, name in enumerate(sorted(names)):
            path = f"{folder}/etc/{name}"
            do = WriteFile(path, name.encode(), owner="0:0")
            scripts.append(shell.perform(Action("x", "h", "x", do, Restore()), f"job{number}"))
        together = "".join(f"(\n{script}\n) || exit\n" for script in scripts)
        subprocess.run(["sh"], input=together.encode(), capture_output=True, check=True)
        found = {p.name: p.read_bytes() for p in (Path(folder) / "etc").iterdir()}
        assert found == {name: name.encode() for name in names}


@settings(SLOW_IS_FINE, max_examples=40)
@given(st.lists(TEXT | NASTY, min_size=4, max_size=4))
def test_a_holder_comes_back_from_the_lock_as_they_took_it(words: list[str]) -> None:
    who, where, why, run = words
    holder = Holder(who or "x", where, why, run, where, run or "r")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "ROOT", folder)
        patch.setattr(lock, "FOLDER", f"{folder}/lock")
        patch.setattr(lock, "_SHOW", lock._SHOW.replace("/var/lib/pmrunbook", folder))
        ran(lock.take_script(holder), cwd=folder)
        shown = lock.parse(ran(lock.status_script()).decode())
        assert shown
        assert (shown.who, shown.where, shown.why) == (holder.who, where, why)
        ran(lock.release_script(holder.token))
        assert lock.parse(ran(f"{lock.status_script()} || :").decode()) is None


@settings(SLOW_IS_FINE, max_examples=40)
@given(st.lists(st.lists(TEXT | NASTY, max_size=3), min_size=1, max_size=6))
def test_a_journal_reaches_the_site_byte_by_byte(texts: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module, name, path in (
            (lock, "FOLDER", "lock"),
            (sitecopy, "FOLDER", "site"),
            (sitecopy, "FILE", "site/journal.jsonl"),
        ):
            patch.setattr(module, name, f"{folder}/{path}")
        (Path(folder) / "lock").mkdir()
        (Path(folder) / "lock" / "holder").write_text('{"token": "token1"}')
        journal = Journal(Path(folder) / "here")
        for text in texts:
            journal.append(Event("message", 1.0, data={"text": text}))
        data = journal.since(0)
        ran(sitecopy.push_script(Head(), data, "token1"))
        assert (Path(folder) / "site/journal.jsonl").read_bytes() == data
        journal.close()


# --- inventories ----------------------------------------------------------------------------------

EXAMPLES = [path.read_text() for path in sorted((ROOT / "inventories").glob("*.yaml"))]


SEEDS = range(12)


def anything(seed: int) -> bytes:
    """Examples cut into lines, repeated, shuffled, torn and filled up to 1 MB."""
    draw = random.Random(seed)  # noqa: S311
    lines = [line for text in EXAMPLES for line in text.splitlines()]
    scraps = ["- &a [*a]", "? x", "\tx", "k: " + "v" * 5000, "[" * 40, "a: {b: [c, {d: e}]}", "'"]
    body: list[str] = draw.choice(EXAMPLES).splitlines()
    while sum(map(len, body[-4000:])) < 200_000 and len(body) < 30_000:
        take = draw.randrange(3)
        if take == 0:
            body += draw.sample(lines, 40)
        elif take == 1:
            number = len(body)
            body += [f"  - agent{number}-{n}.example.com" for n in range(200)]
        else:
            body.insert(draw.randrange(len(body)), draw.choice(scraps))
    data = ("\n".join(body) + "\n").encode()
    return (data * (1 + (1 << 20) // len(data)))[: (1 << 20) - 1]


def sound() -> str:
    """1 MB of hosts."""
    head = "ca: {host: primary.example.com, name: ca.example.com}\nagents:\n"
    size = (1 << 20) - len(head)
    hosts: list[str] = []
    while size > 60:
        line = f"  - agent{len(hosts):06}.a-rather-long-domain-of-some-site.example.com\n"
        hosts.append(line)
        size -= len(line)
    return head + "".join(hosts)


def loaded(path: Path) -> tuple[Site | None, float]:
    """The site, if it is one, and the seconds it takes; a busy machine adds to some of three."""
    found, took = None, 9.0
    for _ in range(3):
        began = time.process_time()
        with contextlib.suppress(InventoryError):
            found = load(path)
        took = min(took, time.process_time() - began)
    return found, took


@pytest.mark.parametrize("seed", SEEDS)
def test_a_megabyte_of_anything_is_answered_within_a_second(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(anything(seed))
    assert loaded(path)[1] < 1.0


def test_a_megabyte_of_a_sound_inventory_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(sound())
    found, took = loaded(path)
    assert took < 1.0  # 18,000 hosts
    assert found and len(found.hosts) == sound().count("  - ") + 1


# Not ru_maxrss: Linux hands that on from the process that started this one.
PEAK = """
import contextlib, pathlib, sys
from runbook.inventory import InventoryError, load
for file in sys.argv[1:]:
    with contextlib.suppress(InventoryError):
        load(pathlib.Path(file))
status = pathlib.Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""


def test_a_megabyte_of_anything_takes_little_memory(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.yaml" for seed in SEEDS]
    for seed, file in zip(SEEDS, files, strict=True):
        file.write_bytes(anything(seed))
    files.append(tmp_path / "sound.yaml")
    files[-1].write_text(sound())
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *files], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200_000  # KiB, one file after the other in one process


# --- files that are edited ------------------------------------------------------------------------

CONF = (
    b"# of the site\n[main]\nserver = puppet\nca_server=ca { owner = root }\n\n[agent]\r\n"
    b"report = true\r\n[server]\n; x\nreports = store,puppetdb\n"
)
HOCON = (
    b'# conf\nwebserver: {\n    ssl-port = 8140 # here\n    "a.b": [x, "y"]\n}\n'
    b"jruby-puppet.max-active-instances: 4\nauthorization { rules: [ { name: x } ] }\n"
)


@st.composite
def torn(draw: st.DrawFn, start: bytes) -> bytes:
    """A real file, cut, stretched and with bytes of anything in it."""
    data = start
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 12))
        put = draw(st.binary(max_size=6) | st.sampled_from([b"[", b"{", b'"', b"=", b"\r", b"\n"]))
        data = data[:at] + put + data[at + cut :]
    return data


@settings(SLOW_IS_FINE, max_examples=300)
@example(b"[main]\n\n[agent]\r\nreport = true", "new", "x")
@given(torn(CONF), st.sampled_from(["main", "agent", "new"]), TEXT)
def test_an_ini_file_of_any_bytes_changes_in_one_setting_or_not_at_all(
    data: bytes, section: str, value: str
) -> None:
    try:
        after = ini_set(data, section, "server", value)
    except EditError:
        return
    assert ini_get(after, section, "server") == value
    assert ini_set(after, section, "server", value) == after
    old, new = data.split(b"\n"), after.split(b"\n")
    ours = {s.line for s in ini_settings(data) if (s.section, s.key) == (section, "server")}
    if ours:
        # In place: every other line is byte for byte what it was.
        changed = {n for n, (a, b) in enumerate(zip(old, new, strict=True), 1) if a != b}
        assert changed <= ours
    else:

        def in_order(lines: list[bytes]) -> bool:
            left = iter(new)
            return all(line in left or line == b"" for line in lines)

        # All of them; a last line without an end gets that of its neighbours.
        assert in_order(old) or in_order([*old[:-1], old[-1] + b"\r"])


@settings(SLOW_IS_FINE, max_examples=300)
@given(torn(HOCON), st.sampled_from(["webserver.ssl-port", "a.b.c", "new"]), TEXT)
def test_a_hocon_file_of_any_bytes_changes_in_one_setting_or_not_at_all(
    data: bytes, path: str, value: str
) -> None:
    try:
        after = hocon_set(data, path, value)
    except EditError:
        return
    assert hocon_get(after, path) == value
    assert hocon_set(after, path, value) == after
    before, behind = _around(data, after)
    # One place changed: what is before it and behind it is byte for byte what was there.
    assert data.startswith(before) and data.endswith(behind)


def _around(data: bytes, after: bytes) -> tuple[bytes, bytes]:
    start = next(
        (n for n, (a, b) in enumerate(zip(data, after, strict=False)) if a != b),
        min(len(data), len(after)),
    )
    end = 0
    while end < min(len(data), len(after)) - start and data[-1 - end] == after[-1 - end]:
        end += 1
    return after[:start], after[len(after) - end :] if end else b""


EDITS: list[Callable[[bytes], object]] = [
    lambda data: ini_delete(data, "main", "server"),
    lambda data: hocon_delete(data, "webserver.ssl-port"),
    lambda data: hocon_list_add(data, "webserver.x", "y"),
    lambda data: heap_set(data, 1024),
    heap_get,
    lambda data: service_enable(data, "a.b/c"),
]


@settings(SLOW_IS_FINE, max_examples=200)
@given(torn(CONF) | torn(HOCON) | st.binary(max_size=200), st.sampled_from(EDITS))
def test_an_edit_of_any_bytes_is_done_or_refused(
    data: bytes, edit: Callable[[bytes], object]
) -> None:
    with contextlib.suppress(EditError):
        edit(data)


# --- journals -------------------------------------------------------------------------------------


FAILED = Outcome(JobState.DONE, 1, "no")


def _stories() -> list[list[Event]]:
    """What runs of several kinds wrote down."""
    told: list[list[Event]] = []
    for steps, answers in (
        ((TWO, ROLL), ("approve",)),
        ((DEBT,), ("approve", "quit")),
        ((ROLL,), ("approve", "exclude:broken")),
    ):
        estate = Fleet(*NAMES)
        if steps == (ROLL,):
            estate.hosts["h2"]._do = lambda command: FAILED  # type: ignore[method-assign]
        face = Scripted(*answers)
        run = make(estate, site(*NAMES), *steps, face=face)
        with contextlib.suppress(RunbookError):
            run.engine.run()
        with contextlib.suppress(RunbookError):
            run.undo.run(steps[0].id)
        told.append(list(face.events))
    return told


STORIES = _stories()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.builds(
    Event,
    st.sampled_from(["message", "finding", "planned", "note"]),
    st.floats(0, 4e9),
    TEXT,
    TEXT,
    TEXT,
    st.dictionaries(TEXT, VALUES, max_size=3),
)


@settings(SLOW_IS_FINE, max_examples=150)
@given(st.sampled_from(STORIES), st.data())
def test_any_prefix_of_any_story_folds_as_it_was_lived(
    story: list[Event], draw: st.DataObject
) -> None:
    """Folded at once or one by one, and what was open stays open until its end is read."""
    cut = draw.draw(st.integers(0, len(story)))
    lived = RunState()
    for event in story[:cut]:
        lived.apply(event)
    assert fold(story[:cut]) == lived
    starts = {(e.action, e.data["job"]) for e in story[:cut] if e.kind == "start"}
    ends = {(e.action, e.data["job"]) for e in story[:cut] if e.kind == "end"}
    assert {(a.id, a.job) for a in lived.unknown()} == starts - ends


@settings(SLOW_IS_FINE, max_examples=150)
@given(st.sampled_from(STORIES), st.randoms(use_true_random=False))
def test_hosts_that_work_side_by_side_may_be_written_down_in_any_order(
    story: list[Event], shuffle: random.Random
) -> None:
    """Records of one host keep their order; what is no host's is where it was."""
    mixed: list[Event] = []
    side_by_side: list[Event] = []

    def put() -> None:
        by_host: dict[str, list[Event]] = {}
        for event in side_by_side:
            by_host.setdefault(event.host, []).append(event)
        while by_host:
            host = shuffle.choice(sorted(by_host))
            mixed.append(by_host[host].pop(0))
            if not by_host[host]:
                del by_host[host]
        side_by_side.clear()

    for event in story:
        if event.kind in ("start", "end", "output", "reading", "unreachable"):
            side_by_side.append(event)
        else:
            put()
            mixed.append(event)
    put()
    one, other = fold(story), fold(mixed)
    assert {s: x.actions for s, x in one.steps.items()} == {
        s: x.actions for s, x in other.steps.items()
    }
    assert one.hosts == other.hosts
    assert one.debts == other.debts and one.excluded == other.excluded
    assert sorted(a.id for a in one.undone) == sorted(a.id for a in other.undone)


@settings(SLOW_IS_FINE, max_examples=60)
@given(st.lists(EVENTS, max_size=6))
def test_what_is_written_is_what_is_read(events: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "s")
        for event in events:
            journal.append(event)
        journal.close()
        found, _, tear = read(journal.path)
        assert tear is None
        assert [json.dumps(e.data) for e in found] == [json.dumps(e.data) for e in events]
        assert [(e.kind, e.at, e.step, e.host, e.action) for e in found] == [
            (e.kind, e.at, e.step, e.host, e.action) for e in events
        ]
        assert audit(journal.path).faults == ()


@settings(SLOW_IS_FINE, max_examples=150)
@given(st.data())
def test_no_harm_to_a_journal_goes_unnoticed(draw: st.DataObject) -> None:
    """Any byte changed, any lines removed, doubled or moved, any end cut off."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "s")
        for n in range(6):
            journal.append(Event("message", float(n), host="h", data={"text": "as ever", "n": n}))
        journal.close()
        whole = journal.path.read_bytes()
        lines = whole.splitlines(keepends=True)
        one, two = draw.draw(st.integers(0, 5)), draw.draw(st.integers(0, 5))
        match draw.draw(st.sampled_from(["byte", "cut", "remove", "double", "swap", "insert"])):
            case "byte":
                at = draw.draw(st.integers(0, len(whole) - 1))
                harmed = whole[:at] + draw.draw(st.binary(min_size=1, max_size=1)) + whole[at + 1 :]
            case "cut":
                harmed = whole[: draw.draw(st.integers(0, len(whole) - 1))]
            case "remove":
                harmed = b"".join(lines[: min(one, two)] + lines[max(one, two) + 1 :])
            case "double":
                harmed = b"".join([*lines[:one], lines[two], *lines[one:]])
            case "swap":
                lines[one], lines[two] = lines[two], lines[one]
                harmed = b"".join(lines)
            case _:
                at = draw.draw(st.integers(0, len(whole)))
                harmed = whole[:at] + draw.draw(st.binary(min_size=1, max_size=5)) + whole[at:]
        assume(harmed != whole)
        journal.path.write_bytes(harmed)
        found = audit(journal.path)
        # Behind a sound end, bytes without a newline are a record that was being written.
        assert found.faults or (found.torn and harmed.startswith(whole))
        try:
            read(journal.path)
        except RunbookError:
            pass
        else:
            assert harmed.startswith(whole)


@settings(SLOW_IS_FINE, max_examples=200)
@given(st.binary(max_size=80) | st.builds(lambda v: json.dumps(v).encode(), VALUES))
def test_any_line_is_a_record_or_none(line: bytes) -> None:
    framed = b'{"hash":"%s","record":%s}\n' % (b"0" * 64, line)
    for text in (line, framed):
        record = parse(text, GENESIS)
        assert record is None or not record.sound


# --- what hosts print -----------------------------------------------------------------------------

TOKEN = "pm" + "0" * 32
PIECES = st.lists(
    st.binary(max_size=40)
    | st.sampled_from(
        [
            f"{TOKEN} {n} {x}\n".encode()
            for n in (0, 1, 2, 3, 7)
            for x in ("0", "255", "999", "x", "-1")
        ]
        + [TOKEN.encode(), TOKEN.encode()[:9], b"\n", b"\0", b"\xff" * 9]
    ),
    max_size=14,
)


@settings(SLOW_IS_FINE, max_examples=300)
@given(PIECES, PIECES, st.integers(-1, 300))
def test_whatever_a_host_prints_is_a_reading_or_an_error(
    out: list[bytes], err: list[bytes], status: int
) -> None:
    reads = (Read("a", "", limit=64), Read("b", "", limit=64))
    made = frame.Batch(reads, "", TOKEN, host="h", deadline=100.0, clock=lambda: 0.0)
    for piece in out:
        made.out(piece)
    for piece in err:
        made.err(piece)
    assert all(len(kept) <= 64 for kept in made._out.kept)
    try:
        readings, rest = made.settle(status)
    except RunbookError:
        return
    assert {*readings, *(r.id for r in rest)} == {"a", "b"}
    for reading in readings.values():
        assert len(reading.out) <= 64
        assert frame.clean(reading.out.encode()) == reading.out


FOLLOWED = st.lists(
    st.binary(max_size=40)
    | st.sampled_from(
        [
            f"{TOKEN} {words}\n".encode()
            for words in (
                "following",
                "refused no",
                "silent",
                "skipped 1 2",
                "skipped",
                "skipped x y z",
                "skipped 1 " + "9" * 5000,
                "done 0 3 0 ",
                "done x",
                "done",
                "done 1 2 " + "9" * 5000,
                "nonsense 0 0 0 note",
                "",
                "lost -1 0 0 it was killed",
            )
        ]
    ),
    max_size=8,
)


@settings(SLOW_IS_FINE, max_examples=300)
@example([f"{TOKEN} skipped 1 2\n".encode()], b"\xde\xb2")  # no letter of Unicode, yet
@given(FOLLOWED, st.binary(max_size=60))
def test_whatever_a_job_reports_is_an_outcome_or_an_error(err: list[bytes], out: bytes) -> None:
    shown: list[str] = []
    job = Job("j1", "x", 5.0)
    lines = frame.Lines(shown.append)
    follow = spool.Follow(job, TOKEN, lines, threading.Event(), host="h", clock=lambda: 0.0)
    try:
        follow.out(out)
        for piece in err:
            follow.err(piece)
        if follow.done:
            assert isinstance(follow.outcome(lambda: "").seconds, float)
    except RunbookError:
        pass
    assert all(frame.clean(line.encode()) == line for line in shown)


@settings(SLOW_IS_FINE, max_examples=300)
@given(
    st.binary(max_size=60)
    | st.builds(lambda value, age: f"{json.dumps(value)}\n{age}".encode(), VALUES, TEXT)
    | st.sampled_from([b"5\n5", b"[]\n\xc2\xb2", b"{}\n" + b"9" * 5000, b'{"who": 7}\n\xd9\xa3'])
    | st.sampled_from([b"done 0 " + b"9" * 5000, b"done 0 0 x\n", b"running -1 -5 "])
)
def test_whatever_the_lock_and_the_spool_hold_is_told_or_refused(out: bytes) -> None:
    reading = Reading(0, frame.clean(out))
    holder = lock.parse(reading.out)
    assert holder is None or (holder.age >= 0 and str(holder))
    head = sitecopy.parse_head(reading)
    assert head is None or head.size >= 0
    with contextlib.suppress(RunbookError):
        spool.looked(reading)
