"""Code as each Puppet Server has it, and as the site wants it kept."""

from __future__ import annotations

import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from runbook import edit
from runbook.model import Facts, Site

from .compiler import ready
from .fields import NONE
from .layout import FileFact, Seen, file_fact, joined
from .reads import PACKAGES, TERMINI

ATOMIC = ("git", "mercurial", "subversion")
"""Strategies that switch an environment from one finished checkout to the next."""

Column = Mapping[str, str]
"""What two servers are compared in, part by part: name -> digest, version or value."""

BLIND = "(not readable)"
"""What the name of a part begins with that Puppet Server's user cannot read there."""

SETTINGS = (
    "basemodulepath",
    "default_manifest",
    "environmentpath",
    "external_nodes",
    "hiera_config",
    "node_terminus",
    "strict",
    "strict_variables",
    "storeconfigs",
    "storeconfigs_backend",
    "trusted_external_command",
    "versioned_environment_dirs",
)
"""Settings of Puppet Server that decide what a catalog becomes."""


def about(site: Site) -> Mapping[str, Any]:
    """What the inventory says of code; empty where it says nothing."""
    return site.sections.get("code", {})


def strategy(site: Site) -> str:
    """How the servers come to the same code; empty where the site has not chosen."""
    return str(about(site).get("strategy", ""))


def model(site: Site) -> str:
    """The host whose code is the pattern: the source the inventory names, else the CA's host."""
    return str(about(site).get("source", site.ca.host))


