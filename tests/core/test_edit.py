"""Bootstrap lists, allowlists, digests and diffs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.edit import (
    EditError,
    allowlist_add,
    allowlist_names,
    allowlist_remove,
    diff,
    heap_get,
    heap_set,
    reverse,
    service_disable,
    service_enable,
    services,
    sha256,
)

CA = "puppetlabs.services.ca.certificate-authority-service/certificate-authority-service"
NO_CA = (
    "puppetlabs.services.ca.certificate-authority-disabled-service/"
    "certificate-authority-disabled-service"
)
WATCHER = (
    "puppetlabs.trapperkeeper.services.watcher.filesystem-watch-service/filesystem-watch-service"
)

CA_CFG = f"""\
# To enable the CA service, leave the following line uncommented
{CA}
# To disable the CA service, comment out the above line and uncomment the line below
#{NO_CA}
{WATCHER}

""".encode()


def test_the_ca_is_switched_off_and_on_again() -> None:
    off = service_enable(service_disable(CA_CFG, CA), NO_CA)
    assert off == CA_CFG.replace(f"\n{CA}\n".encode(), f"\n#{CA}\n".encode()).replace(
        f"#{NO_CA}".encode(), NO_CA.encode()
    )
    assert services(off) == (NO_CA, WATCHER)
    assert service_enable(service_disable(off, NO_CA), CA) == CA_CFG


def test_what_is_so_already_stays() -> None:
    assert service_enable(CA_CFG, CA) == CA_CFG
    assert service_disable(CA_CFG, NO_CA) == CA_CFG
    assert service_enable(b"a/b # why\r\n", "a/b") == b"a/b # why\r\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"a/b\n"),
        (b"c/d", b"c/d\na/b"),
        (b"c/d\r\n", b"c/d\r\na/b\r\n"),
        (b"# a/b\nc/d\n", b"a/b\nc/d\n"),
        (b"  ;;\ta/b  # off\n", b"  a/b  # off\n"),
        (b"#a/b2\n# use a/b\n#\n", b"#a/b2\n# use a/b\n#\na/b\n"),
        (b"#a/b\n#a/b\n", b"a/b\n#a/b\n"),
    ],
)
def test_a_service_is_uncommented_or_appended(before: bytes, after: bytes) -> None:
    assert service_enable(before, "a/b") == after
    assert services(service_disable(after, "a/b")) == services(before)


def test_every_line_of_a_service_is_disabled() -> None:
    assert service_disable(b"a/b\n a/b ; x\na/bc\n", "a/b") == b"#a/b\n# a/b ; x\na/bc\n"


@pytest.mark.parametrize("service", ["", "a", "a b/c", "#a/b", "a/b\nc/d"])
def test_what_is_no_service_is_refused(service: str) -> None:
    with pytest.raises(EditError, match="no service"):
        service_enable(b"", service)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"cm1\n"),
        (b"cm10\n", b"cm10\ncm1\n"),
        (b"a\r\nb", b"a\r\nb\r\ncm1"),
        (b"cm1 \n", b"cm1 \ncm1\n"),
        (b"a\ncm1\nb\n", b"a\ncm1\nb\n"),
    ],
)
def test_a_name_is_on_a_line_of_its_own(before: bytes, after: bytes) -> None:
    assert allowlist_add(before, "cm1") == after
    assert "cm1" in allowlist_names(after)
    assert "cm1" not in allowlist_names(allowlist_remove(after, "cm1"))
    if before != after:
        assert allowlist_remove(after, "cm1") == before


@pytest.mark.parametrize("name", ["", "a b", "a\nb", " a"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(EditError, match="no name"):
        allowlist_add(b"", name)


def test_sha256_is_what_sha256sum_prints() -> None:
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_diff_shows_the_change_with_its_place() -> None:
    before = b"".join(b"line %d\n" % number for number in range(1, 11))
    assert diff("/etc/x", before, before.replace(b"line 5\n", b"new\n")) == (
        "--- a/etc/x\n+++ b/etc/x\n@@ -2,7 +2,7 @@\n line 2\n line 3\n line 4\n"
        "-line 5\n+new\n line 6\n line 7\n line 8\n"
    )


def test_a_new_and_a_removed_file() -> None:
    assert diff("/x", None, b"a\n") == "--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+a\n"
    assert diff("/x", b"a\n", None) == "--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n"
    assert diff("/x", None, b"") == "--- /dev/null\n+++ b/x\n"
    assert diff("/x", None, None) == diff("/x", b"a", b"a") == ""


def test_a_missing_final_newline_is_told() -> None:
    assert diff("x", b"a\nb", b"a\nb\n") == (
        "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"
    )


def test_nothing_invisible_stays_invisible() -> None:
    shown = diff(
        "/x\x1b[2J", b"a\r\ntab\there\n", "a\n\x1b[31m\u202e\x00caf\xe9\n".encode() + b"\xff\n"
    )
    assert "\\x1b[2J" in shown
    assert "-a\\r\n" in shown
    assert "-tab\there\n" in shown
    assert "+\\x1b[31m\\u202e\\x00café\n" in shown
    assert "+\\xff\n" in shown
    assert all(char.isprintable() or char in "\n\t" for char in shown)


def test_a_diff_is_bounded() -> None:
    shown = diff("x", None, b"line\n" * 1000).splitlines()
    assert len(shown) == 401
    assert shown[-1] == "… 603 more lines"
    assert diff("x", None, b"l\n" * 397).count("\n") == 400
    assert len(diff("x", None, b"y" * 100_000)) < 1200


def test_the_diff_of_a_huge_file_shows_the_one_line() -> None:
    before = b"".join(b"key%d = value\n" % number for number in range(50_000))
    shown = diff("x", before, before.replace(b"key25000 = value", b"key25000 = other"))
    assert "-key25000 = value\n+key25000 = other\n" in shown
    assert shown.count("\n") == 11


def patched(before: list[str], shown: str) -> str:
    """What `patch` makes of the lines, by the format's rules: hunk starts, blank, minus, plus."""
    after: list[str] = []
    taken, last = 0, ""
    for line in shown.splitlines()[2:]:
        if hunk := re.match(r"@@ -(\d+)(?:,(\d+))? ", line):
            start = int(hunk[1]) - (hunk[2] != "0")
            after += before[taken:start]
            taken = start
        elif line.startswith("\\"):
            if last == "-":
                assert not before[taken - 1].endswith("\n")
            else:
                after[-1] = after[-1].removesuffix("\n")
        else:
            if line[0] in " -":
                assert before[taken].removesuffix("\n") == line[1:]
                taken += 1
            if line[0] in " +":
                after.append(line[1:] + "\n")
        last = line[0]
    return "".join(after + before[taken:])


