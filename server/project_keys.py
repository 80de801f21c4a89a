"""The provider keys of projects, opened for the run that is paid with them: read anew for each, never kept."""

from __future__ import annotations

from uuid import UUID

from db import provider_keys
from db.database import Database
from db.errors import conflict
from db.principal import Principal
from server.vault import Vault


class ProjectKeys:
    """Fills ``agents.models.TenantKeys``."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def find(self, grant: Principal, project_id: UUID, provider: str, base_url: str | None) -> str | None:
        """The project's own key for ``provider``; ``None`` when it has none.

        Raises ``AppError``: ``provider_key_elsewhere`` when it was entered for another base URL, which could be
        anybody's, or what the vault says.
        """
        row = await provider_keys.read(self._database, grant, project_id, provider)
        if row is None:
            return None
        if row["base_url"] != base_url:
            raise conflict(
                "provider_key_elsewhere",
                "The project's key was entered for another base URL, so it is not sent to the present one.",
                "Have the key entered again with set_provider_key, or delete it with delete_provider_key.",
                {"next_tool": "set_provider_key"},
            )
        return self._vault.open(project_id, provider_keys.SEALED, row["sealed"], provider)
