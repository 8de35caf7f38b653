"""A broker with its engine in a folder of its own, and a real program in it: driven and judged only from outside.

Public surfaces: the `relaybroker` command, the local API, the engine's API, an agent's raw output in
`team/worker-logs`. So it runs against any version: `$RELAYBROKER` names another one's executable.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.agents.composers import composer
from tests.agents.homes import Home
from tests.agents.model_server import Model
from tests.agents.terminal import Screen, processes_with, session_members

PATIENCE = float(os.environ.get("PATIENCE", "1"))
"""Limits of waiting are multiplied by this, for machines that do other things meanwhile; figures are not."""
_MARK = "RELAYBROKER_BENCH"


def command() -> list[str]:
    """The broker that is tested."""
    named = os.environ.get("RELAYBROKER")
    return [named] if named else [sys.executable, "-m", "relaybroker"]


def environment_at_spawn() -> bool:
    """The one place that decides how an agent gets its environment: with its spawn, or as the broker's own.

    `$AGENT_ENV` = spawn or up decides; else spawn where this version of the broker can.
    """
    if wanted := os.environ.get("AGENT_ENV"):
        return wanted == "spawn"
    if not _can_spawn_with:
        helped = subprocess.run([*command(), "agent", "spawn", "--help"], capture_output=True, text=True, check=True)
        _can_spawn_with.append("--env" in helped.stdout)
    return _can_spawn_with[0]


_can_spawn_with: list[bool] = []


class ApiError(Exception):
    """The local API refused."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status = status


class Tap:
    """What an agent's terminal shows, from the raw output that the broker keeps."""

    def __init__(self, log: Path, rows: int = 24, columns: int = 80) -> None:
        self.screen = Screen(rows, columns)
        self.lock = threading.RLock()
        self.last_output = time.monotonic()
        self.on_output: list[Callable[[Screen, float], None]] = []
        """Called with the screen after each piece of output."""
        self._log = log
        self._at = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._closed.wait(0.02):
            with suppress(OSError):
                if self._log.stat().st_size < self._at:
                    self._at = 0  # rotated
                with self._log.open("rb") as file:
                    file.seek(self._at)
                    data = file.read()
                if data:
                    with self.lock:
                        self._at += len(data)
                        self.screen.feed(data)
                        self.last_output = time.monotonic()
                        for hook in self.on_output:
                            hook(self.screen, self.last_output)

    def text(self) -> str:
        with self.lock:
            return self.screen.text

    def close(self) -> None:
        self._closed.set()
        self._thread.join(2)


