"""Code in sync, on real hosts: from one server's disk to a repository, proved, broken, taken back.

The tests share one estate and build on each other, in the order of the file.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, jobs_run, must, picture, some
from tests.lab.test_ca import names, server
from tests.lab.test_ca_screens import ASKED, screen, start, to_the_end, wait
from tests.lab.test_code_ways import given_back
from tests.lab.test_compilers import PATH, boundaries, fqdn, members
from tests.ui.conftest import WIDE, Terminal

__all__ = ["screen"]
pytestmark = pytest.mark.lab

CODE = "/etc/puppet/code"
ENVIRONMENTS = f"{CODE}/environments"


@pytest.fixture(scope="module")
def seat(code_lab: Lab, alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """A site with compile masters, and this chapter alone."""
    return Seat(code_lab, tmp_path_factory.mktemp("state"), alone, runbook="code-alone")


@pytest.fixture(scope="module")
def before(seat: Seat) -> dict[str, dict[str, str]]:
    """Code and configuration of every server, as the chapter finds them."""
    return {h: dict(picture(seat.lab, h, "/etc")) for h in servers(seat.lab)}


def servers(lab: Lab) -> list[str]:
    return [server(lab), *members(lab)]


def forge(lab: Lab) -> str:
    """The machine that holds the repositories."""
    return next(h.name for h in lab.estate.hosts if h.name.startswith("forge"))


def inventory(seat: Seat, folder: Path, **code: Any) -> Path:
    """The lab's inventory with a strategy; all servers take their turn at once."""
    data = yaml.safe_load(seat.lab.inventory.read_text())
    data |= {"rollout": {"canary": 2}, "code": code}
    file = folder / "inventory.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def url(seat: Seat) -> str:
    """Where repositories are reached over ssh, with a key that each server has."""
    lab, port = seat.lab, seat.lab.estate.ssh_port
    name = fqdn(lab, forge(lab))
    must(
        lab.execute(
            forge(lab),
            "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; "
            "apt-get -qq -y --no-install-recommends install git mercurial subversion >/dev/null; "
            "useradd -m -s /bin/sh keeper; install -d -m 700 -o keeper -g keeper ~keeper/.ssh; "
            "install -d -o keeper /srv/repos; ls /srv/repos",
            timeout=300,
        )
    )
    for host in servers(lab):
        key = must(
            lab.execute(
                host,
                "mkdir -p -m 700 /root/.ssh; "
                "[ -e ~/.ssh/id_code ] || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_code; "
                "cat /root/.ssh/id_code.pub",
            )
        )
        must(
            lab.execute(
                forge(lab),
                f"echo '{key.strip()}' >> ~keeper/.ssh/authorized_keys; "
                "chown -R keeper ~keeper/.ssh",
            )
        )
    return f"ssh://keeper@{name}:{port}/srv/repos"


def trust(lab: Lab, host: str) -> None:
    """A server knows the repository's host key, as its owner would hand it out."""
    name, port = fqdn(lab, forge(lab)), lab.estate.ssh_port
    keys = must(lab.execute(forge(lab), "cat /etc/ssh/ssh_host_*_key.pub"))
    where = name if port == 22 else f"[{name}]:{port}"
    lines = "".join(f"{where} {' '.join(k.split()[:2])}\n" for k in keys.splitlines())
    must(lab.execute(host, "cat > /root/.ssh/known_hosts", stdin=lines))


def verify(seat: Seat, topic: str, code: int = 0) -> list[dict[str, Any]]:
    """The checks of a topic, as JSON."""
    out = must(seat.pmrunbook("verify", topic, "--json"), code)
    return [e for e in map(json.loads, out.splitlines()) if e["kind"] == "check"]


def alike(seat: Seat) -> None:
    """Every server has the same, and compiles the same for a node of each environment."""
    cells = verify(seat, "code")
    assert all(c["ok"] for c in cells)
    names = {fqdn(seat.lab, h) for h in servers(seat.lab)}
    assert {c["cell"][0] for c in cells} == names
    assert {"production", "staging", "shared", "classifier", "settings"} == {
        c["cell"][1] for c in cells
    }
    compiled = verify(seat, "catalogs")
    assert all(c["ok"] for c in compiled)
    assert len(compiled) == len(names) * len({c["cell"][1] for c in compiled})
    assert {c["observed"].split(" in ")[1] for c in compiled} >= {
        "production, 0 differences",
        "staging, 0 differences",
    }


