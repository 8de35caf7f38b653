"""Deciding a session again, with a fresh core, at the recorded moments, and comparing every decision.

* Each turn is decided from the recorded history: where the core decides otherwise, the difference is kept and the core goes on from the
  recorded state. So one difference hides no other, every place is found, and ids that are derived from positions stay the same.
* Time is part of it. A turn that a deadline began is played by asking for what is due, and the deadline must be the recorded
  one. Where an input came after a deadline of this core of which the recording knows nothing, that is a difference too.
* Harness profiles are a property of the machine, not of the core: those that were recorded with an agent are used for it again.
* Effects are compared where the recording has them, in the form in which this version writes them.

Source: ADR-0027; design/architecture.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from relaybroker.agents.harness import harness_of
from relaybroker.domain import events, fold
from relaybroker.domain import state as domain_state
from relaybroker.domain.broker import Broker
from relaybroker.domain.errors import RelayBrokerError
from relaybroker.domain.events import Harness, Recorded
from relaybroker.domain.inputs import BrokerStarted, Settings
from relaybroker.domain.recorded_input import RecordedInput, TimePassed
from relaybroker.domain.rules.agents import HarnessOf
from relaybroker.domain.state import State
from relaybroker.domain.turn import Decision
from relaybroker.replay.session import EFFECTS, Session, Turn, plain

BUGS = (RelayBrokerError, AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What a core may raise on an input that it does not fit."""
CATCH_UP = 10_000
"""Events that may wait to be folded into the recorded state; they are folded when it is needed."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One place where this core decides otherwise."""

    kind: str
    """`decided` (other events or effects), `due` (something is due at another time), `raised` (the core failed)."""
    position: int
    """Of the first recorded event of the turn; for `due`, of the turn before which it would have happened."""
    line: int
    at: float
    cause: str
    """The input, or `TimePassed`."""
    recorded: list[dict[str, Any]]
    decided: list[dict[str, Any]]
    error: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of playing a session."""

    turns: int
    events: int
    differences: list[Difference]
    state: State
    """The recorded state at the end."""
    complete: bool
    """Whether the recording has its last line."""


class Harnesses:
    """The harness profiles of a session: those recorded in it, else those of this version."""

    def __init__(self) -> None:
        self._recorded: dict[tuple[str, str], Harness] = {}

    def learn(self, recorded: Iterable[Recorded]) -> None:
        """Take what these events say."""
        for one in recorded:
            if isinstance(one.event, events.NameReserved):
                self._recorded[one.event.argv[0], one.event.spec.harness] = one.event.harness

    def know(self, program: tuple[str, str], harness: Harness) -> None:
        """Take this profile for a program (first word of its command line, name of the harness that was asked for)."""
        self._recorded[program] = harness

    def of(self, argv: tuple[str, ...], name: str = "") -> Harness:
        """The profile of a command line, or of a name."""
        return self._recorded.get((argv[0], name)) or harness_of(argv, name)


class Player:
    """Plays one session.

    Args:
        session: open, not read yet.
        settings: changes what the operator chose, for `--what-if`; None = as recorded.
        make: makes the core, from harness profiles and a state.
    """

    def __init__(
        self,
        session: Session,
        *,
        settings: Callable[[Settings], Settings] | None = None,
        make: Callable[[HarnessOf, State], Broker] = Broker,
    ) -> None:
        self._session = session
        self._change = settings
        self._make = make
        self._harnesses = Harnesses()
        self._recorded = session.state()
        self._waiting: list[Recorded] = []
        self._differences: list[Difference] = []
        self._early: list[dict[str, Any]] = []
        self._at = self._recorded.now
        self._core = self._broker(session.state())

    def play(self, until: int | None = None, watch: Callable[[int], None] | None = None) -> Outcome:
        """Play everything, or up to the event at a position. `watch` is told how many events are played.

        Raises:
            SessionError: the file cannot be read on.
        """
        turns = played = 0
        for turn in self._session:
            if until is not None and turn.last > until:
                self._waiting += [recorded for recorded in turn.events if recorded.version <= until]
                break
            self._harnesses.learn(turn.events)
            self._turn(turn)
            turns, played = turns + 1, played + len(turn.events)
            if watch is not None:
                watch(played)
        self._catch_up()
        return Outcome(
            turns=turns,
            events=played,
            differences=self._differences,
            state=self._recorded,
            complete=self._session.end is not None,
        )

    def _turn(self, turn: Turn) -> None:
        item = turn.input()
        if isinstance(item, TimePassed):
            self._compare_deadline(turn, item.due)
        else:
            self._look_for_early(turn)
        if isinstance(item, BrokerStarted) and self._change is not None:
            item = msgspec.structs.replace(item, settings=self._change(item.settings))
        error = ""
        decision = Decision([], [])
        try:
            decision = self._decide(item, turn.at)
        except BUGS as raised:
            error = f"{type(raised).__name__}: {raised}"
        self._waiting += turn.events
        self._at = turn.at
        recorded, decided = self._sides(turn, decision)
        if error or recorded != decided:
            self._differ("raised" if error else "decided", turn, type(item).__name__, recorded, decided, error)
        elif len(self._waiting) >= CATCH_UP:
            self._catch_up()

    def _decide(self, item: RecordedInput, now: float) -> Decision:
        return self._core.on_time(now) if isinstance(item, TimePassed) else self._core.handle(item, now)

    def _sides(self, turn: Turn, decision: Decision) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The two sides as plain data; both empty when they are the same."""
        is_comparable = self._session.header.effects == EFFECTS
        known = turn.effects if is_comparable else None
        wanted = None if known is None else plain(decision.effects)
        expected = [self._expected(recorded) for recorded in turn.events]
        same_events = len(expected) == len(decision.events) and all(map(_same, expected, decision.events))
        if same_events and known == wanted:
            return [], []
        recorded, decided = list(map(shown, expected)), list(map(shown, decision.events))
        if wanted is not None and known is not None:
            recorded += [_shown_effect(effect) for effect in known]
            decided += [_shown_effect(effect) for effect in wanted]
        return recorded, decided

    def _expected(self, recorded: Recorded) -> Recorded:
        """The recorded event; under another policy, with that policy in the event that names it."""
        event = recorded.event
        if self._change is None or not isinstance(event, events.BrokerStarted):
            return recorded
        changed = msgspec.structs.replace(event, settings=self._change(event.settings))
        return msgspec.structs.replace(recorded, event=changed)

    def _compare_deadline(self, turn: Turn, recorded: float) -> None:
        due = self._core.next_deadline()
        if due != recorded:
            self._differ("due", turn, "TimePassed", [{"due": recorded}], [{"due": due}])

    def _look_for_early(self, turn: Turn) -> None:
        """Whether something is due before this turn, of which the recording knows nothing."""
        due = self._core.next_deadline()
        if due is None or due > turn.at or turn.at <= self._at:
            return
        try:
            decision, error = self._core.on_time(turn.at), ""
        except BUGS as raised:
            decision, error = Decision([], []), f"{type(raised).__name__}: {raised}"
        if not decision.events and not error:
            return
        decided = [{**shown(recorded), "position": None} for recorded in decision.events]
        names = [{"topic": one["topic"], "stream": one["stream"]} for one in decided]
        if names != self._early:  # the same thing stays due until the recording has it
            self._early = names
            self._differ("due", turn, "TimePassed", [], decided, error, at=due)
        else:
            self._go_back()

    def _differ(
        self,
        kind: str,
        turn: Turn,
        cause: str,
        recorded: list[dict[str, Any]],
        decided: list[dict[str, Any]],
        error: str = "",
        at: float | None = None,
    ) -> None:
        self._differences.append(
            Difference(
                kind=kind,
                position=turn.first,
                line=turn.line,
                at=turn.at if at is None else at,
                cause=cause,
                recorded=recorded,
                decided=decided,
                error=error,
            )
        )
        self._go_back()

    def _go_back(self) -> None:
        """Go on from what was recorded."""
        self._catch_up()
        copy = domain_state.decode(domain_state.encode(self._recorded))
        assert copy is not None
        self._core = self._broker(copy)

    def _catch_up(self) -> None:
        for recorded in self._waiting:
            fold.apply(self._recorded, recorded)
        self._waiting = []

    def _broker(self, state: State) -> Broker:
        if self._change is not None and state.settings is not None:
            state.settings = self._change(state.settings)
        return self._make(self._harnesses.of, state)


def _same(recorded: Recorded, decided: Recorded) -> bool:
    return (recorded.stream, recorded.version, recorded.correlation, recorded.event) == (
        decided.stream,
        decided.version,
        decided.correlation,
        decided.event,
    )


def shown(recorded: Recorded) -> dict[str, Any]:
    """An event as differences show it."""
    return {
        "position": recorded.version,
        "topic": recorded.event.topic,
        "stream": recorded.stream,
        "about": recorded.correlation,
        "body": msgspec.json.decode(msgspec.json.encode(recorded.event)),
    }


def _shown_effect(effect: dict[str, Any]) -> dict[str, Any]:
    return {"effect": effect["type"], "body": {name: value for name, value in effect.items() if name != "type"}}
