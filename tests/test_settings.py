"""Settings from an environment: what is taken, what is refused, and that all faults are told at once."""

import ast
import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

import watchdog
from watchdog.errors import SettingsError
from watchdog.settings import Instance, Settings, admin_token, daemon_url
from watchdog.stores.address import Address

TOKEN = "kept-out-of-every-output"
NOTIFY_SECRET = f"whsec_{'A' * 32}"
GOOD = {"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_HEARTBEAT_TOKENS": TOKEN}


def load(**changes: str) -> Settings:
    return Settings.load(GOOD | {f"WATCHDOG_{name}": value for name, value in changes.items()})


def faults(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ)
    return caught.value.faults


def fault(**changes: str) -> str:
    """The only fault there is with these changes."""
    (line,) = faults(GOOD | {f"WATCHDOG_{name}": value for name, value in changes.items()})
    return line


def reveal(secrets: tuple[SecretStr, ...]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def test_two_variables_are_enough_and_the_defaults_are_the_documented_ones():
    settings = load()
    assert settings.instances == (Instance(instance_id="i-1"),)
    assert reveal(settings.heartbeat_tokens) == [TOKEN]
    assert settings.model_dump(exclude={"instances", "heartbeat_tokens"}) == {
        "status": None,
        "session_end_timer": 5,
        "heartbeat_interval": 10,
        "session_ttl": 35,
        "throttled_session_ttl": 150,
        "tether_ttl": 10,
        "max_page_lag": 120,
        "if_profile_name_includes": (),
        "if_current_agent_state": (),
        "initial_agent_state": "Available",
        "on_contact": "next_status",
        "dismiss_contacts": True,
        "reason_codes": {},
        "rules": (),
        "witness": True,
        "reconcile": "report",
        "dry_run": False,
        "brake_fraction": 0.3,
        "brake_min_agents": 5,
        "brake_max_hold": 900,
        "resume_grace": 30,
        "connect_rate": 2,
        "connect_burst": 5,
        "connect_share": 0.8,
        "store": "sqlite:///watchdog.db",
        "shards": 16,
        "return_window": 900,
        "host": "127.0.0.1",
        "port": 8080,
        "auth": "token",
        "admin_tokens": (),
        "ticket_secrets": (),
        "jwks": None,
        "jwt_issuer": None,
        "jwt_audience": (),
        "jwt_agent_claim": "sub",
        "log_level": "info",
        "log_format": "json",
        "allowed_origins": (),
        "tls_cert": None,
        "tls_key": None,
        "trusted_proxies": (),
        "max_agents": 100_000,
        "fast_lane": True,
        "canary_url": None,
        "notify_urls": (),
        "notify_secret": (),
        "eventbridge_bus": None,
        "deadman_url": None,
        "history_days": 30,
    }


def test_jwt_needs_three_more_variables_and_says_so_at_once():
    lines = faults({"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_AUTH": "jwt"})
    assert [line.split(";")[0] for line in lines] == [
        "WATCHDOG_JWKS: got nothing",
        "WATCHDOG_JWT_ISSUER: got nothing",
        "WATCHDOG_JWT_AUDIENCE: got nothing",
    ]
    assert all("WATCHDOG_AUTH is jwt, which needs it" in line for line in lines)


@pytest.mark.parametrize("place", ["keys/jwks.json", "/etc/jwks.json", "http://127.0.0.1:9/keys", "http://localhost/"])
def test_keys_come_from_a_file_or_from_this_machine_too(place):
    assert load(JWKS=place).jwks == place


def test_every_variable_is_taken():
    settings = load(
        STATUS="Gone home",
        SESSION_END_TIMER="0.5",
        HEARTBEAT_INTERVAL="0.25",
        SESSION_TTL="0.75",
        THROTTLED_SESSION_TTL="1e1",
        TETHER_TTL="7",
        MAX_PAGE_LAG="60",
        IF_PROFILE_NAME_INCLUDES="Sales, Support",
        IF_CURRENT_AGENT_STATE="Available",
        INITIAL_AGENT_STATE="previous",
        ON_CONTACT="wait",
        DISMISS_CONTACTS="false",
        REASON_CODES='{"1": "Lunch"}',
        RULES='[{"name": "night", "if_profile_name_includes": ["Night"]}]',
        WITNESS="false",
        RECONCILE="ACT",
        DRY_RUN="true",
        BRAKE_FRACTION="1",
        BRAKE_MIN_AGENTS="2",
        BRAKE_MAX_HOLD="60",
        RETURN_WINDOW="0",
        RESUME_GRACE="0",
        CONNECT_RATE="10",
        CONNECT_BURST="20",
        CONNECT_SHARE="1",
        STORE="sqlite:////data/watchdog.db",
        SHARDS="4",
        HOST="0.0.0.0",
        PORT="0",
        AUTH="JWT",
        JWKS="https://id.example.com/keys?app=1",
        JWT_ISSUER="https://id.example.com/",
        JWT_AUDIENCE="watchdog, api://watchdog",
        JWT_AGENT_CLAIM="custom:agent",
        ADMIN_TOKENS=" one , two ",
        TICKET_SECRETS="0123456789abcdef,ABCDEFGHIJKLMNOPQ",
        LOG_LEVEL="DEBUG",
        LOG_FORMAT="console",
        ALLOWED_ORIGINS="https://CCP.example.com/, http://localhost:3000",
        TLS_CERT="/etc/tls/tls.crt",
        TLS_KEY="/etc/tls/tls.key",
        TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.1,fd00::/8",
        MAX_AGENTS="500",
        FAST_LANE="false",
        CANARY_URL="https://example.com/watchdog/",
        DEADMAN_URL="https://example.com/ping/1",
        NOTIFY_URLS="https://example.com/hook, http://127.0.0.1:1/hook?token=1",
        NOTIFY_SECRET=f"{NOTIFY_SECRET},whsec_{'B' * 32}",
        EVENTBRIDGE_BUS=" arn:aws-us-gov:events:us-gov-west-1:123456789012:event-bus/Presence_1.a-b ",
        HISTORY_DAYS="7",
    )
    assert settings.eventbridge_bus == "arn:aws-us-gov:events:us-gov-west-1:123456789012:event-bus/Presence_1.a-b"
    assert (settings.auth, settings.jwks, settings.jwt_issuer) == (
        "jwt",
        "https://id.example.com/keys?app=1",
        "https://id.example.com/",
    )
    assert (settings.jwt_audience, settings.jwt_agent_claim) == (("watchdog", "api://watchdog"), "custom:agent")
    assert (settings.status, settings.session_end_timer, settings.heartbeat_interval) == ("Gone home", 0.5, 0.25)
    assert (settings.session_ttl, settings.throttled_session_ttl, settings.max_page_lag) == (0.75, 10, 60)
    assert settings.tether_ttl == 7, "as long as it likes: above SESSION_TTL the end of a socket says nothing"
    assert (settings.if_profile_name_includes, settings.if_current_agent_state) == (
        ("Sales", "Support"),
        ("Available",),
    )
    assert (settings.initial_agent_state, settings.on_contact, settings.dismiss_contacts) == ("previous", "wait", False)
    assert (settings.reason_codes, [rule.name for rule in settings.rules]) == ({"1": "Lunch"}, ["night"])
    assert settings.reconcile == "act"
    assert settings.return_window == 0
    assert (settings.witness, settings.dry_run, settings.resume_grace) == (False, True, 0)
    assert (settings.brake_fraction, settings.brake_min_agents, settings.brake_max_hold) == (1, 2, 60)
    assert (settings.connect_rate, settings.connect_burst, settings.connect_share) == (10, 20, 1)
    assert (settings.store_path, settings.store_address, settings.shards) == (Path("/data/watchdog.db"), None, 4)
    assert (settings.host, settings.port, settings.auth) == ("0.0.0.0", 0, "jwt")
    assert reveal(settings.admin_tokens) == ["one", "two"]
    assert reveal(settings.ticket_secrets) == ["0123456789abcdef", "ABCDEFGHIJKLMNOPQ"]
    assert (settings.log_level, settings.log_format, settings.history_days) == ("debug", "console", 7)
    assert settings.allowed_origins == ("https://ccp.example.com", "http://localhost:3000")
    assert (settings.tls_cert, settings.tls_key) == (Path("/etc/tls/tls.crt"), Path("/etc/tls/tls.key"))
    assert settings.fast_lane is False
    assert (settings.trusted_proxies, settings.max_agents) == (("10.0.0.0/8", "192.0.2.1/32", "fd00::/8"), 500)
    assert settings.url == "https://127.0.0.1:0"
    assert settings.canary_url == "https://example.com/watchdog/"
    assert reveal(settings.notify_urls) == ["https://example.com/hook", "http://127.0.0.1:1/hook?token=1"]
    assert reveal(settings.notify_secret) == [NOTIFY_SECRET, f"whsec_{'B' * 32}"]
    assert settings.deadman_url is not None
    assert settings.deadman_url.get_secret_value() == "https://example.com/ping/1"
    assert {row.source for row in settings.describe()} == {"environment"}


def test_a_relative_store_is_relative_to_the_working_directory():
    assert load(STORE="sqlite:///var/w.db").store_path == Path("var/w.db")


def test_a_store_on_a_server_is_shown_without_its_password(tmp_path):
    settings = load(STORE="valkeys://me:secret@host:7000/1")
    assert settings.store_address == Address("host", 7000, 1, "me", "secret", tls=True)
    assert ":secret" not in repr(settings)
    assert "'secret'" not in repr(settings.store_address)
    assert {row.variable: row.value for row in settings.describe()}["WATCHDOG_STORE"] == "valkeys://***@host:7000/1"
    file = tmp_path / "store"
    file.write_text("redis://host")
    assert load(STORE_FILE=str(file)).store_address == Address("host")


def test_nothing_set_tells_of_both_variables_that_are_needed():
    first, second = faults({})
    assert first.startswith("WATCHDOG_INSTANCES: got nothing; takes instance ids separated by commas")
    assert second.startswith("WATCHDOG_HEARTBEAT_TOKENS: got nothing; WATCHDOG_AUTH is token, which needs at least one")


def test_all_faults_are_told_at_once_each_on_its_own_line():
    lines = faults(
        {
            "WATCHDOG_INSTANCES": "i-1,,i 2",
            "WATCHDOG_SESION_TTL": "40",
            "WATCHDOG_PORT": "65536",
            "WATCHDOG_HEARTBEAT_INTERVAL": "20",
            "WATCHDOG_ADMIN_TOKENS_FILE": "/does/not/exist",
            "WATCHDOG_AUTH": "none",
            "WATCHDOG_HOST": "::",
        }
    )
    assert [line.partition(":")[0] for line in lines] == [
        "WATCHDOG_SESION_TTL",
        "WATCHDOG_ADMIN_TOKENS_FILE",
        "WATCHDOG_INSTANCES",
        "WATCHDOG_SESSION_TTL",
        "WATCHDOG_PORT",
        "WATCHDOG_AUTH",
    ]
    assert not [line for line in lines if "\n" in line]


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("SESSION_END_TIMER", "-0.1", "seconds from 0 to 86400"),
        ("SESSION_END_TIMER", "86401", "seconds from 0 to 86400"),
        ("SESSION_END_TIMER", "nan", "seconds from 0 to 86400"),
        ("SESSION_END_TIMER", "soon", "seconds from 0 to 86400"),
        ("SESSION_END_TIMER", "", "seconds from 0 to 86400"),
        ("HEARTBEAT_INTERVAL", "0.09", "seconds from 0.1 to 300"),
        ("SESSION_TTL", "inf", "seconds from 0.3 to 86400"),
        ("THROTTLED_SESSION_TTL", "-inf", "seconds from 0.3 to 86400"),
        ("MAX_PAGE_LAG", "0", "seconds from 1 to 86400"),
        ("DRY_RUN", "maybe", "true or false"),
        ("RESUME_GRACE", "-1", "seconds from 0 to 3600"),
        ("CONNECT_RATE", "0", "calls a second from 0.01 to 1000"),
        ("CONNECT_BURST", "2.5", "calls, a whole number from 1 to 10000"),
        ("CONNECT_SHARE", "0", "a share above 0 to 1"),
        ("CONNECT_SHARE", "1.01", "a share above 0 to 1"),
        ("PORT", "-1", "a TCP port from 0 to 65535"),
        ("PORT", "http", "a TCP port from 0 to 65535"),
        ("AUTH", "basic", "token, jwt, or none (loopback only)"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("LOG_FORMAT", "xml", "json or console"),
        ("HISTORY_DAYS", "0", "days, a whole number from 1 to 3650"),
    ],
)
def test_a_bad_value_is_repeated_with_what_the_variable_takes(name, value, takes):
    assert fault(**{name: value}) == f'WATCHDOG_{name}: got "{value}"; takes {takes}'


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"STATUS": " "}, 'WATCHDOG_STATUS: got ""; it is empty; unset it for the status of type OFFLINE'),
        ({"STATUS": "x" * 128}, "it has more than 127 characters"),
        (
            {"STORE": "valkeys://:secret@h/x"},
            'got "valkeys://***@h/x"; behind its last slash is the number of a database',
        ),
        ({"STORE": "redis+cluster://h/1"}, "a cluster has database 0 only"),
        ({"STORE": "sqlite://w.db"}, "three slashes before a relative path"),
        ({"STORE": "w.db"}, "this is no URL of a SQLite file"),
        ({"STORE": "sqlite:///"}, "this names no file"),
        ({"STORE": "sqlite:///:memory:"}, "this names no file"),
        ({"STORE": "sqlite:////data/"}, "this names no file"),
        ({"STORE": "sqlite:///w.db?mode=ro"}, "options are not taken"),
        ({"HOST": "http://example.com"}, "no scheme, no port, no brackets"),
        ({"HOST": "[::1]"}, "no scheme, no port, no brackets"),
        ({"HOST": "127.0.0.256"}, "no scheme, no port, no brackets"),
        ({"JWKS": ""}, "this names no file"),
        ({"JWKS": "ftp://id.example.com/keys"}, "it is not one"),
        ({"JWKS": "http://id.example.com/keys"}, "over http anyone on the way"),
        ({"JWKS": "https://me:pw@id.example.com/keys"}, "no user and no fragment"),
        ({"JWKS": "https://id.example.com/keys#1"}, "no user and no fragment"),
        ({"JWKS": "https://169.254.169.254/latest"}, "link-local and metadata addresses are never called"),
        ({"JWKS": "https://[fd00:ec2::254]/latest"}, "link-local and metadata addresses are never called"),
        ({"JWKS": "https://[::ffff:169.254.169.254]/latest"}, "link-local and metadata addresses are never called"),
        ({"JWT_ISSUER": ""}, "it is empty, or not one line"),
        ({"JWT_AUDIENCE": "a,,b"}, "entry 2 is empty"),
        ({"JWT_AGENT_CLAIM": "a\nb"}, "it is empty, or not one line"),
        ({"PORT": "tcp://10.0.0.1:8080"}, "Kubernetes sets this for a Service named watchdog"),
        ({"DEADMAN_URL": "ftp://example.com"}, "got ***; it is not one; takes an http or https URL"),
        ({"DEADMAN_URL": "https://"}, "got ***; it is not one; takes an http or https URL"),
        ({"DEADMAN_URL": "https://example.com:port/"}, "got ***; it is not one; takes an http or https URL"),
        ({"DEADMAN_URL": "https://example.com/a b"}, "got ***; it is not one; takes an http or https URL"),
        ({"ALLOWED_ORIGINS": "*"}, "* is not taken: any page could then read what is answered"),
        ({"ALLOWED_ORIGINS": "example.com"}, "it is not one; takes origins like https://host separated by commas"),
        ({"ALLOWED_ORIGINS": "null"}, "it is not one; takes origins like https://host separated by commas"),
        ({"ALLOWED_ORIGINS": "https://a.example/ccp"}, "an origin is scheme, host and port only"),
        ({"ALLOWED_ORIGINS": "https://u@a.example"}, "an origin is scheme, host and port only"),
        ({"ALLOWED_ORIGINS": "https://a.example:443"}, "browsers leave out the port that is the scheme's own"),
        ({"NOTIFY_URLS": "https://example.com,ftp://x"}, "WATCHDOG_NOTIFY_URLS: got ***; entry 2: it is not one"),
        ({"NOTIFY_URLS": "https://x/1,https://x/1"}, "a URL is in it twice"),
        ({"EVENTBRIDGE_BUS": "a bus"}, "it is neither a name like default nor arn:aws:events:"),
        ({"EVENTBRIDGE_BUS": "arn:aws:events:us-east-1:123456789012:rule/x"}, "it is neither a name like default"),
        ({"EVENTBRIDGE_BUS": "arn:aws:events::123456789012:event-bus/x"}, "it is neither a name like default"),
        ({"EVENTBRIDGE_BUS": "aws.partner/example.com/x"}, "a partner's event bus takes events of that partner only"),
        ({"NOTIFY_URLS": ",".join(f"https://x/{n}" for n in range(11))}, "it has more than 10 URLs"),
        ({"NOTIFY_URLS": "http://169.254.169.254/"}, "entry 1: link-local and metadata addresses are never called"),
        ({"NOTIFY_URLS": "http://[fd00:ec2::254]/"}, "entry 1: link-local and metadata addresses are never called"),
        ({"NOTIFY_URLS": "https://x"}, "WATCHDOG_NOTIFY_SECRET: got nothing; WATCHDOG_NOTIFY_URLS needs one"),
        (
            {"NOTIFY_SECRET": "A" * 32},
            'WATCHDOG_NOTIFY_SECRET: got ***; entry 1: it is none; make one with: echo "whsec_',
        ),
        ({"NOTIFY_SECRET": f"whsec_{'A' * 28}"}, "entry 1: it is none"),
        ({"NOTIFY_SECRET": f"whsec_{'A' * 88}"}, "entry 1: it is none"),
        ({"NOTIFY_SECRET": f"whsec_{'A' * 31}*"}, "entry 1: it is none"),
        ({"CANARY_URL": "example.com"}, "it is not one; takes an http or https URL"),
        ({"CANARY_URL": "https://user@example.com"}, "no user, no query and no fragment are taken"),
        ({"CANARY_URL": "https://example.com?x=1"}, "no user, no query and no fragment are taken"),
        ({"CANARY_URL": "https://example.com/v1/heartbeat"}, "give the address without /v1/heartbeat"),
        ({"DEADMAN_URL": "http://169.254.169.254/"}, "link-local and metadata addresses are never called"),
        ({"CANARY_URL": "http://100.100.100.200/"}, "link-local and metadata addresses are never called"),
        ({"TLS_CERT": "/etc/tls/tls.crt"}, "WATCHDOG_TLS_CERT and it go together"),
        ({"TLS_KEY": "/etc/tls/tls.key"}, "WATCHDOG_TLS_CERT and it go together"),
        ({"TLS_CERT": "-----BEGIN CERTIFICATE-----", "TLS_KEY": "k"}, "give the path of a file in PEM"),
        ({"TRUSTED_PROXIES": "10.0.0.1/8"}, "entry 1: it has bits behind the mask; the network is 10.0.0.0/8"),
        ({"TRUSTED_PROXIES": "10.0.0.1,proxy"}, "entry 2: it is none"),
        ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "everybody would be believed"),
        ({"MAX_AGENTS": "0"}, "from 1 to 10000000"),
        ({"CANARY_URL": "http://169.254.169.254/"}, "link-local and metadata addresses are never called"),
        ({"CANARY_URL": "http://[::ffff:169.254.1.2]/"}, "link-local and metadata addresses are never called"),
        ({"CANARY_URL": "http://[fd00:ec2::254]:80/"}, "link-local and metadata addresses are never called"),
        ({"CANARY_URL": "http://[fe80::1]/"}, "link-local and metadata addresses are never called"),
        ({"ADMIN_TOKENS": ""}, "got ***; it is empty; unset it for the default"),
        ({"ADMIN_TOKENS": "one,"}, "got ***; entry 2 is empty"),
        ({"ADMIN_TOKENS": "one two"}, "entry 1: it has a blank or a character that is not ASCII"),
        ({"TICKET_SECRETS": "0123456789abcdef,0123456789abcde"}, "entry 2: it has less than 16 characters"),
        ({"INSTANCES": ""}, "it is empty"),
        ({"INSTANCES": "i" * 101}, "an instance id has 1 to 100 letters, digits and hyphens"),
        ({"INSTANCES": "i-1,i-2,i-1"}, "i-1 is there 2 times"),
        (
            {"INSTANCES": "arn:aws:connect:us-east-1:123456789012:instance/i-9"},
            'entry 1: instance_id: this is an ARN; give the id after "instance/": i-9',
        ),
        ({"INSTANCES": "[1"}, "this is not JSON"),
        ({"INSTANCES": "[]"}, "this is not a list of one or more objects"),
        ({"INSTANCES": '{"instance_id": "i-1"}'}, "this is not a list of one or more objects"),
        ({"INSTANCES": "{}"}, "this is not a list of one or more objects"),
        ({"INSTANCES": '["i-1"]'}, "this is not a list of one or more objects"),
        ({"INSTANCES": '[{"region": "us-east-1"}]'}, "entry 1: instance_id: is missing"),
        ({"INSTANCES": '[{"instance_id": "i-1", "arn": "x"}]'}, "entry 1: arn: is not known here"),
        ({"INSTANCES": '[{"instance_id": "i-1", "region": "Ohio"}]'}, "a region looks like us-east-1"),
        ({"INSTANCES": '[{"instance_id": "i-1", "role_arn": "me"}]'}, "a role's ARN looks like"),
        ({"INSTANCES": '[{"instance_id": "i-1", "external_id": "e-1"}]'}, "of use only together with role_arn"),
        ({"SESSION_TTL": "29.9"}, "must be at least 3 × WATCHDOG_HEARTBEAT_INTERVAL = 30"),
        ({"HEARTBEAT_INTERVAL": "12"}, "WATCHDOG_SESSION_TTL: got 35 (its default); must be at least 3 × "),
        ({"THROTTLED_SESSION_TTL": "34"}, "must be at least WATCHDOG_SESSION_TTL = 35"),
        ({"ADMIN_TOKENS": f"other,{TOKEN}"}, "a token is in WATCHDOG_HEARTBEAT_TOKENS too"),
        ({"AUTH": "none", "HOST": "10.0.0.1"}, "anyone who reaches WATCHDOG_HOST = 10.0.0.1 could post heartbeats"),
        ({"AUTH": "none", "HOST": "::"}, "anyone who reaches"),
        ({"AUTH": "none", "HOST": "example.com"}, "anyone who reaches"),
    ],
)
def test_a_refusal_says_what_is_wrong(changes, line):
    assert line in fault(**changes)


