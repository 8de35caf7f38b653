"""One agent's terminal: its program, its screen, and what is typed into it; everything observed becomes a report.

States: booting -> ready <-> blocked; any -> stopping -> exited. The readiness gate opens once; a dialog blocks
whenever it
is on the screen. Output is read in bounded slices and painted only when somebody looks; a program that floods is not
read faster than it is painted. Source: architecture.md 5; node-protocol.md 6; local-api.md 3, 5.6.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING

from adapters.pty import harnesses, tasks
from adapters.pty.injection import Injector
from adapters.pty.output_ring import OutputRing
from adapters.pty.process_table import Wait, waits_for_terminal
from adapters.pty.protocol import (
    Blocked,
    Exited,
    Fact,
    Idle,
    Inject,
    Ready,
    SessionInfo,
    Start,
    Started,
    Unblocked,
    Verified,
)
from adapters.pty.readiness import READY_HOOK, Look, dialog_on, readiness
from adapters.pty.rotating_file import RotatingFile
from adapters.pty.screen import Terminal
from adapters.pty.sequences import plain_text, without_spaces
from adapters.pty.writer import TerminalWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.pty.harnesses import Profile
    from adapters.pty.process import AgentProcess

_logger = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
PAINT_SLICE = 8 * 1024
"""Characters painted before other sessions get their turn."""
LOOK_DELAY_S = 0.01
"""Output that comes in one burst is looked at once."""
READY_LOOK_DELAY_S = 0.25
"""A ready program is looked at less often: before something is typed it is looked at in any case."""
TICK_S = 0.2
FAST_TICK_S = 0.03
FAST_TICKS = 40
"""A program that starts is looked at more often at first: 40 x 30 ms."""
MAX_UNSETTLED_LOOKS = 20
"""A program that floods is judged, after so many looks, by a screen that is a little old."""
LAST_OUTPUT_CHARACTERS = 2000
CLEAN_OUTPUT_BYTES = 12_000
DRAIN_BYTES = 4 * 1024 * 1024
"""Most output read after the program's exit; a child of it that floods on does not hold the exit report back."""
MAX_VERIFYING = 256
UNREQUESTED_EXIT_GRACE_S = 0.5
"""What a program that ended by itself left behind in its session gets SIGHUP, then SIGKILL after this time."""
DRAFT = "unsubmitted draft"
_REMEMBERED_INJECTIONS = 4
_REMEMBERED_CHARACTERS = 4096
_MIN_ECHOED_ROW = 8
_BOX_AND_PROMPT = "\u2502|>\u276f\u203a "
"""What a composer draws around the text: a vertical line and prompt characters."""


