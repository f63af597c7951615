"""From the text of one environment variable to its value, and back to what people may see.

Each function takes whatever pydantic hands it, leaves what is not a text for pydantic to judge, and raises
`ValueError` with the reason: one line for each fault, no secret. Ranges and defaults are in `settings.py`.
"""

import base64
import ipaddress
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, StringConstraints, ValidationError

from watchdog import ruleset
from watchdog.core import addresses
from watchdog.core.addresses import is_address, is_barred
from watchdog.core.policy import Rule
from watchdog.stores.address import SCHEMES, address

MAX_RECEIVERS = 10
"""URLs that are notified at most: each has a task and a connection of its own."""

NOTIFY_SECRET_BYTES = range(24, 65)
"""Source: Standard Webhooks, "Signature scheme"."""

SIGNING_SECRET_LENGTH = 16
"""Characters of a signing secret at least: 80 bits even if it is written in base 32."""

_T = TypeVar("_T")
_R = TypeVar("_R")

_INSTANCE_ID = re.compile(r"[A-Za-z0-9-]{1,100}")
_INSTANCE_ARN = re.compile(r"arn:[^:]*:connect:[^:]*:[^:]*:instance/([A-Za-z0-9-]{1,100})(?:/.*)?")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+){1,3}-\d{1,2}")
_EVENT_BUS = re.compile(
    r"(?:arn:aws[a-z-]*:events:[a-z]{2}(?:-[a-z]+){1,3}-\d{1,2}:\d{12}:event-bus/)?[A-Za-z0-9._-]{1,256}"
)
_HOST_NAME = re.compile(r"(?=.{1,253}$)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]*)")
_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://\S+:\d+")


def _instance_id(value: str) -> str:
    """Accepts an instance's id, and tells the id to whom gives its ARN."""
    if arn := _INSTANCE_ARN.fullmatch(value):
        raise ValueError(f'this is an ARN; give the id after "instance/": {arn[1]}')
    if not _INSTANCE_ID.fullmatch(value):
        raise ValueError("an instance id has 1 to 100 letters, digits and hyphens")
    return value


def _matches(pattern: re.Pattern[str], otherwise: str) -> AfterValidator:
    """Makes a validator that accepts what the pattern matches in full."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(otherwise)
        return value

    return AfterValidator(check)


class Instance(BaseModel):
    """A Connect instance, and how its account is reached. Immutable.

    Attributes:
        instance_id: Its id: what follows `instance/` in its ARN.
        region: Its AWS region; None = the one that botocore finds.
        role_arn: IAM role to assume for it; None = the process's own credentials.
        external_id: External id for assuming that role; None = without one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    instance_id: Annotated[str, AfterValidator(_instance_id)]
    region: Annotated[str, _matches(_REGION, "a region looks like us-east-1")] | None = None
    role_arn: (
        Annotated[str, _matches(_ROLE_ARN, "a role's ARN looks like arn:aws:iam::123456789012:role/name")] | None
    ) = None
    external_id: Annotated[str, StringConstraints(min_length=2, max_length=1224)] | None = None


def instances(value: object) -> object:
    """Reads ids separated by commas, or a JSON list of objects."""
    if not isinstance(value, str):
        return _distinct(value)
    if value.startswith(("[", "{")):
        try:
            entries = json.loads(value)
        except ValueError as error:
            raise ValueError(f"this is not JSON ({error})") from None
        if not entries or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("this is not a list of one or more objects")
    else:
        entries = [{"instance_id": entry} for entry in _split(value, ",")]
    return _distinct(_each(_instance, entries))


def _instance(entry: dict[str, object]) -> Instance:
    """Reads one instance; all its faults are in the text of the error, a line each."""
    try:
        instance = Instance.model_validate(entry)
    except ValidationError as error:
        words = {"missing": "is missing", "extra_forbidden": "is not known here"}
        faults = [
            f"{detail['loc'][0]}: {words.get(detail['type'], detail['msg'].removeprefix('Value error, '))}"
            for detail in error.errors(include_url=False)
        ]
        raise ValueError("\n".join(faults)) from None
    if instance.external_id and not instance.role_arn:
        raise ValueError("external_id: is of use only together with role_arn")
    return instance


