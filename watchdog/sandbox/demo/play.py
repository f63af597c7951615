"""The course of the demo: start both processes, let the story run, judge, tell, stop everything.

`run_demo` is what `watchdog demo` runs. It ends by itself, within `LIMIT_S`, whatever happens.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper

import httpx
from rich.console import Console

from watchdog.sandbox.demo import keeping, summary
from watchdog.sandbox.demo.agents import Agent, Office, Unexpected
from watchdog.sandbox.demo.processes import DemoError, Processes
from watchdog.sandbox.demo.roles import AWAY, OFFLINE, TIMING, Mark
from watchdog.sandbox.demo.screen import FRAMES_PER_S, Screen
from watchdog.sandbox.demo.stage import WATCHDOG, Lines, Show, Stage
from watchdog.sandbox.demo.stories import KILL_AT_S, cast
from watchdog.sandbox.demo.verdict import Verdict, judge, stood_too_long, unheard
from watchdog.sandbox.demo.watching import Watcher

LIMIT_S = 60.0
"""From the command on: after this it is judged as it is. Stopping takes a second or two more."""

REQUEST_LIMIT_S = 5.0

PLAIN_WIDTH = 100
"""Columns of the summary where there is no terminal."""

INTERRUPTED = 130
"""Exit code after Ctrl-C. Source: POSIX shells, 128 + SIGINT."""

DYING_S = 1.0
"""Longest wait for the end of a process whose connections have broken."""


def run_demo(*, keep: bool, as_json: bool = False) -> int:
    """Play the demo.

    Args:
        keep: Stay up after the summary, until Ctrl-C.
        as_json: Print the summary as JSON, and the course of the story on stderr.

    Returns:
        The exit code: 0 all is as it should be, 1 something is not or could not be started, 130 interrupted.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an old locale spoils a character, not the demo
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")
    pretty = terminal and not as_json
    console = Console(highlight=False) if pretty else _plain(stderr=as_json)
    stage = Stage(TIMING)
    show: Show = Screen(stage, console) if pretty else Lines(stage, console)
    return asyncio.run(_interruptible(Demo(stage, show, console, keep=keep, as_json=as_json)))


def _plain(*, stderr: bool) -> Console:
    return Console(highlight=False, width=PLAIN_WIDTH, force_terminal=False, no_color=True, stderr=stderr)


async def _interruptible(demo: "Demo") -> int:
    """Run the demo; a signal ends it in order."""
    loop, task = asyncio.get_running_loop(), asyncio.create_task(demo.run())
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if demo.code is not None:
            return demo.code
        return INTERRUPTED if signal.SIGINT in received else 1


@dataclass(frozen=True, slots=True)
class Scene:
    """What the parts of a running demo need of each other."""

    processes: Processes
    watcher: Watcher
    office: Office
    agents: Sequence[Agent]


