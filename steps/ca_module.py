"""`ca.clients: module`: a module in the site's code tells agents, for fleets beyond ssh.

It edits one key of puppet.conf and needs no other module; a fact reports what a node really uses.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Mapping

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Facts,
    Finding,
    Human,
    Nothing,
    Planned,
    Read,
    Restore,
    Site,
    Stage,
    Verdict,
    WriteFile,
)
from runbook.shell import quote

from . import reads
from .catalogue import found
from .fields import NONE, Fields, sections
from .layout import FileFact, ca_host, file_fact
from .shellwords import assignments

MANIFEST = """\
# Tells a node where it asks for certificates: ca_server in [main] of its puppet.conf, and nothing
# else there. Written by pmrunbook; the step 'ca' explains it.
#
# @param ca_server the one name of the certificate authority
class {name} (
  String[1] $ca_server = '{ca}',
) {{
  $path = [
    '/opt/puppetlabs/bin', '/usr/local/bin', '/usr/bin', '/bin',
    "${{facts['env_windows_installdir']}}\\\\bin",
  ]
  if $facts['{name}_overridden'] {{
    exec {{ '{name}: nothing beats [main]':
      command => 'puppet config delete --section agent ca_server',
      path    => $path,
    }}
  }}
  if $facts['{name}_ca_server'] != $ca_server {{
    exec {{ '{name}: ca_server':
      command => "puppet config set --section main ca_server ${{ca_server}}",
      path    => $path,
    }}
  }}
}}
"""

FACT = """\
# What this node's agent really uses as its CA, and whether [agent] beats [main].
# Outside of an agent run nobody can tell, and the facts are absent.
Facter.add(:{name}_ca_server) do
  setcode {{ Puppet[:ca_server] if defined?(Puppet) && Puppet.respond_to?(:[]) }}
end

Facter.add(:{name}_overridden) do
  setcode do
    if defined?(Puppet) && Puppet.respond_to?(:[]) && File.file?(Puppet[:config])
      section = 'main'
      File.foreach(Puppet[:config], encoding: 'UTF-8').any? do |line|
        section = Regexp.last_match(1) if line.scrub =~ /\\A\\s*\\[(\\w+)\\]/
        section == 'agent' && line.scrub =~ /\\A\\s*ca_server\\s*=/
      end
    end
  end
end
"""


def module_name(site: Site) -> str:
    return posixpath.basename(site.ca.module)


def files(site: Site) -> Mapping[str, bytes]:
    """Path -> content of the module's files."""
    name = module_name(site)
    return {
        posixpath.join(site.ca.module, "manifests/init.pp"): MANIFEST.format(
            name=name, ca=site.ca.name
        ).encode(),
        posixpath.join(site.ca.module, f"lib/facter/{name}.rb"): FACT.format(name=name).encode(),
    }


def present(site: Site) -> Read:
    """The module's files on the CA's host."""
    given = assignments(pc_files=" ".join(files(site)), pc_module=site.ca.module)
    return Read("module", given + reads.script("module_files.sh"))


def adoption(site: Site) -> Read:
    """How many nodes use the name, from the facts the servers stored."""
    told = " ".join(h.name for h in site.hosts if "agent" not in h.roles)
    given = assignments(fact=f"{module_name(site)}_ca_server", wanted=site.ca.name, told=told)
    return Read("adoption", given + reads.script("adoption.sh"), timeout=60.0)


def read(site: Site, host: str) -> tuple[Read, ...]:
    if site.ca.clients != "module" or host != site.ca.host:
        return ()
    return (present(site), adoption(site))


def findings(site: Site, facts: Facts) -> tuple[Finding, ...]:
    if site.ca.clients != "module" or re.fullmatch(r"[a-z][a-z0-9_]*", module_name(site)):
        return ()
    return (found("module-name-invalid", site.ca.host, site.ca.module),)


def plan(site: Site, facts: Facts) -> Planned:
    ca = ca_host(site, facts)
    if site.ca.clients != "module" or not ca.reachable:
        return ()
    there = sections(facts.get(ca.name, "module").out)
    now = {path: file_fact(there.get(path, NONE)) for path in files(site)}
    wrong = {p: c for p, c in files(site).items() if now[p].content != c}
    deployed = there.get("place", NONE).one("deployed")
    actions: list[Action] = []
    if wrong and deployed:
        actions.append(_ask_deploy(site, wrong, deployed))
    else:
        actions += [_write(ca.name, now[path], path, content) for path, content in wrong.items()]
    if not _adopted(facts, ca.name).number("learned"):
        actions.append(_ask_include(site))
    return tuple(actions)


def _adopted(facts: Facts, host: str) -> Fields:
    return sections(facts.get(host, "adoption").out).get("", NONE)


def _write(host: str, now: FileFact, path: str, content: bytes) -> Action:
    return Action(
        id=f"module/{host}/{posixpath.basename(path)}",
        host=host,
        title=f"write {path}",
        do=WriteFile(path, content, before=now.sha256),
        undo=Restore(),
        diff=edit.diff(path, now.content, content),
    )


def _ask_deploy(site: Site, wrong: Mapping[str, bytes], deployed: str) -> Action:
    """A deployment would remove what it did not bring: the module goes into the repository."""
    text = [f"{deployed} shows that this code is deployed. Put these files into its repository:"]
    for path, content in wrong.items():
        text += ["", f"--- {path}", content.decode()]
    text += ["and deploy the environment."]
    tests = [
        f'[ "$(base64 < {quote(path)} | tr -d "\\n")" = {base64.b64encode(content).decode()} ]'
        for path, content in wrong.items()
    ]
    proof = " && ".join(tests) + " && echo deployed"
    return Action(
        id=f"module/{site.ca.host}/deploy",
        host=site.ca.host,
        title=f"bring the module {module_name(site)} into {site.ca.environment}",
        do=Human("\n".join(text), Read("module-deployed", proof)),
        undo=Nothing(),
    )


def _ask_include(site: Site) -> Action:
    name = module_name(site)
    text = (
        f"Give every node of {site.ca.environment} the class, with this line where all nodes get "
        f"it (site.pp's default node, a profile, or the classifier):\n\n    include {name}\n\n"
        "With environment_timeout = unlimited, reload Puppet Server as well. Agents take it at "
        "their next run and report it with the one after that; two runs of one agent are enough "
        "to go on."
    )
    proof = adoption(site)
    script = f"out=$( {proof.script} )\nprintf '%s\\n' \"$out\" | grep '^learned=[1-9]'"
    return Action(
        id=f"module/{site.ca.host}/include",
        host=site.ca.host,
        title=f"include {name} for every node",
        do=Human(text, Read("module-included", script, timeout=60.0)),
        undo=Nothing(),
    )


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """Every node heard of within a day asks the CA by its name."""
    if site.ca.clients != "module":
        return ()

    def judge(facts: Facts) -> Verdict:
        state = _adopted(facts, site.ca.host)
        recent, adopted = state.number("recent"), state.number("adopted")
        seen = f"{adopted} of {recent} nodes"
        if missing := state.all("missing"):
            seen += f"; not yet {', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}"
        if older := state.number("older"):
            seen += f"; {older} not heard of for a day"
        remedy = "agents take it at their next run and report it with the one after that"
        return Verdict(recent > 0 and adopted == recent, seen, remedy)

    return (
        Check(
            "module/adoption",
            f"every node asks {site.ca.name} for certificates",
            judge,
            ((site.ca.host, adoption(site)),),
        ),
    )


MODULE = Stage("module", "A module tells every node", plan)
