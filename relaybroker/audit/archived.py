"""Stories that reach into the archived part of a log: the events that may matter, unpacked for one question.

Reading an archive takes about 5 s per 1,000,000 events; what is unpacked is removed with the answer.

Source: spec/architecture.md section 8; ADR-0017.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from relaybroker.adapters.eventstore import recorders
from relaybroker.adapters.eventstore.reader import LogReader

_ONE_STORY = ("delivery:", "message:", "action:")
"""Streams that are about one thing each; all others may be part of any story."""


@contextmanager
def unpacked(log: LogReader, wanted: str) -> Iterator[LogReader]:
    """A log of its own with the streams that name `wanted`, from archive and database, and all that surrounds them."""
    named = {str(row.originator_id) for row in log.rows() if _names(str(row.originator_id), row.state, wanted)}
    with tempfile.TemporaryDirectory(prefix="relaybroker-why-") as directory:
        path = Path(directory) / "unpacked.sqlite"
        recorders.create_sqlite(path)
        recorder = recorders.open_sqlite(path)
        try:
            recorder.insert_at(
                row
                for row in log.rows()
                if row.originator_id in named or not str(row.originator_id).startswith(_ONE_STORY)
            )
            yield LogReader(recorder, log.mapper, path)
        finally:
            recorder.close()


def _names(stream: str, state: bytes, wanted: str) -> bool:
    """Whether a record may be what was asked for: it has the id, or the beginning of one, or is of this agent and number."""
    name, at, number = wanted.rpartition("@")
    if at and number.isdecimal():
        return msgspec.json.encode(name) in state and f'"seq":{number}'.encode() in state
    return wanted in stream or msgspec.json.encode(wanted)[1:-1] in state
