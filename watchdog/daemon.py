"""The daemon: puts the parts together, runs their loops, and stops them in order.

Heartbeats come in through `ingest`, wait in its buffer for the flush, and are kept by the store; the sweep asks the
store who is due and hands them to the dispatcher, which alone calls Connect.

A root task that ends by itself stops all the others: a daemon with a part missing is restarted, not kept.
"""

import asyncio
import contextlib
import gc
import os
import random
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast
from uuid import uuid4

import structlog
import uvloop
from apscheduler.schedulers.base import BaseScheduler

from watchdog import __version__, machine, needs
from watchdog.canary import Canary
from watchdog.connect import directory
from watchdog.connect.answers import OPERATIONS
from watchdog.connect.api import Instance
from watchdog.connect.boto import BotoConnect
from watchdog.connect.cancel import Cancels
from watchdog.connect.dispatcher import Dispatcher, DispatcherConfig
from watchdog.connect.guard import RESULTS
from watchdog.connect.names import Named
from watchdog.connect.reconcile import UNSEEN_S, ReconcileRules
from watchdog.core.addresses import Proxies
from watchdog.core.brake import BrakeRules
from watchdog.core.canary import rules as canary_rules
from watchdog.core.clock import ClockRules
from watchdog.core.messages import LeaseRules
from watchdog.core.model import Epoch
from watchdog.core.policy import first_timer_s
from watchdog.core.quota import QuotaRules
from watchdog.environment import quoted, variable
from watchdog.errors import CertificateRefused, SettingsError, StoreUnavailable, WatchdogError
from watchdog.handing_on import Deployment, HandedOn
from watchdog.health import PROBLEMS, Health
from watchdog.ingest.answers import Rejection
from watchdog.ingest.app import build
from watchdog.ingest.arrivals import Arrivals
from watchdog.ingest.auth import AuthMode, Gate, Tickets, Tokens
from watchdog.ingest.buffer import Buffer
from watchdog.ingest.connections import Connections
from watchdog.ingest.console import Console
from watchdog.ingest.cors import Cors
from watchdog.ingest.events import STEP_S, Events
from watchdog.ingest.front import Front
from watchdog.ingest.heartbeat import HeartbeatRules, Heartbeats
from watchdog.ingest.jwt import JwtRules, Jwts
from watchdog.ingest.key_source import TIMEOUT_S as KEYS_TIMEOUT_S
from watchdog.ingest.key_source import KeySource
from watchdog.ingest.logout import LogOuts
from watchdog.ingest.origins import Origins
from watchdog.ingest.recording import Recordings
from watchdog.ingest.server import Server, server
from watchdog.ingest.shortcut import Shortcut
from watchdog.ingest.sorted_buffer import Divided, SortedBuffer
from watchdog.ingest.tls import LOOK_S, Certificate
from watchdog.ingest.websocket import Tethers
from watchdog.ingest.websocket_protocol import Ended
from watchdog.jobs import Jobs
from watchdog.loops import FLUSH_S, PULSE_S, SWEEP_S, Loops, RunningTime
from watchdog.outgoing import Caller
from watchdog.sd_notify import Supervisor
from watchdog.settings import Settings
from watchdog.stores.base import DaemonStore, StoreRules
from watchdog.stores.sqlite import SqliteStore
from watchdog.telemetry.actions import Recorder, log_action
from watchdog.telemetry.eventbridge import EventBridge
from watchdog.telemetry.logs import LogFormat, configure
from watchdog.telemetry.metrics import Metrics
from watchdog.telemetry.notify import RESULTS as NOTIFIED
from watchdog.telemetry.notify import Notifier
from watchdog.telemetry.webhook import Webhook

SERVER_STOP_S = 2
DRAIN_S = 3.0
CONNECT_STOP_S = 1.0
STOP_S = 7.0
"""Time limits of the stop, and of all of it but the last flush and the store's closing, which fail after 1 s each with
a locked file: to be over in 10 s together. Source: Docker's default stop time-out."""

