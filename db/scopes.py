"""What a credential may do: a scope names one family and one verb, written as an OAuth scope token (RFC 6749 3.3)."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    projects_read = "projects:read"
    projects_write = "projects:write"
    runs_read = "runs:read"
    runs_write = "runs:write"
    storage_read = "storage:read"
    storage_write = "storage:write"

    @property
    def writes(self) -> bool:
        """Whether the scope changes anything: a read-only caller never holds such a scope."""
        return self.value.endswith(":write")


ALL_SCOPES: frozenset[str] = frozenset(scope.value for scope in Scope)
READ_SCOPES: frozenset[str] = frozenset(scope.value for scope in Scope if not scope.writes)
