"""engine-contract.md section 7.2: nobody fills the engine alone, and what is settled costs no more than its row."""

from __future__ import annotations

import logging

from relaybroker.engine import quotas
from relaybroker.engine.messages import MESSAGE_MAX
from relaybroker.engine.models import METADATA_MAX, PROMPT_MAX


async def _payloads(world):
    return await world.engine.store.run(
        lambda tx: [row["size"] for row in tx.all("SELECT length(payload) AS size FROM deliveries ORDER BY seq")]
    )


async def test_who_has_too_many_deliveries_open_is_refused_until_some_are_settled(open_world, caplog):
    world = await open_world(sender_open=3)
    caplog.set_level(logging.WARNING, "relaybroker.engine.refusals")
    flood, bob = await world.agent("flood"), await world.agent("bob")
    node = await world.node()
    ada = await node.agent("ada")
    for _ in range(3):
        await world.dm(flood, ada)
    for path, body in (
        ("/v1/dm", {"to": "ada", "text": "one more"}),
        ("/v1/channels/general/messages", {"text": "one more"}),
    ):
        for _ in range(2):
            refused = await world.post(path, body, token=flood.token)
            assert (refused.status, refused.code) == (429, "sender_quota")
            assert int(refused.headers["Retry-After"]) > 0
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, "a flood of refusals is no flood of lines: one for each route"
    assert all(line.startswith("refused agent flood: POST /v1/") and "429 sender_quota" in line for line in said)
    stored = await world.engine.store.run(lambda tx: tx.count("SELECT COUNT(*) FROM messages WHERE text = 'one more'"))
    assert stored == 0, "nothing of a refused message is kept"

    await world.dm(bob, ada, "others go on")
    await node.first(lambda frame: frame.get("seq") == 4)
    await node.ack(ada, 1)
    await world.dm(flood, ada, "there is room again")
    await node.first(lambda frame: frame.get("seq") == 5)


async def test_a_message_to_many_counts_for_each_of_them(open_world):
    world = await open_world(sender_open=3)
    flood, _, _ = [await world.agent(name) for name in ("flood", "ada", "bob")]
    await world.say(flood)
    refused = await world.post("/v1/channels/general/messages", {"text": "again"}, token=flood.token)
    assert (refused.status, refused.code) == (429, "sender_quota")


async def test_what_is_open_is_bounded_in_characters_as_well(open_world):
    world = await open_world(sender_open_size=100_000)
    flood, ada = await world.agent("flood"), await world.agent("ada")
    await world.dm(flood, ada, "a small one")
    refused = await world.post("/v1/dm", {"to": "ada", "text": "x" * 100_000}, token=flood.token)
    assert (refused.status, refused.code) == (429, "sender_quota")
    await world.dm(flood, ada, "a small one")


async def test_who_has_nothing_open_is_never_told_to_wait(open_world):
    world = await open_world(sender_open=1, sender_open_size=1000)
    ada, _, _ = [await world.agent(name) for name in ("ada", "bob", "cay")]
    await world.say(ada, "x" * 100_000)


async def test_open_invocations_of_one_agent_are_bounded(open_world):
    world = await open_world(sender_invocations=2)
    flood, bob = await world.agent("flood"), await world.agent("bob")
    await world.node(capabilities=["spawn:claude"])
    body = {"cli": "claude", "task": "t"}
    for name in ("one", "two"):
        assert (await world.post("/v1/agents/spawn", body | {"name": name}, token=flood.token)).status == 201
    refused = await world.post("/v1/agents/spawn", body | {"name": "three"}, token=flood.token)
    assert (refused.status, refused.code) == (429, "sender_quota")
    assert (await world.post("/v1/agents/spawn", body | {"name": "four"}, token=bob.token)).status == 201
    assert (await world.post("/v1/agents/spawn", body | {"name": "five"})).status == 201, "the operator is no sender"


async def test_a_message_with_all_that_it_carries_is_bounded(world):
    ada, _ = await world.agent("ada"), await world.agent("bob")
    for more in ({"data": {"x": "y" * MESSAGE_MAX}}, {"blocks": ["y" * MESSAGE_MAX]}, {"data": {"x": "y"}}):
        answer = await world.post("/v1/channels/general/messages", {"text": "t"} | more, token=ada.token)
        if more == {"data": {"x": "y"}}:
            assert answer.status == 201
        else:
            assert (answer.status, answer.code) == (413, "body_too_large")


async def test_what_is_settled_keeps_no_copy_of_the_message(open_world):
    world = await open_world(delivery_ttl_s=3600)
    bob = await world.agent("bob")
    node = await world.node()
    ada = await node.agent("ada")
    for _ in range(3):
        await world.dm(bob, ada, "x" * 100_000)
    await node.first(lambda frame: frame.get("seq") == 3)
    await node.ack(ada, 2)
    first, second, third = await _payloads(world)
    assert (first, second) == (0, 0)
    assert third > 100_000
    read = (await world.get("/v1/deliveries?status=acked", token=ada.token)).data
    assert [len(row["message"]["text"]) for row in read] == [100_000] * 2, "the message itself is there"


async def test_an_agent_makes_so_many_channels_and_groups(open_world):
    world = await open_world(agent_channels=2)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    made = await world.post("/v1/channels", {"name": "one"}, token=ada.token)
    assert made.status == 201
    made = await world.post("/v1/dm/group", {"participants": ["bob"]}, token=ada.token)
    assert made.status == 201
    for path, body in (("/v1/channels", {"name": "two"}), ("/v1/dm/group", {"participants": ["bob"]})):
        refused = await world.post(path, body, token=ada.token)
        assert (refused.status, refused.code) == (403, "channel_limit")
    made = await world.post("/v1/channels", {"name": "two"}, token=bob.token)
    assert made.status == 201, "the limit is each agent's own"


async def test_a_workspace_has_so_many_channels(open_world, monkeypatch):
    monkeypatch.setattr(quotas, "CHANNELS_MAX", 2)
    world = await open_world()
    made = await world.post("/v1/channels", {"name": "one"})
    assert made.status == 201, "#general is the first"
    refused = await world.post("/v1/channels", {"name": "two"})
    assert (refused.status, refused.code) == (403, "channel_limit")


async def test_what_is_said_about_agents_and_channels_is_bounded(open_world):
    world = await open_world()
    long, much = "x" * (PROMPT_MAX + 1), {"k": "x" * METADATA_MAX}
    for path, body in (
        ("/v1/agents", {"name": "ada", "persona": long}),
        ("/v1/agents", {"name": "ada", "metadata": much}),
        ("/v1/agents", {"name": "ada", "capabilities": much}),
        ("/v1/agents", {"name": "ada", "skills": [much]}),
        ("/v1/channels", {"name": "lab", "metadata": much}),
        ("/v1/channels", {"name": "lab", "topic": long}),
    ):
        refused = await world.post(path, body)
        assert (refused.status, refused.code) == (400, "invalid_request"), body.keys()
