"""The pages for people, as far as a machine has to know them: where they are, and what they may answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.routing import BaseRoute

from server.openapi.operation import FORM, HTML, PROBLEM, TEXT, UUID, Answer, Operation, in_path, ref
from server.site.pages import PageRoute

TAG: Final = "pages"
PAGE: Final = {HTML: TEXT}
NOTICE: Final = {**PAGE, PROBLEM: ref("Problem")}
NOTICES: Final = (400, 401, 403, 404, 409, 410, 413, 415, 421, 422, 429, 502, 503)
_PARAMETER: Final = re.compile(r"\{(\w+)(?::(\w+))?\}")


def operations(routes: Iterable[BaseRoute]) -> list[Operation]:
    """One for each method of each page among ``routes``."""
    return [
        _page(route.path, method.lower())
        for route in routes
        if isinstance(route, PageRoute)
        for method in sorted(route.methods or ())
        if method in ("GET", "POST")
    ]


def _page(path: str, method: str) -> Operation:
    parameters = [in_path(name, "Of the address.", UUID if kind == "uuid" else TEXT) for name, kind in _found(path)]
    form = {FORM: {"type": "object", "additionalProperties": TEXT}}
    return Operation(
        method,
        template(path),
        TAG,
        "A page for people" if method == "get" else "A form of a page",
        {
            200: Answer("The page.", PAGE),
            302: Answer("Back to the application that sent the person."),
            303: Answer("On to another page."),
            **{status: Answer("What is in the way, as a page or as a problem.", NOTICE) for status in NOTICES},
        },
        parameters=parameters,
        body=form if method == "post" else {},
        body_required=False,
        security=("session", ""),
    )


def template(path: str) -> str:
    """The path of a route as OpenAPI writes it: without converters."""
    return _PARAMETER.sub(r"{\1}", path)


def _found(path: str) -> list[tuple[str, str | None]]:
    return [(match[1], match[2]) for match in _PARAMETER.finditer(path)]