NAMES_S = 5.0
"""Longest wait for Connect's listings at the start, before heartbeats are taken."""

TOLD_ROWS = 20
"""So many of the rows that cannot be read are told one by one."""

GC_THRESHOLD = 10_000
"""Objects, more made than freed, after which the youngest are looked at for cycles. Heartbeats leave none, but those of
a flush live at the same time: with the usual 700 they are looked at again and again, which takes as long as the store
does. Looking at so many takes less than 1 ms."""

TETHER_BITS = 62
"""Of a socket's number: random, so that no two processes give the same one, and small enough for any store."""

RESERVED_FILES = 128
"""Open files that are no connections of agents: those of the store and the log, and one for each call to others."""

log = structlog.stdlib.get_logger(__name__)


def run(settings: Settings) -> int:
    """Runs the daemon until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a signal, 1 when a part of it failed.

    Raises:
        StoreError: The store cannot be opened.
        WatchdogError: The address cannot be bound.
    """
    configure(settings.log_level, LogFormat(settings.log_format))
    # Each page keeps a connection open; the usual soft limit of 1,024 files would turn the next ones away.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    code, clean = uvloop.run(Daemon(settings).run())
    if not clean:
        # A call to AWS still waits in its thread, which the interpreter would wait for: up to 13 s.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is to be stopped."""

    roots: dict[str, asyncio.Task[None]]
    sweeping: asyncio.Event
    flushing: asyncio.Event
    scheduler: BaseScheduler
    recordings: Recordings
    events: Events
    canary: Canary | None
    keys: KeySource | None
    dispatcher: Dispatcher
    http: Server
    buffer: Buffer
    connect: BotoConnect
    notifier: Notifier | None


