"""What can go wrong with the embedded database, each with a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

from db.errors import AppError


class EmbeddedError(AppError):
    """The embedded database cannot be started, upgraded or stopped. Not retryable: someone has to do something."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(code, 503, message, hint)


class DataDirectoryInUse(EmbeddedError):  # noqa: N818 -- it names a state that callers ask for, like FileExists
    """Another process owns the data directory. ``pid`` is None while the other has not yet said its own."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        who = f"the process {pid}" if pid else "another process"
        super().__init__(
            "data_directory_in_use",
            f"The data directory {data_dir} is in use by {who}.",
            f"Stop that process first{f' (kill {pid})' if pid else ''}, or name another data directory.",
        )
        self.pid = pid


def server_failed(what: str, log: Path, lines: list[str]) -> EmbeddedError:
    """PostgreSQL or initdb ended by itself: the sentence carries the last lines it wrote."""
    said = "".join(f"\n  {line}" for line in lines) or " nothing"
    return EmbeddedError(
        "database_failed",
        f"{what} Its last words were:{said}",
        f"Mend what these lines name (disk space, rights, memory) and start again. The whole log is {log}.",
    )


def unwritable(path: Path, error: OSError) -> EmbeddedError:
    return EmbeddedError(
        "data_directory_unwritable",
        f"The directory {path} cannot be written: {error.strerror or error}.",
        "Give this account the right to write there (chown, chmod, free space), or name another data directory.",
    )
