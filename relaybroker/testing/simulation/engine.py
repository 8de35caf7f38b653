"""A small engine: rows per recipient, pushes that may overtake each other, replays, acknowledgements by name.

Source: spec/node-protocol.md appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol
from urllib.parse import unquote

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.testing.simulation.conversations import (
    GENERAL,
    Conversations,
    Said,
    channel_message,
    direct_message,
    thread_reply,
)
from relaybroker.testing.simulation.timeline import Pipe, Timeline

ROW_LIFE_S = 3600.0
"""A row that is not acknowledged is forgotten after this, by the engine's own clock."""
EPOCH = 1_700_000_000.0
MAILBOX_DEPTH = 1000
REDISPATCH_S = 30.0
OF_AGENT = "agent "
"""Begins the text of a message that an agent sends with its own token; its id follows."""
OWN = "900"
"""The id of the broker's own identity."""
PEOPLE = 500
MESSAGE_IDS = 250_000_000_000_000_000

Frame = dict[str, Any]


class Watcher(Protocol):
    """Who watches what the engine is told."""

    def posted(self, agent_id: str, seq: int, msg_id: str, payload: Any) -> None:
        """A row exists."""

    def acknowledged(self, agent_id: str, former: int, up_to: int, highest: int) -> None:
        """An acknowledgement moved the engine's cursor."""

    def withdrawn(self, agent_id: str, seq: int) -> None:
        """A row is no more: it expired, or was settled elsewhere."""

    def result(self, invocation_id: str, frame: Frame) -> None:
        """An invocation was answered."""

    def published(self, key: str, auth: str, body: Any) -> None:
        """A message was published, for the first time under this key, with this credential."""


@dataclass(frozen=True)
class Traits:
    """How this engine behaves: versions differ, and so do days."""

    knows_cursor: bool = True
    """Of 6.0 or later: says `delivery_ack_seq` and what it accepted."""
    replays_node: bool = False
    """Replays every agent's rows after each agent.register (5.0), not only that agent's."""
    push_s: tuple[float, float] = (0.001, 0.05)
    """How long after its post a row is pushed: a wide range lets rows overtake each other."""
    push_lost: float = 0.0
    """Share of pushes that never happen; a replay brings the row."""
    reply_lost: float = 0.0
    """Share of replies that are never sent."""
    call_failed: float = 0.0
    """Share of REST calls that are answered 503, or not at all."""
    slow_register: float = 0.0
    """Share of agent.register replies that take up to 40 s."""
    refuse_register: float = 0.0
    reject_token: float = 0.0
    """Share of dials that are answered 401."""
    latency_s: tuple[float, float] = (0.0005, 0.01)
    shares_clock: bool = False
    """It runs on the node's machine: a wall clock that is set is set for both."""


@dataclass
class Row:
    """One message for one agent."""

    seq: int
    msg_id: str
    payload: Any
    at: float
    mode: str = "wait"
    twin: bool = False
    """A second row of a message."""


@dataclass
class Agent:
    """An agent as the engine knows it."""

    agent_id: str
    name: str
    next_seq: int = 1
    acked: int = 0
    rows: dict[int, Row] = field(default_factory=dict)
    """Not acknowledged, oldest first."""
    forgotten: set[int] = field(default_factory=set)
    """Numbers of rows that were not acknowledged within their life."""
    here: bool = False
    """Its location is this node."""
    online: bool = False
    """The node said so, last by its inventory."""


@dataclass(frozen=True)
class Posted:
    """A message that the engine took, and the number that it has with each recipient whose mailbox took it."""

    msg_id: str
    seqs: dict[str, int]


class Socket:
    """One accepted connection of the node, as the engine holds it."""

    def __init__(self, dial: int) -> None:
        self.dial = dial
        self.registered = False
        self.to_node: Pipe | None = None

    def send(self, frame: Frame) -> None:
        """Write a frame."""
        if self.to_node is not None:
            self.to_node.send(frame)


