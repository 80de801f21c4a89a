"""How each client is told of this server: links that a click installs, and command lines. Pure functions of an address.

None of them carries a token: every one of these clients signs in by itself when the server asks it to.
"""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

USUAL_NAME: Final = "innkeeper"
LONGEST_NAME: Final = 40
_OTHER: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Install:
    """One way into one client: ``href`` is opened by a click, ``command`` is typed into a terminal; one is there."""

    client: str
    href: str | None = None
    command: str | None = None


def installs(mcp_url: str, name: str = USUAL_NAME) -> tuple[Install, ...]:
    """Every way there is, for the endpoint ``mcp_url`` (with its query, if it is narrowed) under ``name``."""
    return (
        Install("Cursor", href=cursor(mcp_url, name)),
        Install("VS Code", href=vscode(mcp_url, name)),
        Install("Claude Code", command=claude_code(mcp_url, name)),
        Install("Codex", command=codex(mcp_url, name)),
    )


def cursor(mcp_url: str, name: str) -> str:
    """Cursor's install link: the entry of its ``mcp.json``, in base64 (cursor.com/docs/mcp/install-links)."""
    config = b64encode(_compact({"url": mcp_url}).encode()).decode()
    return "cursor://anysphere.cursor-deeplink/mcp/install?" + urlencode({"name": name, "config": config})


def vscode(mcp_url: str, name: str) -> str:
    """VS Code's install link: what ``code --add-mcp`` takes, percent-encoded as the whole query (its MCP guide)."""
    return "vscode:mcp/install?" + quote(_compact({"name": name, "type": "http", "url": mcp_url}), safe="")


def claude_code(mcp_url: str, name: str) -> str:
    return shlex.join(["claude", "mcp", "add", "--transport", "http", name, mcp_url])


def codex(mcp_url: str, name: str) -> str:
    return shlex.join(["codex", "mcp", "add", name, "--url", mcp_url])


def named(project_name: str) -> str:
    """A name for a server that is narrowed to one project; Claude Code and Codex take letters, digits, ``-``, ``_``."""
    slug = _OTHER.sub("-", project_name.casefold()).strip("-")
    return f"{USUAL_NAME}-{slug}"[:LONGEST_NAME].rstrip("-")


def _compact(document: dict[str, str]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
