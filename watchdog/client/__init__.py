"""The Python client, for gateways and desktop wrappers: tells the daemon that an agent is there, and that it goes.

`PresenceClient` is for programs with threads, `AsyncPresenceClient` for those with an event loop. docs/python-client.md
tells how to use them; docs/http.md tells what they say, and when. Nothing of the daemon is imported here.
"""

from watchdog.client.asynchronous import AsyncPresenceClient
from watchdog.client.model import Notice, State, Status, Transport
from watchdog.client.synchronous import PresenceClient

__all__ = ["AsyncPresenceClient", "Notice", "PresenceClient", "State", "Status", "Transport"]
