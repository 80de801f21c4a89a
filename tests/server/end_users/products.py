"""Projects with keys and token sources, and requests as a product's pages and servers make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

import asyncpg
import httpx2

from db import accounts
from db.ids import uuid7
from db.token_sources import SEALED
from server.services import Services
from server.vault import Vault
from tests.server.end_users.issuers import AUDIENCE, Issuer

PAGE = "https://shop.example"
EVIL = "https://evil.example"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ANONYMOUS = "urn:innkeeper:params:oauth:grant-type:anonymous"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
SESSION = "urn:ietf:params:oauth:token-type:refresh_token"
SECRET = "a shared secret of at least 32 bytes"


@dataclass
class House:
    url: str
    owner: asyncpg.Connection[asyncpg.Record] = field(repr=False)
    services: Services = field(repr=False)

    def http(self, origin: str | None = None, **headers: str) -> httpx2.AsyncClient:
        """As a page of ``origin`` would, or a server."""
        sent = {**({} if origin is None else {"origin": origin}), **headers}
        return httpx2.AsyncClient(base_url=self.url, trust_env=False, timeout=30, headers=sent)


@dataclass
class Product:
    """A project of somebody, with a key for its pages and one for its servers."""

    house: House
    user_id: UUID
    project_id: UUID
    publishable: str
    publishable_id: UUID
    secret: str

    @classmethod
    async def made(cls, house: House, origins: tuple[str, ...] = (PAGE,)) -> Self:
        user_id = await accounts.create_user(house.owner, f"{uuid7().hex}@example.test", "Somebody")
        project_id = uuid7()
        await house.owner.execute(
            "INSERT INTO projects (id, name, created_by) VALUES ($1, 'Shop', $2)", project_id, user_id
        )
        key_id, publishable = await accounts.create_publishable_key(house.owner, user_id, project_id, origins=origins)
        _id, secret = await accounts.create_key(house.owner, user_id, project_id=project_id)
        return cls(house, user_id, project_id, publishable, key_id, secret)

    async def trust(self, kind: str, **said: Any) -> UUID:
        """Add a source of tokens."""
        source_id = uuid7()
        if kind == "hs256":
            vault = Vault(self.house.services.keyring)
            said["sealed"] = vault.seal(self.project_id, SEALED, said.pop("secret", SECRET), str(source_id))
        names = "".join(f", {name}" for name in said)
        places = "".join(f", ${number}" for number in range(5, 5 + len(said)))
        await self.house.owner.execute(
            f"INSERT INTO token_sources (project_id, id, kind, created_by{names}) VALUES ($1, $2, $3, $4{places})",
            *(self.project_id, source_id, kind, self.user_id, *said.values()),
        )
        return source_id

    async def trust_issuer(self, issuer: Issuer) -> UUID:
        return await self.trust("issuer", issuer=issuer.url, audience=AUDIENCE)

    async def allow(self, setting: str, *, value: bool) -> None:
        await self.house.owner.execute(f"UPDATE projects SET {setting} = $2 WHERE id = $1", self.project_id, value)

    async def exchange(
        self, token: str, *, key: str | None = None, origin: str | None = PAGE, **form: Any
    ) -> httpx2.Response:
        """As a page of the product, unless it says otherwise."""
        sent = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS, **form}
        async with self.house.http(origin, authorization=f"Bearer {key or self.publishable}") as http:
            return await http.post("/oauth/token", data=sent)

    async def token(self, subject: str, **how: Any) -> str:
        """The access token of an exchange that must succeed."""
        answer = await self.exchange(subject, **how)
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["access_token"]
        return found

    async def visitor(self, origin: str | None = PAGE, key: str | None = None) -> httpx2.Response:
        async with self.house.http(origin, **{"x-api-key": key or self.publishable}) as http:
            return await http.post("/oauth/token", data={"grant_type": ANONYMOUS})


def run_input(thread: str = "talk", **more: Any) -> dict[str, Any]:
    """An AG-UI input for the agent ``demo``."""
    said = {"id": str(uuid7()), "role": "user", "content": "Hello"}
    empty: dict[str, Any] = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
    return {"threadId": thread, "runId": str(uuid7()), "messages": [said], **empty, **more}


async def who(product: Product, token: str) -> tuple[str, str]:
    """Issuer and name of the end user whom a token is for."""
    principal = await product.house.services.authenticator.authenticate(token)
    assert principal is not None
    assert principal.project_id == product.project_id
    row = await product.house.owner.fetchrow(
        "SELECT issuer, external_id FROM end_users WHERE project_id = $1 AND id = $2",
        *(product.project_id, principal.end_user_id),
    )
    assert row is not None
    return row["issuer"], row["external_id"]
