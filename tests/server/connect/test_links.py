"""Links and command lines that put this server into a client."""

from __future__ import annotations

import json
import shlex
from base64 import b64decode
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from server.connect import links

pytestmark = pytest.mark.promise("IDN-40")
URL = "https://inn.example/mcp?project=0190c0de-0000-7000-8000-000000000001&tools=projects,runs"


def test_cursors_link_holds_the_entry_of_its_file_in_base64() -> None:
    link = urlsplit(links.cursor(URL, "innkeeper-größe+1"))
    assert (link.scheme, link.netloc, link.path) == ("cursor", "anysphere.cursor-deeplink", "/mcp/install")
    query = parse_qs(link.query, strict_parsing=True)
    assert query["name"] == ["innkeeper-größe+1"]
    assert json.loads(b64decode(query["config"][0], validate=True)) == {"url": URL}


def test_the_link_of_vs_code_is_one_encoded_object() -> None:
    link = links.vscode(URL, "inn")
    assert link.startswith("vscode:mcp/install?%7B")
    assert "&" not in link
    assert json.loads(unquote(link.partition("?")[2])) == {"name": "inn", "type": "http", "url": URL}


def test_command_lines_survive_a_shell() -> None:
    assert shlex.split(links.claude_code(URL, "inn")) == ["claude", "mcp", "add", "--transport", "http", "inn", URL]
    assert shlex.split(links.codex(URL, "inn")) == ["codex", "mcp", "add", "inn", "--url", URL]


def test_every_client_has_one_way_and_none_carries_a_token() -> None:
    ways = links.installs(URL)
    assert [way.client for way in ways] == ["Cursor", "VS Code", "Claude Code", "Codex"]
    assert all((way.href is None) != (way.command is None) for way in ways)
    assert "uthorization" not in str(ways)


@pytest.mark.parametrize(
    ("project", "name"),
    [
        ("Shop", "innkeeper-shop"),
        ("  Größe & Co. ", "innkeeper-gr-sse-co"),
        ("日本", "innkeeper"),
        ("x" * 99, "innkeeper-" + "x" * 30),
    ],
)
def test_a_project_gives_its_server_a_name_that_every_client_takes(project: str, name: str) -> None:
    assert links.named(project) == name
