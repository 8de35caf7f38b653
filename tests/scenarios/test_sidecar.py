"""Sidecars over `/api/fleet/ws`: a real program on a real socket offers handlers through the real broker."""

from __future__ import annotations

import json
import os
import socket
import sys
import textwrap

import aiohttp
import pytest

from tests.scripted_engine import error
from tests.sidecar_client import Sidecar
from tests.waiting import WAIT_S


@pytest.fixture
async def connect():
    opened = []

    async def open_one(node):
        connection = node.connection()
        url = connection["url"].replace("http", "ws") + "/api/fleet/ws"
        made = await node.session.ws_connect(url, headers={"X-API-Key": connection["api_key"]})
        opened.append(made)
        return Sidecar(made)

    yield open_one
    for made in opened:
        await made.close()


@pytest.fixture
async def sidecar(node, connect):
    """Connected, with a manifest and the handler `echo`."""
    made = await connect(node)
    await made.ask("hello", client_name="test", client_version="1")
    assert (await made.ask("register_node", manifest={"name": "fleet-1", "capabilities": [{"name": "echo"}]}))[
        "type"
    ] == "ok"
    assert (await made.ask("register_handlers", names=[" echo ", ""]))["result"] == {"handlers_live": True}
    return made


async def test_an_action_reaches_its_handler_and_the_result_comes_back(sidecar, node, engine):
    """The whole way: invoke, handler, result; X1 for the repeated invocation."""
    await engine.frame("node.register", name="fleet-1")
    await engine.frame("node.heartbeat", handlers_live=True)
    await engine.invoke("inv_1", "echo", {"text": "hi"})
    asked = await sidecar.invocation()
    assert asked == {"invocation_id": "inv_1", "name": "echo", "input": {"text": "hi"}}
    answer = await sidecar.ask("handler_result", invocation_id="inv_1", output={"text": "hi"})
    assert answer["result"] == {"completed": True}
    assert (await engine.frame("action.result", invocation_id="inv_1"))["output"] == {"text": "hi"}
    await engine.invoke("inv_1", "echo", {"text": "hi"})
    assert (await engine.frame("action.result", invocation_id="inv_1", count=2))["output"] == {"text": "hi"}
    status = (await node.api("GET", "/api/status"))[1]
    assert status["sidecar"]["handlers"] == ["echo"]


async def test_secrets_of_an_action_reach_its_handler_and_nothing_else(sidecar, node, engine):
    """I7: neither the log nor a session file has them."""
    secrets = ["at_live_said", "sk-env-said", "pw-said"]
    given = {
        "agent_token": secrets[0],
        "env": {"OPENAI_API_KEY": secrets[1]},
        "list": [{"db-password": secrets[2]}],
        "n": 5,
    }
    await engine.invoke("inv_1", "echo", given)
    assert (await sidecar.invocation())["input"] == given
    await sidecar.ask("handler_result", invocation_id="inv_1", output={"n": 5})
    await engine.frame("action.result", invocation_id="inv_1")
    received = await node.logged("action.received.v1")
    assert received.event.input["n"] == 5
    assert received.event.input["agent_token"].startswith("withheld:")
    kept = [path.read_bytes() for path in node.folder.rglob("*") if path.is_file()]
    assert len(kept) > 3, "journal, log, connection file"
    for secret in secrets:
        assert not any(secret.encode() in content for content in kept), secret


@pytest.mark.parametrize(
    ("payload", "given"),
    [({"output": None}, None), ({"output": 0}, 0), ({"error": "no luck"}, "no luck")],
)
async def test_results_are_passed_on_as_they_are(sidecar, engine, payload, given):
    await engine.invoke("inv_1", "echo")
    await sidecar.invocation()
    await sidecar.ask("handler_result", invocation_id="inv_1", **payload)
    frame = await engine.frame("action.result", invocation_id="inv_1")
    assert frame.get("output", frame.get("error")) == given


@pytest.mark.parametrize(
    "payload",
    [
        {"invocation_id": "inv_1"},
        {"invocation_id": "inv_1", "output": 1, "error": "x"},
        {"invocation_id": "inv_1", "output": 1, "more": 1},
        {"invocation_id": "inv_1", "error": " "},
        {"output": 1},
    ],
)
async def test_a_result_that_is_none_is_refused_and_the_invocation_stays_open(sidecar, engine, payload):
    await engine.invoke("inv_1", "echo")
    await sidecar.invocation()
    assert (await sidecar.ask("handler_result", **payload))["code"] == "frame_failed"
    assert (await sidecar.ask("handler_result", invocation_id="inv_1", output=2))["type"] == "ok"


