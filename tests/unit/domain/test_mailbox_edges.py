"""The sequence of one agent by itself, at the edges of its rules: what `make mutate` found that no test held."""

import pytest

from relaybroker.domain import mailbox
from relaybroker.domain.mailbox import (
    BUFFER_LIMIT,
    COLLECT_S,
    GIVE_UP_S,
    LATE_KEPT,
    RESYNC_AFTER_S,
    SEEN_WINDOW,
    Judgement,
    Mailbox,
    Verdict,
)
from relaybroker.domain.reasons import Reason


def ignored(reason, *, advances=False):
    return Judgement(Verdict.IGNORE, reason, advances)


@pytest.fixture
def box():
    """A mailbox whose numbers begin with 1."""
    made = Mailbox("a1")
    made.start_at(0, adopted=False)
    return made


def admitted(box, *seqs):
    """These numbers, each with a message and a delivery of its own."""
    for seq in seqs:
        box.admit(seq, f"m{seq}", "", f"delivery:{seq}", f"del_{seq}")
    return box


def settled(box, *seqs):
    for seq in seqs:
        box.settle(seq)
    return box


# --- verdicts -----------------------------------------------------------------------------------------------------------------


def test_each_verdict_says_why(box):
    admitted(box, 1, 2)
    assert box.judge(1, "other", "") == ignored(Reason.SEQ_CONFLICT)
    assert box.judge(2, "m2", "") == ignored(Reason.IN_PROGRESS)
    settled(box, 1)
    assert box.judge(1, "m1", "") == ignored(Reason.STALE)
    assert box.judge(3, "m2", "") == ignored(Reason.DUPLICATE, advances=True)
    assert box.judge(3, "m3", "") == Judgement(Verdict.ADMIT)
    assert box.judge(3, "m3", "", is_copy=True) == ignored(Reason.DUPLICATE, advances=True)
    assert box.judge(4, "m4", "") == Judgement(Verdict.BUFFER, Reason.GAP_WAIT)


def test_a_number_that_waits_is_compared_by_its_message_before_the_base_is_known_as_well():
    box = Mailbox("a1")
    assert box.judge(7, "m7", "") == Judgement(Verdict.BUFFER, Reason.GAP_WAIT)
    box.hold_back(7, {"msg_id": "m7"}, 1.0)
    box.hold_back(8, {"msg_id": " "}, 1.0)
    assert box.judge(7, "m7", "") == ignored(Reason.IN_PROGRESS)
    assert box.judge(7, "other", "") == ignored(Reason.SEQ_CONFLICT)
    assert box.judge(8, "any", "") == ignored(Reason.IN_PROGRESS), "a frame without a usable id is no other message"


def test_a_full_buffer_takes_what_is_nearer_and_the_farthest_gives_way(box):
    for seq in range(3, 3 + BUFFER_LIMIT):
        assert box.judge(seq, f"m{seq}", "") == Judgement(Verdict.BUFFER, Reason.GAP_WAIT)
        box.hold_back(seq, {"msg_id": f"m{seq}"}, 1.0)
    farthest = max(box.buffer)
    assert box.judge(farthest + 1, "far", "") == ignored(Reason.HOLD_FULL)
    assert box.judge(2, "near", "") == Judgement(Verdict.BUFFER, Reason.GAP_WAIT)
    box.hold_back(2, {"msg_id": "near"}, 1.0)
    assert len(box.buffer) == len(box.buffered_at) == BUFFER_LIMIT
    assert (2 in box.buffer, farthest in box.buffer) == (True, False)


def test_only_while_something_is_undecided_may_a_message_have_been_given(box):
    assert not box.may_be_given(mailbox.UNNAMED)
    assert not box.may_be_given("ada")
    box.undecided["here_1"] = "ada"
    assert (box.may_be_given("Ada"), box.may_be_given(mailbox.UNNAMED), box.may_be_given("bob")) == (True, True, False)


def test_below_an_unadopted_base_nothing_comes_late():
    box = Mailbox("a1")
    box.start_at(5, adopted=True)
    assert box.judge(5, "m5", "") == Judgement(Verdict.ADMIT)
    assert box.judge(1, "m1", "") == Judgement(Verdict.ADMIT)
    box.start_at(5, adopted=False)
    assert box.judge(5, "m5", "") == ignored(Reason.STALE)


