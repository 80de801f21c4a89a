"""JSON Schemas of tools, the same in every request: nobody edits them, so nobody copies them, and what a model makes of
one is kept with it, and what it is sent of it. Those of the house's own tools are the same in every run."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pydantic_ai import ToolDefinition


class Fixed(dict[str, Any]):
    """A JSON object that is never edited in place: a copy of it is the same object. ``customised``: what models of each
    kind make of the tool that takes it, with the tool they made it of. ``sent``: what is sent of that tool."""

    def __init__(self, value: dict[str, Any]) -> None:
        super().__init__(value)
        self.customised: dict[Hashable, tuple[ToolDefinition, ToolDefinition]] = {}
        self.sent: dict[Hashable, tuple[ToolDefinition, Any]] = {}

    def __copy__(self) -> Self:
        return self
