"""What the interface of a model takes of the files that users attach, and what stands in the place of others.

A thread goes on with whatever model, so a file that this one cannot take ends neither the run nor each later one of its
thread: the model is told that there is a file it does not see.
"""

from __future__ import annotations

import codecs
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from email.message import Message
from typing import Final, TypeAlias

from pydantic_ai._utils import is_text_like_media_type
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters

Takes: TypeAlias = Callable[[BinaryContent], bool]
LONGEST_TYPE: Final = 100
SLOW: Final = frozenset({"idna", "punycode"})
"""Charsets whose time grows with the square of a text's length."""


class TakesContent(Model):
    """A model that is given only what :meth:`takes` says it takes."""

    @staticmethod
    def takes(file: BinaryContent) -> bool:
        """Whether the interface has a place for it as what it is. Other text than that goes as plain text."""
        raise NotImplementedError

    def prepare_messages(
        self, messages: list[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
    ) -> list[ModelMessage]:
        return super().prepare_messages(taken(messages, self.takes), model_request_parameters)


class ChatContent(TakesContent):
    """Chat completions: text, pictures, documents, and two kinds of sound."""

    @staticmethod
    def takes(file: BinaryContent) -> bool:
        if file.is_audio:
            return _format(file) in ("wav", "mp3")
        return file.is_image or file.is_document or is_text(file.media_type)


class ResponsesContent(TakesContent):
    """The Responses API: pictures and documents."""

    @staticmethod
    def takes(file: BinaryContent) -> bool:
        return file.is_document or (file.is_image and not is_text(file.media_type))


class TextAlone(TakesContent):
    """A model that reads nothing but text."""

    @staticmethod
    def takes(file: BinaryContent) -> bool:
        return is_text(file.media_type)


def taken(messages: Sequence[ModelMessage], takes: Takes) -> list[ModelMessage]:
    """The messages as a model can be given them; those without files are the very same."""
    return [_message(one, takes) if isinstance(one, ModelRequest) else one for one in messages]


def utf8(data: bytes, media_type: str) -> bytes:
    """A text in the charset that its type names, or is said to be in when it names none, as UTF-8."""
    head = Message()
    head["content-type"] = media_type
    charset = head.get_content_charset("utf-8")
    try:
        if codecs.lookup(charset).name not in SLOW:
            return data.decode(charset).encode()
    except (LookupError, ValueError):
        pass
    return data.decode(errors="replace").encode()


def is_text(media_type: str) -> bool:
    """Whether it is read as text, whatever else it is."""
    return is_text_like_media_type(media_type)


def _message(message: ModelRequest, takes: Takes) -> ModelRequest:
    parts = [_part(part, takes) for part in message.parts]
    return message if all(map(operator.is_, parts, message.parts)) else replace(message, parts=parts)


def _part(part: ModelRequestPart, takes: Takes) -> ModelRequestPart:
    if not isinstance(part, UserPromptPart) or isinstance(part.content, str):
        return part
    if not any(isinstance(one, BinaryContent) for one in part.content):
        return part
    return replace(
        part, content=[_given(one, takes) if isinstance(one, BinaryContent) else one for one in part.content]
    )


def _given(file: BinaryContent, takes: Takes) -> UserContent:
    if is_text(file.media_type):
        # Without parameters: it is in UTF-8 by now.
        bare = file.media_type.partition(";")[0].strip()
        text = BinaryContent(data=utf8(file.data, file.media_type), media_type=bare)
        return text if takes(text) else replace(text, media_type="text/plain")
    if takes(file):
        return file
    return f"[A file of type {file.media_type[:LONGEST_TYPE]} and {len(file.data)} bytes, which you cannot read.]"


def _format(file: BinaryContent) -> str | None:
    try:
        return file.format
    except ValueError:
        return None
