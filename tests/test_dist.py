"""What `make dist` makes: a wheel with all that the daemon needs and nothing of the tests, which works by itself."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from watchdog import __version__

ROOT = Path(__file__).parent.parent
NAME = f"connect_presence_watchdog-{__version__}"

SECRETS = (
    *(
        f"deploy/{folder}/{name}"
        for folder in ("compose", "compose-valkey")
        for name in (".env", "watchdog.env", "secrets/metrics-token", "secrets/store")
    ),
    "deploy/kubernetes/example/admin-tokens",
)
"""What whoever deploys has put there."""

pytestmark = pytest.mark.long


def tracked(folder):
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, check=True)
    return {name for name in listed.stdout.decode().split("\0") if name}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder with both archives, made of a copy, since building leaves files in the source."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    archive = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", source], cwd=ROOT, input=archive.stdout, check=True)
    for secret in SECRETS:
        (source / secret).parent.mkdir(exist_ok=True)
        (source / secret).write_text("secret")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", made, source],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return made


@pytest.fixture(scope="module")
def names(dist):
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        return set(wheel.namelist())


def test_both_archives_are_there_and_nothing_else(dist):
    assert {path.name for path in dist.iterdir()} == {f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"}


def test_the_wheel_has_the_package_and_its_licence_and_nothing_else(names):
    info = f"{NAME}.dist-info"
    package = tracked("watchdog")
    assert "watchdog/py.typed" in package
    assert any(name.endswith(".lua") for name in package)
    assert "watchdog/web/dashboard/vendor/uPlot.LICENSE.txt" in package
    assert {name for name in names if not name.startswith(info)} == package
    assert f"{info}/licenses/LICENSE" in names
    assert f"{info}/entry_points.txt" in names


def test_the_source_archive_has_what_the_wheel_is_built_of_and_only_files_of_ours(dist):
    with tarfile.open(dist / f"{NAME}.tar.gz") as source:
        names = {member.name.partition("/")[2] for member in source if member.isfile()}
    assert names >= tracked("watchdog") | {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"}
    made = {"PKG-INFO", "setup.cfg"} | {name for name in names if name.partition("/")[0].endswith(".egg-info")}
    assert names - made <= tracked(".")
    assert names >= tracked("docs") | tracked("deploy") | tracked("requirements") | {"Dockerfile", "CHANGELOG.md"}
    assert not [name for name in names if name.startswith("tests/")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(("--version",), 0, __version__), (("settings",), 2, "WATCHDOG_INSTANCES: got nothing"), (("--help",), 0, "demo")],
)
def test_the_command_works_from_the_wheel_alone(dist, tmp_path_factory, arguments, code, said):
    there = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        wheel.extractall(there)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WATCHDOG_", "PYTHON"))}
    where = "import watchdog, sys; from watchdog.__main__ import main; print(watchdog.__file__); sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", where, *arguments],
        cwd=there,
        env=kept | {"PYTHONPATH": str(there)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(str(there))
    assert said in done.stdout + done.stderr
