"""Agents go the new way, the canary first; each run of theirs is proved, and by whom it was served.

With a name that is to lead elsewhere, an agent that goes ahead of the others gets a line in its
hosts file, a debt, until the zone says so for all. With SRV records or a list of servers it is the
agent's own puppet.conf that changes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Facts,
    Finding,
    Nothing,
    Planned,
    Restore,
    Risk,
    Script,
    Site,
    Verdict,
    WriteFile,
)
from runbook.pools import Pool, pools

from . import ca_proof, reads, trial
from .balance import (
    MARK,
    NAMED,
    TRIAL,
    agents,
    catalog_log,
    digest,
    first_members,
    members,
    names,
    pins,
    pool_of,
    proxy,
    strategy,
    targets,
)
from .balance_dns import published, resolves, switched, updatable
from .ca_clients import editable
from .catalogue import found
from .fields import NONE, sections
from .layout import FileFact, Seen, ca_host, unknown
from .shellwords import assignments

OVERRIDES = ("agent",)
SAMPLES = 5  # agents whose runs show how the load is spread
SURE = 0.005  # how likely it may be that a server gets none of these runs by chance
CLOCKS = 300  # seconds that an agent's clock and a server's may differ
RUNS = 20  # of one agent, at most: enough for a server that has a quarter of one agent's


# --- what an agent is told ------------------------------------------------------------------------


def order(pool: Pool, agent: str) -> tuple[str, ...]:
    """The servers of a pool in this agent's own order: by priority, then by a hash of both names.

    So each server comes first for an equal share of the agents, and the order never changes.
    """

    def key(name: str, priority: int) -> tuple[int, str]:
        return priority, hashlib.sha256(f"{agent} {name}".encode()).hexdigest()

    ranked = sorted(pool.members, key=lambda m: key(m.name, m.priority))
    return tuple(f"{m.name}:{m.port}" for m in ranked)


def settings(site: Site, agent: str) -> dict[str, str]:
    """What stands in [main] of an agent's puppet.conf; nothing where its name leads the way."""
    pool = pool_of(site, agent)
    if pool is None or strategy(site) in NAMED:
        return {}
    if strategy(site) == "srv":
        return {"use_srv_records": "true", "srv_domain": pool.domain}
    # The list would take reports and certificates along: both stay where they are said to go.
    return {"server_list": ",".join(order(pool, agent)), "ca_server": site.ca.name}


def edited(site: Site, agent: str, conf: FileFact) -> bytes:
    """puppet.conf with the settings in [main], and in no section that beats it."""
    data = conf.content or b""
    for key, value in settings(site, agent).items():
        for section in OVERRIDES:
            if edit.ini_get(data, section, key) not in (None, value):
                data = edit.ini_delete(data, section, key)
        data = edit.ini_set(data, "main", key, value)
    return data


def moved(site: Site, seen: Seen) -> bool:
    """Whether this agent goes the new way by what it says of itself."""
    wanted = settings(site, seen.name)
    return all(seen.setting(key) == value for key, value in wanted.items())


def elsewhere(site: Site, seen: Seen) -> str:
    """The server an agent calls that is none of its pool's: it is not moved, and listed."""
    pool = pool_of(site, seen.name)
    now = seen.setting("server")
    if pool is None or (settings(site, seen.name) and moved(site, seen)):
        return ""
    short = now.partition(".")[0] == pool.server.partition(".")[0]
    if now == pool.server or (short and "." not in now):
        return ""
    return now


def findings(site: Site, facts: Facts) -> Iterator[Finding]:
    for seen in agents(site, facts):
        if other := elsewhere(site, seen):
            yield found("agent-elsewhere", seen.name, f"server is {other}", puppet=seen.puppet)
            continue
        pinned = facts.get(seen.name, "pins").out
        for line in sections(pinned).get("", NONE).all("fixed"):
            yield found("name-in-hosts-file", seen.name, line)
        if settings(site, seen.name):
            config = seen.setting("config")
            if config in seen.agent.all("manages"):
                paths = {"config": config, "resources": seen.setting("resourcefile")}
                yield found("puppet-conf-managed", seen.name, f"{config} is managed", **paths)
            if not editable(seen):
                said = f"{config} is {seen.puppet_conf.state}"
                yield found("puppet-conf-unreadable", seen.name, said)
        if (static := seen.setting("server_list")) and strategy(site) != "server-list":
            said = f"server_list is {static}"
            yield found("static-servers", seen.name, said, puppet=seen.puppet)


