"""Stages `settings` and `flush` of the step `code`: what a Puppet Server is told beside its code.

It may ask itself for catalogs and drop its own caches. It classifies as the others do, with the
same files, and takes the link of an environment once for each catalog.
"""

from __future__ import annotations

import hashlib

from runbook import edit
from runbook.model import Action, Check, Facts, Later, Nothing, Planned, Script, Site, Verdict

from . import code_model, reads
from .code_site import (
    ATOMIC,
    OURS,
    about,
    auth_conf,
    keeps,
    model,
    own_timeout,
    readied,
    roots,
    strategy,
)
from .compiler import port, ready
from .compiler_start import AGAIN, reload
from .fields import NONE, sections
from .files import Edit, changed, writes
from .layout import FileFact, Seen, file_fact, servers, unknown
from .puppetdb_clients import section
from .shellwords import assignments

CATALOGS = f"{OURS}: catalogs to compare"
CACHES = f"{OURS}: its environments' caches"
RULE = """\
{{
    # {why}
    match-request: {{ path: "{path}", type: path, method: {method} }}
    allow: "{name}"
    sort-order: 400
    name: "{title}"
}}"""


def own_rules(site: Site, facts: Facts, seen: Seen) -> dict[str, str]:
    """Our rules of auth.conf, by name: a server may ask itself, and what the strategy wants."""
    return {
        **code_model.rules(site, facts, seen),
        CATALOGS: RULE.format(
            why="It asks itself for a node's catalog, and nothing of it is stored or applied.",
            path="/puppet/v4/catalog",
            method="post",
            name=seen.certname,
            title=CATALOGS,
        ),
        CACHES: RULE.format(
            why="It drops what it keeps in memory of an environment, after new code came.",
            path="/puppet-admin-api/v1/environment-cache",
            method="delete",
            name=seen.certname,
            title=CACHES,
        ),
    }


# --- files --------------------------------------------------------------------------------------


def shared_of(seen: Seen) -> dict[str, FileFact]:
    """The classifier and the further files of one server, by path."""
    found = sections(seen.facts.get(seen.name, "shared-files").out)
    return {path: file_fact(found[path]) for path in found if path}


def _auth(site: Site, facts: Facts, seen: Seen) -> Edit:
    file = auth_conf(seen)
    data = file.content or b""
    known = {
        edit.hocon_get(b"rule: " + text.encode(), "rule.name"): text
        for text in edit.hocon_list(data, "authorization.rules") or ()
    }
    for name, rule in own_rules(site, facts, seen).items():
        now = known.get(name)
        if now is None:
            data = edit.hocon_list_add_block(data, "authorization.rules", rule)
        elif now.split() != rule.split():
            data = data.replace(now.encode(), rule.encode())
    said = "it may ask itself for catalogs, and drop its own caches"
    lent = ", and the others for its code" if code_model.rules(site, facts, seen) else ""
    return Edit("auth.conf", file, data, said + lent)


def settings(site: Site, facts: Facts, seen: Seen) -> dict[str, str]:
    """What Puppet Server has to be told in puppet.conf."""
    wanted: dict[str, str] = {}
    # A server that was just built says nothing of this; what one does say is left to it. Code that
    # Puppet itself brings is not to be kept in memory anywhere.
    pattern = own_timeout(Seen(model(site), facts))
    if strategy(site) != "model-master" and pattern is not None and own_timeout(seen) is None:
        wanted["environment_timeout"] = pattern
    if about(site).get("enc"):
        wanted |= {"node_terminus": "exec", "external_nodes": str(about(site)["enc"])}
    # Known since Puppet 6.20; where it is not, a catalog may be compiled from both checkouts.
    if strategy(site) in ATOMIC and seen.setting("versioned_environment_dirs", "server"):
        wanted["versioned_environment_dirs"] = "true"
    return wanted


def _puppet_conf(site: Site, facts: Facts, seen: Seen) -> Edit:
    data, said = seen.puppet_conf.content or b"", []
    wanted = [
        (section(seen, key), key, value) for key, value in settings(site, facts, seen).items()
    ]
    wanted += [("agent", key, v) for key, v in code_model.agent_settings(site, seen).items()]
    for where, key, value in wanted:
        if (now := edit.ini_get(data, where, key)) != value:
            said.append(f"{key} = {value}" + (f" (was {now})" if now else ""))
            data = edit.ini_set(data, where, key, value)
    return Edit("puppet.conf", seen.puppet_conf, data, f"set {', '.join(said)}")


