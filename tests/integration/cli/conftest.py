"""Commands as processes of their own, on brokers of their own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ptyprocess
import pytest

from tests.waiting import WAIT_S


class Terminal:
    """A person's terminal with one command in it."""

    def __init__(self, process: ptyprocess.PtyProcess) -> None:
        self.process = process
        self.seen = b""

    def type(self, keys: bytes) -> None:
        self.process.write(keys)

    def until(self, wanted: bytes) -> bytes:
        """Read until `wanted` was shown since the last time."""
        deadline = time.monotonic() + WAIT_S
        shown = b""
        while wanted not in shown:
            ready, _, _ = select.select([self.process.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, shown
            try:
                shown += self.process.read(4096)
            except EOFError:
                raise AssertionError(shown) from None
        self.seen += shown
        return shown

    def end(self) -> int:
        """Read what is left; the status of the command."""
        try:
            while True:
                self.seen += self.process.read(4096)
        except EOFError:
            return int(self.process.wait())


class Desk:
    """A directory in which a person works with the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RELAY", "AGENT_RELAY"))}
        for name, place in (("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "log"), ("XDG_RUNTIME_DIR", "run")):
            (folder / place).mkdir(mode=0o700)
            kept[name] = str(folder / place)
        self.environment = kept | {
            "AGENT_RELAY_STATE_DIR": str(self.state),
            "PS1": "$ ",
            "COLUMNS": "80",
            "LINES": "24",
        }

    @staticmethod
    def _argv(words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "relaybroker", *words]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._argv(words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment | environment,
            cwd=self.folder,
            timeout=WAIT_S,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._argv(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.folder,
        )

    def terminal(self, *words: str, **environment: str) -> Terminal:
        variables = self.environment | environment
        return Terminal(ptyprocess.PtyProcess.spawn(self._argv(words), env=variables, cwd=str(self.folder), echo=False))

    @property
    def connection(self) -> dict[str, Any]:
        connection: dict[str, Any] = json.loads((self.state / "connection.json").read_text())
        return connection

    def kill_broker(self) -> None:
        process = psutil.Process(self.connection["pid"])
        process.send_signal(signal.SIGKILL)
        process.wait(WAIT_S)

    @staticmethod
    def until(holds: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (answer := holds()):
            assert time.monotonic() < deadline, what
            time.sleep(0.02)
        return answer

    def close(self) -> None:
        """End what belongs to this directory and nothing else."""
        for process in psutil.process_iter(["cmdline"]):
            if str(self.folder) in " ".join(process.info["cmdline"] or ()):
                process.kill()


@pytest.fixture
def desk(tmp_path):
    """No broker runs yet."""
    made = Desk(tmp_path)
    yield made
    made.close()


def started(desk):
    """A broker runs in the background, with one shell as agent `w1`."""
    up = desk.run("up", "--detach", "--name", "desk")
    assert up.returncode == 0, up.stderr
    spawned = desk.run("agent", "spawn", "w1", "--env", "PS1=$ ", "--", "bash", "--norc")
    assert spawned.returncode == 0, spawned.stderr
    return desk


@pytest.fixture
def running(desk):
    """A broker of this test's own, and one agent, `w1`."""
    return started(desk)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A broker for all tests of a file that do not end it. Its `w1` is left alone; a test spawns what it changes."""
    made = Desk(tmp_path_factory.mktemp("shared"))
    yield started(made)
    made.close()
