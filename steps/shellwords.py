"""Values on their way into a host's shell."""

from __future__ import annotations

from runbook.shell import quote


def assignments(**values: str) -> str:
    """Shell variables, each value as exactly one word."""
    return "\n".join(f"{name}={quote(value)}" for name, value in values.items()) + "\n"
