"""engine-contract.md section 2.14: the operator sees what was refused, and a flood of refusals is no flood of writes."""

import logging

import pytest

from relaybroker.engine import refusals
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import EngineError


async def rows(world):
    return (await world.get("/v1/refusals")).data


async def test_what_an_agent_is_refused_is_a_row_that_says_who_what_and_why(world):
    ada = await world.agent("ada")
    await world.post("/v1/channels", {"name": "ops"})
    assert (await world.get("/v1/channels/ops/messages", token=ada.token)).code == "not_a_member"
    (row,) = await rows(world)
    assert row["caller"] == {"kind": "agent", "name": "ada"}
    assert (row["request"], row["status"], row["code"]) == ("GET /v1/channels/{name}/messages", 403, "not_a_member")
    assert (row["message"], row["times"]) == ("Not a member of this channel", 1)


async def test_repetitions_are_counted_in_the_row(world):
    ada = await world.agent("ada")
    for _ in range(5):
        await world.get("/v1/messages/1", token=ada.token)
    await world.get("/v1/files/file_1", token=ada.token)
    world.engine_refusals.sweep(world.engine.store)
    assert [(row["code"], row["times"]) for row in await rows(world)] == [
        ("file_not_found", 1),
        ("message_not_found", 5),
    ]


async def test_a_node_is_refused_by_a_row_as_well(world):
    node = await world.node("host-1", max_agents=1)
    await node.agent("ada")
    refused = await node.ask(type="agent.register", name="bob")
    await node.send(type="nonsense")
    await node.first(lambda frame: frame.get("code") == "invalid_message")
    await node.settle()
    told = [(row["caller"]["kind"], row["caller"]["name"], row["request"], row["code"]) for row in await rows(world)]
    assert refused["code"] == "node_capacity_exceeded"
    assert ("node", "host-1", "agent.register", "node_capacity_exceeded") in told
    assert ("node", "host-1", "frame", "invalid_message") in told


async def test_a_quota_is_told_with_its_figures(open_world):
    world = await open_world(sender_open=1)
    flood, _ = await world.agent("flood"), await world.agent("bob")
    for _ in range(2):
        await world.post("/v1/dm", {"to": "bob", "text": "x"}, token=flood.token)
    (row,) = await rows(world)
    assert (row["status"], row["code"]) == (429, "sender_quota")
    assert "1 deliveries" in row["message"]


async def test_malformed_requests_and_strangers_leave_no_row_and_other_workspaces_see_none(world, caplog):
    caplog.set_level(logging.WARNING, "relaybroker.engine.refusals")
    ada = await world.agent("ada")
    await world.post("/v1/dm", {"to": "ada"}, token=ada.token)
    for _ in range(3):
        await world.get("/v1/agent", token="at_live_" + "0" * 32)
        await world.get("/v1/nothing", token="")
    assert await rows(world) == []
    assert [record.getMessage() for record in caplog.records] == [
        "refused nobody: GET /v1/agent: 401 agent_token_invalid"
    ], "a stranger with a token is a line, once"
    await world.get("/v1/messages/1", token=ada.token)
    await world.workspace("others")
    assert await rows(world) == []


async def test_rows_are_bounded_and_the_newest_are_kept(world, monkeypatch):
    monkeypatch.setattr(refusals, "KEPT", 3)
    for number in range(5):
        ada = await world.agent(f"ada{number}")
        await world.get("/v1/messages/1", token=ada.token)
    assert [row["caller"]["name"] for row in await rows(world)] == ["ada4", "ada3", "ada2"]
    page = await world.get("/v1/refusals?limit=2")
    assert page.body["cursor"]["has_more"]
    rest = await world.get(f"/v1/refusals?before={page.body['cursor']['next']}")
    assert [row["caller"]["name"] for row in rest.data] == ["ada2"]


@pytest.fixture
def world(world, monkeypatch):
    """The same, with the refusals of its engine at hand."""
    held = []
    note = refusals.Refusals.note

    def remembered(self, *given):
        held[:] = [self]
        note(self, *given)

    monkeypatch.setattr(refusals.Refusals, "note", remembered)
    type(world).engine_refusals = property(lambda _world: held[0])
    yield world
    del type(world).engine_refusals


class _Store:
    """Carries out at once."""

    def __init__(self):
        self.count = 0

    def submit(self, _work, settle=None):
        self.count += 1
        if settle is not None:
            settle(self.count, None)


def test_a_flood_of_different_refusals_keeps_no_more_rows_open_than_its_limit(monkeypatch):
    monkeypatch.setattr(refusals, "OPEN_MAX", 2)
    now, store = [0.0], _Store()
    kept = refusals.Refusals(lambda: now[0])
    error = EngineError(403, "forbidden", "no")
    for name in ("a", "a", "b", "c", "c"):
        kept.note(store, Caller("agent", "w", name, name), "GET /x", error)
    assert store.count == 4, "three rows, and the repetitions of the one that was pushed out"
    kept.sweep(store)
    assert store.count == 5
    kept.sweep(store)
    assert store.count == 5, "nothing new, nothing written"
    now[0] += refusals.AGAIN_S
    kept.sweep(store)
    kept.note(store, Caller("agent", "w", "c", "c"), "GET /x", error)
    assert store.count == 6, "after its time the same refusal is a new row"
