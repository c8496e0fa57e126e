"""The certificate of a compile master: asked for on the host, signed only by its fingerprint.

Stages `clear` (what is in the way, on the host), `renew` (and at the CA), `window` and `close`
(alternative names may be signed), `request`, `sign`, `fetch`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runbook import edit
from runbook.model import (
    Action,
    Check,
    Compensate,
    Debt,
    Facts,
    Finding,
    Later,
    Nothing,
    Planned,
    Read,
    Restore,
    Risk,
    Script,
    Site,
    Stage,
    Verdict,
)
from runbook.shell import quote

from . import reads
from .ca_certificate import serving
from .catalogue import found
from .compiler import compilers, enrolment, ready, wanted_names
from .layout import Seen, ca_host, unknown
from .shellwords import assignments

RELOAD = 12.0  # seconds a reload of Puppet Server refuses connections (measured: 6 to 11)
ALLOW = "certificate-authority.allow-subject-alt-names"


@dataclass(frozen=True, slots=True)
class Applicants:
    """The hosts a step enrols, and whether Puppet is there on one of them."""

    hosts: Callable[[Site, Facts], tuple[Seen, ...]]
    ready: Callable[[Seen], bool]


COMPILERS = Applicants(compilers, ready)


# --- what is in the way -----------------------------------------------------------------------


def rogue(site: Site, seen: Seen) -> bool:
    """This host once made a CA of its own: its key, or a CRL of that CA, is still here."""
    if seen.name == site.ca.host:
        return False
    crl = next(iter(seen.crls("hostcrl")), None)
    subjects = {c.subject for c in seen.certificates("localcacert")}
    return "ca_key" in seen.authority or bool(crl and subjects and crl.issuer not in subjects)


def clear(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Planned:
    actions: list[Action | Later] = []
    ca = ca_host(site, facts)
    for seen in of.hosts(site, facts):
        # A compile master to be that is an agent already: its Puppet Server comes first.
        becomes = "compiler" in site.host(seen.name).roles and not seen.puppetserver
        if seen.hostcert and becomes and not seen.enterprise:
            missing = [
                n for n in wanted_names(site, facts, seen.name) if not seen.hostcert.carries(n)
            ]
            if missing:
                what = f"taking its certificate away and revoking it, for {' and '.join(missing)}"
                actions.append(Later(what, "install", seen.name))
            continue
        if not of.ready(seen) or not ca.ca_fingerprint:
            continue
        if rogue(site, seen):
            actions.append(_aside(seen, ca))
        state = enrolment(site, facts, seen)
        if state.stale:
            actions.append(_forget(seen, ca, state.why))
    return tuple(actions)


def _aside(seen: Seen, ca: Seen) -> Action:
    cadir, crl = seen.setting("cadir", "server"), seen.setting("hostcrl")
    link = f"{seen.setting('ssldir')}/ca"
    given = assignments(
        ruby=seen.ruby,
        puppet=seen.puppet,
        hostcert=seen.setting("hostcert"),
        cadir=cadir,
        crl=crl,
        link=link,
        issuer=ca.ca_fingerprint,
        certname=seen.certname,
    )
    script = given + reads.script("aside.sh")
    saves = (cadir, crl, link)
    return Action(
        id=f"clear/{seen.name}/rogue-ca",
        host=seen.name,
        title=f"take away the CA that {seen.name} made for itself, and its CRL",
        do=Script(script, saves=saves, timeout=300.0),
        undo=Restore(then="systemctl start puppetserver" if _running(seen) else ""),
        risk=Risk.DESTRUCTIVE,
        diff=f"-{cadir}\n-{crl}\n",
        outage=60.0,
    )


def _files(seen: Seen) -> dict[str, str]:
    ssldir, name = seen.setting("ssldir"), seen.name
    files = {s: seen.setting(s) for s in ("hostcert", "hostprivkey", "hostpubkey")}
    if seen.certname != name:  # settled by `configure`, which ran before
        files = {s: path.replace(seen.certname, name) for s, path in files.items()}
    return {**files, "ssldir": ssldir}


def _forget(seen: Seen, ca: Seen, why: str) -> Action:
    """The wrong certificate, its key and request go; the copies are in the action's backup."""
    files = _files(seen)
    paths = [files["hostcert"], files["hostprivkey"], files["hostpubkey"]]
    paths.append(f"{files['ssldir']}/certificate_requests/{seen.name}.pem")
    if seen.trusts and seen.trusts != ca.ca_fingerprint:
        paths += [seen.setting("localcacert"), seen.setting("hostcrl")]
    words = " ".join(map(quote, paths))
    return Action(
        id=f"clear/{seen.name}/certificate",
        host=seen.name,
        title=f"take away its certificate and key: {why or 'its request lacks names'}",
        do=Script(
            # A running server keeps what it has loaded, until `start` has it read the new one.
            f"rm -f -- {words}\n",
            saves=tuple(paths),
            removes=(files["ssldir"],),
            timeout=300.0,
        ),
        undo=Restore(then=_REREAD),
        risk=Risk.DESTRUCTIVE,
        diff="".join(f"-{p}\n" for p in paths),
    )


