"""Every exception of the package, and nothing else.

    WatchdogError
    ├── SettingsError            the environment has faults; all of them are listed
    ├── StoreError
    │   ├── StoreUnavailable     the store cannot be reached or written now
    │   │   ├── NotKeeper        it is another daemon's to do
    │   │   └── NotHandedOn      another daemon does not take what is its own
    │   ├── StoreCorrupt         what is stored cannot be read as ours
    │   ├── StoreLocked          another daemon has the store
    │   ├── StoreFailed          a part of the store has ended by a fault of ours
    │   └── StoreOccupied        what is kept there would be dropped
    ├── MessageError             a heartbeat that is refused: HTTP status, title, detail
    ├── ConnectError
    │   ├── ConnectThrottled     429: over the quota
    │   ├── ConnectDenied        403: an IAM permission is missing
    │   ├── ConnectNotFound      404: no such instance, user or status
    │   ├── ConnectInvalid       400: the request makes no sense to Connect
    │   ├── ConnectUnavailable   5xx, network, time-out; may have been applied
    │   └── ConnectCredentials   no credentials, or expired ones
    ├── RecordingError           a file is no recording, or a damaged one
    ├── DaemonError              a running daemon does not answer, or refuses
    ├── LogOutFailed             an agent is not logged out: why, and what to do
    ├── NotDelivered             a receiver of events did not take one
    ├── NotAnswered              a URL of the settings did not answer
    ├── NoKeys                   the identity provider's keys cannot be had
    ├── CertificateRefused       TLS_CERT and TLS_KEY cannot be served
    ├── CallAborted              not sent: the re-check before it was too old
    └── AgentHeld                not sent: the brake holds the agent

An exception means that something is broken or refused. Outcomes that are expected (a lost race, an agent who
returned) are return values and have no class here.
"""

from collections.abc import Sequence


class WatchdogError(Exception):
    """Base of all exceptions of this package.

    Raised only through its subclasses. Its text tells the person who reads it what to do.
    """