def _distinct(value: object) -> object:
    """Refuses a sequence in which an instance occurs twice, or none at all."""
    if not isinstance(value, (list, tuple)):
        return value
    ids = [entry.instance_id for entry in value if isinstance(entry, Instance)]
    twice = [instance_id for instance_id in dict.fromkeys(ids) if ids.count(instance_id) > 1]
    if twice:
        raise ValueError("\n".join(f"{instance_id} is there {ids.count(instance_id)} times" for instance_id in twice))
    if not value:
        raise ValueError("there is none")
    return value


def _split(text: str, separators: str) -> list[str]:
    """Splits a list; entries lose the white space around them, and no entry is empty."""
    entries = [entry.strip() for entry in re.split(f"[{separators}]", text)]
    if entries == [""]:
        raise ValueError("it is empty; unset it for the default")
    empty = [f"entry {number} is empty" for number, entry in enumerate(entries, 1) if not entry]
    if empty:
        raise ValueError("\n".join(empty))
    return entries


def _each(function: Callable[[_T], _R], entries: list[_T]) -> list[_R]:
    """Applies a function to each entry and raises all faults together, each with its entry's number."""
    results: list[_R] = []
    faults: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            results.append(function(entry))
        except ValueError as error:
            faults.extend(f"entry {number}: {fault}" for fault in str(error).split("\n"))
    if faults:
        raise ValueError("\n".join(faults))
    return results


def status(value: object) -> object:
    """Reads an agent status's name or id, or the word for signing out."""
    if not isinstance(value, str):
        return value
    if not value:
        raise ValueError("it is empty; unset it for the status of type OFFLINE")
    return ruleset.status(_unquoted(value))


def initial(value: object) -> object:
    """Reads what an agent is set to on return."""
    return ruleset.initial(_unquoted(value) if isinstance(value, str) and value else value)


def names(value: object) -> object:
    """Reads the entries of a filter separated by commas."""
    if not isinstance(value, str):
        return ruleset.entries(value) if isinstance(value, (list, tuple)) else value
    if re.fullmatch(r"""[\[{]\s*".*""", value, re.DOTALL):
        raise ValueError("this is JSON; it takes the texts themselves, separated by commas")
    return ruleset.entries(_each(_unquoted, _split(value, ",")))


def _unquoted(text: str) -> str:
    """Refuses what a shell or a template has left in quotation marks: no name would ever match."""
    if text[0] == text[-1] and text[0] in "\"'" and len(text) > 1:
        raise ValueError("it is in quotation marks")
    return text


def store(value: object) -> object:
    """Reads the URL of the store: SQLite, a file; or a server."""
    if not isinstance(value, str):
        return value
    if value.partition("://")[0] in SCHEMES:
        address(value)
        return value
    path = value.removeprefix("sqlite:///")
    if path == value:
        raise ValueError("this is no URL of a SQLite file (three slashes before a relative path, four before absolute)")
    if path in {"", "/", ":memory:"} or path.endswith("/") or "\0" in path:
        raise ValueError("this names no file")
    if "?" in path or "#" in path:
        raise ValueError("options are not taken")
    return value


def host(value: object) -> object:
    """Reads an address to listen on."""
    if isinstance(value, str) and not is_address(value) and not _HOST_NAME.fullmatch(value):
        raise ValueError("this is neither (no scheme, no port, no brackets)")
    return value


def is_loopback(address: str) -> bool:
    """Tells whether only this machine can reach an address: 127.0.0.0/8, ::1 or localhost."""
    return addresses.is_loopback(address) or address.lower() == "localhost"


