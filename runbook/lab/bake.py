"""Baking: the site's history until the operator arrives, made once per estate.

The Puppet Server and its agents boot as a rack of their own, the CA is made, the agents are
enrolled; what that wrote becomes one layer per host, on which each lab starts.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runbook.lab import boot, images, machine
from runbook.lab.disk import remove_tree
from runbook.lab.estate import Estate, LabHost
from runbook.lab.images import Image
from runbook.lab.narration import LabError, Say, narrate
from runbook.lab.rack import Rack, Record, stack

# Puppet Server on the Jetty of these releases leaves the second request of a kept-alive connection
# lying until the connection is idle for too long, so each enrolment waits for that: 30 s by default
# (OpenVoxProject/openvox-server#25). The limit has to stay above the 4 s for which agents keep one.
SET_UP_SERVER = """set -e
sed -i 's/^JAVA_ARGS=.*/JAVA_ARGS="-Xms{low} -Xmx{high}"/' /etc/default/puppetserver
sed -i 's/^\\( *\\)ssl-port:.*/&\\n\\1idle-timeout-milliseconds: 6000/' \\
    /etc/puppet/puppetserver/conf.d/webserver.conf
puppetserver ca setup --certname {fqdn} --ca-name 'Puppet CA: {fqdn}' {names}
systemctl enable puppetserver
systemctl start puppetserver || {{ sleep 2; systemctl start puppetserver; }}
"""
# By hand, from an old guide: the CA is off, three of four TLS settings are there (without the
# fourth nobody who was revoked is refused), and its certificate has no other name than its own.
SET_UP_COMPILER = """set -e
args='JAVA_ARGS="-Xms{low} -Xmx{high}"'
sed -i "s/^JAVA_ARGS=.*/# enough so far\\n$args/" /etc/default/puppetserver
etc=/etc/puppet/puppetserver ssl=/var/lib/puppet/ssl
sed -i -E -e 's|^puppetlabs.*/certificate-authority-service$|#&|' \\
    -e 's|^#(puppetlabs.*/certificate-authority-disabled-service)$|\\1|' $etc/services.d/ca.cfg
