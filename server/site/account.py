"""The page of a person's account: its address, and the accounts elsewhere that open it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import administration, identities, sessions
from db.errors import AppError
from db.principal import Principal
from server.site.pages import Site, see

PATH: Final = "/account"


def routes(site: Site) -> list[BaseRoute]:
    database = site.services.database
    issuers = site.services.issuers

    async def show(_request: Request, person: Principal) -> Response:
        async with database.transaction(person, read_only=True) as connection:
            address = await sessions.address(connection, person)
            found = await identities.mine(connection, person)
            admin = await administration.is_admin(connection)
        connected = {one.issuer for one in found}
        values = {
            "address": address,
            "identities": found,
            "titles": {one.issuer: one.title for one in issuers.values()},
            "others": [one for one in issuers.values() if one.issuer not in connected],
            "admin": admin,
            "way": site.way,
        }
        return site.page(person, "account.html", values)

    async def disconnect(request: Request, person: Principal) -> Response:
        await site.form(request, person)
        identity: UUID = request.path_params["identity_id"]
        async with database.transaction(person) as connection:
            if site.way == "none" and len(await identities.mine(connection, person)) == 1:
                raise AppError(
                    "only_way_in",
                    409,
                    "Nothing else opens your account: this server sends no mail.",
                    "Connect another account first.",
                )
            await identities.disconnect(connection, identity)
        return see(PATH)

    return [
        site.signed_in(PATH, show),
        site.signed_in(f"{PATH}/identities/{{identity_id:uuid}}/disconnect", disconnect, "POST"),
    ]
