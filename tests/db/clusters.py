"""Data directories for tests of the embedded PostgreSQL: made once, copied for each test that changes one."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other accounts can enter, as the ones of pytest cannot, with a short name."""
    path = Path(tempfile.mkdtemp(prefix="ik-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def copy_data_directory(source: Path, target: Path) -> None:
    """Copy a stopped data directory with its owners, and make it believe that it was always there."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)
    file = target / "postgres.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"place": str(target)}))
