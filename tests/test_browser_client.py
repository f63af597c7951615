"""The browser client as files: what npm would publish, what the wheel has, its tools.

What it does is tested in `tests/client`, by node.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from watchdog import __version__
from watchdog.ingest.client_files import NAMES

ROOT = Path(__file__).parent.parent
WEB = ROOT / "watchdog" / "web"
CLIENT = WEB / "client"
TOOLS = ROOT / "tests" / "client"


def package(folder):
    return json.loads((folder / "package.json").read_text(encoding="utf-8"))


def test_the_package_for_npm_is_complete_and_has_no_dependencies():
    told = package(CLIENT)
    assert told["version"] == __version__
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & told.keys()
    # Nothing runs where it is installed.
    assert told["scripts"].keys() == {"prepack", "postpack"}
    named = {told["main"], told["types"]}
    for target in told["exports"].values():
        named |= {target} if isinstance(target, str) else set(target.values())
    assert all((CLIENT / name).is_file() for name in named)
    assert {path.name for path in CLIENT.iterdir()} == {
        *(name.removeprefix("./") for name in named),
        "package.json",
        "README.md",
    }


def test_the_daemon_gives_out_all_scripts():
    assert sorted(NAMES) == sorted(path.name for path in CLIENT.glob("*.js"))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_loads_nothing_but_its_neighbours_and_writes_no_html(name):
    text = (CLIENT / name).read_text(encoding="utf-8")
    code = re.sub(r"/\*\*.*?\*/|^\s*//.*$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert {found.removeprefix("./") for found in re.findall(r'(?:from|import\()\s*"([^"]+)"', code)} <= set(NAMES)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", code)


def test_the_wheel_has_the_client_and_the_example(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "watchdog", tmp_path / "watchdog", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import setup; setup(script_args=['-q', 'build_py', '--build-lib', 'built'])"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    built = tmp_path / "built" / "watchdog" / "web"
    for folder in ("client", "dashboard", "dashboard/vendor", "example"):
        assert {path.name for path in (built / folder).iterdir()} == {path.name for path in (WEB / folder).iterdir()}


def test_the_tools_are_pinned_by_hash_and_name_no_registry():
    lock = json.loads((TOOLS / "package-lock.json").read_text(encoding="utf-8"))
    tools = {name: each for name, each in lock["packages"].items() if name}
    assert tools
    assert all(each["integrity"].startswith("sha512-") for each in tools.values())
    assert not any("resolved" in each for each in tools.values())
    assert lock["packages"][""]["devDependencies"] == package(TOOLS)["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", pinned) for pinned in package(TOOLS)["devDependencies"].values())


@pytest.mark.parametrize(("ci", "code"), [({}, 0), ({"CI": "true"}, 1)])
def test_without_node_the_client_is_not_checked_which_fails_in_continuous_integration(tmp_path, ci, code):
    for command in ("dirname", "bash"):
        (tmp_path / command).symlink_to(shutil.which(command))
    done = subprocess.run(
        [shutil.which("bash"), TOOLS / "check.sh"],
        env={"PATH": str(tmp_path), **ci},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "no node here" in done.stderr) == (code, True)


def test_continuous_integration_says_that_it_is_one_and_checks_run_the_client():
    assert "export CI=true\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(TOOLS / "check.sh", os.X_OK)
    done = subprocess.run(["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "\ntests/client/check.sh\n" in done.stdout