async def test_a_result_that_nobody_waits_for_is_unknown(sidecar):
    assert (await sidecar.ask("handler_result", invocation_id="inv_9", output=1))["code"] == "unknown_invocation"


async def test_bad_frames_have_a_code_and_the_next_good_one_is_answered(sidecar):
    for text, code in (
        ("no json", "invalid_frame"),
        ('{"v":1,"type":"hello","payload":{}}', "invalid_frame"),
        ('{"v":2,"type":"dance","request_id":"x","payload":{}}', "frame_failed"),
        ('{"v":2,"type":"hello","request_id":"x"}', "frame_failed"),
        ('{"v":2,"type":"register_handlers","request_id":"x","payload":{"names":"echo"}}', "frame_failed"),
        ('{"v":2,"type":"register_node","request_id":"x","payload":{}}', "frame_failed"),
    ):
        await sidecar.socket.send_str(text)
        frame = await sidecar.socket.receive_json(timeout=WAIT_S)
        assert (frame["type"], frame["payload"]["code"]) == ("error", code), text
    await sidecar.socket.send_bytes(b"x")
    assert (await sidecar.socket.receive_json(timeout=WAIT_S))["payload"]["code"] == "invalid_frame"
    assert (await sidecar.ask("hello"))["result"]["protocol_version"] == 2


async def test_a_sidecars_own_spawn_handler_wins_and_spawns_for_its_invocation(node, connect, engine):
    """5.1, 3.2: the sidecar's harness, through the one pipeline, with the invocation on the registration."""
    sidecar = await connect(node)
    await sidecar.ask("register_handlers", names=["spawn:fancy"])
    await engine.invoke("inv_1", "spawn:fancy", {"name": "w1"})
    await sidecar.invocation()
    answer = await sidecar.ask(
        "spawn_agent",
        agent={"name": "w1", "runtime": "pty", "harnessConfig": {"runtime": "pty", "command": "cat", "args": ["-u"]}},
        invocation_id="inv_1",
        skip_relay_prompt=True,
    )
    assert answer["result"]["success"] is True
    assert engine.frames("agent.register")[0]["invocation_id"] == "inv_1"
    await sidecar.ask("handler_result", invocation_id="inv_1", output={"spawned": True, "name": "w1"})
    assert (await engine.frame("action.result", invocation_id="inv_1"))["output"]["spawned"] is True
    assert len(engine.frames("action.result")) == 1
    assert (await sidecar.ask("send_input", name="w1", data="x"))["result"]["bytes_written"] == 1
    assert [agent["name"] for agent in (await sidecar.ask("list_agents"))["result"]["agents"]] == ["w1"]
    assert (await sidecar.ask("release_agent", name="w1"))["result"]["existed"] is True


async def test_an_invocation_never_waits_for_a_spawn_in_progress(sidecar, node, engine):
    """7: outbound `invoke_handler` does not wait for inbound frames (in the reference it waits 30 s)."""
    engine.answers["agent.register"] = lambda _: None
    await sidecar.socket.send_json(
        {"v": 2, "type": "spawn_agent", "request_id": "s", "payload": {"agent": {"name": "w1", "cli": "cat"}}}
    )
    await engine.frame("agent.register")
    await engine.invoke("inv_1", "echo")
    assert (await sidecar.invocation())["invocation_id"] == "inv_1"


async def test_a_newer_sidecar_takes_over(sidecar, node, connect, engine):
    """X6."""
    await engine.invoke("inv_1", "echo")
    await sidecar.invocation()
    newer = await connect(node)
    await newer.ask("register_handlers", names=["echo"])
    assert (await engine.frame("action.result", invocation_id="inv_1"))["error"] == "handler_unavailable"
    message = await sidecar.socket.receive(timeout=WAIT_S)
    assert message.type is aiohttp.WSMsgType.CLOSE
    await engine.invoke("inv_2", "echo")
    assert (await newer.invocation())["invocation_id"] == "inv_2"


async def test_a_dropped_sidecar_gives_back_what_it_had(sidecar, node, engine):
    await engine.invoke("inv_1", "echo")
    await sidecar.invocation()
    await sidecar.socket.close()
    assert (await engine.frame("action.result", invocation_id="inv_1"))["error"] == "handler_unavailable"
    await engine.frame("node.heartbeat", handlers_live=False, count=2)
    await engine.invoke("inv_2", "echo")
    assert (await engine.frame("action.result", invocation_id="inv_2"))["error"] == "handler_unavailable"


