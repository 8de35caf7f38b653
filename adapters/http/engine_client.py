"""The engine's REST interface: runs `HttpCall`s and answers each one exactly once.

Rules:

* At most 64 calls are under way; at most 2048 more wait, first come first served. A call beyond that is answered at
  once with `queue_full`.
* The time limit of a call begins when it is asked for, not when its turn comes.
* A look (`ask`, GET only) is answered to who asks and leaves no trace: at most 16 are under way, at most 256 more wait.
* Nothing is retried here: whether a call may be repeated is the core's decision (F130).
* A `token` in the answer goes into the vault before the answer is delivered, and its fingerprint takes its place.

Source: spec/engine-contract.md section 1; spec/node-protocol.md sections 0.2 and 1.5; invariant I7.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from relaybroker.adapters.vault import NODE, OWN, agent_reference, fingerprint, is_agent_id
from relaybroker.domain.decoding import NOT_READABLE
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from relaybroker.adapters.http.engine_calls import HttpCall
    from relaybroker.adapters.vault import Vault
    from relaybroker.domain.inputs import Input

_log = logging.getLogger(__name__)

IN_FLIGHT = 64
WAITING = 2048
LOOKS = 16
LOOKS_WAITING = 256
MAX_ANSWER_BYTES = 16 * 1024 * 1024
ORIGIN = "relaybroker"
SUPPLIED = "supplied:"
"""Begins the `capture` of a call whose answer says whose a token is that a caller brought along."""

TIMEOUT = "timeout"
QUEUE_FULL = "queue_full"
NO_CREDENTIAL = "no_credential"
NOT_KEPT = "token_not_kept"


class _Asked(NamedTuple):
    call: HttpCall
    deadline: float
    """On the event loop's clock."""


