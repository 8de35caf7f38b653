"""The turns of a log: consecutive records with the same cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from relaybroker.domain.events import Recorded
from relaybroker.replay.session import Turn


def turns_of(records: Iterable[Recorded]) -> Iterator[Turn]:
    """Records in log order, put together by the turn in which they were decided. Effects are not in a log."""
    together: list[Recorded] = []
    for recorded in records:
        if together and recorded.causation != together[0].causation:
            yield _turn(together)
            together = []
        together.append(recorded)
    if together:
        yield _turn(together)


def _turn(together: list[Recorded]) -> Turn:
    return Turn(at=together[0].at, input_json=together[0].input_json, events=together)
