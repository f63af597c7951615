"""What stands between agents and the daemon: a TCP proxy that can break in the ways in which load balancers do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Literal, Self

Mode = Literal["open", "closed", "black-hole", "deaf", "mute", "refuse"]

REFUSAL = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"


class Front:
    """The proxy, on an event loop in a thread of its own.

    Attributes:
        port: Where it listens.
        mode: `open` passes everything; `closed` ends connections; `black-hole` takes and gives nothing; `deaf` loses
            what agents send, `mute` what the daemon answers; `refuse` answers 502 itself.
        target: Where connections that come from now on lead to.
    """

    def __init__(self, target: int) -> None:
        self.mode: Mode = "open"
        self.port = 0
        self.target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def cut(self) -> None:
        """Ends all connections."""
        self._loop.call_soon_threadsafe(self._cut)

    def _run(self) -> None:
        self._loop.run_until_complete(self._listen())
        self._loop.close()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopping.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        opened = [writer]
        try:
            if self.mode == "closed":
                return
            up, down = await asyncio.open_connection("127.0.0.1", self.target)
            opened.append(down)
            self._writers.update(opened)
            back = asyncio.create_task(self._answers(up, writer))
            try:
                await self._requests(reader, down, writer)
            finally:
                back.cancel()
                await asyncio.wait([back])
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.difference_update(opened)
            for each in opened:
                each.close()
            for each in opened:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await each.wait_closed()

    async def _requests(
        self, reader: asyncio.StreamReader, down: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            if self.mode == "refuse":
                # The agents' requests are small and come one at a time: each read is one.
                client.write(REFUSAL)
            elif self.mode in ("open", "mute"):
                down.write(data)
                await down.drain()

    async def _answers(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await up.read(65536):
                if self.mode in ("open", "deaf"):
                    writer.write(data)
                    await writer.drain()
        writer.close()
