"""Code that one Puppet Server has and the others take: by rsync, and by Puppet itself.

Real hosts; the tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.lab.disk import LOGIN_TRACES
from runbook.lab.lab import Lab
from tests.lab.conftest import HERE, Seat, booted, jobs_run, must, narrate, picture
from tests.lab.test_ca import ACCESS_LOGS, names, server
from tests.lab.test_compilers import (
    OF_THE_SYSTEM,
    PATH,
    boundaries,
    fqdn,
    gets_its_catalog,
    members,
    ssl,
)

pytestmark = [pytest.mark.lab, pytest.mark.turn("ways")]

EVERY = 20  # seconds
ASIDE = "/var/lib/pmrunbook/code-aside"
NEW = "modules/site/files/new.txt"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """An all-in-one Puppet Server with two environments, and a compile master."""
    estate = os.environ.get("PMRUNBOOK_TEST_CODE")
    yield from booted("ways", Path(estate) if estate else HERE / "estates" / "sync.yaml")


@pytest.fixture(scope="module")
def seat(lab: Lab, alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """A site with compile masters, which have a copy of the code; and this chapter alone."""
    return Seat(lab, tmp_path_factory.mktemp("state"), alone, runbook="code-alone")


@pytest.fixture(scope="module")
def before(seat: Seat) -> dict[str, dict[str, str]]:
    """All of /etc, with an environment that one server alone has, and a drift on another."""
    lab, first, last = seat.lab, members(seat.lab)[0], members(seat.lab)[-1]
    own = f"{path(lab, first)}/own/manifests"
    must(lab.execute(first, f"mkdir -p {own} && echo '# mine' >{own}/site.pp"))
    must(lab.execute(last, f"echo '# drift' >>{path(lab, last)}/production/manifests/site.pp"))
    return {h: dict(picture(lab, h, "/etc")) for h in servers(lab)}


def servers(lab: Lab) -> list[str]:
    return [*members(lab), server(lab)]


def path(lab: Lab, host: str) -> str:
    script = PATH + "puppet config print environmentpath --section server --color=false"
    return must(lab.execute(host, script)).strip()


def code_of(lab: Lab, host: str) -> dict[str, str]:
    """Path in the environments' folder -> digest, of everything there."""
    root = path(lab, host)
    found = picture(lab, host, root)
    return {p.removeprefix(root): said.split(" ")[1] for p, said in found.items()}


def alike(lab: Lab) -> bool:
    return all(code_of(lab, h) == code_of(lab, server(lab)) for h in members(lab))


def by(seat: Seat, folder: Path, code: dict[str, Any]) -> Seat:
    """The same seat, with this strategy."""
    data = yaml.safe_load(seat.lab.inventory.read_text())
    data |= {"code": code, "rollout": {"canary": 2}}
    file = folder / f"{code['strategy']}.yaml"
    file.write_text(yaml.safe_dump(data))
    return replace(seat, file=file)


@pytest.fixture(scope="module")
def pulling(seat: Seat) -> Seat:
    return by(seat, seat.state, {"strategy": "rsync", "every": EVERY})


@pytest.fixture(scope="module")
def taking(seat: Seat) -> Seat:
    return by(seat, seat.state, {"strategy": "model-master"})


def nothing_to_do(seat: Seat) -> None:
    lab = seat.lab
    ran, marks = jobs_run(lab, servers(lab)), {h: lab.marks(h) for h in servers(lab)}
    assert "nothing to do" in must(seat.pmrunbook("--plain", "--yes", "--step", "code"))
    assert jobs_run(lab, servers(lab)) == ran
    for host in servers(lab):
        changed = lab.changed_files(host, marks[host], (*LOGIN_TRACES, *ACCESS_LOGS))
        assert [f for f in changed if f.startswith("/etc/")] == []


def given_back(lab: Lab, before: dict[str, dict[str, str]]) -> None:
    """Everything is as it was, but for copies that somebody edited: they stay."""
    for host in servers(lab):
        now = dict(picture(lab, host, "/etc"))
        differ = {p for p in now.keys() | before[host] if now.get(p) != before[host].get(p)}
        edited = "\n".join(p for p in now if "/edited-" in p)
        differ = {p for p in differ if p not in edited}  # nor the folders they are in
        left = {p for p in differ if not OF_THE_SYSTEM.search(p)}
        assert left == set(), host


