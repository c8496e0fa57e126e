"""Servers that differ in one thing each, and code that a site brings by itself: what is said.

Real hosts; the tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.lab.lab import Lab
from tests.lab.conftest import HERE, Seat, booted, must
from tests.lab.test_ca import names, server
from tests.lab.test_code import ENVIRONMENTS, commit, forge, handed, servers
from tests.lab.test_code_ways import checks
from tests.lab.test_compilers import PATH, fqdn, members

pytestmark = [pytest.mark.lab, pytest.mark.turn("trust", "broken")]

ENC = "/etc/puppet/enc"
DATABASE = "/etc/puppet/enc.sh"
CLASSIFIES = (
    f"#!/bin/sh\n[ ! -e {DATABASE} ] || . {DATABASE}\n"
    "printf -- '---\\nclasses: {}\\nparameters: {from: enc}\\n'\n"
)
"""A classifier, and what it asks: what it says may differ although it is the same everywhere."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """An all-in-one Puppet Server with two environments, and a compile master."""
    estate = os.environ.get("PMRUNBOOK_TEST_CODE")
    yield from booted("bad", Path(estate) if estate else HERE / "estates" / "sync.yaml")


def deploying(seat: Seat, **code: Any) -> Seat:
    """The same seat, with this strategy; servers take their turn after each other."""
    data = yaml.safe_load(seat.lab.inventory.read_text()) | {"code": code}
    file = seat.state.parent / f"{len(list(seat.state.parent.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump(data))
    return replace(seat, file=file)


@pytest.fixture(scope="module")
def seat(lab: Lab, alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """A site whose servers have the same by a way of its own, a classifier included."""
    for host in servers(lab):
        told = f"cat >{ENC}; chmod 755 {ENC}; "
        told += "puppet config set --section server node_terminus exec; "
        told += f"puppet config set --section server external_nodes {ENC}"
        must(lab.execute(host, PATH + told, stdin=CLASSIFIES))
    state = tmp_path_factory.mktemp("seat") / "state"
    made = deploying(
        Seat(lab, state, alone, runbook="code-alone"), strategy="command", command="true"
    )
    must(made.pmrunbook("--plain", "--yes", "--step", "code", timeout=1800))
    return made


def red(seat: Seat, topic: str = "code") -> dict[tuple[str, ...], dict[str, Any]]:
    """The cells of a table that are not alike, when there are any: by server and column."""
    found = checks(seat, topic, code=1).values()
    return {tuple(c["cell"]): c for c in found if c["ok"] is not True}


# --- the commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["code", "catalogs"])
def test_what_is_alike_is_told_cell_by_cell_and_ends_with_0(seat: Seat, topic: str) -> None:
    out = must(seat.pmrunbook("verify", topic, "--json"))
    first, *_, last = events = [json.loads(line) for line in out.splitlines()]
    assert (first["kind"], first["mode"]) == ("run_started", "verify")
    assert (last["kind"], last["exit"]) == ("run_ended", 0)
    found = [e for e in events if e["kind"] == "check"]
    assert all(c["ok"] is True for c in found)
    rows = {fqdn(seat.lab, h) for h in servers(seat.lab)}
    columns = {
        "code": {"production", "staging", "shared", "classifier", "settings"},
        "catalogs": {fqdn(seat.lab, h) for h in [*names(seat.lab, "agent"), server(seat.lab)]},
    }
    assert {tuple(c["cell"]) for c in found} == {(r, c) for r in rows for c in columns[topic]}


def test_a_server_that_does_not_answer_is_not_alike(seat: Seat) -> None:
    lab, name = seat.lab, fqdn(seat.lab, members(seat.lab)[0])
    must(lab.execute(members(lab)[0], "systemctl stop ssh.socket ssh.service"))
    try:
        out = must(seat.pmrunbook("verify", "code", "--json"), 1)
    finally:
        must(lab.execute(members(lab)[0], "systemctl start ssh.service"))
    events = [json.loads(line) for line in out.splitlines()]
    assert {e["host"] for e in events if e["kind"] == "unreachable"} == {name}
    cells = [(c["ok"], c["observed"]) for c in events if c.get("cell", [""])[0] == name]
    assert set(cells) == {(None, f"not read: {name}")}
    assert (events[-1]["kind"], events[-1]["exit"]) == ("run_ended", 1)


# --- more than manifests --------------------------------------------------------------------------

GEM = """
mkdir -p /tmp/gem && cd /tmp/gem && cat >sitetool.gemspec <<'END'
Gem::Specification.new do |s|
  s.name, s.version, s.summary, s.authors = "sitetool", "1.2", "of the site", ["site"]
