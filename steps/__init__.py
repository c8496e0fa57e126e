"""The guide, one module per section; all Puppet knowledge of pmrunbook lives here."""

from __future__ import annotations

import hashlib

from runbook.model import Runbook

from . import reads
from .balancer import BALANCER
from .ca import CA
from .code import CODE
from .compilers import COMPILERS
from .cutover import CUTOVER
from .drain import gently
from .puppetdb import PUPPETDB
from .retire import RETIRE
from .survey import SURVEY


def digest() -> str:
    """SHA-256 over the sources and texts the runbook is made from: a changed runbook shows."""
    found = hashlib.sha256()
    for path in sorted(p for p in reads.HERE.rglob("*") if p.suffix in (".py", ".sh", ".md")):
        found.update(path.relative_to(reads.HERE).as_posix().encode() + b"\0")
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


RUNBOOK = Runbook(
    id="scaling",
    title="Scaling Puppet Server with compile masters",
    steps=(SURVEY, *map(gently, (CA, COMPILERS, PUPPETDB, CODE, BALANCER)), CUTOVER, RETIRE),
    prelude=reads.PRELUDE,
    memory=reads.MEMORY,
    digest=digest(),
)
