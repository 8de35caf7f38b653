"""Custody: what the engine keeps for an hour is ours before that, and is never lost, whatever holds it and for however long (ADR-0039)."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.api import views
from relaybroker.domain import effects, inputs
from relaybroker.domain.dead_letter import LIMIT
from relaybroker.domain.delivery import CUSTODY_S, CUSTODY_SOONEST_S, ENGINE_KEEPS_S, HOST_SILENT_S, MAX_FLUSHABLE
from relaybroker.domain.reasons import Reason
from relaybroker.domain.soundness import contradictions
from relaybroker.domain.state import decode, encode
from tests.world import SETTINGS, World

HOUR = 3600.0
EPOCH = "1970-01-12T13:46:40Z"
"""The moment at which a world begins, as a message writes it."""


@pytest.fixture
def ready(world):
    world.spawn("w1")
    return world


def session_of(world):
    return world.broker.state.registration_of("w1").session_id


def words(world):
    return [text.rpartition(": ")[2] for text in world.texts("w1")]


def letters(world):
    return [(letter.msg_id, str(letter.reason)) for letter in world.broker.state.dead_letters.values()]


def set_mode(world, mode):
    world.tell(inputs.DeliveryModeRequested(request_id=f"mode_{len(world.log)}", name="w1", mode=mode))


def flush(world):
    world.tell(inputs.FlushRequested(request_id=f"flush_{len(world.log)}", name="w1"))


def occupied(world, reason="agent_busy", patience_s=0.0):
    """The terminal is not free: what the host was given comes back."""
    session = session_of(world)
    world.report(inputs.ProgramOccupied, session, reason=reason, detail="seen", patience_s=patience_s)
    while world.pending_text:
        world.not_typed(world.pending_text.pop(0), reason=reason)


def exits(world):
    world.report(
        inputs.ProgramExited, session_of(world), code=1, signal=None, last_output="", uptime_s=1.0, requested=False
    )


def restart(world):
    """kill -9, and a new broker that finds engine and host."""
    world.crash()
    world.start()
    world.online()


# --- what holds ---------------------------------------------------------------------------------------------------------------


def by_a_busy_program(world):
    world.auto_type = False
    world.deliver("w1", 1, text="one")
    occupied(world)
    return lambda: world.report(inputs.ProgramFreed, session_of(world))


def by_a_person_at_the_keyboard(world):
    world.auto_type = False
    world.deliver("w1", 1, text="one")
    occupied(world, "human_driving")
    return lambda: world.report(inputs.ProgramFreed, session_of(world))


def by_a_dialog(world):
    world.report(inputs.ProgramBlocked, session_of(world), pattern="trust")
    world.deliver("w1", 1, text="one")
    return lambda: world.report(inputs.ProgramUnblocked, session_of(world))


def by_a_person_until_flushed(world):
    set_mode(world, "manual_flush")
    world.deliver("w1", 1, text="one")
    return lambda: flush(world)


HOLDS = [by_a_busy_program, by_a_person_at_the_keyboard, by_a_dialog, by_a_person_until_flushed]


@pytest.mark.parametrize("hold", HOLDS)
def test_a_night_on_hold_costs_nothing(ready, hold):
    """D13, ONE-OWNER: acknowledged before the engine forgets them, typed in order in the morning, and nothing dropped."""
    lift = hold(ready)
    ready.deliver("w1", 2, text="two")
    ready.advance(CUSTODY_S - 1)
    assert ready.acks("w1") == []
    ready.advance(1)
    assert ready.acks("w1") == [2]
    ready.deliver("w1", 3, text="three")
    ready.advance(12 * HOUR)
    assert (words(ready), ready.acks("w1")) == ([], [2, 3])
    ready.auto_type = True
    lift()
    assert words(ready) == ["one", "two", "three"]
    assert (ready.events("delivery.dropped.v1"), letters(ready)) == ([], [])
    assert views.status(ready.broker.state, ready.now).totals.dropped == 0
    assert [recorded.event.up_to for recorded in ready.events("delivery.acked.v1")] == [0, 0, 0], (
        "nothing is owed any more"
    )
    assert contradictions(ready.broker.state) == []
    ready.assert_fold_is_live()


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("jump_s", [3 * HOUR, 24 * HOUR])
def test_a_clock_that_is_set_forward_while_they_wait_costs_nothing(ready, hold, jump_s):
    lift = hold(ready)
    ready.jump(jump_s)
    assert (words(ready), letters(ready), ready.events("delivery.dropped.v1")) == ([], [], [])
    ready.auto_type = True
    lift()
    assert words(ready) == ["one"]


def test_a_clock_that_is_set_forward_while_the_host_types_costs_nothing(ready):
    """The deadline of its silence has passed and no time has: it is asked again, and answers."""
    ready.auto_type = False
    ready.deliver("w1", 1, text="one")
    ready.jump(3 * HOUR)
    first, again = ready.pending_text
    assert (first.delivery_id, first.attempt) == (again.delivery_id, again.attempt), "the host types it once"
    ready.pending_text.pop()
    ready.type_next()
    assert (words(ready), letters(ready), ready.acks("w1")) == (["one"], [], [1])


def test_a_host_that_stays_silent_leaves_a_visible_dead_letter(ready):
    """F022: after it was asked again; whoever redelivers is told that it may have been typed."""
    ready.auto_type = False
    ready.deliver("w1", 1, text="one")
    ready.jump(HOST_SILENT_S)
    assert letters(ready) == []
    ready.jump(HOST_SILENT_S)
    assert letters(ready) == [("M1", "hold_expired")]
    assert [letter.in_doubt for letter in ready.broker.state.dead_letters.values()] == [True]
    assert ready.events("delivery.dropped.v1") == []


@pytest.mark.parametrize("hold", HOLDS)
@pytest.mark.parametrize("away_s", [1.0, 5 * HOUR], ids=["at once", "in the morning"])
@pytest.mark.parametrize("waited_s", [60.0, CUSTODY_S - 1, CUSTODY_S, 4 * HOUR])
def test_a_killed_broker_takes_them_up_again(ready, hold, away_s, waited_s):
    """D14, TYPED-ONCE: before or after they were taken over, for a moment or for longer than the engine keeps them."""
    lift = hold(ready)
    ready.deliver("w1", 2, text="two")
    ready.advance(waited_s)
    ready.now += away_s
    restart(ready)
    ready.advance(1)
    ready.auto_type = True
    lift()
    assert words(ready) == ["one", "two"]
    assert (letters(ready), ready.events("delivery.dropped.v1")) == ([], [])
    assert max(ready.acks("w1")) == 2


def test_a_clock_that_is_set_back_while_they_wait_and_a_kill_cost_nothing(ready):
    """The log's time never goes back: the new process goes on where the old one was."""
    lift = by_a_dialog(ready)
    ready.advance(CUSTODY_S + 10)
    restart(ready)  # its clock begins at the newest record (SteadyClock), whatever the wall clock says
    ready.advance(60)
    lift()
    assert (words(ready), letters(ready)) == (["one"], [])