class Daemon:
    """All parts, composed. Everything that lives on the loop is made in `run`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._boot = uuid4().hex

    async def run(self) -> tuple[int, bool]:
        """Runs until a signal, or until a part fails.

        Returns:
            The exit code, and whether no call to AWS is left running.
        """
        settings = self._settings
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        certificate = _certificate(settings)
        supervisor = Supervisor(settings.notify_socket, loop.time)
        store = _store(settings, self._boot)
        await _opened(store)
        for row in store.unreadable[:TOLD_ROWS]:
            log.error("store.row_unreadable", row=str(row))
        try:
            listener = _bound(settings.host, settings.port)
            try:
                return await self._serve(store, listener, certificate, supervisor, stop)
            finally:
                listener.close()
        finally:
            await store.close()
            supervisor.close()
            log.info("daemon.stopped")

    async def _serve(
        self,
        store: DaemonStore,
        listener: socket.socket,
        certificate: Certificate | None,
        supervisor: Supervisor,
        stop: asyncio.Event,
    ) -> tuple[int, bool]:
        settings, loop = self._settings, asyncio.get_running_loop()
        metrics = Metrics(
            __version__,
            rejections=Rejection,
            operations=OPERATIONS,
            results=("ok", *RESULTS.values()),
            ends=Ended,
            notifications=NOTIFIED,
            problems=PROBLEMS,
        )
        keys = await self._keys()
        running = RunningTime(loop.time)
        buffer = _buffer(store, running, metrics.flush.observe)
        health = Health(
            settings,
            self._boot,
            store=store,
            buffer=buffer,
            metrics=metrics,
            now=machine.now,
            time=running,
        )
        metrics.problems = lambda: [problem.code for problem in health.problems()]
        health.keys = keys
        health.unreadable = [str(row) for row in store.unreadable]
        recordings = Recordings(_recorded(settings), lambda: None if health.clock is None else health.clock.observed)
        events = Events(
            self._boot,
            __version__,
            look=health.topics,
            sample=health.sample,
            epoch=lambda: machine.now().epoch,
            time=loop.time,
        )
        sinks = {
            "log": log_action,
            "metrics": metrics.action,
            "recordings": recordings.action,
            "events": events.action,
        }
        notifier = health.notifier = self._notifier(store, health, metrics)
        if notifier is not None:
            sinks["notify"] = notifier.action
        recorder = Recorder(sinks, loop.time)
        instances = [
            Instance(each.instance_id, each.region or settings.region, each.role_arn, each.external_id)
            for each in settings.instances
        ]
        connect = BotoConnect(instances, machine.now)
        named = needs.named(settings)
        dispatcher = health.dispatcher = Dispatcher(
            store,
            connect,
            instances,
            DispatcherConfig(
                owner=self._boot,
                rules=settings.rules_in_force,
                quota=_quota(settings),
                quotas=directory.quotas(settings.connect_share),
                dry_run=settings.dry_run,
                witness_ttl_s=settings.session_ttl if settings.witness else None,
                reconcile=_reconcile_rules(settings),
                return_window_s=settings.return_window,
                lease_s=settings.session_ttl,
                named=named,
                reason_codes=settings.reason_codes,
                dismiss=settings.dismiss_contacts,
            ),
            now=machine.now,
            random=random.random,
            flush=buffer.flush,
            record=recorder.record,
            observer=_Observer(metrics),
        )
        looks = [keys.look()] if keys is not None and keys.current is None else []
        await asyncio.gather(_check_names(dispatcher, connect, named), *looks)
        gate = await self._gate(store, keys)
        proxies = Proxies(settings.trusted_proxies)
        arrivals = health.arrivals = Arrivals(
            store.newcomer,
            most=settings.max_agents,
            time=loop.time,
            epoch=lambda: machine.now().epoch,
            proxies=proxies,
        )
        heartbeats = Heartbeats(
            store,
            buffer,
            gate,
            _heartbeat_rules(settings, self._boot),
            metrics,
            arrivals=arrivals,
            epoch=machine.epoch,
            time=running,
            random=random.random,
            recordings=recordings,
        )
        health.refusals = heartbeats.refusals
        canary = health.canary = self._canary(gate.tickets, metrics)
        origins = Origins.of(settings.allowed_origins, settings.canary_url, open_to_all=gate.mode is AuthMode.NONE)
        application = build(
            heartbeats,
            store,
            gate,
            health,
            metrics,
            recordings,
            logouts=_handed_on(store, dispatcher.log_out),
            version=__version__,
            instances=frozenset(instance.instance_id for instance in instances),
            now=machine.now,
            console=Console(
                events,
                Cancels(store, now=machine.now, record=recorder.record),
                lambda: [asdict(row) for row in settings.describe()],
                dispatcher.profiles,
            ),
        )
        health.certificate = certificate
        connections = health.connections = Connections(
            _most_connections(), loop.time, lambda: machine.now().epoch, proxies, arrivals.has_agents
        )
        cors = Cors(front := Front(application, origins, metrics, loop.time), settings.allowed_origins)
        http = server(
            cors,
            connections,
            shortcut=Shortcut(heartbeats, front, cors) if settings.fast_lane else None,
            tethers=Tethers(
                heartbeats,
                buffer.tear,
                metrics,
                ttl_s=settings.tether_ttl,
                number=partial(secrets.randbits, TETHER_BITS),
                origins=origins,
            ),
            drain_s=SERVER_STOP_S,
            tls=None if certificate is None else certificate.context,
        )
        loops = Loops(
            self._boot,
            store=store,
            buffer=buffer,
            dispatcher=dispatcher,
            health=health,
            metrics=metrics,
            now=machine.now,
            canary=canary,
            connections=connections,
            tell=None if notifier is None else notifier.brake,
            alive=lambda: supervisor.alive(listening=http.started),
        )
        scheduler = Jobs(settings, store, dispatcher.directory, health, machine.now, dispatcher.reconciler).scheduler()
        sweeping, flushing = asyncio.Event(), asyncio.Event()
        sweeping.set()
        flushing.set()
        roots = {
            "server": asyncio.create_task(http.serve(sockets=[listener])),
            "pulse": asyncio.create_task(loops.every(PULSE_S, running.pulse, flushing)),
            "flush": asyncio.create_task(loops.every(FLUSH_S, loops.flush, flushing)),
            "sweep": asyncio.create_task(loops.every(SWEEP_S, loops.sweep, sweeping)),
            "events": asyncio.create_task(loops.every(STEP_S, events.step, sweeping)),
        }
        if certificate is not None:
            scheduler.add_job(certificate.look, "interval", seconds=LOOK_S)
        roots |= _optional_roots(
            canary=None if canary is None else loops.every(canary.rules.every_s, canary.step, sweeping),
            notify=None if notifier is None else notifier.run(),
            keys=None if keys is None else keys.run(),
        )
        scheduler.start()
        host, port = listener.getsockname()[:2]
        log.info(
            "daemon.started",
            version=__version__,
            host=host,
            port=port,
            instances=len(instances),
            dry_run=settings.dry_run,
        )
        code = await self._until_stopped(roots, stop)

        parts = _Parts(
            roots,
            sweeping,
            flushing,
            scheduler,
            recordings,
            events,
            canary,
            keys,
            dispatcher,
            http,
            buffer,
            connect,
            notifier,
        )
        health.stopping = True
        supervisor.stopping()
        return code, await self._stopped(parts)

    async def _stopped(self, parts: _Parts) -> bool:
        """Stops all parts in order; returns whether no call to AWS is left running.

        Claims are settled or given back. Until then heartbeats are taken, so that whoever returns is not set; then
        those that were accepted are flushed, and who waits for an answer gets it.
        """
        parts.scheduler.shutdown(wait=False)
        parts.recordings.close()
        parts.events.close()
        parts.sweeping.clear()
        try:
            async with asyncio.timeout(STOP_S):
                await self._ended("sweep", parts.roots["sweep"], SWEEP_S + 1)
                await self._ended("events", parts.roots["events"], STEP_S + 1)
                for name in ("notify", "keys"):
                    # What was not delivered yet is in the history, and the next process goes on from there.
                    if name in parts.roots:
                        parts.roots[name].cancel()
                        await asyncio.gather(parts.roots[name], return_exceptions=True)
                if parts.keys is not None:
                    await parts.keys.close()
                if parts.canary is not None:
                    parts.roots["canary"].cancel()
                    await asyncio.gather(parts.roots["canary"], return_exceptions=True)
                    await parts.canary.close()
                await parts.dispatcher.drain(DRAIN_S)
                parts.http.should_exit = True
                await self._ended("server", parts.roots["server"], SERVER_STOP_S + 1)
                parts.flushing.clear()
                await self._ended("flush", parts.roots["flush"], FLUSH_S + 1)
                await self._ended("pulse", parts.roots["pulse"], PULSE_S + 1)
                clean = await parts.connect.close(CONNECT_STOP_S)
                clean = clean and (parts.notifier is None or not parts.notifier.running)
        except TimeoutError:
            # Claims that were not given back are void at the next start, and intents are on the disk.
            log.warning("daemon.stop_cut_short", after_s=STOP_S)
            clean = False
            for task in parts.roots.values():
                task.cancel()
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(FLUSH_S + 1):
                await parts.buffer.flush()
        return clean

    def _notifier(self, store: DaemonStore, health: Health, metrics: Metrics) -> Notifier | None:
        settings = self._settings
        if not settings.notify_urls and settings.eventbridge_bus is None:
            return None
        secrets = [secret.get_secret_value() for secret in settings.notify_secret]

        def epoch() -> Epoch:
            return machine.now().epoch

        return Notifier(
            [Webhook(url.get_secret_value(), secrets, epoch=epoch) for url in settings.notify_urls],
            store,
            bus=None if settings.eventbridge_bus is None else EventBridge(settings.eventbridge_bus, settings.region),
            problems=health.problems,
            epoch=epoch,
            random=random.random,
            count=metrics.notified,
        )

    async def _keys(self) -> KeySource | None:
        """Where the keys for JWTs come from. A provider may be away at the start; a file may not.

        Raises:
            SettingsError: The file has no keys.
        """
        settings = self._settings
        if settings.auth != "jwt" or settings.jwks is None:
            return None
        time = asyncio.get_running_loop().time
        caller = Caller(KEYS_TIMEOUT_S)
        keys = KeySource(settings.jwks, caller, epoch=lambda: machine.now().epoch, time=time)
        if keys.is_file:
            await keys.look()
            if keys.current is None:
                raise SettingsError([f"{variable('jwks')}: got {quoted(settings.jwks)}; {keys.fault}"])
        return keys

    async def _gate(self, store: DaemonStore, keys: KeySource | None) -> Gate:
        settings = self._settings
        secrets = [secret.get_secret_value().encode() for secret in settings.ticket_secrets]
        return Gate(
            AuthMode(settings.auth),
            Tokens([token.get_secret_value() for token in settings.heartbeat_tokens]),
            Tokens([token.get_secret_value() for token in settings.admin_tokens]),
            Tickets(secrets or [await store.secret()]),
            None if keys is None else Jwts(_jwt_rules(settings), keys, lambda: machine.now().epoch),
        )

    def _canary(self, tickets: Tickets, metrics: Metrics) -> Canary | None:
        settings, loop = self._settings, asyncio.get_running_loop()
        if settings.canary_url is None:
            return None
        return Canary(
            settings.canary_url,
            canary_rules(settings.session_ttl, settings.heartbeat_interval),
            tickets,
            beats=lambda: sum(metrics.heartbeats.values()),
            sessions=lambda: metrics.sessions,
            epoch=lambda: machine.now().epoch,
            time=loop.time,
        )

    async def _until_stopped(self, roots: dict[str, asyncio.Task[None]], stop: asyncio.Event) -> int:
        """Waits for the signal. Returns the exit code: 1 when a root task ended before it."""
        waiting = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({waiting, *roots.values()}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if stop.is_set():
            log.info("daemon.stopping")
            return 0
        for name, task in roots.items():
            if task.done():
                error = None if task.cancelled() else task.exception()
                log.critical("daemon.part_failed", part=name, exc_info=error)
        return 1

    async def _ended(self, name: str, task: asyncio.Task[None], timeout_s: float) -> None:
        """Waits for a root task that was told to stop; one that does not is cancelled."""
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            log.warning("daemon.part_cancelled", part=name)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Observer:
    """Gives the dispatcher's news to the metrics. See `watchdog.connect.guard.Observer`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def connect_call(self, operation: str, result: str) -> None:
        self._metrics.connect_call(operation, result)

    def tokens(self, operation: str, scope: str, left: float) -> None:
        del scope  # accounts are few and the operation tells what is short
        self._metrics.connect_tokens[operation] = left

    def detection_lag(self, seconds: float) -> None:
        self._metrics.detection_lag.observe(seconds)


