"""What a provider refuses a request for, where only its words say it: few of those who speak OpenAI's interface send
its codes as well.

Read are the bodies of refusals of OpenAI, Azure, vLLM, SGLang, TGI, llama.cpp, Ollama, LM Studio, LiteLLM, Groq,
Mistral, Gemini, Anthropic, xAI, Cohere, DeepSeek, Qwen, Moonshot, Z.ai and Bedrock. They decide what is said, and are
never repeated.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, Literal, TypeAlias

Reason: TypeAlias = Literal["overflow", "filtered", "key"]
MOST_READ: Final = 4096
"""Characters of a refusal in which the reason must stand."""

_REASONS: Final[tuple[tuple[Reason, re.Pattern[str]], ...]] = (
    (
        "overflow",
        re.compile(
            r"context[ _]?(length|window|size)|maximum (prompt|model) length|exceed_context_size_error"
            r"|(prompt|input|request) (is )?too (long|large)|prompt exceeds max length|too many tokens"
            r"|number of tokens allowed|model token limit|range of input length|string too long"
            r"|exceeds the maximum size|`inputs` (tokens|must have less than)|tokens in the prompt cannot exceed"
        ),
    ),
    (
        "filtered",
        re.compile(
            r"content_filter|content_policy|content management policy|responsibleaipolicy|data_inspection_failed"
            r"|content exists risk|safety system"
        ),
    ),
    ("key", re.compile(r"api[ _-]?key[ _](is )?(not valid|invalid)|(invalid|incorrect)[ _]api[ _-]?key")),
)


def reason(body: object) -> Reason | None:
    """Of a refusal whose status says no more than that it is one (400, 413, 422, 500)."""
    text = _text(body)[:MOST_READ].lower()
    return next((name for name, words in _REASONS if words.search(text)), None)


def _text(body: Any) -> str:
    if isinstance(body, str):
        return body
    try:
        return json.dumps(body, default=str, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""
