"""Asks the daemon in this container whether it is alive: a health check without curl, loaded in a tenth of a second.

`python -m watchdog.alive HOST PORT [tls]` exits with 0 when `/livez` says yes, else with 1. The certificate is not
looked at: it is for another name, and the way does not leave the machine.
"""

import contextlib
import ssl
import sys
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection

TIMEOUT_S = 2.0


def ask(host: str, port: int, *, tls: bool) -> bool:
    """Whether the daemon that listens at this address is alive; `0.0.0.0` and `::` are this machine, too."""
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: HTTPConnection = HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/livez", headers={"Host": "localhost"})
            return connection.getresponse().status == 200  # noqa: PLR2004  # RFC 9110, section 15.3.1
        except (OSError, HTTPException):
            return False


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code. Docker reserves all but 0 and 1."""
    host, port, *tls = arguments
    return 0 if ask(host, int(port), tls=tls == ["tls"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
