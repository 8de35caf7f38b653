"""No table of the core's state grows with history: every one has a bound that is written down here, and a long life keeps to it.

The walk finds every container in the state by itself: a new table fails these tests until it has a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain.action import LEDGER_LIMIT
from relaybroker.domain.agent import MAX_EARLY
from relaybroker.domain.changes.link import ABANDONED_KEPT, REJECTED_KINDS
from relaybroker.domain.dead_letter import LIMIT
from relaybroker.domain.delivery import INJECT_WINDOW, MAX_FLUSH_HOLDS, MAX_WAITING
from relaybroker.domain.link import MAX_REMINTS_PER_HOUR
from relaybroker.domain.mailbox import AWAITED_KEPT, BUFFER_LIMIT, LATE_KEPT, SEEN_WINDOW
from relaybroker.domain.message import KEYS_KEPT, MAX_OPEN
from relaybroker.domain.rules.acts import MAX_OPEN as MAX_ACTS
from relaybroker.domain.rules.local_first import MAX_TO_COME
from relaybroker.domain.state import (
    ACTED_KEPT,
    ANNOUNCED_KEPT,
    ANNOUNCEMENTS_KEPT,
    CRASHES_KEPT,
    GENERATIONS_KEPT,
    MAILBOXES_KEPT,
    MODE_CHANGES_KEPT,
    NOTICED_KEPT,
    PAIRS_KEPT,
    POSTED_KEPT,
    SEEN_KEPT,
    STRANGER_FRAMES_KEPT,
    STRANGERS_KEPT,
    State,
)
from tests.world import World

pytestmark = pytest.mark.slow

AGENTS = 4
"""Most agents at one time in these tests."""
OWED = 8
"""Most deregistrations that wait for the link at one time."""

BOUNDS = {
    # the node link
    "link.pending": AGENTS + 4,  # one a registration under way, and few of the link's own
    "link.abandoned": ABANDONED_KEPT,
    "link.remint_times": MAX_REMINTS_PER_HOUR,
    "link.not_accepted": 64,
    "link.rejected": REJECTED_KINDS + 1,  # and the one for all others
    # agents: what lives, and what still owes its deregistration
    "registrations": AGENTS + OWED,
    "registrations.*.release_requests": AGENTS,  # one an open request at the local API
    "registrations.*.release_invocations": AGENTS,
    "registrations.*.argv": 8,  # as the caller gave it
    "registrations.*.channels": 8,  # as the caller gave them
    "names": AGENTS + OWED,
    "agents": AGENTS + OWED,
    "generations": GENERATIONS_KEPT + AGENTS + OWED,
    "workers": AGENTS + OWED,
    "workers.*.waiting": MAX_WAITING,
    "workers.*.typing": INJECT_WINDOW,
    "workers.*.unseen": MAX_WAITING,  # only while one event is applied
    "acts": MAX_ACTS,
    "calls": 2 * AGENTS,  # one a channel of an agent that is being joined
    # messages for agents
    "mailboxes": MAILBOXES_KEPT + AGENTS + OWED,
    "mailboxes.*.settled": MAX_WAITING + BUFFER_LIMIT,  # above the floor: behind something open
    "mailboxes.*.open": MAX_WAITING + INJECT_WINDOW,
    "mailboxes.*.typed": MAX_WAITING + INJECT_WINDOW,
    "mailboxes.*.returned": MAX_WAITING + INJECT_WINDOW,
    "mailboxes.*.doubtful": MAX_WAITING + INJECT_WINDOW,
    "mailboxes.*.seen": SEEN_WINDOW,
    "mailboxes.*.ids": SEEN_WINDOW,
    "mailboxes.*.late": MAX_WAITING + INJECT_WINDOW,
    "mailboxes.*.came_late": LATE_KEPT,
    "mailboxes.*.lost": MAX_WAITING + BUFFER_LIMIT,  # ranges above the floor, as settled
    "mailboxes.*.fan": SEEN_WINDOW,
    "mailboxes.*.buffer": BUFFER_LIMIT,
    "mailboxes.*.buffered_at": BUFFER_LIMIT,
    "mailboxes.*.undecided": MAX_OPEN,  # messages from here that wait to be published
    "mailboxes.*.awaited": AWAITED_KEPT,
    "deliveries": AGENTS * (MAX_WAITING + INJECT_WINDOW),  # the host ends every verification
    "expiries": AGENTS * (MAX_WAITING + INJECT_WINDOW),  # of the open deliveries
    "doubts": AGENTS * INJECT_WINDOW,  # nothing is handed over while something is in doubt
    "waiting_of": AGENTS * (MAX_WAITING + INJECT_WINDOW),  # the senders of the open deliveries
    "dead_letters": LIMIT,
    "flush_holds": MAX_FLUSH_HOLDS,
    # messages from here
    "lines": MAX_OPEN,
    "sends": KEYS_KEPT,
    "spawn_keys": KEYS_KEPT,
    "announced": ANNOUNCED_KEPT,
    "posted": POSTED_KEPT,
    "acted": ACTED_KEPT,
    "noticed": NOTICED_KEPT,
    "sent": ANNOUNCED_KEPT,
    "pairs": PAIRS_KEPT,
    "published_as": PAIRS_KEPT,
    "copies_to_come": MAX_TO_COME + MAX_OPEN,  # with those that are given and not published yet
    "crashes": CRASHES_KEPT,
    "seen_messages": SEEN_KEPT,
    "mode_changes": MODE_CHANGES_KEPT,
    "strangers": STRANGERS_KEPT,
    "strangers.*.frames": STRANGER_FRAMES_KEPT,
    "registrations.*.early": MAX_EARLY,
    # the rest
    "actions": LEDGER_LIMIT,
    "actions.*.input": 16,  # as the engine gave it
    "actions.*.output": 16,  # as the handler gave it
    "unfinished": 64,  # each ends within its time limit
    "messages": MAX_OPEN,
    "sidecar.handlers": 4,  # as it offered them
    "handler_grace": 4,  # those of the last sidecar
    "announcements": 2 * ANNOUNCEMENTS_KEPT,
}


def sizes(thing: msgspec.Struct, path: str = "") -> Iterator[tuple[str, int]]:
    """Every container in the state that can change, by the path to it, with its length."""
    for field in thing.__struct_fields__:
        value, here = getattr(thing, field), f"{path}{field}"
        if isinstance(value, dict | list | set | tuple):
            yield here, len(value)
            rows = value.values() if isinstance(value, dict) else value
            for row in rows:
                if _changes(row):
                    yield from sizes(row, f"{here}.*.")
        elif _changes(value):
            yield from sizes(value, f"{here}.")


def _changes(value: Any) -> bool:
    return isinstance(value, msgspec.Struct) and not type(value).__struct_config__.frozen


class LongWorld(World):
    """Keeps of its outside only what is under way; an engine that answers every call at once."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: dict[str, int] = {}

    def _take(self, decision: Any) -> None:
        super()._take(decision)
        self.log.clear()
        self.notified.clear()

    def measure(self) -> None:
        for path, size in sizes(self.broker.state):
            self.largest[path] = max(size, self.largest.get(path, 0))

    def forget_the_past(self) -> None:
        self.measure()
        self.frames = self.frames[-50:]
        self.effects.clear()
        self.replies.clear()
        self.typed.clear()

    def answer_calls(self) -> None:
        """The engine does what it is asked for."""
        for call in [effect for effect in self.effects if isinstance(effect, HttpCall)]:
            self.tell(inputs.EngineAnswered(call_id=call.call_id, status=201, data={"id": "M", "message_id": "M"}))
        self.effects = [effect for effect in self.effects if not isinstance(effect, HttpCall)]

    def verify_all(self) -> None:
        """The PTY host ends the verification of everything it has typed."""
        for delivery in list(self.broker.state.deliveries.values()):
            if delivery.state in ("injected", "acked") and not delivery.verified:
                self.report(
                    inputs.TextVerified,
                    delivery.session_id,
                    delivery_id=delivery.typing_id,
                    verification="timeout_fallback",
                )

    def end(self, name: str) -> None:
        session_id = self.broker.state.registration_of(name).session_id
        ending = {"code": 1, "signal": None, "last_output": "", "uptime_s": 1.0, "requested": False}
        self.report(inputs.ProgramExited, session_id, **ending)


