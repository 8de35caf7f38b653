"""What the running broker answers about its log: /api/why/{id} and /api/log (U01)."""

from __future__ import annotations

import asyncio

import pytest

from relaybroker.domain.events import REGISTRY


async def test_why_answers_what_the_command_answers(client):
    await client.spawn("w1")
    status, answer = await client.ask("GET", "/api/why/w1")
    assert status == 200
    (story,) = answer["stories"]
    assert (story["outcome"], story["state"], story["subject"]) == ("delivered", "live", "agent:w1:1")
    assert story["steps"][0]["event"] == "agent.name_reserved.v1"


async def test_why_of_nothing_known_and_of_too_much_is_an_error_with_a_code(client):
    assert (await client.refused("GET", "/api/why/nobody"))["code"] == "unknown_id"
    await client.spawn("worker-1")
    await client.spawn("worker-2")
    refused = await client.refused("GET", "/api/why/work")
    assert (refused["code"], refused["choices"]) == ("ambiguous_id", ["worker-1", "worker-2"])


async def test_the_log_is_searched_by_every_filter(client):
    await client.spawn("w1")
    await client.spawn("w2")
    for query, kinds in (
        ("machine=agent&agent=w1", {"agent"}),
        ("machine=agent", {"agent"}),
        ("stream=worker:", {"worker"}),
        ("topic=agent.live.*", {"agent"}),
        ("agent=w2", {"agent", "worker", "mailbox"}),
    ):
        status, answer = await client.ask("GET", f"/api/log?{query}")
        assert status == 200
        assert answer["events"], query
        assert {REGISTRY[event["topic"]].machine for event in answer["events"]} <= kinds, query
        assert answer["last"] == answer["events"][-1]["position"]


async def test_the_log_is_read_page_by_page(client):
    await client.spawn("w1")
    _, whole = await client.ask("GET", "/api/log?limit=1000")
    after, pages = 0, []
    while after < whole["last"]:  # the broker goes on meanwhile
        _, answer = await client.ask("GET", f"/api/log?limit=7&after={after}")
        pages += answer["events"]
        after = answer["last"]
    assert pages[: len(whole["events"])] == whole["events"]
    _, newest = await client.ask("GET", "/api/log?limit=3&newest=true")
    assert len(newest["events"]) == 3
    assert newest["last"] >= whole["last"]


async def test_messages_are_listed_with_what_became_of_them(client):
    await client.spawn("w1")
    status, sent = await client.ask("POST", "/api/send", {"to": "w1", "text": "look at this"})
    assert status == 200, sent
    for query in ("", "?agent=w1&limit=1", "?text=LOOK"):
        _, answer = await client.ask("GET", f"/api/messages{query}")
        (message,) = answer["messages"]
        assert (message["to"], message["text"]) == ("w1", "look at this"), query
    _, none = await client.ask("GET", "/api/messages?text=elsewhere")
    assert none["messages"] == []
    for query in ("agent=nobody", "limit=101", "since=never", "colour=blue"):
        assert (await client.refused("GET", f"/api/messages?{query}"))["code"] == "invalid_field", query


@pytest.mark.parametrize(
    "query",
    ["machine=toaster", "topic=x.*", "reason=because", "limit=0", "limit=many", "after=-1", "since=nan", "colour=red"],
)
async def test_a_search_for_what_cannot_be_is_refused_and_says_which_field(client, query):
    refused = await client.refused("GET", f"/api/log?{query}")
    assert (refused["code"], refused["statusCode"]) == ("invalid_field", 400)


async def test_many_questions_at_once_are_all_answered(client):
    await client.spawn("w1")
    answers = await asyncio.gather(*(client.ask("GET", "/api/why/w1") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