def port(value: object) -> object:
    """Reads a TCP port; names the cause when it is Kubernetes that has set the variable."""
    if isinstance(value, str) and _SERVICE_LINK.fullmatch(value):
        raise ValueError(
            "Kubernetes sets this for a Service named watchdog: set enableServiceLinks: false in the pod, "
            "or the variable itself"
        )
    return value


def lower(value: object) -> object:
    """Reads a word in any case."""
    return value.lower() if isinstance(value, str) else value


_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """Reads a length of time as people write it: `90`, `90s`, `10m`, `1.5h`, `1d`.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise ValueError("takes a number of seconds, or one with a unit: 90s, 10m, 2h")
    return float(found[1]) * _UNITS_S[found[2]]


def ago(text: str, now: Callable[[], float] = time.time) -> str:
    """An instant as the API takes it: a length of time with a unit, such as `15m`, is so long before now."""
    if text[-1:] not in {unit for unit in _UNITS_S if unit}:
        return text
    try:
        return f"{now() - seconds(text):.3f}"
    except ValueError:
        return text


def secrets(value: object) -> object:
    """Reads secrets separated by commas or line ends; each can stand in an HTTP header."""
    return _each(_secret, _split(value, ",\n")) if isinstance(value, str) else value


def signing_secrets(value: object) -> object:
    """Reads secrets that sign, which must be hard to guess."""
    return _each(_signing_secret, _split(value, ",\n")) if isinstance(value, str) else value


def _secret(text: str) -> SecretStr:
    """Accepts a text of visible ASCII characters."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("it has a blank or a character that is not ASCII")
    return SecretStr(text)


def _signing_secret(text: str) -> SecretStr:
    """Accepts a secret that is long enough."""
    if len(text) < SIGNING_SECRET_LENGTH:
        raise ValueError(f"it has less than {SIGNING_SECRET_LENGTH} characters")
    return _secret(text)


def _http(text: str) -> SplitResult:
    """The parts of an http or https URL. Raises `ValueError` for what is none."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("it is not one")
    return parts


def base_url(value: object) -> object:
    """Reads the http or https URL under which this daemon is reached; a path is where it is mounted."""
    if not isinstance(value, str):
        return value
    parts = _http(value)
    if parts.username is not None or parts.password is not None or "?" in value or "#" in value:
        raise ValueError("no user, no query and no fragment are taken")
    if parts.path.rstrip("/").endswith("/v1/heartbeat"):
        raise ValueError("give the address without /v1/heartbeat")
    host = parts.hostname or ""
    if is_barred(host):
        raise ValueError("link-local and metadata addresses are never called")
    return value


def networks(value: object) -> object:
    """Reads networks and addresses separated by commas."""
    return _each(_network, _split(value, ",")) if isinstance(value, str) else value


def _network(text: str) -> str:
    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        try:
            found = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError("it is none") from None
        raise ValueError(f"it has bits behind the mask; the network is {found}") from None
    if found.prefixlen == 0:
        raise ValueError("everybody would be believed")
    return str(found)


def path(value: object) -> object:
    """Reads the path of a file."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value or "-----BEGIN" in value:
        raise ValueError("give the path of a file in PEM")
    return Path(value)


def origins(value: object) -> object:
    """Reads origins separated by commas, as browsers write them."""
    return _each(_origin, _split(value, ",")) if isinstance(value, str) else value


def _origin(text: str) -> str:
    if text == "*":
        raise ValueError("* is not taken: any page could then read what is answered")
    parts = _http(text)
    found = f"{parts.scheme}://{parts.netloc}".lower()
    if parts.username is not None or text.lower() not in (found, f"{found}/"):
        raise ValueError("an origin is scheme, host and port only")
    if parts.port == {"http": 80, "https": 443}[parts.scheme]:
        raise ValueError("browsers leave out the port that is the scheme's own")
    return found


