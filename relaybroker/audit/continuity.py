"""What agents leave to whoever goes on with their work: read from the log, copied to a file, and read from one where the log has nothing.

Source: spec/local-api.md sections 4.6 and 5.5.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from relaybroker.adapters import private_files
from relaybroker.adapters.eventstore.lookup import IS_OFFER, LOG, OFFERED_TO
from relaybroker.audit.finding import newest_registration
from relaybroker.domain import events
from relaybroker.domain.continuity import MAX_HISTORY, MAX_PIECE, MAX_SUMMARY, Continuity, Heard
from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.names import is_agent_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from relaybroker.adapters.eventstore.reader import LogReader
    from relaybroker.domain.events import Recorded

_log = logging.getLogger(__name__)

FOLDER = "continuity"
MAX_FILE = 256 * 1024
GENERATIONS = 20
"""Generations of a name among which its newest summary is looked for."""


def left_by(log: LogReader, state: Path, name: str) -> Continuity | None:
    """What the newest agent of this name left; None if neither the log nor a file knows one.

    Args:
        log: of the broker.
        state: its state directory.
        name: of the agent, as it was spelled.
    """
    return (_in_log(log, name) or _in_file(state / FOLDER / f"{name}.json", name)) if is_agent_name(name) else None


def _in_log(log: LogReader, name: str) -> Continuity | None:
    subject = newest_registration(log, name)
    if subject is None:
        return None
    past = log.read_stream(subject.stream)
    reserved = past[0].event if past else None
    if not isinstance(reserved, events.NameReserved):  # its beginning was archived
        return None
    ended = next((one.at for one in past if isinstance(one.event, events.AgentLeaving)), None)
    return Continuity(
        agent_name=reserved.name,
        cli=reserved.spec.cli,
        initial_task=reserved.spec.task or None,
        released_at=None if ended is None else datetime.fromtimestamp(ended, UTC).isoformat(timespec="milliseconds"),
        lifetime_seconds=None if ended is None else round(ended - past[0].at, 3),
        message_history=_heard(log, reserved.name),
        summary=_summary(log, reserved, past),
    )


def _summary(log: LogReader, reserved: events.NameReserved, past: list[Recorded]) -> str:
    """The newest one of the name."""
    generation = reserved.generation
    for number in range(generation, max(0, generation - GENERATIONS), -1):
        life = past if number == generation else log.read_stream(f"agent:{reserved.name}:{number}")
        if summaries := [one.event.summary for one in life if isinstance(one.event, events.SummarySaved)]:
            return summaries[-1]
    return ""


def _heard(log: LogReader, name: str) -> tuple[Heard, ...]:
    query = f"SELECT position FROM {LOG} WHERE {IS_OFFER} AND {OFFERED_TO} = ? ORDER BY position DESC LIMIT ?"
    positions = sorted(row["position"] for row in log.query(query, (name, 2 * MAX_HISTORY)))
    by_id: dict[str, Heard] = {}
    for recorded in log.read_at(positions):
        offered = recorded.event
        if isinstance(offered, events.DeliveryOffered) and offered.source != "task" and offered.body:
            by_id[offered.msg_id] = Heard(offered.sender, offered.body[: 2 * MAX_PIECE])
    return tuple(by_id.values())[-MAX_HISTORY:]


def _in_file(path: Path, name: str) -> Continuity | None:
    """What a file says that another broker wrote; a message has its text as `text` or `body`."""
    try:
        raw = private_files.read_plain(path)[:MAX_FILE]
        said: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    except (OSError, *NOT_READABLE):
        return None
    listed = said.get("message_history")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    history = tuple(Heard(str(row.get("from") or "?"), str(row.get("text") or row.get("body") or "")) for row in rows)
    return Continuity(
        agent_name=name,
        cli=_text(said, "cli"),
        initial_task=_text(said, "initial_task"),
        released_at=_text(said, "released_at"),
        message_history=history[-MAX_HISTORY:],
        summary=(_text(said, "summary") or "")[:MAX_SUMMARY],
    )


def _text(said: dict[str, Any], key: str) -> str | None:
    value = said.get(key)
    return value if isinstance(value, str) else None


class ContinuityFiles:
    """Copies what an agent leaves to its file, when it says it and when it ends. A copy that fails is no loss: the log has it.

    Args:
        log: of the broker.
        state: its state directory.
    """

    def __init__(self, log: LogReader, state: Path) -> None:
        self._log, self._state = log, state
        self._wanted: dict[str, None] = {}
        self._writing: asyncio.Task[None] | None = None

    def observe(self, recorded: Iterable[Recorded]) -> None:
        """Take note of events that are durable."""
        for one in recorded:
            if isinstance(one.event, events.AgentLeaving | events.SummarySaved):
                self._wanted[one.stream.split(":")[1]] = None
        if self._wanted and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(), name="continuity")

    async def _write(self) -> None:
        while self._wanted:
            name = next(iter(self._wanted))
            del self._wanted[name]
            try:
                await asyncio.to_thread(self._copy, name)
            except OSError as error:
                _log.warning("what %s leaves is not copied to a file: %s", name, error)

    def _copy(self, name: str) -> None:
        if (left := _in_log(self._log, name)) is not None:
            private_files.make_private_directory(self._state / FOLDER)
            private_files.write_private(self._state / FOLDER / f"{name}.json", msgspec.json.encode(left))

    async def shut(self) -> None:
        """Write what is wanted, and no more."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
