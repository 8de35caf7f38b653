"""engine-contract.md section 2.11: programs that are no agents speak in one channel."""

import pytest

from relaybroker.engine import webhooks


@pytest.fixture
async def hook(world):
    """A webhook of #ops, where ada listens."""
    world.ada = await world.agent("ada")
    await world.post("/v1/channels", {"name": "ops"}, token=world.ada.token)
    return (await world.post("/v1/webhooks", {"name": "ci", "channel": "#ops"})).data


async def test_what_a_webhook_says_reaches_the_channel_under_its_own_name(world, hook):
    node = await world.direct(world.ada)
    assert hook["url"] == f"{world.engine.base_url}/v1/hooks/{hook['webhook_id']}"
    body = {"message": "built", "source": "ci", "author": "ada", "payload": {"n": 1}, "blocks": [{"a": 1}]}
    said = await world.post(f"/v1/hooks/{hook['webhook_id']}", body, token=hook["token"])
    assert (said.status, said.data["channel"], said.data["text"], said.data["author"]) == (201, "ops", "built", "ada")
    (row,) = (await world.get("/v1/channels/ops/messages")).data
    assert (row["id"], row["agent_name"], row["text"], row["blocks"]) == (
        said.data["message_id"],
        "ci",
        "built",
        [{"a": 1}],
    )
    claims = {"id": hook["webhook_id"], "source": "ci", "author": "ada", "payload": {"n": 1}}
    assert row["metadata"] == {"webhook": claims}
    frame = await node.first(lambda frame: frame["type"] == "deliver")
    assert (frame["payload"]["data"]["from_name"], frame["payload"]["data"]["text"]) == ("ci", "built")


async def test_a_webhook_does_nothing_else(world, hook):
    other = (await world.post("/v1/webhooks", {"channel": "general"})).data
    assert other["name"] == "webhook"
    answer = await world.post(f"/v1/hooks/{other['webhook_id']}", {"text": "x"}, token=hook["token"])
    assert (answer.status, answer.code) == (404, "webhook_not_found")
    for path in ("/v1/webhooks", "/v1/search?q=x", "/v1/channels", "/v1/agent", "/v1/activity"):
        assert (await world.get(path, token=hook["token"])).status == 401, path
    answer = await world.post("/v1/channels/ops/messages", {"text": "x"}, token=hook["token"])
    assert answer.status == 401
    for token in (world.key, world.ada.token, "wh_live_" + "0" * 32):
        assert (await world.post(f"/v1/hooks/{hook['webhook_id']}", {"text": "x"}, token=token)).status == 401


async def test_a_webhook_says_something_once_for_each_key(world, hook):
    path = f"/v1/hooks/{hook['webhook_id']}"
    first = await world.post(path, {"text": "x"}, token=hook["token"], Idempotency_Key="k")
    again = await world.post(path, {"text": "x"}, token=hook["token"], Idempotency_Key="k")
    assert first.data == again.data
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_webhooks_are_listed_without_their_tokens_and_deleted(world, hook):
    (shown,) = (await world.get("/v1/webhooks")).data
    assert set(shown) == {"id", "name", "channel", "url", "created_at", "is_active"}
    path = f"/v1/webhooks/{hook['webhook_id']}"
    assert (await world.call("DELETE", path)).status == 204
    assert (await world.call("DELETE", path)).code == "webhook_not_found"
    assert (await world.post(f"/v1/hooks/{hook['webhook_id']}", {"text": "x"}, token=hook["token"])).status == 401


async def test_what_cannot_be_said_is_refused(world, hook, monkeypatch):
    path = f"/v1/hooks/{hook['webhook_id']}"
    assert (await world.post(path, {"source": "ci"}, token=hook["token"])).code == "invalid_request"
    await world.call("DELETE", "/v1/channels/ops")
    assert (await world.post(path, {"text": "x"}, token=hook["token"])).code == "channel_archived"
    assert (await world.post("/v1/webhooks", {"channel": "ops"})).code == "channel_archived"
    assert (await world.post("/v1/webhooks", {"channel": "none"})).code == "channel_not_found"
    monkeypatch.setattr(webhooks, "WEBHOOKS_MAX", 1)
    answer = await world.post("/v1/webhooks", {"channel": "general"})
    assert (answer.status, answer.code) == (403, "webhook_limit")
