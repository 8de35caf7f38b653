"""Holds: why a message waits, since when, until when; and the hold that a person sets."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.api import answers, views
from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import effects, inputs
from relaybroker.domain.delivery import HOLD_S, MAX_FLUSH_HOLDS, MAX_FLUSHABLE
from relaybroker.domain.state import decode, encode


@pytest.fixture
def ready(world):
    """An online world with one agent."""
    world.spawn("w1")
    return world


def set_mode(world, mode="manual_flush", name="w1", **more):
    request_id = f"mode_{len(world.log)}"
    world.tell(inputs.DeliveryModeRequested(request_id=request_id, name=name, mode=mode, **more))
    return world.replies[request_id]


def flush(world, name="w1"):
    request_id = f"flush_{len(world.log)}"
    world.tell(inputs.FlushRequested(request_id=request_id, name=name))
    return world.replies[request_id]


def words(world, name="w1"):
    return [text.rpartition(": ")[2] for text in world.texts(name)]


def agent(world, name="w1"):
    return next(shown for shown in views.agents(world.broker.state, world.now) if shown.name == name)


def kinds(world, *wanted):
    return [item for item in world.notified if item["kind"] in wanted]


def session_of(world, name="w1"):
    return world.broker.state.registration_of(name).session_id


def ends(world, name="w1"):
    """The program ends by itself."""
    world.report(
        inputs.ProgramExited,
        session_of(world, name),
        code=1,
        signal=None,
        last_output="",
        uptime_s=1.0,
        requested=False,
    )


def test_a_message_over_the_node_link_waits_for_a_person_and_is_announced_once(ready):
    """F018 manual_flush, D15: nothing typed, listed once, exactly one delivery_queued."""
    set_mode(ready)
    ready.deliver("w1", 1, text="later")
    ready.deliver("w1", 1, text="later")
    assert (words(ready), ready.acks("w1")) == ([], [])
    (row,) = views.held_messages(ready.broker.state, "w1")
    assert (row.sender, row.body, row.event_id, row.delivery_id) == ("alice", "later", "M1", "del_M1_100")
    (queued,) = kinds(ready, "delivery_queued")
    assert queued["reason"] == "inbound_delivery_manual_flush"
    flush(ready)
    assert len(kinds(ready, "delivery_queued")) == 1, "not again at the flush"
    assert words(ready) == ["later"]
    assert ready.acks("w1") == [1]
    ready.assert_fold_is_live()


def test_mode_and_held_messages_survive_a_kill_and_nothing_was_acknowledged(ready):
    """F019, B03."""
    set_mode(ready, reason="I look at it")
    ready.deliver("w1", 1, text="kept")
    before = agent(ready)
    ready.crash()
    ready.start()
    ready.online()
    assert agent(ready).delivery_mode == before.delivery_mode == "manual_flush"
    assert [row.body for row in views.held_messages(ready.broker.state, "w1")] == ["kept"]
    ready.deliver("w1", 1, text="kept")
    assert (words(ready), ready.acks("w1")) == ([], [])
    assert decode(encode(ready.broker.state)) == ready.broker.state
    assert flush(ready).body == {"flushed": 1, "failed": 0, "remaining": 0}
    assert (words(ready), ready.acks("w1")) == (["kept"], [1])


def test_the_257th_message_is_refused_and_fetched_again_when_there_is_room(ready):
    """F020 hold_full: the newest is refused unacked, the 256 stay in order, nothing is evicted."""
    set_mode(ready)
    for seq in range(1, MAX_FLUSHABLE + 3):
        ready.deliver("w1", seq, text=str(seq))
    assert [item.event.reason for item in ready.events("mailbox.frame_ignored.v1")] == ["hold_full"] * 2
    held = views.held_messages(ready.broker.state, "w1")
    assert [row.body for row in held] == [str(seq) for seq in range(1, MAX_FLUSHABLE + 1)]
    ready.advance(60)
    assert ready.events("mailbox.range_lost.v1") == []
    assert ready.acks("w1") == []
    registers = len(ready.sent("node.register"))
    flush(ready)
    assert len(ready.sent("node.register")) == registers + 1, "the engine is asked for what was refused"
    for seq in range(MAX_FLUSHABLE + 1, MAX_FLUSHABLE + 3):
        ready.deliver("w1", seq, text=str(seq))
    assert len(views.held_messages(ready.broker.state, "w1")) == 2
    set_mode(ready, "auto_inject")
    assert words(ready) == [str(seq) for seq in range(1, MAX_FLUSHABLE + 3)]
    assert ready.acks("w1")[-1] == MAX_FLUSHABLE + 2


def test_a_flush_types_what_waits_and_leaves_the_hold_as_it_was(ready):
    """F088: one queue, one hold; a later message stays held, a new hold has no exemption left over."""
    set_mode(ready)
    ready.deliver("w1", 1, text="one")
    ready.auto_type = False
    assert flush(ready).body["flushed"] == 1
    ready.deliver("w1", 2, text="two")
    assert [row.body for row in views.held_messages(ready.broker.state, "w1")] == ["two"]
    set_mode(ready, "auto_inject")
    set_mode(ready)
    ready.deliver("w1", 3, text="three")
    text = ready.pending_text.pop(0)
    ready.report(
        inputs.TextNotTyped,
        text.session_id,
        delivery_id=text.delivery_id,
        attempt=1,
        reason="pty_write_failed",
        typed="no",
    )
    ready.auto_type = True
    while ready.pending_text:
        ready.type_next()
    ready.advance(60)
    assert words(ready) == ["two"], "it was with the host before the second hold"
    assert [row.body for row in views.held_messages(ready.broker.state, "w1")] == ["one", "three"]
    flush(ready)
    assert words(ready) == ["two", "one", "three"]


def test_a_flushed_message_that_a_dialog_stops_is_typed_when_the_dialog_is_gone(ready):
    """F088: an exemption belongs to one delivery, and lasts until it is typed."""
    set_mode(ready)
    ready.deliver("w1", 1, text="one")
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    flush(ready)
    ready.deliver("w1", 2, text="two")
    assert agent(ready).waiting_reason == "blocked_by_dialog"
    ready.report(inputs.ProgramUnblocked, session_of(ready))
    assert words(ready) == ["one"]
    assert [row.body for row in views.held_messages(ready.broker.state, "w1")] == ["two"]


def test_nothing_more_is_typed_once_a_person_is_in_control(ready):
    """F087, W2: also what was queued before; the dialog's end and restarts change nothing of it."""
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    ready.deliver("w1", 1, text="queued before")
    set_mode(ready)
    ready.report(inputs.ProgramUnblocked, session_of(ready))
    ready.advance(600)
    ready.crash()
    ready.start()
    ready.online()
    assert ready.texts("w1") == []
    assert not [effect for effect in ready.effects if isinstance(effect, effects.TypeText)]
    set_mode(ready, "auto_inject")
    assert words(ready) == ["queued before"]


