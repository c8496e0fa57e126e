"""The last stages of the step `puppetdb`: a real run through every server, and a resource that goes
from one node to another through different servers.

What was proved is recorded where it was proved, so that a second run finds nothing to do until a
certificate, PuppetDB, or where reports go is another.
"""

from __future__ import annotations

from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Facts,
    Later,
    Nothing,
    Planned,
    Read,
    Restore,
    Script,
    Site,
    Stage,
    Verdict,
    WriteFile,
)

from . import compiler_start, reads, trial
from .compiler import port, ready
from .compiler_start import log_folder
from .fields import NONE
from .layout import Seen, ca_host, joined, servers
from .puppetdb_site import about, concerns, processors, stores, urls
from .shellwords import assignments


def target(site: Site) -> str:
    """Where everything goes, in one word: what a proof is good for."""
    url = site.sections.get("reports", {}).get("url", "")
    own = about(site).get("database", {})
    database = f"{own['host']}:{own['port']}/{own['name']}" if own else ""
    return "|".join((*urls(site), database, *processors(site), url))


# --- a run through every server -----------------------------------------------------------------


def stored(site: Site, facts: Facts, seen: Seen) -> bool:
    """Whether the record is of this server's certificate and of where everything goes now."""
    return compiler_start.proved(site, facts, seen, "stored", seen) and seen.proofs.get(
        "stored", NONE
    ).one("target") == target(site)


def run(site: Site, facts: Facts) -> Planned:
    planned: list[Action | Later] = []
    for seen in joined(site, facts) if concerns(site) else ():
        if stored(site, facts, seen) or ("disabled" in seen.agent and ready(seen)):
            continue
        if not ready(seen) or not seen.hostcert:
            what = "a run through it, found again in PuppetDB"
            planned.append(Later(what, "its Puppet Server", seen.name))
            continue
        given = assignments(
            puppet=seen.puppet,
            ruby=seen.ruby,
            lockfile=seen.setting("agent_catalog_run_lockfile"),
            logdir=log_folder(seen),
            member=seen.certname,
            port=str(port(seen)),
            ca_name=site.ca.name,
            ca_port=str(seen.port),
            issuer=ca_host(site, facts).ca_fingerprint,
            serial=seen.hostcert.serial,
            cert=seen.setting("hostcert"),
            key=seen.setting("hostprivkey"),
            bundle=seen.setting("localcacert"),
            urls=" ".join(urls(site)),
            reports="yes" if "puppetdb" in processors(site) else "no",
            target=target(site),
        )
        text = "".join(map(reads.script, ("client.sh", "agent_run.sh", "stored.sh")))
        what = "its facts, catalog and report are in PuppetDB" if urls(site) else "its report"
        planned.append(
            Action(
                id=f"run/{seen.name}/stored",
                host=seen.name,
                title=f"one no-op run of its own agent through {seen.name}: {what}",
                do=Script(given + text, timeout=1800.0),
                undo=Compensate(trial.FORGET.format("stored")),
            )
        )
    return tuple(planned)


# --- the exchange -------------------------------------------------------------------------------


def around(site: Site, facts: Facts) -> str:
    """The servers in their order, and PuppetDB: what an exchange is good for."""
    names = " ".join(f"{s.name}:{port(s)}" for s in joined(site, facts))
    return f"{names}|{' '.join(urls(site))}"


def exchanged(site: Site, facts: Facts) -> bool:
    ca = ca_host(site, facts)
    record = ca.proofs.get("exchange", NONE)
    held = trial.proved(site, facts, ca, "exchange")
    return held and record.one("target") == around(site, facts)


def _environment(site: Site) -> str:
    return reads.exchange_name(site).replace("-", "_")


MANIFEST = """\
# Made by pmrunbook for a proof, and taken away by it: one node exports, another one collects.
@@notify { "pmrunbook ${facts['pmrunbook_token']}": tag => 'pmrunbook' }
Notify <<| tag == 'pmrunbook' |>>
"""


