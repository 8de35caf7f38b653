"""Writing a session while a broker runs (`up --record FILE`).

Rules:

* Only what is durable is recorded: a turn comes here after its commit, together with the effects that follow from it.
* Delivery never waits for a recording. Turns go through a bounded queue to a thread that writes them; when the queue is full, or the disk
  refuses, the recording is given up, once and loudly, its last line says why, and the broker goes on without it.
* A file is never overwritten, and only its owner can read it.

Source: ADR-0026.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from pathlib import Path

from relaybroker import __version__
from relaybroker.adapters import private_files
from relaybroker.domain.state import State
from relaybroker.domain.turn import Decision
from relaybroker.replay.session import EFFECTS, FORMAT, Header, Turn, Writer, plain, starting_state

_log = logging.getLogger(__name__)

LIMIT = 8192
"""Turns that may wait to be written."""
CLOSE_S = 0.5
"""How long the end of the broker waits for what is still to be written."""

OVERFLOW = "overflow"
DISK = "disk"
SHUTDOWN = "shutdown"


class Recording:
    """One recording. `take` belongs to the loop, the file to a thread.

    Args:
        path: the file, which must not exist.
        state: before the first turn.
        limit: turns that may wait.

    Raises:
        OSError: the file exists or cannot be made.
    """

    def __init__(self, path: Path, state: State, *, limit: int = LIMIT) -> None:
        private_files.create(path)
        self._path = path
        self._queue: queue.Queue[Decision | None] = queue.Queue(limit)
        self._given_up = ""
        header = Header(
            session=FORMAT,
            broker=f"relaybroker/{__version__}",
            source="live",
            effects=EFFECTS,
            after=state.position,
            state=starting_state(state),
        )
        self._thread = threading.Thread(target=self._write, args=(header,), name="recording", daemon=True)
        self._thread.start()

    @property
    def given_up(self) -> str:
        """Why the recording ended before the broker; "" = it has not."""
        return self._given_up

    def take(self, decisions: Sequence[Decision]) -> None:
        """Record turns whose events are durable."""
        if self._given_up:
            return
        for decision in decisions:
            if decision.events:
                try:
                    self._queue.put_nowait(decision)
                except queue.Full:
                    self._give_up(OVERFLOW, f"more than {self._queue.maxsize} turns wait to be written")
                    return

    def close(self) -> None:
        """Write what waits and the last line. Blocks, at most for `CLOSE_S`; may be repeated."""
        if not self._thread.is_alive():
            return
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            self._give_up(OVERFLOW, "the disk is too slow")
        self._thread.join(CLOSE_S)

    def _give_up(self, why: str, detail: str) -> None:
        self._given_up = why
        _log.error("the recording %s ends here (%s): %s; the broker goes on", self._path, why, detail)

    # --- writer thread ------------------------------------------------------------------------------------------------

    def _write(self, header: Header) -> None:
        try:
            with self._path.open("r+b") as file:
                writer = Writer(file, header)
                while (decision := self._queue.get()) is not None:
                    writer.turn(_turn(decision))
                    if self._queue.empty():
                        file.flush()
                        if self._given_up:
                            break
                writer.end(self._given_up or SHUTDOWN)
        except OSError as error:
            self._give_up(DISK, str(error))


def _turn(decision: Decision) -> Turn:
    first = decision.events[0]
    return Turn(at=first.at, input_json=first.input_json, events=decision.events, effects=plain(decision.effects))
