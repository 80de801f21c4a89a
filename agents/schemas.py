"""JSON Schemas that clients send, and values held to them: without leaving the process, and in bounded time.

A reference leads to a place in the same schema and nothing is ever fetched. Patterns are those of
:mod:`agents.patterns`; others, and ``patternProperties``, are refused when the schema comes. What takes too many steps,
because references multiply or much is held to much, is not checked to its end; what takes more than a few is checked
beside the event loop (:func:`in_turn`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]  # it ships no types
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]  # it brings no types
from jsonschema.validators import extend  # type: ignore[import-untyped]  # it brings no types
from referencing import Registry
from referencing.exceptions import Unresolvable

from agents import patterns
from agents.patterns import PatternError
from db.aside import aside

LARGEST: Final = 64 << 10
MOST_STEPS: Final = 100_000
"""Keywords looked at while one value or one schema is checked: half a second."""
MOST_STEPS_OF_A_RUN: Final = 200_000
"""While all of a run's schemas are checked that are not known yet."""
MOST_STEPS_AT_ONCE: Final = 1_000
"""While the event loop waits for it, in each ``SPAN``: 5 ms."""
SPAN: Final = 0.05
"""Seconds."""
MOST_KNOWN: Final = 128
"""Schemas of which it is remembered what is wrong with them: clients send theirs with every run."""
MOST_FAULTS: Final = 5
_WEIGHED_IN_A_STEP: Final = 10
"""Of a pattern's weight, when it is compiled."""
_MATCHED_IN_A_STEP: Final = 1_600
"""Of a pattern's weight times characters."""
_WHOLE: Final = frozenset({"const", "enum", "uniqueItems"})
"""Keywords that look at a value with all that is in it."""
_EACH: Final = frozenset(
    {"additionalProperties", "contains", "items", "propertyNames", "unevaluatedItems", "unevaluatedProperties"}
)
"""Those that go through what it holds."""


class UnusableSchemaError(Exception):
    """What is wrong with a schema, for whoever sent it."""


class TooManyStepsError(UnusableSchemaError):
    """It is not known what is wrong with it, if anything."""


class NotAtOnceError(Exception):
    """It takes longer than the event loop may wait."""


