"""The checks have teeth: rules are broken on purpose, one at a time, and a few seeds find each."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.domain import effects, events, fold
from relaybroker.domain.changes import deliveries as delivery_changes
from relaybroker.domain.effects import TypeText
from relaybroker.domain.entities import Delivery
from relaybroker.domain.mailbox import Mailbox
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import custody, deliveries, doubts, local_first, mailboxes, settling
from relaybroker.domain.state import State
from relaybroker.testing.simulation.node import Node
from relaybroker.testing.simulation.run import run

SEEDS = (6, 80, 93, 1, 0, 8, 35, 105, *range(60))
"""The first ones find what takes rare hours to show."""


def duplicates_are_admitted(monkeypatch):
    """A message id that was seen under another number is typed again."""
    judge = Mailbox.judge

    def forgetful(self, seq, msg_id, fan_key, *, is_copy=False):
        known = self.seen.get(msg_id)
        other = f"{msg_id} again" if known is not None and known != seq else msg_id
        return judge(self, seq, other, fan_key, is_copy=is_copy)

    monkeypatch.setattr(Mailbox, "judge", forgetful)


def acknowledged_when_received(monkeypatch):
    """The acknowledgement covers what was received, typed or not."""

    def send_ack(turn, box):
        settling.link.send(turn, settling.frames.delivery_ack("ack", agent=box.name, up_to=box.recv))

    monkeypatch.setattr(settling, "send_ack", send_ack)


def the_handed_back_go_to_the_front(monkeypatch):
    """What the host hands back is queued before what was offered earlier."""
    monkeypatch.setattr(delivery_changes, "_place", lambda _found: 0)


def typed_before_the_intent_is_in_the_log(monkeypatch):
    """Effects go out when they are decided, not when what they follow from is durable."""
    step = Node._step

    def hasty(self):
        append = self.disk.append

        def at_once(decided, wanted):
            for effect in wanted:
                if isinstance(effect, TypeText):
                    self._carry_out(effect)
            append(decided, [effect for effect in wanted if not isinstance(effect, TypeText)])

        self.disk.append = at_once
        try:
            step(self)
        finally:
            self.disk.append = append

    monkeypatch.setattr(Node, "_step", hasty)


def a_returning_agent_begins_anew(monkeypatch):
    """The cursor of an agent id does not survive the agent."""

    def opened(state, event, at, _):
        agent_id = at.stream.partition(":")[2]
        state.mailboxes[agent_id] = Mailbox(agent_id, name=event.name, generation=event.generation)

    monkeypatch.setattr(fold, "_CHANGES", {**fold._CHANGES, events.MailboxOpened: opened})


def no_mark_on_possible_duplicates(monkeypatch):
    """What may have been typed is typed again, silently."""
    compose = deliveries.composition.compose
    monkeypatch.setattr(
        deliveries.composition, "compose", lambda **given: compose(**{**given, "possible_duplicate": False})
    )


def gaps_wait_for_ever(monkeypatch):
    """A hole holds up everything behind it."""
    monkeypatch.setattr(Mailbox, "deadline", property(lambda _: None))


def gaps_are_lost_at_once(monkeypatch):
    """A hole is given up before the engine could fill it."""
    monkeypatch.setattr(
        Mailbox,
        "deadline",
        property(lambda self: self.gap_since + 0.5 if self.gap_since and not self.starved else None),
    )
    monkeypatch.setattr(mailboxes, "RESYNC_AFTER_S", ())


def gaps_share_one_wait(monkeypatch):
    """A hole that opens behind another is lost with the other's time."""
    moved = Mailbox._gap_moved

    def unmoved(self):
        since = self.gap_since
        moved(self)
        self.gap_since = since if since and self.buffer else self.gap_since

    monkeypatch.setattr(Mailbox, "_gap_moved", unmoved)


def ended_programs_lose_their_messages(monkeypatch):
    """What was not typed when the program ended counts as settled."""
    drop = settling.drop

    def settled(turn, delivery, reason, **given):
        return drop(turn, delivery, reason, **{**given, "settled": True})

    monkeypatch.setattr(settling, "drop", settled)


def something_is_decided_without_an_event(monkeypatch):
    """The live state is changed beside the log."""
    pump = deliveries.pump

    def careless(turn, target):
        target.typed += 1
        pump(turn, target)

    monkeypatch.setattr(deliveries, "pump", careless)


