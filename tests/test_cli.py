"""The command line as its users meet it: a process, its output and its exit code."""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests import command
from watchdog import __version__

GOOD = {"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_HEARTBEAT_TOKENS": "kept-out-of-every-output"}
WITHOUT_MOTO = "import sys; sys.modules['moto'] = None; from watchdog.cli import main; sys.argv[0] = 'watchdog'; main()"


def watchdog(*arguments, environ=None, interpreter=None):
    """Runs the command with this environment in place of our own `WATCHDOG_…` variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WATCHDOG_", "COLUMNS"))}
    clean |= {"PYTHONIOENCODING": "utf-8"} | (environ or {})
    if interpreter is None:
        return command.run(arguments, clean)
    return subprocess.run(
        [sys.executable, *interpreter, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parent.parent,
        env=clean,
    )


def test_the_version_is_the_package_version():
    done = watchdog("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"watchdog {__version__}\n", "")


def test_the_version_loads_neither_boto3_nor_the_daemon():
    loaded = watchdog("--version", interpreter=("-X", "importtime", "-m", "watchdog")).stderr
    assert "watchdog.cli" in loaded
    for module in ("boto3", "botocore", "fastapi", "moto", "watchdog.daemon", "watchdog.settings"):
        assert f" {module}\n" not in loaded


def test_settings_are_a_table_of_at_most_80_columns_when_piped():
    done = watchdog("settings", environ=GOOD | {"WATCHDOG_SESSION_TTL": "40"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    (line,) = [line.split() for line in lines if line.split()[:1] == ["SESSION_TTL"]]
    assert line == ["SESSION_TTL", "40", "environment"]
    assert "Default: 35." in done.stdout
    assert "kept-out" not in done.stdout


def test_settings_as_json_have_every_variable():
    done = watchdog("settings", "--json", environ=GOOD | {"WATCHDOG_SESSION_TTL": "40"})
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row.pop("variable"): row for row in json.loads(done.stdout)}
    meaning = rows["WATCHDOG_SESSION_TTL"].pop("meaning")
    assert meaning.startswith("Seconds without a heartbeat")
    assert rows["WATCHDOG_SESSION_TTL"] == {"value": "40", "default": "35", "source": "environment"}
    assert rows["WATCHDOG_HEARTBEAT_TOKENS"]["value"] == "*** (1)"


@pytest.mark.parametrize("command", [("settings",), ("settings", "--json"), ("run",)])
def test_bad_settings_end_with_2_and_every_fault_on_stderr(command):
    done = watchdog(*command, environ=GOOD | {"WATCHDOG_PRT": "1", "WATCHDOG_SESSION_TTL": "3"})
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["WATCHDOG_PRT", "WATCHDOG_SESSION_TTL"]


@pytest.mark.parametrize("arguments", [("nonsense",), ("settings", "--nonsense"), ("sandbox", "--port", "65536")])
def test_bad_usage_ends_with_2_and_the_way_to_help(arguments):
    done = watchdog(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--help" in done.stderr


def test_help_lists_every_command():
    done = watchdog("--help")
    assert done.returncode == 0
    for name in ("run", "settings", "check", "sandbox", "demo", "hold", "release", "restore", "logout", "status"):
        assert f" {name} " in done.stdout
    places = [done.stdout.index(f"│ {name} ") for name in ("demo", "check", "run", "status", "hold", "replay")]
    assert places == sorted(places)


@pytest.fixture
def daemon():
    """Something that answers like a daemon, and notes what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, self.headers["authorization"], body))
            refused = self.headers["authorization"] != "Bearer admin"
            hold = {"group": "all", "state": "ordered", "agents": 3, "why": "An operator holds.", "next_step": "Over."}
            answer = {"detail": "Send an admin token."} if refused else {"state": "ordered", "held": 3, "holds": [hold]}
            wrong = body.get("instance_id") == ""
            if wrong:
                answer = {"detail": "instance_id: too short"}
            self.send_response(422 if wrong else 401 if refused else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, self.headers["authorization"], body))
            if self.path.endswith("/logout"):
                status = {"": 204, "9": 422}.get(body["reason_code"], 409)
                self.send_response(status)
                self.end_headers()
                if status != 204:
                    self.wfile.write(json.dumps({"outcome": "Fail", "detail": "A contact goes on."}).encode())
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(
                json.dumps({"since": "2026-01-31T12:00:00.000Z", "queued": 3, "left": 2, "other": 1}).encode()
            )

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_hold_and_release_ask_a_running_daemon(daemon, tmp_path):
    url, asked = daemon
    token = tmp_path / "token"
    token.write_text("admin")
    done = watchdog("hold", "--for", "1.5h", "--reason", "new proxy", "--url", url, "--token-file", str(token))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "The brake is held by an operator; 3 agents held.\nall: held by an operator, 3 held. An operator holds. Over.\n"
    )
    done = watchdog(
        "release", "--instance", "i-1", "--json", "--url", url, environ={"WATCHDOG_ADMIN_TOKENS": "admin,other"}
    )
    assert json.loads(done.stdout)["held"] == 3
    assert asked == [
        ("/v1/brake", "Bearer admin", {"state": "hold", "for_s": 5400.0, "reason": "new proxy"}),
        ("/v1/brake", "Bearer admin", {"state": "released", "for_s": 600.0, "reason": "", "instance_id": "i-1"}),
    ]


