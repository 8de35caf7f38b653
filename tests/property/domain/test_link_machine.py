"""The node link under arbitrary engines: every answer, none, late ones, wrong ones, drops and restarts in any order.

Checked after every step, by the invariants of spec/node-protocol.md section 9: bring-up order (N1, N2), unique ids (N3), one outcome for
every request within its deadline (N4, N7), heartbeats (N5, N6), bounds (N8), minting and pauses (I6), compensation (R4), order of
deregistration and registration (R5); after healing also the inventory (R1, R2, R6) and that fold(log) is the live state (D14).
"""

from __future__ import annotations

import os

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

from relaybroker.domain import effects, inputs
from relaybroker.domain.agent import AgentState
from relaybroker.domain.link import MAX_REMINTS, MAX_REMINTS_PER_HOUR
from relaybroker.domain.manifest import Capability, Manifest
from tests.world import World

EXAMPLES = {"dev": 100, "ci": 400, "nightly": 20_000}
NAMES = ("ann", "bob", "cat")
ANSWER_S = 25.0
TICK_S = 0.1


class WatchedWorld(World):
    """Looks at each compensation at the moment at which it goes out."""

    def _carry_out(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.SendFrame) and effect.frame["id"].startswith("undo_"):
            holder = self.broker.state.registration_of(effect.frame["name"])
            newer = holder is not None and holder.state != AgentState.DEREGISTERING
            assert not (newer and holder.agent_id in ("", effect.frame["agent_id"])), (
                "R4: a newer register of that name"
            )
        super()._carry_out(effect)


