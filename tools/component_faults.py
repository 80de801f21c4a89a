"""What is wrong with an item, all of it at once: where (a JSON pointer), what it must be, and the same for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from db.errors import AppError, Repair

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]  # it ships no types

SHOWN: Final = 20
PROGRAMS: Final = frozenset({"type", "enum", "const", "pattern", "maxLength", "minLength", "maxItems", "format"})
"""Keywords of JSON Schema that say in themselves what a value must be."""
At: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """``at``: the way to it, from the arguments of the call. ``says``: what it must be, or must not."""

    at: At
    says: str
    schema: dict[str, Any] = field(default_factory=dict)

    @property
    def pointer(self) -> str:
        """RFC 6901."""
        return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in self.at)

    def __str__(self) -> str:
        return f"{self.pointer or '/'} {self.says}"


class FaultsError(AppError):
    """An item that cannot be published, and why."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        shown = "; ".join(str(fault) for fault in faults[:SHOWN])
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        repairs = [_repair(fault) for fault in faults[:SHOWN]]
        super().__init__(
            "component_invalid",
            400,
            f"The component has {count}: {shown}{more}.",
            "Correct each and publish again. The format is that of shadcn's registry-item.json; see docs/registry.md.",
            details={"arguments": repairs},
        )
        self.faults = tuple(faults)


def _repair(fault: Fault) -> Repair:
    repair: Repair = {"do": "change", "at": ".".join(str(step) for step in fault.at)}
    if fault.schema:
        repair["schema"] = fault.schema
    return repair


def of_schema(errors: Iterable[ValidationError], root: At) -> Iterator[Fault]:
    """The faults that a JSON Schema validator found, without repeating the values that were sent."""
    seen: set[At] = set()
    for error in errors:
        if error.context:
            # Of several forms that a value may have, the one it comes nearest to.
            yield from of_schema(
                [min(error.context, key=lambda one: (-len(one.absolute_path), one.validator == "type"))], root
            )
            continue
        for fault in _named(error, (*root, *error.absolute_path)):
            if fault.at not in seen:
                seen.add(fault.at)
                yield fault


def _named(error: ValidationError, at: At) -> Iterator[Fault]:
    keyword, wants = str(error.validator), error.validator_value
    if keyword == "required":
        yield from (Fault((*at, name), "is missing") for name in wants if name not in error.instance)
    elif keyword == "additionalProperties":
        known = error.schema.get("properties", {})
        for name in sorted(error.instance.keys() - known.keys()):
            near = get_close_matches(name, known, 1)
            yield Fault((*at, name), f"is unknown (is it {near[0]}?)" if near else "is unknown")
    elif "propertyNames" in error.absolute_schema_path:
        yield Fault((*at, str(error.instance)), f"must have a name that matches {wants}")
    else:
        says = _SAYS.get(keyword, lambda wants: f"breaks the rule '{keyword}': {str(wants)[:80]}")(wants)
        yield Fault(at, says, {keyword: wants} if keyword in PROGRAMS else {})


def _kinds(wants: str | list[str]) -> str:
    return " or ".join(_KINDS.get(kind, kind) for kind in ([wants] if isinstance(wants, str) else wants))


_KINDS: Final = {
    "string": "a text",
    "array": "a list",
    "object": "an object",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}
_SAYS: Final[dict[str, Callable[[Any], str]]] = {
    "type": lambda wants: f"must be {_kinds(wants)}",
    "enum": lambda wants: f"must be one of {', '.join(map(str, wants))}",
    "const": lambda wants: f"must be {wants}",
    "pattern": lambda wants: f"must match {wants}",
    "maxLength": lambda wants: f"must be at most {wants} characters long",
    "minLength": lambda wants: f"must be at least {wants} characters long",
    "maxItems": lambda wants: f"must have at most {wants} elements",
}
