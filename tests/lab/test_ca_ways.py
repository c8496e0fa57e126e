"""The other ways to tell clients of the CA: an SRV record, and a module in the site's own code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, must, picture
from tests.lab.test_ca import ca_name, confdir, names, puppet_hosts, server

pytestmark = [pytest.mark.lab, pytest.mark.turn("ways")]

RUN_AGENT = (
    "PATH=/opt/puppetlabs/bin:$PATH; "
    "for i in 1 2 3 4 5 6; do puppet agent -t --color=false; rc=$?; [ $rc = 1 ] || break; "
    "sleep 5; done; [ $rc = 0 ] || [ $rc = 2 ]"
)


@pytest.fixture
def way(seat: Seat, tmp_path: Path) -> Iterator[Seat]:
    """A seat whose inventory may be changed; what was done is taken back in the end."""
    own = Seat(seat.lab, tmp_path / "state")
    yield own
    own.pmrunbook("undo", "ca", "--plain", "--yes", inventory=tmp_path / "inventory.yaml")


def inventory(seat: Seat, folder: Path, **ca: object) -> Path:
    data = yaml.safe_load(seat.inventory.read_text())
    data["ca"].update(ca)
    file = folder / "inventory.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def srv_records(lab: Lab, name: str) -> list[str]:
    """What every name server of the lab answers, asked from the operator's seat."""
    servers = [h.address for h in lab.estate.hosts if {"nameserver", "secondary"} & set(h.roles)]
    code = (
        "import sys, dns.resolver\n"
        "for server in sys.argv[2:]:\n"
        "    r = dns.resolver.Resolver(configure=False); r.nameservers = [server]\n"
        "    try: print(*(str(x) for x in r.resolve(sys.argv[1], 'SRV')))\n"
        "    except dns.resolver.NXDOMAIN: pass\n"
    )
    argv = lab.seat([sys.executable, "-c", code, name, *servers])
    return must(subprocess.run(argv, capture_output=True, text=True, check=False)).splitlines()


def test_an_srv_record_leads_every_client_to_the_ca(way: Seat, tmp_path: Path) -> None:
    lab = way.lab
    domain = lab.estate.domain
    file = inventory(way, tmp_path, clients="srv", srv_domain=domain)
    before = {h: dict(picture(lab, h, confdir(lab, h))) for h in names(lab, "agent")}
    record = f"_x-puppet-ca._tcp.{domain}"
    assert srv_records(lab, record) == []
    must(way.pmrunbook("--plain", "--yes", inventory=file))
    for answer in srv_records(lab, record):
        assert answer.split() == ["0", "5", "8140", f"{ca_name(lab)}."]
    must(way.pmrunbook("verify", "--plain", inventory=file))
    for host in names(lab, "agent"):
        must(lab.execute(host, RUN_AGENT, timeout=400))
    must(way.pmrunbook("undo", "ca", "--plain", "--yes", inventory=file))
    assert srv_records(lab, record) == []
    for host in names(lab, "agent"):
        assert dict(picture(lab, host, confdir(lab, host))) == before[host]


def test_a_module_tells_nodes_that_ssh_does_not_reach(way: Seat, tmp_path: Path) -> None:
    lab, master = way.lab, server(way.lab)
    code = must(
        lab.execute(master, "d=/etc/puppetlabs/code; [ -d $d ] || d=/etc/puppet/code; echo $d")
    )
    environment = f"{code.strip()}/environments/production"
    place = f"{environment}/modules/ca_name"
    module = {"path": place, "environment": "production"}
    file = inventory(way, tmp_path, clients="module", module=module)
    waits = way.pmrunbook("--plain", "--yes", inventory=file)
    assert waits.returncode == 7, waits.stdout
    assert "include ca_name" in waits.stderr
    site = f"{environment}/manifests/site.pp"
    must(lab.execute(master, f"cp -a {site} /root/site.pp && echo 'include ca_name' >>{site}"))
    # Nodes of another environment have the module there as well, as a site's own code would.
    others = must(lab.execute(master, f"ls -d {code.strip()}/environments/*")).split()
    for other in (o for o in others if o != environment):
        must(lab.execute(master, f"mkdir -p {other}/modules; cp -r {place} {other}/modules/"))
        append = f"cp -a {other}/manifests/site.pp /root/other.pp; "
        must(lab.execute(master, f"{append} echo 'include ca_name' >>{other}/manifests/site.pp"))
    try:
        for host in [h for h in puppet_hosts(lab) if h not in names(lab, "fresh")]:
            for _ in range(2):
                must(lab.execute(host, RUN_AGENT, timeout=400))
        done = must(way.pmrunbook("--plain", "--yes", "--resume", inventory=file))
        assert f"every node asks {ca_name(lab)} for certificates" in done
    finally:
        must(lab.execute(master, f"cp -a /root/site.pp {site}"))
        for other in (o for o in others if o != environment):
            back = f"rm -rf {other}/modules/ca_name; cp -a /root/other.pp {other}/manifests/site.pp"
            must(lab.execute(master, back))
