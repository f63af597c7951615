"""The commands that look at a running daemon, as their users meet them: a process, its output and its exit code."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import http.server
import io
import json
import os
import pty
import select
import signal
import ssl
import struct
import subprocess
import sys
import termios
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests import command
from tests.ingest.certificates import write
from watchdog.screens import status as screen

ROOT = Path(__file__).parent.parent
INSTANCE = "11111111-2222-3333-4444-555555555555"
USERS = [f"{number:08}-7777-8888-9999-000000000000" for number in range(5)]
ADMIN = {"WATCHDOG_ADMIN_TOKENS": "admin"}

WELL = {
    "version": "0.1.0",
    "started_at": 1_000.0,
    "uptime_s": 3_725.0,
    "ready": True,
    "why_not_ready": None,
    "problems": [],
    "dry_run": False,
    "agents": {"live": 412, "grace": 3, "due": 0, "held": 0, "away": 2, "gone": 1},
    "sessions": 430,
    "backlog": 0,
    "clock": {"observed_s": 1.0, "standing": None, "grace_left_s": 0.0, "stopped_s": {"restart": 1.8, "pause": 0.0}},
    "reconcile": None,
    "canary": None,
    "brake": {"state": "clear", "held": 0, "holds": []},
    "store": {"up": True, "kind": "sqlite"},
    "flush": {"ok": True, "last_s": 0.0004, "waiting": 0},
    "instances": [
        {
            "instance_id": INSTANCE,
            "target": {"status_id": "s-1", "name": "Offline"},
            "why": None,
            "profiles": ["Back Office", "Inbound Sales"],
        }
    ],
    "timers": {
        "session_end_timer_s": 5.0,
        "heartbeat_interval_s": 10.0,
        "session_ttl_s": 35.0,
        "throttled_session_ttl_s": 150.0,
        "resume_grace_s": 30.0,
    },
}

METRICS = """\
watchdog_connect_calls_total{operation="PutUserStatus",result="ok"} 7.0
watchdog_connect_calls_total{operation="PutUserStatus",result="throttled"} 2.0
watchdog_connect_calls_total{operation="DismissUserContact",result="ok"} 0.0
watchdog_connect_tokens{operation="PutUserStatus"} 2.5
"""


def agent(user_id, state="live"):
    session = {"session_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "expires_in_s": 30.0}
    session |= {"visibility": "hidden", "driver": "worker"}
    named = {"instance_id": INSTANCE, "user_id": user_id, "state": state, "due_in_s": 35.0, "profile": "Inbound Sales"}
    return named | {"sessions": [session], "last_seen": "2026-01-31T12:00:00.000Z", "last_outcome": "confirmed"}


def action(number, reason="All sessions ended."):
    named = {"id": str(number), "agent": f"{INSTANCE}/{USERS[0]}", "intent": "set_status", "target": "Offline"}
    at = f"2026-01-31T12:00:{number:02}.000Z"
    done = {"outcome": "confirmed", "reason": reason, "calls": 3, "latency_s": 2.1}
    return named | {"at": at} | done | {"evidence": {"lag_s": 0.25}}


class Answers:
    """What the daemon answers, and what it was asked."""

    def __init__(self):
        self.status = WELL
        self.metrics = METRICS
        self.agents = [agent(user) for user in USERS]
        self.actions = [action(number) for number in (4, 3, 2, 1, 0)]
        self.asked = []
        self.most = 2

    def page(self, name, entries, query):
        begin = int(query.get("cursor", 0))
        end = begin + min(self.most, int(query["limit"]))
        return {name: entries[begin:end], "cursor": str(end) if end < len(entries) else None}

    def __call__(self, path, query):
        match path.split("/")[1:]:
            case ["v1", "status"]:
                return self.status
            case ["metrics"]:
                return self.metrics
            case ["v1", "agents"]:
                return self.page(
                    "agents", [each for each in self.agents if query.get("q", "") in each["user_id"]], query
                )
            case ["v1", "agents", _, user_id]:
                return next((each for each in self.agents if each["user_id"] == user_id), None)
            case ["v1", "actions"]:
                return self.page("actions", self.actions, query)
        return None


@contextlib.contextmanager
def serving(answers, certificate=None):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            answers.asked.append((parts.path, query))
            found = answers(parts.path, query)
            if self.headers["authorization"] != "Bearer admin":
                status, found = 401, {"detail": "Send an admin token."}
            elif found is None:
                status, found = 404, {"detail": "There is nothing here."}
            else:
                status = 200
            self.send_response(status)
            self.end_headers()
            self.wfile.write((found if isinstance(found, str) else json.dumps(found)).encode())

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass  # a client that refuses the certificate

    server = Server(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def answers():
    return Answers()


@pytest.fixture
def port(answers):
    with serving(answers) as port:
        yield port


def environment(environ):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WATCHDOG_", "COLUMNS"))}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return kept | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT), "TZ": "UTC", "TERM": "xterm"} | environ


def watchdog(*arguments, port=None, **environ):
    at = {} if port is None else ADMIN | {"WATCHDOG_PORT": str(port)}
    return command.run(arguments, environment(at | environ))


def test_the_status_is_a_sentence_and_the_facts(port):
    done = watchdog("status", port=port)
    assert (done.returncode, done.stderr) == (0, "")
    assert "All is well: 412 agents present, 3 in grace, none held." in done.stdout
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("  ") and line.strip()}
    assert "412 live" in lines["Agents"]
    assert "430 sessions" in lines["Agents"]
    assert lines["Backlog"].split() == ["Backlog", "nobody", "is", "due"]
    assert "runs; stood since the start: restart 1.8 s" in lines["Clock"]
    assert "PutUserStatus: 9 calls, 2 throttled, 2.5 tokens left" in lines["Quota"]
    assert "DismissUserContact" not in done.stdout
    assert f"{INSTANCE}: Offline" in lines["Targets"]
    assert "timer 5 s, heartbeat 10 s, lease 35 s" in lines["Timers"]
    assert "up 1 h 2 min" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


HOLD = {
    "group": "all",
    "state": "holding",
    "agents": 9,
    "age_s": 65.0,
    "why": "Many fell silent.",
    "next_step": "Wait.",
}
NO_TARGET = [{"instance_id": INSTANCE, "target": None, "why": "No status has the type OFFLINE.", "profiles": []}]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ready": False, "why_not_ready": "The disk is full."}, "Not ready: The disk is full."),
        ({"problems": [{"code": "connect_denied", "detail": "Allow it.", "since": 4_665.0}]}, "1 problem"),
        ({"instances": NO_TARGET}, "has no target"),
        ({"clock": None}, "The clock has not started"),
        ({"clock": WELL["clock"] | {"standing": "store"}}, "The clock stands (store)"),
        ({"brake": {"state": "holding", "held": 9, "holds": [HOLD]}}, "The brake is holding"),
    ],
)
def test_what_is_wrong_is_told_first_and_in_the_exit_code(port, answers, changed, said):
    answers.status = WELL | changed
    done = watchdog("status", port=port)
    assert (done.returncode, done.stderr) == (1, "")
    assert said in done.stdout.splitlines()[2]
    assert "All is well" not in done.stdout
    asked = watchdog("status", "--json", port=port)
    assert (asked.returncode, json.loads(asked.stdout)) == (1, answers.status)


def test_a_problem_comes_with_its_age_what_to_do_and_the_page_to_read(port, answers):
    answers.status = WELL | {"problems": [{"code": "connect_denied", "detail": "Allow it.", "since": 4_665.0}]}
    done = watchdog("status", port=port).stdout
    assert (
        "1. connect_denied, for 1 min\n   Allow it.\n   docs/troubleshooting.md#connect_denied\n"
        in "\n".join(f"{line.rstrip()}" for line in done.splitlines()) + "\n"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"clock": WELL["clock"] | {"standing": "grace", "grace_left_s": 12.0}},
        {"brake": {"state": "ordered", "held": 9, "holds": [HOLD | {"state": "ordered", "by": "token 1"}]}},
        {"dry_run": True},
    ],
)
def test_what_is_wanted_is_not_wrong(port, answers, changed):
    answers.status = WELL | changed
    assert watchdog("status", port=port).returncode == 0


def test_a_status_without_metrics_is_still_told(port, answers):
    answers.metrics = None
    done = watchdog("status", port=port)
    assert (done.returncode, done.stderr) == (0, "")
    assert "All is well" in done.stdout


def test_agents_are_asked_for_page_after_page(port, answers):
    done = watchdog("agents", "--state", "live", "--q", "7777", port=port)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[3:]] == USERS
    assert "1 (1 hidden)" in done.stdout
    assert [query.get("cursor") for _, query in answers.asked] == [None, "2", "4"]
    assert {(query["state"], query["q"]) for _, query in answers.asked} == {("live", "7777")}


def test_agents_of_a_routing_profile_are_asked_for_by_its_whole_name(port, answers):
    done = watchdog("agents", "--profile", "Inbound Sales", port=port)
    assert (done.returncode, done.stderr) == (0, "")
    assert {query["profile"] for path, query in answers.asked if path == "/v1/agents"} == {"Inbound Sales"}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_part_of_a_routing_profiles_name_is_bad_usage_and_the_names_are_told(port, options):
    done = watchdog("agents", "--profile", "sales", *options, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Inbound Sales, Back Office" in " ".join(done.stderr.replace("│", " ").split())


def test_of_a_daemon_that_knows_no_routing_profiles_yet_any_can_be_asked_for(port, answers):
    answers.status = WELL | {"instances": [WELL["instances"][0] | {"profiles": []}]}
    assert watchdog("agents", "--profile", "sales", port=port).returncode == 0


@pytest.mark.parametrize(("columns", "told"), [(80, ""), (100, "confirmed"), (120, "confirmed Inbound Sales")])
def test_the_table_of_agents_has_what_the_terminal_has_room_for(port, columns, told):
    done = watchdog("agents", port=port, COLUMNS=str(columns)).stdout
    row = next(line for line in done.splitlines() if line.startswith(USERS[0]))
    assert " ".join(row.partition(" ago")[2].split()) == told
    assert max(map(len, done.splitlines())) <= columns


def test_a_narrow_terminal_has_room_for_when_an_agent_was_seen(port, answers):
    seen = datetime.now(UTC) - timedelta(minutes=14, seconds=42)
    answers.agents = [answers.agents[0] | {"last_seen": seen.isoformat(), "due_in_s": 95.0, "sessions": []}]
    row = watchdog("agents", port=port, COLUMNS="80").stdout.splitlines()[-1]
    assert row.endswith("1 min 35 s  14 min ago")


def test_a_long_list_of_agents_is_shown_in_pieces_that_look_like_one(port, answers):
    answers.agents = [agent(f"{number:08}-7777-8888-9999-000000000000") for number in range(120)]
    answers.agents[110] |= {"due_in_s": 86_399.0, "sessions": []}
    answers.most = 1_000
    done = watchdog("agents", "--limit", "0", port=port, COLUMNS="120")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 + 120
    assert [line.split()[0] for line in lines[3:]] == [each["user_id"] for each in answers.agents]
    assert len({line.index("Inbound Sales") for line in lines[3:]}) == 1
    assert len({line.index("live") for line in lines[3:]}) == 1
    assert "state" not in "".join(lines[3:])


def test_a_list_is_as_long_as_was_asked_for_and_says_if_there_is_more(port):
    done = watchdog("agents", "--limit", "3", port=port).stdout
    assert [user for user in USERS if user in done] == USERS[:3]
    assert "These are the first 3." in done
    assert "These are" not in watchdog("agents", "--limit", "5", port=port).stdout


def test_agents_as_json_are_a_line_each(port, answers):
    done = watchdog("agents", "--json", port=port)
    assert [json.loads(line) for line in done.stdout.splitlines()] == answers.agents
    done = watchdog("agents", "--json", "--limit", "3", port=port)
    assert [json.loads(line) for line in done.stdout.splitlines()] == answers.agents[:3]


def test_one_agent_has_sessions_and_a_timeline_that_ends_with_the_newest(port, answers):
    done = watchdog("agent", USERS[3][:8], port=port)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{INSTANCE}/{USERS[3]}" in done.stdout
    assert "30 s left" in done.stdout
    assert "routing profile Inbound Sales" in " ".join(done.stdout.split())
    times = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("2026")]
    assert times == [f"12:00:{number:02}" for number in range(5)]
    assert ("/v1/actions", {"agent": f"{INSTANCE}/{USERS[3]}", "limit": "20"}) in answers.asked
    asked = watchdog("agent", f"{INSTANCE}/{USERS[3]}", "--json", port=port)
    assert json.loads(asked.stdout) == answers.agents[3] | {"actions": answers.actions}


@pytest.mark.parametrize(
    ("name", "said"), [("7777", "several agents"), ("zzz", "no agent"), ("", "ARN"), ("i/", "ARN")]
)
def test_who_is_not_one_agent_is_bad_usage(port, name, said):
    done = watchdog("agent", name, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert ("agents --q 7777" in " ".join(done.stderr.replace("│", " ").split())) is (name == "7777")
    of = watchdog("history", "--agent", name, port=port)
    if name:
        assert (of.returncode, of.stdout) == (2, "")
        assert "--agent" in of.stderr
        assert said in of.stderr


def test_the_history_is_of_one_agent_by_a_part_of_the_ids(port, answers):
    assert watchdog("history", "--agent", USERS[3][:8], port=port).returncode == 0
    assert answers.asked[-1][1]["agent"] == f"{INSTANCE}/{USERS[3]}"


def test_the_history_is_newest_first_and_has_the_evidence_on_request(port, answers):
    done = watchdog("history", port=port)
    assert (done.returncode, done.stderr) == (0, "")
    assert next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("2026")) == "12:00:04"
    assert "lag_s" not in done.stdout
    assert watchdog("history", "--evidence", port=port).stdout.count('"lag_s": 0.25') == 5


def test_filters_of_the_history_go_to_the_daemon(port, answers):
    arn = f"arn:aws:connect:us-east-1:123456789012:instance/{INSTANCE}/agent/{USERS[1]}"
    since = "2026-01-31T12:00:00Z"
    assert watchdog("history", "--agent", arn, "--outcome", "failed", "--since", since, port=port).returncode == 0
    _, query = answers.asked[0]
    assert (query["agent"], query["outcome"]) == (f"{INSTANCE}/{USERS[1]}", "failed")
    assert float(query["since"]) == 1_769_860_800.0


def test_until_leaves_out_what_was_later_and_the_limit_counts_what_is_left(port):
    done = watchdog("history", "--until", "2026-01-31T12:00:02Z", "--limit", "2", "--json", port=port)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["2", "1"]


@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("time", ["yesterday", "2026-01-31T12:00:00", "nan", "15"])
def test_a_time_that_is_none_is_bad_usage(port, answers, option, time):
    done = watchdog("history", option, time, port=port)
    assert (done.returncode, done.stdout, answers.asked) == (2, "", [])
    assert option in done.stderr


def test_csv_is_whole_and_harmless_for_a_spreadsheet(port, answers):
    answers.actions = [action(1, '=HYPERLINK("http://x"), and\nmore')]
    done = watchdog("history", "--csv", "--evidence", port=port)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["reason"] == '\'=HYPERLINK("http://x"), and\nmore'
    assert json.loads(row["evidence"]) == {"lag_s": 0.25}
    assert (row["agent"], row["calls"]) == (f"{INSTANCE}/{USERS[0]}", "3")


@pytest.mark.parametrize("options", [("agents", "--watch", "--json"), ("history", "--csv", "--json")])
def test_what_does_not_go_together_is_bad_usage(port, answers, options):
    done = watchdog(*options, port=port)
    assert (done.returncode, done.stdout, answers.asked) == (2, "", [])


def test_watching_is_for_a_terminal_and_says_so_in_place_of_nothing(port, answers):
    done = watchdog("agents", "--watch", port=port)
    assert (done.returncode, done.stdout, answers.asked) == (2, "", [])
    assert "docker exec -it" in " ".join(done.stderr.replace("│", " ").split())


# The terminal.


def on_a_terminal(*arguments, port, until, **environ):
    """Runs a command on a terminal of 100 columns, interrupts it once it has printed that; all output, and the code."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "watchdog", *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=ROOT,
        env=environment(ADMIN | {"WATCHDOG_PORT": str(port)} | environ),
        start_new_session=True,
    )
    os.close(its)
    seen = b""
    try:
        while until is None or until not in seen:
            assert select.select([ours], [], [], 60)[0], seen
            seen += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
    except OSError:
        assert until is None, seen  # it has ended
    finally:
        with contextlib.suppress(OSError):
            while select.select([ours], [], [], 60)[0] and (more := os.read(ours, 65_536)):
                seen += more
        code = process.wait(10)
        os.close(ours)
    return code, seen.decode()


