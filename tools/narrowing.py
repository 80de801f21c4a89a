"""What a connection's URL chooses: ``?project=ID``, ``?tools=FAMILY,FAMILY``, ``?read_only=1``. It adds no rights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from db.errors import invalid, not_found
from db.principal import Principal

_YES: Final = frozenset({"1", "true", "yes"})
_NO: Final = frozenset({"0", "false", "no"})


@dataclass(frozen=True, slots=True)
class Narrowing:
    """``families``: the tool families to offer; ``None`` offers the default ones."""

    project_id: UUID | None = None
    read_only: bool = False
    families: frozenset[str] | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """From query parameters; unknown ones are left to others. Raises ``AppError`` for a value that is none."""
        project_id = None
        if "project" in query:
            try:
                project_id = UUID(query["project"])
            except ValueError:
                raise invalid("?project= is not a project id.", "Use an id as list_projects shows it.") from None
        value = query.get("read_only", "0").lower()
        if value not in _YES | _NO:
            raise invalid("?read_only= is neither 1 nor 0.", "Write read_only=1 for a connection that only reads.")
        families = None
        if "tools" in query:
            families = frozenset(name.strip() for name in query["tools"].split(",")) - {""}
        return cls(project_id, value in _YES, families)

    def of(self, principal: Principal) -> Principal:
        """The caller as this connection sees it. Raises ``AppError`` when the key is bound to another project."""
        if self.project_id is not None and not self._within(principal):
            raise not_found("project", "This key is bound to another project; connect without ?project=.")
        if self.project_id is None and (principal.read_only or not self.read_only):
            return principal
        return principal.narrowed(project_id=self.project_id, read_only=self.read_only)

    def _within(self, principal: Principal) -> bool:
        if principal.project_ids and self.project_id not in principal.project_ids:
            return False
        return principal.project_id in (None, self.project_id)


EVERYTHING: Final = Narrowing()
