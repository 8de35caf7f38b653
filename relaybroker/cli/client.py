"""How commands talk to a running broker: find it, ask it over the local API.

Source: spec/local-api.md section 4.2.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from relaybroker.adapters.http import proof
from relaybroker.audit.times import length
from relaybroker.cli.exits import Exit, fail
from relaybroker.config import connection_file, last_words

UNREACHABLE = (OSError, ValueError, http.client.HTTPException)
"""Nobody answers there, or nobody who speaks HTTP."""
T = TypeVar("T")
TIMEOUT_S = 30.0
RETRY_S = 30.0
"""How long a broker may be away while an agent's command asks it."""


def state_directory(option: str | None) -> Path:
    """The state directory that a command is about: the one that is named, else the nearest, from here upward."""
    from relaybroker.config.finding import state_directory as nearest

    return nearest(option, os.environ, Path.cwd()).state


class BrokerClient:
    """The local API of one broker.

    Args:
        url: base URL.
        key: API key.
    """

    _whose = "operator"

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self._more: dict[str, str] = {}

    @classmethod
    def find(cls, state_dir: str | None) -> BrokerClient:
        """The broker of a state directory, or the one that the environment names. Ends the command if there is none."""
        url, key = os.environ.get("RELAY_BROKER_URL", ""), os.environ.get("RELAY_BROKER_API_KEY", "")
        if url and state_dir is None:
            return cls(url, key)
        return cls._recorded(state_dir)

    @classmethod
    def _recorded(cls, state_dir: str | None) -> BrokerClient:
        path = state_directory(state_dir) / "connection.json"
        try:
            recorded = connection_file.read(path)
        except OSError as error:
            fail(Exit.NO_BROKER, f"{path} cannot be read: {error}. To have it rewritten: relaybroker up --detach")
        if recorded is None:
            hint = "Start one: relaybroker up --detach"
            if (said := last_words.read(path.parent)) is not None:
                hint = f"The last one ended {length(max(0.0, time.time() - said.at))} ago: {said.why}. {hint}"
            if path.parent.is_dir():
                hint += "; for details: relaybroker log tail"
            fail(Exit.NO_BROKER, f"no broker is running ({path} names none). {hint}")
        client = cls(recorded.url, recorded.api_key)
        client.require_proof()
        return client

    def require_proof(self) -> None:
        """End the command, before the key is told, if whoever listens there is not the broker that has it."""
        if not self._saying_so(lambda: proof.proves(self.url, self.key, TIMEOUT_S)):
            fail(
                Exit.NO_BROKER,
                f"no broker is running: another program listens at {self.url}; it was sent nothing."
                " Start a broker: relaybroker up --detach",
            )

    def is_proven(self, timeout_s: float) -> bool:
        """Whether the broker that has the key answers there."""
        try:
            return proof.proves(self.url, self.key, timeout_s)
        except UNREACHABLE:
            return False

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and decoded answer. Ends the command if nobody answers."""
        return self._saying_so(lambda: self._ask(method, path, body, TIMEOUT_S))

    def _saying_so(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except UNREACHABLE as error:
            fail(
                Exit.NO_BROKER,
                f"the broker at {self.url} does not answer ({error}). It was killed or hangs."
                " Take over: relaybroker up --detach. Stop it: relaybroker down. See what it did last: relaybroker log tail",
            )

    def answer(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and decoded answer, for callers that go on without a broker.

        Raises:
            OSError: nobody answers.
        """
        try:
            return self._ask(method, path, body, TIMEOUT_S)
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error

    def glance(self, path: str, *, timeout_s: float) -> dict[str, Any]:
        """An answer that is welcome and not needed; nothing if there is none in time."""
        try:
            status, answer = self._ask("GET", path, None, timeout_s)
        except (OSError, http.client.HTTPException):
            return {}
        return answer if status < 300 and isinstance(answer, dict) else {}

    def text(self, path: str) -> str:
        """An answer that is no JSON. Ends the command if it is refused."""
        target = urlsplit(self.url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path, headers={"X-API-Key": self.key})
            response = connection.getresponse()
            body = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            fail(Exit.NO_BROKER, f"the broker at {self.url} does not answer ({error}). See: relaybroker doctor")
        finally:
            connection.close()
        if response.status >= 300:
            fail(Exit.REFUSED, f"{path} was refused with {response.status}: {body[:200]}")
        return body

    def tell(self, method: str, path: str, body: dict[str, Any], *, timeout_s: float) -> bool:
        """Ask for something that is looked after by other means; whether it was granted."""
        try:
            return self._ask(method, path, body, timeout_s)[0] < 300
        except UNREACHABLE:
            return False

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> tuple[int, Any]:
        target = urlsplit(self.url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=timeout_s)
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"} | self._more
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        try:
            return response.status, json.loads(raw)
        except ValueError:
            return response.status, {"code": "starting", "message": raw.decode("utf-8", "replace")}

    def use(self, tool: str, **arguments: Any) -> Any:
        """The result of a tool, as the operator; any refusal ends the command, saying why."""
        return self.demand("POST", self._place(tool), _given(arguments))

    def use_soon(self, tool: str, within_s: float, **arguments: Any) -> Any:
        """The result of a tool that only looks, if it is there within the time; else None, or OSError."""
        status, answer = self._ask("POST", self._place(tool), _given(arguments), within_s)
        return answer if status < 300 else None

    def _place(self, tool: str) -> str:
        return f"/api/{self._whose}/tools/{segment(tool)}"

    def demand(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer of a request that must succeed; any refusal ends the command, saying why."""
        return granted(*self.ask(method, path, body))


class AgentClient(BrokerClient):
    """The local API as the agent in whose terminal the command runs. A broker that is being restarted is waited for."""

    _whose = "agent"

    @classmethod
    def here(cls, state_dir: str | None) -> AgentClient | None:
        """The agent of this terminal; None outside of one, and where a state directory says that the operator asks."""
        url, token = os.environ.get("RELAYBROKER_URL", ""), os.environ.get("RELAY_AGENT_TOKEN", "")
        return cls(url, token) if url and token and state_dir is None else None

    def use(self, tool: str, **arguments: Any) -> Any:
        """The result of a tool, as the agent; any refusal ends the command, saying why. Asked again, it does nothing twice."""
        self._more = {"Idempotency-Key": os.urandom(16).hex()}
        path, given = self._place(tool), _given(arguments)
        deadline, pause_s = time.monotonic() + RETRY_S, 0.1
        while True:
            try:
                status, answer = self._ask("POST", path, given, TIMEOUT_S)
            except UNREACHABLE as error:
                status, answer = (
                    503,
                    {"code": "no_broker", "message": f"the broker at {self.url} does not answer ({error})"},
                )
            if status != 503 or time.monotonic() + pause_s > deadline:
                return granted(status, answer)
            time.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)


def whoever(state_dir: str | None) -> BrokerClient:
    """The agent of this terminal; where none is, the operator of a broker. Ends the command if there is no broker."""
    return AgentClient.here(state_dir) or BrokerClient.find(state_dir)


def granted(status: int, answer: Any) -> Any:
    """The answer of a request that must succeed; any refusal ends the command, saying why."""
    if status >= 300:
        code, message = answer.get("code", "?"), answer.get("message", "?")
        kind = {404: Exit.NOT_FOUND, 503: Exit.NO_BROKER}.get(status, Exit.REFUSED if status < 500 else Exit.FAILED)
        fail(kind, f"{message} [{code}]", str(code))
    return answer


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def segment(name: str) -> str:
    """A name as one path segment."""
    return quote(name, safe="")
