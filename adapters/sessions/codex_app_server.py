"""The door `codex_app_server`: a Codex whose terminal is one client of an app-server of ours, and we are another.

`turn/start` with our id begins a turn, or enters the one that runs. That Codex took the message is seen in the thread's rollout,
the file from which it resumes: the user message is there with our id before the model gets it, so that what a Codex that ended has
not written down, it never began. Codex runs the same id twice; nobody gets it twice but after a look-up that found it absent.
`notes` has the server's socket, and each thread that the terminal showed with its rollout. The states of threads are told to
everybody; what one asks a person, to its subscribers. We are one (`thread/resume`) while a question stands, as the terminal is.
Source: ADR-0093, ADR-0091, ADR-0095; every fact is held by tests/agents/test_door_facts.py against the real program.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
import sys
import tempfile
import threading
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.codex_questions import Request, request
from relaybroker.adapters.sessions.door import (
    Absent,
    Accepted,
    Door,
    Evidence,
    NotHandedOver,
    Opened,
    PassedOver,
    Question,
    QuestionGone,
    Unknowable,
    message_id,
)
from relaybroker.adapters.sessions.helper_process import HelperProcess
from relaybroker.adapters.sessions.host import process_table
from relaybroker.adapters.sessions.host.process import find_command
from relaybroker.adapters.sessions.rows import Row, Rows, append, inner, pauses
from relaybroker.adapters.sessions.rpc_server import RefusedError, RpcServer
from relaybroker.adapters.unix_address import MAX_SUN_PATH, address_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.adapters.sessions.door import DoorState, LookedUp
    from relaybroker.adapters.sessions.kinds import Launch

LEAST_VERSION = (0, 171, 0)
"""The first Codex with which this was seen to work."""
LOOK_S = 0.02
"""How often files are looked at while something is awaited."""
MAX_STARTS = 5
"""So often a server that ends is started again while its program lives."""
START_S = 10.0
"""A server listens within this time (0.5 s are usual)."""
REJOIN_S = 60.0
"""The terminal has found a server that was started again within this time."""
ENDED_S = 1.0
"""A server whose connection ended is seen to have ended within this time, or it lives."""
JOIN_LOOK_S = 0.25
"""How often a server is asked for its threads until the terminal shows one."""
MAX_THREADS = 64
"""Threads of one terminal whose rollouts are watched; the notes have all of them."""
MAX_ASKED = 32
"""Questions that are open at the same time; more are left to the terminal."""
MAX_SEEN = 256
"""Messages whose place in the rollout is remembered until it is asked for."""
_REFUSED = (-32600, -32601, -32602)
"""JSON-RPC errors by which a request was not begun."""
_OPTIONS = ("-c", "--config", "--enable", "--disable")
"""Options of the terminal that its server needs as well; each takes a value."""
_OTHER_COMMANDS = frozenset({
    "agents", "exec", "e", "review", "login", "logout", "mcp", "plugin", "app-server", "remote-control", "completion", "update", "doctor",
    "sandbox", "debug", "apply", "a", "queue", "archive", "delete", "migrate-rollouts", "migrate-nfs-db", "unarchive", "cloud",
    "exec-server", "features", "help",
})  # fmt: skip
"""Commands of Codex without a session in the terminal."""
_ALONE = "--no-daemon"
"""Says that no server is shared; Codex refuses it beside `--remote`, which says whose server it is."""


_logger = logging.getLogger(__name__)


class CodexAppServerKind:
    """Starts an app-server first, then Codex as one of its clients."""

    async def prepare(self, launch: Launch) -> tuple[Launch, Door] | PassedOver:
        if not sys.platform.startswith("linux"):
            return PassedOver("without the subreaper of Linux nobody would end Codex' server")
        parts = launch.split("codex")
        if isinstance(parts, PassedOver):
            return parts
        words, given = parts
        if reason := unfit(given):
            return PassedOver(reason)
        program = find_command(words[0], launch.env, launch.cwd)
        if program is None:
            return PassedOver(f"{words[0]!r} is not there")
        notes = launch.folder / f"codex_app_server-{uuid.uuid4().hex}.jsonl"  # a session that is restarted has others
        socket = await asyncio.to_thread(_make_room, notes)
        server = Server(socket, [program, *words[1:], *server_arguments(given, socket)], launch)
        if reason := await server.start(notes):
            return PassedOver(reason)
        return replace(launch, argv=(*words, *terminal_arguments(given, socket))), CodexAppServer(notes, server)

    def at(self, place: str) -> Door:
        return CodexAppServer(place)


def _make_room(notes: Path) -> Path:
    """The folder of the notes, and a path that every system takes for a socket, known to this user alone. Raises OSError."""
    notes.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket = notes.with_suffix(".sock")
    if len(os.fsencode(socket)) <= MAX_SUN_PATH:
        return socket
    folder = Path(tempfile.gettempdir()) / f"relaybroker-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    place = folder.lstat()
    if not stat.S_ISDIR(place.st_mode) or place.st_uid != os.getuid() or place.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone")
    return folder / f"{uuid.uuid4().hex}.sock"


def unfit(options: Sequence[str]) -> str:
    """Why a Codex with these options is not given a server of ours; "" if it is."""
    if any(word == "--remote" or word.startswith("--remote=") for word in options):
        return "the command line names a server of its own"
    other = next((word for word in options if word in _OTHER_COMMANDS), None)
    return f"codex {other} has no session in its terminal" if other else ""


def server_arguments(options: Sequence[str], socket: Path) -> list[str]:
    """What is put behind the program's name for the server; `options`: what stands there on the agent's command line."""
    given: list[str] = []
    for at, word in enumerate(options):
        if word in _OPTIONS:
            given += options[at : at + 2]
        elif word.startswith(("--config=", "--enable=", "--disable=")):
            given.append(word)
    return ["app-server", "--listen", f"unix://{socket}", *given]


def terminal_arguments(options: Sequence[str], socket: Path) -> list[str]:
    """The same for the program in the terminal."""
    return ["--remote", f"unix://{socket}", *(word for word in options if word != _ALONE)]


class Server:
    """The app-server of one session, which is started again if it ends: its terminal finds it by its socket."""

    def __init__(self, socket: Path, argv: Sequence[str], launch: Launch) -> None:
        self._socket = socket
        self._argv = argv
        self._launch = launch
        self.process: HelperProcess | None = None

    async def start(self, notes: Path) -> str:
        """Start it, note that, and wait until it listens; why it does not, if so. Cancelled, it ends it. Raises OSError."""
        self.process = process = HelperProcess(self._argv, self._launch)
        try:
            while not await listens(self._socket):
                if process.has_ended:
                    return "Codex' server ended at once"
                await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(append, notes, {"socket": str(self._socket), "pid": process.pid})
        except BaseException:
            process.kill()
            raise
        return ""

    async def has_ended(self) -> bool:
        """Whether its process is gone, a moment after its connection ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ENDED_S
        while self.process is not None and not self.process.has_ended:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def forget(self) -> None:
        """It is not started again: nobody looks for its socket any more. Who is connected stays so."""
        self._socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """Its program was not started."""
        if self.process is not None:
            self.process.kill()


