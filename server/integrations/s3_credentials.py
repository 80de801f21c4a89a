"""Credentials of an S3-compatible store, from the settings or found as every AWS SDK finds them: profile, web identity
(STS), container or machine role (IAM).

Signing happens on the event loop, finding and renewing may ask the network: so what signs sees a copy, which is renewed
in a thread before it runs out.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import botocore.session
from boto3 import Session
from botocore.credentials import CredentialProvider, Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

from server.refusal import Refusal

if TYPE_CHECKING:
    from obstore.store import S3Credential

    from server.settings.vendors import AwsSettings

RENEW_SECONDS: Final = 60.0
_log = logging.getLogger("innkeeper.files")


class _Kept(Credentials):  # type: ignore[misc]  # the library has no types
    """Gives all parts of one set, whichever thread asks while another set takes its place."""

    def __init__(self, frozen: ReadOnlyCredentials) -> None:
        super().__init__(frozen.access_key, frozen.secret_key, frozen.token)
        self.frozen = frozen

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self.frozen


class _Known(CredentialProvider):  # type: ignore[misc]  # the library has no types
    METHOD = "innkeeper"

    def __init__(self, kept: _Kept) -> None:
        super().__init__()
        self._kept = kept

    def load(self) -> _Kept:
        return self._kept


class S3Credentials:
    """``session`` signs with what is current. Call :meth:`keep` once, and :meth:`aclose` at the end."""

    def __init__(self, found: Credentials, region: str | None) -> None:
        self._found = found
        self._kept = _Kept(found.get_frozen_credentials())
        inner = botocore.session.get_session()
        inner.get_component("credential_provider").insert_before("env", _Known(self._kept))
        self.session = Session(botocore_session=inner, region_name=region)
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    def find(cls, settings: AwsSettings) -> S3Credentials:
        """Blocks, perhaps for the network. Raises ``Refusal`` when there are none."""
        secret, token = settings.secret_access_key, settings.session_token
        if settings.access_key_id is not None:
            if secret is None:
                raise Refusal("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set both, or neither.")
            found = Credentials(
                settings.access_key_id, secret.get_secret_value(), token.get_secret_value() if token else None
            )
            return cls(found, settings.region)
        session = Session(region_name=settings.region)
        try:
            credentials = session.get_credentials()
            if credentials is None:
                raise Refusal(
                    "AWS_S3_BUCKET is set and there are no credentials for it: set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, or run with a role that AWS SDKs find."
                )
            return cls(credentials, session.region_name)
        except BotoCoreError as error:
            raise Refusal(f"Credentials for AWS_S3_BUCKET cannot be found: {error}.") from None

    @property
    def expires_at(self) -> datetime | None:
        """When what is signed now is void whatever it says; ``None`` for lasting keys."""
        # The library has no public name for it; a release without it would only make tickets say too late a time.
        found: datetime | None = getattr(self._found, "_expiry_time", None)
        return found

    def current(self) -> S3Credential:
        """As ``obstore`` asks for it, and again after a minute."""
        frozen = self._kept.frozen
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=RENEW_SECONDS),
        }

    def keep(self) -> None:
        if self.expires_at is not None:
            self._renewing = asyncio.create_task(self._renew(), name="s3-credentials")

    async def renew(self) -> None:
        """Take over what the library has; it renews by itself a quarter of an hour before the end."""
        self._kept.frozen = await asyncio.to_thread(self._found.get_frozen_credentials)

    async def aclose(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self.renew()
            except Exception as error:  # noqa: BLE001  whatever it was, the next minute comes
                _log.warning("credentials of the store could not be renewed: %s", type(error).__name__)

    def client(self, service: str, **options: Any) -> Any:
        return self.session.client(service, **options)
