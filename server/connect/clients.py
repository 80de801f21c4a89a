"""The clients that can be configured: how they are found on a computer, where their file is, what an entry says.

Sources: code.claude.com/docs/en/mcp, cursor.com/docs/mcp, developers.openai.com/codex/mcp,
code.visualstudio.com/docs/agents/reference/mcp-configuration. All of them sign in by themselves when a server asks.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Transport = Literal["http", "stdio"]


@dataclass(frozen=True, slots=True)
class Computer:
    """Whose home it is, and on which system: ``linux``, ``darwin`` or ``win32``."""

    platform: str
    home: Path
    environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def here(cls) -> Computer:
        return cls(sys.platform, Path.home(), os.environ)

    def program(self, name: str) -> Path | None:
        """The program as a shell would find it."""
        found = shutil.which(name, path=self.environ.get("PATH", ""))
        return Path(found) if found else None

    def folder(self, variable: str, *usual: str) -> Path:
        """A folder that an environment variable may name, else one below the home."""
        named = self.environ.get(variable)
        return Path(named) if named else self.home.joinpath(*usual)

    @property
    def application_data(self) -> Path:
        """Where desktop applications keep their settings."""
        if self.platform == "win32":
            return self.folder("APPDATA", "AppData", "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.folder("XDG_CONFIG_HOME", ".config")

    @property
    def own(self) -> Path:
        """Where Innkeeper keeps what belongs to a person on a terminal."""
        return self.home / ".config" / "innkeeper"


ASKS_ITSELF: Final = "It asks you to sign in, in your browser, when it first starts the server."


@dataclass(frozen=True, slots=True)
class Client:
    """``programs``: any of them on the path, or ``folder``, show that it is there. ``servers``: where its file has the
    servers. ``helper``: the field of an entry for a command line that prints headers, such as that with a token."""

    id: str
    title: str
    programs: tuple[str, ...]
    folder: Callable[[Computer], Path]
    file: Callable[[Computer], Path]
    form: Literal["json", "toml"]
    servers: str
    typed: bool
    helper: str | None = None

    def found(self, computer: Computer) -> str | None:
        """What shows that it is there."""
        for name in self.programs:
            if (program := computer.program(name)) is not None:
                return str(program)
        folder = self.folder(computer)
        return str(folder) if folder.is_dir() else None

    def entry(self, mcp_url: str) -> dict[str, Any]:
        return {"type": "http", "url": mcp_url} if self.typed else {"url": mcp_url}

    def started(self, command: Sequence[str]) -> dict[str, Any]:
        """An entry for a server that is a program; its last word is the address that it leads to."""
        program = {"command": command[0], "args": list(command[1:])}
        return {"type": "stdio", **program} if self.typed else program

    @property
    def transport(self) -> Transport:
        """The one by which it is signed in: over HTTP if it takes its token from a program, else that is a program."""
        return "http" if self.helper else "stdio"

    def signs_in(self, transport: Transport | None) -> str:
        if (transport or self.transport) == "stdio":
            return "It is signed in: it starts Innkeeper's command line in the place of a server."
        if self.helper is None:
            return ASKS_ITSELF
        return "It is signed in: it asks Innkeeper's command line for its token."


def client_named(name: str | None) -> Client | None:
    """The client of that id, or with a program of that name: ``claude``, ``code``."""
    return next((client for client in CLIENTS if name in (client.id, *client.programs)), None)


def leads_to(entry: Mapping[str, Any]) -> Any:
    """The address of an entry, whichever way it goes there."""
    return entry.get("url") or next(reversed(entry.get("args") or []), None)


def _claude(computer: Computer) -> Path:
    return computer.folder("CLAUDE_CONFIG_DIR", ".claude")


def _claude_file(computer: Computer) -> Path:
    return computer.folder("CLAUDE_CONFIG_DIR") / ".claude.json"


def _code(computer: Computer) -> Path:
    return computer.application_data / "Code" / "User"


def _insiders(computer: Computer) -> Path:
    return computer.application_data / "Code - Insiders" / "User"


def _codex(computer: Computer) -> Path:
    return computer.folder("CODEX_HOME", ".codex")


CLAUDE_CODE: Final = Client(
    "claude-code",
    "Claude Code",
    ("claude",),
    _claude,
    _claude_file,
    "json",
    "mcpServers",
    True,
    "headersHelper",
)
CLIENTS: Final = (
    CLAUDE_CODE,
    Client(
        "cursor",
        "Cursor",
        ("cursor", "cursor-agent"),
        lambda computer: computer.home / ".cursor",
        lambda computer: computer.home / ".cursor" / "mcp.json",
        "json",
        "mcpServers",
        False,
    ),
    Client(
        "vscode", "VS Code", ("code",), _code, lambda computer: _code(computer) / "mcp.json",
        "json", "servers", True,
    ),
    Client(
        "vscode-insiders", "VS Code Insiders", ("code-insiders",), _insiders,
        lambda computer: _insiders(computer) / "mcp.json", "json", "servers", True,
    ),
    Client(
        "codex",
        "Codex",
        ("codex",),
        _codex,
        lambda computer: _codex(computer) / "config.toml",
        "toml",
        "mcp_servers",
        False,
        "http_headers_helper",
    ),
)  # fmt: skip