def test_watching_goes_on_until_ctrl_c_which_is_quiet(port, answers):
    code, seen = on_a_terminal("agents", "--watch", port=port, until=USERS[4].encode())
    assert code == 130
    assert "412 agents present" in seen
    for noise in ("Traceback", "Aborted", "Interrupt"):
        assert noise not in seen


def test_watching_waits_for_a_daemon_that_went_away(port, answers):
    whole = answers.page

    def once(name, entries, query):
        # from the second look on it answers 404, as a proxy in front of a daemon that restarts might
        answers.status = None
        return whole(name, entries, query)

    answers.page = once
    code, seen = on_a_terminal("agents", "--watch", port=port, until=b"Asked again each second")
    assert code == 130
    assert "There is nothing here." in seen


def test_colours_are_for_terminals_and_not_with_no_color(port):
    assert "\x1b[" not in watchdog("status", port=port).stdout
    _, coloured = on_a_terminal("status", port=port, until=None)
    assert "\x1b[1;32m" in coloured
    _, plain = on_a_terminal("status", port=port, until=None, NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert "\x1b[1;3" not in plain
    assert "412" in plain


def test_a_reader_that_goes_away_is_no_reason_to_complain(port, answers):
    answers.actions = [action(number % 60, "x" * 1_000) for number in range(3_000)]
    answers.most = 1_000
    process = subprocess.Popen(
        [sys.executable, "-m", "watchdog", "history", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(ADMIN | {"WATCHDOG_PORT": str(port)}),
    )
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


# Where the daemon is, and why it is not reached.


def test_a_daemon_that_is_not_there_is_told_with_where_it_was_looked_for():
    done = watchdog("status", **ADMIN)
    assert (done.returncode, done.stdout) == (1, "")
    for said in ("http://127.0.0.1:8080", "the default", "WATCHDOG_HOST", "--url", "watchdog run"):
        assert said in done.stderr
    done = watchdog("agents", WATCHDOG_PORT="1")
    assert "http://127.0.0.1:1: Connection refused" in done.stderr
    assert "from WATCHDOG_PORT." in done.stderr
    assert "given with --url" in watchdog("history", "--url", "http://127.0.0.1:1").stderr


def test_a_token_that_is_missing_or_wrong_is_told_with_where_it_is_from(port, tmp_path):
    url = f"http://127.0.0.1:{port}"
    assert "No token was sent" in watchdog("status", "--url", url).stderr
    done = watchdog("status", "--url", url, WATCHDOG_ADMIN_TOKENS="not-this-one")
    assert (done.returncode, done.stdout) == (1, "")
    assert "The token of WATCHDOG_ADMIN_TOKENS was sent" in done.stderr
    assert "not-this-one" not in done.stderr
    (tmp_path / "token").write_text("nor-this-one")
    done = watchdog("status", "--url", url, "--token-file", str(tmp_path / "token"))
    assert "The token of --token-file was sent" in done.stderr
    assert "nor-this-one" not in done.stderr
    (tmp_path / "empty").write_text("\n")
    for name in ("missing", "empty"):
        done = watchdog("status", "--url", url, "--token-file", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("--token-file: got ")
        assert "WATCHDOG_" not in done.stderr


@pytest.fixture
def secure(answers, tmp_path):
    """A daemon that serves HTTPS, as localhost: its port, and its certificate's and key's files."""
    certificate = write(tmp_path, "localhost")
    with serving(answers, certificate) as port:
        yield port, *map(str, certificate)


def test_a_certificate_that_is_not_trusted_can_be_named(secure):
    port, certificate, _ = secure
    url = f"https://localhost:{port}"
    done = watchdog("status", "--url", url, **ADMIN)
    assert (done.returncode, done.stdout) == (1, "")
    for said in ("not trusted", "--ca-file", "SSL_CERT_FILE"):
        assert said in done.stderr
    assert watchdog("status", "--url", url, "--ca-file", certificate, **ADMIN).returncode == 0
    assert watchdog("status", "--url", url, SSL_CERT_FILE=certificate, **ADMIN).returncode == 0
    done = watchdog("status", "--url", url, "--ca-file", f"{certificate}.missing", **ADMIN)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--ca-file" in done.stderr


def test_a_daemon_with_a_certificate_is_asked_by_https(secure):
    port, certificate, key = secure
    tls = {"WATCHDOG_TLS_CERT": certificate, "WATCHDOG_TLS_KEY": key, "WATCHDOG_PORT": str(port)}
    done = watchdog("status", "--ca-file", certificate, **ADMIN, **tls, WATCHDOG_HOST="localhost")
    assert (done.returncode, done.stderr) == (0, "")
    # by the address of this machine, for which the certificate is not
    done = watchdog("status", "--ca-file", certificate, **ADMIN, **tls)
    assert done.returncode == 1
    assert "for another name" in done.stderr
    assert "--url https://NAME:PORT" in done.stderr


def test_the_wrong_scheme_is_told(secure, port):
    assert "--url http://" in watchdog("status", "--url", f"https://127.0.0.1:{port}").stderr
    assert "--url https://" in watchdog("status", "--url", f"http://localhost:{secure[0]}").stderr


def test_a_proxy_does_not_get_what_is_for_this_machine(port):
    done = watchdog("status", port=port, HTTP_PROXY="http://127.0.0.1:1", ALL_PROXY="http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")


# Start-up.

HEAVY = ("boto3", "fastapi", "httpx", "rich.progress", "watchdog.asking", "watchdog.daemon", "watchdog.settings")


@pytest.mark.parametrize(
    ("arguments", "environ", "light"),
    [
        (("--help",), {}, HEAVY),
        (("agents", "--help"), {}, HEAVY),
        ((), {"_WATCHDOG_COMPLETE": "complete_bash", "COMP_WORDS": "watchdog ag", "COMP_CWORD": "1"}, (*HEAVY, "rich")),
    ],
)
def test_help_and_completion_load_nothing_heavy(arguments, environ, light):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "watchdog", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
        env=environment(environ),
    )
    assert "agent" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "watchdog.cli" in loaded
    assert loaded.isdisjoint(light)


def test_states_are_completed():
    words = {"COMP_WORDS": "watchdog agents --state g", "COMP_CWORD": "3"}
    done = watchdog(_WATCHDOG_COMPLETE="complete_bash", **words)
    assert done.stdout.split() == ["grace", "gone"]


def test_the_sentence_counts_who_is_due():
    assert screen.sentence(WELL | {"agents": WELL["agents"] | {"live": 1, "due": 2, "held": 4, "grace": 0}}) == (
        "1 agent present, none in grace, 2 due, 4 held."
    )
