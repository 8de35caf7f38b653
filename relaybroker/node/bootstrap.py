"""From settings to a running broker, and from there to a clean end.

The order is that of spec/local-api.md section 0.3: directories and lock, journal and recovery, bind and banner, engine,
workspace and node, adapters and loop, `connection.json`, full router. What fails before the last step ends the process
with a message, status 1 and no connection file. The end takes the same steps backwards, within 4.5 s of the request.

Source: spec/local-api.md sections 0.3, 4.6 and 7.3 to 7.5; spec/node-protocol.md section 1.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
import uuid
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaybroker import __version__
from relaybroker.adapters import descriptors
from relaybroker.adapters.eventstore.errors import LogLocked, StateCorrupt, StateLocked
from relaybroker.adapters.eventstore.journal import Journal
from relaybroker.adapters.eventstore.lock import StateLock
from relaybroker.adapters.eventstore.recorders import side_file
from relaybroker.adapters.eventstore.snapshots import SnapshotFile
from relaybroker.adapters.machine_boot import machine_boot
from relaybroker.adapters.machine_seed import MachineSeedError
from relaybroker.adapters.private_files import make_private_directory
from relaybroker.adapters.service_notices import ServiceNotices
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.unix_address import address_of
from relaybroker.adapters.vault import NODE, Vault
from relaybroker.config import last_words
from relaybroker.config.login import login_name
from relaybroker.config.paths import Paths, paths_of
from relaybroker.config.settings import Settings, SettingsError
from relaybroker.domain import inputs
from relaybroker.domain.errors import CorruptLog
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.reasons import SENTENCES
from relaybroker.domain.state import SNAPSHOT_FORMAT
from relaybroker.domain.worker import READY_AFTER_S
from relaybroker.enrolment import engine_process
from relaybroker.enrolment.node_identity import Node, NodeError, check_destination, hold_node, node_of
from relaybroker.enrolment.workspace import WorkspaceError, resolve
from relaybroker.node import logs
from relaybroker.node.assembly import Assembly, open_environments, open_vault
from relaybroker.node.disk import Disk
from relaybroker.node.lifetime import Lifetime
from relaybroker.node.listening import listen
from relaybroker.node.own_files import OwnFiles
from relaybroker.node.recovery import recover
from relaybroker.node.retention import Archivist

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from relaybroker.adapters.websocket.link import NodeLink
    from relaybroker.config.connection_file import Connection
    from relaybroker.domain.state import State
    from relaybroker.node.runtime import Ending
    from relaybroker.node.surface import SurfaceFactory

    Settle = Callable[[Settings, Paths, Connection, Callable[[str], None]], None]

_log = logging.getLogger(__name__)

READY_WAIT_S = 3.0
"""How long the router stays closed for the link and the PTY host; then the broker goes live degraded."""

START_FAILURES = (
    SettingsError,
    StateLocked,
    StateCorrupt,
    LogLocked,
    CorruptLog,
    WorkspaceError,
    NodeError,
    MachineSeedError,
    engine_process.EngineStartError,
    LookupError,
    OSError,
)
"""Everything that ends a start with a message for a person and status 1."""


def run(settings: Settings, make_surface: SurfaceFactory, settle: Settle | None = None) -> int:
    """Run a broker in this process until it ends; the exit status.

    `settle` is called, in a thread, as soon as the broker answers: it starts what shall run here.
    """
    descriptors.raise_limit()
    notices = ServiceNotices.take(os.environ)
    harnesses.use(harnesses.read(settings.harnesses))
    return _runner()(Bootstrap(settings, os.environ, make_surface, notices, settle).serve())


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.run
    return uvloop.run


def _why(error: Exception) -> str:
    """What a start that failed is about, for a person."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        return "the disk of the state directory is full: the start was given up; make room and start again"
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"{error.filename} is on a read-only file system; name another directory with --state-dir"
    return str(error)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal is gone
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class Bootstrap:
    """One run of one broker.

    Args:
        settings: what the operator chose.
        environ: the environment, without secrets.
        make_surface: makes the local API.
        notices: who is told how far the start is.
        settle: starts what shall run here, once the broker answers.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        make_surface: SurfaceFactory,
        notices: ServiceNotices | None = None,
        settle: Settle | None = None,
    ) -> None:
        self._settle = settle
        self._notices = notices or ServiceNotices()
        self._settings = settings
        self._environ = environ
        self._make_surface = make_surface
        self._began = time.monotonic()
        self._link: NodeLink | None = None
        self._engine_socket = ""

    async def serve(self) -> int:
        """Start, run, end; the exit status."""
        lifetime = Lifetime()
        try:
            async with AsyncExitStack() as stack:
                return await self._serve(stack, lifetime)
        except START_FAILURES as error:
            _say(str(error) if isinstance(error, StateLocked) else f"relaybroker: {_why(error)}")
            return 1
        except asyncio.CancelledError:
            if not lifetime.stop_asked:
                raise
            return 1
        finally:
            lifetime.restore_signals()

    async def _serve(self, stack: AsyncExitStack, lifetime: Lifetime) -> int:
        settings = self._settings
        paths = self._prepare_directories(stack)
        handler = logs.configure(paths.run.name, self._environ, level=settings.log_level, to=settings.log_to)
        stack.callback(logging.getLogger().removeHandler, handler)
        stack.push(_note_failure)
        lock = StateLock(paths.lock)
        stack.callback(lock.release)
        is_new = not paths.journal.exists()
        journal, snapshots, state = await asyncio.to_thread(_open_journal, paths, lifetime.fail, self._notices.progress)
        if is_new:
            stack.callback(_remove_unused, journal, paths)
        stack.push_async_callback(asyncio.to_thread, journal.close)
        files = OwnFiles(lock, journal, lifetime.fail)
        watch = asyncio.create_task(files.watch(), name="own files")
        stack.callback(watch.cancel)
        self._phase(f"state recovered to position {state.position}")
        last_words.take_away(paths.state)

        disk = Disk(paths.state)
        looking = asyncio.create_task(disk.watch(), name="disk")
        stack.callback(looking.cancel)
        archivist = Archivist(journal.reader, paths.journal, settings.retention, time.time)
        archiving = asyncio.create_task(archivist.watch(), name="archivist")
        stack.callback(archiving.cancel)

        api_key = settings.api_key.get_secret_value() or f"br_{uuid.uuid4().hex}"
        surface = self._make_surface(api_key=api_key, settings=settings, request_shutdown=lifetime.ask_to_stop)
        stack.push_async_callback(surface.close)
        connection = await listen(surface, settings, paths.memory, api_key)
        self._phase("listening")

        if settings.other_workspaces:
            _log.warning(
                "RELAY_WORKSPACES_JSON names %d more workspaces: a broker joins one, start another for each",
                settings.other_workspaces,
            )
        base_url = settings.engine_url or await self._embedded_engine(paths, stack, lifetime)
        workspace = await resolve(settings, base_url, paths.workspace, user=login_name())
        node = node_of(settings, paths, workspace_id=workspace.workspace_id, base_url=base_url)
        check_destination(node, state, embedded=settings.engine_url is None)
        stack.callback(hold_node(node, paths).release)
        self._phase(f"node {node.node_id} of {node.workspace_id}")

        vault = await asyncio.to_thread(open_vault, settings, paths, node, workspace.key, state)
        parts = Assembly(
            settings,
            paths,
            node,
            vault=vault,
            environments=await asyncio.to_thread(open_environments, paths, state),
            journal=journal,
            snapshots=snapshots,
            state=state,
            environ=self._environ,
            surface=surface,
            api_url=connection.url,
            engine_socket=self._engine_socket,
            disk=disk,
        )
        self._link = parts.link
        stack.push_async_callback(self._shut, parts, lifetime)
        lifetime.attend(parts, surface, persist=settings.persist)
        started = self._started(vault, node)
        await parts.runtime.inbox.put(started)
        ended = asyncio.create_task(parts.runtime.run(parts.dispatcher), name="runtime")
        stack.push_async_callback(_end, ended)
        await parts.runtime.reached(lambda state: _is_settled(state, started.boot_id), READY_WAIT_S)
        if not lifetime.stop_asked:
            stack.callback(files.withdraw)
            files.publish(connection, (paths.connection, paths.own_connection))
            lifetime.published()
            surface.open(parts)
            self._phase("ready")
            if why := refusal_of(state):
                _say(f"relaybroker: {why}")
            settling = asyncio.create_task(self._settled(paths, connection), name="fleet")
            stack.callback(settling.cancel)

        ending = await ended
        self._notices.stopping(ending.reason)
        _log.info("the broker ends with status %d: %s", ending.status, ending.reason)
        lifetime.ended(ending)
        if ending.status:
            _say(f"relaybroker: the broker has stopped: {ending.reason}")
            last_words.leave(paths.state, ending.reason)
        if ending.status == 0:
            await parts.runtime.save_snapshot()
        if lifetime.leaves_nothing:
            stack.callback(shutil.rmtree, paths.run, ignore_errors=True)
        return ending.status

    def _prepare_directories(self, stack: AsyncExitStack) -> Paths:
        """The paths of this run; their directories exist, are private, and are kept out of version control."""
        settings = self._settings
        if settings.state_dir is None:
            state = Path(tempfile.mkdtemp(prefix=f"agent-relay-ephemeral-{os.getpid()}-")).resolve()
            stack.callback(shutil.rmtree, state, ignore_errors=True)
        else:
            state = settings.state_dir.resolve()
            if why := paths_of(settings.instance_name, state, self._environ, ephemeral=False).too_long:
                raise SettingsError(why)
            make_private_directory(settings.state_dir)
        paths = paths_of(settings.instance_name, state, self._environ, ephemeral=settings.state_dir is None)
        ignored = state / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n", encoding="ascii")
        make_private_directory(paths.run)
        make_private_directory(paths.worker_logs)
        return paths

    async def _embedded_engine(self, paths: Paths, stack: AsyncExitStack, lifetime: Lifetime) -> str:
        """The address of the embedded engine. It ends with the last broker of its directory that ends by request, with its agents."""
        engine = await engine_process.find_or_start(paths.engine)

        async def end() -> None:
            unused = engine.started_now and not lifetime.ready
            if (unused or lifetime.leaves_nothing) and not _has_neighbours(paths):
                await engine_process.end(paths.engine, lifetime.time_left_s())

        stack.push_async_callback(end)
        keeper = asyncio.create_task(engine_process.keep_alive(paths.engine, self._cut_link), name="engine keeper")
        stack.callback(keeper.cancel)
        if engine_process.has_socket(paths.engine):  # one of an earlier version has none
            self._engine_socket = address_of(paths.engine / engine_process.SOCKET)
        self._phase(f"embedded engine at {engine.url}")
        return engine.url

    async def _settled(self, paths: Paths, connection: Connection) -> None:
        if self._settle is not None:
            try:
                await asyncio.to_thread(self._settle, self._settings, paths, connection, self._notices.progress)
            except OSError as error:
                _log.warning("the fleet does not match the file: %s", error)
        self._notices.ready(f"ready at {connection.url}")

    def _cut_link(self) -> None:
        if self._link is not None:
            self._link.cut()

    @staticmethod
    async def _shut(parts: Assembly, lifetime: Lifetime) -> None:
        if not (lifetime.ready or parts.has_agents):
            parts.host.end(0.0)  # a start that failed leaves no host without agents behind
        await parts.shut(lifetime.time_left_s())

    def _started(self, vault: Vault, node: Node) -> inputs.BrokerStarted:
        settings = self._settings
        return inputs.BrokerStarted(
            boot_id=uuid.uuid4().hex,
            machine_boot=machine_boot(),
            entropy=secrets.token_hex(32),
            settings=inputs.Settings(
                node_id=node.node_id,
                node_name=node.name,
                workspace_id=node.workspace_id,
                base_url=node.base_url,
                version=f"relaybroker/{__version__}",
                broker_name=settings.instance_name,
                token_pinned=bool(settings.node_token.get_secret_value()),
                in_doubt=settings.in_doubt,
                default_channels=settings.default_channels,
                capabilities=settings.capabilities,
                remote_args=settings.remote_args,
                permission_mode=settings.permission_mode,
                agent_may=settings.agent_may,
                max_agents=settings.max_agents,
                persist=settings.persist,
                checks_places=True,
                reenrols=True,
                local_first=settings.local_first,
                ready_after_s=READY_AFTER_S,
            ),
            has_node_token=vault.has(NODE),
            has_own_token=bool(vault.own_agent_id),
            own_agent_id=vault.own_agent_id,
        )

    def _phase(self, what: str) -> None:
        _log.info("start-up: %s", what)
        self._notices.progress(what)
        if self._settings.startup_debug:
            _say(f"[agent-relay] +{1000 * (time.monotonic() - self._began):.0f} ms {what}")


def refusal_of(state: State) -> str:
    """Why the engine refused this node, for a person; "" = it did not."""
    link = state.link
    if link.state != "refused" or link.reason is None:
        return ""
    again = "It asks again every 5 minutes. To ask now: relaybroker node enrol"
    return f"the engine refused this node, {link.reason}: {SENTENCES[link.reason]} {link.detail}\n{again}"


async def _end(task: asyncio.Task[Ending]) -> None:
    """A start that fails ends the loop, too: what it would still say, nobody could hear."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _note_failure(_kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
    if error is not None:
        _log.error("the broker did not start: %s", error, exc_info=not isinstance(error, START_FAILURES))