class SettingsError(WatchdogError):
    """The environment variables do not make a valid configuration.

    Raised at the start, before anything is opened or called. Correct the variables named and start again. The text
    is one line per fault and never holds a secret.

    Attributes:
        faults: One line for each fault: the variable, what it got (not for secrets), what it takes. Never empty.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        """Keeps the faults in their order."""
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class StoreError(WatchdogError):
    """Something is wrong with the store.

    Raised only through its subclasses.
    """


class StoreUnavailable(StoreError):
    """The store cannot be reached or written at present (disk full, read-only, I/O error, time-out).

    Raised by any method of a store; nothing of that call is applied. Answer the client 503 and try again later;
    until then the observed clock stands still. Operators: free the disk or make it writable.
    """


class NotKeeper(StoreUnavailable):
    """What was asked is done by another daemon of the deployment, the one that keeps its clock.

    Raised where the history is to be delivered. It may be this one's to do later: ask again.
    """


class NotHandedOn(StoreUnavailable):
    """Heartbeats that another daemon of the deployment has to apply wait: it has not answered, or nobody has its part.

    Raised by a flush of which all that is this daemon's own was applied. The clock stands until they are delivered; the
    store is not at fault.
    """


class StoreCorrupt(StoreError):
    """What is stored cannot be read as ours: a damaged file, another program's, or one of a newer version.

    Raised when the store is opened, or when a read fails its check. Trying again does not help. Restore the file
    from a back-up, or move it away and start with an empty one.
    """


class StoreLocked(StoreError):
    """Another daemon has this store.

    Raised when the store is opened, and by a tick when another daemon has taken it over. Stop the other daemon, or give
    this one another `WATCHDOG_STORE`.
    """


class StoreFailed(StoreError):
    """Something that the store runs by itself has ended by a fault of ours, and others wait for it in vain.

    Raised by a tick, with the fault as its cause: the daemon ends, so that others have what it had, and is restarted.
    """


class StoreOccupied(StoreError):
    """Another store is to be copied into this one, which is not empty.

    Raised before anything is changed. Name another target, or allow what it keeps to be dropped.
    """


class MessageError(WatchdogError):
    """A heartbeat that is refused; becomes the answer to its client (RFC 9457 problem).

    Raised while a message is parsed or authenticated; nothing of it is applied. The client reads `detail`.

    Attributes:
        status: HTTP status of the answer: 400 to 499, or 503 where the fault is not the client's.
        title: What kind of fault it is; the same text for every fault of the kind.
        detail: What is wrong with this message and what to send instead. Never holds a token or ticket.
    """

    def __init__(self, status: int, title: str, detail: str) -> None:
        """Keeps the three members of the problem."""
        self.status = status
        self.title = title
        self.detail = detail
        super().__init__(f"{status} {title}: {detail}")


class ConnectError(WatchdogError):
    """A call of Amazon Connect failed.

    Raised only through its subclasses, which say whether and when to try again.

    Attributes:
        operation: Name of the operation as in the AWS API, such as `PutUserStatus`; empty when there was none.
        code: Error code that AWS gave, such as `ThrottlingException`; empty when no answer came.
    """

    def __init__(self, message: str, *, operation: str = "", code: str = "") -> None:
        """Keeps what failed and how.

        Args:
            message: What happened and what to do about it.
            operation: See the attribute.
            code: See the attribute.
        """
        self.operation = operation
        self.code = code
        super().__init__(message)


class ConnectThrottled(ConnectError):
    """HTTP 429: the account's quota for this API is used up. Nothing was applied.

    Put the call back in the queue and go slower. Operators, if it lasts: ask AWS for a higher quota, or lower
    `WATCHDOG_CONNECT_SHARE` when others call the same API.
    """


class ConnectDenied(ConnectError):
    """HTTP 403: the role may not do this. Nothing was applied.

    Stop calling this operation on this instance and target, and probe from time to time. Operators: add the
    permission named to the role.
    """


class ConnectNotFound(ConnectError):
    """HTTP 404: Connect does not know the instance, the user or the status. Nothing was applied.

    Read the directory again before another attempt. Operators: check the ids in `WATCHDOG_INSTANCES` and the region.
    """


class ConnectInvalid(ConnectError):
    """HTTP 400: Connect refuses the request as it stands. Nothing was applied.

    The same request will fail again: read the directory again, then give up with the reason.
    """


class ConnectUnavailable(ConnectError):
    """HTTP 5xx, no network, or no answer in time.

    Try again with back-off. If `maybe_applied`, read the status back before anything is concluded from the failure.

    Attributes:
        maybe_applied: Whether Connect may have carried out the call all the same. False only if it surely was not
            sent (no connection was made).
    """

    def __init__(self, message: str, *, maybe_applied: bool, operation: str = "", code: str = "") -> None:
        """Keeps what failed, and whether it may have had an effect."""
        self.maybe_applied = maybe_applied
        super().__init__(message, operation=operation, code=code)


class ConnectCredentials(ConnectError):
    """There are no AWS credentials, or they have expired or are not valid. Nothing was applied.

    Keep taking heartbeats and try again later: a role's credentials may come back. Operators: check the role, the
    profile or the `AWS_…` variables of the process.
    """


class RecordingError(WatchdogError):
    """A file cannot be read as a recording: damaged, cut off, another program's, or of a newer version.

    Raised while it is read; what was read until then is of no use. The text names the file, and the line if it is one
    that is wrong.
    """


class DaemonError(WatchdogError):
    """A running daemon does not answer, or refuses what a command asked.

    Raised by commands that talk to a daemon; nothing is known of its effect when there was no answer. The text says
    what to look at: the address, the token, or what the daemon said.

    Attributes:
        usage: What was asked for makes no sense (400, 404, 422): asking again helps nobody.
    """

    def __init__(self, text: str, *, usage: bool = False) -> None:
        """Keeps the text for people."""
        super().__init__(text)
        self.usage = usage


class LogOutFailed(WatchdogError):
    """Somebody wanted an agent logged out, and it is not, or not yet; becomes the answer (RFC 9457 problem).

    Raised before anything was changed, or when it is known what became of the order. The text says what to do.

    Attributes:
        why: A `watchdog.core.logout.Failure`.
    """

    def __init__(self, why: str, text: str) -> None:
        """Keeps the word for programs, and the text for people."""
        super().__init__(text)
        self.why = why


class NoKeys(WatchdogError):
    """The keys of JWKS cannot be had, or none of them can be used.

    Raised by a look at them. The text says why, in sentences, without the place.
    """


class NotAnswered(WatchdogError):
    """A URL of the settings did not answer in time, or is never called.

    The text says how, without the URL. Whether the call arrived is not known.
    """


class CertificateRefused(WatchdogError):
    """The files of TLS_CERT and TLS_KEY cannot be read, or do not go together.

    At the start it is a fault of the settings; later the pair before is served on.
    """


class NotDelivered(WatchdogError):
    """A receiver did not take an event, or nobody knows whether it did.

    Its text says how, without anything of the URL, which is a secret. Try again later: receivers know an event that
    they have by its id.

    Attributes:
        lasting: It stays so until a person mends something.
    """

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        """Keeps what a person has to do with it."""
        self.lasting = lasting
        super().__init__(text)


class CallAborted(WatchdogError):
    """A write was not sent, because too much time had passed since the re-check that the agent is still gone.

    Raised between the signing of a request and its sending. Nothing was applied: do the re-check again, then the call.
    """


class AgentHeld(WatchdogError):
    """A write was not sent, because the brake holds the agent.

    Raised by the re-check right before the call. Give the claim back; the store offers the agent again when it is let
    go.
    """