def checks(seat: Seat, *asked: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """The checks that `verify` makes, by id; it ends with `code`."""
    seen = json_lines(seat.pmrunbook("verify", *asked, "--json"), code)
    return {e["id"]: e for e in seen if e["kind"] == "check"}


def json_lines(done: subprocess.CompletedProcess[str], code: int) -> list[dict[str, Any]]:
    """The events that a command printed, which ends with `code`."""
    return [json.loads(line) for line in must(done, code).splitlines()]


# --- rsync ----------------------------------------------------------------------------------------


def test_a_dry_run_says_what_becomes_of_what_only_one_server_has(
    pulling: Seat, before: dict[str, dict[str, str]]
) -> None:
    """An environment of its own, a local edit, and a file that only its strange owner may read."""
    lab, source, host = pulling.lab, server(pulling.lab), members(pulling.lab)[0]
    file = f"{path(lab, source)}/staging/data/common.yaml"
    owner, mode = must(lab.execute(source, f"stat -c '%U:%G %a' {file}")).split()
    must(lab.execute(source, f"chown games: {file}; chmod 600 {file}"))
    try:
        shown = must(pulling.pmrunbook("--dry-run", "--plain", "--step", "code"), 1)
        red = {i: c for i, c in checks(pulling, "code", code=1).items() if not c["ok"]}
    finally:
        must(lab.execute(source, f"chown {owner} {file}; chmod {mode} {file}"))
    assert "[code-source-unreadable]" in shown
    assert file in shown
    assert f"own; goes to {ASIDE}" in shown
    assert f"pull production, staging, own from {fqdn(lab, source)}" in shown
    assert f"own, which only it has, goes to {ASIDE}" in shown
    said = {i: c["observed"] for i, c in red.items()}
    assert said == {
        f"same/{fqdn(lab, host)}/production": f"manifests/site.pp, unlike {fqdn(lab, source)}",
        f"same/{fqdn(lab, host)}/own": f"{fqdn(lab, source)} lacks it",
        f"same/{fqdn(lab, source)}/staging": f"(not readable) {file}",
    }


def test_rsync_from_nothing_to_proof(pulling: Seat, before: dict[str, dict[str, str]]) -> None:
    lab, (first, *_) = pulling.lab, members(pulling.lab)
    assert not alike(lab)
    done = must(pulling.pmrunbook("--plain", "--yes", "--step", "code", timeout=1800))
    assert "done (exit 0)" in done
    assert alike(lab)
    kept = must(lab.execute(first, f"cat {ASIDE}/own.*/manifests/site.pp"))
    assert kept == "# mine\n"
    for host in members(lab):
        assert must(lab.execute(host, "stat -c %a:%U /etc/puppet-code/id_ed25519")) == "600:root\n"
        gets_its_catalog(lab, names(lab, "agent")[0], host)


def test_the_key_is_good_for_nothing_but_reading_code(pulling: Seat) -> None:
    lab, host = pulling.lab, members(pulling.lab)[0]
    source = fqdn(lab, server(lab))
    login = (
        "-i /etc/puppet-code/id_ed25519 -o BatchMode=yes -o GlobalKnownHostsFile=/dev/null "
        "-o UserKnownHostsFile=/etc/puppet-code/known_hosts -l puppet-code"
    )
    said = must(lab.execute(host, f"timeout 10 ssh {login} {source} id </dev/null 2>&1; :"))
    assert "uid=" not in said
    push = f"rsync -e 'ssh {login}' /etc/hostname {source}::environments/production/ 2>&1; :"
    assert "read only" in must(lab.execute(host, push))
    lent = f"rsync -e 'ssh {login}' {source}::environments/../../../puppet.conf /tmp/ 2>&1; :"
    must(lab.execute(host, lent))
    must(lab.execute(host, "[ ! -e /tmp/puppet.conf ]"))


def test_rsync_has_nothing_to_do_a_second_time(pulling: Seat) -> None:
    nothing_to_do(pulling)


def test_a_change_on_the_source_comes_by_itself(pulling: Seat) -> None:
    lab, source = pulling.lab, server(pulling.lab)
    at = f"{path(lab, source)}/production/{NEW}"
    must(lab.execute(source, f"mkdir -p {at.rpartition('/')[0]} && echo new >{at}"))
    began = time.monotonic()
    while not alike(lab) and time.monotonic() - began < 4 * EVERY:
        time.sleep(3)
    narrate(f"a change was everywhere after {time.monotonic() - began:.0f} s")
    assert alike(lab)
    must(lab.execute(source, f"rm {at}"))


def test_a_byte_that_differs_is_named_and_put_right(pulling: Seat) -> None:
    lab, host = pulling.lab, members(pulling.lab)[-1]
    file = f"{path(lab, host)}/staging/manifests/site.pp"
    # The same size and time: only its content tells. The timer waits.
    must(lab.execute(host, "systemctl stop puppet-code.timer"))
    while must(lab.execute(host, "systemctl is-active puppet-code.service || :")) != "inactive\n":
        time.sleep(1)
    edited = f"touch -r {file} /tmp/t; sed -i 's/Every/Evary/' {file}; touch -r /tmp/t {file}"
    # As with a clock that is ahead: what is wrong there is newer than what is right.
    ahead = f"{path(lab, host)}/staging/data/common.yaml"
    must(lab.execute(host, f"{edited}; sed -i 's/8192/8193/' {ahead}; touch -d '1 day' {ahead}"))
    done = pulling.pmrunbook("verify", "code", "--plain")
    assert done.returncode == 1
    assert "data/common.yaml" in done.stdout
    assert ", and 1 more" in done.stdout
    must(pulling.pmrunbook("--plain", "--yes", "--step", "code"))
    assert alike(lab)


def test_clocks_that_are_wrong_hide_no_change_and_no_run(pulling: Seat) -> None:
    """What comes is older or newer than what it replaces, and the last run seems to be to come."""
    lab, source, host = pulling.lab, server(pulling.lab), members(pulling.lab)[0]
    file = f"{path(lab, source)}/staging/data/common.yaml"
    must(lab.execute(source, f"cp -p {file} /root/common.yaml"))
    try:
        for ahead, behind in (("1 hour", -3600), ("-1 hour", 3600)):
            lab.skew_clock(host, behind)
            must(lab.execute(source, f"echo '# {ahead}' >>{file}; touch -d '{ahead}' {file}"))
            must(lab.execute(host, "systemctl start puppet-code.service", timeout=120))
            assert alike(lab)
            seen = json_lines(pulling.pmrunbook("verify", "--step", "code", "--json"), 1)
            assert ("Finding", "clock-wrong") in {(e["kind"], e.get("id")) for e in seen}
            found = {e["id"]: e for e in seen if e["kind"] == "check" and e["step"] == "code"}
            assert all(check["ok"] for check in found.values())
            said = found[f"schedule/{fqdn(lab, host)}"]["observed"]
            ago = re.fullmatch(rf"clean, (\d+) s ago \(every {EVERY} s\)", said)
            assert ago, said
            assert int(ago[1]) < 10 * EVERY
    finally:
        lab.right_clock(host)
        must(lab.execute(source, f"cp -p /root/common.yaml {file}"))
    must(lab.execute(host, "systemctl start puppet-code.service", timeout=120))


def test_a_run_that_is_killed_leaves_nothing_behind(pulling: Seat) -> None:
    """No file of it is served, and what it had fetched goes when the source has it no more."""
    lab, source, host = pulling.lab, server(pulling.lab), members(pulling.lab)[0]
    there, here = (f"{path(lab, h)}/production/modules/site/files" for h in (source, host))
    was = code_of(lab, host)
    must(
        lab.execute(
            source,
            f"mkdir -p {there}; echo new >{there}/first.txt; "
            f"head -c 300M /dev/urandom >{there}/second.bin",
        )
    )
    fetching = f"[ -n \"$(find {here} -name '.second*' -size +4M 2>/dev/null)\" ]"
    kill = (
        "systemctl stop puppet-code.timer; systemctl start --no-block puppet-code.service; "
        f"until {fetching}; do sleep 0.1; done; systemctl kill -s KILL puppet-code.service"
    )
    must(lab.execute(host, kill, timeout=60))
    now = code_of(lab, host)
    assert {p: now.get(p) for p in was} == was
    assert all("/." in p for p in now.keys() - was.keys())
    must(lab.execute(source, f"rm -r {there}"))
    must(pulling.pmrunbook("--plain", "--yes", "--step", "code"))
    assert alike(lab)
    assert must(lab.execute(host, f"find {path(lab, host)} -name '.~tmp~'")) == ""


def test_a_source_without_its_disk_is_no_order_to_delete(pulling: Seat) -> None:
    lab, source, host = pulling.lab, server(pulling.lab), members(pulling.lab)[0]
    root, was = path(lab, source), code_of(lab, host)
    must(lab.execute(source, f"mkdir -m 755 /tmp/empty; mount --bind /tmp/empty {root}"))
    try:
        said = must(
            lab.execute(host, "/usr/local/sbin/puppet-code deploy 2>&1 && exit 1; :", timeout=120)
        )
        assert "nothing was changed" in said
        assert code_of(lab, host) == was
    finally:
        must(lab.execute(source, f"umount {root}"))


def test_undo_of_rsync_gives_everything_back(
    pulling: Seat, before: dict[str, dict[str, str]]
) -> None:
    must(pulling.pmrunbook("undo", "code", "--plain", "--yes", timeout=1800))
    given_back(pulling.lab, before)
    gone = "! getent passwd puppet-code && [ ! -e /usr/local/sbin/puppet-code ]"
    for host in servers(pulling.lab):
        must(pulling.lab.execute(host, gone))


def test_killed_around_the_first_pull_it_goes_on_and_gives_all_back(
    pulling: Seat, before: dict[str, dict[str, str]]
) -> None:
    lab = pulling.lab
    made = [p for p in boundaries(pulling.events(), "code") if p[2].endswith(("/first", "/enable"))]
    places = [
        p for _, _, action in made for p in (("after", "start", action), ("before", "end", action))
    ]
    pulling.killed_at(places, servers(lab), "--step", "code")
    assert alike(lab)
    must(pulling.pmrunbook("undo", "code", "--plain", "--yes", timeout=1800))
    given_back(lab, before)


# --- a model master -------------------------------------------------------------------------------


def test_a_model_master_from_nothing_to_proof(taking: Seat) -> None:
    lab = taking.lab
    done = must(taking.pmrunbook("--plain", "--yes", "--step", "code", timeout=1800))
    assert "done (exit 0)" in done
    assert alike(lab)
    for host in members(lab):
        gets_its_catalog(lab, names(lab, "agent")[0], host)
    asked = "/puppet/v3/file_metadatas/pmrunbook_environments?environment=production&recurse=true"
    codes = {}
    for host in (names(lab, "agent")[0], members(lab)[0]):
        folder, name = ssl(lab, host), fqdn(lab, host)
        script = (
            f"cd /; curl -s -o /dev/null -m 20 --cacert {folder}/certs/ca.pem "
            f"--cert {folder}/certs/{name}.pem --key {folder}/private_keys/{name}.pem "
            f"-w '%{{http_code}}' 'https://{fqdn(lab, server(lab))}:8140{asked}'"
        )
        codes[host] = must(lab.execute(host, script))
    assert list(codes.values()) == ["403", "200"]


def test_a_model_master_has_nothing_to_do_a_second_time(taking: Seat) -> None:
    nothing_to_do(taking)


def test_a_run_of_the_agent_brings_a_change(taking: Seat) -> None:
    lab, source, host = taking.lab, server(taking.lab), members(taking.lab)[0]
    at = f"{path(lab, source)}/production/{NEW}"
    must(lab.execute(source, f"mkdir -p {at.rpartition('/')[0]} && echo new >{at}"))
    run = (
        "for i in 1 2 3 4 5 6; do puppet agent -t --tags pmrunbook_code; rc=$?; "
        "[ $rc = 1 ] || break; sleep 5; done; [ $rc = 2 ]"
    )
    must(lab.execute(host, PATH + run, timeout=300))
    assert code_of(lab, host) == code_of(lab, source)
    must(lab.execute(source, f"rm {at}"))


def test_undo_of_a_model_master_gives_everything_back(
    taking: Seat, before: dict[str, dict[str, str]]
) -> None:
    must(taking.pmrunbook("undo", "code", "--plain", "--yes", timeout=1800))
    given_back(taking.lab, before)
