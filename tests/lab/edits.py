"""Settings files as we edit them, read by Puppet itself, beside what `puppet config set` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.edit import EditError, ini_set
from runbook.lab.lab import Lab
from tests.core.test_edit_ini import DEBIAN_PUPPET_CONF, FOREMAN_PUPPET_CONF, VENDOR_PUPPET_CONF
from tests.core.test_properties import CONF, SLOW_IS_FINE, TEXT, torn
from tests.lab.conftest import must

RUBY = Path(__file__).with_name("edits.rb")
FILES = (CONF, DEBIAN_PUPPET_CONF, FOREMAN_PUPPET_CONF, VENDOR_PUPPET_CONF)
HOSTS = ("ca.example.com", "puppet,puppet.example.com", "store,puppetdb", "$confdir/x", "30m")
Case = tuple[str, str, str, str, str]


def cases() -> list[Case]:
    """Files of text, as Puppet reads them, before and after; the same ones at every run."""
    found: list[Case] = []

    @settings(SLOW_IS_FINE, max_examples=2000, derandomize=True, database=None)
    @given(
        st.one_of(*map(torn, FILES)),
        st.sampled_from(["main", "agent", "server", "new"]),
        st.sampled_from(["server", "ca_server", "reports", "dns_alt_names"]),
        st.sampled_from(HOSTS) | TEXT,
    )
    def collect(data: bytes, section: str, key: str, value: str) -> None:
        try:
            after = ini_set(data, section, key, value)
            found.append((data.decode(), after.decode(), section, key, value))
        except (EditError, UnicodeDecodeError):
            return

    collect()
    return found


def taken(value: str) -> str:
    """As Puppet's `value_translator.rb` takes it, as text."""
    if re.fullmatch(r"\d+", value):
        return str(int(value))
    return value.lower() if value.lower() in ("true", "false") else value


def compared(lab: Lab, host: str) -> tuple[int, int]:
    """How many files Puppet could read, of how many; AssertionError for one it reads otherwise."""
    must(lab.execute(host, "cat >/root/edits.rb", RUBY.read_text()))
    asked = cases()
    run = "ruby=/opt/puppetlabs/puppet/bin/ruby; [ -x $ruby ] || ruby=ruby; $ruby /root/edits.rb"
    said = must(lab.execute(host, f"{run}; rm /root/edits.rb", json.dumps(asked), timeout=300))
    many = 0
    for (_, after, section, key, value), got in zip(asked, json.loads(said), strict=True):
        if got["before"] is None:
            continue  # Puppet cannot read it, whoever edits it
        many += 1
        wanted = {**got["before"], section: {**got["before"].get(section, {}), key: taken(value)}}
        assert got["after"] == wanted, after
        assert got["after"] == got["puppets"], after
    return many, len(asked)
