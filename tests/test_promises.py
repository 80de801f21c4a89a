"""The machinery of docs/promises.md, on small suites of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUITE = """
import pytest

@pytest.mark.promise("HOME-01")
@pytest.mark.parametrize("n", [1, 2])
def test_passes(n): pass

@pytest.mark.promise("HOME-02", "HOME-03")
@pytest.mark.parametrize("n", [1, 2])
def test_skips_once(n):
    if n == 1:
        pytest.skip("no reason")

@pytest.mark.promise("HOME-04")
def test_fails(broken): pass

@pytest.mark.long
@pytest.mark.promise("HOME-05")
def test_takes_long(): pass

@pytest.fixture
def broken(): raise RuntimeError("setup fails")
"""
# Loading every installed plugin is most of what a small run would take.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
TWO_WORKERS = ("-p", "xdist.plugin", "-n", "2")
CONFIGURATION = "[pytest]\nmarkers =\n  promise(*ids): claims\n  long: long\n"


class Suite:
    """A suite in a folder of its own, run with the plugin alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pytest.ini").write_text(CONFIGURATION)

    def run(self, source: str, *arguments: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
        (self.folder / "test_suite.py").write_text(source)
        environment = {k: v for k, v in os.environ.items() if k not in {"CI", "PYTEST_ADDOPTS"}}
        environment |= {"PYTHONPATH": str(ROOT)} | ALONE | ({"CI": "true"} if ci else {})
        command = [sys.executable, "-m", "pytest", "-p", "tests.promises", "-p", "no:cacheprovider", "--rootdir", "."]
        return subprocess.run(
            [*command, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def claims(self, source: str, *arguments: str) -> dict[str, Any]:
        file = self.folder / "claims.json"
        self.run(source, "--promises", str(file), *arguments)
        found: dict[str, Any] = json.loads(file.read_text())
        return found


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


@pytest.mark.promise("HOME-60")
@pytest.mark.parametrize("arguments", [(), TWO_WORKERS], ids=["one process", "two workers"])
def test_a_claim_gets_the_worst_outcome_of_each_of_its_tests(suite: Suite, arguments: tuple[str, ...]) -> None:
    assert suite.claims(SUITE, *arguments) == {
        "HOME-01": {"test_suite.py::test_passes": {"outcome": "passed", "long": False}},
        "HOME-02": {"test_suite.py::test_skips_once": {"outcome": "skipped", "long": False}},
        "HOME-03": {"test_suite.py::test_skips_once": {"outcome": "skipped", "long": False}},
        "HOME-04": {"test_suite.py::test_fails": {"outcome": "failed", "long": False}},
    }


async def test_long_tests_run_only_when_asked_for_and_the_summary_says_so(suite: Suite) -> None:
    assert suite.claims(SUITE, "--long")["HOME-05"]["test_suite.py::test_takes_long"]["outcome"] == "passed"
    assert "1 tests marked long were left out" in suite.run(SUITE).stdout


@pytest.mark.promise("HOME-40")
@pytest.mark.parametrize("arguments", [(), TWO_WORKERS], ids=["one process", "two workers"])
def test_a_skipped_test_fails_the_run_with_ci_true_and_only_then(suite: Suite, arguments: tuple[str, ...]) -> None:
    source = "import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('why')\n"
    assert suite.run(source, *arguments).returncode == 0
    red = suite.run(source, *arguments, ci=True)
    assert red.returncode == 1
    assert "1 tests were skipped, and with CI=true none may be" in red.stdout
    assert suite.run("def test_a(): pass\n", *arguments, ci=True).returncode == 0


def test_a_mark_without_a_claim_is_refused(suite: Suite) -> None:
    run = suite.run("import pytest\n@pytest.mark.promise()\ndef test_a(): pass\n")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "promise needs the number of a claim" in run.stderr + run.stdout


def load(name: str) -> Any:
    """A script of .ci as a module."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / f".ci/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


promises = load("promises")
HOLDS = promises.Claim("HOME-01", 2, "It works.")
LATER = promises.Claim("HOME-02", 2, "It flies.", not_yet="No wings.")


def came_to(outcome: str, *, long: bool = False) -> Any:
    return {"HOME-01": {"tests/test_a.py::test_a": {"outcome": outcome, "long": long}}}


def faults(claims: list[Any], collected: Any, results: Any, *, long: bool = False) -> list[str]:
    found: list[str] = promises.faults(claims, collected, results, promises.page(claims, collected), long)
    return found


@pytest.mark.promise("HOME-60")
def test_a_held_claim_needs_a_test_that_ran_and_passed() -> None:
    marked = came_to("collected")
    assert faults([HOLDS], marked, came_to("passed")) == []
    assert faults([HOLDS], {}, {}) == ["HOME-01 is said to hold and no test is marked with it"]
    for outcome in ("failed", "skipped"):
        said = faults([HOLDS], marked, came_to(outcome))
        assert said == [f"HOME-01 is said to hold and tests/test_a.py::test_a is {outcome}"]
    assert faults([HOLDS], marked, {}) == ["HOME-01 is said to hold and tests/test_a.py::test_a is not run"]


def test_the_worst_of_several_runs_counts_for_a_test_whose_cases_are_spread_over_them() -> None:
    outcomes = [("passed", "passed"), ("passed", "failed"), ("failed", "passed"), ("skipped", "passed")]
    for first, second in outcomes:
        worst = first if first != "passed" else second
        assert promises.merged([came_to(first), came_to(second)]) == came_to(worst)
    assert promises.merged([came_to("passed"), {}]) == came_to("passed")


@pytest.mark.promise("HOME-60")
def test_a_command_may_prove_a_claim_and_a_long_test_is_asked_for_in_the_long_form() -> None:
    proven = promises.Claim("HOME-01", 2, "It works.", command="make")
    assert faults([proven], {}, {}) == []
    marked = came_to("collected", long=True)
    assert faults([HOLDS], marked, {}) == []
    assert faults([HOLDS], marked, {}, long=True) == ["HOME-01 is said to hold and tests/test_a.py::test_a is not run"]


@pytest.mark.promise("HOME-60")
def test_a_stale_page_and_an_unknown_claim_are_faults() -> None:
    marked = came_to("collected")
    said = promises.faults([HOLDS], marked, came_to("passed"), "# Promises")
    assert said == ["docs/promises.md is stale: run .ci/promises.py write"]
    assert faults([LATER], marked, {}) == ["HOME-01 is marked in the tests, and docs/promises.toml does not have it"]


def test_what_does_not_hold_yet_stands_on_top_with_its_reason() -> None:
    page = promises.page([HOLDS, LATER], came_to("collected"))
    assert "1 of 2 claims hold" in page
    assert page.index("**Not yet:** No wings.") < page.index("### HOME-01")
    assert "- `tests/test_a.py::test_a`" in page


@pytest.mark.promise("HOME-60")
@pytest.mark.parametrize(
    ("message", "fine"),
    [
        ("feat: say hello", True),
        ("fix(db)!: say goodbye\n\nBecause.\n# a comment of git's", True),
        ("Merge branch 'main'", True),
        ("say hello", False),
        ("feat:say hello", False),
        ("feat: " + "x" * 120, False),
        ("feat: say hello\nand goodbye", False),
        ("", False),
    ],
)
def test_commit_messages_are_conventional(message: str, fine: bool) -> None:
    assert (load("commit_message").fault(message) is None) == fine


@pytest.mark.promise("HOME-62")
def test_readmes_two_commands_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    readme = load("readme")
    assert readme.command("run").endswith("innkeeper up")
    assert "pytest" in readme.command("test")


@pytest.mark.promise("HOME-60")
def test_the_pages_made_from_the_code_are_fresh() -> None:
    stale = load("pages").stale()
    assert stale == [], "run .ci/pages.py write"
    assert "<!-- tools -->" in (ROOT / "README.md").read_text(encoding="utf-8")
