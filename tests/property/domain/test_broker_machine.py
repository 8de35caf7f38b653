"""The whole core under arbitrary histories: a fair engine that forgets after an hour, a PTY host that dies, a broker that is killed at any
moment, a clock that jumps.

Invariants checked after every step: fold(log) = live state (D14), an acknowledgement covers only what is settled or in custody (D1, D2),
nothing is typed twice while its host lives (D5, TYPED-ONCE), sequenced messages are typed in order (D8), every event is legal, nothing that
has ended is still waited for and every message has one owner (F017), what may have been taken through a door is not handed over again
before the program's records tell that it was not (LOOKED-UP), nothing is given back to an engine that has it no more (ONE-OWNER),
while a person holds an agent nothing is typed but what was flushed (D15), what an agent has read by fetching is given or typed again only
with the mark, and not at all once that is recorded (FETCHED-ONCE), and what others do with a message is told once (TRUE-END).
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relaybroker.domain import inputs
from relaybroker.domain.delivery import ENGINE_KEEPS_S
from relaybroker.domain.soundness import contradictions
from relaybroker.domain.state import decode, encode
from tests.world import World

NAMES = ("ann", "bob")
DOORS = {"ann": None, "bob": ("inbox",)}
"""One is typed at, the other one's program has a door of its own."""


