"""Every setting: its variable, default, range, meaning, and what does not go together with what.

One field of `Settings` is one environment variable: `session_ttl` is `WATCHDOG_SESSION_TTL`. A new variable is one
more field: its docstring's first paragraph is the meaning that `watchdog settings` prints, the rest tells reasons;
`Takes` says in words what it takes. Checks between two variables are validators of the later one.

This is the only module of the package that looks at the process's environment. How raw values are found there is in
`environment.py`; how one text becomes a value is in `values.py`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ValidationInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from watchdog import ruleset, values
from watchdog.core.policy import OnContact, Rule
from watchdog.environment import FILE_SUFFIX, PREFIX, Reading, Source, quoted, read, variable
from watchdog.errors import SettingsError
from watchdog.stores.address import Address, address
from watchdog.values import Instance, is_loopback, shown

__all__ = ["Instance", "Row", "Settings", "admin_token", "daemon_url"]


_Needed = TypeVar("_Needed")


@dataclass(frozen=True, slots=True)
class Takes:
    """What a variable takes, in words.

    Attributes:
        text: Completes "takes …". The range is added from the field's bounds.
        secret: Its value is never shown, and it may come from a file.
        file: It may come from a file, since a part of it may be secret.
    """

    text: str
    secret: bool = False
    file: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as shown to people; never holds a secret.

    Attributes:
        variable: Full name of the environment variable.
        value: Its value; None if there is none.
        default: Its default; None if there is none.
        source: Where the value is from.
        meaning: One sentence, with the unit.
    """

    variable: str
    value: str | None
    default: str | None
    source: Source
    meaning: str