@dataclass(slots=True)
class _Left:
    """How many steps may still be taken, and what is raised when there are none."""

    steps: int
    error: Exception

    def take(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise self.error


_left: ContextVar[_Left | None] = ContextVar("innkeeper_schema_steps", default=None)
Came = TypeVar("Came")


@contextmanager
def bounded(most: int | _Left) -> Iterator[None]:
    """All that is checked within it takes ``most`` steps at most, and no more than what it is within itself."""
    outer = _left.get()
    left = _Left(most, TooManyStepsError("checking it takes too long")) if isinstance(most, int) else most
    given = left.steps
    if outer is not None and outer.steps < given:
        left.steps = given = outer.steps
        left.error = outer.error
    token = _left.set(left)
    try:
        yield
    finally:
        _left.reset(token)
        if outer is not None:
            outer.steps -= given - left.steps


class _AtOnce:
    """The steps that are taken on the event loop: many short checks take as long as one long one."""

    def __init__(self) -> None:
        self._since = 0.0
        self._left = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        now = time.monotonic()
        if now > self._since + SPAN:
            self._since, self._left = now, MOST_STEPS_AT_ONCE
        left = _Left(self._left, NotAtOnceError())
        try:
            with bounded(left):
                yield
        finally:
            self._left = max(left.steps, 0)


_at_once: Final = _AtOnce()


async def in_turn(work: Callable[[], Came]) -> Came:
    """What ``work`` comes to, which checks schemas or values and does nothing else: at once if that takes few steps,
    and otherwise anew, beside the event loop."""
    try:
        with _at_once.taken():
            return work()
    except NotAtOnceError:
        return await aside(work)


def _take(steps: int) -> None:
    left = _left.get()
    if left is not None:
        left.take(steps)


def _counted(name: str, keyword: Any) -> Any:
    def check(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        _take(1 + _work(name, wanted, value))
        return keyword(validator, wanted, value, schema) or iter(())

    return check


def _work(name: str, wanted: Any, value: Any) -> int:
    """What a keyword takes besides looking at it, in steps."""
    listed = len(wanted) // (4 if isinstance(wanted, dict) else 1) if isinstance(wanted, list | dict) else 0
    if name in _WHOLE:
        return max(listed, 1) * (_size(value) // 2) + listed
    if name in _EACH and isinstance(value, list | dict):
        return listed + len(value) * (20 if name.startswith("unevaluated") else 1)
    return listed


def _size(value: Any) -> int:
    """Values in it, and texts by their length."""
    places, size = [value], 0
    while places:
        one = places.pop()
        size += 1 + (len(one) // 4 if isinstance(one, str) else 0)
        if isinstance(one, list | dict):
            places += one.values() if isinstance(one, dict) else one
    return size


def _unique(_validator: Any, wanted: bool, value: Any, _schema: Any) -> Iterator[ValidationError]:
    # The library's own compares each with each.
    if wanted and isinstance(value, list) and len({_canonical(one) for one in value}) < len(value):
        yield ValidationError(f"{str(value)[:100]} has non-unique elements")


def _canonical(value: Any) -> str:
    """The same text for equal JSON values: 1 is 1.0, and not true."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {name: _plain(one) for name, one in value.items()} if isinstance(value, dict) else value


def _matches(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str):
        known = patterns.compiled(pattern)
        _take(len(value) // 16 + known.weight * len(value) // _MATCHED_IN_A_STEP)
        try:
            found = known.matches(value)
        except PatternError:
            raise TooManyStepsError("checking it takes too long") from None
        if not found:
            yield ValidationError(f"{value[:100]!r} does not match {pattern!r}")


_OWN: Final = {"pattern": _matches, "uniqueItems": _unique}
_Validator: Final[Any] = extend(
    Draft202012Validator,
    {name: _counted(name, keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OWN}.items()},
)


def _of_a_part(validator: Any, **changes: Any) -> Any:
    # The library takes the class of the dialect that a part of a schema names by $schema, and with it its own keywords.
    of, resolver = validator._registry, validator._resolver  # noqa: SLF001  (as its own does)
    kept = {"schema": validator.schema, "registry": of, "_resolver": resolver}
    return _Validator(**{**kept, **changes})


_Validator.evolve = _of_a_part
_OF_SCHEMAS: Final = _Validator(Draft202012Validator.META_SCHEMA)


def check(schema: Any) -> dict[str, Any]:
    """The schema itself. Raises :class:`UnusableSchemaError` unless it is one of an object, in JSON Schema 2020-12."""
    if not isinstance(schema, dict):
        raise UnusableSchemaError("it is no object")
    text = json.dumps(schema)
    if len(text) > LARGEST:
        raise UnusableSchemaError(f"it has more than {LARGEST} bytes")
    wrong = _wrong_with(text)
    if wrong is not None:
        raise UnusableSchemaError(wrong)
    return schema


@lru_cache(maxsize=MOST_KNOWN)
def _wrong_with(text: str) -> str | None:
    schema = json.loads(text)
    try:
        with bounded(MOST_STEPS):
            worst = best_match(_OF_SCHEMAS.iter_errors(schema))
            if worst is not None:
                return f"at {worst.json_path}: {worst.message[:200]}"
            _check_keywords(schema)
            # What leads nowhere or in a circle shows itself with any value.
            faults(schema, {})
    except RecursionError:
        return "it is nested too deep"
    except TooManyStepsError:
        raise
    except UnusableSchemaError as error:
        return str(error)
    return None if schema.get("type", "object") == "object" else "its type is not object"


def faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What is wrong with a value, at most five things; empty when nothing is. Raises :class:`UnusableSchemaError` for a
    schema that nothing can be held to."""
    try:
        found = []
        with bounded(MOST_STEPS):
            for error in _Validator(schema, registry=Registry()).iter_errors(value):
                worst = best_match([error]) or error
                found.append(f"{worst.json_path}: {worst.message[:300]}")
                if len(found) >= MOST_FAULTS:
                    break
    except Unresolvable as error:
        raise UnusableSchemaError(f"the reference {error.ref!r} leads nowhere in it") from None
    except RecursionError:
        raise UnusableSchemaError("its references run in a circle") from None
    except ArithmeticError:
        raise UnusableSchemaError("a number is too large for it") from None
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
                _take(patterns.compiled(one["pattern"]).weight // _WEIGHED_IN_A_STEP)
            except PatternError:
                raise UnusableSchemaError(f"the pattern {one['pattern'][:100]!r} is not supported") from None
        places += one.values()