class Engine:
    """The engine of one workspace with one node."""

    def __init__(self, timeline: Timeline, random: Random, traits: Traits, watcher: Watcher) -> None:
        self._timeline = timeline
        self._random = random
        self.traits = traits
        self._watcher = watcher
        self.agents: dict[str, Agent] = {}
        self.names: dict[str, str] = {}
        """Name -> its agent id now."""
        self.socket: Socket | None = None
        self.close_node_side: Callable[[Socket, str], None] = lambda _socket, _detail: None
        self.is_up = True
        self.token_serial = 0
        self.invocations: dict[str, Frame] = {}
        """Not answered yet."""
        self.talk = Conversations()
        self.people: dict[str, str] = {}
        """Of whom no program runs: name -> id. The broker's own identity is one of them."""
        self._keys: dict[str, str] = {}
        self._serial = 100

    # --- what people at the engine do -----------------------------------------------------------------------------------

    def create(self, name: str, *, acked: int = 0, next_seq: int = 1) -> Agent:
        """An agent of this name with an id of its own; a former holder of the name is archived, its rows with it."""
        former = self.names.get(name)
        if former is not None:
            self.agents[former].here = self.agents[former].online = False
            for seq in list(self.agents[former].rows):
                self._withdraw(self.agents[former], seq)
            for members in self.talk.members.values():
                members.pop(former, None)
        agent = Agent(str(self._fresh()), name, next_seq=next_seq, acked=acked)
        self.agents[agent.agent_id] = agent
        self.names[name] = agent.agent_id
        self.talk.join(GENERAL, agent.agent_id)
        return agent

    def named(self, name: str) -> Agent | None:
        """The agent that has this name now."""
        agent_id = self.names.get(name)
        return self.agents[agent_id] if agent_id else None

    def post(
        self, agent: Agent, payload: Any, msg_id: str = "", mode: str = "wait", *, twin: bool = False
    ) -> Row | None:
        """A message for an agent; None if its mailbox is full."""
        self._forget(agent)
        if len(agent.rows) >= MAILBOX_DEPTH:
            return None
        now = self._clock()
        row = Row(agent.next_seq, msg_id or self.fresh_message_id(), _dated(payload, now), now, mode, twin)
        agent.next_seq += 1
        agent.rows[row.seq] = row
        self._watcher.posted(agent.agent_id, row.seq, row.msg_id, payload)
        if self._random.random() >= self.traits.push_lost:
            self._timeline.after(self._random.uniform(*self.traits.push_s), self.push, agent, row.seq)
        return row

    def fresh_message_id(self) -> str:
        """A message id that no row has; digits, as engines give them."""
        return f"{MESSAGE_IDS + self._fresh()}"

    def person(self, name: str) -> str:
        """The id of somebody of whom no program runs."""
        return self.people.setdefault(name, str(PEOPLE + len(self.people)))

    def id_of(self, name: str) -> str:
        """The id of an agent or a person; "" if there is nobody of this name."""
        return self.names.get(name) or self.people.get(name, "")

    def name_of(self, one: str) -> str:
        """The name of an agent or a person."""
        if one in self.agents:
            return self.agents[one].name
        return next((name for name, known in self.people.items() if known == one), "")

    def say_in_channel(self, sender_id: str, channel: str, text: str, *, mode: str = "wait", **more: Any) -> Posted:
        """A message in a channel, for every member but its sender."""
        said = self._said(sender_id, channel, is_channel=True)
        payload = channel_message(said, self.name_of(sender_id), text, **more)
        return Posted(said.msg_id, self._post_all(said, payload, mode))

    def say_directly(self, sender_id: str, to: str, text: str, *, mode: str = "wait", **more: Any) -> Posted:
        """A direct message to an agent or a person."""
        said = self._said(sender_id, self.talk.talk(sender_id, self.id_of(to)), is_channel=False)
        payload = direct_message(said, self.name_of(sender_id), to, text, **more)
        return Posted(said.msg_id, self._post_all(said, payload, mode))

    def say_in_thread(self, sender_id: str, message: str, text: str, *, mode: str = "wait", **more: Any) -> Posted:
        """An answer in the thread of a message that was said."""
        asked = self.talk.said[message]
        said = self._said(sender_id, asked.place, is_channel=asked.is_channel, root=asked.root)
        payload = thread_reply(said, self.name_of(sender_id), text, **more)
        return Posted(said.msg_id, self._post_all(said, payload, mode))

    def _said(self, sender_id: str, place: str, *, is_channel: bool, root: str = "") -> Said:
        msg_id = self.fresh_message_id()
        said = Said(msg_id, sender_id, place, is_channel, root or msg_id)
        self.talk.note(said)
        return said

    def _post_all(self, said: Said, payload: Any, mode: str) -> dict[str, int]:
        """A row for every recipient of whom a program may run: its name, and the number that the message has there."""
        seqs = {}
        for one in self.talk.audience(said.place, said.sender_id) or ():
            if one in self.agents and (row := self.post(self.agents[one], payload, said.msg_id, mode)) is not None:
                seqs[self.agents[one].name] = row.seq
        return seqs

    def push(self, agent: Agent, seq: int) -> None:
        """Offer one row on the live socket, if there is one and the row is still there."""
        self._forget(agent)
        row = agent.rows.get(seq)
        if row is not None and agent.here and self.socket is not None and self.socket.registered:
            self.socket.send(deliver(agent, row))

    def has_forgotten(self, agent_id: str, seq: int) -> bool:
        """Whether this row's life is over, and nobody had acknowledged it."""
        agent = self.agents.get(agent_id)
        if agent is None:
            return False
        self._forget(agent)
        return seq in agent.forgotten

    def _clock(self) -> float:
        return self._timeline.wall() if self.traits.shares_clock else self._timeline.now + EPOCH

    def _forget(self, agent: Agent) -> None:
        """Rows whose life is over are no more."""
        now = self._clock()
        for seq in [seq for seq, row in agent.rows.items() if now - row.at > ROW_LIFE_S]:
            agent.forgotten.add(seq)
            self._withdraw(agent, seq)

    def say(self, frame: Frame) -> None:
        """Send any frame to the node."""
        if self.socket is not None and self.socket.registered:
            self.socket.send({"v": 1} | frame)

    def withdraw(self, agent: Agent, seq: int) -> None:
        """A row is settled by other means: the node never sees it (again)."""
        if seq in agent.rows:
            self._withdraw(agent, seq)

    def invoke(self, action: str, name: str, given: Frame) -> str:
        """Ask the node for work; asked again until it is answered."""
        invocation_id = f"inv{self._fresh()}"
        self.invocations[invocation_id] = {
            "v": 1,
            "type": "action.invoke",
            "invocation_id": invocation_id,
            "action": action,
            "agent_name": name,
            "input": given,
        }
        self._dispatch(invocation_id)
        return invocation_id

    def restart(self, down_s: float) -> None:
        """The engine process ends; its database stays."""
        self.is_up = False
        self.drop("eof")
        self._timeline.after(down_s, self._up)

    def drop(self, detail: str) -> None:
        """Close the node's socket."""
        socket, self.socket = self.socket, None
        if socket is not None and socket.to_node is not None:
            socket.to_node.cut()
            self.close_node_side(socket, detail)

    def revoke_token(self) -> None:
        """The node's token is dead; its open socket stays."""
        self.token_serial += 1

    # --- the socket --------------------------------------------------------------------------------------------------------

    def answer_dial(self, token_serial: int) -> tuple[int | None, str]:
        """(HTTP status or None, detail) of an upgrade; (101, "") accepts it."""
        if not self.is_up:
            return None, "connection refused"
        if token_serial != self.token_serial:
            return 401, "invalid node token"
        if self._random.random() < self.traits.reject_token:
            self.token_serial += 1
            return 401, "token revoked"
        return 101, ""

    def accept(self, socket: Socket) -> None:
        """A new socket of the node; a former one is superseded."""
        self.drop("superseded")
        self.socket = socket

    def lost(self, socket: Socket) -> None:
        """The node's end of this socket is gone."""
        if self.socket is socket:
            self.socket = None

    def take(self, socket: Socket, frame: Frame) -> None:
        """A frame from the node."""
        if socket is not self.socket or not self.is_up:
            return
        match frame["type"]:
            case "node.register":
                socket.registered = True
                data: Frame = {"id": frame["node_id"], "name": frame["name"], "status": "online"}
                if self.traits.knows_cursor:
                    listed = [{"name": one["name"], "accepted": True} for one in frame["capabilities"]]
                    data |= {"provider": "relay", "accepted_capabilities": listed}
                self._reply(socket, frame, data)
                for invocation_id in list(self.invocations):
                    self._dispatch(invocation_id)
                self._replay(socket, list(self.agents.values()))
            case "agent.register":
                self._register(socket, frame)
            case "agent.deregister":
                agent = self.agents.get(frame["agent_id"])
                if agent is not None and self.names.get(agent.name) == agent.agent_id:
                    agent.here = agent.online = False
            case "inventory.sync":
                for agent in self.agents.values():
                    agent.online = False
                for row in frame["agents"]:
                    agent = self.agents.get(row["agent_id"])
                    if agent is not None and self.names.get(agent.name) == agent.agent_id:
                        agent.here = agent.online = True
                self._reply(socket, frame, {"rebound_agents": len(frame["agents"])})
                self._replay(socket, list(self.agents.values()))
            case "delivery.ack":
                self._acknowledged(frame)
            case "action.result":
                self._watcher.result(frame["invocation_id"], frame)
                self.invocations.pop(frame["invocation_id"], None)
            case "node.deregister":
                for agent in self.agents.values():
                    agent.here = agent.online = False
            case _:
                pass

    def _register(self, socket: Socket, frame: Frame) -> None:
        if self._random.random() < self.traits.refuse_register:
            self._say_error(socket, frame, "node_capacity_exceeded", "no slot")
            return
        agent = self.named(frame["name"]) or self.create(frame["name"])
        agent.here = agent.online = True
        data: Frame = {"agent_id": agent.agent_id, "token": f"sha256:{self._fresh():x}", "name": agent.name}
        if self.traits.knows_cursor:
            data["delivery_ack_seq"] = agent.acked
        delay = self._random.uniform(5.0, 40.0) if self._random.random() < self.traits.slow_register else 0.0
        self._timeline.after(delay, self._registered, socket, frame, agent, data)

    def _registered(self, socket: Socket, frame: Frame, agent: Agent, data: Frame) -> None:
        if socket is self.socket and self.is_up:
            self._reply(socket, frame, data)
            self._replay(socket, list(self.agents.values()) if self.traits.replays_node else [agent])

    def _acknowledged(self, frame: Frame) -> None:
        agent = self.named(frame["agent"])
        if agent is None or not agent.here:
            return
        former, up_to = agent.acked, frame["up_to_seq"]
        self._watcher.acknowledged(agent.agent_id, former, up_to, agent.next_seq - 1)
        agent.acked = max(former, up_to)
        for seq in [seq for seq in agent.rows if seq <= up_to]:
            del agent.rows[seq]

    def _replay(self, socket: Socket, agents: list[Agent]) -> None:
        for agent in sorted(agents, key=lambda one: one.name):
            self._forget(agent)
            for seq in sorted(agent.rows):
                if agent.here:
                    socket.send(deliver(agent, agent.rows[seq]))

    def _withdraw(self, agent: Agent, seq: int) -> None:
        del agent.rows[seq]
        self._watcher.withdrawn(agent.agent_id, seq)

    def _reply(self, socket: Socket, frame: Frame, data: Frame) -> None:
        if self._random.random() >= self.traits.reply_lost:
            socket.send({"v": 1, "type": "reply", "id": frame["id"], "ok": True, "data": data})

    def _say_error(self, socket: Socket, frame: Frame, code: str, message: str) -> None:
        socket.send({"v": 1, "type": "error", "id": frame["id"], "code": code, "message": message})

    def _dispatch(self, invocation_id: str) -> None:
        frame = self.invocations.get(invocation_id)
        if frame is not None and self.socket is not None and self.socket.registered:
            self.socket.send(frame)
            self._timeline.after(REDISPATCH_S, self._dispatch, invocation_id)

    def _up(self) -> None:
        self.is_up = True

    # --- REST ---------------------------------------------------------------------------------------------------------------

    def call(self, call: HttpCall) -> tuple[int, Any, str] | None:
        """(status, data, error code) of a REST call; None = no answer."""
        if not self.is_up:
            return None
        fate = self._random.random()
        if fate < self.traits.call_failed / 4:
            return None
        answer = self._answer(call)
        if fate < self.traits.call_failed / 2:
            return None  # it was done, and nobody hears of it
        return (503, None, "unavailable") if fate < self.traits.call_failed else answer

    def _answer(self, call: HttpCall) -> tuple[int, Any, str]:
        parts = [unquote(part) for part in call.path.split("/")[2:]]
        body = call.body or {}
        match call.method, parts:
            case "GET", ["nodes", _]:
                return 404, None, "node_not_found"
            case "POST", ["nodes"]:
                self.token_serial += 1
                return 201, {"id": body["node_id"], "token": f"sha256:node{self.token_serial}"}, ""
            case "POST", ["agents"] if body.get("type") == "human":
                self.people[body["name"]] = OWN
                return 201, {"id": OWN, "name": body["name"], "token": "sha256:own"}, ""
            case "POST", ["agents"]:
                if self.named(body["name"]) is not None:
                    return 409, None, "agent_already_exists"
                agent = self.create(body["name"])
                return 201, self._identity(agent), ""
            case "GET", ["agents", name]:
                registered = self.named(name)
                if registered is None:
                    return 404, None, "agent_not_found"
                status = "active" if registered.online else "offline"
                return 200, {"id": registered.agent_id, "name": name, "status": status}, ""
            case "POST", ["agents", name, "takeover"]:
                registered = self.named(name)
                if registered is None:
                    return 404, None, "agent_not_found"
                if registered.agent_id != body["expected_agent_id"]:
                    return 409, None, "agent_id_mismatch"
                return 200, self._identity(registered), ""
            case "POST", ["nodes", _, "agents"]:
                registered = self.named(body["agent_name"])
                if registered is None:
                    return 404, None, "agent_not_found"
                registered.here = registered.online = True
                data: Frame = {"agent_id": registered.agent_id, "node_id": NODE_ID}
                return 201, data | ({"delivery_ack_seq": registered.acked} if self.traits.knows_cursor else {}), ""
            case "DELETE", ["nodes", _, "agents", name]:
                registered = self.named(name)
                if registered is not None:
                    registered.here = registered.online = False
                return 204, None, ""
            case "POST", ["channels"]:
                self.talk.join(str(body["name"]), self._caller(call))
                return 201, {"name": body["name"]}, ""
            case "POST", ["channels", channel, "join" | "leave" as verb]:
                return self._membership(call, channel, verb)
            case "POST", ["messages", _, "read" | "reactions"]:
                return 201, {}, ""
            case "POST", ["dm"] | ["channels" | "messages" | "dm", _, "messages" | "replies"]:
                return self._publish(call, parts)
            case _:
                raise AssertionError(f"the simulated engine has no {call.method} {call.path}")

    def _caller(self, call: HttpCall) -> str:
        """Whose token a call has."""
        return call.auth.removeprefix("agent:") if call.auth.startswith("agent:") else OWN

    def _membership(self, call: HttpCall, channel: str, verb: str) -> tuple[int, Any, str]:
        if channel not in self.talk.members:
            return 404, None, "channel_not_found"
        (self.talk.join if verb == "join" else self.talk.leave)(channel, self._caller(call))
        return 200, {"channel": channel}, ""

    def _publish(self, call: HttpCall, parts: list[str]) -> tuple[int, Any, str]:
        """A message, once for each idempotency key, as its true sender."""
        if call.idempotency_key not in self._keys:
            body, sender = call.body or {}, self._caller(call)
            if error := self._why_not(parts, body):
                return 404, None, error
            more = {"metadata": body["data"]} if body.get("data") else {}
            text, mode = str(body["text"]), str(body.get("mode", "wait"))
            match parts:
                case ["dm"]:
                    made = self.say_directly(sender, str(body["to"]), text, mode=mode, **more)
                case ["messages", message, _]:
                    made = self.say_in_thread(sender, message, text, **more)
                case [_, place, _]:
                    made = self.say_in_channel(sender, place, text, mode=mode, **more)
                case _:
                    raise AssertionError(parts)
            self._keys[call.idempotency_key] = made.msg_id
            self._watcher.published(call.idempotency_key, call.auth, body)
        return 201, {"id": self._keys[call.idempotency_key]}, ""

    def _why_not(self, parts: list[str], body: Frame) -> str:
        """The engine's code for a place that is not there; "" = it is."""
        match parts:
            case ["dm"]:
                return "" if self.id_of(str(body.get("to", ""))) else "agent_not_found"
            case ["messages", message, _]:
                return "" if message in self.talk.said else "message_not_found"
            case ["channels", place, _]:
                return "" if place in self.talk.members else "channel_not_found"
            case _:
                return "conversation_not_found"

    def _identity(self, agent: Agent) -> Frame:
        return {"id": agent.agent_id, "name": agent.name, "token": f"sha256:{self._fresh():x}"}

    def _fresh(self) -> int:
        self._serial += 1
        return self._serial


NODE_ID = "node_0123456789abcdef0123456789abcdef"


def deliver(agent: Agent, row: Row) -> Frame:
    """The frame that offers a row."""
    return {
        "v": 1,
        "type": "deliver",
        "agent": agent.name,
        "agent_id": agent.agent_id,
        "delivery_id": f"del_{row.msg_id}_{agent.agent_id}" + (f"_{row.seq}" if row.twin else ""),
        "msg_id": row.msg_id,
        "seq": row.seq,
        "mode": row.mode,
        "payload": row.payload,
    }


def _dated(payload: Any, now: float) -> Any:
    """Engines say in the payload of a message when they took it."""
    if isinstance(payload, dict) and isinstance(payload.get("data"), dict):
        return payload | {"data": {"created_at": now} | payload["data"]}
    return payload


def message(msg_id: str, text: str, *, sender: str = "alice", kind: str = "message.created", **fields: Any) -> Frame:
    """The payload of an ordinary message."""
    return {
        "type": kind,
        "data": {"id": msg_id, "agent_id": "55", "agent_name": sender, "text": text, "channel_name": "general"}
        | fields,
    }
