"""The evidence: what was found, planned, approved by whom, done and checked, with times."""

from __future__ import annotations

import json
from collections.abc import Sequence

from runbook.model import Event, Site

FORMATS = {"md": "Markdown", "html": "a page", "json": "JSON", "junit": "JUnit XML"}
ENDINGS = {".md": "md", ".html": "html", ".htm": "html", ".json": "json", ".xml": "junit"}
"""What the name of a file says of its format."""


def render(
    format_: str, events: Sequence[Event], site: Site, *, at_work: bool = False, seal: str = ""
) -> str:
    """The report in one of FORMATS; `seal` is the hash of the journal's last record."""
    match format_:
        case "html":
            from runbook.report.page import as_page

            return as_page(events, site, at_work=at_work, seal=seal)
        case "junit":
            from runbook.report.junit import as_junit

            return as_junit(events, site, at_work=at_work)
        case "json":
            from runbook.report.markdown import as_data

            return json.dumps(as_data(events, site), indent=2) + "\n"
        case _:
            from runbook.report.markdown import as_markdown

            return as_markdown(events, site, at_work=at_work)
