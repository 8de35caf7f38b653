"""Agents come and go at an engine that tells the truth slowly: spawns, releases, deaths, late answers, drops, kills, in any order.

The engine decides as the contract says and keeps its own account of who lives where (tests/agents_engine.py). Checked with every decision:
no remote effect for a name that is taken (R3), compensation and order of deregistrations (R4, R5), no way round a refusal (R9). Checked
after every step: the inventory is the living programs (R1), nothing of an ended agent stays (R8, F128), tokens (R7), answers (N4). At rest:
what the engine offers messages for is exactly what lives here (R2, R6, ROSTER), and fold(log) is the live state (D14).
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relaybroker.adapters.http.engine_calls import http_call
from relaybroker.domain import effects, inputs
from relaybroker.domain.agent import UNREGISTERED, AgentState
from relaybroker.domain.errors import Refusal
from relaybroker.domain.link import INVENTORY_WAIT_S
from relaybroker.domain.replies import Refused
from tests.agents_engine import AgentsEngine
from tests.world import World

EXAMPLES = {"dev": 60, "ci": 200, "nightly": 10_000}
NAMES = ("ann", "bob", "cat")
ANSWER_S = 25.0
TICK_S = 0.1


class RegistrationWorld(World):
    """The small world, with an engine that has an account of its own."""

    def __init__(self, engine: AgentsEngine) -> None:
        super().__init__()
        self.engine = engine
        self.answers_syncs = False
        self.vault: dict[str, str] = {}
        self.refused: set[str] = set()
        """Streams whose registration the engine refused for good."""
        self.start_fails = False
        self.asking = False
        """Whether there is a registration whose answer may be on its way; since when there always was one, and when last none."""
        self.asked_since = 0.0
        self.rested_at = 0.0

    def _take(self, decision: Any) -> None:
        super()._take(decision)
        state = self.broker.state
        registering = {
            registration.name for registration in state.registrations.values() if registration.state in UNREGISTERED
        }
        asked: set[str] = set()
        kinds = {effect.frame["type"] for effect in decision.effects if isinstance(effect, effects.SendFrame)}
        if "inventory.sync" in kinds and "node.register" not in kinds and self.asking:
            assert self.now - self.asked_since >= INVENTORY_WAIT_S - TICK_S, "ROSTER: it may leave out who lives"
        self._note_asking(state.is_registering)
        for effect in decision.effects:
            match effect:
                case effects.SendFrame(frame={"type": "agent.deregister", "id": key, "agent_id": gone, "name": name}):
                    assert gone not in state.agents, f"R4: {name} lives and is deregistered"
                    assert not (key.startswith("undo_") and name in registering), f"R4: {name} is being registered"
                    assert name not in asked, "R5"
                case effects.SendFrame(frame={"type": "agent.register", "name": name}):
                    owed = [registration for registration in state.registrations.values() if registration.name == name]
                    assert all(registration.state != AgentState.DEREGISTERING for registration in owed), "R5"
                    asked.add(name)
                case effects.SendFrame(frame={"type": "inventory.sync", "agents": rows}):
                    living = {program.agent_id for program in state.workers.values() if not program.ended}
                    assert {row["agent_id"] for row in rows} == living, "R1"
                case effects.EngineCall(call_id=call_id) if call_id.startswith("register_"):
                    callers = {
                        registration.stream
                        for registration in state.registrations.values()
                        if registration.call_id == call_id
                    }
                    assert not callers & self.refused, "R9"
                case _:
                    pass

    def _note_asking(self, asking: bool) -> None:
        if self.asking and not asking:
            self.rested_at = self.now
        elif asking and not self.asking and self.now > self.rested_at:
            self.asked_since = self.now
        self.asking = asking

    def _carry_out(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.StartProgram) and self.start_fails and effect.session_id not in self.sessions:
            self.effects.append(effect)
            self.report(inputs.ProgramNotStarted, effect.session_id, reason="cli_not_found", detail="no such program")
            return
        super()._carry_out(effect)
        if isinstance(effect, effects.SendFrame):
            self.engine.inbox.append(effect.frame)
        elif isinstance(effect, effects.EngineCall):
            self.engine.calls.append(http_call(effect))
        elif isinstance(effect, effects.CloseLink):
            self.engine.hang_up()

    def hear(self) -> None:
        """The engine's oldest frame comes in; its token is in the vault before the core knows of it."""
        frame = self.engine.outbox.popleft()
        data = frame.get("data", {})
        if "token" in data:
            self.vault[data["agent_id"]] = data["token"]
        pending = self.broker.state.link.pending.get(frame["id"])
        if frame["type"] == "error" and pending is not None and frame["code"] != "agent_already_exists":
            self.refused.add(pending.subject)
        self.frame(**frame)

    def answered(self, index: int) -> None:
        """An answer over HTTP comes in."""
        answer = self.engine.answers.pop(index)
        data = answer.data if isinstance(answer.data, dict) else {}
        if "token" in data:
            self.vault[data.get("agent_id") or data["id"]] = data["token"]
        self.tell(inputs.EngineAnswered(**vars(answer)))


