"""A real server for tests: Debian's redis-server, with a port and a folder of its own, stopped by its own pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from watchdog.stores.address import Address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = shutil.which("valkey-server") or shutil.which("redis-server")


@dataclass
class RedisServer:
    """A server that may be stopped and started again at the same port."""

    folder: Path
    options: list[str] = field(default_factory=list)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        assert PROGRAM is not None
        if not self.port:
            self.port = free_port()
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *self.options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, "it does not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                asked.sendall(b"PING\r\n")
                answer = asked.recv(100)
                return bool(answer) and not answer.startswith(b"-LOADING")
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def end_leases(self) -> None:
        """As if so much time had passed that whoever died has no part any more, and is not registered."""
        with self.client as client:
            with contextlib.suppress(redis.ResponseError):  # another node's
                client.delete("{wd:all}:replicas")
            for key in client.scan_iter("{wd:*}:part"):
                client.hset(key, "until", 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def need() -> None:
    """Skips where there is no server; in continuous integration that is a failure."""
    if PROGRAM is None:
        assert not os.environ.get("CI"), "redis-server is not installed (TEST_PACKAGES in the Makefile)"
        pytest.skip("no redis-server here: `make test` installs it")


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server with nothing in it, which keeps nothing on the disk unless `options` say so."""
    need()
    server = RedisServer(folder, ["--save", "", "--enable-debug-command", "yes", *options])
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class RedisCluster:
    """Three servers that are a cluster."""

    nodes: list[RedisServer]

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.nodes[0].port, cluster=True)

    def end_leases(self) -> None:
        for node in self.nodes:
            node.end_leases()

    def flushall(self) -> None:
        for node in self.nodes:
            with node.client as client:
                client.flushall()


SLOTS = 16_384


@contextmanager
def cluster(folder: Path, *, replicas: int = 0) -> Iterator[RedisCluster]:
    """A cluster of three primaries, each with a third of the slots; the first ones may have replicas."""
    need()
    nodes: list[RedisServer] = []
    buses: list[int] = []
    try:
        for number in range(3 + replicas):
            place = folder / str(number)
            place.mkdir()
            buses.append(free_port())
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(buses[-1])]
            nodes.append(RedisServer(place, ["--save", "", *options]))
            nodes[-1].start()
        for number, node in enumerate(nodes[:3]):
            with node.client as client:
                last = SLOTS * (number + 1) // 3 - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", SLOTS * number // 3, last)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        with nodes[0].client as client:
            for node, bus in zip(nodes[1:], buses[1:], strict=True):
                client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        until_whole(nodes)
        for primary, replica in zip(nodes, nodes[3:], strict=False):
            with primary.client as client, replica.client as follower:
                name = client.execute_command("CLUSTER MYID").decode()
                follower.execute_command("CLUSTER REPLICATE", name)
                end = time.monotonic() + 20
                while follower.info("replication").get("master_link_status") != "up":
                    assert time.monotonic() < end, "the replica does not follow"
                    time.sleep(0.05)
        yield RedisCluster(nodes)
    finally:
        for node in nodes:
            node.stop()


def until_whole(nodes: list[RedisServer]) -> None:
    """Waits until all nodes know one another and all slots are served."""
    end = time.monotonic() + 20
    while not all(_is_whole(node, len(nodes)) for node in nodes):
        assert time.monotonic() < end, "the cluster does not come together"
        time.sleep(0.05)


def _is_whole(node: RedisServer, size: int) -> bool:
    with node.client as client:
        info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(size)
