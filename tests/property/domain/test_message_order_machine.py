"""Any senders, priorities, answers, outages and crashes: the order within lines, and none left behind."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain import message as message_machine
from relaybroker.domain.message import HOLDS_LINE_TRIES, RETRY_MAX_S
from tests.world import World

SENDERS, TARGETS = ("", "w1", "w2"), ("w9", "#general")


class Outbox(RuleBasedStateMachine):
    """The model: what was sent, in this order, as (line, priority); what was tried; what the engine has taken."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.world.start()
        self.world.online()
        for name in SENDERS[1:]:
            self.world.spawn(name)
        self.sent: list[tuple[str, str, int]] = []
        self.tried: dict[int, int] = {}
        self.turned_away: set[int] = set()
        """By the last answer; whatever nobody answered is not among them."""
        self.looked_at = len(self.world.effects)

    @rule(sender=st.sampled_from(SENDERS), to=st.sampled_from(TARGETS), priority=st.integers(0, 4))
    def send(self, sender: str, to: str, priority: int) -> None:
        self.sent.append((sender, to, priority))
        number = len(self.sent) - 1
        self.tell(
            inputs.SendRequested(request_id=f"r{number}", to=to, text=str(number), sender=sender, priority=priority)
        )

    @rule(choice=st.randoms(use_true_random=False), status=st.sampled_from([201, 201, 0, 0, 429, 404]))
    def answer(self, choice, status: int) -> None:
        if not (open_calls := [message for message in self.messages() if message.call_id]):
            return
        message = choice.choice(open_calls)
        number = int(message.text)
        self.turned_away.discard(number)
        if status == 429:
            self.turned_away.add(number)
        if status:
            data = {"id": f"M{number}"}
            self.tell(inputs.EngineAnswered(call_id=message.call_id, status=status, data=data, code="said"))
        else:
            self.tell(inputs.EngineUnanswered(call_id=message.call_id, detail="refused"))

    @rule(seconds=st.sampled_from([0.4, 3.0, RETRY_MAX_S]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)
        self.look()

    @rule()
    def crash(self) -> None:
        self.turned_away -= {int(message.text) for message in self.messages() if message.call_id}
        self.world.crash()
        self.world.start()
        self.world.online()
        self.wait(0.01)

    @invariant()
    def the_fold_is_the_state(self) -> None:
        self.world.assert_fold_is_live()

    @invariant()
    def what_is_with_the_engine_is_bounded(self) -> None:
        assert sum(bool(message.call_id) for message in self.messages()) <= message_machine.AT_ONCE

    @invariant()
    def nothing_is_due_that_was_not_begun(self) -> None:
        when = self.world.broker.next_deadline()
        assert when is None or when > self.world.now

    def teardown(self) -> None:
        """The engine is there: everything goes out."""
        for _ in range(20):
            while open_calls := [message for message in self.messages() if message.call_id]:
                self.tell(inputs.EngineAnswered(call_id=open_calls[0].call_id, status=201, data={"id": "M"}))
            self.world.advance(RETRY_MAX_S)
            self.look()
        assert self.messages() == []
        assert self.world.broker.state.lines == {}
        assert set(self.tried) == set(range(len(self.sent)))

    def messages(self):
        return list(self.world.broker.state.messages.values())

    def tell(self, item: inputs.Input) -> None:
        self.world.tell(item)
        self.look()

    def look(self) -> None:
        """Compare every new publish with the model."""
        new, self.looked_at = self.world.effects[self.looked_at :], len(self.world.effects)
        for effect in new:
            if isinstance(effect, HttpCall) and effect.idempotency_key:
                self._is_in_order(int(effect.body["text"]))

    def _is_in_order(self, number: int) -> None:
        self.tried[number] = self.tried.get(number, 0) + 1
        if self.tried[number] > 1:
            return
        open_numbers = {int(message.text) for message in self.messages()}
        sender, to, priority = self.sent[number]
        for other in open_numbers - {number}:
            if self.sent[other][:2] != (sender, to):
                continue
            if other in self.tried:
                assert self.tried[other] >= HOLDS_LINE_TRIES, f"{number} overtakes {other}, which was tried"
                assert other in self.turned_away, f"{number} overtakes {other}, which nobody answered"
            else:
                assert (self.sent[other][2], other) > (priority, number), f"{other} should have gone before {number}"


TestOutbox = Outbox.TestCase
