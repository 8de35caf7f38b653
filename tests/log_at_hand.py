"""A log in memory, for what reads one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relaybroker.domain.events import Recorded


class LogAtHand:
    """Read like a log on disk, from its beginning."""

    def __init__(self, records: Sequence[Recorded]) -> None:
        self._records = records

    @property
    def position(self) -> int:
        return len(self._records)

    def read(self) -> Iterator[tuple[int, Recorded]]:
        yield from enumerate(self._records, 1)
