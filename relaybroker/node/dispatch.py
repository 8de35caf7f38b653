"""Every effect to its adapter: one place, one case each, none forgotten.

Source: design/architecture.md sections 3 and 6.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, assert_never

import msgspec

from relaybroker.adapters.http.engine_calls import http_call
from relaybroker.adapters.sessions.host import protocol
from relaybroker.adapters.vault import MAX_WITHHELD
from relaybroker.agents.launch import VariablesLostError
from relaybroker.domain import effects
from relaybroker.domain.credentials import replaced
from relaybroker.domain.decoding import MAX_DEPTH
from relaybroker.domain.inputs import HandlerFinished
from relaybroker.node.host_requests import HostRequests
from relaybroker.node.link_log import LinkLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from relaybroker.adapters.http.engine_client import EngineClient
    from relaybroker.adapters.vault import Vault
    from relaybroker.adapters.websocket.link import NodeLink
    from relaybroker.agents.launch import Launcher
    from relaybroker.agents.retired_spawns import RetiredSpawns
    from relaybroker.agents.retired_tokens import RetiredTokens
    from relaybroker.domain.effects import Effect
    from relaybroker.domain.events import Recorded
    from relaybroker.domain.inputs import Input
    from relaybroker.node.host_link import HostLink

CREDENTIALS_LOST = "credentials_lost"
_log = logging.getLogger(__name__)


class SidecarProgram(Protocol):
    """The program behind a sidecar."""

    def start(self, argv: Sequence[str], cwd: str) -> None:
        """Start it; one that still runs is ended first."""


class Watcher(Protocol):
    """Whoever takes note of what happened."""

    def observe(self, recorded: Iterable[Recorded]) -> None:
        """Take note of events that are durable."""


class LocalClients(Protocol):
    """Whoever waits for answers and events at the local API."""

    def reply(self, reply: effects.Reply) -> None:
        """Answer one request."""

    def announce(self, wanted: effects.Announce) -> None:
        """Tell every `/ws` client."""

    def invoke_handler(self, wanted: effects.InvokeHandler) -> None:
        """Give an invocation to a sidecar."""

    def close_sidecar(self, connection: str, detail: str) -> None:
        """Close a sidecar's socket after what was sent before."""


