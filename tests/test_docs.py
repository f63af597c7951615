"""The documentation agrees with the code: settings, endpoints, metrics, events, problems, and every link.

`python -m tests.test_docs` writes the generated parts of docs/settings.md, docs/policy.md, docs/client.md and
docs/commands.md.
"""

import ast
import base64
import hashlib
import json
import re
import time
from pathlib import Path

import httpx
import pytest

from tests import commands_page
from tests.core import policy_table
from watchdog import __version__, needs, settings
from watchdog.connect.directory import CODES
from watchdog.connect.guard import RESULTS
from watchdog.connect.iam import Place, policy
from watchdog.core.clock import Cause
from watchdog.core.logout import Failure
from watchdog.core.model import AgentState, Outcome
from watchdog.core.policy import Facts, decide
from watchdog.environment import variable
from watchdog.health import PROBLEMS
from watchdog.ingest.answers import Rejection
from watchdog.ingest.app import build
from watchdog.ingest.auth import AuthMode, Gate, Tickets, Tokens
from watchdog.ingest.client_files import NAMES
from watchdog.ingest.websocket_protocol import Ended
from watchdog.settings import Settings
from watchdog.telemetry.actions import EVENTS
from watchdog.telemetry.cloudevents import TOLD, Event
from watchdog.telemetry.metrics import Metrics
from watchdog.telemetry.notify import RESULTS as NOTIFIED
from watchdog.telemetry.webhook import Webhook

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
DECISIONS = sorted(page for page in (DOCS / "decisions").glob("*.md") if not page.name.startswith("000-"))

BEGIN, END = "<!-- begin: generated -->", "<!-- end: generated -->"

LEVELS = ("debug", "info", "warning", "error", "critical")


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def table(name):
    """The rows of all tables of a page whose first cell is code: its text, and the other cells."""
    rows = re.findall(r"^\| `([^`|]+)` \|(.*)\|$", text(name), re.MULTILINE)
    return [(first, [cell.strip() for cell in rest.split(" | ")]) for first, rest in rows]


# Settings.


