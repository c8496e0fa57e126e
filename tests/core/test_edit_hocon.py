"""HOCON edits: what a program gets, what changes, and what must not change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyhocon import ConfigFactory  # type: ignore[import-untyped]

from runbook.edit import (
    EditError,
    hocon_delete,
    hocon_get,
    hocon_list,
    hocon_list_add,
    hocon_set,
)

BOM = b"\xef\xbb\xbf"
SAN = "certificate-authority.allow-subject-alt-names"

CA_CONF = b"""\
certificate-authority: {
    # allow CA to sign certificate requests that have subject alternative names.
    # allow-subject-alt-names: false

    # allow CA to sign certificate requests that have authorization extensions.
    # allow-authorization-extensions: false

    # enable the separate CRL for Puppet infrastructure nodes
    # enable-infra-crl: false
}
"""

PUPPETSERVER_CONF = b"""\
# configuration for the JRuby interpreters
jruby-puppet: {
    # This setting determines where JRuby will install gems.
    ruby-load-path: [/usr/lib/puppetserver/ruby/vendor_ruby]
    gem-home: /var/lib/puppetserver/jruby-gems
    gem-path: [${jruby-puppet.gem-home}, "/usr/lib/puppetserver/vendored-jruby-gems"]

    # (optional) path to puppet conf dir; if not specified, will use
    # /etc/puppet
    server-conf-dir: /etc/puppet

    # (optional) maximum number of JRuby instances to allow
    #max-active-instances: 1

    # track-lookups: true
}

