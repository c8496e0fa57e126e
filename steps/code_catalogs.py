"""Proof that every Puppet Server compiles the same: sample nodes by servers, 0 differences.

Each server is asked by itself, over `/puppet/v4/catalog`, with the node's own facts: nothing is
stored, nothing applied. Only digests travel: one for each parameter of each resource.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import zlib

from runbook.model import Check, Facts, Host, Read, Site, Verdict
from runbook.shell import quote

from . import reads
from .code_site import about
from .compiler import port, ready
from .fields import NONE, Fields, sections
from .layout import Seen, servers, unknown

FACTS = Read("node-facts", reads.script("node_facts.sh"), limit=2_000_000, timeout=150.0)
MOST = 5  # nodes that are compared unless the inventory names more
Listing = dict[str, dict[str, str]]  # resource -> parameter -> digest


def samples(site: Site, facts: Facts) -> tuple[str, ...]:
    """The nodes that are compared: the inventory's, else an agent of each environment, further
    agents up to three, and the CA's host."""
    if given := about(site).get("samples"):
        return tuple(given)
    able = [s for h in site.having("agent") if (s := Seen(h.name, facts)).certname and s.enrolled]
    by_environment: dict[str, str] = {}
    for seen in able:
        by_environment.setdefault(seen.setting("environment"), seen.name)
    names = [*by_environment.values(), *(s.name for s in able)][: max(3, len(by_environment))]
    return tuple(dict.fromkeys([*names[: MOST - 1], site.ca.host]))


def candidates(site: Site) -> tuple[Host, ...]:
    """The hosts of which it has to be known in which environment they are."""
    given = about(site).get("samples")
    return tuple(map(site.host, given)) if given else site.having("agent")[:50]


def _node(facts: Facts, name: str) -> dict[str, object] | None:
    """What a server is told of one node; None while that is not known."""
    read = sections(facts.get(name, FACTS.id).out).get("", NONE)
    try:
        values = json.loads(gzip.decompress(base64.b64decode(read.one("facts"))))
        trusted = json.loads(base64.b64decode(read.one("trusted")))
    except (ValueError, binascii.Error, OSError, EOFError, zlib.error):
        return None
    return {
        "certname": Seen(name, facts).certname,
        "environment": read.one("environment"),
        "facts": values.get("values", values),
        "trusted": trusted,
    }


def _compiled(site: Site, facts: Facts, name: str, nodes: tuple[str, ...]) -> Read | None:
    """The read that has a server compile the nodes; None while not all of them are known."""
    told = [_node(facts, node) for node in nodes]
    if not told or None in told or not ready(Seen(name, facts)):
        return None
    asked = {"nodes": told, "servers": [h.name for h in servers(site)]}
    packed = base64.b64encode(gzip.compress(json.dumps(asked).encode(), mtime=0)).decode()
    given = f"pc_asked={quote(packed)} pc_port={port(Seen(name, facts))}\n"
    text = given + reads.CLIENT + reads.script("compiled.sh")
    return Read("compiled", text, limit=6_000_000, timeout=300.0)


def listing(found: Fields) -> Listing:
    """The resources of one catalog, with a digest for each of their parameters."""
    try:
        text = gzip.decompress(base64.b64decode(found.one("listing"))).decode("utf-8", "replace")
    except (ValueError, binascii.Error, OSError, EOFError, zlib.error):
        return {}
    resources: Listing = {}
    for line in text.splitlines():
        name, _, said = line.partition("\t")
        resources[name] = dict(word.rsplit(":", 1) for word in said.split() if ":" in word)
    return resources


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*"))


def differences(one: Listing, other: Listing, ignore: tuple[str, ...]) -> list[str]:
    """What differs, as "File[/etc/motd] content" or, where one has no such resource, its name."""
    patterns = [_pattern(text) for text in ignore]
    found = []
    for resource in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(resource), other.get(resource)
        if mine is None or theirs is None:
            what = [f"{resource} ({'only here' if theirs is None else 'not here'})"]
        else:
            names = sorted(mine.keys() | theirs.keys())
            what = [f"{resource} {p}" for p in names if mine.get(p) != theirs.get(p)]
        for text in what:
            bare = text.partition(" (")[0]
            if not any(p.fullmatch(bare) or p.fullmatch(resource) for p in patterns):
                found.append(text)
    return found


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """A check for each server and sample node."""
    nodes = samples(site, facts)
    return tuple(_same(site, host.name, node, nodes) for host in servers(site) for node in nodes)


def _same(site: Site, name: str, node: str, nodes: tuple[str, ...]) -> Check:
    asked = (
        (name, reads.SOFTWARE),
        (name, reads.SERVER_FILES),
        *((n, r) for n in nodes for r in (reads.SOFTWARE, FACTS)),
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        told = _node(facts, node)
        if told is None:
            return Verdict(None, f"{node} does not tell its facts", "puppet facts, there")
        got = facts.get(name, "compiled")
        if not got.ok:
            return Verdict(None, f"not asked ({got.err.strip()[:160] or got.exit})")
        return _compared(site, facts, name, str(told["certname"]))

    def then(facts: Facts) -> tuple[tuple[str, Read], ...]:
        read = _compiled(site, facts, name, nodes)
        return ((name, read),) if read else ()

    return Check(
        f"catalog/{name}/{node}",
        f"{name} compiles {node}'s catalog as the others do",
        judge,
        asked,
        then=then,
        cell=(name, node),
    )


def _catalog(facts: Facts, server: str, certname: str) -> Fields:
    return sections(facts.get(server, "compiled").out).get(certname, NONE)


def _compared(site: Site, facts: Facts, name: str, certname: str) -> Verdict:
    mine = _catalog(facts, name, certname)
    if error := mine.one("error"):
        remedy = f"journalctl -u puppetserver -n 50 --no-pager, on {name}"
        if error.startswith("403"):
            return Verdict(None, "it may not ask itself yet", "pmrunbook --step code")
        return Verdict(False, error, remedy)
    ours = listing(mine)
    if not ours:
        return Verdict(None, "it gave no catalog")
    ignore = tuple(about(site).get("ignore", ()))
    others = {
        s.name: listing(_catalog(facts, s.name, certname))
        for s in asked_ones(site, facts)
        if s.name != name
    }
    known = {other: found for other, found in others.items() if found}
    wrong = {other: differences(ours, found, ignore) for other, found in known.items()}
    alike = sum(not found for found in wrong.values())
    # Right is what most have; of two that differ, what the CA's host has.
    against = [other for other, found in wrong.items() if found]
    outvoted = len(against) > alike + 1 or (
        len(against) >= alike + 1 and name != site.ca.host and site.ca.host in against
    )
    said = f"{mine.one('resources')} resources in {mine.one('environment')}"
    if against and outvoted:
        first = site.ca.host if site.ca.host in against else against[0]
        found = wrong[first]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        detail = "".join(f"{text}\n" for text in found[:200])
        remedy = "pmrunbook verify code shows where the code differs"
        return Verdict(False, f"{found[0]}, unlike {first}{more}", remedy, detail)
    return Verdict(True, f"{said}, 0 differences" if known else f"{said}, alone")


def asked_ones(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The servers that were asked to compile."""
    return tuple(Seen(h.name, facts) for h in servers(site) if facts.get(h.name, "compiled").ok)
