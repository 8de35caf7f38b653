"""The sequence of one agent under frames that come late, twice, out of order, from afar or as somebody else's."""

from __future__ import annotations

from relaybroker.domain.mailbox import BUFFER_LIMIT, LATE_KEPT, SEEN_WINDOW


def reasons(world, topic="mailbox.frame_ignored.v1"):
    return [item.event.reason for item in world.events(topic)]


def test_a_settled_delivery_id_that_comes_with_another_message_is_refused(world):
    """F010 delivery_id_reused: neither typed nor acknowledged as the old one."""
    world.spawn("w1")
    world.deliver("w1", 1, msg_id="M1", delivery_id="del_x")
    session = world.broker.state.registration_of("w1").session_id
    world.report_verified(session)
    assert world.broker.state.deliveries == {}
    acks = world.acks("w1")

    world.deliver("w1", 2, msg_id="M2", delivery_id="del_x")
    assert reasons(world) == ["delivery_id_reused"]
    assert len(world.texts("w1")) == 1
    assert world.acks("w1") == acks
    assert any(
        body["kind"] == "delivery_undeliverable" and body["reason"] == "delivery_id_reused" for body in world.notified
    )
    world.assert_fold_is_live()


def test_a_refused_delivery_id_leaves_a_hole_that_is_lost_in_time(world):
    """F010, D9: the agent does not wait for ever behind it."""
    world.spawn("w1")
    world.deliver("w1", 1, msg_id="M1", delivery_id="del_x")
    world.deliver("w1", 2, msg_id="M2", delivery_id="del_x")
    world.deliver("w1", 3)
    world.advance(10.5)
    assert world.acks("w1")[-1] == 3
    assert [(item.event.first, item.event.last) for item in world.events("mailbox.range_lost.v1")] == [(2, 2)]


def advance_answered(world, seconds):
    """The engine accepts the registrations that ask for its rows, and has none."""
    register = world.sent("node.register")[-1]["id"]
    for _ in range(round(seconds)):
        world.advance(1.0)
        if (asked := world.sent("node.register")[-1]["id"]) != register:
            register = asked
            world.frame(type="reply", id=register, ok=True, data={"id": world.settings.node_id})


def test_a_hole_that_opens_behind_another_has_a_wait_of_its_own(world):
    """NO-LOSS, 4.6: frames overtake each other all the time, and the buffer is never empty in between."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 3)
    advance_answered(world, 9.0)
    world.deliver("w1", 5)
    world.deliver("w1", 2)
    advance_answered(world, 8.0)
    assert world.events("mailbox.range_lost.v1") == []
    assert [item.event.tries for item in world.events("mailbox.resync_asked.v1")] == [1, 2, 1, 2]
    world.deliver("w1", 4)
    assert len(world.texts("w1")) == 5
    world.assert_fold_is_live()


def test_holes_wait_side_by_side(world):
    """D9: not one after the other."""
    world.spawn("w1")
    for seq in (1, 3, 5, 7):
        world.deliver("w1", seq)
    world.advance(10.5)
    assert [item.event.first for item in world.events("mailbox.range_lost.v1")] == [2, 4, 6]
    assert world.acks("w1")[-1] == 7


def test_windows_do_not_follow_the_clock(world):
    """F035: an hour back, nothing is typed twice."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 0, msg_id="R", delivery_id="evt_r")
    world.now -= 3600
    world.crash()
    world.start()
    world.online()
    world.deliver("w1", 1)
    world.deliver("w1", 2, msg_id="M1", delivery_id="again")
    world.deliver("w1", 0, msg_id="R", delivery_id="evt_r")
    assert len(world.texts("w1")) == 2
    assert reasons(world) == ["stale", "duplicate", "duplicate"]
    assert world.acks("w1")[-1] == 2


def test_a_poison_frame_that_comes_again_is_stale_and_no_conflict(world):
    """S16, 4.8: the same row, offered again before its acknowledgement arrived."""
    world.spawn("w1")
    world.deliver("w1", 1, msg_id=" ", payload={"type": "message.created"})
    world.deliver("w1", 2, payload=None)
    world.deliver("w1", 1, msg_id=" ", payload={"type": "message.created"})
    world.deliver("w1", 2, payload=None)
    assert reasons(world) == ["stale", "stale"]
    assert world.acks("w1") == [1, 2, 2, 2]
    assert world.texts("w1") == []


def test_a_buffered_frame_that_comes_again_is_no_conflict_however_its_id_is_spaced(world):
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 3, msg_id=" M3 ")
    world.deliver("w1", 3, msg_id="M3")
    world.deliver("w1", 3, msg_id="OTHER")
    assert reasons(world) == ["in_progress", "seq_conflict"]


def test_frames_without_agent_id_and_delivery_id_are_kept_apart_by_agent(world):
    """4.8: the id made for a frame holds the recipient, also when only its name was given."""
    for name in ("w1", "w2"):
        world.spawn(name)
        world.deliver(name, 1, agent_id=None, delivery_id=None)
    assert [len(world.texts(name)) for name in ("w1", "w2")] == [1, 1]
    assert [item.event.delivery_id for item in world.events("delivery.offered.v1")] == ["del_M1_100", "del_M1_101"]


def test_fan_out_frames_without_delivery_id_are_told_apart_by_type(world):
    """4.1: several seq-0 frames share one message id."""
    world.spawn("w1")
    world.auto_type = False
    for kind in ("action.completed", "action.failed", "action.completed"):
        world.deliver("w1", 0, msg_id="inv_1", delivery_id="", payload={"type": kind, "data": {"output": kind}})
    assert reasons(world) == ["duplicate"]
    assert len(world.pending_text) == 2


