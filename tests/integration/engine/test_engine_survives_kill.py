"""Whatever the engine said it had, it still has after `kill -9` (contract section 14, last item)."""

import asyncio
import contextlib
import os
import ssl
import stat
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.integration.engine.conftest import Client
from tests.waiting import WAIT_S

SELF_SIGNED = Path(__file__).parent.parent / "websocket" / "self_signed.pem"


async def test_it_says_where_it_listens_and_ends_on_sigterm(engine, client):
    assert engine.line == f"relaybroker engine listening on {engine.url}\n"
    assert stat.S_IMODE(os.stat(engine.ready_file).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(engine.db).st_mode) == 0o600
    agent = await client.post("/v1/agents", {"name": "ada"})
    direct = await client.post("/v1/agent/node-token", {}, token=agent["token"])
    async with client.node(direct["token"]) as node:
        await node.register(direct["node_name"], direct["node_id"])
        rest = await engine.stop()
        assert (await node.socket.receive()).data == 1001
    assert (rest, engine.process.returncode) == (b"", 0), engine.log.read_text()


async def test_it_ends_while_a_peer_does_not_answer(engine, client):
    agent = await client.post("/v1/agents", {"name": "ada"})
    direct = await client.post("/v1/agent/node-token", {}, token=agent["token"])
    async with client.node(direct["token"]) as node:
        await node.register(direct["node_name"], direct["node_id"])
        await engine.stop()
    assert engine.process.returncode == 0, engine.log.read_text()