def commit(lab: Lab, branch: str, path: str, text: str, repository: str = "control") -> str:
    """A change of one file, committed to a branch by the repository's owner; its revision."""
    script = (
        f"set -e; rm -rf ~/work; git clone -q -b {branch} /srv/repos/{repository}.git ~/work; "
        f"cd ~/work; mkdir -p $(dirname {path}); cat > {path}; git add -A; "
        "git -c user.name=dev -c user.email=dev@example.com commit -qm change; "
        f"git push -q origin HEAD:{branch}; git rev-parse HEAD"
    )
    owner = f"su - keeper -c {shlex.quote(script)}"
    return must(lab.execute(forge(lab), owner, stdin=text)).strip()


# --- git ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def git(seat: Seat, url: str, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """A seat whose inventory wants Git; its repository is empty."""
    must(
        seat.lab.execute(
            forge(seat.lab), "git init -q --bare /srv/repos/control.git; chown -R keeper /srv/repos"
        )
    )
    folder = tmp_path_factory.mktemp("git")
    given = {"repository": f"{url}/control.git", "key": "/root/.ssh/id_code"}
    file = inventory(seat, folder, strategy="git", **given)
    return replace(seat, state=folder / "state", file=file)


def test_a_stranger_of_a_repository_is_not_trusted(git: Seat, before: object) -> None:
    """Git comes with the first run; then the host key nobody has seen holds everything."""
    done = git.pmrunbook("--plain", "--yes", "--step", "code")
    assert done.returncode == 1, done.stdout[-3000:]
    assert "Host key verification failed" in done.stdout
    again = git.pmrunbook("--plain", "--yes", "--new", "--step", "code")
    assert again.returncode == 1
    assert again.stdout.count("[code-repository-host-key]") >= len(servers(git.lab))
    assert "ssh-keyscan" in again.stdout
    for host in servers(git.lab):
        trust(git.lab, host)


def test_a_dry_run_changes_no_file(git: Seat, before: dict[str, dict[str, str]]) -> None:
    lab = git.lab
    marks = {h: lab.marks(h) for h in servers(lab)}
    out = must(git.pmrunbook("--dry-run", "--plain", "--step", "code"))
    assert "bring production as it is on" in out
    assert "code-not-in-repository" in out
    ours = ("/etc/", "/var/lib/pmrunbook/")
    changed = {h: lab.changed_files(h, marks[h]) for h in marks}
    assert {h: [f for f in files if f.startswith(ours)] for h, files in changed.items()} == {
        h: [] for h in marks
    }


def test_one_unattended_run_brings_all_from_one_repository(git: Seat) -> None:
    out = must(git.pmrunbook("--plain", "--yes", "--new", "--step", "code", timeout=1800))
    assert "0 differences" in out
    lab = git.lab
    for host in servers(lab):
        for name in ("production", "staging"):
            link = must(lab.execute(host, f"readlink {ENVIRONMENTS}/{name}")).strip()
            assert re.fullmatch(rf"{CODE}/deployed/{name}/[0-9a-f]{{12}}", link)
    kept = f"{CODE}/deployed/production/before/manifests/site.pp"
    must(lab.execute(server(lab), f"cmp {kept} {ENVIRONMENTS}/production/manifests/site.pp"))
    alike(git)


def test_a_second_run_finds_nothing_to_do(git: Seat) -> None:
    lab = git.lab
    ran, marks = jobs_run(lab, servers(lab)), {h: lab.marks(h) for h in servers(lab)}
    out = must(git.pmrunbook("--plain", "--yes", "--step", "code"))
    assert "step code: nothing to do" in out
    assert jobs_run(lab, servers(lab)) == ran
    for host in servers(lab):
        changed = lab.changed_files(host, marks[host])
        assert [f for f in changed if f.startswith("/etc/")] == []


