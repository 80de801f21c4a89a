"""What a call came to, as every edge prints it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from tools.contract import ToolSpec
from tools.resources import ResourceSpec
from tools.result import fitted
from tools.trust import fenced


class Outcome(NamedTuple):
    """What a tool answered, serialised once: ``json`` is the object of its output schema as compact UTF-8 JSON.

    ``untrusted``: where in it words of others stand (:mod:`tools.trust`). ``rest_from``: the tool that has the rest.
    ``link``: the address of the resource that it is about.
    """

    json: bytes
    replayed: bool = False
    untrusted: tuple[str, ...] = ()
    rest_from: str = ""
    link: str = ""

    @classmethod
    def of(cls, spec: ToolSpec | ResourceSpec, value: Any, limit: int) -> Outcome:
        """What ``spec`` gave, cut to ``limit`` bytes."""
        json = fitted(spec.output.serializer.to_json(value), limit, spec.untrusted)
        return cls(json, False, spec.untrusted, spec.rest_from)

    def linked(self, spec: ToolSpec, values: Mapping[str, Any]) -> Outcome:
        """The same with the resource that a call with these arguments is about, if its tool has one."""
        return self._replace(link=spec.link.format_map(values)) if spec.link else self

    @property
    def text(self) -> str:
        """The same for a model to read: words of others between marks made anew each time this is asked for."""
        return fenced(self.json, self.untrusted)

    @property
    def structured(self) -> dict[str, Any]:
        """The same as a Python object."""
        parsed: dict[str, Any] = from_json(self.json)
        return parsed
