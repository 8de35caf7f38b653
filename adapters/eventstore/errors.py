"""Everything the event store raises, in one tree (beside `relaybroker.domain.errors`).

    RelayBrokerError
    ├── CorruptLog                 (domain) the recorded history cannot be folded
    │   ├── CorruptEvent           one record, or its link in the hash chain, is damaged; position, stream, reason
    │   └── UnknownTopic           a record of a kind that this version does not know
    ├── StateCorrupt               the database file is damaged, cut off, or lost what was durable; code `state_corrupt`
    ├── LogLocked                  another program holds the database's write lock; code `log_locked`
    ├── LogRemoved                 the database was removed or replaced while this process wrote it
    ├── NotRecordable              our own caller handed in an event that could not be read back; nothing was written
    ├── JournalFull                our own caller did not wait for `room()`; nothing was written
    ├── JournalClosed              the journal was closed before this batch
    ├── JournalFailed              a commit failed; this journal writes nothing any more
    └── StateLocked                another broker lives in this state directory

Nothing here repairs or deletes: the operator decides about bytes (KEEP-BYTES, failure-scenarios.md section 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaybroker.domain.errors import CorruptLog, RelayBrokerError

if TYPE_CHECKING:
    from pathlib import Path


class CorruptEvent(CorruptLog):
    """The record at `position` of `stream` is not what was written there."""

    def __init__(self, position: int, stream: str, reason: str) -> None:
        super().__init__(position, f"stream {stream!r}: {reason}")
        self.stream = stream
        self.reason = reason


class UnknownTopic(CorruptLog):
    """No event has or had this `topic`; `position` is 0 when it was about to be written."""

    def __init__(self, topic: str, position: int = 0, stream: str = "") -> None:
        super().__init__(position, f"stream {stream!r}: unknown topic {topic!r}")
        self.topic = topic
        self.stream = stream


class StateCorrupt(RelayBrokerError):  # noqa: N818 - the reason code `state_corrupt` as a name
    """Stored state at `path` is damaged. Every byte was kept."""

    code = "state_corrupt"

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(f"state_corrupt: {path}: {detail}; nothing was changed, every byte is kept")
        self.path = path
        self.detail = detail


class LogLocked(RelayBrokerError):  # noqa: N818 - the reason code `log_locked` as a name
    """Another program (a backup, a database shell) holds the write lock of the database at `path`; nothing was written."""

    code = "log_locked"

    def __init__(self, path: Path, waited_s: float) -> None:
        super().__init__(
            f"log_locked: another program has held the write lock of {path} for {waited_s:.0f} s; end it, or its transaction"
        )
        self.path = path


class LogRemoved(RelayBrokerError):  # noqa: N818 - says what happened
    """Somebody removed or replaced files of the open database at `path`: what is written now is at no place that anybody finds."""

    code = "log_removed"

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"log_removed: {what} of {path} was removed or replaced while the broker wrote it")
        self.path = path


class NotRecordable(RelayBrokerError):  # noqa: N818 - says what the event is
    """An event does not survive the round trip through its recorded form."""


class JournalFull(RelayBrokerError):  # noqa: N818 - queue terms
    """More batches are waiting than the journal's queue limit."""


class JournalClosed(RelayBrokerError):  # noqa: N818 - queue terms
    """The journal is closed."""


class JournalFailed(RelayBrokerError):  # noqa: N818 - says what happened
    """A commit failed earlier; `__cause__` is the failure."""


class StateLocked(RelayBrokerError):  # noqa: N818 - says what the state is
    """Another broker holds the state directory. The text is a contract with the CLI (local-api.md section 4.6)."""

    def __init__(self, pid: int, directory: Path) -> None:
        super().__init__(f"another broker instance is already running in this directory (pid: {pid}, {directory})")
        self.pid = pid
        self.directory = directory
