"""engine-contract.md section 2.6: a recipient that cannot take a delivery, or not now."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta


def at(**ahead):
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


async def open_row(world, agent):
    (row,) = (await world.get("/v1/deliveries", token=agent.token)).data
    return row


async def test_a_failed_delivery_is_not_sent_again_and_its_sender_is_told(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    senders = await world.direct(bob)
    sent = await world.dm(bob, ada)
    path = f"/v1/deliveries/{(await open_row(world, ada))['id']}"
    failed = (await world.post(f"{path}/fail", {"error": "no disk", "retryable": True}, token=ada.token)).data
    assert (failed["status"], failed["error"], failed["retryable"]) == ("failed", "no disk", True)
    again = (await world.post(f"{path}/fail", {"error": "other"}, token=ada.token)).data
    assert (again["status"], again["error"]) == ("failed", "no disk")
    told = await senders.first(lambda frame: frame.get("event") == "delivery.failed")
    assert (told["data"]["message_id"], told["data"]["error"], told["data"]["retryable"]) == (
        sent["id"],
        "no disk",
        True,
    )
    assert (told["data"]["reason"], told["data"]["target_agent_name"]) == ("failed", "ada")
    assert (await world.direct(ada)).delivered() == []
    assert (await world.get("/v1/deliveries", token=ada.token)).data == []
    acked = (await world.post(f"{path}/ack", token=ada.token)).data
    assert acked["status"] == "acked"
    for verb, body in (("fail", {}), ("defer", {"available_at": at(minutes=1)})):
        answer = await world.post(f"{path}/{verb}", body, token=ada.token)
        assert (answer.status, answer.code) == (409, "delivery_settled")
    for verb, body in (("fail", {}), ("defer", {"available_at": at(minutes=1)})):
        assert (await world.post(f"{path}/{verb}", body, token=bob.token)).code == "delivery_not_found"


async def test_a_deferred_delivery_waits_for_its_time_and_is_then_sent(open_world):
    world = await open_world(redispatch_after_s=0.1)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada, "later")
    await world.dm(bob, ada, "now")
    first, _second = (await world.get("/v1/deliveries", token=ada.token)).data
    path = f"/v1/deliveries/{first['id']}/defer"
    until = at(minutes=30)
    deferred = (await world.post(path, {"available_at": until, "reason": "busy"}, token=ada.token)).data
    assert deferred["status"] == "queued"
    assert datetime.fromisoformat(deferred["available_at"]) <= datetime.fromisoformat(until)
    node = await world.direct(ada)
    await node.first(lambda frame: frame["type"] == "deliver" and frame["seq"] == 2)
    await node.settle()
    assert node.seqs() == [2]
    await world.post(path, {"available_at": at(seconds=-1)}, token=ada.token)
    frame = await node.first(lambda frame: frame["type"] == "deliver" and frame["seq"] == 1)
    assert frame["payload"]["data"]["text"] == "later"


async def test_a_deferred_delivery_whose_agent_is_away_waits_for_it(open_world):
    world = await open_world(redispatch_after_s=0.1)
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada)
    row = await open_row(world, ada)
    await world.post(f"/v1/deliveries/{row['id']}/defer", {"available_at": at(seconds=-1)}, token=ada.token)

    async def is_ready():
        return (await open_row(world, ada))["available_at"] == row["created_at"]

    await world.until(is_ready)
    node = await world.direct(ada)
    assert (await node.first(lambda frame: frame["type"] == "deliver"))["seq"] == 1


async def test_a_delivery_is_not_deferred_beyond_its_end_nor_to_a_time_that_is_none(world):
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada)
    path = f"/v1/deliveries/{(await open_row(world, ada))['id']}/defer"
    for body in ({"available_at": at(hours=2)}, {"available_at": "soon"}, {"available_at": "2999-01-01T00:00:00"}, {}):
        answer = await world.post(path, body, token=ada.token)
        assert (answer.status, answer.code) == (400, "invalid_request"), body
    assert (await open_row(world, ada))["status"] == "queued"


async def test_a_database_from_before_takes_what_is_deferred(open_world, tmp_path):
    world = await open_world(db="old.db")
    ada, bob = await world.agent("ada"), await world.agent("bob")
    await world.dm(bob, ada)
    await world.engine.__aexit__(None, None, None)
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.executescript(
            "DROP INDEX deliveries_deferred; ALTER TABLE deliveries DROP COLUMN available_at;"
            "ALTER TABLE deliveries DROP COLUMN retryable;"
        )
    world = await open_world(workspace="", db="old.db")
    row = await open_row(world, ada)
    deferred = await world.post(f"/v1/deliveries/{row['id']}/defer", {"available_at": at(minutes=1)}, token=ada.token)
    assert deferred.status == 200