end
END
gem build -q sitetool.gemspec >/dev/null 2>&1
gem install -q --local --no-document -i /var/lib/puppetserver/jruby-gems sitetool-1.2.gem >/dev/null
"""
AUTH = "/etc/puppet/puppetserver/conf.d/auth.conf"
RULE = '{ match-request: { path: "/own", type: path }, allow: "*", name: "of the site" },'
PACKAGE = """
mkdir -p /tmp/package && cd /tmp/package && apt-get -qq download puppet-agent
dpkg-deb -R puppet-agent_*.deb site && sed -i 's/^Version: .*/&+site1/' site/DEBIAN/control
dpkg-deb -b site site.deb >/dev/null && dpkg -i site.deb >/dev/null
"""
DIFFERENT = {
    "gem": (
        GEM,
        "rm -r /tmp/gem /var/lib/puppetserver/jruby-gems/*/sitetool*",
        "settings",
        ("gem sitetool", "1.2"),
    ),
    "rule": (
        f"cp -p {AUTH} /root/; sed -i '0,/rules: \\[/s##&{RULE}#' {AUTH}",
        f"cp -p /root/auth.conf {AUTH}",
        "settings",
        ("rule of the site", "/own"),
    ),
    "setting": (
        "cp -p /etc/puppet/puppet.conf /root/; puppet config set --section server strict error",
        "cp -p /root/puppet.conf /etc/puppet/puppet.conf",
        "settings",
        ("strict", "error"),
    ),
    "package": (
        PACKAGE,
        "dpkg -i --force-downgrade /tmp/package/puppet-agent_*.deb >/dev/null 2>&1",
        "settings",
        ("puppet-agent", "+site1"),
    ),
    "hiera": (
        "cp -p /etc/puppet/hiera.yaml /root/; echo '# mine' >>/etc/puppet/hiera.yaml",
        "cp -p /root/hiera.yaml /etc/puppet/hiera.yaml",
        "shared",
        ("/etc/puppet/hiera.yaml", "+# mine"),
    ),
    "base-module": (
        "mkdir -p /etc/puppet/code/modules/extra/lib; "
        "echo '# x' >/etc/puppet/code/modules/extra/lib/x.rb",
        "rm -r /etc/puppet/code/modules",
        "shared",
        ("/etc/puppet/code/modules/extra/lib/x.rb", "+# x"),
    ),
}
"""What one server alone has -> how it comes and goes; its column, its name and a word of it."""


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_differs_beside_the_code_is_named(seat: Seat, kind: str) -> None:
    lab, host = seat.lab, members(seat.lab)[0]
    comes, goes, column, (name, word) = DIFFERENT[kind]
    must(lab.execute(host, f"set -e\n{PATH}{comes}", timeout=120))
    try:
        found = red(seat)
    finally:
        must(lab.execute(host, goes, timeout=120))
    assert list(found) == [(fqdn(lab, host), column)]
    said = found[fqdn(lab, host), column]
    assert said["observed"] == f"{name}, unlike {fqdn(lab, server(lab))}"
    assert word in said["detail"]


FAILING = {
    "fails": ("echo 'no database' >&2; exit 3", "fails: exit 3 no database"),
    "garbage": ("echo garbage; exit", "fails: it prints no YAML mapping"),
    "half": ("printf -- '---\\nclasses: {a'; exit", "fails: "),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_classifier_that_fails_on_one_server_is_named(seat: Seat, kind: str) -> None:
    """Also where it fails on the server that counts as right."""
    lab, (does, said) = seat.lab, FAILING[kind]
    host = server(lab) if kind == "garbage" else members(lab)[0]
    must(lab.execute(host, f"cat >{DATABASE}", stdin=f"{does}\n"))
    try:
        found = red(seat)
        compiled = red(seat, "catalogs") if kind == "fails" else {}
    finally:
        must(lab.execute(host, f"rm {DATABASE}"))
    assert list(found) == [(fqdn(lab, host), "classifier")]
    node = fqdn(lab, names(lab, "agent")[0])
    assert f"of {node} {said}" in found[fqdn(lab, host), "classifier"]["observed"]
    for cell, check in compiled.items():
        assert cell[0] == fqdn(lab, host)
        assert f"Execution of '{ENC} {cell[1]}' returned 3" in check["observed"]


def test_an_environment_that_puppet_cannot_address_is_named(seat: Seat) -> None:
    lab, host = seat.lab, members(seat.lab)[0]
    odd = f"'{ENVIRONMENTS}/alte Straße'"
    must(lab.execute(host, f"mkdir -p {odd}/manifests; echo '# x' >{odd}/manifests/site.pp"))
    try:
        out = must(seat.pmrunbook("--dry-run", "--plain", "--step", "code"))
    finally:
        must(lab.execute(host, f"rm -r {odd}"))
    assert re.search(rf"{fqdn(lab, host)}: alte Straße +\[environment-misnamed\]", out)


# --- catalogs that differ by design ---------------------------------------------------------------

BY_DESIGN = """
file { '/etc/compiled-by': content => "${server_facts['servername']} ${server_facts['serverip']}" }
file { '/etc/of-the-server': content => file('/etc/hostname') }
"""


def test_catalogs_that_differ_by_design_are_told_to_be_alike(seat: Seat) -> None:
    """Which server compiled it makes no difference; what else does is the inventory's to say."""
    lab = seat.lab
    manifest = f"{ENVIRONMENTS}/production/manifests/site.pp"
    for host in servers(lab):
        must(lab.execute(host, f"cp -p {manifest} /root/; cat >>{manifest}", stdin=BY_DESIGN))
    nodes = [fqdn(lab, names(lab, "agent")[0])]
    code = {"strategy": "command", "command": "true", "samples": nodes}
    try:
        found = red(deploying(seat, **code), "catalogs")
        for ignored in ("File[/etc/of-the-server] content", "File[/etc/of-*]"):
            same = checks(deploying(seat, **code, ignore=[ignored]), "catalogs")
            assert {c["ok"] for c in same.values()} == {True}
    finally:
        for host in servers(lab):
            must(lab.execute(host, f"cp -p /root/site.pp {manifest}"))
    cell = (fqdn(lab, members(lab)[0]), nodes[0])
    assert list(found) == [cell]
    said = f"File[/etc/of-the-server] content, unlike {fqdn(lab, server(lab))}"
    assert found[cell]["observed"] == said
    assert found[cell]["detail"] == "File[/etc/of-the-server] content\n"


