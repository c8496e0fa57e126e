"""Files as we edit them, read by Puppet's own code: its settings, and what its HOCON library reads.

Settings files also beside what `puppet config set` writes.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.edit import EditError, hocon_list_add_block, hocon_set, ini_set
from runbook.lab.lab import Lab
from steps.code_server import RULE
from tests.core.test_edit_hocon import (
    AUTH_CONF,
    CA_CONF,
    PUPPETSERVER_CONF,
    WEBSERVER_CONF,
    bodies,
)
from tests.core.test_edit_ini import DEBIAN_PUPPET_CONF, FOREMAN_PUPPET_CONF, VENDOR_PUPPET_CONF
from tests.core.test_properties import CONF, HOCON, SLOW_IS_FINE, TEXT, torn
from tests.lab.conftest import must

RUBY = Path(__file__).with_name("edits.rb")
FILES = (CONF, DEBIAN_PUPPET_CONF, FOREMAN_PUPPET_CONF, VENDOR_PUPPET_CONF)
HOSTS = ("ca.example.com", "puppet,puppet.example.com", "store,puppetdb", "$confdir/x", "30m")
SERVER_FILES = (HOCON, CA_CONF, PUPPETSERVER_CONF, WEBSERVER_CONF, AUTH_CONF)
SERVER_SETTINGS = (
    "authorization.allow-header-cert-info",
    "certificate-authority.allow-subject-alt-names",
    "jruby-puppet.max-active-instances",
    "webserver.client-auth",
    "webserver.ssl-crl-path",
    "webserver.ssl-host",
    "webserver.ssl-port",
)
SERVER_VALUES = (
    "true",
    "4",
    "127.0.0.1",
    "need",
    "/etc/puppet/ssl/crl.pem",
    "a b",
    "1e3",
    "007",
    "-1.50",
)
RULES = "authorization.rules"
ASKS = {"path": "/x", "type": "path", "method": "post"}
RULE_READ = {"match-request": ASKS, "allow": "a.example.com", "sort-order": "400", "name": "pm: it"}
OURS = RULE.format(why="It asks.", path="/x", method="post", name="a.example.com", title="pm: it")
Case = tuple[str, str, str, str, str]
Edited = tuple[str, str, str, str]


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


def server_cases() -> list[Edited]:
    """Puppet Server's files likewise, with the edits that steps make."""
    found: list[Edited] = []

    @settings(SLOW_IS_FINE, max_examples=2000, derandomize=True, database=None)
    @given(
        st.one_of(*map(torn, SERVER_FILES), bodies().map(lambda body: "\n".join(body[0]).encode())),
        st.sampled_from((RULES, *SERVER_SETTINGS, "a", "a.b", "b.c-d.e_f")),
        st.sampled_from(SERVER_VALUES) | TEXT,
    )
    def collect(data: bytes, path: str, value: str) -> None:
        try:
            if path == RULES:
                after = hocon_list_add_block(data, path, OURS)
            else:
                after = hocon_set(data, path, value)
            found.append((data.decode(), after.decode(), path, value))
        except (EditError, UnicodeDecodeError):
            return

    collect()
    return found


def taken(value: str) -> str:
    """As Puppet's `value_translator.rb` takes it, as text."""
    if re.fullmatch(r"\d+", value):
        return str(int(value))
    return value.lower() if value.lower() in ("true", "false") else value


def with_setting(before: dict[str, Any], path: str, value: str) -> dict[str, Any]:
    """What was read, with the edit made in it."""
    wanted = deepcopy(before)
    *blocks, key = path.split(".")
    inner = wanted
    for block in blocks:
        inner = inner.setdefault(block, {})
    inner[key] = [*inner[key], RULE_READ] if path == RULES else value
    return wanted


def compared(lab: Lab, host: str) -> tuple[int, int]:
    """How many files Puppet could read, of how many; AssertionError for one it reads otherwise."""
    must(lab.execute(host, "cat >/root/edits.rb", RUBY.read_text()))
    conf, server = cases(), server_cases()
    asked = json.dumps({"ini": conf, "hocon": server})
    run = "ruby=/opt/puppetlabs/puppet/bin/ruby; [ -x $ruby ] || ruby=ruby; $ruby /root/edits.rb"
    said = json.loads(must(lab.execute(host, f"{run}; rm /root/edits.rb", asked, timeout=300)))
    many = 0
    for (_, after, path, put), got in zip(server, said["hocon"], strict=True):
        if got["before"] is None:
            continue  # Puppet cannot read it, whoever edits it
        many += 1
        assert got["after"] == with_setting(got["before"], path, put), after
    assert many > 300
    for (_, after, section, key, value), got in zip(conf, said["ini"], strict=True):
        if got["before"] is None:
            continue
        many += 1
        wanted = {**got["before"], section: {**got["before"].get(section, {}), key: taken(value)}}
        assert got["after"] == wanted, after
        assert got["after"] == got["puppets"], after
    return many, len(conf) + len(server)
