"""What ``innkeeper connect`` has put where, so that exactly this can be taken out again.

``connections.json`` beside the tokens: for each entry its client, name, file and address, and what is needed to restore
the file around it; and the houses at which it has signed in itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from server.connect.files import locked, write_private
from server.connect.jsonc import Mark
from server.refusal import Refusal

FILE: Final = "connections.json"


@dataclass(frozen=True, slots=True)
class Record:
    """``made``: whether the file was not there before, nor so many ``folders`` around it; ``mark`` of a JSON file,
    ``put_in`` of a TOML file, neither when the client's own program did it."""

    client: str
    name: str
    file: str
    house: str
    entry: dict[str, Any]
    made: bool = False
    folders: int = 0
    mark: Mark | None = None
    put_in: str | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        return self.client, self.name, self.file


@dataclass
class Ledger:
    path: Path
    records: list[Record] = field(default_factory=list)
    signed_in: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Raises :class:`Refusal` for one that cannot be read."""
        path = folder / FILE
        try:
            found = json.loads(path.read_text())
            records = [_record(told) for told in found["entries"]]
            return cls(path, records, set(found["signed_in"]))
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError, TypeError, KeyError):
            raise Refusal(
                f"{path} cannot be read: what was put into clients is not known. Mend or delete it."
            ) from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes it, or a client's file on account of it, meanwhile; what others did before is seen."""
        with locked(self.path):
            found = Ledger.open(self.path.parent)
            self.records, self.signed_in = found.records, found.signed_in
            yield

    def find(self, place: tuple[str, str, str]) -> Record | None:
        return next((record for record in self.records if record.place == place), None)

    def keep(self, record: Record) -> None:
        self.records = [one for one in self.records if one.place != record.place] + [record]
        self.save()

    def drop(self, record: Record) -> None:
        self.records = [one for one in self.records if one.place != record.place]
        self.save()

    def save(self) -> None:
        told = {"entries": [asdict(record) for record in self.records], "signed_in": sorted(self.signed_in)}
        write_private(self.path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def _record(told: dict[str, Any]) -> Record:
    mark = told["mark"]
    return Record(**{**told, "mark": None if mark is None else Mark(**mark)})
