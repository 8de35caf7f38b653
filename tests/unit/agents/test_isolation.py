"""A program that shares a daemon with others of its kind is started alone, if it can be."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import msgspec
import pytest

from relaybroker.adapters.sessions.host.protocol import Inject, Start, Stop
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.agents.isolation import Isolation
from relaybroker.node.host_requests import HostRequests
from tests.waiting import WAIT_S


@pytest.fixture
def program(tmp_path):
    """A program called codex that says what the test wants it to say, and counts how often it is asked."""

    def make(said: str):
        path = tmp_path / "bin" / "codex"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\n{said}\n")
        path.chmod(0o755)
        return path

    return make


def start(tmp_path, *argv: str, profile: str = "codex") -> Start:
    env = {"PATH": f"{tmp_path}/bin:{os.defpath}", "RELAY_AGENT_NAME": "w1"}
    return Start(
        session_id="ws_1", name="w1", argv=argv, env=env, cwd=str(tmp_path), profile=profile, rows=24, cols=80,
        log_path="", idle_threshold_s=30.0,
    )  # fmt: skip


NEW, OLD = "echo '      --no-daemon  Run alone'", "echo '  --help'"


@pytest.mark.parametrize(
    ("argv", "alone"),
    [
        (("codex",), ("codex", "--no-daemon")),
        (("codex", "resume", "x"), ("codex", "--no-daemon", "resume", "x")),
        (("env", "X=1", "codex", "-m", "y"), ("env", "X=1", "codex", "--no-daemon", "-m", "y")),
        (("codex", "--no-daemon"), ("codex", "--no-daemon")),
        (("codex", "--remote", "unix://"), ("codex", "--remote", "unix://")),
        (("codex", "--remote=unix://"), ("codex", "--remote=unix://")),
        (("sh", "-c", "exec codex"), ("sh", "-c", "exec codex")),
    ],
)
def test_the_option_is_given_where_the_program_takes_it(program, tmp_path, argv, alone):
    program(NEW)
    assert Isolation().ask(start(tmp_path, *argv)).argv == alone


def test_an_older_version_does_not_get_an_option_that_it_does_not_know(program, tmp_path):
    program(OLD)
    assert Isolation().ask(start(tmp_path, "codex")).argv == ("codex",)


def test_a_program_is_asked_once_until_its_file_changes(program, tmp_path):
    path, isolation = program(OLD), Isolation()
    assert isolation.completed(start(tmp_path, "codex")) is None
    for _ in range(3):
        isolation.ask(start(tmp_path, "codex"))
        assert isolation.completed(start(tmp_path, "codex")).argv == ("codex",)
    program(NEW)
    os.utime(path, ns=(1, 1))
    assert isolation.completed(start(tmp_path, "codex")) is None
    assert isolation.ask(start(tmp_path, "codex")).argv == ("codex", "--no-daemon")


@pytest.mark.parametrize("said", ["sleep 60", None])
def test_a_program_that_does_not_answer_is_started_as_it_is_and_asked_again(program, tmp_path, monkeypatch, said):
    monkeypatch.setattr("relaybroker.agents.isolation.HELP_S", 0.2)
    if said:
        program(said)
    isolation = Isolation()
    assert isolation.ask(start(tmp_path, "codex")).argv == ("codex",)
    assert isolation.completed(start(tmp_path, "codex")) is None


def test_programs_without_a_daemon_are_not_asked(tmp_path):
    wanted = start(tmp_path, "cat", profile="default")
    assert Isolation().completed(wanted) is wanted
    unknown = start(tmp_path, "cat", profile="of another version")
    assert Isolation().completed(unknown) is unknown


def test_every_agent_has_files_of_its_own_by_which_its_programs_find_each_other():
    assert harnesses.own_files()["CLINE_HUB_DISCOVERY_PATH"] == "cline-hub.json"


class Host:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.has_doors = True

    def send(self, request: Any) -> None:
        self.sent.append(request)


async def nobody(item: Any) -> None:
    raise AssertionError(f"nothing is to be told, and {item} is")


class Unready:
    """Tools that do not answer."""

    def failure(self) -> str:
        return "nobody listens there"


async def test_a_program_whose_tools_do_not_answer_is_not_started_and_the_core_hears_why(tmp_path):
    """F115."""
    host, heard = Host(), []

    async def tell(item: Any) -> None:
        heard.append(item)

    requests = HostRequests(host, tell)
    requests.start(start(tmp_path, "cat"), Unready())
    requests.send(Stop(session_id="ws_1", grace_s=1.0, reason="agent_released"))
    async with asyncio.timeout(WAIT_S):
        while not heard:
            await asyncio.sleep(0.01)
    assert (heard[0].session_id, heard[0].reason, heard[0].detail) == (
        "ws_1",
        "mcp_injection_failed",
        "nobody listens there",
    )
    assert host.sent == []
    await requests.shut()


async def test_a_host_that_knows_no_pipes_is_asked_for_none_and_the_core_hears_why(tmp_path):
    """It would give the program a terminal and type messages into its protocol."""
    host, heard = Host(), []
    host.has_doors = False

    async def tell(item: Any) -> None:
        heard.append(item)

    requests = HostRequests(host, tell)
    requests.start(msgspec.structs.replace(start(tmp_path, "cat"), doors=("acp",)))
    async with asyncio.timeout(WAIT_S):
        while not heard:
            await asyncio.sleep(0)
    assert (heard[0].session_id, heard[0].reason, host.sent) == ("ws_1", "spawn_failed", [])
    assert "started by an earlier version" in heard[0].detail
    await requests.shut()


async def test_what_is_asked_behind_a_start_that_is_held_up_comes_after_it(program, tmp_path):
    program("sleep 0.2; " + NEW)
    host = Host()
    requests = HostRequests(host, nobody)
    requests.start(start(tmp_path, "codex"))
    requests.start(start(tmp_path, "codex"))
    inject = Inject(session_id="ws_1", delivery_id="d", attempt=1, text="x", marker="", steer=False)
    stop = Stop(session_id="ws_1", grace_s=1.0, reason="agent_released")
    elsewhere = Stop(session_id="ws_2", grace_s=1.0, reason="agent_released")
    for request in (inject, stop, elsewhere):
        requests.send(request)
    assert host.sent == [elsewhere]
    async with asyncio.timeout(WAIT_S):
        while len(host.sent) < 4:
            await asyncio.sleep(0.01)
    assert host.sent[1].argv == ("codex", "--no-daemon")
    assert host.sent[2:] == [inject, stop]
    requests.start(start(tmp_path, "codex"))
    assert host.sent[-1].argv == ("codex", "--no-daemon")
    await requests.shut()
