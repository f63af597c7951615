"""What a server tells of itself (`INFO`): its version, whether it drops keys, and who follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEEPING = frozenset({"noeviction"})
"""Policies of `maxmemory-policy` that never drop a key. Source: https://valkey.io/topics/lru-cache/ ."""


def evicting(infos: Sequence[Mapping[str, Any]]) -> str:
    """The policy of the first server that drops keys when its memory is full; empty where none does."""
    policies = (str(info.get("maxmemory_policy", "noeviction")) for info in infos)
    return next((policy for policy in policies if policy not in KEEPING), "")


def unguarded(infos: Sequence[Mapping[str, Any]]) -> int | None:
    """How many replicas there are without which servers take writes; None where one does not tell."""
    return sum(unguarded_by(info) for info in infos) if all(tells(info) for info in infos) else None


def tells(info: Mapping[str, Any]) -> bool:
    """Whether it says who follows it."""
    return "connected_slaves" in info


def unguarded_by(info: Mapping[str, Any]) -> int:
    """How many replicas a server has of which it needs none to take writes.

    It tells how many follow closely (`min_slaves_good_slaves`) where it needs some. A cluster guards itself: a primary
    that does not see most of the others takes no writes after `cluster-node-timeout`.
    Source: https://valkey.io/commands/info/ , https://valkey.io/topics/cluster-spec/ .
    """
    if info.get("cluster_enabled") or "min_slaves_good_slaves" in info:
        return 0
    return int(info["connected_slaves"])


def version(info: Mapping[str, Any]) -> str:
    """Its own, for people."""
    return str(info.get("valkey_version") or info.get("redis_version", "0"))
