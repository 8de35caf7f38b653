"""The PTY host: owns every terminal, serves one broker at a time, outlives it, reports each fact until confirmed.

Connections: each must be of the same user and begin with Hello; a newer one replaces the older. Reports are pushed in
order
from the oldest unconfirmed one after every Hello; the connection's own buffer bounds how far ahead. Output is dropped
for a broker that is slow, reports never. Source: architecture.md 5; node-protocol.md 0.5; ADR-0005.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaybroker.adapters import descriptors
from relaybroker.adapters.sessions import known
from relaybroker.adapters.sessions.host import tasks
from relaybroker.adapters.sessions.host.connection import REPORT_HIGH_WATER, Connection
from relaybroker.adapters.sessions.host.kin import LOOK_S, Kin, kill_all
from relaybroker.adapters.sessions.host.ledger import DeliveryLedger, ReportLog
from relaybroker.adapters.sessions.host.local_socket import BACKLOG, AlreadyServed, DirectoryGone
from relaybroker.adapters.sessions.host.piped_process import spawn_piped
from relaybroker.adapters.sessions.host.process import UNKILLABLE_S, SpawnError, spawn
from relaybroker.adapters.sessions.host.protocol import (
    DOORS_SINCE,
    MAX_DIMENSION,
    MIN_COLS,
    MIN_ROWS,
    Answer,
    Answered,
    AnswerQuestion,
    Confirm,
    DoorChosen,
    Exited,
    Fact,
    Forget,
    Hello,
    Inject,
    Injected,
    InjectFailed,
    Input,
    LookUp,
    Request,
    Resize,
    Shutdown,
    Snapshot,
    Start,
    StartFailed,
    Stop,
    Subscribe,
    Welcome,
)
from relaybroker.adapters.sessions.kinds import Launch
from relaybroker.adapters.sessions.looking_up import look_up
from relaybroker.adapters.sessions.piped import PipedSession
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.injection import MAX_QUEUED, OUT_OF_TURN
from relaybroker.adapters.sessions.terminal.session import Session
from relaybroker.adapters.sessions.terminal.writer import KeyboardFull
from relaybroker.domain.doors import is_without_terminal

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from relaybroker.adapters.sessions.host.local_socket import Place
    from relaybroker.adapters.sessions.host.orphans import SessionRecord
    from relaybroker.adapters.sessions.kinds import Prepared
    from relaybroker.adapters.sessions.terminal.harnesses import Profile

MAX_SESSIONS = 256
"""Each needs up to three descriptors, of the usual 1024."""
_TRIED_AGAIN = ("pty_write_failed", "queue_full", "blocked_by_dialog", "blocked_by_question", OUT_OF_TURN)
"""Why an injection of which nothing was typed comes again: none behind it may be typed before."""
FAREWELL_S = 2.0
"""After a shutdown the host waits this long for its last reports to be confirmed."""
SIGNAL_GRACE_S = 2.0
EMPTY_LINGER_S = 30.0
"""A host that has nothing to keep and no broker ends after this time."""
PLACE_CHECK_S = 5.0
"""How often the host looks whether its files are still there."""
PLACE_LOST_CHECKS = 3
"""A host without broker that nobody can find, so often in turn, ends with its agents: nothing runs on unseen."""
REAP_AGAIN_S = 0.1
EXHAUSTED_SAID_S = 60.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
MAX_SNAPSHOTS = 64
"""Snapshots painted and look-ups made at the same time; more are refused with `queue_full`."""

_logger = logging.getLogger(__name__)


@dataclass
class _Starting:
    """A session whose program is being started, and what is to be typed into it."""

    task: asyncio.Task[None]
    injects: list[Inject] = field(default_factory=list)


class Host:
    """All sessions, the report log, and at most one broker connection."""

    def __init__(
        self,
        umask: int = 0o077,
        record: SessionRecord | None = None,
        *,
        subreaper: bool = False,
        doors: Path = Path("doors"),
    ) -> None:
        self.host_id = f"host_{secrets.token_hex(8)}"
        self.finished = asyncio.Event()
        self._umask = umask
        self._doors = doors
        """Directory of what the doors write; a directory per session."""
        self._record = record
        self._kin = Kin(adopts=subreaper, on_change=self._keep_record)
        self._nudged = asyncio.Event()
        self._server: asyncio.AbstractServer | None = None
        self._say_exhausted_at = 0.0
        self._sessions: dict[str, Session | PipedSession] = {}
        self._starting: dict[str, _Starting] = {}
        self._reports = ReportLog()
        self._ledger = DeliveryLedger()
        self._fences: dict[str, int] = {}
        """Session -> report of an injection that is to be tried again, or looked up. Until the broker has confirmed it, what was sent
        before it knew is refused as `out_of_turn`: it would overtake. (Those that the host refuses for good fence nothing.)"""
        self._answered: dict[tuple[str, int], int] = {}
        """(Delivery, attempt) that was handed back -> report. A broker that attaches asks again before it has read that; until it confirms,
        the answer stands."""
        self._broker: Connection | None = None
        self._lease_s: float | None = None
        self._lease: asyncio.TimerHandle | None = None
        self._asks: set[asyncio.Task[None]] = set()
        self._shutdown: asyncio.Task[None] | None = None
        self._all_confirmed = asyncio.Event()

    async def serve(self, place: Place) -> None:
        """Accept brokers until the host is told to end; returns when every session is gone."""
        asyncio.get_running_loop().set_exception_handler(self._accept_failed)
        self._server = await self._accept(place)
        self._linger()
        watches = [asyncio.create_task(self._keep_place(place)), asyncio.create_task(self._watch_kin())]
        try:
            await self.finished.wait()
        finally:
            for watch in watches:
                watch.cancel()
            self._server.close()
            if self._broker is not None:
                self._broker.close()

    async def _accept(self, place: Place) -> asyncio.AbstractServer:
        return await asyncio.get_running_loop().create_unix_server(
            lambda: Connection(self), sock=place.listener, backlog=BACKLOG
        )

    def _accept_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Without descriptors nobody is accepted for a second; asyncio says so for each place in the queue, we say it now and then."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _EXHAUSTED and "accept" in context.get("message", "")):
            loop.default_exception_handler(context)
        elif loop.time() >= self._say_exhausted_at:
            self._say_exhausted_at = loop.time() + EXHAUSTED_SAID_S
            _logger.warning("a broker cannot be accepted: %s", descriptors.refusal(error))

    def nudge(self) -> None:
        """Look after the files now: somebody did not find them."""
        self._nudged.set()

    async def _keep_place(self, place: Place) -> None:
        """Put back what vanishes of socket, lock, pid file and record."""
        failures = 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PLACE_CHECK_S):
                    await self._nudged.wait()
            self._nudged.clear()
            try:
                is_new = place.mend()
                if self._record is not None:
                    self._record.mend()
            except (AlreadyServed, DirectoryGone) as error:
                failures += 1
                if failures == 1:
                    _logger.warning("the place of this host is lost: %s", error)
                if failures >= PLACE_LOST_CHECKS and self._broker is None:
                    self.end()
                continue
            except OSError as error:
                _logger.warning("a file of this host cannot be put back: %s", error)
                continue
            failures = 0
            if is_new and self._server is not None:
                _logger.warning("the socket had been removed; it is there again")
                former, self._server = self._server, await self._accept(place)
                former.close()

    async def _watch_kin(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._kin.look()

    def reap(self) -> None:
        """A child has ended: take the exit status of orphans that became ours."""
        if self._kin.reap():
            asyncio.get_running_loop().call_later(REAP_AGAIN_S, self.reap)

    def end(self, grace_s: float = SIGNAL_GRACE_S) -> None:
        """End every session (TERM, then KILL after `grace_s`), then the host."""
        if self._shutdown is None:
            self._shutdown = tasks.start(self._end(grace_s))

    async def _end(self, grace_s: float) -> None:
        for starting in list(self._starting.values()):
            await asyncio.wait([starting.task])
        sessions = list(self._sessions.values())
        for session in sessions:
            session.stop(grace_s)
        await asyncio.gather(*(session.exited.wait() for session in sessions))
        await self._end_rest()
        self._all_confirmed.clear()
        if self._broker is not None and self._reports.first_number < self._reports.next_number:
            try:
                async with asyncio.timeout(FAREWELL_S):
                    await self._all_confirmed.wait()
            except TimeoutError:
                _logger.warning("the broker did not confirm the last reports")
        self.finished.set()

    async def _end_rest(self) -> None:
        """End what agents left of which it is not known whose it was."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UNKILLABLE_S
        while (rest := self._kin.rest()) and loop.time() < deadline:
            kill_all(rest)
            await asyncio.sleep(REAP_AGAIN_S)

    # --- connections -------------------------------------------------------------------------------------------------

    def attach(self, connection: Connection, hello: Hello) -> None:
        """Make `connection` the broker's; the former one is closed."""
        if self._broker is not None:
            self._broker.close()
        self._broker = connection
        self._lease_s = hello.lease_s
        _use(hello.harnesses)
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None
        _logger.info("broker %d attached", hello.broker_pid)
        connection.send(
            Welcome(
                version=hello.version,
                host_id=self.host_id,
                host_pid=os.getpid(),
                sessions=tuple(session.info() for session in self._sessions.values()),
                next_report=self._reports.next_number,
            )
        )
        connection.next_report = self._reports.first_number
        self.push_reports()

    def detached(self, connection: Connection) -> None:
        """The connection is gone; the lease of its Hello begins."""
        if connection is not self._broker:
            return
        self._broker = None
        self._all_confirmed.set()
        _logger.info("broker gone")
        if self._lease_s is not None:
            self._lease = asyncio.get_running_loop().call_later(self._lease_s, self._lease_over)
        elif self._is_empty:
            self._linger()

    def _lease_over(self) -> None:
        _logger.warning("no broker came back within %s s", self._lease_s)
        self.end()

    def push_reports(self) -> None:
        """Send the reports that are due, as far as the connection takes them."""
        connection = self._broker
        if connection is None or connection.unsent > REPORT_HIGH_WATER:
            return
        for report in self._reports.since(connection.next_report):
            if isinstance(report.fact, Exited):
                connection.flush_output()
            if connection.version >= DOORS_SINCE or not isinstance(report.fact, DoorChosen | Answered):
                connection.send(report)
            connection.next_report = report.number + 1
            if connection.unsent > REPORT_HIGH_WATER:
                return

    # --- requests ----------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> None:
        """Do what the broker asks. Every outcome is a report or an answer; nothing is raised to the connection."""
        match request:
            case Start():
                self._start(request)
            case Inject():
                self._inject(request)
            case Input():
                self._input(request)
            case Resize():
                self._resize(request)
            case Snapshot():
                self._ask(self._snapshot(request))
            case LookUp():
                self._ask(self._look_up(request))
            case AnswerQuestion():
                self._ask(self._answer_question(request))
            case Stop(session_id=session_id, grace_s=grace_s):
                self._stop(session_id, grace_s)
            case Confirm(number=number):
                self._confirm(number)
            case Forget(session_id=session_id):
                self._forget(session_id)
            case Subscribe(on=on):
                if self._broker is not None:
                    self._broker.subscribed = on
            case Shutdown(grace_s=grace_s):
                self.end(grace_s)
            case Hello():
                self._violation("a second Hello on one connection")

    def _start(self, start: Start) -> None:
        if start.session_id in self._sessions or start.session_id in self._starting:
            return  # a broker that was killed asks again: the reports of the first time are kept for it
        if self._shutdown is not None:
            self._report(start.session_id, StartFailed(reason="spawn_failed", detail="the host is ending"))
        elif len(self._sessions) + len(self._starting) >= MAX_SESSIONS:
            self._report(start.session_id, StartFailed(reason="spawn_failed", detail=f"{MAX_SESSIONS} sessions exist"))
        else:
            self._starting[start.session_id] = _Starting(tasks.start(self._spawn(start)))

    async def _spawn(self, start: Start) -> None:
        prepared = None
        try:
            profile = harnesses.profile(start.profile)
            launch = Launch(
                start.session_id,
                start.argv,
                start.env,
                start.cwd,
                start.profile,
                self._doors / start.session_id,
                self._umask,
                start.tools,
                start.resumes,
            )
            prepared = await self._prepare(start.doors, launch) if start.doors else None
            self._sessions[start.session_id] = await self._made(start, profile, prepared)
        except KeyError:
            self._report(start.session_id, StartFailed(reason="spawn_failed", detail=f"no profile {start.profile!r}"))
        except SpawnError as error:
            if prepared is not None:
                await prepared.close()
            self._report(start.session_id, StartFailed(reason=error.reason, detail=error.detail))
        finally:
            for inject in self._starting.pop(start.session_id).injects:
                self._inject(inject)

    async def _made(self, start: Start, profile: Profile, prepared: Prepared | None) -> Session | PipedSession:
        """The session, its program started. Raises SpawnError."""
        argv, env = (prepared.launch.argv, prepared.launch.env) if prepared is not None else (start.argv, start.env)
        if prepared is None or not is_without_terminal(start.doors):
            process = await spawn(
                argv,
                env=env,
                cwd=start.cwd,
                rows=start.rows,
                cols=start.cols,
                umask=self._umask,
                mark=start.session_id,
                kin=self._kin,
            )
            return Session(
                start, process, profile=profile, prepared=prepared, on_fact=self._report, on_output=self._output
            )
        if not prepared.doors:
            why = "; ".join(f"{name}: {reason}" for name, reason in prepared.passed_over.items())
            raise SpawnError("spawn_failed", f"there is no way into a program without terminal: {why}")
        piped = await spawn_piped(argv, env=env, cwd=start.cwd, umask=self._umask, mark=start.session_id, kin=self._kin)
        return PipedSession(
            start, piped, profile=profile, prepared=prepared, on_fact=self._report, on_output=self._output
        )

    async def _prepare(self, doors: tuple[str, ...], launch: Launch) -> Prepared:
        await asyncio.to_thread(known.tidy, self._doors, {*self._sessions, *self._starting})
        return await known.prepare(doors, launch)

    def _keep_record(self) -> None:
        """Note on disk whose processes there are, for the case that this host is killed."""
        if self._record is not None:
            try:
                self._record.keep(self._kin.marks, self._kin.helpers)
            except OSError as error:
                _logger.warning("no record of the agents' processes, should this host be killed: %s", error)

    def _inject(self, inject: Inject) -> None:
        if (inject.delivery_id, inject.attempt) in self._answered:
            return
        session = self._sessions.get(inject.session_id)
        proof = self._ledger.proof(inject.session_id, inject.delivery_id)
        if proof is not None:
            self._report(
                inject.session_id,
                Injected(
                    delivery_id=inject.delivery_id,
                    attempt=inject.attempt,
                    bytes_written=proof.bytes_written,
                    evidence=proof.evidence,
                    wait_ms=proof.wait_ms,
                    repeated=True,
                ),
            )
        elif (starting := self._starting.get(inject.session_id)) is not None and len(starting.injects) < MAX_QUEUED:
            starting.injects.append(inject)
        elif session is None or not session.takes_injections:
            self._refuse(inject, "queue_full" if starting is not None else "not_running")
        elif self._reports.is_full:
            self._refuse(inject, "queue_full")
        elif inject.session_id in self._fences:
            self._refuse(inject, OUT_OF_TURN)
        else:
            session.inject(inject)

    def _refuse(self, inject: Inject, reason: str) -> None:
        self._report(
            inject.session_id,
            InjectFailed(delivery_id=inject.delivery_id, attempt=inject.attempt, reason=reason, typed="no"),
        )

    def _input(self, request: Input) -> None:
        session = self._running(request.request_id, request.session_id)
        if session is None:
            return
        data = request.data

        def done(error: str) -> None:
            answered: dict[str, str | int | tuple[int, ...]] = {} if error else {"bytes_written": len(data)}
            self._answer(Answer(request_id=request.request_id, error=error, data=answered))

        try:
            session.keys(data, done)
        except KeyboardFull:
            done("queue_full")

    def _resize(self, request: Resize) -> None:
        session = self._running(request.request_id, request.session_id)
        if session is None:
            return
        if not (MIN_ROWS <= request.rows <= MAX_DIMENSION and MIN_COLS <= request.cols <= MAX_DIMENSION):
            self._answer(Answer(request_id=request.request_id, error="invalid_dimensions"))
            return
        session.resize(request.rows, request.cols)
        self._answer(Answer(request_id=request.request_id, data={"rows": request.rows, "cols": request.cols}))

    async def _snapshot(self, request: Snapshot) -> None:
        session = self._sessions.get(request.session_id)
        if session is None:
            self._answer(Answer(request_id=request.request_id, error="agent_not_found"))
            return
        if len(self._asks) > MAX_SNAPSHOTS:
            self._answer(Answer(request_id=request.request_id, error="queue_full"))
            return
        if request.format not in ("plain", "ansi"):
            self._answer(Answer(request_id=request.request_id, error="invalid_format"))
            return
        terminal, offset = await session.pictured()
        self._answer(
            Answer(
                request_id=request.request_id,
                data={
                    "format": request.format,
                    "rows": terminal.rows,
                    "cols": terminal.columns,
                    "cursor": terminal.cursor(),
                    "offset": offset,
                    "modes": tuple(sorted(terminal.private_modes)),
                    "screen": terminal.plain() if request.format == "plain" else terminal.ansi(),
                },
            )
        )

    async def _look_up(self, request: LookUp) -> None:
        if len(self._asks) > MAX_SNAPSHOTS:
            self._answer(Answer(request_id=request.request_id, error="queue_full"))
            return
        said = await look_up(self._sessions.get(request.session_id), request)
        self._answer(Answer(request_id=request.request_id, data=said))

    async def _answer_question(self, request: AnswerQuestion) -> None:
        session = self._running(request.request_id, request.session_id)
        if session is not None:
            self._answer(Answer(request_id=request.request_id, error=await session.answer_question(request)))

    def _stop(self, session_id: str, grace_s: float) -> None:
        if (session := self._sessions.get(session_id)) is not None:
            session.stop(grace_s)
        elif (starting := self._starting.get(session_id)) is not None:
            starting.task.add_done_callback(lambda _task: self._stop(session_id, grace_s))

    def _confirm(self, number: int) -> None:
        if self._answered:
            self._answered = {asked: report for asked, report in self._answered.items() if report > number}
        if self._fences:
            self._fences = {session_id: report for session_id, report in self._fences.items() if report > number}
        for report in self._reports.confirm(number):
            if isinstance(report.fact, Injected):
                self._ledger.confirmed(report.session_id, report.fact.delivery_id)
        if self._reports.first_number == self._reports.next_number:
            self._all_confirmed.set()

    def _forget(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None and session.state == "exited":
            del self._sessions[session_id]
            self._ledger.forget_session(session_id)
            self._fences.pop(session_id, None)

    def _running(self, request_id: str, session_id: str) -> Session | PipedSession | None:
        """The session, if it runs; else the request is answered with why not."""
        session = self._sessions.get(session_id)
        if session is None:
            self._answer(Answer(request_id=request_id, error="agent_not_found"))
        elif session.state == "exited":
            self._answer(Answer(request_id=request_id, error="worker_disappeared"))
            return None
        return session

    def _linger(self) -> None:
        """Without broker, sessions and reports there is nothing to keep: end, unless a broker comes soon."""
        if self._broker is None and self._lease is None:
            self._lease = asyncio.get_running_loop().call_later(EMPTY_LINGER_S, self._linger_over)

    def _linger_over(self) -> None:
        self._lease = None
        if self._is_empty:
            _logger.info("nothing to keep")
            self.end()

    @property
    def _is_empty(self) -> bool:
        return not self._sessions and not self._starting and self._reports.first_number == self._reports.next_number

    def _ask(self, work: Coroutine[None, None, None]) -> None:
        task = tasks.start(work)
        self._asks.add(task)
        task.add_done_callback(self._asks.discard)

    def _violation(self, detail: str) -> None:
        if self._broker is not None:
            self._broker.violation(detail)

    # --- facts and output --------------------------------------------------------------------------------------------

    def _report(self, session_id: str, fact: Fact) -> None:
        report = self._reports.append(session_id, fact, time.time())
        if isinstance(fact, Injected) and not fact.repeated:
            self._ledger.typed(session_id, fact)
        if isinstance(fact, InjectFailed):
            self._answered[fact.delivery_id, fact.attempt] = report.number
        if isinstance(fact, InjectFailed) and _holds_up(fact):
            self._fences[session_id] = report.number
        connection = self._broker
        if connection is not None and connection.next_report == report.number:
            self.push_reports()

    def _answer(self, answer: Answer) -> None:
        if self._broker is not None:
            self._broker.send(answer)

    def _output(self, session_id: str, offset: int, data: bytes) -> None:
        if self._broker is not None and self._broker.subscribed:
            self._broker.output(session_id, offset, data)


def _holds_up(fact: InjectFailed) -> bool:
    """None behind it may enter before the broker knows: it comes again, or is looked up first."""
    return fact.typed == "unknown" or (fact.typed == "no" and fact.reason in _TRIED_AGAIN)


def _use(files: dict[str, str]) -> None:
    """Know the operator's profiles. A broker of another version may send what this one cannot read: then none of them, loudly."""
    try:
        harnesses.use(harnesses.read(files))
    except harnesses.HarnessError as error:
        harnesses.use({})
        _logger.error("the operator's profiles are left out, this host cannot read them: %s", error)  # noqa: TRY400 - a trace says no more