def a_hold_that_ends_goes_back_to_the_engine(monkeypatch):
    """After 50 minutes, as it was before there was custody."""

    expire = deliveries._expire

    def given_back(turn, delivery):
        if delivery.seq and delivery.state == "held":
            settling.drop(turn, delivery, Reason.HOLD_EXPIRED, settled=False)
        else:
            expire(turn, delivery)

    monkeypatch.setattr(custody, "due", lambda _turn: None)
    monkeypatch.setattr(custody, "deadline", lambda _state: None)
    monkeypatch.setattr(deliveries, "HOLD_S", 3000.0)
    monkeypatch.setattr(deliveries, "_expire", given_back)


def the_engine_is_believed_to_keep_for_ever(monkeypatch):
    """What waits is given back however old it is."""
    monkeypatch.setattr(custody, "due", lambda _turn: None)
    monkeypatch.setattr(custody, "deadline", lambda _state: None)
    monkeypatch.setattr(Delivery, "is_returnable", lambda self, _now: self.is_owed)


def the_age_at_the_engine_is_not_asked(monkeypatch):
    """Every message is taken for one that was just posted."""
    monkeypatch.setattr(mailboxes, "AGE_NOTED_S", float("inf"))


def custody_is_given_back(monkeypatch):
    """What was acknowledged is returned when the program ends."""
    monkeypatch.setattr(Delivery, "is_returnable", lambda self, _now: bool(self.seq))


def doubt_is_settled_before_anybody_is_asked(monkeypatch):
    """The policy settles what the program's records could tell."""

    def due(turn):
        for stream in list(turn.state.doubts):
            settling.settle_doubt(turn, turn.state.deliveries[stream], "hasty")

    monkeypatch.setattr(settling, "look_up", lambda _turn, _delivery: None)
    monkeypatch.setattr(doubts, "due", due)


def what_may_have_been_taken_is_handed_over_again(monkeypatch):
    """Every look-up is taken for a proof that the program took nothing."""
    looked_up = doubts.looked_up

    def careless(turn, answer):
        looked_up(turn, msgspec.structs.replace(answer, outcome="absent"))

    monkeypatch.setattr(doubts, "looked_up", careless)


def what_waits_overtakes_what_is_in_doubt(monkeypatch):
    """Nothing waits for a look-up but what is looked up."""
    monkeypatch.setattr(State, "is_doubted", lambda _self, _agent_id: False)


def copies_are_not_recognised(monkeypatch):
    """What was given before the engine had it is typed again when its copy comes."""
    monkeypatch.setattr(local_first, "is_copy", lambda *_: False)
    monkeypatch.setattr(local_first, "recognise", lambda *_: False)


def what_may_be_a_copy_does_not_wait(monkeypatch):
    """A frame that comes before the engine has said which id the message got is typed."""
    monkeypatch.setattr(deliveries, "may_be_given_already", lambda *_: False)


def acknowledged_when_written(monkeypatch):
    """The engine hears of what is not on disk."""
    monkeypatch.setitem(effects.GRADES, effects.SendFrame, effects.Grade.WRITTEN)


MUTATIONS = {
    acknowledged_when_written: "LOG-FIRST",
    duplicates_are_admitted: "TYPED-ONCE",
    acknowledged_when_received: "ACK-FLOOR",
    the_handed_back_go_to_the_front: "ORDER",
    typed_before_the_intent_is_in_the_log: "LOG-FIRST",
    a_returning_agent_begins_anew: "",
    no_mark_on_possible_duplicates: "TYPED-ONCE",
    gaps_wait_for_ever: "D9",
    gaps_are_lost_at_once: "D7",
    gaps_share_one_wait: "NO-LOSS",
    ended_programs_lose_their_messages: "NO-LOSS",
    something_is_decided_without_an_event: "D14",
    a_hold_that_ends_goes_back_to_the_engine: "NO-LOSS",
    the_engine_is_believed_to_keep_for_ever: "ONE-OWNER",
    the_age_at_the_engine_is_not_asked: "ONE-OWNER",
    custody_is_given_back: "ONE-OWNER",
    doubt_is_settled_before_anybody_is_asked: "PROOF",
    what_may_have_been_taken_is_handed_over_again: "PROOF",
    what_waits_overtakes_what_is_in_doubt: "ORDER",
    copies_are_not_recognised: "TYPED-ONCE",
    what_may_be_a_copy_does_not_wait: "TYPED-ONCE",
}


@pytest.mark.slow
@pytest.mark.parametrize(("mutate", "promise"), MUTATIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_rule_is_found(mutate, promise, monkeypatch):
    """architecture.md section 9; ADR-0020."""
    mutate(monkeypatch)
    violation = next((outcome.violation for outcome in map(run, SEEDS) if outcome.violation), "")
    assert violation
    assert promise in violation
