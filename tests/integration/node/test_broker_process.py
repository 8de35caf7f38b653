from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.waiting import WAIT_S

Start = Callable[..., Any]
KEY = "rk_live_" + "0" * 32


def configured(engine: Any, **more: str) -> dict[str, str]:
    return {"RELAY_BASE_URL": engine.url, "RELAY_WORKSPACE_KEY": KEY} | more


async def until(condition: Callable[[], Any], limit_s: float = WAIT_S) -> Any:
    """Wait until a (possibly awaitable) condition holds, and give its value."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.03)


async def link_is(broker: Any, state: str) -> dict[str, Any] | None:
    _, body = await broker.call("GET", "/state")
    return body if body["link"] == state else None


async def test_a_broker_starts_connects_and_ends_cleanly(engine: Any, start_broker: Start) -> None:
    broker = start_broker(configured(engine))
    connection = await broker.ready()
    body = await until(lambda: link_is(broker, "online"))
    assert re.fullmatch(r"node_[0-9a-f]{32}", body["node_id"])
    assert body["node_name"].endswith(body["node_id"].removeprefix("node_")[:8])
    kinds = [frame["type"] for frame in engine.frames][:3]
    assert kinds == ["node.register", "inventory.sync", "node.heartbeat"]
    host_pid = body["host_pid"]
    assert psutil.pid_exists(host_pid)
    status, out, err = await broker.stop()
    assert status == 0, err
    assert out == f"[agent-relay] API listening on {connection['url']}\n"
    assert err == ""
    assert engine.frames[-1]["type"] == "node.deregister"
    assert not (broker.state / "connection.json").exists()
    await until(lambda: not psutil.pid_exists(host_pid))


async def test_files_are_private_and_hold_no_secret_that_they_should_not(
    engine: Any, start_broker: Start, tmp_path: Path
) -> None:
    """I5, I7: modes, and where tokens are."""
    broker = start_broker(configured(engine), api_port=0)
    await broker.ready()
    await until(lambda: link_is(broker, "online"))
    files = [path for path in broker.state.rglob("*") if path.is_file() and path.name != ".gitignore"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(broker.state.stat().st_mode) == 0o700
    everything = [*broker.state.rglob("*"), *(tmp_path / "home").rglob("*"), *(tmp_path / "data").rglob("*")]
    for secret, allowed in ((KEY, set()), ("nt_live_1", {"node-tokens"}), ("at_live_own", {"own-tokens"})):
        holders = {path.parent.name for path in everything if path.is_file() and secret.encode() in path.read_bytes()}
        assert holders == allowed, secret
    await broker.stop()


async def test_an_agent_gets_its_message_typed_and_acked(
    engine: Any, start_broker: Start, agent_script: Path, tmp_path: Path
) -> None:
    broker = start_broker(configured(engine, RELAY_BROKER_API_KEY="br_chosen", RELAY_AGENT_TOKEN="at_live_foreign"))
    connection = await broker.ready()
    assert connection["api_key"] == "br_chosen"
    await until(lambda: link_is(broker, "online"))
    status, body = await broker.call("POST", "/api/spawn", {"name": "w1", "cli": f"python3 {agent_script}"})
    assert status == 200, body
    await engine.deliver("w1", 1, "hello agent")
    [ack] = await engine.frame("delivery.ack")
    assert (ack["agent"], ack["up_to_seq"]) == ("w1", 1)
    typed = (tmp_path / "typed.txt").read_text()
    assert "hello agent" in typed
    dumped = (tmp_path / "environment.txt").read_text()
    assert "RELAY_AGENT_NAME=w1\n" in dumped
    assert "RELAY_AGENT_TOKEN=at_live_100\n" in dumped
    assert f"RELAY_BASE_URL={engine.url}\n" in dumped
    assert "TERM=xterm-256color\n" in dumped
    for secret in (KEY, "br_chosen", "nt_live_1", "at_live_foreign", "at_live_own"):
        assert secret not in dumped
    agent_pid = (await broker.call("GET", "/state"))[1]["workers"]["w1"][1]
    assert list((tmp_path / "run").rglob("*.token"))
    status, body = await broker.call("POST", "/api/release", {"name": "w1"})
    assert status == 200, body
    await until(lambda: not psutil.pid_exists(agent_pid))
    await engine.frame("agent.deregister")
    await until(lambda: not list((tmp_path / "run").rglob("100.token")))
    assert (await broker.stop())[0] == 0
    assert not list((tmp_path / "run").rglob("*.token"))


async def test_a_killed_broker_comes_back_to_the_same_agents_port_and_place(
    engine: Any, start_broker: Start, agent_script: Path, tmp_path: Path
) -> None:
    """`kill -9` costs nothing: no agent dies, nothing is typed twice, the same port, identity and token."""
    first = start_broker(configured(engine))
    connection = await first.ready()
    await until(lambda: link_is(first, "online"))
    status, body = await first.call("POST", "/api/spawn", {"name": "w1", "cli": f"python3 {agent_script}"})
    assert status == 200, body
    await engine.deliver("w1", 1, "before the crash")
    await engine.frame("delivery.ack")
    before = (await first.call("GET", "/state"))[1]
    first.kill()
    assert psutil.pid_exists(before["workers"]["w1"][1])

    second = start_broker(configured(engine))
    again = await second.ready()
    assert again["url"] == connection["url"]
    after = await until(lambda: link_is(second, "online"))
    assert after["workers"]["w1"] == before["workers"]["w1"]
    assert (after["host"], after["node_id"]) == (before["host"], before["node_id"])
    assert engine.minted == 1
    registered = [frame for frame in engine.frames if frame["type"] == "agent.register"]
    assert len(registered) == 1
    await engine.deliver("w1", 1, "before the crash")
    await engine.deliver("w1", 2, "after the crash")
    await until(lambda: _acked(engine, 2))
    typed = (tmp_path / "typed.txt").read_text()
    assert typed.count("before the crash") == 1
    assert typed.count("after the crash") == 1
    assert (await second.stop())[0] == 0
    await until(lambda: not psutil.pid_exists(before["workers"]["w1"][1]))


def _acked(engine: Any, seq: int) -> bool:
    return any(frame["type"] == "delivery.ack" and frame["up_to_seq"] == seq for frame in engine.frames)


async def test_a_second_broker_in_one_directory_is_refused_in_the_words_that_the_cli_knows(
    engine: Any, start_broker: Start
) -> None:
    first = start_broker(configured(engine))
    await first.ready()
    second = start_broker(configured(engine))
    status, out, err = await asyncio.to_thread(second.end)
    assert (status, out) == (1, "")
    assert err == f"another broker instance is already running in this directory (pid: {first.pid}, {first.state})\n"
    assert json.loads((first.state / "connection.json").read_text())["pid"] == first.pid
    await first.stop()


async def test_a_state_of_another_workspace_is_refused(engine: Any, start_broker: Start) -> None:
    """F135."""
    first = start_broker(configured(engine))
    await first.ready()
    await first.stop()
    count = len(engine.frames)
    engine.workspace_id = "ws_other"
    second = start_broker(configured(engine, RELAY_WORKSPACE_KEY=KEY.replace("0", "1")))
    status, _, err = await asyncio.to_thread(second.end)
    assert status == 1
    assert "wrong_destination" in err
    assert "ws_test, not ws_other" in err
    assert len(engine.frames) == count
    assert not (first.state / "connection.json").exists()


async def test_an_explicit_key_that_is_refused_ends_the_start(engine: Any, start_broker: Start) -> None:
    engine.key_status = 401
    broker = start_broker(configured(engine))
    status, out, err = await asyncio.to_thread(broker.end)
    assert status == 1
    assert "refused the workspace key" in err
    assert KEY not in out + err
    assert engine.workspaces_made == 0
    assert not (broker.state / "connection.json").exists()


async def test_a_key_that_is_not_explicit_gives_way_to_a_workspace_of_its_own(engine: Any, start_broker: Start) -> None:
    engine.key_status = 401
    environment = {"RELAY_BASE_URL": engine.url, "RELAY_API_KEY": KEY}
    broker = start_broker(environment)
    await broker.ready()
    await broker.stop()
    again = start_broker(environment)
    await again.ready()
    await again.stop()
    assert engine.workspaces_made == 1


async def test_a_second_start_needs_no_engine(engine: Any, start_broker: Start) -> None:
    """F045, F129: known workspace and token; the broker goes live degraded, and connects when it can."""
    first = start_broker(configured(engine))
    await first.ready()
    await first.stop()
    await engine.stop()
    second = start_broker(configured(engine))
    await second.ready()
    assert (await second.call("GET", "/state"))[1]["link"] == "backing_off"
    await engine.start()
    await until(lambda: link_is(second, "online"))
    assert engine.minted == 1
    await second.stop()


async def test_a_first_start_without_engine_ends_with_a_reason(start_broker: Start) -> None:
    """F129."""
    broker = start_broker({"RELAY_BASE_URL": "http://127.0.0.1:9", "RELAY_WORKSPACE_KEY": KEY})
    status, _, err = await asyncio.to_thread(broker.end, 15)
    assert status == 1
    assert "did not answer" in err


async def test_a_port_that_is_taken_ends_the_start(engine: Any, start_broker: Start) -> None:
    broker = start_broker(configured(engine), api_port=engine.port)
    status, out, err = await asyncio.to_thread(broker.end)
    assert (status, out) == (1, "")
    assert "cannot listen on 127.0.0.1" in err


async def test_a_broker_without_persistence_leaves_nothing_behind(
    engine: Any, start_broker: Start, tmp_path: Path
) -> None:
    broker = start_broker(configured(engine, TMPDIR=str(tmp_path)), command="init")
    line = await asyncio.to_thread(broker.process.stdout.readline)
    assert line.startswith("[agent-relay] API listening on http://127.0.0.1:")
    await engine.frame("node.register")
    assert list(tmp_path.glob("agent-relay-ephemeral-*"))
    status, _, err = await broker.stop()
    assert status == 0, err
    assert not list(tmp_path.glob("agent-relay-ephemeral-*"))
    assert not list((tmp_path / "run").rglob("*/run/*"))


async def test_a_request_over_the_api_stops_the_broker(engine: Any, start_broker: Start) -> None:
    broker = start_broker(configured(engine))
    await broker.ready()
    await broker.call("POST", "/api/shutdown")
    assert (await asyncio.to_thread(broker.end))[0] == 0


async def test_fifty_stops_in_one_are_one(engine: Any, start_broker: Start, agent_script: Path) -> None:
    """A second signal ends at once, with the agents."""
    broker = start_broker(configured(engine))
    await broker.ready()
    await until(lambda: link_is(broker, "online"))
    _, body = await broker.call(
        "POST", "/api/spawn", {"name": "w1", "cli": "sh -c 'trap \"\" TERM; while :; do sleep 1; done'"}
    )
    pid = body["pid"]
    broker.process.terminate()
    await asyncio.sleep(0.2)
    broker.process.terminate()
    status, _, _ = await asyncio.to_thread(broker.end)
    assert status == 1
    await until(lambda: not psutil.pid_exists(pid))


async def test_a_stop_ends_in_time_with_an_engine_that_never_answers(
    engine: Any, start_broker: Start, agent_script: Path
) -> None:
    """F131: agents that ignore SIGTERM and an engine that reads nothing do not delay the end."""
    broker = start_broker(configured(engine))
    await broker.ready()
    await until(lambda: link_is(broker, "online"))
    stubborn = "sh -c 'trap \"\" TERM; while :; do sleep 1; done'"
    spawned = await asyncio.gather(
        *(broker.call("POST", "/api/spawn", {"name": f"w{number}", "cli": stubborn}) for number in range(6))
    )
    assert {status for status, _ in spawned} == {200}
    engine.deaf.clear()
    status, _, err = await broker.stop()
    engine.deaf.set()
    assert (status, err) == (0, "")
    for _, body in spawned:
        assert not psutil.pid_exists(body["pid"])


async def test_a_pinned_node_uses_the_operators_id_and_token(engine: Any, start_broker: Start, tmp_path: Path) -> None:
    """I3."""
    environment = {"RELAY_BASE_URL": engine.url, "RELAY_NODE_TOKEN": "nt_live_pinned", "RELAY_NODE_ID": "node_mine"}
    broker = start_broker(environment)
    await broker.ready()
    body = await until(lambda: link_is(broker, "online"))
    assert body["node_id"] == "node_mine"
    await broker.stop()
    assert engine.minted == 0
    assert not (tmp_path / "data" / "agent-relay" / "node-tokens").exists()


async def test_no_secret_is_in_the_command_line_or_environment_of_any_process(engine: Any, start_broker: Start) -> None:
    broker = start_broker(configured(engine))
    await broker.ready()
    state = await until(lambda: link_is(broker, "online"))
    host = psutil.Process(state["host_pid"])
    assert KEY not in " ".join(host.cmdline()) + repr(host.environ())
    await broker.stop()


def test_the_state_directory_is_kept_out_of_version_control(home: Path, engine: Any, start_broker: Start) -> None:
    broker = start_broker({"RELAY_BASE_URL": "ftp://x"})
    status, _, err = broker.end()
    assert status == 1
    assert "must start with http" in err
    assert os.listdir(home) == []
    assert subprocess.run(["true"], check=True).returncode == 0
