"""pmrunbook in a process that ends as by `kill -9` at a boundary of its journal.

MORTAL names a JSON file: a list of places, each "before" or "after" (the record is on the disk), a
kind of event, and an action's id (empty: any). At the first of them that comes, the place is taken
off the list and the process dies; at "bug", after the record, it meets an exception that
nobody expects. Used as `python -m tests.lab.mortal ARGUMENTS`.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from runbook import cli
from runbook.journal import Journal
from runbook.model import Event

PLACES = Path(os.environ["MORTAL"])
_append = Journal.append


def die_at(when: str, event: Event) -> None:
    """Die here if this is one of the places left."""
    left = [tuple(place) for place in json.loads(PLACES.read_text())]
    for place in ((when, event.kind, event.action), (when, event.kind, "")):
        if place in left:
            left.remove(place)
            PLACES.write_text(json.dumps(left))
            if when == "bug":
                raise ZeroDivisionError("a bug, made on purpose")
            os.kill(os.getpid(), signal.SIGKILL)


def append(journal: Journal, event: Event) -> None:
    """Append, or die right before or right after."""
    die_at("before", event)
    _append(journal, event)
    die_at("after", event)
    die_at("bug", event)


Journal.append = append  # type: ignore[method-assign]
raise SystemExit(cli.main())
