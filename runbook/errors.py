"""What can go wrong, said so that an operator can act on it.

Every error of pmrunbook is a `RunbookError`: it says *what* happened, on which *host*, and what to
type next (*hint*), and it knows its exit code. The tree, with the documented exit codes:

    RunbookError            1   a step or a check failed
      UsageError            2   the command line or the inventory is wrong
      Unreachable           3   a host does not answer
        LinkLost            3   the connection broke in the middle; the outcome is not known yet
      TrustError            4   a host key or a certificate fingerprint is not the expected one
      StateRefuses          5   stale plan, changed inventory or runbook, broken journal
      Locked                6   another operator holds the lock
      Waiting               7   an answer of the operator is needed and cannot come
      OutcomeUnknown        8   a change was started and nobody can tell how it ended
      Interrupted         130   the operator stopped the program
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; they are an API (docs/reference/exit-codes.md)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    TRUST = 4
    REFUSED = 5
    LOCKED = 6
    WAITING = 7
    UNKNOWN = 8
    INTERRUPTED = 130


class RunbookError(Exception):
    """An error with a sentence, a place and a way on."""

    exit = Exit.FAILED

    def __init__(self, what: str, *, host: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.host = host
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.host}: {self.what}" if self.host else self.what


class UsageError(RunbookError):
    """The command line or the inventory is wrong."""

    exit = Exit.USAGE


class Unreachable(RunbookError):
    """A host does not answer, or does not let us in."""

    exit = Exit.UNREACHABLE


class LinkLost(Unreachable):
    """The connection broke while something was under way: look before anything is repeated."""


class SudoRefused(Unreachable):
    """sudo on the host refused the password or the user."""


class PasswordRefused(SudoRefused):
    """It was the password: who has the same one need not try it."""


class NotTried(PasswordRefused):
    """Another host refused the password: it is that one which tells why."""


class TrustError(RunbookError):
    """A host key or a certificate is not the expected one; nothing was sent."""

    exit = Exit.TRUST


class StateRefuses(RunbookError):
    """The recorded state does not allow what was asked for."""

    exit = Exit.REFUSED


class Locked(RunbookError):
    """Another operator holds the site's lock."""

    exit = Exit.LOCKED


class Waiting(RunbookError):
    """The run needs an answer that cannot come here; the hint names the flag that gives it."""

    exit = Exit.WAITING


class OutcomeUnknown(RunbookError):
    """A change was started and its outcome cannot be read; a person has to decide."""

    exit = Exit.UNKNOWN


class Interrupted(RunbookError):
    """The operator stopped the program; what was started is in the journal."""

    exit = Exit.INTERRUPTED
