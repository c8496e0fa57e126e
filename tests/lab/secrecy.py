"""Secrets of a lab, and where they must not be found."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runbook.lab.lab import Lab
from tests.lab.conftest import Seat, must
from tests.lab.test_ca import names

WHERE = "/var/lib/pmrunbook /run /tmp /var/tmp /dev/shm /var/log /root /home /etc"
"""Where a host keeps what it was told: spool, memory, logs, homes with their shells' history."""
OWN = "--exclude-dir=bind --exclude=database.ini"
"""Where a host keeps what is its own: the TSIG key, and PuppetDB's password for its database."""


def canaries(lab: Lab) -> dict[str, bytes]:
    """The operator's secrets of this lab, each a word that is nowhere else in the world."""
    sudo = lab.credentials.sudo_password.read_text().strip()
    found = {
        "sudo password": sudo,
        "sudo password, base64": base64.b64encode(sudo.encode()).decode().rstrip("="),
        "sudo password, hex": sudo.encode().hex(),
        "TSIG key": lab.credentials.tsig_secret.read_text().strip(),
        "TSIG key, bytes": base64.b64decode(lab.credentials.tsig_secret.read_text()).hex(),
    }
    # The first line is the same in every key, the public half in every authorized_keys.
    key = lab.credentials.key.read_text().splitlines()[3:-1]
    found |= {f"private key, line {n}": line for n, line in enumerate(key)}
    return {name: word.encode() for name, word in found.items()}


PRIVATE = (
    "find /etc /var/lib -xdev -type f \\( -path '*/private_keys/*.pem' -o -name ca_key.pem "
    "-o -name root_key.pem -o -path '*/puppetdb/ssl/private.pem' \\)"
)
"""The private keys of Puppet on a host: its own, the CA's, PuppetDB's copy of its own."""


def at_home(seat: Seat) -> int:
    """Every private key is on the host it was made on alone, backups included; how many are."""
    lab, hosts = seat.lab, [h.name for h in seat.lab.estate.hosts]
    # The sixth line: no two keys have that in common.
    ask = f'for f in $({PRIVATE}); do sed -n 6p "$f"; done'
    lines = {host: set(must(lab.execute(host, ask)).split()) for host in hosts}
    files = [f for f in seat.state.rglob("*") if f.is_file()]
    for host in hosts:
        assert not any(line.encode() in f.read_bytes() for line in lines[host] for f in files)
        others = set().union(*(lines[h] for h in hosts if h != host))
        assert lines[host].isdisjoint(others)
        told = "".join(f"{line}\n" for line in others)
        search = (
            "cat >/root/words; trap 'rm -f /root/words' EXIT; "
            f"grep -rlaF --exclude=words -f /root/words {WHERE} /var/lib /opt /srv 2>/dev/null; :"
        )
        assert must(lab.execute(host, search, told)) == "", host
    return sum(map(len, lines.values()))


class Watch:
    """Every command line on this machine, those of the lab's hosts among them, while it lasts."""

    def __init__(self, pause: float) -> None:
        self.sweeps = 0
        self.seen: set[bytes] = set()
        self._pause = pause
        self._over = threading.Event()

    def look(self) -> None:
        while not self._over.wait(self._pause):
            self.sweeps += 1
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue

    def end(self) -> None:
        self._over.set()

    def found(self, words: Mapping[str, bytes]) -> set[tuple[str, bytes]]:
        return {(name, line) for line in self.seen for name, w in words.items() if w in line}


@contextmanager
def watching(pause: float = 0.02) -> Iterator[Watch]:
    watch = Watch(pause)
    thread = threading.Thread(target=watch.look)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()


def nowhere(seat: Seat, words: Mapping[str, bytes]) -> None:
    """None of these words is in the operator's state, nor where a host keeps what it was told."""
    lab = seat.lab
    files = [f for f in seat.state.rglob("*") if f.is_file()]
    assert {(n, f) for f in files for n, w in words.items() if w in f.read_bytes()} == set()
    told = "".join(f"{word.decode()}\n" for word in words.values())
    for host in [h.name for h in lab.estate.hosts]:
        search = (
            "cat >/root/words; trap 'rm -f /root/words' EXIT; "
            f"grep -rlaF {OWN} --exclude=words -f /root/words {WHERE} 2>/dev/null; "
            "journalctl --no-pager -o export 2>/dev/null | grep -caF -f /root/words"
        )
        assert lab.execute(host, search, told).stdout.strip() == "0", host
    # The search finds what is there: the same words in a shell's history.
    host, word = names(lab, "agent")[0], next(iter(words.values()))
    must(lab.execute(host, "cat >/root/.bash_history", word.decode()))
    assert "/root/.bash_history" in lab.execute(host, search, told).stdout
    must(lab.execute(host, "rm -f /root/.bash_history"))
