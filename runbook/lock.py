"""The site's lock: a folder on one host, made atomically, with a heartbeat and an expiry.

`mkdir` decides who has it; `holder` says who, from where, why and since when; the age of `beat`,
by that host's own clock, says whether the holder still lives.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from runbook.errors import Locked, RunbookError
from runbook.ports import Writer
from runbook.shell import PRIVATE, ROOT, quote

FOLDER = f"{ROOT}/lock"
EXPIRES = 300  # seconds without a heartbeat
BEAT = 30  # seconds between heartbeats
_HELD = 17
_SAID = ("who", "where", "why", "run", "state", "token", "since")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock."""

    who: str
    where: str
    why: str
    run: str
    state: str = ""  # the folder of the journal there: one process at a time has that open
    token: str = ""  # of the process; a run may be gone on with by another
    since: str = ""  # the host's clock, UTC
    age: int = 0  # seconds since the last heartbeat

    def succeeds(self, other: Holder) -> bool:
        """Whether `other` is dead because this one has the journal open that it had."""
        mine, theirs = (self.who, self.where, self.state), (other.who, other.where, other.state)
        return bool(self.state and other.token) and mine == theirs

    def __str__(self) -> str:
        return (
            f"{self.who} on {self.where} since {self.since or 'now'} "
            f"(last sign of life {self.age} s ago): {self.why}"
        )


# Prints the holder's JSON, a newline and the heartbeat's age; exits 1 where nobody holds it.
_SHOW = f"""
show() {{
    [ -d {FOLDER} ] || return 1
    cat {FOLDER}/holder 2>/dev/null; echo
    beat=$(stat -c %Y {FOLDER}/beat 2>/dev/null || stat -c %Y {FOLDER})
    echo $(($(date +%s) - beat))
}}
"""


def status_script() -> str:
    """Read-only: the holder and the age of the heartbeat in seconds."""
    return f"{_SHOW}show"


def parse(out: str) -> Holder | None:
    """The holder from what `status_script` printed; None where nobody holds the lock."""
    lines = [line for line in out.splitlines() if line.strip()]
    if not lines:
        return None
    # A number of seconds that is none, or a holder's file cut short: somebody's all the same.
    age = int(lines[-1]) if re.fullmatch("[0-9]{1,12}", lines[-1]) else 0
    try:
        data = json.loads(lines[0])
    except (ValueError, RecursionError):
        data = {}
    if not isinstance(data, dict):
        data = {}
    known = {k: str(data.get(k, "")) for k in _SAID}
    known["who"] = known["who"] or "somebody"
    return Holder(**known, age=age)


def of(token: str) -> str:
    """What stands in the holder's file of this process, as a word of `sh`."""
    return quote(f'"token": {json.dumps(token)}')


def take_script(me: Holder, dead: str = "") -> str:
    """Take it, or print the holder and exit with 17; our own one, or that of the `dead`, goes."""
    body = {k: v for k, v in asdict(me).items() if k not in ("since", "age")}
    text = quote(json.dumps(body, ensure_ascii=True)[:-1])
    ours = " ".join(f"-e {of(token)}" for token in (me.token, dead) if token)
    return f"""{_SHOW}{PRIVATE}
umask 077
private {ROOT}
if [ -d {FOLDER} ]; then
    beat=$(stat -c %Y {FOLDER}/beat 2>/dev/null || stat -c %Y {FOLDER})
    if grep -qF {ours} {FOLDER}/holder 2>/dev/null || [ $(($(date +%s) - beat)) -gt {EXPIRES} ]
    then
        # Renaming is atomic, but what is renamed may be the lock of somebody who was faster:
        # then it is put back.
        was=$(cat {FOLDER}/holder 2>/dev/null)
        gone={FOLDER}.gone.$$
        if mv -T {FOLDER} "$gone" 2>/dev/null; then
            if [ "$(cat "$gone/holder" 2>/dev/null)" = "$was" ]; then rm -rf "$gone"
            else mv -T "$gone" {FOLDER}; fi
        fi
    fi
fi
if said=$(mkdir {FOLDER} 2>&1); then
    printf '%s, "since": "%s"}}\\n' {text} "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >{FOLDER}/holder &&
        printf '' >{FOLDER}/beat && exit 0
    rm -rf {FOLDER}
    exit 1
fi
# A disk that is full or read-only is nobody's lock.
show || {{ printf '%s\\n' "$said" >&2; exit 1; }}
exit {_HELD}
"""


def release_script(token: str) -> str:
    """Give it back if it is this process's."""
    return f"if grep -qF {of(token)} {FOLDER}/holder 2>/dev/null; then rm -rf {FOLDER}; fi"


def break_script() -> str:
    return f"rm -rf {FOLDER}"


def locked(holder: Holder | None, host: str) -> Locked:
    """Why the lock on `host` cannot be had."""
    return Locked(
        f"the site is locked by {holder}",
        host=host,
        hint="wait, or, if that run is dead: pmrunbook lock break --reason TEXT",
    )


class SiteLock:
    """The lock, held by this process while a run changes things."""

    def __init__(
        self,
        writer: Callable[[], Writer],
        host: str,
        me: Holder,
        lost: Callable[[str], None],
    ) -> None:
        """`lost` is told, in the heartbeat's thread, when somebody else has the lock."""
        self._writer = writer
        self._host = host
        self._me = me
        self._tell = lost
        self.lost = False  # somebody else may have it: nothing more may be changed
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Locked, with the holder in words, when somebody else has it."""
        got = self._writer().now(take_script(self._me))
        holder = parse(got.out) if got.exit == _HELD else None
        if holder and self._me.succeeds(holder):
            got = self._writer().now(take_script(self._me, holder.token))
            holder = parse(got.out)
        if got.exit == _HELD:
            raise locked(holder, self._host)
        if not got.ok:
            raise RunbookError(f"cannot take the lock: {got.err.strip()}", host=self._host)
        self._thread = threading.Thread(target=self._beat, name="lock heartbeat", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give it back; a lock nobody could give back expires by itself."""
        if self._thread is None:
            return
        self._over.set()
        self._thread.join(timeout=5)
        self._thread = None
        if self.lost:
            return
        self._writer().now(release_script(self._me.token))

    def _beat(self) -> None:
        script = f"grep -qF {of(self._me.token)} {FOLDER}/holder && touch {FOLDER}/beat"
        seen = time.monotonic()
        while not self._over.wait(BEAT):
            try:
                if self._writer().now(script).ok:
                    seen = time.monotonic()
                    continue
            except RunbookError:
                # The link is down: the lock outlives it until it expires.
                if time.monotonic() - seen < EXPIRES - 2 * BEAT:
                    continue
            self.lost = True
            self._tell(self._host)
            return