def _is_settled(state: State, boot_id: str) -> bool:
    """Whether this run has its host and its link is online or has to wait; or it is to stop already."""
    if state.boot_id != boot_id:
        return False
    waits = state.link.state in ("online", "backing_off", "refused")
    return state.stopping_until > 0 or (state.host.attached and waits)


def _open_journal(
    paths: Paths, on_failure: Callable[[BaseException], None], report: Callable[[str], None]
) -> tuple[Journal, SnapshotFile, State]:
    """The journal, its snapshots, and the state at its end."""
    report("checking the log")
    journal = Journal.open(str(paths.journal), registry=REGISTRY, on_failure=on_failure)
    snapshots = SnapshotFile(side_file(paths.journal, ".snapshot"), payload_version=SNAPSHOT_FORMAT)
    try:
        return journal, snapshots, recover(journal, snapshots, report)
    except BaseException:
        journal.close()
        raise


def _remove_unused(journal: Journal, paths: Paths) -> None:
    """A start that was refused before anything was recorded leaves no log, which others of the directory would have to tell apart."""
    if not journal.written:
        for path in paths.state.glob(f"{paths.journal.name}*"):
            path.unlink(missing_ok=True)
        for path in paths.state.glob(f"{paths.journal.stem}.*"):
            path.unlink(missing_ok=True)
        paths.memory.unlink(missing_ok=True)


def _has_neighbours(paths: Paths) -> bool:
    """Whether another broker runs in the same state directory."""
    for lock in paths.state.glob("broker-*.lock"):
        if lock != paths.lock:
            try:
                StateLock(lock).release()
            except StateLocked:
                return True
    return False
