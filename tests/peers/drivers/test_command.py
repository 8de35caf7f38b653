"""The published command, unmodified, in a real terminal: it starts this broker, starts an agent and attaches to it in every mode."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import ptyprocess
import pytest

from tests.waiting import WAIT_S

BROKER = Path(sys.executable).with_name("agent-relay-broker")
pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]
STEP_S = 6 * WAIT_S


class Desk:
    """A project in which a person uses the command."""

    def __init__(self, folder: Path, program: Path, environment: dict[str, str]) -> None:
        self.folder, self.program = folder, program
        kept = {name: str(folder / name.lower()) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")}
        for place in kept.values():
            Path(place).mkdir(mode=0o700)
        self.environment = environment | kept | {"BROKER_BINARY_PATH": str(BROKER), "AGENT_RELAY_BIN": str(BROKER)}

    def terminal(self, *words: str) -> ptyprocess.PtyProcess:
        command = ["node", str(self.program), *words]
        return ptyprocess.PtyProcess.spawn(command, env=self.environment, cwd=str(self.folder), dimensions=(24, 80))

    async def run(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "node", str(self.program), *words, env=self.environment, cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(STEP_S):
            out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()


def until(terminal: ptyprocess.PtyProcess, wanted: bytes) -> bytes:
    """What the terminal shows, up to this."""
    shown, deadline = b"", time.monotonic() + STEP_S
    while wanted not in shown:
        ready, _, _ = select.select([terminal.fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, shown
        try:
            shown += terminal.read(4096)
        except EOFError:
            raise AssertionError(shown) from None
    return shown


def leave(terminal: ptyprocess.PtyProcess) -> None:
    """Ctrl-C detaches, whatever the agent's program would do with it."""
    terminal.write(b"\x03")
    deadline = time.monotonic() + STEP_S
    while terminal.isalive():
        assert time.monotonic() < deadline, "it did not detach"
        if select.select([terminal.fd], [], [], 0.05)[0]:
            try:
                terminal.read(4096)
            except EOFError:
                terminal.wait()


def ask(connection: Path, path: str) -> dict[str, Any]:
    """What the local API answers."""
    known = json.loads(connection.read_text())
    request = Request(known["url"] + path, headers={"X-API-Key": known["api_key"]})
    with urlopen(request, timeout=WAIT_S) as answer:
        return json.load(answer)


def pending(connection: Path, count: int) -> None:
    """Wait until so many messages are held for w1."""
    deadline = time.monotonic() + STEP_S
    while len(ask(connection, "/api/spawned/w1/pending")["pending"]) != count:
        assert time.monotonic() < deadline, "they are not held"
        select.select([], [], [], 0.05)


async def send(desk: Desk, connection: Path, text: str) -> None:
    """A message to w1, sent with the command by an agent that it registers."""
    engine = json.loads((connection.parent / "engine" / "ready.json").read_text())["url"]
    key = ask(connection, "/api/session")["workspace_key"]
    place = ("--workspace-key", key, "--base-url", engine)
    registered = await desk.run("agent", "register", f"a{hash(text) & 0xFFFF}", *place)
    token = re.search(r"at_live_\w+", registered)
    assert token, registered
    await desk.run("message", "dm", "send", "w1", text, "--token", token.group(), *place)


async def test_up_new_attach_send_release_and_down(npm_package, plain_environment, tmp_path):
    """Checklist 15: `drive` holds messages while a person types, and the mode is restored when it leaves."""
    project = await asyncio.to_thread(npm_package, "agent-relay", "9.1.6")
    desk = Desk(tmp_path, project / "node_modules" / "agent-relay" / "dist" / "cli" / "index.js", plain_environment)
    broker = desk.terminal("local", "up")
    connection = tmp_path / ".agentworkforce" / "relay" / "connection.json"
    deadline = time.monotonic() + STEP_S
    while not connection.exists():
        assert time.monotonic() < deadline, "the broker did not start"
        select.select([broker.fd], [], [], 0.05)
    os.kill(json.loads(connection.read_text())["pid"], 0)
    assert "RUNNING" in await desk.run("local", "status")

    driving = desk.terminal("local", "agent", "new", "cat", "--name", "w1", "--mode", "drive")
    until(driving, b"delivery=manual_flush")
    driving.write(b"typed by a person\r")
    until(driving, b"typed by a person\r\r\n")
    leave(driving)

    passing = desk.terminal("local", "agent", "attach", "w1", "--mode", "passthrough")
    until(passing, b"delivery=auto_inject")
    passing.write(b"and once more\r")
    until(passing, b"and once more\r\r\n")

    await send(desk, connection, "sent by the command")
    until(passing, b"sent by the command")
    await desk.run("local", "agent", "message", "hold", "w1")
    await send(desk, connection, "held by the command")
    pending(connection, 1)
    await desk.run("local", "agent", "message", "flush", "w1")
    until(passing, b"held by the command")
    await desk.run("local", "agent", "message", "auto", "w1")

    viewing = desk.terminal("local", "agent", "attach", "w1", "--mode", "view")
    until(viewing, b"and once more")
    leave(viewing)
    leave(passing)

    assert [agent["name"] for agent in json.loads(await desk.run("local", "agent", "list"))] == ["w1"]
    await desk.run("local", "agent", "release", "w1")
    assert json.loads(await desk.run("local", "agent", "list")) == []
    await desk.run("local", "down")
    assert not connection.exists()
    broker.terminate(force=True)
