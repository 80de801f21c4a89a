"""The Claude Code that comes with ``claude-agent-sdk``, as requirements-dev.txt brings it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def bundled() -> Path:
    """The folder of the program ``claude``. Skips the test that asks, where there is none."""
    package = importlib.util.find_spec("claude_agent_sdk")
    if package is None or package.origin is None:
        pytest.skip("Claude Code is not installed: pip install -r requirements-dev.txt brings it")
    folder = Path(package.origin).parent / "_bundled"
    if not (folder / "claude").exists():
        pytest.skip("claude-agent-sdk brings no Claude Code for this platform")
    return folder
