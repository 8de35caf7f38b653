"""Mailbox: the sequence of one agent id — what was admitted, what is settled, what may be acknowledged (stream `mailbox:<agent_id>`).

Rules, first match wins for an incoming frame with sequence number n:

 1. n = 0 and its fan-out key is known: `duplicate`, nothing happens. n = 0 else: admitted; it never touches the cursor.
 2. The base is not known yet: n = 1 makes it 0; any other n is collected for half a second, then the lowest n - 1 is adopted.
 3. n was taken before with another message id: `seq_conflict`. The first one stands; nothing is typed or acknowledged.
 4. n was returned to the engine (its agent went away before it was typed): admitted again as a new attempt, unless its message has
    come under another number meanwhile (`duplicate`).
 5. n is still open here: `in_progress`. n <= an adopted base that did not come yet, and its message is not known: admitted late
    (ADR-0028). Any other n <= the highest admitted: `stale`, and the acknowledgement is repeated.
 6. n is the next one: a message id seen before is a `duplicate` that fills its place; any other is admitted,
    unless its delivery id belongs to another message: `delivery_id_reused`, and its place stays open until it is filled or lost.
 7. n is further ahead: buffered. After 1 s and 5.5 s the engine is asked to offer its rows again; after 10 s the hole is `lost`. Each hole
    waits from when the oldest frame behind it came: frames that overtake each other all the time never leave the buffer empty.

A message that its agent was given before the engine had it (`is_copy`) is known like one that was seen: the engine's copy is a `duplicate`
that fills its place, whatever its number.

A returned number that the engine does not offer, although it offers later ones, is a hole as well (it expired there, or was settled
elsewhere): the same steps, from the first later one on. These waits begin anew when the agent or the link comes back: the engine offers its
rows then, and time during which it could not does not count.

`floor` is the highest n such that everything from the base up to it is settled (typed, dropped for good, a dead letter, lost, or taken into
custody: this broker then owns the message alone, though it still waits). Only the floor is ever
acknowledged, and it never falls. The key is the agent id, never the name: a successor inherits nothing, a returning id keeps its cursor.

A delivery id belongs to one message: one that comes again for another message is refused as `delivery_id_reused`.

Source: spec/node-protocol.md sections 4.1, 4.2, 4.5, 4.6; invariants D1 to D8, D12.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from relaybroker.domain.extraction import UNNAMED
from relaybroker.domain.reasons import Reason

_V = TypeVar("_V")

SEEN_WINDOW = 512
"""Message ids (sequenced), delivery ids and fan-out keys remembered, each, by count and order, never by clock."""
LATE_KEPT = 1024
"""Numbers remembered as come late: more than the engine's 1000 open rows. Up to one that is forgotten, all count."""
BUFFER_LIMIT = 256
AWAITED_KEPT = 1024
"""Senders here whose newest message is on its way from the engine."""
COLLECT_S = 0.5
RESYNC_AFTER_S = (1.0, 5.5)
GIVE_UP_S = 10.0


class Verdict(StrEnum):
    """What to do with a frame."""

    ADMIT = "admit"
    IGNORE = "ignore"
    BUFFER = "buffer"


class Judgement(msgspec.Struct, frozen=True):
    """The verdict on one frame; `reason` for those that are not admitted, `advances` if it fills its place untyped."""

    verdict: Verdict
    reason: Reason | None = None
    advances: bool = False


