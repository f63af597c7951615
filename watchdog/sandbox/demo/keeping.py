"""What `--keep` does when the story is over: it says how to take part, and tells what happens until it is stopped."""

import asyncio
import json
from collections.abc import Sequence
from uuid import uuid4

from rich.console import Console

from watchdog.sandbox.demo.agents import Agent, Office
from watchdog.sandbox.demo.page import served
from watchdog.sandbox.demo.processes import Processes
from watchdog.sandbox.demo.roles import AVAILABLE, SERVICE, Expectation, Role, Story
from watchdog.sandbox.demo.screen import FRAMES_PER_S
from watchdog.sandbox.demo.stage import Lines, Stage
from watchdog.sandbox.demo.watching import Watcher

_JSON = "-H 'Content-Type: application/json'"

_YOURS = Story("yours", (), (), Expectation())

_HOW_MANY = 3
"""Agents for the person who watches, so that several can be played in tabs."""


async def stay(stage: Stage, processes: Processes, watcher: Watcher, office: Office, console: Console) -> None:
    """Add agents for the person who watches, serve the example page, say how to take part, and print events.

    Goes on until cancelled.

    Raises:
        DemoError: A process has ended, or the page cannot be served.
    """
    agents = await _newcomers(stage, processes, office)
    stage.agents = (*stage.agents, *agents)
    stage.snapshot = None
    stage.show(await watcher.look(), watcher.ledger)
    async with served(processes.page_port, stage, office, {agent.user_id for agent in agents}):
        _explain(console, processes, agents, stage.timing.session_ttl_s + stage.timing.session_end_timer_s)
        with Lines(stage, console):
            while True:
                processes.check()
                stage.show(await watcher.look(), watcher.ledger)
                await asyncio.sleep(1 / FRAMES_PER_S)


async def _newcomers(stage: Stage, processes: Processes, office: Office) -> list[Agent]:
    """Add users to Connect, Available, whom no simulated agent plays."""
    known = len(stage.agents)
    body = {
        "agents": known + _HOW_MANY,
        "instance_id": processes.instance_id,
        "status": AVAILABLE,
        "routing_profiles": [SERVICE],
    }
    answer = await office.client.post(f"{processes.sandbox_url}/sandbox/instances", json=body)
    users = answer.raise_for_status().json()["users"][known:]
    return [
        Agent(Role(number, _YOURS, ()), user["user_id"], user["arn"], office)
        for number, user in enumerate(users, start=known + 1)
    ]


def _explain(console: Console, processes: Processes, agents: Sequence[Agent], gone_s: float) -> None:
    url, bearer = processes.daemon_url, "-H 'Authorization: Bearer {}'".format
    beat = json.dumps({"agent": agents[0].arn, "session_id": str(uuid4())})
    lines = [
        "",
        "It stays up until Ctrl-C, and the agents who are present go on.",
        f"{agents[0].role.name} to {agents[-1].role.name} are yours, and Available.",
        "",
        f"Open this in tabs, sign in, close them, and watch the table: {processes.page_url}/",
        "",
        f"Or paste this, once or in a loop; {gone_s:g} s after the last one {agents[0].role.name} is set Offline:",
        "",
        f"  curl -s {url}/v1/heartbeat {bearer(processes.heartbeat_token)} {_JSON} -d '{beat}'",
        "",
        f"The dashboard      {url}/ (asks for the admin token)",
        f"The daemon         {url} (API at /openapi.json, Prometheus at /metrics)",
        f"What it sees       curl -s {url}/v1/agents {bearer(processes.admin_token)}",
        f"What it did        curl -s {url}/v1/actions {bearer(processes.admin_token)}",
        f"Connect            curl -s {processes.sandbox_url}/sandbox/state",
        f"Heartbeat token    {processes.heartbeat_token}",
        f"Admin token        {processes.admin_token}",
        f"Logs and database  {processes.folder}",
        "",
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
