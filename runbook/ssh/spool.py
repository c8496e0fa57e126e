"""Durable jobs: the `sh` that runs on the host, and what the follower reads of it.

A job is a directory below /var/lib/pmrunbook/jobs, put there whole by one rename: `script`, `run`
(its supervisor), `about`, `out`. The supervisor's first act is a hard link to `start`, which
only one of any number of supervisors gets; it holds pid, start time of the process, time and boot.
So a directory without `start` was never run and may be started by anyone, and one with `start` is
never started again. `rc` (exit status and time) is written beside, synced and renamed.

A job may fill the disk that the spool is on, and fail by it: room for its end, and for the words
with which it ends, is taken before it starts. What it says does not fill it: five times a second
the middle of a long output, which nobody would be sent, is made a hole. The size stays, and with it
what a follower counts; a file system that knows no holes keeps it all.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from runbook.errors import LinkLost, RunbookError, StateRefuses
from runbook.model import Reading
from runbook.ports import Job, JobState, Outcome
from runbook.ssh.frame import GUARD, PATH, UNGUARD, Clock, Lines, clean, quote

ROOT = "/var/lib/pmrunbook"
MOST = 8 * 1024 * 1024
"""Bytes of the beginning of a job's output that travel, and that are kept of its end."""
END = 65_536
"""Bytes of the end that travel where there are more than `MOST`."""
TAIL = 4096
"""Bytes of output in an `Outcome`."""
KILL_AFTER = 10
"""Seconds between TERM and KILL for a job that overran its timeout."""
ROOM = 131_072
"""Bytes of output that a job can say on a full disk."""
STOP_POLL = 0.25
"""Seconds between looks at whether the operator stopped us."""
GRACE = 120.0
"""Seconds beyond its timeout after which a job that reports nothing is given up on."""

# pid and start time name a process for good: a pid alone is used again
_PROCESS = """\
born() {
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  set -- ${stat##*) }
  case $1 in Z|X) return 1 ;; esac
  birth=${20}
}
alive() { born "$1" && [ "$birth" = "$2" ]; }
booted() {
  read -r boot </proc/sys/kernel/random/boot_id
  born 1 && boot=$boot.$birth
}
"""

# Arguments: the job's directory, its timeout; with two more it is the watch over that process.
_SUPERVISOR = (
    (
        _PROCESS
        + """\
dir=$1 limit=$2
keep() { sync "$@" 2>/dev/null || sync; }
thin() {
  size=$(wc -c <"$dir/out") && [ "$size" -gt $((2 * @MOST@)) ] &&
    fallocate -p -o @MOST@ -l $((size - 2 * @MOST@)) "$dir/out"
}
if [ $# -eq 4 ]; then
  while sleep 0.2; do thin; done &
  trap "kill $!" EXIT
  sleep "$limit"
  alive "$3" "$4" && [ ! -e "$dir/rc" ] || exit 0
  true >"$dir/late"  # of `:` a failure would end this shell
  kill -s TERM -- "-$3"
  sleep @KILL@
  kill -s KILL -- "-$3"
  exit 0
fi
cd /
umask 077
born $$ || exit 1
mine=$birth
booted
echo "$$ $mine $(date +%s) $boot" >"$dir/start.$$" || { rm -f "$dir/start.$$"; exit 1; }
ln "$dir/start.$$" "$dir/start" 2>/dev/null || { rm -f "$dir/start.$$"; exit 0; }
rm -f "$dir/start.$$"
keep "$dir/start" "$dir"
export PATH=@PATH@ LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
unset LC_ALL LANGUAGE
umask 022
setsid /bin/sh "$dir/script" </dev/null >>"$dir/out" 2>&1 &
child=$!
umask 077
if born "$child"; then
  echo "$child $birth" >"$dir/child.new" && mv "$dir/child.new" "$dir/child"
  setsid /bin/sh "$dir/run" "$dir" "$limit" "$child" "$birth" >/dev/null 2>&1 &
  watch=$!
else
  watch=
fi
wait "$child"
rc=$?
if [ -e "$dir/late" ]; then
  rc=124 n=0
  while kill -s 0 -- "-$child" 2>/dev/null && [ "$n" -lt @TENTHS@ ]; do
    sleep 0.1
    n=$((n + 1))
  done
fi
if [ -n "$watch" ]; then
  kill -s KILL -- "-$watch" 2>/dev/null || kill -s KILL "$watch" 2>/dev/null
fi
thin
# Over what is there already. Where even that takes room, the end waits until there is some.
n=0
until echo "$rc $(date +%s)" 1<>"$dir/rc.new" || [ ! -d "$dir" ] || [ "$n" -ge 17280 ]; do
  sleep 5
  n=$((n + 1))
done 2>/dev/null
[ "$n" -lt 17280 ] || exit 1
keep "$dir/rc.new"
mv "$dir/rc.new" "$dir/rc"
keep "$dir"
"""
    )
    .replace("@PATH@", PATH)
    .replace("@MOST@", str(MOST))
    .replace("@KILL@", str(KILL_AFTER))
    .replace("@TENTHS@", str(10 * (KILL_AFTER + 2)))
)