def test_values_on_the_boundary_go_together():
    settings = load(HEARTBEAT_INTERVAL="10", SESSION_TTL="30", THROTTLED_SESSION_TTL="30")
    assert settings.session_ttl == settings.throttled_session_ttl == 30


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_no_authentication_is_all_right_on_loopback(address):
    settings = Settings.load({"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_AUTH": "none", "WATCHDOG_HOST": address})
    assert (settings.auth, settings.heartbeat_tokens) == ("none", ())


def test_instances_of_several_accounts_come_as_json():
    settings = load(
        INSTANCES='[{"instance_id": "i-1"}, {"instance_id": "i-2", "region": "us-gov-west-1",'
        ' "role_arn": "arn:aws-us-gov:iam::123456789012:role/path/watchdog", "external_id": "e-1"}]'
    )
    assert settings.instances == (
        Instance(instance_id="i-1"),
        Instance(
            instance_id="i-2",
            region="us-gov-west-1",
            role_arn="arn:aws-us-gov:iam::123456789012:role/path/watchdog",
            external_id="e-1",
        ),
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("WATCHDOG_SESSION_TLT", "did you mean WATCHDOG_SESSION_TTL?"),
        ("WATCHDOG_HEARTBEAT_TOKEN", "did you mean WATCHDOG_HEARTBEAT_TOKENS?"),
        ("WATCHDOG_ADMIN_TOKENS_FIEL", "did you mean WATCHDOG_ADMIN_TOKENS_FILE?"),
        ("WATCHDOG_host", "did you mean WATCHDOG_HOST?"),
        ("WATCHDOG_XYZZY", "unset it"),
        ("WATCHDOG_STATUS_FILE", "WATCHDOG_STATUS is no secret and cannot come from a file"),
    ],
)
def test_an_unknown_variable_is_refused_without_its_value(name, advice):
    (line,) = faults(GOOD | {name: TOKEN})
    assert line.startswith(f"{name}: ")
    assert advice in line
    assert TOKEN not in line