cert="ssl-cert = $ssl/certs/{fqdn}.pem" key="ssl-key : $ssl/private_keys/{fqdn}.pem"
ours="# our own\\n\\1$cert\\n\\1$key\\n\\1ssl-ca-cert: $ssl/certs/ca.pem"
sed -i -E "s|^( *)ssl-port:.*|&\\n\\1$ours|" $etc/conf.d/webserver.conf
systemctl enable puppetserver
"""
# Alternative names may be signed until all are enrolled: the server is stopped after that.
SWITCH_NAMES = "sed -i 's/{}allow-subject-alt-names: {}/{}allow-subject-alt-names: {}/' " + (
    "/etc/puppet/puppetserver/conf.d/ca.conf\n"
)
ALLOW_NAMES = SWITCH_NAMES.format("# *", "false", "", "true")
FORBID_NAMES = SWITCH_NAMES.format("", "true", "# ", "false")
RUN_AGENT = "puppet agent --test --color=false --waitforcert 0"
FORGET = """rm -rf /var/log/wtmp* /var/log/btmp /var/log/lastlog /var/log/puppetserver/*.gz
rm -rf /var/lib/systemd/random-seed /var/lib/systemd/timers /root/.bash_history
find /var/log -name 'puppetserver*.log' -exec truncate -s 0 {} +
"""
DEFAULT_CONF = "[main]\nserver = ${server}\n"


def layers(
    estate: Estate, base: Image, software: Mapping[str, Path | None], say: Say
) -> dict[str, Path]:
    """For each host with a history its layer, made on the first use of such an estate."""
    hosts = estate.having("server", "compiler", "agent")
    if not hosts:
        return {}
    # Only what the history depends on: another ssh user or another bare machine needs no new one.
    site = replace(estate, name="bake", hosts=hosts, ssh_user="baker", ssh_port=22)
    recipe = json.dumps([site.data(), base.key, Path(__file__).read_text()], sort_keys=True)
    key = hashlib.sha256(recipe.encode()).hexdigest()[:10]
    final = machine.cache_dir() / f"estate-{estate.release}-{key}"
    if not final.is_dir():
        # The name is that of the place: whoever builds there has its lock, and no one else uses it.
        name = f"bake-{hashlib.sha256(str(final).encode()).hexdigest()[:10]}"
        with images.building(final, say) as work:
            if work:
                _clear(name, work)
                record = Record(site, base.repository, stack(site, base.root, software, {}))
                say("baking the estate: a CA, a Puppet Server and its agents, once")
                _bake(Rack(name, work / "rack", record), work, say)
    return {host.name: final / host.name for host in hosts}


def _clear(name: str, work: Path) -> None:
    """Take away what an interrupted baking left, hosts that still run included."""
    left = Record.read(work / "rack" / "lab.json")
    if left:
        rack = Rack(name, work / "rack", left)
        rack.stop(left.estate.hosts, 0)
        rack.disconnect()
    for entry in list(work.iterdir()):
        remove_tree(entry)


def _bake(rack: Rack, work: Path, say: Say) -> None:
    site = rack.estate
    server = site.having("server")[0]
    rack.folder.mkdir(mode=0o700)
    try:
        rack.plant(say)
        rack.connect()
        for host in site.hosts:
            rack.boot(host)
        for host in site.hosts:
            boot.wait_for_login(rack, host)
        _write_files(rack, server)
        with narrate(say, "making the CA, and starting Puppet Server for the first time"):
            _do(rack, server, _server_script(site, server), timeout=boot.SERVER_TIMEOUT)
            boot.wait_for_server(rack, server)
        for host in site.hosts:
            with narrate(say, f"enrolling {host.name}"):
                _enrol(rack, host, server)
        _do(rack, server, FORBID_NAMES)
        for host in site.having("compiler"):
            low, high = host.heap.split("..")
            _do(rack, host, SET_UP_COMPILER.format(low=low, high=high, fqdn=site.fqdn(host)))
        for host in site.hosts:
            _do(rack, host, FORGET)
        rack.stop(site.hosts)
        for host in site.hosts:
            rack.disk(host).upper.rename(work / host.name)
    finally:
        rack.stop(rack.running(), 0)
        rack.disconnect()
    remove_tree(rack.folder)


def _server_script(site: Estate, server: LabHost) -> str:
    low, high = server.heap.split("..")
    alt_names = shlex.quote(",".join(server.cert_names))
    names = f"--subject-alt-names {alt_names}" if server.cert_names else ""
    allow = ALLOW_NAMES if any(h.cert_names for h in site.having("compiler")) else ""
    return allow + SET_UP_SERVER.format(low=low, high=high, fqdn=site.fqdn(server), names=names)


def _write_files(rack: Rack, server: LabHost) -> None:
    site = rack.estate
    for host in site.hosts:
        text = string.Template(host.puppet_conf or DEFAULT_CONF).safe_substitute(
            server=site.agents_server, domain=site.domain, fqdn=site.fqdn(host)
        )
        _do(rack, host, "cat > /etc/puppet/puppet.conf", stdin=text)
    for path, text in site.code.items():
        target = shlex.quote(f"/etc/puppet/code/{path}")
        script = f'umask 022; mkdir -p "$(dirname {target})" && cat > {target}'
        for host in (server, *site.having("compiler")):
            _do(rack, host, script, stdin=text)


def _enrol(rack: Rack, host: LabHost, server: LabHost) -> None:
    name = rack.estate.fqdn(host)
    if host != server:
        # No autosigning: the first contact leaves a request, and somebody signs it.
        further = f" --dns_alt_names {','.join(host.cert_names)}" if host.cert_names else ""
        _do(rack, host, f"puppet ssl submit_request --color=false{further}")
        _do(rack, server, f"puppetserver ca sign --certname {name}")
    ran = rack.execute(host, RUN_AGENT, timeout=boot.SERVER_TIMEOUT)
    # Exit status 2 means that the run changed something (puppet-agent(8), --detailed-exitcodes).
    # What is wrong in a puppet.conf fails no run: Puppet says so, and goes on with defaults.
    if ran.returncode not in (0, 2) or "Error: " in ran.stdout + ran.stderr:
        raise LabError(
            f"{name}: its first Puppet run failed: {_tail(ran.stdout + ran.stderr)}",
            "correct the estate if it is at fault, and run the same command again",
        )
    if host.daemon:
        _do(rack, host, "systemctl enable --quiet puppet")


def _do(rack: Rack, host: LabHost, script: str, stdin: str = "", timeout: float = 120.0) -> None:
    done = rack.execute(host, script, stdin, timeout)
    if done.returncode != 0:
        raise LabError(
            f"{host.name}: {script.strip().splitlines()[-1][:60]} ended with {done.returncode}: "
            f"{_tail(done.stdout + done.stderr)}",
            "run the same command again; if it fails again, report it with this line",
        )


def _tail(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:]) or "(no output)"