# --- r10k, run by the site's own timer ------------------------------------------------------------

SERVICE = """\
[Service]
Type=oneshot
ExecStart=/usr/bin/r10k deploy environment --modules
"""
TIMER = """\
[Timer]
OnActiveSec=1
OnUnitInactiveSec=5
AccuracySec=1
"""


@pytest.fixture(scope="module")
def by_itself(seat: Seat) -> Seat:
    """Each server deploys by a timer that the site made, from a repository that is public there."""
    lab = seat.lab
    quiet = "export DEBIAN_FRONTEND=noninteractive; apt-get -qq -y --no-install-recommends install"
    handed(lab, server(lab), forge(lab), ENVIRONMENTS)
    user = "-c user.name=dev -c user.email=dev@example.com"
    must(
        lab.execute(
            forge(lab),
            f"set -e; {quiet} git >/dev/null; useradd -m keeper; mkdir /srv/repos; cd /srv/repos; "
            f"git init -q --bare control.git; cat >{ENVIRONMENTS}/staging/Puppetfile; "
            "for e in production staging; do "
            f"cd {ENVIRONMENTS}/$e; git init -q; git add -A; git {user} commit -qm one; "
            "git push -q /srv/repos/control.git HEAD:refs/heads/$e; done; "
            "chown -R keeper: /srv/repos; cd /; su keeper -c "
            "'git daemon --base-path=/srv/repos --export-all --detach'",
            stdin=unresolvable(lab),
            timeout=300,
        )
    )
    config = {
        "cachedir": "/var/cache/r10k",
        "sources": {"site": {"remote": remote(lab), "basedir": ENVIRONMENTS}},
        "deploy": {"puppet_path": "/usr/bin/puppet"},
    }
    for host in servers(lab):
        must(lab.execute(host, f"{quiet} git r10k >/dev/null", timeout=300))
        files = {
            "/etc/puppetlabs/r10k/r10k.yaml": yaml.safe_dump(config),
            "/etc/systemd/system/site-deploy.service": SERVICE,
            "/etc/systemd/system/site-deploy.timer": TIMER,
        }
        for file, text in files.items():
            must(lab.execute(host, f"mkdir -p $(dirname {file}); cat >{file}", stdin=text))
        must(lab.execute(host, "systemctl daemon-reload; systemctl start site-deploy.timer"))
    return deploying(seat, strategy="r10k")


def remote(lab: Lab, name: str = "control") -> str:
    return f"git://{fqdn(lab, forge(lab))}/{name}.git"


def unresolvable(lab: Lab) -> str:
    return f"mod 'gone', git: '{remote(lab, 'gone')}', branch: 'main'\n"