def prepare(site: Site, facts: Facts) -> Planned:
    """An environment of our own on every server: nothing that a site exports is touched."""
    if not about(site) or exchanged(site, facts):
        return ()
    planned: list[Action | Later] = []
    for seen in joined(site, facts):
        path = seen.exchange.one("path")
        if not ready(seen) or not path:
            what = "an environment for the exchange of resources"
            planned.append(Later(what, "its Puppet Server", seen.name))
            continue
        if "manifest" in seen.exchange:
            continue
        folder = f"{path}/{_environment(site)}"
        remove = _remove(folder)
        planned.append(
            Action(
                id=f"exchange-prepare/{seen.name}/environment",
                host=seen.name,
                title=f"a throw-away environment, {_environment(site)}, with one manifest",
                do=WriteFile(f"{folder}/manifests/site.pp", MANIFEST.encode()),
                undo=Restore(),
                diff="".join(f"+{line}\n" for line in MANIFEST.splitlines()),
                opens=Debt(
                    f"exchange-environment/{seen.name}",
                    f"the environment {_environment(site)} on {seen.name}",
                    remove,
                ),
            )
        )
    return tuple(planned)


def _remove(folder: str) -> str:
    return f'{assignments(folder=folder)}rm -rf -- "$folder"\n'


def _script(site: Site, facts: Facts) -> str:
    """The functions of the exchange, at the CA: it makes both nodes and takes them back."""
    ca = ca_host(site, facts)
    given = assignments(
        puppet=ca.puppet,
        puppetserver=ca.puppetserver,
        ruby=ca.ruby,
        legacy="yes" if ca.version < (6,) else "no",
        base=reads.exchange_name(site),
        environment=_environment(site),
        members=" ".join(f"{s.name}:{port(s)}" for s in joined(site, facts)),
        ssldir=ca.setting("ssldir", "server"),
        signeddir=ca.setting("signeddir", "server"),
        csrdir=ca.setting("csrdir", "server"),
        cacrl=ca.setting("cacrl", "server"),
        localcacert=ca.setting("localcacert", "server"),
        cert=ca.setting("hostcert", "server"),
        key=ca.setting("hostprivkey", "server"),
        bundle=ca.setting("localcacert", "server"),
        issuer=ca.ca_fingerprint,
        ca_name=site.ca.name,
        urls=" ".join(urls(site)),
        target=around(site, facts),
        drill="",
        dir="/var/lib/pmrunbook/exchange",
    )
    return given + "".join(map(reads.script, ("client.sh", "drill.sh", "exchange.sh")))


def exchange(site: Site, facts: Facts) -> Planned:
    ca = ca_host(site, facts)
    if not about(site) or exchanged(site, facts) or not ca.ca_fingerprint:
        return ()
    members = joined(site, facts)
    if not all(ready(s) for s in members):
        what = "a resource exported through one server and collected through another"
        return (Later(what, "its Puppet Server", ca.name),)
    end = _script(site, facts) + "end_exchange\n"
    return (
        Action(
            id=f"exchange/{ca.name}/exchange",
            host=ca.name,
            title=_around(members),
            do=Script(_script(site, facts) + "exchange\n", timeout=900.0),
            undo=Compensate(trial.FORGET.format("exchange")),
            opens=Debt("exchange-nodes", "the certificates of the exchange's nodes", end),
        ),
    )


def _around(members: tuple[Seen, ...]) -> str:
    if len(members) == 1:
        return f"one node exports a resource, another collects it, both through {members[0].name}"
    names = " to ".join(s.name for s in (*members, members[0]))
    return f"one node exports a resource, another collects it through the next server: {names}"


def end(site: Site, facts: Facts) -> Planned:
    """Nothing of it is left: neither certificates, nor nodes in PuppetDB, nor environments."""
    if not about(site):
        return ()
    ca = ca_host(site, facts)
    due = bool(ca.ca_fingerprint) and not exchanged(site, facts)
    planned: list[Action | Later] = []
    if due or "certificates" in ca.exchange:
        planned.append(
            Action(
                id=f"exchange-end/{ca.name}/nodes",
                host=ca.name,
                title="take both nodes back: certificates at the CA, and their data in PuppetDB",
                do=Script(_script(site, facts) + "end_exchange\n", timeout=300.0),
                undo=Nothing(),
                repays="exchange-nodes",
            )
        )
    for seen in joined(site, facts):
        path = seen.exchange.one("path")
        if path and (due or "environment" in seen.exchange):
            planned.append(
                Action(
                    id=f"exchange-end/{seen.name}/environment",
                    host=seen.name,
                    title=f"take the environment {_environment(site)} away",
                    do=Script(_remove(f"{path}/{_environment(site)}"), timeout=60.0),
                    undo=Nothing(),
                    repays=f"exchange-environment/{seen.name}",
                )
            )
    return tuple(planned)