def test_the_oldest_late_numbers_are_forgotten_together_and_count_as_come():
    box = Mailbox("a1")
    base = LATE_KEPT + 10
    box.start_at(base, adopted=True)
    for seq in range(2, LATE_KEPT + 3):
        box.came(seq)
    assert (len(box.came_late), box.late_from) == (LATE_KEPT, 3), "2 was pushed out, and 1 goes with it"
    assert box.judge(1, "m1", "") == ignored(Reason.STALE)
    assert box.judge(2, "m2", "") == ignored(Reason.STALE)
    assert box.judge(LATE_KEPT + 3, "x", "") == Judgement(Verdict.ADMIT)


# --- the base -------------------------------------------------------------------------------------------------------------------


def test_an_engine_that_advances_the_base_settles_all_below_it_and_nothing_above(box):
    admitted(box, 1, 2, 3, 4, 5)
    settled(box, 2, 5)
    for seq in (1, 3, 4):
        box.give_back(seq, 1, doubtful="")
    assert (box.floor, box.settled) == (0, {2, 5})
    box.start_at(3, adopted=False)
    assert (box.floor, box.settled, box.returned) == (3, {5}, {4: 1})


def test_a_base_at_the_floor_changes_nothing(box):
    admitted(box, 1, 2)
    box.give_back(2, 1, doubtful="")
    box.settle(1)
    box.start_at(1, adopted=False)
    assert (box.floor, box.settled, box.returned) == (1, set(), {2: 1})
    late = Mailbox("a1")
    late.start_at(5, adopted=True)
    admitted(late, 3)
    late.give_back(3, 1, doubtful="")
    late.start_at(5, adopted=True)
    assert late.returned == {3: 1}, "a late number is below the floor, and still to come"


def test_what_waited_below_a_new_base_waits_no_longer(box):
    for seq in (2, 3, 4):
        box.hold_back(seq, {"msg_id": f"m{seq}"}, float(seq))
    box.start_at(3, adopted=False)
    assert (list(box.buffer), box.buffered_at, box.gap_since) == ([4], {4: 4.0}, 4.0)


# --- admitting and settling -----------------------------------------------------------------------------------------------------


def test_an_admitted_number_is_returned_no_more_and_its_message_awaited_no_more(box):
    box.publish("author", "m1", 5.0)
    box.publish("other", "else", 6.0)
    admitted(box, 1)
    assert box.awaited == {"other": ("else", 6.0)}
    box.give_back(1, 2, doubtful="m1")
    admitted(box, 1)
    assert (box.returned, box.open, box.late) == ({}, {1: "delivery:1"}, set())
    assert box.judge(1, "m1", "") == ignored(Reason.IN_PROGRESS)


def test_without_a_delivery_id_none_is_remembered(box):
    box.admit(1, "m1", "", "delivery:1")
    assert box.ids == {}


def test_of_a_sender_the_newest_message_is_awaited_and_one_that_came_is_not(box):
    admitted(box, 1)
    box.publish("author", "m1", 1.0)
    assert box.awaited == {}
    box.publish("author", "first", 1.0)
    box.publish("other", "else", 2.0)
    box.publish("author", "second", 3.0)
    assert list(box.awaited.items()) == [("other", ("else", 2.0)), ("author", ("second", 3.0))]


def test_as_many_senders_are_awaited_as_the_bound_says(box):
    for number in range(mailbox.AWAITED_KEPT + 1):
        box.publish(f"a{number}", f"p{number}", 1.0)
    assert len(box.awaited) == mailbox.AWAITED_KEPT
    assert "a0" not in box.awaited


def test_as_many_messages_are_remembered_as_the_window_says(box):
    for number in range(SEEN_WINDOW + 1):
        box.given_from_here(f"m{number}")
    assert (len(box.seen), "m0" in box.seen, box.seen["m1"]) == (SEEN_WINDOW, False, 0)


def test_the_copy_of_what_was_given_here_takes_its_number_and_its_delivery(box):
    box.recognise(1, "m1", "delivery:x", "del_1", is_typed=True)
    assert (box.typed, box.open, box.floor, box.seen, box.ids) == ({1: "delivery:x"}, {}, 1, {"m1": 1}, {"del_1": "m1"})
    box.recognise(2, "m2", "delivery:y", "del_2", is_typed=False)
    assert (box.open, box.floor, box.fan) == ({2: "delivery:y"}, 1, {})


def test_settling_what_is_settled_leaves_nothing_behind(box):
    settled(admitted(box, 1), 1, 1)
    assert (box.floor, box.settled) == (1, set())


