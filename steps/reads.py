"""What the steps read on a host; the scripts are the `*.sh` files beside this module."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from runbook.model import Host, Read, Site
from runbook.shell import quote

HERE = Path(__file__).parent


@cache
def script(name: str) -> str:
    """The text of one of the shell files of this folder."""
    return (HERE / name).read_text(encoding="utf-8")


PACKAGES = ("puppetserver", "puppet-agent", "openvox-server", "openvox-agent")
DATABASES = ("puppetdb", "openvoxdb")
TERMINI = ("puppet-terminus-puppetdb", "puppetdb-termini", "openvoxdb-termini")
POSTGRES = ("postgresql", "postgresql-server", "postgresql-contrib", "postgresql-client")
DEPLOYERS: Mapping[str, Mapping[str, str]] = {
    "git": {"git": "git"},
    "mercurial": {"mercurial": "hg"},
    "subversion": {"subversion": "svn"},
    "r10k": {"r10k": "r10k", "git": "git"},  # which Debian's r10k only recommends
    "rsync": {"rsync": "rsync"},
}
"""Strategy -> the packages that bring code to a server, and the program each of them has."""
CRL_TIMER = "puppet-crl-refresh"
"""The systemd units that keep a compile master's CRL fresh."""

PRELUDE = script("prelude.sh")
MEMORY = Read(
    "memory",
    """[ -n "$PC_mark" ] && printf '%s\\n' "$PC_mark" "$PC_said\"""",
    limit=140_000,
)
"""Puppet's settings as the prelude asked for them, and the digest of what they were made from."""
CLIENT = script("client.sh")
SOFTWARE = Read("software", script("software.sh"))
MACHINE = Read("machine", script("machine.sh"))
CERTIFICATES = Read("certificates", script("certificates.sh"))
AGENT = Read("agent", script("agent.sh"))
PUPPET_CONF = Read("puppet.conf", script("puppet_conf.sh"), limit=131_072)


def probe_name(site: Site) -> str:
    """The certname of the throw-away agent that proves enrolment.

    Without the site's domain, so that no autosign pattern of the site matches it.
    """
    return (
        "pmrunbook-probe-" + hashlib.sha256(f"{site.name}/{site.ca.name}".encode()).hexdigest()[:12]
    )


def names(site: Site) -> Read:
    """Where the names that matter lead to, from the host's own point of view."""
    wanted = dict.fromkeys((site.ca.name, site.server, site.ca.host, *site.dns_alt_names))
    return Read("names", f"pc_names={quote(' '.join(wanted))}\n{script('names.sh')}")


def network(site: Site, host: Host) -> Read:
    """What answers on the CA's name and on the name agents call, and whether it is trusted."""
    wanted = dict.fromkeys((site.ca.name, site.server, site.ca.host))
    given = f"pc_names={quote(' '.join(wanted))} pc_port=${{PS_ca_port:-8140}}\n"
    return Read("network", given + script("network.sh"), timeout=45.0)


def authority(site: Site, host: Host) -> Read:
    """The CA service of a Puppet Server, and on the CA's host what its CLI says."""
    asked = "yes" if host.name == site.ca.host else "no"
    given = f"pc_probe={quote(probe_name(site))} pc_list={asked}\n"
    return Read("authority", given + script("authority.sh"), timeout=45.0)


def proofs(site: Site) -> Read:
    """What was proved on this host before, and what an interrupted proof left."""
    return Read("proofs", f"pc_probe={quote(probe_name(site))}\n{script('proofs.sh')}")


def packages(site: Site) -> Read:
    """What a host's package manager offers, and whether it is free."""
    names: tuple[str, ...] = PACKAGES
    if site.sections.get("puppetdb"):
        names += (*DATABASES, *TERMINI, *POSTGRES)
    strategy = str(site.sections.get("code", {}).get("strategy"))
    names += tuple(DEPLOYERS.get(strategy, ()))
    balanced = site.sections.get("load_balancing", {})
    # In front of each server too, where what ends TLS is a device of somebody else's.
    names += ("haproxy",) if balanced.get("host") or balanced.get("mode") == "tls" else ()
    wanted = quote(" ".join(names))
    return Read("packages", f"pc_packages={wanted}\n{script('packages.sh')}", timeout=90.0)


