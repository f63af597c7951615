"""What we use of others: licences, known weaknesses, and the list of what the daemon is made of."""

import json
import re
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest

from tests import audit, licences

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
RUN = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")


def test_everything_that_the_daemon_needs_may_be_given_out():
    assert licences.refused(RUN) == []


@pytest.mark.parametrize(
    ("expression", "taken"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND (GPL-3.0-only OR AGPL-3.0-only)", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("MIT OR", False),
        ("", False),
        ("Proprietary", False),
        ("__import__('os')", False),
    ],
)
def test_an_expression_is_met_with_allowed_licences_or_not(expression, taken):
    assert licences.allowed(expression) is taken


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"License-Expression": "MIT OR GPL-2.0-only", "License": "GPL"}, "MIT OR GPL-2.0-only"),
        ({"License": "Apache License 2.0"}, "Apache-2.0"),
        ({"License": "a whole text", "Classifier": "License :: OSI Approved :: BSD License"}, "BSD-3-Clause"),
        ({"Classifier": "License :: Other/Proprietary License"}, "Other/Proprietary-License"),
        ({"Classifier": "Topic :: Internet"}, ""),
    ],
)
def test_a_package_names_its_licence_in_one_of_several_ways(fields, named):
    package = Message()
    for name, value in fields.items():
        package[name] = value
    assert licences.named(package) == named


def test_a_package_that_is_not_there_or_not_allowed_is_told():
    assert licences.refused("no-such-package-of-ours==1.0 \\\n") == ["no-such-package-of-ours: it is not installed"]


CLEAN = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "told"),
    [
        ([CLEAN], audit.CLEAN, "no known weaknesses in 1"),
        ([CLEAN, WEAK, SKIPPED], audit.FOUND, "b 2: PYSEC-1, mended in 2.1"),
        ([CLEAN, SKIPPED], audit.NOT_LOOKED_AT, "1 of 2 packages: not found"),
        ([SKIPPED], audit.NOT_LOOKED_AT, "1 of 1"),
        ([], audit.NOT_LOOKED_AT, "0 of 0"),
    ],
)
def test_nothing_found_is_no_good_news_where_nothing_was_looked_at(packages, code, told):
    found, lines = audit.judged({"dependencies": packages})
    assert found == code
    assert told in lines[0]


def test_make_check_looks_at_both():
    done = subprocess.run(["make", "--dry-run", "check"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tests.licences" in done.stdout
    assert "tests.audit" in done.stdout


@pytest.mark.parametrize(
    ("code", "check", "alone"), [(audit.CLEAN, 0, 0), (audit.FOUND, 1, 1), (audit.NOT_LOOKED_AT, 0, 3)]
)
def test_where_no_service_is_reached_an_audit_fails_and_a_check_does_not(code, check, alone):
    command = "$(PYTHON) -m tests.audit"
    in_check, by_itself = [line.strip() for line in MAKEFILE.splitlines() if command in line]
    for line, expected in ((in_check, check), (by_itself.removeprefix("@"), alone)):
        run = line.replace(command, f"(exit {code})").replace("$$", "$")
        assert subprocess.run(["bash", "-euo", "pipefail", "-c", run], check=False).returncode == expected


def test_the_list_of_what_the_daemon_is_made_of_is_the_lock_file(tmp_path):
    tool = Path(sys.executable).parent / "cyclonedx-py"
    if not tool.exists():
        pytest.skip("cyclonedx-py is not installed: see `make sbom`")
    (sbom,) = re.findall(r"^sbom: .*?\n\n", MAKEFILE, re.MULTILINE | re.DOTALL)
    command = (
        sbom.partition("$(BIN)/")[2].replace("\\\n", " ").replace("dist/sbom.cdx.json", str(tmp_path / "sbom.json"))
    )
    subprocess.run([tool.parent / command.split()[0], *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)
    made = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))
    assert made["bomFormat"] == "CycloneDX"
    assert made["metadata"]["component"]["name"] == "connect-presence-watchdog"
    pinned = set(re.findall(r"^([a-z0-9.-]+)==(\S+)", RUN, re.MULTILINE))
    assert {(each["name"], each["version"]) for each in made["components"]} == pinned
    assert all(each["externalReferences"][0]["hashes"] for each in made["components"])
