"""Strategy `model-master`: the agent of every other Puppet Server takes the code from one of them.

The model master lends its environments as a mount of Puppet's own file server, to those servers
alone. A manifest in their environment has their agents keep the folder as the model has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Facts,
    Finding,
    Host,
    Later,
    Nothing,
    Planned,
    Read,
    Restore,
    Script,
    Site,
    Verdict,
)

from . import reads
from .catalogue import found
from .code_site import (
    behind,
    elsewhere,
    keeps,
    local,
    model,
    readied,
    revisions,
    roots,
    strategy,
    timeouts,
)
from .code_way import Way
from .compiler import ready
from .fields import NONE, Fields
from .files import Edit, changed, writes
from .layout import PATH, Seen, file_fact, servers, unknown
from .shellwords import assignments

MOUNT = "pmrunbook_environments"
TAG = "pmrunbook_code"
FILE = f"{TAG}.pp"
RULE_NAME = "pmrunbook: the environments, for the other Puppet Servers"
KEPT = "code-before-model"
"""The proof that a server's code of before is in a backup."""

MANIFEST = """\
# Written by pmrunbook: these Puppet Servers have the code that {model} has. Not atomic: files come
# one after the other, at each agent run.
if $trusted['certname'] in [{names}] {{
  file {{ '{folder}':
    ensure             => directory,
    source             => 'puppet://{model}/{mount}',
    recurse            => true,
    purge              => true,
    force              => true,
    links              => manage,
    owner              => 'root',
    group              => 'root',
    source_permissions => use,
    ignore             => ['.git', '.hg', '.svn', 'pmrunbook_exchange_*'],
    tag                => '{tag}',
  }}
}}
"""

RULE = """\
{{
    # The model master lends its code to the servers that have to have the same, to nobody else.
    match-request: {{ path: "^/puppet/v3/file_[a-z]+/{mount}(/|$)", type: regex }}
    allow: [{names}]
    sort-order: 400
    name: "{title}"
}}"""