# --- proof --------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    """A run came through every server; resources go around; strangers are refused."""
    if not concerns(site):
        return ()
    found = [_stored(site, host.name) for host in servers(site)]
    if about(site):
        found += [_exchanged(site), _nothing_left(site), *_refused(site, facts)]
    return tuple(found)


def _stored(site: Site, name: str) -> Check:
    def judge(facts: Facts) -> Verdict:
        seen = Seen(name, facts)
        if "disabled" in seen.agent:
            return Verdict(
                None, "its agent is disabled, so nothing was tried", "puppet agent --enable"
            )
        done = stored(site, facts, seen)
        said = "facts, catalog, report" if urls(site) else "its report was delivered"
        said = f"seen: {said}" if done else "not tried with what it has now"
        return Verdict(done, said, "pmrunbook --step puppetdb")

    ca = site.ca.host
    return Check(
        f"stored/{name}",
        f"what runs through {name} arrives",
        judge,
        (
            (name, reads.SOFTWARE),
            (name, reads.AGENT),
            (name, reads.CERTIFICATES),
            (name, reads.proofs(site)),
            (ca, reads.CERTIFICATES),
        ),
    )


def _at_all(site: Site) -> tuple[tuple[str, Read], ...]:
    ca = site.ca.host
    asked = [(h.name, r) for h in servers(site) for r in (reads.SOFTWARE, reads.exchange(site))]
    files = [(h.name, reads.SERVER_FILES) for h in servers(site)]
    return (*asked, *files, (ca, reads.CERTIFICATES), (ca, reads.proofs(site)))


def _exchanged(site: Site) -> Check:
    def judge(facts: Facts) -> Verdict:
        names = [s.name for s in joined(site, facts)]
        if exchanged(site, facts):
            return Verdict(True, f"seen through {', '.join(names)}")
        return Verdict(False, "not tried with these servers", "pmrunbook --step puppetdb")

    title = "a resource exported through one server is collected through another"
    return Check("exchange/around", title, judge, _at_all(site))


def _nothing_left(site: Site) -> Check:
    def judge(facts: Facts) -> Verdict:
        left = [
            f"{what} on {s.name}"
            for s in joined(site, facts)
            for what in ("environment", "certificates")
            if what in s.exchange
        ]
        return Verdict(not left, ", ".join(left) or "nothing", "pmrunbook debts --repay")

    return Check("exchange/left", "nothing is left of the exchange", judge, _at_all(site))


def _refused(site: Site, facts: Facts) -> tuple[Check, ...]:
    """A certificate of the site's CA that is in no list: any agent's."""
    asking = compiler_start.client(site, facts)
    listed = [s for s in stores(site, facts) if s.list_setting[2]]
    if asking is None or not listed or "server" in site.host(asking.name).roles:
        return ()

    def judge(facts: Facts) -> Verdict:
        found = Seen(asking.name, facts).terminus
        answers = {u: found.get(f"ask {u}", NONE).one("status") for u in urls(site)}
        if open_ := [u for u, status in answers.items() if status == "200"]:
            return Verdict(False, f"{', '.join(open_)} answers it", "pmrunbook --step puppetdb")
        refused = all(status == "403" for status in answers.values())
        said = ", ".join(f"{u}: {status or 'no answer'}" for u, status in answers.items())
        return Verdict(True if refused else None, said)

    return (
        Check(
            "refused/agent",
            f"PuppetDB refuses {asking.name}, which is no server",
            judge,
            ((asking.name, reads.SOFTWARE), (asking.name, reads.terminus(urls(site)))),
        ),
    )


STAGES = (
    Stage("run", "A run through every server arrives", run, rollout=True, singly=True),
    Stage("exchange-prepare", "An environment for the exchange", prepare),
    Stage("exchange", "A resource goes from node to node", exchange),
    Stage("exchange-end", "Nothing is left of the exchange", end, always=True),
)
