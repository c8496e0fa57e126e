"""What travels over one SSH channel: the way in through sudo, batched reads, text made harmless.

Everything here is pure: bytes in, bytes and values out, the clock handed in. `runbook.ssh.remote`
carries the bytes. Host-side code is POSIX `sh` that runs in dash, bash and busybox alike.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from runbook.errors import PasswordRefused, RunbookError, SudoRefused, Unreachable
from runbook.model import Read, Reading

Clock = Callable[[], float]

ERR_LIMIT = 4096
"""Bytes of a read's stderr that are kept."""
SLACK = 262_144
"""Bytes beyond its limit a read may print before it is cut; they are received and dropped."""
SHELL = "/bin/sh"
ENTRY_SECONDS = 60.0
"""How long sudo and the shell may take to let us in; sudo waits for a slow name server."""

_NO_QUESTIONS = (
    "What runs at a login (~/.bashrc, ForceCommand) must ask nothing where nobody sits: "
    "`[ -t 0 ] || return`."
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/puppetlabs/bin"

# The guard ends the shell and all its children of the same session when the channel's stdin
# closes: a read that never ends dies with the connection. A job has a session of its own.
GUARD = (
    f"export PATH={PATH}"
    + r"""
export LANG=C.UTF-8; unset LC_ALL LANGUAGE; cd /
_pm_down() {
  for _pm_d in /proc/[0-9]*; do
    { read -r _pm_l <"$_pm_d/stat"; } 2>/dev/null || continue
    set -- "$1" "$2" "$3" ${_pm_l##*) }
    [ "$5" = "$1" ] && [ "$7" = "$3" ] && [ "${_pm_d#/proc/}" != "$2" ] || continue
    ( _pm_down "${_pm_d#/proc/}" "$2" "$3" )
    kill -s KILL "${_pm_d#/proc/}"
  done
}
exec 9<&0 </dev/null
( read -r _pm_l <&9
  read -r _pm_l </proc/self/stat
  _pm_me=${_pm_l%% *}
  set -- ${_pm_l##*) }
  [ "$2" = "$$" ] || exit 0
  kill -s STOP "$$"; _pm_down "$$" "$_pm_me" "$4"; kill -s KILL "$$"
  # sudo stops itself when its child is stopped, and would stay so for ever.
  for _pm_l in 0 1 3; do sleep $_pm_l; kill -s CONT "$PPID" || exit 0; done
) >/dev/null 2>&1 &
_pm_guard=$!
exec 9<&-
"""
)
UNGUARD = 'kill -s KILL "$_pm_guard" 2>/dev/null\n'

# --- text -----------------------------------------------------------------------------------------

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links, clipboard
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI
    r"|\x1b[ -/]*[0-~]?"  # the rest
)
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)

_CONTROL_BYTES = bytes({*range(32), 127} - set(b"\n\t"))


def clean(data: bytes) -> str:
    """`data` as text that cannot act on a terminal: no escapes, controls or bidi overrides.

    UTF-8 with replacement; newlines and tabs stay, a carriage return becomes a newline.
    """
    if data.isascii() and len(data.translate(None, _CONTROL_BYTES)) == len(data):
        return data.decode("ascii")  # nearly always; twenty times as fast
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def quote(script: str) -> str:
    """`script` as one word of `sh`."""
    if "\0" in script:
        raise RunbookError("a script has a NUL byte in it")
    return shlex.quote(script)


class Lines:
    """Cuts a stream of bytes into clean lines; a line longer than 8 KiB is broken."""

    LONGEST = 8192

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        while len(self._rest) > self.LONGEST:
            self._line(self._rest[: self.LONGEST])
            self._rest = self._rest[self.LONGEST :]

    def end(self) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    def _line(self, line: bytes) -> None:
        for piece in clean(line.removesuffix(b"\r")).split("\n"):
            self._emit(piece)


# --- what a channel carries -----------------------------------------------------------------------