# settings related to HTTPS client requests made by Puppet Server
http-client: {
    #cipher-suites: [TLS_RSA_WITH_AES_256_CBC_SHA256,
    #                TLS_RSA_WITH_AES_128_CBC_SHA]

    # Whether to enable http-client metrics; defaults to 'true'.
    #metrics-enabled: true
}
"""

WEBSERVER_CONF = b"""\
webserver: {
    access-log-config: /etc/puppet/puppetserver/request-logging.xml
    client-auth: want
    ssl-host: 0.0.0.0
    ssl-port: 8140
}
"""

AUTH_CONF = b"""\
authorization: {
    version: 1
    rules: [
        {
            # Allow nodes to retrieve their own catalog
            match-request: {
                path: "^/puppet/v3/catalog/([^/]+)$"
                type: regex
                method: [get, post]
            }
            allow: "$1"
            sort-order: 500
            name: "puppetlabs v3 catalog from agents"
        },
        {
            match-request: { path: "/", type: path }
            deny: "*"
        }
    ]
}
"""


def test_a_commented_out_setting_stays_and_the_real_one_follows_it() -> None:
    after = hocon_set(CA_CONF, SAN, "true")
    comment = b"    # allow-subject-alt-names: false\n"
    assert after == CA_CONF.replace(comment, comment + b"    allow-subject-alt-names: true\n")
    assert hocon_get(CA_CONF, SAN) is None
    assert hocon_get(after, SAN) == "true"
    assert hocon_delete(after, SAN) == CA_CONF


def test_a_commented_out_list_is_not_cut_in_two() -> None:
    after = hocon_set(PUPPETSERVER_CONF, "http-client.cipher-suites", ["A", "B"])
    last = b"    #                TLS_RSA_WITH_AES_128_CBC_SHA]\n"
    assert after == PUPPETSERVER_CONF.replace(last, last + b'    cipher-suites: ["A", "B"]\n')


def test_an_existing_setting_changes_in_its_value_alone() -> None:
    after = hocon_set(WEBSERVER_CONF, "webserver.ssl-host", "10.0.0.5")
    assert after == WEBSERVER_CONF.replace(b"0.0.0.0", b"10.0.0.5")
    after = hocon_set(WEBSERVER_CONF, "webserver.client-auth", "a b")
    assert after == WEBSERVER_CONF.replace(b"want", b'"a b"')


def test_a_new_setting_is_written_like_its_neighbours() -> None:
    after = hocon_set(WEBSERVER_CONF, "webserver.ssl-crl-path", "/etc/crl.pem")
    old = b"    ssl-port: 8140\n"
    assert after == WEBSERVER_CONF.replace(old, old + b'    ssl-crl-path: "/etc/crl.pem"\n')
    assert hocon_set(b"a {\n\tb = 1\n}\n", "a.c", "2") == b"a {\n\tb = 1\n\tc = 2\n}\n"


def test_a_new_block_is_appended() -> None:
    after = hocon_set(WEBSERVER_CONF, SAN, "true")
    assert after == WEBSERVER_CONF + (
        b"\ncertificate-authority: {\n    allow-subject-alt-names: true\n}\n"
    )


@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        (b"", "a.b", "1", b"a: {\n    b: 1\n}\n"),
        (b"", "a", "1", b"a: 1\n"),
        (b"# x\n", "a", "1", b"# x\na: 1\n"),
        (b"# x\n\n", "a.b", "1", b"# x\n\na: {\n    b: 1\n}\n"),
        (BOM + b"a: 1", "b", "2", BOM + b"a: 1\nb: 2"),
        (b"a: 1\r\n", "b.c", "2", b"a: 1\r\n\r\nb: {\r\n    c: 2\r\n}\r\n"),
        (b"a {\r\n  b: 1\r\n}", "a.c", "2", b"a {\r\n  b: 1\r\n  c: 2\r\n}"),
        (b"a {}\n", "a.b", "1", b"a {b: 1}\n"),
        (b"a { }\n", "a.b", "1", b"a { b: 1 }\n"),
        (b"a { b: 1, c: 2 }\n", "a.d", "3", b"a { b: 1, c: 2, d: 3 }\n"),
        (b"a {\n}\n", "a.b", "1", b"a {\n    b: 1\n}\n"),
        (b"a {\n  # note\n}\n", "a.b", "1", b"a {\n  # note\n  b: 1\n}\n"),
        (b"a.b: 1\n", "a.b", "2", b"a.b: 2\n"),
        (b'a."b.c" = 1 # one\n', 'a."b.c"', "2", b'a."b.c" = 2 # one\n'),
        (b"a: 1 // one\n", "a", "2", b"a: 2 // one\n"),
        (b'a: "1" # one\n', "a", "x y", b'a: "x y" # one\n'),
        (b'a: "#{" \n', "a", "z", b'a: "z" \n'),
        (b'a: """x\n}"""\nb: 1\n', "a", "z", b'a: "z"\nb: 1\n'),
        (b"a: x y z\n", "a", "w", b"a: w\n"),
        (b"a: 1\na: 2\n", "a", "3", b"a: 1\na: 3\n"),
        (b"a: [1, 2]\n", "a", "3", b"a: 3\n"),
        (b"a: null\n", "a", "null", b'a: "null"\n'),
        (b"# caf\xe9\na: 1\n", "a", "2", b"# caf\xe9\na: 2\n"),
        (b"{\n  a: 1\n}\n", "b.c", "2", b"{\n  a: 1\n  b: {\n    c: 2\n  }\n}\n"),
        (b"a { b { c: 1 } }\na { d: 2 }\n", "a.b.c", "3", b"a { b { c: 3 } }\na { d: 2 }\n"),
        (b"x: [{a: 1}]\na: 2\n", "a", "3", b"x: [{a: 1}]\na: 3\n"),
        (b"a: b\n", "a", "http://x", b'a: "http://x"\n'),
        (b"a: b\n", "a", "", b'a: ""\n'),
        (b"a: b\n", "a", "1e3", b'a: "1e3"\n'),
        (b"a: b\n", "a", "x\x7f\x85", b'a: "x\\u007f\\u0085"\n'),
        (b"a: b\n", "a", 'say "${x}"\n', b'a: "say \\"${x}\\"\\n"\n'),
        (b'a\n: "b"\n', "a", "c", b'a\n: "c"\n'),
        (b"a: {\n# b: {\n# }\n}\n", "a.b", "1", b"a: {\n# b: {\n# }\nb: 1\n}\n"),
    ],
)
def test_set(before: bytes, path: str, value: str, after: bytes) -> None:
    assert hocon_set(before, path, value) == after
    assert hocon_get(after, path) == value
    assert hocon_set(after, path, value) == after


def test_a_new_block_is_indented_by_one_step_of_the_file() -> None:
    after = hocon_set(b"a {\n  b {\n    c: 1\n  }\n}\n", "d.e.f", "2")
    assert after.endswith(b"\n\nd: {\n  e: {\n    f: 2\n  }\n}\n")


def test_a_list_is_replaced_whole() -> None:
    assert hocon_set(b"k: [\n  a\n]\n", "k", ("b", "c d")) == b'k: ["b", "c d"]\n'
    assert hocon_set(b"k: a\n", "k", ["a"]) == b'k: ["a"]\n'
    assert hocon_set(b"k: [a]\n", "k", "a") == b'k: "a"\n'
    assert hocon_set(b"k: [a # one\n]\n", "k", ["a"]) == b"k: [a # one\n]\n"


def test_get_reads_the_files_of_the_packages() -> None:
    assert hocon_get(PUPPETSERVER_CONF, "jruby-puppet.server-conf-dir") == "/etc/puppet"
    assert hocon_get(PUPPETSERVER_CONF, "jruby-puppet.max-active-instances") is None
    assert hocon_list(PUPPETSERVER_CONF, "jruby-puppet.gem-path") == (
        "${jruby-puppet.gem-home}",
        "/usr/lib/puppetserver/vendored-jruby-gems",
    )
    assert hocon_get(PUPPETSERVER_CONF, "jruby-puppet.ruby-load-path") == (
        "[/usr/lib/puppetserver/ruby/vendor_ruby]"
    )
    assert hocon_get(AUTH_CONF, "authorization.version") == "1"
    assert hocon_get(AUTH_CONF, "authorization.rules.allow") is None
    assert hocon_get(b"a { b: 1 }, a: 2, a { c: 3 }", "a.b") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"k: [a, b]\n", b"k: [a, b, c]\n"),
        (b'k: ["a"]\n', b'k: ["a", "c"]\n'),
        (b"k: [a, c]\n", b"k: [a, c]\n"),
        (b"k: []\n", b'k: ["c"]\n'),
        (b"k: [ ]\n", b'k: ["c"]\n'),
        (b"k: [\n  # none\n]\n", b'k: [\n  # none\n  "c"\n]\n'),
        (b"k: [\n  a # one\n]\n", b"k: [\n  a, # one\n  c\n]\n"),
        (b"k: [\n  a,\n  b,\n]\n", b"k: [\n  a,\n  b,\n  c,\n]\n"),
        (b"k: [\r\n  a\r\n  b\r\n]", b"k: [\r\n  a\r\n  b\r\n  c\r\n]"),
        (b"k: [\n  a,\n  b]\n", b"k: [\n  a,\n  b, c]\n"),
        (b"k: [${x}, a]\n", b"k: [${x}, a, c]\n"),
        (b"x: 1\n", b'x: 1\nk: ["c"]\n'),
    ],
)
def test_list_add(before: bytes, after: bytes) -> None:
    assert hocon_list_add(before, "k", "c") == after
    assert "c" in (hocon_list(after, "k") or ())
    assert hocon_list_add(after, "k", "c") == after


@pytest.mark.parametrize(
    ("before", "path", "after"),
    [
        (b"a: 1\nb: 2\n", "a", b"b: 2\n"),
        (b"a: 1\nb: 2", "b", b"a: 1"),
        (b"a: 1, b: 2\n", "a", b"b: 2\n"),
        (b"a: 1, b: 2 # two\n", "b", b"a: 1 # two\n"),
        (b"a { b: 1 }\n", "a.b", b"a { }\n"),
        (b"a { b: 1 }\nc: 2\na.d: 3\n", "a", b"c: 2\n"),
        (b"a: 1\na: 2\n", "a", b""),
        (b"a {\n  b: [\n    1\n  ] # x\n  c: 2\n}\n", "a.b", b"a {\n  c: 2\n}\n"),
        (b"a: 1\n", "b", b"a: 1\n"),
    ],
)
def test_delete(before: bytes, path: str, after: bytes) -> None:
    assert hocon_delete(before, path) == after


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        (b'a: 1\ninclude "x"\n', "a", "line 2: an include"),
        (b'a {\n  include file("x")\n}\n', "a.b", "line 2: an include"),
        (b"x: 1\na: ${x}\n", "a", "line 2: not known"),
        (b"a: ${x} {\n b: 1 }\n", "a.b", "line 1: not known"),
        (b"a: [1]\na += 2\n", "a", "line 2: not known"),
        (b"a {\n b: 1\n", "a.b", "line 1: a block that is never closed"),
        (b"a: 1\n}\n", "a", "line 2: a } that closes nothing"),
        (b"a: [1\n", "a", "line 1: a list that is never closed"),
        (b'x: 1\na: "1\n', "a", "line 2: .* never closed"),
        (b'a: """1\n', "a", "line 1: .* never closed"),
        (b"a:\n", "a", "a value was expected"),
        (b"a\n", "a", "line 1: a key without a value"),
        (b"a..b: 1\n", "a", "line 1: a key with an empty part"),
        (b"{a: 1}\nb: 2\n", "a", "line 2: more behind"),
        (b'a: "\\x"\n', "a", "line 1: a string with"),
        (b"x: 1\na\x1f: 1\n", "a", "line 2: the control character"),
        (b"a " + b"{ a " * 5000, "a", "too deep"),
        (b"a: " + b"[" * 5000, "a", "too deep"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused_with_its_line(
    data: bytes, path: str, reason: str
) -> None:
    for edit in (hocon_get, hocon_delete, hocon_list):
        with pytest.raises(EditError, match=reason):
            edit(data, path)
    with pytest.raises(EditError, match=reason):
        hocon_set(data, path, "9")


def test_an_include_or_substitution_elsewhere_is_no_obstacle() -> None:
    data = b'x { include "y" }\nz: ${q}\na: 1\n'
    assert hocon_set(data, "a", "2") == data.replace(b"1", b"2")


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        (b"a { b: 1 }\n", "a", "a is a block"),
        (b"a.b: 1\n", "a", "a is a block"),
        (b"x: 1\na: 1\n", "a.b", "line 2: a is not a block"),
        (b"", "", "a key was expected"),
        (b"", "a: 1, b", "no path"),
        (b"", "a: 1 #", "no path"),
    ],
)
def test_set_destroys_nothing_that_was_not_named(data: bytes, path: str, reason: str) -> None:
    with pytest.raises(EditError, match=reason):
        hocon_set(data, path, "2")


