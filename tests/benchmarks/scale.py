"""How large and how long the measurements are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """All sizes.

    Attributes:
        rounds: Of everything of which a median is taken.
        load_s: Of one run of the load generator.
        connections: Of the load generator,
        many_connections: and in the runs with many.
        sessions: That it takes turns with.
        lag_agents: Live agents while the detection lag is measured.
        lag_silent: Of whom so many fall silent,
        lag_spread_s: within this time.
        lag_interval_s: Between beats; the TTL is three times that.
        lag_timer_s: SESSION_END_TIMER.
        memory_agents: Live agents whose memory is measured.
        crowd_agents: Live agents in one process,
        crowd_rate: of whom so many beat a second,
        crowd_s: for at least so long,
        crowd_ttl_s: and whose leases last so long: the feeding has to be over before.
        interval_agents: Agents who beat at their interval,
        interval_s: for so long.
        sockets: WebSockets that are open.
        start_agents: Agents in the database of the start-up.
        ghosts: Agents who leave at once, on virtual time.
        replica_rounds: Of each run with several daemons.
        patience_s: For how long all measurements together wait for a quiet machine.
    """

    rounds: int
    load_s: int
    connections: int
    many_connections: int
    sessions: int
    lag_agents: int
    lag_silent: int
    lag_spread_s: float
    lag_interval_s: float
    lag_timer_s: float
    memory_agents: int
    crowd_agents: int
    crowd_rate: int
    crowd_s: float
    crowd_ttl_s: float
    interval_agents: int
    interval_s: float
    sockets: int
    start_agents: int
    ghosts: int
    replica_rounds: int
    patience_s: float


FULL = Scale(
    rounds=3,
    load_s=5,
    connections=64,
    many_connections=1_000,
    sessions=10_000,
    lag_agents=10_000,
    lag_silent=200,
    lag_spread_s=20.0,
    lag_interval_s=10.0,
    lag_timer_s=2.0,
    memory_agents=10_000,
    crowd_agents=1_000_000,
    crowd_rate=100_000,
    crowd_s=60.0,
    crowd_ttl_s=150.0,
    interval_agents=100_000,
    interval_s=30.0,
    sockets=10_000,
    start_agents=100_000,
    ghosts=1_000,
    replica_rounds=2,
    patience_s=60.0,
)

QUICK = Scale(
    rounds=1,
    load_s=2,
    connections=64,
    many_connections=1_000,
    sessions=1_000,
    lag_agents=1_000,
    lag_silent=40,
    lag_spread_s=4.0,
    lag_interval_s=2.0,
    lag_timer_s=1.0,
    memory_agents=10_000,
    crowd_agents=20_000,
    crowd_rate=20_000,
    crowd_s=5.0,
    crowd_ttl_s=35.0,
    interval_agents=10_000,
    interval_s=5.0,
    sockets=1_000,
    start_agents=10_000,
    ghosts=200,
    replica_rounds=1,
    patience_s=5.0,
)
