"""Dead letters: one per delivery, bounded, redelivered as a new attempt, purged with a record."""

from __future__ import annotations

import pytest

from relaybroker.domain import inputs
from relaybroker.domain.dead_letter import LIMIT
from relaybroker.domain.delivery import MAX_BODY_BYTES
from tests.world import World

BIG = "x" * (MAX_BODY_BYTES + 1)


@pytest.fixture
def ready(world):
    """An online world with one agent."""
    world.spawn("w1")
    return world


def lose_the_host(world):
    """The PTY host dies with everything in it; the next one is empty."""
    world.host_id, world.sessions, world.reports, world.unconfirmed = f"host_{len(world.log)}", {}, 0, []
    world.pending_text = []
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)


def make_doubtful(world, seq=1, **fields):
    """A message that was with the host when it died, and an agent that is there again."""
    world.auto_type = False
    world.deliver("w1", seq, **fields)
    lose_the_host(world)
    world.auto_type = True
    world.spawn("w1")


def refuse_text(world, times=1, typed="no", reason="pty_write_failed"):
    """The terminal takes nothing of what is next, so often."""
    for _ in range(times):
        text = world.pending_text.pop(0)
        world.report(
            inputs.TextNotTyped,
            text.session_id,
            delivery_id=text.delivery_id,
            attempt=text.attempt,
            reason=reason,
            typed=typed,
        )
        world.advance(40)


def fail_to_write(world, seq, **fields):
    world.auto_type = False
    world.deliver("w1", seq, **fields)
    refuse_text(world, 3)
    world.auto_type = True


def redeliver(world, *letter_ids, **options):
    request_id = f"redeliver_{len(world.log)}"
    world.tell(inputs.RedeliverRequested(request_id=request_id, letter_ids=letter_ids, **options))
    return world.replies[request_id]


def letters(world):
    return world.broker.state.dead_letters


def test_what_cannot_be_typed_is_kept_with_its_words_and_only_then_acknowledged(ready):
    """F013: the write fails for good; the ack follows the durable dead letter."""
    ready.auto_type = False
    ready.deliver("w1", 1, text="unwritable")
    refuse_text(ready, 2)
    assert ready.acks("w1") == []
    refuse_text(ready)
    (letter,) = letters(ready).values()
    assert (letter.body, letter.reason, letter.seq, letter.in_doubt) == ("unwritable", "pty_write_failed", 1, False)
    assert ready.acks("w1") == [1]
    buried = next(item for item in ready.log if item.event.topic == "delivery.dead_lettered.v1")
    sent = [item for item in ready.log if item.event.topic == "mailbox.ack_sent.v1"]
    assert [item.version > buried.version for item in sent] == [True]
    ready.assert_fold_is_live()


def test_a_dead_letter_below_an_open_message_counts_after_any_number_of_restarts(ready):
    """F016: seq 1 is a dead letter, the broker restarts twice, 2 is typed: one ack with 2."""
    ready.deliver("w1", 1, text=BIG)
    ready.auto_type = False
    ready.deliver("w1", 2, text="two")
    for _ in range(2):
        ready.crash()
        ready.pending_text = []
        ready.start()
        ready.online()
    assert max(ready.acks("w1")) == 1
    assert ready.broker.state.mailboxes[ready.agent_ids["w1"]].floor == 1
    while ready.pending_text:
        ready.type_next()
    assert ready.acks("w1")[-1] == 2
    assert len(ready.texts("w1")) == 1