def test_a_byte_changed_turns_one_cell_red_and_names_the_path(git: Seat) -> None:
    lab, host = git.lab, members(git.lab)[0]
    path = "modules/site/manifests/motd.pp"
    must(lab.execute(host, f"sed -i 's/0644/0640/' {ENVIRONMENTS}/production/{path}"))
    red = [c for c in verify(git, "code", 1) if not c["ok"]]
    assert [c["cell"] for c in red] == [[fqdn(lab, host), "production"]]
    assert red[0]["observed"].startswith(path)
    assert "0640" in red[0]["detail"]
    differs = [c for c in verify(git, "catalogs", 1) if not c["ok"]]
    assert {c["cell"][0] for c in differs} == {fqdn(lab, host)}
    assert differs[0]["observed"].startswith("File[/etc/motd] mode")
    out = must(git.pmrunbook("--plain", "--yes", "--step", "code"))
    assert "what was edited there is kept" in out
    kept = must(lab.execute(host, f"grep -l 0640 {CODE}/deployed/production/edited-*/{path}"))
    assert kept.strip()
    alike(git)


def test_odd_files_are_compared_like_all_others(git: Seat) -> None:
    """Two gigabytes, a link that leads to itself, a folder Puppet cannot address."""
    lab, host = git.lab, members(git.lab)[0]
    folder = f"{ENVIRONMENTS}/production/data"
    must(
        lab.execute(
            host,
            f"ln -s . {folder}/loop; truncate -s 2G '{folder}/zu groß'; "
            f"mkdir -p '{ENVIRONMENTS}/alte Umgebung/manifests'; "
            f"echo 1 > '{ENVIRONMENTS}/alte Umgebung/manifests/site.pp'",
        )
    )
    red = [c for c in verify(git, "code", 1) if not c["ok"]]
    assert [c["cell"] for c in red] == [[fqdn(lab, host), "production"]]
    assert red[0]["observed"].startswith("data/loop")
    out = git.pmrunbook("--dry-run", "--plain", "--step", "code").stdout
    assert "[environment-misnamed]" in out
    must(lab.execute(host, f"rm -r {folder}/loop {folder}/zu* '{ENVIRONMENTS}/alte Umgebung'"))


def test_a_full_disk_on_one_server_holds_all_of_them(git: Seat) -> None:
    """Nobody moves ahead of a server that could not fetch."""
    lab, host = git.lab, members(git.lab)[-1]
    revision = commit(lab, "staging", "data/extra.yaml", "---\n" + "# a line\n" * 20_000)
    must(lab.execute(host, f"mount -t tmpfs -o size=64k tmpfs {CODE}/deployed/staging"))
    try:
        done = git.pmrunbook("--plain", "--yes", "--step", "code")
        assert done.returncode == 1, done.stdout[-3000:]
        assert f"turn staging to {revision[:12]}" in done.stdout  # planned
        for each in (h for h in servers(lab) if h != host):
            link = must(lab.execute(each, f"readlink {ENVIRONMENTS}/staging"))
            assert revision[:12] not in link
    finally:
        must(lab.execute(host, f"umount {CODE}/deployed/staging"))
    must(git.pmrunbook("--plain", "--yes", "--resume"))


