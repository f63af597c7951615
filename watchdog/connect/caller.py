"""Whose credentials a process has, and where it calls: what AWS' own variables and files say."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

TIMEOUT_S = 5.0
"""For the connection, and for the answer, which comes in well under a second."""


def default_region() -> str | None:
    """The region of whoever names none. Source: botocore, AWS_DEFAULT_REGION and the profile's `region`."""
    region: str | None = boto3.session.Session().region_name
    return region


def own_account(region: str | None) -> str | None:
    """The account of the process' own credentials; None without any, or where STS cannot be reached.

    Source: GetCallerIdentity, which needs no permission.
    """
    config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1})
    try:
        client = boto3.session.Session().client("sts", region_name=region, config=config)
        return str(client.get_caller_identity()["Account"])
    except (BotoCoreError, ClientError, ValueError):
        return None