def movable(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """The agents that are moved."""
    return tuple(s for s in agents(site, facts) if not elsewhere(site, s))


# --- going ahead ----------------------------------------------------------------------------------


def pinned(facts: Facts, name: str) -> bool:
    return "pinned" in sections(facts.get(name, "pins").out).get("", NONE)


def proved(site: Site, seen: Seen, what: str = "cut-over") -> bool:
    """Whether it was seen to go just this way."""
    return seen.proofs.get(what, NONE).one("way") == digest(site)


def _pin(site: Site, facts: Facts, seen: Seen, pool: Pool) -> Action:
    to = targets(site, facts, pool.server)
    given = assignments(name=pool.server, addresses=" ".join(to), mark=MARK)
    back = assignments(name=pool.server, addresses="", mark=MARK) + reads.script("pin.sh")
    return Action(
        id=f"agents/{seen.name}/pin",
        host=seen.name,
        title=f"let {pool.server} lead to {' and '.join(to)} here, ahead of the others",
        do=Script(given + reads.script("pin.sh") + "pin\n", timeout=60.0),
        undo=Compensate(back + "unpin\n"),
        risk=Risk.CUTOVER,
        opens=Debt(f"pin/{seen.name}", f"a line in /etc/hosts on {seen.name}", back + "unpin\n"),
        diff="".join(f"+{a} {pool.server} # {MARK}\n" for a in to),
    )


def _conf(site: Site, seen: Seen, stage: str) -> Action | None:
    conf = seen.puppet_conf
    try:
        after = edited(site, seen.name, conf)
    except edit.EditError:
        return None
    if after == (conf.content or b""):
        return None
    said = ", ".join(f"{k} = {v}" for k, v in settings(site, seen.name).items())
    return Action(
        id=f"{stage}/{seen.name}/puppet.conf",
        host=seen.name,
        title=f"set {said} in [main]",
        do=WriteFile(conf.path, after, before=conf.sha256),
        undo=Restore(),
        risk=Risk.CUTOVER,
        diff=edit.diff(conf.path, conf.content, after),
    )


def run(
    site: Site, stage: str, seen: Seen, title: str, times: int = 1, proof: str = "", more: str = ""
) -> Action:
    """No-op runs of an agent, the way all its runs go but for `more` arguments.

    `proof` is what they are recorded as.
    """
    given = assignments(
        puppet=seen.puppet,
        lockfile=seen.setting("agent_catalog_run_lockfile"),
        times=str(times),
        more=more,
        proof=proof,
        lines=f"way={digest(site)}",
    )
    script = given + reads.script("agent_run.sh") + reads.script("balanced_run.sh")
    forget = Compensate(trial.FORGET.format(proof)) if proof else Nothing()
    return Action(
        id=f"{stage}/{seen.name}/run",
        host=seen.name,
        title=title,
        do=Script(script, timeout=900.0 * times),
        undo=forget,
    )


def ahead(site: Site, facts: Facts) -> Planned:
    """Each agent, in the inventory's order: told, then run."""
    actions: list[Action] = []
    there = bool(names(site)) and switched(site, facts)
    # With SRV records one domain serves all who ask it: until its records are there, a canary asks
    # another one, for one run.
    trying = strategy(site) == "srv" and not published(site, facts)
    if trying and not updatable(site):
        return ()  # there is no other domain to ask: they are told, one after another, in the end
    for seen in movable(site, facts):
        pool = pool_of(site, seen.name)
        if pool is None:
            continue
        more = f"--use_srv_records --srv_domain {TRIAL}.{pool.domain}" if trying else ""
        if names(site):
            if there:
                continue  # everybody goes that way: the runs after the switch prove it
            if not resolves(site, facts, seen.name, pool.server):
                actions.append(_pin(site, facts, seen, pool))
        elif not trying and editable(seen) and (told := _conf(site, seen, "agents")):
            actions.append(told)
        if ca_proof.runs(site, seen) and not proved(site, seen):
            title = "one run of its agent through the new way, in no-op mode"
            actions.append(run(site, "agents", seen, title, proof="cut-over", more=more))
    return tuple(actions)


def told(site: Site, facts: Facts) -> Planned:
    """With SRV records: each agent is told its domain, where it asks for another or for none."""
    actions: list[Action] = []
    for seen in movable(site, facts) if strategy(site) == "srv" else ():
        if not editable(seen) or (told := _conf(site, seen, "told")) is None:
            continue
        actions.append(told)
        if ca_proof.runs(site, seen):
            title = "one run of its agent, in no-op mode"
            actions.append(run(site, "told", seen, title, proof="cut-over"))
    return tuple(actions)


def unpin(site: Site, facts: Facts) -> Planned:
    """The lines in hosts files go: the zone says the same to all."""
    there = bool(names(site)) and switched(site, facts)
    return tuple(
        Action(
            id=f"unpin/{seen.name}/hosts",
            host=seen.name,
            title="take the line out of /etc/hosts again",
            do=Script(
                assignments(name="", addresses="", mark=MARK) + reads.script("pin.sh") + "unpin\n",
                timeout=60.0,
            ),
            undo=Nothing(),
            repays=f"pin/{seen.name}",
        )
        for seen in movable(site, facts)
        if names(site)
        and (pinned(facts, seen.name) or (not there and _to_be_pinned(site, facts, seen)))
    )


def _to_be_pinned(site: Site, facts: Facts, seen: Seen) -> bool:
    pool = pool_of(site, seen.name)
    return pool is not None and not resolves(site, facts, seen.name, pool.server)


# --- how the load is spread -----------------------------------------------------------------------


def sticky(site: Site) -> bool:
    """Whether an agent is kept with its server for a while: more runs of it say no more then."""
    return bool(proxy(site)) or strategy(site) == "hardware"


def samples(site: Site, facts: Facts) -> tuple[Seen, ...]:
    """A few agents of each pool that run when they are asked to.

    Where an agent is kept with its server they are as many as the servers; where there are fewer,
    the CA's host, which is an agent as well, helps out.
    """
    servers = len(first_members(site))
    most = max(SAMPLES, servers) if sticky(site) else SAMPLES
    found: list[Seen] = []
    for pool in pools(site):
        mine = [s for s in movable(site, facts) if s.name in pool.agents and ca_proof.runs(site, s)]
        found += [s for s in mine if s.name not in facts.idle][:most]
    own = ca_host(site, facts)
    few = sticky(site) and len(found) < servers
    return (*found, own) if few and ca_proof.runs(site, own) else tuple(found)


def _missed(site: Site, facts: Facts, pool: Pool, share: float) -> float:
    """How likely it is that a server with this share gets none of the samples' runs."""
    many = sum(s.name in pool.agents for s in samples(site, facts))
    return float((1 - share) ** (many * times(site, facts, pool)))


def expected_ones(site: Site, facts: Facts) -> tuple[str, ...]:
    """The servers that the samples' runs must reach, all well.

    Not those whose share is so small that they may well be missed: see `unlikely_ones`.
    """
    if sticky(site):
        return first_members(site)
    found = []
    for pool in pools(site):
        if strategy(site) == "server-list":
            mine = [s.name for s in samples(site, facts) if s.name in pool.agents]
            found += [order(pool, name)[0].partition(":")[0] for name in mine]
        else:
            shares = pool.shares().items()
            found += [n for n, share in shares if _missed(site, facts, pool, share) <= SURE]
    return tuple(dict.fromkeys(found))


def unlikely_ones(site: Site, facts: Facts) -> tuple[str, ...]:
    """Servers of a pool that the samples' runs may well not reach, all well."""
    wanted = expected_ones(site, facts)
    return tuple(name for name in first_members(site) if name not in wanted)


def times(site: Site, facts: Facts, pool: Pool | None) -> int:
    """Runs of each sample of a pool, so that hardly by chance a server gets none of them."""
    if pool is None or strategy(site) == "server-list" or sticky(site):
        return 1
    least = min((s for s in pool.shares().values() if s), default=1.0)
    many = sum(s.name in pool.agents for s in samples(site, facts)) or 1
    runs = 1 if least >= 1 else math.ceil(math.log(SURE) / math.log(1 - least))
    return min(RUNS, math.ceil(runs / many))


# --- proof ----------------------------------------------------------------------------------------


def served_by(facts: Facts, site: Site, certname: str) -> tuple[str, int]:
    """The server that compiled this node's latest catalog, and when; empty where no log says."""
    latest = ("", 0)
    for member in members(site):
        log = sections(facts.get(member.name, "catalog-log").out).get("", NONE)
        for line in log.all("catalog"):
            node, _, at = line.partition(" ")
            if node == certname and at.isdigit() and int(at) > latest[1]:
                latest = (member.name, int(at))
    return latest


def went(site: Site, name: str, *, told: bool = True, just: bool = False) -> Check:
    """This agent goes the new way, and ran; which server compiled for it is shown.

    Not `told` yet: it ran that way once. `just` now: a server of the pool knows of that run; later
    its log may have been rotated.
    """
    asked = ((name, reads.SOFTWARE), (name, reads.proofs(site)), (name, pins(site)))

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        if told and not moved(site, seen):
            said = ", ".join(f"{k} is {seen.setting(k) or 'unset'}" for k in settings(site, name))
            return Verdict(False, said, "pmrunbook --step cutover")
        if not proved(site, seen):
            return Verdict(False, "it did not run that way yet", "pmrunbook --step cutover")
        by, at = served_by(facts, site, seen.certname)
        began = int(seen.proofs["cut-over"].one("began") or 0)
        if at < began - CLOCKS and (just or by):
            said = f"{by} compiled for it before, and" if by else "it ran, and"
            return Verdict(False, f"{said} no server of the pool did since", "pmrunbook log")
        return Verdict(True, f"compiled by {by}" if by else "it ran")

    logs = tuple((m.name, catalog_log(site)) for m in members(site) if m.name in site)
    return Check(
        f"agents/{name}",
        f"{name} runs through the new way",
        judge,
        (*asked, *logs),
        patience=15.0 if just else 0.0,  # a log may be a moment behind
        every=3.0,
    )


def ahead_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """While agents are moved; once the names lead there, the runs of the samples stand for all."""
    if names(site) and switched(site, facts):
        return ()
    told = strategy(site) != "srv"
    able = (s for s in movable(site, facts) if ca_proof.runs(site, s))
    return tuple(went(site, s.name, told=told, just=True) for s in able)


def told_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    able = (s for s in movable(site, facts) if ca_proof.runs(site, s))
    return tuple(went(site, s.name, just=True) for s in able) if strategy(site) == "srv" else ()


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """What stays: no line in a hosts file; with settings of their own, every agent has them."""
    hosts = [h.name for h in site.having("agent") if h.name in facts.hosts]

    def nothing_left(facts: Facts) -> Verdict:
        if silent := unknown(facts, *((h, pins(site)) for h in hosts)):
            return silent
        left = [h for h in hosts if pinned(facts, h)]
        return Verdict(not left, ", ".join(left) or "nothing", "pmrunbook debts --repay")

    own = (
        ()
        if names(site)
        else tuple(went(site, s.name) for s in movable(site, facts) if ca_proof.runs(site, s))
    )
    if not hosts:
        return own
    left = Check(
        "agents/left",
        "no agent has a line of ours in its hosts file",
        nothing_left,
        tuple((h, pins(site)) for h in hosts),
    )
    return (*own, left)
