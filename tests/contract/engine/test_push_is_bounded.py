"""However much is open, memory and order hold: rows are read as the socket takes them."""

import asyncio

import pytest

from relaybroker.engine import push, socket_writer


@pytest.fixture
def small(monkeypatch):
    """Bounds that a test can reach."""
    monkeypatch.setattr(push, "WINDOW", 7)
    monkeypatch.setattr(socket_writer, "READY_FRAMES", 10)


async def test_a_backlog_larger_than_every_bound_arrives_once_and_in_order(world, small):
    bob = await world.agent("bob")
    agents = [await world.agent(name) for name in ("ada", "eve")]
    for number in range(40):
        await asyncio.gather(*(world.dm(bob, agent, str(number)) for agent in agents))
    node = await world.node()
    for agent in agents:
        await world.post("/v1/nodes/host-1/agents", {"agent_name": agent.name})
    node = await world.again(node)
    await node.first(lambda frame: frame.get("agent") == "eve" and frame.get("seq") == 40)
    assert [node.seqs(agent) for agent in agents] == [list(range(1, 41))] * 2


async def test_what_is_posted_during_a_replay_comes_after_what_is_replayed(world, small):
    bob = await world.agent("bob")
    node = await world.node()
    ada = await node.agent("ada")
    for number in range(30):
        await world.dm(bob, ada, str(number))
    await node.close()
    node = await world.connect(node.name, node.id, node.token)
    posting = [asyncio.create_task(world.dm(bob, ada, "new")) for _ in range(30)]
    await node.register()
    await asyncio.gather(*posting)
    await node.first(lambda frame: frame.get("seq") == 60 and node.seqs(ada).count(60))
    replayed = node.seqs(ada)
    replayed = replayed[replayed.index(1) :]
    assert replayed == list(range(1, 61))


async def test_a_peer_that_does_not_read_holds_up_nobody_and_loses_nothing(world, small):
    bob = await world.agent("bob")
    node, healthy = await world.node(), await world.node("healthy")
    ada, eve = await node.agent("ada"), await healthy.agent("eve")
    node.socket._conn.protocol.pause_reading()
    big = "x" * 250_000
    for number in range(80):
        await world.dm(bob, ada, f"{number} {big}")
    await world.dm(bob, eve)
    await healthy.settle()
    assert healthy.seqs(eve) == [1]
    connection = world.engine.hub.node(node.id)
    assert connection.behind == {ada.id: connection.behind[ada.id]}
    assert connection.outbox._bytes < socket_writer.READY_BYTES + 2 * len(big)
    node.socket._conn.protocol.resume_reading()
    await node.first(lambda frame: frame.get("seq") == 80)
    assert node.seqs(ada) == list(range(1, 81))


async def test_a_peer_that_stays_stalled_is_cut_off_and_gets_everything_on_its_next_socket(world, small):
    bob = await world.agent("bob")
    node = await world.node()
    ada = await node.agent("ada")
    node.socket._conn.protocol.pause_reading()
    for number in range(60):
        await world.dm(bob, ada, f"{number} {'x' * 250_000}")
    connection = world.engine.hub.node(node.id)

    async def stalled():
        return connection.outbox._writing_since is not None

    await world.until(stalled)
    connection.outbox.cut_off_if_stalled(0.0)

    async def offline():
        return (await world.get("/v1/nodes/host-1")).data["status"] == "offline"

    await world.until(offline)
    node.socket._conn.protocol.resume_reading()
    again = await world.again(node)
    await again.first(lambda frame: frame.get("seq") == 60)
    assert again.seqs(ada) == list(range(1, 61))


async def test_a_socket_with_too_many_control_frames_is_cut_off(world, monkeypatch):
    monkeypatch.setattr(socket_writer, "FRAME_LIMIT", 5)
    node = await world.node()
    connection = world.engine.hub.node(node.id)
    for number in range(7):
        connection.outbox.put(f'{{"type":"ping","n":{number}}}')
    await node.closed()