@pytest.mark.parametrize(
    "name",
    [
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "WATCHDOG_SERVICE_HOST",
        "WATCHDOG_SERVICE_PORT",
        "WATCHDOG_SERVICE_PORT_HTTP",
        "WATCHDOG_PORT_8080_TCP",
        "WATCHDOG_PORT_8080_TCP_ADDR",
    ],
)
def test_what_systemd_and_kubernetes_set_under_our_prefix_is_left_alone(name):
    assert Settings.load(GOOD | {name: "30000000"}) == Settings.load(GOOD)


def test_variables_of_others_are_left_alone():
    assert Settings.load(GOOD | {"PATH": "/bin", "MY_WATCHDOG_X": "1", "PORT": "1"}).port == 8080


@pytest.mark.parametrize("content", ["one,two", "one\ntwo\n", " one ,\ttwo \r\n", "\ufeffone\r\ntwo"])
def test_a_secret_may_come_from_a_file(tmp_path, content):
    path = tmp_path / "tokens"
    path.write_text(content, encoding="utf-8", newline="")
    settings = load(ADMIN_TOKENS_FILE=str(path))
    assert reveal(settings.admin_tokens) == ["one", "two"]
    assert {row.variable: row.source for row in settings.describe()}["WATCHDOG_ADMIN_TOKENS"] == "file"