def jwks(value: object) -> object:
    """Reads where an identity provider's keys are: an https URL, or a file."""
    if not isinstance(value, str):
        return value
    if "://" not in value:
        if not value or "\0" in value or re.match(r"[^@]*:.*@", value):
            raise ValueError("this names no file")
        return value
    parts = _http(value)
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None or "#" in value:
        raise ValueError("no user and no fragment are taken")
    if parts.scheme != "https" and not is_loopback(host):
        raise ValueError("over http anyone on the way could put keys of their own in its place")
    if is_barred(host):
        raise ValueError("link-local and metadata addresses are never called")
    return value


def claim(value: object) -> object:
    """Reads what a claim says, or its name: any text that is one line."""
    if isinstance(value, str) and not re.fullmatch(r"[^\x00-\x1f\x7f]+", value):
        raise ValueError("it is empty, or not one line")
    return value


def claims(value: object) -> object:
    """Reads several of them separated by commas."""
    return _each(claim, [*_split(value, ",")]) if isinstance(value, str) else value


def secret_url(value: object) -> object:
    """Reads an http or https URL that counts as a secret."""
    if not isinstance(value, str):
        return value
    return SecretStr(_receiver(value))


def receivers(value: object) -> object:
    """Reads http or https URLs separated by commas or line ends; each counts as a secret."""
    if not isinstance(value, str):
        return value
    urls = _each(_receiver, _split(value, ",\n"))
    if len(set(urls)) < len(urls):
        raise ValueError("a URL is in it twice")
    if len(urls) > MAX_RECEIVERS:
        raise ValueError(f"it has more than {MAX_RECEIVERS} URLs")
    return [SecretStr(url) for url in urls]


def _receiver(text: str) -> str:
    host = _http(text).hostname or ""
    if is_barred(host):
        raise ValueError("link-local and metadata addresses are never called")
    return text


def event_bus(value: object) -> object:
    """Reads the name or the ARN of an event bus; a partner's takes no events of others."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("aws.partner/") or "/aws.partner/" in text:
        raise ValueError("a partner's event bus takes events of that partner only")
    if not _EVENT_BUS.fullmatch(text):
        raise ValueError("it is neither a name like default nor arn:aws:events:REGION:ACCOUNT:event-bus/NAME")
    return text


def notify_secrets(value: object) -> object:
    """Reads secrets of webhooks separated by commas or line ends."""
    return _each(_notify_secret, _split(value, ",\n")) if isinstance(value, str) else value


def _notify_secret(text: str) -> SecretStr:
    """Accepts `whsec_` and base64, as libraries that verify take it."""
    head, _, encoded = text.partition("_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        key = b""
    if head != "whsec" or len(key) not in NOTIFY_SECRET_BYTES:
        raise ValueError('it is none; make one with: echo "whsec_$(openssl rand -base64 32)"')
    return SecretStr(text)


def shown(value: object) -> str | None:
    """Gives a value as people may see it: secrets as `***` and, in a list, their number.

    Returns:
        One line; None for no value, and for an empty list or mapping.
    """
    match value:
        case None | ():
            return None
        case SecretStr():
            return "***"
        case [SecretStr(), *_]:
            return f"*** ({len(value)})"
        case [Rule(), *_]:
            rules = [ruleset.as_json(each) for each in value if isinstance(each, Rule)]
            return json.dumps(rules, ensure_ascii=False)
        case [str(), *_]:
            return ",".join(str(each) for each in value)
        case dict():
            return json.dumps(value, ensure_ascii=False) if value else None
        case [Instance(), *_]:
            entries = [entry.model_dump(exclude_none=True) for entry in value if isinstance(entry, Instance)]
            if all(entry.keys() == {"instance_id"} for entry in entries):
                return ",".join(entry["instance_id"] for entry in entries)
            return json.dumps(entries)
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case str():
            # A URL may have a password in it.
            return re.sub(r"://[^/]*@", "://***@", value)
        case _:
            return str(value)
