"""Who may have a program bypass its permissions (local-api.md section 11.2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from relaybroker.agents.harness import harness_of
from relaybroker.domain import inputs
from relaybroker.domain.errors import InvalidRequest
from relaybroker.domain.permissions import permitted
from relaybroker.domain.rules.agents import REMOTE
from tests.unit.domain.test_restarts import starts
from tests.world import SETTINGS

FLAG = "--dangerously-skip-permissions"
MODES = ("never", "explicit", "local", "all")


def outcome(command: str, **how: Any) -> str:
    argv = tuple(command.split())
    given = {"wanted": "", "mode": "explicit", "is_remote": False} | how
    try:
        return " ".join(permitted(argv, harness_of(argv, how.pop("harness", "")).bypass, **given))
    except InvalidRequest as error:
        return error.code


@pytest.mark.parametrize(
    ("wanted", "is_remote", "outcomes"),
    [
        ("bypass", False, ["bypass_not_allowed", f"claude {FLAG} -c", f"claude {FLAG} -c", f"claude {FLAG} -c"]),
        ("", False, ["claude -c", "claude -c", f"claude {FLAG} -c", "claude -c"]),
        ("ask", False, ["claude -c"] * 4),
        ("bypass", True, ["bypass_not_allowed"] * 3 + [f"claude {FLAG} -c"]),
        ("", True, ["claude -c"] * 4),
    ],
)
def test_who_asks_gets_it_as_far_as_the_operator_allows(wanted, is_remote, outcomes):
    said = [outcome("claude -c", wanted=wanted, is_remote=is_remote, mode=mode) for mode in MODES]
    assert said == outcomes


@pytest.mark.parametrize("command", [f"claude {FLAG}", "codex --yolo", "gemini -y", "qwen --approval-mode yolo"])
def test_the_programs_own_flag_is_asking_for_it(command):
    assert [outcome(command, mode=mode) for mode in MODES] == ["bypass_not_allowed", command, command, command]
    remote = [outcome(command, mode=mode, is_remote=True) for mode in MODES]
    assert remote == ["bypass_not_allowed"] * 3 + [command]
    offered = [outcome(command, mode=mode, is_remote=True, offered=9) for mode in MODES]
    assert offered == ["bypass_not_allowed", command, command, command], "the operator offers it himself"
    assert outcome(command, wanted="ask") == "invalid_field"
    assert outcome(command, wanted="bypass") == command, "once is enough"


@pytest.mark.parametrize("command", ["bash", "aider"])
def test_a_program_without_such_a_mode_is_not_said_to_have_it(command):
    assert outcome(command, wanted="bypass") == "invalid_field"
    assert outcome(command, mode="local") == command


@pytest.mark.parametrize(("source", "code"), [("http_api", None), (REMOTE, "spawn_failed")])
def test_the_operators_mode_decides_about_a_spawn(make_world, source, code):
    settings = msgspec.structs.replace(SETTINGS, remote_args=True, capabilities=("spawn:claude",))
    world = make_world(settings)
    world.broker._harness_of = harness_of
    world.start()
    world.online()
    if source == REMOTE:
        agent = {"name": "w1", "agent": {"harnessConfig": {"command": "claude", "args": [FLAG]}}}
        world.frame(type="action.invoke", invocation_id="i1", action="spawn:claude", input=agent)
        (result,) = [frame for frame in world.frames if frame["type"] == "action.result"]
        assert (result["error"], starts(world)) == (code, [])
    else:
        spec = inputs.SpawnSpec(name="w1", cli="claude", permission_mode="bypass")
        world.tell(inputs.SpawnRequested(request_id="r", spec=spec))
        world.accept("w1")
        (start,) = starts(world)
        assert start.argv[:2] == ("claude", "--session-id")
        assert FLAG in start.argv