@pytest.fixture
def long_life() -> LongWorld:
    world = LongWorld()
    world.start()
    world.online()
    return world


def test_every_table_of_the_state_has_a_bound():
    """BOUNDED."""
    settled = {path for path, _ in sizes(State())}
    assert settled <= set(BOUNDS), settled - set(BOUNDS)


def within_bounds(world: LongWorld) -> None:
    world.measure()
    unnamed = set(world.largest) - set(BOUNDS)
    assert not unnamed, f"tables without a bound: {unnamed}"
    beyond = {path: size for path, size in world.largest.items() if size > BOUNDS[path]}
    assert not beyond, beyond


def one_agents_life(world: LongWorld, number: int) -> None:
    """An agent of a new name: registered, written to, asked for by an invocation, and gone in one of several ways."""
    name, request = f"w{number}", f"r{number}"
    world.agent_ids = {name: f"id{number}"}
    world.tell(
        inputs.SpawnRequested(request_id=request, spec=inputs.SpawnSpec(name=name, cli="cat", channels=("dev",)))
    )
    if number % 7 == 0:
        world.tell(inputs.ReleaseRequested(request_id=f"x{number}", name=name))
    world.accept(name)  # late, where it was released
    world.advance(0.3)
    world.answer_calls()
    if world.broker.state.registration_of(name) is None:
        return
    world.deliver(name, 1)
    world.deliver(name, 3)
    world.tell(inputs.SendRequested(request_id=f"m{number}", to="#dev", text="hi", sender=name))
    act = {"act": "join_channel", "arguments": {"channel": "dev"}}
    world.tell(inputs.ActRequested(request_id=f"j{number}", agent_id=f"id{number}", **act))
    world.answer_calls()
    world.verify_all()
    match number % 3:
        case 0:
            world.end(name)
        case 1:
            world.tell(inputs.ReleaseRequested(request_id=f"y{number}", name=name))
        case _:
            world.frame(type="action.invoke", invocation_id=f"i{number}", action="release", input={"name": name})


