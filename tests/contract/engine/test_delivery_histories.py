"""Whatever the history of posts, acknowledgements, reconnects and restarts: numbers have no gaps, and what is open is replayed."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("post"), st.sampled_from(["dm", "channel"])),
        st.tuples(st.just("ack"), st.integers(0, 12)),
        st.tuples(st.just("rest_ack"), st.integers(1, 12)),
        st.tuples(st.just("reconnect"), st.none()),
        st.tuples(st.just("move"), st.none()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=14,
)


class History:
    """One agent's mailbox next to the model of it."""

    def __init__(self, world, reopen):
        self.world, self.reopen = world, reopen
        self.texts, self.open, self.cursor = {}, set(), 0
        self.hosts = itertools.count(2)

    async def begin(self):
        self.bob = await self.world.agent("bob")
        self.node = await self.world.node("host-1")
        self.ada = await self.node.agent("ada")

    def unread(self):
        return [seq for seq in sorted(self.open) if seq > self.cursor]

    async def post(self, kind):
        text = f"text {len(self.texts) + 1}"
        if kind == "dm":
            await self.world.dm(self.bob, self.ada, text)
        else:
            await self.world.say(self.bob, text)
        self.texts[len(self.texts) + 1] = text
        self.open.add(len(self.texts))
        await self.node.settle()
        assert self.node.seqs(self.ada)[-1] == len(self.texts)

    async def ack(self, number):
        await self.node.ack(self.ada, number)
        if number > self.cursor:
            self.cursor = min(number, len(self.texts))
            self.open -= set(range(1, self.cursor + 1))

    async def rest_ack(self, number):
        rows = (await self.world.get("/v1/deliveries", token=self.ada.token)).data
        for row in rows:
            if row["seq"] == number:
                await self.world.post(f"/v1/deliveries/{row['id']}/ack", token=self.ada.token)
                self.open.discard(number)

    async def reconnect(self, _):
        self.node = await self.world.again(self.node)
        await self.replayed()

    async def move(self, _):
        await self.node.ask(type="agent.deregister", agent_id=self.ada.id)
        self.node = await self.world.node(f"host-{next(self.hosts)}")
        self.ada = await self.node.agent("ada")
        await self.replayed()

    async def restart(self, _):
        self.world = await self.reopen(self.world)
        self.node = await self.world.connect(self.node.name, self.node.id, self.node.token)
        await self.node.register()
        await self.replayed()

    async def replayed(self):
        await self.node.settle()
        frames = self.node.delivered(self.ada)
        assert [frame["seq"] for frame in frames] == self.unread()
        assert [frame["payload"]["data"]["text"] for frame in frames] == [self.texts[seq] for seq in self.unread()]

    async def end(self):
        rows = (await self.world.get("/v1/deliveries", token=self.ada.token)).data
        assert [row["seq"] for row in rows] == sorted(self.open)
        await self.world.close()
        await self.world.engine.__aexit__(None, None, None)


@pytest.fixture
def histories(open_world):
    """`histories()` -> a fresh history on an engine of its own; its restarts use the same database."""
    numbers = itertools.count()

    async def fresh():
        database = f"history-{next(numbers)}.db"

        async def reopen(world):
            await world.close()
            await world.engine.__aexit__(None, None, None)
            later = await open_world(workspace=None, db=database)
            later.key = world.key
            return later

        history = History(await open_world(db=database), reopen)
        await history.begin()
        return history

    return fresh


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_any_history_keeps_numbers_cursors_and_rows(histories, steps):
    history = await histories()
    for name, argument in steps:
        await getattr(history, name)(argument)
    await history.reconnect(None)
    await history.end()
