"""What a stage plans is looked at before anybody is asked about it."""

from __future__ import annotations

import pytest

from runbook.errors import RunbookError
from runbook.model import Action, Facts, Nothing, RemoveFile, Script, Stage, WriteFile
from runbook.plan import make_stage
from tests.core.estate import site


@pytest.mark.parametrize("path", ["relative", "-rf", "../x", "/etc/../x", "/etc/x/.."])
def test_what_changes_files_elsewhere_than_its_path_reads_is_refused(path: str) -> None:
    for do in (
        WriteFile(path, b""),
        RemoveFile(path, ""),
        Script(":", saves=("/etc/x", path)),
        Script(":", removes=(path,)),
    ):
        action = Action("x/h1/file", "h1", "a file", do, Nothing())
        stage = Stage("x", "files", lambda *_, action=action: (action,))
        with pytest.raises(RunbookError, match="is about the path"):
            make_stage(stage, site("h1"), Facts())
