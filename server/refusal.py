"""What a command says when it will not go on."""

from __future__ import annotations

from collections.abc import Sequence


class Refusal(Exception):  # noqa: N818  (it is an answer to a person, not a defect)
    """Ends a command with exit code 2 and these sentences on stderr; each says what is wrong and what to do."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.sentences: Sequence[str] = sentences
