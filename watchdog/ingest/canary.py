"""What the canary says and is answered: a heartbeat of nobody, on the path of all the others.

It has the path of a heartbeat, since a load balancer may treat another path in another way. It is signed with the
tickets' secrets, and so is the answer: neither a cache nor a page that answers everything with 200 can give it, and
only this deployment has the secrets. No agent is touched, nothing is stored.
"""

import orjson

from watchdog.core.model import AgentId, Epoch
from watchdog.ingest.auth import Purpose, Tickets

PREFIX = b'{"canary":"'
"""How its body begins, so that no heartbeat pays for looking deeper."""

NONCE_BYTES = 16
"""A new one for each call: an old answer is none."""

# No heartbeat can name it: an instance's id is never empty.
_NOBODY = AgentId("", "canary")


def call(tickets: Tickets, nonce: bytes, now: Epoch) -> bytes:
    """The body of a call."""
    return (
        PREFIX
        + nonce.hex().encode()
        + orjson.dumps({"ticket": tickets.issue(_NOBODY, nonce, 0, now, Purpose.CANARY)}).replace(b"{", b'",', 1)
    )


def answer(body: bytes, tickets: Tickets, boot: str, now: Epoch) -> bytes | None:
    """The answer to a call; None to one that is not genuine."""
    try:
        said = orjson.loads(body)
        nonce = bytes.fromhex(said["canary"])
        genuine = len(nonce) == NONCE_BYTES and tickets.check(
            str(said["ticket"]), _NOBODY, nonce, 0, now, Purpose.CANARY
        )
    except (ValueError, KeyError, TypeError):
        return None
    if not genuine:
        return None
    return orjson.dumps(
        {"state": "canary", "boot": boot, "proof": tickets.issue(_NOBODY, nonce, 0, now, Purpose.CANARY_ANSWER)}
    )


def is_answer(body: bytes, tickets: Tickets, nonce: bytes, now: Epoch) -> bool:
    """Whether a body is the answer of this deployment to the call with this nonce."""
    try:
        return tickets.check(str(orjson.loads(body)["proof"]), _NOBODY, nonce, 0, now, Purpose.CANARY_ANSWER)
    except (ValueError, KeyError, TypeError):
        return False