def test_an_agent_respawned_on_hold_gets_its_task_and_nothing_else(ready):
    """F089: a retried message is ahead of the task; the exemption belongs to one delivery id."""
    set_mode(ready)
    ready.auto_ready = False
    ends(ready)
    ready.spawn("w1", task="the brief")
    ready.deliver("w1", 1, text="retried")
    ready.report(inputs.ProgramReady, session_of(ready), evidence="prompt")
    assert ready.texts("w1") == ["the brief"]
    assert [row.body for row in views.held_messages(ready.broker.state, "w1")] == ["retried"]
    flush(ready)
    assert words(ready) == ["the brief", "retried"]


def test_the_task_of_a_spawn_on_hold_passes_what_waits_before_it(ready):
    """F089, the other order."""
    set_mode(ready)
    ready.auto_ready = False
    ends(ready)
    ready.tell(inputs.SpawnRequested(request_id="s2", spec=inputs.SpawnSpec(name="w1", cli="cat", task="the brief")))
    ready.accept("w1")
    ready.deliver("w1", 1, text="ahead")
    waiting = ready.broker.state.workers[session_of(ready)].waiting
    waiting.reverse()
    ready.advance(0.3)
    assert "held until they are flushed" in ready.replies["s2"].body["warning"]
    ready.report(inputs.ProgramReady, session_of(ready), evidence="prompt")
    assert ready.texts("w1") == ["the brief"]


def test_the_mode_of_a_name_outlives_its_agent_id_and_old_messages_do_not_jam_it(ready):
    """F012: held messages of the old id go back to the engine, those of the new one are flushed."""
    set_mode(ready)
    ready.deliver("w1", 1, text="for the old one")
    old = ready.agent_ids.pop("w1")
    ends(ready)
    ready.agent_ids["w1"] = "777"
    ready.spawn("w1")
    assert agent(ready).delivery_mode == "manual_flush"
    ready.deliver("w1", 1, text="for the old one", agent_id=old)
    ready.deliver("w1", 1, msg_id="N1", text="for the new one")
    flush(ready)
    assert words(ready) == ["for the new one"]
    dropped = [(item.event.reason, item.event.settled) for item in ready.events("delivery.dropped.v1")]
    assert dropped == [("worker_exited", False)]
    assert ready.events("mailbox.frame_ignored.v1")[-1].event.reason == "retired"
    assert not [delivery for delivery in ready.broker.state.deliveries.values() if not delivery.ended], "no jam"
    assert agent(ready).delivery_mode == "manual_flush"