def test_every_secret_has_its_file_variable(tmp_path):
    path = tmp_path / "secret"
    path.write_text("https://example.com/0123456789abcdef")
    names = ["HEARTBEAT_TOKENS", "TICKET_SECRETS", "DEADMAN_URL"]
    settings = Settings.load({"WATCHDOG_INSTANCES": "i-1"} | {f"WATCHDOG_{name}_FILE": str(path) for name in names})
    assert [row.variable for row in settings.describe() if row.source == "file"] == [f"WATCHDOG_{n}" for n in names]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"x" * 65_537, "it has more than 65536 bytes"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_a_fault(tmp_path, content, reason):
    path = tmp_path / "tokens"
    path.write_bytes(content)
    line = fault(ADMIN_TOKENS_FILE=str(path))
    assert line == f'WATCHDOG_ADMIN_TOKENS_FILE: got "{path}"; {reason}; takes the path of a file'


def test_a_directory_and_a_missing_file_are_faults(tmp_path):
    assert "it cannot be read (Is a directory)" in fault(ADMIN_TOKENS_FILE=str(tmp_path))
    assert "it cannot be read (No such file or directory)" in fault(ADMIN_TOKENS_FILE=str(tmp_path / "none"))
    assert "it cannot be read (embedded null byte)" in fault(ADMIN_TOKENS_FILE="a\0b")