class RegistrationMachine(RuleBasedStateMachine):
    """Callers, programs, another node, a slow engine and a broker that may be killed."""

    def __init__(self) -> None:
        super().__init__()
        self.serial = 0
        self.seen = 0
        self.wanted: dict[str, float] = {}
        self.answered_once: set[str] = set()

    @initialize(create_only=st.booleans(), agents=st.integers(0, 2))
    def begin(self, create_only: bool, agents: int) -> None:
        self.engine = AgentsEngine("", create_only=create_only)
        self.world = RegistrationWorld(self.engine)
        self.engine.node_id = self.world.settings.node_id
        self.world.start()
        self.connect()
        for name in NAMES[:agents]:
            self.spawn(name, source="http_api")
            self.run_fairly()
            self.world.advance(0.3)

    @property
    def state(self):
        return self.world.broker.state

    @property
    def link(self):
        return self.state.link

    def fresh(self, kind: str) -> str:
        self.serial += 1
        return f"{kind}{self.serial}"

    # --- callers ----------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), source=st.sampled_from(["http_api", "http_api", "sidecar"]))
    def spawn(self, name: str, source: str) -> None:
        request_id = self.fresh("s")
        self.wanted[request_id] = self.world.now
        holder = self.state.registration_of(name)
        taken = holder is not None and holder.state != AgentState.DEREGISTERING
        before = len(self.world.effects)
        spec = inputs.SpawnSpec(name=name, cli="cat")
        self.world.tell(inputs.SpawnRequested(request_id=request_id, spec=spec, source=source))
        if taken:
            (reply,) = self.world.effects[before:]
            assert isinstance(reply, effects.Reply), "R3"
            assert isinstance(reply.answer, Refused), "R3"
            assert reply.answer.kind is Refusal.CONFLICT, "R3"

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        request_id = self.fresh("r")
        self.wanted[request_id] = self.world.now
        self.world.tell(inputs.ReleaseRequested(request_id=request_id, name=name))
        owed = any(
            registration.name == name and registration.state == AgentState.DEREGISTERING
            for registration in self.state.registrations.values()
        )
        if owed and request_id in self.world.replies:
            assert self.world.replies[request_id].body.get("release_pending"), "F106: the engine is not told yet"

    @rule(name=st.sampled_from(NAMES))
    def program_dies(self, name: str) -> None:
        registration = self.state.registration_of(name)
        if registration is not None and registration.session_id in self.world.sessions:
            ending: dict[str, Any] = {"signal": None, "last_output": "", "uptime_s": 1.0, "requested": False}
            self.world.report(inputs.ProgramExited, registration.session_id, code=1, **ending)

    # --- the engine -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.engine.inbox)
    @rule(count=st.integers(1, 6))
    def engine_works(self, count: int) -> None:
        for _ in range(min(count, len(self.engine.inbox))):
            self.engine.work()

    @precondition(lambda self: self.engine.outbox)
    @rule(count=st.integers(1, 6))
    def engine_is_heard(self, count: int) -> None:
        for _ in range(count):
            if self.engine.outbox:
                self.world.hear()

    @precondition(lambda self: self.engine.outbox)
    @rule()
    def an_answer_is_lost(self) -> None:
        if any(key == self.engine.outbox[0]["id"] for key in self.link.pending if key.startswith("agent_register_")):
            self.engine.outbox.popleft()

    @precondition(lambda self: self.engine.calls)
    @rule()
    def a_call_is_served(self) -> None:
        self.engine.serve(self.engine.calls.popleft())

    @precondition(lambda self: self.engine.answers)
    @rule(data=st.data())
    def a_call_is_answered(self, data: st.DataObject) -> None:
        self.world.answered(data.draw(st.integers(0, len(self.engine.answers) - 1)))

    @precondition(lambda self: self.engine.answers or self.engine.calls)
    @rule(status=st.sampled_from([0, 503, 429]))
    def a_call_fails(self, status: int) -> None:
        """Before the engine did anything, or after it did everything: the caller cannot know."""
        call_id = self.engine.answers.pop(0).call_id if self.engine.answers else self.engine.calls.popleft().call_id
        if status:
            self.world.tell(inputs.EngineAnswered(call_id=call_id, status=status, data=None, code="x"))
        else:
            self.world.tell(inputs.EngineUnanswered(call_id=call_id, detail="timeout"))

    @rule(start_fails=st.booleans(), code=st.sampled_from(["", "", "node_capacity_exceeded"]))
    def weather(self, start_fails: bool, code: str) -> None:
        """Whether programs start, and whether the engine has room, from now on."""
        self.world.start_fails, self.engine.refuses = start_fails, code

    @rule(name=st.sampled_from(NAMES), comes=st.booleans())
    def another_node(self, name: str, comes: bool) -> None:
        if comes and self.state.registration_of(name) is None:
            self.engine.settle_elsewhere(name)
        else:
            self.engine.leave_elsewhere(name)

    @rule()
    def run_fairly(self) -> None:
        """Everything on its way arrives: this is what reaches the deep states."""
        for _ in range(2000):
            if self.engine.inbox:
                self.engine.work()
            elif self.engine.outbox:
                self.world.hear()
            elif self.engine.calls:
                self.engine.serve(self.engine.calls.popleft())
            elif self.engine.answers:
                self.world.answered(0)
            else:
                return
        raise AssertionError(f"engine and broker do not come to rest: {self.world.log[-5:]}")

    @rule(name=st.sampled_from(NAMES), fate=st.sampled_from(["unread", "read", "heard late", "lost"]))
    def a_slow_registration(self, name: str, fate: str) -> None:
        """The engine reads the frame or does not, and the broker waits for the answer in vain and goes round."""
        if self.link.state != "online":
            return
        self.run_fairly()
        self.spawn(name, source="http_api")
        while fate != "unread" and self.engine.inbox:
            self.engine.work()
        if fate == "lost":
            self.engine.outbox.clear()
        self.world.advance(8.1)
        while fate == "heard late" and self.engine.outbox:
            self.world.hear()
        self._run_calls()

    def _run_calls(self) -> None:
        while self.engine.calls or self.engine.answers:
            while self.engine.calls:
                self.engine.serve(self.engine.calls.popleft())
            self.world.answered(0)

    @rule(name=st.sampled_from(NAMES))
    def a_name_moves(self, name: str) -> None:
        """Another node runs what was ours once, and the engine's word that it does is lost."""
        self.release(name)
        self.run_fairly()
        if self.link.state == "online" and self.state.registration_of(name) is None:
            self.engine.settle_elsewhere(name)
            self.a_slow_registration(name=name, fate="lost")

    @rule(name=st.sampled_from(NAMES))
    def respawn_across_an_outage(self, name: str) -> None:
        """The release waits for the link, and so does the spawn that follows it."""
        if self.link.state == "online":
            self.drop()
            self.release(name)
            self.spawn(name, source="http_api")
            self.connect()

    @rule()
    def come_to_rest(self) -> None:
        """R2, R6, ROSTER within 5 s of link time, without a new connection: the engine's account is the broker's."""
        dial = self.link.dial
        for _ in range(2):
            if self.link.state != "online" or any(
                registration.state in UNREGISTERED for registration in self._registrations()
            ):
                return
            self.run_fairly()
            self.world.advance(5.0)
        self.run_fairly()
        if self.link.state == "online" and self.link.dial == dial:
            assert self.engine.living_here() == self._living(), "R2, R6, ROSTER"

    def _registrations(self):
        return self.state.registrations.values()

    def _living(self) -> dict[str, str]:
        return {registration.name: registration.agent_id for registration in self.state.live_registrations()}

    # --- the link, the host, the process, time ------------------------------------------------------------------------

    @precondition(lambda self: self.link.state in ("registering", "online"))
    @rule()
    def drop(self) -> None:
        self.engine.hang_up()
        self.world.drop()

    @rule()
    def connect(self) -> None:
        for _ in range(20):
            if self.link.state == "online":
                return
            if self.link.state == "connecting":
                self.engine.hang_up()
                self.world.tell(inputs.LinkOpened(dial=self.link.dial))
                self.engine.work()
                self.world.hear()
            else:
                self.world.advance(max(0.0, self.link.until - self.world.now) + 0.01)
        raise AssertionError("the link does not come up again")

    @rule(what=st.sampled_from(["host", "broker", "both"]))
    def disaster(self, what: str) -> None:
        """kill -9 of the PTY host, of the broker, or of both."""
        if what != "broker":
            world = self.world
            world.host_id = f"host_{len(world.log)}"
            world.sessions, world.reports, world.unconfirmed = {}, 0, []
        if what == "host":
            self.world.tell(inputs.HostLost(detail="eof"))
            self.world.advance(1)
        else:
            self._kill()

    def _kill(self) -> None:
        """Callers and calls of the dead process are gone; the engine may have served the calls all the same."""
        self.engine.hang_up()
        self.wanted.clear()
        for call in self.engine.calls:
            self.engine.serve(call)
        self.engine.calls.clear()
        self.engine.answers.clear()
        self.world.crash()
        self.world.start()
        assert not any(registration.state in UNREGISTERED for registration in self._registrations()), (
            "nobody waits for it any more"
        )

    @rule(seconds=st.sampled_from([0.1, 0.3, 2.1, 5.1, 8.1, 14.0, 31.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def everybody_is_answered_once_and_in_time(self) -> None:
        for effect in self.world.effects[self.seen :]:
            if isinstance(effect, effects.Reply):
                assert effect.request_id not in self.answered_once, effect
                self.answered_once.add(effect.request_id)
                self.wanted.pop(effect.request_id, None)
        self.seen = len(self.world.effects)
        late = {key: at for key, at in self.wanted.items() if self.world.now - at > ANSWER_S + TICK_S}
        assert not late, f"N4: {late}"

    @invariant()
    def the_inventory_is_the_living_programs(self) -> None:
        state = self.state
        living = {program.session_id for program in state.workers.values() if not program.ended}
        assert {registration.session_id for registration in state.live_registrations()} == living, "R1"
        assert set(self.world.sessions) == living, "a program that nobody knows, or an agent without one"
        if self.link.state == "online":
            owed = [
                registration.name
                for registration in state.registrations.values()
                if registration.state == AgentState.DEREGISTERING
            ]
            assert not owed, "R6"

    @invariant()
    def nothing_of_an_ended_agent_stays(self) -> None:
        """R8, F128, BOUNDED."""
        state = self.state
        streams = set(state.registrations)
        sessions = {registration.session_id for registration in state.registrations.values()}
        assert set(state.names.values()) <= streams
        assert set(state.agents.values()) <= streams
        assert set(state.workers) <= sessions
        assert {delivery.session_id for delivery in state.deliveries.values()} <= sessions | {""}
        asked = {pending.subject for pending in self.link.pending.values() if pending.kind == "agent.register"}
        assert asked <= streams

    @invariant()
    def the_token_in_use_is_the_one_that_is_kept(self) -> None:
        for registration in self.state.live_registrations():
            assert self.world.vault[registration.agent_id] == registration.fingerprint, "R7"

    def teardown(self) -> None:
        """A fair engine from here on: everything comes to rest."""
        if (
            not hasattr(self, "world") or self.world.inbox or self.world.busy
        ):  # what failed in the middle of a turn has been told
            return
        self.engine.refuses = ""
        for name in NAMES:
            self.engine.leave_elsewhere(name)
        for _ in range(8):
            self.connect()
            self.run_fairly()
            self.world.advance(5.0)
            self.run_fairly()
        self.everybody_is_answered_once_and_in_time()
        self.the_inventory_is_the_living_programs()
        assert {registration.state for registration in self._registrations()} <= {AgentState.LIVE}, "ONE-END"
        assert self.engine.living_here() == self._living(), "R2, R6, ROSTER"
        self.world.assert_fold_is_live()


@pytest.mark.parametrize("profile", [os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")])
def test_the_engine_knows_exactly_the_agents_that_live_here(profile):
    """R1 to R9, F128."""
    run_state_machine_as_test(
        RegistrationMachine, settings=settings(max_examples=EXAMPLES[profile], stateful_step_count=40, deadline=None)
    )
