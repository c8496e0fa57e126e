"""Loader, JSON Schema, reference page and examples say the same."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook import model
from runbook.inventory import load
from runbook.inventory.document import parse
from runbook.inventory.problems import Problems
from runbook.inventory.schema import INVENTORY
from runbook.inventory.schema_pages import json_schema, reference
from runbook.inventory.shapes import Page
from runbook.inventory.tables import Table

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "inventories").glob("*.yaml"))
SCHEMA = json_schema()
DEFS, TOP = SCHEMA["$defs"], SCHEMA["properties"]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

TOPOLOGIES = {
    "hardware": "hardware",
    "large-fleet": "tcp-proxy",
    "minimal": None,
    "round-robin": "round-robin",
    "srv": "srv",
    "srv-multi-site": "srv",
    "tcp-proxy": "tcp-proxy",
    "tls-proxy": "tls-proxy",
}


def loader_accepts(data: Any) -> bool:
    """Whether the shapes alone accept `data`; what only the whole shows is not JSON Schema's."""
    problems = Problems("x")
    node = parse(json.dumps(data), problems)  # JSON is YAML in which every text is quoted
    if node is not None:
        INVENTORY.read(node, (), Page(problems))
    return not problems.all()


def examples() -> list[dict[str, Any]]:
    loaded = [yaml.safe_load(path.read_text()) for path in EXAMPLES]
    for data in loaded:
        for waiver in data.get("waivers", ()):
            waiver["expires"] = str(waiver["expires"])  # YAML 1.1 makes a date of it
    return loaded


def test_json_schema_is_valid_and_checked_in() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    written = (ROOT / "runbook/inventory/inventory.schema.json").read_text()
    assert json.loads(written) == json_schema(), "run: python -m runbook.inventory.schema_pages"


def test_reference_page_is_checked_in() -> None:
    written = (ROOT / "docs/reference/inventory.md").read_text()
    assert written == reference(), "run: python -m runbook.inventory.schema_pages"


def test_every_topology_has_its_example() -> None:
    assert {path.stem for path in EXAMPLES} == TOPOLOGIES.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_loads_without_a_warning(path: Path) -> None:
    from runbook.inventory import validate

    assert validate(path) == ()
    site = load(path)
    assert site.sections.get("load_balancing", {}).get("strategy") == TOPOLOGIES[path.stem]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_names_documentation_hosts_only(path: Path) -> None:
    for host in load(path).hosts:
        assert host.name.endswith("example.com")
        assert host.address == "" or host.address.startswith(
            ("192.0.2.", "198.51.100.", "203.0.113.")
        )


def test_examples_pass_the_json_schema() -> None:
    for data in examples():
        VALIDATOR.validate(data)


FREE = {
    *("command", "ignore", "prompt", "reason"),  # texts; each is quoted
    *("file", "key", "known_hosts", "ssh_config"),  # files of whoever starts this
    "pattern",  # its names are looked at one by one
    "repository",  # an address; it starts with no dash
}