class EngineClient:
    """Runs engine calls.

    Args:
        base_url: the resolved base URL of the engine.
        vault: has the credentials; gets the tokens that answers bring.
        deliver: takes each answer; it returns when there is room for it.
        version: of this program, for the optional origin headers.
        socket: Unix socket by which the engine is reached, whatever the URL says; "" = by the URL.
    """

    def __init__(
        self,
        base_url: str,
        *,
        vault: Vault,
        deliver: Callable[[Input], Awaitable[None]],
        version: str,
        socket: str = "",
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._socket = socket
        self._vault = vault
        self._deliver = deliver
        self._headers = {"X-Relaycast-Origin-Client": ORIGIN, "X-Relaycast-Origin-Version": version}
        self._waiting: deque[_Asked] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = 0
        self._looks = asyncio.Semaphore(LOOKS)
        self._looking = 0
        self._session: aiohttp.ClientSession | None = None

    def call(self, call: HttpCall) -> None:
        """Run one call; its answer is delivered as one input."""
        asked = _Asked(call, asyncio.get_running_loop().time() + call.timeout_s)
        if self._workers < IN_FLIGHT:
            self._workers += 1
            self._spawn(self._work(asked))
        elif len(self._waiting) < WAITING:
            self._waiting.append(asked)
        else:
            # Bounded all the same: the core has at most as many open calls as messages and agents.
            self._spawn(self._deliver(EngineUnanswered(call_id=call.call_id, detail=QUEUE_FULL)))

    async def ask(self, call: HttpCall) -> EngineAnswered | EngineUnanswered:
        """The answer of a call that only looks. Nobody else hears of it, and it changes nothing."""
        assert call.method == "GET", "what changes something goes through the core"
        if self._looking >= LOOKS + LOOKS_WAITING:
            return EngineUnanswered(call_id=call.call_id, detail=QUEUE_FULL)
        deadline = asyncio.get_running_loop().time() + call.timeout_s
        self._looking += 1
        try:
            async with asyncio.timeout_at(deadline), self._looks:
                return await self._answered(_Asked(call, deadline))
        except TimeoutError:
            return EngineUnanswered(call_id=call.call_id, detail=TIMEOUT)
        finally:
            self._looking -= 1

    async def shut(self) -> None:
        """Drop what is under way and give the connections back. Nothing is delivered afterwards."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, asked: _Asked) -> None:
        """Run this call and then those that wait, until none does."""
        try:
            await self._deliver(await self._answer(asked))
            while self._waiting:
                await self._deliver(await self._answer(self._waiting.popleft()))
        finally:
            self._workers -= 1

    async def _answer(self, asked: _Asked) -> EngineAnswered | EngineUnanswered:
        """The answer, with its token in the vault."""
        call, answer = asked.call, await self._answered(asked)
        if isinstance(answer, EngineUnanswered) or not isinstance(answer.data, dict):
            return answer
        if not (_holds_token(answer.data) or call.capture.startswith(SUPPLIED)):
            return answer
        try:
            data = await asyncio.to_thread(self._move_token_into_vault, call, answer.data)
        except (OSError, ValueError) as error:
            _log.warning("a token from %s %s could not be kept: %s", call.method, call.path, error)
            return EngineUnanswered(call_id=call.call_id, detail=NOT_KEPT)
        return msgspec.structs.replace(answer, data=data)

    async def _answered(self, asked: _Asked) -> EngineAnswered | EngineUnanswered:
        call = asked.call
        credential = self._vault.token(call.auth)
        if credential is None:
            return EngineUnanswered(call_id=call.call_id, detail=NO_CREDENTIAL)
        try:
            async with asyncio.timeout_at(asked.deadline):
                status, content = await self._request(call, credential)
        except TimeoutError:
            return EngineUnanswered(call_id=call.call_id, detail=TIMEOUT)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return EngineUnanswered(call_id=call.call_id, detail=str(error) or type(error).__name__)
        return _unwrap(call.call_id, status, content)

    async def _request(self, call: HttpCall, credential: str) -> tuple[int, bytes]:
        if self._session is None:
            connector: aiohttp.BaseConnector = aiohttp.TCPConnector(limit=IN_FLIGHT)
            if self._socket:
                connector = aiohttp.UnixConnector(self._socket, limit=IN_FLIGHT)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        headers = {**self._headers, "Authorization": f"Bearer {credential}"}
        if call.idempotency_key:
            headers["Idempotency-Key"] = call.idempotency_key
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        async with self._session.request(
            call.method,
            URL(self._base_url + call.path, encoded=True),
            data=None if call.body is None else msgspec.json.encode(call.body),
            headers=headers,
            allow_redirects=False,  # a redirect would carry the credential to another place
        ) as response:
            return response.status, await _read_bounded(response)

    def _move_token_into_vault(self, call: HttpCall, data: dict[str, Any]) -> dict[str, Any]:
        given_id = data.get("agent_id") if call.capture.startswith(SUPPLIED) else data.get("id") or data.get("agent_id")
        agent_id = given_id if isinstance(given_id, str) else ""
        if call.capture.startswith(SUPPLIED) and is_agent_id(agent_id):
            self._vault.adopt(call.capture.removeprefix(SUPPLIED), agent_id)
        if not _holds_token(data):
            return data
        token = data["token"].strip()
        if not token:
            return {**data, "token": ""}
        if call.capture == OWN and is_agent_id(agent_id):
            self._vault.keep(OWN, token, agent_id=agent_id)
        elif call.capture == NODE:
            if not self._is_for_another_node(call, agent_id):
                self._vault.keep(NODE, token)
        elif call.capture.startswith(agent_reference("")):
            self._vault.keep(call.capture, token)
        elif is_agent_id(agent_id):
            self._vault.keep(agent_reference(agent_id), token)
        return {**data, "token": fingerprint(token)}

    @staticmethod
    def _is_for_another_node(call: HttpCall, node_id: str) -> bool:
        """The name was another node's: its token is discarded unseen (node-protocol.md 1.5)."""
        asked = (call.body or {}).get("node_id")
        return asked is not None and asked != node_id


def _holds_token(data: dict[str, Any]) -> bool:
    return isinstance(data.get("token"), str)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise ValueError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _unwrap(call_id: str, status: int, content: bytes) -> EngineAnswered:
    """The answer without its envelope. What is no envelope keeps its status and, if it is JSON, its data."""
    try:
        answer = msgspec.json.decode(content) if content.strip() else {}
    except NOT_READABLE:
        return EngineAnswered(call_id=call_id, status=status, code="invalid_answer", message="the answer is not JSON")
    if not isinstance(answer, dict):
        return EngineAnswered(call_id=call_id, status=status, data=answer)
    error = answer.get("error")
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
        return EngineAnswered(
            call_id=call_id,
            status=status,
            code=code if isinstance(code, str) else "",
            message=message if isinstance(message, str) else "",
        )
    return EngineAnswered(call_id=call_id, status=status, data=answer.get("data"))
