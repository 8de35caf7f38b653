"""An engine that knows agents and tells the truth about them: what is registered where, and what a refused caller must not touch.

It decides as spec/engine-contract.md section 6 says, for engines that take names over (5.0 to 8.1) and for those that only create them
(8.2). Frames and calls wait until a test lets it work, and its answers wait until a test lets them through: so answers come late, on a
socket that is gone, or never.

What a broker must never do is asserted here: rotate, take over or end an agent that lives on another node.
"""

from __future__ import annotations

import urllib.parse
from collections import deque
from dataclasses import dataclass
from typing import Any

from relaybroker.adapters.http.engine_calls import HttpCall

Frame = dict[str, Any]
HERE, ELSEWHERE, DIRECT = "here", "elsewhere", "direct"


@dataclass
class Agent:
    """One agent, as the engine knows it."""

    name: str
    agent_id: str
    token: str
    place: str
    active: bool = True

    @property
    def lives_elsewhere(self) -> bool:
        """Whether another node runs it."""
        return self.active and self.place == ELSEWHERE


@dataclass
class Answer:
    """What the engine answered to a call."""

    call_id: str
    status: int
    data: Any = None
    code: str = ""


class AgentsEngine:
    """One workspace with one node of ours."""

    def __init__(self, node_id: str, *, create_only: bool) -> None:
        self.node_id = node_id
        self.create_only = create_only
        self.agents: dict[str, Agent] = {}
        self.refuses = ""
        """Code with which the next registrations are refused."""
        self.inbox: deque[Frame] = deque()
        self.outbox: deque[Frame] = deque()
        self.calls: deque[HttpCall] = deque()
        self.answers: list[Answer] = []
        self._serial = 0

    def _fresh(self, kind: str) -> str:
        self._serial += 1
        return f"{kind}{self._serial}"

    def living_here(self) -> dict[str, str]:
        """Names of the agents that this engine offers messages for on our node, with their ids."""
        return {agent.name: agent.agent_id for agent in self.agents.values() if agent.active and agent.place == HERE}

    # --- another node -----------------------------------------------------------------------------------------------

    def settle_elsewhere(self, name: str) -> None:
        """Another node registers the name, if nobody has it or nobody runs it."""
        known = self.agents.get(name)
        if known is None:
            self.agents[name] = Agent(name, self._fresh("id"), self._fresh("sha256:t"), ELSEWHERE)
        elif not known.active:
            known.place, known.active, known.token = ELSEWHERE, True, self._fresh("sha256:t")

    def leave_elsewhere(self, name: str) -> None:
        """The other node's agent ends."""
        known = self.agents.get(name)
        if known is not None and known.place == ELSEWHERE:
            known.active = False

    # --- the socket -------------------------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """The socket ends: what was on its way is gone, and nobody here is reachable."""
        self.inbox.clear()
        self.outbox.clear()
        for agent in self.agents.values():
            if agent.place == HERE:
                agent.active = False

    def work(self) -> None:
        """Decide about the oldest frame."""
        frame = self.inbox.popleft()
        match frame["type"]:
            case "node.register":
                self._reply(frame, {"id": self.node_id})
            case "agent.register":
                self._register(frame)
            case "agent.deregister":
                self._deregister(frame)
            case "inventory.sync":
                self._sync(frame)
            case _:
                pass

    def _reply(self, frame: Frame, data: dict[str, Any]) -> None:
        self.outbox.append({"type": "reply", "id": frame["id"], "ok": True, "data": data})

    def _error(self, frame: Frame, code: str) -> None:
        self.outbox.append({"type": "error", "id": frame["id"], "ok": False, "code": code, "message": "no"})

    def _register(self, frame: Frame) -> None:
        name = frame["name"]
        known = self.agents.get(name)
        if self.refuses:
            self._error(frame, self.refuses)
        elif known is not None and self.create_only:
            self._error(frame, "agent_already_exists")
        elif known is not None and known.lives_elsewhere:
            self._error(frame, "agent_location_conflict")
        else:
            if known is None:
                known = self.agents[name] = Agent(name, self._fresh("id"), "", HERE)
            known.place, known.active, known.token = HERE, True, self._fresh("sha256:t")
            self._reply(frame, {"agent_id": known.agent_id, "token": known.token, "name": name})

    def _deregister(self, frame: Frame) -> None:
        for agent in self.agents.values():
            if agent.agent_id == frame["agent_id"] and agent.place == HERE:
                agent.place, agent.active = DIRECT, False
        self._reply(frame, {"agent_id": frame["agent_id"], "name": frame["name"], "deregistered": True})

    def _sync(self, frame: Frame) -> None:
        listed = [row["name"] for row in frame["agents"]]
        known = [self.agents[name] for name in listed if name in self.agents]
        if any(agent.lives_elsewhere for agent in known):
            self._error(frame, "agent_location_conflict")
            return
        for agent in known:
            agent.place, agent.active = HERE, True
        for agent in self.agents.values():
            if agent.place == HERE and agent.name not in listed:
                agent.active = False
        self._reply(frame, {"rebound_agents": len(known)})

    # --- REST -------------------------------------------------------------------------------------------------------

    def serve(self, call: HttpCall) -> None:
        """Decide about a call; its answer waits."""
        path = [urllib.parse.unquote(part) for part in call.path.strip("/").split("/")[1:]]
        status, data, code = self._served(call, path)
        self.answers.append(Answer(call.call_id, status, data, code))

    def _served(self, call: HttpCall, path: list[str]) -> tuple[int, Any, str]:
        match call.method, path:
            case "POST", ["agents"]:
                return self._create(call.body["name"])
            case "GET", ["agents", name] if name in self.agents:
                agent = self.agents[name]
                return 200, {"id": agent.agent_id, "name": name, "status": _status(agent)}, ""
            case "GET", ["nodes", _, "agents"]:
                return 200, [vars(agent) for agent in self.agents.values() if agent.place == HERE], ""
            case "POST", ["agents", name, "takeover"]:
                return self._take_over(name, call.body["expected_agent_id"])
            case "POST", ["agents", name, "rotate-token"] if name in self.agents:
                return self._rotate(self.agents[name])
            case "POST", ["nodes", _, "agents"]:
                return self._bind(call.body["agent_name"])
            case "DELETE", ["nodes", _, "agents", name]:
                return self._unbind(name)
            case "POST", ["channels", *_]:
                return 200, {}, ""
            case _:
                return 404, None, "agent_not_found"

    def _create(self, name: str) -> tuple[int, Any, str]:
        if name in self.agents:
            return 409, None, "agent_already_exists"
        made = self.agents[name] = Agent(name, self._fresh("id"), self._fresh("sha256:t"), DIRECT)
        return 201, {"id": made.agent_id, "name": name, "token": made.token, "status": "online"}, ""

    def _take_over(self, name: str, expected: str) -> tuple[int, Any, str]:
        agent = self.agents.get(name)
        if not self.create_only:
            return 404, None, "not_found"
        if agent is None:
            return 404, None, "agent_not_found"
        if agent.agent_id != expected or agent.lives_elsewhere:
            return 409, None, "agent_identity_conflict"
        return self._rotate(agent)

    def _rotate(self, agent: Agent) -> tuple[int, Any, str]:
        assert not agent.lives_elsewhere, f"FAIL-CLOSED: the token of {agent.name} was rotated under another node"
        agent.token = self._fresh("sha256:t")
        return 200, {"agent_id": agent.agent_id, "name": agent.name, "token": agent.token}, ""

    def _bind(self, name: str) -> tuple[int, Any, str]:
        agent = self.agents.get(name)
        if agent is None:
            return 404, None, "agent_not_found"
        if self.refuses:
            return 409, None, self.refuses
        assert not agent.lives_elsewhere, f"FAIL-CLOSED: {name} was taken from another node"
        agent.place, agent.active = HERE, True
        return 201, {"agent_id": agent.agent_id, "node_id": self.node_id}, ""

    def _unbind(self, name: str) -> tuple[int, Any, str]:
        agent = self.agents.get(name)
        if agent is not None and agent.place == HERE:
            agent.place, agent.active = DIRECT, False
        return 200, {}, ""


def _status(agent: Agent) -> str:
    return "online" if agent.active else "offline"
