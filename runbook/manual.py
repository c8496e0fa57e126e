"""`python -m runbook.manual` prints docs/reference/commands.md, made from the command line."""

from __future__ import annotations

import argparse
import os
import sys

from runbook.cli import parser

HEAD = """\
<!-- Made by `python -m runbook.manual`; a test compares them. -->

# Commands

[Exit codes](exit-codes.md) are the same for all of them. stdout is data, stderr is narration.
"""


def pages(command: argparse.ArgumentParser) -> list[str]:
    """The help of a command and of everything below it, as Markdown sections."""
    found = [f"## {command.prog}\n\n```\n{command.format_help().rstrip()}\n```\n"]
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found += pages(below)
    return found


def document() -> str:
    """The whole page; the same whatever the width of the terminal."""
    os.environ["COLUMNS"] = "100"
    return "\n".join([HEAD, *pages(parser())])


if __name__ == "__main__":
    sys.stdout.write(document())
