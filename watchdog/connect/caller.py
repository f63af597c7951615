"""Whose credentials a process has: the account, which STS tells anyone who has any."""

from __future__ import annotations

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

TIMEOUT_S = 5.0


def own_account(region: str | None) -> str | None:
    """The account of the process' own credentials; None without any, or where STS cannot be reached.

    Source: GetCallerIdentity, which needs no permission.
    """
    config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1})
    try:
        return str(
            boto3.session.Session().client("sts", region_name=region, config=config).get_caller_identity()["Account"]
        )
    except (BotoCoreError, ClientError, ValueError):
        return None
