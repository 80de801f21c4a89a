"""State that clients and models change, as a whole or by JSON Patch (RFC 6902), in bounded time and room."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import jsonpatch
from pydantic_core import from_json

from db.errors import AppError, invalid

LARGEST: Final = 64 << 10
MOST_OPERATIONS: Final = 200
DEEPEST: Final = 200
PROTOTYPE: Final = re.compile(r"/__proto__(/|$)|/constructor/prototype(/|$)")
"""What JavaScript has everything inherit from: clients that apply patches refuse whole patches that lead there."""
_FAULTS: Final = (
    jsonpatch.JsonPatchException,
    jsonpatch.JsonPointerException,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)


def patched(state: Any, patch: Any) -> Any:
    """A new state. Raises AppError ``patch_invalid`` when the patch is none, or does not apply as a whole."""
    if not isinstance(patch, list) or len(patch) > MOST_OPERATIONS:
        raise _invalid(f"it must be a list of at most {MOST_OPERATIONS} operations")
    state = json.loads(json.dumps(state))
    room = LARGEST
    for number, operation in enumerate(patch):
        try:
            made = jsonpatch.JsonPatch([operation])
            if PROTOTYPE.search(operation["path"]):
                raise _invalid(f"operation {number}: no client can change what is called __proto__ or prototype")
            if operation["op"] == "copy":
                # Each can double what is there; everything else grows with the patch.
                room -= len(json.dumps(jsonpatch.JsonPointer(operation["from"]).resolve(state)))
                if room < 0:
                    raise _too_large()
            state = made.apply(state, in_place=True)
        except _FAULTS as error:
            raise _invalid(f"operation {number}: {str(error)[:200]}") from None
        except RecursionError:
            raise _too_large() from None
    check(state)
    return state


def check(state: Any) -> None:
    """Raises AppError ``state_too_large`` for what takes over 64 KiB or is nested too deep, ``invalid_arguments`` for
    what PostgreSQL cannot hold."""
    try:
        text = json.dumps(state, allow_nan=False)
        if len(text) > LARGEST:
            raise _too_large()
        from_json(text)  # which goes 200 deep
    except RecursionError:
        raise _too_large() from None
    except ValueError as error:
        if "recursion" in str(error):
            raise _too_large() from None
        raise invalid("A state holds what JSON does not have.", "Leave NaN, infinities and halves out.") from None
    if "\\u0000" in text or ("\\ud" in text and _has_lone_half(text)):
        raise invalid("A state holds the character U+0000 or half of one.", "Leave it out.")


def _has_lone_half(text: str) -> bool:
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _invalid(what: str) -> AppError:
    return invalid(
        f"The patch cannot be applied: {what}.",
        'A list of RFC 6902 operations on the state, like [{"op": "add", "path": "/open", "value": true}].',
        "patch_invalid",
    )


def _too_large() -> AppError:
    return AppError(
        "state_too_large",
        413,
        f"A state may take {LARGEST} bytes of JSON, nested {DEEPEST} deep.",
        "Keep what is large in a file, and its id in the state.",
    )
