"""The log event of every order that an operator gives: who, and what. The history has the same of what was done."""

import structlog

log = structlog.stdlib.get_logger(__name__)


def note(order: str, by: str, **what: object) -> None:
    """Tells of an order that may pass, before it is carried out.

    Args:
        order: `hold`, `release`, `restore`, `logout` or `cancel`.
        by: See `Gate.check_admin`; the log shortens a JWT's subject to a hash.
        what: To whom and how.
    """
    log.info("operator.order", order=order, by=by, **what)
