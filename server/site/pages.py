"""What all pages share: who looks at them, where they may lead, and errors that are pages too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal, Protocol
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from db.accounts import FIRST_EMAIL
from db.database import Database
from db.errors import AppError
from db.ids import uuid7
from db.principal import Principal
from server.http.address import PublicAddress
from server.issuers.issuer import Issuer
from server.keyring import Keyring
from server.site.acts import Acts
from server.site.browsers import Browsers
from server.site.rendering import HEADERS, HOME, html, notice
from server.site.session import MAX_FORM_BYTES, Form, Sessions, form_of
from tools.catalog import Catalog
from tools.dispatch import Dispatch

if TYPE_CHECKING:
    from server.mail.post import Post
    from server.settings.sign_in import SignInSettings

SIGN_IN: Final = "/sign-in"
LONGEST_NEXT: Final = 8000
NO_SESSION: Final = 401
SECTIONS: Final = frozenset(
    {"account", "admin", "approvals", "apps", "device", "invitations", "mails", "oauth", "projects", "sessions"}
)
"""The first parts of the addresses of pages: where a sign-in may lead back to."""


SayLink = Callable[[str, str | None], None]
"""Tells the person at the terminal which address asked to sign in, and the link, unless it may not come in."""
Way = Literal["mail", "terminal", "none"]


class SiteServices(Protocol):
    """What the pages need of ``server.services.Services``."""

    @property
    def database(self) -> Database: ...

    @property
    def dispatch(self) -> Dispatch: ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def keyring(self) -> Keyring: ...

    @property
    def public_url(self) -> str | None: ...

    @property
    def post(self) -> Post: ...

    @property
    def sign_in(self) -> SignInSettings: ...

    @property
    def issuers(self) -> Mapping[str, Issuer]: ...

    @property
    def say_link(self) -> SayLink | None: ...


class PageRoute(Route):
    """The route of a page: people look at it, and programs need not know more than where it is."""


Page = Callable[[Request, Principal | None], Awaitable[Response]]
SignedInPage = Callable[[Request, Principal], Awaitable[Response]]


class Site:
    """The pages of a process: their sessions and their address."""

    def __init__(self, services: SiteServices) -> None:
        self.services = services
        self.address = PublicAddress(services.public_url)
        self.sessions = Sessions(services.database, services.keyring, self.address)
        self.browsers = Browsers(services.keyring, self.address)
        self.acts = Acts(services.dispatch, services.catalog)

    @property
    def way(self) -> Way:
        """How links to sign in with reach people."""
        if self.services.post.leaves:
            return "mail"
        return "none" if self.services.say_link is None else "terminal"

    def open(self, path: str, page: Page, *methods: str) -> PageRoute:
        """A page for everybody; who is signed in is told to it."""

        async def endpoint(request: Request) -> Response:
            person = None
            try:
                person = await self.sessions.person(request)
                return await page(request, person)
            except AppError as error:
                return notice(error, csrf=self.sessions.csrf(person) if person is not None else None)

        return PageRoute(path, endpoint, methods=list(methods) or ["GET"])

    def signed_in(self, path: str, page: SignedInPage, *methods: str) -> PageRoute:
        """A page for people of this house; others are shown how to sign in, and come back to it then."""

        async def endpoint(request: Request, person: Principal | None) -> Response:
            if person is not None and "link" not in request.query_params:
                return await page(request, person)
            return self.sign_in(request)

        return self.open(path, endpoint, *methods)

    def page(
        self,
        person: Principal,
        template: str,
        values: Mapping[str, object],
        status: int = 200,
        *,
        forms_end_at: str = "",
        frames: bool = False,
    ) -> Response:
        """A page for ``person``: ``template`` with ``values`` and what all of them have. See ``rendering.html``."""
        csrf = self.sessions.csrf(person)
        common = {"signed_in": True, "csrf": csrf, "csrf_leave": csrf, "once": uuid7().hex}
        return html(template, {**common, **values}, status, forms_end_at=forms_end_at, frames=frames)

    async def form(self, request: Request, person: Principal, most: int = MAX_FORM_BYTES) -> Form:
        """The fields of a form of this person's session. Raises ``AppError`` for any other."""
        form = await form_of(request, most)
        self.sessions.check_csrf(person, form)
        return form

    def sign_in(
        self, request: Request, next_page: str | None = None, *, typed: str | None = None, fault: str = ""
    ) -> Response:
        """What is shown in the place of a page to who is not signed in, or comes with a one-time link.

        A GET uses no link up: programs that look at links before people do would. ``next_page``: where the person goes
        then, by default to what they asked for.
        """
        if "link" in request.query_params:
            rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "link"])
            to = f"{request.url.path}?{rest}" if rest else request.url.path
            values = {"link": request.query_params["link"], "to": to, "signed_in": False}
            return html("entrance.html", values)
        if next_page is None:
            next_page = within(_address(request))
        section, _, approval = request.url.path.strip("/").partition("/")
        browser = self.browsers.meet(request)
        values = {
            "approval": approval if section == "approvals" else "",
            "way": self.way,
            "issuers": list(self.services.issuers.values()),
            "next": next_page,
            "query": urlencode({"next": next_page}),
            "typed": (FIRST_EMAIL if self.way == "terminal" else "") if typed is None else typed,
            "fault": fault,
            "csrf": self.browsers.csrf(browser),
            "signed_in": False,
        }
        asked_for = request.url.path == SIGN_IN
        status = 400 if fault else 200 if asked_for else NO_SESSION
        return self.browsers.keep(html("sign_in.html", values, status), browser)


def see(path: str) -> Response:
    return RedirectResponse(path, status_code=303, headers=dict(HEADERS))


def within(path: str) -> str:
    """``path`` when it leads to one of the pages, else the first page: nobody is sent elsewhere."""
    try:
        parts = urlsplit(path)
    except ValueError:
        return HOME
    plain = path.isascii() and path.isprintable() and not parts.scheme and not parts.netloc and not parts.fragment
    plain = plain and len(path) <= LONGEST_NEXT
    clean = not set(parts.path) & set("\\%; ") and ".." not in parts.path and "//" not in parts.path
    first = parts.path.split("/")[1] if parts.path.startswith("/") else ""
    return path if plain and clean and first in SECTIONS else HOME


def _address(request: Request) -> str:
    """The page that was asked for, with its query; of a form the page that it was on."""
    if request.method not in ("GET", "HEAD"):
        try:
            page = urlsplit(request.headers.get("referer", ""))
        except ValueError:
            return HOME
        return f"{page.path}?{page.query}" if page.query else page.path
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