def settings_reference():
    """The generated part of docs/settings.md."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    details = []
    for name, field in Settings.model_fields.items():
        default = None if field.is_required() else settings.shown(field.default)
        shown = "required" if field.is_required() else "–" if default is None else f"`{default}`"
        paragraphs = [" ".join(each.split()) for each in field.description.split("\n\n")]
        secret = settings._takes(field).secret
        rows.append(f"| [`{variable(name)}`](#{variable(name).lower()}) | {shown} | {paragraphs[0]} |")
        takes = f"Takes {settings._takes_in_words(field)}. "
        takes += "Required." if field.is_required() else f"Default: {'none' if default is None else shown}."
        if secret:
            takes += f" Secret: `{variable(name)}_FILE` takes the path of a file."
        if settings._takes(field).file:
            takes += f" May hold a secret: `{variable(name)}_FILE` takes the path of a file."
        details += [f"## {variable(name)}", "", takes, "", *"\n\n".join(paragraphs).split("\n"), ""]
    return "\n".join([*rows, "", *details]).rstrip()


def settings_page():
    """The whole page as it should be."""
    head, rest = text("docs/settings.md").split(BEGIN)
    return f"{head}{BEGIN}\n{settings_reference()}\n{END}{rest.split(END)[1]}"


def test_the_reference_of_settings_is_current():
    assert text("docs/settings.md") == settings_page(), "run: python -m tests.test_docs"


def test_every_variable_named_anywhere_is_one_of_this_version():
    known = {variable(name) for name in Settings.model_fields}
    known |= {
        f"{variable(name)}_FILE"
        for name, field in Settings.model_fields.items()
        if settings._takes(field).secret or settings._takes(field).file
    }
    # set by systemd and by Kubernetes, and named to say that they are ignored
    known |= {"WATCHDOG_USEC", "WATCHDOG_PID", "WATCHDOG_SERVICE_HOST", "WATCHDOG_PORT_8080_TCP"}
    for page in PAGES:
        named = set(re.findall(r"WATCHDOG_[A-Z0-9_]*[A-Z0-9]\b", page.read_text(encoding="utf-8")))
        assert named <= known, page.name


# The policy.


def policy_page():
    """The whole page as it should be."""
    head, rest = text("docs/policy.md").split(BEGIN)
    return f"{head}{BEGIN}\n{policy_table.rendered()}\n{END}{rest.split(END)[1]}"


def test_the_decision_table_is_current():
    assert text("docs/policy.md") == policy_page(), "run: python -m tests.test_docs"


def examples(page):
    """The settings of each example."""
    blocks = re.findall(r"^```\n(WATCHDOG_.*?|\"stages.*?)\n```$", text(page), re.MULTILINE | re.DOTALL)
    for block in blocks:
        example = f'WATCHDOG_RULES=[{{"name": "x", {block}}}]' if block.startswith('"') else block
        variables = dict(re.findall(r"^(WATCHDOG_\w+)=(.*?)(?=\nWATCHDOG|\Z)", example, re.MULTILINE | re.DOTALL))
        assert variables
        yield Settings.load(policy_table.NEEDED | variables)


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("docs/policy.md", 9),
        ("docs/from-salesforce.md", 3),
        ("docs/rollout.md", 2),
        ("docs/from-pega.md", 1),
        ("docs/from-beforeunload.md", 1),
    ],
)
def test_the_examples_of_settings_are_taken(page, count):
    assert len(list(examples(page))) == count


def decided(chosen, profile, silent_s):
    facts = Facts(profile, "id-Available", "Available")
    return policy_table.in_words(decide(chosen.rules_in_force, facts, silent_s), facts)


def test_the_adapters_configurations_are_decided_as_the_page_says():
    one, _, several = examples("docs/from-salesforce.md")
    assert decided(one, "On-Call", 21) == "default: set the OFFLINE status"
    assert decided(one, "On-Call", 19) == "look again at 20 s"
    assert decided(one, "Sales", 21) == "skipped_profile"
    words = {
        "Offline, then signed out": "default: sign out",
        "nothing yet": "look again at 20 s",
        "Offline": "on call: set the OFFLINE status",
        "left alone": "skipped_profile",
    }
    rows = re.findall(r"^\| ([^|]+) \| (\d+) s \| ([^|:]+)[^|]* \|$", text("docs/from-salesforce.md"), re.MULTILINE)
    assert len(rows) == 5
    for profile, silent_s, done in rows:
        assert decided(several, profile, float(silent_s)) == words[done.strip()], profile


def test_the_steps_of_the_roll_out_leave_everybody_else_alone():
    one, two = examples("docs/rollout.md")
    for chosen in (one, two):
        assert decided(chosen, "Pilot", 6) == "default: set the OFFLINE status"
        assert decided(chosen, "Sales", 3600) == "skipped_profile"
    assert decided(one, "Field", 3600) == "skipped_profile"
    assert decided(two, "Field", 19) == "look again at 20 s"
    assert decided(two, "Field", 21) == "field: set the OFFLINE status"


def test_a_rule_takes_over_what_it_leaves_out_as_the_page_says():
    _, careless, _ = examples("docs/from-salesforce.md")
    assert decided(careless, "On-Call", 21) == "on call: sign out"


# The commands.


def page_of_commands():
    """The whole page as it should be."""
    head, rest = text("docs/commands.md").split(BEGIN)
    return f"{head}{BEGIN}\n{commands_page.rendered()}\n{END}{rest.split(END)[1]}"


def test_the_reference_of_commands_is_current():
    assert text("docs/commands.md") == page_of_commands(), "run: python -m tests.test_docs"


@pytest.mark.parametrize("name", commands_page.commands())
def test_every_command_has_examples_with_options_that_there_are(name):
    command = commands_page.commands()[name]
    paragraphs, examples = commands_page.parts(command.help)
    assert len(examples) > 1
    assert len(paragraphs) > 1, "typer takes away the indentation of examples that follow a single paragraph"
    known = {opt for parameter in command.params for opt in parameter.opts}
    for example in examples:
        (mine,) = re.findall(rf"watchdog {name}(?=\s|$)([^|>&]*)", example)
        assert set(re.findall(r"--[a-z-]+", mine)) <= known


# The IAM policy.


@pytest.mark.parametrize(
    ("page", "arn"),
    [
        ("README.md", "arn:aws:connect:REGION:ACCOUNT:instance/INSTANCE-ID"),
        (
            "docs/check.md",
            "arn:aws:connect:us-east-1:123456789012:instance/e8a9e0b6-14be-54b3-9732-74a76db5db40",
        ),
    ],
)
def test_the_iam_policy_is_that_of_the_defaults_with_an_admin_token(page, arn):
    (block,) = re.findall(r"^```json\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)
    used = needs.uses(Settings.load(policy_table.NEEDED | {"WATCHDOG_ADMIN_TOKENS": "a"}))
    assert json.loads(block) == policy([Place(arn, None)], used)


# The browser client.


def client_page():
    """The whole page as it should be."""
    head, rest = text("docs/client.md").split(BEGIN)
    rows = ["| file | `integrity` |", "|---|---|"]
    for name in NAMES:
        digest = hashlib.sha384((ROOT / "watchdog" / "web" / "client" / name).read_bytes()).digest()
        rows.append(f"| `{name}` | `sha384-{base64.b64encode(digest).decode()}` |")
    generated = "\n".join(rows)
    return f"{head}{BEGIN}\n{generated}\n{END}{rest.split(END)[1]}"


def test_the_hashes_of_the_client_are_current():
    assert text("docs/client.md") == client_page(), "run: python -m tests.test_docs"


def test_the_page_of_the_client_names_every_option():
    options = re.search(r"interface Options {(.*?)\n}", text("watchdog/web/client/presence.d.ts"), re.DOTALL)[1]
    named = set(re.findall(r"^  (\w+)\?:", options, re.MULTILINE))
    assert len(named) > 5
    assert named == {first for first, cells in table("docs/client.md") if len(cells) == 3}


# Endpoints.


async def test_every_endpoint_and_no_other_is_in_the_page():
    gate = Gate(AuthMode.NONE, Tokens([]), Tokens([]), Tickets([b"0123456789abcdef"]))
    app = build(
        heartbeats=None,
        store=None,
        gate=gate,
        health=None,
        metrics=None,
        recordings=None,
        logouts=None,
        version=__version__,
        instances=(),
        now=None,
        console=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://docs") as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    operations = {f"{method.upper()} {path}" for path, of in paths.items() for method in of}
    documented = set(re.findall(r"^##+ `((?:GET|POST|PUT) \S+)`", text("docs/http.md"), re.MULTILINE))
    assert documented == operations | {"GET /openapi.json"}


def test_every_reason_state_and_outcome_is_in_the_page():
    named = {first for first, _ in table("docs/http.md")}
    assert {f"urn:watchdog:problem:{reason}" for reason in (*Rejection, *Failure)} == {
        each for each in named if each.startswith("urn:")
    }
    assert set(AgentState) <= named
    assert set(Outcome) <= named


# Metrics.


def test_the_page_of_metrics_names_exactly_those_that_are_rendered():
    metrics = Metrics(
        "0",
        rejections=Rejection,
        operations=["PutUserStatus"],
        results=["ok"],
        ends=Ended,
        notifications=NOTIFIED,
        problems=PROBLEMS,
    )
    rendered = metrics.render().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", rendered, re.MULTILINE))
    labels = {
        name: {
            label
            for found in re.findall(rf"^{name}(?:_bucket)?{{([^}}]*)}}", rendered, re.MULTILINE)
            for label in re.findall(r"(\w+)=", found)
        }
        - {"le"}
        for name in kinds
    }
    documented = {
        name: (cells[0], set(re.findall(r"`(\w+)`", cells[1])))
        for name, cells in table("docs/metrics.md")
        if name.startswith(("watchdog_", "process_"))
    }
    assert documented == {name: (kind, labels[name]) for name, kind in kinds.items()}


def test_the_values_of_labels_are_explained():
    page = text("docs/metrics.md")
    for value in (*Rejection, *Ended, *Cause, *AgentState, *RESULTS.values(), *NOTIFIED, "ok", "cancelled"):
        assert f"`{value}`" in page, value


# Events and problems.


def calls():
    """Every call in the daemon: name of the function or method, and its text arguments by position."""
    for path in sorted((ROOT / "watchdog").rglob("*.py")):
        # The Python client logs in its user's program.
        if {"client", "sandbox", "simulation"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                yield (
                    name,
                    [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)],
                )


def test_every_event_and_no_other_is_in_the_page():
    events = set(EVENTS.values())
    for _, texts in calls():
        events |= {each for each in texts if re.fullmatch(r"[a-z]+\.[a-z_]+", each)}
    assert {first for first, _ in table("docs/events.md")} == events


def test_the_page_of_events_tells_their_levels():
    logged = {texts[0]: name for name, texts in calls() if name in LEVELS and texts}
    documented = {first: cells[0] for first, cells in table("docs/events.md")}
    assert logged.items() <= documented.items()
    assert set(documented.values()) <= set(LEVELS) | {"its own"}


def test_every_code_of_a_problem_and_no_other_is_explained():
    makers = {"Problem": 0, "_note": 0, "_tell": 0, "open": 0, "_fault": 0, "fromkeys": 0, "get": 0}
    codes = set(CODES.values())
    for path in [
        *(ROOT / "watchdog" / "connect").glob("*.py"),
        *(ROOT / "watchdog" / name for name in ("health.py", "canary.py")),
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in makers:
                if getattr(node.func, "attr", "") == "get" and getattr(node.func.value, "id", "") != "CODES":
                    continue
                texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                codes |= {each for each in texts if re.fullmatch(r"[a-z_]+", each)}
    documented = re.findall(r"^### `([a-z_]+)`$", text("docs/troubleshooting.md"), re.MULTILINE)
    assert set(documented) == codes == set(PROBLEMS)
    assert list(PROBLEMS) == sorted(PROBLEMS)


# Webhooks.


def test_the_page_of_webhooks_names_every_outcome_that_is_told():
    named = {first for first, _ in table("docs/webhooks.md") if first.startswith("watchdog.action.")}
    assert named == {f"watchdog.action.{outcome}" for outcome in TOLD}


async def test_the_example_verifies_what_is_sent_and_nothing_else():
    (secret,) = re.findall(r"^WATCHDOG_NOTIFY_SECRET=(\S+)$", text("docs/webhooks.md"), re.MULTILINE)
    (code,) = re.findall(r"^```python\n(.*?)^```$", text("docs/webhooks.md"), re.MULTILINE | re.DOTALL)
    example = {}
    exec(code, example)  # the page's own
    verify, event = example["verify"], Event("id-1", "t", time.time(), b'{"specversion":"1.0"}')
    other = f"whsec_{'A' * 32}"
    hook = Webhook("http://x", [other, secret], epoch=time.time)
    late = Webhook("http://x", [secret], epoch=lambda: time.time() - 400)
    headers = hook.headers(event)
    assert verify(secret, headers, event.body)
    assert verify(other, headers, event.body)
    assert not verify(f"whsec_{'B' * 32}", headers, event.body)
    assert not verify(secret, headers, event.body + b" ")
    assert not verify(secret, headers | {"webhook-id": "id-2"}, event.body)
    assert not verify(secret, late.headers(event), event.body)
    await hook.close()
    await late.close()


# The architecture.


def test_the_layout_names_every_module_and_no_other():
    layout = re.search(
        r"^## Layout.*?^```\nwatchdog/\n(.*?)^```$", text("docs/architecture.md"), re.MULTILINE | re.DOTALL
    )[1]
    folders = dict(re.findall(r"^  (\w+)/ +(.*?)(?=^  \w+/|\Z)", layout, re.MULTILINE | re.DOTALL))
    for folder in ("core", "ingest", "stores", "connect", "telemetry"):
        listed = re.findall(r"\w+", re.sub(r"\([^)]*\)", "", folders[folder]))
        modules = {path.stem for path in (ROOT / "watchdog" / folder).glob("*.py")} - {"__init__"}
        assert set(listed) == modules, folder
        assert len(listed) == len(modules), folder
    own = {path.name for path in (ROOT / "watchdog").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert set(re.findall(r"\w+\.py", layout)) == own


# Links and form.


def prose(page):
    """A page without its blocks and spans of code."""
    without_blocks = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", without_blocks)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    without_blocks = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_blocks, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def cases_of(module):
    """The names of a module's tests."""
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", module.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in (cases_of(target) if target.suffix == ".py" else anchors(target)), link


