"""Pytest plugin: which claims of the issues the tests of this run prove, and what may not be passed over in silence.

``--promises FILE`` writes what the tests marked ``promise("HOME-21")`` came to, as JSON: claim -> test -> {"outcome",
"long"}, where a test is its node id without parameters and its outcome the worst of its cases: "failed", "skipped",
"passed", or "collected" when nothing ran. `.ci/promises` reads it. It works under pytest-xdist: what a test proves
travels in its report.

``--long`` runs the tests marked ``long`` too; otherwise the summary says how many were left out. With CI=true a
skipped test fails the run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

WORST_LAST = ("collected", "passed", "skipped", "failed")
PROPERTY = "promise"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("innkeeper")
    group.addoption("--long", action="store_true", help="run the tests marked long too")
    group.addoption("--promises", metavar="FILE", help="write as JSON which claims the tests of this run prove")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Promises(config), "innkeeper-promises")


class Promises:
    """Keeps what the marked tests came to, in the process that pytest was started as."""

    def __init__(self, config: pytest.Config) -> None:
        self.is_worker = hasattr(config, "workerinput")
        self.long = bool(config.getoption("--long"))
        self.file: str | None = config.getoption("--promises")
        self.claims: dict[str, dict[str, dict[str, str | bool]]] = {}
        self.left_out = 0
        self.skipped = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        listing = config.getoption("collectonly")
        left_out = [] if self.long or listing else [item for item in items if item.get_closest_marker("long")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker("long")]
        self.left_out = len(left_out)
        for item in items:
            is_long = item.get_closest_marker("long") is not None
            for claim in claims_of(item):
                item.user_properties.append((PROPERTY, [claim, is_long]))
                if listing:
                    self.add(claim, item.nodeid, "collected", is_long)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped += 1
        if report.when != "call" and report.passed:
            return
        outcome = "skipped" if hasattr(report, "wasxfail") else report.outcome
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, list | tuple):
                claim, is_long = value
                self.add(str(claim), report.nodeid, outcome, bool(is_long))

    def add(self, claim: str, nodeid: str, outcome: str, is_long: bool) -> None:
        tests = self.claims.setdefault(claim, {})
        test = nodeid.partition("[")[0].partition("@")[0]
        before = str(tests[test]["outcome"]) if test in tests else "collected"
        tests[test] = {"outcome": max(before, outcome, key=WORST_LAST.index), "long": is_long}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.is_worker:
            return
        if self.file:
            ordered = {claim: dict(sorted(tests.items())) for claim, tests in sorted(self.claims.items())}
            Path(self.file).write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        if self.skips_fail and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.left_out:
            terminalreporter.write_line(f"{self.left_out} tests marked long were left out; --long runs them")
        if self.skips_fail:
            terminalreporter.write_line(f"{self.skipped} tests were skipped, and with CI=true none may be", red=True)

    @property
    def skips_fail(self) -> bool:
        return self.skipped > 0 and os.environ.get("CI") == "true"


def claims_of(item: pytest.Item) -> Iterable[str]:
    """The claims a test is marked with, each once, in the order of the marks."""
    found = [str(claim) for mark in item.iter_markers("promise") for claim in mark.args]
    if any(mark.name == "promise" and not mark.args for mark in item.iter_markers()):
        raise pytest.UsageError(f"{item.nodeid}: promise needs the number of a claim, as in promise('HOME-21')")
    return dict.fromkeys(found)