def _store(settings: Settings, boot: str) -> DaemonStore:
    address = settings.store_address
    if address is None:
        return SqliteStore(settings.store_path, _store_rules(settings))
    from watchdog.stores.replica import ReplicaStore  # noqa: PLC0415 - takes 0.4 s, and who has a file needs none of it

    return ReplicaStore(address, _store_rules(settings), boot, settings.shards)


def _buffer(store: DaemonStore, time: Callable[[], float], observe: Callable[[float], None]) -> Buffer:
    if isinstance(store, SqliteStore):
        return Buffer(store, machine.now, time, observe=observe)
    return SortedBuffer(cast("Divided", store), machine.now, time, observe=observe)


def _handed_on(store: DaemonStore, here: LogOuts) -> LogOuts:
    """Orders for agents of other daemons are theirs to carry out, where there are others."""
    return here if isinstance(store, SqliteStore) else HandedOn(here, cast("Deployment", store))


async def _opened(store: DaemonStore) -> None:
    """Opens the store and takes what lives as long as the process out of the garbage collector's way.

    A full collection looks at every object, 0.1 s for those of the imports and of 10,000 agents, in which no heartbeat
    is answered. What is frozen is not looked at again; while the rows are loaded, none of them can be garbage.
    `garbage.Settled` does the same with agents who come later.
    """
    gc.collect()
    gc.disable()
    try:
        await store.open(machine.now())
    finally:
        gc.enable()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that is bound and not listening yet."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise WatchdogError(
            f"{host}:{port} cannot be listened on: {reason}. Stop what uses it, or set WATCHDOG_HOST and WATCHDOG_PORT."
        ) from None
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