class LinkMachine(RuleBasedStateMachine):
    """An engine that may do anything, and callers who want answers."""

    def __init__(self) -> None:
        super().__init__()
        self.world = WatchedWorld()
        self.world.answers_syncs = False
        self.seen = 0
        self.logged = 0
        self.ids: set[str] = set()
        self.by_dial: dict[int, list[str]] = {}
        self.wanted: dict[str, float] = {}
        self.answered: dict[str, int] = {}
        self.grants = self.probe_grants = 0
        self.replaced: list[float] = []
        self.serial = 0
        self.registered_limit: dict[int, int] = {}
        self.asked_generation: dict[str, int] = {}
        self.retired_generation: dict[str, int] = {}
        self.newest_asked: dict[str, int] = {}
        self.has_token = False
        self.probing = False
        self.beaten_at = 0.0
        self.dialled_at = -1000.0
        self.proven = False

    # --- shorthands -----------------------------------------------------------------------------------------------------

    @property
    def link(self):
        return self.world.broker.state.link

    def fresh(self) -> str:
        self.serial += 1
        return str(self.serial)

    def pending(self, kind: str) -> list[str]:
        return [request_id for request_id, request in self.link.pending.items() if request.kind == kind]

    def socket_is_open(self) -> bool:
        return self.link.state in ("registering", "online")

    # --- the engine's side ----------------------------------------------------------------------------------------------

    @initialize(has_token=st.booleans(), agents=st.integers(0, 2))
    def begin(self, has_token: bool, agents: int) -> None:
        self.has_token = has_token
        self.world.start(has_node_token=has_token)
        if agents:
            self.bring_up()
            for name in NAMES[:agents]:
                self.spawn(name)
                self.work_well(1)
                self.wait(1.0)

    @rule(answers=st.integers(1, 4))
    def work_well(self, answers: int) -> None:
        """The engine answers what is open as it should: this is what reaches the deep states."""
        for _ in range(answers):
            if self.link.state == "minting":
                self.answer_mint(201)
            elif self.link.state == "connecting":
                self.answer_dial(101)
            elif self.pending("node.register"):
                self.answer_register("")
            elif self.pending("inventory.sync"):
                self.answer_sync("")
            elif self.pending("agent.register"):
                self.answer_agent("", self.number_of(self.pending("agent.register")[0]))
            elif any(registration.call_id for registration in self.world.broker.state.registrations.values()):
                self.answer_http(201, 4)

    @rule(answers=st.integers(1, 4), name=st.sampled_from(NAMES))
    def spawn_and_work_well(self, answers: int, name: str) -> None:
        self.spawn(name)
        self.work_well(answers)

    def number_of(self, request_id: str) -> int:
        """A fair engine has one agent id for each name."""
        return 1 + NAMES.index(self.link.pending[request_id].subject.split(":")[1])

    def bring_up(self) -> None:
        """A fair engine until the link is online."""
        for _ in range(100):
            if self.link.state == "online":
                return
            if self.link.state in ("minting", "connecting", "registering"):
                self.work_well(1)
            else:
                self.world.advance(max(0.0, self.link.until - self.world.now) + 0.01)
        raise AssertionError("D9: the link does not come up again")

    @rule(statuses=st.lists(st.sampled_from([401, 401, 401, 503]), min_size=1, max_size=14))
    def reject_dials(self, statuses: list[int]) -> None:
        """An engine that mints and then takes no token, for as long as it likes, through pauses and probes."""
        for status in statuses:
            for _ in range(4):
                if self.link.state == "connecting":
                    break
                if self.link.state == "minting":
                    self.answer_mint(201)
                elif self.link.state in ("backing_off", "refused"):
                    self.world.advance(max(0.0, self.link.until - self.world.now) + 0.01)
                else:
                    self.drop("eof")
            if self.link.state == "connecting":
                self.answer_dial(status)

    @rule(seconds=st.sampled_from([13.0, 40.0, 150.0]))
    def be_quiet(self, seconds: float) -> None:
        """A fair engine to which nothing happens."""
        self.work_well(2)
        self.world.answers_syncs = True
        self.world.advance(seconds)
        self.world.answers_syncs = False

    @rule(name=st.sampled_from(NAMES), pause=st.sampled_from([0.1, 1.0]))
    def release_and_spawn_without_a_link(self, name: str, pause: float) -> None:
        """What is owed to the engine when the link comes back: the end of one generation and the beginning of the next."""
        if self.socket_is_open():
            self.drop("eof")
        self.release(name)
        self.world.advance(pause)
        self.spawn(name)
        if self.link.state == "backing_off" and self.link.until - self.world.now < 3.0:
            self.bring_up()

    @precondition(lambda self: self.link.state == "minting")
    @rule(status=st.sampled_from([201, 201, 201, 500, 503, 429, 0, 403]))
    def answer_mint(self, status: int) -> None:
        call_id = self.link.mint_call
        if not status:
            self.world.tell(inputs.EngineUnanswered(call_id=call_id, detail="timeout"))
            return
        data = {"id": self.world.settings.node_id, "token": f"sha256:{self.fresh()}"} if status == 201 else None
        self.world.tell(inputs.EngineAnswered(call_id=call_id, status=status, data=data, code="x"))

    @precondition(lambda self: self.link.state == "connecting")
    @rule(status=st.sampled_from([101, 101, 101, 401, 403, 503, None]))
    def answer_dial(self, status: int | None) -> None:
        if status == 101:
            self.world.tell(inputs.LinkOpened(dial=self.link.dial))
        else:
            self.world.tell(inputs.LinkDialFailed(dial=self.link.dial, status=status, detail="no"))

    @precondition(lambda self: bool(self.pending("node.register")))
    @rule(code=st.sampled_from(["", "", "", "node_id_mismatch", "node_name_conflict", "node_control_failed"]))
    def answer_register(self, code: str) -> None:
        self.respond(self.pending("node.register")[0], code, {})

    @precondition(lambda self: bool(self.pending("inventory.sync")))
    @rule(code=st.sampled_from(["", "", "", "agent_location_conflict"]))
    def answer_sync(self, code: str) -> None:
        self.respond(self.pending("inventory.sync")[0], code, {})

    @precondition(lambda self: bool(self.pending("agent.register")))
    @rule(code=st.sampled_from(["", "", "", "node_capacity_exceeded", "agent_already_exists"]), agent=st.integers(1, 4))
    def answer_agent(self, code: str, agent: int) -> None:
        self.respond(self.pending("agent.register")[0], code, self.granted(agent))

    @precondition(lambda self: self.socket_is_open() and self.link.abandoned)
    @rule(agent=st.integers(1, 4), data=st.data())
    def answer_late(self, agent: int, data: st.DataObject) -> None:
        self.respond(data.draw(st.sampled_from(sorted(self.link.abandoned))), "", self.granted(agent))

    def granted(self, agent: int) -> dict[str, str]:
        return {"agent_id": f"a{agent}", "token": f"sha256:{self.fresh()}"}

    def respond(self, request_id: str, code: str, data: dict[str, str]) -> None:
        if code:
            self.world.frame(type="error", id=request_id, ok=False, code=code, message="no")
        else:
            self.world.frame(type="reply", id=request_id, ok=True, data=data)

    @precondition(
        lambda self: any(registration.call_id for registration in self.world.broker.state.registrations.values())
    )
    @rule(status=st.sampled_from([201, 201, 201, 404, 409, 429, 500, 0]), agent=st.integers(1, 4))
    def answer_http(self, status: int, agent: int) -> None:
        registration = next(
            registration for registration in self.world.broker.state.registrations.values() if registration.call_id
        )
        if not status:
            self.world.tell(inputs.EngineUnanswered(call_id=registration.call_id, detail="timeout"))
            return
        agent_id = registration.agent_id or f"a{agent}"
        data = {
            "id": agent_id,
            "agent_id": agent_id,
            "token": f"sha256:{self.fresh()}",
            "status": "offline",
            "node_id": self.world.settings.node_id,
        }
        self.world.tell(
            inputs.EngineAnswered(
                call_id=registration.call_id, status=status, data=data if status == 201 else None, code="x"
            )
        )

    @precondition(lambda self: self.socket_is_open())
    @rule(detail=st.sampled_from(["eof", "idle", "superseded"]))
    def drop(self, detail: str) -> None:
        self.world.drop(detail)

    @precondition(lambda self: self.socket_is_open())
    @rule(kind=st.sampled_from(["error", "reply", "ping", "strange"]), known=st.booleans())
    def say_something(self, kind: str, known: bool) -> None:
        answered = self.link.heartbeat_id if known else f"nobody_{self.fresh()}"
        self.world.frame(type=kind, id=answered, ok=False, code="node_id_mismatch" if known else "odd", message="m")

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 2.5, 9.0, 13.0, 31.0, 61.0, 301.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def kill(self) -> None:
        self.wanted.clear()  # callers of a dead process have no connection any more
        self.grants, self.dialled_at = 0, -1000.0
        self.world.crash()
        self.world.start(has_node_token=self.link.has_token)

    # --- callers ----------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES))
    def spawn(self, name: str) -> None:
        request_id = f"s{self.fresh()}"
        self.wanted[request_id] = self.world.now
        self.world.tell(inputs.SpawnRequested(request_id=request_id, spec=inputs.SpawnSpec(name=name, cli="cat")))

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        request_id = f"r{self.fresh()}"
        self.wanted[request_id] = self.world.now
        self.world.tell(inputs.ReleaseRequested(request_id=request_id, name=name))

    @precondition(lambda self: self.socket_is_open())
    @rule(
        name=st.sampled_from(NAMES), action=st.sampled_from(["spawn:cat", "release", "echo"]), number=st.integers(1, 6)
    )
    def invoke(self, name: str, action: str, number: int) -> None:
        self.world.frame(type="action.invoke", invocation_id=f"i{number}", action=action, input={"name": name})

    @rule(limit=st.sampled_from([0, 1, 2, 7]))
    def offer_manifest(self, limit: int) -> None:
        """A sidecar comes and says what the node offers from now on."""
        connection, request_id = f"k{self.fresh()}", f"m{self.fresh()}"
        self.world.tell(inputs.SidecarConnected(connection=connection))
        self.wanted[request_id] = self.world.now
        offered = Manifest(capabilities=(Capability("echo"),), max_agents=limit)
        self.world.tell(inputs.ManifestOffered(connection=connection, request_id=request_id, manifest=offered))

    # --- what must hold ---------------------------------------------------------------------------------------------------

    def frames_are_well_formed(self) -> None:
        state = self.world.broker.state
        self.read_the_log()
        seen, self.seen = self.seen, len(self.world.effects)
        for effect in self.world.effects[seen:]:
            if isinstance(effect, effects.Reply):
                self.answered[effect.request_id] = self.answered.get(effect.request_id, 0) + 1
                assert self.answered[effect.request_id] == 1, effect
                self.wanted.pop(effect.request_id, None)
            if not isinstance(effect, effects.SendFrame):
                continue
            frame = effect.frame
            assert frame["id"] not in self.ids, "N3"
            self.ids.add(frame["id"])
            sent = self.by_dial.setdefault(effect.dial, [])
            sent.append(frame["type"])
            if len(sent) <= 3:
                assert sent == ["node.register", "inventory.sync", "node.heartbeat"][: len(sent)], "N1, N2"
            if frame["type"] == "agent.register":
                self.newest_asked[frame["name"]] = self.asked_generation[frame["id"]]
            elif frame["type"] == "agent.deregister" and frame["id"] in self.retired_generation:
                newest = self.newest_asked.get(frame["name"], 0)
                assert newest <= self.retired_generation[frame["id"]], "R5: deregister after a newer register"
            if frame["type"] == "node.register":
                self.registered_limit[effect.dial] = frame["max_agents"]
            if frame["type"] == "node.heartbeat":
                limit, active = frame["max_agents"], frame["active_agents"]
                assert limit == self.registered_limit[effect.dial], "N5"
                assert frame["load"] == (min(1.0, active / limit) if limit else 0.0), "N5"
        assert len(state.link.pending) <= 64, "N8"
        assert len(state.link.abandoned) <= 1024, "N8"

    @invariant()
    def every_caller_is_answered_in_time(self) -> None:
        self.frames_are_well_formed()
        late = {key: at for key, at in self.wanted.items() if self.world.now - at > ANSWER_S + TICK_S}
        assert not late, f"N4, N7: {late}"

    def read_the_log(self) -> None:
        for recorded in self.world.log[self.logged :]:
            self.logged += 1  # one by one: after a broken promise the teardown reads on from there
            event = recorded.event
            match event.topic:
                case "agent.registration_asked.v1":
                    self.asked_generation[event.request_id] = int(recorded.stream.rpartition(":")[2])
                case "agent.retired.v1":
                    generation = int(recorded.stream.rpartition(":")[2])
                    self.retired_generation[f"dereg_{recorded.version - 1}"] = generation
                case "link.begun.v1":
                    self.probing, self.probe_grants = event.probe and self.has_token, 0
                case "link.heartbeat_due.v1":
                    assert not self.proven or recorded.at - self.beaten_at <= 12.0 + TICK_S, "N6"
                    self.beaten_at = recorded.at
                case "link.backed_off.v1":
                    low = 0.19 if event.reason == "mint_failed" else 1.0
                    assert low <= event.delay_s <= 30.0, "I6"
                    assert event.reason != "superseded" or event.delay_s == 30.0, "2.1"
                    if self.proven and event.reason != "superseded":
                        assert event.delay_s <= 2.0, "I6: back to the least after a proven session"
                    self.proven = False
                case "link.refused.v1":
                    assert abs(event.until - recorded.at - 300.0) < 0.001, "I6"
                    self.proven = False
                case "link.dialled.v1":
                    assert recorded.at - self.dialled_at >= 1.0, "I6: dials are apart"
                    self.dialled_at = recorded.at
                case "link.token_granted.v1":
                    self.replaced += [recorded.at] if self.has_token else []
                    self.has_token = True
                    self.grants += not self.probing
                    self.probe_grants += self.probing
                    assert self.grants <= MAX_REMINTS + 1, "I6: mints between two proven sessions"
                    assert self.probe_grants <= 1, "ADR-0065: a probe mints once"
                    assert sum(at > recorded.at - 3600.0 for at in self.replaced) <= MAX_REMINTS_PER_HOUR, "I6"
                case "link.online.v1":
                    self.proven, self.grants, self.probing = True, 0, False
                case "link.shut.v1":
                    self.proven = False

    @invariant()
    def the_link_stays_within_its_bounds(self) -> None:
        self.read_the_log()
        assert self.link.remints <= MAX_REMINTS, "I6"
        assert len(self.link.remint_times) <= MAX_REMINTS_PER_HOUR, "I6"
        if self.link.state == "online":
            assert self.world.now - self.link.beaten_at <= 12.0 + TICK_S, "N6"

    @invariant()
    def no_living_agent_is_deregistered(self) -> None:
        """R4, R5: looked at where it happens, in the last decision's frames."""
        state = self.world.broker.state
        for registration in state.registrations.values():
            if registration.state == AgentState.REGISTERING:
                rivals = [
                    other
                    for other in state.registrations.values()
                    if other.name == registration.name and other.state == AgentState.DEREGISTERING
                ]
                assert not rivals, "R5"
        undone = {
            frame["agent_id"]: index
            for index, frame in enumerate(self.world.frames)
            if frame["type"] == "agent.deregister"
        }
        for agent_id, stream in state.agents.items():
            accepted = self.accepted_at(stream)
            assert undone.get(agent_id, -1) < accepted, "R4"

    def accepted_at(self, stream: str) -> int:
        """How many frames had gone out when this registration was accepted."""
        known = self.__dict__.setdefault("_accepted", {})
        return known.setdefault(stream, len(self.world.frames))

    def teardown(self) -> None:
        self.heal()
        self.every_caller_is_answered_in_time()
        self.world.assert_fold_is_live()

    def heal(self) -> None:
        """A fair engine from here on: the link comes up and everything comes to rest."""
        self.world.answers_syncs = True
        for _ in range(12):
            self.bring_up()
            for request_id in [*self.pending("node.register"), *self.pending("inventory.sync")]:
                self.respond(request_id, "", {})
            self.world.advance(8.0)
        self.frames_are_well_formed()
        state = self.world.broker.state
        listed = [frame for frame in self.world.frames if frame["type"] == "inventory.sync"][-1]["agents"]
        assert {row["agent_id"] for row in listed} == set(state.agents), "R1, R2, R6"
        assert {registration.state for registration in state.registrations.values()} <= {"live"}, state.registrations
        assert self.registered_limit[state.link.dial] == state.manifest.max_agents, "N1, N5"


@pytest.mark.timeout(7200 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 3600)
@pytest.mark.parametrize("profile", [os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev")])
def test_the_link_keeps_its_promises_whatever_the_engine_does(profile):
    """N1 to N8, I6, R1, R2, R4 to R6; F046 to F051."""
    run_state_machine_as_test(
        LinkMachine, settings=settings(max_examples=EXAMPLES[profile], stateful_step_count=40, deadline=None)
    )
