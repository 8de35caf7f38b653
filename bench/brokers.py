"""The brokers that are compared: how each is started, where its local API is, which processes are its own."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from bench import reference

API_KEY = "br_0123456789abcdef0123456789abcdef"
NODE_ID = "node_0123456789abcdef0123456789abcdef"
"""Chosen, so that a log can be made for it before it starts."""


class Broker(Protocol):
    """A broker in a folder of its own. The same folder after a crash is the same broker."""

    folder: Path

    def command(self) -> list[str]:
        """What starts it."""

    def environment(self, engine: str, key: str) -> dict[str, str]:
        """Its whole environment."""

    def api(self, pid: int) -> str | None:
        """Where its local API is, once that can be known."""

    def roots(self, pid: int) -> list[int]:
        """Processes whose descendants, agents apart, are the broker's."""


class Ours:
    """relaybroker, as installed beside this benchmark. Its PTY host is a process of its own, not a child."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self) -> list[str]:
        return [sys.executable, "-m", "relaybroker", "up", "--state-dir", str(self.folder / "state"), "--name", "bench"]

    def environment(self, engine: str, key: str) -> dict[str, str]:
        own = {
            "RELAY_BASE_URL": engine,
            "RELAY_API_KEY": key,
            "RELAY_BROKER_API_KEY": API_KEY,
            "RELAY_NODE_ID": NODE_ID,
        }
        for name, place in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log"), ("XDG_RUNTIME_DIR", "run")):
            (self.folder / place).mkdir(mode=0o700, exist_ok=True)
            own[name] = str(self.folder / place)
        return _plain(self.folder) | own

    def api(self, pid: int) -> str | None:
        try:
            connection = json.loads((self.folder / "state" / "connection.json").read_text())
        except (OSError, ValueError):
            return None
        return str(connection["url"]) if connection["pid"] == pid else None

    def roots(self, pid: int) -> list[int]:
        return [pid, *(int(path.read_text()) for path in (self.folder / "state").glob("host-*.pid"))]


class Reference:
    """A published binary of the reference broker. Every agent has a helper process, its child."""

    def __init__(self, folder: Path, program: Path, settings: Mapping[str, str]) -> None:
        self.folder, self._program, self._settings = folder, program, dict(settings)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])

    def command(self) -> list[str]:
        where = ["--api-port", str(self._port), "--state-dir", str(self.folder / "state")]
        return [str(self._program), "init", "--instance-name", "bench", *where]

    def environment(self, engine: str, key: str) -> dict[str, str]:
        own = {"RELAYCAST_BASE_URL": engine, "RELAY_BASE_URL": engine, "RELAY_WORKSPACE_KEY": key}
        quiet = {"DO_NOT_TRACK": "1", "AGENT_RELAY_TELEMETRY_DISABLED": "1"}
        return _plain(self.folder) | own | quiet | {"RELAY_BROKER_API_KEY": API_KEY} | self._settings

    def api(self, _pid: int) -> str | None:
        return f"http://127.0.0.1:{self._port}"

    def roots(self, pid: int) -> list[int]:
        return [pid]


OURS = "relaybroker"
NAMES = (OURS, *reference.VERSIONS)
SETTINGS: dict[str, dict[str, str]] = {"9.1.6": {}, "12.4.1": {"RELAY_INJECT_RATE_MS": "0"}}
"""The fastest documented settings: left alone, 12.4.1 types 5 ms per character and does not keep up with one message a second."""


def named(name: str, folder: Path) -> Broker:
    """The broker of this name, not started yet.

    Raises:
        NotFetchedError: its binary cannot be had.
    """
    return Ours(folder) if name == OURS else Reference(folder, reference.binary(name), SETTINGS[name])


def _plain(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm-256color", "USER": "bench"}
