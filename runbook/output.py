"""Lines on their way to the terminal; whatever a host said in them acts on none.

Data goes to stdout, narration to stderr. Everything the program prints passes `say`.
"""

from __future__ import annotations

import os
from typing import IO

from runbook.symbols import ascii_only, shown


def say(*lines: str, to: IO[str] | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print each of `lines`, to stdout unless told otherwise."""
    instead = "?" if ascii_only(os.environ) else "\N{MIDDLE DOT}"
    for line in lines:
        print(shown(line, instead), file=to, end=end, flush=flush)