def _running(seen: Seen) -> bool:
    return seen.service("puppetserver").get("ActiveState") == "active"


_REREAD = "if systemctl is-active --quiet puppetserver; then systemctl reload puppetserver; fi"


def renew(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Planned:
    """What the CA has of a name that no longer is the host's: revoked, so that it can ask anew."""
    ca = ca_host(site, facts)
    actions = []
    for seen in of.hosts(site, facts):
        if not of.ready(seen) and not _bare(seen):
            continue
        state = enrolment(site, facts, seen)
        if not state.superseded:
            continue
        revoked = state.superseded == "certificate"
        what = f"clean the old {'certificate' if revoked else 'request'}"
        actions.append(
            Action(
                id=f"renew/{ca.name}/{seen.name}",
                host=ca.name,
                title=f"{what} of {seen.name}" + (": revoked for good" if revoked else ""),
                do=Script(at_the_ca(ca, seen.name) + "clean\n", timeout=180.0),
                undo=Nothing("what is revoked stays revoked" if revoked else ""),
                risk=Risk.DESTRUCTIVE if revoked else Risk.CHANGE,
                about=seen.name,
            )
        )
    return tuple(actions)


def _bare(seen: Seen) -> bool:
    return seen.reachable and not seen.unread and not seen.puppet


def at_the_ca(ca: Seen, name: str, expected: str = "", key: str = "") -> str:
    """The functions `sign` (only the expected request, of that key) and `clean` at the CA."""
    given = assignments(
        puppetserver=ca.puppetserver,
        puppet=ca.puppet,
        ruby=ca.ruby,
        legacy="yes" if ca.version < (6,) else "no",
        certname=name,
        expected=expected,
        key=key,
        csrdir=ca.setting("csrdir", "server"),
        signeddir=ca.setting("signeddir", "server"),
    )
    return given + reads.script("sign.sh")


# --- the window -------------------------------------------------------------------------------


def waiting(site: Site, facts: Facts, of: Applicants = COMPILERS) -> tuple[Seen, ...]:
    """The hosts whose certificate the CA has yet to sign."""
    found = []
    for seen in of.hosts(site, facts):
        state = enrolment(site, facts, seen)
        if not seen.enterprise and state.why and (state.superseded or not state.signed):
            found.append(seen)
    return tuple(found)


def asked_for(site: Site, facts: Facts, seen: Seen, of: Applicants = COMPILERS) -> bool:
    """The host's own request is there to be signed."""
    state = enrolment(site, facts, seen)
    return of.ready(seen) and bool(state.request) and not state.stale and not state.superseded


def needs_window(site: Site, facts: Facts, of: Applicants = COMPILERS) -> bool:
    """Further names are to be signed, and the CA does not sign any (5.3.6 on)."""
    ca = ca_host(site, facts)
    further = any(len(wanted_names(site, facts, s.name)) > 1 for s in waiting(site, facts, of))
    legacy = ca.version < (6,)  # `puppet cert sign` has a flag of its own
    return further and not legacy and "alt_names_allowed" not in ca.authority


def findings(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Iterator[Finding]:
    """What is in the way of the window, at the CA."""
    ca = ca_host(site, facts)
    signs = ca.authority.all("autosign")
    wanted = {f"name {s.name}" for s in waiting(site, facts, of)}
    open_to_many = [
        x for x in signs if x == "true" or "*" in x or x.startswith("program ") or x in wanted
    ]
    if open_to_many and needs_window(site, facts, of):
        said = f"autosign {', '.join(open_to_many)}"
        yield found("autosign-in-window", ca.name, said, puppet=ca.puppet)
    if needs_window(site, facts, of) and "window" not in ca.requests:
        file = ca.server_file("ca.conf")
        try:
            edit.hocon_set(file.content or b"", ALLOW, "true")
            said = "" if file.state == "file" else f"{file.path or 'ca.conf'} is {file.state}"
        except edit.EditError as error:
            said = f"{file.path}: {error}"
        if said and facts.get(ca.name, "server-files").ok:
            yield found("ca-conf-unreadable", ca.name, said)


def ca_conf(ca: Seen) -> str:
    return f"{ca.system.one('server_confdir')}/conf.d/ca.conf"


def _close_script(ca: Seen) -> str:
    return serving(ca) + assignments(config=ca_conf(ca)) + reads.script("window.sh")


def window(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Planned:
    ca = ca_host(site, facts)
    if not needs_window(site, facts, of) or "window" in ca.requests:
        return ()
    file = ca.server_file("ca.conf")
    try:
        opened = edit.hocon_set(file.content or b"", ALLOW, "true")
    except edit.EditError:
        return ()  # a blocker of the step
    if file.state != "file":
        return ()
    # Known, and asked about, together with the signing: no question waits while it is open. So it
    # says for whom it is; who is left out, or not asked for, holds up nobody else's.
    hosts = waiting(site, facts, of)
    known = [s.name for s in hosts if asked_for(site, facts, s, of)]
    what = "that the CA may sign alternative names, for these requests; one reload"
    later = [Later(what, "request", s.name) for s in hosts if s.name not in known]
    if not known:
        return tuple(later)
    given = assignments(before=file.sha256, content=base64.b64encode(opened).decode())
    close = _close_script(ca) + "close_window\n"
    return (
        *later,
        Action(
            id=f"window/{ca.name}/open",
            host=ca.name,
            title=f"let the CA sign alternative names, for {', '.join(known)}; one reload",
            do=Script(given + _close_script(ca) + "open_window\n", timeout=600.0),
            undo=Compensate(close),
            diff=edit.diff(file.path, file.content, opened),
            outage=RELOAD,
            opens=Debt("alt-names-window", "the CA signs alternative names", close),
        ),
    )


def close(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Planned:
    ca = ca_host(site, facts)
    if not needs_window(site, facts, of) and "window" not in ca.requests:
        return ()
    return (
        Action(
            id=f"close/{ca.name}/close",
            host=ca.name,
            title="let the CA sign no alternative names any more: ca.conf as it was; one reload",
            do=Script(_close_script(ca) + "close_window\n", timeout=600.0),
            undo=Nothing(),
            outage=RELOAD,
            repays="alt-names-window",
        ),
    )


# --- request, sign, fetch ---------------------------------------------------------------------


def _own(site: Site, facts: Facts, seen: Seen) -> str:
    """The shell functions that work on the host's own certificate."""
    files = _files(seen)
    given = assignments(
        puppet=seen.puppet,
        ruby=seen.ruby,
        legacy="yes" if seen.version < (6, 4) else "no",
        certname=seen.name,
        hostcert=files["hostcert"],
        hostprivkey=files["hostprivkey"],
        hostpubkey=files["hostpubkey"],
        ssldir=files["ssldir"],
        localcacert=seen.setting("localcacert"),
        names=" ".join(wanted_names(site, facts, seen.name)[1:]),
        issuer=ca_host(site, facts).ca_fingerprint,
        pending=enrolment(site, facts, seen).pending.one("request"),
    )
    return given + reads.script("own_certificate.sh")


def request(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Planned:
    planned: list[Action | Later] = []
    ca = ca_host(site, facts)
    for seen in of.hosts(site, facts):
        if seen.enterprise or not ca.ca_fingerprint:
            continue
        names = ", ".join(wanted_names(site, facts, seen.name))
        if not of.ready(seen):
            what = f"the request for {names}, with a key made there"
            planned.append(Later(what, "install", seen.name))
            continue
        state = enrolment(site, facts, seen)
        there = not state.stale and not state.superseded and (state.requested or state.signed)
        if not state.why or there:
            continue
        files = _files(seen)
        asked = f"{files['ssldir']}/certificate_requests/{seen.name}.pem"
        saves = (files["hostprivkey"], files["hostpubkey"], asked)
        planned.append(
            Action(
                id=f"request/{seen.name}/request",
                host=seen.name,
                title=f"make a key here and ask {site.ca.name} for a certificate with {names}",
                do=Script(_own(site, facts, seen) + "request\n", saves=saves, timeout=300.0),
                undo=Restore(),
            )
        )
    return tuple(planned)


def sign(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Planned:
    planned: list[Action | Later] = []
    ca = ca_host(site, facts)
    for seen in waiting(site, facts, of):
        state = enrolment(site, facts, seen)
        if not asked_for(site, facts, seen, of):
            what = f"the fingerprint of {seen.name}'s request, as it and the CA have it, to sign it"
            planned.append(Later(what, "request", seen.name))
            continue
        clean = at_the_ca(ca, seen.name) + "clean\n"
        planned.append(
            Action(
                id=f"sign/{ca.name}/{seen.name}",
                host=ca.name,
                title=f"sign {seen.name}, if its fingerprint is {state.request}",
                do=Script(
                    at_the_ca(ca, seen.name, state.request, state.key) + "sign\n", timeout=180.0
                ),
                undo=Compensate(clean),
                about=seen.name,
            )
        )
    return tuple(planned)


def fetch(site: Site, facts: Facts, of: Applicants = COMPILERS) -> Planned:
    planned: list[Action | Later] = []
    for seen in of.hosts(site, facts):
        if seen.enterprise or not ca_host(site, facts).ca_fingerprint:
            continue
        if not of.ready(seen):
            planned.append(Later("fetching the certificate, and verifying it", "sign", seen.name))
            continue
        if not enrolment(site, facts, seen).why:
            continue
        made = [_files(seen)["hostcert"], seen.setting("localcacert")]
        if not seen.crls("hostcrl"):  # one that is there gets newer, and never older again
            made.append(seen.setting("hostcrl"))
        planned.append(
            Action(
                id=f"fetch/{seen.name}/fetch",
                host=seen.name,
                title="fetch the certificate; verify its key, its names and who issued it",
                do=Script(
                    _own(site, facts, seen) + "fetch\n",
                    saves=tuple(made),
                    timeout=300.0,
                ),
                undo=Restore(),
            )
        )
    return tuple(planned)


# --- proof ------------------------------------------------------------------------------------


def checks(site: Site, facts: Facts) -> tuple[Check, ...]:
    return tuple(certified(site, h.name) for h in site.having("compiler"))


def _certificate_reads(site: Site, name: str) -> tuple[tuple[str, Read], ...]:
    ca = site.host(site.ca.host)
    return (
        (name, reads.SOFTWARE),
        (name, reads.CERTIFICATES),
        (name, reads.SERVER_FILES),
        (ca.name, reads.SOFTWARE),
        (ca.name, reads.CERTIFICATES),
        (ca.name, reads.requests(site)),
    )


def certified(site: Site, name: str) -> Check:
    """Its certificate is the CA's, carries every name, and fits its key."""
    asked = _certificate_reads(site, name)

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        seen = Seen(name, facts)
        why = enrolment(site, facts, seen).why
        now = seen.hostcert
        said = f"serial {now.serial}: {', '.join(now.names)}" if now and not why else why
        return Verdict(not why, said, "pmrunbook --step compilers")

    title = f"{name} has a certificate for every name"
    return Check(f"certificate/{name}", title, judge, asked)


def closed(site: Site, facts: Facts) -> tuple[Check, ...]:
    """What the CA was allowed for these requests is taken back."""
    asked = ((site.ca.host, reads.requests(site)),)

    def judge(facts: Facts) -> Verdict:
        if silent := unknown(facts, *asked):
            return silent
        left = "window" in ca_host(site, facts).requests
        said = "still open" if left else "closed"
        return Verdict(not left, said, "pmrunbook debts --repay")

    return (
        Check(
            "certificate/window",
            "the window for alternative names is closed",
            judge,
            asked,
        ),
    )


def intent(site: Site) -> tuple[str, ...]:
    """As far as the inventory tells: who asks for a certificate with which names."""
    return tuple(
        f"{h.name}: a request for {', '.join(wanted_names(site, Facts(), h.name))}"
        for h in site.having("compiler")
    )


BEFORE = (
    Stage("clear", "What is in the way on the host", clear, rollout=True),
    Stage("renew", "What the CA has of an earlier host of that name", renew),
    Stage(
        "request", "Each host makes its key and its request", request, rollout=True, intent=intent
    ),
    Stage("window", "The CA may sign alternative names", window),
    Stage("sign", "Fingerprints are compared, and signed", sign),
    Stage("close", "The CA signs no more of them", close, closed, always=True),
    Stage("fetch", "Each host has its certificate", fetch, checks, rollout=True),
)
