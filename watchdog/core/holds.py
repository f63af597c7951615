"""What is told of the brake: every hold with its reason, size, age, proof and next step. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.core.brake import HOLDS, PROOF_S, SILENCE_S, UNPROVEN, Brake, BrakeRules, Exit, Level, Reading, State
from watchdog.core.model import AgentId, Epoch, Outcome, Running

GRAVEST_FIRST = (State.ALARM, State.HOLDING, State.LISTENING, State.ORDERED, State.OVERRULED)


SETTLED_S = 5.0
"""Running seconds after which it is told that too few beats come in; before it nobody can know."""


@dataclass(frozen=True, slots=True)
class HoldView:
    """One group of agents that the brake does not leave to their timers.

    Attributes:
        group: `all`, or an instance's id.
        state: Where the group stands; never clear.
        reason: `mass_silence`, `total_silence` or `operator`.
        why: The same in a sentence with the numbers.
        agents: How many are held.
        since: Wall clock of its beginning.
        age_s: Running seconds since.
        proof: What is known of the path, in words.
        proven_s: Running seconds for which beats have come in as they should; `PROOF_S` of them prove the path.
        next_step: What happens next, and when.
        level: What tripped it; None for an order.
        by: Who ordered it; None where nobody did, or nobody has said who they are.
    """

    group: str
    state: State
    reason: str
    why: str
    agents: int
    since: Epoch
    age_s: float
    proof: str
    proven_s: float
    next_step: str
    level: Level | None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class BrakeView:
    """All groups that are not clear.

    Attributes:
        held: How many agents are held in all.
        holds: The groups; that of all agents first.
    """

    held: int = 0
    holds: tuple[HoldView, ...] = ()

    @property
    def state(self) -> State:
        """The gravest state of a group."""
        found = {hold.state for hold in self.holds}
        return next((state for state in GRAVEST_FIRST if state in found), State.CLEAR)


@dataclass(frozen=True, slots=True)
class BrakeChange:
    """A group has changed its state.

    Attributes:
        before: Where it stood.
        after: Where it stands now.
        hold: What is told of it; of what has ended when it is clear now.
    """

    before: State
    after: State
    hold: HoldView


@dataclass(frozen=True, slots=True)
class Stopped:
    """An agent that the brake has stopped, or does not stop any more; for the history.

    Attributes:
        agent: Who.
        outcome: `HELD`: its deadline is over and it is held; told once a hold. `RELEASED`: it leaves the hold without
            having been heard.
        reason: Why, in a sentence.
        evidence: What that rests on; JSON values.
    """

    agent: AgentId
    outcome: Outcome
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """A held agent, for whoever looks at it in Connect.

    Attributes:
        agent: Who.
        epoch: The agent's epoch; what is found out for an older one is void.
        ordered: An operator holds it: a missed contact does not end that.
        target: Id of the status of an intent without an outcome, which may have taken effect; else None.
        evidence: Why it is held and since when; JSON values.
    """

    agent: AgentId
    epoch: int
    ordered: bool
    target: str | None
    evidence: Mapping[str, Any] = field(default_factory=dict)


def view(group: str, brake: Brake, reading: Reading, rules: BrakeRules, running: Running) -> HoldView:
    """What is told of a group that is not clear."""
    age_s = max(0.0, running - brake.since)
    return HoldView(
        group=group,
        state=brake.state,
        reason=_reason(brake),
        why=why(brake),
        agents=reading.held,
        since=brake.at,
        age_s=round(age_s, 3),
        proof=_proof(brake, reading, running),
        proven_s=round(brake.proof.lasts_s, 3),
        next_step=_next_step(brake, reading, rules, running),
        level=brake.level if brake.order is None else None,
        by=None if brake.order is None else brake.order.by or None,
    )


def released(leaving: Exit) -> str:
    """Why an agent was let go, in a sentence."""
    if leaving is Exit.FRESH:
        return "The hold is over: a fresh lease and a fresh timer begin."
    return "The hold is over: the agent has been silent throughout, and its deadline counts again."


def evidence(group: str, brake: Brake) -> dict[str, Any]:
    """The group, the reason and the numbers, as JSON values for an action."""
    found: dict[str, Any] = {"group": group, "reason": _reason(brake), "since": brake.at}
    if brake.level is not None:
        found["window_s"] = brake.level.window_s
        found["quiet"] = brake.level.quiet
        found["baseline"] = brake.level.baseline
        found["threshold"] = brake.level.threshold
    if brake.order is not None and brake.order.by:
        found["by"] = brake.order.by
    return found


def why(brake: Brake) -> str:
    """Why agents are held, in a sentence with the numbers."""
    if brake.order is not None:
        done = "holds" if brake.order.hold else "has released"
        return f"An operator {done}" + (f": {brake.order.reason.rstrip('.')}." if brake.order.reason else ".")
    if brake.level is None:
        return "An operator held until now; the agents held are so many that the path must be proven first."
    level = brake.level
    return (
        f"{level.quiet} agents fell silent; at most {level.baseline} were there within {level.window_s:g} s, "
        f"and {2 if brake.state is State.LISTENING else level.threshold} are enough."
    )


def _reason(brake: Brake) -> str:
    if brake.order is not None:
        return "operator"
    return "total_silence" if brake.state is State.LISTENING else "mass_silence"


def _proof(brake: Brake, reading: Reading, running: Running) -> str:
    if brake.state not in HOLDS:
        return "Not looked for: nobody is held."
    if brake.proof.is_new(running):
        return "Proven: beats came in as they should for a minute."
    if brake.proof.lasts_s > 0:
        return f"Beats of others come in as they should for {brake.proof.lasts_s:.0f} s; {PROOF_S:g} s prove the path."
    if reading.awake and running - brake.since < SETTLED_S:
        return "None yet."
    if reading.awake:
        return "None: others are there, but too few of their beats come in."
    return "None: nobody is heard."


def _next_step(brake: Brake, reading: Reading, rules: BrakeRules, running: Running) -> str:
    if brake.order is not None:
        return f"The order is over in {_span(brake.order.until - running)}; then the brake decides by itself."
    if brake.state is State.LISTENING:
        left = _span(brake.since + SILENCE_S - running)
        return f"Those who are silent are let go in {left}, or with a fresh lease once the path is proven."
    left = _span(rules.max_hold_s - reading.longest_s)
    last = _span(UNPROVEN * rules.max_hold_s - reading.longest_s)
    if brake.state is State.ALARM:
        return (
            "Nothing proves that heartbeats can reach us: look at what is in front of the daemon. Agents are let go "
            f"with a fresh lease once the path is proven, and without one in {last}."
        )
    return (
        "Agents are let go with a fresh lease once the path is proven and nobody else falls silent. Those held longest "
        f"are let go in {left} if it is proven then; else an alarm is raised, and they are let go in {last} anyway."
    )


def _span(seconds: float) -> str:
    """A time to wait, in seconds, or from two minutes on in minutes."""
    return f"{max(0.0, seconds):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004
