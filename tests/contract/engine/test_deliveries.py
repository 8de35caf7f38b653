"""engine-contract.md section 7: rows, numbers, push, replay, acknowledgement, expiry."""

import asyncio
import time
from datetime import datetime

import pytest

from tests.waiting import WAIT_S


@pytest.fixture
async def pair(world):
    """A node with ada on it, and bob, who writes from outside."""
    node = await world.node()
    return node, await node.agent("ada"), await world.agent("bob")


async def test_numbers_are_shared_by_channels_direct_messages_groups_and_threads(world, pair):
    node, ada, bob = pair
    said = await world.say(bob, "one")
    await world.dm(bob, ada, "two", mode="steer")
    group = (await world.post("/v1/dm/group", {"participants": ["ada"], "name": "team"}, token=bob.token)).data
    await world.post(f"/v1/dm/{group['id']}/messages", {"text": "three"}, token=bob.token)
    await world.post(f"/v1/messages/{said['id']}/replies", {"text": "four"}, token=bob.token)
    await node.settle()
    assert node.seqs(ada) == [1, 2, 3, 4]
    frames = node.delivered(ada)
    kinds = [frame["payload"]["type"] for frame in frames]
    assert kinds == ["message.created", "dm.received", "group_dm.received", "thread.reply"]
    assert [frame["mode"] for frame in frames] == ["wait", "steer", "wait", "wait"]
    assert frames[0]["delivery_id"] == f"del_{said['id']}_{ada.id}"
    assert all(frame["payload"]["data"]["from_name"] == "bob" for frame in frames)


async def test_payloads_have_exactly_the_keys_of_the_contract_in_its_order(world, pair):
    node, ada, bob = pair
    said = await world.say(bob, "hi @ada", blocks=[{"a": 1}], data={"k": "v"})
    await world.dm(bob, ada, "stop", mode="steer")
    await world.post(f"/v1/messages/{said['id']}/replies", {"text": "and?"}, token=bob.token)
    await node.settle()
    created, direct, reply = node.delivered(ada)
    assert list(created) == ["v", "type", "delivery_id", "agent_id", "agent", "msg_id", "seq", "mode", "payload"]
    data = created["payload"]["data"]
    assert list(data) == [
        "id",
        "channel_id",
        "agent_id",
        "agent_name",
        "text",
        "blocks",
        "metadata",
        "has_attachments",
        "thread_id",
        "created_at",
        "mentions",
        "attachments",
        "injection_mode",
        "channel_name",
        "from_name",
    ]
    assert (data["mentions"], data["metadata"], data["blocks"], data["channel_name"]) == (
        ["ada"], {"k": "v"}, [{"a": 1}], "general",
    )  # fmt: skip
    assert list(direct["payload"]["data"]) == (
        [
            "conversation_id",
            "message",
            "created_at",
            "id",
            "from_agent_id",
            "to",
            "text",
            "injection_mode",
            "attachments",
            "from_name",
        ]
    )
    assert list(direct["payload"]["data"]["message"]) == [
        "id",
        "agent_id",
        "agent_name",
        "text",
        "injection_mode",
        "attachments",
    ]
    assert list(reply["payload"]["data"]) == [
        "id",
        "channel_id",
        "channel_name",
        "agent_id",
        "agent_name",
        "thread_id",
        "text",
        "blocks",
        "metadata",
        "has_attachments",
        "created_at",
        "from_name",
    ]
    assert reply["payload"]["data"]["thread_id"] == said["id"]


async def test_what_is_replayed_is_what_was_pushed(world, pair):
    node, ada, bob = pair
    said = await world.say(bob, "naïve ☕ \u2028 text", data={"deep": [1, 2.5, None, "\\"]})
    await world.dm(bob, ada, "two", mode="steer")
    await world.post(f"/v1/messages/{said['id']}/replies", {"text": "three"}, token=bob.token)
    await node.settle()
    live = node.delivered(ada)
    again = await world.again(node)
    await again.settle()
    assert again.delivered(ada) == live


async def test_senders_do_not_get_their_own_messages(world, pair):
    node, ada, bob = pair
    await world.say(ada, "mine")
    await world.dm(ada, ada, "note")
    await world.post("/v1/dm", {"to": "@self", "text": "note"}, token=ada.token)
    await world.dm(ada, bob, "yours")
    await node.settle()
    assert node.seqs(ada) == []
    rows = (await world.get("/v1/deliveries", token=bob.token)).data
    assert [(row["seq"], row["reason"]) for row in rows] == [(1, "message"), (2, "dm")]