def readied(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The Puppet Servers that are installed and could be read, the CA's host last."""
    return tuple(s for s in joined(site, facts) if ready(s) and facts.get(s.name, "code").ok)


def words(line: str) -> list[str]:
    """The words of a line as code.sh prints them."""
    return [urllib.parse.unquote(word, errors="replace") for word in line.split(" ")]


def lines(seen: Seen, section: str, key: str) -> list[list[str]]:
    """All lines of a key, in words."""
    return [words(line) for line in seen.tree.get(section, NONE).all(key)]


def roots(seen: Seen) -> dict[str, str]:
    """Environment -> where its code really is."""
    return {w[0]: w[1] for w in lines(seen, "trees", "root") if len(w) > 1}


def elsewhere(seen: Seen, real: str) -> list[str]:
    """Environments that are links to outside of their folder, which really is `real`."""
    return [name for name, at in roots(seen).items() if real and not at.startswith(f"{real}/")]


def revisions(seen: Seen) -> dict[str, str]:
    """Environment -> the revision it says it is of."""
    return {w[0]: w[1] for w in lines(seen, "trees", "revision") if len(w) > 1}


def sizes(seen: Seen) -> dict[str, int]:
    """Environment -> how many files it has."""
    return {w[0]: int(w[1]) for w in lines(seen, "trees", "tree") if w[1].isdigit()}


def environments(site: Site, facts: Facts) -> tuple[str, ...]:
    """The environments that must be alike: those the inventory names, else all that any has."""
    given = tuple(about(site).get("environments", ()))
    found = {name for seen in readied(site, facts) for name in roots(seen)}
    return given or tuple(sorted(found, key=lambda name: (name != "production", name)))


# --- what is compared ---------------------------------------------------------------------------


def environment(seen: Seen, name: str) -> Column:
    """Its parts (each module, manifests, data, ...), with the digest of each."""
    parts = {w[1]: w[3] for w in lines(seen, "trees", "part") if len(w) > 3 and w[0] == name}
    blind = {w[1]: "unreadable" for w in lines(seen, "trees", "unreadable") if w[0] == name}
    return {**parts, **{f"{BLIND} {path}": said for path, said in blind.items()}}


def shared(seen: Seen) -> Column:
    """What all environments share: base modules, the global layer of Hiera, keys, further files."""
    trees = {w[0]: w[2] for w in lines(seen, "trees", "shared") if len(w) > 2}
    files = {w[0].removeprefix("file:"): w[1] for w in lines(seen, "server", "same") if len(w) > 1}
    keys = {f"key {w[0]}": " ".join(w[1:2] + w[3:]) for w in lines(seen, "server", "key")}
    return {**trees, **files, **keys}


def classifier(seen: Seen) -> Column:
    """Where nodes are classified, by which script, and what it says of some of them."""
    found = seen.tree.get("classifier", NONE)
    script = {w[0]: w[1] for w in lines(seen, "classifier", "script") if len(w) > 1}
    answers = {f"of {w[0]}": w[1] for w in lines(seen, "classifier", "answer") if len(w) > 1}
    failed = lines(seen, "classifier", "failed")
    errors = {f"of {w[0]}": f"fails: {' '.join(w[1:])}" for w in failed}
    return {"node_terminus": found.one("terminus"), **script, **answers, **errors}


def own_timeout(seen: Seen) -> str | None:
    """How long its puppet.conf says that it keeps environments in memory; None: it does not say.

    Read from the file: `puppet config print` answers this one for [main], whatever section it is
    asked for, because an environment may set it too.
    """
    data = seen.puppet_conf.content or b""
    try:
        given = [edit.ini_get(data, s, "environment_timeout") for s in ("server", "master", "main")]
    except edit.EditError:
        given = []
    return next((value for value in given if value is not None), None)


def timeouts(seen: Seen) -> tuple[str, ...]:
    """How long it keeps environments in memory: its own setting, then those of environments."""
    own = own_timeout(seen) or "0"
    return (own, *(w[1] for w in lines(seen, "trees", "timeout") if len(w) > 1))


def keeps(seen: Seen) -> bool:
    """Whether it keeps environments in memory after a catalog is compiled."""
    return any(t not in ("", "0", "0s", "0m") for t in timeouts(seen))


def setup(seen: Seen) -> Column:
    """How it is set: what decides about a catalog beside the code."""
    settings = {key: seen.setting(key, "server") for key in SETTINGS}
    settings["environment_timeout"] = timeouts(seen)[0]
    kept = (*PACKAGES, *TERMINI)
    packages = {p: v.partition(":")[2] or v for p, v in seen.packages.items() if p in kept}
    gems: dict[str, str] = {}
    for (gem,) in lines(seen, "server", "gem"):
        name, _, version = gem.rpartition("-")
        gems[f"gem {name}"] = f"{gems.get(f'gem {name}', '')} {version}".strip()
    return {**settings, **packages, **gems, **rules(seen)}


def auth_conf(seen: Seen) -> FileFact:
    """Who may ask its Puppet Server for what."""
    return file_fact(seen.tree.get("auth.conf", NONE))


def rules(seen: Seen) -> Column:
    """The rules of auth.conf, by name; those about the CA's own API are the CA's server's alone."""
    try:
        found = edit.hocon_list(auth_conf(seen).content or b"", "authorization.rules") or ()
    except edit.EditError as error:
        return {"auth.conf": str(error)}
    named = {}
    for number, text in enumerate(found):
        rule = b"rule: " + text.encode()
        path = edit.hocon_get(rule, "rule.match-request.path") or ""
        name = edit.hocon_get(rule, "rule.name") or f"number {number + 1}"
        if "puppet-ca" not in path and "certificate" not in path and not name.startswith(OURS):
            named[f"rule {name}"] = " ".join(text.split())
    return named


OURS = "pmrunbook"
"""What the names of our own rules in auth.conf begin with: each is about its own server."""


Taken = Callable[[Seen], Column]


def columns(site: Site, facts: Facts) -> dict[str, Taken]:
    """Everything servers are compared in: its heading -> how it is taken of one."""

    def of(name: str) -> Taken:
        return lambda seen: environment(seen, name)

    found: dict[str, Taken] = {name: of(name) for name in environments(site, facts)}
    return {**found, "shared": shared, "classifier": classifier, "settings": setup}


def usual(site: Site, facts: Facts, take: Taken) -> Seen | None:
    """The server that has what most have; where none is in the majority, the model."""
    seen = readied(site, facts)
    same = Counter(frozenset(take(s).items()) for s in seen)
    if not same:
        return None
    most = max(same.values())
    candidates = [s for s in seen if same[frozenset(take(s).items())] == most]
    return next((s for s in candidates if s.name == model(site)), candidates[-1])


def differing(one: Column, other: Column) -> list[str]:
    """The parts in which two differ."""
    return sorted(p for p in one.keys() | other.keys() if one.get(p) != other.get(p))


# --- one server is the pattern ------------------------------------------------------------------


def behind(site: Site, facts: Facts, seen: Seen, places: Mapping[str, str]) -> list[str]:
    """What one server has not as the model has it: environments, then folders.

    `places` are the model's folders, and where each of them is on this server.
    """
    pattern = Seen(model(site), facts)
    given = tuple(about(site).get("environments", ()))
    names = given or (*roots(pattern), *local(site, facts, seen))
    late = [n for n in names if differing(environment(seen, n), environment(pattern, n))]
    mine, theirs = shared(seen), shared(pattern)
    return [*late, *(path for path, here in places.items() if mine.get(here) != theirs.get(path))]


def local(site: Site, facts: Facts, seen: Seen) -> list[str]:
    """The environments that the model lacks, of those that have to be alike."""
    given = tuple(about(site).get("environments", ()))
    mine, theirs = roots(seen), roots(Seen(model(site), facts))
    return [n for n in mine if n not in theirs and (not given or n in given)]
