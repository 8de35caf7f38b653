"""One agent's terminal: its program, its screen, and what is typed into it; everything observed becomes a report.

States: booting -> ready <-> blocked; any -> stopping -> exited. The readiness gate opens once; a dialog blocks
whenever it
is on the screen. Output is read in bounded slices and painted only when somebody looks; a program that floods is not
read faster than it is painted. Source: architecture.md 5; node-protocol.md 6; local-api.md 3, 5.6.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.ending import Ending
from relaybroker.adapters.sessions.host.output_ring import OutputRing
from relaybroker.adapters.sessions.host.process_table import Wait, status, waits_for_terminal
from relaybroker.adapters.sessions.host.protocol import (
    TERMINAL_CLOSED,
    AnswerQuestion,
    Blocked,
    DoorChosen,
    Fact,
    Idle,
    Inject,
    LookUp,
    Ready,
    SessionInfo,
    Start,
    Started,
    Unblocked,
)
from relaybroker.adapters.sessions.host.worker_log import WorkerLog
from relaybroker.adapters.sessions.route import QUESTION_CHANGED, Route
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.access import Access
from relaybroker.adapters.sessions.terminal.blocking import Blocking
from relaybroker.adapters.sessions.terminal.foreground import Foreground
from relaybroker.adapters.sessions.terminal.foreground import look as look_at_foreground
from relaybroker.adapters.sessions.terminal.gate import CLEAN_OUTPUT_BYTES, PAINT_SLICE, Gate
from relaybroker.adapters.sessions.terminal.injection import Injector
from relaybroker.adapters.sessions.terminal.occupation import Occupant, Occupation, Seen, occupant
from relaybroker.adapters.sessions.terminal.questions import is_console
from relaybroker.adapters.sessions.terminal.screen import Terminal
from relaybroker.adapters.sessions.terminal.sequences import plain_text
from relaybroker.adapters.sessions.terminal.verification import Verifications
from relaybroker.adapters.sessions.terminal.writer import TerminalWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.door import LookedUp
    from relaybroker.adapters.sessions.host.process import AgentProcess
    from relaybroker.adapters.sessions.kinds import Prepared
    from relaybroker.adapters.sessions.terminal.harnesses import Profile

READ_BYTES = 64 * 1024
CLOSED_S = 0.1
"""A program that has had its terminal closed for so long before it was ready will never read anything."""
REOPEN_RETRY_S = 0.5
DRAIN_BYTES = 4 * 1024 * 1024
"""Most output read after the program's exit; a child of it that floods on does not hold the exit report back."""
DRAFT = "unsubmitted draft"
PICTURE_ROUNDS = 32
"""So often a picture is painted on while output comes; then what has come is painted at once (at most `BACKLOG_BYTES` and a read)."""
PAINTED_S = 1.0
"""A program has painted its screen anew so long after it was stopped or resized."""
REPAINTED_S = 0.2
"""A program notices within this time that its terminal has another size."""
_ATTRIBUTES = b"c"
"""The end of an answer to DA."""


