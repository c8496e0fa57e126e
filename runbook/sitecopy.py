"""The journal's copy on the site, beside the lock: what another operator needs to go on.

It is written by whoever holds the lock, and by nobody else: so it is one history, whoever made it.
Records travel in batches, in a thread of its own. What is about to be started is there before it
starts; how it ended follows by itself.
"""

from __future__ import annotations

import posixpath
import re
import threading
from collections.abc import Callable
from typing import Protocol

from runbook import lock
from runbook.errors import RunbookError, StateRefuses
from runbook.journal import Head, Journal, digests
from runbook.model import Read, Reading
from runbook.ports import Writer
from runbook.shell import PRIVATE, ROOT

FOLDER = f"{ROOT}/site"
FILE = f"{FOLDER}/journal.jsonl"
CHUNK = 262_144  # bytes of one batch, whole records
PULL = 4_194_304  # bytes that are asked for at once
KEEP = 10.0  # seconds an action waits for the site to know of it; then it is begun all the same
RETRY = 5.0  # seconds
_OTHERS = 18
_END = "PMRUNBOOK-END"

_LAST = re.compile(r'\{"hash":"([0-9a-f]{64})","record":\{"seq":(\d{1,9}),')


def head_script() -> str:
    """Read-only: the size of the copy up to its last whole record, and how that one begins."""
    return f"""[ -s {FILE} ] || exit 1
size=$(stat -c %s {FILE}) || exit 1
last=1
if [ -n "$(tail -c 1 {FILE})" ]; then
    size=$((size - $(tail -n 1 {FILE} | wc -c)))
    last=2
fi
echo "$size"
tail -n $last {FILE} | head -n 1 | cut -c 1-160
"""


def parse_head(reading: Reading) -> Head | None:
    """How far the copy goes, from what `head_script` printed; None where there is none."""
    size, _, line = reading.out.partition("\n")
    found = _LAST.match(line)
    if not reading.ok or not size.isdigit() or not found:
        return None
    return Head(int(found[2]), found[1], int(size))


def push_script(at: Head, data: bytes, token: str) -> str:
    """Append `data`, whole records, behind the one the copy ends with; exit 18 where it does not.

    What a cut link left of the same records is cut off first. Only the holder of the lock may.
    """
    first = data[:73].decode("ascii")
    return f"""{PRIVATE}
umask 077
grep -qF {lock.of(token)} {lock.FOLDER}/holder || exit {_OTHERS}
private {posixpath.dirname(FOLDER)} {FOLDER}
[ ! -L {FILE} ] || exit 1
[ -e {FILE} ] || : >{FILE} || exit 1
size=$(stat -c %s {FILE}) || exit 1
[ "$size" -ge {at.size} ] || exit {_OTHERS}
if [ "$size" -gt {at.size} ]; then
    more=$(tail -c +{at.size + 1} {FILE} | head -c 73)
    case '{first}' in "$more"*) ;; *) exit {_OTHERS} ;; esac
    truncate -s {at.size} {FILE} || exit 1
fi
[ {at.size} = 0 ] || [ "$(tail -n 1 {FILE} | cut -c 10-73)" = {at.digest} ] || exit {_OTHERS}
cat >>{FILE} <<'{_END}'
{data.decode("ascii").rstrip(chr(10))}
{_END}
sync -- {FILE}
[ "$(stat -c %s {FILE})" = {at.size + len(data)} ]
"""


def pull(read: Callable[[Read], Reading], size: int) -> bytes:
    """The first `size` bytes of the copy."""
    got: list[bytes] = []
    for start in range(0, size, PULL):
        wanted = min(PULL, size - start)
        script = f"tail -c +{start + 1} {FILE} | head -c {wanted}"
        part = read(Read("site-journal", script, limit=wanted, timeout=120.0))
        data = part.out.encode()
        if not part.ok or len(data) != wanted:
            raise RunbookError(f"the journal kept on the site cannot be read: {part.err.strip()}")
        got.append(data)
    return b"".join(got)


