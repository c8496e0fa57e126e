"""Files that a step edits: what becomes of each, and the actions that write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runbook import edit
from runbook.model import Action, Restore, WriteFile

from .layout import FileFact


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of one file."""

    what: str  # the last part of the action's id
    file: FileFact
    content: bytes
    title: str
    owner: str = "root:root"  # of a new one
    mode: str = "0644"  # of a new one


def changed(edits: Iterable[Edit]) -> Iterator[Edit]:
    """Those that change anything; EditError where a file is no file that can be written."""
    for change in edits:
        if change.file.state not in ("file", "absent"):
            raise edit.EditError(f"{change.file.path} is {change.file.state}")
        if change.content != (change.file.content or b""):
            yield change


def writes(stage: str, host: str, changes: Sequence[Edit], again: str = "") -> list[Action]:
    """An action for each; `again` is how a running program takes its files back on undo.

    It belongs to the first one, which is undone last: all files are then as they were.
    """
    return [
        Action(
            id=f"{stage}/{host}/{change.what}",
            host=host,
            title=change.title,
            do=WriteFile(
                change.file.path,
                change.content,
                before=change.file.sha256,
                owner=change.owner,
                mode=change.mode,
            ),
            undo=Restore(then="" if number else again),
            diff=edit.diff(change.file.path, change.file.content, change.content),
        )
        for number, change in enumerate(changes)
    ]
