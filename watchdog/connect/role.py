"""The credentials of an instance in another account: a role that is assumed, and assumed again before it expires."""

from __future__ import annotations

import functools
from typing import Any

from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, CredentialProvider, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.session import Session

from watchdog.connect.api import Instance


class AssumedRole(CredentialProvider):
    """The only link of a session's credential chain: a role, assumed when first needed and refreshed by botocore."""

    METHOD = "watchdog-assume-role"
    CANONICAL_NAME = None

    def __init__(self, source: Session, instance: Instance, config: Config) -> None:
        super().__init__()
        self._source = source
        self._instance = instance
        self._config = config

    def load(self) -> DeferredRefreshableCredentials:
        """Credentials that call STS at their first use, not before."""
        return DeferredRefreshableCredentials(self._fetch, self.METHOD)

    def _fetch(self) -> dict[str, Any]:
        source = self._source.get_credentials()
        if source is None:
            raise NoCredentialsError
        extra = {"RoleSessionName": "connect-presence-watchdog"}
        if self._instance.external_id is not None:
            extra["ExternalId"] = self._instance.external_id
        create = functools.partial(self._source.create_client, region_name=self._instance.region, config=self._config)
        fetcher = AssumeRoleCredentialFetcher(create, source, str(self._instance.role_arn), extra_args=extra, cache={})
        fetched: dict[str, Any] = fetcher.fetch_credentials()
        return fetched