class Bench:
    """One broker (and its embedded engine). Everything that it starts carries a mark, so that all of it can be ended."""

    def __init__(self, folder: Path, model: Model, home: Home, **settings: str) -> None:
        self.folder, self.model, self.home = folder, model, home
        self.settings = settings
        """Further variables of the broker."""
        self.program = home.program
        self.state = folder / "state"
        self.mark = uuid.uuid4().hex
        self._announced: list[dict[str, Any]] = []
        self.taps: dict[str, Tap] = {}
        self.since = len(model.requests())
        self._connection: dict[str, Any] = {}
        self._planner: tuple[str, str] | None = None
        self._sizes: dict[str, tuple[int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    # --- the broker -------------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The broker's own environment."""
        if not environment_at_spawn():
            return self.home.env | {_MARK: self.mark} | self.settings
        own = self.folder / "broker-home"
        own.mkdir(exist_ok=True)
        names = ("PATH", "LANG", "TERM", "USER", "SHELL")
        return {name: self.home.env[name] for name in names} | {"HOME": str(own), _MARK: self.mark} | self.settings

    def up(self) -> None:
        """Start it, or start it again."""
        done = self.run("up", "--detach", "--json", "--name", "bench", timeout=60)
        self._connection = json.loads(done)

    def run(self, *words: str, timeout: float = 30, fails: bool = False) -> str:
        """A command of the broker's users; its output. `fails`: its exit status may say something else than 0."""
        done = subprocess.run(
            [*command(), *words, "--state-dir", str(self.state)], env=self.environment(), cwd=self.folder,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout * PATIENCE, check=False,
        )  # fmt: skip
        assert fails or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """`kill -9` of the broker alone."""
        os.kill(self._connection["pid"], signal.SIGKILL)
        self.until(lambda: not _is_alive(self._connection["pid"]), 5, "the broker is dead")

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """The local API. Raises ApiError."""
        return self._http(method, self._connection["url"] + path, body, {"X-API-Key": self._connection["api_key"]})

    def _http(self, method: str, url: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data, {"Content-Type": "application/json"} | headers, method=method)
        try:
            with urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise ApiError(error.code, error.read().decode(errors="replace")) from error

    def close(self) -> None:
        """End everything that came of this."""
        for tap in self.taps.values():
            tap.close()
        with suppress(Exception):
            self.run("down", timeout=15)
        for _ in range(50):
            left = [*processes_with(_MARK, self.mark), *processes_with("HOME", str(self.home.home))]
            if not left:
                if not os.environ.get("KEEP"):
                    shutil.rmtree(self.folder, ignore_errors=True)
                return
            for pid in left:
                for number in (signal.SIGCONT, signal.SIGKILL):
                    with suppress(OSError):
                        os.kill(pid, number)
            time.sleep(0.1)

    # --- agents -----------------------------------------------------------------------------------------------------------

    def spawn(self, name: str = "w1", *, home: Home | None = None, harness: str = "", **more: Any) -> int:
        """Start the program as an agent; its pid. `more`: further members of the request."""
        home = home or self.home
        log = self.state / "team" / "worker-logs" / f"{name}.log"
        self.taps[name] = Tap(log)
        body: dict[str, Any] = {"name": name, "cli": home.argv[0], "args": home.argv[1:], "cwd": str(home.project)}
        if environment_at_spawn():
            body["env"] = home.env | {_MARK: self.mark}
        if harness:
            body["harness"] = harness
        return int(self.api("POST", "/api/spawn", body | more)["pid"])

    def agent(self, name: str = "w1") -> dict[str, Any]:
        """What the broker says of it; empty when it is gone."""
        agents = self.api("GET", "/api/spawned")["agents"]
        return next((one for one in agents if one["name"] == name), {})

    def tap(self, name: str = "w1") -> Tap:
        return self.taps[name]

    def composer(self, name: str = "w1") -> str | None:
        """What stands in its composer, by the tests' own judgement."""
        tap = self.taps[name]
        with tap.lock:
            return composer(self.program, tap.screen)

    def screen(self, name: str = "w1") -> str:
        return self.taps[name].text()

    def keys(self, data: str, name: str = "w1") -> None:
        """What a person who is attached types."""
        self.api("POST", f"/api/input/{name}", {"data": data})

    def typed(self, text: str, name: str = "w1", pause_s: float = 0.05) -> None:
        """The same, key by key."""
        for key in text:
            self.keys(key, name)
            time.sleep(pause_s)

    def resize(self, rows: int, columns: int, name: str = "w1") -> None:
        tap = self.taps[name]
        with tap.lock:
            tap.screen.resize(rows, columns)
        self.api("POST", f"/api/resize/{name}", {"rows": rows, "cols": columns})

    def signal(self, number: signal.Signals, pid: int) -> None:
        """Send a signal to a program and all of its session."""
        for one in session_members(pid):
            with suppress(OSError):
                os.kill(one, number)

    # --- messages -----------------------------------------------------------------------------------------------------------

    def send(self, text: str, to: str = "w1", mode: str = "wait") -> str:
        """The id of the message."""
        return str(self.api("POST", "/api/send", {"to": to, "text": text, "mode": mode})["message_id"])

    def post(self, text: str, to: str = "w1") -> str:
        """Send through the engine, as another agent would; works while the broker is dead."""
        if self._planner is None:
            self.meet()
        assert self._planner is not None
        engine, token = self._planner
        answer = self._http("POST", f"{engine}/v1/dm", {"to": to, "text": text}, {"Authorization": f"Bearer {token}"})
        return str(answer["data"]["id"])

    def meet(self) -> None:
        """Register an agent called planner at the engine, for `post`."""
        workspace = self.api("GET", "/api/session")["workspace_key"]
        engine = json.loads((self.state / "engine" / "ready.json").read_text())["url"]
        made = self._http("POST", f"{engine}/v1/agents", {"name": "planner"}, {"Authorization": f"Bearer {workspace}"})
        self._planner = (engine, made["data"]["token"])

    def talks(self) -> list[dict[str, Any]]:
        """The newest message of each of planner's conversations."""
        assert self._planner is not None
        engine, token = self._planner
        headers = {"Authorization": f"Bearer {token}"}
        conversations = self._http("GET", f"{engine}/v1/dm/conversations", None, headers)["data"]
        return [one["last_message"] for one in conversations if one["last_message"]]

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """What the broker announced; it keeps the newest 2,048, so that what was seen is kept here."""
        while True:
            since = self._announced[-1]["seq"] if self._announced else 0
            more = self.api("GET", f"/api/events/replay?sinceSeq={since}")["events"]
            if not more:
                return [one for one in self._announced if not kind or one["kind"] == kind]
            self._announced += more

    def acked(self) -> set[str]:
        """Ids of the messages that were acknowledged."""
        return {one["message_id"] for one in self.events("delivery_ack")}

    def arrivals(self) -> dict[str, int]:
        """How often each message stands in the conversation that the program leads with the model."""
        counts: dict[str, int] = {}
        for one in self.model.requests(self.since):
            if one["main"]:
                for identifier, count in one["ids"].items():
                    counts[identifier] = max(count, counts.get(identifier, 0))
        return counts

    def text_of(self, identifier: str) -> str:
        """What arrived at the model after the header of this message, up to the next header."""
        mark = f"[{identifier}"
        for one in self.model.requests(self.since):
            for text in one["texts"] if one["main"] else ():
                if mark in str(text):
                    return str(text).partition(mark)[2].split("\nRelay message from ")[0]
        return ""

    def prompts(self) -> list[str]:
        """Every user text of every request of the conversation, in order."""
        return [text for one in self.model.requests(self.since) if one["main"] for text in one["texts"]]

    # --- waiting ------------------------------------------------------------------------------------------------------------

    def until(self, holds: Callable[[], Any], limit_s: float, what: str) -> Any:
        """Wait for a condition; AssertionError with everything that helps when it does not come."""
        deadline = time.monotonic() + limit_s * PATIENCE
        while not (answer := holds()):
            assert time.monotonic() < deadline, f"not within {limit_s * PATIENCE:.0f} s: {what}\n{self.account()}"
            time.sleep(0.05)
        return answer

    def stays(self, holds: Callable[[], Any], seconds: float, what: str) -> None:
        """A condition that must hold all the time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert holds(), f"it did not stay so: {what}\n{self.account()}"
            time.sleep(0.1)

    def until_composer(self, wanted: str = "", name: str = "w1", limit_s: float = 60) -> None:
        """Wait until exactly this stands in the composer, for a moment."""
        self.until(lambda: self._steady(wanted, name), limit_s, f"the composer holds {wanted!r}")

    def _steady(self, wanted: str, name: str) -> bool:
        for _ in range(4):
            if self.composer(name) != wanted:
                return False
            time.sleep(0.1)
        return True

    def until_arrived(self, identifiers: Iterable[str], limit_s: float) -> None:
        """Wait until all of these are at the model."""
        wanted = set(identifiers)
        self.until(lambda: wanted <= self.arrivals().keys(), limit_s, f"all of {wanted} are at the model")

    def until_acked(self, identifiers: Iterable[str], limit_s: float) -> None:
        """Wait until all of these are acknowledged."""
        wanted = set(identifiers)
        self.until(lambda: wanted <= self.acked(), limit_s, f"all of {wanted} are acknowledged")

    def account(self) -> str:
        """What is so, for a failure."""
        lines = [f"arrived: {self.arrivals()}"]
        for name in self.taps:
            lines.append(f"--- screen of {name} (composer: {self.composer(name)!r})\n{self.screen(name)}")
            with suppress(Exception):
                known = self.agent(name)
                keys = (
                    "ready",
                    "readiness",
                    "blocked_by",
                    "waiting",
                    "waiting_reason",
                    "holds",
                    "in_terminal",
                    "acked",
                )
                lines.append(f"--- the broker says: { {key: known.get(key) for key in keys} }")
        with suppress(Exception):
            lines.append("--- events:")
            lines += [json.dumps({k: v for k, v in one.items() if k != "epoch"})[:260] for one in self.events()[-12:]]
        return "\n".join(lines)


def _is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


is_alive = _is_alive