class Demo:
    """One performance.

    Attributes:
        code: The exit code, once it is known; None before.
    """

    def __init__(self, stage: Stage, show: Show, console: Console, *, keep: bool, as_json: bool = False) -> None:
        """Prepare; nothing runs yet."""
        self.code: int | None = None
        self._begun_at = time.monotonic()
        self._stage = stage
        self._down: list[tuple[float, float]] = []
        self._show = show
        self._console = console
        self._keep = keep
        self._as_json = as_json

    async def run(self) -> int:
        """Play it. Nothing is left of it afterwards, whether it ends, fails or is cancelled."""
        with Processes(TIMING) as processes:
            try:
                await self._play(processes)
            except* (DemoError, Unexpected, httpx.HTTPError) as group:
                for line in _messages(group, processes):
                    self._console.print(line, style="red", markup=False, soft_wrap=True)
                self.code = 1
        return self.code if self.code is not None else 1

    async def _play(self, processes: Processes) -> None:
        self._console.print(
            "Starting a stand-in of Amazon Connect and the watchdog, then 20 agents. It takes about 40 s."
        )
        await processes.start_sandbox()
        async with self._scene(processes) as scene:
            await processes.start_daemon()
            self._stage.agents = scene.agents
            self._stage.started_at = time.monotonic()
            playing = asyncio.create_task(self._act(scene))
            try:
                with self._show:
                    await self._watch(scene, playing)
                results = await self._results(scene)
                if self._keep:
                    self.code = 0 if self._tell(scene, results, []) else 1
                    await keeping.stay(self._stage, scene.processes, scene.watcher, scene.office, self._console)
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
            if not self._keep:
                wrong = await asyncio.to_thread(processes.stop)
                self.code = 0 if self._tell(scene, results, wrong) else 1

    @contextlib.asynccontextmanager
    async def _scene(self, processes: Processes) -> AsyncIterator[Scene]:
        """Give the agents their users in Connect, all Offline, and everyone the way to the others."""
        async with httpx.AsyncClient(timeout=REQUEST_LIMIT_S, trust_env=False) as client:
            roles = cast()
            body = {
                "agents": len(roles),
                "instance_id": processes.instance_id,
                "status": OFFLINE,
                "statuses": [AWAY],
                "routing_profiles": [role.story.profile for role in roles],
            }
            answer = await client.post(f"{processes.sandbox_url}/sandbox/instances", json=body)
            users = answer.raise_for_status().json()["users"]
            office = Office(
                client=client,
                daemon_url=processes.daemon_url,
                sandbox_url=processes.sandbox_url,
                instance_id=processes.instance_id,
                token=processes.heartbeat_token,
                admin_token=processes.admin_token,
                tell=self._stage.tell,
            )
            watcher = Watcher(
                client,
                daemon_url=processes.daemon_url,
                sandbox_url=processes.sandbox_url,
                admin_token=processes.admin_token,
            )
            agents = [
                Agent(role, user["user_id"], user["arn"], office) for role, user in zip(roles, users, strict=True)
            ]
            yield Scene(processes, watcher, office, agents)

    async def _act(self, scene: Scene) -> None:
        """Let all agents play, and the daemon be killed; goes on until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for agent in scene.agents:
                tasks.create_task(agent.play(self._stage.started_at))
            tasks.create_task(self._restart(scene))

    async def _restart(self, scene: Scene) -> None:
        """Kill the daemon in the middle and start it again."""
        stage = self._stage
        await asyncio.sleep(KILL_AT_S - stage.at_s)
        stage.alive = False
        killed_at = time.time()
        await asyncio.to_thread(scene.processes.kill_daemon)
        stage.tell(WATCHDOG, "is killed with kill -9, and started again", "bold red")
        await scene.processes.start_daemon()
        scene.watcher.ledger.note_restart(killed_at, time.time())
        self._down.append((killed_at, time.time()))
        stage.alive = True
        stage.tell(WATCHDOG, "is back: it gives everyone a full time to live again", "bold green")

    async def _watch(self, scene: Scene, playing: asyncio.Task[None]) -> None:
        """Look and show until all is as it should be and can stay so, or time is up.

        Raises:
            DemoError: A process has ended.
        """
        stage = self._stage
        while time.monotonic() - self._begun_at < LIMIT_S:
            begun_at = time.monotonic()
            stage.show(await scene.watcher.look(), scene.watcher.ledger)
            self._show.refresh()
            if playing.done():
                await playing
            if stage.alive:
                scene.processes.check()
                if stage.at_s > self._over_at(scene) and await self._settled(scene):
                    return
            await asyncio.sleep(max(0.0, begun_at + 1 / FRAMES_PER_S - time.monotonic()))

    def _over_at(self, scene: Scene) -> float:
        """Give the earliest end: whoever was forgotten at the restart would have been set by then."""
        stood_s = sum(pause.seconds for pause in scene.watcher.ledger.pauses)
        return KILL_AT_S + stood_s + TIMING.most_s(Mark.SILENCE)

    async def _settled(self, scene: Scene) -> bool:
        return all(result.verdict.ok for result in await self._results(scene))

    async def _results(self, scene: Scene) -> list[summary.Result]:
        """Judge everyone by what is known now."""
        await scene.watcher.read_history()
        return [summary.Result(agent.role, self._verdict(scene, agent)) for agent in scene.agents]

    def _verdict(self, scene: Scene, agent: Agent) -> Verdict:
        assert self._stage.snapshot is not None  # noqa: S101  # there was a look before
        ledger, seen = scene.watcher.ledger, self._stage.snapshot.agents[agent.user_id]
        return judge(agent.role.story.expects, ledger.record(agent, seen), ledger.pauses)

    def _tell(self, scene: Scene, results: Sequence[summary.Result], wrong: Sequence[str]) -> bool:
        ledger = scene.watcher.ledger
        totals = summary.Totals(
            heartbeats=scene.office.heartbeats,
            unanswered=len(scene.office.failed_at),
            calls=ledger.calls,
            throttled=ledger.throttled,
            took_s=time.monotonic() - self._begun_at,
        )
        wrong = [
            *wrong,
            *stood_too_long(ledger.pauses, self._down, TIMING),
            *unheard(scene.office.failed_at, self._down),
        ]
        if self._as_json:
            found = summary.figures(results, totals, wrong)
            sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
            return bool(found["ok"])
        return summary.show(self._console, results, totals, ledger.pauses, wrong)


def _messages(group: BaseExceptionGroup[BaseException], processes: Processes) -> list[str]:
    """Give the texts of the errors; a process that has ended is the cause of those in talking to it."""
    texts = list(dict.fromkeys(_texts(group)))
    until = time.monotonic() + DYING_S
    while True:
        try:
            processes.check()
        except DemoError as error:
            return [str(error)]
        if group.subgroup(httpx.HTTPError) is None or time.monotonic() > until:
            return texts
        # Its connections break before the process counts as ended.
        time.sleep(0.02)


def _texts(group: BaseExceptionGroup[BaseException]) -> Iterator[str]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _texts(error)
        else:
            yield str(error) or repr(error)
