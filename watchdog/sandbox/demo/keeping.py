"""What `--keep` does when the story is over: it says how to take part, and tells what happens until it is stopped."""

import asyncio
import json
from uuid import uuid4

from rich.console import Console

from watchdog.sandbox.demo.agents import Agent, Office
from watchdog.sandbox.demo.processes import Processes
from watchdog.sandbox.demo.roles import AVAILABLE, SERVICE, Expectation, Role, Story
from watchdog.sandbox.demo.screen import FRAMES_PER_S
from watchdog.sandbox.demo.stage import Lines, Stage
from watchdog.sandbox.demo.watching import Watcher

_JSON = "-H 'Content-Type: application/json'"

_YOURS = Story("yours", (), (), Expectation())


async def stay(stage: Stage, processes: Processes, watcher: Watcher, office: Office, console: Console) -> None:
    """Add an agent for the person who watches, say how to beat for it, and print events until cancelled.

    Raises:
        DemoError: A process has ended.
    """
    agent = await _newcomer(stage, processes, office)
    stage.agents = (*stage.agents, agent)
    stage.snapshot = None
    _explain(console, processes, agent, stage.timing.session_ttl_s + stage.timing.session_end_timer_s)
    with Lines(stage, console):
        while True:
            processes.check()
            stage.show(await watcher.look(), watcher.ledger)
            await asyncio.sleep(1 / FRAMES_PER_S)


async def _newcomer(stage: Stage, processes: Processes, office: Office) -> Agent:
    """Add one more user to Connect, Available, whom no simulated agent plays."""
    number = len(stage.agents) + 1
    body = {"agents": number, "instance_id": processes.instance_id, "status": AVAILABLE, "routing_profiles": [SERVICE]}
    answer = await office.client.post(f"{processes.sandbox_url}/sandbox/instances", json=body)
    user = answer.raise_for_status().json()["users"][number - 1]
    return Agent(Role(number, _YOURS, ()), user["user_id"], user["arn"], office)


def _explain(console: Console, processes: Processes, agent: Agent, gone_s: float) -> None:
    url, bearer = processes.daemon_url, "-H 'Authorization: Bearer {}'".format
    beat = json.dumps({"agent": agent.arn, "session_id": str(uuid4())})
    lines = [
        "",
        f"It stays up until Ctrl-C, and the agents who are present go on. {agent.role.name} is yours, and Available.",
        f"Paste this, once or in a loop; {gone_s:g} s after the last one the agent is set Offline:",
        "",
        f"  curl -s {url}/v1/heartbeat {bearer(processes.heartbeat_token)} {_JSON} -d '{beat}'",
        "",
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
