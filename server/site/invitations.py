"""Invitations as who is invited sees them: the link, the page on which they answer, and what does not fit.

The token is in the address once: the first visit puts it into a signed cookie of this browser and leads on, so that it
stays in no history and no referrer. By itself it opens nothing: whoever accepts is signed in with the address that was
invited. Who has no account signs up first, even where nobody may by themselves.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db import invitations
from db.invitations import Invitation
from db.principal import Principal
from server.mail.invitations import PATH
from server.site import cookies
from server.site.pages import Site, see
from server.site.rendering import html

COOKIE: Final = "innkeeper_invitation"
SECONDS: Final = 24 * 3600
"""Whoever opens the link, asks for another one to sign in with and finds that mail tomorrow is still expected."""


def routes(site: Site) -> list[BaseRoute]:
    page = _Page(site)
    return [
        site.open(f"{PATH}/{{token:str}}", page.arrive),
        site.open(PATH, page.show),
        site.signed_in(PATH, page.answer, "POST"),
    ]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._database = site.services.database
        self._signer = cookies.Signer(site.services.keyring, "invitation")
        self._secure = site.address.secure
        self._cookie = f"__Host-{COOKIE}" if self._secure else COOKIE

    async def arrive(self, request: Request, _person: Principal | None) -> Response:
        response = see(PATH)
        value = self._signer.sign({"jti": request.path_params["token"][:100]}, SECONDS)
        response.set_cookie(
            self._cookie, value, max_age=SECONDS, path="/", httponly=True, samesite="lax", secure=self._secure
        )
        return response

    async def show(self, request: Request, person: Principal | None) -> Response:
        brought = await self._brought(request)
        waiting: list[Invitation] = []
        if person is not None:
            async with self._database.transaction(person) as connection:
                waiting = await invitations.mine(connection)
        elif brought is None:
            return self._site.sign_in(request, PATH)
        elif brought.state == "open":
            return self._greeting(request, brought)
        mine = any(one.id == brought.id for one in waiting) if brought is not None else False
        values: dict[str, Any] = {
            "waiting": waiting,
            "brought": None if mine else brought,
            "masked": _masked(brought.address) if brought is not None else "",
            "elsewhere": person is not None and brought is not None and brought.state == "open" and not mine,
        }
        status = 403 if values["elsewhere"] else 200
        if person is not None:
            response = self._site.page(person, "invitations.html", values, status)
        else:
            response = html("invitations.html", {**values, "signed_in": False}, status)
        if brought is not None and brought.state != "open":
            self._forget(response)
        return response

    async def answer(self, request: Request, person: Principal) -> Response:
        form = await self._site.form(request, person)
        project_id, invitation_id = _uuid(form.get("project", "")), _uuid(form.get("invitation", ""))
        accept = form.get("decision") == "accept"
        async with self._database.transaction(person) as connection:
            await invitations.answer(connection, project_id, invitation_id, accept=accept)
        response = see(f"/projects/{project_id}/members" if accept else PATH)
        self._forget(response)
        return response

    def _greeting(self, request: Request, invitation: Invitation) -> Response:
        """To somebody who is not signed in: what they are invited to, and the way in."""
        browser = self._site.browsers.meet(request)
        values = {
            "invitation": invitation,
            "masked": _masked(invitation.address),
            "way": self._site.way,
            "next": PATH,
            "csrf": self._site.browsers.csrf(browser),
            "signed_in": False,
        }
        return self._site.browsers.keep(html("invitation.html", values), browser)

    async def _brought(self, request: Request) -> Invitation | None:
        """The invitation whose link this browser came by."""
        claims = self._signer.read(request.cookies.get(self._cookie, ""))
        return None if claims is None else await invitations.find(self._database, str(claims.get("jti", "")))

    def _forget(self, response: Response) -> None:
        response.delete_cookie(self._cookie, path="/", httponly=True, samesite="lax", secure=self._secure)


def _masked(address: str) -> str:
    """Enough to know one's own address by, and to tell nobody else's."""
    name, _, domain = address.partition("@")
    return f"{name[:1]}…@{domain}"


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        return UUID(int=0)
