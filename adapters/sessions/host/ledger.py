"""What the host owes the broker (reports until confirmed) and what it must never do twice (typed deliveries).

Both are bounded, and neither forgets what the broker has not confirmed: when the report log is full the host accepts no
new work (`is_full`), it never drops a report. Source: node-protocol.md 0.5; TYPED-ONCE and PROOF in
failure-scenarios.md.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.protocol import Fact, Injected, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_UNCONFIRMED = 65_536
"""Reports kept for the broker; above it new injections are refused with `queue_full`."""
MAX_CONFIRMED_DELIVERIES = 4096
"""Typed deliveries remembered after their report was confirmed."""


class ReportLog:
    """Numbered facts, kept in order until confirmed."""

    def __init__(self, limit: int = MAX_UNCONFIRMED) -> None:
        self._limit = limit
        self._reports: deque[Report] = deque()
        self.next_number = 1

    @property
    def is_full(self) -> bool:
        return len(self._reports) >= self._limit

    @property
    def first_number(self) -> int:
        """Number of the oldest report not confirmed; `next_number` when there is none."""
        return self.next_number - len(self._reports)

    def append(self, session_id: str, fact: Fact, at: float) -> Report:
        report = Report(number=self.next_number, session_id=session_id, at=at, fact=fact)
        self._reports.append(report)
        self.next_number += 1
        return report

    def since(self, number: int) -> Iterator[Report]:
        """The unconfirmed reports from `number` on, in order."""
        skip = max(0, number - self.first_number)
        for index in range(skip, len(self._reports)):
            yield self._reports[index]

    def confirm(self, number: int) -> list[Report]:
        """Forget every report up to and including `number`; returns what was forgotten. Later numbers are no error."""
        confirmed: list[Report] = []
        while self._reports and self._reports[0].number <= number:
            confirmed.append(self._reports.popleft())
        return confirmed


class DeliveryLedger:
    """Which deliveries were typed into which session. A delivery in it is never typed again."""

    def __init__(self, remembered: int = MAX_CONFIRMED_DELIVERIES) -> None:
        self._remembered = remembered
        self._unconfirmed: dict[tuple[str, str], Injected] = {}
        self._confirmed: OrderedDict[tuple[str, str], Injected] = OrderedDict()

    def typed(self, session_id: str, fact: Injected) -> None:
        """Record the proof that a delivery was typed."""
        self._unconfirmed[session_id, fact.delivery_id] = fact

    def proof(self, session_id: str, delivery_id: str) -> Injected | None:
        """How the delivery was typed, if it was."""
        key = (session_id, delivery_id)
        return self._unconfirmed.get(key) or self._confirmed.get(key)

    def confirmed(self, session_id: str, delivery_id: str) -> None:
        """The broker has the proof; it is remembered among the last `remembered` ones only."""
        key = (session_id, delivery_id)
        fact = self._unconfirmed.pop(key, None)
        if fact is None:
            return
        self._confirmed[key] = fact
        while len(self._confirmed) > self._remembered:
            self._confirmed.popitem(last=False)

    def forget_session(self, session_id: str) -> None:
        """Drop what is known of a settled session."""
        for table in (self._unconfirmed, self._confirmed):
            for key in [key for key in table if key[0] == session_id]:
                del table[key]
