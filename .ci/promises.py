"""Writes docs/promises.md, and says whether the promises were kept.

``.ci/promises.py write``                 from docs/promises.toml and the tests' marks
``.ci/promises.py check RESULTS... [--long]`` fails when the page is stale, when a mark names an unknown claim, and when
a held claim has no test that ran, or one that did not pass. RESULTS are what ``pytest --promises RESULTS`` wrote, one
file for each run of it. Without ``--long`` a claim whose tests are all marked ``long`` counts as held: the long form of
CI runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/promises.md"
SOURCE = ROOT / "docs/promises.toml"
INTRODUCTION = """\
# Promises

Every numbered claim of the issues, its sentence, and what proves it: the tests marked with its number, or a command.
CI fails on a claim whose tests are missing, skipped or red. This page is generated (`.ci/promises.py write`) from
`docs/promises.toml` and the tests' marks.
"""

Results = dict[str, dict[str, dict[str, str | bool]]]


@dataclass(frozen=True)
class Claim:
    id: str
    issue: int
    says: str
    command: str | None = None
    not_yet: str | None = None


def claims() -> list[Claim]:
    return [Claim(**entry) for entry in tomllib.loads(SOURCE.read_text(encoding="utf-8"))["claim"]]


def collect() -> Results:
    """What is marked, without running it: claim -> test -> {"outcome": "collected", "long": bool}."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "collected.json"
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--promises", str(file)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            sys.exit(f"The tests cannot be collected:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}")
        found: Results = json.loads(file.read_text(encoding="utf-8"))
    return found


def page(claims: list[Claim], collected: Results) -> str:
    open_claims = [claim for claim in claims if claim.not_yet]
    held = [claim for claim in claims if not claim.not_yet]
    parts = [INTRODUCTION, f"{len(held)} of {len(claims)} claims hold.\n", "## Not yet\n"]
    parts += [entry(claim, collected) for claim in open_claims] or ["Nothing.\n"]
    parts += ["## Held\n"]
    parts += [entry(claim, collected) for claim in held]
    return "\n".join(parts)


def entry(claim: Claim, collected: Results) -> str:
    lines = [f"### {claim.id}\n", f"{claim.says}\n"]
    if claim.not_yet:
        lines.append(f"**Not yet:** {claim.not_yet}\n")
    if claim.command:
        lines.append(f"- `{claim.command}`")
    for test, facts in collected.get(claim.id, {}).items():
        lines.append(f"- `{test}`" + (" (long)" if facts["long"] else ""))
    return "\n".join(lines).rstrip() + "\n"


def merged(runs: Iterable[Results]) -> Results:
    """What several runs of pytest came to. A test whose cases are spread over them passed if all of them did."""
    found: Results = {}
    for run in runs:
        for claim, tests in run.items():
            for test, facts in tests.items():
                before = found.setdefault(claim, {}).get(test)
                if before is None or before["outcome"] == "passed":
                    found[claim][test] = facts
    return found


def faults(claims: list[Claim], collected: Results, results: Results, written: str, long: bool = False) -> list[str]:
    """What is wrong, a sentence each; empty when every promise is kept. ``written``: the page as it is."""
    unknown = sorted(set(collected) - {claim.id for claim in claims})
    found = [f"{name} is marked in the tests, and docs/promises.toml does not have it" for name in unknown]
    for claim in claims:
        if claim.not_yet:
            continue
        marked = collected.get(claim.id, {})
        expected = {test for test, facts in marked.items() if long or not facts["long"]}
        if not marked and not claim.command:
            found.append(f"{claim.id} is said to hold and no test is marked with it")
        for test in sorted(expected):
            outcome = results.get(claim.id, {}).get(test, {}).get("outcome", "not run")
            if outcome != "passed":
                found.append(f"{claim.id} is said to hold and {test} is {outcome}")
    if written != page(claims, collected):
        found.append("docs/promises.md is stale: run .ci/promises.py write")
    return found


def main(arguments: list[str]) -> None:
    match arguments:
        case ["write"]:
            PAGE.write_text(page(claims(), collect()), encoding="utf-8")
        case ["check", first, *rest]:
            files = [first, *(name for name in rest if name != "--long")]
            given = merged(json.loads(Path(name).read_text(encoding="utf-8")) for name in files)
            written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
            if found := faults(claims(), collect(), given, written, "--long" in rest):
                sys.exit("\n".join(found))
            print(f"{sum(not claim.not_yet for claim in claims())} of {len(claims())} claims hold")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
