"""A small world around the core: an engine and a PTY host that answer as the real ones do, under a clock that tests move."""

from __future__ import annotations

from typing import Any

from relaybroker.adapters.http.api.event_frames import frame_of
from relaybroker.adapters.http.engine_calls import HttpCall, http_call
from relaybroker.domain import effects, inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.events import Harness, Recorded
from relaybroker.domain.fold import apply
from relaybroker.domain.inputs import Settings
from relaybroker.domain.state import State
from relaybroker.domain.worker import READY_AFTER_S
from tests.rendered import Answer, answer_of

SETTINGS = Settings(
    node_id="node_0123456789abcdef0123456789abcdef",
    node_name="vm-01234567",
    workspace_id="ws_1",
    base_url="http://127.0.0.1:1",
    version="relaybroker/test",
    broker_name="desk",
    capabilities=("spawn:cat",),
    checks_places=True,
    reenrols=True,
    ready_after_s=READY_AFTER_S,
)


def plain_harness(_argv: tuple[str, ...], _name: str = "") -> Harness:
    return Harness(profile="default")


class World:
    """Drives one `Broker`: feeds inputs, carries out effects, keeps the log, can crash and recover."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.now = 1_000_000.0
        self.boots = 0
        self.log: list[Recorded] = []
        self.frames: list[dict[str, Any]] = []
        self.replies: dict[str, Answer] = {}
        self.effects: list[effects.Effect | HttpCall] = []
        self.notified: list[dict[str, Any]] = []
        self.agent_ids: dict[str, str] = {}
        self.inbox: list[inputs.Input] = []
        self.busy = False
        self.answers_syncs = True
        self.answers_starts = True
        self.exit: effects.ExitBroker | None = None
        # the PTY host
        self.host_id = "host_1"
        self.reports = 0
        self.unconfirmed: list[inputs.Input] = []
        self.sessions: dict[str, str] = {}
        self.typed: dict[str, list[str]] = {}
        self.done: set[str] = set()
        self.doors: dict[str, str] = {}
        """Session -> the door of its program's own."""
        self.unseen: set[str] = set()
        """What programs took through their doors, and no host has seen: only their records know it."""
        self.auto_type = True
        self.auto_ready = True
        self.pending_text: list[effects.TypeText] = []
        self.broker = Broker(plain_harness)

    # --- the core ---------------------------------------------------------------------------------------------------

    def tell(self, item: inputs.Input) -> None:
        """Hand in an input; what the outside answers to its effects follows after all of them were carried out."""
        self.inbox.append(item)
        if len(self.inbox) > 1 or self.busy:
            return
        self._answer()

    def _answer(self) -> None:
        while self.inbox:
            self._take(self.broker.handle(self.inbox[0], self.now))
            self.inbox.pop(0)

    def _take(self, decision: Any) -> None:
        self.log.extend(decision.events)
        for effect in decision.effects:
            self._carry_out(effect)

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every deadline on the way."""
        end = self.now + seconds
        for _ in range(10_000):
            when = self.broker.next_deadline()
            if when is None or when > end:
                break
            self.now = max(self.now, when)
            self.busy = True
            self._take(self.broker.on_time(self.now))
            self.busy = False
            self._answer()
        else:
            raise AssertionError(f"timers do not come to rest: {self.log[-3:]}")
        self.now = end

    def jump(self, seconds: float) -> None:
        """The clock is set forward: whatever is due by then is due at once."""
        self.now += seconds
        self.advance(0)

    def fold(self) -> State:
        state = State()
        for recorded in self.log:
            apply(state, recorded)
        return state

    def crash(self) -> None:
        """The broker process dies; what was recorded stays, the host and the engine live on."""
        self.broker = Broker(plain_harness, self.fold())

    # --- the outside --------------------------------------------------------------------------------------------------

    def start(self, **changes: Any) -> None:
        self.boots += 1
        self.tell(
            inputs.BrokerStarted(
                boot_id=f"bo_{self.boots}",
                entropy=f"{self.boots:032x}",
                settings=self.settings,
                has_node_token=changes.get("has_node_token", True),
                has_own_token=True,
                own_agent_id="900",
                machine_boot=changes.get("machine_boot", ""),
            )
        )

    def _carry_out(self, effect: effects.Effect) -> None:
        self.effects.append(http_call(effect) if isinstance(effect, effects.EngineCall) else effect)
        match effect:
            case effects.AttachHost():
                listed = tuple(
                    inputs.HostSession(session_id=session, pid=7, state=state)
                    for session, state in self.sessions.items()
                )
                self.tell(inputs.HostAttached(host_id=self.host_id, host_pid=5, sessions=listed))
                for report in list(self.unconfirmed):
                    self.tell(report)
            case effects.StartProgram() if self.answers_starts and effect.session_id not in self.sessions:
                self.sessions[effect.session_id] = "booting"
                self.report(inputs.ProgramStarted, effect.session_id, pid=4711)
                if self.auto_ready and effect.doors:
                    self.doors[effect.session_id] = effect.doors[0]
                    place = f"transcript of {effect.session_id}"
                    self.report(inputs.DoorChosen, effect.session_id, door=effect.doors[0], place=place)
                if self.auto_ready:
                    self.report(inputs.ProgramReady, effect.session_id, evidence="prompt")
            case effects.TypeText():
                self.pending_text.append(effect)
                if self.auto_type:
                    self.type_next()
            case effects.StopProgram() if effect.session_id in self.sessions:
                self.report(
                    inputs.ProgramExited,
                    effect.session_id,
                    code=None,
                    signal=15,
                    last_output="",
                    uptime_s=1.0,
                    requested=True,
                )
            case effects.ForgetProgram():
                self.sessions.pop(effect.session_id, None)
            case effects.ConfirmReports():
                self.unconfirmed = [r for r in self.unconfirmed if r.report > effect.report]  # type: ignore[union-attr]
            case effects.SendFrame():
                self.frames.append(effect.frame)
                if effect.frame["type"] == "inventory.sync" and self.answers_syncs:
                    self.frame(type="reply", id=effect.frame["id"], ok=True, data={})
            case effects.Reply():
                self.replies[effect.request_id] = answer_of(effect)
            case effects.Announce():
                self.notified.append(frame_of(effect.announced))
            case effects.ExitBroker():
                self.exit = effect
            case _:
                pass

    def report(self, kind: type, session_id: str, **fields: Any) -> None:
        self.reports += 1
        item = kind(host_id=self.host_id, report=self.reports, session_id=session_id, **fields)
        self.unconfirmed.append(item)
        self.tell(item)

    def type_next(self) -> None:
        effect = self.pending_text.pop(0)
        repeated = effect.delivery_id in self.done - self.unseen
        if not repeated:
            self.done.add(effect.delivery_id)
            self.typed.setdefault(effect.session_id, []).append(effect.text)
        self.report(
            inputs.TextTyped,
            effect.session_id,
            delivery_id=effect.delivery_id,
            attempt=effect.attempt,
            bytes_written=len(effect.text) + 1,
            evidence="transcript" if effect.session_id in self.doors else "composer",
            wait_ms=1.0,
            repeated=repeated,
            door=self.doors.get(effect.session_id, ""),
        )

    def take(self, effect: effects.TypeText) -> None:
        """The program takes a text through its door, and the host does not see it."""
        if effect.delivery_id not in self.done:
            self.done.add(effect.delivery_id)
            self.unseen.add(effect.delivery_id)
            self.typed.setdefault(effect.session_id, []).append(effect.text)

    def look_ups(self) -> list[effects.LookUp]:
        """What the core wanted looked up, the newest last."""
        return [effect for effect in self.effects if isinstance(effect, effects.LookUp)]

    def looked_up(self, asked: effects.LookUp, outcome: str = "", **fields: Any) -> None:
        """The program's records tell: what they hold, unless the test says otherwise."""
        outcome = outcome or ("accepted" if asked.delivery_id in self.done else "absent")
        if outcome == "accepted":
            fields = {"evidence": "item", "pointer": "item_9"} | fields
        told = inputs.DeliveryLookedUp(delivery_id=asked.delivery_id, attempt=asked.attempt, outcome=outcome, **fields)
        self.tell(told)

    def not_typed(self, effect: effects.TypeText, *, reason: str, typed: str = "no") -> None:
        """The host gives a delivery back."""
        self.report(
            inputs.TextNotTyped,
            effect.session_id,
            delivery_id=effect.delivery_id,
            attempt=effect.attempt,
            reason=reason,
            typed=typed,
        )

    def report_verified(self, session_id: str) -> None:
        """The verification of everything that was typed into this session ends."""
        for delivery in list(self.broker.state.deliveries.values()):
            if delivery.session_id == session_id and not delivery.verified and delivery.state in ("injected", "acked"):
                self.report(inputs.TextVerified, session_id, delivery_id=delivery.typing_id, verification="echo")

    def frame(self, **fields: Any) -> None:
        self.tell(inputs.FrameArrived(dial=self.broker.state.link.dial, frame={"v": 1} | fields))

    def online(self) -> None:
        """Open the socket and accept the registration."""
        self.tell(inputs.LinkOpened(dial=self.broker.state.link.dial))
        register = [frame for frame in self.frames if frame["type"] == "node.register"][-1]
        self.frame(type="reply", id=register["id"], ok=True, data={"id": self.settings.node_id})

    def spawn(self, name: str, **spec: Any) -> str:
        """Spawn an agent all the way to live; its agent id."""
        request_id = f"req_{name}_{len(self.log)}"
        self.tell(
            inputs.SpawnRequested(
                request_id=request_id, spec=inputs.SpawnSpec(name=name, cli=spec.pop("cli", "cat"), **spec)
            )
        )
        self.accept(name)
        self.advance(0.3)
        return self.agent_ids[name]

    def live(self, seconds: float) -> None:
        """Let time pass at an engine that answers every `node.register`."""
        answered = {frame["id"] for frame in self.sent("node.register")}
        for _ in range(round(seconds * 10)):
            self.advance(0.1)
            for frame in self.sent("node.register"):
                if frame["id"] not in answered:
                    answered.add(frame["id"])
                    self.frame(type="reply", id=frame["id"], ok=True, data={"id": self.settings.node_id})

    def accept(self, name: str) -> None:
        """The engine accepts the newest agent.register of this name."""
        register = [f for f in self.frames if f["type"] == "agent.register" and f["name"] == name][-1]
        agent_id = self.agent_ids.setdefault(name, str(100 + len(self.agent_ids)))
        self.frame(
            type="reply", id=register["id"], ok=True, data={"agent_id": agent_id, "token": "sha256:0", "name": name}
        )

    def deliver(self, name: str, seq: int, *, msg_id: str = "", text: str = "hi", **fields: Any) -> None:
        agent_id = self.agent_ids[name]
        msg_id = msg_id or f"M{seq}"
        self.frame(
            **(
                {
                    "type": "deliver",
                    "agent": name,
                    "agent_id": agent_id,
                    "delivery_id": f"del_{msg_id}_{agent_id}",
                    "msg_id": msg_id,
                    "seq": seq,
                    "mode": "wait",
                    "payload": {
                        "type": "message.created",
                        "data": {
                            "id": msg_id,
                            "agent_id": "55",
                            "agent_name": "alice",
                            "text": text,
                            "channel_name": "general",
                        },
                    },
                }
                | fields
            )
        )

    def call(self, path: str) -> HttpCall:
        """The newest engine call whose path ends like this."""
        return next(
            effect for effect in reversed(self.effects) if isinstance(effect, HttpCall) and effect.path.endswith(path)
        )

    def calls(self, path: str) -> list[HttpCall]:
        return [e for e in self.effects if isinstance(e, HttpCall) and e.path.endswith(path)]

    def answer(self, path: str, status: int, data: Any = None, *, code: str = "", message: str = "") -> None:
        """The engine answers the newest call of this path."""
        call_id = self.call(path).call_id
        self.tell(inputs.EngineAnswered(call_id=call_id, status=status, data=data, code=code, message=message))

    def drop(self, detail: str = "eof") -> None:
        """The socket ends."""
        self.tell(inputs.LinkClosed(dial=self.broker.state.link.dial, code=1006, detail=detail))

    def sent(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == kind]

    # --- questions --------------------------------------------------------------------------------------------------------

    def acks(self, name: str) -> list[int]:
        return [f["up_to_seq"] for f in self.frames if f["type"] == "delivery.ack" and f["agent"] == name]

    def texts(self, name: str) -> list[str]:
        registration = self.broker.state.registration_of(name)
        return self.typed.get(registration.session_id, []) if registration else []

    def events(self, topic: str) -> list[Recorded]:
        return [recorded for recorded in self.log if recorded.event.topic == topic]

    def assert_fold_is_live(self) -> None:
        assert self.fold() == self.broker.state
