"""What ``innkeeper up`` prints for people: configuration to paste into clients, and a first request."""

from __future__ import annotations

import json
import shlex
from pathlib import Path


def welcome(*, url: str, api_key: str, key_file: Path, literal: bool, program: str, data: Path | None) -> str:
    """The text for a terminal. The key itself appears only when ``literal``; else the shell reads it from its file.
    ``program``: this program as the person types it; ``data``: the directory that its other commands must be told."""
    mcp_url = f"{url}/mcp"
    shown = api_key if literal else f"$(cat {shlex.quote(str(key_file))})"
    entry: dict[str, object] = {"url": mcp_url, "headers": {"Authorization": f"Bearer {shown}"}}
    cursor: dict[str, object] = {"mcpServers": {"innkeeper": entry}}
    vscode: dict[str, object] = {"servers": {"innkeeper": {"type": "http", **entry}}}
    body = {
        "threadId": "hello",
        "runId": "hello-1",
        "messages": [{"id": "1", "role": "user", "content": "Show me what you can do"}],
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {},
    }
    there = "" if data is None else f" --data {shlex.quote(str(data))}"
    curl = f'curl -N "{url}/agui/demo" -H "Authorization: Bearer {shown}" -H "Content-Type: application/json" '
    curl += f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    return "\n".join(
        (
            f"Innkeeper is ready: {url}",
            f"  MCP endpoint  {mcp_url}",
            f"  secret key    {api_key if literal else key_file}",
            "",
            "Its pages in your browser, by a link that signs you in:",
            f"  {program} open{there}",
            "",
            "Every client of this computer, signed in by your browser:",
            f"  {program} connect --url {url}",
            "",
            "Claude Code:",
            f'  claude mcp add --transport http innkeeper {mcp_url} --header "Authorization: Bearer {shown}"',
            "",
            "Cursor:",
            *_file(".cursor/mcp.json", cursor, literal),
            "",
            "VS Code:",
            *_file(".vscode/mcp.json", vscode, literal),
            "",
            "A first agent run (the agent 'demo' is scripted, not a model; it calls real tools over MCP):",
            f"  {curl}",
            "",
            "Stop with Ctrl-C.",
        )
    )


def _file(path: str, content: dict[str, object], literal: bool) -> tuple[str, ...]:
    """The content of a file; without the literal key, a shell command that fills the key in as it writes the file."""
    text = json.dumps(content, ensure_ascii=False)
    if literal:
        return f"  in {path}:", f"  {text}"
    return f"mkdir -p {path.partition('/')[0]} && [ ! -e {path} ] && cat > {path} <<END", text, "END"
