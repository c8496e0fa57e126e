"""`pmrunbook verify journal`: whether the record of what was done is the one that was written.

The chain finds what was changed, removed or moved; how far the journal went, written beside it,
finds what is gone from its end; the copy on the site finds a chain that was made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook.journal import GENESIS, Line, lines, parse, written_head
from runbook.symbols import count


@dataclass(frozen=True, slots=True)
class Audit:
    """What a journal was found to be."""

    records: tuple[Line, ...]  # as they stand in the file
    faults: tuple[str, ...]  # a sentence each, with the line and the record
    torn: int = 0  # the line that was cut off while it was written; 0: none


def audit(path: Path) -> Audit:
    """Go through every line of the journal at `path`, and past what is wrong with it."""
    seq, digest = written_head(path)
    records: list[Line] = []
    faults: list[str] = []
    torn = 0
    previous, due = GENESIS, 1
    for number, _, line in lines(path):
        where = f"{path.name}:{number}"
        record = parse(line, previous)
        if not line.endswith(b"\n"):
            torn = number
        elif record is None:
            faults.append(f"{where}: this is no record; record {due} stood here")
            previous, due = "", due + 1
        else:
            if fault := _fault(record, due, previous):
                faults.append(f"{where}: {fault}")
            previous, due = record.digest, record.seq + 1
            records.append(record)
    faults += _end(records, seq, digest, path)
    if torn and seq >= due:
        torn = 0  # it was whole once: said as what is gone from the end
    return Audit(tuple(records), tuple(faults), torn)


def _fault(record: Line, due: int, previous: str) -> str:
    if record.seq != due:
        return f"record {record.seq} stands where record {due} should: one was removed or moved"
    if not record.sound and previous:
        return f"record {record.seq} ({record.event.kind}) was changed, or the one before it"
    return ""


def _end(records: Sequence[Line], seq: int, digest: str, path: Path) -> list[str]:
    """What is gone from the end, or was made anew with hashes that fit."""
    last = max((r.seq for r in records), default=0)
    if last < seq:
        gone = f"records {last + 1} to {seq} are" if last + 1 < seq else f"record {seq} is"
        return [f"{path.name}: {gone} gone from the end, once on the disk"]
    if seq and digest not in {r.digest for r in records if r.seq == seq}:
        return [f"{path.name}: record {seq} is another than was written: the file was made anew"]
    return []


def compare(here: Sequence[Line], there: Sequence[Line], me: str) -> tuple[list[str], str]:
    """What of a journal is not as the site's copy has it; and what it says that is no fault.

    `me` is who types here, and where: what they added to the copy was written here before.
    """
    for ours, theirs in zip(here, there, strict=False):
        if ours.digest != theirs.digest:
            kind = f"{theirs.event.kind} there, {ours.event.kind} here"
            return [f"record {ours.seq} is another than on the site ({kind})"], ""
    if len(here) >= len(there):
        return [], f"the site has {len(there)} of {count(len(here), 'record')}"
    beyond = there[len(here) :]
    authors = [_author(line) for line in beyond]
    more = count(len(beyond), "record")
    if authors[0] and me not in authors:
        return [], f"{authors[0]} went on from here: the site has {more} more"
    whose = f", {me} wrote some of them" if me in authors else ""
    seq = beyond[0].seq
    return [
        f"record {seq} and what follows are gone from the end: the site has {more} more{whose}"
    ], ""


def _author(line: Line) -> str:
    """Who a record says wrote it: those that begin a run, or stand beside one, all say so."""
    data = line.event.data
    return str(data.get("operator") or data.get("by") or "")
