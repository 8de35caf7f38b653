"""What is done so that the agents of the file run, and what is left alone."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.config.fleet_file import Agent
from relaybroker.fleet.applying import apply, memory_of, planned
from relaybroker.fleet.plan import Applied, Step, plan


@pytest.mark.parametrize(
    ("wanted", "running", "applied", "steps"),
    [
        ({"a": "1"}, {}, {}, [("start", "a")]),
        ({"a": "1"}, {"a": "s1"}, {"a": Applied("1", "s1")}, [("keep", "a")]),
        ({"a": "2"}, {"a": "s1"}, {"a": Applied("1", "s1")}, [("restart", "a")]),
        ({}, {"a": "s1"}, {"a": Applied("1", "s1")}, [("stop", "a")]),
        ({}, {"a": "s2"}, {"a": Applied("1", "s1")}, []),
        ({"a": "1"}, {"a": "s2"}, {}, [("leave", "a")]),
        ({"a": "1"}, {"a": "s2"}, {"a": Applied("1", "s1")}, [("leave", "a")]),
        ({"a": "1"}, {}, {"a": Applied("1", "s1")}, [("start", "a")]),
        ({"b": "1"}, {"a": "s1"}, {"a": Applied("1", "s1")}, [("stop", "a"), ("start", "b")]),
        ({}, {"by hand": "s"}, {}, []),
    ],
)
def test_each_difference_has_one_step(wanted, running, applied, steps):
    assert [step[:2] for step in plan(wanted, running, applied)] == steps


class Api:
    """The local API as far as a fleet needs it: agents by name, and one that it will not start."""

    def __init__(self) -> None:
        self.agents: dict[str, dict[str, str]] = {}
        self.started = 0

    def __call__(self, method, path, body=None):
        match method:
            case "GET":
                return 200, {"agents": list(self.agents.values())}
            case "DELETE":
                self.agents.pop(path.rpartition("/")[2])
                return 200, {}
        if body["cli"] == "nothing":
            return 400, {"code": "cli_not_found", "message": "command 'nothing' not found"}
        self.started += 1
        self.agents[body["name"]] = {"name": body["name"], "sessionId": f"s{self.started}", "cli": body["cli"]}
        return 200, {}


def test_a_fleet_is_made_so_once_changed_where_it_differs_and_told_where_it_cannot(tmp_path):
    api, reported = Api(), []
    memory = memory_of(tmp_path, "desk")

    def make(environ=None, **agents):
        reported.clear()
        fleet = {name: Agent.model_validate(one) for name, one in agents.items()}
        apply(fleet, tmp_path, memory, api, environ or {}, reported.append)
        return [(done.step.kind, done.step.name, bool(done.problem)) for done in reported]

    api("POST", "/api/spawn", {"name": "mine", "cli": "bash"})
    first = {"a": {"cli": "cat"}, "b": {"cli": "nothing"}, "c": {"cli": "cat", "env_from": ["TOKEN"]}}
    assert make(**first) == [("start", "a", False), ("start", "b", True), ("start", "c", True)]
    assert "TOKEN is not set" in reported[2].problem
    assert make({"TOKEN": "secret"}, **first) == [("keep", "a", False), ("start", "b", True), ("start", "c", False)]
    assert "secret" not in memory.read_text()
    assert make(a={"cli": "cat -v"}, mine={"cli": "cat"}) == [
        ("leave", "mine", False),
        ("stop", "c", False),
        ("restart", "a", False),
    ]
    assert {name: one["cli"] for name, one in api.agents.items()} == {"mine": "bash", "a": "cat -v"}
    assert planned({}, tmp_path, memory, api) == [Step("stop", "a", "it is no longer in the file")]
    assert set(msgspec.json.decode(memory.read_bytes())) == {"a"}
