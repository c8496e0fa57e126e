"""A wheel of the tree, in an empty virtual environment away from the checkout, is all one needs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the wheel alone; the dependencies are borrowed from the environment of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "checkout-index", "-a", f"--prefix={source}/"], cwd=ROOT, check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(build, check=True)
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    wheel = next(folder.glob("*.whl"))
    subprocess.run(
        [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)],
        check=True,
    )
    return folder / "venv"


def packages(environment: Path) -> Path:
    return next((environment / "lib").glob("python3*/site-packages"))


def run(environment: Path, *args: str) -> subprocess.CompletedProcess[str]:
    borrowed = sysconfig.get_paths()["purelib"]
    return subprocess.run(
        [str(environment / "bin" / "pmrunbook"), *args],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": borrowed, "HOME": str(environment)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_site_packages_gain_runbook_and_nothing_else(environment: Path) -> None:
    found = {p.name for p in packages(environment).iterdir() if not p.name.startswith("pip")}
    assert {n for n in found if not n.endswith((".dist-info", ".pth"))} == {"runbook"}


def test_it_runs_from_there(environment: Path) -> None:
    assert run(environment, "--version").stdout.startswith("pmrunbook ")
    for example in sorted((packages(environment) / "runbook" / "inventories").glob("*.yaml")):
        checked = run(environment, "validate", str(example))
        assert checked.returncode == 0, checked.stdout + checked.stderr
        offline = run(environment, "--dry-run", "--offline", "-i", str(example))
        assert offline.returncode == 0, offline.stderr
        assert "[ca]" in offline.stdout
        assert "in [main] of puppet.conf" in offline.stdout  # what the inventory alone tells
    lab = run(environment, "lab", "status")
    assert lab.returncode == 1
    assert "lab up" in lab.stderr


def test_every_data_file_came_along(environment: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "runbook", "steps", "inventories"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    root = packages(environment) / "runbook"
    missing = []
    for name in tracked:
        top, rest = name.split("/", 1)
        if not (root / (rest if top == "runbook" else f"{top}/{rest}")).exists():
            missing.append(name)
    assert missing == []