async def test_concurrent_posts_are_numbered_without_gaps_and_pushed_in_order(world, pair):
    node, ada, bob = pair
    await asyncio.gather(*(world.dm(bob, ada, str(number)) for number in range(60)))
    await node.settle()
    assert node.seqs(ada) == list(range(1, 61))


async def test_a_row_waits_for_a_socket_and_is_delivered_once_it_is_written(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada)
    assert [row["status"] for row in (await world.get("/v1/deliveries", token=ada.token)).data] == ["queued"]
    node = await world.direct(ada)
    await node.settle()
    assert node.seqs() == [1]

    async def delivered():
        return [row["status"] for row in (await world.get("/v1/deliveries", token=ada.token)).data] == ["delivered"]

    await world.until(delivered)


async def test_every_trigger_replays_what_is_not_acknowledged_by_agent_name_then_number(world, pair):
    node, ada, bob = pair
    zoe = await node.agent("zoe")
    for number in range(2):
        await world.dm(bob, zoe, str(number))
        await world.dm(bob, ada, str(number))
    await node.settle()
    expected = [("ada", 1), ("ada", 2), ("zoe", 1), ("zoe", 2)]

    async def replayed(action):
        before = len(node.delivered())
        await action
        await node.settle()
        return [(frame["agent"], frame["seq"]) for frame in node.delivered()[before:]]

    assert await replayed(node.register()) == expected
    assert await replayed(node.agent("new")) == expected
    listed = [{"agent_id": agent.id, "name": agent.name} for agent in (ada, zoe)]
    assert await replayed(node.ask(type="inventory.sync", agents=listed)) == expected
    assert await replayed(node.beat()) == []
    await node.ack(ada, 1)
    assert await replayed(node.register()) == expected[1:]


async def test_acknowledged_rows_are_not_sent_again_after_a_reconnect(world, pair):
    node, ada, bob = pair
    for number in range(4):
        await world.dm(bob, ada, str(number))
    await node.ack(ada, 2)
    again = await world.again(node)
    await again.settle()
    assert again.seqs(ada) == [3, 4]


async def test_a_lower_acknowledgement_after_a_higher_one_changes_nothing(world, pair):
    node, ada, bob = pair
    for number in range(3):
        await world.dm(bob, ada, str(number))
    await node.ack(ada, 3)
    await node.ack(ada, 1)
    await node.ack(ada, 0)
    again = await world.again(node)
    await again.settle()
    assert again.seqs(ada) == []


async def test_an_acknowledgement_beyond_the_newest_row_does_not_swallow_future_ones(world, pair):
    node, ada, bob = pair
    await world.dm(bob, ada)
    await node.ack(ada, 10**15)
    await world.dm(bob, ada)
    again = await world.again(node)
    await again.settle()
    assert again.seqs(ada) == [2]


async def test_an_acknowledgement_from_a_node_where_the_agent_is_not_is_ignored(world, pair):
    node, ada, bob = pair
    other = await world.node("other")
    await world.dm(bob, ada)
    await other.ack(ada, 1)
    await node.ack(bob, 1)
    again = await world.again(node)
    await again.settle()
    assert again.seqs(ada) == [1]


async def test_a_rest_acknowledgement_settles_one_row_and_not_the_cursor(world, pair):
    node, ada, bob = pair
    for number in range(2):
        await world.dm(bob, ada, str(number))
    second = (await world.get("/v1/deliveries", token=ada.token)).data[1]
    for _ in range(2):
        row = (await world.post(f"/v1/deliveries/{second['id']}/ack", token=ada.token)).data
        assert (row["status"], row["seq"]) == ("acked", 2)
    again = await world.again(node)
    await again.settle()
    assert again.seqs(ada) == [1]
    assert (await world.post("/v1/deliveries/del_none/ack", token=ada.token)).code == "delivery_not_found"


async def test_an_acknowledgement_marks_as_read_and_empties_the_inbox(world, pair):
    node, ada, bob = pair
    said = await world.say(bob, "hi @ada")
    direct = await world.dm(bob, ada)
    inbox = (await world.get("/v1/inbox", token=ada.token)).data
    assert inbox["unread_channels"] == [{"channel_name": "general", "unread_count": 1}]
    assert [item["id"] for item in inbox["mentions"]] == [said["id"]]
    assert [(item["from"], item["last_message"]["id"]) for item in inbox["unread_dms"]] == [("bob", direct["id"])]
    await node.ack(ada, 2)
    inbox = (await world.get("/v1/inbox", token=ada.token)).data
    assert (inbox["unread_channels"], inbox["mentions"], inbox["unread_dms"]) == ([], [], [])
    assert [item["agent_name"] for item in (await world.get(f"/v1/messages/{said['id']}/readers")).data] == ["ada"]


