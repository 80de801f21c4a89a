"""What the shadcn CLI asks of its default registry whichever registry it installs from: which styles there are, which
icon libraries, and the colours of the base colour.

With ``REGISTRY_URL={house}/r`` it asks here, so that it works where the internet cannot be reached, and no plain name
resolves outside of the house: these documents are all there is. They say nothing of any project.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

HEADERS: Final = {"cache-control": "public, max-age=3600"}
STYLES: Final = [{"name": "new-york-v4", "label": "New York"}]
COLORS: Final[dict[str, Any]] = {
    "inlineColors": {"light": {}, "dark": {}},
    "cssVars": {"light": {}, "dark": {}},
    "inlineColorsTemplate": "",
    "cssVarsTemplate": "",
}
"""Of any base colour: projects get their colours from an item of their own."""


def routes() -> list[BaseRoute]:
    return [
        Route("/r/styles/index.json", _always(STYLES)),
        Route("/r/icons/index.json", _always({})),
        Route("/r/colors/{name}.json", _always(COLORS)),
    ]


def _always(document: Any) -> Any:
    async def answer(_request: Request) -> Response:
        return JSONResponse(document, headers=HEADERS)

    return answer