def deployed(lab: Lab, host: str, environment: str) -> list[str]:
    """The revision of a server's checkout, and the one that r10k noted after it was done."""
    at = f"{ENVIRONMENTS}/{environment}"
    script = (
        f"git -c safe.directory='*' -C {at} rev-parse HEAD 2>/dev/null; "
        f'sed -n \'s/.*"signature": "\\(.*\\)".*/\\1/p\' {at}/.r10k-deploy.json 2>/dev/null; :'
    )
    return must(lab.execute(host, script)).split()


def wait_for(lab: Lab, hosts: list[str], environment: str, *revisions: str) -> None:
    began = time.monotonic()
    while [h for h in hosts if deployed(lab, h, environment) != list(revisions)]:
        assert time.monotonic() - began < 120, [deployed(lab, h, environment) for h in hosts]
        time.sleep(1)


def test_a_first_deployment_that_was_not_clean_is_named(by_itself: Seat) -> None:
    """All servers have the same, and what the Puppetfile asks for is missing on all of them."""
    lab = by_itself.lab
    text = must(lab.execute(forge(lab), "cat /srv/repos/control.git/refs/heads/staging"))
    wait_for(lab, servers(lab), "staging", text.strip())
    found = checks(by_itself, "--step", "code", code=1)
    for host in servers(lab):
        check = found[f"tip/{fqdn(lab, host)}"]
        assert (check["ok"], check["observed"]) == (False, "staging: not deployed cleanly")
    revision = commit(lab, "staging", "Puppetfile", "# none\n")
    wait_for(lab, servers(lab), "staging", revision, revision)


def test_what_the_sites_own_timer_deployed_is_proved(by_itself: Seat) -> None:
    lab = by_itself.lab
    revision = commit(lab, "production", "data/extra.yaml", "--- {}\n")
    wait_for(lab, servers(lab), "production", revision, revision)
    must(by_itself.pmrunbook("--plain", "--yes", "--step", "code"))
    found = checks(by_itself, "--step", "code")
    for host in (fqdn(lab, h) for h in servers(lab)):
        assert found[f"same/{host}/production"]["observed"].startswith(f"{revision[:12]}, ")
        assert f"production at {revision[:12]}" in found[f"tip/{host}"]["observed"]


def test_a_server_whose_own_timer_stands_is_named(by_itself: Seat) -> None:
    lab, host = by_itself.lab, members(by_itself.lab)[0]
    must(lab.execute(host, "systemctl stop site-deploy.timer site-deploy.service"))
    revision = commit(lab, "production", "data/extra.yaml", "--- {new: 1}\n")
    wait_for(lab, [server(lab)], "production", revision, revision)
    found = red(by_itself)
    assert list(found) == [(fqdn(lab, host), "production")]
    said = found[fqdn(lab, host), "production"]
    assert said["observed"] == f"data/extra.yaml, unlike {fqdn(lab, server(lab))}"
    assert "{new: 1}" in said["detail"]
    out = must(by_itself.pmrunbook("--plain", "--yes", "--step", "code"))
    assert "deploy every environment with r10k" in out
    assert deployed(lab, host, "production") == [revision, revision]


def test_a_puppetfile_that_cannot_be_resolved_stops_at_the_canary(by_itself: Seat) -> None:
    """The other servers stay where they are until it is put right."""
    lab, host = by_itself.lab, members(by_itself.lab)[0]
    good = deployed(lab, server(lab), "production")
    for each in servers(lab):
        must(lab.execute(each, "systemctl stop site-deploy.timer site-deploy.service"))
    ours = deploying(by_itself, strategy="r10k", repository=remote(lab))
    bad = commit(lab, "production", "Puppetfile", unresolvable(lab))
    out = must(ours.pmrunbook("--plain", "--yes", "--step", "code"), 1)
    said = next(line for line in out.splitlines() if "Error: not deployed cleanly: " in line)
    assert f" {ENVIRONMENTS}/production" in said
    assert f"git clone --mirror {remote(lab, 'gone')} " in said
    assert deployed(lab, host, "production") == [bad, good[0]]
    assert deployed(lab, server(lab), "production") == good
    found = red(ours)
    assert list(found) == [(fqdn(lab, host), "production")]
    cell = found[fqdn(lab, host), "production"]["observed"]
    assert cell == f"Puppetfile, unlike {fqdn(lab, server(lab))}"
    revision = commit(lab, "production", "Puppetfile", "# none\n")
    must(ours.pmrunbook("--plain", "--yes", "--resume"))
    assert {c["ok"] for c in checks(ours, "code").values()} == {True}
    for each in servers(lab):
        assert deployed(lab, each, "production") == [revision, revision]