async def test_deregistering_answers_closes_and_keeps_the_node(sidecar, node, engine):
    """7: the plain manifest again, agents stay reachable."""
    await node.spawn("w1")
    assert (await sidecar.ask("deregister_node"))["result"] == {"deregistered": True}
    assert (await sidecar.socket.receive(timeout=WAIT_S)).type is aiohttp.WSMsgType.CLOSE
    await engine.frame("node.register", name="desk", count=2)
    await engine.deliver("w1", 1, "still here")
    await node.typed("w1", "still here")


async def test_a_manifest_that_the_engine_refuses_is_an_error(sidecar, engine):
    """7: the answer comes after the engine's, not before."""
    engine.answers["node.register"] = lambda _: error("node_name_conflict")
    answer = await sidecar.ask("register_node", manifest={"name": "taken"})
    assert answer["code"] == "frame_failed"
    assert answer["message"].startswith("node_name_conflict")


async def test_a_message_from_a_sidecar_is_published(sidecar, engine):
    answer = await sidecar.ask("send_message", to="#general", text="hello")
    assert answer["result"]["relaycast_published"] is True
    assert len(engine.requests("POST", "/v1/channels/general/messages")) == 1


async def test_a_supervised_sidecar_is_started_again_without_the_brokers_secrets(make_node, engine, tmp_path):
    """7: its socket is lost, its program is started with its own environment and nobody's keys."""
    node = make_node(rate=4)
    await node.start()
    await engine.online()
    connection = node.connection()
    program = tmp_path / "fleet.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import asyncio, json, os, sys
            import aiohttp

            async def main():
                json.dump(dict(os.environ), open({str(tmp_path / "environment.json")!r}, "w"))
                async with aiohttp.ClientSession() as session:
                    async with session.ws_connect(os.environ["FLEET_URL"], headers={{"X-API-Key": os.environ["FLEET_KEY"]}}) as ws:
                        await ws.send_json({{"v": 2, "type": "register_handlers", "request_id": "1", "payload": {{"names": ["echo"]}}}})
                        async for message in ws:
                            frame = json.loads(message.data)
                            if frame["type"] == "invoke_handler":
                                given = frame["payload"]
                                await ws.send_json({{"v": 2, "type": "handler_result", "request_id": "2", "payload":
                                    {{"invocation_id": given["invocation_id"], "output": os.getpid()}}}})

            asyncio.run(main())
            """
        )
    )
    url = connection["url"].replace("http", "ws") + "/api/fleet/ws"
    opened = await node.session.ws_connect(url, headers={"X-API-Key": connection["api_key"]})
    first = Sidecar(opened)
    await first.ask(
        "register_node",
        manifest={"name": "fleet-1"},
        supervision={
            "argv": [sys.executable, str(program)],
            "cwd": str(tmp_path),
            "env": {"FLEET_URL": url, "FLEET_KEY": connection["api_key"], "FLEET_SECRET": "mine"},
        },
    )
    await opened.close()
    await node.logged("sidecar.serving.v1")
    await engine.invoke("inv_1", "echo")
    pid = (await engine.frame("action.result", invocation_id="inv_1"))["output"]
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["FLEET_SECRET"] == "mine"
    assert not {"AGENT_RELAY_WORKSPACE_KEY", "RELAY_NODE_TOKEN", "RELAY_BROKER_API_KEY"} & set(environment)
    assert "mine" not in json.dumps([str(recorded) for recorded in node.log()])

    os.kill(pid, 9)
    await node.until(lambda: len(node.log("sidecar.serving.v1")) >= 2, what="started once more")
    await node.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_fleet_socket_needs_the_key_and_an_upgrade(node):
    connection = node.connection()
    async with node.session.get(connection["url"] + "/api/fleet/ws") as response:
        assert response.status == 401
    assert (await node.api("GET", "/api/fleet/ws"))[0] == 400


async def test_a_sidecar_that_does_not_read_is_closed(node, engine):
    """BOUNDED: 128 frames wait at most; the loop of the broker stays free."""
    connection = node.connection()
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", int(connection["url"].rpartition(":")[2])))
        upgrade = (
            "GET /api/fleet/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\nX-API-Key: {connection['api_key']}\r\n\r\n"
        )
        text = b'{"v":2,"type":"register_handlers","request_id":"1","payload":{"names":["echo"]}}'
        silent.sendall(upgrade.encode() + bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        await node.logged("sidecar.serving.v1")
        for number in range(300):
            await engine.invoke(f"inv_{number}", "echo", {"text": "x" * 100_000})
        gone = await node.logged("sidecar.gone.v1")
    assert gone.event.detail == "outbound_overflow"
    assert (await node.api("GET", "/api/status"))[1]["sidecar"] is None