class SiteCopy:
    """Brings the copy up to a journal, for as long as this process holds the lock."""

    def __init__(
        self,
        writer: Callable[[], Writer],
        journal: Journal,
        token: str,
        tell: Callable[[str], None],
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """`token` is the lock holder's.

        `tell` is told, once, that the copy stays behind; `refused`, that the lock is gone.
        """
        self._writer = writer
        self._journal = journal
        self._token = token
        self._tell = tell
        self._refused = refused
        self.lost = False  # somebody else may write there now: nothing more may be changed
        self._at = Head()  # how far the site has it
        self._behind = ""  # why the last batch did not get there
        self._told = False
        self._due = False
        self._over = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Bring it up to now; StateRefuses where the site's goes on otherwise than ours."""
        there = parse_head(self._writer().now(head_script()))
        if there:
            ours = digests(self._journal.path)
            if there.seq > len(ours) or ours[there.seq - 1] != there.digest:
                raise _others()
            self._at = there
        self._push()
        self._thread = threading.Thread(target=self._work, name="journal's copy", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is more; nobody waits for it."""
        with self._changed:
            self._due = True
            self._changed.notify_all()

    def keep(self, patience: float = KEEP) -> bool:
        """Wait until all there is now is on the site; False when the link does not allow it."""
        if self._thread is None:
            return False
        wanted = self._journal.head.size
        with self._changed:
            if self._behind and not self._over:
                self._due = True
                return False
            self._due = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._at.size >= wanted or self._behind, patience)
            return self._at.size >= wanted

    def end(self) -> None:
        """Bring it up to the end, if that can be done, and stop."""
        if self._thread is None:
            return
        with self._changed:
            self._over = self._due = True
            self._behind = ""
            self._changed.notify_all()
        self._thread.join(KEEP)
        self._thread = None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due, RETRY if self._behind else None)
                self._due, over = False, self._over
            try:
                self._push()
                behind = ""
            except StateRefuses as error:
                behind = str(error)
                if not self.lost:
                    self.lost = True
                    self._refused()
            except RunbookError as error:
                behind = str(error)
            with self._changed:
                self._behind = behind
                self._changed.notify_all()
            if behind and not self._told and not self.lost:
                self._told = True
                self._tell(f"the journal's copy on the site stays behind: {behind}")
            if over:
                return
            if behind:
                with self._changed:
                    self._changed.wait_for(lambda: self._over, RETRY)

    def _push(self) -> None:
        while batch := _batch(self._journal.since(self._at.size)):
            got = self._writer().now(push_script(self._at, batch, self._token))
            if got.exit == _OTHERS:
                raise _others()
            if not got.ok:
                raise RunbookError(got.err.strip() or f"exit {got.exit}")
            last = batch.rstrip(b"\n").rsplit(b"\n", 1)[-1]
            seq = self._at.seq + batch.count(b"\n")
            self._at = Head(seq, last[9:73].decode("ascii"), self._at.size + len(batch))


def _batch(data: bytes) -> bytes:
    """The first whole records of `data`, about `CHUNK` bytes, at least one."""
    if len(data) <= CHUNK:
        return data
    end = data.rfind(b"\n", 0, CHUNK) + 1
    return data[: end or data.index(b"\n") + 1]


def _others() -> StateRefuses:
    return StateRefuses(
        "another operator changed the site since this run began",
        hint="pmrunbook status --from-site tells who; pmrunbook starts from what is there now",
    )


class SiteLock(Protocol):
    """What is held while the copy is written."""

    lost: bool

    def take(self) -> None: ...

    def release(self) -> None: ...


class Claim:
    """The site's lock and the journal's copy, taken and given back together."""

    def __init__(self, held: SiteLock, copy: SiteCopy) -> None:
        self._held = held
        self._copy = copy
        self._taken = False

    @property
    def lost(self) -> bool:
        return self._held.lost or self._copy.lost

    def take(self) -> None:
        """Locked when somebody has it; StateRefuses when somebody had it since we looked."""
        if self._taken:
            return
        self._held.take()
        try:
            self._copy.begin()
        except BaseException:
            self._held.release()
            raise
        self._taken = True

    def release(self) -> None:
        """After the last record: that one is on the site, too."""
        if self._taken:
            self._taken = False
            self._copy.end()
            self._held.release()
