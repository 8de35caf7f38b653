"""A session whose program has no terminal: one door on its pipes is its only way in, a transcript stands in the place of its screen.

States: booting (the door is not open yet) -> ready <-> blocked (it asks a person something); any -> stopping -> exited. A person's keys
are collected into lines (`line_editor`); a line is a prompt of that person, or the answer to what is asked; Ctrl-C ends the turn that
runs. A door that does not open, or closes, ends the program. Source: ADR-0094.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, cast

from relaybroker.adapters.sessions.host import tasks
from relaybroker.adapters.sessions.host.ending import Ending
from relaybroker.adapters.sessions.host.output_ring import OutputRing
from relaybroker.adapters.sessions.host.piped_process import CLOSED_S
from relaybroker.adapters.sessions.host.protocol import (
    NO_WAY_IN,
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
)
from relaybroker.adapters.sessions.host.worker_log import WorkerLog
from relaybroker.adapters.sessions.line_editor import INTERRUPT, LineEditor
from relaybroker.adapters.sessions.route import QUESTION_CHANGED, Route
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.blocking import Blocking
from relaybroker.adapters.sessions.terminal.screen import Terminal
from relaybroker.adapters.sessions.terminal.sequences import plain_text
from relaybroker.adapters.sessions.transcript import Transcript
from relaybroker.domain.questions import option_meant

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.door import LookedUp, PipedDoor
    from relaybroker.adapters.sessions.host.piped_process import PipedProcess
    from relaybroker.adapters.sessions.kinds import Prepared
    from relaybroker.adapters.sessions.terminal.harnesses import Profile

EVIDENCE = "door"
"""Why such a session is ready."""
AT_TRANSCRIPT = "transcript"
"""Who answers there, for the record: whoever is attached to it."""
DRAIN_BYTES = 4 * 1024 * 1024
"""Most output read after the program's exit."""
LAST_OUTPUT_BYTES = 16 * 1024


