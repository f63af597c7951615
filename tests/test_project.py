"""The project's own files: locked requirements, one version, make targets, what goes into the image and the wheel."""

import fnmatch
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.ingest.certificates import write
from watchdog import __version__, alive
from watchdog.settings import Settings

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("build", "run", "sandbox", "dev")


def lock(name):
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pins(name):
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock(name), re.MULTILINE))


def normal(requirement):
    """The name of a requirement as lock files write it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_names_no_index_no_url_and_no_path(name):
    text = lock(name)
    assert "make lock" in text
    for word in ("://", "--index", "--extra-index", "--find-links", "--trusted-host", " /", "-e "):
        assert word not in text


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_requirement_has_a_hash(name):
    blocks = [block for block in re.split(r"^(?=[^\s#])", lock(name), flags=re.MULTILINE) if not block.startswith("#")]
    assert blocks
    assert not [block for block in blocks if not re.match(r"\S+==\S+ (; .*)?\\\n    --hash=sha256:[0-9a-f]{64}", block)]


def test_the_lock_files_agree_and_each_contains_the_smaller_one():
    assert pins("build").items() <= pins("sandbox").items()
    assert pins("run").items() <= pins("sandbox").items() <= pins("dev").items()


def test_every_declared_requirement_is_locked():
    declared = PROJECT["project"]
    extras = declared["optional-dependencies"]
    assert {normal(r) for r in declared["dependencies"]} <= pins("run").keys()
    assert {normal(r) for r in extras["sandbox"]} <= pins("sandbox").keys()
    assert {normal(r) for r in extras["dev"]} <= pins("dev").keys()
    assert set(extras["sandbox"]) <= set(extras["dev"])


def test_the_image_and_the_project_name_no_registry():
    for name in ("Dockerfile", "Makefile", "pyproject.toml", "tests/venv.sh", "tests/setup.sh", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.findall(
            r"(?<!no-emit-)(?:index-url|find-links|trusted-host)|[\w-]+\.(?:io|com|org|net)/", text
        ), name
    images = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(images) == {"python:3.12-slim-bookworm"}


def test_the_version_is_written_in_one_place():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "watchdog.__version__"}
    assert __version__ not in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_variables_that_the_image_sets_are_settings():
    variables = dict(re.findall(r"(WATCHDOG_\w+)=(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    settings = Settings.load(variables | {"WATCHDOG_INSTANCES": "i-1", "WATCHDOG_HEARTBEAT_TOKENS": "t"})
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    # Nothing of it stands beside a WATCHDOG_STORE_FILE.
    assert not {"WATCHDOG_STORE", "WATCHDOG_STORE_FILE"} & variables.keys()
    (folder,) = re.findall(r"^WORKDIR (/data)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert folder / settings.store_path == Path("/data/watchdog.db")


def health_check():
    """The command of the image's HEALTHCHECK."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return json.loads(re.search(r"^HEALTHCHECK .*?CMD (\[[^\n]*\])$", text, re.MULTILINE | re.DOTALL)[1])


@pytest.mark.parametrize(("status", "code"), [(200, 0), (204, 1), (503, 1)])
@pytest.mark.parametrize("tls", [False, True])
def test_the_image_asks_for_its_health_where_it_listens(tmp_path, status, code, tls):
    asked = []

    class Livez(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Livez) as server:
        env = {"WATCHDOG_HOST": "0.0.0.0", "WATCHDOG_PORT": str(server.server_port), "PYTHONPATH": str(ROOT)}
        if tls:
            # For another name, and of nobody's authority.
            cert, key = write(tmp_path, "watchdog.example.com")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            env["WATCHDOG_TLS_CERT"] = str(cert)
        threading.Thread(target=server.handle_request, daemon=True).start()
        env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(health_check(), env=env, check=False, timeout=30, capture_output=True)
    assert (done.returncode, done.stderr) == (code, b"")
    assert asked == [("/livez", "localhost")]


def test_an_image_in_which_nobody_listens_is_unhealthy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert not alive.ask("127.0.0.1", taken.getsockname()[1], tls=False)


def test_every_file_of_the_package_goes_into_the_wheel():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    left_out = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "watchdog").rglob("*")
        if path.is_file()
        and path.suffix not in {".py", ".pyc"}
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
    ]
    assert left_out == []


def test_make_lists_all_targets_that_it_has():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"make ([a-z-]+) ", listed.stdout)) == set(phony[1].split())


def test_continuous_integration_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith("exec make test")