def test_an_unreadable_file_of_a_needed_secret_is_told_once():
    (line,) = faults({"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_HEARTBEAT_TOKENS_FILE": "/does/not/exist"})
    assert line.startswith("WATCHDOG_HEARTBEAT_TOKENS_FILE: ")


def test_a_secret_from_both_places_is_a_fault(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("one")
    line = fault(HEARTBEAT_TOKENS_FILE=str(path))
    assert line == (
        "WATCHDOG_HEARTBEAT_TOKENS: is set together with WATCHDOG_HEARTBEAT_TOKENS_FILE; takes one of the two"
    )


SECRET = "zkqwvx-0123456789abcdef"
WRONG_URLS = [
    f"https://me:{SECRET}@example.com:port/",
    f"https:/me:{SECRET}@example.com",
    f"https:me:{SECRET}@example.com",
    f"//me:{SECRET}@example.com",
    f"me:{SECRET}@example.com",
    f"https://me:{SECRET}@x@example.com/#",
    f"ftp://example.com/keys?key={SECRET}",
    f"example.com/{'x' * 10}?key={SECRET}",
    f"https://me:x/{SECRET}?#@example.com\n",
]
WRONG_SHAPES = {
    "STORE": [
        *WRONG_URLS,
        f"valkeys://me:{SECRET}@host/x",
        f"valkeys://host/0?password={SECRET}",
        f"valkeys://:{SECRET}#x@host",
        f"postgres://me:{SECRET}@host/db",
        f"sqlite:///w.db?key={SECRET}",
    ],
    "JWKS": WRONG_URLS[:5],
    "CANARY_URL": WRONG_URLS,
    "ALLOWED_ORIGINS": WRONG_URLS,
    "DEADMAN_URL": [*WRONG_URLS[:5], *WRONG_URLS[6:], SECRET],
    "NOTIFY_URLS": [*WRONG_URLS, SECRET, f"https://example.com/{SECRET},"],
    "TLS_KEY": [f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}", f"-----BEGIN PRIVATE KEY-----{SECRET}"],
    "HEARTBEAT_TOKENS": [f"{SECRET},", f"{SECRET} x", f"{SECRET}é"],
    "ADMIN_TOKENS": [f"{SECRET},", f"{SECRET} x", f"{SECRET}é", TOKEN],
    "TICKET_SECRETS": [f"{SECRET},", f"{SECRET} x", f"{SECRET},x"],
    "NOTIFY_SECRET": [SECRET, f"whsec_{SECRET}", f"whsec_{SECRET}" * 20],
}


@pytest.mark.parametrize("name", WRONG_SHAPES)
def test_a_secret_in_a_wrong_shape_is_in_no_fault(name, tmp_path):
    for value in WRONG_SHAPES[name]:
        lines = faults(GOOD | {f"WATCHDOG_{name}": value})
        assert not [line for line in lines if SECRET in line or TOKEN in line], value
    if name in ("JWKS", "CANARY_URL", "ALLOWED_ORIGINS", "TLS_KEY"):
        return
    environ = {key: value for key, value in GOOD.items() if key != f"WATCHDOG_{name}"}
    file = tmp_path / "secret"
    for value in [*WRONG_SHAPES[name], *([SECRET] if name == "STORE" else [])]:
        file.write_text(value, encoding="utf-8")
        lines = faults(environ | {f"WATCHDOG_{name}_FILE": str(file)})
        assert not [line for line in lines if SECRET in line or TOKEN in line], value
    lines = faults(environ | {f"WATCHDOG_{name}_FILE": SECRET})
    assert not [line for line in lines if SECRET in line]


def test_every_secret_is_tried_in_a_wrong_shape():
    secret = {name for name, field in Settings.model_fields.items() if "secret" in str(field.annotation).lower()}
    assert {name.upper() for name in secret} <= WRONG_SHAPES.keys()


def test_no_secret_is_in_any_text_about_settings():
    settings = load(
        ADMIN_TOKENS="adm-in",
        TICKET_SECRETS="ticket-secret-0123",
        DEADMAN_URL="https://e.com/ping-id",
        NOTIFY_URLS="https://e.com/hook-id",
        NOTIFY_SECRET=NOTIFY_SECRET,
    )
    texts = [repr(settings), str(settings), str(settings.describe()), settings.model_dump_json()]
    bad = {"TICKET_SECRETS": "ping-id", "DEADMAN_URL": "ping-id", "ADMIN_TOKENS": "adm-in,", "HEARTBEAT_TOKENS": "é"}
    bad |= {"NOTIFY_URLS": "hook-id", "NOTIFY_SECRET": "hook-id"}
    texts.extend(fault(**{name: value}) for name, value in bad.items())
    for secret in (TOKEN, "adm-in", "ticket-secret", "ping-id", "é", "hook-id", NOTIFY_SECRET):
        assert not [text for text in texts if secret in text]


def test_a_fault_stays_one_line_whatever_the_value():
    line = fault(STATUS="a\nb" * 100)
    assert "\n" not in line
    assert '"a\\nba\\nb' in line
    assert len(line) < 400
    assert fault(LOG_LEVEL="\udcff").startswith('WATCHDOG_LOG_LEVEL: got "\\udcff"; ')


def test_a_description_has_value_default_source_and_meaning_of_every_setting():
    rows = {row.variable: row for row in load(SESSION_TTL="40", ADMIN_TOKENS="a,b", INSTANCES="i-1,i-2").describe()}
    assert len(rows) == len(Settings.model_fields)
    assert not [row for row in rows.values() if len(row.meaning) < 15 or "\n" in row.meaning]
    ttl = rows["WATCHDOG_SESSION_TTL"]
    assert (ttl.value, ttl.default, ttl.source) == ("40", "35", "environment")
    assert ttl.meaning == "Seconds without a heartbeat after which a session ends; at least 3 intervals."
    assert rows["WATCHDOG_ADMIN_TOKENS"].value == "*** (2)"
    assert rows["WATCHDOG_INSTANCES"].value == "i-1,i-2"
    dry_run = rows["WATCHDOG_DRY_RUN"]
    assert (dry_run.value, dry_run.default, dry_run.source) == ("false", "false", "default")
    assert (rows["WATCHDOG_STATUS"].value, rows["WATCHDOG_STATUS"].default) == (None, None)


def test_what_is_described_can_be_set_again():
    given = load(INSTANCES='[{"instance_id": "i-1", "region": "us-east-1"}]', CONNECT_RATE="0.5", HOST="::1")
    again = {row.variable: row.value for row in given.describe() if row.value and "***" not in row.value}
    assert Settings.load(GOOD | again).model_dump() == given.model_dump()


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load().port = 1


def test_the_process_environment_is_the_default_and_the_only_one_read(monkeypatch):
    for name in list(os.environ):
        if name.startswith("WATCHDOG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WATCHDOG_INSTANCES", "i-process")
    monkeypatch.setenv("WATCHDOG_HEARTBEAT_TOKENS", TOKEN)
    monkeypatch.setenv("WATCHDOG_PORT", "1234")
    assert Settings.load().port == 1234
    assert load().port == 8080
    made = Settings(instances=(Instance(instance_id="i-1"),), heartbeat_tokens=(SecretStr("x"),))
    assert made.port == 8080


def test_settings_made_by_hand_are_checked_too():
    with pytest.raises(ValidationError, match="must be at least 3 ×"):
        Settings(instances=(Instance(instance_id="i-1"),), heartbeat_tokens=(SecretStr("x"),), heartbeat_interval=20)
    with pytest.raises(ValidationError) as caught:
        Settings(instances=(Instance(instance_id="i-1"),), heartbeat_tokens=f"{TOKEN},")  # type: ignore[arg-type]
    assert "entry 2 is empty" in str(caught.value)
    assert TOKEN not in str(caught.value)
    with pytest.raises(ValidationError, match="there is none"):
        Settings(instances=(), heartbeat_tokens=(SecretStr("x"),))


def test_nothing_else_in_the_package_reads_the_environment():
    package = Path(watchdog.__file__).parent
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        )
    }
    # The sandbox starts other processes and hands its own environment on to them.
    assert {path for path in readers if not path.startswith("sandbox/")} == {"settings.py"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("FRACTION", "0"), ("FRACTION", "1.1"), ("MIN_AGENTS", "1"), ("MIN_AGENTS", "2.5"), ("MAX_HOLD", "59")],
)
def test_a_brake_that_could_not_work_is_refused(name, value):
    assert fault(**{f"BRAKE_{name}": value}).startswith(f'WATCHDOG_BRAKE_{name}: got "{value}"; takes ')