class PipedSession:
    """A started program on pipes, until `exited` is set; all calls from the event loop's thread. `prepared` has its one door."""

    busy_patience_s = 0.0

    def __init__(
        self,
        start: Start,
        process: PipedProcess,
        *,
        profile: Profile | None = None,
        prepared: Prepared,
        on_fact: Callable[[str, Fact], None],
        on_output: Callable[[str, int, bytes], None],
    ) -> None:
        self.session_id, self.name = start.session_id, start.name
        self.started_at = time.time()
        self.ring = OutputRing()
        self.terminal = Terminal(start.rows, start.cols)
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._on_fact, self._on_output = on_fact, on_output
        self._log = WorkerLog(start.log_path, start.name)
        self._last_change = self._loop.time()
        self._idle_threshold = start.idle_threshold_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_at = -1
        """How much output there was when it was last said to be idle."""
        self._gave_up = False
        self._is_open = False
        self._editor = LineEditor()
        self._transcript = Transcript(self._output, lambda: self.terminal.columns)
        self._blocking = Blocking(self.report)
        self._route = Route(self, prepared, on_no_way_in=self._no_way_in)
        self._ending = Ending(self, process, (profile or harnesses.profile(start.profile)).stop_signals)
        self.exited = self._ending.exited
        self.report(Started(pid=process.pid))
        self._transcript.start()
        (door,) = prepared.doors
        cast("PipedDoor", door).connect(process, self._transcript)
        self._route.start(self._broken)
        self._arm_idle(self._idle_threshold)

    # --- what the host asks ------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """`booting`, `ready`, `blocked`, `stopping` or `exited`."""
        if self._ending.phase is not None:
            return self._ending.phase
        if not self._is_open:
            return "booting"
        return "blocked" if self._route.question is not None else "ready"

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
            queued=self._route.queued,
        )

    @property
    def takes_injections(self) -> bool:
        return self.state not in ("stopping", "exited")

    def inject(self, inject: Inject) -> None:
        self._route.accept(inject)

    async def look_up(self, request: LookUp) -> LookedUp | None:
        """What the program's records say, as its open door sees them; None: it has closed."""
        return await self._route.look_up(request.door, request.delivery_id)

    async def answer_question(self, request: AnswerQuestion) -> str:
        """Give a person's answer to the program; the `error` of the `Answer`."""
        return await self._route.answer(request)

    def keys(self, data: bytes, done: Callable[[str], None]) -> None:
        """What a person types at the transcript; `done` gets "" or `queue_full`."""
        error = ""
        for line in self._editor.feed(data):
            if line == INTERRUPT:
                tasks.start(self._interrupt())
            elif line.strip() and not self._line(line):
                error = "queue_full"
        self._transcript.draft(self._editor.draft)
        done(error)

    def _line(self, line: str) -> bool:
        """One line of a person; False: too many wait."""
        if (question := self._route.question) is None:
            return self._route.say(line)
        if (option := option_meant(question, line)) is None:
            self._transcript.add("note", f"that is none of the {len(question.options)} options")
        else:
            tasks.start(self._choose(question.id, option.id))
        return True

    async def _choose(self, question_id: str, option_id: str) -> None:
        answer = AnswerQuestion(
            request_id="", session_id=self.session_id, question_id=question_id, option_id=option_id, by=AT_TRANSCRIPT
        )
        if error := await self.answer_question(answer):
            said = "it asks something else by now" if error == QUESTION_CHANGED else "nobody knows whether it was taken"
            self._transcript.add("note", said)

    async def _interrupt(self) -> None:
        try:
            await self._route.interrupt()
        except OSError as error:
            self._transcript.add("failed", f"the program cannot be interrupted: {error}")

    def resize(self, rows: int, cols: int) -> None:
        self.terminal.resize(rows, cols)

    async def pictured(self) -> tuple[Terminal, int]:
        """The transcript as a terminal shows it, and the offset behind it."""
        self.terminal.settle()
        return self.terminal, self.ring.end - self.terminal.unfinished

    def stop(self, grace_s: float) -> None:
        """End the program and all of its session: SIGTERM now, SIGKILL after `grace_s`. A second call only shortens."""
        self._ending.stop(grace_s)

    # --- what its end asks (ending.Ended) ----------------------------------------------------------------------------

    async def hand_back(self, reason: str) -> None:
        await self._route.close(reason)

    def drain(self) -> None:
        self._process.drain(DRAIN_BYTES)

    def last_output(self) -> str:
        """What it said last, and behind that what it complained of."""
        shown = plain_text(self.ring.since(self.ring.end - LAST_OUTPUT_BYTES)).rstrip().removesuffix("›").rstrip()
        complaint = plain_text(self._process.last_words.encode()).strip()
        return f"{shown}\n{complaint}" if complaint else shown

    def cause(self, number: int | None) -> str:
        return NO_WAY_IN if self._gave_up and number == signal.SIGKILL else ""

    def shut(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._process.close()
        self._log.close()

    # --- what the route asks (route.Passage) -------------------------------------------------------------------------

    def may_type(self) -> bool:
        return self._ending.phase is None

    def asks(self, blocked: Blocked | None) -> None:
        self._blocking.door_tells(blocked)

    def type(self, inject: Inject) -> None:
        raise AssertionError(f"{inject.delivery_id} was to be typed, and there is no terminal")

    def report(self, fact: Fact) -> None:
        """Tell the broker. The program is ready once its door is open."""
        self._on_fact(self.session_id, fact)
        if isinstance(fact, DoorChosen) and not self._is_open:
            self._is_open = True
            self._on_fact(self.session_id, Ready(evidence=EVIDENCE))

    def _no_way_in(self, reason: str) -> None:
        """The door did not open, or has closed: nobody reaches the program any more."""
        self._transcript.add("failed", reason)
        tasks.start(self._give_up(), self._broken)

    async def _give_up(self) -> None:
        """End the program, unless it is just ending by itself."""
        try:
            async with asyncio.timeout(CLOSED_S):
                await self._ending.exit_seen.wait()
        except TimeoutError:
            self._gave_up = True
            self._ending.kill()

    def _broken(self, _error: BaseException) -> None:
        """A fault of ours in this session: end its program, so that the exit is reported and nobody waits for ever."""
        self._ending.kill()

    # --- output ------------------------------------------------------------------------------------------------------

    def _output(self, data: bytes) -> None:
        """What the transcript shows next."""
        offset = self.ring.end
        self.ring.append(data)
        self.terminal.feed(data)
        if self.terminal.is_backlogged:
            self.terminal.settle()
        self._log.write(data)
        self._last_change = self._loop.time()
        self._on_output(self.session_id, offset, data)

    # --- silence -----------------------------------------------------------------------------------------------------

    def _arm_idle(self, delay: float) -> None:
        if self._idle_threshold > 0:
            self._idle_timer = self._loop.call_later(delay, self._check_idle)

    def _check_idle(self) -> None:
        """One report per silence in which nothing is pending."""
        silence = self._loop.time() - self._last_change
        if silence < self._idle_threshold:
            self._arm_idle(self._idle_threshold - silence)
            return
        self._arm_idle(self._idle_threshold)
        if self.state == "ready" and self._route.is_idle and self._idle_at != self.ring.end:
            self._idle_at = self.ring.end
            self.report(Idle(idle_s=round(silence, 3)))
