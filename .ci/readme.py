"""Carries out README's commands, as they stand there, in the checkout it is started in.

A command is the fenced block after ``<!-- ci:run -->`` (installs and starts Innkeeper) or ``<!-- ci:test -->``.

``readme.py run LOG``  starts the first, waits until it serves, carries out the curl line it prints, which starts an
                       agent run that must finish, and stops it with an interrupt: it must end by itself
``readme.py test``     becomes the second
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FENCE = re.compile(r"<!-- ci:(\w+) -->\s*```\w*\n(.*?)\n```", re.DOTALL)
# pip may compile nothing and still takes a while on a machine that has never seen these packages.
START_SECONDS = 600
STOP_SECONDS = 60


def command(name: str) -> str:
    found = dict(FENCE.findall(Path("README.md").read_text(encoding="utf-8")))
    if name not in found:
        sys.exit(f"README.md has no fenced block after <!-- ci:{name} -->")
    lines = [line.removeprefix("$ ") for line in str(found[name]).splitlines() if line.strip()]
    if len(lines) != 1:
        sys.exit(f"README.md's command '{name}' is {len(lines)} lines, and it is promised to be one")
    return lines[0]


def curl_line(log: str) -> str | None:
    """The printed command, with its continuation lines. Nothing before it is whole."""
    found = re.search(r"^\s*(curl .*(?:\\\n.*)*)\n", log, re.MULTILINE)
    return found[1] if found and not found[1].endswith("\\") else None


def first_start(log: Path) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="innkeeper-start-") as data, log.open("w+", encoding="utf-8") as output:
        Path(data).chmod(0o755)  # a database server that root starts runs as another account
        house = subprocess.Popen(
            ["bash", "-c", command("run")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "INNKEEPER_DATA": f"{data}/inn"},
            start_new_session=True,
        )
        try:
            while not (printed := curl_line(log.read_text(encoding="utf-8"))):
                if house.poll() is not None or time.monotonic() - started > START_SECONDS:
                    raise RuntimeError("Innkeeper did not start")
                time.sleep(0.2)
            print(f"serves after {time.monotonic() - started:.0f} s, and says: {printed}")
            run = subprocess.run(["bash", "-c", printed], capture_output=True, text=True, timeout=120, check=False)
            if run.returncode or "RUN_FINISHED" not in run.stdout:
                raise RuntimeError(f"the printed curl line did not finish a run:\n{run.stdout}\n{run.stderr}")
            os.killpg(house.pid, signal.SIGINT)
            house.wait(STOP_SECONDS)
        except BaseException:
            sys.stdout.write(log.read_text(encoding="utf-8"))
            if house.poll() is None:
                os.killpg(house.pid, signal.SIGKILL)
            raise
    print(f"stopped with exit code {house.returncode}")


def main(arguments: list[str]) -> None:
    match arguments:
        case ["run", log]:
            first_start(Path(log))
        case ["test"]:
            os.execvp("bash", ["bash", "-c", command("test")])
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
