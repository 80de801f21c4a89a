"""Checks commit messages: conventional commits, a subject of at most 100 characters, an empty second line.

``.ci/commit_message.py FILE``  one message, as git's commit-msg hook passes it
``.ci/commit_message.py``       every commit that HEAD reaches
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

KINDS = ("build", "chore", "ci", "docs", "feat", "fix", "perf", "refactor", "revert", "style", "test")
SUBJECT = re.compile(rf"({'|'.join(KINDS)})(\([a-z0-9 ,/._-]+\))?!?: \S.*")
LONGEST = 100


def fault(message: str) -> str | None:
    """What is wrong with a message, or None. Merges, and what git wrote itself, are fine."""
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    if subject.startswith(("Merge ", 'Revert "', "fixup! ", "squash! ")):
        return None
    if not SUBJECT.fullmatch(subject):
        return f"'{subject}' is not '<kind>: <what it does>' with a kind out of {', '.join(KINDS)}"
    if len(subject) > LONGEST:
        return f"'{subject}' is longer than {LONGEST} characters"
    if len(lines) > 1 and lines[1].strip():
        return f"'{subject}' is not followed by an empty line"
    return None


def history() -> list[str]:
    log = subprocess.run(["git", "log", "--format=%B%x00", "HEAD"], capture_output=True, text=True, check=True).stdout
    return [message.strip("\n") for message in log.split("\0") if message.strip()]


def main(arguments: list[str]) -> None:
    messages = [Path(arguments[0]).read_text(encoding="utf-8")] if arguments else history()
    found = [wrong for message in messages if (wrong := fault(message))]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(messages)} commit messages are fine")


if __name__ == "__main__":
    main(sys.argv[1:])
