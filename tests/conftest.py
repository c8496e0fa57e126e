"""What all tests share.

Where PMRUNBOOK_NO_SKIP is set, a test that was skipped has failed. In the end it is told how many
inputs the properties were tried with.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# A machine that boots hosts meanwhile is slow now and then: that says nothing of an input.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

CASES = "cases"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        told = str(getattr(item, "hypothesis_statistics", ""))
        many = sum(int(n) for n in re.findall(r"(\d+) passing, \d+ failing", told))
        report.user_properties += [(CASES, many)] if many else []
    if report.skipped and os.environ.get("PMRUNBOOK_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may be skipped here"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = terminalreporter.getreports("passed")
    counted = [n for report in passed for name, n in report.user_properties if name == CASES]
    if counted:
        terminalreporter.write_line(f"{sum(counted)} fuzz cases of {len(counted)} properties")
