"""Bad input from the engine and from local clients: a clear error or a recorded reason, and the next good message is typed."""

from __future__ import annotations

import json
import shlex
import sys

import aiohttp
import pytest

from tests.scripted_engine import KEY, ScriptedEngine

BAD = {
    "not JSON": "{nope",
    "not an object": "[1, 2]",
    "another version": json.dumps({"v": 2, "type": "deliver"}),
    "no type": json.dumps({"v": 1}),
    "an unknown type": json.dumps({"v": 1, "type": "brand.new"}),
    "a delivery without anything": json.dumps({"v": 1, "type": "deliver"}),
    "a delivery with a boolean seq": json.dumps({"v": 1, "type": "deliver", "agent": "ann", "seq": True}),
    "an invocation without an id": json.dumps({"v": 1, "type": "action.invoke", "action": "spawn:cat"}),
    "a reply to nothing": json.dumps({"v": 1, "type": "reply", "id": "who", "ok": True, "data": {}}),
    "an error for nothing": json.dumps(
        {"v": 1, "type": "error", "id": "x", "ok": False, "code": "odd", "message": "m"}
    ),
}


@pytest.fixture
async def scripted(tmp_path, make_deployment):
    """A broker on a scripted engine, with one agent."""
    async with ScriptedEngine() as engine, aiohttp.ClientSession() as session:
        made = make_deployment(tmp_path, RELAY_BASE_URL=engine.url, RELAY_API_KEY=KEY)
        made.session = session
        try:
            await made.start()
            await made.spawn("ann")
            yield engine, made
        finally:
            await made.close()


async def _acked(engine, seq):
    await engine.until(lambda: any(f["up_to_seq"] >= seq for f in engine.frames("delivery.ack", agent="ann")))


async def _good(engine, made, seq):
    await engine.deliver("ann", seq, "hello", msg_id=f"good-{seq}")
    await _acked(engine, seq)
    await made.until(lambda: f"good-{seq}" in made.received("ann"), "the good message is typed")


async def test_bad_frames_are_recorded_and_the_next_good_message_is_typed(scripted):
    """F002, F043, F058, F059, U15 ALL-FRAMES."""
    engine, made = scripted
    for seq, frame in enumerate(BAD.values(), 1):
        await engine.send_text(frame)
        await _good(engine, made, seq)
    await engine.send_bytes(b"\x00\x01")
    await _good(engine, made, len(BAD) + 1)

    events = (await made.api("GET", "/api/events/replay?sinceSeq=0"))[1]["events"]
    reasons = [event["reason"] for event in events if event["kind"] == "node_frame_rejected"]
    assert reasons == [
        "bad_json", "bad_json", "bad_version", "bad_frame", "unknown_frame", "no_identity", "no_identity", "bad_frame",
        "binary_frame",
    ]  # fmt: skip
    assert [event["code"] for event in events if event["kind"] == "node_engine_error"] == ["odd"]


async def test_a_frame_of_ten_megabytes_is_settled_with_a_reason(scripted):
    """F083 too_large: nothing of it is typed, and the link stays."""
    engine, made = scripted
    await engine.deliver("ann", 1, "x" * 10 * 1024 * 1024, msg_id="huge")
    await _acked(engine, 1)
    await _good(engine, made, 2)
    events = (await made.api("GET", "/api/events/replay?sinceSeq=0"))[1]["events"]
    assert [event["reason"] for event in events if event["kind"] == "delivery_failed"] == ["too_large"]
    assert made.received("ann") == ["good-2"]


async def test_bad_requests_get_a_code_and_change_nothing(scripted):
    """U24: the error names what was wrong."""
    _engine, made = scripted
    connection = made.connection()
    url, key = connection["url"], {"X-API-Key": connection["api_key"]}
    command = shlex.join([sys.executable, "-c", "pass"])
    before = (await made.status())["log_position"]
    cases = [
        ("GET", "/api/spawned", {}, None, 401, "unauthorized"),
        ("GET", "/api/spawned", {"X-API-Key": "wrong"}, None, 401, "unauthorized"),
        ("POST", "/api/spawn", key, "{nope", 400, "invalid_json"),
        ("POST", "/api/spawn", key, json.dumps({"name": "x", "args": "no list"}), 400, "invalid_field"),
        ("POST", "/api/spawn", key, json.dumps({"cli": "cat"}), 400, "missing_field"),
        ("POST", "/api/spawn", key, json.dumps({"name": "x", "cli": "no-such-program"}), 400, "cli_not_found"),
        ("POST", "/api/spawn", key, json.dumps({"name": "x", "cli": command, "cwd": "/no/where"}), 400, "invalid_cwd"),
        ("POST", "/api/input/nobody", key, json.dumps({"data": "x"}), 404, "agent_not_found"),
        ("GET", "/api/spawned/nobody/snapshot", key, None, 404, "agent_not_found"),
        ("GET", "/nowhere", key, None, 404, "not_found"),
    ]
    for method, path, headers, body, status, code in cases:
        async with made.session.request(method, url + path, headers=headers, data=body) as response:
            answer = await response.json()
            assert (response.status, answer["code"]) == (status, code), (path, answer)
    async with made.session.get(url + "/api/spawned", headers=key | {"Host": "evil.example"}) as response:
        assert (response.status, (await response.json())["code"]) == (403, "forbidden_host")
    exported = map(json.loads, made.command("log", "export").stdout.splitlines())
    streams = {event["stream"].split(":")[0] for event in exported if event["position"] > before}
    assert streams <= {"node", "host", "worker"}, "only what link and terminals did by themselves"


async def test_names_that_are_not_allowed_are_refused_with_a_record(scripted):
    """S5."""
    _engine, made = scripted
    for name in ("../x", "a/b", "desk", "broker", "x" * 200):
        status, answer = await made.api("POST", "/api/spawn", {"name": name, "cli": "cat"})
        assert (status, answer["code"]) == (400, "invalid_name"), answer
    status, answer = await made.api("POST", "/api/spawn", {"name": "ANN", "cli": "cat"})
    assert (status, answer["code"]) == (409, "agent_exists")


async def test_a_program_that_ends_at_once_fails_the_spawn_and_frees_the_name(scripted):
    """F101, F104, U18."""
    engine, made = scripted
    command = shlex.join([sys.executable, "-c", "import sys; print('no licence'); sys.exit(3)"])
    status, answer = await made.api("POST", "/api/spawn", {"name": "bob", "cli": command})
    assert (status, answer["code"]) == (500, "spawn_failed")
    assert "exit status 3" in answer["message"]
    assert "no licence" in answer["message"]
    assert engine.frames("agent.deregister", name="bob")
    status, answer = await made.api("POST", "/api/spawn", {"name": "bob", "cli": "cat"})
    assert status == 200, answer
