"""What it costs to know 100,000 files of code on every Puppet Server of a lab.

    pmrunbook lab up --name parity --estate tests/bench/parity.yaml
    .venv/bin/python tests/bench/bench_parity.py INVENTORY [FILES]

Prints the time of the one read over all servers as a ratio to `find | sha256sum` on the hosts, all
at once too, measured in the same run, the best of three each. Takes away what it made.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runbook.steps import RUNBOOK, reads

from runbook.cli import NETNS
from runbook.inventory import load
from runbook.model import Host, Read, Site
from runbook.ports import Job
from runbook.secrets import Secrets
from runbook.ssh import Hosts

FOLDER = "/etc/puppet/code/environments/production/modules/bench"
MAKE = (
    "mkdir -p {folder}; cd {folder}; for d in $(seq 1 100); do mkdir -p files/$d; done; "
    'perl -e \'for $n (0..{files}-1) {{ open(F, ">", "files/" . (1 + $n % 100) . "/$n") or die; '
    'print F "line $n\\n" x 40; close F }}\''
)
PEER = (
    "cd /etc/puppet/code/environments && find -L . -type f -print0 | LC_ALL=C sort -z | "
    "xargs -0 sha256sum | sha256sum"
)


def everywhere(hosts: Sequence[Host], work: Callable[[Host], object]) -> float:
    """Seconds it takes on all of them, side by side."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(work, hosts))
    return time.monotonic() - began


def main(inventory: str, files: int = 100_000) -> None:
    site: Site = load(Path(inventory))
    if site.netns and os.environ.get(NETNS) != site.netns:
        os.environ[NETNS] = site.netns
        os.execvp("ip", ["ip", "netns", "exec", site.netns, sys.executable, *sys.argv])  # noqa: S606
    servers = site.having("server")
    secrets = Secrets(lambda label: "")
    hosts = Hosts(site, secrets.get, lambda *_: False)

    def run(host: Host, name: str, script: str) -> None:
        job = Job(f"bench-{name}-{time.time_ns()}", script, 900)
        outcome = hosts.writers().writer(host).run(job, lambda _: None, threading.Event())
        assert outcome.exit == 0, outcome.tail

    def read(host: Host, asked: Read) -> None:
        found = hosts.reader(host).read([asked], RUNBOOK.prelude)[asked.id]
        assert found.ok and str(files) in found.out, (found.exit, found.err)

    make = MAKE.format(folder=FOLDER, files=files)
    everywhere(servers, lambda host: run(host, "make", make))
    try:
        peer = Read("peer", PEER, timeout=600.0)
        bare = Read("bare", f"echo {files}", timeout=600.0)
        took = {"peer": [], "ours": [], "bare": []}  # type: dict[str, list[float]]
        for _ in range(3):
            took["bare"].append(everywhere(servers, lambda host: read(host, bare)))
            began = time.monotonic()
            with ThreadPoolExecutor(len(servers)) as pool:
                list(pool.map(lambda host: hosts.reader(host).read([peer]), servers))
            took["peer"].append(time.monotonic() - began)
            took["ours"].append(everywhere(servers, lambda host: read(host, reads.code(site))))
        best = {name: min(times) for name, times in took.items()}
        code = best["ours"] - best["bare"]  # without asking Puppet for its settings
        print(f"{files} files on {len(servers)} servers")
        print(f"find | sha256sum, on all at once   {best['peer']:6.2f} s")
        print(f"the read of the code               {code:6.2f} s  {code / best['peer']:.2f}x")
        print(f"with Puppet's own settings         {best['ours']:6.2f} s")
    finally:
        everywhere(servers, lambda host: run(host, "away", f"rm -rf {FOLDER}"))
        hosts.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