def test_without_a_url_the_daemon_of_the_same_environment_is_asked(daemon, tmp_path):
    url, asked = daemon
    environ = {"WATCHDOG_PORT": url.rpartition(":")[2], "WATCHDOG_ADMIN_TOKENS": "admin"}
    assert watchdog("hold", environ=environ).returncode == 0
    assert watchdog("restore", "--since", "15m", environ=environ).returncode == 0
    assert [path for path, _, _ in asked] == ["/v1/brake", "/v1/restore"]
    # what answers here cannot record, and says so
    refused = watchdog("record", "--out", str(tmp_path / "day.jsonl"), environ=environ)
    assert refused.stderr.startswith(f"{url} refused")
    done = watchdog("hold", environ=environ | {"WATCHDOG_PORT": "0"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "--url" in done.stderr


def test_a_url_counts_more_than_the_environment(daemon):
    url, asked = daemon
    environ = {"WATCHDOG_PORT": "tcp://10.0.0.1:8080", "WATCHDOG_ADMIN_TOKENS": "admin"}
    assert watchdog("hold", "--url", url, environ=environ).returncode == 0
    assert len(asked) == 1


def test_an_empty_instance_is_no_order_for_all(daemon):
    url, asked = daemon
    done = watchdog("release", "--instance", "", "--url", url, environ={"WATCHDOG_ADMIN_TOKENS": "admin"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "too short" in done.stderr
    assert asked[0][2]["instance_id"] == ""


def test_a_daemon_that_is_not_there_and_a_wrong_token_end_with_1(daemon):
    url, _ = daemon
    assert watchdog("hold", "--url", url, environ={"WATCHDOG_ADMIN_TOKENS": "wrong"}).returncode == 1
    done = watchdog("hold", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert ".." not in done.stderr.replace("127.0.0.1", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seed", "1", "--seeds", "3"), "--seed"),
        (("--session-ttl", "20"), "3 times"),
        (("--session-ttl", "inf"), "session-ttl"),
        (("--session-end-timer", "1e308"), "session-end-timer"),
    ],
)
def test_what_cannot_be_simulated_is_bad_usage(arguments, said):
    done = watchdog("simulate", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("mode", "alien"),
    [
        (("--seeds", "1"), ("--agents", "5000")),
        (("--seeds", "1"), ("--session-end-timer", "5")),
        (("--check",), ("--explain",)),
        (("--seed", "1", "--check"), ("--jobs", "2")),
        (("--seed", "1", "--check"), ("--from", "0")),
        (("--explain",), ("--html", "report.html")),
        (("--explain",), ("--agents", "1000")),
        ((), ("--jobs", "2")),
        ((), ("--from", "3")),
    ],
)
def test_an_option_that_would_change_nothing_is_bad_usage(mode, alien):
    done = watchdog("simulate", *mode, *alien)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Invalid value for {alien[0]}:" in done.stderr
    assert "leave it out" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [
        ("--seeds", "1", "--from", "3", "--check", "--jobs", "1"),
        ("--agents", "2", "--hours", "0.1", "--seed", "1", "--connect-rate", "3"),
        ("--explain", "--loss", "0.1", "--session-end-timer", "3", "--session-ttl", "40", "--heartbeat-interval", "12"),
    ],
)
def test_what_goes_together_is_simulated(arguments):
    done = watchdog("simulate", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_what_is_simulated_is_told_as_json():
    day = ("--agents", "20", "--hours", "0.1", "--json")
    found = json.loads(watchdog("simulate", *day).stdout)
    assert next((each["timer_s"], each["ttl_s"]) for each in found["figures"]) == (5.0, 35.0)
    assert found["figures"][0]["computed"] > 0
    assert found["tables"][0]["headings"][1] == "5 / 35 s"
    found = json.loads(watchdog("simulate", "--explain", "--json").stdout)
    assert (found["figures"], len(found["tables"])) == ([], 4)
    found = json.loads(watchdog("simulate", "--seeds", "2", "--from", "3", "--jobs", "1", "--json").stdout)
    assert (found["first"], found["worlds"], found["worlds_with_violations"], found["violations"]) == (3, 2, 0, [])


def test_a_recording_is_replayed_as_json(tmp_path):
    path = tmp_path / "day.jsonl"
    timers = {"session_end_timer_s": 5.0, "heartbeat_interval_s": 10.0, "session_ttl_s": 35.0}
    timers |= {"throttled_session_ttl_s": 150.0, "connect_rate": 2.0, "dry_run": False}
    lines = [
        {"format": "watchdog.recording", "version": 1, "for_s": 20.0, "settings": timers},
        {"t": 1.998, "kind": "hello", "a": 1, "s": 1, "i": 0, "lease": "session", "q": 1},
        {"t": 5.756, "kind": "bye", "a": 1, "s": 1, "i": 0, "lease": "session", "q": 2},
        {"t": 60.0, "kind": "end", "complete": True},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = watchdog("replay", str(path), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["figures"][0]
    assert (found["timer_s"], found["writes"]) == (5.0, 1)
    assert 5.0 <= found["detection_s_p50"] < 6.0


def test_ctrl_c_ends_all_processes_of_a_check_without_a_word():
    process = subprocess.Popen(
        [sys.executable, "-m", "watchdog", "simulate", "--seeds", "5000", "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 60
    try:
        while len(children.read_text().split()) < 2:
            assert time.monotonic() < end
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_restore_asks_a_running_daemon(daemon):
    url, asked = daemon
    admin = {"WATCHDOG_ADMIN_TOKENS": "admin"}
    done = watchdog("restore", "--since", "2026-01-31T12:00:00Z", "--url", url, environ=admin)
    assert (done.returncode, done.stderr) == (0, "")
    assert "being restored now: 3; as soon as they are heard: 2; left as they are, " in done.stdout
    assert "not known: 1.\n" in done.stdout
    began = time.time()
    done = watchdog("restore", "--since", "15m", "--silent", "--instance", "i-1", "--json", "--url", url, environ=admin)
    assert json.loads(done.stdout) == {"since": "2026-01-31T12:00:00.000Z", "queued": 3, "left": 2, "other": 1}
    (path, token, plain), (_, _, silent) = asked
    assert (path, token, plain) == ("/v1/restore", "Bearer admin", {"since": "2026-01-31T12:00:00Z", "silent": False})
    assert (silent["silent"], silent["instance_id"]) == (True, "i-1")
    assert began - 1 <= float(silent["since"]) + 900 <= time.time() + 1


def test_logout_asks_a_running_daemon_and_tells_what_became_of_it(daemon):
    url, asked = daemon
    admin = {"WATCHDOG_ADMIN_TOKENS": "admin"}
    done = watchdog("logout", "i-1/u-1", "--queue", "q-1", "--url", url, environ=admin)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("i-1/u-1 is logged out")
    arn = "arn:aws:connect:us-east-1:123456789012:instance/i-1/agent/u-2"
    done = watchdog("logout", arn, "--json", "--url", url, environ=admin)
    assert (done.returncode, json.loads(done.stdout)) == (0, {})
    done = watchdog("logout", "i-1/u-1", "--reason-code", "7", "--url", url, environ=admin)
    assert (done.returncode, done.stdout) == (1, "")
    assert "(409): A contact goes on." in done.stderr
    assert watchdog("logout", "i-1/u-1", "--reason-code", "9", "--url", url, environ=admin).returncode == 2
    assert asked[:2] == [
        ("/v1/agents/i-1/u-1/logout", "Bearer admin", {"queue": "q-1", "reason_code": ""}),
        ("/v1/agents/i-1/u-2/logout", "Bearer admin", {"queue": "", "reason_code": ""}),
    ]


@pytest.mark.parametrize("agent", ["u-1", "", "i-1/", "arn:aws:connect:us-east-1:1:instance/i", "i/u/logout?x"])
def test_logout_of_what_is_no_agent_is_bad_usage(daemon, agent):
    url, asked = daemon
    done = watchdog("logout", agent, "--url", url, environ={"WATCHDOG_ADMIN_TOKENS": "admin"})
    assert (done.returncode, done.stdout, asked) == (2, "", [])
    assert "INSTANCE-ID/USER-ID" in done.stderr


@pytest.mark.parametrize("time", ["25h", "2d", "soon"])
def test_an_order_of_more_than_a_day_is_bad_usage_and_not_asked_for(daemon, time):
    url, asked = daemon
    done = watchdog("hold", "--for", time, "--url", url, environ={"WATCHDOG_ADMIN_TOKENS": "admin"})
    assert (done.returncode, done.stdout, asked) == (2, "", [])
    assert "--for" in done.stderr


def test_restore_does_not_guess_since_when(daemon):
    url, asked = daemon
    done = watchdog("restore")
    assert done.returncode == 2
    assert "--since" in done.stderr
    # 15 min, whose unit was forgotten; as seconds since 1970 it would be everybody of a month.
    done = watchdog("restore", "--since", "15", "--url", url, environ={"WATCHDOG_ADMIN_TOKENS": "admin"})
    assert (done.returncode, done.stdout, asked) == (2, "", [])
    assert "15m" in done.stderr


def test_a_refusal_and_a_daemon_that_is_not_there_end_with_1(daemon):
    url, _ = daemon
    done = watchdog("hold", "--url", url, environ={"WATCHDOG_ADMIN_TOKENS": "wrong"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "Send an admin token." in done.stderr
    assert "wrong" not in done.stderr
    done = watchdog("hold", "--url", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--url" in done.stderr


@pytest.mark.parametrize("length", ["soon", "-1", "10 minutes", ""])
def test_a_length_that_is_none_ends_with_2(length):
    done = watchdog("hold", "--for", length)
    assert done.returncode == 2
    assert "--for" in done.stderr


@pytest.mark.parametrize("command", ["sandbox", "demo"])
def test_without_moto_the_sandbox_and_the_demo_tell_what_to_install(command):
    done = watchdog(command, interpreter=("-c", WITHOUT_MOTO))
    assert done.returncode == 2
    assert done.stderr == (
        'This command needs moto, not installed here: in the folder of the project, pip install ".[sandbox]"\n'
    )