class Settings(BaseSettings):
    """All settings, validated. Immutable.

    Made with `Settings.load` from an environment. Made with keyword arguments it reads no environment at all, and
    raises pydantic's `ValidationError` in place of `SettingsError`. The `repr` holds no secret.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    instances: Annotated[
        tuple[Instance, ...],
        BeforeValidator(values.instances),
        Takes(
            'instance ids separated by commas, or a JSON list of {"instance_id", "region", "role_arn", "external_id"}'
        ),
    ]
    """Connect instances to watch (required): ids, or JSON with region and role. Others' heartbeats are refused."""

    status: Annotated[
        str | None, BeforeValidator(values.status), Takes("an agent status's name or id, Logout, or to be unset")
    ] = None
    """Target status, name or id, or Logout. Without one: the instance's status of type OFFLINE.

    Logout, in any case: that same status, and once it is confirmed and no contact is left the user is signed out of
    every session in Connect. A status that is really called so is given by its id.
    """

    session_end_timer: Annotated[float, Ge(0), Le(ruleset.LONGEST_S), Takes("seconds")] = 5
    """Seconds from the end of an agent's last session to the change of status.

    0 is allowed: a reload then costs the agent the status for a moment. A day is more than any shift.
    """

    heartbeat_interval: Annotated[float, Ge(0.1), Le(300), Takes("seconds")] = 10
    """Seconds between heartbeats that clients are told, with a jitter of ±10 % in each answer.

    Below 0.1 the buffer (flushed every 0.2 s) would coalesce them anyway. Above 300 common proxies drop idle
    connections, and detection takes a quarter of an hour.
    """

    session_ttl: Annotated[float, Ge(0.3), Le(86_400), Takes("seconds")] = 35
    """Seconds without a heartbeat after which a session ends; at least 3 intervals.

    With three intervals, two heartbeats in a row may be lost on the way before an agent who is there counts as gone.
    """

    throttled_session_ttl: Annotated[float, Ge(0.3), Le(86_400), Takes("seconds")] = 150
    """The same for hidden pages whose timers the browser throttles to one a minute; at least SESSION_TTL."""

    tether_ttl: Annotated[float, Ge(1), Le(86_400), Takes("seconds")] = 10
    """Seconds that are left of a session at most when its WebSocket is closed from the other side without a bye.

    With SESSION_TTL or more the end of a socket says nothing. Below 1 a client that comes back at once by POST could
    be late. It is the time in which whatever cuts sockets (a load balancer that restarts) has to be back.
    """

    max_page_lag: Annotated[float, Ge(1), Le(86_400), Takes("seconds")] = 120
    """Seconds after which a visible page that has not answered its worker is unusable: its beats do not renew.

    Below 1, an ordinary pause of a busy page would count.
    """

    if_profile_name_includes: Annotated[
        tuple[str, ...], BeforeValidator(values.names), Takes("texts separated by commas")
    ] = ()
    """Only agents whose routing profile's name contains one of these, in any case. Without: all.

    A text with a comma in it can stand in RULES only.
    """

    if_current_agent_state: Annotated[
        tuple[str, ...],
        BeforeValidator(values.names),
        Takes("agent statuses' names or ids separated by commas"),
    ] = ()
    """Only agents who are in one of these statuses (name or id) when the timer ends. Without: all.

    It is the status that Connect shows then. An agent whom Connect does not show is in none.
    """

    initial_agent_state: Annotated[
        str, BeforeValidator(values.initial), Takes("an agent status's name or id, previous or none")
    ] = "Available"
    """Status on return of an agent whom the watchdog had set: name or id, previous (what it was), or none.

    Given on a new, visible page load whose Connect session is up only, within RETURN_WINDOW, and while the status is
    still the one that the watchdog set. [The return](return.md)
    """

    return_window: Annotated[float, Ge(0), Le(86_400), Takes("seconds")] = 900
    """Seconds after a change in which a return brings INITIAL_AGENT_STATE, or shows a mistake of ours, which is undone.

    With 0 nothing is set on return, and nothing undone but what an operator orders. Later than that, whoever is back
    has long seen their status.
    """

    on_contact: Annotated[OnContact, BeforeValidator(values.lower), Takes("next_status, wait or skip")] = (
        OnContact.NEXT_STATUS
    )
    """What is done about an agent on a contact: next_status, wait (until it has ended) or skip.

    next_status sets the target at once, and Connect applies it when the contact has ended. A contact that only rings
    is not waited for, nor does it spare the agent.
    """

    dismiss_contacts: Annotated[bool, Takes("true or false")] = True
    """Clear missed, ended, rejected and failed contacts that hold the agent busy."""

    reason_codes: Annotated[
        Mapping[str, str],
        BeforeValidator(ruleset.reason_codes),
        Takes("a JSON object of reason codes, each with an agent status's name or id"),
    ] = {}
    """JSON object: reason code of an explicit logout → status name or id. A code that is not in it is refused."""

    rules: Annotated[tuple[Rule, ...], Takes("a JSON list of rules")] = ()
    """JSON list of rules; the first that matches an agent applies, and the plain variables are the last one.

    Each has a `name`; the filters `if_profile_name_includes` and `if_current_agent_state`, lists of texts; and any of
    `session_end_timer`, `status` (null: of type OFFLINE), `on_contact`, `initial_agent_state`, `dismiss_contacts`, and
    in place of the first two `stages`, a list of `{"after": seconds, "status": …}`. What a rule leaves out it takes
    from the plain variables, but for the filters: a rule without filters is for everybody. [How rules work](policy.md)
    """

    witness: Annotated[bool, Takes("true or false")] = True
    """Activity in Connect that is newer than the last heartbeat counts as a heartbeat at that time.

    Taking a contact, or a status that the watchdog did not set. Off for those who want heartbeats and nothing else.
    """

    reconcile: Annotated[
        Literal["off", "report", "act"], BeforeValidator(values.lower), Takes("off, report or act")
    ] = "report"
    """What is done about agents who can get contacts in Connect and of whom no heartbeat is heard.

    Report tells of each once; act treats them as if they had been heard for the last time at that moment.
    """

    dry_run: Annotated[bool, Takes("true or false")] = False
    """Decide and record everything, write nothing to Connect."""

    brake_fraction: Annotated[float, Gt(0), Le(1), Takes("a share")] = 0.3
    """Share of the agents that must fall silent within a minute, or within ten, for the brake to hold them.

    Shifts end with byes, which do not count; 0.3 is more than crash on a bad day, and less than a site.
    """

    brake_min_agents: Annotated[int, Ge(2), Le(1_000_000), Takes("agents, a whole number")] = 5
    """Least number of agents that must fall silent for the brake to hold them; all of 2 or more are held for 120 s.

    With 1, every crash in a small team would be held.
    """

    brake_max_hold: Annotated[float, Ge(60), Le(86_400), Takes("seconds")] = 900
    """Seconds for which the brake holds an agent at most; four times that while nothing proves that we can be reached.

    Below 60 nobody could be held until the path is proven, which takes a minute.
    """

    resume_grace: Annotated[float, Ge(0), Le(3600), Takes("seconds")] = 30
    """Seconds that the clock stands still, at most, after time in which no heartbeat could have been heard."""

    connect_rate: Annotated[float, Ge(0.01), Le(1000), Takes("calls a second")] = 2
    """Quota of the account and region: calls a second of each API of Connect.

    AWS's default is 2. An account whose quota was raised says so here.
    """

    connect_burst: Annotated[int, Ge(1), Le(10_000), Takes("calls, a whole number")] = 5
    """Quota of the account and region: calls at once of each API of Connect."""

    connect_share: Annotated[float, Gt(0), Le(1), Takes("a share")] = 0.8
    """Share of that quota which the daemon takes; the rest is for everything else in the account."""

    store: Annotated[
        str,
        BeforeValidator(values.store),
        Field(repr=False),
        Takes(
            "sqlite:///relative/path.db, sqlite:////absolute/path.db, or valkey://[[user]:password@]host[:port][/database]"
            "; valkeys:// is TLS, valkey+cluster:// a cluster; redis in place of valkey is the same",
            file=True,
        ),
    ] = "sqlite:///watchdog.db"
    """Where the facts are kept: a file of SQLite, relative to the working directory or absolute; or a Valkey server.

    One daemon at a time may use a file; several share a server. That is Valkey 7.2, Redis 7.0 or newer; of a cluster
    any node is named. `?ca=` names a file with the certificates of those who may sign a server's, in place of the
    system's.
    """

    shards: Annotated[int, Ge(1), Le(1024), Takes("a number of parts")] = 16
    """Valkey: in how many parts the agents are kept; fixed for a deployment."""

    host: Annotated[str, BeforeValidator(values.host), Takes("an IP address or a host name")] = "127.0.0.1"
    """Address to listen on."""

    port: Annotated[int, BeforeValidator(values.port), Ge(0), Le(65_535), Takes("a TCP port")] = 8080
    """TCP port to listen on; 0 = any free one."""

    allowed_origins: Annotated[
        tuple[str, ...], BeforeValidator(values.origins), Takes("origins like https://host separated by commas")
    ] = ()
    """Origins of the pages that may read what is answered to their heartbeats; the browser client needs it.

    Exact, as browsers name them: scheme, host, and a port that is not the scheme's own. Pages of the daemon's own
    origin need none.
    """

    tls_cert: Annotated[Path | None, BeforeValidator(values.path), Takes("the path of a file in PEM")] = None
    """File with the certificate that HTTPS is served with, and the chain behind it; without one: HTTP.

    It is read again when it or TLS_KEY changes; a pair that does not go together is told, and the one before is served
    on.
    """

    tls_key: Annotated[Path | None, BeforeValidator(values.path), Takes("the path of a file in PEM")] = None
    """File with the key of TLS_CERT, without a passphrase."""

    trusted_proxies: Annotated[
        tuple[str, ...], BeforeValidator(values.networks), Takes("networks or IP addresses separated by commas")
    ] = ()
    """Networks of the proxies that are believed when they say in X-Forwarded-For whom a request is from.

    Limits count by address: without it a proxy is one client, with it each of those behind it is. Whatever anybody else
    says in that header is not looked at.
    """

    fast_lane: Annotated[bool, Takes("true or false")] = True
    """Answer heartbeats by POST in the connection itself.

    False sends them through ASGI like everything else: the same answers, at half the speed. For the case that
    something is wrong with the fast lane.
    """

    max_agents: Annotated[int, Ge(1), Le(10_000_000), Takes("agents, a whole number")] = 100_000
    """Agents that may be known in all; heartbeats of further ones are refused, those of known ones never.

    A bound on memory: whoever has a heartbeat token can make agents up. An agent takes 0.7 KB. Several daemons over
    one server count all of their agents together.
    """

    auth: Annotated[
        Literal["token", "jwt", "none"], BeforeValidator(values.lower), Takes("token, jwt, or none (loopback only)")
    ] = "token"
    """How clients prove who they are: a shared token, a JWT of each agent, or not at all (loopback only).

    With jwt, JWKS, JWT_ISSUER and JWT_AUDIENCE are needed, and HEARTBEAT_TOKENS are not looked at: who has one of those
    speaks for every agent. ADMIN_TOKENS count in any case. [Authentication](authentication.md)
    """

    heartbeat_tokens: Annotated[
        tuple[SecretStr, ...], BeforeValidator(values.secrets), Takes("tokens separated by commas", secret=True)
    ] = ()
    """Bearer tokens with which heartbeats are accepted; several, so that they can be rotated."""

    admin_tokens: Annotated[
        tuple[SecretStr, ...], BeforeValidator(values.secrets), Takes("tokens separated by commas", secret=True)
    ] = ()
    """Bearer tokens of the admin interface. Without one it is closed, or with AUTH=none open.

    With AUTH=jwt a JWT with the scope `watchdog:admin` opens it as well.
    """

    ticket_secrets: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(values.signing_secrets),
        Takes("secrets of at least 16 characters separated by commas", secret=True),
    ] = ()
    """Secrets of session tickets: the first signs, all verify. Without one: random, kept in the store.

    A ticket lets its holder try secrets at home, at any speed, so a short one is no secret.
    """

    jwks: Annotated[
        str | None, BeforeValidator(values.jwks), Takes("an https URL (http on loopback only), or the path of a file")
    ] = None
    """Keys that sign JWTs, as a JWK set: the identity provider's URL, or a file. Needed with AUTH=jwt.

    Looked at every 5 minutes, and when a token names an unknown key, at most every 30 s. While it cannot be had, the
    last keys stay in force. Redirects are not followed.
    """

    jwt_issuer: Annotated[str | None, BeforeValidator(values.claim), Takes("a text")] = None
    """Issuer of the JWTs, exactly as their `iss` has it. Needed with AUTH=jwt."""

    jwt_audience: Annotated[tuple[str, ...], BeforeValidator(values.claims), Takes("texts separated by commas")] = ()
    """Audiences, one of which must be in the `aud` of a JWT. Needed with AUTH=jwt.

    Without it, tokens that the provider gives out for quite another application would open this one.
    """

    jwt_agent_claim: Annotated[str, BeforeValidator(values.claim), Takes("a claim's name")] = "sub"
    """Claim of a JWT that holds the agent's Connect user id or ARN. A JWT speaks for this agent alone."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(values.lower),
        Takes("debug, info, warning or error"),
    ] = "info"
    """Least level of what is logged."""

    log_format: Annotated[Literal["json", "console"], BeforeValidator(values.lower), Takes("json or console")] = "json"
    """Form of the log: JSON lines, or console for people."""

    canary_url: Annotated[str | None, BeforeValidator(values.base_url), Takes("an http or https URL")] = None
    """The daemon's own public address, without /v1/heartbeat: while it cannot be reached through it, the clock stands.

    The daemon posts a signed heartbeat of nobody there, every 5 s or less, and without a proxy. Unless at least half
    of the heartbeats still come in, it waits for the way to be mended before anybody counts as gone.
    """

    notify_urls: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(values.receivers),
        Takes("http or https URLs separated by commas, 10 at most", secret=True),
    ] = ()
    """URLs that are posted each change, failure, change of the brake and problem, as signed CloudEvents.

    Each is repeated until it is taken, and one that fails holds up no other. A comma in a URL is written %2C. Many of
    them have a token in the path: they count as secrets. [Webhooks](webhooks.md)
    """

    notify_secret: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(values.notify_secrets),
        Takes("secrets separated by commas, each whsec_ and 24 to 64 bytes in base64", secret=True),
    ] = ()
    """Secret that signs what is posted to NOTIFY_URLS, needed with them; several sign all, so that they can be rotated.

    `echo "whsec_$(openssl rand -base64 32)"` makes one.
    """

    eventbridge_bus: Annotated[
        str | None, BeforeValidator(values.event_bus), Takes("an event bus's name or ARN, or to be unset")
    ] = None
    """Event bus of Amazon EventBridge on which the same events are put as are posted to NOTIFY_URLS.

    By name it is the process' own account's, in AWS_REGION; an ARN has both in it. Needs `events:PutEvents`.
    [EventBridge](webhooks.md#eventbridge)
    """

    deadman_url: Annotated[
        SecretStr | None, BeforeValidator(values.secret_url), Takes("an http or https URL", secret=True)
    ] = None
    """URL that is fetched every minute while all is well, so that silence raises an alarm elsewhere.

    Whoever knows it can keep that alarm quiet: it counts as a secret.
    """

    history_days: Annotated[int, Ge(1), Le(3650), Takes("days, a whole number")] = 30
    """Days for which decisions are kept."""

    _sources: Mapping[str, Source] = PrivateAttr(default_factory=dict)
    _region: str | None = PrivateAttr(default=None)
    _notify_socket: str | None = PrivateAttr(default=None)

    @classmethod
    def settings_customise_sources(  # the signature is pydantic's
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leaves keyword arguments as the only source; `load` fills them from an environment."""
        return (init_settings,)

    @field_validator("session_ttl", "throttled_session_ttl")
    @classmethod
    def _outlasts(cls, value: float, info: ValidationInfo) -> float:
        name, factor = ("heartbeat_interval", 3) if info.field_name == "session_ttl" else ("session_ttl", 1)
        least = info.data.get(name, 0) * factor
        if value < least * (1 - 1e-9):  # 3 × 1.1 is not quite 3.3
            times = f"{factor} × " if factor > 1 else ""
            raise ValueError(f"must be at least {times}{variable(name)} = {least:g}")
        return value

    @field_validator("rules", mode="before")
    @classmethod
    def _completed(cls, value: object, info: ValidationInfo) -> object:
        # A plain variable with a fault has its own line; its default stands in for it here.
        given = {name: info.data.get(name, cls.model_fields[name].default) for name in ruleset.PLAIN}
        return ruleset.read(value, ruleset.plain(given))

    @field_validator("tls_key")
    @classmethod
    def _pair(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_cert" in info.data and (value is None) != (info.data["tls_cert"] is None):
            raise ValueError(f"{variable('tls_cert')} and it go together: set both, or none")
        return value

    @field_validator("auth")
    @classmethod
    def _open_on_loopback_only(cls, value: str, info: ValidationInfo) -> str:
        address = info.data.get("host")
        if value == "none" and address is not None and not is_loopback(address):
            raise ValueError(
                f"anyone who reaches {variable('host')} = {address} could post heartbeats; "
                f"set {variable('host')}=127.0.0.1 or {variable('auth')}=token"
            )
        return value

    @field_validator("heartbeat_tokens")
    @classmethod
    def _token_needed(cls, value: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        if not value and info.data.get("auth") == "token":
            raise ValueError(f"{variable('auth')} is token, which needs at least one")
        return value

    @field_validator("admin_tokens")
    @classmethod
    def _token_for_one_purpose(cls, value: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        if set(value) & set(info.data.get("heartbeat_tokens", ())):
            raise ValueError(f"a token is in {variable('heartbeat_tokens')} too: every page would be an administrator")
        return value

    @field_validator("jwks", "jwt_issuer", "jwt_audience")
    @classmethod
    def _needed_for_jwt(cls, value: _Needed, info: ValidationInfo) -> _Needed:
        if not value and info.data.get("auth") == "jwt":
            raise ValueError(f"{variable('auth')} is jwt, which needs it")
        return value

    @field_validator("notify_secret")
    @classmethod
    def _secret_for_receivers(cls, value: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        if info.data.get("notify_urls") and not value:
            raise ValueError(f"{variable('notify_urls')} needs one: nobody could tell who posts to them")
        return value

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads and validates all settings.

        Args:
            environ: In place of the process's environment.

        Returns:
            Settings that are complete and go together.

        Raises:
            SettingsError: There are faults; it lists all of them.
        """
        fields = cls.model_fields
        variables = os.environ if environ is None else environ
        reading = read(variables, {n: _takes(f).secret or _takes(f).file for n, f in fields.items()})
        faults = list(reading.faults)
        try:
            settings = cls(**reading.values)  # type: ignore[arg-type]  # texts; the validators make values of them
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["loc"][0] not in reading.unread:
                    faults.extend(_lines(fields, reading, detail))
        if faults:
            raise SettingsError(faults)
        settings._sources = reading.sources
        settings._region = variables.get("AWS_REGION") or None
        settings._notify_socket = variables.get("NOTIFY_SOCKET") or None
        return settings

    def is_set(self, name: str) -> bool:
        """Whether somebody has given this setting a value."""
        return self._source(name) != "default"

    def _source(self, name: str) -> Source:
        return self._sources.get(name, "environment" if name in self.model_fields_set else "default")

    @property
    def store_address(self) -> Address | None:
        """The server of the store; None when it is a file."""
        return None if self.store.startswith("sqlite:") else address(self.store)

    @property
    def store_path(self) -> Path:
        """The file of the SQLite store; relative to the working directory unless it is absolute."""
        return Path(self.store.removeprefix("sqlite:///"))

    @property
    def url(self) -> str:
        """Where a command on the same machine finds the daemon; of no use with port 0."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # these are no places to go
        scheme = "http" if self.tls_cert is None else "https"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    @property
    def rules_in_force(self) -> tuple[Rule, ...]:
        """RULES in their order and the plain variables as the last, `default`; at least one.

        `default` is left out if it has no filter and can never apply, since a rule before it is for everybody.
        """
        default = ruleset.plain({name: getattr(self, name) for name in ruleset.PLAIN})
        return ruleset.in_force(self.rules, default)

    @property
    def region(self) -> str | None:
        """AWS_REGION, for instances that name none; None leaves it to botocore, which reads AWS_DEFAULT_REGION only."""
        return self._region

    @property
    def notify_socket(self) -> str | None:
        """NOTIFY_SOCKET, where systemd wants to hear from services with `Type=notify`; None without it."""
        return self._notify_socket

    def describe(self) -> tuple[Row, ...]:
        """Lists every setting in the order of this class, with secrets masked."""
        return tuple(
            Row(
                variable=variable(name),
                value=shown(getattr(self, name)),
                default=None if field.is_required() else shown(field.default),
                source=self._source(name),
                meaning=" ".join((field.description or "").partition("\n\n")[0].split()),
            )
            for name, field in type(self).model_fields.items()
        )


def admin_token(file: Path | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """The token for the admin interface of a running daemon, for commands that need no other setting.

    Args:
        file: Holds it, in place of the environment.
        environ: In place of the process's environment.

    Returns:
        The first of ADMIN_TOKENS; None when none is set.

    Raises:
        SettingsError: It cannot be read, or is none.
    """
    name = variable("admin_tokens")
    variables = {name + FILE_SUFFIX: str(file)} if file is not None else os.environ if environ is None else environ
    mine = {each: value for each, value in variables.items() if each.removesuffix(FILE_SUFFIX) == name}
    reading = read(mine, {"admin_tokens": True})
    if reading.faults:
        # What an option has given is told by its name.
        by_option = [each.replace(name + FILE_SUFFIX, "--token-file") for each in reading.faults]
        raise SettingsError(reading.faults if file is None else by_option)
    if "admin_tokens" not in reading.values:
        return None
    try:
        tokens = values.secrets(reading.values["admin_tokens"])
    except ValueError as error:
        raise SettingsError([f"{name if file is None else '--token-file'}: got ***; {error}"]) from None
    return str(tokens[0].get_secret_value()) if isinstance(tokens, list) else None


def daemon_url(environ: Mapping[str, str] | None = None) -> tuple[str, tuple[str, ...]]:
    """Where a daemon with this environment listens, for commands on its machine that need no other setting.

    Args:
        environ: In place of the process's environment.

    Returns:
        The URL, and the variables that it comes from; none if it is the default.

    Raises:
        SettingsError: HOST or PORT is wrong, or PORT leaves it to the system which one it is.
    """
    variables = os.environ if environ is None else environ
    # Stand-ins for what a daemon cannot do without.
    mine = {variable("instances"): "any", variable("heartbeat_tokens"): "any"}
    names = [variable(each) for each in ("host", "port", "tls_cert", "tls_key") if variable(each) in variables]
    found = Settings.load(mine | {name: variables[name] for name in names})
    if found.port == 0:
        raise SettingsError([f"{variable('port')}: got 0, any free one, which only the daemon knows: give --url"])
    return found.url, tuple(name for name in names if name != variable("tls_key"))


def shards_here(environ: Mapping[str, str] | None = None) -> int:
    """In how many parts a daemon with this environment keeps its agents on a server.

    Args:
        environ: In place of the process's environment.

    Raises:
        SettingsError: SHARDS is wrong.
    """
    variables = os.environ if environ is None else environ
    # Stand-ins for what a daemon cannot do without.
    mine = {variable("instances"): "any", variable("heartbeat_tokens"): "any"}
    name = variable("shards")
    return Settings.load(mine | ({name: variables[name]} if name in variables else {})).shards


def _takes(field: FieldInfo) -> Takes:
    """Finds the `Takes` of a field."""
    return next(mark for mark in field.metadata if isinstance(mark, Takes))


def _takes_in_words(field: FieldInfo) -> str:
    """Says what a field takes, with its range: `seconds from 0.3 to 86400`."""
    words = [_takes(field).text]
    for mark in field.metadata:
        match mark:
            case Ge(ge=low):
                words.append(f"from {low}")
            case Gt(gt=low):
                words.append(f"above {low}")
            case Le(le=high):
                words.append(f"to {high}")
            case _:
                pass
    return " ".join(words)


def _lines(fields: Mapping[str, FieldInfo], reading: Reading, detail: ErrorDetails) -> Iterator[str]:
    """Yields one line for each fault in what pydantic found wrong with a field."""
    name = str(detail["loc"][0])
    field = fields[name]
    got: Any = reading.values.get(name)
    if got is None:
        default = None if field.is_required() or _takes(field).secret else shown(field.default)
        got = "nothing" if default is None else f"{default} (its default)"
    else:
        # What comes from a file is a secret, whatever it is.
        hidden = _takes(field).secret or reading.sources[name] == "file"
        got = "***" if hidden else quoted(got)
    reasons = str(detail["ctx"]["error"]).split("\n") if detail["type"] == "value_error" else [""]
    for reason in reasons:
        yield "; ".join(filter(None, [f"{variable(name)}: got {got}", reason, f"takes {_takes_in_words(field)}"]))
