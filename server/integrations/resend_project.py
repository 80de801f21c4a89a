"""Mail by a project's own account at Resend. A small client of ours: the SDK's key is one for the whole process."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, TypedDict, cast
from urllib.parse import quote

import httpx2

from server.integrations.resend_answers import KEYS_LAST, account, failure
from server.mail.carrier import Carried, DeferredError, Leaving, RefusedError
from server.mail.message import Message

BASE_URL: Final = "https://api.resend.com"
SECONDS: Final = 30.0


class Domain(TypedDict):
    name: str
    status: str


class ProjectResend:
    """``route`` names the account, so that a mail that may have gone by one is never sent by another."""

    repeats: timedelta = KEYS_LAST

    def __init__(self, api_key: str, client: httpx2.AsyncClient, base_url: str = BASE_URL) -> None:
        self.route = f"project-resend/{account(api_key)}"
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}", "accept": "application/json"}

    async def carry(self, message: Message, leaving: Leaving) -> Carried:
        body = message.resend()
        await leaving()
        answer = await self._ask("POST", "/emails", json=body, headers={"idempotency-key": message.key})
        return Carried(provider_id=str(answer.get("id") or "") or None)

    async def domains(self) -> list[str]:
        """Those the account may send from. Raises the errors of a carrier."""
        answer = await self._ask("GET", "/domains")
        found = cast("list[Domain]", answer.get("data") or [])
        return [str(one["name"]).lower() for one in found if one.get("status") == "verified"]

    async def _ask(self, method: str, path: str, **further: Any) -> dict[str, Any]:
        headers = {**self._headers, **further.pop("headers", {})}
        try:
            answer = await self._client.request(
                method, f"{self._base_url}{quote(path)}", headers=headers, timeout=SECONDS, **further
            )
        except httpx2.ConnectError as error:
            raise DeferredError(f"Resend cannot be reached ({type(error).__name__})") from error
        except httpx2.HTTPError as error:
            raise DeferredError(f"no answer from Resend ({type(error).__name__})", perhaps=True) from error
        found = _object(answer)
        if answer.is_success and found is not None:
            return found
        if answer.is_success:
            raise DeferredError("Resend answered with something else than JSON", perhaps=True)
        if 300 <= answer.status_code < 400:
            raise RefusedError(f"{answer.status_code}: Resend's address redirects")
        found = found or {}
        raise failure(answer.status_code, str(found.get("name")), str(found.get("message")), answer.headers)


def _object(answer: httpx2.Response) -> dict[str, Any] | None:
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