def test_what_is_held_is_typed_in_its_sequence_however_urgent_a_later_one_is(ready):
    """D8, 4.11, ADR-0031: neither the engine's priority nor `steer` overtakes; the acknowledgements are contiguous."""
    set_mode(ready)
    ready.deliver("w1", 1, text="normal")
    data = {"id": "M2", "agent_name": "alice", "text": "urgent", "metadata": {"priority": "urgent"}}
    ready.deliver("w1", 2, mode="steer", payload={"type": "message.created", "data": data})
    assert [row.priority or None for row in views.held_messages(ready.broker.state, "w1")] == [None, 4]
    ready.auto_type = False
    flush(ready)
    while ready.pending_text:
        ready.type_next()
    assert words(ready) == ["normal", "urgent"]
    assert ready.acks("w1") == [1, 2]


def test_messages_of_this_broker_for_the_old_id_become_dead_letters_and_no_flush_types_them(ready):
    """F012 retired: they are nobody else's; the successor can be given neither them nor its own in another order."""
    ready.auto_ready = False
    ends(ready)
    ready.spawn("w1", task="for the old one")
    set_mode(ready)
    ends(ready)
    ready.auto_ready = True
    ready.agent_ids["w1"] = "777"
    ready.spawn("w1")
    ready.deliver("w1", 1, msg_id="N1", text="for the new one")
    flush(ready)
    assert words(ready) == ["for the new one"]
    (letter,) = ready.broker.state.dead_letters.values()
    assert (letter.body, letter.source, letter.agent_id) == ("for the old one", "task", "100")
    ready.tell(inputs.RedeliverRequested(request_id="again", letter_ids=(letter.letter_id,)))
    assert (ready.replies["again"].status, ready.replies["again"].body["code"]) == (409, "retired")
    assert words(ready) == ["for the new one"]
    assert agent(ready).delivery_mode == "manual_flush"
    ready.assert_fold_is_live()


def test_nothing_is_held_longer_than_thirty_days(ready):
    """D13 hold_expired: a dead letter for a person, whoever had sent it; nothing is given back to an engine that has it no more."""
    ready.deliver("w1", 1, text="x" * 20000)
    ready.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    ready.auto_ready = False
    ready.spawn("w1", task="a task")
    set_mode(ready)
    ready.deliver("w1", 2, text="two")
    assert {row.reason for row in agent(ready).holds} == {"manual_flush", "not_ready"}
    ready.jump(HOLD_S - 5)
    assert [letter.reason for letter in ready.broker.state.dead_letters.values()] == ["too_large"]
    ready.jump(10)
    assert [letter.reason for letter in ready.broker.state.dead_letters.values()] == [
        "too_large",
        "hold_expired",
        "hold_expired",
    ]
    assert (ready.events("delivery.dropped.v1"), kinds(ready, "delivery_returned")) == ([], [])
    ready.assert_fold_is_live()


def test_a_hold_is_counted_from_the_offer_whatever_the_reasons_were(ready):
    """D13: a dialog, then a person: together no longer than one of them may last."""
    ready.report(inputs.ProgramBlocked, session_of(ready), pattern="trust")
    ready.deliver("w1", 1)
    ready.jump(HOLD_S - 100)
    set_mode(ready)
    assert [item.event.until for item in ready.events("delivery.held.v1")][-1] == ready.now + 100
    ready.jump(101)
    assert [letter.reason for letter in ready.broker.state.dead_letters.values()] == ["hold_expired"]


def test_every_hold_says_since_when_why_and_until_when(ready):
    """U13; D13."""
    set_mode(ready, reason="debugging")
    ready.deliver("w1", 1)
    (row,) = agent(ready).holds
    assert row == answers.Hold(
        reason="manual_flush",
        count=1,
        by_hand_since_secs=0.0,
        since_ms=int(ready.now * 1000),
        until_ms=int((ready.now + HOLD_S) * 1000),
    )
    (held,) = kinds(ready, "delivery_held")
    assert (held["reason"], held["deadline"]) == ("manual_flush", int((ready.now + HOLD_S) * 1000))
    (open_one,) = views.status(ready.broker.state, ready.now).pending_deliveries
    assert (open_one.held, open_one.last_error, open_one.until_ms) == (True, "manual_flush", row.until_ms)