class Session:
    """A started program with its terminal, until `exited` is set; all calls from the event loop's thread."""

    def __init__(
        self,
        start: Start,
        process: AgentProcess,
        *,
        profile: Profile | None = None,
        prepared: Prepared | None = None,
        on_fact: Callable[[str, Fact], None],
        on_output: Callable[[str, int, bytes], None],
    ) -> None:
        self.session_id = start.session_id
        self.name = start.name
        self.profile = profile or harnesses.profile(start.profile)
        self.started_at = time.time()
        self.ring = OutputRing()
        self.terminal = Terminal(start.rows, start.cols)
        self.writer = TerminalWriter(process.fd)
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._on_fact = on_fact
        self._on_output = on_output
        self._is_named = self.profile.name not in (harnesses.DEFAULT, harnesses.profile_for(start.argv).name)
        self._injector = Injector(self, self._typed)
        self._route = Route(self, prepared) if prepared is not None else None
        """None: it was asked for no door, and everything is typed."""
        self._ready: Ready | None = None
        """The terminal is ready, and it is not yet known by which door deliveries enter."""
        self._blocking = Blocking(self._pass_on)
        self._log = WorkerLog(start.log_path, start.name)
        self.last_output_at = self._loop.time()
        self._paint_due: asyncio.Handle | None = None
        self._reading = False
        self._repainted: asyncio.TimerHandle | None = None
        self._disturbed_at = -PAINTED_S
        """When the program was last stopped or resized."""
        self._idle_threshold = start.idle_threshold_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_screen: str | None = None
        self._closed_early = False
        self._ending = Ending(self, process, self.profile.stop_signals)
        self.exited = self._ending.exited
        self.report(Started(pid=process.pid))
        self._verifications = Verifications(self.profile.verify_s, self.ring, self._painted_text, self.report)
        self._gate = Gate(self)
        self._occupation = Occupation(self)
        self._resume_reading()
        self._injector.start(self._broken)
        if self._route is not None:
            self._route.start(self._broken)
        self._arm_idle(self._idle_threshold)

    # --- what the host asks ------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """`booting`, `ready`, `blocked`, `stopping` or `exited`."""
        return self._ending.phase or ("blocked" if self._blocking.is_told else self._gate.state)

    @property
    def pid(self) -> int:
        return self._process.pid

    def info(self) -> SessionInfo:
        """The session as a broker that attaches sees it."""
        return SessionInfo(
            session_id=self.session_id,
            name=self.name,
            pid=self.pid,
            state=self.state,
            started_at=self.started_at,
            queued=(*(self._route.queued if self._route is not None else ()), *self._injector.queued),
        )

    @property
    def takes_injections(self) -> bool:
        return self.state not in ("stopping", "exited")

    def inject(self, inject: Inject) -> None:
        if self._route is not None:
            self._route.accept(inject)
        else:
            self._injector.accept(inject)

    async def look_up(self, request: LookUp) -> LookedUp | None:
        """What the program's records say, as its open door sees them; None: this session has no such door."""
        return await self._route.look_up(request.door, request.delivery_id) if self._route is not None else None

    async def answer_question(self, request: AnswerQuestion) -> str:
        """Give a person's answer to the program; the `error` of the `Answer`."""
        return await self._route.answer(request) if self._route is not None else QUESTION_CHANGED

    def keys(self, data: bytes, done: Callable[[str], None]) -> None:
        """Type a person's keys; `done` as in TerminalWriter.keys. Raises KeyboardFull."""

        def typed(error: str) -> None:
            if not error and data and self._gate.question is None:
                ended = self._occupation.person.typed(data, self._loop.time())
                self._injector.person_typed(data, ended=ended)
            done(error)

        self.writer.keys(data, typed)

    def resize(self, rows: int, cols: int) -> None:
        self._disturbed_at = self._loop.time()
        self._process.resize(rows, cols)
        self.terminal.resize(rows, cols)

    async def settled(self) -> Terminal:
        """The terminal with all output painted that has come until now; others get their turn in between."""
        wanted = self.terminal.fed
        while self.terminal.painted < wanted:
            self.terminal.settle(PAINT_SLICE)
            if self.terminal.painted < wanted:
                await asyncio.sleep(0)
        self.answer_queries()
        return self.terminal

    async def pictured(self) -> tuple[Terminal, int]:
        """The terminal, and the offset behind the output that it shows: what comes from there on makes it what it is later.

        A sequence or character that has begun is not shown, so the offset is before it.
        """
        for _ in range(PICTURE_ROUNDS):
            if (await self.settled()).is_painted:
                break
        else:
            self.terminal.settle()
        return self.terminal, self.ring.end - self.terminal.unfinished

    def stop(self, grace_s: float) -> None:
        """End the program and all of its session: SIGTERM now, SIGKILL after `grace_s`. A second call only shortens."""
        self._ending.stop(grace_s)

    # --- what its end asks (ending.Ended) --------------------------------------------------------------------------------

    async def hand_back(self, reason: str) -> None:
        if self._route is not None:
            await self._route.close(reason)
        await self._injector.close(reason)

    def drain(self) -> None:
        self._pause_reading()
        left = DRAIN_BYTES
        while left > 0 and (count := self._read_once()):
            left -= count

    def last_output(self) -> str:
        return plain_text(self.ring.since(self.ring.end - CLEAN_OUTPUT_BYTES))

    def cause(self, number: int | None) -> str:
        return TERMINAL_CLOSED if self._closed_early and number == signal.SIGKILL else ""

    def shut(self) -> None:
        for timer in (self._idle_timer, self._paint_due, self._repainted):
            if timer is not None:
                timer.cancel()
        self._gate.close()
        self._blocking.close()
        self._occupation.close()
        self._verifications.close()
        self.writer.close()
        self._pause_reading()
        self._process.close()
        self._log.close()

    def _broken(self, _error: BaseException) -> None:
        """A fault of ours in this session: end its program, so that the exit is reported and nobody waits for ever."""
        self._ending.kill()

    # --- what the injector asks (injection.Line) ---------------------------------------------------------------------

    @property
    def bracketed_paste(self) -> bool:
        return self.terminal.bracketed_paste

    def line_discipline(self) -> tuple[bool, bool]:
        return self._process.line_discipline()

    def unread(self) -> int | None:
        return self._process.unread()

    def may_type(self) -> bool:
        return self.state == "ready"

    async def access(self, known: Foreground | None = None) -> Access:
        """Look at the settled terminal; a question that is looked for is noticed, and reported when it stands.

        `known`: the program that had the terminal a moment ago; not asked for again while the same process group has it.
        """
        await self.settled()
        return self._access(known)

    def _access(self, known: Foreground | None = None) -> Access:
        front = self.foreground(known)
        view = self.terminal.view()
        if front.profile.name == harnesses.DEFAULT and is_console(view):
            front = front._replace(profile=harnesses.profile("console"))
        look = partial(self._gate.look_now, front, view)
        if known is not None:
            return Access(front, view, look, None, self._waits)
        sight = look()
        now, person = self._loop.time(), self._occupation.person
        pend = not person.is_answered(now, self.unread())
        holder = occupant(Seen(front, sight, person.types(now), pend, self.profile, self._waits))
        return Access(front, view, lambda: sight, holder, self._waits)

    def foreground(self, known: Foreground | None = None) -> Foreground:
        """The program that has the keyboard now."""
        group = self._process.foreground_group()
        if known is not None and known.group == group:
            return known
        return look_at_foreground(group, self.pid, self.profile, named=self._is_named)

    def _waits(self) -> Wait | None:
        if self._gate.is_unverified:
            return None
        return waits_for_terminal(self._process.foreground_group(), self._process.terminal_device)

    def is_unpainted(self, foreground: Foreground) -> bool:
        now = self._loop.time()
        if (here := status(foreground.pid)) is not None and here.state in ("T", "t"):
            self._disturbed_at = now
        return now < self._disturbed_at + PAINTED_S

    def occupied_by(self, occupant: Occupant | None) -> None:
        self._occupation.note(occupant)

    def show(self, text: str) -> bool:
        """Put a text on the terminal as a program's output is, without typing it; what stood at the cursor is shown again behind it.

        False while the program's own output is in the middle of a sequence.
        """
        if not self.terminal.is_between_sequences:
            return False
        self._output(self.terminal.notice(text))
        return True

    def report(self, fact: Fact) -> None:
        """Tell the broker. That the program is ready it hears behind the door by which deliveries enter."""
        if isinstance(fact, Ready) and self._route is not None and not self._route.is_chosen:
            self._ready = fact
            self._route.notify()
        elif isinstance(fact, Blocked | Unblocked) and self._route is not None:
            self._blocking.screen_shows(fact if isinstance(fact, Blocked) else None)
        else:
            self._pass_on(fact)

    def _pass_on(self, fact: Fact) -> None:
        self._on_fact(self.session_id, fact)
        if isinstance(fact, DoorChosen | Unblocked) and self._ready is not None and self._gate.state == "ready":
            ready, self._ready = self._ready, None
            self._on_fact(self.session_id, ready)

    # --- what the route asks (route.Passage) --------------------------------------------------------------------------

    @property
    def busy_patience_s(self) -> float:
        return self.profile.busy_patience_s

    def asks(self, blocked: Blocked | None) -> None:
        self._blocking.door_tells(blocked)

    def type(self, inject: Inject) -> None:
        self._injector.accept(inject)

    def _typed(self, inject: Inject, seen_in: Callable[[OutputRing], bool], seen: bool) -> None:
        self._verifications.begin(inject, seen_in, seen=seen)

    def typing(self, text: str) -> None:
        self._gate.typing(text)

    def draft_changed(self, *, in_composer: bool) -> None:
        self._pass_on(Blocked(pattern=DRAFT) if in_composer else Unblocked())
        self._occupation.forget()

    # --- what the gate asks (gate.Watched) ---------------------------------------------------------------------------

    @property
    def process(self) -> AgentProcess:
        return self._process

    def gate_moved(self) -> None:
        self._occupation.forget()
        self._injector.notify()
        if self._route is not None:
            self._route.notify()

    def answer_queries(self) -> None:
        """Type the answers to the terminal queries that were painted."""
        while self.terminal.replies:
            reply = self.terminal.replies.popleft()
            if not reply.endswith(_ATTRIBUTES) or self.foreground().profile.answers_attributes:
                self.writer.answer(reply)

    # --- what the occupation asks (occupation.Watched) ----------------------------------------------------------------

    def occupant_now(self) -> Occupant | None:
        self.terminal.settle()
        self.answer_queries()
        return self._access().occupant

    def occupation_moved(self) -> None:
        self._injector.notify()

    def repaint(self) -> None:
        """Make the terminal one row smaller and, when the program could see it, as large as before."""
        if self.terminal.rows > 1 and self._repainted is None:
            self._process.resize(self.terminal.rows - 1, self.terminal.columns)
            self._repainted = self._loop.call_later(REPAINTED_S, self._restore_size)

    def _restore_size(self) -> None:
        self._repainted = None
        self._process.resize(self.terminal.rows, self.terminal.columns)

    # --- output ------------------------------------------------------------------------------------------------------

    def _resume_reading(self) -> None:
        if not self._reading and self._process.fd >= 0:
            self._reading = True
            self._loop.add_reader(self._process.fd, self._read)

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._process.fd)

    def _read(self) -> None:
        if self._read_once() is None:
            # No process has the terminal open. The exit is seen by its own watch; a living program may open it again.
            self._pause_reading()
            if self.state == "booting":
                self._loop.call_later(CLOSED_S, self._end_if_closed)
            else:
                self._loop.call_later(REOPEN_RETRY_S, self._resume_reading)
        elif self.terminal.is_backlogged:
            self._pause_reading()
            self._schedule_paint()

    def _end_if_closed(self) -> None:
        """End a program that closed its terminal before it was ready: nothing that is typed would ever reach it."""
        if self._ending.status is None and self.state == "booting" and self._read_once() is None:
            self._closed_early = True
            self._ending.kill()
        self._resume_reading()

    def _read_once(self) -> int | None:
        """Bytes read; 0 when there is nothing now, None at the end of the terminal."""
        try:
            data = os.read(self._process.fd, READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            return None  # EIO: no process has the terminal open any more
        if not data:
            return None
        self.last_output_at = self._loop.time()
        self._output(data)
        return len(data)

    def _output(self, data: bytes) -> None:
        """What the terminal shows next: of the program, or a message that is shown."""
        offset = self.ring.end
        self.ring.append(data)
        self.terminal.feed(data)
        self._log.write(data)
        self._on_output(self.session_id, offset, data)
        if self.terminal.query_waits:
            self._schedule_paint()
        self._injector.notify()
        self._verifications.output_came()
        self._gate.output_came(offset)

    def _schedule_paint(self) -> None:
        if self._paint_due is None:
            self._paint_due = self._loop.call_soon(self._paint)

    def _paint(self) -> None:
        self._paint_due = None
        settled = self.terminal.settle(PAINT_SLICE)
        self.answer_queries()
        if not self.terminal.is_backlogged and self.state != "exited":
            self._resume_reading()
        if not settled and (self.terminal.is_backlogged or self.terminal.query_waits):
            self._schedule_paint()

    def _painted_text(self) -> str:
        self.terminal.settle()
        self.answer_queries()
        return self.terminal.plain()

    # --- silence -----------------------------------------------------------------------------------------------------

    def _arm_idle(self, delay: float) -> None:
        if self._idle_threshold > 0:
            self._idle_timer = self._loop.call_later(delay, self._check_idle)

    def _check_idle(self) -> None:
        """One report per silence in which nothing is pending; a repaint without new text does not end a silence."""
        silence = self._loop.time() - self.last_output_at
        if silence < self._idle_threshold:
            self._arm_idle(self._idle_threshold - silence)
            return
        self._arm_idle(self._idle_threshold)
        if not self._verifications.is_empty or not self._injector.is_idle or self.state not in ("booting", "ready"):
            return
        if self._route is not None and not self._route.is_idle:
            return
        screen = self._painted_text()
        if screen != self._idle_screen:
            self._idle_screen = screen
            self.report(Idle(idle_s=round(silence, 3)))
