"""engine-contract.md section 2.9: searching what was said, as far as the caller may read it."""

import sqlite3
from contextlib import closing

import pytest

from relaybroker.engine import schema
from relaybroker.engine.search import QUERY_MAX, WORDS_MAX


async def found(world, query, token=None, **more):
    params = "&".join(f"{name}={value}" for name, value in {"q": query, **more}.items())
    return [row["text"] for row in (await world.get(f"/v1/search?{params}", token=token)).data]


@pytest.fixture
async def room(world):
    """ada and bob talk in private and in a channel; carol hears only what is said in general."""
    world.ada, world.bob, world.carol = [await world.agent(name) for name in ("ada", "bob", "carol")]
    await world.post("/v1/channels", {"name": "room"}, token=world.ada.token)
    await world.dm(world.ada, world.bob, "apple for two")
    world.in_room = await world.say(world.ada, "apple in the room", "room")
    await world.say(world.bob, "Ápple, for all!")
    await world.say(world.carol, "pineapple")
    return world


async def test_a_search_finds_whole_words_newest_first_whatever_their_case(room):
    assert await found(room, "APPLE") == ["Ápple, for all!", "apple in the room", "apple for two"]
    assert await found(room, "for%20apple") == ["Ápple, for all!", "apple for two"]
    assert await found(room, "orange") == []
    (row,) = (await room.get("/v1/search?q=pineapple")).data
    assert (row["channel_name"], row["agent_name"], row["thread_id"]) == ("general", "carol", None)
    assert isinstance(row["relevance_score"], float)


async def test_an_agent_finds_what_it_may_read_and_what_it_said(room):
    everything = ["Ápple, for all!", "apple in the room", "apple for two"]
    assert await found(room, "apple", room.ada.token) == everything
    assert await found(room, "apple", room.bob.token) == ["Ápple, for all!", "apple for two"]
    assert await found(room, "apple", room.carol.token) == ["Ápple, for all!"]
    assert await found(room, "apple", room.carol.token, channel="room") == []
    await room.say(room.carol, "my apple", "room")
    assert await found(room, "apple", room.carol.token, channel="room") == ["my apple"]


async def test_a_search_is_narrowed_by_channel_sender_and_ids_and_is_paged(room):
    assert await found(room, "apple", channel="%23room") == ["apple in the room"]
    assert await found(room, "apple", **{"from": "bob"}) == ["Ápple, for all!"]
    assert await found(room, "apple", before=room.in_room["id"]) == ["apple for two"]
    assert await found(room, "apple", after=room.in_room["id"]) == ["Ápple, for all!"]
    page = await room.get("/v1/search?q=apple&limit=2")
    assert (len(page.data), page.body["cursor"]) == (2, {"next": room.in_room["id"], "has_more": True})
    assert (await room.get("/v1/search?q=apple&channel=none")).code == "channel_not_found"


async def test_replies_are_found(room):
    await room.post(f"/v1/messages/{room.in_room['id']}/replies", {"text": "quince"}, token=room.ada.token)
    assert (await room.get("/v1/search?q=quince")).data[0]["thread_id"] == room.in_room["id"]


@pytest.mark.parametrize("query", ["", "%20", "x" * (QUERY_MAX + 1), "a+" * (WORDS_MAX + 1), "%00"])
async def test_a_query_without_words_or_with_too_many_is_refused(world, query):
    answer = await world.get(f"/v1/search?q={query}")
    assert (answer.status, answer.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "%22",
        "%22%20apple",
        "apple%20OR%20room",
        "app*",
        "NEAR(apple)",
        "text:apple",
        "-apple",
        "(",
        "^apple",
        "%25",
        "a%5Cb",
    ],
)
async def test_what_means_something_to_the_index_means_nothing_to_a_search(room, query):
    assert (await room.get(f"/v1/search?q={query}")).status == 200
    assert await found(room, "apple%20OR%20zebra") == []
    assert await found(room, "apple%20!!!") == ["Ápple, for all!", "apple in the room", "apple for two"]


async def test_a_workspace_finds_nothing_of_another_one(room):
    await room.workspace("others")
    assert await found(room, "apple") == []


async def test_what_was_said_before_there_was_an_index_is_found(open_world, tmp_path):
    world = await open_world(db="old.db")
    await world.say(await world.agent("ada"), "apple")
    await world.engine.__aexit__(None, None, None)
    with closing(sqlite3.connect(tmp_path / "old.db")) as database:
        database.executescript(f"{schema.NO_INDEX}; DROP TABLE messages_text;")
    key = world.key
    world = await open_world(workspace="", db="old.db")
    world.key = key
    assert await found(world, "apple") == ["apple"]


async def test_without_fts5_the_words_are_looked_for_in_the_text(open_world, monkeypatch):
    monkeypatch.setattr("relaybroker.engine.store.has_full_text", lambda _connection: False)
    world = await open_world()
    ada = await world.agent("ada")
    for text in ("an Apple a day", "100% apple", "nothing"):
        await world.say(ada, text)
    assert await found(world, "apple") == ["100% apple", "an Apple a day"]
    assert await found(world, "%25") == ["100% apple"]
    assert await found(world, "day%20apple") == ["an Apple a day"]
