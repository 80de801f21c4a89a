"""What the default listing costs a model: ``python -m tests.budget`` prints it tool by tool, and fails when it is too
much. Tokens of o200k_base, of name, description and input schema.
"""

from __future__ import annotations

import sys
import warnings
from typing import Final

from db.ids import uuid7
from db.principal import Principal
from db.scopes import ALL_SCOPES
from server.mcp import costs
from server.mcp.handlers import INSTRUCTIONS
from tools.catalog import CATALOG, ListedTool

MOST_TOOLS: Final = 28
MOST_LISTED: Final = 3_500
MOST_INSTRUCTIONS: Final = 200
with warnings.catch_warnings():
    # It opens its vocabulary in a way that Python 3.11 and 3.12 call deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import bpe_openai  # type: ignore[import-untyped]  # it ships no types

    _encoding = bpe_openai.get_encoding(costs.ENCODING)


def tokens(text: str) -> int:
    return len(_encoding.encode(text))


def caller(*, bound: bool = False) -> Principal:
    """Somebody who may do everything."""
    return Principal(uuid7(), uuid7(), uuid7() if bound else None, None, frozenset(ALL_SCOPES))


def cost(tool: ListedTool) -> int:
    return tokens(costs.counted_text(tool.name, tool.description, tool.input_schema))


def listed(*, bound: bool = False) -> dict[str, int]:
    """The default listing, with what each tool costs."""
    return {tool.name: cost(tool) for tool in CATALOG.visible(caller(bound=bound))}


def report() -> str:
    found = listed()
    rows = [f"{count:6} {name}" for name, count in sorted(found.items(), key=lambda row: -row[1])]
    rows.append(f"{sum(found.values()):6} of at most {MOST_LISTED} for {len(found)} tools of at most {MOST_TOOLS}")
    rows.append(f"{tokens(INSTRUCTIONS):6} of fewer than {MOST_INSTRUCTIONS} for the instructions")
    return "\n".join(rows)


def kept() -> bool:
    """Whether all three bounds hold."""
    found = listed()
    within = len(found) <= MOST_TOOLS and sum(found.values()) <= MOST_LISTED
    return within and tokens(INSTRUCTIONS) < MOST_INSTRUCTIONS


if __name__ == "__main__":
    print(report())
    sys.exit(not kept())
