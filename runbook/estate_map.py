"""Who serves whom, before and after: the map of the estate as nodes and lines.

No face is known here: the page draws the map, the screens list its outline.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from runbook.model import Host, Site, Status
from runbook.pools import Pool, pools
from runbook.shares import Spread, spread
from runbook.state import RunState
from runbook.symbols import AS_FOUND, MADE, TO_COME, UNDER_WAY, Mark, count

AGENTS, NAMES, SERVERS, SERVICES = range(4)
"""The columns, from those who ask to those who are asked."""

CATALOGS, CERTIFICATES, FACTS = "catalogs", "certificates", "facts and reports"
"""What goes along a line."""

CA_STEP = "ca"
COMPILERS_STEP = "compilers"
PUPPETDB_STEP = "puppetdb"
BALANCING_STEP = "cutover"
RETIRE_STEP = "retire"
"""The steps whose end makes a part of the map true."""


@dataclass(frozen=True, slots=True)
class Node:
    """Agents that are alike, a name they call, a Puppet Server, or a service behind it."""

    id: str
    column: int
    title: str
    notes: tuple[str, ...] = ()
    mark: Mark = AS_FOUND
    hosts: tuple[str, ...] = ()  # the agents it stands for


@dataclass(frozen=True, slots=True)
class Line:
    """From who asks to who is asked."""

    source: str
    target: str
    what: str = CATALOGS
    share: float | None = None  # of what leaves the source, from 0 to 1
    standby: bool = False  # asked only when the others fail
    mark: Mark = AS_FOUND
    how: str = ""  # the name leads further: "DNS, round robin"


@dataclass(frozen=True, slots=True)
class EstateMap:
    """The estate at one moment."""

    title: str
    nodes: tuple[Node, ...] = ()
    lines: tuple[Line, ...] = ()

    def column(self, number: int) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if n.column == number)

    def node(self, node_id: str) -> Node:
        return next(n for n in self.nodes if n.id == node_id)

    def lines_from(self, node_id: str, what: str = CATALOGS) -> tuple[Line, ...]:
        return tuple(x for x in self.lines if x.source == node_id and x.what == what)


def before(site: Site, state: RunState) -> EstateMap:
    """Who served the agents when the hosts were first surveyed; empty when none was."""
    draft = _Draft()
    _found_agents(draft, site, state, site.having("agent"))
    for name, estate in state.found.items():
        if "server" in estate:
            draft.node(_server(site, name, state, AS_FOUND))
        if "puppetdb" in estate:
            draft.node(Node(f"puppetdb/{name}", SERVICES, "PuppetDB", (name,)))
    signing = [name for name, estate in state.found.items() if "ca" in estate]
    for name in signing:
        draft.node(Node(f"ca/{name}", SERVICES, "Certificate authority", (name,)))
    if len(signing) == 1:
        for node in draft.column(AGENTS):
            draft.line(Line(node.id, f"ca/{signing[0]}", CERTIFICATES))
    return draft.map("Before, as first surveyed")


def now(site: Site, state: RunState) -> EstateMap:
    """What finished steps made, what others are at, what stands as found, and what is to come."""
    draft = _Draft()
    balanced, built = _mark(state, BALANCING_STEP), _mark(state, COMPILERS_STEP)
    grown = {h.name for h in site.having("compiler")}
    retired = site.having("retired") if _mark(state, RETIRE_STEP) is MADE else ()
    gone = [h.name for h in retired]
    balancing = tuple(pool for pool in pools(site) if pool.agents)
    for pool in balancing:
        agents, servers = tuple(map(site.host, pool.agents)), pool.shares()
        if balanced is MADE or not state.found:
            there = draft.agents(agents)
        else:  # who serves them today goes on until the pool is there
            there = _found_agents(draft, site, state, agents, gone)
        draft.name(pool, balanced)
        for node in there:
            draft.line(Line(node.id, f"name/{pool.name}", mark=balanced, how=pool.how))
        for name in (*servers, *pool.standby):
            mark = built if name in grown and "server" not in state.found.get(name, {}) else None
            draft.node(_server(site, name, state, mark or AS_FOUND))
            share, spare = servers.get(name), name in pool.standby
            line = Line(f"name/{pool.name}", f"server/{name}", CATALOGS, share, spare, balanced)
            draft.line(line)
    if not balancing:
        _found_agents(draft, site, state, site.having("agent"), gone)
        for host in site.having("compiler"):
            draft.node(_server(site, host.name, state, built))
    _services(draft, site, state)
    done = sum(step.status is Status.OK for step in state.steps.values())
    return draft.map(f"Now, {count(done, 'step')} of {len(state.steps)} finished")


def spreads(site: Site, state: RunState) -> tuple[Spread, ...]:
    """Planned shares beside the measured ones; only planned where nothing was measured yet."""
    measured = [data for step in state.steps.values() for data in step.shares.values()]
    if measured:
        return tuple(
            spread(
                str(data["title"]),
                {str(k): float(v) for k, v in data.get("planned", {}).items()},
                {str(k): int(v) for k, v in data.get("measured", {}).items()},
            )
            for data in measured
        )
    return tuple(
        spread(f"{pool.name}: {pool.how}", pool.shares(), None)
        for pool in pools(site)
        if pool.agents
    )


# --- an outline for those who write lines ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the outline; one without a mark is a heading over those that follow."""

    text: str
    mark: Mark | None = None
    note: str = ""
    share: float | None = None


