"""The guide chapter by chapter, each with the rights the documentation gives it and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from runbook.lab.estate import DEFAULT
from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, booted, must
from tests.lab.test_balance import address, everywhere, pool_name
from tests.lab.test_trust import blocks, limit_key

pytestmark = [pytest.mark.lab, pytest.mark.turn("rights")]

HOSTS = {
    "PUPPET_CA": ["primary"],
    "PUPPET_MASTERS": ["cm1", "cm2"],
    "PUPPET_DB": ["pdb"],
    "PUPPET_LB": ["lb"],
    "PUPPET_AGENTS": ["agent1", "agent2", "agent3"],
    "PUPPET_SAMPLE": ["agent1", "agent2", "agent3"],
}
EVERYBODY = sorted({host for hosts in HOSTS.values() for host in hosts})
CHAPTERS = ("survey", "ca", "compilers", "puppetdb", "code", "balancer", "cutover")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from booted("least", DEFAULT)


@pytest.fixture(scope="module")
def seat(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    return Seat(lab, tmp_path_factory.mktemp("state"))


def allow(lab: Lab, chapter: str) -> None:
    """This chapter's line of the page, on every host, with the site's hosts."""
    first, second = blocks("sudoers")[:2]
    lines = [line for line in first.splitlines() if line.startswith("Defaults")]
    lines += [f"Host_Alias {name} = {', '.join(hosts)}" for name, hosts in HOSTS.items()]
    assert set(re.findall(r"^Host_Alias (\w+)", second, re.MULTILINE)) == set(HOSTS)
    lines += [line for line in second.splitlines() if line.endswith(f"# {chapter}")]
    rules = "\n".join(lines) + "\n"
    rules = re.sub(r"^(Defaults:)?pmrunbook", rf"\g<1>{lab.estate.ssh_user}", rules, flags=re.M)
    put = "umask 227; cat >/etc/sudoers.d/pmrunbook && visudo -qcf /etc/sudoers.d/pmrunbook"
    for host in EVERYBODY:
        must(lab.execute(host, put, rules))


def may(lab: Lab, host: str) -> bool:
    user = lab.estate.ssh_user
    return lab.execute(host, f"sudo -l -U {user} /bin/sh").returncode == 0


@pytest.fixture(scope="module", autouse=True)
def no_more_than_that(lab: Lab) -> None:
    """The account is in no group, and the key may change no name but those of the page."""
    for host in EVERYBODY:
        must(lab.execute(host, f"gpasswd -d {lab.estate.ssh_user} sudo"))
    limit_key(lab)
    other = f"update add other.{lab.estate.domain} 60 A 192.0.2.9"
    told = f"nsupdate -k /etc/bind/tsig.key <<'EOF'\nserver 127.0.0.1\n{other}\nsend\nEOF"
    assert "REFUSED" in lab.execute("ns", f"{told}\n:").stderr


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_its_own_rights_are_enough(seat: Seat, chapter: str) -> None:
    lab = seat.lab
    allow(lab, chapter)
    assert may(lab, "primary") and may(lab, "cm1")
    assert may(lab, "pdb") == (chapter not in ("compilers", "code"))
    asked = ("--cut-over", pool_name(lab)) if chapter == "cutover" else ()
    out = must(seat.pmrunbook("--plain", "--yes", "--step", chapter, *asked, timeout=2400))
    assert "done (exit 0)" in out


def test_the_estate_is_finished(seat: Seat) -> None:
    lab = seat.lab
    assert everywhere(lab, pool_name(lab)) == [f"300 {address(lab, 'lb')}"]
    assert must(seat.pmrunbook("debts")).strip() == "none"
    allow(lab, "survey")
    assert "all of it holds" in must(seat.pmrunbook("verify", timeout=1800))