class Mailbox(msgspec.Struct):
    """The sequence state of one agent id. Changed only by the fold."""

    agent_id: str
    name: str = ""
    generation: int = 0
    base: int | None = None
    adopted: bool = False
    """The base was taken from the first frames that came: what is below it may still come late."""
    recv: int = 0
    """Highest contiguous sequence number admitted (valid once `base` is known)."""
    floor: int = 0
    sent_ack: int = -1
    """Highest number acknowledged so far; -1 = never."""
    settled: set[int] = msgspec.field(default_factory=set)
    """Settled numbers above the floor."""
    lost: dict[int, int] = msgspec.field(default_factory=dict)
    """Lost ranges above the floor: first number -> last."""
    late: set[int] = msgspec.field(default_factory=set)
    """Open numbers below the base: no acknowledgement leaves before they are settled."""
    came_late: set[int] = msgspec.field(default_factory=set)
    """Numbers below the adopted base that were decided about: no floor says so of them, and a flood pushes them out of `seen`."""
    late_from: int = 1
    """The lowest number that may still come late."""
    open: dict[int, str] = msgspec.field(default_factory=dict)
    """Admitted, not settled: number -> delivery stream, in the order in which they were admitted."""
    typed: dict[int, str] = msgspec.field(default_factory=dict)
    """Typed, not yet acknowledged: number -> delivery stream."""
    returned: dict[int, int] = msgspec.field(default_factory=dict)
    """Given back to the engine: number -> attempts so far."""
    doubtful: dict[int, str] = msgspec.field(default_factory=dict)
    """Returned although they may have been typed: number -> message id, which is marked when it is typed again."""
    passed_since: float = 0.0
    """When a number above a returned one was offered; 0 = none was."""
    starved: bool = False
    """Frames were refused for lack of room; the engine is asked for them when there is room again."""
    seen: dict[str, int] = msgspec.field(default_factory=dict)
    """Sequenced message ids -> number, first in, first out; 0 = given from here, and no copy is waited for any more."""
    ids: dict[str, str] = msgspec.field(default_factory=dict)
    """Delivery ids of sequenced frames -> message id, first in, first out."""
    fan: dict[str, None] = msgspec.field(default_factory=dict)
    buffer: dict[int, dict[str, Any]] = msgspec.field(default_factory=dict)
    buffered_at: dict[int, float] = msgspec.field(default_factory=dict)
    """When each buffered frame came."""
    gap_since: float = 0.0
    """When the oldest buffered frame came; 0 = nothing is buffered."""
    resyncs: int = 0
    undecided: dict[str, str] = msgspec.field(default_factory=dict)
    """What the agent was given before the engine had it, and of which the engine may have made a copy already: id here -> sender, in small
    letters."""
    awaited: dict[str, tuple[str, float]] = msgspec.field(default_factory=dict)
    """Agent id of a sender here -> its newest message that the engine has and that has not come, and when it was published."""
    left_by: str = ""
    """Why its agent is not here any more (a reason); "" = it is."""

    def judge(self, seq: int, msg_id: str, fan_key: str, *, is_copy: bool = False) -> Judgement:
        """The verdict on a frame (rules above); changes nothing."""
        if seq == 0:
            if fan_key in self.fan:
                return Judgement(Verdict.IGNORE, Reason.DUPLICATE)
            return Judgement(Verdict.ADMIT)
        if self.base is None and seq != 1:
            return self._ahead(seq, msg_id)
        known = self.seen.get(msg_id)
        if seq <= self.recv:
            if known != seq and seq in self.seen.values():
                return Judgement(Verdict.IGNORE, Reason.SEQ_CONFLICT)
            if seq in self.returned:
                if is_copy or known not in (None, seq):
                    return Judgement(Verdict.IGNORE, Reason.DUPLICATE, advances=True)
                return Judgement(Verdict.ADMIT)
            if seq in self.open:
                return Judgement(Verdict.IGNORE, Reason.IN_PROGRESS)
            comes_late = known is None and not is_copy and self._may_come_late(seq)
            return Judgement(Verdict.ADMIT) if comes_late else Judgement(Verdict.IGNORE, Reason.STALE)
        if seq == self.recv + 1:
            if is_copy or known is not None:
                return Judgement(Verdict.IGNORE, Reason.DUPLICATE, advances=True)
            return Judgement(Verdict.ADMIT)
        return self._ahead(seq, msg_id)

    def may_be_given(self, sender: str) -> bool:
        """Whether a message of this sender may be one that the agent was given already."""
        return bool(self.undecided) and (sender == UNNAMED or sender.lower() in self.undecided.values())

    def is_reused(self, delivery_id: str, msg_id: str) -> bool:
        """Whether this delivery id belongs to another message."""
        return self.ids.get(delivery_id, msg_id) != msg_id

    def is_doubtful(self, msg_id: str) -> bool:
        """Whether this message came back although it may have been typed."""
        return msg_id in self.doubtful.values()

    def _may_come_late(self, seq: int) -> bool:
        return self.adopted and self.late_from <= seq <= (self.base or 0) and seq not in self.came_late

    def _ahead(self, seq: int, msg_id: str) -> Judgement:
        if seq in self.buffer:
            held = self.buffer[seq].get("msg_id")
            same = not isinstance(held, str) or held.strip() in ("", msg_id)
            return Judgement(Verdict.IGNORE, Reason.IN_PROGRESS if same else Reason.SEQ_CONFLICT)
        if len(self.buffer) >= BUFFER_LIMIT and seq > max(self.buffer):
            return Judgement(Verdict.IGNORE, Reason.HOLD_FULL)
        return Judgement(Verdict.BUFFER, Reason.GAP_WAIT)

    @property
    def next_buffered(self) -> int | None:
        """The buffered number that is now the next one to admit, if it is there."""
        return self.recv + 1 if self.base is not None and self.recv + 1 in self.buffer else None

    @property
    def deadline(self) -> float | None:
        """When a gap (or an unknown base) needs the next step; None = nothing waits."""
        if self.base is None:
            return self.gap_since + COLLECT_S if self.buffer else None
        if self.starved or not (self.gap_since or self.passed_since):
            return None
        since = min(when for when in (self.gap_since, self.passed_since) if when)
        return since + (*RESYNC_AFTER_S, GIVE_UP_S)[min(self.resyncs, len(RESYNC_AFTER_S))]

    def holes(self) -> list[tuple[int, int]]:
        """The ranges that are lost when the engine does not offer them in time: returned ones that it passed by, else the gap."""
        missing = sorted(self.returned) if self.passed_since else []
        if self.buffer and not missing:
            return [(self.recv + 1, min(self.buffer) - 1)]
        ranges: list[tuple[int, int]] = []
        for seq in missing:
            if ranges and ranges[-1][1] == seq - 1:
                ranges[-1] = (ranges[-1][0], seq)
            else:
                ranges.append((seq, seq))
        return ranges

    # --- changes, called by the fold only -------------------------------------------------------------------------

    def start_at(self, base: int, *, adopted: bool) -> None:
        """The sequence begins (or was advanced by the engine) behind `base`."""
        self.base, self.adopted = base, adopted
        self.recv = max(self.recv, base)
        if base > self.floor:
            self.floor = base
            self.settled = {seq for seq in self.settled if seq > base}
            self.returned = {seq: tries for seq, tries in self.returned.items() if seq > base}
        for seq in [seq for seq in self.buffer if seq <= self.recv]:
            self._unbuffer(seq)
        self._advance()
        self._gap_moved()

    def passed(self, seq: int, now: float) -> None:
        """The engine offered this number: those before it that were returned should have come."""
        if self.returned and not self.passed_since and seq > min(self.returned):
            self.passed_since = now

    def wait_anew(self, now: float) -> None:
        """The engine can offer its rows (again) from now on."""
        self.buffered_at = dict.fromkeys(self.buffered_at, now)
        self.gap_since = now if self.gap_since else 0.0
        self.passed_since = now if self.passed_since else 0.0
        self.resyncs = 0

    def admit(self, seq: int, msg_id: str, fan_key: str, stream: str, delivery_id: str = "") -> None:
        """A delivery was opened for this frame."""
        if seq == 0:
            _remember(self.fan, fan_key, None)
            return
        self.returned.pop(seq, None)
        self.open[seq] = stream
        if self.base is not None and seq <= self.base:
            self.late.add(seq)
            self.came(seq)
        self._came(msg_id)
        _remember(self.seen, msg_id, seq)
        if delivery_id:
            _remember(self.ids, delivery_id, msg_id)
        self._received(seq)

    def came(self, seq: int) -> None:
        """This number was decided about: below an adopted base it is not admitted after that."""
        if not self._may_come_late(seq):
            return
        self.came_late.add(seq)
        if len(self.came_late) > LATE_KEPT:
            lowest = min(self.came_late)
            self.came_late.discard(lowest)
            self.late_from = lowest + 1

    def recognise(self, seq: int, msg_id: str, stream: str, delivery_id: str, *, is_typed: bool) -> None:
        """The engine's copy of what a delivery from here gave the agent: the delivery has this number from now on."""
        self.admit(seq, msg_id, "", stream, delivery_id)
        if is_typed:
            self.settle(seq)
            self.typed[seq] = stream

    def given_from_here(self, msg_id: str) -> None:
        """The agent has this message, under no number of the engine's."""
        _remember(self.seen, msg_id, 0)

    def publish(self, author_id: str, msg_id: str, at: float) -> None:
        """The engine has a message of this agent for ours, which will come, unless it has."""
        if msg_id not in self.seen:
            self.awaited.pop(author_id, None)
            _remember(self.awaited, author_id, (msg_id, at), AWAITED_KEPT)

    def skip(self, seq: int, msg_id: str) -> None:
        """This number is filled without a delivery; a doubt about its message goes on with the number under which it is open."""
        self._came(msg_id)
        twin = self.seen.get(msg_id, seq)
        _remember(self.seen, msg_id, seq)
        self._received(seq)
        doubt = self.doubtful.get(seq)
        self.settle(seq)
        if doubt and twin in self.open:
            self.doubtful[twin] = doubt

    def lose(self, first: int, last: int) -> None:
        """The range never came."""
        self.lost[first] = last
        for seq in [returned for returned in self.returned if first <= returned <= last]:
            del self.returned[seq]
        self.recv = max(self.recv, last)
        self._advance()
        self._gap_moved()

    def settle(self, seq: int) -> None:
        """This number is terminal and counts."""
        self.open.pop(seq, None)
        self.late.discard(seq)
        self.returned.pop(seq, None)
        self.doubtful.pop(seq, None)
        self._gap_moved()
        if seq > self.floor:
            self.settled.add(seq)
            self._advance()

    def give_back(self, seq: int, attempt: int, *, doubtful: str) -> None:
        """This number goes back to the engine, which offers it again. `doubtful`: its message id, if it may have been typed."""
        self.open.pop(seq, None)
        self.late.discard(seq)
        if doubtful:
            self.doubtful[seq] = doubtful
        self.returned[seq] = attempt
        self.passed_since = 0.0
        for msg_id in [known for known, number in self.seen.items() if number == seq]:
            del self.seen[msg_id]

    def refuse(self, seq: int) -> None:
        """The frame that came for this number is of no use; its place stays open."""
        self._unbuffer(seq)
        self._gap_moved()

    def hold_back(self, seq: int, frame: Mapping[str, Any], now: float) -> None:
        """A frame waits for those before it; the highest gives way when the buffer is full."""
        if len(self.buffer) >= BUFFER_LIMIT:
            self._unbuffer(max(self.buffer))
        self.buffer[seq], self.buffered_at[seq] = dict(frame), now
        self._gap_moved()

    def _unbuffer(self, seq: int) -> None:
        self.buffer.pop(seq, None)
        self.buffered_at.pop(seq, None)

    def _came(self, msg_id: str) -> None:
        for author_id in [one for one, (awaited, _) in self.awaited.items() if awaited == msg_id]:
            del self.awaited[author_id]

    def _received(self, seq: int) -> None:
        self._unbuffer(seq)
        self.recv = max(self.recv, seq)
        self._gap_moved()

    def _gap_moved(self) -> None:
        since, self.gap_since = self.gap_since, min(self.buffered_at.values(), default=0.0)
        if not self.returned:
            self.passed_since = 0.0
        if not self.passed_since and (not self.gap_since or self.gap_since != since):
            self.resyncs = 0  # no gap is left, or one that opened later

    def _advance(self) -> None:
        while True:
            following = self.floor + 1
            if following in self.settled:
                self.floor = following
                self.settled.discard(following)
            elif self.lost and (first := self._lost_at(following)) is not None:
                self.floor = self.lost.pop(first)
            else:
                return

    def _lost_at(self, seq: int) -> int | None:
        return next((first for first, last in self.lost.items() if first <= seq <= last), None)


def _remember(window: dict[str, _V], key: str, value: _V, limit: int = SEEN_WINDOW) -> None:
    """Insert at the end once; the oldest leave when the window is full."""
    if key not in window:
        window[key] = value
        if len(window) > limit:
            del window[next(iter(window))]


def fan_key(delivery_id: str, msg_id: str, payload_type: str) -> str:
    """By what a frame without sequence number is recognised when it comes again."""
    return delivery_id or f"{msg_id} {payload_type}"
