"""Scripts of the steps that touch what a site could miss, run by a real `sh` on real files."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from runbook.steps import compiler_certificate, reads
from runbook.steps.layout import Seen
from runbook.steps.shellwords import assignments

from runbook.model import Facts, HostFacts, Reading, Script


def sh(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False)


def stand_in(folder: Path, **programs: str) -> str:
    """Programs of this folder that stand before those of the machine, as a line of a script."""
    folder.mkdir(exist_ok=True)
    for name, body in programs.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return f"PATH={folder}:$PATH\n"


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    """The code of another server, packed."""
    packed = tmp_path / "seed.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        for name, text in {
            "./environments/production/manifests/site.pp": "node default {}\n",
            "./environments/staging/manifests/site.pp": "# staging\n",
            "./modules/a/manifests/init.pp": "class a {}\n",
        }.items():
            about = tarfile.TarInfo(name)
            about.size = len(text)
            tar.addfile(about, io.BytesIO(text.encode()))
    return packed


def run_seed(tmp_path: Path, seed: Path, what: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "var").mkdir(exist_ok=True)
    text = reads.script("seed.sh").replace("/var/lib/pmrunbook", str(tmp_path / "var"))
    return sh(assignments(codedir=str(tmp_path / "code"), seed=str(seed)) + text + f"{what}\n")


def test_a_copy_of_the_code_goes_again_but_for_what_somebody_changed(
    tmp_path: Path, seed: Path
) -> None:
    code = tmp_path / "code"
    stock = code / "environments" / "production"
    stock.mkdir(parents=True)
    (stock / "environment.conf").write_text("# as the package ships it\n")
    (code / "modules").mkdir()
    (code / "modules" / "own.pp").write_text("mine")
    before = tree(code)
    assert run_seed(tmp_path, seed, "unpack").returncode == 0
    now = tree(code)
    assert now["environments/production/manifests/site.pp"] == "node default {}\n"
    assert now["environments/staging/manifests/site.pp"] == "# staging\n"
    assert now["modules/own.pp"] == "mine"
    assert "modules/a/manifests/init.pp" not in now  # there are modules: they are the site's own
    assert not seed.exists()
    deployed = code / "environments" / "staging" / "manifests" / "deployed.pp"
    deployed.write_text("since")
    assert run_seed(tmp_path, seed, "take_back").returncode == 0
    left = tree(code)
    assert left == {**before, "environments/staging/manifests/deployed.pp": "since"}
    assert run_seed(tmp_path, seed, "take_back").returncode == 0  # again: nothing to do


def test_undo_of_an_installation_leaves_what_came_later(tmp_path: Path) -> None:
    """Packages are lines of a file here; dpkg-query and apt-get are stand-ins that read it."""
    state = tmp_path / "packages"
    state.write_text("base:amd64\n")
    tools = stand_in(
        tmp_path / "bin",
        dpkg_query=f"sed 's/^/installed /' {state}",
        dpkg=":",
        systemctl="case $1 in is-active) exit 3;; esac",
        apt_get=(
            f'case " $* " in *" install "*) echo puppetserver:all >>{state}; '
            f"echo jre:amd64 >>{state};; "
            f'*" purge "*) for p; do grep -vxF -- "$p" {state} >{state}.n; '
            f"mv {state}.n {state}; done;; esac"
        ),
    )
    text = reads.script("install.sh").replace("/var/lib/pmrunbook", str(tmp_path / "var"))
    text = text.replace("/etc/puppet ", f"{tmp_path}/etc-puppet ", 1)
    given = assignments(manager="apt", specs="puppetserver=7", unit="puppetserver")
    head = tools + given + text
    done = sh(head + "install_packages\n")
    assert done.returncode == 0, done.stderr
    (tmp_path / "etc-puppet").mkdir()
    (tmp_path / "etc-puppet" / "keys").write_text("precious")
    state.write_text(state.read_text() + "later:all\n")
    done = sh(head + "remove_packages\n")
    assert done.returncode == 0, done.stderr
    assert state.read_text().split() == ["base:amd64", "later:all"]
    assert not (tmp_path / "etc-puppet").exists()
    kept = [p.read_text() for p in (tmp_path / "var").rglob("keys")]
    assert kept == ["precious"]  # put aside, not thrown away


def test_what_is_not_surely_a_rogue_ca_stays(tmp_path: Path) -> None:
    cadir = tmp_path / "ca"
    cadir.mkdir()
    (cadir / "ca_key.pem").write_text("key")
    said = f"ruby=/bin/false\n[server]\ncadir={cadir}\n[agent]\nssldir={tmp_path}\nhostcrl=/no\n"
    facts = Facts({"h": HostFacts({"software": Reading(0, said)})})
    seen = Seen("h", facts)
    action = compiler_certificate._aside(seen, seen)
    assert isinstance(action.do, Script)
    assert sh(action.do.script).returncode == 4
    assert (cadir / "ca_key.pem").exists()


@pytest.mark.parametrize(
    ("signed", "issuer", "gone"),
    [
        (("cm1",), "another", True),
        ((), "another", True),
        (("cm1", "web1"), "another", False),  # it works for others: perhaps ca.host is wrong
        (("cm1",), "this", False),
    ],
)
def test_only_a_ca_that_serves_nobody_is_taken_away(
    tmp_path: Path, signed: tuple[str, ...], issuer: str, gone: bool
) -> None:
    cadir, tools = tmp_path / "ca", tmp_path / "bin"
    (cadir / "signed").mkdir(parents=True)
    tools.mkdir()
    for name in signed:
        (cadir / "signed" / f"{name}.pem").touch()
    # Stand-ins: ruby tells whether the CA is the site's own, systemctl stops nothing.
    for name, text in {"ruby": f"[ {issuer} = another ]", "systemctl": ":"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    given = assignments(
        puppet="false",
        ruby=str(tools / "ruby"),
        certname="cm1",
        hostcert=str(tmp_path / "none"),
        cadir=str(cadir),
        crl=str(tmp_path / "crl"),
        link=str(tmp_path / "link"),
        issuer="AA",
    )
    done = sh(f"PATH={tools}:$PATH\n{given}{reads.script('aside.sh')}")
    assert done.returncode == (0 if gone else 4), done.stderr
    assert cadir.exists() is not gone
    if "web1" in signed:
        assert "web1.pem" in done.stderr


# --- the CA's side: sign.sh -----------------------------------------------------------------------


def ask(folder: Path, name: str) -> str:
    """A new key and a request for this certname in the CA's folder; its fingerprint."""
    csr = folder / "requests" / f"{name}.pem"
    new = f"openssl req -new -newkey rsa:2048 -nodes -keyout {folder}/key.pem -subj /CN={name}"
    assert sh(f"{new} -out {csr}").returncode == 0
    der = ["openssl", "req", "-in", str(csr), "-outform", "der"]
    seen = hashlib.sha256(subprocess.run(der, check=True, capture_output=True).stdout)
    return seen.digest().hex(":").upper()


