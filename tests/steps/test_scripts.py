"""Scripts of the steps that touch what a site could miss, run by a real `sh` on real files."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
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


def test_who_is_not_root_reads_nothing_instead_of_half_of_it(tmp_path: Path) -> None:
    done = sh(stand_in(tmp_path / "bin", id="echo 1000") + reads.PRELUDE + "\necho read\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "this account is not root" in done.stderr
    done = sh(stand_in(tmp_path / "bin", id="echo 0") + reads.PRELUDE + "\necho read\n")
    assert (done.returncode, done.stdout) == (0, "read\n")


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


@pytest.mark.parametrize("room", [True, False])
def test_an_installation_torn_by_a_full_disk_is_finished(tmp_path: Path, room: bool) -> None:
    """One package was cut off while it was unpacked: configuring alone never ends that."""
    asked, states = tmp_path / "asked", tmp_path / "states"
    free, end = (9999999, ":") if room else (2048, "echo E: dpkg returned an error >&2; exit 100")
    tools = stand_in(
        tmp_path / "bin",
        dpkg_query=f"case $* in *Abbrev*) cat {states};; *) echo installed base:amd64;; esac",
        dpkg=f"case $* in --audit) grep -v '^ii' {states};; *) ! grep -q R {states};; esac",
        systemctl="case $1 in is-active) exit 3;; esac",
        df=f"echo Filesystem; echo tmpfs 1 1 {free} 1% /var; echo tmpfs 1 1 {free} 1% /var",
        apt_get=(
            f'echo "$*" >>{asked}; case $* in *--reinstall*) echo "ii |torn" >{states};; '
            f"*install*) {end};; esac"
        ),
    )
    states.write_text("ii |base\niU |waits\niUR|torn:amd64\n")
    text = reads.script("install.sh").replace("/var/lib/pmrunbook", str(tmp_path / "var"))
    given = assignments(manager="apt", specs="puppetserver=7", unit="puppetserver")
    done = sh(tools + given + text + "install_packages\n")
    calls = asked.read_text().splitlines()
    assert "--no-remove" in calls[0] and calls[0].endswith("--fix-broken install")
    assert calls[1].endswith("--reinstall install torn:amd64")
    assert calls[-1].endswith("install puppetserver=7")
    assert done.returncode == (0 if room else 1)
    last = done.stderr.splitlines()[-1:]
    assert last == ([] if room else ["Error: little room is left: /var has 2 MiB free"])


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


def half(kind: str, file: Path) -> str:
    """The digest of the public key in a request or a certificate."""
    out = subprocess.run(
        ["openssl", kind, "-in", str(file), "-noout", "-pubkey"], capture_output=True
    )
    der = ["openssl", "pkey", "-pubin", "-outform", "der"]
    seen = hashlib.sha256(subprocess.run(der, input=out.stdout, capture_output=True).stdout)
    return seen.digest().hex(":").upper()


@dataclass
class AtTheCa:
    """The CA's folders, and its CLI: it signs what waits, and writes down what it was asked."""

    folder: Path
    meanwhile: str = ""  # what happens right before the CA signs

    def run(
        self, what: str, expected: str = "", legacy: str = "no", key: str = ""
    ) -> subprocess.CompletedProcess[str]:
        tools = stand_in(
            self.folder / "bin",
            # No Ruby here: OpenSSL prints the same digests of the file that is asked about.
            ruby=(
                "for f; do kind=${last:-}; last=$f; done; kind=${kind%uest}; d=$0.der\n"
                '[ "$kind" = req ] || kind=x509\n'
                'sha() { openssl dgst -sha256 -c "$d" | sed "s/.*= //" | tr a-f A-F; }\n'
                'openssl $kind -in "$f" -outform der -out "$d" && all=$(sha) &&\n'
                'openssl $kind -in "$f" -noout -pubkey |\n'
                'openssl pkey -pubin -outform der -out "$d" && echo "$all $(sha)"'
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
            key=key,
            csrdir=str(self.folder / "requests"),
            signeddir=str(self.folder / "signed"),
        )
        return sh(tools + given + reads.script("sign.sh") + f"{what}\n")

    def cli(self, flag: str) -> str:
        n = "$4" if flag else "$3"
        return (
            f'echo "${{0##*/}} $*" >>{self.folder}/asked; cd {self.folder} || exit 1\n'
            f"case $2 in sign) {self.meanwhile}\n"
            f'openssl x509 -req -in "requests/{n}.pem" -CA ca.pem -CAkey ca.key -CAcreateserial '
            f'-out "signed/{n}.pem" 2>/dev/null && rm "requests/{n}.pem" ;; '
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
    new = f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=CA -keyout {tmp_path}/ca.key"
    assert sh(f"{new} -out {tmp_path}/ca.pem").returncode == 0
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


@pytest.mark.parametrize("legacy", ["no", "yes"])
def test_a_request_replaced_between_the_comparison_and_the_signing_gets_no_certificate(
    at_the_ca: AtTheCa, legacy: str
) -> None:
    theirs = at_the_ca.folder / "theirs.pem"
    ask(at_the_ca.folder, "cm1.lab.test")
    request = at_the_ca.folder / "requests" / "cm1.lab.test.pem"
    request.rename(theirs)
    ours = ask(at_the_ca.folder, "cm1.lab.test")
    keys = half("req", request), half("req", theirs)
    at_the_ca.meanwhile = f"cp {theirs} requests/cm1.lab.test.pem;"
    done = at_the_ca.run("sign", ours, legacy)
    assert done.returncode == 4, done.stderr
    assert all(key in done.stderr.splitlines()[-1] for key in keys)
    assert [line.split()[2] for line in at_the_ca.asked] == ["sign", "clean"]
    assert list((at_the_ca.folder / "signed").iterdir()) == []


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
    key = half("x509", at_the_ca.folder / "signed" / "cm1.lab.test.pem")
    for known in ("", key):
        again = at_the_ca.run("sign", ours, key=known)
        assert (again.returncode, again.stdout) == (0, "signed already\n")
    assert len(at_the_ca.asked) == 1


def test_what_was_signed_already_of_another_key_is_not_fine(at_the_ca: AtTheCa) -> None:
    theirs = ask(at_the_ca.folder, "cm1.lab.test")
    assert at_the_ca.run("sign", theirs).returncode == 0
    done = at_the_ca.run("sign", "AA:11", key="BB:22")
    assert done.returncode == 4
    assert "the host has BB:22" in done.stderr
    assert len(at_the_ca.asked) == 1  # whoever signed it knows why


def test_cleaning_twice_asks_the_ca_once(at_the_ca: AtTheCa) -> None:
    ask(at_the_ca.folder, "cm1.lab.test")
    for _ in range(2):
        done = at_the_ca.run("clean")
        assert done.returncode == 0, done.stderr
    assert at_the_ca.asked == ["puppetserver ca clean --certname cm1.lab.test"]


# --- why a server does not start: start.sh and puppetdb_start.sh ----------------------------------

BEFORE = "ERROR [p.t.internal] java.io.IOException: No space left on device\n"  # not of this start


def failing(folder: Path, unit: str, said: str, kernel: str = "", state: str = "enabled") -> str:
    """Stand-ins for a service that writes this to its log when it is started, and is dead then."""
    (folder / f"{unit}.log").write_text(BEFORE)
    (folder / "said").write_text(said)
    (folder / "kernel").write_text(kernel)
    return stand_in(
        folder / "bin",
        systemctl=(
            f"case $1 in start | restart) cat {folder}/said >>{folder}/{unit}.log; exit 1 ;;\n"
            f"is-active) echo failed; exit 3 ;; is-enabled) echo {state} ;; esac"
        ),
        journalctl=f'case $1 in -k) cat {folder}/kernel ;; *) echo "Starting {unit}" ;; esac',
        ss="echo 'LISTEN 0 50 *:8140 *:* users:((\"passenger\",pid=77,fd=9))'",
        sleep=":",
        ruby="exit 1",
    )


def start_puppetserver(folder: Path, tools: str) -> subprocess.CompletedProcess[str]:
    given = assignments(ruby="ruby", certname="cm1.lab.test", port="8140", logdir=str(folder))
    given += assignments(audit_log=str(folder / "audit.log"))
    scripts = (reads.script(f"{name}.sh") for name in ("serving", "denials", "start"))
    return sh(tools + given + "".join(scripts) + "serve start\n")


def test_what_failed_at_once_is_started_again(tmp_path: Path) -> None:
    """Debian 12's unit may look for the process before it is there."""
    once = f"[ $1 = start ] && mkdir {tmp_path}/once 2>/dev/null && exit 1"
    tools = stand_in(tmp_path / "bin", systemctl=f"{once}\n:", ruby=":", sleep=":")
    assert start_puppetserver(tmp_path, tools).returncode == 0


def test_what_took_its_time_to_fail_would_fail_again(tmp_path: Path) -> None:
    tools = failing(tmp_path, "puppetserver", "ERROR x\n")
    clock = f"echo x >>{tmp_path}/clock; expr 20 '*' $(wc -l <{tmp_path}/clock)"
    stand_in(tmp_path / "bin", date=clock)
    done = start_puppetserver(tmp_path, tools)
    assert done.returncode == 1
    log = (tmp_path / "puppetserver.log").read_text()
    assert log == f"{BEFORE}ERROR x\n"


def test_what_systemctl_waits_counts_as_time_without_service(tmp_path: Path) -> None:
    """A unit that is started when its server serves leaves nothing to wait for."""
    tools = stand_in(tmp_path / "bin", systemctl="case $1 in start) sleep 2 ;; esac", ruby=":")
    done = start_puppetserver(tmp_path, tools)
    assert done.returncode == 0
    assert int(done.stdout.split("serves after ")[1].split()[0]) >= 2


CRL_DENIED = "java.nio.file.AccessDeniedException: /var/lib/puppet/ssl/crl.pem"
CAUSES = {
    "both-ca-services": (
        "java.lang.IllegalArgumentException: Duplicate implementations found for service protocol "
        "':CaService':",
        "ca.cfg switches both CA services on",
    ),
    "no-ca-service": (
        "java.lang.RuntimeException: Service ':CaService' not found",
        "ca.cfg switches no CA service on",
    ),
    "no-certificate": (
        "INFO [p.s.m.master-service] CA disabled; ignoring SSL initialization for Master\n"
        "java.lang.IllegalArgumentException: Unable to open 'ssl-cert' file: "
        "/var/lib/puppet/ssl/certs/cm1.lab.test.pem",
        "there is no certificate yet, or the user puppet cannot read it",
    ),
    "no-crl": (
        "java.lang.IllegalArgumentException: Non-readable path specified for ssl-crl-path option: "
        "/var/lib/puppet/ssl/crl.pem",
        "there is no CRL",
    ),
    "half-cleaned": (
        "java.lang.IllegalStateException: Found master cert '/s/certs/cm1.lab.test.pem' but master "
        "private key '/s/private_keys/cm1.lab.test.pem' is missing",
        "the ssldir is half cleaned",
    ),
    "partial-ca": (
        "java.lang.IllegalStateException: Cannot initialize CA with partial state; need all files",
        "the CA service is on, and its directory is incomplete",
    ),
    "wiped": (
        "java.lang.IllegalArgumentException: :localcacert (/s/certs/ca.pem) could not be found and "
        "no file at :cacert (/s/ca/ca_crt.pem)",
        "the CA service is on, and the ssldir was wiped",
    ),
    "port": (
        "java.io.IOException: Failed to bind to /0.0.0.0:8140\n"
        "Caused by: java.net.BindException: Address already in use",
        "port 8140 is taken by passenger: stop that first",
    ),
    "configuration": (
        'Exception in thread "main" com.typesafe.config.ConfigException$Parse: '
        "/etc/puppet/puppetserver/conf.d/site.conf: 3: List should have had new element after a "
        "comma, instead had token: end of file",
        "a file in conf.d is not HOCON",
    ),
    "time": (
        "puppetserver.service: start-post operation timed out. Terminating.",
        "it takes longer than its unit allows: a longer TimeoutStartSec",
    ),
    "heap": ("java.lang.OutOfMemoryError: Java heap space", "too little memory for the heap"),
    "memory": (
        "# There is insufficient memory for the Java Runtime Environment to continue.",
        "too little memory for the heap",
    ),
    "reserve": (
        "Error occurred during initialization of VM\n"
        "Could not reserve enough space for 4194304KB object heap",
        "too little memory for the heap",
    ),
    "owner": (
        'Exception in thread "main" java.lang.IllegalStateException: There was a problem adding a '
        "JRubyInstance to the pool.\n"
        "Caused by: org.jruby.exceptions.RuntimeError: (RuntimeError) Got 1 failure(s) while "
        "initializing: File[/s/crl.pem]: change from '0600' to '0644' failed: failed to set mode "
        "0600 on /s/crl.pem: Operation not permitted - No message available",
        "a file that the user puppet cannot read, or does not own: chown it to puppet",
    ),
    "permission": (
        "java.io.FileNotFoundException: /etc/puppet/puppet.conf (Permission denied)",
        "a file that the user puppet cannot read",
    ),
    "access": (CRL_DENIED, "a file that the user puppet cannot read"),
    "disk": ("java.io.IOException: No space left on device", "a disk is full"),
    "unknown": ("java.lang.IllegalStateException: of a new kind", "see the lines above"),
}


@pytest.mark.parametrize(("said", "why"), CAUSES.values(), ids=CAUSES)
def test_why_puppet_server_does_not_start(tmp_path: Path, said: str, why: str) -> None:
    trace = "\tat com.typesafe.config.impl.ConfigDocumentParser.parseError(Parser.java:201)\n" * 20
    done = start_puppetserver(tmp_path, failing(tmp_path, "puppetserver", f"{said}\n{trace}"))
    assert done.returncode == 1
    assert f"Error: Puppet Server does not start: {why}" in done.stderr
    assert said.splitlines()[-1] in done.stdout or why == "see the lines above"
    assert "Parser.java" not in done.stdout


APPARMOR = (
    'apparmor="DENIED" operation="open" profile="site-jvm" name="/var/lib/puppet/ssl/crl.pem" '
    'pid=516 comm="async-dispatch-" requested_mask="r" denied_mask="r" fsuid=102 ouid=102'
)
SELINUX = (
    'avc:  denied  { read } for  pid=516 comm="async-dispatch-" name="crl.pem" dev="nvme0n1" ino=9 '
    "scontext=system_u:system_r:puppetmaster_t:s0 tcontext=system_u:object_r:user_home_t:s0 "
    "tclass=file permissive=0"
)
DENIALS = {"apparmor": APPARMOR, "selinux": SELINUX}
"""AppArmor's of a kernel 6.1, where a profile of the site's has all JVMs in it."""


@pytest.mark.parametrize("denial", DENIALS.values(), ids=DENIALS)
def test_what_the_kernel_denied_is_shown(tmp_path: Path, denial: str) -> None:
    allowed = "avc:  denied  { read } for  pid=9 permissive=1"  # said, and not done
    kernel = f"eth0: link is up\n{allowed}\naudit: type=1400 audit(1795801274.700:135): {denial}\n"
    done = start_puppetserver(tmp_path, failing(tmp_path, "puppetserver", "ERROR x\n", kernel))
    assert f"denied by the kernel:\n{denial}\n" in done.stdout
    assert "link is up" not in done.stdout
    assert allowed not in done.stdout
    assert "does not start: see the lines above" in done.stderr


@pytest.mark.parametrize("denial", DENIALS.values(), ids=DENIALS)
def test_what_auditd_keeps_from_the_kernels_log_is_shown_once(tmp_path: Path, denial: str) -> None:
    now = int(time.time()) + 60
    (tmp_path / "audit.log").write_text(
        f"type=AVC msg=audit({now - 600}.700:134): {denial.replace('crl', 'before')}\n"
        f'type=AVC msg=audit({now}.700:135): {denial}\x1dFSUID="puppet" OUID="puppet"\n'
    )
    tools = failing(tmp_path, "puppetserver", f"{CRL_DENIED}\n")
    stand_in(tmp_path / "bin", journalctl=f"cat <<'END'\nAVC {denial}\nEND")
    done = start_puppetserver(tmp_path, tools)
    assert done.stdout.endswith(f"denied by the kernel:\n{denial}\n")


@pytest.mark.parametrize("denial", DENIALS.values(), ids=DENIALS)
@pytest.mark.parametrize("why", ["access", "permission", "no-certificate", "no-crl"])
def test_a_denial_is_the_reason_where_a_file_cannot_be_read(
    tmp_path: Path, why: str, denial: str
) -> None:
    said = f"{CAUSES[why][0]}\n"
    done = start_puppetserver(tmp_path, failing(tmp_path, "puppetserver", said, denial + "\n"))
    assert "does not start: the kernel (AppArmor or SELinux) denies it a file: all" in done.stderr


def test_a_denial_is_not_the_reason_of_what_has_another(tmp_path: Path) -> None:
    said, why = CAUSES["port"]
    done = start_puppetserver(tmp_path, failing(tmp_path, "puppetserver", f"{said}\n", APPARMOR))
    assert f"does not start: {why}" in done.stderr


def test_a_masked_unit_logs_nothing(tmp_path: Path) -> None:
    """systemctl alone says it, to whoever asks for the start."""
    done = start_puppetserver(tmp_path, failing(tmp_path, "puppetserver", "", state="masked"))
    assert "Error: Puppet Server does not start: the unit is masked" in done.stderr


CAUSES_OF_PUPPETDB = {
    "password": (
        'org.postgresql.util.PSQLException: FATAL: password authentication failed for user "pdb"',
        "the database refuses the password",
    ),
    "newer": (
        "java.lang.IllegalStateException: Your PuppetDB database contains a schema migration "
        "numbered 87, but this version of PuppetDB does not recognize that version.",
        "the database was written by a newer PuppetDB",
    ),
    "no-database-server": (
        "org.postgresql.util.PSQLException: Connection to localhost:5432 refused. Check that the "
        "hostname and port are correct",
        "the database does not answer",
    ),
    "database-starts": (
        "org.postgresql.util.PSQLException: FATAL: the database system is starting up",
        "the database does not answer",
    ),
    "no-database": (
        'org.postgresql.util.PSQLException: FATAL: database "puppetdb" does not exist',
        "the database, or its role, does not exist",
    ),
    "port": ("java.net.BindException: Address already in use", "its port is taken"),
    "heap": ("java.lang.OutOfMemoryError: Java heap space", "too little memory for its heap"),
    "no-file": (
        "java.io.FileNotFoundException: /etc/puppet/puppetserver/ca/ca_crt.pem (No such file or "
        "directory)",
        "a file of its configuration is not there",
    ),
    "unreadable": (
        "java.io.FileNotFoundException: /var/lib/puppet/ssl/private_keys/pdb.pem (Permission "
        "denied)",
        "a file that the user puppetdb may not read",
    ),
    "disk-full-of-java": (
        "java.io.FileNotFoundException: /var/lib/puppetdb/stockpile/x (No space left on device)",
        "a disk is full",
    ),
    "extension": (
        'org.postgresql.util.PSQLException: ERROR: operator class "gin_trgm_ops" does not exist '
        'for access method "gin"',
        "the extension pg_trgm is missing",
    ),
    "extension-told": (
        "WARN [p.p.s.migrate] Missing PostgreSQL extension `pg_trgm`",
        "the extension pg_trgm is missing",
    ),
    "two-lists": (
        "clojure.lang.ExceptionInfo: Confusing configuration settings found! Both the deprecated "
        "certificate-whitelist and replacement certificate-allowlist are set.",
        "certificate-whitelist and certificate-allowlist are both set",
    ),
    "disk": ("java.io.IOException: No space left on device", "a disk is full"),
    "unknown": ("java.lang.IllegalStateException: of a new kind", "see the lines above"),
}


def restart_puppetdb(folder: Path, tools: str) -> subprocess.CompletedProcess[str]:
    given = assignments(ruby="ruby", logdir=str(folder), plain="8080", plain_host="127.0.0.1")
    given += assignments(audit_log=str(folder / "audit.log"))
    scripts = reads.script("denials.sh") + reads.script("puppetdb_start.sh")
    return sh(tools + given + scripts + "serve restart\n")


@pytest.mark.parametrize(("said", "why"), CAUSES_OF_PUPPETDB.values(), ids=CAUSES_OF_PUPPETDB)
def test_why_puppetdb_does_not_start(tmp_path: Path, said: str, why: str) -> None:
    done = restart_puppetdb(tmp_path, failing(tmp_path, "puppetdb", f"{said}\n\tat x.Error.y()\n"))
    assert done.returncode == 1
    assert f"Error: PuppetDB does not start: {why}" in done.stderr
    assert "x.Error" not in done.stdout


@pytest.mark.parametrize("denial", DENIALS.values(), ids=DENIALS)
def test_a_denial_is_the_reason_where_puppetdb_may_not_read_a_file(
    tmp_path: Path, denial: str
) -> None:
    said = f"{CAUSES_OF_PUPPETDB['unreadable'][0]}\n"
    done = restart_puppetdb(tmp_path, failing(tmp_path, "puppetdb", said, denial + "\n"))
    assert f"denied by the kernel:\n{denial}\n" in done.stdout
    assert "does not start: the kernel (AppArmor or SELinux) denies it a file: all" in done.stderr


# --- what PuppetDB is told of its database: database.sh -------------------------------------------


def tell_puppetdb(folder: Path, before: str | None) -> str:
    """What the file is afterwards."""
    ini = folder / "conf.d" / "database.ini"
    ini.parent.mkdir()
    if before is not None:
        ini.write_text(before)
    given = assignments(etc=str(folder), name="reports", user="pdb", port="5433", word="s3cret")
    tools = stand_in(folder / "bin", chown=f'echo "$*" >{folder}/owner')
    done = sh(tools + given + reads.script("database.sh") + "tell_puppetdb\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "owner").read_text() == f"root:puppetdb -- {ini}.new\n"
    assert ini.stat().st_mode & 0o777 == 0o640
    assert [f.name for f in ini.parent.iterdir()] == ["database.ini"]
    return ini.read_text()


TOLD = "subname = //localhost:5433/reports\nusername = pdb\npassword = s3cret\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, f"[database]\n{TOLD}"),
        ("", f"[database]\n{TOLD}"),
        (
            "[database]\nsubname = //localhost:5432/puppetdb\nusername = puppetdb\npassword =\n",
            f"[database]\n{TOLD}",
        ),
        (
            "# by hand\n[read-database]\nusername = reader\npassword = other\n\n"
            "[database] # the one that is written to\n\tpassword=\n# password = foobar\n"
            "gc-interval = 30\n[other]\nsubname = //x/y\n",
            "# by hand\n[read-database]\nusername = reader\npassword = other\n\n"
            f"[database] # the one that is written to\n{TOLD}# password = foobar\n"
            "gc-interval = 30\n[other]\nsubname = //x/y\n",
        ),
        (
            "[read-database]\npassword = other",
            f"[read-database]\npassword = other\n[database]\n{TOLD}",
        ),
    ],
    ids=["no-file", "empty", "debian", "more-sections", "no-section"],
)
def test_puppetdb_is_told_of_its_database_and_the_rest_stays(
    tmp_path: Path, before: str | None, after: str
) -> None:
    assert tell_puppetdb(tmp_path, before) == after


@pytest.mark.parametrize(
    ("ini", "known"),
    [
        ("[database]\nsubname = //h/p\nusername = pdb\npassword = s3cret\n", True),
        ("[read-database]\npassword = other\n[database]\npassword = s3cret\n", True),
        ("[database]\nsubname = //h/p\npassword =\n[read-database]\npassword = other\n", False),
        ("[read-database]\npassword = other\n[database]\nsubname = //h/p\n", False),
    ],
    ids=["usual", "second-comes-first", "debian", "none"],
)
def test_the_password_of_another_database_is_not_that_of_puppetdb(
    tmp_path: Path, ini: str, known: bool
) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "database.ini").write_text(ini)
    given = assignments(etc=str(tmp_path), name="reports", user="pdb", port="5432")
    done = sh(given + reads.script("database.sh") + "password\n")
    assert done.stdout.strip() == ("s3cret" if known else "")
    tools = stand_in(tmp_path / "bin", getent="exit 2", systemctl=":", ss=":", id="echo 0")
    text = reads.script("puppetdb.sh").replace("/etc/puppetdb", str(tmp_path))
    read = tools + reads.PRELUDE + "\nPC_vendor= PC_ruby= pc_port=8081\n" + text
    done = sh(read)
    assert ("password=yes" in done.stdout.splitlines()) is known, done
    assert "s3cret" not in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_repository_that_is_a_path_stays_its_owners(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Git serves root nothing that is somebody else's, and root's files would lock them out."""
    # pytest's own folders let nobody else through.
    outside = Path(tempfile.mkdtemp())
    request.addfinalizer(lambda: shutil.rmtree(outside))
    outside.chmod(0o755)
    repository, code = outside / "control.git", tmp_path / "production"
    (code / "manifests").mkdir(parents=True)
    (code / "manifests" / "site.pp").write_text("# ours\n")
    assert sh(f"git init -q --bare {repository}; chown -R nobody {repository}").returncode == 0
    given = assignments(
        kind="git",
        url=str(repository),
        key="",
        revision="",
        only="",
        environments=str(tmp_path),
        store=str(tmp_path / "deployed"),
        ruby="ruby",
    )
    given += reads.script("git_pack.sh") + reads.script("copies.sh")
    about = assignments(environment="production", folder=str(code), who="main1.example.com")
    done = sh(given + about + reads.script("import.sh"))
    assert done.returncode == 0, done.stderr
    whose = {path.owner() for path in repository.rglob("*")}
    assert whose == {"nobody"}
    revision = done.stdout.splitlines()[0]
    fetched = sh(f"{given}mkdir -p $store && mirror && fetch production {revision}\n")
    assert fetched.returncode == 0, fetched.stderr
    file = tmp_path / "deployed" / "production" / revision[:12] / "manifests" / "site.pp"
    assert file.read_text() == "# ours\n"


# --- code that is pulled --------------------------------------------------------------------------


@pytest.mark.parametrize(("only", "left"), [("", []), ("production", ["staging"])])
def test_what_a_killed_pull_had_fetched_goes_where_code_is_pulled(
    tmp_path: Path, only: str, left: list[str]
) -> None:
    """rsync deletes nothing in the folder it keeps that in, and uses only what is still there."""
    environments = tmp_path / "environments"
    for name in ("production", "staging"):
        kept = environments / name / "data" / ".~tmp~"
        kept.mkdir(parents=True)
        (kept / "gone.yaml").write_text("fetched")
        (environments / name / "data" / "common.yaml").write_text("served")
    tools = stand_in(
        tmp_path / "bin",
        rsync="case $* in *-only*) echo '-rw-r--r-- 1 2026/01/01 00:00:00 production' ;; esac",
    )
    given = assignments(
        source="main.lab.test",
        sshport="22",
        account="puppet-code",
        own=str(tmp_path / "own"),
        environments=str(environments),
        only=only,
        folders=f"environments {environments}",
    )
    text = reads.script("rsync_pull.sh").replace("/var/lib/pmrunbook", str(tmp_path / "var"))
    (tmp_path / "var" / "puppet-code").mkdir(parents=True)
    (tmp_path / "var" / "puppet-code" / "delivered").write_text("production\nstaging\n")
    done = sh(f"{tools}{given}after() {{ :; }}\n{text}deploy\n")
    assert done.returncode == 0, done.stderr
    assert [p.parents[1].name for p in environments.rglob(".~tmp~")] == left
    assert len(list(environments.rglob("common.yaml"))) == 2


NOTE = '{{\n  "signature": "{0}",\n  "deploy_success": {1}\n}}\n'


ERRORS = """\
INFO\t -> Using Puppetfile '/etc/puppet/code/environments/staging/Puppetfile'
ERROR\t -> Command exited with non-zero exit code:
Command: git clone --mirror git://forge/gone.git
fatal: remote error
ERROR\t -> Command exited with non-zero exit code:
INFO\t -> Environment production is now at new
"""
WHY = (
    "; ERROR -> Command exited with non-zero exit code: "
    "Command: git clone --mirror git://forge/gone.git fatal: remote error"
)


@pytest.mark.parametrize(
    ("staging", "code", "shown", "said"),
    [
        (NOTE.format("new", "true"), 0, "INFO\t -> x\n", ""),
        (NOTE.format("new", "false"), 0, "", "not deployed cleanly: {0}/staging"),
        (NOTE.format("old", "true"), 1, ERRORS, "not deployed cleanly: {0}/staging" + WHY),
        (NOTE.format("new", "true"), 1, ERRORS, "r10k ended with 1" + WHY),
    ],
    ids=["clean", "noted", "not-noted", "ended"],
)
def test_which_environment_r10k_did_not_deploy_and_why(
    tmp_path: Path, staging: str, code: int, shown: str, said: str
) -> None:
    """A Puppetfile that cannot be resolved leaves the note of the deployment before."""
    right = NOTE.format("new", "true")
    for name, note in {
        "archive/x": right,
        "production/.git": right,
        "staging/.git": staging,
    }.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).with_name(".r10k-deploy.json").write_text(note)
    (tmp_path / "by_hand").mkdir()
    (tmp_path / "shown").write_text(shown)
    r10k = f"cat {tmp_path}/shown; exit {code}"
    tools = stand_in(tmp_path / "bin", r10k=r10k, git="echo new")
    given = assignments(r10k="r10k", config="/c", only="", key="", environments=str(tmp_path))
    done = sh(f"{tools}{given}after() {{ echo after; }}\n{reads.script('r10k_run.sh')}deploy\n")
    assert done.stderr == (f"Error: {said.format(tmp_path)}\n" if said else "")
    assert done.stdout == shown + ("" if said else "after\n")


def test_a_run_is_as_long_ago_as_the_clock_says_that_nobody_sets(tmp_path: Path) -> None:
    tools = stand_in(
        tmp_path / "bin",
        systemctl="case $* in *Monotonic*) echo 66164499297 ;; *ExitTimestamp*) date ;; esac",
        date="echo 'this clock was put back' >&2; exit 1",
        journalctl=":",
        ruby='for ended; do :; done; echo "ago=of $ended"',
    )
    done = sh(f"{tools}PC_ruby=ruby pc_unit=x\npc_file() {{ :; }}\n{reads.script('schedule.sh')}")
    assert "ago=of 66164499297" in done.stdout.splitlines()
    assert done.stderr == ""


def test_a_run_that_is_under_way_is_waited_for(tmp_path: Path) -> None:
    """While it is, systemd tells neither how the last one ended nor when."""
    tools = stand_in(
        tmp_path / "bin",
        systemctl=f"case $* in *--value*ActiveState*|*ActiveState*--value*) "
        f"echo x >>{tmp_path}/asked; [ $(wc -l <{tmp_path}/asked) -lt 3 ] && echo activating ;; "
        f"*Result*) [ $(wc -l <{tmp_path}/asked) -lt 3 ] || echo Result=exit-code ;; esac",
        journalctl=":",
        sleep=":",
    )
    done = sh(f"{tools}PC_ruby= pc_unit=x\npc_file() {{ :; }}\n{reads.script('schedule.sh')}")
    assert "result=exit-code" in done.stdout.splitlines()
    assert (tmp_path / "asked").read_text() == "x\nx\nx\n"


SEEN_BY_A_PROXY = """
ask_haproxy() {
    case $1 in
    'show stat') printf '%s\\n' '# pxname,svname,status,lastchg' compilers,cm1,UP,500 \\
        compilers,cm2,UP,30 compilers,old,UP,1 compilers,BACKEND,UP,0 other,cm1,UP,2 ;;
    *) echo "asked: $1" ;;
    esac
}
sleep() { echo "waits $1"; }
"""


def test_agents_are_spread_anew_once_each_server_has_its_whole_share() -> None:
    scripts = f"{reads.script('proxy_ask.sh')}{SEEN_BY_A_PROXY}{reads.script('proxy_serve.sh')}"
    done = sh(f"members='cm1 cm2'\n{scripts}settled\n")
    assert done.stdout.splitlines()[1:] == ["waits 2", "asked: clear table compilers"]


def tell_idle(*seconds: str) -> str:
    """A proxy that says so, each time it is asked, how long ago an agent came."""
    asked = " ".join(seconds)
    return (
        f"sleep() {{ :; }}\nmembers=\n{reads.script('proxy_serve.sh')}"
        "ask_haproxy() { case $1 in\n"
        "'show table'*) echo '0x1: key=192.0.2.7 use=0 exp=9 server_id=1' ;;\n"
        "*) n=$(cat n 2>/dev/null || echo 0); n=$((n + 1)); echo $n >n\n"
        f"    idle=$(echo {asked} | cut -d' ' -f$n); [ -n \"$idle\" ] || idle={seconds[-1]}\n"
        "    printf '# pxname,svname,lastsess\\nfe,BACKEND,1\\ncompilers,BACKEND,%s\\n' $idle ;;\n"
        "esac; }\n"
    )


@pytest.mark.parametrize(
    ("idle", "code", "asked"),
    [(["-1"], 0, 1), (["600"], 0, 1), (["2", "30", "61"], 0, 3), (["3"], 1, 25)],
    ids=["nobody", "long ago", "the last ones", "for ever"],
)
def test_a_proxy_goes_when_no_agent_comes_any_more(
    tmp_path: Path, idle: list[str], code: int, asked: int
) -> None:
    done = sh(f"cd {tmp_path}\n{tell_idle(*idle)}quiet 60\n")
    assert done.returncode == code, done.stderr
    assert (tmp_path / "n").read_text() == f"{asked}\n"
    assert ("192.0.2.7" in done.stderr) == bool(code)