def test_the_admin_token_of_a_command_needs_no_other_setting(tmp_path):
    assert admin_token(environ={}) is None
    assert admin_token(environ={"WATCHDOG_ADMIN_TOKENS": "first,second", "WATCHDOG_NONSENSE": "x"}) == "first"
    file = tmp_path / "token"
    file.write_text("of-a-file\n")
    assert admin_token(environ={"WATCHDOG_ADMIN_TOKENS_FILE": str(file)}) == "of-a-file"
    assert admin_token(file, environ={"WATCHDOG_ADMIN_TOKENS": "first"}) == "of-a-file"


def test_an_admin_token_that_cannot_be_used_is_told_without_its_text(tmp_path):
    with pytest.raises(SettingsError, match=r"WATCHDOG_ADMIN_TOKENS: got \*\*\*"):
        admin_token(environ={"WATCHDOG_ADMIN_TOKENS": "has a blank"})
    with pytest.raises(SettingsError, match="cannot be read"):
        admin_token(tmp_path / "missing")


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"WATCHDOG_PORT": "9000", "WATCHDOG_NONSENSE": "x", "WATCHDOG_SESSION_TTL": "0"}, "http://127.0.0.1:9000"),
        ({"WATCHDOG_HOST": "0.0.0.0"}, "http://127.0.0.1:8080"),
        ({"WATCHDOG_HOST": "::", "WATCHDOG_PORT": "80"}, "http://[::1]:80"),
        ({"WATCHDOG_HOST": "fd00::1"}, "http://[fd00::1]:8080"),
        ({"WATCHDOG_HOST": "watchdog.example.com"}, "http://watchdog.example.com:8080"),
    ],
)
def test_a_command_finds_the_daemon_where_it_listens(environ, url):
    assert daemon_url(environ)[0] == url


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"WATCHDOG_PORT": "http"}, 'WATCHDOG_PORT: got "http"'),
        ({"WATCHDOG_PORT": "tcp://10.0.0.1:8080"}, "Kubernetes sets this"),
        ({"WATCHDOG_PORT": "0"}, "--url"),
        ({"WATCHDOG_HOST": "http://here"}, "WATCHDOG_HOST"),
    ],
)
def test_an_environment_that_leads_to_no_daemon_is_told(environ, said):
    with pytest.raises(SettingsError) as caught:
        daemon_url(environ)
    (line,) = caught.value.faults
    assert said in line
