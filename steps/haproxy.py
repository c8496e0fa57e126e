"""A host's HAProxy as we keep it: its files, its certificate, and whether it has read them."""

from __future__ import annotations

from collections.abc import Mapping

from runbook.model import Action, Compensate, Nothing, Read, Script
from runbook.shell import quote

from . import compiler_configure, reads
from .fields import NONE, Fields
from .files import Edit
from .haproxy_tls import PEM
from .layout import FileFact, Seen, file_fact
from .shellwords import assignments

CONFIG = "/etc/haproxy/haproxy.cfg"
HEAD = "# Puppet Servers behind one name: written by pmrunbook, which shows any change made here."
PACKAGES: Mapping[str, tuple[tuple[int, ...], ...]] = {"haproxy": ((),)}
RECORD = "/var/lib/pmrunbook/installed-proxy"
DROP_IN = f"/etc/systemd/system/{reads.CRL_TIMER}.service.d/haproxy.conf"
STALE = 2 * 3600  # seconds a proxy may not have read a list that may be new: it does so by the hour
ASK = reads.script("proxy_ask.sh")
SERVE = ASK + reads.script("proxy_serve.sh")
"""Shell functions that have HAProxy read its files, and wait for the servers behind it."""
RELOADED = """# Written by pmrunbook: HAProxy verifies agents, and reads the list when told to.
[Service]
ExecStartPost=/bin/systemctl try-reload-or-restart haproxy.service
"""


def files(port: int = 8140, further: Mapping[str, str] | None = None) -> Read:
    """Its files, its service, and what it says of the servers behind it; label -> path."""
    wanted = {"haproxy.cfg": CONFIG, "reload": DROP_IN, **(further or {})}
    given = (
        f"pc_files={quote(chr(10).join(f'{k} {v}' for k, v in wanted.items()))}\n"
        f"pc_links={quote(f'{PEM} {PEM}.key')} pc_port={port}\n"
    )
    return Read("proxy", given + ASK + reads.script("proxy.sh"), limit=262_144)


def state(seen: Seen) -> dict[str, Fields]:
    return seen.parsed("proxy")


def service(seen: Seen) -> Fields:
    return state(seen).get("service", NONE)


def lost(seen: Seen) -> list[str]:
    """Servers whose names led nowhere when it started: it does not look again by itself."""
    return [n for n, at in state(seen).items() if at.one("status") == "MAINT (resolution)"]


def file(seen: Seen, label: str) -> FileFact:
    return file_fact(state(seen).get(label, NONE))


def there(seen: Seen) -> bool:
    return bool(service(seen).one("version"))


def strange(content: bytes | None) -> bool:
    """Whether this configuration serves something of somebody else's."""
    text = (content or b"").decode("utf-8", "replace")
    if text.startswith(HEAD):
        return False
    lines = (line.split("#")[0].split() for line in text.splitlines())
    return any(words and words[0] in ("frontend", "backend", "listen") for words in lines)


def tried(stage: str, host: str, new: Edit) -> Action:
    """HAProxy reads the new file before it is put into the old one's place."""
    script = (
        assignments(members="", config=new.content.decode())
        + SERVE
        + 'new=$(mktemp) && trap \'rm -f -- "$new"\' EXIT && printf %s "$config" >"$new"\n'
        + 'accepted "$new"\n'
    )
    return Action(
        id=f"{stage}/{host}/try",
        host=host,
        title="have HAProxy check the new configuration, before it replaces the old one",
        do=Script(script, timeout=60.0),
        undo=Nothing(),
    )


# --- its certificate ------------------------------------------------------------------------------


def linked(seen: Seen) -> bool:
    wanted = {f"{PEM} {seen.setting('hostcert')}", f"{PEM}.key {seen.setting('hostprivkey')}"}
    return set(service(seen).all("link")) == wanted


def link(stage: str, seen: Seen) -> Action:
    """HAProxy reads the host's certificate and key where they are: no copy is made."""
    cert, key = seen.setting("hostcert"), seen.setting("hostprivkey")
    return Action(
        id=f"{stage}/{seen.name}/certificate",
        host=seen.name,
        title="let HAProxy use this host's certificate and key, where they are",
        do=Script(
            assignments(cert=cert, key=key)
            + f'ln -sfn -- "$cert" {PEM} && ln -sfn -- "$key" {PEM}.key\n',
            timeout=30.0,
        ),
        undo=Compensate(
            f'for l in {PEM} {PEM}.key; do [ ! -L "$l" ] || rm -f -- "$l" || exit 1; done\n'
        ),
        diff=f"+{PEM} -> {cert}\n+{PEM}.key -> {key}\n",
    )


def kept_fresh(seen: Seen) -> list[Edit]:
    """The hourly unit that fetches the revocation list, and has HAProxy read it."""
    told = "have HAProxy read the revocation list each time it was fetched"
    return [
        *compiler_configure.timer(seen),
        Edit("reload", file(seen, "reload"), RELOADED.encode(), told),
    ]


def unread(seen: Seen) -> str:
    """Why HAProxy may not know the revocation list on the disk; empty where it does."""
    at = service(seen)
    began, written, now = (at.number(k) for k in ("began", "crl_written", "now"))
    if not began or not written:
        return "HAProxy does not tell since when it runs, or there is no revocation list"
    late = written > began and now - began > STALE
    return f"HAProxy has not read its revocation list for {(now - began) // 60} min" if late else ""
