"""The parts of a running broker, put together: vault, core, loop, adapters.

Source: design/architecture.md sections 2 and 6.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from relaybroker import __version__
from relaybroker.adapters.eventstore.journal import QUEUE_LIMIT
from relaybroker.adapters.eventstore.recorders import side_file
from relaybroker.adapters.http.engine_client import EngineClient
from relaybroker.adapters.private_files import remove_private
from relaybroker.adapters.spawn_environments import SpawnEnvironments
from relaybroker.adapters.token_cache import TokenCache
from relaybroker.adapters.vault import WORKSPACE, Vault
from relaybroker.adapters.websocket.link import NodeLink
from relaybroker.agents.harness import harness_of
from relaybroker.agents.launch import Launcher
from relaybroker.agents.retired_spawns import RetiredSpawns, remove_own_files
from relaybroker.agents.retired_tokens import RetiredTokens
from relaybroker.audit.continuity import ContinuityFiles
from relaybroker.audit.questions import Questions
from relaybroker.config.settings import LEASE_S
from relaybroker.domain import inputs
from relaybroker.domain.broker import Broker
from relaybroker.mcp.command import write_command
from relaybroker.metrics.collected import Depths, Metrics
from relaybroker.node import inbox
from relaybroker.node.disk import Disk, Room
from relaybroker.node.dispatch import Dispatcher
from relaybroker.node.host_link import HostLink
from relaybroker.node.runtime import Runtime
from relaybroker.node.sidecar_process import SidecarProcess
from relaybroker.replay.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relaybroker.adapters.eventstore.journal import Journal
    from relaybroker.adapters.eventstore.snapshots import SnapshotFile
    from relaybroker.adapters.http.engine_calls import HttpCall
    from relaybroker.adapters.sessions.host.protocol import Answer, Asks
    from relaybroker.config.paths import Paths
    from relaybroker.config.settings import Settings
    from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered, Input
    from relaybroker.domain.state import State
    from relaybroker.enrolment.node_identity import Node
    from relaybroker.node.surface import Surface

SETTLED_S = 0.5
"""How long an answer that shows the state waits for the disk; `/api/status` answers within a second (local-api.md route 21)."""
NEW_WORK = ("deliver", "action.invoke")
"""Frames that bring something new: the engine sends them again."""


def open_vault(settings: Settings, paths: Paths, node: Node, workspace_key: str, state: State) -> Vault:
    """The vault with every token that this node may use; those of agents that the state does not know are forgotten.

    Raises:
        OSError: a token file cannot be read or made private.
    """

    def cache(directory: Path) -> TokenCache:
        return TokenCache(directory, node_id=node.node_id, workspace_id=node.workspace_id, base_url=node.base_url)

    if not settings.node_token.get_secret_value():
        remove_private(paths.former_node_token)  # a stale credential; an operator's own files are left alone
    vault = Vault(
        workspace_key=workspace_key,
        agents_directory=paths.tokens,
        node_cache=cache(paths.node_tokens),
        own_cache=cache(paths.own_tokens),
        pinned_node_token=settings.node_token.get_secret_value(),
    )
    living = {registration.agent_id for registration in state.registrations.values()}
    vault.forget_agents_except(living | {message.author_id for message in state.messages.values()})
    return vault


def open_environments(paths: Paths, state: State) -> SpawnEnvironments:
    """The variables of spawns that are under way, and the command for agents. What is kept for others, their own files too, is removed.

    Raises:
        OSError: a file cannot be read or made private.
    """
    write_command(paths.commands)
    environments = SpawnEnvironments(paths.environments)
    environments.forget_except({registration.spec.env_ref for registration in state.registrations.values()})
    living = {registration.session_id for registration in state.registrations.values()}
    for directory in paths.own_files.glob("*"):
        if directory.name not in living:
            remove_own_files(directory)
    return environments


class Assembly:
    """A broker's parts, connected. It is also what the local API sees of the broker (`relaybroker.adapters.http.api.gateway.Gateway`).

    Args:
        settings: what the operator chose.
        paths: of this broker.
        node: which it is.
        vault: with the tokens.
        environments: of spawns that are under way.
        journal: open.
        snapshots: beside the journal.
        state: at the end of the journal; the core goes on from it.
        environ: of the broker, without secrets.
        surface: the local API.
        api_url: where agents reach it.
        disk: of the log.
        engine_socket: of the embedded engine; "" = the engine is reached by its URL.

    Raises:
        OSError: the session file that is to be written exists already or cannot be made.
    """

    def __init__(
        self,
        settings: Settings,
        paths: Paths,
        node: Node,
        *,
        vault: Vault,
        environments: SpawnEnvironments,
        journal: Journal,
        snapshots: SnapshotFile,
        state: State,
        environ: Mapping[str, str],
        surface: Surface,
        api_url: str,
        disk: Disk,
        engine_socket: str = "",
    ) -> None:
        core = Broker(harness_of, state)
        self._core = core
        self._journal = journal
        self.vault = vault
        self._variables = environments
        self.recording = Recording(settings.record, state) if settings.record is not None else None
        self.metrics = Metrics(lambda: core.state, self._depths, version=__version__, clock=time.time)
        self._paths = paths
        self.runtime = Runtime(
            core, journal, snapshots=snapshots, recorder=self.recording, committed=self.metrics.committed
        )
        deliver = self.runtime.inbox.put
        self.disk = disk
        self._frames = inbox.Share(inbox.LINK_SHARE)
        self.link = NodeLink(node.base_url, vault=vault, deliver=self._deliver_frame, socket=engine_socket)
        self.engine = EngineClient(
            node.base_url, vault=vault, deliver=deliver, version=__version__, socket=engine_socket
        )
        self.host = HostLink(
            paths.host_socket,
            paths.host_log,
            lease_s=None if settings.persist else LEASE_S,
            harnesses=settings.harnesses,
            deliver=deliver,
            on_output=surface.output,
        )
        self.audit = Questions(journal.reader, paths.state)
        self._continuity = ContinuityFiles(journal.reader, paths.state)
        self._tokens = RetiredTokens(vault, state)
        self._spawns = RetiredSpawns(environments, paths.own_files, state)
        launcher = Launcher(
            environ,
            named=settings.agent_environment,
            cwd=settings.cwd,
            base_url=node.base_url,
            api_url=api_url,
            workspace_id=node.workspace_id,
            worker_logs=paths.worker_logs,
            vault=vault,
            environments=environments,
            own_files=paths.own_files,
            commands=paths.commands,
            tools_approved="mcp-approval" in settings.auto_answer,
            server=settings.mcp_command,
        )
        self._sidecar = SidecarProcess(environ, output=paths.worker_logs / "sidecar.log", deliver=deliver)
        self.dispatcher = Dispatcher(
            link=self.link,
            engine=self.engine,
            host=self.host,
            launcher=launcher,
            tokens=self._tokens,
            spawns=self._spawns,
            clients=surface,
            sidecar=self._sidecar,
            vault=vault,
            leave=self.runtime.end,
            deliver=deliver,
            watchers=(self.metrics, self._continuity),
        )

    async def _deliver_frame(self, item: Input) -> None:
        """What the engine asks for stays with it while the log has no room for more; its answers are needed all the same."""
        if isinstance(item, inputs.FrameArrived) and item.frame.get("type") in NEW_WORK:
            await self.disk.wait()
        await self.runtime.inbox.put(item, self._frames)

    def disk_room(self) -> Room:
        """How the disk of the log is."""
        return self.disk.room

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """What Prometheus is told, and in which format."""
        return self.metrics.exposition(accept)

    def _depths(self) -> Depths:
        journal = self._paths.journal
        return Depths(
            queues={
                "inbox": (len(self.runtime.inbox), inbox.LIMIT),
                "journal": (self._journal.waiting, QUEUE_LIMIT),
            },
            log_locked_s=self._journal.locked_s(),
            files={
                "database": journal,
                "wal": journal.with_name(f"{journal.name}-wal"),
                "snapshot": side_file(journal, ".snapshot"),
                "archive": journal.with_suffix(".archive"),
            },
        )

    @property
    def state(self) -> State:
        """The core's state, to look at and never to change."""
        return self._core.state

    @property
    def workspace_key(self) -> str:
        """The workspace key, or "" if the broker has none."""
        return self.vault.token(WORKSPACE) or ""

    def log_locked_s(self) -> float:
        """For how many seconds another program has kept the log from being written; 0 when none does."""
        return self._journal.locked_s()

    def offer(self, item: Input) -> bool:
        """Give the core an input; False if it has no room."""
        return self.runtime.inbox.offer(item)

    async def tell(self, item: Input) -> None:
        """Give the core an input; returns when it had room."""
        await self.runtime.inbox.put(item)

    async def ask_host(self, request: Asks) -> Answer:
        """Ask the PTY host; raises HostUnavailable or HostBackpressure."""
        return await self.host.ask(request)

    def agent_of(self, token: str) -> str:
        """The agent id whose newest token this is, "" if it is nobody's."""
        return self.vault.agent_of(token)

    async def ask_engine(self, call: HttpCall) -> EngineAnswered | EngineUnanswered:
        """Look at the engine; it leaves no trace."""
        return await self.engine.ask(call)

    async def settled(self) -> None:
        """Returns when everything that the state shows now is durable, or after half a second."""
        await self.runtime.settled(SETTLED_S)

    def keep_supplied_token(self, token: str) -> str:
        """Take a token that a caller brought along for an agent; its fingerprint."""
        return self.vault.keep_supplied(token)

    def keep_variables(self, values: Mapping[str, str]) -> str:
        """Take the variables that a caller brought along for an agent; their reference. Raises OSError."""
        return self._variables.keep(values)

    def forget_variables(self, reference: str) -> None:
        """Drop variables of a spawn that was refused. Raises OSError."""
        self._variables.forget(reference)

    def name_sidecar_environment(self, named: Mapping[str, str]) -> None:
        """What the sidecar's program gets into its environment when it is started again."""
        self._sidecar.name_environment(named)

    def watch_output(self, *, on: bool) -> None:
        """Turn the stream of terminal output on or off."""
        self.host.watch(on=on)

    @property
    def has_agents(self) -> bool:
        """Whether a program of an agent lives."""
        return any(not program.ended for program in self.state.workers.values())

    async def stop(self, reason: str, *, agents_too: bool) -> None:
        """Ask the core to stop everything, or everything but the agents."""
        await self.runtime.inbox.put(inputs.ShutdownRequested(reason=reason, agents_too=agents_too))

    def stop_at_once(self) -> None:
        """Kill the agents and end the run, without another word to anybody."""
        self.host.end(0.0)
        self.runtime.end(1, "stopped at once")

    async def shut(self, limit_s: float) -> None:
        """Close every adapter, at the latest after the limit."""
        closing = asyncio.gather(
            self.link.shut(),
            self.engine.shut(),
            self.host.shut(),
            self._sidecar.shut(),
            self._tokens.settle(),
            self._spawns.settle(),
            self.dispatcher.shut(),
            self._continuity.shut(),
            return_exceptions=True,
        )
        await asyncio.wait({closing}, timeout=limit_s)
        closing.cancel()
        if self.recording is not None:
            await asyncio.to_thread(self.recording.close)
