"""INI edits: what Puppet reads, what changes, and what must not change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.edit import EditError, Setting, ini_delete, ini_get, ini_set, ini_settings

BOM = b"\xef\xbb\xbf"

DEBIAN_PUPPET_CONF = b"""\
# Available sections:
#
# [main]
#   Contains Puppet's base settings.

# This file can be used to override the default puppet settings.
# See the following links for more details on what settings are available:
# - https://puppet.com/docs/puppet/latest/config_important_settings.html
"""

VENDOR_PUPPET_CONF = b"""\
# This file can be used to override the default puppet settings.
[master]
vardir = /opt/puppetlabs/server/data/puppetserver
logdir = /var/log/puppetlabs/puppetserver
rundir = /var/run/puppetlabs/puppetserver
pidfile = /var/run/puppetlabs/puppetserver/puppetserver.pid
codedir = /etc/puppetlabs/code
"""

FOREMAN_PUPPET_CONF = b"""\
# This file is managed by Puppet, changes may be overwritten
[main]
    basemodulepath = /etc/puppet/modules
    codedir        = /etc/puppet/code
    hostprivkey    = $privatekeydir/$certname.pem { mode = 640 }
    privatekeydir  = $ssldir/private_keys { group = service }
    server         = puppet.example.com

[agent]
    classfile      = $statedir/classes.txt
"""

JETTY_INI = b"""\
[jetty]
# IP address or hostname to listen for clear-text HTTP.
# host = <host>

# Port to listen on for clear-text HTTP.
port = 8080
# ssl-ca-cert = /etc/puppetdb/ssl/ca.pem
ssl-port = 8081

