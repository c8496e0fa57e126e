"""Strategy `rsync`: every other Puppet Server pulls the code of one of them, by a timer.

Each has a key of its own, which an account of the source's takes for one thing: reading the code
through rsync's daemon, started over ssh (rsync(1), "using rsync-daemon features via a remote-shell
connection"). The source's host keys come from the source itself, over the operator's connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Compensate,
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
from runbook.shell import quote

from . import code_repository, code_schedule, reads
from .catalogue import found
from .code_repository import packages, seen_there
from .code_server import flushing
from .code_site import about, behind, elsewhere, keeps, local, model, readied, roots
from .code_way import Way
from .compiler import ready
from .fields import NONE, Fields
from .files import Edit, changed, writes
from .layout import FileFact, Seen, file_fact, servers, unknown
from .shellwords import assignments

ACCOUNT = "puppet-code"
OWN = "/etc/puppet-code"
"""Where a server keeps its key and the source's, and the source what it lends."""
NOTED = "/var/lib/pmrunbook/puppet-code"
"""What the program notes: which environments it brought."""
ASIDE = "/var/lib/pmrunbook/code-aside"


def others(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The servers that pull: all but the source."""
    return tuple(seen for seen in readied(site, facts) if seen.name != model(site))


# --- what is read -------------------------------------------------------------------------------


def _reads(site: Site, host: Host) -> tuple[Read, ...]:
    if "server" not in host.roles:
        return ()
    return (code_repository.read(site), code_schedule.SCHEDULE, connection(site, host.name))


def connection(site: Site, name: str) -> Read:
    """Keys and files of both ends, and whether the source answers here."""
    dialled = site.host(model(site)).login.port or 22
    given = assignments(
        pc_own=OWN,
        pc_account=ACCOUNT,
        pc_source="yes" if name == model(site) else "no",
        pc_from=model(site),
        pc_ports=" ".join(dict.fromkeys((str(dialled), "22"))),
        pc_files="\n".join(about(site).get("files", ())),
    )
    return Read("rsync", given + reads.script("rsync.sh"), limit=262_144, timeout=90.0)


def _section(seen: Seen, name: str = "") -> Fields:
    return seen.parsed("rsync").get(name, NONE)


def _file(seen: Seen, name: str) -> FileFact:
    return file_fact(_section(seen, name))


def port(site: Site, source: Seen) -> str:
    """Where the source's sshd listens: as the operator reaches it, if that is one of its ports."""
    ports = _section(source, "source").all("port")
    dialled = str(site.host(source.name).login.port or 22)
    return dialled if dialled in ports else next(iter(ports), "22")


def folders(source: Seen) -> dict[str, str]:
    """The folders that the source lends, by the name it lends each under."""
    first, *more = _section(source, "source").all("folder") or ("",)
    named = {re.sub(r"\W+", "_", path.strip("/")): path for path in more}
    return {"environments": first, **named} if first else {}


def _here(source: Seen, seen: Seen, name: str, path: str) -> str:
    """Where a folder of the source's goes on another server."""
    if name == "environments":
        return seen_there(seen).one("environments")
    codedir = _section(source, "source").one("codedir")
    below = path.removeprefix(f"{codedir}/")
    return path if below == path else f"{seen.code.one('codedir')}/{below}"


def places(site: Site, facts: Facts, seen: Seen) -> dict[str, str]:
    """Folder of the source's -> where it goes on this server, the environments first."""
    source = Seen(model(site), facts)
    return {path: _here(source, seen, n, path) for n, path in folders(source).items()}


# --- what is written ----------------------------------------------------------------------------


def known_hosts(source: Seen) -> bytes:
    """The source's host keys, as its own sshd has them."""
    keys = _section(source, "source").all("hostkey")
    lines = [f"# Written by pmrunbook: the keys of sshd on {source.name}, read there."]
    return "".join(f"{line}\n" for line in [*lines, *(f"{source.name} {k}" for k in keys)]).encode()


def rsyncd_conf(source: Seen) -> bytes:
    """What the source lends, to be read only."""
    lines = [
        "# Written by pmrunbook: what the other Puppet Servers pull, as " + ACCOUNT + ".",
        "use chroot = no",
        "munge symlinks = no",
        "read only = yes",
        "list = no",
        "exclude = .git .hg .svn",
    ]
    for name, path in folders(source).items():
        lines += ["", f"[{name}]", f"path = {path}"]
    return ("\n".join(lines) + "\n").encode()


def authorized_keys(site: Site, facts: Facts) -> bytes:
    """The other servers' keys, each good for one command; one that was not read now stays."""
    forced = f'restrict,command="rsync --server --daemon --config={OWN}/rsyncd.conf ."'
    now = (_file(Seen(model(site), facts), "authorized_keys").content or b"").decode(
        "utf-8", "replace"
    )
    kept = {line.rpartition(" ")[2]: line for line in now.splitlines() if line.startswith(forced)}
    lines = []
    for host in servers(site):
        key = " ".join(_section(Seen(host.name, facts)).one("key").split(" ")[:2])
        who = f"{ACCOUNT}@{host.name}"
        if host.name == model(site):
            continue
        if line := f"{forced} {key} {who}" if key else kept.get(who, ""):
            lines.append(line)
    head = "# Written by pmrunbook: who may pull the code."
    return "".join(f"{line}\n" for line in [head, *lines]).encode()


def header(site: Site, facts: Facts, seen: Seen) -> str:
    """The variables and functions of the program that pulls."""
    source = Seen(model(site), facts)
    after = f"{flushing(seen)}after() {{ flush_caches; }}\n" if keeps(seen) else "after() { :; }\n"
    goes = [f"{n} {_here(source, seen, n, path)}" for n, path in folders(source).items()]
    given = assignments(
        source=source.name,
        sshport=port(site, source),
        account=ACCOUNT,
        own=OWN,
        environments=seen_there(seen).one("environments"),
        only=" ".join(about(site).get("environments", ())),
        folders="\n".join(goes),
    )
    return given + after + reads.script("rsync_pull.sh")


def program(site: Site, facts: Facts, seen: Seen) -> str:
    """The text of the program that pulls: by this step, a timer, or a hook of the site's own."""
    first = "#!/bin/sh\n# Written by pmrunbook, from its inventory.\n"
    return first + header(site, facts, seen) + reads.script("r10k_main.sh")


# --- stages -------------------------------------------------------------------------------------


def edits(site: Site, facts: Facts, seen: Seen) -> tuple[Edit, ...]:
    """The files of ours that change on a server; EditError where one cannot be written."""
    source = Seen(model(site), facts)
    if seen.name == source.name:
        said = f"what the others may read of it: {', '.join(folders(source).values())}"
        wanted = Edit("rsyncd.conf", _file(seen, "rsyncd.conf"), rsyncd_conf(seen), said)
    else:
        said = f"it knows the sshd of {source.name} by the keys read there"
        wanted = Edit("known_hosts", _file(seen, "known_hosts"), known_hosts(source), said)
    return tuple(changed([wanted]))


def access(site: Site, facts: Facts) -> Planned:
    """A key on each server that pulls; on the source an account, and what that may read."""
    source = Seen(model(site), facts)
    if not folders(source):
        return ()
    planned: list[Action | Later] = []
    if "account" not in _section(source, "source"):
        planned.append(_account(source))
    planned += _written(site, facts, source)
    for seen in others(site, facts):
        if not _section(seen).one("key"):
            planned.append(_key(seen))
        planned += _written(site, facts, seen)
        planned += code_schedule.program(seen, program(site, facts, seen))
    return tuple(planned)


def _written(site: Site, facts: Facts, seen: Seen) -> list[Action]:
    try:
        return writes("access", seen.name, edits(site, facts, seen))
    except edit.EditError:
        return []  # a blocker of the step


def _account(source: Seen) -> Action:
    home = quote(_section(source, "source").one("home"))
    # Its files are root's: who gets in by a key cannot change what the key is good for. `*` is no
    # password; `!` would be a locked account, which sshd lets nobody into.
    return Action(
        id=f"access/{source.name}/account",
        host=source.name,
        title=f"the account {ACCOUNT}, without a password: it may read the code",
        do=Script(
            f"useradd --system --user-group --no-create-home --home-dir {home} "
            f"--shell /bin/sh --password '*' {ACCOUNT} && mkdir -p -m 0755 -- {home}\n",
            done=f"getent passwd {ACCOUNT} >/dev/null",
            timeout=60.0,
        ),
        undo=Compensate(
            f"getent passwd {ACCOUNT} >/dev/null || exit 0\n"
            f"userdel {ACCOUNT} && {{ rmdir -- {home} 2>/dev/null; :; }}\n"
        ),
    )


def _key(seen: Seen) -> Action:
    file = f"{OWN}/id_ed25519"
    return Action(
        id=f"access/{seen.name}/key",
        host=seen.name,
        title=f"a key of its own to pull with, {file}, made there",
        do=Script(
            f"mkdir -p -m 0755 -- {OWN} && rm -f -- {file} {file}.pub && "
            f"ssh-keygen -q -t ed25519 -N '' -C {ACCOUNT}@{seen.name} -f {file}\n",
            done=f"[ -s {file} ] && [ -s {file}.pub ]",
            timeout=60.0,
        ),
        undo=Compensate(f"rm -f -- {file} {file}.pub; rmdir -- {OWN} 2>/dev/null; :\n"),
    )


def take_keys(site: Site, facts: Facts) -> Planned:
    """Stage `import`: the source takes the keys that the others made."""
    source = Seen(model(site), facts)
    waits = [s.name for s in others(site, facts) if not _section(s).one("key")]
    if waits or "account" not in _section(source, "source"):
        what = "whose keys the source takes"
        return (Later(what, "access", source.name), *(Later(what, "access", n) for n in waits))
    keys = Edit(
        "authorized_keys",
        _file(source, "authorized_keys"),
        authorized_keys(site, facts),
        f"{ACCOUNT} lets {', '.join(s.name for s in others(site, facts))} read, by their keys",
    )
    return tuple(writes("import", source.name, tuple(changed([keys]))))


def due(site: Site, facts: Facts, seen: Seen) -> list[str]:
    """What of the source's code a server does not have, or not so."""
    return behind(site, facts, seen, places(site, facts, seen))


def switch(site: Site, facts: Facts) -> Planned:
    if not folders(Seen(model(site), facts)):
        return ()
    return tuple(
        _pull(site, facts, seen)
        for seen in others(site, facts)
        if due(site, facts, seen) or "delivered" not in _section(seen)
    )


def _pull(site: Site, facts: Facts, seen: Seen) -> Action:
    first = "delivered" not in _section(seen)
    here = list(places(site, facts, seen).values())
    said = ", ".join(due(site, facts, seen)) or "what is there already"
    own = [e for e in local(site, facts, seen) if first]
    kept = f"; {', '.join(here)} as now is kept" if first else ""
    kept += f"; {', '.join(own)}, which only it has, goes to {ASIDE}" if own else ""
    return Action(
        # Another name for the first one: a later one must not take its place in what is taken back.
        id=f"switch/{seen.name}/{'first' if first else 'deploy'}",
        host=seen.name,
        title=f"pull {said} from {model(site)}{kept}",
        do=Script(
            f"{code_schedule.PROGRAM} deploy\n",
            timeout=1800.0,
            saves=(*here, NOTED) if first else (),
        ),
        undo=Restore()
        if first
        else Nothing(stays="what was pulled; the first one's backup has what was there before"),
    )


def schedule(site: Site, facts: Facts) -> Planned:
    return code_schedule.plan(site, facts, others(site, facts))


# --- findings -----------------------------------------------------------------------------------


def refusal(source: Seen) -> str:
    """Why its sshd would not let the account in for this; empty where nothing speaks against."""
    there = _section(source, "source")
    told: dict[str, list[str]] = {}
    for line in there.all("sshd"):
        key, _, value = line.partition(" ")
        told.setdefault(key, []).extend(value.split())

    def any_of(key: str, names: list[str]) -> bool:
        patterns = [p.partition("@")[0] for p in told.get(key, ())]
        return any(fnmatchcase(n, p) for n in names for p in patterns)

    groups = there.one("group").split()
    ways = told.get("authenticationmethods", ["any"])
    reasons = {
        "error": " ".join(told.get("error", ())),
        "AllowUsers": "allowusers" in told and not any_of("allowusers", [ACCOUNT]),
        "DenyUsers": any_of("denyusers", [ACCOUNT]),
        "AllowGroups": "allowgroups" in told and not any_of("allowgroups", groups),
        "DenyGroups": any_of("denygroups", groups),
        "PubkeyAuthentication": told.get("pubkeyauthentication") == ["no"],
        "AuthenticationMethods": not {"any", "publickey"} & set(ways),
        "AuthorizedKeysFile": told.get("authorizedkeysfile") == ["none"],
        "ForceCommand": told.get("forcecommand", ["none"]) != ["none"],
    }
    against = [key if said is True else str(said) for key, said in reasons.items() if said]
    return ", ".join(against)


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    source = Seen(model(site), facts)
    there = _section(source, "source")
    if not facts.get(source.name, "rsync").ok:
        return
    for seen in (source, *others(site, facts)):
        try:
            edits(site, facts, seen)
        except edit.EditError as error:
            yield found("code-files-unreadable", seen.name, str(error))
    if said := refusal(source):
        yield found("code-source-refuses", source.name, said)
    for path in there.all("unreadable"):
        clean = path.replace("/./", "/")
        yield found("code-source-unreadable", source.name, clean, path=clean)
    if out := elsewhere(source, there.one("real")):
        yield found("code-source-linked", source.name, ", ".join(out))
    for seen in others(site, facts):
        probed = _section(seen, "sources")
        here = port(site, source)
        if here in probed.all("asked") and here not in probed.all("answers"):
            errors = ", ".join(probed.all("error")) or "it does not speak ssh"
            said = f"{source.name}, port {here}: {errors}"
            yield found("code-source-unreachable", seen.name, said)
        lacks = {"ssh", "ssh-keygen"} - set(_section(seen).all("program"))
        if lacks:
            yield found("code-tool-missing", seen.name, f"no {' and no '.join(sorted(lacks))}")
        if own := local(site, facts, seen):
            yield found("code-only-there", seen.name, f"{', '.join(own)}; goes to {ASIDE}")
    yield found("code-not-atomic", source.name, "files come one after the other")


# --- proof --------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    names = tuple(h.name for h in servers(site) if h.name != model(site))
    return (*(_has(site, name) for name in names), *code_schedule.checks(site, names))


def _has(site: Site, name: str) -> Check:
    pattern = model(site)
    asked = tuple(
        (host, read)
        for host in (name, pattern)
        for read in (
            reads.SOFTWARE,
            reads.code(site),
            code_repository.read(site),
            connection(site, host),
        )
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen, source = Seen(name, facts), Seen(pattern, facts)
        if not ready(seen) or not ready(source):
            return Verdict(None, seen.unread or source.unread or "it has no Puppet Server yet")
        late = due(site, facts, seen)
        said = ", ".join(late) or f"{len(roots(source))} environments, as {pattern} has them"
        return Verdict(not late, said, f"{code_schedule.PROGRAM} deploy, on {name}")

    return Check(f"source/{name}", f"{name} has the code of {pattern}", judge, asked)


def intent(site: Site) -> tuple[str, ...]:
    seconds = code_schedule.every(site)
    return (f"every other Puppet Server: {model(site)}'s code by rsync, every {seconds} s",)


WAY = Way(
    packages=packages,
    reads=_reads,
    findings=findings,
    plans={"access": access, "import": take_keys, "switch": switch, "schedule": schedule},
    checks=checks,
    intent=intent,
)
