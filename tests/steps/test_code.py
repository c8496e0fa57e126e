"""What servers are compared in, and which of them counts as right."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
from collections.abc import Mapping

from runbook.model import (
    CertificateAuthority,
    Check,
    Event,
    Facts,
    Host,
    HostFacts,
    Reading,
    Site,
    Verdict,
)
from runbook.plain import Plain
from steps import code_catalogs, code_parity, code_site, reads
from steps.code_catalogs import differences, listing
from steps.fields import Fields
from steps.layout import Seen

NAMES = ("hub.example.com", "cm1.example.com", "cm2.example.com")
SOFTWARE = (
    "puppet=/usr/bin/puppet\npuppetserver=/usr/bin/puppetserver\n"
    "[agent]\ncertname={name}\n[server]\nenvironment_timeout=0\n"
)


def site(**code: object) -> Site:
    hosts = tuple(Host(n, roles=frozenset({"server"})) for n in NAMES)
    ca = CertificateAuthority(NAMES[0], "ca.example.com")
    return Site("site", hosts, "puppet.example.com", ca, sections={"code": code} if code else {})


def test_a_package_manager_is_asked_for_all_that_a_strategy_installs() -> None:
    for strategy, programs in reads.DEPLOYERS.items():
        asked = reads.packages(site(strategy=strategy)).script.partition("\n")[0]
        assert programs.keys() <= set(asked.strip("'").split())


def tree(**parts: str) -> str:
    """What code.sh prints of production with these parts."""
    lines = [f"part=production {p} 1 {digest}" for p, digest in parts.items()]
    return "\n".join(
        ["[trees]", *lines, "tree=production 9 99 f00", "root=production /c/production", "[]", ""]
    )


def facts(codes: Mapping[str, str], **more: Mapping[str, str]) -> Facts:
    return Facts(
        {
            name: HostFacts(
                {
                    "software": Reading(0, SOFTWARE.format(name=name)),
                    "code": Reading(0, text),
                    **{read: Reading(0, of[name]) for read, of in more.items() if name in of},
                }
            )
            for name, text in codes.items()
        }
    )


def cell(found: Facts, name: str, column: str = "production") -> tuple[Check, Verdict]:
    checks = {c.cell: c for c in code_parity.checks(site(), found)}
    check = checks[name, column]
    return check, check.judge(found)


def test_what_most_servers_have_is_right() -> None:
    """The model itself can be the one that differs."""
    found = facts({n: tree(data="bb" if n == NAMES[0] else "aa") for n in NAMES})
    assert [cell(found, name)[1].ok for name in NAMES] == [False, True, True]
    assert cell(found, NAMES[0])[1].observed == "data, unlike cm2.example.com"


def test_without_a_majority_the_model_is_right() -> None:
    found = facts({NAMES[0]: tree(data="aa"), NAMES[1]: tree(data="bb")})
    assert [cell(found, name)[1].ok for name in NAMES[:2]] == [True, False]


def test_a_missing_environment_is_no_empty_one() -> None:
    found = facts({NAMES[0]: tree(data="aa"), NAMES[1]: "[]\n", NAMES[2]: tree(data="aa")})
    assert cell(found, NAMES[1])[1].observed == "missing, hub.example.com has it"


def test_an_environment_that_most_lack_is_said_to_be_alone() -> None:
    found = facts({NAMES[0]: "[]\n", NAMES[1]: tree(data="aa"), NAMES[2]: "[]\n"})
    assert cell(found, NAMES[1])[1].observed == "hub.example.com lacks it"


def test_what_the_model_has_no_use_of_is_wrong_there_alone() -> None:
    """Without a majority it is the pattern, but no server differs from what does not work."""
    code = tree(data="aa")
    answers = "[classifier]\nterminus=exec\nscript=/e aa\n"
    key = "[server]\nkey=/k {0}\n[]\n"
    failing = code + "[trees]\nunreadable=production /c/production/data/x\n"
    failing += f"{answers}failed=web1 exit%203\n{key.format('missing')}"
    found = facts(
        {NAMES[0]: failing, NAMES[1]: f"{code}{answers}answer=web1 aa 0\n{key.format('aa')}"}
    )
    for column, said in {
        "production": "(not readable) /c/production/data/x",
        "classifier": "of web1 fails: exit 3",
        "shared": "missing: key /k",
    }.items():
        verdict = cell(found, NAMES[0], column)[1]
        assert (verdict.ok, verdict.observed) == (False, said)
        check, verdict = cell(found, NAMES[1], column)
        assert verdict.ok
        assert check.then(found) == ()


def test_the_name_of_a_file_is_text_to_the_terminal() -> None:
    """Percent-encoded it passes every filter of what travels; it is a word only when it is here."""
    evil = "data/%1B]52;c;cm0gLXJm%07%E2%80%AE"
    found = facts({n: tree(**({evil: "bb" if n == NAMES[1] else "aa"})) for n in NAMES})
    check, verdict = cell(found, NAMES[1])
    assert "\x1b]52;c;" in verdict.observed
    out = io.StringIO()
    data = {"title": check.title, "ok": verdict.ok, "observed": verdict.observed, "remedy": ""}
    Plain(out=out).show(Event("check", 0.0, "code", data={**data, "cell": check.cell}))
    Plain(out=out).show(Event("step_done", 0.0, "code", data={"status": "failed", "why": ""}))
    assert "]52;c;cm0gLXJm" in out.getvalue()
    assert not {"\x1b", "\x07", "\u202e"} & set(out.getvalue())


def test_the_first_path_is_asked_for_and_shown() -> None:
    found = facts({n: tree(data="bb" if n == NAMES[1] else "aa") for n in NAMES})
    check, _ = cell(found, NAMES[1])
    assert [(h, r.id) for h, r in check.then(found)] == [
        (NAMES[1], "paths/production/data"),
        (NAMES[0], "paths/production/data"),
    ]
    paths = {NAMES[1]: "entry=11 data/a\nentry=22 data/b%20c\n", NAMES[0]: "entry=11 data/a\n"}
    deeper = facts(
        {n: tree(data="bb" if n == NAMES[1] else "aa") for n in NAMES},
        **{"paths/production/data": paths},
    )
    assert check.judge(deeper).observed.startswith("data/b c, unlike")
    assert {r.id for _, r in check.then(deeper)} >= {"content//c/production/data/b c"}


def test_a_path_of_what_all_environments_share_is_told_whole() -> None:
    codes = {n: f"[trees]\nshared=/base 1 {'bb' if n == NAMES[1] else 'aa'}\n[]\n" for n in NAMES}
    paths = {n: "entry=11 x/lib/a.rb\n" if n == NAMES[1] else "" for n in NAMES}
    found = facts(codes, **{"paths/shared//base": paths})
    verdict = cell(found, NAMES[1], "shared")[1]
    assert verdict.observed == f"/base/x/lib/a.rb, unlike {NAMES[0]}"


def test_a_secret_is_never_asked_for() -> None:
    paths = {n: f"entry={i} keys/private_key.pkcs7.pem\n" for i, n in enumerate(NAMES)}
    found = facts(
        {n: tree(keys="bb" if n == NAMES[1] else "aa") for n in NAMES},
        **{"paths/production/keys": paths},
    )
    check, _ = cell(found, NAMES[1])
    assert not [r for _, r in check.then(found) if r.id.startswith("content/")]
    assert check.judge(found).detail == ""


def test_a_classifier_that_fails_everywhere_is_red_everywhere() -> None:
    text = "[classifier]\nterminus=exec\nscript=/e aa\nfailed=web1 exit%201\n[]\n"
    found = facts(dict.fromkeys(NAMES, text))
    verdicts = [cell(found, name, "classifier")[1] for name in NAMES]
    assert [v.ok for v in verdicts] == [False] * 3
    assert verdicts[0].observed == "of web1 fails: exit 1"


def test_rules_of_the_ca_and_our_own_are_not_compared() -> None:
    rule = 'authorization: {{ rules: [ {{ match-request: {{ path: "{0}" }}, name: "{1}" }} ] }}'
    for path, name, kept in (
        ("/puppet/v3/x", "site", ["rule site"]),
        ("/puppet-ca/v1/x", "ca", []),
        ("/puppet/v4/catalog", "pmrunbook: catalogs to compare", []),
    ):
        content = rule.format(path, name).encode()
        text = (
            "[auth.conf]\npath=/a\nstate=file\nmode=644\nowner=root:root\n"
            f"sha256={hashlib.sha256(content).hexdigest()}\n"
            f"content={base64.b64encode(content).decode()}\n"
        )
        assert list(code_site.rules(Seen(NAMES[0], facts({NAMES[0]: text})))) == kept


def packed(**resources: str) -> Fields:
    text = "\n".join(f"{name}\t{said}" for name, said in resources.items())
    return Fields({"listing": (base64.b64encode(gzip.compress(text.encode())).decode(),)})


def test_catalogs_differ_by_parameter() -> None:
    one = listing(packed(**{"File[/etc/motd]": "mode:1 content:2", "Service[x]": "ensure:1"}))
    other = listing(packed(**{"File[/etc/motd]": "mode:9 content:2", "User[y]": "ensure:1"}))
    assert differences(one, other, ()) == [
        "File[/etc/motd] mode",
        "Service[x] (only here)",
        "User[y] (not here)",
    ]
    assert differences(one, other, ("File[*] mode", "Service[x]", "User[*]")) == []
    assert differences(one, one, ()) == []


def test_the_samples_cover_every_environment() -> None:
    hosts = (
        Host(NAMES[0], roles=frozenset({"server"})),
        *(Host(f"web{n}", roles=frozenset({"agent"})) for n in range(6)),
    )
    ca = CertificateAuthority(NAMES[0], "ca.example.com")
    own = Site("site", hosts, "puppet.example.com", ca)
    environments = ("production", "production", "staging", "production", "test", "production")
    found = Facts(
        {
            f"web{n}": HostFacts(
                {
                    "software": Reading(
                        0, f"puppet=/x\n[agent]\ncertname=web{n}\nenvironment={environment}\n"
                    ),
                    "agent": Reading(0, "enrolled=yes\n"),
                }
            )
            for n, environment in enumerate(environments)
        }
    )
    assert code_catalogs.samples(own, found) == ("web0", "web2", "web4", NAMES[0])
