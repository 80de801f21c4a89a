"""The account, project and key that ``innkeeper up`` makes at its first start, exactly once."""

from __future__ import annotations

from uuid import UUID

from db.accounts import first_account
from db.tokens import is_wellformed, new_token
from server.data_directory import DataDirectory
from server.keyring import write_once
from server.refusal import Refusal
from server.roles import connect


async def ensure_first_account(owner_url: str, data: DataDirectory) -> tuple[str, UUID]:
    """The secret key and the project's id. The file is written before the row: a start killed between loses nothing."""
    write_once(data.api_key, new_token() + "\n")
    token = data.api_key.read_text().strip()
    if not is_wellformed(token):
        raise Refusal(f"The file {data.api_key} does not hold a key: remove it, and the next start makes a new one.")
    async with connect(owner_url, "the database's owner") as connection:
        _, project_id = await first_account(connection, token)
    return token, project_id
