"""Which quota the calls for an instance count against: that of its account and region.

The settings name the account only where a role is assumed. The ARNs that Connect lists name it always, without another
permission; nobody is read or set before an instance has been listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from watchdog.connect.api import Instance


class Scopes(Mapping[str, str]):
    """Account and region by instance id. Instances of one account share the quota, however they are reached."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        """Starts with what the settings tell.

        Args:
            instances: All that are served.
        """
        self._credentials = {instance.instance_id: instance.scope for instance in instances}
        self._quota = dict(self._credentials)

    def __getitem__(self, instance_id: str) -> str:
        """The scope of the quota."""
        return self._quota[instance_id]

    def __iter__(self) -> Iterator[str]:
        """All instance ids."""
        return iter(self._quota)

    def __len__(self) -> int:
        """How many instances there are."""
        return len(self._quota)

    def credentials(self, instance_id: str) -> str:
        """What shares its credentials: the role's account, or the process' own, whatever account that is; and region.

        Two ways into one account may fail one without the other.
        """
        return self._credentials[instance_id]

    def learn(self, instance_id: str, arn: str) -> None:
        """Takes account and region from the ARN of anything in the instance; one that is none is passed over."""
        parts = arn.split(":")
        if len(parts) >= 6 and parts[3] and parts[4]:  # noqa: PLR2004  # arn:aws:connect:REGION:ACCOUNT:instance/…
            self._quota[instance_id] = f"{parts[4]}/{parts[3]}"