# --- the engine -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(ready):
    """Two messages in custody, one younger that is not."""
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    ready.deliver("w1", 1, text="one")
    ready.deliver("w1", 2, text="two")
    ready.advance(CUSTODY_S)
    ready.deliver("w1", 3, text="three")
    return ready


def test_the_record_is_there_before_the_acknowledgement(kept):
    """D1, ACK-FLOOR, LOG-FIRST: both are of one turn, and effects follow the commit."""
    (taken, _) = kept.events("delivery.taken_over.v1")
    (sent,) = kept.events("mailbox.ack_sent.v1")
    assert (taken.version < sent.version, sent.event.up_to, kept.acks("w1")) == (True, 2, [2])


@pytest.mark.parametrize("again", [{}, {"msg_id": "M1"}], ids=["stale", "the same message"])
def test_a_repeated_frame_of_a_message_in_custody_is_a_duplicate(kept, again):
    """The engine, which offers it again, has not heard of the acknowledgement: it is told once more."""
    kept.deliver("w1", 1, text="one", **again)
    assert kept.events("mailbox.frame_ignored.v1")[-1].event.reason is Reason.STALE
    assert kept.acks("w1") == [2, 2]
    kept.report(inputs.ProgramUnblocked, session_of(kept))
    assert words(kept) == ["one", "two", "three"]


def test_the_same_message_under_another_number_is_a_duplicate(kept):
    """D6."""
    kept.deliver("w1", 4, text="one", msg_id="M1")
    kept.report(inputs.ProgramUnblocked, session_of(kept))
    assert (words(kept), max(kept.acks("w1"))) == (["one", "two", "three"], 4)


