"""Whatever the file is, the answer is a site or problems: no traceback, no hang, no flood."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runbook.inventory import InventoryError, load, validate
from runbook.model import Site

ROOT = Path(__file__).parents[2]
HEAD = "ca: {host: primary.example.com, name: ca.example.com}\n"
EXAMPLES = [path.read_text() for path in sorted((ROOT / "inventories").glob("*.yaml"))]
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

POOL = "compile_masters: [c]\n"
SITES = "load_balancing:\n  strategy: round-robin\n  sites:\n" + "".join(
    f"    s{i}: {{server: n{40_000 - i}, servers: [c]}}\n" for i in range(5_000)
)


def only(folder: Path, data: bytes) -> str:
    (folder / "site.yaml").write_bytes(data)
    (problem,) = validate(folder / "site.yaml")
    return str(problem).removeprefix(f"{folder}/site.yaml")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", ":1:1: the file is empty"),
        (b"\n\n# only a comment\n", ":1:1: the file is empty"),
        (b"---\n", ":2:1: the inventory wants a mapping, and this is empty"),
        (b"- 1\n", ":1:1: the inventory wants a mapping, and this is a list"),
        (b"just text\n", ":1:1: the inventory wants a mapping, and this is 'just text'"),
        (b"ca:\n\thost: x\n", ":2:1: a tab stands where YAML wants spaces"),
        (b"ca:\n  host: x\n\t- y\n", ":3:1: a tab stands where YAML wants spaces"),
        (b"ca: {host: x}\n---\nca: {host: y}\n", ":2:1: a second document starts here"),
        (b"ca: {host: x\n", ":2:1: this is not YAML: "),
        (b"ca: 'x\n", ":2:1: this is not YAML: "),
        (b"ca: &a {host: *a}\n", ":1:15: this alias stands inside of what it names: a loop"),
        (b"&a [*a]\n", ":1:5: this alias stands inside of what it names: a loop"),
        (b"? &a [*a]\n: x\n", ":1:7: this alias stands inside of what it names: a loop"),
        (b"ca: *nowhere\n", ":1:5: this alias has no anchor before it"),
        (b"ca: !!python/object/apply:os.system [x]\n", ":1:5: tags are not used here"),
        (LAUGHS.encode(), ":6:8: the document holds more than 100,000 values"),
        (b"[" * 100_000, ":1:18: this is nested deeper than 16 levels"),
        (b"{a: " * 100_000, ":1:66: this is nested deeper than 16 levels"),
        (b"- " * 100_000, ":1:35: this is nested deeper than 16 levels"),
        (b"? " * 100_000, ":1:35: this is nested deeper than 16 levels"),
        (b"ca: {host: '" + b"a" * 4097 + b"'}", ":1:12: a text of more than 4,096 characters"),
        (b"ca: \0", ":1:5: the file holds the character '\\x00', so it is not text"),
        (b"ca:\n \x07", ":2:2: the file holds the character '\\x07', so it is not text"),
        (b"\x7fELF\x02\x01", ":1:1: the file holds the character '\\x7f', so it is not text"),
        (b"ca: \xff\xfe", ":1:5: the file is not UTF-8 text"),
        ("ca: x".encode("utf-16"), ":1:1: the file is UTF-16 (save it as UTF-8)"),
        ("ca: x".encode("utf-16-be"), ":1:1: the file holds the character '\\x00'"),
        (b"#" * (1 << 20) + b"\n", ": '"),
    ],
)
def test_documents(tmp_path: Path, data: bytes, said: str) -> None:
    assert only(tmp_path, data).startswith(said)


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    with path.open("wb") as file:
        file.truncate(50 << 20)
    (problem,) = validate(path)
    assert "has 50.0 MiB; at most 1 MiB are read" in problem.message


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, why in (
        ("none.yaml", "there is no file"),
        ("", "it is a directory"),
        ("fifo", "is not a regular file"),
    ):
        (problem,) = validate(tmp_path / name)
        assert why in problem.message
        assert "pmrunbook lab up" in problem.hint
        assert "inventories/" in problem.hint
        assert problem.line == 0
    assert "not a regular file" in validate("/dev/zero")[0].message
    assert "null byte" in validate("a\0b")[0].message


def test_a_file_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to other users
        path = Path(folder, "site.yaml")
        path.write_text(HEAD)
        path.chmod(0)
        Path(folder).chmod(0o755)
        child = os.fork()
        if child == 0:  # root reads everything, so an ordinary user looks
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                refused = validate(path)[0].message.endswith("Permission denied")
                os._exit(0 if refused else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "agents:\n" + '- {pattern: "a[1-50000]"}\n' * 30_000,
        "agents: {pattern: 'a[1-49000]'}\nhosts:\n"
        + "".join(f"  b{i}: {{}}\n" for i in range(40_000)),
        "groups:\n"
        + "".join(f"  g{i}: {{}}\n" for i in range(4_000))
        + "agents:\n"
        + "".join(f"- {{name: a{i}, group: h{i}}}\n" for i in range(20_000)),
        "agents:\n" + "".join(f"- A{i}\n" for i in range(100_000)),
        "".join(f"a{i}: &a{i} x\n" for i in range(60_000)),
        "ssh: {port: " + "9" * 1_000_000 + "}\n",
        "? " + "k" * 1_000_000 + "\n: x\n",
        "puppet: {server: " + "a-" * 500_000 + "}\n",
        "puppet: {server: " + "a." * 500_000 + "}\n",
        "agents: {pattern: '" + "a[1-9]" * 100_000 + "'}\n",
        "code: {strategy: git, repository: '" + "a:" * 500_000 + "@'}\n",
        "reports: {url: 'http://" + "a:" * 500_000 + " '}\n",
        "waivers: [{finding: x, expires: 2027-01-01, reason: '" + " " * 1_000_000 + "'}]\n",
        "dns: {servers: '" + ":1" * 499_000 + "x'}\n",
        "code: {strategy: git, repository: 'http://" + ":" * 900_000 + "'}\n",
        # Many values, each of them allowed.
        "agents: [&a aa" + ",*a" * 199_000 + "]\n",
        "agents:\n" + "".join(f"- {{name: a{i}, address: '::1'}}\n" for i in range(30_000)),
        "compile_masters:\n" + "".join(f"- c{i}\n" for i in range(90_000)),
        "puppetdb: {hosts: [" + ",".join(f"p{i}" for i in range(95_000)) + "]}\n",
        "agents:\n" + "".join(f"- {{pattern: 'p{i}[1-2]'}}\n" for i in range(30_000)),
        # The patterns are good, the names too long at the end.
        "agents:\n" + f"- {{pattern: 'x[1-50000]{'[1-1]' * 60}'}}\n" * 3_000,
        "agents:\n" + f"- {{pattern: '{'a' * 59}[9999-59998]'}}\n" * 12_000,
        "agents:\n" + "- {pattern: '[1-50000][1-50000]'}\n" * 28_000,
        # Each host for itself.
        "agents: {pattern: 'a[1-50000]'}\nssh: {key: ["
        + ",".join(f"~/{key}" for key in "abcdefghijklmnop")
        + "], jump: [a,b,c,d,e,f,g,h]}\n",
        "agents: {pattern: 'a[1-50000]'}\nhosts:\n"
        + "".join(f"  a{i}: {{ssh: {{key: a}}}}\n" for i in range(1, 16_000)),
        "agents:\n"
        + "".join(
            f"- {{name: a{i}, ssh: {{key: ['~u{i}/a','~v{i}/b']}}}}\n" for i in range(11_000)
        ),
        # All with all.
        f"{POOL}{SITES}agents: {{pattern: 'a[1-40000]'}}\ngroups:\n"
        + "".join(f"  s{i}: {{}}\n" for i in range(9_000)),
        f"{POOL}{SITES}puppet: {{dns_alt_names: [puppet,"
        + ",".join(f"n{i}" for i in range(40_000))
        + "]}\n",
        "groups: {"
        + ",".join(f"{'aaab' * 15}{i}e: {{}}" for i in range(600))
        + "}\nagents: [{pattern: 'b[0-700]'}]\nhosts: {"
        + ",".join(f"b{i}: {{group: {'aab-' * 15}{i}}}" for i in range(600))
        + "}\n",
    ],
    ids=lambda text: text[:40],
)
def test_a_file_made_to_take_long_does_not(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.yaml").write_text(HEAD + text[:1_000_000])
    # What a machine does meanwhile costs the processor too: the best of three counts.
    script = (
        "import sys, time; from runbook.inventory import validate\n"
        "took = []\n"
        "while len(took) < 3 and min(took, default=9) > 1:\n"
        "    start = time.process_time(); found = validate(sys.argv[1])\n"
        "    took.append(time.process_time() - start)\n"
        "print(len(found), min(took))\n"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "site.yaml"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    problems, seconds, peak = map(float, done.stdout.split())
    assert problems <= 101
    assert seconds < 1
    assert peak < 200_000  # KiB of memory


def test_a_large_estate_is_a_site(tmp_path: Path) -> None:
    """With something to say of each of its hosts."""
    host = "- {{name: a{0}.example.com, address: 10.0.0.1, group: g, ssh: {{user: u, port: 22}}}}\n"
    text = f"{HEAD}groups: {{g: {{}}}}\nagents:\n" + "".join(map(host.format, range(7_000)))
    (tmp_path / "site.yaml").write_text(text)
    assert len(load(tmp_path / "site.yaml").hosts) == 7_001


def test_loading_imports_neither_network_nor_screen(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(HEAD)
    script = (
        "import sys; import runbook.inventory; print('yaml' in sys.modules)\n"
        "runbook.inventory.load(sys.argv[1])\n"
        "print(sorted({'yaml', 'fabric', 'dns', 'textual', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "site.yaml"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n['yaml']\n"


# --- fuzz ---------------------------------------------------------------------------------------

SCRAPS = [
    "", "\t", "\n", " ", "  ", ":", ": ", "- ", "? ", "[", "]", "{", "}", ",", "#", "&a ", "*a",
    "!", "!!str ", "|", ">", "'", '"', "%", "@", "`", "---\n", "...\n", "<<: *a\n", "\0", "\x07",
    "\r", "\u2028", "\ufeff", "\u00e9", "no", "08", "0x1f", "1e99", ".inf", ".nan", "~", "null",
    "1_000", "12:30:45", "2027-01-31", "-", "-x", "..", "../", "$(x)", "ca", "hosts:", "{env: X}",
    "a" * 300, "agents: {file: /dev/zero}\n", "agents: {pattern: 'a[1-99999999]'}\n", "{file: .}",
    "'*'", "ssh: {jump: ['[::1]:22', 'a@b@c:1']}\n", "[" * 20,
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    text = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.sampled_from([0, 0, 1, 3, 20, 200]))
        text = text[:at] + draw(st.sampled_from(SCRAPS) | st.text(max_size=4)) + text[at + cut :]
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        where = draw(st.integers(0, len(data)))
        data = data[:where] + draw(st.binary(max_size=4)) + data[where:]
    return data


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mutated())
def test_a_mutilated_inventory_is_a_site_or_problems(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(data)
    try:
        found = load(path)
    except InventoryError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).isprintable()
            assert len(str(problem)) < 1000
            assert problem.line <= data.count(b"\n") + data.count(b"\r") + 10
    else:
        assert isinstance(found, Site)


def test_lines_in_any_order_are_a_site_or_problems(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    shuffle = random.Random(7)  # noqa: S311
    for _ in range(100):
        lines = [line for text in EXAMPLES for line in text.splitlines()]
        path.write_text("\n".join(shuffle.sample(lines, 60)))
        assert all(str(problem).isprintable() for problem in validate(path))
