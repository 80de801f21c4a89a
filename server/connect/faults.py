"""Why a client's file is left alone."""

from __future__ import annotations


class Malformed(Exception):  # noqa: N818  (it says what the file is)
    """A file that cannot be read, or not be edited safely. The message says where and why, in sentences."""