def test_a_message_that_is_too_long_is_kept_as_far_as_it_would_be_typed_and_never_redelivered(ready):
    """F083."""
    ready.deliver("w1", 1, text="é" * MAX_BODY_BYTES)
    (letter,) = letters(ready).values()
    assert letter.body_bytes == 2 * MAX_BODY_BYTES
    assert letter.body == "é" * (MAX_BODY_BYTES // 2)
    answer = redeliver(ready, letter.letter_id, force=True)
    assert (answer.status, answer.body["code"]) == (409, "too_large")
    assert list(letters(ready)) == [letter.letter_id]


def test_one_letter_however_often_the_engine_sends_the_frame(ready):
    """F025, B05: ten copies make one chain of decisions and one dead letter, and push out no other."""
    ready.deliver("w1", 1, msg_id="FIRST", text=BIG)
    for _ in range(10):
        ready.deliver("w1", 2, text=BIG)
    assert [letter.msg_id for letter in letters(ready).values()] == ["FIRST", "M2"]
    assert len(ready.events("delivery.dead_lettered.v1")) == 2
    assert [item.event.reason for item in ready.events("mailbox.frame_ignored.v1")] == ["stale"] * 9


def test_ten_frames_for_an_agent_that_is_gone_are_one_dead_letter(ready):
    """F025: one chain of decisions; the acknowledgement leaves behind the letter."""
    ready.tell(inputs.ReleaseRequested(request_id="rel", name="w1"))
    for _ in range(10):
        ready.deliver("w1", 1)
    assert [letter.reason for letter in letters(ready).values()] == ["retired"]
    assert set(ready.acks("w1")) == {1}
    assert len(ready.events("mailbox.frame_ignored.v1")) == 1


def test_a_dead_letter_is_kept_when_nobody_listens(ready):
    """F026: no `/ws` client decides anything; the notification is a consequence of the record."""
    before = len(ready.notified)
    ready.deliver("w1", 1, text=BIG)
    assert [item["kind"] for item in ready.notified[before:]] == [
        "relay_inbound",
        "delivery_failed",
        "message_delivery_failed",
        "dead_letter_added",
    ]
    ready.crash()
    assert [letter.msg_id for letter in letters(ready).values()] == ["M1"]


def test_redelivery_types_it_as_a_new_attempt_and_moves_no_cursor(ready):
    fail_to_write(ready, 1, text="again please")
    acks = ready.acks("w1")
    answer = redeliver(ready, *letters(ready))
    assert answer.body["redelivered"] == [
        {"id": "del_M1_100", "attempt": 2, "name": "w1", "event_id": "M1"},
    ]
    assert ready.texts("w1") == ["Relay message from alice in #general [M1]: again please"]
    assert letters(ready) == {}
    assert ready.acks("w1") == acks, "nothing is owed to the engine"
    ready.deliver("w1", 2, text="two")
    assert ready.acks("w1")[-1] == 2
    ready.assert_fold_is_live()


def test_a_late_report_about_the_first_attempt_leaves_the_second_one_open(ready):
    """F028: recorded, and nothing else."""
    ready.auto_type = False
    ready.deliver("w1", 1)
    first = ready.pending_text[0]
    refuse_text(ready, 3)
    redeliver(ready, *letters(ready))
    second = ready.pending_text[0]
    assert first.delivery_id != second.delivery_id
    late = {"delivery_id": first.delivery_id, "attempt": 1}
    ready.report(
        inputs.TextTyped, first.session_id, bytes_written=3, evidence="echo", wait_ms=1.0, repeated=False, **late
    )
    ready.report(inputs.TextNotTyped, first.session_id, reason="pty_write_failed", typed="partly", **late)
    ready.report(inputs.TextVerified, first.session_id, delivery_id=first.delivery_id, verification="timeout_fallback")
    ignored = [item.event.what for item in ready.events("host.report_ignored.v1")]
    assert ignored[-3:] == ["TextTyped", "TextNotTyped", "TextVerified"]
    (open_attempt,) = ready.broker.state.deliveries.values()
    assert (open_attempt.state, open_attempt.attempt) == ("injecting", 2)
    ready.type_next()
    assert len(ready.texts("w1")) == 1


def test_redelivery_to_a_program_that_does_not_run_is_skipped_and_the_letter_stays(ready):
    """F029 not_running: the agent is still registered, its program is being ended."""
    fail_to_write(ready, 1)
    (letter_id,) = letters(ready)
    session = ready.broker.state.registration_of("w1").session_id
    del ready.sessions[session]  # its end is not reported yet
    ready.tell(inputs.ReleaseRequested(request_id="rel", name="w1"))
    assert ready.broker.state.registration_of("w1") is not None
    answer = redeliver(ready, letter_id)
    assert (answer.status, answer.body["code"]) == (409, "not_running")
    assert list(letters(ready)) == [letter_id]
    assert ready.events("dead_letter.redelivery_skipped.v1")[0].event.reason == "not_running"
    every = redeliver(ready, every=True)
    assert (every.status, every.body["redelivered"], len(every.body["skipped"])) == (200, [], 1)


def test_a_program_that_dies_before_the_redelivered_text_gives_the_letter_back(ready):
    """F029, the other order: the end of the program is known only after the redelivery."""
    fail_to_write(ready, 1, text="keep me")
    ready.auto_type = False
    redeliver(ready, *letters(ready))
    refuse_by = ready.pending_text.pop()
    session = refuse_by.session_id
    ready.report(
        inputs.TextNotTyped,
        session,
        delivery_id=refuse_by.delivery_id,
        attempt=refuse_by.attempt,
        reason="worker_exited",
        typed="no",
    )
    ready.report(inputs.ProgramExited, session, code=1, signal=None, last_output="", uptime_s=1.0, requested=False)
    (letter,) = letters(ready).values()
    assert (letter.letter_id, letter.attempt, letter.reason, letter.body) == (
        "del_M1_100", 2, "worker_exited", "keep me",
    )  # fmt: skip
    ready.auto_type = True
    ready.spawn("w1")
    assert redeliver(ready, letter.letter_id).body["redelivered"][0]["attempt"] == 3
    assert len(ready.texts("w1")) == 1
    ready.assert_fold_is_live()


def test_what_may_have_been_typed_is_redelivered_only_by_force_and_with_the_mark(ready):
    """F030 ambiguous: TYPED-ONCE, never again silently."""
    make_doubtful(ready, text="once")
    (letter,) = letters(ready).values()
    assert (letter.in_doubt, letter.reason) == (True, "ambiguous")
    answer = redeliver(ready, letter.letter_id)
    assert (answer.status, answer.body["code"]) == (409, "ambiguous")
    assert ready.texts("w1") == []
    assert redeliver(ready, letter.letter_id, force=True).status == 200
    assert ready.texts("w1") == ["Relay message from alice in #general [M1 possible-duplicate]: once"]


def test_a_letter_is_never_given_to_a_successor_of_the_name(ready):
    """F012 retired, IDENTITY."""
    make_doubtful(ready)
    ready.tell(inputs.ReleaseRequested(request_id="rel", name="w1"))
    ready.agent_ids["w1"] = "777"
    ready.spawn("w1")
    answer = redeliver(ready, *letters(ready), force=True)
    assert (answer.status, answer.body["code"]) == (409, "retired")
    assert ready.texts("w1") == []


def test_a_task_that_was_not_typed_can_be_redelivered_as_it_was(make_world):
    world = make_world()
    world.start()
    world.online()
    world.auto_type = False
    world.spawn("w1", task="the brief")
    refuse_text(world, 3)
    world.auto_type = True
    (letter,) = letters(world).values()
    assert redeliver(world, letter.letter_id).status == 200
    assert world.texts("w1") == ["the brief"]


def test_the_list_holds_no_more_than_its_limit_and_every_letter_that_leaves_has_a_record(ready):
    """F036 archived: over the limit, after a start, a kill and a start."""
    for seq in range(1, LIMIT + 4):
        ready.deliver("w1", seq, text=BIG)
    assert len(letters(ready)) == LIMIT
    for _ in range(2):
        ready.crash()
        ready.start()
        assert len(letters(ready)) == LIMIT
    removed = ready.events("dead_letter.removed.v1")
    assert [(item.event.letter_id, item.event.reason) for item in removed] == [
        (f"del_M{seq}_100", "archived") for seq in (1, 2, 3)
    ]
    assert [item["id"] for item in ready.notified if item["kind"] == "dead_letter_removed"] == [
        f"del_M{seq}_100" for seq in (1, 2, 3)
    ]


def deliver_from(world, sender, seq, text):
    data = {"id": f"M{seq}", "agent_id": f"id-{sender}", "agent_name": sender, "text": text, "channel_name": "general"}
    world.deliver("w1", seq, payload={"type": "message.created", "data": data})


def test_who_floods_the_list_pushes_out_its_own_letters_and_nobody_elses(ready, monkeypatch):
    """F036: the oldest of the sender that has the most leaves."""
    monkeypatch.setattr("relaybroker.domain.rules.dead_letter_removal.LIMIT", 4)
    for seq, sender in enumerate(("bob", "cay", *["flood"] * 6, "dan"), start=1):
        deliver_from(ready, sender, seq, BIG)
    assert [(letter.sender, letter.seq) for letter in letters(ready).values()] == [
        ("bob", 1),
        ("cay", 2),
        ("flood", 8),
        ("dan", 9),
    ]
    assert {item.event.reason for item in ready.events("dead_letter.removed.v1")} == {"archived"}


def test_a_sender_with_too_much_waiting_gets_dead_letters_and_others_are_served(ready, monkeypatch):
    """BOUNDED: of all agents of the node together; it can be redelivered when there is room, and the rest stays in order."""
    monkeypatch.setattr("relaybroker.domain.rules.mailboxes.MAX_WAITING_OF_SENDER", 2)
    session = next(iter(ready.broker.state.workers))
    ready.report(inputs.ProgramBlocked, session, pattern="trust")
    for seq, sender in enumerate(("flood", "flood", "flood", "bob"), start=1):
        deliver_from(ready, sender, seq, f"m{seq}")
    (letter,) = letters(ready).values()
    assert (letter.seq, letter.reason) == (3, "sender_quota")
    assert ready.broker.state.waiting_of == {"flood": 2, "bob": 1}
    ready.report(inputs.ProgramUnblocked, session)
    assert ready.broker.state.waiting_of == {}
    assert redeliver(ready, letter.letter_id).status == 200
    assert [text.rpartition(": ")[2] for text in ready.texts("w1")] == ["m1", "m2", "m4", "m3"]
    ready.assert_fold_is_live()


def test_a_log_from_before_the_limit_is_brought_within_it_at_the_start(ready, monkeypatch):
    """F036: the broker starts with a list over its limit."""
    for seq in range(1, 8):
        ready.deliver("w1", seq, text=BIG)
    monkeypatch.setattr("relaybroker.domain.rules.dead_letter_removal.LIMIT", 5)
    for _ in range(2):
        ready.crash()
        ready.start()
        assert [letter.seq for letter in letters(ready).values()] == [3, 4, 5, 6, 7]
    assert len(ready.events("dead_letter.removed.v1")) == 2


def test_purging_removes_what_is_named_or_all_of_one_agent_with_a_record_each(ready):
    ready.spawn("w2")
    for name in ("w1", "w2"):
        for seq in (1, 2):
            ready.deliver(name, seq, msg_id=f"{name}-{seq}", text=BIG)
    ready.tell(inputs.PurgeRequested(request_id="p1", letter_ids=("del_w1-1_100",)))
    assert ready.replies["p1"].body == {"success": True, "purged": ["del_w1-1_100"]}
    ready.tell(inputs.PurgeRequested(request_id="p2", every=True, agent="w2"))
    assert [letter.msg_id for letter in letters(ready).values()] == ["w1-2"]
    assert [item.event.reason for item in ready.events("dead_letter.removed.v1")] == ["purged"] * 3
    ready.tell(inputs.PurgeRequested(request_id="p3", letter_ids=("del_w1-1_100",)))
    assert (ready.replies["p3"].status, ready.replies["p3"].body["code"]) == (404, "not_found")
    ready.tell(inputs.PurgeRequested(request_id="p4", every=True))
    ready.tell(inputs.PurgeRequested(request_id="p5", every=True))
    assert ready.replies["p5"].body["purged"] == []
    ready.assert_fold_is_live()


def test_a_kill_at_any_record_on_the_way_to_the_list_and_back_leaves_exactly_one_owner():
    """F027 ONE-OWNER: engine (not acked), broker (open), or list; never none, never two."""
    world = World()
    world.start()
    world.online()
    world.spawn("w1")
    fail_to_write(world, 1, text="whose")
    redeliver(world, *letters(world))
    whole = world.log
    offered = next(item.version for item in whole if item.event.topic == "delivery.offered.v1")
    for cut in range(offered, len(whole) + 1):
        world.log = whole[:cut]
        state = world.fold()
        box = state.mailboxes[world.agent_ids["w1"]]
        is_open = [
            delivery for delivery in state.deliveries.values() if not delivery.ended and delivery.state != "injected"
        ]
        typed = any(item.event.topic == "delivery.injected.v1" for item in world.log)
        owners = len(is_open) + len(state.dead_letters) + typed
        assert owners == 1, f"after {whole[cut - 1].event.topic}: {owners} owners"
        assert box.sent_ack < 1 or state.dead_letters or typed or is_open, "acknowledged and nobody's"
