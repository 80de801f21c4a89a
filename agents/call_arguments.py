"""What the arguments of a call must be, whoever carries it out: a JSON object (RFC 8259)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

from pydantic_ai import ModelRetry
from pydantic_core import SchemaValidator, ValidationError, core_schema

RETRIES: Final = 3
_ANY: Final = SchemaValidator(core_schema.dict_schema(keys_schema=core_schema.str_schema()))
_Partial: TypeAlias = bool | Literal["off", "on", "trailing-strings"]


class Arguments:
    """A validator as pydantic-ai takes one. What is wrong it says in a text: that is what the model, the client's
    screen and the thread have, where a list of errors would be written anew by each."""

    def validate_json(self, input: str | bytes | bytearray, *, allow_partial: _Partial = False, **more: Any) -> Any:
        return _checked(lambda: _ANY.validate_json(input, allow_partial=allow_partial, **more))

    def validate_python(self, input: Any, *, allow_partial: _Partial = False, **more: Any) -> Any:
        return _checked(lambda: _ANY.validate_python(input, allow_partial=allow_partial, **more))


ARGUMENTS: Final = Arguments()


def _checked(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return _of_json(read())
    except ValidationError as error:
        raise _refused(error.errors(include_url=False, include_input=False)[0]["msg"]) from error


def _of_json(arguments: dict[str, Any]) -> dict[str, Any]:
    """Models write ``NaN`` and ``1e999`` as well."""
    left: list[Any] = [arguments]
    while left:
        value = left.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused("a number is none of JSON")
        left.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    return arguments


def _refused(why: str) -> ModelRetry:
    return ModelRetry(f"The arguments are no JSON object: {why}. Correct them and call again.")