def _certificate(settings: Settings) -> Certificate | None:
    """What HTTPS is served with; None for HTTP.

    Raises:
        SettingsError: It cannot be served.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return Certificate(settings.tls_cert, settings.tls_key, lambda: machine.now().epoch)
    except CertificateRefused as error:
        raise SettingsError([f"{variable('tls_cert')}, {variable('tls_key')}: {error}"]) from None


def _most_connections() -> int:
    """How many connections the limit of open files allows, with room for the store, Connect and the log."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(files // 2, files - RESERVED_FILES)


def _jwt_rules(settings: Settings) -> JwtRules:
    return JwtRules(settings.jwt_issuer or "", frozenset(settings.jwt_audience), settings.jwt_agent_claim)


def _optional_roots(**runs: Coroutine[Any, Any, None] | None) -> dict[str, asyncio.Task[None]]:
    return {name: asyncio.create_task(run) for name, run in runs.items() if run is not None}


def _quota(settings: Settings) -> QuotaRules:
    return QuotaRules(settings.connect_rate, settings.connect_burst, settings.connect_share)


async def _check_names(dispatcher: Dispatcher, connect: BotoConnect, named: Sequence[Named]) -> None:
    """Asks Connect whether every status and profile exists that the settings name.

    What cannot be listed now says nothing; what is found to be missing later is a problem in `/v1/status`.

    Raises:
        SettingsError: Some do not exist.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(NAMES_S):
            await dispatcher.directory.refresh()
    faults = dispatcher.missing(each for each in named if each.chosen)
    if faults:
        await dispatcher.directory.close()
        await connect.close(CONNECT_STOP_S)
        raise SettingsError(faults)


def _store_rules(settings: Settings) -> StoreRules:
    return StoreRules(
        timer_s=first_timer_s(settings.rules_in_force),
        clock=ClockRules(settings.resume_grace, settings.heartbeat_interval),
        quota=_quota(settings),
        quotas=directory.quotas(settings.connect_share),
        brake=BrakeRules(settings.brake_fraction, settings.brake_min_agents, settings.brake_max_hold),
        instances=frozenset(instance.instance_id for instance in settings.instances),
        return_window_s=settings.return_window,
        greets=any(rule.initial is not None for rule in settings.rules_in_force),
        most_agents=settings.max_agents,
        longest_ttl_s=max(settings.session_ttl, settings.throttled_session_ttl),
    )


def _reconcile_rules(settings: Settings) -> ReconcileRules | None:
    if settings.reconcile == "off":
        return None
    patience_s = max(UNSEEN_S, settings.session_ttl + settings.session_end_timer)
    return ReconcileRules(patience_s, settings.session_ttl if settings.reconcile == "act" else None)


def _recorded(settings: Settings) -> dict[str, object]:
    """What a recording tells of the settings in force."""
    return {
        "session_end_timer_s": settings.session_end_timer,
        "heartbeat_interval_s": settings.heartbeat_interval,
        "session_ttl_s": settings.session_ttl,
        "throttled_session_ttl_s": settings.throttled_session_ttl,
        "connect_rate": settings.connect_rate,
        "dry_run": settings.dry_run,
    }


def _heartbeat_rules(settings: Settings, boot: str) -> HeartbeatRules:
    return HeartbeatRules(
        instances=frozenset(instance.instance_id for instance in settings.instances),
        interval_s=settings.heartbeat_interval,
        leases=LeaseRules(settings.session_ttl, settings.throttled_session_ttl, settings.max_page_lag),
        boot=boot,
    )