def test_a_broken_link_delays_the_acknowledgement_and_nothing_else(ready):
    by_a_dialog(ready)
    ready.drop()
    ready.advance(CUSTODY_S)
    assert (len(ready.events("delivery.taken_over.v1")), ready.acks("w1")) == (1, [])
    if ready.broker.state.link.state == "backing_off":
        ready.advance(31)
    ready.online()
    assert ready.acks("w1") == [1]
    ready.report(inputs.ProgramUnblocked, session_of(ready))
    assert (words(ready), ready.acks("w1")) == (["one"], [1])
    assert contradictions(ready.broker.state) == []


def test_a_message_that_was_old_when_it_came_is_taken_over_sooner(ready):
    """Posted while the node was away: the engine's hour began then, and ends when it would end."""
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    ready.now += 2000
    ready.deliver("w1", 1, payload=posted("one", EPOCH))
    (offered,) = ready.events("delivery.offered.v1")
    assert 2000 <= offered.event.aged_s < 2001
    ready.advance(CUSTODY_S - 2001)
    assert ready.acks("w1") == []
    ready.advance(1)
    assert ready.acks("w1") == [1]


def test_a_message_that_the_engine_is_about_to_forget_waits_a_minute_and_is_never_given_back(ready):
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    ready.now += ENGINE_KEEPS_S - 5
    ready.deliver("w1", 1, payload=posted("one", EPOCH))
    ready.advance(CUSTODY_SOONEST_S - 10)
    assert ready.acks("w1") == [], "most of a backlog is typed within a minute"
    exits(ready)
    assert letters(ready) == [("M1", "worker_exited")]
    assert ready.events("delivery.dropped.v1") == []


@pytest.mark.parametrize("moment", ["", "soon", "2999-01-01T00:00:00Z", 0, -5, True, None, [1]])
def test_a_moment_that_cannot_be_believed_is_none(ready, moment):
    ready.deliver("w1", 1, payload=posted("one", moment))
    (offered,) = ready.events("delivery.offered.v1")
    assert offered.event.aged_s == 0.0


def posted(text, moment):
    data = {"id": "M1", "agent_id": "55", "agent_name": "alice", "text": text, "created_at": moment}
    return {"type": "message.created", "data": data}


# --- their end --------------------------------------------------------------------------------------------------------------------


def is_released(world):
    world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))


def loses_its_host(world):
    world.host_id, world.sessions, world.reports, world.unconfirmed = "host_2", {}, 0, []
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)


@pytest.mark.parametrize(
    ("end", "reason"),
    [(exits, "worker_exited"), (is_released, "agent_released"), (loses_its_host, "worker_lost")],
)
def test_what_is_in_custody_when_the_agent_ends_becomes_a_dead_letter_that_can_be_redelivered(kept, end, reason):
    """The engine has it no more; what the engine still keeps goes back to it as before (F024)."""
    end(kept)
    assert letters(kept) == [("M1", reason), ("M2", reason)]
    assert [recorded.event.settled for recorded in kept.events("delivery.dropped.v1")] == [False]
    assert kept.broker.state.mailboxes[kept.agent_ids["w1"]].returned == {3: 1}
    kept.auto_ready = True
    kept.spawn("w1")
    kept.deliver("w1", 3, text="three")
    kept.tell(inputs.RedeliverRequested(request_id="d", every=True))
    assert [row["attempt"] for row in kept.replies["d"].body["redelivered"]] == [2, 2]
    assert sorted(words(kept)) == ["one", "three", "two"]
    assert contradictions(kept.broker.state) == []
    kept.assert_fold_is_live()


@pytest.mark.parametrize("policy", ["ask", "at_least_once", "at_most_once"])
def test_what_may_have_been_typed_of_it_is_never_given_back(make_world, policy):
    world = World(
        SETTINGS.__class__(**{f: getattr(SETTINGS, f) for f in SETTINGS.__struct_fields__} | {"in_doubt": policy})
    )
    world.start()
    world.online()
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1, text="one")
    world.advance(CUSTODY_S)
    assert world.acks("w1") == [1]
    loses_its_host(world)
    if policy == "at_most_once":
        (dropped,) = world.events("delivery.dropped.v1")
        assert (dropped.event.reason, dropped.event.settled) == ("ambiguous", True)
    else:
        assert letters(world) == [("M1", "ambiguous")]
    assert world.broker.state.mailboxes[world.agent_ids["w1"]].returned == {}


