"""What the daemon knows of itself, for `/livez`, `/readyz`, `/v1/status` and the dead man's ping.

Nothing about Connect or the policy turns a probe red: a load balancer that takes us out for AWS' fault would silence
everyone. Such things stand under `problems`.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from watchdog import __version__
from watchdog.canary import Canary
from watchdog.connect.circuit import Problem
from watchdog.connect.directory import Unresolved, quotas
from watchdog.connect.dispatcher import Dispatcher
from watchdog.core.brake import HOLDS, State
from watchdog.core.clock import Clock
from watchdog.core.holds import BrakeView, HoldView
from watchdog.core.model import AgentState, Epoch, Instant
from watchdog.ingest.arrivals import Arrivals
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.connections import Connections
from watchdog.ingest.key_source import KeySource
from watchdog.ingest.refusals import Refusals
from watchdog.ingest.tls import EXPIRES_S, Certificate
from watchdog.ingest.views import brake_out
from watchdog.settings import Settings
from watchdog.stores.base import FULL, KEPT, DaemonStore, MemoryUse, ReplicaView
from watchdog.telemetry.metrics import Metrics
from watchdog.telemetry.notify import BUS, Notifier

STUCK_S = 30.0
"""The process is dead when its sweep has not been tried for this long: longer than any stall that ends by itself."""

EASED = 0.75
"""Part of the memory of the store's server at which it is not nearly full any more. The history makes less room than
that: so it is told once, for as long as it does."""

PROBLEMS = (
    "agents_full",
    "brake_alarm",
    "canary_disbelieved",
    "canary_failing",
    "certificate_expires",
    "certificate_refused",
    "connect_throttled",
    "connect_unavailable",
    "connections_full",
    "credentials",
    "denied",
    "directory_failed",
    "instance_not_found",
    "jwks_unreachable",
    "live_sessions_refused",
    "notify_failing",
    "notify_refused",
    "reconcile_denied",
    "store_evicts",
    "store_nearly_full",
    "store_rows_lost",
    "store_rows_unreadable",
    "store_unavailable",
    "unknown_instance",
    "unknown_profile",
    "unknown_status",
)
"""The codes of all problems there are, for the metric: an alert needs the 0 as well."""


class Health:
    """Collects what the parts of the daemon tell.

    Attributes:
        clock: The observed clock after the last tick; None before the first.
        brake: What is held, as of the last tick.
        backlog: Agents that are due, as of the last tick.
        store_fault: Why the store's last call failed; None when it succeeded.
        swept_at: The running time at which the sweep was tried last.
        stopping: The daemon takes no new connections.
        unreadable: Rows of the store that could not be read when it was opened, by table and key.
    """

    def __init__(
        self,
        settings: Settings,
        boot: str,
        *,
        store: DaemonStore,
        buffer: Buffer,
        metrics: Metrics,
        now: Callable[[], Instant],
        time: Callable[[], float],
    ) -> None:
        """Starts healthy.

        Args:
            settings: Shown as they are in force, without secrets.
            boot: This process' own text.
            store: Asked for its counts.
            buffer: Asked whether flushes are in time.
            metrics: Told how the store does.
            now: The machine's clocks.
            time: The running time: a process that was stopped is not stuck.
        """
        self.clock: Clock | None = None
        self.brake = BrakeView()
        self.backlog = 0
        self.store_fault: Problem | None = None
        self.swept_at = time()
        self.stopping = False
        self.unreadable: list[str] = []
        self.dispatcher: Dispatcher | None = None
        self.canary: Canary | None = None
        self.connections: Connections | None = None
        self.refusals: Refusals | None = None
        self.notifier: Notifier | None = None
        self.arrivals: Arrivals | None = None
        self.certificate: Certificate | None = None
        self.keys: KeySource | None = None
        self._settings = settings
        self._boot = boot
        self._store = store
        self._buffer = buffer
        self._metrics = metrics
        self._now = now
        self._time = time
        self._started_at = now()
        self._crowded: Problem | None = None
        self._evicts: Problem | None = None
        self._dropped = 0

    def store_answered(self, error: Exception | None) -> bool:
        """Notes how a call of the store ended. Returns whether that is news."""
        news = (error is None) != (self.store_fault is None)
        self._metrics.store_up = error is None
        if error is None:
            self.store_fault = None
        elif self.store_fault is None:
            self.store_fault = Problem("store_unavailable", str(error), self._now().epoch)
        return news

    def memory_seen(self, use: MemoryUse) -> None:
        """Notes how full the memory of the store's server is, what was dropped for it, and what the server drops."""
        self._evicting_seen(use.evicts)
        share = self._metrics.store_memory = use.share or 0.0
        self._dropped += use.dropped
        if use.dropped or share > (FULL if self._crowded is None else EASED):
            since = self._now().epoch if self._crowded is None else self._crowded.since
            told = (
                f"The server of WATCHDOG_STORE has {share:.0%} of its memory (maxmemory) in use. From "
                f"{FULL:.0%} on the oldest actions of the history are dropped before WATCHDOG_HISTORY_DAYS, but for "
                f"the last {KEPT:,}; {self._dropped} so far by this daemon. Give the server more memory, or lower "
                "WATCHDOG_HISTORY_DAYS."
            )
            self._crowded = Problem("store_nearly_full", told, since)
        else:
            self._crowded, self._dropped = None, 0

    def _evicting_seen(self, policy: str) -> None:
        since = self._now().epoch if self._evicts is None else self._evicts.since
        told = (
            f"A server of WATCHDOG_STORE drops keys when its memory is full (maxmemory-policy {policy}): agents are "
            "forgotten when whoever has them in memory is gone as well, and no daemon starts. Set maxmemory-policy "
            "noeviction, on its replicas as well."
        )
        self._evicts = Problem("store_evicts", told, since) if policy else None

    def _lost(self) -> list[Problem]:
        lost = self._store.rows_lost
        if lost is None:
            return []
        rows = ", ".join(f"{number} of {table}" for table, number in sorted(lost.rows.items()))
        told = (
            f"The server of WATCHDOG_STORE has lost rows of parts that this daemon took: {rows}. It drops keys, or "
            "somebody has deleted some. Agents who are there are known again from their next heartbeat; those who are "
            "gone and whose rows are lost are found by WATCHDOG_RECONCILE alone. Set maxmemory-policy noeviction."
        )
        return [Problem("store_rows_lost", told, lost.since)]

    def sweeping(self) -> None:
        """Notes that the sweep is tried now."""
        self.swept_at = self._time()

    def alive(self) -> str | None:
        """See `watchdog.ingest.app.Health.alive`."""
        idle = self._time() - self.swept_at
        return f"The sweep has not run for {idle:.0f} s." if idle > STUCK_S else None

    def ready(self) -> str | None:
        """See `watchdog.ingest.app.Health.ready`."""
        if self.stopping:
            return "The daemon is stopping."
        if self.store_fault is not None:
            return self.store_fault.detail
        if self._buffer.late:
            return "Heartbeats wait for more than 1 s to be stored. Look at the disk."
        if self._buffer.cut_off:
            return "No other daemon of the deployment takes from this one what is its own. Look at this one."
        return None

    def explained(self, brake: BrakeView) -> BrakeView:
        """What is held, with what the daemon knows of the reason besides the numbers."""
        return replace(brake, holds=tuple(self.explained_hold(hold) for hold in brake.holds))

    def explained_hold(self, hold: HoldView) -> HoldView:
        """The same for one group."""
        if self.refusals is None or not self.refusals.going_on or hold.state not in HOLDS:
            return hold
        return replace(hold, why=f"{hold.why} Heartbeats of live sessions are refused for their token.")

    def well(self) -> bool:
        """Whether a person need not look: alive, ready, and no problem."""
        return self.alive() is None and self.ready() is None and not self.problems()

    def problems(self) -> list[Problem]:
        """What a person has to mend."""
        found = [] if self.store_fault is None else [self.store_fault]
        if self._crowded is not None:
            found.append(self._crowded)
        if self._evicts is not None:
            found.append(self._evicts)
        found += self._lost()
        if self.unreadable:
            found.append(
                Problem(
                    "store_rows_unreadable",
                    f"{len(self.unreadable)} rows of the store made no sense and were set aside, the first: "
                    f"{self.unreadable[0]}. Their agents are unknown until their next heartbeat. Look at the disk.",
                    self._started_at.epoch,
                )
            )
        if self.canary is not None:
            found += self.canary.problems()
        if self.connections is not None and self.connections.full:
            told = (
                f"There are {self.connections.most} connections, as many as the limit of open files leaves room for, "
                "or three quarters of them from one address: others are turned away, and the clock stands. Raise the "
                "limit (LimitNOFILE, --ulimit nofile), or have the load balancer reuse its connections."
            )
            found.append(Problem("connections_full", told, self.connections.full_since))
        if self.arrivals is not None and self.arrivals.full:
            told = (
                f"{self.arrivals.most} agents are known, as many as WATCHDOG_MAX_AGENTS allows: heartbeats of further "
                "ones are refused. Raise it, or find out who sends heartbeats of agents that do not exist."
            )
            found.append(Problem("agents_full", told, self.arrivals.full_since))
        found += self._certificate_problems()
        if self.refusals is not None and self.refusals.going_on and self.refusals.since is not None:
            told = (
                f"{self.refusals.count} heartbeats were refused for their token, which began with sessions that were "
                "live: was a token or a ticket secret taken away too early? The agents fall silent; if they are many, "
                "the brake holds them."
            )
            found.append(Problem("live_sessions_refused", told, self.refusals.since))
        if self.keys is not None and self.keys.problem is not None and self.keys.since is not None:
            kept = (
                "JWTs are judged by the last keys; sessions with a ticket go on."
                if self.keys.current is not None
                else "There are none yet: JWTs are answered 503; sessions with a ticket go on."
            )
            told = f"The keys of the identity provider (WATCHDOG_JWKS) cannot be had. {self.keys.problem} {kept}"
            found.append(Problem("jwks_unreachable", told, self.keys.since))
        found += [
            Problem("brake_alarm", f"{hold.why} {hold.next_step}", hold.since)
            for hold in self.brake.holds
            if hold.state is State.ALARM
        ]
        if self.notifier is not None:
            for failing in self.notifier.failing():
                bus, place = failing.receiver == BUS, f"URL {failing.receiver} of WATCHDOG_NOTIFY_URLS"
                told = (
                    f"{'The event bus WATCHDOG_EVENTBRIDGE_BUS' if bus else place} takes no events. {failing.why} "
                    "They are kept for a day and tried again each minute: "
                )
                if failing.lasting:
                    told += "allow events:PutEvents on the bus, and check its name, its region and the credentials."
                    found.append(Problem("notify_refused", told, failing.since))
                else:
                    told += f"mend the receiver, or {'unset the variable' if bus else 'take it out of the list'}."
                    found.append(Problem("notify_failing", told, failing.since))
        return found if self.dispatcher is None else [*found, *self.dispatcher.problems()]

    def _certificate_problems(self) -> list[Problem]:
        certificate = self.certificate
        if certificate is None:
            return []
        found = []
        if certificate.fault is not None:
            told = f"{certificate.fault} The one before is served on. Mend WATCHDOG_TLS_CERT and WATCHDOG_TLS_KEY."
            found.append(Problem("certificate_refused", told, certificate.fault_since))
        left_s, now = certificate.expires_in_s, self._now().epoch
        if left_s is not None and left_s < EXPIRES_S:
            when = "has expired" if left_s == 0 else f"expires in {left_s / 86_400:.1f} days"
            told = f"The certificate {when}. Renew it: the files are read again when they change."
            found.append(Problem("certificate_expires", told, Epoch(now + min(0.0, left_s - EXPIRES_S))))
        return found

    async def status(self) -> dict[str, Any]:
        """See `watchdog.ingest.app.Health.status`."""
        counts, clock, instant = await self._store.counts(), self.clock, self._now()
        settings, here, replicas = self._settings, counts.agents.items(), self._store.replicas()
        others = [each for each in replicas if not each.here]
        return {
            "version": __version__,
            "boot": self._boot,
            "started_at": self._started_at.epoch,
            "uptime_s": round(instant.boot - self._started_at.boot, 1),
            "ready": self.ready() is None,
            "why_not_ready": self.ready(),
            "problems": [asdict(problem) for problem in self.problems()],
            "dry_run": settings.dry_run,
            "agents": {state.value: number + sum(each.agents[state] for each in others) for state, number in here},
            "sessions": counts.sessions + sum(each.sessions for each in others),
            "backlog": self.backlog + sum(each.backlog for each in others),
            "clock": None
            if clock is None
            else {
                "observed_s": round(clock.observed, 3),
                "standing": clock.standing,
                "grace_left_s": round(clock.grace_s, 3),
                "stopped_s": {cause: round(s, 3) for cause, s in self._metrics.clock_stopped_s.items()},
            },
            "reconcile": self._reconcile(),
            "canary": None if self.canary is None else self.canary.told(),
            "brake": brake_out(self.brake).model_dump(mode="json"),
            "quota": {
                "rate": settings.connect_rate,
                "burst": settings.connect_burst,
                "share": settings.connect_share,
                "operations": {name: rules.own_rate for name, rules in quotas(settings.connect_share).items()},
            },
            "store": {"up": self.store_fault is None, "kind": "sqlite" if settings.store_address is None else "valkey"},
            "replicas": [_replica(each) for each in replicas],
            "flush": {
                "ok": self._buffer.last_ok,
                "last_s": round(self._buffer.last_flush_s, 6),
                "waiting": self._buffer.size,
            },
            "instances": [self._instance(instance.instance_id) for instance in settings.instances],
            "timers": {
                "session_end_timer_s": settings.session_end_timer,
                "heartbeat_interval_s": settings.heartbeat_interval,
                "session_ttl_s": settings.session_ttl,
                "throttled_session_ttl_s": settings.throttled_session_ttl,
                "resume_grace_s": settings.resume_grace,
                "brake_max_hold_s": settings.brake_max_hold,
            },
        }

    def topics(self) -> dict[str, Any]:
        """What the dashboard shows all the time, as of the last tick; from memory. See `watchdog.ingest.events`."""
        metrics, clock = self._metrics, self.clock
        return {
            "counts": {
                "agents": dict(metrics.agents),
                "sessions": metrics.sessions,
                "sockets": metrics.sockets,
                "heartbeats": sum(metrics.heartbeats.values()),
                "rejected": sum(metrics.rejected.values()),
                "backlog": self.backlog,
                "ready": self.ready() is None,
                "standing": None if clock is None else clock.standing,
                "grace_left_s": 0.0 if clock is None else round(clock.grace_s, 1),
                "dry_run": self._settings.dry_run,
            },
            "calls": [[*key, number] for key, number in metrics.connect_calls.items() if number],
            "brake": brake_out(self.brake).model_dump(mode="json"),
            "problems": [asdict(problem) for problem in self.problems()],
        }

    def sample(self) -> dict[str, float]:
        """The numbers of the dashboard's charts; `heartbeats` is counted since the start."""
        agents = self._metrics.agents
        return {
            **{state.value: agents[state.value] for state in AgentState},
            "heartbeats": sum(self._metrics.heartbeats.values()),
        }

    def _reconcile(self) -> dict[str, Any] | None:
        reconciler = None if self.dispatcher is None else self.dispatcher.reconciler
        return None if reconciler is None else {"mode": self._settings.reconcile, "unseen": reconciler.unseen}

    def _instance(self, instance_id: str) -> dict[str, Any]:
        if self.dispatcher is None:
            return {"instance_id": instance_id, "target": None, "why": "The daemon is starting.", "profiles": []}
        profiles = self.dispatcher.profiles.names(instance_id)
        target = self.dispatcher.directory.target(instance_id)
        if isinstance(target, Unresolved):
            return {"instance_id": instance_id, "target": None, "why": target.reason, "profiles": profiles}
        named = {"status_id": target.id, "name": target.name}
        return {"instance_id": instance_id, "target": named, "why": None, "profiles": profiles}


def _replica(replica: ReplicaView) -> dict[str, Any]:
    return {
        "boot": replica.name,
        "here": replica.here,
        "keeper": replica.keeper,
        "version": replica.version,
        "parts": list(replica.parts),
        "agents": sum(replica.agents.values()),
        "live": replica.agents[AgentState.LIVE],
        "reported_s_ago": round(replica.reported_s_ago, 3),
        "blind": replica.blind,
    }