def test_an_item_is_not_added_to_what_is_not_a_list() -> None:
    with pytest.raises(EditError, match="line 1: not a list"):
        hocon_list_add(b"a: 1\n", "a", "2")


def test_a_huge_file_changes_in_one_line() -> None:
    data = AUTH_CONF + b'# filler { [ "\n' * 20_000 + b"k: v" + b" " * 20_000 + b"\n"
    assert hocon_set(data, "k", "w") == data.replace(b"k: v", b"k: w")


NAMES = st.sampled_from(["a", "b", "c-d", "e_f"])
TEXTS = st.one_of(
    st.sampled_from(
        ["true", "8140", "10.0.0.1", "/etc/puppet", "want", "a b", "", "# x", "{", "é"]
    ),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8),
)
SEPARATORS = st.sampled_from([": ", " = ", ":", "="])
COMMENTS = st.sampled_from(["# a: 1", "// b = [", "# } note {", '# "'])


@st.composite
def bodies(
    draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS, depth: int = 0
) -> tuple[list[str], dict[str, Any]]:
    """The lines of a block, and what they mean."""
    lines: list[str] = []
    meaning: dict[str, Any] = {}
    indent = "    " * depth
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        lines += [indent + comment for comment in draw(st.lists(COMMENTS, max_size=2))]
        form = draw(st.sampled_from(["text", "list", "block"] if depth < 3 else ["text", "list"]))
        separator = draw(SEPARATORS)
        after = draw(st.sampled_from(["", ",", " # end", "  "]))
        if form == "block":
            inside, meaning[name] = draw(bodies(texts, depth + 1))
            separator = draw(st.sampled_from([" ", ": "]))
            lines += [f"{indent}{name}{separator}{{", *inside, f"{indent}}}{after}"]
        elif form == "list":
            meaning[name] = draw(st.lists(texts, max_size=3))
            items = ", ".join(json.dumps(item, ensure_ascii=False) for item in meaning[name])
            lines.append(f"{indent}{name}{separator}[{items}]{after}")
        else:
            meaning[name] = draw(texts)
            lines.append(
                f"{indent}{name}{separator}{json.dumps(meaning[name], ensure_ascii=False)}{after}"
            )
    return lines, meaning


