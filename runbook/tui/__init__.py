"""The Textual face; importing this package does not import Textual."""

from __future__ import annotations

from runbook.ports import Mission


def run(mission: Mission) -> int:
    """Show the mission on the terminal, run it, and answer its exit code."""
    from runbook.tui.app import start

    return start(mission)
