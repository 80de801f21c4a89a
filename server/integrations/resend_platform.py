"""Mail by the house's account at Resend, through their SDK. Its key and address are of the whole process, so there is
one of these; projects with keys of their own have :mod:`server.integrations.resend_project`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import httpx2
import resend
from resend.exceptions import NoContentError, ResendError
from resend.http_client_async import AsyncHTTPClient

from server.integrations.resend_answers import KEYS_LAST, account, failure
from server.integrations.resend_project import BASE_URL, SECONDS
from server.mail.carrier import Carried, DeferredError, Leaving, RefusedError
from server.mail.message import Message

Answer = TypeVar("Answer")
CONNECTION_LOST: Final = "HttpClientError"
"""How the SDK calls an error of its HTTP client."""


class _Client(AsyncHTTPClient):
    """The SDK's requests on our HTTP client, which tells a connection that was never made from an answer that is lost.

    Takes nothing from the environment: the SDK's own client would follow proxies that nobody configured for us.
    """

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        json: dict[str, object] | list[object] | None = None,
        files: dict[str, Any] | None = None,
        data: dict[str, str] | None = None,
    ) -> tuple[bytes, int, Mapping[str, str]]:
        answer = await self._client.request(method, url, headers=dict(headers), json=json, timeout=SECONDS)
        return answer.content, answer.status_code, answer.headers


class PlatformResend:
    """``segment``: the id of the Resend segment that new accounts join, if they do."""

    repeats: timedelta = KEYS_LAST

    def __init__(
        self, api_key: str, client: httpx2.AsyncClient, base_url: str | None = None, segment: str | None = None
    ) -> None:
        self.route = f"house-resend/{account(api_key)}"
        self.segment = segment
        resend.api_key = api_key
        resend.api_url = (base_url or BASE_URL).rstrip("/")
        resend.default_async_http_client = _Client(client)

    async def carry(self, message: Message, leaving: Leaving) -> Carried:
        body = cast("resend.Emails.SendParams", message.resend())
        await leaving()
        answer = await _told(resend.Emails.send_async(body, {"idempotency_key": message.key}))
        return Carried(provider_id=str(answer["id"]))

    async def join(self, address: str, name: str) -> None:
        """Make an account a contact of the segment; it may be one already. Raises the errors of a carrier."""
        if self.segment is None:
            return
        first, _, last = name.partition(" ")
        contact: resend.Contacts.CreateParams = {"email": address, "unsubscribed": False}
        if first:
            contact["first_name"] = first
        if last:
            contact["last_name"] = last
        with suppress(RefusedError):  # there is such a contact already
            await _told(resend.Contacts.create_async(contact))
        await _told(resend.Contacts.Segments.add_async({"email": address, "segment_id": self.segment}))


async def _told(answer: Awaitable[Answer]) -> Answer:
    """What the SDK answers, with its errors as ours."""
    try:
        return await answer
    except (ResendError, NoContentError) as error:
        raise _failure(error) from error


def _failure(error: ResendError | NoContentError) -> Exception:
    if isinstance(error, NoContentError):
        return DeferredError("Resend answered without content", perhaps=True)
    if error.error_type == CONNECTION_LOST:
        never = isinstance(error.__context__, httpx2.ConnectError)
        return DeferredError(f"no answer from Resend ({type(error.__context__).__name__})", perhaps=not never)
    status = int(error.code) if str(error.code).isdigit() else 500
    return failure(status, str(error.error_type), str(error.message), error.headers)