async def test_a_second_engine_on_the_same_database_is_refused(engine, client, tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relaybroker.engine", "--db", str(engine.db), "--port", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    assert process.returncode != 0
    assert (out, b"locked" in error) == (b"", True)


async def test_no_acknowledged_post_is_lost_and_numbers_go_on_without_gaps(engine, client):
    ada, bob = [await client.post("/v1/agents", {"name": name}) for name in ("ada", "bob")]
    accepted = []

    async def post_until_dead(worker):
        number = 0
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while True:
                text = f"{worker}-{number}"
                sent = await client.post("/v1/dm", {"to": "ada", "text": text}, token=bob["token"])
                accepted.append((sent["id"], text))
                number += 1

    direct = await client.post("/v1/agent/node-token", {}, token=ada["token"])
    written = {}
    for round_number in range(3):
        wanted = len(accepted) + 60
        posting = [asyncio.create_task(post_until_dead(f"{round_number}-{worker}")) for worker in range(8)]
        async with client.node(direct["token"]) as node:
            await node.register(direct["node_name"], direct["node_id"])
            while len(accepted) < wanted:
                frame = await node.receive()
                if frame["type"] == "deliver":
                    written[frame["seq"]] = frame
            await engine.kill()
            await asyncio.gather(*posting)
            with contextlib.suppress(TypeError, TimeoutError):  # what was already on its way
                while True:
                    frame = await asyncio.wait_for(node.socket.receive_json(), WAIT_S)
                    if frame["type"] == "deliver":
                        written[frame["seq"]] = frame
        await engine.start()
    async with client.node(direct["token"]) as node:
        await node.register(direct["node_name"], direct["node_id"])
        by_seq = {}
        while len(by_seq) < max(len(accepted), len(written)):
            frame = await node.receive()
            if frame["type"] == "deliver":
                by_seq[frame["seq"]] = frame
    assert sorted(by_seq) == list(range(1, len(by_seq) + 1))
    assert {seq: by_seq[seq] for seq in written} == written, "what was written to the socket was durable before"
    stored = {(frame["msg_id"], frame["payload"]["data"]["text"]) for frame in by_seq.values()}
    assert set(accepted) <= stored


async def test_cursors_tokens_keys_and_reads_are_there_after_a_kill(engine, client):
    ada, bob = [await client.post("/v1/agents", {"name": name}) for name in ("ada", "bob")]
    enrolled = await client.post("/v1/nodes", {"name": "host", "node_id": "node_a"})
    async with client.node(enrolled["token"]) as node:
        await node.register("host", "node_a", ["echo"])
        registered = await node.ask(type="agent.register", name="ada")
        for number in range(5):
            first = await client.post(
                "/v1/dm", {"to": "ada", "text": str(number)}, token=bob["token"], Idempotency_Key=f"k{number}"
            )
        await node.send(type="delivery.ack", agent="ada", up_to_seq=3)
        await node.settle()
        await engine.kill()
    await engine.start()
    again, body, headers = await client.call(
        "POST", "/v1/dm", {"to": "ada", "text": "4"}, token=bob["token"], Idempotency_Key="k4"
    )
    assert (again, body["data"], headers["Idempotency-Replayed"]) == (201, first, "true")
    assert (await client.get("/v1/agent", token=registered["token"]))["id"] == ada["id"]
    assert (await client.call("GET", "/v1/agent", token=ada["token"]))[0] == 401
    assert (await client.get("/v1/nodes/host"))["status"] == "offline"
    async with client.node(enrolled["token"]) as node:
        await node.register("host", "node_a", ["echo"])
        frames = await node.settle()
        while [frame["seq"] for frame in frames if frame["type"] == "deliver"] != [4, 5]:
            frames = await node.settle()
        await client.post("/v1/dm", {"to": "ada", "text": "6"}, token=bob["token"])
        assert [frame["seq"] for frame in await node.settle() if frame["type"] == "deliver"][-1] == 6


@pytest.mark.parametrize("connected", [True, False], ids=["dispatched", "waiting"])
async def test_open_invocations_reach_their_node_after_a_kill_and_can_be_completed(engine, client, connected):
    caller = await client.post("/v1/agents", {"name": "caller"})
    enrolled = await client.post("/v1/nodes", {"name": "host", "node_id": "node_a"})
    async with client.node(enrolled["token"]) as node:
        await node.register("host", "node_a", ["echo"])
        if not connected:
            await node.socket.close()
        invocation = await client.post("/v1/actions/echo/invoke", {"input": {"a": 1}}, token=caller["token"])
        await engine.kill()
    await engine.start()
    async with client.node(enrolled["token"]) as node:
        await node.register("host", "node_a", ["echo"])
        frames = await node.settle()
        assert [(frame["invocation_id"], frame["input"]) for frame in frames if frame["type"] == "action.invoke"] == [
            (invocation["invocation_id"], {"a": 1})
        ]
        await node.send(type="action.result", invocation_id=invocation["invocation_id"], output="done")
        await node.settle()
    completed = await client.get(f"/v1/actions/echo/invocations/{invocation['invocation_id']}")
    assert (completed["status"], completed["output"]) == ("completed", "done")


async def test_a_spawn_under_way_stays_with_its_node_over_a_restart(engine, client):
    caller = await client.post("/v1/agents", {"name": "caller"})
    tokens = {name: (await client.post("/v1/nodes", {"name": name}))["token"] for name in ("a", "b")}
    ids = {name: (await client.get(f"/v1/nodes/{name}"))["id"] for name in tokens}
    async with client.node(tokens["a"]) as one, client.node(tokens["b"]) as two:
        await one.register("a", ids["a"], ["spawn:claude"])
        await two.register("b", ids["b"], ["spawn:claude"])
        body = {"input": {"name": "w", "cli": "claude"}}
        invocation = await client.post("/v1/actions/spawn/invoke", body, token=caller["token"])
        assert invocation["dispatched_node_id"] == ids["a"]
        await engine.kill()
    await engine.start()
    async with client.node(tokens["b"]) as two, client.node(tokens["a"]) as one:
        await two.register("b", ids["b"], ["spawn:claude"])
        assert [frame["type"] for frame in await two.settle()].count("action.invoke") == 0
        await one.register("a", ids["a"], ["spawn:claude"])
        invokes = [frame for frame in await one.settle() if frame["type"] == "action.invoke"]
        assert [frame["invocation_id"] for frame in invokes] == [invocation["invocation_id"]]


async def test_the_log_holds_no_token_and_no_text(engine, client):
    ada, bob = [await client.post("/v1/agents", {"name": name}) for name in ("ada", "bob")]
    direct = await client.post("/v1/agent/node-token", {}, token=ada["token"])
    async with client.node(direct["token"]) as node:
        await node.register(direct["node_name"], direct["node_id"])
        await node.socket.send_str("secret nonsense")
        await client.post("/v1/dm", {"to": "ada", "text": "secret words"}, token=bob["token"])
        await node.settle()
    await engine.stop()
    log = engine.log.read_text()
    for word in ("_live_", "secret"):
        assert word not in log


async def test_what_is_to_be_posted_is_posted_after_a_kill(engine, tmp_path, monkeypatch):
    """engine-contract.md section 2.13, over TLS: the engine's own aiohttp has none."""
    monkeypatch.setenv("RELAYBROKER_HOOK_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(SELF_SIGNED))
    taken, answers, came = [], [500], asyncio.Event()

    async def take(request):
        taken.append((request.headers["webhook-id"], (await request.json())["data"]["message"]["text"]))
        came.set()
        return web.Response(status=answers.pop(0) if answers else 204)

    app = web.Application()
    app.router.add_post("/", take)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(SELF_SIGNED)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    await engine.start()
    async with aiohttp.ClientSession() as session:
        client = Client(engine, session)
        await client.workspace()
        ada = await client.post("/v1/agents", {"name": "ada"})
        body = {"url": f"https://127.0.0.1:{port}/", "events": ["message.created"]}
        made = await client.post("/v1/subscriptions", body)
        for text in ("first", "second"):
            await client.post("/v1/channels/general/messages", {"text": text}, token=ada["token"])
        async with asyncio.timeout(WAIT_S):
            await came.wait()
        await engine.kill()
        await engine.start()
        async with asyncio.timeout(WAIT_S):
            while (await client.get(f"/v1/subscriptions/{made['id']}"))["waiting"]:
                await asyncio.sleep(0.01)
    await runner.cleanup()
    assert [text for _, text in taken if text == "first"][:2] == ["first", "first"], "refused once, and posted again"
    assert taken[-1][1] == "second"
    assert len({post_id for post_id, _ in taken}) == 2


async def test_a_file_that_was_sent_is_there_after_a_kill_and_half_a_one_can_be_sent_again(engine, client):
    ada = await client.post("/v1/agents", {"name": "ada"})
    content = os.urandom(600_000)

    async def announce():
        body = {"filename": "f", "content_type": "a/b", "size_bytes": len(content)}
        return await client.post("/v1/files/upload", body, token=ada["token"])

    whole, half = await announce(), await announce()
    async with client.session.put(whole["upload_url"], data=content) as answer:
        assert answer.status == 200

    async def until_dead():
        yield content[:300_000]
        await engine.kill()
        yield content[300_000:]

    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async with client.session.put(half["upload_url"], data=until_dead()):
            pass
    await engine.start()
    async with client.session.put(half["upload_url"], data=content) as answer:
        assert answer.status == 200
    for made in (whole, half):
        done = await client.post(f"/v1/files/{made['id']}/complete", token=ada["token"])
        async with client.session.get(done["download_url"]) as answer:
            assert await answer.read() == content