def others(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The servers that take the code: all but the model master."""
    return tuple(seen for seen in readied(site, facts) if seen.name != model(site))


def takers(site: Site, facts: Facts) -> tuple[str, ...]:
    """Their certnames; of one that was not read, what the inventory calls it by."""
    names = (h.name for h in servers(site) if h.name != model(site))
    return tuple(Seen(name, facts).certname or name for name in names)


# --- what is read -------------------------------------------------------------------------------


def _reads(site: Site, host: Host) -> tuple[Read, ...]:
    return (lending(site, host.name),) if "server" in host.roles else ()


def lending(site: Site, name: str) -> Read:
    """The mounts of the model master, and our manifest in its environments."""
    given = assignments(pc_manifest=FILE, pc_model="yes" if name == model(site) else "no")
    return Read("model", given + reads.script("model.sh"), limit=500_000)


def told(site: Site, name: str) -> tuple[tuple[str, Read], ...]:
    """What has to be read to tell whether a server is told what this strategy wants."""
    if strategy(site) != "model-master" or name != model(site):
        return ()
    members = [h.name for h in servers(site) if h.name != name]
    return ((name, lending(site, name)), *((member, reads.SOFTWARE) for member in members))


def _section(seen: Seen, name: str = "") -> Fields:
    return seen.parsed("model").get(name, NONE)


def _folder(seen: Seen) -> str:
    """Where its environments are; empty for a path that is none in a manifest."""
    folder = _section(seen).one("environments")
    return folder if PATH.fullmatch(folder) else ""


def _kept(seen: Seen) -> bool:
    return KEPT in seen.proofs


# --- settings: what the servers are told, with everything else they are told ----------------------


def rules(site: Site, facts: Facts, seen: Seen) -> dict[str, str]:
    """The rule of auth.conf that lends the environments, on the model master."""
    if strategy(site) != "model-master" or seen.name != model(site):
        return {}
    names = ", ".join(f'"{name}"' for name in takers(site, facts))
    return {RULE_NAME: RULE.format(mount=MOUNT, names=names, title=RULE_NAME)}


def agent_settings(site: Site, seen: Seen) -> dict[str, str]:
    """What [agent] of puppet.conf has to say on the others."""
    if strategy(site) != "model-master" or seen.name == model(site):
        return {}
    return {} if seen.setting("server") == model(site) else {"server": model(site)}


def mounts(site: Site, seen: Seen) -> Iterator[Edit]:
    """fileserver.conf of the model master; the others have none of ours."""
    if strategy(site) != "model-master" or seen.name != model(site) or not _folder(seen):
        return
    file = file_fact(_section(seen, "fileserver.conf"))
    text = (file.content or b"").decode("utf-8", "surrogateescape")
    wanted = f"[{MOUNT}]\n    path {_folder(seen)}\n"
    ours = re.compile(rf"^\[{MOUNT}\]\n(?:[ \t]+.*\n?)*", re.M)
    if ours.search(text):
        text = ours.sub(lambda _: wanted, text)
    else:
        text = f"{text}\n" if text and not text.endswith("\n") else text
        text += f"# Written by pmrunbook: what it lends the other servers.\n{wanted}"
    said = f"lend {_folder(seen)} as puppet://{seen.name}/{MOUNT}"
    yield Edit("fileserver.conf", file, text.encode("utf-8", "surrogateescape"), said)


# --- stages -------------------------------------------------------------------------------------


def due(site: Site, facts: Facts, seen: Seen) -> list[str]:
    """The environments that a server has not as the model has them."""
    return behind(site, facts, seen, {})


def keep(site: Site, facts: Facts) -> Planned:
    """Before any agent is told anything, the code of each server is put into its backup.

    Agents run when they like: the one that brings the first change may not be ours.
    """
    return tuple(
        Action(
            id=f"access/{seen.name}/keep",
            host=seen.name,
            title=f"put {_folder(seen)} as it is now into the backup",
            do=Script(
                "umask 077; mkdir -p -m 0700 -- /var/lib/pmrunbook/proofs && "
                f"echo kept=yes >/var/lib/pmrunbook/proofs/{KEPT}\n",
                saves=(_folder(seen), f"/var/lib/pmrunbook/proofs/{KEPT}"),
            ),
            undo=Restore(),
        )
        for seen in others(site, facts)
        if not _kept(seen) and _folder(seen)
    )


def environments(site: Site, facts: Facts) -> tuple[str, ...]:
    """The environments that the others' own agents are in."""
    return tuple(sorted({seen.setting("environment") for seen in others(site, facts)} - {""}))


def _manifest(site: Site, facts: Facts, name: str) -> Fields:
    return _section(Seen(model(site), facts), f"manifest {name}")


def _text(site: Site, facts: Facts, folder: str) -> bytes:
    names = ", ".join(f"'{name}'" for name in takers(site, facts))
    given = {"model": model(site), "names": names, "folder": folder, "mount": MOUNT, "tag": TAG}
    return MANIFEST.format(**given).encode()


def _edits(site: Site, facts: Facts) -> Iterator[Edit]:
    """Our manifest in each of these environments, where it is not as it has to be."""
    places = {_folder(seen) for seen in others(site, facts)}
    for name in environments(site, facts):
        there = _manifest(site, facts, name)
        if len(places) == 1 and there.one("path") and "single" not in there:
            text = _text(site, facts, next(iter(places)))
            title = f"a manifest for agents in {name}: the other servers take their code from here"
            yield from changed([Edit(f"manifest-{name}", file_fact(there), text, title)])


def _untold(site: Site, facts: Facts) -> tuple[Edit, ...]:
    try:
        return tuple(_edits(site, facts))
    except edit.EditError:
        return ()  # a blocker of the step


def manifest(site: Site, facts: Facts) -> Planned:
    """Stage `fetch`: when the mount is there, agents are told of it."""
    return tuple(writes("fetch", model(site), _untold(site, facts)))


def switch(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    told = _untold(site, facts)
    for seen in others(site, facts):
        if told:
            planned.append(Later(f"what its agent takes from {model(site)}", "fetch", seen.name))
        elif late := due(site, facts, seen):
            planned.append(_run(site, facts, seen, late))
    return tuple(planned)


def _run(site: Site, facts: Facts, seen: Seen, late: list[str]) -> Action:
    own = local(site, facts, seen)
    gone = f"; {', '.join(own)}, which only it has, is in the backup" if own else ""
    script = assignments(
        puppet=seen.puppet, lockfile=seen.setting("agent_catalog_run_lockfile"), tag=TAG
    )
    script += reads.script("agent_run.sh") + reads.script("model_run.sh")
    return Action(
        id=f"switch/{seen.name}/agent",
        host=seen.name,
        title=f"a run of its agent, of its code only: {', '.join(late)} from {model(site)}{gone}",
        do=Script(script, timeout=1800.0),
        undo=Nothing(stays="what its agent took, until its backup of before is put back"),
    )


# --- findings -----------------------------------------------------------------------------------


def hindrance(seen: Seen) -> str:
    """Why a server's agent would not take the code; empty where it would."""
    if "disabled" in seen.agent:
        return f"its agent is disabled: {seen.agent.one('disabled') or 'no reason given'}"
    if seen.setting("noop") == "true":
        return "its agent is set to noop"
    if given := seen.setting("server_list"):
        return f"server_list = {given} beats server"
    return "SRV records beat server" if seen.setting("use_srv_records") == "true" else ""


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    master = Seen(model(site), facts)
    if not facts.get(master.name, "model").ok:
        return
    try:
        tuple(_edits(site, facts))
    except edit.EditError as error:
        yield found("code-files-unreadable", master.name, str(error))
    if out := elsewhere(master, _section(master).one("real")):
        yield found("code-source-linked", master.name, ", ".join(out))
    for seen in others(site, facts):
        if said := hindrance(seen):
            yield found("model-agent-hindered", seen.name, said)
        if _section(seen).one("agent") != "active":
            yield found("model-agent-idle", seen.name, "no service puppet is running")
        if keeps(seen):
            said = f"environment_timeout = {', '.join(timeouts(seen))}"
            yield found("model-code-cached", seen.name, said)
        if own := local(site, facts, seen):
            yield found("code-only-there", seen.name, ", ".join(own))
    if len(places := {_folder(s) for s in others(site, facts)}) > 1:
        yield found("model-no-manifest", master.name, f"folders {', '.join(sorted(places))}")
    for name in environments(site, facts):
        there = _manifest(site, facts, name)
        if not there.one("path"):
            yield found("model-no-manifest", master.name, f"{name} is not there")
        elif "single" in there:
            said = f"{there.one('folder')}, a file, is all of {name}"
            yield found("model-no-manifest", master.name, said)
        elif revision := revisions(master).get(name):
            said = f"{name} is deployed there ({revision})"
            yield found("model-deployed", master.name, said, path=there.one("path"))
    yield found("code-not-atomic", master.name, "files come one after the other")


# --- proof --------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return tuple(_has(site, h.name) for h in servers(site) if h.name != model(site))


def _has(site: Site, name: str) -> Check:
    pattern = model(site)
    both = (reads.SOFTWARE, reads.code(site), reads.AGENT)
    asked = (
        *((host, read) for host in (name, pattern) for read in both),
        (name, lending(site, name)),
        (pattern, lending(site, pattern)),
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen, master = Seen(name, facts), Seen(pattern, facts)
        if not ready(seen) or not ready(master):
            return Verdict(None, seen.unread or master.unread or "it has no Puppet Server yet")
        missing = [change.title for change in _untold(site, facts)]
        wrong = [*due(site, facts, seen), *missing, *filter(None, [hindrance(seen)])]
        said = f"{len(roots(master))} environments; a change comes within {_bound(seen)}"
        return Verdict(not wrong, ", ".join(wrong) or said, "pmrunbook --step code")

    return Check(f"source/{name}", f"{name} has the code of {pattern}", judge, asked)


def _bound(seen: Seen) -> str:
    if _section(seen).one("agent") != "active":
        return "no known time: its agent does not run by itself"
    return f"the {seen.setting('runinterval')} s between two runs of its agent"


def intent(site: Site) -> tuple[str, ...]:
    return (f"every other Puppet Server: its agent takes {model(site)}'s code, at each run",)


WAY = Way(
    reads=_reads,
    findings=findings,
    plans={"access": keep, "fetch": manifest, "switch": switch},
    checks=checks,
    intent=intent,
)