SERVER_FILES = Read(
    "server-files",
    f"pc_timer={CRL_TIMER}\n{script('server_files.sh')}",
    limit=262_144,
)


def sampled(site: Site) -> tuple[str, ...]:
    """The certnames that stand for all: as the inventory says, else the first three agents."""
    given = site.sections.get("code", {}).get("samples", ())
    return tuple(given) or tuple(h.name for h in site.having("agent"))[:3]


def code(site: Site) -> Read:
    """The code a server compiles, and what else a catalog depends on, as digests."""
    about = site.sections.get("code", {})
    given = (
        f"pc_salt={quote(site.ca.name)} pc_nodes={quote(' '.join(sampled(site)))} "
        f"pc_files={quote(chr(10).join(about.get('files', ())))}\n"
    )
    return Read("code", given + script("code.sh"), limit=2_000_000, timeout=600.0)


def shared_files(site: Site) -> Read:
    """The classifier and what else the inventory wants alike, byte for byte."""
    about = site.sections.get("code", {})
    paths = "\n".join([*([about["enc"]] if about.get("enc") else []), *about.get("files", ())])
    return Read(
        "shared-files",
        f"pc_files={quote(paths)}\n{script('shared_files.sh')}",
        limit=2_000_000,
    )


SERVED = Read("served", script("served.sh"))
CODE_ARCHIVE = Read("code-archive", script("code_archive.sh"), limit=6_500_000, timeout=120.0)


def drill_name(site: Site) -> str:
    """The certname of the CRL drill's throw-away certificate."""
    return probe_name(site).replace("probe", "drill")


def requests(site: Site) -> Read:
    """What the CA has of the hosts a step enrols: requests, certificates, the window, the drill."""
    wanted = quote(
        " ".join(h.name for h in site.having("compiler", "puppetdb", "balancer", "retired"))
    )
    return Read("requests", f"pc_names={wanted}\n{script('requests.sh')}")


def ladder(members: Mapping[str, tuple[int, tuple[str, ...]]]) -> Read:
    """What a client finds at compile masters: certname -> port, and names to be called by."""
    lines = [f"{name} {port} {','.join(names)}" for name, (port, names) in members.items()]
    return Read(
        "ladder", f"pc_members={quote(chr(10).join(lines))}\n{script('ladder.sh')}", timeout=60.0
    )


def catalogs(servers: Sequence[tuple[str, int]]) -> Read:
    """A node's own catalog from several servers; the first is what the others are held against."""
    wanted = quote(" ".join(f"{name}:{port}" for name, port in servers))
    return Read("catalogs", f"pc_members={wanted}\n{CLIENT}{script('catalogs.sh')}", timeout=240.0)


def puppetdb(site: Site) -> Read:
    """PuppetDB on its own host: files, database, and what it says of itself."""
    about = site.sections["puppetdb"]
    database = about["database"]
    given = (
        f"pc_port={about['port']} pc_name={quote(database['name'])} "
        f"pc_user={quote(database['user'])}\n"
    )
    return Read("puppetdb", given + script("puppetdb.sh"), limit=262_144, timeout=60.0)


def terminus(urls: Sequence[str]) -> Read:
    """How a Puppet Server is joined to PuppetDB; `urls` are the PuppetDBs, as host:port."""
    given = f"pc_urls={quote(' '.join(urls))}\n"
    return Read("terminus", given + CLIENT + script("terminus.sh"), limit=131_072, timeout=60.0)


def exchange_name(site: Site) -> str:
    """What the throw-away nodes of the exchange of resources begin with."""
    return probe_name(site).replace("probe", "exchange")


def exchange(site: Site) -> Read:
    """What an exchange that was broken off left on a Puppet Server."""
    given = f"pc_environment={quote(exchange_name(site).replace('-', '_'))}\n"
    return Read("exchange", given + script("exchange_left.sh"))


def survey(site: Site, host: Host) -> tuple[Read, ...]:
    """Every read of the survey; the steps after it look at the same."""
    return (
        SOFTWARE,
        MACHINE,
        names(site),
        network(site, host),
        CERTIFICATES,
        authority(site, host),
        AGENT,
        PUPPET_CONF,
    )
