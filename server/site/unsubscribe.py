"""The page behind the link in mail for an audience, and the one click of RFC 8058 that needs no page.

Whoever has the link is its reader: there is no sign-in, and no cookie is looked at. A GET changes nothing, since
programs follow links before people do.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import email_webhooks
from db.database import Database
from db.errors import AppError
from server.mail.post import Post
from server.mail.unsubscribe import PATH, Reader
from server.site.pages import PageRoute
from server.site.rendering import html, notice

HOUSE: Final = "Innkeeper"


def routes(database: Database, post: Post) -> list[BaseRoute]:
    async def shown(request: Request) -> Response:
        try:
            return await (_leave if request.method == "POST" else _ask)(database, _reader(post, request))
        except AppError as error:
            return notice(error)

    return [PageRoute(f"{PATH}/{{token}}", shown, methods=["GET", "POST"])]


async def _ask(database: Database, reader: Reader) -> Response:
    sender, subscribed = HOUSE, True
    if reader.project_id is not None and reader.contact_id is not None:
        async with database.ops() as connection:
            found = await email_webhooks.audience_of(connection, reader.project_id, reader.contact_id)
        if found is None:
            raise _gone()
        sender, subscribed = found
    return _page(sender, left=not subscribed)


async def _leave(database: Database, reader: Reader) -> Response:
    sender = HOUSE
    async with database.ops() as connection:
        if reader.project_id is not None and reader.contact_id is not None:
            found = await email_webhooks.audience_of(connection, reader.project_id, reader.contact_id)
            sender = found[0] if found is not None else ""
            left = await email_webhooks.leave_audience(connection, reader.project_id, reader.contact_id, reader.mail_id)
        else:
            left = await email_webhooks.leave_house_audience(connection, reader.mail_id)
    if not left:
        raise _gone()
    return _page(sender, left=True)


def _page(sender: str, *, left: bool) -> Response:
    return html("unsubscribe.html", {"sender": sender, "left": left, "signed_in": False})


def _reader(post: Post, request: Request) -> Reader:
    reader = post.links.read(request.path_params["token"])
    if reader is None:
        raise _gone()
    return reader


def _gone() -> AppError:
    return AppError(
        "link_unknown",
        404,
        "This link is not one of ours, or what it was about is gone.",
        "If mail still comes, use the link in the newest one.",
    )
