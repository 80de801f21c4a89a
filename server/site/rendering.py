"""HTML of the pages: templates of this folder, escaped, under a policy that lets nothing run and nothing in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from db.errors import AppError
from server.site import user_agents

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER: Final = Path(__file__).parent
STYLE: Final = (FOLDER / "style.css").read_text(encoding="utf-8")
STYLE_URL: Final = f"/site/{sha256(STYLE.encode()).hexdigest()[:12]}.css"
HOME: Final = "/projects"
NAVIGATION: Final = {
    HOME: "Projects",
    "/approvals": "Approvals",
    "/mails": "Mail",
    "/apps": "Connected apps",
    "/sessions": "Sessions",
    "/account": "Account",
}
"""What the header leads to."""
PROJECT_TABS: Final = {
    "": "Overview",
    "/settings": "Settings",
    "/members": "Members",
    "/keys": "Keys",
    "/provider-keys": "Provider keys",
    "/end-users": "End users",
    "/email": "Mail account",
    "/audit": "Audit",
}
"""What the pages of a project lead to, below its own address."""
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'{}; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": _POLICY.format(""),
    # For browsers that do not know frame-ancestors.
    "x-frame-options": "DENY",
    # Under no-referrer a browser sends "Origin: null" with a form; same-origin sends our own, which is checked.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def html(
    template: str, values: Mapping[str, object], status: int = 200, *, forms_end_at: str = "", frames: bool = False
) -> Response:
    """``forms_end_at``: a source (CSP 3) outside of this site to which the answer to a form on the page leads.
    ``frames``: it shows pages of this site in frames."""
    body = _environment().get_template(template).render(**values)
    headers = dict(HEADERS)
    if forms_end_at:
        headers["content-security-policy"] = _POLICY.format(f" {forms_end_at}")
    if frames:
        headers["content-security-policy"] += "; frame-src 'self'"
    return Response(body, status_code=status, media_type="text/html; charset=utf-8", headers=headers)


def notice(error: AppError, *, csrf: str | None = None) -> Response:
    """An error as a page: what was wrong and what to do. ``csrf``: of the session, to who has one."""
    values = {"message": error.message, "hint": error.hint, "signed_in": csrf is not None, "csrf_leave": csrf}
    response = html("notice.html", values, error.status)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(error.retry_after)
    return response


def error_body(message: str, hint: str) -> bytes:
    """The same of an error that came before anybody knew who asks."""
    values = {"message": message, "hint": hint, "signed_in": None}
    return _environment().get_template("notice.html").render(**values).encode()


def style_route() -> Route:
    async def style(_request: Request) -> Response:
        return Response(STYLE, media_type="text/css", headers={"cache-control": "public, max-age=31536000, immutable"})

    return Route(STYLE_URL, style)


@cache
def _environment() -> Environment:
    # Most processes never show a page, so they never pay for this import.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"style_url": STYLE_URL, "home": HOME, "navigation": NAVIGATION, "tabs": PROJECT_TABS}
    environment.filters["when"] = _when
    environment.filters["until"] = _until
    environment.filters["browser"] = user_agents.described
    return environment


def _when(moment: datetime) -> str:
    """``14:05 UTC`` today, with the day before it otherwise."""
    moment = moment.astimezone(UTC)
    today = moment.date() == datetime.now(UTC).date()
    return moment.strftime("%H:%M UTC" if today else "%Y-%m-%d %H:%M UTC")


def _until(moment: datetime) -> str:
    """``14:05 UTC, in 9 minutes``."""
    minutes = round((moment - datetime.now(UTC)).total_seconds() / 60)
    left = "in less than a minute" if minutes < 1 else f"in {minutes} minute{'' if minutes == 1 else 's'}"
    return f"{_when(moment)}, {left}"
