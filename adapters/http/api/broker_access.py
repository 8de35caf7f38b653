"""How routes reach the broker: ask and wait for the answer, or look at the state.

A request is answered by the `Reply` effect with its id, which leaves after everything behind it is durable.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

from relaybroker.adapters.http.api.agent_scope import AgentCaller
from relaybroker.adapters.http.api.gateway import Gateway
from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.adapters.sessions.host.protocol import Answer, Asks
from relaybroker.domain import engine_status
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import (
    ActRequested,
    EngineUnanswered,
    Input,
    RedeliverRequested,
    SendRequested,
    SpawnRequested,
)
from relaybroker.domain.state import State

MAX_OPEN = 1024
"""Requests that may wait for an answer at once."""
LOCKED_ANSWER_S = 3.0
"""A request that waits for its answer when another program takes the log's write lock hears of it after this time."""
LOCK_LOOK_S = 0.5
LOOK_S = 10.0
"""The engine shows an agent something within this time, or the agent hears that it does not."""
NEW = (SpawnRequested, SendRequested, ActRequested, RedeliverRequested)
"""What is refused while the log has no room for more."""
_LOCKED = "Another program holds the write lock of the broker's log"


class BrokerAccess:
    """The broker behind the routes."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._open: dict[str, asyncio.Future[Reply]] = {}
        self._closed = False

    @property
    def state(self) -> State:
        """The core's state, to look at only."""
        return self.gateway.state

    @staticmethod
    def now() -> float:
        """Epoch seconds."""
        return time.time()

    async def ask(self, build: Callable[[str], Input], timeout_s: float) -> Reply:
        """Give the core an input with a fresh request id and wait for its answer.

        Raises:
            InvalidRequest: `queue_full` when the core has no room, `shutting_down` when it answers no more, `disk_full` for something new
                while the disk of the log is full, `log_locked` while another program holds its write lock: before anything was done, or
                with `pending` if it may still happen.
            TimeoutError: no answer within the time; what was asked may still happen.
        """
        if self._closed:
            raise _stopping()
        if self.gateway.log_locked_s():
            raise InvalidRequest(Refusal.UNAVAILABLE, "log_locked", f"{_LOCKED}; nothing was done, try again")
        request_id = f"api_{uuid.uuid4().hex}"
        item, room = build(request_id), self.gateway.disk_room()
        if isinstance(item, NEW) and not room.takes_more:
            text = f"The disk of the broker's log is {room.grade}; nothing new is accepted, and nothing was done"
            raise InvalidRequest(Refusal.UNAVAILABLE, "disk_full", text)
        if len(self._open) >= MAX_OPEN or not self.gateway.offer(item):
            raise InvalidRequest(Refusal.FULL, "queue_full", "the broker cannot accept more requests now; try again")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._open[request_id] = future
        try:
            return await self._answered(future, timeout_s)
        finally:
            del self._open[request_id]

    async def _answered(self, future: asyncio.Future[Reply], timeout_s: float) -> Reply:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not future.done():
            left = deadline - loop.time()
            if left <= 0:
                raise TimeoutError
            await asyncio.wait((future,), timeout=min(left, LOCK_LOOK_S))
            if not future.done() and self.gateway.log_locked_s() >= LOCKED_ANSWER_S:
                raise InvalidRequest(
                    Refusal.UNAVAILABLE,
                    "log_locked",
                    f"{_LOCKED}; the request will be carried out when the lock is released",
                    pending=True,
                )
        return future.result()

    def reply(self, reply: Reply) -> None:
        """The core's answer to a request."""
        future = self._open.get(reply.request_id)
        if future is not None and not future.done():
            future.set_result(reply)

    async def ask_host(self, request: Asks) -> Answer:
        """Ask the PTY host."""
        return await self.gateway.ask_host(request)

    def agent_of(self, token: str) -> AgentCaller | None:
        """The agent that this token lets act here; None if it is nobody's newest, or its registration does not live."""
        agent_id = self.gateway.agent_of(token)
        registration = self.state.acting(agent_id) if agent_id else None
        return None if registration is None else AgentCaller(agent_id, registration.name)

    def operator(self) -> AgentCaller:
        """The operator, as the broker's own identity.

        Raises:
            InvalidRequest: 503 `engine_unavailable`, the engine has not given the broker its identity yet.
        """
        own = self.state.own
        if not own.agent_id:
            raise InvalidRequest(
                Refusal.UNAVAILABLE, "engine_unavailable", "the broker has no identity at the engine yet; try again"
            )
        return AgentCaller("", own.name)

    async def look(self, caller: AgentCaller, path: str) -> Any:
        """What the engine shows this agent there. The operator has the workspace's key, and reads along whatever it is no member of.

        Raises:
            InvalidRequest: what the engine refused, with its code; `engine_unavailable` if it does not answer.
        """
        call_id = f"look_{uuid.uuid4().hex}"
        is_everybodys = caller.is_operator and path.startswith(("/v1/messages/", "/v1/channels"))
        answer = await self.gateway.ask_engine(
            HttpCall(
                call_id=call_id,
                method="GET",
                path=path,
                auth="workspace" if is_everybodys else caller.credential,
                timeout_s=LOOK_S,
            )
        )
        if isinstance(answer, EngineUnanswered):
            raise engine_status.refusal_of(engine_status.UNANSWERED, "", answer.detail)
        if not engine_status.is_done(answer.status):
            raise engine_status.refusal_of(answer.status, answer.code, answer.message)
        return answer.data

    def close(self) -> None:
        """Answer every waiting request, and every later one: the broker is stopping."""
        self._closed = True
        for future in self._open.values():
            if not future.done():
                future.set_exception(_stopping())


def _stopping() -> InvalidRequest:
    return InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
