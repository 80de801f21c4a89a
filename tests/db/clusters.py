"""Data directories for tests of the embedded PostgreSQL: made once, copied for each test that changes one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ENOUGH = 4 << 30


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other accounts can enter, as the ones of pytest cannot, with a short name: in memory, where there
    is enough of it. A database a test makes and removes hundreds of files, and some file systems take their time."""
    path = Path(tempfile.mkdtemp(prefix="ik-", dir=MEMORY if _roomy(MEMORY) else None))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _roomy(folder: Path) -> bool:
    """Whether programs and much data may lie there."""
    if not os.access(folder, os.W_OK):
        return False
    there = os.statvfs(folder)
    return not there.f_flag & getattr(os, "ST_NOEXEC", 0) and there.f_bavail * there.f_frsize >= ENOUGH


def copy_data_directory(source: Path, target: Path) -> None:
    """Copy a stopped data directory with its owners, and make it believe that it was always there."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)
    file = target / "postgres.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"place": str(target)}))
