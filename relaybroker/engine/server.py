"""The embedded engine as a server: opening the database, listening, time-outs, a clean end.

Source: spec/engine-contract.md section 1.1; design/architecture.md section 7.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from relaybroker.engine import addresses, invocations, node_control, posting
from relaybroker.engine.context import DEFAULT_LIMITS, Engine, Limits
from relaybroker.engine.hub import Hub
from relaybroker.engine.rest import routes
from relaybroker.engine.rest.api import CONNECTIONS, ENGINE, ORIGIN, envelope
from relaybroker.engine.rest.origin import OriginCheck
from relaybroker.engine.store import Store, Tx
from relaybroker.serving.connections import Connections

MAX_BODY_BYTES = 2 * 1024 * 1024
"""The largest REST body."""
PORT_RETRY_S = 2.0
"""How often a port that another program has is tried."""
_END_S = 1.0
log = logging.getLogger(__name__)


async def serve(
    db_path: str,
    host: str = "127.0.0.1",
    port: int = 8787,
    socket: str = "",
    *,
    port_later: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Run an engine until this task is cancelled; `ready(base_url)` is called once it listens. Arguments of `EmbeddedEngine`."""
    async with EmbeddedEngine(db_path, host, port, socket, port_later=port_later) as engine:
        if ready is not None:
            ready(engine.base_url)
        await asyncio.Event().wait()


class EmbeddedEngine:
    """A running engine in this process: `async with EmbeddedEngine(path) as engine: engine.base_url`.

    Args:
        db_path: database file, created when it is absent.
        host: address to bind.
        port: 0 = chosen by the OS.
        socket: path of a Unix socket to listen on as well; "" = none.
        port_later: while another program has the port, serve the socket alone, and take the port when it is free.
        limits: how much it keeps for whom, and for how long.
        clock: its time, epoch seconds.

    Attributes:
        base_url: where it listens, once it is entered.
        hub: its open sockets.
        store: its database, once it is entered.
        connections: those of its port.

    Raises:
        sqlite3.Error: the file is no usable database, or another engine has it open.
        OSError: the address or the file cannot be used.
        ValueError: `RELAYBROKER_HOOK_NETWORKS` lists something that is no network.
    """

    def __init__(
        self,
        db_path: str,
        host: str = "127.0.0.1",
        port: int = 0,
        socket: str = "",
        *,
        port_later: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._db_path, self._host, self._port, self._socket = db_path, host, port, socket
        self._port_later = port_later
        self._limits = limits
        self._open = contextlib.AsyncExitStack()
        self.base_url = ""
        self.hub = Hub()
        self.store: Store
        self.connections = Connections()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opening:
            store = await Store.open(self._db_path, self._clock)
            opening.push_async_callback(store.close)
            self.store = store
            engine = Engine(store, self._limits, hub=self.hub, networks=addresses.networks_of_environment())
            engine.ids.start_after(await store.run(_newest_id))
            await store.run(_nobody_is_connected)
            app = web.Application(middlewares=[self.connections.middleware, envelope], client_max_size=MAX_BODY_BYTES)
            app[CONNECTIONS] = self.connections
            app[ENGINE] = engine
            app[ORIGIN] = OriginCheck.of_environment(self._host)
            routes.add_to(app)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=_END_S)
            await runner.setup()
            opening.push_async_callback(runner.cleanup)
            opening.push_async_callback(engine.hub.close_all)
            opening.push_async_callback(self.connections.close)
            self.base_url = _url(self._host, await self._take_port(runner, opening))
            if self._socket:
                await _listen_privately(runner, Path(self._socket))
            sweeper = asyncio.create_task(_sweep(engine))
            opening.push_async_callback(_cancel, sweeper)
            opening.push_async_callback(_cancel, asyncio.create_task(posting.run(engine)))
            self._open = opening.pop_all()
        return self

    async def _take_port(self, runner: web.AppRunner, opening: contextlib.AsyncExitStack) -> int:
        try:
            return await self.connections.listen(runner, self._host, self._port)
        except OSError:
            if not (self._port_later and self._port and self._socket):
                raise
        log.warning("another program has port %d; it is taken when it is free", self._port)
        opening.push_async_callback(_cancel, asyncio.create_task(self._take_port_later(runner)))
        return self._port

    async def _take_port_later(self, runner: web.AppRunner) -> None:
        while True:
            await asyncio.sleep(PORT_RETRY_S)
            with contextlib.suppress(OSError):
                await self.connections.listen(runner, self._host, self._port)
                return

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._open.aclose()


async def _listen_privately(runner: web.AppRunner, path: Path) -> None:
    """Whoever may open the directory of the socket is who the engine belongs to: no port can be taken from it."""
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at the start
    await web.UnixSite(runner, str(path)).start()
    path.chmod(0o600)  # noqa: ASYNC240


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _sweep(engine: Engine) -> None:
    while True:
        await asyncio.sleep(engine.limits.sweep_every_s)
        engine.hub.cut_off_stalled()
        engine.refusals.sweep(engine.store)
        engine.store.submit(lambda tx: node_control.sweep(tx, engine))


def _newest_id(tx: Tx) -> str | None:
    ids = [
        tx.one(f"SELECT MAX({value}) AS newest FROM {table}")
        for value, table in (
            ("id", "messages"),
            ("CAST(id AS INTEGER)", "agents"),
            ("CAST(substr(id, 5) AS INTEGER)", "invocations"),
            ("CAST(substr(id, 6) AS INTEGER)", "files"),
            ("CAST(substr(id, 5) AS INTEGER)", "subscriptions"),
        )
    ]
    newest = max((row["newest"] or 0 for row in ids if row is not None), default=0)
    return str(newest) if newest else None


def _nobody_is_connected(tx: Tx) -> None:
    """After a restart no node has a socket: they say so themselves when they are back. What they were asked to do stays theirs."""
    tx.run(
        "UPDATE agents SET status = 'offline' WHERE location_node_id IN (SELECT id FROM nodes WHERE status = 'online')"
    )
    tx.run(
        "UPDATE nodes SET status = 'offline', handlers_live = 0, load = 0, active_agents = 0 WHERE status = 'online'"
    )
    invocations.after_restart(tx)