def test_the_senders_own_moment_counts_on(ready):
    """ADR-0029."""
    by_a_dialog(ready)
    until = {"expires_at": ready.now + 2 * HOUR}
    data = {"id": "M2", "agent_id": "55", "agent_name": "alice", "text": "stop", **until}
    ready.deliver("w1", 2, payload={"type": "message.created", "data": data})
    ready.advance(3 * HOUR)
    assert [recorded.event.reason for recorded in ready.events("delivery.dropped.v1")] == ["expired"]
    ready.report(inputs.ProgramUnblocked, session_of(ready))
    assert words(ready) == ["one"]


def test_what_the_engine_never_kept_is_not_given_back_to_it(ready):
    """Frames without sequence number are never offered again: a result that waited becomes a dead letter, too."""
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    payload = {"type": "action.completed", "data": {"output": "done"}}
    ready.deliver("w1", 0, msg_id="inv1", delivery_id="evt_1", payload=payload)
    exits(ready)
    assert (letters(ready), ready.events("delivery.dropped.v1")) == ([("inv1", "worker_exited")], [])
    assert [item for item in ready.notified if item["kind"] == "delivery_returned"] == []


def test_the_bounds_of_an_agent_are_the_same(ready):
    """F020, BOUNDED: what is in custody takes its place; the next one is refused unacked, and asked for when there is room."""
    set_mode(ready, "manual_flush")
    for seq in range(1, MAX_FLUSHABLE + 1):
        ready.deliver("w1", seq, text=str(seq))
    ready.advance(2 * HOUR)
    ready.deliver("w1", MAX_FLUSHABLE + 1, text="too many")
    assert ready.events("mailbox.frame_ignored.v1")[-1].event.reason is Reason.HOLD_FULL
    assert ready.acks("w1")[-1] == MAX_FLUSHABLE
    flush(ready)
    ready.deliver("w1", MAX_FLUSHABLE + 1, text="too many")
    assert words(ready) == [str(seq) for seq in range(1, MAX_FLUSHABLE + 1)], "the new one waits for the next flush"


def test_a_whole_queue_in_custody_pushes_no_dead_letter_out(ready):
    """NO-LOSS: more than the list keeps of others; each can be redelivered."""
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    for seq in range(1, LIMIT + 200):
        ready.deliver("w1", seq, text=str(seq))
    ready.advance(CUSTODY_S)
    exits(ready)
    assert len(letters(ready)) == LIMIT + 199
    assert ready.events("dead_letter.removed.v1") == []
    assert contradictions(ready.broker.state) == []
    assert decode(encode(ready.broker.state)) == ready.broker.state


# --- what is said -----------------------------------------------------------------------------------------------------------------


def test_custody_is_seen_in_every_view(kept):
    state = kept.broker.state
    assert [row.in_custody for row in views.status(state, kept.now).pending_deliveries] == [True, True, False]
    (row,) = views.agents(state, kept.now)
    assert (row.in_custody, row.waiting, row.acked) == (2, 3, 2)
    announced = [item for item in kept.notified if item["kind"] == "delivery_taken_over"]
    assert [(item["name"], item["event_id"], item["seq_no"]) for item in announced] == [
        ("w1", "M1", 1),
        ("w1", "M2", 2),
    ]
    set_mode(kept, "manual_flush")
    assert [row.in_custody for row in views.held_messages(state, "w1")] == [True, True, False]


def test_a_hold_of_an_earlier_version_goes_on(ready, monkeypatch):
    """What was held for 50 minutes by a version that gave it back then is held anew."""
    monkeypatch.setattr("relaybroker.domain.rules.deliveries.HOLD_S", 3000.0)
    lift = by_a_dialog(ready)
    monkeypatch.undo()
    ready.advance(4 * HOUR)
    assert (ready.events("delivery.dropped.v1"), letters(ready)) == ([], [])
    lift()
    assert words(ready) == ["one"]


def test_typing_it_says_nothing_to_the_engine(kept):
    kept.report(inputs.ProgramUnblocked, session_of(kept))
    acks = [effect.frame for effect in kept.effects if isinstance(effect, effects.SendFrame)]
    assert [frame["up_to_seq"] for frame in acks if frame["type"] == "delivery.ack"] == [2, 3]