def test_each_change_of_the_mode_is_an_event_with_reason_and_revision_and_nothing_else_changes_it(ready):
    """U12."""
    first = set_mode(ready, reason="to type myself").body
    assert (first["mode"], first["held"], first["flushed"]) == ("manual_flush", 0, 0)
    assert set_mode(ready).body["revision"] == first["revision"], "the same mode again changes nothing"
    ready.deliver("w1", 1)
    ready.crash()
    ready.start()
    ready.online()
    last = set_mode(ready, "auto_inject").body
    assert last["revision"] > first["revision"], "no revision comes twice"
    assert last | {"revision": 0} == {"mode": "auto_inject", "held": 0, "revision": 0, "flushed": 1}
    changes = kinds(ready, "agent_inbound_delivery_mode_changed")
    assert [(item["previous_mode"], item["mode"], item["reason"]) for item in changes] == [
        ("auto_inject", "manual_flush", "to type myself"),
        ("manual_flush", "auto_inject", None),
    ]
    (drained,) = kinds(ready, "agent_pending_drained")
    assert (drained["count"], drained["reason"]) == (1, "delivery_mode_transition")
    order = [item["kind"] for item in ready.notified]
    assert order.index("agent_pending_drained") < order.index("delivery_injected")


def test_who_restores_a_mode_does_not_undo_the_hold_of_another(ready):
    """F124: compare-and-set on the revision."""
    mine = set_mode(ready).body["revision"]
    set_mode(ready, "auto_inject")
    theirs = set_mode(ready, reason="somebody else").body["revision"]
    answer = set_mode(ready, "auto_inject", revision=mine)
    assert (answer.status, answer.body["code"], answer.body["revision"]) == (409, "revision_conflict", theirs)
    assert agent(ready).delivery_mode == "manual_flush"
    assert set_mode(ready, "auto_inject", revision=theirs).status == 200


def test_a_release_ends_held_messages_and_says_which(ready):
    """local-api 6.3: one delivery_dropped with the ids; the engine gets its messages back, unacknowledged."""
    set_mode(ready)
    ready.deliver("w1", 1)
    ready.deliver("w1", 2)
    ready.tell(inputs.ReleaseRequested(request_id="rel", name="w1"))
    (dropped,) = kinds(ready, "delivery_dropped")
    assert (dropped["count"], dropped["reason"], dropped["event_ids"]) == (2, "agent_released", ["M1", "M2"])
    assert len(kinds(ready, "delivery_returned")) == 2
    assert ready.acks("w1") == []


def test_a_hold_can_be_lifted_when_its_agent_is_gone_and_names_nobody_has_are_unknown(ready):
    set_mode(ready)
    ready.tell(inputs.ReleaseRequested(request_id="rel", name="w1"))
    assert flush(ready).status == 404
    assert set_mode(ready).status == 404
    assert set_mode(ready, "auto_inject").body["mode"] == "auto_inject"
    assert set_mode(ready, "auto_inject").status == 404
    assert ready.broker.state.flush_holds == {}


def test_holds_are_bounded(ready, monkeypatch):
    monkeypatch.setattr("relaybroker.domain.rules.holds.MAX_FLUSH_HOLDS", 1)
    ready.spawn("w2")
    assert set_mode(ready).status == 200
    assert set_mode(ready, name="w2").status == 429
    assert MAX_FLUSH_HOLDS == 1024


def occupied(world, reason="agent_busy", patience_s=300.0):
    """The host finds the terminal occupied when it is to type what it has; it hands all of that back."""
    session = session_of(world)
    world.report(inputs.ProgramOccupied, session, reason=reason, detail="seen", patience_s=patience_s)
    handed, world.pending_text = world.pending_text, []
    for wanted in handed:
        world.report(
            inputs.TextNotTyped,
            session,
            delivery_id=wanted.delivery_id,
            attempt=wanted.attempt,
            reason=reason,
            typed="no",
        )


def reasons(world):
    """Why each message waits."""
    return [delivery.reason for delivery in world.broker.state.deliveries.values() if delivery.state == "held"]


def freed(world):
    world.auto_type = True
    world.report(inputs.ProgramFreed, session_of(world))


@pytest.fixture
def busy(ready):
    """Its program was found busy by the first message."""
    ready.auto_type = False
    ready.deliver("w1", 1, text="first")
    occupied(ready)
    return ready


