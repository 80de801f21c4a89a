"""Files of a project in a run: an agent gets a ticket through MCP as its caller, and the bytes with it from the store.

So the bytes of an attachment never go through a tool's answer, whose length is bounded, and what an agent may read is
decided where it is for everybody: by the tool ``get_file``. In a message an attachment is an address; its bytes take
its place when the messages go to a model, and are stored nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from pydantic_ai.messages import BinaryContent, FileUrl, ModelMessage, ModelRequest, UserContent, UserPromptPart

from agents import attachment_address
from agents.house_mcp import CallRefusedError, HouseMCP
from agents.taken_content import is_text, utf8
from db.errors import AppError, invalid
from db.principal import Principal

LARGEST: Final = 20 << 20
"""Bytes of one attachment, and of all of one run together."""
PASSED_OVER: Final = ("attachment_unreadable", "content_too_large")


class Fetch(Protocol):
    """Reads what the address of a download ticket leads to: ``tools.store.Store.fetch``."""

    async def __call__(self, url: str, most: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Attachment:
    """``name``: its path in the project."""

    data: bytes
    media_type: str
    name: str


class Attachments:
    """Reads attachments for every run of a process: each as the grant it is asked with."""

    def __init__(self, mcp: HouseMCP, fetch: Fetch) -> None:
        self._mcp = mcp
        self._fetch = fetch

    async def read(self, grant: Principal, url: str, most: int = LARGEST) -> Attachment:
        """The file at an :mod:`agents.attachment_address`. One that was sent and never confirmed is confirmed first.

        Raises ``AppError``: ``attachment_unreadable`` for what this caller cannot read or what has not arrived,
        ``content_too_large`` over ``most`` bytes.
        """
        found = attachment_address.ids(url)
        if found is None:
            raise _unreadable(f"{url[:100]!r} is no address of a file.")
        where = {"project_id": found[0], "file_id": found[1]}
        file = await self._call(grant, "get_file", where)
        if file["status"] == "pending":
            await self._call(grant, "confirm_upload", where)
            file = await self._call(grant, "get_file", where)
        if file["size"] > most:
            raise AppError(
                "content_too_large",
                413,
                f"An attachment has {file['size']} bytes, and there is room for {most}: a run takes {LARGEST} in all.",
                "Attach less, or let the agent read the file in parts with get_file.",
            )
        if file["ticket"] is None:
            raise _unreadable(f"File {found[1]} has not arrived: its status is {file['status']}.")
        data = await self._fetch(file["ticket"]["url"], most)
        return Attachment(data, file["content_type"], file["path"])

    async def with_bytes(
        self, grant: Principal, messages: Sequence[ModelMessage], new: ModelMessage | None
    ) -> list[ModelMessage]:
        """The messages with the bytes of attachments in place of their addresses. Raises as :meth:`read` does for those
        of ``new``. Of what was said before, a file that is gone by now, or for which there is no room beside the newer
        ones, is only named: it would end every later run of its thread."""
        needed = dict.fromkeys(_addresses(new) if new is not None else ())
        wanted = needed | dict.fromkeys(url for message in reversed(messages) for url in _addresses(message))
        read: dict[str, Attachment | None] = {}
        left = LARGEST
        for url in wanted:
            try:
                found = read[url] = await self.read(grant, url, left)
                left -= len(found.data)
            except AppError as error:
                if url in needed or error.code not in PASSED_OVER:
                    raise
                read[url] = None
        return [_filled(message, read) for message in messages] if read else list(messages)

    async def _call(self, grant: Principal, tool: str, where: dict[str, str]) -> dict[str, Any]:
        key = f"{grant.run_id}:attachment:{tool}:{where['file_id']}"
        try:
            result = await self._mcp.call_tool(grant, tool, where, key)
        except CallRefusedError as refused:
            raise _unreadable(refused.message) from None
        if result.get("isError") or "structuredContent" not in result:
            error = (result.get("_meta") or {}).get("innkeeper/error") or {}
            raise _unreadable(str(error.get("message", "The file cannot be read.")))
        answer: dict[str, Any] = result["structuredContent"]
        return answer


def _addresses(message: ModelMessage) -> list[str]:
    return [
        part.url
        for prompt in (message.parts if isinstance(message, ModelRequest) else ())
        if isinstance(prompt, UserPromptPart) and not isinstance(prompt.content, str)
        for part in prompt.content
        if isinstance(part, FileUrl) and attachment_address.ids(part.url)
    ]


def _filled(message: ModelMessage, read: Mapping[str, Attachment | None]) -> ModelMessage:
    if not isinstance(message, ModelRequest):
        return message
    return replace(
        message, parts=[_prompt(part, read) if isinstance(part, UserPromptPart) else part for part in message.parts]
    )


def _prompt(prompt: UserPromptPart, read: Mapping[str, Attachment | None]) -> UserPromptPart:
    if isinstance(prompt.content, str):
        return prompt
    return replace(prompt, content=[_content(part, read) for part in prompt.content])


def _content(part: UserContent, read: Mapping[str, Attachment | None]) -> UserContent:
    if not isinstance(part, FileUrl) or part.url not in read:
        return part
    attachment = read[part.url]
    if attachment is None:
        return f"[The file {part.url}, which cannot be read any more.]"
    # Without parameters: what models take is told apart by the bare type.
    bare = attachment.media_type.partition(";")[0].strip()
    data = utf8(attachment.data, attachment.media_type) if is_text(bare) else attachment.data
    return BinaryContent(data=data, media_type=bare)


def _unreadable(message: str) -> AppError:
    return invalid(
        message,
        "Upload the file with create_upload or /storage/presign, and attach it by the address its ticket came with.",
        "attachment_unreadable",
        {"next_tool": "list_files"},
    )


async def no_files(url: str, most: int) -> bytes:
    """:class:`Fetch` of a house without a store."""
    raise AppError("storage_not_configured", 503, "Runs have no place for files.", "Ask who runs this house for one.")