# Sets `where` to absent, claimed, running, done or lost.
_WHERE = (
    _PROCESS
    + """\
where() {
  note= rc=-1 seconds=0
  if [ ! -d "$dir" ]; then where=absent; return; fi
  if [ ! -e "$dir/start" ]; then where=claimed; return; fi
  read -r pid began at was <"$dir/start"
  seconds=$(($(date +%s) - at))
  if [ ! -e "$dir/rc" ]; then
    where=running
    booted
    if [ "$was" = "$boot" ]; then
      alive "$pid" "$began" && return
      if [ -e "$dir/child" ]; then
        read -r child cbegan <"$dir/child"
        alive "$child" "$cbegan" && return
      fi
      note='the job was killed'
    else
      note='the host rebooted during the job'
    fi
    if [ ! -e "$dir/rc" ]; then where=lost; return; fi
  fi
  where=done note=
  read -r rc ended <"$dir/rc"
  seconds=$((ended - at))
}
"""
)

_START = """\
umask 077
say() { printf '%s %s\\n' @TOKEN@ "$*" >&2; }
refuse() { say refused "$*"; kill -s KILL "$_pm_guard"; exit 0; }
begun() {
  where
  case $where in absent | claimed)
    say lost -1 0 "$sent" 'what the spool held of the job is gone'
    exit 0 ;;
  esac
}
for d in "$root" "$root/jobs"; do
  mkdir "$d" 2>/dev/null
  [ -d "$d" ] && [ ! -L "$d" ] && [ -O "$d" ] || refuse "$d is not a directory of root's own"
  chmod 0700 "$d" || refuse "$d cannot be closed to others"
done
off=@OFFSET@ sent=0 pause=0.02
@WHERE@
new=$root/jobs/.new.@TOKEN@
mkdir "$new" && {
  printf %s "$script" >"$new/script" && printf %s "$run" >"$new/run" &&
  printf '%s\\n' "$about" >"$new/about" && : >"$new/out" && printf '%64s\\n' '' >"$new/rc.new"
} || {
  rm -rf "$new"
  refuse "$root cannot be written to, $(df -Pk "$root" | awk 'END {print $4}') KiB are free there"
}
fallocate -n -l @ROOM@ "$new/out" 2>/dev/null
if [ "$where" = absent ]; then
  { sync "$new/script" "$new/run" "$new" || sync; } 2>/dev/null
  mv -T "$new" "$dir" 2>/dev/null
  { sync "$root/jobs" || sync; } 2>/dev/null
fi
if [ -d "$new" ]; then
  cmp -s "$new/script" "$dir/script"; same=$?
  rm -rf "$new"
  [ "$same" = 0 ] || refuse 'another script ran here under this id'
fi
where
if [ "$where" = claimed ]; then
  ( setsid /bin/sh "$dir/run" "$dir" @LIMIT@ </dev/null >/dev/null 2>&1 & )
  n=0
  while [ "$where" = claimed ] && [ "$n" -lt 600 ]; do sleep 0.05; n=$((n + 1)); where; done
  [ "$where" = claimed ] && { say silent; exit 0; }
fi
say following
while :; do
  begun
  size=$(wc -c <"$dir/out")
  n=$(((size < @MOST@ ? size : @MOST@) - off))
  if [ "$n" -gt 0 ]; then
    tail -c "+$((off + 1))" "$dir/out" | head -c "$n"
    off=$((off + n)) sent=$((sent + n)) pause=0.05
  fi
  [ "$where" = running ] || break
  sleep "$pause"
  case $pause in 0.02) pause=0.05 ;; 0.05) pause=0.1 ;; 0.1) pause=0.2 ;; *) pause=0.4 ;; esac
done
n=$((size - off))
if [ "$n" -gt 0 ]; then
  skip=$((n - @END@))
  [ "$skip" -gt 0 ] || skip=0
  say skipped "$sent" "$skip"
  tail -c "+$((off + skip + 1))" "$dir/out" | head -c "$((n - skip))"
  sent=$((sent + n - skip))
fi
say "$where" "$rc" "$seconds" "$sent" "$note"
"""

_NUMBER = "(-?[0-9]{1,15})"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def _directory(root: str, job_id: str) -> str:
    if not _NAME.fullmatch(job_id):
        raise RunbookError(f"{job_id!r} cannot name a job: letters, digits, '.', '_' and '-' only")
    return f"root={quote(root)} dir={quote(f'{root}/jobs/{job_id}')}\n"