def outline(map_: EstateMap) -> Iterator[Entry]:
    """The map line by line: who asks which name, the servers behind it, then the services."""
    asking: dict[tuple[str, str, str], list[Node]] = {}
    for line in map_.lines:
        if line.what == CATALOGS and map_.node(line.source).column == AGENTS:
            key = (line.target, line.mark.word, line.how)
            asking.setdefault(key, []).append(map_.node(line.source))
    shown: set[str] = set()
    for (target, stands, how), nodes in asking.items():
        who = _named([name for node in nodes for name in node.hosts])
        one = who == nodes[0].hosts[0]
        verb = "calls" if one else "call"
        verb = {
            TO_COME.word: "will call",
            UNDER_WAY.word: f"{'is' if one else 'are'} being moved to",
        }.get(stands, verb)
        name = map_.node(target)
        yield Entry(f"{who} {verb} {name.title}" + (f", {how}" if how else ""))
        for line in map_.lines_from(target):
            if line.mark.word == stands:  # else the same name leads there at another time
                server = map_.node(line.target)
                shown.add(server.id)
                note = "only when the others fail" if line.standby else ", ".join(server.notes)
                yield Entry(server.title, line.mark, note, line.share)
    for node in map_.column(AGENTS):
        if not map_.lines_from(node.id):
            yield Entry(f"{node.title}: {', '.join(node.notes)}")
    rest = [n for n in map_.column(SERVERS) if n.id not in shown]
    if rest:
        yield Entry("Puppet Servers that no agent calls")
        yield from (Entry(n.title, n.mark, ", ".join(n.notes)) for n in rest)
    if services := map_.column(SERVICES):
        yield Entry("Behind them")
        yield from (Entry(n.title, n.mark, ", ".join(n.notes)) for n in services)


# --- putting it together --------------------------------------------------------------------------