def test_thousands_of_agents_leave_nothing_but_what_is_bounded(long_life):
    """BOUNDED, F128: more names and agent ids than are remembered; ACK-FLOOR, IDENTITY: only former agents are forgotten."""
    first = long_life.spawn("w0")
    for number in range(1, GENERATIONS_KEPT + 200):
        one_agents_life(long_life, number)
        if number % 50 == 0:
            long_life.advance(1.0)
            long_life.forget_the_past()
    long_life.advance(120)
    within_bounds(long_life)
    state = long_life.broker.state
    assert first in state.mailboxes
    assert state.generations["w0"] == 1
    long_life.end("w0")
    assert (state.registrations, state.names, state.agents, state.workers, state.calls) == ({}, {}, {}, {}, {})
    assert (state.deliveries, state.messages, state.unfinished, state.acts) == ({}, {}, {}, {})
    assert long_life.largest["generations"] >= GENERATIONS_KEPT, "the bound was reached"
    assert long_life.largest["mailboxes"] >= MAILBOXES_KEPT, "the bound was reached"
    assert long_life.sessions == {}


def test_an_agent_that_lives_long_keeps_no_past(long_life):
    """BOUNDED: thousands of messages, reactions and invocations for one agent."""
    long_life.spawn("w1")
    for number in range(1, 3000):
        long_life.deliver("w1", number)
        fan_out = {"type": "action.completed", "data": {"output": number}}
        long_life.deliver("w1", 0, msg_id=f"e{number}", delivery_id=f"evt_{number}", payload=fan_out)
        long_life.frame(type="action.invoke", invocation_id=f"i{number}", action="release", input={"name": "nobody"})
        if number % 100 == 0:
            long_life.verify_all()
            long_life.forget_the_past()
    long_life.verify_all()
    within_bounds(long_life)
    assert len(long_life.broker.state.deliveries) == 0


def test_a_link_that_never_holds_keeps_no_past(long_life):
    """BOUNDED, F047: registrations, releases and exits while the link comes and goes."""
    for number in range(1, ABANDONED_KEPT + 100):
        name = f"w{number % AGENTS}"
        long_life.agent_ids[name] = f"id{number}"
        spec = inputs.SpawnSpec(name=name, cli="cat")
        long_life.tell(inputs.SpawnRequested(request_id=f"r{number}", spec=spec))
        if number % 3 == 0:
            long_life.accept(name)
            long_life.advance(0.3)
        long_life.drop()
        long_life.tell(inputs.ReleaseRequested(request_id=f"x{number}", name=name))
        long_life.tell(inputs.SpawnRequested(request_id=f"s{number}", spec=spec))
        long_life.measure()
        while long_life.broker.state.link.state != "connecting":
            long_life.advance(max(0.0, long_life.broker.state.link.until - long_life.now) + 0.01)
        long_life.online()
        long_life.advance(0.1)
        if number % 20 == 0:
            long_life.advance(25)
            long_life.forget_the_past()
    within_bounds(long_life)
    assert long_life.largest["link.abandoned"] >= ABANDONED_KEPT, "the bound was reached"


def test_a_name_that_was_forgotten_never_gets_a_generation_again(long_life):
    """3.5: the generation is part of the identity by which late answers are told apart."""
    spec = inputs.SpawnSpec(name="first", cli="cat")
    given = []
    for request_id in ("a", "b", "c"):
        long_life.tell(inputs.SpawnRequested(request_id=request_id, spec=spec))
        given.append(long_life.broker.state.registration_of("first").generation)
        long_life.tell(inputs.ReleaseRequested(request_id=f"x{request_id}", name="first"))
    for number in range(GENERATIONS_KEPT + 1):
        other = inputs.SpawnSpec(name=f"w{number}", cli="cat")
        long_life.tell(inputs.SpawnRequested(request_id=f"r{number}", spec=other))
        long_life.tell(inputs.ReleaseRequested(request_id=f"y{number}", name=f"w{number}"))
    assert "first" not in long_life.broker.state.generations
    long_life.tell(inputs.SpawnRequested(request_id="d", spec=spec))
    assert long_life.broker.state.registration_of("first").generation not in given
