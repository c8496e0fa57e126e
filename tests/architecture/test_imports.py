"""What a command loads, looked at from inside a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "inventories" / "minimal.yaml"
HEAVY = {"textual", "rich", "fabric", "paramiko", "dns", "yaml"}

PROBE = """
import json, sys
sys.argv = ["pmrunbook", *json.loads(sys.argv[1])]
from runbook.cli import main
try:
    main()
except SystemExit:
    pass
sys.stdout.flush()
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def loaded(*args: str, code: str = PROBE) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_version_and_help_load_nothing_heavy() -> None:
    assert loaded("--version") & HEAVY == set()
    assert loaded("--help") & HEAVY == set()


@pytest.mark.parametrize("command", [["validate"], ["status"], ["--dry-run", "--offline"]])
def test_what_needs_no_screen_and_no_host_loads_neither(command: list[str]) -> None:
    modules = loaded(*command, "--inventory", str(EXAMPLE))
    assert modules & {"textual", "fabric", "paramiko"} == set()


def test_the_plain_face_never_loads_the_screens(tmp_path: Path) -> None:
    code = PROBE.replace(
        "import json, sys", f"import json, os, sys\nos.environ['XDG_STATE_HOME']={str(tmp_path)!r}"
    )
    modules = loaded("--plain", "--dry-run", "--inventory", str(EXAMPLE), code=code)
    assert "textual" not in modules
    assert "fabric" in modules


NO_SOCKETS = """
import socket
class Closed(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")
socket.socket = Closed
def refused(*args, **kwargs):
    raise AssertionError("a name was looked up")
socket.getaddrinfo = refused
"""


def test_offline_opens_no_socket() -> None:
    loaded("--dry-run", "--offline", "--inventory", str(EXAMPLE), code=NO_SOCKETS + PROBE)


def test_names_of_runbooks_engine_stay_free_of_puppet() -> None:
    """The engine and its faces know nothing about Puppet; only the steps and the lab do."""
    for name in (
        "engine",
        "crew",
        "doing",
        "scout",
        "approval",
        "undo",
        "journal",
        "plan",
        "plain",
    ):
        text = (ROOT / "runbook" / f"{name}.py").read_text()
        words = [w for w in ("puppetserver", "puppet.conf", "ca_server", "PuppetDB") if w in text]
        assert words == [], name
