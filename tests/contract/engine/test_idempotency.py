"""engine-contract.md section 1.4: the same request twice has one effect and one answer."""

import asyncio
import sqlite3

import pytest


@pytest.fixture
async def pair(world):
    return await world.agent("ada"), await world.agent("bob")


async def test_a_key_replays_the_stored_answer_without_a_second_effect(world, pair):
    ada, bob = pair
    group = (await world.post("/v1/dm/group", {"participants": ["ada"]}, token=bob.token)).data
    said = await world.say(bob)
    for number, (path, body) in enumerate(
        (
            ("/v1/dm", {"to": "ada", "text": "hi"}),
            ("/v1/channels/general/messages", {"text": "hi"}),
            (f"/v1/messages/{said['id']}/replies", {"text": "hi"}),
            (f"/v1/dm/{group['id']}/messages", {"text": "hi"}),
        )
    ):
        first = await world.post(path, body, token=bob.token, Idempotency_Key=f"k{number}")
        second = await world.post(path, body, token=bob.token, Idempotency_Key=f"k{number}")
        assert (second.status, second.body) == (201, first.body)
        assert "Idempotency-Replayed" not in first.headers
        assert second.headers["Idempotency-Replayed"] == "true"
    assert len((await world.get("/v1/deliveries", token=ada.token)).data) == 5


async def test_a_key_with_another_payload_is_refused(world, pair):
    _, bob = pair
    await world.post("/v1/dm", {"to": "ada", "text": "hi"}, token=bob.token, Idempotency_Key="k")
    answer = await world.post("/v1/dm", {"to": "ada", "text": "ho"}, token=bob.token, Idempotency_Key="k")
    assert (answer.status, answer.code) == (409, "idempotency_key_reused")


async def test_a_key_belongs_to_its_actor_and_its_route(world, pair):
    ada, bob = pair
    for token, path, body in (
        (bob.token, "/v1/dm", {"to": "ada", "text": "hi"}),
        (ada.token, "/v1/dm", {"to": "ada", "text": "hi"}),
        (bob.token, "/v1/channels/general/messages", {"text": "hi"}),
    ):
        answer = await world.post(path, body, token=token, Idempotency_Key="k")
        assert (answer.status, answer.headers.get("Idempotency-Replayed")) == (201, None)


async def test_concurrent_requests_with_one_key_have_one_effect(world, pair):
    ada, bob = pair
    answers = await asyncio.gather(
        *(world.post("/v1/dm", {"to": "ada", "text": "hi"}, token=bob.token, Idempotency_Key="k") for _ in range(10))
    )
    assert len({answer.data["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 9
    assert len((await world.get("/v1/deliveries", token=ada.token)).data) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ключ"])
async def test_an_invalid_key_is_refused(world, pair, key):
    _, bob = pair
    answer = await world.post("/v1/dm", {"to": "ada", "text": "hi"}, token=bob.token, Idempotency_Key=key)
    assert (answer.status, answer.code) == (400, "invalid_idempotency_key")


async def test_a_refused_request_leaves_no_key_behind(world, pair):
    _, bob = pair
    body = {"to": "carol", "text": "hi"}
    assert (await world.post("/v1/dm", body, token=bob.token, Idempotency_Key="k")).code == "agent_not_found"
    await world.agent("carol")
    assert (await world.post("/v1/dm", body, token=bob.token, Idempotency_Key="k")).status == 201


async def test_a_key_expires_after_a_day(open_world, tmp_path):
    world = await open_world()
    await world.agent("ada")
    bob = await world.agent("bob")
    body = {"to": "ada", "text": "hi"}
    first = await world.post("/v1/dm", body, token=bob.token, Idempotency_Key="k")
    await world.close()
    await world.engine.__aexit__(None, None, None)
    with sqlite3.connect(tmp_path / "engine.db") as database:
        database.execute("UPDATE idempotency SET created_at = created_at - 86401")
    database.close()
    later = await open_world(workspace=None)
    second = await later.post("/v1/dm", body, token=bob.token, Idempotency_Key="k")
    assert second.data["id"] != first.data["id"]
    assert "Idempotency-Replayed" not in second.headers