def test_a_late_frame_below_an_adopted_base_is_typed_and_holds_the_acknowledgement_back(world):
    """4.5: a live push overtook the replay. No ack leaves before the late one is settled."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 43)
    world.advance(0.6)
    world.deliver("w1", 42)
    assert [item.event.late for item in world.events("delivery.offered.v1")] == [False, True]
    world.type_next()
    assert world.acks("w1") == []
    world.type_next()
    assert world.acks("w1") == [43]
    assert world.broker.state.counters.acked == 2
    world.deliver("w1", 42)
    assert reasons(world) == ["stale"]
    world.assert_fold_is_live()


def test_a_late_frame_after_the_first_acknowledgement_is_typed_once_and_owes_nothing(world):
    """4.5: admitted out of order, flagged; the acknowledgement does not fall (D2)."""
    world.spawn("w1")
    world.deliver("w1", 43)
    world.advance(0.6)
    assert world.acks("w1") == [43]
    world.deliver("w1", 42)
    world.deliver("w1", 44)
    world.deliver("w1", 41, msg_id="M43", delivery_id="known")
    assert [text[-6:-5] for text in world.texts("w1")] == ["3", "2", "4"]
    assert world.acks("w1") == [43, 44, 44]
    assert world.broker.state.counters.acked == 3
    assert world.broker.state.mailboxes["100"].typed == {}
    world.assert_fold_is_live()


def test_a_late_frame_is_typed_once_also_after_a_flood_that_made_its_message_id_forgotten(world):
    """TYPED-ONCE, ADR-0028: the engine offers it again because no acknowledgement arrived."""
    world.spawn("w1")
    world.deliver("w1", 43)
    world.advance(0.6)
    world.deliver("w1", 42)
    world.deliver("w1", 41, msg_id="M42", delivery_id="twin")
    for seq in range(44, 44 + SEEN_WINDOW):
        world.deliver("w1", seq)
    world.report_verified(world.broker.state.registration_of("w1").session_id)
    assert world.broker.state.deliveries == {}
    assert "M42" not in world.broker.state.mailboxes["100"].seen
    typed = len(world.texts("w1"))
    world.deliver("w1", 42)
    world.deliver("w1", 42, msg_id="OTHER", delivery_id="other")
    world.deliver("w1", 41, msg_id="M42", delivery_id="twin")
    assert reasons(world) == ["stale"] * 4
    assert len(world.texts("w1")) == typed
    world.assert_fold_is_live()


def test_more_late_frames_than_are_remembered_are_each_typed_once(world):
    """BOUNDED, TYPED-ONCE: what is forgotten counts as typed."""
    world.spawn("w1")
    world.deliver("w1", 2 * LATE_KEPT)
    world.advance(0.6)
    for _ in range(2):
        for seq in range(1, LATE_KEPT + 3):
            world.deliver("w1", seq)
        world.report_verified(world.broker.state.registration_of("w1").session_id)
    assert len(world.texts("w1")) == LATE_KEPT + 3
    assert len(world.broker.state.mailboxes["100"].came_late) == LATE_KEPT


def test_a_frame_below_a_proven_base_is_stale(world):
    """4.2 row 6: seq 1 came first, or the engine gave its cursor."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 2)
    world.deliver("w1", 1)
    assert reasons(world) == ["stale"]


def test_a_number_from_far_away_costs_no_time_and_no_memory(world):
    """BOUNDED: the range up to it is lost as a range."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 2**63)
    world.advance(10.5)
    assert world.acks("w1")[-1] == 2**63
    assert len(world.broker.state.mailboxes["100"].settled) == 0
    world.assert_fold_is_live()


def test_a_lost_range_is_acknowledged_only_after_what_is_open_below_it(world):
    """D1."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    world.deliver("w1", 4)
    world.advance(10.5)
    assert world.acks("w1") == []
    world.pending_text[0], world.pending_text[1] = world.pending_text[1], world.pending_text[0]
    world.type_next()
    assert world.acks("w1") == []
    world.type_next()
    assert world.acks("w1") == [4]


def test_more_frames_than_the_buffer_holds_are_all_typed_behind_a_hole(world):
    """4.6: the highest are refused, asked for again, and nothing but the hole is lost."""
    world.spawn("w1")
    last = BUFFER_LIMIT + 40
    for _ in range(8):
        for seq in (1, *range(3, last + 1)):
            world.deliver("w1", seq)
        world.live(2.5)
    for seq in range(1, last + 1):
        world.deliver("w1", seq)
    assert world.acks("w1")[-1] == last
    assert len(world.texts("w1")) == last - 1
    assert [(item.event.first, item.event.last) for item in world.events("mailbox.range_lost.v1")] == [(2, 2)]


def test_more_frames_than_the_buffer_holds_before_the_base_is_known_start_at_the_lowest(world):
    """4.5: the base is taken after half a second, full buffer or not."""
    world.spawn("w1")
    for seq in range(10 + BUFFER_LIMIT + 5, 9, -1):
        world.deliver("w1", seq)
    world.advance(0.6)
    assert world.events("mailbox.based.v1")[-1].event.base == 9
    for seq in range(10, 10 + BUFFER_LIMIT + 6):
        world.deliver("w1", seq)
    assert world.acks("w1")[-1] == 10 + BUFFER_LIMIT + 5
    assert len(world.texts("w1")) == BUFFER_LIMIT + 6
