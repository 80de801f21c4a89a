"""``/r/...``: what the shadcn CLI installs from."""

from __future__ import annotations

from typing import Final

from server.openapi.operation import (
    JSON,
    TEXT,
    Answer,
    Operation,
    Schema,
    in_header,
    in_path,
    in_query,
    listed,
    thing,
)
from tools.component_item import TYPES

TAG: Final = "registry"
KEY: Final = ("bearer",)
SAME: Final = Answer("It is the one of If-None-Match.")
ITEM: Final = in_path("item", "A name, or name@version.", TEXT)
PROJECT: Final = in_path("project", "A project whose registry is public.")
IF_NONE_MATCH: Final = in_header("If-None-Match", "The ETag of what is there already.")
NUMBER: Final[Schema] = {"type": "string", "pattern": "^[0-9]{1,8}$"}
TYPE: Final[Schema] = {"type": "string", "pattern": f"^({'|'.join(TYPES)})(,({'|'.join(TYPES)}))*$"}
SEARCH: Final = [
    in_query("q", "Words to look for."),
    in_query("type", "Types, separated by commas.", TYPE),
    in_query("offset", "How many to leave out.", NUMBER),
    in_query("limit", "How many at most.", NUMBER),
    IF_NONE_MATCH,
]
ETAG: Final = {"ETag": "To ask with If-None-Match next time (RFC 9110)."}


def operations() -> list[Operation]:
    catalogue = Answer("The components.", {JSON: thing({"name": TEXT, "items": listed({"type": "object"})})}, ETAG)
    one = Answer("The component, with its files.", {JSON: thing({"name": TEXT, "type": TEXT})}, ETAG)
    everybody, keyed = (400, 404, 502), (400, 401, 404, 429, 502)
    return [
        Operation(
            "get", "/r/registry.json", TAG, "The registry of the feed key's project",
            {200: catalogue, 304: SAME}, keyed, parameters=SEARCH, security=KEY,
        ),
        Operation(
            "get", "/r/{item}.json", TAG, "A component of the feed key's project",
            {200: one, 304: SAME}, keyed, parameters=[ITEM, IF_NONE_MATCH], security=KEY,
        ),
        Operation(
            "get", "/r/{project}/registry.json", TAG, "A public registry",
            {200: catalogue, 304: SAME}, everybody, parameters=[PROJECT, *SEARCH],
        ),
        Operation(
            "get", "/r/{project}/{item}.json", TAG, "A component of a public registry",
            {200: one, 304: SAME}, everybody, parameters=[PROJECT, ITEM, IF_NONE_MATCH],
        ),
        *(
            Operation("get", path, TAG, "What the shadcn CLI asks of its default registry", {200: answer}, (404,),
                      parameters=parameters)
            for path, answer, parameters in (
                ("/r/styles/index.json", Answer("The styles.", {JSON: listed({"type": "object"})}), []),
                ("/r/icons/index.json", Answer("The icon libraries.", {JSON: {"type": "object"}}), []),
                (
                    "/r/colors/{name}.json",
                    Answer("The colours.", {JSON: {"type": "object"}}),
                    [in_path("name", "A base colour.", TEXT)],
                ),
            )
        ),
    ]  # fmt: skip