async def test_numbers_go_on_after_release_and_registration_elsewhere(world, pair):
    node, ada, bob = pair
    await world.dm(bob, ada)
    await node.ack(ada, 1)
    await node.ask(type="agent.deregister", agent_id=ada.id)
    other = await world.node("other")
    await other.agent("ada")
    await world.dm(bob, ada)
    await other.settle()
    assert other.seqs(ada) == [2]


# --- expiry and the cap -----------------------------------------------------------------------------------------------------


async def test_an_expired_row_is_dead_and_its_sender_is_told(open_world):
    world = await open_world(delivery_ttl_s=0.2)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    home = await world.direct(bob)
    sent = await world.dm(bob, ada)
    failed = await home.first(lambda frame: frame.get("event") == "delivery.failed")
    assert (failed["topic"], failed["agent_ids"]) == ("agent", [bob.id])
    data = failed["data"]
    assert data["delivery_id"].startswith("del_")
    assert (data["reason"], data["seq"], data["retryable"], data["target_agent_name"], data["target_agent_id"]) == (
        "ttl_expired", 1, False, "ada", ada.id,
    )  # fmt: skip
    assert data["message_id"] == sent["id"]
    rows = (await world.get("/v1/deliveries?status=dead_lettered", token=ada.token)).data
    assert [row["seq"] for row in rows] == [1]
    node = await world.direct(ada)
    await node.settle()
    assert node.seqs() == []
    await world.dm(bob, ada)
    await node.settle()
    assert node.seqs() == [2]


async def test_a_full_mailbox_takes_no_row_the_post_succeeds_and_the_sender_is_told(open_world):
    world = await open_world(mailbox_depth=2)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    home = await world.direct(bob)
    for number in range(3):
        await world.dm(bob, ada, str(number))
    failed = await home.first(lambda frame: frame.get("event") == "delivery.failed")
    assert (failed["data"]["reason"], failed["data"]["delivery_id"]) == ("depth_cap", None)
    assert "seq" not in failed["data"]
    node = await world.direct(ada)
    await node.settle()
    assert node.seqs() == [1, 2]
    await node.ack(ada, 2)
    await world.dm(bob, ada, "3")
    await node.settle()
    assert node.seqs() == [1, 2, 3]


async def test_expired_rows_do_not_count_for_the_cap(open_world):
    world = await open_world(mailbox_depth=1, delivery_ttl_s=0.1)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada)

    async def dead():
        return (await world.get("/v1/deliveries?status=dead_lettered", token=ada.token)).data

    await world.until(dead)
    node = await world.direct(ada)
    await world.dm(bob, ada)
    await node.first(lambda frame: frame.get("seq") == 2)


@pytest.mark.parametrize("by_s", [86_400.0, -86_400.0])
async def test_a_clock_that_is_set_takes_no_time_from_what_waits_and_gives_it_none(open_world, by_s):
    """What waits for a broker that is away would be gone at once, or would be kept for a day."""
    ahead_s = 0.0
    world = await open_world(clock=lambda: time.time() + ahead_s)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada)

    async def left_s():
        (row,) = (await world.get("/v1/deliveries", token=ada.token)).data
        return datetime.fromisoformat(row["expires_at"]).timestamp() - (time.time() + ahead_s)

    before = await left_s()
    ahead_s = by_s
    assert 0 < before - await left_s() < WAIT_S
    headers = {"Idempotency_Key": "one"}
    first = await world.post("/v1/dm", {"to": "ada", "text": "x"}, token=bob.token, **headers)
    ahead_s = 2 * by_s
    again = await world.post("/v1/dm", {"to": "ada", "text": "x"}, token=bob.token, **headers)
    assert again.data == first.data


async def test_a_bad_delivery_query_is_400(world):
    ada = await world.agent("ada")
    for query in ("status=nonsense", "limit=0", "limit=x"):
        assert (await world.get(f"/v1/deliveries?{query}", token=ada.token)).status == 400


# --- what muting and membership do -----------------------------------------------------------------------------------------


async def test_muted_members_get_only_what_mentions_them(world, pair):
    node, ada, bob = pair
    assert (await world.post("/v1/channels/general/mute", token=ada.token)).data["muted"] is True
    await world.say(bob, "noise")
    await world.say(bob, "psst @ada")
    await node.settle()
    assert [frame["payload"]["data"]["text"] for frame in node.delivered(ada)] == ["psst @ada"]
    await world.post("/v1/channels/general/unmute", token=ada.token)
    await world.say(bob, "back")
    await node.settle()
    assert node.seqs(ada) == [1, 2]
