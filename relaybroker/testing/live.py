"""A real broker for tests: `relaybroker up` with the embedded engine, real terminals and scripted agents, in a directory of its own.

Every call waits for real things, with a limit; a failed expectation shows the story and the end of the broker's output. Whatever happens,
`close` ends what was started, each process by its pid.

Source: spec/architecture.md section 9; docs/testing.md.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psutil

from relaybroker.adapters.own_programs import own_program
from relaybroker.testing.broker import TESTER, Message
from relaybroker.testing.refusal import Refused

WITHIN_S = 20.0
"""Seconds within which an expectation must come true, unless it says otherwise."""
TAIL = 3000
"""Characters of the broker's output that a failure shows."""


class LiveBroker:
    """One broker and its embedded engine.

    Args:
        folder: an empty directory; everything is kept there.
        environment: further variables for the broker, such as `RELAYBROKER_IN_DOUBT`.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self._more = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._engine = self._workspace = ""
        self._people: dict[str, str] = {}
        """Name -> token of those who post what `deliver` posts."""

    # --- the broker -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the broker, also again after `kill`; it answers and its engine is there when this returns.

        Raises:
            Refused: it runs.
            AssertionError: it did not; with its output.
        """
        if self.is_up:
            raise Refused(409, "already_running", "the broker runs; kill() or stop() ends it")
        with (self.folder / "broker.out").open("ab") as output:
            self._process = subprocess.Popen(
                own_program("relaybroker", "up", "--state-dir", str(self.state_dir), "--name", "test"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
                cwd=self.folder,
            )
        self.wait(self._is_ready, what="the broker is ready")
        self.wait(lambda: self.api("GET", "/api/status")["link"]["state"] == "online", what="the broker is online")
        if not self._people:
            self._workspace = self.api("GET", "/api/session")["workspace_key"]
            self._engine = json.loads((self.state_dir / "engine" / "ready.json").read_text(encoding="utf-8"))["url"]
            self.person(TESTER)

    @property
    def is_up(self) -> bool:
        """Whether a broker runs."""
        return self._process is not None and self._process.poll() is None

    def crash(self) -> None:
        """The same as `kill`, as the simulated broker has it."""
        self.kill()

    def restart(self) -> None:
        """The same as `start` after a kill, as the simulated broker has it.

        Raises:
            Refused: it runs.
        """
        self.start()

    def kill(self) -> None:
        """Kill -9 of the broker. Its agents, its terminals and the engine live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """End the broker as an operator does; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(15)

    def close(self) -> None:
        """End everything that was started."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in self._pids():
            _end_with_children(pid)

    def _pids(self) -> list[int]:
        """Of the PTY host and the engine, as long as they run here."""
        pids = [path.read_text(encoding="utf-8") for path in self.state_dir.glob("host-*.pid")]
        ready = self.state_dir / "engine" / "ready.json"
        if ready.exists():
            pids.append(str(json.loads(ready.read_text(encoding="utf-8"))["pid"]))
        return [int(pid) for pid in pids if pid.strip().isdecimal() and self._is_ours(int(pid))]

    def _is_ours(self, pid: int) -> bool:
        try:
            return str(self.state_dir) in " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            return False

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the broker ended with status {self._process.returncode}\n{self.output()}")
        connection = self._connection()
        return connection is not None and connection["pid"] == self._process.pid

    def _connection(self) -> dict[str, Any] | None:
        try:
            connection: dict[str, Any] = json.loads((self.state_dir / "connection.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return connection

    def environment(self) -> dict[str, str]:
        """What the broker and the commands are given: nothing of the user's own broker."""
        own = ("RELAY", "AGENT_RELAY")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        for name, place in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log"), ("XDG_RUNTIME_DIR", "run")):
            (self.folder / place).mkdir(mode=0o700, exist_ok=True)
            kept[name] = str(self.folder / place)
        return kept | self._more

    def output(self) -> str:
        """The end of what the broker printed."""
        try:
            return (self.folder / "broker.out").read_text(encoding="utf-8", errors="replace")[-TAIL:]
        except FileNotFoundError:
            return ""

    def account(self) -> str:
        """What a failed test shows: the newest deliveries, and the end of what the broker printed."""
        return f"{self.command('delivery', 'ls', '-n', '10').stdout}\n{self.output()}"

    # --- agents and messages ------------------------------------------------------------------------------------------------------

    def spawn(self, name: str, *script: str, cli: str = "", **more: Any) -> dict[str, Any]:
        """Start an agent and wait until it takes input; the API's answer.

        Args:
            name: its name.
            script: options of the scripted agent (`relaybroker.testing.agent`), such as `"--works", "0.5"`.
            cli: another program instead; what it reads is then yours to find out.
            more: further fields of `POST /api/spawn`.

        Raises:
            Refused: the broker or the engine did not have it.
        """
        command = own_program("relaybroker.testing.agent", str(self._notes(name)), *script)
        answer = self.api("POST", "/api/spawn", {"name": name, "cli": cli or shlex.join(command)} | more)
        self.wait(lambda: self._row(name)["ready"], what=f"{name} takes input")
        return dict(answer)

    def release(self, name: str) -> None:
        """End an agent.

        Raises:
            Refused: there is none of this name.
        """
        self.api("DELETE", f"/api/spawned/{quote(name, safe='')}")

    def is_alive(self, name: str) -> bool:
        """Whether the agent's program runs."""
        return psutil.pid_exists(int(self._row(name)["pid"]))

    def person(self, name: str) -> None:
        """Somebody at the engine of whom no program runs; such a one posts what `deliver` posts."""
        if name not in self._people:
            self._people[name] = str(self.engine("POST", "/v1/agents", {"name": name, "type": "human"})["token"])

    def join(self, name: str, channel: str) -> None:
        """An agent or person becomes a member of a channel, which is made if there is none. All agents are in `general`."""
        place = channel.removeprefix("#")
        token = self._people.get(name) or self._environment_of(name)["RELAY_AGENT_TOKEN"]
        try:
            self.engine("POST", "/v1/channels", {"name": place}, token=token)
        except Refused as refused:
            if refused.code != "channel_already_exists":
                raise
        self.engine("POST", f"/v1/channels/{quote(place, safe='')}/join", {}, token=token)

    def deliver(self, to: str, text: str, *, sender: str = TESTER, thread: str = "", mode: str = "wait") -> Message:
        """Post a message at the engine.

        Args:
            to: an agent, or a channel with its `#`.
            text: what it says.
            sender: the person who posts it.
            thread: the message that it answers.
            mode: `wait`, or `steer`: also while the agent works.

        Raises:
            Refused: there is no such agent, channel, person or message.
        """
        token = self._people.get(sender)
        if token is None:
            raise Refused(404, "agent_not_found", f"there is no person called {sender}; person() makes one")
        if thread:
            path, body = f"/v1/messages/{quote(thread, safe='')}/replies", {"text": text}
        elif to.startswith("#"):
            path, body = f"/v1/channels/{quote(to.removeprefix('#'), safe='')}/messages", {"text": text, "mode": mode}
        else:
            path, body = "/v1/dm", {"to": to, "text": text, "mode": mode}
        return Message(str(self.engine("POST", path, body, token=token)["id"]), to)

    def send(self, to: str, text: str, *, sender: str = "", thread: str = "", key: str = "") -> dict[str, Any]:
        """Send a message through the local API, as an agent that lives here or (by default) as the broker itself; the API's answer.

        Raises:
            Refused: the broker or the engine did not take it; there is no such agent, channel, sender or thread.
        """
        given = {"from": sender, "thread": str(thread), "idempotency_key": key}
        body = {"to": to, "message": text, "strict": True} | {name: value for name, value in given.items() if value}
        return dict(self.api("POST", "/api/send", body))

    def fetch(self, name: str, limit: int = 20) -> list[dict[str, Any]]:
        """An agent takes what waits for it (`check_inbox`): it is not typed any more.

        Raises:
            Refused: there is no such agent.
        """
        return list(self.use(name, "check_inbox", limit=limit)["messages"])

    def use(self, name: str, tool: str, **arguments: Any) -> dict[str, Any]:
        """An agent uses one of its tools (docs/agent-scope.md), with its own token; the result.

        Raises:
            Refused: there is no such agent, or the tool did not do it.
        """
        environment = self._environment_of(name)
        headers = {"Authorization": f"Bearer {environment['RELAY_AGENT_TOKEN']}"}
        status, answer = _request(
            "POST", f"{environment['RELAYBROKER_URL']}/api/agent/tools/{tool}", headers, arguments
        )
        if status >= 300:
            raise Refused(status, answer.get("code", ""), answer.get("message", ""))
        return answer

    def _environment_of(self, name: str) -> dict[str, str]:
        return psutil.Process(int(self._row(name)["pid"])).environ()

    def hold(self, name: str) -> None:
        """Keep messages for an agent until `flush` (delivery mode `manual_flush`)."""
        self.api("PUT", f"/api/spawned/{quote(name, safe='')}/delivery-mode", {"mode": "manual_flush"})

    def unhold(self, name: str) -> None:
        """Type messages as they come again, and those that were held."""
        self.api("PUT", f"/api/spawned/{quote(name, safe='')}/delivery-mode", {"mode": "auto_inject"})

    def flush(self, name: str) -> int:
        """Type what is held; how many that is."""
        return int(self.api("POST", f"/api/spawned/{quote(name, safe='')}/flush", {})["flushed"])

    def typed(self, name: str) -> list[str]:
        """The lines that reached a scripted agent, oldest first."""
        try:
            return self._notes(name).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def expect_typed(self, name: str, *texts: str, within_s: float = WITHIN_S) -> None:
        """A scripted agent has read, or reads within the time, lines that contain these texts, in this order.

        Raises:
            AssertionError: it did not; with its story.
        """

        def holds() -> bool:
            rest = iter(self.typed(name))
            return all(any(text in line for line in rest) for text in texts)

        self.wait(holds, within_s=within_s, what=f"{name} reads {', '.join(map(repr, texts))}", about=(name,))

    def is_acked(self, message: str) -> bool:
        """Whether the engine shows the message as read: its delivery is acknowledged."""
        return bool(self.engine("GET", f"/v1/messages/{message}/readers"))

    def expect_acked(self, *messages: str, within_s: float = WITHIN_S) -> None:
        """The engine shows these messages as read, or does so within the time.

        Raises:
            AssertionError: not all; with their stories.
        """
        self.wait(
            lambda: all(self.is_acked(message) for message in messages),
            within_s=within_s,
            what="acknowledged",
            about=messages,
        )

    def received(self) -> list[str]:
        """The newest direct message to `tester` of each agent: answers of agents with `--answers`."""
        rows = self.engine("GET", "/v1/inbox", token=self._people[TESTER])["unread_dms"]
        return [str(row["last_message"]["text"]) for row in rows if row["last_message"]]

    def why(self, wanted: str) -> str:
        """What `relaybroker why` prints, with the broker running or not."""
        return self.command("why", wanted).stdout

    # --- the three ways in ----------------------------------------------------------------------------------------------------------

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `relaybroker WORDS` on this broker's state directory."""
        return subprocess.run(
            own_program("relaybroker", *words, "--state-dir", str(self.state_dir)),
            capture_output=True,
            text=True,
            env=self.environment(),
            cwd=self.folder,
            timeout=60,
            check=False,
        )

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the local API (docs/openapi.json).

        Raises:
            Refused: any other answer than success.
            OSError: no broker answers.
        """
        connection = self._connection()
        if connection is None:
            raise ConnectionError("no broker runs here")
        status, answer = _request(method, connection["url"] + path, {"X-API-Key": connection["api_key"]}, body)
        if status >= 300:
            raise Refused(status, answer.get("code", ""), answer.get("message", ""))
        return answer

    def engine(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """The data of the engine's answer; `token`: as whom, by default the workspace.

        Raises:
            Refused: any other answer than success.
        """
        headers = {"Authorization": f"Bearer {token or self._workspace}"}
        status, answer = _request(method, self._engine + path, headers, body)
        if not answer["ok"]:
            raise Refused(status, answer["error"]["code"], answer["error"]["message"])
        return answer["data"]

    def wait(
        self,
        holds: Callable[[], Any],
        *,
        within_s: float = WITHIN_S,
        what: str = "the condition",
        about: tuple[str, ...] = (),
    ) -> None:
        """Wait until something holds, with a look every 20 ms; a broker that does not answer yet does not hold it.

        Raises:
            AssertionError: it did not within so many seconds; with the stories of what it is `about`.
        """
        deadline = time.monotonic() + within_s
        while not _holds(holds):
            if time.monotonic() > deadline:
                stories = "\n".join(self.why(one) for one in about)
                raise AssertionError(f"not within {within_s:g} s: {what}\n{stories}\n{self.output()}")
            time.sleep(0.02)

    def _notes(self, name: str) -> Path:
        return self.folder / f"{name}.notes"

    def _row(self, name: str) -> dict[str, Any]:
        rows = self.api("GET", "/api/spawned")["agents"]
        agent_row = next((row for row in rows if row["name"] == name), None)
        if agent_row is None:
            raise Refused(404, "agent_not_found", f"no agent {name}")
        return dict(agent_row)


def _holds(holds: Callable[[], Any]) -> bool:
    try:
        return bool(holds())
    except OSError:
        return False


def _request(method: str, url: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, Any]]:
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, target.path, content, headers | {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
    finally:
        connection.close()


def _end_with_children(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for one in family:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=5)