@dataclass
class AtTheCa:
    """The CA's folders, and its CLI: it signs what waits, and writes down what it was asked."""

    folder: Path

    def run(
        self, what: str, expected: str = "", legacy: str = "no"
    ) -> subprocess.CompletedProcess[str]:
        tools = stand_in(
            self.folder / "bin",
            # No Ruby here: OpenSSL prints the same digest of the file that is asked about.
            ruby=(
                'for f; do :; done\nopenssl req -in "$f" -outform der -out "$0.der" || exit 1\n'
                "openssl dgst -sha256 -c \"$0.der\" | sed 's/.*= //' | tr a-f A-F"
            ),
            puppetserver=self.cli("--certname"),
            puppet=self.cli(""),
        )
        given = assignments(
            puppetserver="puppetserver",
            puppet="puppet",
            ruby="ruby",
            legacy=legacy,
            certname="cm1.lab.test",
            expected=expected,
            csrdir=str(self.folder / "requests"),
            signeddir=str(self.folder / "signed"),
        )
        return sh(tools + given + reads.script("sign.sh") + f"{what}\n")

    def cli(self, flag: str) -> str:
        n = "$4" if flag else "$3"
        return (
            f'echo "${{0##*/}} $*" >>{self.folder}/asked; cd {self.folder} || exit 1\n'
            f'case $2 in sign) mv "requests/{n}.pem" "signed/{n}.pem" ;; '
            f'clean) rm -f "requests/{n}.pem" "signed/{n}.pem" ;; esac'
        )

    @property
    def asked(self) -> list[str]:
        log = self.folder / "asked"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def at_the_ca(tmp_path: Path) -> AtTheCa:
    for folder in ("requests", "signed"):
        (tmp_path / folder).mkdir()
    return AtTheCa(tmp_path)


@pytest.mark.parametrize(
    ("legacy", "call"),
    [
        ("no", "puppetserver ca sign --certname cm1.lab.test"),
        ("yes", "puppet cert sign cm1.lab.test"),
    ],
)
def test_the_ca_signs_the_request_that_the_host_made(
    at_the_ca: AtTheCa, legacy: str, call: str
) -> None:
    ours = ask(at_the_ca.folder, "cm1.lab.test")
    done = at_the_ca.run("sign", ours, legacy)
    assert (done.returncode, done.stderr) == (0, "")
    assert at_the_ca.asked == [call]


def test_the_ca_signs_no_other_request_under_that_name(at_the_ca: AtTheCa) -> None:
    ours = ask(at_the_ca.folder, "cm1.lab.test")
    theirs = ask(at_the_ca.folder, "cm1.lab.test")  # in its place
    done = at_the_ca.run("sign", ours)
    assert done.returncode == 4
    assert ours in done.stderr
    assert theirs in done.stderr
    assert at_the_ca.asked == []
    assert (at_the_ca.folder / "requests" / "cm1.lab.test.pem").exists()


@pytest.mark.parametrize("garbage", [None, "", "-----BEGIN CERTIFICATE REQUEST-----\nAA\n"])
def test_the_ca_signs_nothing_it_cannot_read(at_the_ca: AtTheCa, garbage: str | None) -> None:
    if garbage is not None:
        (at_the_ca.folder / "requests" / "cm1.lab.test.pem").write_text(garbage)
    # Not even where nothing is expected: no digest equals no digest.
    for expected in ("AA:11", ""):
        done = at_the_ca.run("sign", expected)
        assert done.returncode in (1, 4), done
    assert at_the_ca.asked == []


def test_what_is_signed_already_is_fine(at_the_ca: AtTheCa) -> None:
    ours = ask(at_the_ca.folder, "cm1.lab.test")
    assert at_the_ca.run("sign", ours).returncode == 0
    again = at_the_ca.run("sign", ours)
    assert (again.returncode, again.stdout) == (0, "signed already\n")
    assert len(at_the_ca.asked) == 1


def test_cleaning_twice_asks_the_ca_once(at_the_ca: AtTheCa) -> None:
    ask(at_the_ca.folder, "cm1.lab.test")
    for _ in range(2):
        done = at_the_ca.run("clean")
        assert done.returncode == 0, done.stderr
    assert at_the_ca.asked == ["puppetserver ca clean --certname cm1.lab.test"]