class CodexAppServer(Door):
    """The thread that a Codex shows in its terminal, at the server whose socket `notes` has."""

    name = "codex_app_server"
    folds = True

    def __init__(self, notes: str | Path, server: Server | None = None) -> None:
        self._notes = Path(notes)
        self.server = server
        """To start it again; None: it is somebody else's."""
        self._rollouts: dict[str, Rows] = {}
        """Thread -> its rollout, the one that is shown last."""
        self._seen: dict[str, str] = {}
        """Ids of messages, and where a rollout has them; the newest `MAX_SEEN`."""
        self._reading = threading.Lock()
        self._statuses: dict[str, DoorState] = {}
        self._asked: dict[str, Request] = {}
        """Question -> what the server asks, in order."""
        self._given: set[str] = set()
        """Threads to whose question an answer was given, and of which the server has said nothing since."""
        self._following: dict[str, asyncio.Task[None]] = {}
        """Threads that ask something."""
        self._moved: dict[str, asyncio.Event] = {}
        """Such a thread -> the server said something of it."""
        self._shown = asyncio.Event()
        self._rpc: RpcServer | None = None
        self._keeping: asyncio.Task[None] | None = None
        """Joins the server again when the connection ends; done: the door is closed."""
        self._is_begun = False

    async def open(self) -> Opened | PassedOver:
        """Join the server and wait for the thread that the terminal shows, which comes behind every question of a first start."""
        self._is_begun = True
        reason = await self._join()
        if not reason and not self._rollouts:
            reason = "Codex keeps no paginated rollout of this thread"
        if reason:
            await self.close()
            return PassedOver(reason)
        self._keeping = asyncio.create_task(self._keep())
        return Opened(str(self._notes))

    async def _join(self) -> str:
        """Why the server is none for us, if it is not."""
        if (socket := await asyncio.to_thread(self._read_notes)) is None:
            return "Codex' server was not started"
        self._shown.clear()
        try:
            self._rpc = rpc = await RpcServer.join(socket, self._notified, self._requested)
            if refusal := await _greet(rpc):
                return refusal
            while not self._shown.is_set():
                for thread in (await rpc.call("thread/loaded/list"))["data"]:
                    self._show(inner(await rpc.call("thread/read", threadId=thread), "thread"))
                with suppress(TimeoutError):
                    async with asyncio.timeout(JOIN_LOOK_S):
                        await self._shown.wait()
        except (OSError, TimeoutError, RefusedError, LookupError, TypeError) as error:
            return f"Codex' server is not what is known here: {str(error) or type(error).__name__}"
        return ""

    async def _keep(self) -> None:
        """Until the server is gone for good. What was handed to one that ended is looked up, and asked of no other."""
        for _ in range(MAX_STARTS):
            assert self._rpc is not None
            await self._rpc.ended()
            await self._rpc.leave()
            await self._forget_questions()
            reason = ""
            try:
                if self.server is not None and await self.server.has_ended():
                    async with asyncio.timeout(START_S):
                        reason = await self.server.start(self._notes)
                if not reason:
                    async with asyncio.timeout(REJOIN_S):
                        reason = await self._join()
            except (OSError, TimeoutError) as error:
                reason = str(error) or "it took too long"
            if reason:
                _logger.warning("Codex' server is gone: %s", reason)
                return
            _logger.warning("Codex' server had ended; it is there again")

    @property
    def state(self) -> DoorState:
        """What the server said last of the thread that is shown; `busy` while it is started again."""
        if self._keeping is None or self._keeping.done():
            return "closed"
        if self._rpc is None or self._rpc.is_closed or not self._shown.is_set():
            return "busy"
        thread = next(reversed(self._rollouts))
        if self._asked:
            return "blocked"
        return "busy" if thread in self._given else self._statuses[thread]

    @property
    def question(self) -> Question | None:
        return next((one.question for one in self._asked.values()), None)

    async def answer(self, question_id: str, option_id: str) -> None:
        """Answer the server's request. Its terminal takes the question away by itself."""
        asked, rpc = self._asked.get(question_id), self._rpc
        if asked is None or option_id not in asked.results or rpc is None or rpc.is_closed:
            raise QuestionGone
        del self._asked[question_id]
        self._given.add(asked.thread)
        try:
            await rpc.respond(asked.identifier, asked.results[option_id])
        finally:
            self.on_change()

    async def hand_over(self, delivery_id: str, text: str, *, steer: bool) -> None:  # noqa: ARG002  # what runs is entered anyway
        """Begin a turn with it, or put it into the one that runs."""
        if self.state == "closed":
            raise NotHandedOver("Codex' server has ended")
        if self._rpc is None or self._rpc.is_closed or not self._shown.is_set():
            raise ConnectionError(
                "Codex' server is being started again"
            )  # no other door takes it; a look-up finds it absent
        identifier = message_id(delivery_id)
        await asyncio.to_thread(self._read_on)
        self._seen.pop(identifier, None)
        await asyncio.to_thread(append, self._notes, {"handed": identifier})
        thread = next(reversed(self._rollouts))
        content = [{"type": "text", "text": text}]
        before = self._statuses[thread]
        self._statuses[thread] = "busy"  # the server says so later than its rollout
        try:
            await self._rpc.call("turn/start", threadId=thread, input=content, clientUserMessageId=identifier)
        except RefusedError as error:
            self._statuses[thread] = before
            if error.code in _REFUSED:
                raise NotHandedOver(f"Codex refused it: {error}") from error
            raise

    async def evidence(self, delivery_id: str) -> Evidence:
        """The user message in the rollout."""
        identifier = message_id(delivery_id)
        pause = pauses(LOOK_S)
        while True:
            await asyncio.to_thread(self._read_on)
            if (pointer := self._seen.pop(identifier, None)) is not None:
                return Evidence("item", pointer)
            await asyncio.sleep(next(pause))

    async def look_up(self, delivery_id: str) -> LookedUp:
        """By the rollouts of all threads that the terminal showed."""
        identifier = message_id(delivery_id)
        afresh = CodexAppServer(self._notes)
        socket = await asyncio.to_thread(afresh._read_notes)
        if socket is None:
            return Unknowable("the notes of Codex' server are gone")
        # Asked before the rollouts are read: what is dead by then writes no more.
        may_have_it = await self._may_be_had(identifier, socket)
        await asyncio.to_thread(afresh._read_on)
        if (pointer := afresh._seen.get(identifier)) is not None:
            return Accepted(Evidence("item", pointer))
        if may_have_it:
            return Unknowable("Codex' server still runs and may have the message in its queue")
        return Absent()

    async def _may_be_had(self, identifier: str, socket: Path) -> bool:
        """Whether the server that was handed it goes on. One that was killed loses its connections a moment before it is gone.

        Its socket may be gone before it: a door that closes takes it away.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ENDED_S
        while (server := await asyncio.to_thread(self._newest_that_has, identifier)) is not None:
            if not await listens(socket) and not _runs(server):
                return False
            if loop.time() >= deadline:
                return True
            await asyncio.sleep(LOOK_S)
        return False

    def _newest_that_has(self, identifier: str) -> int | None:
        """Process id (0: not noted) of the server that was started last; None if that was not handed it."""
        handed, server = False, 0
        for _, row in Rows(self._notes).new():
            if "socket" in row:
                handed, server = False, pid if isinstance(pid := row.get("pid"), int) else 0
            handed = handed or row.get("handed") == identifier
        return server if handed else None

    async def close(self) -> None:
        """Leave the server. It lives as long as the program, and ends here if that was never started.

        Its socket goes, unless the program has yet to find it: a door that is passed over does not keep it from starting.
        """
        if self.server is not None and not self._is_begun:
            self.server.kill()
        is_sought = self._is_begun and self._keeping is None
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self.server is not None and not is_sought:
            self.server.forget()
        await self._forget_questions()
        rpc, self._rpc = self._rpc, None
        if rpc is not None:
            await rpc.leave()

    # --- what the server tells -----------------------------------------------------------------------------------------

    def _notified(self, method: str, values: Row) -> None:
        thread = values.get("threadId")
        if method == "thread/started":
            self._show(values.get("thread"))
        elif method == "thread/status/changed" and isinstance(thread, str) and thread in self._rollouts:
            self._statuses[thread] = state = _state(values.get("status"))
            self._given.discard(thread)
            if state != "idle":  # somebody works in it, so it is the one that is shown
                self._rollouts[thread] = self._rollouts.pop(thread)
            if (moved := self._moved.get(thread)) is not None:
                moved.set()
            if state == "blocked" and thread not in self._following and self._rpc is not None:
                self._following[thread] = asyncio.create_task(self._follow(self._rpc, thread))
            self.on_change()
        elif method == "serverRequest/resolved":
            for question_id, one in list(self._asked.items()):
                if (one.thread, one.identifier) == (thread, values.get("requestId")):
                    del self._asked[question_id]
            self.on_change()

    def _show(self, thread: object) -> None:
        """The terminal shows this thread, unless it is one of the program's own (for a title, for a helper)."""
        identifier, rollout = inner(thread, "id"), inner(thread, "path")
        if inner(thread, "ephemeral") or inner(thread, "parentThreadId") or not isinstance(identifier, str):
            return
        self._shown.set()
        if not isinstance(rollout, str) or inner(thread, "historyMode") != "paginated":
            return
        rows = self._rollouts.pop(identifier, None)
        if rows is None:
            rows = Rows(rollout)
            append(self._notes, {"thread": identifier, "rollout": rollout})
        self._rollouts[identifier] = rows
        while len(self._rollouts) > MAX_THREADS:
            del self._rollouts[next(iter(self._rollouts))]
        self._statuses[identifier] = _state(inner(thread, "status"))

    # --- what it asks --------------------------------------------------------------------------------------------------

    def _requested(self, identifier: object, method: str, values: Row) -> None:
        asked = request(identifier, method, values)
        if asked is not None and asked.thread in self._following and len(self._asked) < MAX_ASKED:
            self._asked[asked.question.id] = asked
            self.on_change()

    async def _follow(self, rpc: RpcServer, thread: str) -> None:
        """Subscribe to a thread while it asks something: whoever comes is told what is open, and what becomes of it."""
        moved = self._moved[thread] = asyncio.Event()
        try:
            while self._statuses.get(thread) == "blocked":
                await rpc.call("thread/resume", threadId=thread, excludeTurns=True)
                while self._statuses.get(thread) == "blocked":
                    moved.clear()
                    await moved.wait()
                await rpc.call("thread/unsubscribe", threadId=thread)
        except (OSError, TimeoutError, RefusedError) as error:
            _logger.warning("what Codex asks is known only to its terminal: %s", error)
        finally:
            self._following.pop(thread, None)
            self._moved.pop(thread, None)
            self._asked = {key: one for key, one in self._asked.items() if one.thread != thread}
            self.on_change()

    async def _forget_questions(self) -> None:
        """Nobody can be asked any more."""
        for one in (following := list(self._following.values())):
            one.cancel()
        if following:
            await asyncio.wait(following)
        self._following.clear()  # one that was cancelled before it began has not done so itself
        self._moved.clear()
        self._asked.clear()
        self._given.clear()
        self.on_change()

    # --- files ---------------------------------------------------------------------------------------------------------

    def _read_notes(self) -> Path | None:
        """The server's socket."""
        socket = None
        for _, row in Rows(self._notes).new():
            if isinstance(path := row.get("socket"), str):
                socket = Path(path)
            elif isinstance(thread := row.get("thread"), str):
                self._rollouts[thread] = Rows(str(row.get("rollout")))
        return socket

    def _read_on(self) -> None:
        """Note which messages the rollouts have that were not looked at before."""
        with self._reading:
            for rows in list(self._rollouts.values()):
                for line, row in rows.new("client_id"):
                    item = inner(row, "payload", "item")
                    if inner(item, "type") == "UserMessage" and isinstance(identifier := inner(item, "client_id"), str):
                        self._seen[identifier] = f"{inner(item, 'id')} in {rows.path}:{line}"
                        while len(self._seen) > MAX_SEEN:
                            del self._seen[next(iter(self._seen))]