class Talk(Protocol):
    """One side of a conversation over a channel; the runner calls it, in one thread."""

    def out(self, data: bytes) -> None: ...

    def err(self, data: bytes) -> None: ...

    def due(self) -> float:
        """The moment of the clock at which `late` is to be called."""
        ...

    def late(self) -> None: ...

    @property
    def done(self) -> bool:
        """True: nothing more is expected, the channel may be closed."""
        ...


class Gate:
    """The way in: starts `sh` as root, answers sudo at most once, then hands over to `inner`.

    `password` None: sudo is told not to ask. The script travels over stdin, and only when the
    inner shell has shown its mark, unless sudo cannot read stdin. Then it is sent at once, behind a
    line of ours: where that is not the first one that arrives, the login shell took it.
    """

    def __init__(
        self,
        token: str,
        script: bytes,
        inner: Talk,
        *,
        host: str,
        sudo: bool,
        password: Callable[[], str] | None,
        shell: str = "",
        accepted: Callable[[], None] = lambda: None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`password` is asked for when sudo asks; `accepted` is told once it let us in."""
        self._accepted = accepted
        self._ready = f"{token}-in".encode()
        self._mark = f"{token}-ask".encode()
        self._script = script
        self._inner = inner
        self._host = host
        self._sudo = sudo
        self._password = password
        self._before_out = self._before_err = b""
        self._out_open = self._err_open = False
        self.asked = False
        self._clock = clock
        self._entry = clock() + ENTRY_SECONDS
        self.outbox: list[bytes] = []
        self._shell = shell or SHELL
        self._taken = f"{token}-taken".encode()
        ahead = not (sudo and password)
        first = f'read -r l; [ "$l" = {token} ] || {{ printf %s {token}-taken >&2; exit 1; }}; '
        enter = (
            f"{self._shell} -c '{first if ahead else ''}"
            f"printf %s {token}-in; printf %s {token}-in >&2; "
            f'eval "$(head -c {len(script)})"\''
        )
        if not sudo:
            self.command = f"exec {enter}"
        else:
            how = f"-S -p {token}-ask" if password else "-n"
            self.command = f"env LC_ALL=C sudo {how} -- {enter}"
        if ahead:
            self.outbox.append(token.encode() + b"\n" + script)

    def out(self, data: bytes) -> None:
        if self._out_open:
            self._inner.out(data)
            return
        before, mark, after = (self._before_out + data).partition(self._ready)
        self._before_out = before[-4096:]
        if mark:
            self._out_open = True
            if self._sudo and self._password:
                self._accepted()
                self.outbox.append(self._script)
            if after:
                self._inner.out(after)

    def err(self, data: bytes) -> None:
        if self._err_open:
            self._inner.err(data)
            return
        before, mark, after = (self._before_err + data).partition(self._ready)
        self._before_err = before[-16384:]
        if mark:
            self._err_open = True
            if after:
                self._inner.err(after)
        elif self._mark in self._before_err:
            self._before_err = self._before_err.replace(self._mark, b"", 1)
            self._answer()

    def _answer(self) -> None:
        if self.asked or self._password is None:
            raise self._wrong()
        self.asked = True
        answer = self._password()
        if "\n" in answer or not answer:
            raise SudoRefused("the sudo password is empty or has a newline in it", host=self._host)
        self._entry = self._clock() + ENTRY_SECONDS
        self.outbox.append(answer.encode() + b"\n")

    def due(self) -> float:
        return self._inner.due() if self._out_open else self._entry

    def late(self) -> None:
        if self._out_open:
            self._inner.late()
        else:
            what = "sudo" if self._sudo else "the shell"
            said = clean(self._before_err + b"\n" + self._before_out).split("\n")
            text = next((line.strip() for line in reversed(said) if line.strip()), "")
            raise Unreachable(
                f"{what} did not let us in within {ENTRY_SECONDS:.0f} s"
                + (f"; it said: {text[:200]}" if text else ""),
                host=self._host,
                hint=f"Try `ssh HOST true`. {_NO_QUESTIONS}" if text else "",
            )

    @property
    def done(self) -> bool:
        return self._out_open and self._inner.done

    def check(self, exit_status: int) -> None:
        """After the channel ended: raises if we never got in, and says why."""
        if self._out_open:
            return
        said = clean(self._before_err).strip().splitlines()
        text = next((line for line in reversed(said) if line.strip()), "")
        low = " ".join(said).lower()
        if self._taken in self._before_err:
            raise Unreachable(
                "the login shell reads the input that is meant for our commands",
                host=self._host,
                hint=_NO_QUESTIONS,
            )
        if not self._sudo:
            raise Unreachable(
                f"the login shell ended with exit status {exit_status}: {text or 'no message'}",
                host=self._host,
                hint="Try `ssh HOST /bin/sh -c true`: the account needs a working shell.",
            )
        if "must have a tty" in low:
            raise SudoRefused(
                "sudo demands a terminal (requiretty)",
                host=self._host,
                hint="Put `Defaults:USER !requiretty` into sudoers on the host (visudo).",
            )
        if self.asked and ("incorrect password" in low or "try again" in low):
            raise self._wrong()
        if "a password is required" in low or "password is required" in low:
            raise SudoRefused(
                "sudo asks for a password and the inventory names none",
                host=self._host,
                hint="Set `sudo_password` in the inventory (env, file, command or prompt).",
            )
        if exit_status == 127 or "not found" in low:
            raise SudoRefused(
                f"sudo cannot be run: {text or 'not found'}",
                host=self._host,
                hint="Install sudo on the host, or log in as root and set `sudo: false`.",
            )
        raise SudoRefused(
            f"sudo refused: {text or f'exit status {exit_status}'}",
            host=self._host,
            hint="Try `sudo -l` as that user on the host: it must be allowed to run "
            f"{self._shell}.",
        )

    def _wrong(self) -> PasswordRefused:
        return PasswordRefused(
            "sudo refused the password; it was tried once and will not be tried again",
            host=self._host,
            hint="Correct what `sudo_password` in the inventory refers to and start again.",
        )


# --- batched reads --------------------------------------------------------------------------------


class _Sections:
    """One stream of a batch, cut at its marks: section 0 is the prelude, then one per read."""

    def __init__(self, token: str, limits: Sequence[int]) -> None:
        self._token = token.encode()
        self._limits = limits
        self._rest = b""
        self.kept: list[bytearray] = [bytearray() for _ in limits]
        self.sizes = [0] * len(limits)
        self.exits: list[int] = []

    @property
    def index(self) -> int:
        return len(self.exits)

    @property
    def complete(self) -> bool:
        return len(self.exits) == len(self._limits)

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while not self.complete:
            found = data.find(self._token, at)
            if found < 0:
                # the end may hold the beginning of a mark
                keep = max(at, len(data) - len(self._token) + 1)
                self._take(data[at:keep])
                self._rest = data[keep:]
                return
            mark = re.compile(rb" %d (\d{1,3})\n" % self.index)
            head = found + len(self._token)
            match = mark.match(data, head)
            if match:
                self._take(data[at:found])
                self.exits.append(int(match[1]))
                at = match.end()
            elif len(data) - head < 12 and b"\n" not in data[head:]:
                self._take(data[at:found])
                self._rest = data[found:]
                return
            else:  # not one of ours: data
                self._take(data[at:head])
                at = head
        self._rest = b""

    def _take(self, data: bytes) -> None:
        index = self.index
        self.sizes[index] += len(data)
        room = self._limits[index] - len(self.kept[index])
        if room > 0:
            self.kept[index] += data[:room]

    def end(self) -> None:
        """Nothing more comes: what looked like the beginning of a mark was data."""
        if not self.complete:
            self._take(self._rest)
        self._rest = b""

    def overrun(self) -> bool:
        return not self.complete and self.sizes[self.index] > self._limits[self.index] + SLACK


class Batch:
    """Reads as one script, and their readings out of what it prints.

    A read that hangs, floods or kills the shell ends the batch there: it gets its reading (exit
    124, 141 or what the shell ended with), and `rest` holds the reads to run in the next one.
    What travels of a read is at most its limit, `SLACK` and the channel's window.
    """

    def __init__(
        self,
        reads: Sequence[Read],
        prelude: str,
        token: str,
        *,
        host: str,
        deadline: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self._reads = tuple(reads)
        self._prelude = prelude
        self._token = token
        self._host = host
        self._clock = clock
        self._deadline = deadline
        self._out = _Sections(token, [0, *(r.limit for r in reads)])
        self._err = _Sections(token, [ERR_LIMIT] * (len(reads) + 1))
        self._at = 0
        self._since = clock()
        self._cut = ""

    def script(self) -> bytes:
        """The host's side: `sh` text, read over stdin."""
        parts = [GUARD, self._part(0, f"eval {quote(self._prelude)} </dev/null"), "set +eu\n"]
        parts += [
            self._part(n, f"( eval {quote(read.script)} ) </dev/null")
            for n, read in enumerate(self._reads, 1)
        ]
        return "".join([*parts, UNGUARD]).encode()

    def _part(self, index: int, command: str) -> str:
        # stderr first: when the mark on stdout is here, the one on stderr is as good as here
        mark = f'printf "{self._token} {index} $_pm_x\\n"'
        return f"{command}\n_pm_x=$?\n{mark} >&2\n{mark}\n"

    def out(self, data: bytes) -> None:
        self._out.feed(data)
        if self._out.index != self._at:
            self._at = self._out.index
            self._since = self._clock()
        self._judge()

    def err(self, data: bytes) -> None:
        self._err.feed(data)
        self._judge()

    def _judge(self) -> None:
        # stderr may be ahead: the read it belongs to is known when stdout has caught up
        behind = self._err.index > self._out.index
        if self._out.overrun() or (self._err.overrun() and not behind):
            self._cut = "flood"

    @property
    def done(self) -> bool:
        return bool(self._cut) or (self._out.complete and self._err.complete)

    def due(self) -> float:
        return min(self._deadline, self._since + self._limit())

    def late(self) -> None:
        if self._clock() >= self._deadline:
            raise Unreachable(
                f"the host took too long: {max(0, self._at - 1)} of {len(self._reads)} reads came",
                host=self._host,
                hint="Look at the load of the host, then try again.",
            )
        if self._clock() >= self._since + self._limit():
            self._cut = "time"

    def _limit(self) -> float:
        inside = 0 < self._at <= len(self._reads)
        return self._reads[self._at - 1].timeout if inside else ENTRY_SECONDS

    def settle(self, exit_status: int) -> tuple[Mapping[str, Reading], tuple[Read, ...]]:
        """The readings, and the reads that have to be run again; `exit_status` of the shell."""
        readings: dict[str, Reading] = {}
        self._out.end()
        self._err.end()
        ended = len(self._out.exits)
        if ended == 0:
            said = clean(bytes(self._err.kept[0])).strip() or f"exit status {exit_status}"
            raise RunbookError(f"the prelude of the reads failed: {said}", host=self._host)
        for n, read in enumerate(self._reads[: ended - 1], 1):
            readings[read.id] = self._reading(n, self._out.exits[n])
        if ended > len(self._reads):
            return readings, ()
        cut = self._reads[ended - 1]
        if self._cut == "time":
            note = f"not finished within {cut.timeout:g} s"
            readings[cut.id] = self._reading(ended, 124, note)
        elif self._cut == "flood":
            readings[cut.id] = self._reading(ended, 141, "cut: it printed without end")
        else:
            status = exit_status if exit_status > 0 else 255
            readings[cut.id] = self._reading(ended, status, "it ended the shell it ran in")
        return readings, self._reads[ended:]

    def _reading(self, n: int, status: int, note: str = "") -> Reading:
        err = clean(bytes(self._err.kept[n]))
        truncated = self._out.sizes[n] > len(self._out.kept[n])
        cut = truncated or (self._cut == "flood" and bool(note))
        return Reading(status, clean(bytes(self._out.kept[n])), f"{err}{note}", cut)
