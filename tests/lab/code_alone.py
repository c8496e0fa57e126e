"""A runbook of the step `code` alone, for a site whose CA and compile masters are somebody else's.

What the step needs has tests of its own; each of its strategies would prove all of it once more.
"""

from __future__ import annotations

from dataclasses import replace

from runbook.steps import RUNBOOK as SCALING
from runbook.steps.code import CODE
from runbook.steps.survey import SURVEY

ALONE = replace(CODE, needs=(SURVEY.id,))
RUNBOOK = replace(SCALING, id="code-alone", steps=(SURVEY, ALONE))