class Dispatcher:
    """Hands effects to adapters. No call waits for anything.

    Args:
        link: the socket to the engine.
        engine: the engine's REST interface.
        host: the PTY host.
        launcher: completes what is to be started.
        tokens: forgets the tokens of agents that are over.
        spawns: forgets what is kept for spawns that are over.
        clients: the local API.
        sidecar: the program behind a sidecar.
        vault: has the secrets of the inputs of actions.
        leave: ends the process with a status and a reason.
        deliver: tells the core what cannot be carried out.
        watchers: see every durable event.
    """

    def __init__(
        self,
        *,
        link: NodeLink,
        engine: EngineClient,
        host: HostLink,
        launcher: Launcher,
        tokens: RetiredTokens,
        spawns: RetiredSpawns,
        clients: LocalClients,
        sidecar: SidecarProgram,
        vault: Vault,
        leave: Callable[[int, str], None],
        deliver: Callable[[Input], Awaitable[None]],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._watchers = (LinkLog(), *watchers)
        self._link = link
        self._engine = engine
        self._host = host
        self._requests = HostRequests(host, deliver)
        self._launcher = launcher
        self._tokens = tokens
        self._spawns = spawns
        self._clients = clients
        self._sidecar = sidecar
        self._vault = vault
        self._leave = leave
        self._deliver = deliver
        self._refusals: set[asyncio.Future[None]] = set()

    async def shut(self) -> None:
        """End what is still asked for; no effect is carried out afterwards."""
        for task in self._refusals:
            task.cancel()
        await asyncio.gather(*self._refusals, return_exceptions=True)
        await self._requests.shut()

    def carry_out_written(self, wanted: Sequence[Effect]) -> None:
        """Carry out, in order, effects that reach nothing beyond this machine. Their events are written."""
        self._confirm(wanted)
        for effect in wanted:
            self._one(effect)

    def carry_out(self, events: Sequence[Recorded], wanted: Sequence[Effect]) -> None:
        """Carry out the other effects, in order. Their events are durable."""
        self._tokens.observe(events)
        self._spawns.observe(events)
        for watcher in self._watchers:
            watcher.observe(events)
        for effect in wanted:
            self._one(effect)

    def _confirm(self, wanted: Sequence[Effect]) -> None:
        """Tell the hosts first which reports are known, what follows relies on that; one number stands for all before it."""
        newest = {effect.host_id: effect.report for effect in wanted if isinstance(effect, effects.ConfirmReports)}
        for host_id, report in newest.items():
            self._host.confirm(host_id, report)

    def _start(self, wish: effects.StartProgram) -> None:
        """Start a program; one whose variables are lost is not started, and the core finds that it never was."""
        try:
            start = self._launcher.start(wish)
            self._requests.start(start, self._launcher.preflight(wish, start))
        except VariablesLostError as error:
            _log.error("it is not started: %s", error)

    def _one(self, effect: Effect) -> None:
        match effect:
            case effects.SendFrame(dial=dial, frame=frame):
                self._link.send(dial, frame)
            case effects.TypeText():
                self._requests.send(
                    protocol.Inject(
                        session_id=effect.session_id,
                        delivery_id=effect.delivery_id,
                        attempt=effect.attempt,
                        text=effect.text,
                        marker=effect.marker,
                        steer=effect.steer,
                        expires_at=effect.expires_at,
                        while_busy=effect.while_busy,
                        task=effect.task,
                    )
                )
            case effects.ConfirmReports():
                pass  # see above
            case effects.Announce():
                self._clients.announce(effect)
            case effects.Reply():
                self._clients.reply(effect)
            case effects.EngineCall():
                self._engine.call(http_call(effect))
            case effects.DialEngine(dial=dial):
                self._link.dial(dial)
            case effects.CloseLink(dial=dial, detail=detail):
                self._link.close(dial, detail)
            case effects.AttachHost():
                self._host.attach()
            case effects.StartProgram():
                self._start(effect)
            case effects.LookUp():
                self._requests.look_up(effect)
            case effects.StopProgram(session_id=session_id, grace_s=grace_s, reason=reason):
                self._requests.send(protocol.Stop(session_id=session_id, grace_s=grace_s, reason=reason))
            case effects.ForgetProgram(session_id=session_id):
                self._requests.send(protocol.Forget(session_id=session_id))
            case effects.EndHost(grace_s=grace_s):
                self._host.end(grace_s)
            case effects.InvokeHandler():
                self._invoke(effect)
            case effects.CloseSidecar(connection=connection, detail=detail):
                self._clients.close_sidecar(connection, detail)
            case effects.StartSidecar(argv=argv, cwd=cwd):
                self._sidecar.start(argv, cwd)
            case effects.ExitBroker(status=status, reason=reason):
                self._leave(status, reason)
            case never:
                assert_never(never)

    def _invoke(self, wanted: effects.InvokeHandler) -> None:
        """The handler gets the secrets that nobody else saw; without them it is not asked."""
        try:
            given = replaced(wanted.input, self._vault.withheld, MAX_DEPTH)
        except LookupError:
            refused = HandlerFinished(
                connection=wanted.connection,
                request_id="",
                invocation_id=wanted.invocation_id,
                error=f"{CREDENTIALS_LOST}: secrets are kept in memory only, until the broker ends or {MAX_WITHHELD} newer ones come",
            )
            task = asyncio.ensure_future(self._deliver(refused))
            self._refusals.add(task)
            task.add_done_callback(self._refusals.discard)
            return
        self._clients.invoke_handler(msgspec.structs.replace(wanted, input=given))
