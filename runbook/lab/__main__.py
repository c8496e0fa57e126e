"""`python -m runbook.lab`: the lab without the rest of the program."""

from __future__ import annotations

import argparse

from runbook.lab.commands import add_arguments, main

parser = argparse.ArgumentParser(
    prog="pmrunbook lab", description="Real Debian hosts on this machine to rehearse on."
)
add_arguments(parser)
raise SystemExit(main(parser.parse_args()))
