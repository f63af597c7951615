"""`python -m tests.benchmarks.naive PORT`: the obvious design, for the reader's scale, and nothing else.

A FastAPI route that validates a heartbeat, and one APScheduler job for each session, which the next heartbeat puts off.
Nobody has to prove anything, nothing is stored, and nobody is set: it does less than the daemon.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI
from pydantic import BaseModel

TTL_S = 600
INTERVAL_MS = 10_000


class Heartbeat(BaseModel):
    """What is looked at of a heartbeat."""

    instance_id: str
    user_id: str
    session_id: UUID
    incarnation: int = 0
    seq: int | None = None
    visibility: Literal["visible", "hidden"] | None = None
    driver: Literal["worker", "main"] | None = None


class Answer(BaseModel):
    """What it is answered."""

    state: str
    next_ms: int
    ttl_ms: int


def application() -> FastAPI:
    """The whole of it."""
    scheduler = AsyncIOScheduler()
    app = FastAPI()
    gone: list[UUID] = []

    @app.post("/v1/heartbeat")
    async def heartbeat(said: Heartbeat) -> Answer:
        if not scheduler.running:
            scheduler.start()
        ends = datetime.now(UTC) + timedelta(seconds=TTL_S)
        name = str(said.session_id)
        scheduler.add_job(gone.append, "date", [said.session_id], run_date=ends, id=name, replace_existing=True)
        return Answer(state="live", next_ms=INTERVAL_MS, ttl_ms=TTL_S * 1000)

    return app


if __name__ == "__main__":
    uvicorn.run(application(), port=int(sys.argv[1]), log_level="warning", access_log=False, loop="uvloop")
