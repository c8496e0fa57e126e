"""The steps on facts: each case is a data file with raw readings in, findings and actions out.

A case takes hosts from `cases/hosts` (readings captured on real hosts), changes what it is about,
and says what must come out. `findings` lists all of them, as "id host"; `actions` lists all of the
step's, each with what has to be in its title, its diff and its script.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from runbook.steps import RUNBOOK, reads
from runbook.steps.catalogue import KINDS, reference

from runbook.model import (
    Action,
    Answer,
    CertificateAuthority,
    Dns,
    DnsChange,
    Facts,
    Finding,
    Host,
    HostFacts,
    Human,
    Later,
    Query,
    Reading,
    Script,
    SecretRef,
    Severity,
    Site,
    Tsig,
    WriteFile,
)
from runbook.plan import make_stage

CASES = Path(__file__).with_name("cases")
ROOT = Path(__file__).parents[2]


@cache
def captured(name: str) -> dict[str, str]:
    data: dict[str, str] = yaml.safe_load((CASES / "hosts" / f"{name}.yaml").read_text())
    return data


def file_reading(path: str, content: bytes | None, mode: str = "644") -> str:
    """What `puppet_conf.sh` prints of a file with this content."""
    if content is None:
        return f"path={path}\nstate=absent\n"
    return (
        f"path={path}\nmode={mode}\nowner=root:root\nsize={len(content)}\nstate=file\n"
        f"sha256={hashlib.sha256(content).hexdigest()}\n"
        f"content={base64.b64encode(content).decode()}\n"
    )


def readings(name: str, case: dict[str, Any]) -> HostFacts:
    if case.get("error"):
        return HostFacts(error=case["error"])
    texts = dict(captured(case["like"])) if "like" in case else {}
    texts = {read: text.replace("@HOST@", name) for read, text in texts.items()}
    for read, old, new in case.get("replace", ()):
        assert old in texts[read], f"{name}: {old!r} is not in what {read} prints"
        texts[read] = texts[read].replace(old, new)
    for read, pattern, new in case.get("sub", ()):
        texts[read], changed = re.subn(pattern, new, texts[read])
        assert changed, f"{name}: {pattern!r} does not match what {read} prints"
    texts = {read: text.replace("@AHEAD@", "0.1") for read, text in texts.items()}
    for read, text in case.get("add", {}).items():
        texts[read] = texts.get(read, "") + text
    texts |= case.get("readings", {})
    if "puppet_conf" in case:
        content = case["puppet_conf"]
        path = case.get("path", "/etc/puppet/puppet.conf")
        data = None if content is None else content.encode()
        texts["puppet.conf"] = file_reading(path, data, case.get("mode", "644"))
    files = {"server-files": case.get("server_files", {}), **case.get("files", {})}
    for read, labels in files.items():
        for label, about in labels.items():
            content = about.get("content")
            data = None if content is None else content.encode()
            section = f"[{label}]\n{file_reading(about['path'], data, about.get('mode', '644'))}"
            texts[read] = texts.get(read, "") + section
    exits = case.get("exits", {})
    return HostFacts({read: Reading(exits.get(read, 0), text) for read, text in texts.items()})


def load(case: dict[str, Any]) -> tuple[Site, Facts]:
    data = case["site"]
    dns = data.get("dns", {})
    tsig = Tsig("key", "hmac-sha256", SecretRef("env", "TSIG")) if dns.get("tsig") else None
    site = Site(
        name="site",
        hosts=tuple(Host(n, roles=frozenset(h["roles"])) for n, h in case["hosts"].items()),
        server=data.get("server", "puppet.lab.test"),
        ca=CertificateAuthority(**data["ca"]),
        dns_alt_names=tuple(data.get("dns_alt_names", ())),
        dns=Dns(tuple(dns.get("servers", ())), tsig, dns.get("domain", "")),
        sections=sections(data.get("sections", {})),
    )
    facts = Facts(
        {name: readings(name, host) for name, host in case["hosts"].items()},
        {
            Query(name, rtype, server): Answer(
                tuple(a.get("records", ())), a.get("ttl", 300), a.get("error", "")
            )
            for name, rtype, server, a in case.get("answers", ())
        },
    )
    return site, facts


def sections(data: dict[str, Any]) -> dict[str, Any]:
    """As the loader leaves them: a secret is a reference."""
    database = data.get("puppetdb", {}).get("database", {})
    if "password" in database:
        [(kind, value)] = database["password"].items()
        database["password"] = SecretRef(kind, value)
    if balancing := data.get("load_balancing"):
        balancing["sites"] = balancing.get("sites", {})
        for pool in (balancing, *balancing["sites"].values()):
            pool["servers"] = tuple(pool["servers"])
    return data


def case_files() -> list[Path]:
    return sorted(CASES.glob("*.yaml"))


def text_of(action: Action) -> str:
    """What an action would write, run, send or say."""
    match action.do:
        case WriteFile(content=content):
            return content.decode()
        case Script(script=script):
            return script
        case DnsChange() as change:
            return f"{change.server} {change.zone} {change.name} {change.rtype} {change.records}"
        case Human(instruction=text):
            return text
        case other:
            return str(other)


@pytest.mark.parametrize("path", case_files(), ids=lambda p: p.stem)
def test_case(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    site, facts = load(case)
    step = RUNBOOK.step(case["step"])
    if "findings" in case:
        found = step.findings(site, facts)
        # What a host is made of is said of every host; the cases that are about it list it.
        told = any(line.startswith("surveyed ") for line in case["findings"])
        found = tuple(f for f in found if told or f.id != "surveyed")
        assert sorted(f"{f.id} {f.host}".strip() for f in found) == sorted(case["findings"])
        for finding in found:
            check_finding(finding)
        for line, words in case.get("observed", {}).items():
            seen = [f.observed for f in found if f"{f.id} {f.host}".strip() == line]
            assert any(words in text for text in seen), f"{line}: {words!r} not in {seen}"
    if "actions" in case:
        check_actions(case, site, facts)
    for check, expected in case.get("checks", {}).items():
        verdicts = {
            c.id: c.judge(facts) for s in (step, *step.stages) for c in s.checks(site, facts)
        }
        assert verdicts[check].ok is expected["ok"], verdicts[check]
        assert expected.get("observed", "") in verdicts[check].observed


def test_what_is_said_of_all_hosts_is_not_said_without_the_silent() -> None:
    case = yaml.safe_load((CASES / "ca-nothing-to-do.yaml").read_text())
    case["hosts"]["silent.lab.test"] = {"error": "no answer", "roles": ["agent", "server"]}
    site, facts = load(case)
    asked = {c.id: {host for host, _ in c.reads} for c in RUNBOOK.step("ca").checks(site, facts)}
    for check in ("one-ca", "name/resolves", "prove/left", "existing/ran"):
        assert "silent.lab.test" in asked[check]
    assert "silent.lab.test" not in asked["prove/enrolment"]  # one host that did it is enough


def test_who_is_not_asked_for_holds_up_nobody_elses_window() -> None:
    """One compile master waits to be signed, another one has no Puppet yet."""
    case = yaml.safe_load((CASES / "compilers-window.yaml").read_text())
    bare = {"like": "bookworm-bare", "roles": ["server", "compiler"]}
    bare["readings"] = {"packages": "", "code": "", "server-files": "[state]\n"}  # type: ignore[assignment]
    case["hosts"]["bare.lab.test"] = bare
    site, facts = load(case)
    stage = next(s for s in RUNBOOK.step("compilers").stages if s.id == "window")
    whole = make_stage(stage, site, facts)
    assert [later.host for later in whole.later] == ["bare.lab.test"]
    for narrowed in (
        make_stage(stage, site, facts, hosts=("asked.lab.test",)),
        make_stage(stage, site, facts, without=("bare.lab.test",)),
    ):
        assert narrowed.later == ()
        # It says for whom: once the other one is known, that is another question.
        [action] = narrowed.actions
        assert "for asked.lab.test;" in action.title


def check_finding(finding: Finding) -> None:
    """What every finding owes its reader."""
    assert finding.observed
    assert finding.expected
    assert finding.remedy
    assert "{" not in finding.command
    if finding.fixed_by:
        assert finding.severity is not Severity.BLOCKER
        assert finding.fixed_by in {s.id for s in RUNBOOK.steps}


def check_actions(case: dict[str, Any], site: Site, facts: Facts) -> None:
    step = RUNBOOK.step(case["step"])
    stages = [s for s in step.stages if s.id in case.get("stages", [s.id])]
    planned = [p for stage in stages for p in stage.plan(site, facts)]
    again = [p for stage in stages for p in stage.plan(site, facts)]
    assert planned == again, "a plan made twice from the same facts is the same plan"
    actions = {p.id: p for p in planned if isinstance(p, Action)}
    assert list(actions) == [a["id"] for a in case["actions"]]
    assert [p.after for p in planned if isinstance(p, Later)] == case.get("later", [])
    for expected in case["actions"]:
        action = actions[expected["id"]]
        assert action.digest()
        for words in expected.get("title", ()):
            assert words in action.title
        for words in expected.get("diff", ()):
            assert words in action.diff.splitlines(), action.diff
        for words in expected.get("text", ()):
            assert words in text_of(action), text_of(action)
        for words in expected.get("not", ()):
            assert words not in text_of(action)
        if "path" in expected:
            assert isinstance(action.do, WriteFile)
            assert action.do.path == expected["path"]
        if "content" in expected:
            assert isinstance(action.do, WriteFile)
            assert action.do.content == expected["content"].encode()
        if "saves" in expected:
            assert isinstance(action.do, Script)
            assert list(action.do.saves) == expected["saves"]


def test_every_kind_of_finding_has_a_case() -> None:
    shown = set()
    for path in case_files():
        shown |= {line.split()[0] for line in yaml.safe_load(path.read_text()).get("findings", ())}
    assert set(KINDS) == shown


def test_the_reference_of_findings_is_the_one_of_the_code() -> None:
    page = ROOT / "docs" / "reference" / "findings.md"
    assert page.read_text() == reference(), "write catalogue.reference() to " + str(page)


def test_the_runbook_knows_what_it_is_made_from() -> None:
    assert len(RUNBOOK.digest) == 64
    assert RUNBOOK.prelude == reads.PRELUDE


@pytest.mark.parametrize("script", sorted(reads.HERE.glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_posix(script: Path) -> None:
    for shell in ("dash", "bash"):
        subprocess.run([shell, "-n", str(script)], check=True, capture_output=True)


def test_the_survey_says_what_each_host_is_to_the_others() -> None:
    site, facts = load(yaml.safe_load((CASES / "survey-found-estate.yaml").read_text()))
    found = RUNBOOK.step("survey").findings(site, facts)
    estate = {f.host: dict(f.estate) for f in found if f.id == "surveyed"}
    agent = {"calls": "puppet.lab.test", "served_by": "primary.lab.test"}
    assert estate["agent1.lab.test"] == {"puppet": "7.23.0", **agent, "asks_ca": "puppet"}
    assert estate["primary.lab.test"].items() >= {"server": "7.9.5", "ca": "on"}.items()
    assert estate["cm1.lab.test"] == {"puppet": ""}
    assert "served_by" not in estate["agent3.lab.test"]  # it calls a name that was not looked up
