"""JSON-RPC 2.0 with a program on its pipes, one message a line, both ways. What is no message is passed over and told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from relaybroker.adapters.sessions.rows import MAX_JUNK, Row, inner, read_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.sessions.host.piped_process import PipedProcess

NOT_FOUND = -32601
"""The method is none of ours."""
MAX_OPEN = 64
"""Requests of ours that wait for an answer."""


class RefusedError(Exception):
    """The program answered with an error."""

    def __init__(self, error: Any) -> None:
        detail = inner(error, "data", "details") or inner(error, "data", "message") or inner(error, "data")
        said = str(inner(error, "message"))[:300]
        super().__init__(f"{said}: {str(detail)[:300]}" if detail else said)
        code = inner(error, "code")
        self.code = code if isinstance(code, int) else 0


class RpcPipes:
    """One side of the conversation; it begins to read at once.

    Args:
        process: the program.
        on_notification: takes the method and parameters of what wants no answer.
        on_request: takes the id, method and parameters of what does.
        on_end: called once, when nothing can come any more.
        on_junk: takes what a line said that is no message.
    """

    def __init__(
        self,
        process: PipedProcess,
        *,
        on_notification: Callable[[str, Row], None],
        on_request: Callable[[Any, str, Row], None],
        on_end: Callable[[], None],
        on_junk: Callable[[str], None],
    ) -> None:
        self._process = process
        self._on_notification, self._on_request = on_notification, on_request
        self._on_end, self._on_junk = on_end, on_junk
        self._asked: dict[int, asyncio.Future[Row]] = {}
        self._numbers = iter(range(1, 2**53))
        self.has_ended = False
        process.read(self._line, self.end, lambda: on_junk("a line that is too long was passed over"))

    async def ask(self, method: str, **values: Any) -> asyncio.Future[Row]:
        """Send a request; its future gets the result, RefusedError, or ConnectionError when the program is gone.

        Raises:
            OSError: it was not sent (`NotWrittenError` says whether a part of it was).
        """
        if self.has_ended or len(self._asked) >= MAX_OPEN:
            raise ConnectionError("the program has ended" if self.has_ended else "it answers nothing")
        number = next(self._numbers)
        answer: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._asked[number] = answer
        try:
            await self._send({"id": number, "method": method, "params": values})
        except BaseException:
            self._asked.pop(number, None)
            raise
        return answer

    async def call(self, method: str, limit_s: float, **values: Any) -> Row:
        """The result of a request. Raises RefusedError, OSError, TimeoutError."""
        async with asyncio.timeout(limit_s):
            return await (await self.ask(method, **values))

    async def notify(self, method: str, **values: Any) -> None:
        """Send what wants no answer. Raises OSError."""
        await self._send({"method": method, "params": values})

    async def respond(self, number: Any, result: Row) -> None:
        """Answer a request of the program. Raises OSError."""
        await self._send({"id": number, "result": result})

    async def refuse(self, number: Any, code: int, message: str) -> None:
        """Answer a request of the program with an error. Raises OSError."""
        await self._send({"id": number, "error": {"code": code, "message": message}})

    def end(self) -> None:
        """Nothing comes any more: what waits for an answer gets none."""
        if not self.has_ended:
            self.has_ended = True
            asked, self._asked = self._asked, {}
            for answer in asked.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the program has ended"))
            self._on_end()

    async def _send(self, message: Row) -> None:
        await self._process.write(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def _line(self, line: bytes) -> None:
        if not line.strip():
            return
        message = read_row(line)
        if message is None:
            self._on_junk(line[:MAX_JUNK].decode("utf-8", "replace"))
            return
        method, values = message.get("method"), message.get("params")
        if isinstance(method, str):
            values = values if isinstance(values, dict) else {}
            if message.get("id") is None:
                self._on_notification(method, values)
            else:
                self._on_request(message["id"], method, values)
        elif isinstance(number := message.get("id"), int) and (answer := self._asked.pop(number, None)) is not None:
            if answer.done():
                return
            if "error" in message:
                answer.set_exception(RefusedError(message["error"]))
            else:
                result = message.get("result")
                answer.set_result(result if isinstance(result, dict) else {})


def _seen(answer: asyncio.Future[Row]) -> None:
    """A failure that nobody waits for any more is no failure of ours."""
    if not answer.cancelled():
        answer.exception()
