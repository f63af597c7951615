"""The status on return: which one the rules give to an agent whom the watchdog had set and who is back with a new page.

Who has returned is found by the store; that the change is still in force, and the write, are `restore_status.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from watchdog.connect.directory import Directory, Unresolved
from watchdog.connect.restore_case import RestoreCase
from watchdog.connect.verdict import Settle
from watchdog.connect.witness import Witness
from watchdog.core import policy
from watchdog.core.model import Instant, Outcome
from watchdog.core.policy import PREVIOUS, Rule
from watchdog.errors import ConnectUnavailable


class Greeting:
    """Asks the rules, with the profile that Connect shows."""

    def __init__(
        self, rules: Sequence[Rule], directory: Directory, witness: Witness, now: Callable[[], Instant]
    ) -> None:
        """Composes.

        Args:
            rules: In force, in their order.
            directory: Knows statuses and profiles by name.
            witness: Sees the agent.
            now: The machine's clocks.
        """
        self._rules = tuple(rules)
        self._directory = directory
        self._witness = witness
        self._now = now
        self._by_profile = any(rule.profiles for rule in rules)

    async def decide(self, case: RestoreCase) -> Settle | None:
        """Puts into the case which status is to be set. Returns an outcome where none is; the change stays then.

        Raises:
            ConnectError: The routing profile or the statuses are not known now.
        """
        instance_id = case.change.agent.instance_id
        profile = await self._profile(case) if self._by_profile else None
        rule = policy.rule_on_return(self._rules, profile)
        if rule is None:
            case.keep, case.greeting = True, {"rule": None, "profile": profile}
            return Settle(Outcome.SKIPPED_PROFILE, f"No rule is for the routing profile {profile!r}.")
        greeting = {"rule": rule.name, "profile": profile, "initial_state": rule.initial}
        if rule.initial is None:
            case.keep, case.greeting = True, greeting
            return Settle(Outcome.SKIPPED_STATE, f"Rule {rule.name!r} sets no status on return.")
        if rule.initial == PREVIOUS:
            case.former_id, case.greeting = case.change.former, greeting
            return None
        found = await self._directory.found(instance_id, rule.initial)
        if isinstance(found, Unresolved):
            if not found.loaded:
                raise ConnectUnavailable(found.reason, maybe_applied=False)
            case.greeting = greeting
            return Settle(Outcome.FAILED, f"The status on return: {found.reason}")
        case.former_id, case.greeting = found.id, greeting
        return None

    async def _profile(self, case: RestoreCase) -> str:
        """Name of the agent's routing profile: as Connect shows it, or showed it before the change."""
        agent = case.change.agent
        try:
            sighting = await self._witness.see(agent, since=self._now().boot, rank=case.rank)
        finally:
            case.calls += 1
        sighting.check()
        if sighting.seen is None:
            if case.change.profile is None:
                text = "Connect does not show the agent, and with it no routing profile, which a rule asks for."
                raise ConnectUnavailable(text, maybe_applied=False)
            # Connect may leave out who is Offline; of them, this is the last that it has shown.
            return case.change.profile
        return await self._directory.named_profile(agent.instance_id, sighting.seen.profile_id)
