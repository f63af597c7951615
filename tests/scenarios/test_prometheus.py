"""Prometheus scrapes the daemon: the dashboard's queries give numbers, and the alerts are computed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.scenarios.harness import ADMIN, ROOT, Present, free_port, new_session, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.scenarios.harness import Connect, Daemon

pytestmark = pytest.mark.scenario

SHORT = {"$__rate_interval": "15s", "$instance": ".+"}
"""What Grafana puts into a query, for a scrape each half second."""


class Prometheus:
    """A server of the story's own, with the example's configuration but for times and targets."""

    def __init__(self, folder: Path, target: str) -> None:
        example = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
        (job,) = example["scrape_configs"]
        job["static_configs"] = [{"targets": [target]}]
        job["authorization"] = {"credentials": ADMIN}
        example["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        example["rule_files"] = [str(ROOT / "deploy/prometheus" / name) for name in example["rule_files"]]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(example), encoding="utf-8")
        port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10.0)
        with (folder / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(shutil.which("prometheus")),
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'series'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, query: str) -> dict[str, float]:
        """What a query gives now, by its labels."""
        found = self.ask("/query", query=query)["result"]
        return {json.dumps(each["metric"], sort_keys=True): float(each["value"][1]) for each in found}

    def up(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return bool(self.client.get("/status/buildinfo").status_code == 200)
        return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.client.close()


@pytest.fixture
def prometheus(daemon: Daemon, tmp_path: Path) -> Iterator[Prometheus]:
    if shutil.which("prometheus") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("prometheus is missing: install Debian's prometheus")
    server = Prometheus(tmp_path, f"127.0.0.1:{daemon.port}")
    yield server
    server.close()


def test_every_query_of_the_dashboard_gives_numbers_and_every_rule_is_computed(
    connect: Connect, daemon: Daemon, prometheus: Prometheus
) -> None:
    # A bus that does not exist: a problem, an attempt that failed, and an alert.
    bus = {"WATCHDOG_EVENTBRIDGE_BUS": "nobodys", "AWS_ENDPOINT_URL_EVENTBRIDGE": connect.server.url}
    daemon.start(**bus, WATCHDOG_SESSION_TTL="6", WATCHDOG_THROTTLED_SESSION_TTL="8").ready()
    until(prometheus.up, "Prometheus answers")
    dashboard = json.loads((ROOT / "deploy/grafana/watchdog.json").read_text(encoding="utf-8"))
    queries = [
        (panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", ())
    ] + [("annotation", each["expr"]) for each in dashboard["annotations"]["list"]]
    for name, value in SHORT.items():
        queries = [(title, query.replace(name, value)) for title, query in queries]
    assert len(queries) > 30

    with Present(daemon, connect.users[1:6]):
        until(lambda: prometheus.values('watchdog_agents{state="live"}').values(), "scraped")
        gone = new_session()
        daemon.beat(connect.users[0], gone)
        daemon.bye(connect.users[0], gone)
        until(lambda: connect.status(connect.users[0]) == "Offline", "the ghost is set")
        counted = 'watchdog_actions_total{intent="set_status",outcome="confirmed"}'
        until(lambda: 1.0 in prometheus.values(counted).values(), "the decision is scraped")

        def empty() -> list[str]:
            """Queries without a number; the restart's mark comes only after one."""
            return [
                f"{title}: {query}"
                for title, query in queries
                if title != "annotation" and not any(map(math.isfinite, prometheus.values(query).values()))
            ]

        until(lambda: not empty(), "every query gives numbers", limit_s=30, pause_s=0.5)
        for _, query in queries:
            prometheus.values(query)  # each is understood
        by_title: dict[str, list[float]] = {}
        for title, query in queries:
            by_title.setdefault(title, []).extend(prometheus.values(query).values())
        assert by_title["Problems"] == [1.0]
        assert sum(by_title["Agents by state"]) == 6
        assert max(by_title["Heartbeats"]) > 1
        assert max(by_title["Detection lag, quantiles"]) < 10
        assert min(by_title["Memory"]) > 20e6

        def rules() -> list[dict[str, Any]]:
            return [rule for group in prometheus.ask("/rules")["groups"] for rule in group["rules"]]

        def raised() -> set[str]:
            return {rule["name"] for rule in rules() if rule["type"] == "alerting" and rule["state"] != "inactive"}

        until(lambda: {rule["health"] for rule in rules()} == {"ok"}, "every rule has been computed")
        until(lambda: "WatchdogNotificationsFailing" in raised(), "the alert for the bus")
        assert not raised() & {"WatchdogDown", "WatchdogStoreDown", "WatchdogConnectRefused", "WatchdogFailures"}

    daemon.kill()
    until(lambda: "WatchdogDown" in raised(), "the daemon is missed")