class BrokerMachine(RuleBasedStateMachine):
    """A world in which everything may happen in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.auto_type = False
        self.rows: dict[str, list[str]] = {name: [] for name in NAMES}
        self.posted: dict[str, float] = {}
        """Message id -> when it was posted, by a clock that the engine shares."""
        self.said: list[str] = []
        """Messages that the agents sent."""
        self.judged = 0
        self.acked: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.seen_acks = 0
        self.redelivered: set[str] = set()
        self.forced: set[str] = set()
        self.fetches: list[tuple[str, str, bool]] = []
        """Fetches of which the broker has not heard yet: agent id, fetch id, whether the agent has read the answer."""
        self.given: list[tuple[str, bool]] = []
        """What agents have read by fetching: message, and whether it bore the mark."""
        self.fetched: dict[str, int] = {}
        """What is recorded as fetched: message -> copies that its agent had by then."""

    @initialize()
    def begin(self) -> None:
        self.world.start()
        self.world.online()
        for name in NAMES:
            self.world.spawn(name, surface=("reaction", "receipt"), doors=DOORS[name])

    # --- the engine -------------------------------------------------------------------------------------------------

    def _is_online(self) -> bool:
        return self.world.broker.state.link.state == "online"

    def _live(self, name: str) -> bool:
        registration = self.world.broker.state.registration_of(name)
        return registration is not None and registration.state == "live"

    @rule(name=st.sampled_from(NAMES))
    def post(self, name: str) -> None:
        """Somebody sends a message; it is pushed if the node is there."""
        self.rows[name].append(f"{name}-{len(self.rows[name]) + 1}")
        self.posted[self.rows[name][-1]] = self.world.now
        if self._is_online() and self._live(name):
            self._offer(name, len(self.rows[name]))

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def offer_again(self, name: str, data: st.DataObject) -> None:
        """Any row may be pushed again, in any order."""
        if self.rows[name] and self._is_online() and name in self.world.agent_ids:
            self._offer(name, data.draw(st.integers(1, len(self.rows[name]))))

    @rule(name=st.sampled_from(NAMES))
    def replay(self, name: str) -> None:
        """Everything that is not acknowledged is offered again, in order."""
        if self._is_online() and name in self.world.agent_ids:
            self._collect_acks()
            for seq in range(self.acked[name] + 1, len(self.rows[name]) + 1):
                self._offer(name, seq)

    def _offer(self, name: str, seq: int) -> None:
        msg_id = self.rows[name][seq - 1]
        if self.world.now - self.posted[msg_id] > ENGINE_KEEPS_S:
            return
        data = {"id": msg_id, "agent_id": "55", "agent_name": "alice", "text": "hi", "created_at": self.posted[msg_id]}
        self.world.deliver(name, seq, msg_id=msg_id, payload={"type": "message.created", "data": data})

    @rule(name=st.sampled_from(NAMES), key=st.integers(1, 3))
    def fan_out(self, name: str, key: int) -> None:
        if self._is_online() and name in self.world.agent_ids:
            payload = {"type": "action.completed", "data": {"output": key}}
            self.world.deliver(name, 0, msg_id=f"inv{key}", delivery_id=f"evt_{key}", payload=payload)

    @rule()
    def drop_link(self) -> None:
        link = self.world.broker.state.link
        if link.state in ("registering", "online"):
            self.world.tell(inputs.LinkClosed(dial=link.dial, code=1006, detail="eof"))

    @rule()
    def connect(self) -> None:
        self._collect_acks()
        if self.world.broker.state.link.state == "backing_off":
            self.world.advance(31)
        if self.world.broker.state.link.state == "connecting":
            self.world.online()

    @rule(seconds=st.sampled_from([0.1, 0.6, 3.0, 12.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([1000.0, 2400.0, 10_800.0, 31 * 86_400.0]))
    def time_leaps(self, seconds: float) -> None:
        """A night in which nothing happens, or a clock that is set: the core cannot tell."""
        self.world.jump(seconds)

    # --- agents -------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES))
    def spawn(self, name: str) -> None:
        if self._is_online() and self.world.broker.state.registration_of(name) is None:
            self.world.spawn(name, surface=("reaction", "receipt"), doors=DOORS[name])

    @rule(name=st.sampled_from(NAMES))
    def say(self, name: str) -> None:
        """An agent sends a message to the other one; the engine takes it."""
        if not self._live(name):
            return
        other = NAMES[1 - NAMES.index(name)]
        self.said.append(f"{900 + len(self.said)}")
        agent_id = self.world.agent_ids[name]
        self.world.tell(inputs.SendRequested(request_id="say", to=other, text="hi", agent_id=agent_id))
        self.world.answer("/dm", 201, {"id": self.said[-1]})

    @precondition(lambda self: self.said)
    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from(["message.reacted", "message.read"]), data=st.data())
    def react(self, name: str, kind: str, data: st.DataObject) -> None:
        """Somebody does something with a message, and everybody hears of it, perhaps again."""
        if self._is_online() and name in self.world.agent_ids:
            message = data.draw(st.sampled_from(self.said[-3:]))
            happened = {"message_id": message, "agent_name": "carl", "agent_id": "77", "emoji": "x", "action": "added"}
            key = f"evt_{kind}_{message}_{name}"
            self.world.deliver(name, 0, msg_id=message, delivery_id=key, payload={"type": kind, "data": happened})

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        self.world.tell(inputs.ReleaseRequested(request_id="r", name=name))

    @rule(name=st.sampled_from(NAMES))
    def die(self, name: str) -> None:
        registration = self.world.broker.state.registration_of(name)
        if registration is None or registration.session_id not in self.world.sessions:
            return
        self.world.pending_text = [
            text for text in self.world.pending_text if text.session_id != registration.session_id
        ]
        worker = self.world.broker.state.workers[registration.session_id]
        for stream in list(worker.typing):
            delivery = self.world.broker.state.deliveries[stream]
            if delivery.typing_id not in self.world.done:
                self.world.report(
                    inputs.TextNotTyped,
                    registration.session_id,
                    delivery_id=delivery.typing_id,
                    attempt=delivery.tries,
                    reason="worker_exited",
                    typed="no",
                )
        self.world.report(
            inputs.ProgramExited,
            registration.session_id,
            code=1,
            signal=None,
            last_output="",
            uptime_s=1.0,
            requested=False,
        )

    # --- agents that fetch ------------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(NAMES),
        before=st.sampled_from([0, 2, 3]),
        limit=st.sampled_from([1, 2, 20]),
        reads=st.booleans(),
        is_told=st.booleans(),
    )
    def fetch(self, name: str, before: int, limit: int, reads: bool, is_told: bool) -> None:
        """An agent asks for what waits for it, perhaps behind a question; the answer reaches it whole, or breaks off."""
        if name not in self.world.agent_ids:
            return
        if before:
            self.question(name, is_there=True)
        for _ in range(before):
            self.post(name)
        while before and self.world.pending_text:
            self.type_next()
        agent_id = self.world.agent_ids[name]
        self.world.tell(inputs.FetchRequested(request_id="fetch", agent_id=agent_id, limit=limit))
        answer = self.world.replies["fetch"].body
        if not answer.get("fetch_id"):
            return
        if reads:
            self.given += [(one["message_id"], one["possible_duplicate"]) for one in answer["messages"]]
        self.fetches.append((agent_id, answer["fetch_id"], reads))
        if is_told:
            self.fetches = self.fetches[-1:] + self.fetches[:-1]
            self.answer_ends()

    @precondition(lambda self: self.fetches)
    @rule()
    def answer_ends(self) -> None:
        """The broker hears whether the answer went out whole, perhaps long after."""
        agent_id, fetch_id, reads = self.fetches.pop(0)
        self.world.tell(inputs.FetchEnded(agent_id=agent_id, fetch_id=fetch_id, answered=reads))

    @precondition(lambda self: self.fetches)
    @rule()
    def nobody_hears_of_an_answer(self) -> None:
        self.fetches.pop(0)

    # --- the host --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.pending_text)
    @rule()
    def type_next(self) -> None:
        text = self.world.pending_text[0]
        if text.session_id in self.world.sessions:
            self.world.type_next()
        else:
            self.world.pending_text.pop(0)

    @precondition(lambda self: self.world.pending_text)
    @rule(reason=st.sampled_from(["pty_write_failed", "queue_full"]))
    def take_nothing(self, reason: str) -> None:
        """The terminal does not take the next text; what is behind it in the host comes back, too."""
        session = self.world.pending_text[0].session_id
        texts = [text for text in self.world.pending_text if text.session_id == session]
        self.world.pending_text = [text for text in self.world.pending_text if text.session_id != session]
        for number, text in enumerate(texts):
            if session in self.world.sessions and text.delivery_id not in self.world.done:
                self.world.report(
                    inputs.TextNotTyped,
                    session,
                    delivery_id=text.delivery_id,
                    attempt=text.attempt,
                    reason="out_of_turn" if number else reason,
                    typed="no",
                )

    @rule(
        takes_it=st.booleans(),
        host_dies=st.booleans(),
        before=st.sampled_from([1, 2]),
        after=st.sampled_from([0, 1]),
        tells=st.sampled_from([None, False, True]),
    )
    def hand_over_without_evidence(
        self, takes_it: bool, host_dies: bool, before: int, after: int, tells: bool | None
    ) -> None:
        """A program is handed a text, takes it or not, and nobody sees that; or the host dies right then. More is sent meanwhile."""
        world = self.world
        for _ in range(before):
            self.post(NAMES[1])
        handed = [text for text in world.pending_text if text.session_id in world.doors]
        if not handed:
            return
        first, behind = handed[0], [text for text in handed[1:] if text.session_id == handed[0].session_id]
        is_new = first.delivery_id not in world.done
        if takes_it:
            world.take(first)
        if host_dies:
            self.host_dies()
        elif first.session_id in world.sessions and is_new:
            world.pending_text = [text for text in world.pending_text if text.session_id != first.session_id]
            world.not_typed(first, reason="no_evidence", typed="unknown")
            for text in behind:
                world.not_typed(text, reason="out_of_turn")
        for _ in range(after):
            self.post(NAMES[1])
        while world.pending_text:
            self.type_next()
        if tells is not None and world.look_ups():
            self.look_up(tells, -1)

    @precondition(lambda self: self.world.look_ups())
    @rule(tells=st.booleans(), which=st.sampled_from([-1, -1, -2, 0]))
    def look_up(self, tells: bool, which: int) -> None:
        """The records tell what they hold, or not; perhaps late, perhaps of what was settled long ago."""
        asked = self.world.look_ups()
        self.world.looked_up(asked[max(which, -len(asked))], "" if tells else "unknowable")

    @rule(name=st.sampled_from(NAMES), is_there=st.booleans())
    def question(self, name: str, is_there: bool) -> None:
        """A question comes up on the screen, or goes: meanwhile messages wait."""
        found = self.world.broker.state.registration_of(name)
        if found is None or found.session_id not in self.world.sessions:
            return
        if is_there:
            self.world.report(inputs.ProgramBlocked, found.session_id, pattern="permission")
        else:
            self.world.report(inputs.ProgramUnblocked, found.session_id)

    # --- people ----------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), mode=st.sampled_from(["manual_flush", "auto_inject"]))
    def set_mode(self, name: str, mode: str) -> None:
        self.world.tell(inputs.DeliveryModeRequested(request_id="m", name=name, mode=mode))

    @rule(name=st.sampled_from(NAMES))
    def flush(self, name: str) -> None:
        self.world.tell(inputs.FlushRequested(request_id="f", name=name))

    @rule(force=st.booleans())
    def redeliver(self, force: bool) -> None:
        letters = self.world.broker.state.dead_letters
        doubtful = {letter.msg_id for letter in letters.values() if letter.in_doubt}
        self.redelivered |= {letter.msg_id for letter in letters.values()}
        self.forced |= doubtful if force else set()
        self.world.tell(inputs.RedeliverRequested(request_id="d", every=True, force=force))

    @rule()
    def purge(self) -> None:
        self.world.tell(inputs.PurgeRequested(request_id="p", every=True))

    @precondition(lambda self: self.world.done)
    @rule(data=st.data())
    def verify(self, data: st.DataObject) -> None:
        typing_id = data.draw(st.sampled_from(sorted(self.world.done)))
        for session in list(self.world.sessions):
            self.world.report(inputs.TextVerified, session, delivery_id=typing_id, verification="echo")

    @rule()
    def host_dies(self) -> None:
        world = self.world
        world.host_id = f"host_{len(world.log)}"
        world.sessions, world.reports, world.unconfirmed, world.pending_text = {}, 0, [], []
        world.tell(inputs.HostLost(detail="eof"))
        world.advance(1)

    @rule(has_own_token=st.booleans())
    def kill_the_broker(self, has_own_token: bool) -> None:
        """kill -9 and restart: what was recorded stays, what the host holds stays."""
        del has_own_token
        self._collect_acks()
        self.world.pending_text = []
        self.fetches = []
        self.world.crash()
        self.world.start()

    # --- what must always hold ------------------------------------------------------------------------------------------------

    def _collect_acks(self) -> None:
        for frame in self.world.frames[self.seen_acks :]:
            if frame["type"] == "delivery.ack":
                name = frame["agent"]
                settled = self._settled(name)
                for seq in range(1, frame["up_to_seq"] + 1):
                    assert seq in settled, f"ack {frame['up_to_seq']} of {name} covers {seq}, which is not settled"
                self.acked[name] = max(self.acked[name], frame["up_to_seq"])
        self.seen_acks = len(self.world.frames)

    def _settled(self, name: str) -> set[int]:
        agent_id = self.world.agent_ids[name]
        seqs: dict[str, int] = {}
        settled: set[int] = set()
        for recorded in self.world.log:
            event = recorded.event
            match event.topic:
                case "delivery.offered.v1" if event.agent_id == agent_id and event.seq:
                    seqs[recorded.stream] = event.seq
                case (
                    "delivery.injected.v1"
                    | "delivery.fetched.v1"
                    | "delivery.dead_lettered.v1"
                    | "delivery.taken_over.v1"
                ) if recorded.stream in seqs:
                    settled.add(seqs[recorded.stream])
                case "delivery.dropped.v1" if recorded.stream in seqs and event.settled:
                    settled.add(seqs[recorded.stream])
                case "mailbox.range_lost.v1" if recorded.stream == f"mailbox:{agent_id}":
                    settled.update(range(event.first, event.last + 1))
                case "mailbox.based.v1" if recorded.stream == f"mailbox:{agent_id}":
                    settled.update(range(1, event.base + 1))
                case "mailbox.frame_ignored.v1" if recorded.stream == f"mailbox:{agent_id}" and event.advances:
                    settled.add(event.seq)
                case _:
                    pass
        return settled

    @invariant()
    def acknowledgements_cover_only_what_is_settled(self) -> None:
        self._collect_acks()

    @invariant()
    def nothing_is_given_back_to_an_engine_that_has_it_no_more(self) -> None:
        for recorded in self.world.log[self.judged :]:
            if recorded.event.topic == "delivery.dropped.v1" and not recorded.event.settled:
                age = recorded.at - self.posted[recorded.correlation]
                assert age < ENGINE_KEEPS_S, f"{recorded.stream} is given back after {age} s"
        self.judged = len(self.world.log)

    @invariant()
    def fold_of_the_log_is_the_live_state(self) -> None:
        self.world.assert_fold_is_live()
        assert decode(encode(self.world.broker.state)) == self.world.broker.state, "a snapshot is the whole state"

    @invariant()
    def nothing_is_left_over_and_everything_has_one_owner(self) -> None:
        assert contradictions(self.world.broker.state) == []

    @invariant()
    def a_held_agent_is_given_nothing_that_was_not_flushed(self) -> None:
        state = self.world.broker.state
        for item in state.deliveries.values():
            program = state.worker_of_agent(item.agent_id)
            is_leaving = program is None or program.stop_reason is not None  # nothing is typed to it any more
            if item.state == "queued" and state.is_flushed_by_hand(item.name) and not is_leaving:
                assert item.flushed, item.stream

    @invariant()
    def nothing_is_typed_twice_and_everything_in_order(self) -> None:
        numbers: dict[str, list[int]] = {}
        copies: Counter[str] = Counter(message for message, _ in self.given)
        plain: Counter[str] = Counter(message for message, is_marked in self.given if not is_marked)
        for texts in self.world.typed.values():
            for text in texts:
                marker = text.partition("[")[2].partition("]")[0]
                message = marker.split()[0]
                name, _, number = message.partition("-")
                copies[message] += bool(number)
                plain[message] += bool(number) and "possible-duplicate" not in marker
                if number and message not in self.redelivered:
                    numbers.setdefault(name, []).append(int(number))
        again = {message for message, count in copies.items() if count > 1}
        assert again <= self.forced | {message for message, _ in self.given}, copies
        assert max(plain.values(), default=0) <= 1, plain
        for recorded in self.world.events("delivery.fetched.v1"):
            count = self.fetched.setdefault(recorded.correlation, copies[recorded.correlation])
            assert copies[recorded.correlation] == count, f"{recorded.correlation} was fetched, and is given again"
        for name, seen in numbers.items():
            adopted = any(e.event.source == "adopted" for e in self.world.events("mailbox.based.v1"))
            assert adopted or seen == sorted(seen), f"{name} got {seen}"

    @invariant()
    def nothing_that_others_do_is_told_twice(self) -> None:
        offered = [one.event for one in self.world.events("delivery.offered.v1")]
        notices = [
            event.about for event in offered if event.source == "notice" and event.attempt == 1
        ]  # not redelivered
        assert len(notices) == len(set(notices)), notices


TestBrokerMachine = BrokerMachine.TestCase
TestBrokerMachine.pytestmark = [pytest.mark.timeout(3600)]
