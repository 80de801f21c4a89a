"""The page for programs that cannot open one (RFC 8628 3.3): the code that they show is typed here."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from db.errors import AppError
from db.oauth import clients, devices
from db.oauth.devices import Waiting
from db.principal import Principal
from server.limits.newcomers import DEVICE_CODES, Newcomers
from server.oauth.endpoints import DEVICE_PAGE
from server.site import choices
from server.site.pages import Site
from server.site.session import Form, form_of


def routes(site: Site, newcomers: Newcomers) -> list[BaseRoute]:
    page = _Page(site, newcomers)
    return [
        site.signed_in(DEVICE_PAGE, page.type_code),
        site.signed_in(DEVICE_PAGE, page.decide, "POST"),
    ]


class _Page:
    def __init__(self, site: Site, newcomers: Newcomers) -> None:
        self._site = site
        self._newcomers = newcomers
        self._database = site.services.database

    async def type_code(self, request: Request, person: Principal) -> Response:
        """A GET decides nothing and looks nothing up: the address of the page may come from anywhere."""
        return self._empty(person, request.query_params.get("user_code", ""))

    async def decide(self, request: Request, person: Principal) -> Response:
        form = await form_of(request)
        typed = form.get("user_code", "")
        self._site.sessions.check_csrf(person, form, DEVICE_PAGE)
        try:
            waiting = await devices.find(self._database, person, typed)
        except AppError as error:
            await self._newcomers.count("device", str(person.user_id), DEVICE_CODES)
            return self._empty(person, typed, error)
        decision = form.get("decision")
        if decision == "deny":
            await devices.decide(self._database, person, typed, waiting.client_id, None)
            return self._done(person, allowed=False)
        if decision != "allow":
            return await self._ask(person, typed, waiting)
        try:
            consent = choices.chosen(await choices.offer(self._database, person, waiting.scopes, None), form)
        except AppError as error:
            return await self._ask(person, typed, waiting, form, error)
        await devices.decide(self._database, person, typed, waiting.client_id, choices.effective(consent))
        return self._done(person, allowed=True)

    async def _ask(
        self, person: Principal, typed: str, waiting: Waiting, form: Form | None = None, error: AppError | None = None
    ) -> Response:
        values: dict[str, object] = {
            "client": await clients.find(self._database, waiting.client_id),
            "code": typed,
            "until": waiting.until,
            "offer": await choices.offer(self._database, person, waiting.scopes, None),
            "form": form,
            "error": error,
        }
        return self._page(person, "device_consent.html", values, 400 if error else 200)

    def _empty(self, person: Principal, typed: str, error: AppError | None = None) -> Response:
        values: dict[str, object] = {"code": typed[:20], "error": error}
        return self._page(person, "device.html", values, error.status if error else 200)

    def _done(self, person: Principal, *, allowed: bool) -> Response:
        return self._page(person, "device_done.html", {"allowed": allowed})

    def _page(self, person: Principal, template: str, values: dict[str, object], status: int = 200) -> Response:
        csrf = self._site.sessions.csrf(person, DEVICE_PAGE)
        return self._site.page(person, template, {**values, "csrf": csrf}, status)
