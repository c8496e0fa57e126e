"""Stages `code`, `start` and `run` of the compilers step, and what a client finds then."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from runbook.model import (
    Action,
    Check,
    Compensate,
    Facts,
    Later,
    Nothing,
    Planned,
    Restore,
    Script,
    Site,
    Stage,
    Verdict,
    WriteFile,
)
from runbook.symbols import count

from . import reads, trial
from .ca_certificate import serving
from .compiler import compilers, enrolment, fronted, port, ready, wanted_names
from .fields import NONE
from .layout import Seen, ca_host, unknown
from .shellwords import assignments

OVERDUE = 2 * 3600  # seconds after which the CA's newest CRL has to be everywhere
START = 60.0  # seconds a start takes on two processors
RELOAD = 12.0  # seconds a reload of Puppet Server refuses connections (measured: 6 to 11)
AGAIN = "if systemctl is-active --quiet puppetserver; then systemctl reload puppetserver; fi"
"""How a running Puppet Server takes its files back."""
READ = ("ca.cfg", "webserver.conf", "puppetserver.conf", "auth.conf", "defaults")
"""The files it reads beside puppet.conf and its certificate."""
SEED = "/var/lib/pmrunbook/seed"


# --- a first copy of the code -----------------------------------------------------------------


def environments(seen: Seen) -> dict[str, str]:
    """Environment -> digest of its code."""
    pairs = (line.partition(" ") for line in seen.code.all("environment"))
    return {name: digest for name, _, digest in pairs}


def archive(ca: Seen) -> bytes | None:
    """All code of the CA's server; None where it is too much to travel, or elsewhere."""
    try:
        return base64.b64decode(ca.archive.one("tar"), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def code(site: Site, facts: Facts) -> Planned:
    """A compile master without any code gets the CA server's: keeping it so is another step's."""
    ca = ca_host(site, facts)
    planned: list[Action | Later] = []
    content = archive(ca)
    what = f"environments {', '.join(sorted(environments(ca)))}"
    for seen in compilers(site, facts):
        if seen.enterprise or content is None:
            continue
        if not ready(seen):
            planned.append(
                Later(f"where the code goes: a copy of {ca.name}'s {what}", "install", seen.name)
            )
            continue
        if environments(seen):
            continue  # its own: compared by a check, never overwritten
        codedir = seen.code.one("codedir")
        if not codedir or not facts.get(seen.name, "code").ok:
            continue  # not read: the check says so
        seed = f"{SEED}-{hashlib.sha256(content).hexdigest()[:12]}.tar.gz"
        given = assignments(codedir=codedir, seed=seed) + reads.script("seed.sh")
        if seed not in seen.code.all("seed"):
            planned.append(
                Action(
                    id=f"code/{seen.name}/copy",
                    host=seen.name,
                    title=f"bring a copy of {ca.name}'s code here "
                    f"({len(content)} bytes, compressed)",
                    do=WriteFile(seed, content, mode="0600"),
                    undo=Restore(),
                )
            )
        planned.append(
            Action(
                id=f"code/{seen.name}/unpack",
                host=seen.name,
                title=f"unpack it into {codedir}: {what}",
                do=Script(given + "unpack\n", timeout=300.0),
                undo=Compensate(given + "take_back\n"),
                diff="".join(f"+{codedir}/environments/{e}\n" for e in sorted(environments(ca))),
            )
        )
    return tuple(planned)


def code_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return tuple(same_code(site, h.name) for h in site.having("compiler"))


def _differs(site: Site, said: str, remedy: str) -> Verdict:
    """Other code is a failure, unless the site has a strategy: a later step brings it then, and
    must not be held by what it is there for."""
    if site.sections.get("code"):
        return Verdict(True, f"{said}: the step code brings it")
    return Verdict(False, said, remedy)


def same_code(site: Site, name: str) -> Check:
    """No environment is missing: its agents would be given an empty catalog, or production's."""
    asked = ((name, reads.SOFTWARE), (name, reads.code(site)), (site.ca.host, reads.code(site)))

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        here, there = environments(Seen(name, facts)), environments(ca_host(site, facts))
        if not there:
            return Verdict(None, f"{site.ca.host} has no code to compare with")
        if missing := sorted(there.keys() - here.keys()):
            said = f"without {', '.join(missing)}"
            return _differs(site, said, "deploy the site's code there, then look again")
        other = sorted(e for e in there if there[e] != here[e])
        if other:
            said = f"differs in {', '.join(other)}"
            return _differs(site, said, "deploy the same code to both, then look again")
        return Verdict(True, f"{count(len(there), 'environment')} alike")

    return Check(
        f"code/{name}",
        f"{name} has the code that {site.ca.host} compiles",
        judge,
        asked,
    )


# --- start --------------------------------------------------------------------------------------


def log_folder(seen: Seen) -> str:
    vendor = seen.packaging == "vendor"
    return "/var/log/puppetlabs/puppetserver" if vendor else "/var/log/puppetserver"


def how(seen: Seen) -> str:
    """start | restart | reload: what it takes until the server runs with its files; or ''."""
    if seen.service("puppetserver").get("ActiveState") != "active":
        return "start"
    kinds = {line.partition(" ")[0] for line in seen.server_state.all("stale")}
    live = seen.endpoint(seen.certname).certificate.serial
    disk = seen.hostcert.serial if seen.hostcert else ""
    if "restart" in kinds:
        return "restart"
    return "reload" if "reload" in kinds or (live and live != disk) else ""


def start(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in compilers(site, facts):
        if seen.enterprise:
            continue
        if not ready(seen) or enrolment(site, facts, seen).why:
            after = "fetch" if ready(seen) else "install"
            planned.append(Later("starting Puppet Server, enabled at boot", after, seen.name))
            continue
        if "on" in seen.authority.all("service"):
            what = "the CA service switched off: without that the start would make a second CA"
            planned.append(Later(what, "configure", seen.name))
            continue
        planned += keep_fresh("start", seen)
        planned += _serve(seen)
    return tuple(planned)


def keep_fresh(stage: str, seen: Seen, what: str = "crl-timer") -> list[Action]:
    """The timer that fetches the CA's revocation list every hour runs."""
    timer = reads.CRL_TIMER
    if seen.server_state.one("timer") == "active enabled" or seen.version < (6, 5):
        return []
    return [
        Action(
            id=f"{stage}/{seen.name}/{what}",
            host=seen.name,
            title=f"start and enable {timer}.timer",
            do=Script(
                f"systemctl daemon-reload && systemctl enable --now {timer}.timer\n", timeout=120.0
            ),
            undo=Compensate(
                f"systemctl disable --now {timer}.timer 2>/dev/null; systemctl daemon-reload\n"
            ),
        )
    ]


def starting(seen: Seen) -> str:
    """The function that starts, restarts or reloads its Puppet Server, and waits for it."""
    own = (seen.setting("config"), seen.setting("hostcert"))
    given = assignments(
        logdir=log_folder(seen),
        front="haproxy" if fronted(seen) else "",
        files="\n".join((*(seen.server_file(label).path for label in READ), *own)),
    )
    said = reads.script("denials.sh") + reads.script("dated.sh")
    return serving(seen, port(seen)) + given + said + reads.script("start.sh")


def _serve(seen: Seen) -> list[Action]:
    kind = how(seen)
    enabled = seen.service("puppetserver").get("UnitFileState") == "enabled"
    if not kind and enabled:
        return []
    script = starting(seen)
    enable = "" if enabled else "systemctl enable --quiet puppetserver || exit 1\n"
    words = {
        "start": "start Puppet Server, wait until it serves",
        "restart": "restart Puppet Server: its start-up files changed",
        "reload": "reload Puppet Server: its settings or its certificate changed",
        "": "enable Puppet Server at boot",
    }
    back = "systemctl stop puppetserver\n" if kind == "start" else ""
    back += "" if enabled else "systemctl disable --quiet puppetserver\n"
    return [
        Action(
            id=f"start/{seen.name}/{kind or 'enable'}",
            host=seen.name,
            title=words[kind],
            do=Script(script + enable + (f"serve {kind}\n" if kind else ""), timeout=900.0),
            undo=Compensate(back) if back else Nothing(),
            outage={"restart": START, "reload": RELOAD}.get(kind, 0.0),
        )
    ]


def reload(stage: str, seen: Seen) -> Action:
    """Have Puppet Server read its files, and wait until it serves."""
    script = starting(seen)
    running = seen.service("puppetserver").get("ActiveState") == "active"
    kind = "reload" if running else "start"
    return Action(
        id=f"{stage}/{seen.name}/reload",
        host=seen.name,
        title=f"{kind} Puppet Server, wait until it serves",
        do=Script(f"{script}serve {kind}\n", timeout=900.0),
        undo=Nothing(),
        outage=RELOAD if running else 0.0,
    )


# --- proof: from the outside ------------------------------------------------------------------


def candidates(site: Site) -> tuple[str, ...]:
    """The hosts whose agent may ask as a client of the site: three agents, then the CA's own."""
    agents = [h.name for h in site.having("agent")][:3]
    return tuple(dict.fromkeys((*agents, site.ca.host)))


def client(site: Site, facts: Facts) -> Seen | None:
    """An enrolled agent that asks as every client would; the CA's host where there is none."""
    able = [
        s
        for name in candidates(site)
        if (s := Seen(name, facts)).reachable and s.certname and s.ruby and s.enrolled
    ]
    free = [s for s in able if "disabled" not in s.agent]
    return next(iter(free or able), None)


def members(site: Site, facts: Facts) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Every compile master with its port and the names it has to answer to."""
    return {
        h.name: (port(Seen(h.name, facts)), wanted_names(site, facts, h.name))
        for h in site.having("compiler")
    }


def start_checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    asking = client(site, facts)
    found: list[Check] = []
    for host in site.having("compiler"):
        found.append(fresh_crl(site, host.name))
        if asking is not None:
            found += (
                serves(site, facts, asking, host.name),
                compiles(site, facts, asking, host.name),
            )
    return tuple(found)


def serves(site: Site, facts: Facts, asking: Seen, name: str) -> Check:
    """Services run, every name is answered with a trusted certificate, no CA is served."""
    return serves_as(asking, members(site, facts), name, "pmrunbook --step compilers")


def serves_as(
    asking: Seen, everybody: Mapping[str, tuple[int, tuple[str, ...]]], name: str, mends: str
) -> Check:
    """The same of any host that answers as a compile master does; `mends` is what to type."""
    names = everybody[name][1]
    ladder = (asking.name, reads.ladder(everybody))

    def judge(facts: Facts) -> Verdict:
        # The rest can be told without reading the compile master itself.
        if silent := unknown(facts, ladder):
            return silent
        at = Seen(asking.name, facts).ladder.get(name, NONE)
        log = f"journalctl -u puppetserver -n 50 --no-pager, on {name}"
        if at.one("error") or not at.one("status"):
            return Verdict(False, at.one("error") or "not asked", log)
        down = [s for s in at.all("service") if not s.endswith(" running")]
        if at.one("status") != "200" or down:
            return Verdict(False, ", ".join(down) or f"status {at.one('status')}", log)
        if refused := at.all("refused"):
            return Verdict(False, "; ".join(refused), mends)
        if unasked := sorted(set(names) - set(at.all("answers"))):
            return Verdict(False, f"not answered as {', '.join(unasked)}")
        if "200" in (at.one("ca_status"), at.one("ca_served")):
            return Verdict(False, "it serves a CA of its own", mends)
        disk = Seen(name, facts).hostcert
        if disk and at.one("serial") != disk.serial:
            return Verdict(False, "it presents another certificate than the one on disk", "reload")
        if not at.all("environment"):
            return Verdict(False, "it has no environment: every catalog would be empty")
        said = f"{count(len(at.all('service')), 'service')}, {count(len(names), 'name')}"
        said += f", {count(len(at.all('environment')), 'environment')}"
        return Verdict(True, f"{said}, no CA")

    return Check(
        f"serves/{name}",
        f"{name} serves {asking.name}, by every name",
        judge,
        (ladder, (name, reads.CERTIFICATES)),
        patience=30.0,
        every=5.0,
    )


def compiles(site: Site, facts: Facts, asking: Seen, name: str) -> Check:
    """The same node, the same facts: the same catalog as the CA's server compiles."""
    servers = ((site.ca.host, asking.port), *((n, p) for n, (p, _) in members(site, facts).items()))

    def judge(facts: Facts) -> Verdict:
        found = Seen(asking.name, facts).catalogs
        ours, theirs = found.get(name, NONE), found.get(site.ca.host, NONE)
        if said := found.get("", NONE).one("error") or theirs.one("error"):
            return Verdict(None, f"no catalog from {site.ca.host} to compare: {said}")
        if said := ours.one("error"):
            return Verdict(False, said, f"journalctl -u puppetserver -n 50 --no-pager, on {name}")
        if not ours.one("digest"):
            return Verdict(None, "not asked")
        if differs := ours.all("differs"):
            return _differs(site, f"differs in {', '.join(differs)}", "is the code the same?")
        same = ours.one("digest") == theirs.one("digest")
        said = f"{ours.one('resources')} resources in {ours.one('environment')}"
        return Verdict(same, said)

    return Check(
        f"compiles/{name}",
        f"{name} compiles {asking.name}'s catalog as {site.ca.host} does",
        judge,
        (
            (asking.name, reads.SOFTWARE),
            (asking.name, reads.catalogs(servers)),
            (name, reads.SERVER_FILES),
        ),
    )


def fresh_crl(site: Site, name: str) -> Check:
    """The CRL on the host is the CA's newest, and something fetches the next one."""
    asked = (
        (name, reads.SOFTWARE),
        (name, reads.CERTIFICATES),
        (name, reads.SERVER_FILES),
        (site.ca.host, reads.CERTIFICATES),
    )

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen, ca = Seen(name, facts), ca_host(site, facts)
        here = {c.issuer: c for c in seen.crls("hostcrl")}
        there = {c.issuer: c for c in ca.crls("cacrl")}
        remedy = f"systemctl start {reads.CRL_TIMER}.service"
        if not here or not there:
            return Verdict(False if there else None, "no CRL is there", remedy)
        if foreign := sorted(here.keys() - there.keys()):
            return Verdict(False, f"of another CA: {', '.join(foreign)}", remedy)
        old = [i for i, crl in there.items() if i not in here or here[i].number != crl.number]
        overdue = any(
            i not in here or ca.epoch - there[i].last_update > OVERDUE or not ca.epoch for i in old
        )
        if overdue:
            numbers = ", ".join(f"{here[i].number if i in here else 'none'}" for i in old)
            wanted = ", ".join(there[i].number for i in old)
            return Verdict(False, f"number {numbers}, the CA has {wanted}", remedy)
        if seen.version >= (6, 5) and seen.server_state.one("timer") != "active enabled":
            said = f"{reads.CRL_TIMER}.timer is not active"
            return Verdict(False, said, f"systemctl enable --now {reads.CRL_TIMER}.timer")
        due = ", a newer one is due within the hour" if old else ""
        numbers = " and, of the CA above, ".join(c.number for c in here.values())
        return Verdict(True, f"number {numbers}{due}")

    return Check(
        f"crl/{name}",
        f"{name}'s revocation list is the CA's newest, and is kept fresh",
        judge,
        asked,
        patience=10.0,
        every=3.0,
    )


# --- an agent's own run -----------------------------------------------------------------------


def proved(site: Site, facts: Facts, where: Seen, what: str, member: Seen) -> bool:
    """Whether the record is of this CA, this name, and the certificate the member has now."""
    record = where.proofs.get(what, NONE)
    return trial.proved(site, facts, where, what) and record.one("serial") == serial(member)


def serial(member: Seen) -> str:
    """Of the certificate a server has now."""
    return member.hostcert.serial if member.hostcert else ""


def record(what: str, member: Seen) -> str:
    """Where it is written that this was proved of a server.

    Who verifies agents there is part of it: what was proved of Puppet Server holds again when a
    proxy before it is gone.
    """
    return f"{what}-{member.name}{'@haproxy' * fronted(member)}"


def run_against(stage: str, site: Site, facts: Facts, asking: Seen, member: Seen) -> Action:
    """One no-op run of an agent against a server, or a proxy, by its own name."""
    given = assignments(
        puppet=asking.puppet,
        lockfile=asking.setting("agent_catalog_run_lockfile"),
        member=member.name,
        port=str(port(member)),
        ca_name=site.ca.name,
        ca_port=str(asking.port),
        issuer=ca_host(site, facts).ca_fingerprint,
        serial=serial(member),
        record=record("run", member),
    )
    return Action(
        id=f"{stage}/{asking.name}/{member.name}",
        host=asking.name,
        title=f"one run of its agent against {member.name}, in no-op mode",
        do=Script(
            given + reads.script("agent_run.sh") + reads.script("run_against.sh"),
            timeout=1800.0,
        ),
        undo=Compensate(trial.FORGET.format(record("run", member))),
        about=member.name,
    )


def run(site: Site, facts: Facts) -> Planned:
    """One no-op run of a real agent against each compile master, by its name."""
    asking = client(site, facts)
    planned: list[Action | Later] = []
    for seen in compilers(site, facts):
        if asking is None or seen.enterprise:
            continue
        done = proved(site, facts, asking, record("run", seen), seen)
        if done or "disabled" in asking.agent:
            continue
        if not ready(seen) or enrolment(site, facts, seen).why or not seen.hostcert:
            title = f"a no-op run of {asking.name}'s agent against {seen.name}"
            planned.append(Later(title, "start", seen.name))
            continue
        planned.append(run_against("run", site, facts, asking, seen))
    return tuple(planned)


CODE = Stage("code", "A first copy of the code, where there is none", code, code_checks, True)
START_STAGE = Stage("start", "Puppet Server starts, and is asked", start, start_checks, True)
RUN = Stage("run", "A real agent runs against each, in no-op mode", run)