@pytest.mark.parametrize(
    ("reason", "patience_s"),
    [
        ("agent_busy", 300.0),
        ("agent_busy", 0.0),
        ("agent_suspended", 0.0),
        ("composer_unclear", 0.0),
        ("human_driving", 0.0),
    ],
)
def test_a_message_waits_for_a_terminal_that_is_free_and_is_typed_once(ready, reason, patience_s):
    """F021, F084, F087: also what comes meanwhile; no failure is counted, nothing is acknowledged, the order stays."""
    ready.auto_type = False
    ready.deliver("w1", 1, text="first")
    ready.deliver("w1", 2, text="second")
    occupied(ready, reason, patience_s)
    ready.deliver("w1", 3, text="third")
    assert reasons(ready) == [reason] * 3
    ready.advance(60)
    ready.crash()
    ready.start()
    ready.online()
    assert reasons(ready) == [reason] * 3
    assert words(ready) == []
    assert ready.acks("w1") == []
    assert {delivery.failures for delivery in ready.broker.state.deliveries.values()} == {0}
    freed(ready)
    assert words(ready) == ["first", "second", "third"]
    assert ready.acks("w1")[-1] == 3


def test_a_steer_message_goes_in_while_the_program_works_with_all_that_waits_before_it(busy):
    """Spec 4.11: it does not overtake; what comes after it waits."""
    busy.auto_type = True
    busy.deliver("w1", 2, text="second")
    assert words(busy) == []
    busy.deliver("w1", 3, text="stop", mode="steer")
    assert words(busy) == ["first", "second", "stop"]
    typed = [effect for effect in busy.effects if isinstance(effect, effects.TypeText)]
    assert [(effect.steer, effect.while_busy) for effect in typed[-3:]] == [(False, True), (False, True), (True, True)]
    busy.deliver("w1", 4, text="later")
    assert words(busy)[3:] == []
    freed(busy)
    assert words(busy)[3:] == ["later"]
    assert [effect for effect in busy.effects if isinstance(effect, effects.TypeText)][-1].while_busy is False


@pytest.mark.parametrize("reason", ["agent_busy", "agent_suspended", "composer_unclear", "human_driving"])
def test_a_steer_message_waits_for_a_person_and_for_a_program_that_is_not_the_agent(ready, reason):
    """F087, SAFE-KEYS."""
    ready.auto_type = False
    ready.deliver("w1", 1, text="stop", mode="steer")
    occupied(ready, reason, patience_s=0.0)
    ready.auto_type = True
    ready.deliver("w1", 2, text="stop again", mode="steer")
    ready.advance(2000)
    assert words(ready) == []
    freed(ready)
    assert words(ready) == ["stop", "stop again"]


def test_a_message_does_not_wait_for_a_working_program_for_ever(busy):
    """ADR-0030: each by its own time; the program keeps what it is typed."""
    busy.auto_type = True
    busy.advance(200)
    busy.deliver("w1", 2, text="second")
    busy.advance(99)
    assert words(busy) == []
    busy.advance(1)
    assert words(busy) == ["first"]
    busy.advance(200)
    assert words(busy) == ["first", "second"]


def test_what_a_person_types_at_for_hours_is_kept_and_typed_in_the_end(ready):
    ready.auto_type = False
    ready.deliver("w1", 1, text="first")
    occupied(ready, "human_driving", patience_s=0.0)
    ready.advance(5 * 3600)
    assert (ready.acks("w1"), ready.events("delivery.dropped.v1")) == ([1], [])
    ready.auto_type = True
    freed(ready)
    assert words(ready) == ["first"]


def test_a_dialog_ends_what_occupied_the_terminal(busy):
    """The host says it anew when it is still so."""
    session = session_of(busy)
    busy.report(inputs.ProgramBlocked, session, pattern="trust")
    assert reasons(busy) == ["blocked_by_dialog"]
    busy.report(inputs.ProgramFreed, session)
    busy.auto_type = True
    busy.report(inputs.ProgramUnblocked, session)
    assert words(busy) == ["first"]


def test_a_message_to_an_agent_whose_messages_are_held_is_answered_as_queued(ready):
    """local-api 1.3 route 17: `queued` counts what a person holds."""
    for mode, queued in (("manual_flush", 1), ("auto_inject", 0)):
        set_mode(ready, mode)
        request_id = f"send_{mode}"
        ready.tell(inputs.SendRequested(request_id=request_id, to="w1", text="hello"))
        call = next(one for one in reversed(ready.effects) if isinstance(one, HttpCall) and one.idempotency_key)
        ready.tell(inputs.EngineAnswered(call_id=call.call_id, status=201, data={"id": f"7{queued}"}))
        assert ready.replies[request_id].body["queued"] == queued