def patterns(part: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """What each key's texts have to match, and the keys that are names themselves."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield name, part["pattern"]
        for key, inner in part.items():
            if key == "properties":
                for named, value in inner.items():
                    yield from patterns(value, named)
            else:
                yield from patterns(inner, name)
    elif isinstance(part, list):
        for inner in part:
            yield from patterns(inner, name)


@pytest.mark.parametrize(
    "text",
    [
        *("a b", "a\nb", "a\n", "$(x)", "'x'", '"x"', "`x`", "a;b", "a*", "-x"),
        *("../x", "a/../b", "/../x", "/x/.."),
    ],
)
def test_no_name_and_no_path_on_a_host_can_be_hostile(text: str) -> None:
    found = [(name, p) for name, p in patterns(SCHEMA) if name not in FREE]
    assert len(found) > 40
    assert not [name for name, pattern in found if re.search(pattern, text)]


def test_schema_defaults_are_the_models() -> None:
    rollout = model.Rollout()
    keys = {key.name: key for key in INVENTORY.keys}
    table = keys["rollout"].shape
    assert isinstance(table, Table)
    assert {key.name: int(key.default) for key in table.keys} == {
        "canary": rollout.canary,
        "batch": rollout.batch,
        "max_failures": rollout.max_failures,
    }


# --- agreement ----------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 22, 22.0, 1.5, 65_536, 10**9 + 1, "", " ", "x", "X", "08", "22",
    "yes", "null", "-x", "a b", "a\n", "a;b", "../x", "*", "192.0.2.1", "192.0.2.1:53", "[::1]:22",
    "::1", "cm1.example.com", "CM1.example.com", "user@host:22", "15s", "1.5h", "5%", "500%", "~/x",
    "/etc/x", "https://reports.example.com/x", "https://u:p@git.example.com/x", "2027-01-31",
    "2027-13-31", "srv", "module", "hardware", "git", "clock-skew", "a" * 64, "x" * 300,
    "\u00e9", "\x07", [], ["x"], ["x", None], [[]], {}, {"name": "x"}, {"env": "X"}, {"env": "1"},
    {"file": "f"},
    {"env": "X", "file": "f"}, {"command": "pass x"}, {"path": "/x"}, {"ssh": {"port": 2}},
    {"pattern": "a[1-2]"}, {"strategy": "srv"}, {"strategy": "git"}, {"clients": "module"},
    {"strategy": "tcp-proxy", "host": "lb"}, {"host": "a"}, {"hosts": ["a"]}, {"x": {}},
]  # fmt: skip
NAMES = sorted(
    {name for schema in [SCHEMA, *DEFS.values()] for name in schema["properties"]}
    | {"netns", "module", "clients", "srv_domain", "url", "tsig", "mode", "domain", "x", "<<"}
)  # fmt: skip


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(data, (dict, list)):
        for key, item in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(item, (*path, key))


def mutate(data: Any, draw: st.DataObject) -> Any:
    """`data` with one value replaced, one key removed or one key added."""
    data = copy.deepcopy(data)
    path = draw.draw(st.sampled_from(list(places(data))))
    value = copy.deepcopy(draw.draw(st.sampled_from(VALUES)))
    if not path:
        return (
            {**data, draw.draw(st.sampled_from(NAMES)): value}
            if draw.draw(st.booleans())
            else value
        )
    parent = data
    for key in path[:-1]:
        parent = parent[key]
    kind = draw.draw(st.sampled_from(["replace", "remove", "add"]))
    if kind == "replace":
        parent[path[-1]] = value
    elif kind == "remove":
        del parent[path[-1]]
    elif isinstance(parent[path[-1]], dict):
        parent[path[-1]][draw.draw(st.sampled_from(NAMES))] = value
    return data


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(examples()), st.data())
def test_loader_and_json_schema_agree(start: dict[str, Any], draw: st.DataObject) -> None:
    data = mutate(start, draw)
    faults = [error.message for error in VALIDATOR.iter_errors(data)]
    assert loader_accepts(data) == (not faults), faults


CA = {"ca": {"host": "ca1.example.com"}}
HARDWARE = {"strategy": "hardware"}
WAIVER = {"finding": "x", "reason": "y", "expires": "2027-01-01"}
TABLES: list[tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]] = [
    (SCHEMA, lambda item: {**CA, **item}),
    (TOP["site"], lambda item: {**CA, "site": item}),
    (TOP["ssh"], lambda item: {**CA, "ssh": item}),
    (DEFS["login"], lambda item: {**CA, "groups": {"g": {"ssh": item}}}),
    (DEFS["override"], lambda item: {**CA, "hosts": {"ca1.example.com": item}}),
    (DEFS["server"], lambda item: {**CA, "compile_masters": [{"name": "a", **item}]}),
    (DEFS["agent"], lambda item: {**CA, "agents": [item]}),
    (DEFS["secret"], lambda item: {**CA, "ssh": {"sudo_password": item}}),
    (DEFS["waiver"], lambda item: {**CA, "waivers": [{**WAIVER, **item}]}),
    (TOP["puppet"], lambda item: {**CA, "puppet": item}),
    (TOP["ca"], lambda item: {"ca": {"host": "a", **item}}),
    (TOP["puppetdb"], lambda item: {**CA, "puppetdb": {"host": "p", **item}}),
    (TOP["puppetdb"], lambda item: {**CA, "puppetdb": {"host": "p", "database": item}}),
    (TOP["reports"], lambda item: {**CA, "reports": item}),
    (TOP["code"], lambda item: {**CA, "code": item}),
    (TOP["code"], lambda item: {**CA, "code": {"strategy": "r10k", **item}}),
    (TOP["code"], lambda item: {**CA, "code": {"strategy": "rsync", **item}}),
    (TOP["load_balancing"], lambda item: {**CA, "load_balancing": item}),
    (TOP["load_balancing"], lambda item: {**CA, "load_balancing": {**HARDWARE, **item}}),
    (DEFS["site"], lambda item: {**CA, "load_balancing": {**HARDWARE, "sites": {"g": item}}}),
    (TOP["dns"], lambda item: {**CA, "dns": item}),
    (TOP["rollout"], lambda item: {**CA, "rollout": item}),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:30])
def test_loader_and_json_schema_agree_on_every_key(value: Any) -> None:
    """Each key of each table gets `value`, and so does a key that does not belong there."""
    for schema, build in TABLES:
        for key in [*schema["properties"], "name", "mode", "<<"]:
            data = build({key: copy.deepcopy(value)})
            faults = [error.message for error in VALIDATOR.iter_errors(data)]
            assert loader_accepts(data) == (not faults), (data, faults)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda p: p.stem)
def test_the_examples_name_the_schema_where_it_is(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    if match := re.search(r"\$schema=(\S+)", first):
        assert (file.parent / match[1]).is_file(), first