def test_every_attack_links_the_test_that_tries_it():
    attacks = text("docs/security.md").partition("\n## Attacks that were tried\n")[2].partition("\n## ")[0]
    rows = [line for line in attacks.splitlines() if re.match(r"\| [^-].*\| [^-].*\| .* \|$", line)]
    tried = [row for row in rows if "../tests/" in row]
    assert len(tried) >= 30
    for row in tried:
        assert re.search(r"\(\.\./tests/[\w/]+\.py#test_\w+\)", row), row
    for attack in (
        "`none`",
        "key confusion",
        "expired",
        "another audience",
        "bye",
        "replayed",
        "text/plain",
        "slow loris",
        "header",
        "100,000",
        "zip bomb",
        "WebSocket flood",
        "path tricks",
        "CANARY_URL",
        "DEADMAN_URL",
        "NOTIFY_URLS",
        "JWKS",
    ):
        assert any(attack in row for row in tried), attack


FEATURES = re.search(r"^## What it has, beside.*?(?=^## )", text("README.md"), re.MULTILINE | re.DOTALL)[0]


def test_every_feature_links_a_test_or_says_that_it_is_not_built():
    rows = [
        line for line in FEATURES.splitlines() if line.startswith("| ") and not line.startswith(("| there", "| what |"))
    ]
    assert len(rows) == 44
    for row in rows:
        assert "[test](tests/" in row or "**not yet**" in row, row