def start_script(
    job: Job, token: str, offset: int = 0, root: str = ROOT, *, begun: bool = False
) -> bytes:
    """Claims and starts the job unless that was done, then follows it from byte `offset`.

    A job that is known to have `begun` is never started: without its folder it is lost.
    """
    body = (
        _START.replace("@TOKEN@", token)
        .replace("@LIMIT@", f"{max(1, round(job.timeout))}")
        .replace("@OFFSET@", str(offset))
        .replace("@WHERE@", "begun" if begun else "where")
        .replace("@MOST@", str(MOST))
        .replace("@ROOM@", str(ROOM))
        .replace("@END@", str(END))
    )
    values = (
        f"script={quote(job.script)}\nrun={quote(_SUPERVISOR)}\n"
        f"about={quote(' '.join(job.about.split()))}\n"
    )
    return "".join([GUARD, _directory(root, job.id), values, _WHERE, body, UNGUARD]).encode()


def look_script(job_id: str, root: str = ROOT) -> str:
    """A read that says where the job stands; starts nothing."""
    return (
        _directory(root, job_id)
        + _WHERE
        + 'where\necho "$where $rc $seconds $note"\n'
        + f'[ "$where" = absent ] || tail -c {TAIL} "$dir/out"\n'
    )


def looked(reading: Reading) -> Outcome:
    """The outcome that `look_script` printed; RunbookError when it printed something else."""
    first, _, tail = reading.out.partition("\n")
    match = re.fullmatch(rf"(absent|claimed|running|done|lost) {_NUMBER} {_NUMBER} ?(.*)", first)
    if not match:
        raise RunbookError(f"the spool cannot be read: {reading.err.strip() or first}")
    return _outcome(match[1], int(match[2]), int(match[3]), match[4], tail)


def _outcome(where: str, status: int, seconds: int, note: str, tail: str) -> Outcome:
    state = JobState.ABSENT if where == "claimed" else JobState(where)
    return Outcome(
        state, status if state is JobState.DONE else -1, tail, note, float(max(0, seconds))
    )


class Follow:
    """What the follower prints: the job's output on stdout, what we have to know on stderr.

    `received` counts the bytes of output seen, so that the next follower starts after them.
    """

    def __init__(
        self,
        job: Job,
        token: str,
        lines: Lines,
        stop: threading.Event,
        *,
        host: str,
        offset: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._job = job
        self._token = token.encode()
        self._lines = lines
        self._stop = stop
        self._host = host
        self._clock = clock
        self._deadline = clock() + job.timeout + GRACE
        self._next = clock()
        self._said = b""
        self._end: tuple[str, int, int, int, str] | None = None
        self._received = 0
        self._skip: tuple[int, int] | None = None
        self._skipped = False
        self.attached = False  # the follower on the host was heard
        self._offset = offset

    @property
    def offset(self) -> int:
        """Bytes of the job's output that are behind us."""
        skipped = self._skip[1] if self._skip and self._received >= self._skip[0] else 0
        return self._offset + self._received + skipped

    def out(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > 2 * MOST:
            raise LinkLost("the host sends more than was asked for", host=self._host)
        if self._skip and not self._skipped:  # it may be heard before what was said before it
            before, skip = self._skip
            ours = max(0, before - (self._received - len(data)))
            if ours > len(data):
                self._lines.feed(data)
                return
            self._lines.feed(data[:ours])
            if skip:
                self._lines.feed(f"\n... {skip} bytes of output left out ...\n".encode())
            self._skipped, data = True, data[ours:]
        self._lines.feed(data)

    def err(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        self._said = self._said[-4096:]
        for line in lines:
            head, _, rest = line.partition(b" ")
            if head == self._token:
                self._told(clean(rest))

    def _told(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word == "following":
            self.attached = True
            return
        if word == "refused":
            raise StateRefuses(
                f"the job {self._job.id} cannot run: {rest}",
                host=self._host,
                hint=f"look into {ROOT}/jobs there, and put that right; then: pmrunbook --resume",
            )
        if word == "silent":
            raise LinkLost(
                f"the job {self._job.id} was started and does not report", host=self._host
            )
        if word == "skipped" and (found := re.fullmatch(f"{_NUMBER} {_NUMBER}", rest)):
            self._skip = (int(found[1]), int(found[2]))
            self.out(b"")
        elif found := re.fullmatch(f"(done|lost) {_NUMBER} {_NUMBER} {_NUMBER} ?(.*)", text):
            self._end = (found[1], int(found[2]), int(found[3]), int(found[4]), found[5])
        else:
            raise LinkLost(f"the job {self._job.id} reports what cannot be read", host=self._host)

    def due(self) -> float:
        return min(self._deadline, self._next)

    def late(self) -> None:
        self._next = self._clock() + STOP_POLL
        if self._stop.is_set():
            what = f"no longer following the job {self._job.id}; it goes on"
            raise LinkLost(what, host=self._host)
        if self._clock() >= self._deadline:
            raise LinkLost(f"the job {self._job.id} reports nothing any more", host=self._host)

    @property
    def done(self) -> bool:
        return self._end is not None and self._received >= self._end[3]

    def outcome(self, tail: Callable[[], str]) -> Outcome:
        """How the job ended; call it when `done`."""
        if self._end is None:
            raise LinkLost(f"the job {self._job.id} did not report its end", host=self._host)
        self._lines.end()
        where, status, seconds, _, note = self._end
        return _outcome(where, status, seconds, note, tail())
