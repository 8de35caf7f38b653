"""What the door `acp` says, and what the tests' own program answers, by the published models of the protocol's version 1."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from acp import schema

from relaybroker.adapters.sessions.acp import AcpKind
from relaybroker.adapters.sessions.door import Opened
from relaybroker.adapters.sessions.host.piped_process import PipedProcess, spawn_piped
from relaybroker.adapters.sessions.kinds import Launch
from relaybroker.adapters.sessions.transcript import Transcript
from tests.waiting import WAIT_S

PROGRAM = Path(__file__).parents[1] / "acp_program.py"
ASKED = {
    "initialize": (schema.InitializeRequest, schema.InitializeResponse),
    "session/new": (schema.NewSessionRequest, schema.NewSessionResponse),
    "session/load": (schema.LoadSessionRequest, schema.LoadSessionResponse),
    "session/prompt": (schema.PromptRequest, schema.PromptResponse),
    "session/request_permission": (schema.RequestPermissionRequest, schema.RequestPermissionResponse),
}
TOLD = {"session/cancel": schema.CancelNotification, "session/update": schema.SessionNotification}


class Tapped:
    """Doors and their programs; `said` has every message of both sides, and of which connection it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[tuple[int, dict]] = []
        self.processes: list[PipedProcess] = []

    async def door(self, resumes=""):
        argv = (sys.executable, str(PROGRAM), "1", str(self.folder / "kept"))
        env = {"PATH": os.environ["PATH"], "RELAY_AGENT_TOKEN": "t", "RELAYBROKER_URL": "http://127.0.0.1:1"}
        launch = Launch("s", argv, env, str(self.folder), "default", self.folder / "d", 0o77, ("sh", "x"), resumes)
        _, door = await AcpKind().prepare(launch)
        process = await spawn_piped(argv, env=env, cwd=str(self.folder), umask=0o77)
        self.processes.append(process)
        self._tap(process)
        door.connect(process, Transcript(lambda _data: None, lambda: 80))
        opened = await door.open()
        assert isinstance(opened, Opened), opened
        return door, opened.place

    def _tap(self, process):
        write, read, number = process.write, process.read, len(self.processes)

        async def tapped(line):
            self.said.append((number, json.loads(line)))
            await write(line)

        def reading(on_line, on_end, on_too_long):
            def tapped_line(line):
                self.said.append((number, json.loads(line)))
                on_line(line)

            read(tapped_line, on_end, on_too_long)

        process.write, process.read = tapped, reading

    def end(self):
        for process in self.processes:
            process.signal_group(signal.SIGKILL)
            process.close()
            os.waitpid(process.pid, 0)


@pytest.fixture
def tapped(tmp_path):
    made = Tapped(tmp_path)
    yield made
    made.end()


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def methods_by_request(said):
    """(Id, whether we asked) -> method: both sides number their own requests."""
    return {(at, one["id"], one["id"] < 1000): one["method"] for at, one in said if "method" in one and "id" in one}


async def test_every_message_of_both_sides_is_one_of_the_protocol(tapped):
    door, place = await tapped.door()
    await door.hand_over("d1", "hello tools", steer=False)
    await door.evidence("d1")
    await door.hand_over("d2", "please ask", steer=False)
    await until(lambda: door.question is not None)
    await door.answer(door.question.id, "yes")
    await door.evidence("d2")
    await door.hand_over("d3", "please ask", steer=False)
    await until(lambda: door.question is not None)
    await door.interrupt()
    await door.evidence("d3")
    await door.hand_over("d4", "please wait", steer=False)
    await tapped.door(resumes=place)
    methods = methods_by_request(tapped.said)
    assert set(methods.values()) == ASKED.keys()
    assert {one["method"] for _, one in tapped.said if "method" in one and "id" not in one} == TOLD.keys()
    for at, message in tapped.said:
        assert message["jsonrpc"] == "2.0"
        method = message.get("method")
        if method is None:
            answered = methods[at, message["id"], message["id"] < 1000]
            ASKED[answered][1].model_validate(message["result"])
        else:
            (ASKED[method][0] if "id" in message else TOLD[method]).model_validate(message["params"])


async def test_our_tools_are_a_server_of_the_protocol_and_the_token_is_no_argument(tapped):
    await tapped.door()
    (asked,) = [one["params"] for _, one in tapped.said if one.get("method") == "session/new"]
    (server,) = schema.NewSessionRequest.model_validate(asked).mcp_servers
    assert (server.name, server.args) == ("agent-relay", ["x"])
    assert Path(server.command).is_absolute()
    assert {one.name: one.value for one in server.env} == {
        "RELAY_AGENT_TOKEN": "t",
        "RELAYBROKER_URL": "http://127.0.0.1:1",
    }


async def test_no_files_and_no_terminals_of_ours_are_offered(tapped):
    await tapped.door()
    greeting = schema.InitializeRequest.model_validate(tapped.said[0][1]["params"])
    can = greeting.client_capabilities
    assert (can.fs.read_text_file, can.fs.write_text_file, can.terminal) == (False, False, False)
