"""One turn of the core: the events and effects that one input (or one due timer) leads to.

`record` is the only way to change the state: it checks the transition, folds the event in, and keeps it for the journal. The first event of
a turn is the fact; it is the cause of all that follow, and it keeps the input as it came (ADR-0025).

Source: design/architecture.md section 3; ADR-0003.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relaybroker.domain import effects, entropy, fold
from relaybroker.domain.effects import Effect
from relaybroker.domain.events import Event, Recorded
from relaybroker.domain.inputs import Settings
from relaybroker.domain.state import State


class Decision(msgspec.Struct, frozen=True):
    """What one input leads to: events to make durable, then effects to carry out, in order."""

    events: list[Recorded]
    effects: list[Effect]


class Turn:
    """Collects what follows from one input at one moment."""

    __slots__ = (
        "_cause",
        "_input_json",
        "_notified",
        "changes_nothing",
        "effects",
        "events",
        "now",
        "state",
        "undelivered",
    )

    def __init__(self, state: State, now: float, input_json: bytes = b"") -> None:
        self.state = state
        self.now = now
        self.events: list[Recorded] = []
        self.effects: list[Effect] = []
        self.undelivered: list[Any] = []
        """Messages of agents here that ended undelivered in this turn; see domain/rules/notices.py."""
        self.changes_nothing = False
        """What came is known to the letter and was answered: it leaves no event."""
        self._cause = ""
        self._input_json = input_json
        self._notified = state.notified

    @property
    def settings(self) -> Settings:
        """The settings of this run; only after BrokerStarted."""
        assert self.state.settings is not None
        return self.state.settings

    def record(self, event: Event, stream: str, correlation: str = "") -> Recorded:
        """Take the event into the log and the state; IllegalTransition, changing nothing, if the machine forbids it."""
        fold.check(self.state, event, stream)
        version = self.state.position + 1
        input_json = b""
        if not self._cause:
            self._cause, input_json = f"{stream}@{version}", self._input_json
        recorded = Recorded(
            stream=stream,
            version=version,
            at=self.now,
            causation=self._cause,
            correlation=correlation,
            event=event,
            input_json=input_json,
        )
        fold.apply(self.state, recorded)
        self.events.append(recorded)
        return recorded

    def effect(self, effect: Effect) -> None:
        """Ask for something, to be done after the events of this turn are durable."""
        self.effects.append(effect)

    def fresh(self, label: str) -> str:
        """32 hex digits that no other place in the log has."""
        return entropy.derive(self.state.entropy, self.state.position, label)

    def fraction(self, label: str) -> float:
        """A number in [0, 1) of its own."""
        return entropy.fraction(self.state.entropy, self.state.position, label)

    @property
    def node(self) -> str:
        """Stream of the node link."""
        return f"node:{self.settings.node_id}"

    @property
    def broker(self) -> str:
        """Stream of the broker itself."""
        return f"broker:{self.settings.node_id}"

    def decision(self) -> Decision:
        """Close the turn: what is to be recorded, what is to be done, and what local clients are told."""
        announced = self.state.notified - self._notified
        if announced:
            self.effects.extend(effects.Announce(announced=one) for one in self.state.announcements[-announced:])
        return Decision(self.events, self.effects)