class Session:
    """A started program with its terminal, until `exited` is set; all calls from the event loop's thread."""

    def __init__(
        self,
        start: Start,
        process: AgentProcess,
        *,
        profile: Profile | None = None,
        on_fact: Callable[[str, Fact], None],
        on_output: Callable[[str, int, bytes], None],
    ) -> None:
        self.session_id = start.session_id
        self.name = start.name
        self.profile = profile or harnesses.profile(start.profile)
        self.state = "booting"
        self.started_at = time.time()
        self.ring = OutputRing()
        self.terminal = Terminal(start.rows, start.cols)
        self.writer = TerminalWriter(process.fd)
        self.exited = asyncio.Event()
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._on_fact = on_fact
        self._on_output = on_output
        self._injector = Injector(self, self.profile, self._verify)
        self._log = _open_log(start.log_path)
        now = self._loop.time()
        self._born = self._gate_since = self.last_output_at = now
        self._ticks = 0
        self._unsettled_looks = 0
        self._hook_seen = False
        self._tick: asyncio.TimerHandle | None = None
        self._look_due: asyncio.TimerHandle | None = None
        self._paint_due: asyncio.Handle | None = None
        self._reading = False
        self._dialog: str | None = None
        self._draft_stands = False
        self._typed: deque[str] = deque(maxlen=_REMEMBERED_INJECTIONS)
        self._verifying: dict[str, tuple[Callable[[], bool], asyncio.TimerHandle]] = {}
        self._idle_threshold = start.idle_threshold_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_screen: str | None = None
        self._before_block = "booting"
        self._requested = False
        self._exit: tuple[int | None, int | None] | None = None
        self._exit_seen = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._grace_deadline: float | None = None
        self.report(Started(pid=process.pid))
        self._resume_reading()
        process.watch_exit(self._process_exited)
        self._injector.start(self._broken)
        self._schedule_tick()
        self._arm_idle(self._idle_threshold)

    # --- what the host asks ------------------------------------------------------------------------------------------

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
            queued=self._injector.queued,
        )

    @property
    def takes_injections(self) -> bool:
        return self.state not in ("stopping", "exited")

    def inject(self, inject: Inject) -> None:
        self._injector.accept(inject)

    def keys(self, data: bytes, done: Callable[[str], None]) -> None:
        """Type a person's keys; `done` as in TerminalWriter.keys. Raises KeyboardFull."""

        def typed(error: str) -> None:
            if not error and data and self._dialog is None:
                self._injector.person_typed(data)
            done(error)

        self.writer.keys(data, typed)

    def resize(self, rows: int, cols: int) -> None:
        self._process.resize(rows, cols)
        self.terminal.resize(rows, cols)

    async def settled(self) -> Terminal:
        """The terminal with all output painted that has come until now; others get their turn in between."""
        wanted = self.terminal.fed
        while self.terminal.painted < wanted:
            self.terminal.settle(PAINT_SLICE)
            await asyncio.sleep(0)
        self._answer_queries()
        return self.terminal

    def stop(self, grace_s: float) -> None:
        """End the program and all of its session: SIGTERM now, SIGKILL after `grace_s`. A second call only shortens."""
        if self.state == "exited":
            return
        deadline = self._loop.time() + grace_s
        self._grace_deadline = min(deadline, self._grace_deadline) if self._grace_deadline is not None else deadline
        if self._requested:
            return
        self._requested = True
        self.state = "stopping"
        if self._ending is None:
            self._ending = tasks.start(self._stop())

    async def _stop(self) -> None:
        await self._injector.close("agent_released")
        self._process.signal_group(signal.SIGTERM)
        while not self._exit_seen.is_set():
            assert self._grace_deadline is not None
            left = self._grace_deadline - self._loop.time()
            if left <= 0:
                self._process.signal_group(signal.SIGKILL)
                await self._exit_seen.wait()
                break
            try:
                async with asyncio.timeout(left):
                    await self._exit_seen.wait()
            except TimeoutError:
                continue
        await self._end()

    def _broken(self, _error: BaseException) -> None:
        """A fault of ours in this session: end its program, so that the exit is reported and nobody waits for ever."""
        self._process.signal_group(signal.SIGKILL)

    # --- what the injector asks (injection.Line) ---------------------------------------------------------------------

    @property
    def bracketed_paste(self) -> bool:
        return self.terminal.bracketed_paste

    def line_discipline(self) -> tuple[bool, bool]:
        return self._process.line_discipline()

    def may_type(self) -> bool:
        return self.state == "ready"

    async def find_dialog(self) -> str | None:
        """Look now; the dialog on the screen, if there is one. Sets `blocked` and reports it."""
        if self.profile.dialogs:
            await self.settled()
        self._notice_dialog(self._dialog_now())
        return self._dialog

    def report(self, fact: Fact) -> None:
        self._on_fact(self.session_id, fact)

    def typing(self, text: str) -> None:
        """Remember what is typed: rows that only show it are no dialog of the program's."""
        self._typed.append(without_spaces(text)[:_REMEMBERED_CHARACTERS])

    def draft_changed(self, *, stands: bool) -> None:
        self._draft_stands = stands
        self.report(Blocked(pattern=DRAFT) if stands else Unblocked())

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
            self._pause_reading()  # end of file; the exit of the program is seen by its own watch
        elif self.terminal.is_backlogged:
            self._pause_reading()
            self._schedule_paint()

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
        offset = self.ring.end
        self.ring.append(data)
        self.last_output_at = self._loop.time()
        self.terminal.feed(data)
        if self.state == "booting" and READY_HOOK.encode() in self.ring.since(offset - len(READY_HOOK)):
            self._hook_seen = True
        self._write_log(data)
        self._on_output(self.session_id, offset, data)
        if self.terminal.query_waits:
            self._schedule_paint()
        self._injector.notify()
        self._check_verifications()
        self._schedule_look()
        return len(data)

    def _schedule_paint(self) -> None:
        if self._paint_due is None:
            self._paint_due = self._loop.call_soon(self._paint)

    def _paint(self) -> None:
        self._paint_due = None
        settled = self.terminal.settle(PAINT_SLICE)
        self._answer_queries()
        if not self.terminal.is_backlogged and self.state != "exited":
            self._resume_reading()
        if not settled and (self.terminal.is_backlogged or self.terminal.query_waits):
            self._schedule_paint()

    def _answer_queries(self) -> None:
        while self.terminal.replies:
            self.writer.answer(self.terminal.replies.popleft())

    def _write_log(self, data: bytes) -> None:
        if self._log is not None:
            try:
                self._log.write(data)
            except OSError as error:
                _logger.warning("worker log of %s ends: %s", self.name, error)
                self._close_log()

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    # --- readiness and dialogs ---------------------------------------------------------------------------------------

    @property
    def _must_look(self) -> bool:
        return self.state in ("booting", "blocked") or (self.state == "ready" and bool(self.profile.dialogs))

    def _schedule_look(self) -> None:
        if self._look_due is None and self._must_look:
            delay = READY_LOOK_DELAY_S if self.state == "ready" else LOOK_DELAY_S
            self._look_due = self._loop.call_later(delay, self._look)

    def _schedule_tick(self) -> None:
        if self.state in ("booting", "blocked"):
            self._ticks += 1
            delay = FAST_TICK_S if self._ticks <= FAST_TICKS else TICK_S
            self._tick = self._loop.call_later(delay, self._on_tick)

    def _on_tick(self) -> None:
        self._look()
        self._schedule_tick()

    def _look(self) -> None:
        if self._look_due is not None:
            self._look_due.cancel()
            self._look_due = None
        if not self._must_look:
            return
        self._unsettled_looks = 0 if self.terminal.settle(PAINT_SLICE) else self._unsettled_looks + 1
        self._answer_queries()
        if 0 < self._unsettled_looks < MAX_UNSETTLED_LOOKS:
            self._schedule_look()
            return
        self._notice_dialog(self._dialog_now())
        if self.state == "booting":
            evidence = readiness(self.profile, self._what_is_seen(), self._loop.time() - self._gate_since)
            if evidence is not None:
                self.state = "ready"
                self.report(Ready(evidence=evidence))
                self._injector.notify()

    def _dialog_now(self) -> str | None:
        collects_lines, echoes = self._process.line_discipline()
        if self.profile.dialogs:
            screen, cursor_line = self._screen_without_typed(), self.terminal.cursor_line()
        else:
            screen, cursor_line = "", ""
            if collects_lines and not echoes:
                cursor_line = self._clean_output()[-200:].rsplit("\n", 1)[-1]
        return dialog_on(self.profile, screen, cursor_line, collects_lines=collects_lines, echoes=echoes)

    def _notice_dialog(self, dialog: str | None) -> None:
        if dialog == self._dialog or self.state not in ("booting", "ready", "blocked"):
            return
        former, self._dialog = self._dialog, dialog
        if dialog is not None:
            self._before_block = self.state if former is None else self._before_block
            self.state = "blocked"
            self.report(Blocked(pattern=dialog))
            if self._tick is None or former is None:
                self._ticks = FAST_TICKS
                if self._tick is not None:
                    self._tick.cancel()
                self._schedule_tick()
        else:
            self.state = self._before_block
            self._gate_since = self._loop.time()
            self.report(Unblocked())
        self._injector.notify()

    def _screen_without_typed(self) -> str:
        """The screen's rows, without those that only show text which was injected (W4: typed text has no power)."""
        lines = self.terminal.lines()
        if not self._typed:
            return "\n".join(lines)
        kept: list[str] = []
        for line in lines:
            bare = without_spaces(line).strip(_BOX_AND_PROMPT)
            if len(bare) < _MIN_ECHOED_ROW or not any(bare in text for text in self._typed):
                kept.append(line)
        return "\n".join(kept)

    def _what_is_seen(self) -> Look:
        collects_lines, echoes = self._process.line_discipline()
        return Look(
            screen="\n".join(self.terminal.lines()),
            cursor_line=self.terminal.cursor_line(),
            output=self._clean_output() if not self._hook_seen else READY_HOOK,
            output_bytes=self.ring.end,
            quiet_s=self._loop.time() - self.last_output_at,
            collects_lines=collects_lines,
            echoes=echoes,
            waits_for_keyboard=self._waits_for_keyboard,
        )

    def _waits_for_keyboard(self) -> Wait | None:
        return waits_for_terminal(self._process.foreground_group(), self._process.terminal_device)

    def _clean_output(self) -> str:
        return plain_text(self.ring.since(max(0, self.ring.end - CLEAN_OUTPUT_BYTES)))

    # --- verification ------------------------------------------------------------------------------------------------

    def _verify(self, inject: Inject, seen_in: Callable[[OutputRing], bool], seen: bool) -> None:
        """Report how a typed delivery showed itself, at once or within the profile's window."""
        delivery_id = inject.delivery_id
        if seen:
            self.report(Verified(delivery_id=delivery_id, verification="echo"))
            return
        if len(self._verifying) >= MAX_VERIFYING:
            self._end_verification(next(iter(self._verifying)), "timeout_fallback")
        timer = self._loop.call_later(self.profile.verify_s, self._last_verification, delivery_id, inject)
        self._verifying[delivery_id] = (lambda: seen_in(self.ring), timer)

    def _check_verifications(self) -> None:
        for delivery_id in [key for key, (seen, _) in self._verifying.items() if seen()]:
            self._end_verification(delivery_id, "echo")

    def _last_verification(self, delivery_id: str, inject: Inject) -> None:
        """The window is over: a program that repaints only differences may show on the screen what its bytes do not."""
        needle = without_spaces(inject.marker)
        on_screen = False
        if needle:
            self.terminal.settle()
            self._answer_queries()
            on_screen = needle in without_spaces("".join(self.terminal.lines()))
        self._end_verification(delivery_id, "echo" if on_screen else "timeout_fallback")

    def _end_verification(self, delivery_id: str, verification: str) -> None:
        entry = self._verifying.pop(delivery_id, None)
        if entry is not None:
            entry[1].cancel()
            self.report(Verified(delivery_id=delivery_id, verification=verification))

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
        if self._verifying or not self._injector.is_idle or self.state not in ("booting", "ready"):
            return
        self.terminal.settle()
        self._answer_queries()
        screen = self.terminal.plain()
        if screen != self._idle_screen:
            self._idle_screen = screen
            self.report(Idle(idle_s=round(silence, 3)))

    # --- end ---------------------------------------------------------------------------------------------------------

    def _process_exited(self, code: int | None, number: int | None) -> None:
        self._exit = (code, number)
        self._exit_seen.set()
        if self._ending is None:
            self._ending = tasks.start(self._end())

    async def _end(self) -> None:
        """Everything after the program is reaped: open deliveries, survivors, last output, the report."""
        assert self._exit is not None
        self._drain()
        requested = self._requested
        await self._injector.close("agent_released" if requested else "worker_exited")
        if not requested:
            self.state = "stopping"
            self._process.signal_group(signal.SIGHUP)
            self._grace_deadline = self._loop.time() + UNREQUESTED_EXIT_GRACE_S
        assert self._grace_deadline is not None
        survivors = self._process.end_survivors(self._grace_deadline)
        if requested:
            await survivors
            self._drain()
        self._close_terminal()
        code, number = self._exit
        self.state = "exited"
        self.report(
            Exited(
                code=code,
                signal=number,
                last_output=self._clean_output().strip()[-LAST_OUTPUT_CHARACTERS:],
                uptime_s=round(self._loop.time() - self._born, 3),
                requested=requested,
            )
        )
        if not requested:
            await survivors
        self.exited.set()

    def _drain(self) -> None:
        self._pause_reading()
        left = DRAIN_BYTES
        while left > 0 and (count := self._read_once()):
            left -= count

    def _close_terminal(self) -> None:
        for timer in (self._tick, self._look_due, self._idle_timer, self._paint_due):
            if timer is not None:
                timer.cancel()
        self._tick = self._look_due = self._idle_timer = self._paint_due = None
        for delivery_id in list(self._verifying):
            self._end_verification(delivery_id, "timeout_fallback")
        self.writer.close()
        self._pause_reading()
        self._process.close()
        self._close_log()


def _open_log(path: str | None) -> RotatingFile | None:
    if path is None:
        return None
    try:
        return RotatingFile(path)
    except OSError as error:
        _logger.warning("no worker log at %s: %s", path, error)
        return None