class _Draft:
    """Nodes and lines in the order they came, each once."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._lines: dict[tuple[str, str, str, Mark], Line] = {}

    def node(self, node: Node) -> Node:
        return self._nodes.setdefault(node.id, node)

    def name(self, pool: Pool, mark: Mark) -> None:
        """The name of a pool; one that leads elsewhere today says what it becomes."""
        node = Node(f"name/{pool.name}", NAMES, pool.name, (pool.how,), mark)
        if was := self._nodes.get(node.id):
            node = replace(was, notes=(f"to be: {pool.how}",))
        self._nodes[node.id] = node

    def line(self, line: Line) -> None:
        self._lines.setdefault((line.source, line.target, line.what, line.mark), line)

    def column(self, number: int) -> tuple[Node, ...]:
        return tuple(n for n in self._nodes.values() if n.column == number)

    def agents(self, hosts: Iterable[Host], *notes: str) -> tuple[Node, ...]:
        """A node for these agents; none for nobody."""
        alike = tuple(hosts)
        if not alike:
            return ()
        names = tuple(host.name for host in alike)
        groups = sorted({h.group for h in alike if h.group})
        said = (*notes, *([", ".join(groups)] if groups else []))
        id_ = f"agents/{names[0]}"
        return (self.node(Node(id_, AGENTS, _named(names), said, hosts=names)),)

    def map(self, title: str) -> EstateMap:
        return EstateMap(title, tuple(self._nodes.values()), tuple(self._lines.values()))


def _named(hosts: Sequence[str]) -> str:
    return hosts[0] if len(hosts) == 1 else f"{len(hosts):,} agents"


def _found_agents(
    draft: _Draft,
    site: Site,
    state: RunState,
    agents: Iterable[Host],
    gone: Collection[str] = (),
) -> tuple[Node, ...]:
    """The agents by what they called when first surveyed, and the servers behind it, but `gone`."""
    alike: dict[tuple[str, str], list[Host]] = {}
    silent: list[Host] = []
    for host in agents:
        if state.found and host.name not in state.found:
            silent.append(host)
        elif (estate := state.found.get(host.name)) is not None:
            alike.setdefault((estate.get("calls", ""), estate.get("served_by", "")), []).append(
                host
            )
    nodes: list[Node] = []
    for (calls, served_by), hosts in alike.items():
        nodes += draft.agents(hosts, *([] if calls else ["without Puppet"]))
        if not calls:
            continue
        unread = () if served_by else ("where it leads was not read",)
        name = draft.node(Node(f"name/{calls}", NAMES, calls, unread))
        draft.line(Line(nodes[-1].id, name.id))
        for server in served_by.split():
            if server in gone:
                continue
            notes = () if server in site else ("not in the inventory",)
            known = Node(f"server/{server}", SERVERS, server, notes)
            draft.node(_server(site, server, state, AS_FOUND) if server in site else known)
            draft.line(Line(name.id, known.id))
    nodes += draft.agents(silent, "not surveyed")
    return tuple(nodes)


def _server(site: Site, name: str, state: RunState, mark: Mark) -> Node:
    version = state.found.get(name, {}).get("server", "")
    notes = [f"Puppet Server {version}"] if version else []
    if name in site and "balancer" in site.host(name).roles:
        notes.append("load balancer")
    notes += ["left out"] if name in state.excluded else []
    return Node(f"server/{name}", SERVERS, name, tuple(notes), mark)


def _services(draft: _Draft, site: Site, state: RunState) -> None:
    """The CA and PuppetDB, and who asks them."""
    signs = _mark(state, CA_STEP)
    notes = (f"asked as {site.ca.name}", f"on {site.ca.host}")
    draft.node(Node("ca", SERVICES, "Certificate authority", notes, signs))
    for node in draft.column(AGENTS):
        draft.line(Line(node.id, "ca", CERTIFICATES, mark=signs))
    about, stores = site.sections.get("puppetdb", {}), _mark(state, PUPPETDB_STEP)
    for name in about.get("hosts", ()):
        was = "puppetdb" in state.found.get(name, {}) or about.get("existing")
        mark = AS_FOUND if was else stores
        draft.node(Node(f"puppetdb/{name}", SERVICES, "PuppetDB", (f"on {name}",), mark))
        for server in draft.column(SERVERS):
            draft.line(Line(server.id, f"puppetdb/{name}", FACTS, mark=stores))


def _mark(state: RunState, step_id: str) -> Mark:
    step = state.steps.get(step_id)
    if step and step.status is Status.OK:
        return MADE
    return UNDER_WAY if step and step.actions else TO_COME