WORDS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "d e\n"]), max_size=20)


@settings(deadline=None)
@given(WORDS, WORDS, st.sampled_from(["", "end"]), st.sampled_from(["", "end"]))
def test_the_diff_makes_one_file_of_the_other(
    old: list[str], new: list[str], old_end: str, new_end: str
) -> None:
    before, after = "".join(old) + old_end, "".join(new) + new_end
    shown = diff("x", before.encode(), after.encode())
    assert patched(before.splitlines(keepends=True), shown) == after
    assert patched(after.splitlines(keepends=True), reverse(shown)) == before


@pytest.mark.parametrize(
    ("before", "heap", "after"),
    [
        (b'JAVA_ARGS="-Xms2g -Xmx2g -Dx=y"\n', 2048, b'JAVA_ARGS="-Xms3072m -Xmx3072m -Dx=y"\n'),
        (b"# x\nJAVA_ARGS='-Xmx512M'", 512, b"# x\nJAVA_ARGS='-Xms3072m -Xmx3072m'"),
        (b'JAVA_ARGS="-Dx=y"\r\n', None, b'JAVA_ARGS="-Xmx3072m -Xms3072m -Dx=y"\r\n'),
        (b"USER=puppet\n", None, b'USER=puppet\nJAVA_ARGS="-Xms3072m -Xmx3072m"\n'),
        (b"#JAVA_ARGS=-Xmx1g\n", None, b'#JAVA_ARGS=-Xmx1g\nJAVA_ARGS="-Xms3072m -Xmx3072m"\n'),
    ],
)
def test_the_heap_changes_alone(before: bytes, heap: int | None, after: bytes) -> None:
    assert heap_get(before) == heap
    assert heap_set(before, 3072) == after
    assert heap_get(after) == 3072
    assert heap_set(after, 3072) == after


def test_a_heap_that_cannot_be_set_is_said() -> None:
    with pytest.raises(EditError, match="line 1"):
        heap_set(b"JAVA_ARGS=$OTHER\n", 1024)


@pytest.mark.parametrize(
    ("before", "after"), [(b"-- a\n++ b\n", b"++ b\nc"), (None, b"a\n"), (b"a\n", None)]
)
def test_the_way_back_of_a_change_is_shown(before: bytes | None, after: bytes | None) -> None:
    assert reverse(diff("/etc/x", before, after)) == diff("/etc/x", after, before)


def test_what_is_not_the_change_of_a_file_is_shown_the_other_way_round() -> None:
    assert reverse("+/a -> /b\n") == "-/a -> /b\n"
    assert reverse("") == ""