def _copies(site: Site, facts: Facts, seen: Seen) -> list[Edit]:
    """The model's classifier and further files, where a server has others or none."""
    if seen.name == model(site):
        return []
    here, there = shared_of(seen), shared_of(Seen(model(site), facts))
    return [
        Edit(
            f"file{hashlib.sha256(path.encode()).hexdigest()[:8]}",
            here.get(path, FileFact(path)),
            file.content,
            f"{path}, as {model(site)} has it",
            owner=file.owner or "root:root",
            mode=file.mode.zfill(4),
        )
        for path, file in there.items()
        if file.state == "file" and file.content is not None
    ]


def edits(site: Site, facts: Facts, seen: Seen) -> tuple[Edit, ...]:
    """Every file of this server that changes; EditError where one cannot be edited."""
    wanted = [*_copies(site, facts, seen), _auth(site, facts, seen), *code_model.mounts(site, seen)]
    if settings(site, facts, seen) or code_model.agent_settings(site, seen):
        wanted.append(_puppet_conf(site, facts, seen))
    return tuple(changed(wanted))


def plan(site: Site, facts: Facts) -> Planned:
    """One server at a time: each is reloaded, and the next one only when it serves again."""
    planned: list[Action | Later] = []
    for host in servers(site) if about(site) else ():
        seen = Seen(host.name, facts)
        if not ready(seen):
            if seen.reachable and not seen.enterprise:
                planned.append(Later("who may ask it for what", "its Puppet Server", host.name))
            continue
        try:
            changes = edits(site, facts, seen)
        except edit.EditError:
            continue  # a blocker of the step
        if changes or unread(seen):
            planned += [*writes("settings", seen.name, changes, AGAIN), reload("settings", seen)]
    return tuple(planned)


def unread(seen: Seen) -> tuple[str, ...]:
    """Of these files those its running server has not read since they were written."""
    stale = [line.partition(" ")[2] for line in seen.server_state.all("stale")]
    return tuple(p for p in stale if p in (seen.setting("config"), auth_conf(seen).path))


# --- caches -------------------------------------------------------------------------------------


def stale(seen: Seen) -> bool:
    """Whether it may still serve, from memory, code that is not on its disk any more.

    `changed` is the newest change of a file or link of its code; what it keeps is younger than its
    last start or reload, and than the last flush (all in seconds since the epoch).
    """
    told = seen.proofs.get("flushed", NONE).one("at")
    fresh = max(float(told or 0), float(seen.server_state.number("read")))
    return keeps(seen) and float(seen.code.one("changed") or 0) > fresh


def flushing(seen: Seen) -> str:
    """The function that has this very server drop its caches, with its own certificate.

    It stands in programs that have a `key` of their own, the repository's.
    """
    given = assignments(
        ruby=seen.ruby,
        flush_at=f"{seen.certname}:{port(seen)}",
        flush_cert=seen.setting("hostcert"),
        flush_key=seen.setting("hostprivkey"),
        flush_bundle=seen.setting("localcacert"),
    )
    return given + reads.CLIENT + reads.script("flush.sh")


def flush(site: Site, facts: Facts) -> Planned:
    """Servers that keep environments in memory forget them after their code changed."""
    planned: list[Action | Later] = []
    for seen in readied(site, facts) if about(site) else ():
        if stale(seen):
            what = f"drop what it keeps of its environments ({seen.name} itself is asked)"
            script = flushing(seen) + "flush_caches\n"
            planned.append(
                Action(
                    id=f"flush/{seen.name}/caches",
                    host=seen.name,
                    title=what,
                    do=Script(script, timeout=120.0),
                    undo=Nothing(),
                )
            )
    return tuple(planned)


# --- proof --------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """Each server runs with these files."""
    return tuple(_told(site, host.name) for host in servers(site)) if about(site) else ()


def _told(site: Site, name: str) -> Check:
    asked = (
        (name, reads.SOFTWARE),
        (name, reads.PUPPET_CONF),
        (name, reads.SERVER_FILES),
        (name, reads.code(site)),
        (name, reads.shared_files(site)),
        (name, reads.proofs(site)),
        *code_model.told(site, name),
        *(((model(site), reads.shared_files(site)),) if model(site) != name else ()),
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        if not ready(seen):
            return Verdict(None, seen.unread or "it has no Puppet Server yet")
        try:
            wrong = [change.title for change in edits(site, facts, seen)]
        except edit.EditError as error:
            wrong = [str(error)]
        wrong += [f"Puppet Server was not reloaded since {path} changed" for path in unread(seen)]
        if stale(seen):
            wrong.append("it may still serve what it has in memory")
        count = len(roots(seen))
        said = "; ".join(wrong) or f"{count} environments, none of them from memory"
        return Verdict(not wrong, said, "pmrunbook --step code")

    return Check(f"told/{name}", f"{name} serves what is on its disk", judge, asked)
