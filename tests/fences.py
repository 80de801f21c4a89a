"""What stands between the marks around words of others, for tests that compare a text with the data beside it."""

import re

MARKS = re.compile(r"</?untrusted-[0-9a-f]{8}>")


def unfenced(text: str) -> str:
    """The text without its marks."""
    return MARKS.sub("", text)
