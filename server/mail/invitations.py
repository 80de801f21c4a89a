"""The links of invitations, as a mail carries them."""

from __future__ import annotations

from collections.abc import Callable

from server.mail.house import sealed
from server.mail.post import Post

PATH = "/invitations"


class InvitationMail:
    """By the post of the house. Implements :class:`tools.ports.InvitationLinks`."""

    def __init__(self, post: Post) -> None:
        self._post = post

    @property
    def seal(self) -> Callable[[str], bytes] | None:
        return self._sealed if self._post.leaves else None

    def _sealed(self, token: str) -> bytes:
        return sealed(self._post.keyring, f"{self._post.public_url.rstrip('/')}{PATH}/{token}")