def run_tests(folder, python, **environ):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [ROOT / "tests" / "run.sh", python, "not long"]
    return subprocess.run(
        command, cwd=folder, env={**kept, **environ}, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.parametrize(
    ("shared", "story", "serial", "code", "told"),
    [
        (0, 0, 0, 0, ["shared", "story", "serial"]),
        (0, 5, 5, 0, ["shared", "story", "serial"]),
        (5, 0, 5, 0, ["shared", "story", "serial"]),
        (5, 5, 0, 0, ["shared", "story", "serial"]),
        (5, 5, 5, 5, ["shared", "story", "serial"]),
        (1, 0, 0, 1, ["shared", "story", "serial"]),
        (2, 5, 0, 2, ["shared", "story"]),
        (0, 2, 0, 2, ["shared", "story"]),
        (0, 1, 0, 1, ["shared", "story", "serial"]),
        (1, 1, 0, 1, ["shared", "story", "serial"]),
        (0, 0, 1, 1, ["shared", "story", "serial"]),
    ],
)
def test_a_part_without_tests_passes_and_one_that_fails_does_not(tmp_path, shared, story, serial, code, told):
    python = tmp_path / "python"
    python.write_text(
        """#!/usr/bin/env bash
        case "$*" in
            "- "*) exit 0 ;; # asked which have failed
            *"not serial and not story"*) part=shared ;;
            *"and serial"*) part=serial ;;
            *"and story"*) part=story ;;
        esac
        echo "$part"
        exit "${!part}"
        """
    )
    python.chmod(0o700)
    done = run_tests(tmp_path, python, shared=str(shared), story=str(story), serial=str(serial))
    assert (done.returncode, done.stderr) == (code, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in ("shared", "story", "serial")] == told
    assert (lines[-1] == "failed: see above") == (code == 1)


@pytest.mark.parametrize(
    ("flaky", "bad", "code", "last"),
    [
        (2, 0, 0, "passed only when run once more, by itself: test_it.py::test_flaky[1]"),
        (2, 1, 1, "========================= 1 failed, 2 passed in "),
        (4, 0, 1, "failed: test_it.py::test_flaky[3]"),
    ],
)
def test_a_few_tests_that_failed_are_run_once_more_by_themselves(tmp_path, flaky, bad, code, last):
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    serial\n    story\n    long\n")
    (tmp_path / "test_it.py").write_text(
        f"""
import pathlib, pytest

@pytest.mark.parametrize("number", range({flaky}))
def test_flaky(number, mark=pathlib.Path(__file__).parent):
    seen = (mark / str(number)).exists()
    (mark / str(number)).touch()
    assert seen

@pytest.mark.parametrize("number", range({bad}))
def test_bad(number):
    assert not number + 1
"""
    )
    # In one process, and without what else is installed: neither is what is looked at.
    python = tmp_path / "python"
    python.write_text(
        f"""#!/usr/bin/env bash
        told=("$@")
        for at in "${{!told[@]}}"; do
            case "${{told[at]}}" in
                -n | --dist) unset "told[at]" "told[at + 1]" ;;
            esac
        done
        exec {sys.executable} "${{told[@]}}"
        """
    )
    python.chmod(0o700)
    done = run_tests(tmp_path, python, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == code, done.stdout
    assert any(line.startswith(last) for line in done.stdout.splitlines()[-4:]), done.stdout


@pytest.mark.parametrize(("marks", "code"), [([], 5), (["long", "serial", "story", ""], 0)])
def test_each_test_is_in_one_part(tmp_path, marks, code):
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    serial\n    story\n    long\n")
    lines = ["import pytest"]
    for number, mark in enumerate(marks):
        lines += [f"@pytest.mark.{mark}"] if mark else []
        lines += [f"def test_{number}(): pass"]
    (tmp_path / "test_it.py").write_text("\n".join(lines))
    # The other plugins take most of the time.
    done = run_tests(tmp_path, sys.executable, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="-p xdist")
    assert done.returncode == code, done.stdout + done.stderr
    assert len(re.findall(r"\b1 passed", done.stdout)) == len([mark for mark in marks if mark != "long"])


def test_system_packages_that_are_there_need_no_rights_and_missing_ones_are_named(tmp_path):
    setup = ROOT / "tests" / "setup.sh"
    assert subprocess.run([setup, "bash:bash", "coreutils:env"], capture_output=True, check=False).returncode == 0
    bash = subprocess.run(["bash", "-c", "command -v bash"], capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run(
        [bash, setup, "some-package:some-command", "bash:bash"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "some-package bash" in done.stderr
