"""As what a file is served: shown by browsers only if nothing in it can act there, saved otherwise.

The stores add what they can (:mod:`server.http.file_download`); a store of others adds no header of ours, so what is
said here has to be enough by itself: type and disposition are part of what a ticket's signature covers.
"""

from __future__ import annotations

from typing import Final

OCTETS: Final = "application/octet-stream"
SHOWN: Final = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "text/plain"),
        *("audio/mpeg", "audio/ogg", "audio/wav", "audio/webm", "audio/aac", "audio/flac", "audio/mp4"),
        *("video/mp4", "video/webm", "video/ogg"),
    }
)
"""Pixels, sound and plain words. Not PDF, whose viewers run scripts and open links."""
ACTIVE: Final = frozenset(
    {
        *("text/html", "text/xml", "text/xsl", "text/css", "text/javascript", "text/ecmascript", "text/vbscript"),
        *("application/xml", "application/javascript", "application/ecmascript", "application/x-javascript"),
        *("application/x-shockwave-flash", "application/x-httpd-php", "multipart/related", "message/rfc822"),
        *("multipart/x-mixed-replace", "text/x-component", "application/wasm"),
    }
)


def served_as(content_type: str) -> tuple[str, bool]:
    """The type to serve a file with, and whether a browser may show it."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ACTIVE or kind.endswith("+xml"):
        return OCTETS, False
    return content_type, kind in SHOWN
