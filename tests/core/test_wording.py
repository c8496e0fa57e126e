"""An action in full, as the review and the dialogs of the screens show it."""

from __future__ import annotations

import pytest

from runbook.model import (
    Action,
    Compensate,
    DnsChange,
    Do,
    Human,
    Irreversible,
    Nothing,
    Read,
    RemoveFile,
    Restore,
    Script,
    Undo,
    WriteFile,
    plain,
)
from runbook.tui import wording

ASKED = Human("open the firewall", Read("open", "nc -z a 8140"))
DONE: dict[str, tuple[Do, str]] = {
    "write": (WriteFile("/f", b"x"), "writes /f"),
    "remove": (RemoveFile("/f", "00"), "removes /f"),
    "script": (Script("true", done="false"), "only where this fails"),
    "dns": (DnsChange("192.0.2.53", "z", "n.z", "A", 60, ("192.0.2.1",)), "updates n.z A"),
    "human": (ASKED, "nc -z a 8140"),
}
BACK: dict[str, tuple[Undo, str]] = {
    "restore": (Restore(), "from the backup"),
    "compensate": (Compensate("back"), "by a script"),
    "human": (ASKED, "by a person: open the firewall"),
    "irreversible": (Irreversible("it is sent"), "it is sent"),
    "nothing": (Nothing("the record"), "stays: the record"),
}


@pytest.mark.parametrize(("do", "shown"), DONE.values(), ids=DONE)
@pytest.mark.parametrize(("undo", "back"), BACK.values(), ids=BACK)
def test_every_kind_of_action_is_shown_in_full(do: Do, shown: str, undo: Undo, back: str) -> None:
    parts = wording.action(plain(Action("s/h/x", "h", "x", do, undo)))
    text = "".join(part if isinstance(part, str) else part[0] for part in parts)
    assert shown in text
    assert back in text