def test_the_classifier_goes_where_the_code_goes(git: Seat, tmp_path: Path) -> None:
    lab, host = git.lab, members(git.lab)[0]
    script = (
        "#!/bin/sh\ngrep -q . /etc/puppet/nodes.yaml || exit 1\n"
        "printf -- '---\\nclasses: {}\\nparameters: {from: enc}\\n'\n"
    )
    must(
        lab.execute(
            server(lab),
            "cd /etc/puppet; cat > enc; chmod 755 enc; echo '--- {}' > nodes.yaml",
            stdin=script,
        )
    )
    code = yaml.safe_load(git.inventory.read_text())["code"]
    more = {"enc": "/etc/puppet/enc", "files": ["/etc/puppet/nodes.yaml"]}
    file = inventory(git, tmp_path, **code, **more)
    made = replace(git, state=tmp_path / "state", file=file)
    must(made.pmrunbook("--plain", "--yes", "--step", "code"))
    for each in servers(lab):
        said = must(lab.execute(each, PATH + "puppet config print --section server node_terminus"))
        assert said.strip() == "exec"
        must(lab.execute(each, "test -x /etc/puppet/enc && test -e /etc/puppet/nodes.yaml"))
    must(lab.execute(host, "printf '#!/bin/sh\necho garbage\n' > /etc/puppet/enc"))
    red = {c["cell"][1]: c for c in verify(made, "code", 1) if not c["ok"]}
    assert "it prints no YAML mapping" in red["classifier"]["observed"]
    must(made.pmrunbook("--plain", "--yes", "--step", "code"))
    # Somebody changed what we wrote: undo puts it back only when told to.
    refused = made.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200)
    assert refused.returncode == 1
    assert "changed by somebody" in refused.stdout
    must(made.pmrunbook("undo", "code", "--plain", "--yes", "--on-failure", "force", timeout=1200))
    must(lab.execute(server(lab), "rm /etc/puppet/enc /etc/puppet/nodes.yaml"))


def test_a_commit_is_served_by_every_server_even_from_memory(git: Seat) -> None:
    """Servers that keep environments in memory are told to forget, each by itself."""
    lab = git.lab
    for host in servers(lab):
        must(
            lab.execute(
                host,
                PATH + "cp -p /etc/puppet/puppet.conf /root/; "
                "puppet config set --section server environment_timeout unlimited; "
                "systemctl reload puppetserver",
                timeout=180,
            )
        )
    must(git.pmrunbook("--plain", "--yes", "--step", "code"))
    verify(git, "catalogs")  # every environment is in memory now
    data = "---\nsite::motd::owner: 'Fresh team'\nsite::motd::notice: 'New.'\n"
    data += "site::limits::open_files: 4096\n"
    revision = commit(lab, "production", "data/common.yaml", data)
    out = must(git.pmrunbook("--plain", "--yes", "--step", "code"))
    assert f"turn production to {revision[:12]}" in out
    assert out.count("drop what it keeps of its environments") >= len(servers(lab))
    for host in servers(lab):
        said = must(
            lab.execute(
                names(lab, "agent")[0],
                PATH + f"puppet agent --test --noop --server {fqdn(lab, host)} --color=false; :",
                timeout=180,
            )
        )
        assert "Fresh team" in said
    for host in servers(lab):
        must(
            lab.execute(
                host,
                "cp -p /root/puppet.conf /etc/puppet/puppet.conf; systemctl reload puppetserver",
                timeout=180,
            )
        )


def test_a_repository_that_is_away_holds_and_says_so(git: Seat) -> None:
    lab = git.lab
    must(lab.execute(forge(lab), "mv /srv/repos/control.git /srv/repos/gone.git"))
    try:
        done = git.pmrunbook("--plain", "--yes", "--step", "code")
        assert done.returncode == 1
        assert "[code-repository-unreachable]" in done.stdout
        assert all(c["ok"] for c in verify(git, "code"))  # what is there stays alike
    finally:
        must(lab.execute(forge(lab), "mv /srv/repos/gone.git /srv/repos/control.git"))


def test_a_key_that_does_not_open_the_repository_is_told_from_one_that_is_not_there(
    git: Seat, tmp_path: Path
) -> None:
    lab, code = git.lab, yaml.safe_load(git.inventory.read_text())["code"]
    for host in servers(lab):
        must(lab.execute(host, "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_wrong"))
    for key, said in (("id_wrong", "Permission denied"), ("id_gone", "id_gone is not there")):
        file = inventory(git, tmp_path, **{**code, "key": f"/root/.ssh/{key}"})
        stranger = replace(git, state=tmp_path / "state", file=file)
        done = stranger.pmrunbook("--dry-run", "--plain", "--step", "code")
        assert done.returncode == 1
        assert done.stdout.count("[code-repository-refused]") == len(servers(lab))
        assert said in done.stdout


