"""`relaybroker mcp`: the stdio bridge, for programs that only start commands.

Each line is one message for the broker's `/mcp`, each answer is a line.

Rules:

* It is small and starts fast: the standard library and nothing else, no threads but those that wait for the broker.
* It understands of a message only what HTTP needs: its id, its method, its version. Everything else is between program and broker.
* A broker that is away (restarting, killed) is asked again for `RETRY_S`, with the same idempotency key: nothing is sent twice. Then the
  program gets an error that says so.
* The token comes from the environment and goes nowhere but to the broker.

Source: spec/conversation.md sections 1 and 2.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import sys
import threading
import time
from typing import IO, Any

RETRY_S = 30.0
"""How long a broker may be away, from the first failure to the error."""
PAUSE_FIRST_S, PAUSE_MAX_S = 0.1, 1.0
ATTEMPT_S = 30.0
"""One attempt; the broker answers within 25 s."""
AT_ONCE = 8
"""Messages that wait for the broker at the same time; the next line is read when one is answered."""
MAX_LINE = 256 * 1024
UNAVAILABLE, REFUSED, TOO_LONG = -32000, -32001, -32600
"""Codes of errors that are the bridge's own: nobody answers; the broker does not let this agent in; a line is too long."""

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"


class Broker:
    """Where the messages go.

    Args:
        url: of the local API, `http://HOST:PORT`.
        token: of the agent.
    """

    def __init__(self, url: str, token: str) -> None:
        self._place = url.removeprefix("http://").rstrip("/")
        self._token = token
        self._negotiated = ""

    def answer(self, line: bytes) -> bytes | None:
        """What the program gets for a line; None = nothing."""
        message = _read(line)
        try:
            status, body = self._asked(line, message)
        except (OSError, http.client.HTTPException) as error:
            return _error(
                message, UNAVAILABLE, f"the broker does not answer: {str(error) or type(error).__name__}; try again"
            )
        if status == 202 or (status < 400 and not body):
            return None
        said = _read(body)
        if "jsonrpc" not in said:
            return _error(
                message, REFUSED, f"{said.get('message', f'the broker answers {status}')} [{said.get('code', '?')}]"
            )
        if message.get("method") == "initialize" and isinstance(said.get("result"), dict):
            self._negotiated = str(said["result"].get("protocolVersion", ""))
        return body

    def _asked(self, line: bytes, message: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body, after as many attempts as it takes. Raises what the last one did."""
        headers = self._headers(message) | {"Idempotency-Key": os.urandom(16).hex()}
        deadline, pause = 0.0, PAUSE_FIRST_S
        while True:
            failure: Exception | None = None
            try:
                status, body = self._attempt(line, headers)
                if status != 503:
                    return status, body
            except (OSError, http.client.HTTPException) as error:
                failure = error
            deadline = deadline or time.monotonic() + RETRY_S
            if time.monotonic() + pause > deadline:
                if failure is not None:
                    raise failure
                return status, body
            time.sleep(pause)
            pause = min(PAUSE_MAX_S, pause * 2)

    def _attempt(self, line: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._place, timeout=ATTEMPT_S)
        try:
            connection.request("POST", "/mcp", line, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _headers(self, message: dict[str, Any]) -> dict[str, str]:
        """What HTTP says beside the message: who asks, and in the stateless era the same as its body."""
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        params = message.get("params")
        meta = params.get("_meta") if isinstance(params, dict) else None
        version = meta.get(_VERSION_KEY) if isinstance(meta, dict) else None
        if isinstance(version, str):
            headers |= {"MCP-Protocol-Version": _plain(version), "Mcp-Method": _plain(str(message.get("method", "")))}
            if isinstance(params, dict) and isinstance(params.get("name"), str):
                headers["Mcp-Name"] = _plain(params["name"])
        elif self._negotiated:
            headers["MCP-Protocol-Version"] = self._negotiated
        return headers


def _read(text: bytes) -> dict[str, Any]:
    """The object in a text; an empty one if there is none: the broker says what is wrong with it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _plain(text: str) -> str:
    """As the value of a header; in base64 where it could not be one."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'surrogatepass')).decode()}?="


def _error(message: dict[str, Any], code: int, text: str) -> bytes | None:
    """An error for a request; a notification gets none."""
    if message and "id" not in message:
        return None
    return json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": text}}).encode()


def serve(broker: Broker, source: IO[bytes], sink: IO[bytes]) -> None:
    """Carry lines until the source ends and everything is answered."""
    writing, room = threading.Lock(), threading.Semaphore(AT_ONCE)
    threads: list[threading.Thread] = []

    def say(answer: bytes | None) -> None:
        if answer is not None:
            with writing:
                sink.write(answer + b"\n")
                sink.flush()

    def carry(line: bytes) -> None:
        try:
            say(broker.answer(line))
        except BrokenPipeError:
            pass  # the program is gone; its end of the other pipe says so, too
        finally:
            room.release()

    while line := source.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = source.readline(MAX_LINE)
            say(_error({}, TOO_LONG, f"a message has at most {MAX_LINE // 1024} KiB"))
            continue
        if not line.strip():
            continue
        room.acquire()
        if _read(line).get("method") == "initialize":
            carry(line)  # what follows depends on its answer
            continue
        threads = [one for one in threads if one.is_alive()]
        threads.append(threading.Thread(target=carry, args=(line,)))
        threads[-1].start()
    for one in threads:
        one.join()


def run() -> int:
    """The bridge of the agent in whose terminal this runs; the exit status."""
    url, token = os.environ.get("RELAYBROKER_URL", ""), os.environ.get("RELAY_AGENT_TOKEN", "")
    if not url.startswith("http://") or not token:
        sys.stderr.write(
            "relaybroker: this is not an agent's terminal: RELAYBROKER_URL and RELAY_AGENT_TOKEN are not set. "
            "Start the program with: relaybroker agent spawn NAME -- COMMAND\n"
        )
        return 4
    serve(Broker(url, token), sys.stdin.buffer, sys.stdout.buffer)
    return 0