def flat(tree: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        found[*above, name] = value
        if isinstance(value, dict):
            found |= flat(value, (*above, name))
    return found


@settings(deadline=None)
@given(bodies(), st.lists(NAMES, min_size=1, max_size=3), TEXTS, st.sampled_from(["\n", "\r\n"]))
def test_a_set_changes_that_setting_and_no_other(
    body: tuple[list[str], dict[str, Any]], path: list[str], value: str, end: str
) -> None:
    lines, meaning = body
    data = end.join(lines).encode() + end.encode()
    known = flat(meaning)
    key = tuple(path)
    outer = [known.get(key[:length], {}) for length in range(1, len(key))]
    assume(all(isinstance(block, dict) for block in outer))
    assume(not isinstance(known.get(key), dict))

    after = hocon_set(data, ".".join(path), value)

    for name, was in known.items():
        if not isinstance(was, dict) and name != key:
            now = hocon_list if isinstance(was, list) else hocon_get
            assert now(after, ".".join(name)) == (tuple(was) if isinstance(was, list) else was)
    assert hocon_get(after, ".".join(path)) == value
    assert hocon_set(after, ".".join(path), value) == after
    if key in known:
        old, new = data.split(b"\n"), after.split(b"\n")
        assert len(old) == len(new)
        assert sum(was != now for was, now in zip(old, new, strict=True)) <= 1
    else:
        assert [line for line in after.split(b"\n") if line in data.split(b"\n")]
        if key[:-1] in known or len(key) == 1:
            assert hocon_delete(after, ".".join(path)) == data


# pyhocon drops empty items of lists and reads some escapes and blanks wrongly: nothing of these.
PLAIN = st.sampled_from(["true", "8140", "10.0.0.1", "/etc/puppet", "want", "a b", "# x", "{", "é"])


@settings(max_examples=40, deadline=None)
@given(bodies(PLAIN), st.lists(NAMES, min_size=1, max_size=3))
def test_pyhocon_reads_the_same(body: tuple[list[str], dict[str, Any]], path: list[str]) -> None:
    lines, meaning = body
    known = flat(meaning)
    key = tuple(path)
    assume(all(isinstance(known.get(key[:length], {}), dict) for length in range(1, len(key))))
    assume(not isinstance(known.get(key), dict))
    after = hocon_set("\n".join(lines).encode(), ".".join(path), "new value")
    expected = {name: was for name, was in known.items() if not isinstance(was, dict)}
    expected[key] = "new value"
    read = flat(ConfigFactory.parse_string(after.decode()).as_plain_ordered_dict())
    assert {name: now for name, now in read.items() if not isinstance(now, dict)} == expected