async def _greet(rpc: RpcServer) -> str:
    """Why this server is none of ours, if it is not."""
    known = await rpc.call(
        "initialize",
        clientInfo={"name": "relaybroker", "title": "relaybroker", "version": "1"},
        capabilities={"experimentalApi": True},
    )
    version = re.match(r"[^/]*/(\d+)\.(\d+)\.(\d+)", str(known.get("userAgent")))
    if version is None or tuple(map(int, version.groups())) < LEAST_VERSION:
        return f"Codex' server is {known.get('userAgent')!r}, older than {'.'.join(map(str, LEAST_VERSION))}"
    await rpc.notify("initialized")
    return ""


def _state(status: object) -> DoorState:
    """`systemError` is the end of a turn that failed: the next one may begin."""
    if inner(status, "type") in ("idle", "systemError", "notLoaded"):
        return "idle"
    return "blocked" if inner(status, "activeFlags") else "busy"


async def listens(socket: Path) -> bool:
    """Whether a server is there."""
    try:
        _, writer = await asyncio.open_unix_connection(address_of(socket))
    except OSError:
        return False
    writer.close()
    return True


def _runs(pid: int) -> bool:
    """Whether this process has not ended; another one that has its number by now only makes us careful."""
    process = process_table.listed(pid)
    return process is not None and process.state not in "ZX"
