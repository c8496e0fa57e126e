"""routes.yaml: one terminus is set, everything else stays byte for byte."""

from __future__ import annotations

import pytest
import yaml

from runbook.edit import EditError, routes_set

WANTED = {"terminus": "puppetdb", "cache": "yaml"}


def edited(text: str) -> str:
    return routes_set(text.encode(), ("server", "master"), "facts", WANTED).decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "---\nmaster:\n  facts:\n    terminus: puppetdb\n    cache: yaml\n"),
        (
            "# ours\nagent:\n  facts:\n    terminus: facter\n",
            "# ours\nagent:\n  facts:\n    terminus: facter\n"
            "master:\n  facts:\n    terminus: puppetdb\n    cache: yaml\n",
        ),
        (
            "server:\n    catalog: # slow\n        terminus: compiler\n",
            "server:\n    facts:\n        terminus: puppetdb\n        cache: yaml\n"
            "    catalog: # slow\n        terminus: compiler\n",
        ),
        (
            "---\r\nmaster:\r\n  facts:\r\n    cache:   json\r\n    terminus: yaml # by hand\r\n",
            "---\r\nmaster:\r\n  facts:\r\n    cache:   json\r\n"
            "    terminus: puppetdb # by hand\r\n",
        ),
        (
            "master:\n  facts:\n    terminus: puppetdb\n    cache: yaml",
            "master:\n  facts:\n    terminus: puppetdb\n    cache: yaml",
        ),
        (
            'master:\n  facts:\n    terminus: yaml\nserver:\n  "facts":\n    cache: yaml\n',
            'master:\n  facts:\n    terminus: yaml\nserver:\n  "facts":\n    cache: yaml\n'
            "    terminus: puppetdb\n",
        ),
    ],
)
def test_set(before: str, after: str) -> None:
    assert edited(before) == after
    assert edited(after) == after
    data = yaml.safe_load(after)
    assert (data.get("server") or data["master"])["facts"]["terminus"] == "puppetdb"


@pytest.mark.parametrize(
    "text",
    [
        "master: {facts: {terminus: yaml}}\n",
        "master:\n  facts: &f\n    terminus: yaml\n",
        "- master\n",
        "master:\n\tfacts:\n",
        "master: facts\n",
    ],
)
def test_other_forms_are_left_alone(text: str) -> None:
    with pytest.raises(EditError):
        edited(text)