def test_a_number_that_is_given_back_is_open_no_more_and_its_message_unknown(box):
    admitted(box, 1, 2)
    box.late.add(1)
    box.passed_since = 7.0
    box.give_back(1, 3, doubtful="")
    assert (box.open, box.late, box.returned, box.seen) == ({2: "delivery:2"}, set(), {1: 3}, {"m2": 2})
    assert (box.passed_since, box.doubtful) == (0.0, {})
    box.give_back(9, 1, doubtful="m9")
    assert box.is_doubtful("m9"), "also one that is not open here"


def test_a_filled_place_knows_its_message_and_a_doubt_goes_on_where_it_is_open(box):
    box.publish("author", "m2", 1.0)
    box.skip(1, "m2")
    assert (box.seen, box.awaited, box.floor) == ({"m2": 1}, {}, 1)
    admitted(box, 2, 3)
    box.doubtful[2] = "m3"
    box.skip(2, "m3")
    assert box.doubtful == {3: "m3"}
    settled(box, 3)
    box.doubtful[4] = "gone"
    box.skip(4, "gone")
    assert box.doubtful == {}, "its message is open under no other number"
    admitted(box, 5)
    box.skip(6, "m5")
    assert box.doubtful == {}, "without a doubt none is made"


# --- gaps -----------------------------------------------------------------------------------------------------------------------


def test_a_returned_number_is_passed_by_a_later_one_only(box):
    admitted(box, 1, 2)
    box.give_back(1, 1, doubtful="")
    box.passed(1, 5.0)
    assert box.passed_since == 0.0
    box.passed(2, 6.0)
    box.passed(2, 7.0)
    assert box.passed_since == 6.0


def test_holes_are_the_gap_or_the_returned_numbers_that_were_passed_by_in_ranges(box):
    assert box.holes() == []
    admitted(box, 1, 2, 3, 4, 5)
    box.hold_back(8, {}, 1.0)
    assert box.holes() == [(6, 7)]
    for seq in (1, 2, 3, 5):
        box.give_back(seq, 1, doubtful="")
    assert box.holes() == [(6, 7)], "nothing has passed them by"
    box.passed(9, 2.0)
    assert box.holes() == [(1, 3), (5, 5)]


def test_the_steps_of_a_gap_are_counted_from_its_oldest_frame_and_begin_anew_with_another_gap(box):
    box.hold_back(3, {}, 10.0)
    box.hold_back(5, {}, 20.0)
    assert (box.gap_since, box.deadline) == (10.0, 10.0 + RESYNC_AFTER_S[0])
    box.resyncs = 2
    assert box.deadline == 10.0 + GIVE_UP_S
    box.hold_back(6, {}, 30.0)
    assert box.resyncs == 2, "the same gap"
    box.refuse(3)
    assert (list(box.buffer), box.gap_since, box.resyncs) == ([5, 6], 20.0, 0), "the one that opened later"
    box.refuse(5)
    box.refuse(6)
    assert (box.gap_since, box.deadline) == (0.0, None)


def test_while_a_returned_number_is_waited_for_a_gap_begins_no_step_anew(box):
    admitted(box, 1, 2)
    box.give_back(1, 1, doubtful="")
    box.passed(2, 5.0)
    box.resyncs = 1
    box.hold_back(9, {}, 6.0)
    assert (box.resyncs, box.deadline) == (1, 5.0 + RESYNC_AFTER_S[1])
    admitted(box, 1)
    assert box.passed_since == 0.0


def test_when_the_engine_is_back_every_wait_that_there_is_begins_anew(box):
    box.wait_anew(50.0)
    assert (box.gap_since, box.passed_since, box.deadline) == (0.0, 0.0, None)
    admitted(box, 1, 2)
    box.give_back(1, 1, doubtful="")
    box.passed(2, 5.0)
    box.hold_back(9, {}, 6.0)
    box.resyncs = 2
    box.wait_anew(60.0)
    assert (box.gap_since, box.passed_since, box.resyncs, box.buffered_at) == (60.0, 60.0, 0, {9: 60.0})
    assert box.deadline == 60.0 + RESYNC_AFTER_S[0]


def test_a_sequence_without_a_base_waits_for_its_first_frames():
    box = Mailbox("a1")
    assert box.deadline is None
    box.hold_back(7, {}, 3.0)
    assert box.deadline == 3.0 + COLLECT_S