def test_killed_between_any_two_actions_it_ends_like_an_unbroken_run(git: Seat) -> None:
    lab = git.lab
    must(git.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))
    # What was brought into the repository is there now.
    places = [p for p in boundaries(git.events(), "code") if not p[2].startswith("import/")]
    git.killed_at(some(places)[::2], servers(lab), "--step", "code")
    alike(git)
    must(git.pmrunbook("debts"))


def test_undone_every_server_has_its_own_folders_again(
    git: Seat, before: dict[str, dict[str, str]]
) -> None:
    lab = git.lab
    must(git.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))
    given_back(lab, before)


@pytest.mark.parametrize("screen", [WIDE], indirect=True, ids=["120x36"])
def test_brought_through_the_screens(git: Seat, screen: Terminal) -> None:
    start(screen, git, "--new", "--step", "code")
    assert ASKED in wait(screen, ASKED, "Summary")
    shown = to_the_end(screen)
    assert "Done" in shown
    screen.keys("q")
    wait(screen, "left-40", seconds=30)
    must(git.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))


# --- git from a path, and keys of hiera -----------------------------------------------------------

KEYS = "/etc/puppet/eyaml"
GEMS = "/etc/puppet/puppetserver/conf.d/puppetserver.conf"
WITH_EYAML = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -y --no-install-recommends install hiera-eyaml >/dev/null
# Puppet Server sees none of Debian's gems, and does not start with all of them.
mkdir /opt/eyaml
cd /usr/share/rubygems-integration/all/gems
cp -r hiera-eyaml-*/lib/* optimist-*/lib/* /usr/lib/ruby/vendor_ruby/highline* /opt/eyaml
cp -p {GEMS} /root/gems.conf
sed -i 's|^\\( *ruby-load-path: \\[.*\\)\\]|\\1, /opt/eyaml]|' {GEMS}
systemctl reload puppetserver
"""
WITHOUT_EYAML = f"""
rm -r {KEYS} /srv/repos /opt/eyaml
mv /root/gems.conf {GEMS}
apt-get -qq -y purge hiera-eyaml
systemctl reload puppetserver
"""
WITH_KEYS = f"""\
---
version: 5
defaults:
  datadir: data
hierarchy:
  - name: Secrets
    lookup_key: eyaml_lookup_key
    path: secret.eyaml
    options:
      pkcs7_private_key: {KEYS}/private_key.pkcs7.pem
      pkcs7_public_key: {KEYS}/public_key.pkcs7.pem
  - name: Everyone
    data_hash: yaml_data
    path: common.yaml
"""


def handed(lab: Lab, source: str, host: str, folder: str) -> None:
    """A folder of one host is on another one as it is there, owner and mode included."""
    packed = must(lab.execute(source, f"tar -C / -cf - .{folder} | base64"))
    must(lab.execute(host, f"rm -rf {folder}; base64 -d | tar -C / -xpf -", stdin=packed))


@pytest.fixture(scope="module")
def by_path(seat: Seat, url: str, tmp_path_factory: pytest.TempPathFactory) -> Seat:
    """The repository is a folder of each server, its owner's, as a shared disk would have it.

    Production has a secret that only who has the keys can read; so far that is one server.
    """
    lab, holder = seat.lab, server(seat.lab)
    handed(lab, holder, forge(lab), ENVIRONMENTS)
    user = "-c user.name=dev -c user.email=dev@example.com"
    made = (
        "set -e; cd /srv/repos; git init -q --bare path.git; for e in production staging; do "
        f"cd {ENVIRONMENTS}/$e; git init -q; git add -A; git {user} commit -qm one; "
        "git push -q /srv/repos/path.git HEAD:refs/heads/$e; done; chown -R keeper /srv/repos"
    )
    must(lab.execute(forge(lab), made))
    for host in servers(lab):
        must(lab.execute(host, WITH_EYAML, timeout=300))
    pair = " ".join(f"--pkcs7-{k}-key={KEYS}/{k}_key.pkcs7.pem" for k in ("private", "public"))
    make = (
        f"mkdir -p {KEYS}; eyaml createkeys {pair} >&2; chown -R puppet: {KEYS}; chmod 400 {KEYS}/*"
    )
    secret = f"eyaml encrypt -o string -s 'Vault team' {pair}"
    word = must(lab.execute(holder, f"{make}; {secret}", timeout=60)).strip()
    commit(lab, "production", "hiera.yaml", WITH_KEYS, "path")
    owner = f"---\nsite::motd::owner: '{word}'\n"
    commit(lab, "production", "data/secret.eyaml", owner, "path")
    for host in servers(lab):
        handed(lab, forge(lab), host, "/srv/repos/path.git")
        must(lab.execute(host, "chown -R games: /srv/repos/path.git"))
    folder = tmp_path_factory.mktemp("path")
    file = inventory(seat, folder, strategy="git", repository="/srv/repos/path.git")
    return replace(seat, state=folder / "state", file=file)


def test_git_from_a_path_of_somebody_elses_and_a_key_that_is_missing(by_path: Seat) -> None:
    lab, host = by_path.lab, members(by_path.lab)[0]
    done = by_path.pmrunbook("--plain", "--yes", "--step", "code", timeout=1800)
    assert done.returncode == 1  # its own proof
    red = {tuple(c["cell"]): c for c in verify(by_path, "code", 1) if not c["ok"]}
    assert list(red) == [(fqdn(lab, host), "shared")]
    assert (
        f"missing: key {KEYS}/private_key.pkcs7.pem" in red[fqdn(lab, host), "shared"]["observed"]
    )
    handed(lab, server(lab), host, KEYS)
    must(by_path.pmrunbook("--plain", "--yes", "--resume"))
    alike(by_path)
    agent = names(lab, "agent")[0]
    for each in servers(lab):
        run = f"puppet agent --test --noop --server {fqdn(lab, each)} --color=false; :"
        assert "Vault team" in must(lab.execute(agent, PATH + run, timeout=180))


def test_a_key_that_is_another_one_is_found_and_never_told(by_path: Seat) -> None:
    lab, host = by_path.lab, members(by_path.lab)[0]
    file = f"{KEYS}/private_key.pkcs7.pem"
    must(lab.execute(host, f"openssl genrsa 2048 >/tmp/key 2>/dev/null; cat /tmp/key >{file}"))
    done = by_path.pmrunbook("verify", "code", "--json")
    red = [c for c in map(json.loads, done.stdout.splitlines()) if c.get("ok") is False]
    assert [c["cell"] for c in red] == [[fqdn(lab, host), "shared"]]
    assert red[0]["observed"].startswith(f"key {file}, unlike ")
    told = done.stdout + done.stderr
    told += "".join(f.read_text() for f in by_path.state.rglob("*") if f.is_file())
    for each in servers(lab):
        lines = must(lab.execute(each, f"cat {file}; sha256sum {file} | cut -c1-16")).splitlines()
        assert not [x for x in lines if not x.startswith("---") and x in told]
    must(by_path.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))
    for each in servers(lab):
        must(lab.execute(each, WITHOUT_EYAML, timeout=300))


# --- the other repositories -----------------------------------------------------------------------


def brought(seat: Seat, folder: Path, **code: Any) -> Seat:
    """One unattended run of a strategy, proved; a second one finds nothing to do."""
    made = replace(seat, state=folder / "state", file=inventory(seat, folder, **code))
    done = made.pmrunbook("--plain", "--yes", "--step", "code", timeout=1800)
    if done.returncode == 1 and "code-repository" in done.stdout:
        raise AssertionError(done.stdout[-3000:])
    assert "0 differences" in must(done)  # the step's own proof
    assert "step code: nothing to do" in must(made.pmrunbook("--plain", "--yes", "--step", "code"))
    return made


def test_mercurial(seat: Seat, url: str, tmp_path: Path) -> None:
    for host in servers(seat.lab):
        trust(seat.lab, host)
    must(seat.lab.execute(forge(seat.lab), "su keeper -c 'hg init /srv/repos/hg'"))
    made = brought(
        seat,
        tmp_path,
        strategy="mercurial",
        repository=f"{url.replace('/srv', '//srv')}/hg",
        key="/root/.ssh/id_code",
        environments=["production", "staging"],
    )
    must(made.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))


def test_subversion(seat: Seat, url: str, tmp_path: Path) -> None:
    lab = seat.lab
    serve = (
        "svnadmin create /srv/repos/svn; "
        "printf '[general]\\nanon-access = write\\n' > /srv/repos/svn/conf/svnserve.conf; "
        "svnserve -d -r /srv/repos"
    )
    must(lab.execute(forge(lab), serve))
    name = fqdn(lab, forge(lab))
    made = brought(seat, tmp_path, strategy="subversion", repository=f"svn://{name}/svn")
    must(made.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))


def test_r10k_with_a_module_of_the_puppetfile(
    seat: Seat, url: str, tmp_path: Path, before: dict[str, dict[str, str]]
) -> None:
    lab = seat.lab
    for host in servers(lab):
        trust(lab, host)
    must(
        lab.execute(
            forge(lab),
            "set -e; cd /srv/repos; git init -q --bare r10k.git; git init -q --bare extra.git; "
            "git init -q -b main /tmp/extra; "
            "cd /tmp/extra; mkdir manifests; echo 'class extra { notify { \"extra\": } }' "
            "> manifests/init.pp; git add -A; git -c user.name=dev -c user.email=d@example.com "
            "commit -qm one; git -c safe.directory='*' push -q /srv/repos/extra.git HEAD:main; "
            "chown -R keeper /srv/repos",
        )
    )
    made = brought(
        seat,
        tmp_path,
        strategy="r10k",
        repository=f"{url}/r10k.git",
        key="/root/.ssh/id_code",
        environments=["production", "staging"],
    )
    module = f"moduledir 'thirdparty'\nmod 'extra', git: '{url}/extra.git', branch: 'main'\n"
    commit(lab, "production", "Puppetfile", module, "r10k")
    modulepath = "modulepath = modules:thirdparty:$basemodulepath\n"
    commit(lab, "production", "environment.conf", modulepath, "r10k")
    # A Puppetfile that cannot be resolved stops at the canary, and is named.
    commit(lab, "staging", "Puppetfile", f"mod 'gone', git: '{url}/gone.git'\n", "r10k")
    done = made.pmrunbook("--plain", "--yes", "--step", "code")
    assert done.returncode == 1
    assert "Error" in done.stdout
    commit(lab, "staging", "Puppetfile", "# none\n", "r10k")
    must(made.pmrunbook("--plain", "--yes", "--resume"))
    for host in servers(lab):
        at = f"{ENVIRONMENTS}/production/thirdparty/extra/manifests/init.pp"
        must(lab.execute(host, f"test -e {at}"))
    must(made.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))
    given_back(lab, before)


def test_a_command_of_the_sites_own(seat: Seat, tmp_path: Path) -> None:
    """What it leaves is verified like everything else."""
    lab, host = seat.lab, members(seat.lab)[0]
    must(lab.execute(host, f"echo '# x' >> {ENVIRONMENTS}/staging/manifests/site.pp"))
    text = must(lab.execute(server(lab), f"cat {ENVIRONMENTS}/staging/manifests/site.pp"))
    script = f"#!/bin/sh\ncat > {ENVIRONMENTS}/staging/manifests/site.pp <<'X'\n{text}X\n"
    for each in servers(lab):
        must(
            lab.execute(
                each, "cat > /usr/local/bin/deploy; chmod 755 /usr/local/bin/deploy", stdin=script
            )
        )
    made = brought(seat, tmp_path, strategy="command", command="/usr/local/bin/deploy")
    must(made.pmrunbook("undo", "code", "--plain", "--yes", timeout=1200))


@pytest.mark.long
def test_with_all_it_needs(seat: Seat, tmp_path: Path) -> None:
    """The whole guide up to here: the CA's own name, compile masters put right, then the code."""
    command = {"strategy": "command", "command": "/usr/local/bin/deploy"}
    brought(replace(seat, runbook="scaling"), tmp_path, **command)
