"""Host links with real PTY hosts, and a workspace service that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web

from relaybroker.adapters.pty.protocol import Output, Start
from relaybroker.domain.inputs import Input
from relaybroker.host_link import HostLink
from tests.waiting import WAIT_S


class HostBench:
    """A host link with everything that it delivered."""

    def __init__(self, directory: Path, lease_s: float | None) -> None:
        self.inputs: list[Input] = []
        self.outputs: list[Output] = []
        self.room = asyncio.Event()
        self.room.set()
        self._arrived = asyncio.Condition()
        self.link = HostLink(
            directory / "host.sock",
            directory / "host.log",
            lease_s=lease_s,
            deliver=self._deliver,
            on_output=self.outputs.append,
        )

    async def _deliver(self, item: Input) -> None:
        await self.room.wait()
        async with self._arrived:
            self.inputs.append(item)
            self._arrived.notify_all()

    async def wait(self, kind: type[Any], count: int = 1) -> list[Any]:
        async with asyncio.timeout(WAIT_S), self._arrived:
            await self._arrived.wait_for(lambda: sum(isinstance(item, kind) for item in self.inputs) >= count)
        return [item for item in self.inputs if isinstance(item, kind)]

    @staticmethod
    def start(session_id: str, *argv: str) -> Start:
        return Start(
            session_id=session_id,
            name=session_id,
            argv=argv,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color"},
            cwd="/",
            profile="default",
        )


@pytest.fixture
async def make_host(tmp_path: Path) -> AsyncIterator[Callable[..., HostBench]]:
    benches: list[HostBench] = []

    def make(lease_s: float | None = None) -> HostBench:
        bench = HostBench(tmp_path / "state", lease_s)
        benches.append(bench)
        return bench

    (tmp_path / "state").mkdir(mode=0o700)
    yield make
    for bench in benches:
        bench.room.set()
        await bench.link.shut()
    pid_file = tmp_path / "state" / "host.sock.pid"
    if pid_file.exists():
        host = psutil.Process(int(pid_file.read_text()))
        for child in host.children(recursive=True):
            child.kill()
        host.kill()


class WorkspaceService:
    """Answers every request with the next of `answers`, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.requests: list[tuple[str, str, str, Any]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, request.headers.get("Authorization", ""), body))
        status, answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(answer, status=status)


@pytest.fixture
async def service() -> AsyncIterator[WorkspaceService]:
    played = WorkspaceService()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    played.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield played
    await runner.cleanup()
