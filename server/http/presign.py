"""``POST /storage/presign``: a place for an attachment, in the shape that the reference's clients know.

``{"contentType", "size"}`` gives ``{"uploadUrl", "attachmentUri", "expiresIn"}``: ``PUT`` the bytes to the first with
that ``Content-Type`` and no other header, then name the second in a message. It is confirmed when a run reads it; what
no run has read after a day is gone. The tool ``create_upload`` does the same with more to choose.
"""

from __future__ import annotations

from mimetypes import guess_extension
from typing import Annotated, Final, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agents.attachment_address import address
from db import files, runs
from db.errors import AppError, invalid
from db.ids import uuid7
from db.principal import Principal
from server.http.callers import Callers
from server.http.problem import problem_response
from tools.dispatch import Dispatch
from tools.narrowing import Narrowing

PATH: Final = "/storage/presign"
LARGEST: Final = 10 << 20
FOLDER: Final = "attachments/"


class PresignServices(Protocol):
    """What this edge needs of ``server.services.Services``."""

    @property
    def dispatch(self) -> Dispatch: ...


class Wanted(BaseModel):
    """A request as it comes."""

    model_config = ConfigDict(extra="ignore")

    contentType: Annotated[str, Field(min_length=1, max_length=100)]  # noqa: N815  the wire's name
    size: Annotated[int, Field(ge=0, strict=True)]


def routes(services: PresignServices, callers: Callers) -> list[BaseRoute]:
    """The route over ``services``, for whom ``callers`` knows."""

    async def presign(request: Request) -> Response:
        try:
            principal = await callers.of(request, in_body=True)
            await services.dispatch.services.limits.admit(principal)
            narrowing = Narrowing.parse(request.query_params)
            wanted = _wanted(await request.body())
            project_id = narrowing.project_id or principal.project_id or await _first(services, principal)
            return JSONResponse(
                await _place(services, principal, narrowing, project_id, wanted), headers={"cache-control": "no-store"}
            )
        except AppError as error:
            return problem_response(error, [(b"www-authenticate", b"Bearer")] if error.status == 401 else [])

    return [Route(PATH, presign, methods=["POST"], name="presign")]


async def _place(
    services: PresignServices, principal: Principal, narrowing: Narrowing, project_id: UUID, wanted: Wanted
) -> dict[str, object]:
    name = f"{FOLDER}{uuid7()}{guess_extension(wanted.contentType.partition(';')[0]) or ''}"
    arguments = {"project_id": project_id, "path": name, "size": wanted.size, "content_type": wanted.contentType}
    made = (await services.dispatch.call(principal, "create_upload", arguments, narrowing=narrowing)).structured
    tools, file_id = services.dispatch.services, UUID(made["id"])
    ticket = tools.store.upload_ticket(
        files.key(project_id, file_id, temporary=False),
        size=wanted.size,
        content_type=wanted.contentType,
        sha256=None,
        expires_in=tools.storage.ticket_seconds,
        bare=True,
    )
    return {
        "uploadUrl": ticket.url,
        "attachmentUri": address(project_id, file_id),
        "expiresIn": tools.storage.ticket_seconds,
    }


def _wanted(body: bytes) -> Wanted:
    try:
        wanted = Wanted.model_validate_json(body)
    except ValidationError:
        raise invalid(
            "The body is not what is asked for here.", 'Send JSON like {"contentType": "image/png", "size": 1024}.'
        ) from None
    if wanted.size > LARGEST:
        raise AppError(
            "file_too_large",
            413,
            f"An attachment may have at most {LARGEST} bytes.",
            "Send a smaller file, or a long one with create_upload.",
            details={"max_bytes": LARGEST},
        )
    return wanted


async def _first(services: PresignServices, principal: Principal) -> UUID:
    """Where a key of many projects uploads that names none: where its runs take place."""
    async with services.dispatch.services.database.transaction(principal) as connection:
        project_id = await runs.enter_first_project(connection)
    if project_id is None:
        raise invalid(
            "This key reaches no project.", "Create one with create_project, or use another key.", "project_required"
        )
    return project_id
