"""Runbooks of one chapter alone, for a site on which everything before it is somebody else's.

What a chapter needs has tests of its own; each of its strategies would prove all of it once more.
"""

from __future__ import annotations

from dataclasses import replace

from runbook.steps import RUNBOOK as SCALING
from runbook.steps.survey import SURVEY

from runbook.model import Runbook, Step


def _step(name: str, *needs: str) -> Step:
    return replace(SCALING.step(name), needs=(SURVEY.id, *needs))


def _alone(name: str, *steps: Step) -> Runbook:
    return replace(SCALING, id=f"{name}-alone", steps=(SURVEY, *steps))


COMPILERS_ALONE = _alone("compilers", _step("compilers"))
PUPPETDB_ALONE = _alone("puppetdb", _step("puppetdb"))
CODE_ALONE = _alone("code", _step("code"))
BALANCE_ALONE = _alone("balance", _step("balancer"), _step("cutover", "balancer"))
