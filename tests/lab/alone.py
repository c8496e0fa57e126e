"""Runbooks of one chapter alone, for a site on which everything before it is somebody else's.

What a chapter needs has tests of its own; each of its strategies would prove all of it once more.
"""

from __future__ import annotations

from dataclasses import replace

from runbook.steps import RUNBOOK as SCALING
from runbook.steps.balancer import BALANCER
from runbook.steps.code import CODE
from runbook.steps.compilers import COMPILERS
from runbook.steps.cutover import CUTOVER
from runbook.steps.puppetdb import PUPPETDB
from runbook.steps.survey import SURVEY

COMPILERS_ALONE = replace(
    SCALING, id="compilers-alone", steps=(SURVEY, replace(COMPILERS, needs=(SURVEY.id,)))
)
PUPPETDB_ALONE = replace(
    SCALING, id="puppetdb-alone", steps=(SURVEY, replace(PUPPETDB, needs=(SURVEY.id,)))
)
CODE_ALONE = replace(SCALING, id="code-alone", steps=(SURVEY, replace(CODE, needs=(SURVEY.id,))))
BALANCE_ALONE = replace(
    SCALING,
    id="balance-alone",
    steps=(
        SURVEY,
        replace(BALANCER, needs=(SURVEY.id,)),
        replace(CUTOVER, needs=(SURVEY.id, BALANCER.id)),
    ),
)
