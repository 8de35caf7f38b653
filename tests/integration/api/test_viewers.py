"""The size of an agent's terminal while people look at it, and afterwards (getpaseo/paseo#39, herdrdev/herdr PR 3165)."""

from __future__ import annotations

import pytest

UNUSABLE = [(0, 0), (1, 1), (1, 200), (50, 1), (3, 80), (24, 19), (-5, -5), (0, 65535)]


async def say(socket, rows, cols):
    await socket.send_json({"kind": "size", "rows": rows, "cols": cols})


async def test_the_terminal_follows_its_viewer_and_has_its_former_size_when_that_is_gone(client):
    await client.spawn("w1")
    async with client.socket("?view=w1") as socket:
        await say(socket, 40, 120)
        await client.until(lambda: client.broker.sizes[-1] == (40, 120))
        await say(socket, 50, 130)
        await client.until(lambda: client.broker.sizes[-1] == (50, 130))
    await client.until(lambda: client.broker.sizes[-1] == (24, 80))


async def test_a_viewer_that_is_cut_off_is_gone_too(client):
    await client.spawn("w1")
    socket = await client.socket("?view=w1")
    await say(socket, 40, 120)
    await client.until(lambda: client.broker.sizes[-1] == (40, 120))
    socket._response.connection.transport.abort()
    await client.until(lambda: client.broker.sizes[-1] == (24, 80))


@pytest.mark.parametrize(("rows", "cols"), UNUSABLE)
async def test_a_size_in_which_nobody_can_work_is_no_size(client, rows, cols):
    """CI, `script`, a hidden pane."""
    await client.spawn("w1")
    async with client.socket("?view=w1") as socket:
        await say(socket, rows, cols)
        await say(socket, 40, 120)
        await client.until(lambda: client.broker.sizes[-1] == (40, 120))
        await say(socket, rows, cols)
        await client.until(lambda: client.broker.sizes[-1] == (24, 80), "a pane that is hidden has no say")
    assert client.broker.sizes == [(24, 80), (40, 120), (24, 80)]


async def test_a_huge_terminal_gives_the_largest_size_that_there_is(client):
    await client.spawn("w1")
    async with client.socket("?view=w1") as socket:
        await say(socket, 2000, 65535)
        await client.until(lambda: client.broker.sizes[-1] == (1000, 1000))


async def test_the_newest_viewer_decides_and_whoever_leaves_first_changes_nothing_for_good(client):
    await client.spawn("w1")
    async with client.socket("?view=w1") as first:
        await say(first, 30, 90)
        await client.until(lambda: client.broker.sizes[-1] == (30, 90))
        async with client.socket("?view=w1") as second:
            await say(second, 50, 150)
            await client.until(lambda: client.broker.sizes[-1] == (50, 150))
            await first.close()
            await say(second, 51, 150)
            await client.until(lambda: client.broker.sizes[-1] == (51, 150))
        await client.until(lambda: client.broker.sizes[-1] == (24, 80))


async def test_a_size_that_is_set_meanwhile_is_the_one_that_stays(client):
    await client.spawn("w1")
    async with client.socket("?view=w1") as socket:
        await say(socket, 40, 120)
        await client.until(lambda: client.broker.sizes[-1] == (40, 120))
        assert (await client.ask("POST", "/api/resize/w1", {"rows": 30, "cols": 100}))[0] == 200
        await say(socket, 41, 120)
        await client.until(lambda: client.broker.sizes[-1] == (41, 120))
    await client.until(lambda: client.broker.sizes[-1] == (30, 100))


async def test_what_a_viewer_says_that_is_no_size_is_ignored(client):
    await client.spawn("w1")
    async with client.socket("?view=w1") as socket:
        for text in ("", "{}", "[]", "null", '{"kind":"size"}', '{"kind":"size","rows":"a","cols":1e400}', "\ud7ff{"):
            await socket.send_str(text)
        await say(socket, 10**30, 10)
        await say(socket, 40, 120)
        await client.until(lambda: client.broker.sizes == [(24, 80), (40, 120)])


async def test_a_terminal_that_cannot_be_resized_costs_its_viewer_nothing(client):
    await client.spawn("w1")
    async with client.socket("?view=w1") as socket:
        client.broker.host_gone = True
        await say(socket, 40, 120)
        client.broker.host_gone = False
        await say(socket, 41, 121)
        await client.until(lambda: client.broker.sizes[-1] == (41, 121))
    await client.until(lambda: client.broker.sizes[-1] == (24, 80))


async def test_a_size_without_an_agent_changes_nothing(client):
    await client.spawn("w1")
    async with client.socket() as socket:
        await say(socket, 40, 120)
    assert (await client.refused("GET", "/ws?view=nobody", Upgrade="websocket"))["code"] == "agent_not_found"
    assert client.broker.sizes == [(24, 80)]
