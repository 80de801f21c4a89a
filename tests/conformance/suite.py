"""The official suite as a program: started against a URL with a bearer token, and what it found, by scenario."""

from __future__ import annotations

import asyncio
import json
import re
from asyncio.subprocess import PIPE, STDOUT
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.node import environment, install, node

HERE = Path(__file__).parent
FOLDER = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d{2}-\d{2}T.*Z")


@dataclass(frozen=True)
class Check:
    """One check of a scenario: ``SUCCESS``, ``FAILURE``, ``WARNING`` (a SHOULD), ``SKIPPED`` or ``INFO``."""

    id: str
    status: str
    message: str

    def __str__(self) -> str:
        return f"{self.status} {self.id}: {self.message}"


@dataclass(frozen=True)
class Run:
    """What one start of the suite found. ``exit_code`` is 0 when no scored check failed."""

    exit_code: int
    output: str
    scenarios: dict[str, list[Check]]

    def faults(self, scenario: str) -> list[Check]:
        return [check for check in self.scenarios[scenario] if check.status == "FAILURE"]

    def warnings(self, scenario: str) -> list[Check]:
        return [check for check in self.scenarios[scenario] if check.status == "WARNING"]

    @property
    def failed(self) -> dict[str, list[Check]]:
        """The scenarios with a failed check."""
        return {name: faults for name in sorted(self.scenarios) if (faults := self.faults(name))}

    @property
    def vacuous(self) -> set[str]:
        """The scenarios in which no check came to a verdict."""
        return {name for name, checks in self.scenarios.items() if not any(c.status == "SUCCESS" for c in checks)}


def scored(revision: str) -> tuple[str, ...]:
    """The server scenarios that the specification's revision requires, from the suite's frozen list."""
    install(HERE)
    package = HERE / "node_modules" / "@modelcontextprotocol" / "conformance"
    text = (package / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    required = re.search(r"^server:\n((?:  - .+\n)+)", text, re.MULTILINE)
    assert required is not None
    return tuple(line.removeprefix("  - ") for line in required[1].splitlines())


async def start(*arguments: str) -> asyncio.subprocess.Process:
    """``conformance ARGUMENTS``, to be read while it runs: some of its scenarios wait for a person."""
    modules = await asyncio.to_thread(install, HERE)
    program = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    return await asyncio.create_subprocess_exec(
        node(), str(program), *arguments, stdout=PIPE, stderr=STDOUT, env=environment()
    )


def checks(results: Path) -> list[Check]:
    """Everything that was checked, whatever the scenario."""
    return [
        Check(check["id"], check["status"], check.get("errorMessage") or "")
        for file in sorted(results.rglob("checks.json"))
        for check in json.loads(file.read_text(encoding="utf-8"))
    ]


async def run(url: str, token: str | None, results: Path, *arguments: str) -> Run:
    """``conformance server --url URL ARGUMENTS``. Its results land in ``results``, a folder of its own for each run."""
    modules = await asyncio.to_thread(install, HERE)
    program = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    surroundings = environment()
    if token is not None:
        surroundings["NODE_OPTIONS"] = f"--import={HERE / 'bearer.mjs'}"
        surroundings["CONFORMANCE_ORIGIN"] = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        surroundings["CONFORMANCE_TOKEN"] = token
    process = await asyncio.create_subprocess_exec(
        node(), str(program), "server", "--url", url, "-o", str(results), *arguments,
        stdout=PIPE, stderr=STDOUT, env=surroundings,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Run(process.returncode or 0, output.decode(), _read(results))


def _read(results: Path) -> dict[str, list[Check]]:
    scenarios: dict[str, list[Check]] = {}
    for file in results.rglob("checks.json"):
        named = FOLDER.fullmatch(file.parent.name)
        assert named is not None, file
        scenarios[named["scenario"]] = [
            Check(check["id"], check["status"], check.get("errorMessage") or "")
            for check in json.loads(file.read_text(encoding="utf-8"))
        ]
    return scenarios
