"""JSON Schemas that clients send, and values held to them: without leaving the process, and in bounded time.

A reference leads to a place in the same schema and nothing is ever fetched. Patterns are matched by an engine without
backtracking (RE2's syntax); what it does not know, and ``patternProperties``, is refused when the schema comes. So is
one whose references multiply.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]  # it ships no types
from jsonschema.exceptions import SchemaError, best_match  # type: ignore[import-untyped]  # it brings no types
from jsonschema.validators import extend  # type: ignore[import-untyped]  # it brings no types
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema
from pydantic_core import ValidationError as NoMatchError
from referencing import Registry
from referencing.exceptions import Unresolvable

LARGEST: Final = 64 << 10
MOST_STEPS: Final = 20_000
"""References followed while one value is checked."""
MOST_FAULTS: Final = 5

_steps: ContextVar[list[int]] = ContextVar("innkeeper_schema_steps")


class UnusableSchemaError(Exception):
    """What is wrong with a schema, for whoever sent it."""


@lru_cache(maxsize=256)
def _pattern(text: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=text, regex_engine="rust-regex"))


def _matches(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str):
        try:
            _pattern(pattern).validate_python(value)
        except NoMatchError:
            yield ValidationError(f"{value[:100]!r} does not match {pattern!r}")


def _follow(validator: Any, reference: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    steps = _steps.get()
    steps[0] += 1
    if steps[0] > MOST_STEPS:
        raise UnusableSchemaError("its references multiply")
    yield from Draft202012Validator.VALIDATORS["$ref"](validator, reference, value, schema)


_Validator: Final = extend(Draft202012Validator, {"pattern": _matches, "$ref": _follow})


def check(schema: Any) -> dict[str, Any]:
    """The schema itself. Raises :class:`UnusableSchemaError` unless it is one of an object, in JSON Schema 2020-12."""
    if not isinstance(schema, dict):
        raise UnusableSchemaError("it is no object")
    if len(json.dumps(schema)) > LARGEST:
        raise UnusableSchemaError(f"it has more than {LARGEST} bytes")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise UnusableSchemaError(f"at {error.json_path}: {error.message[:200]}") from None
    except RecursionError:
        raise UnusableSchemaError("it is nested too deep") from None
    if schema.get("type", "object") != "object":
        raise UnusableSchemaError("its type is not object")
    _check_keywords(schema)
    return schema


def faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What is wrong with a value, at most five things; empty when nothing is. Raises :class:`UnusableSchemaError` for a
    schema that nothing can be held to."""
    token = _steps.set([0])
    try:
        found = []
        for error in _Validator(schema, registry=Registry()).iter_errors(value):
            worst = best_match([error]) or error
            found.append(f"{worst.json_path}: {worst.message[:300]}")
            if len(found) >= MOST_FAULTS:
                break
    except Unresolvable as error:
        raise UnusableSchemaError(f"the reference {error.ref!r} leads nowhere in it") from None
    except RecursionError:
        raise UnusableSchemaError("its references run in a circle") from None
    finally:
        _steps.reset(token)
    return found


def _check_keywords(schema: dict[str, Any]) -> None:
    places: list[Any] = [schema]
    while places:
        one = places.pop()
        if isinstance(one, list):
            places += one
            continue
        if not isinstance(one, dict):
            continue
        if isinstance(one.get("patternProperties"), dict):
            raise UnusableSchemaError("patternProperties is not supported")
        if isinstance(one.get("$dynamicRef"), str):
            raise UnusableSchemaError("$dynamicRef is not supported")
        reference = one.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise UnusableSchemaError(f"the reference {reference[:100]!r} leads out of it")
        if isinstance(one.get("pattern"), str):
            try:
                _pattern(one["pattern"])
            except PatternError:
                raise UnusableSchemaError(f"the pattern {one['pattern'][:100]!r} is not supported") from None
        places += one.values()