def test_every_row_that_is_tested_as_such_is_a_feature():
    linked = set(re.findall(r"\(tests/parity/(\w+)\.py#(\w+)\)", FEATURES))
    assert linked == {
        (f"test_{name}", case)
        for name in ("ccp", "salesforce", "pega", "others")
        for case in cases_of(ROOT / "tests" / "parity" / f"test_{name}.py")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_names_a_registry_or_a_place_on_a_machine(page):
    found = re.findall(
        r"pypi\.|pythonhosted|npmjs|docker\.io|ghcr\.io|--index-url|--find-links|(?<![\w/])/(?:home|root|tmp|work)/",
        page.read_text(encoding="utf-8"),
    )
    assert found == []


def test_the_readme_begins_with_the_two_commands():
    first = text("README.md").splitlines()[:6]
    assert [line.split("#")[0].strip() for line in first if line.startswith("make")] == ["make demo", "make test"]


def test_every_page_can_be_found_from_the_index():
    linked = {
        (DOCS / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)\s]+)\)", text("docs/index.md"))
    }
    template = DOCS / "decisions" / "000-template.md"
    assert {page.resolve() for page in PAGES} - {(DOCS / "index.md").resolve(), template.resolve()} <= linked


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_the_form_of_the_template(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# {page.name[:3]}: ")
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## Problem", "## Reasons", "## Decision", "## What we gave up"]
    assert len(lines) <= 40


def test_decisions_are_numbered_without_gaps():
    assert [page.name[:3] for page in DECISIONS] == [f"{number:03}" for number in range(1, len(DECISIONS) + 1)]


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page(), encoding="utf-8")
    (DOCS / "policy.md").write_text(policy_page(), encoding="utf-8")
    (DOCS / "client.md").write_text(client_page(), encoding="utf-8")
    (DOCS / "commands.md").write_text(page_of_commands(), encoding="utf-8")
