"""The inventory a lab writes for the operator: an ordinary one, read like a site's own."""

from __future__ import annotations

from typing import Any

import yaml

from runbook.lab.estate import Estate, LabHost
from runbook.lab.seed import TSIG_ALGORITHM, TSIG_NAME, Credentials


def inventory_text(estate: Estate, credentials: Credentials, namespace: str) -> str:
    """YAML text of the inventory: bare machines take the parts their names suggest."""
    bare = [host for host in estate.hosts if not host.roles]
    data: dict[str, Any] = {
        "site": {"name": site_name(namespace)},
        "ssh": {
            "user": estate.ssh_user,
            "port": estate.ssh_port,
            "key": str(credentials.key),
            "known_hosts": str(credentials.known_hosts),
            "sudo_password": {"file": str(credentials.sudo_password)},
            "netns": namespace,
        },
        "puppet": {"server": estate.agents_server},
    }
    for server in estate.having("server"):
        data["ca"] = {"host": estate.fqdn(server), "name": f"ca.{estate.domain}"}
    built = estate.having("compiler")
    masters = [h for h in estate.hosts if h in built or (h in bare and h.name.startswith("cm"))]
    data["compile_masters"] = _names(estate, masters)
    for host in bare:
        if host.name.startswith("pdb"):
            data["puppetdb"] = {"host": estate.fqdn(host)}
        if host.name.startswith("lb"):
            data["load_balancing"] = {"strategy": "tcp-proxy", "host": estate.fqdn(host)}
    if data["compile_masters"] and {"puppetdb", "load_balancing"} <= data.keys():
        data["code"] = {"strategy": "rsync"}  # an estate for the whole guide
    if estate.having("nameserver"):
        data["dns"] = {
            "servers": [host.address for host in estate.having("nameserver", "secondary")],
            "tsig": {
                "name": TSIG_NAME,
                "algorithm": TSIG_ALGORITHM,
                "secret": {"file": str(credentials.tsig_secret)},
            },
        }
    data["agents"] = _names(estate, list(estate.having("agent", "fresh")))
    head = (
        f"# Written by `pmrunbook lab up` for the estate {estate.name}; `lab up` writes it anew.\n"
    )
    return head + yaml.safe_dump(data, sort_keys=False, width=110)


def site_name(namespace: str) -> str:
    """What a lab's site is called, and with it the folder of its journal: one for each lab."""
    return namespace.replace("pmrb-", "lab-", 1)


def _names(estate: Estate, hosts: list[LabHost]) -> list[str]:
    return [estate.fqdn(host) for host in hosts]
