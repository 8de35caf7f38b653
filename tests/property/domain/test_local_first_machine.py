"""Two agents of one broker talk while their engine comes and goes, answers or not, and the broker is killed (LOCAL-FIRST).

After every step: fold(log) = live state (D14), nothing that has ended is still waited for (F017), each message is typed once, in the order
in which its sender wrote it, and an acknowledgement covers only what was typed. When everything is well again, each message was typed
once, the engine has it once, and everything is acknowledged.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import inputs
from relaybroker.domain.soundness import contradictions
from tests.world import SETTINGS, World

NAMES = ("ann", "bob")


class LocalFirstMachine(RuleBasedStateMachine):
    """An engine that takes each key once, and offers what it has in order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(msgspec.structs.replace(SETTINGS, local_first=True))
        self.said: dict[str, list[str]] = {name: [] for name in NAMES}
        """Sender -> what it wrote, in order."""
        self.urgent: set[tuple[str, int]] = set()
        """Sender and number of what may overtake."""
        self.rows: dict[str, list[dict[str, str]]] = {name: [] for name in NAMES}
        """Recipient -> what the engine has for it: id, sender, text and thread."""
        self.pushed = dict.fromkeys(NAMES, 0)
        self.taken: dict[str, str] = {}
        """Key -> id."""
        self.answered: set[str] = set()
        """Calls of which the broker has heard."""

    @initialize()
    def begin(self) -> None:
        self.world.start()
        self.world.online()
        for name in NAMES:
            self.world.spawn(name)

    # --- the agents -----------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), priority=st.sampled_from([None, None, 0]))
    def write(self, name: str, priority: int | None) -> None:
        """One writes to the other."""
        to = NAMES[1 - NAMES.index(name)]
        if priority is not None:
            self.urgent.add((name, len(self.said[name])))
        self._send(name, to=to, priority=msgspec.UNSET if priority is None else priority)

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def answer(self, name: str, data: st.DataObject) -> None:
        """One answers something that was typed to it, by the id in its header."""
        ids = [text.partition("[")[2].partition("]")[0].split()[0] for text in self.world.texts(name)]
        if ids:
            thread = data.draw(st.sampled_from(ids[-4:]))
            self._send(name, to=f"thread:{thread}", thread_id=thread)

    def _send(self, name: str, **given: object) -> None:
        text = str(len(self.said[name]))
        self.said[name].append(text)
        self.world.tell(
            inputs.SendRequested(request_id="s", text=text, agent_id=self.world.agent_ids[name], **given)  # type: ignore[arg-type]
        )

    @rule(name=st.sampled_from(NAMES), is_there=st.booleans())
    def question(self, name: str, is_there: bool) -> None:
        """A question comes up on the screen, or goes."""
        session = self.world.broker.state.registration_of(name).session_id
        if is_there:
            self.world.report(inputs.ProgramBlocked, session, pattern="permission")
        else:
            self.world.report(inputs.ProgramUnblocked, session)

    # --- the engine -----------------------------------------------------------------------------------------------------

    def _open_calls(self) -> list[HttpCall]:
        calls = [one for one in self.world.effects if isinstance(one, HttpCall) and one.idempotency_key]
        wanted = {message.call_id for message in self.world.broker.state.messages.values()}
        return [call for call in calls if call.call_id in wanted and call.call_id not in self.answered]

    def _take(self, call: HttpCall, *, pushes: bool) -> str:
        """The engine takes a message, once for each key."""
        if call.idempotency_key not in self.taken:
            self.taken[call.idempotency_key] = str(7000 + len(self.taken))
            sender = next(name for name in NAMES if call.auth == f"agent:{self.world.agent_ids[name]}")
            to = NAMES[1 - NAMES.index(sender)]
            thread = call.path.split("/")[3] if "/replies" in call.path else ""
            message_id = self.taken[call.idempotency_key]
            row = {"id": message_id, "from_name": sender, "text": str((call.body or {})["text"]), "thread_id": thread}
            assert not thread or thread in self.taken.values(), f"the engine has no message {thread}"
            self.rows[to].append(row)
            if pushes and self._is_online():
                self._push_from(to, self.pushed[to])
        return self.taken[call.idempotency_key]

    @rule(fate=st.sampled_from(["answered", "before its copy", "unheard", "lost"]), data=st.data())
    def call_ends(self, fate: str, data: st.DataObject) -> None:
        """A call is answered, perhaps before the copy is pushed; or it is carried out, and nobody hears of it; or it never comes there."""
        if not (calls := self._open_calls()):
            return
        call = data.draw(st.sampled_from(calls))
        self._end(call, fate)

    def _end(self, call: HttpCall, fate: str) -> None:
        message_id = self._take(call, pushes=fate != "before its copy") if fate != "lost" else ""
        self.answered.add(call.call_id)
        if message_id and fate != "unheard":
            self.world.tell(inputs.EngineAnswered(call_id=call.call_id, status=201, data={"id": message_id}))
        else:
            self.world.tell(inputs.EngineUnanswered(call_id=call.call_id, detail="timeout"))

    def _is_online(self) -> bool:
        return self.world.broker.state.link.state == "online"

    def _push_from(self, name: str, former: int) -> None:
        """Offer what comes after this number: an engine leaves no gap for longer than it is given."""
        for seq in range(former + 1, len(self.rows[name]) + 1):
            self._push(name, seq)
        self.pushed[name] = len(self.rows[name])

    def _push(self, name: str, seq: int) -> None:
        row = self.rows[name][seq - 1]
        kind = "thread.reply" if row["thread_id"] else "dm.received"
        self.world.deliver(name, seq, msg_id=row["id"], payload={"type": kind, "data": row})

    @rule()
    def drop_link(self) -> None:
        """The socket ends."""
        link = self.world.broker.state.link
        if link.state in ("registering", "online"):
            self.world.drop()

    @rule()
    def connect(self) -> None:
        """The link comes back, and the engine offers what it has."""
        if self.world.broker.state.link.state == "backing_off":
            self.world.advance(31)
        if self.world.broker.state.link.state == "connecting":
            self.world.online()
            for name in NAMES:
                self._push_from(name, 0)

    @rule(seconds=st.sampled_from([0.6, 3.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def kill_the_broker(self) -> None:
        """kill -9 and restart."""
        self.world.crash()
        self.world.start()

    # --- what must always hold --------------------------------------------------------------------------------------------

    def _heard(self, name: str) -> list[str]:
        sender = NAMES[1 - NAMES.index(name)]
        return [text for text in self.world.texts(name) if "Your message" not in text and f"from {sender}" in text]

    @invariant()
    def each_message_is_typed_once_and_in_order(self) -> None:
        for name in NAMES:
            numbers = [int(text.rpartition(": ")[2]) for text in self._heard(name)]
            assert len(numbers) == len(set(numbers)), f"{name} heard {numbers}"
            sender = NAMES[1 - NAMES.index(name)]
            in_order = [number for number in numbers if (sender, number) not in self.urgent]
            assert in_order == sorted(in_order), f"{name} heard {numbers}"

    @invariant()
    def an_acknowledgement_covers_only_what_was_typed(self) -> None:
        for name in NAMES:
            heard = {text.rpartition(": ")[2] for text in self._heard(name)}
            for seq in range(1, max(self.world.acks(name), default=0) + 1):
                assert self.rows[name][seq - 1]["text"] in heard

    @invariant()
    def the_state_is_sound(self) -> None:
        self.world.assert_fold_is_live()
        assert contradictions(self.world.broker.state) == []

    def teardown(self) -> None:
        """Everything is well again."""
        if not self.world.agent_ids:
            return
        for name in NAMES:
            self.question(name, is_there=False)
        for _ in range(3 * sum(map(len, self.said.values())) + 3):
            self.drop_link()
            self.connect()
            for call in self._open_calls():
                self._end(call, "answered")
            self.world.advance(1)
        for name in NAMES:
            sender = NAMES[1 - NAMES.index(name)]
            assert sorted(self._words(name), key=int) == self.said[sender]
            assert sorted((row["text"] for row in self.rows[name]), key=int) == self.said[sender]
            assert max(self.world.acks(name), default=0) == len(self.rows[name])
        assert self.world.broker.state.messages == {}
        assert self.world.broker.state.copies_to_come == {}

    def _words(self, name: str) -> list[str]:
        return [text.rpartition(": ")[2] for text in self._heard(name)]


TestLocalFirst = pytest.mark.slow(LocalFirstMachine.TestCase)