[read-database]
subname = //db.example.com:5432/puppetdb
"""


def test_settings_above_the_first_header_belong_to_main() -> None:
    data = b"certname = a\n[agent]\nserver=b\n[main]\nca_server = c\n"
    assert ini_settings(data) == (
        Setting("main", "certname", "a", 1),
        Setting("agent", "server", "b", 3),
        Setting("main", "ca_server", "c", 5),
    )


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"k = v", "v"),
        (b"\tk=v  ", "v"),
        (b"k = a # not a comment", "a # not a comment"),
        (b"k = a ; b", "a ; b"),
        (b"k = a = b", "a = b"),
        (b"k =", ""),
        (b"k = ''", ""),
        (b'k = "quoted"', "quoted"),
        (b"k = it's", "it's"),
        (b"k = $confdir/x { owner = root, mode = 0640 }", "$confdir/x"),
        (b"k = a {b} c", "a {b} c"),
        (b"k = caf\xe9", "caf\udce9"),
        (b"k = caf\xc3\xa9", "café"),
        (b"k = v\\", "v\\"),
    ],
)
def test_the_value_is_the_one_puppet_takes(line: bytes, value: str) -> None:
    for data in (b"[main]\n" + line, b"[main]\r\n" + line + b"\r\nx = y\r\n"):
        assert ini_get(data, "main", "k") == value
        assert ini_set(data, "main", "k", value) == data


@pytest.mark.parametrize("line", [b"# k = v", b";k = v", b"#k=v", b"kk = v", b"k v", b"k"])
def test_comments_and_other_lines_are_no_setting(line: bytes) -> None:
    assert ini_get(b"[main]\n" + line + b"\n", "main", "k") is None


def test_an_existing_setting_changes_in_its_value_alone() -> None:
    after = ini_set(FOREMAN_PUPPET_CONF, "main", "server", "lb.example.com")
    assert after == FOREMAN_PUPPET_CONF.replace(b"puppet.example.com", b"lb.example.com")


def test_file_ownership_behind_a_value_stays() -> None:
    after = ini_set(FOREMAN_PUPPET_CONF, "main", "hostprivkey", "/k.pem")
    assert b"    hostprivkey    = /k.pem { mode = 640 }\n" in after
    assert ini_get(after, "main", "hostprivkey") == "/k.pem"


def test_a_new_setting_is_written_like_the_last_one_of_its_section() -> None:
    after = ini_set(FOREMAN_PUPPET_CONF, "main", "ca_server", "ca.example.com")
    old = b"    server         = puppet.example.com\n"
    new = old + b"    ca_server      = ca.example.com\n"
    assert after == FOREMAN_PUPPET_CONF.replace(old, new)


def test_a_new_setting_leaves_the_commented_out_one_alone() -> None:
    after = ini_set(JETTY_INI, "jetty", "ssl-ca-cert", "/var/lib/puppet/ssl/certs/ca.pem")
    new = b"ssl-port = 8081\nssl-ca-cert = /var/lib/puppet/ssl/certs/ca.pem\n"
    assert after == JETTY_INI.replace(b"ssl-port = 8081\n", new)


def test_a_new_setting_of_an_empty_section_follows_its_header() -> None:
    assert ini_set(b"[main]\n# nothing\n[agent]\na=1\n", "main", "k", "v") == (
        b"[main]\nk=v\n# nothing\n[agent]\na=1\n"
    )


def test_a_new_section_is_appended_after_a_blank_line() -> None:
    after = ini_set(VENDOR_PUPPET_CONF, "agent", "server", "lb")
    assert after == VENDOR_PUPPET_CONF + b"\n[agent]\nserver = lb\n"
    after = ini_set(DEBIAN_PUPPET_CONF, "main", "server", "lb")
    assert after == DEBIAN_PUPPET_CONF + b"\n[main]\nserver = lb\n"


def test_no_section_is_mistaken_for_another() -> None:
    after = ini_set(b"[agent]\nserver = a\n", "main", "server", "b")
    assert after == b"[agent]\nserver = a\n\n[main]\nserver = b\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"[main]\nk = v\n"),
        (BOM, BOM + b"[main]\nk = v\n"),
        (b"[main]", b"[main]\nk = v"),
        (BOM + b"[main]\na=b", BOM + b"[main]\na=b\nk=v"),
        (b"[agent]\r\na = b", b"[agent]\r\na = b\r\n\r\n[main]\r\nk = v"),
        (b"[main]\r\na = b", b"[main]\r\na = b\r\nk = v"),
        (b"k = old\r\n", b"k = v\r\n"),
        (b"[main]\n\tk\t=\told \t\n", b"[main]\n\tk\t=\tv \t\n"),
        (b"# caf\xe9\n[main]\nk = caf\xe9", b"# caf\xe9\n[main]\nk = v"),
        (b"[main]\na =\n", b"[main]\na =\nk = v\n"),
        (b"\n\n", b"\n\n[main]\nk = v\n"),
    ],
)
def test_encoding_line_ends_and_final_newline_stay(before: bytes, after: bytes) -> None:
    assert ini_set(before, "main", "k", "v") == after


def test_duplicates_are_all_set_and_all_deleted() -> None:
    data = b"[main]\nk = 1\nk = 2\n[agent]\nk = 3\n[main]\nk = 4\n"
    assert ini_get(data, "main", "k") == "1"
    assert (
        ini_set(data, "main", "k", "4") == b"[main]\nk = 4\nk = 4\n[agent]\nk = 3\n[main]\nk = 4\n"
    )
    assert ini_delete(data, "main", "k") == b"[main]\n[agent]\nk = 3\n[main]\n"


def test_deleting_what_is_not_there_changes_nothing() -> None:
    assert ini_delete(FOREMAN_PUPPET_CONF, "agent", "server") == FOREMAN_PUPPET_CONF


@pytest.mark.parametrize("value", ["a\nb", " a", "a ", "'a'", "x { mode = 0640 }", "a\n[main]"])
def test_a_value_that_would_be_read_differently_is_refused(value: str) -> None:
    with pytest.raises(EditError, match="would be read as"):
        ini_set(b"[main]\n", "main", "k", value)


def test_a_value_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(EditError, match="cannot be written as UTF-8"):
        ini_set(b"[main]\n", "main", "k", "\ud800")


@pytest.mark.parametrize("key", ["a b", "a=b", "#a", "", "a\nb"])
def test_a_key_that_would_be_read_differently_is_refused(key: str) -> None:
    with pytest.raises(EditError):
        ini_set(b"[main]\n", "main", key, "v")


def test_a_header_that_cannot_be_read_is_refused_with_its_line() -> None:
    with pytest.raises(EditError, match="line 2: a section header") as caught:
        ini_set(b"a = b\n[main] # base\nk = v\n", "main", "k", "w")
    assert caught.value.line == 2


def test_a_huge_file_changes_in_one_line() -> None:
    filler = b"# " + b"x" * 70 + b"\n"
    value = b"v" + b" " * 100_000 + b"v"
    data = b"[main]\n" + filler * 50_000 + b"k = " + value + b"\n" + filler * 50_000
    assert ini_set(data, "main", "k", "w") == data.replace(value, b"w")


KEYS = st.sampled_from(["server", "ca_server", "certname", "ssl-port", "x"])
SECTIONS = st.sampled_from(["main", "agent", "server", "read-database"])
VALUES = st.text(
    st.characters(codec="utf-8", min_codepoint=33, exclude_characters="\"'{}"), max_size=12
)
BLANKS = st.text(" \t", max_size=3).map(str.encode)
LINES = st.one_of(
    st.builds(lambda s, b: b + f"[{s}]".encode() + b, SECTIONS, BLANKS),
    st.builds(
        lambda k, v, a, b, c: a + k.encode() + b + b"=" + c + v.encode("utf-8", "replace"),
        KEYS,
        VALUES,
        BLANKS,
        BLANKS,
        BLANKS,
    ),
    st.builds(lambda k: f"# {k} = commented out".encode(), KEYS),
    st.binary(max_size=12).map(lambda b: b"# " + b.replace(b"\n", b"")),
    BLANKS,
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    data = end.join(draw(st.lists(LINES, max_size=12)))
    return draw(st.sampled_from([b"", BOM])) + data + draw(st.sampled_from([b"", end]))


@settings(deadline=None)
@given(files(), SECTIONS, KEYS, VALUES)
def test_only_the_lines_of_the_setting_change(
    data: bytes, section: str, key: str, value: str
) -> None:
    after = ini_set(data, section, key, value)
    assert ini_get(after, section, key) == value
    assert ini_set(after, section, key, value) == after
    changed = {s.line for s in ini_settings(data) if (s.section, s.key) == (section, key)}
    old, new = data.split(b"\n"), after.split(b"\n")
    if changed:
        assert len(old) == len(new)
        for number, (was, now) in enumerate(zip(old, new, strict=True), start=1):
            assert was == now or number in changed
            assert was.endswith(b"\r") == now.endswith(b"\r")
    others = [s for s in ini_settings(data) if (s.section, s.key) != (section, key)]
    kept = [s for s in ini_settings(after) if (s.section, s.key) != (section, key)]
    assert [(s.section, s.key, s.value) for s in others] == [
        (s.section, s.key, s.value) for s in kept
    ]


@settings(deadline=None)
@given(files(), SECTIONS, KEYS, VALUES)
def test_setting_and_deleting_a_new_key_gives_the_original_bytes(
    data: bytes, section: str, key: str, value: str
) -> None:
    present = ini_delete(data, section, key)
    assert ini_get(present, section, key) is None
    if any(s.section == section for s in ini_settings(present)):
        assert ini_delete(ini_set(present, section, key, value), section, key) == present
