"""Structured results that agents hand in with a token of their own (local-api.md section 1.3, route 25)."""

from __future__ import annotations

import pytest

SCHEMA = {"type": "object", "required": ["verdict"], "properties": {"verdict": {"enum": ["yes", "no"]}}}
PATH = "/api/agent-result"


@pytest.fixture
async def token(client):
    await client.spawn("w1", agentResultSchema=SCHEMA)
    (variables,) = client.broker.variables.values()
    assert variables["AGENT_RELAY_RESULT_SCHEMA"].startswith('{"type":"object"')
    return variables["AGENT_RELAY_RESULT_TOKEN"]


async def hand_in(client, token, body, header="X-Agent-Result-Token"):
    given = f"Bearer {token}" if header == "Authorization" else token
    async with client.http.post(client.url + PATH, json=body, headers={header: given}) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("header", ["X-Agent-Result-Token", "Authorization"])
@pytest.mark.parametrize("key", ["data", "result"])
async def test_a_result_is_recorded_and_told(client, token, header, key):
    status, body = await hand_in(client, token, {key: {"verdict": "yes"}, "name": "w1", "metadata": [1]}, header)
    assert (status, body["success"], body["name"]) == (200, True, "w1")
    _, events = await client.ask("GET", "/api/events/replay?sinceSeq=0")
    (announced,) = [event for event in events["events"] if event["kind"] == "agent_result"]
    assert (announced["name"], announced["result_id"], announced["data"]) == (
        "w1",
        body["result_id"],
        {"verdict": "yes"},
    )
    assert (announced["final"], announced["metadata"]) == (True, [1])


async def test_a_result_that_does_not_fit_its_schema_may_be_tried_again(client, token):
    status, refused = await hand_in(client, token, {"data": {"verdict": "perhaps"}})
    assert (status, refused["code"], refused["field"]) == (422, "result_schema_mismatch", "data")
    assert (await hand_in(client, token, {"data": {"verdict": "no"}}))[0] == 200


async def test_several_results_may_come_and_one_final_one(client, token):
    first = await hand_in(client, token, {"data": {"verdict": "no"}, "final": False})
    last = await hand_in(client, token, {"data": {"verdict": "yes"}})
    assert first[0] == last[0] == 200
    again = await hand_in(client, token, {"data": {"verdict": "yes"}})
    assert again == (200, last[1] | {"replayed": True})
    status, refused = await hand_in(client, token, {"data": {"verdict": "no"}})
    assert (status, refused["code"]) == (409, "result_already_final")


@pytest.mark.parametrize(
    ("given", "body", "status", "code"),
    [
        ("", {"data": 1}, 401, "missing_result_token"),
        ("arr_of_somebody", {"data": 1}, 401, "invalid_result_token"),
        ("its own", {"data": {"verdict": "yes"}, "agent": "w2"}, 401, "invalid_result_token"),
        ("its own", {}, 400, "missing_field"),
        ("its own", {"data": {"verdict": "yes"}, "final": "soon"}, 400, "invalid_field"),
    ],
)
async def test_who_may_not_or_gives_nothing_is_refused(client, token, given, body, status, code):
    answer_status, refused = await hand_in(client, token if given == "its own" else given, body)
    assert (answer_status, refused["code"]) == (status, code)


async def test_the_token_ends_with_its_agent_and_is_nowhere_but_in_its_environment(client, token):
    assert token not in str(client.broker.offered)
    await client.ask("DELETE", "/api/spawned/w1")
    status, refused = await hand_in(client, token, {"data": {"verdict": "yes"}})
    assert (status, refused["code"]) == (401, "invalid_result_token")


async def test_what_is_no_schema_starts_nothing(client):
    body = {"name": "w1", "cli": "cat", "agent_result_schema": {"type": "sideways"}}
    refused = await client.refused("POST", "/api/spawn", body)
    assert (refused["statusCode"], refused["field"]) == (400, "agent_result_schema")
    assert (await client.ask("GET", "/api/spawned"))[1]["agents"] == []


async def test_null_is_a_result_where_the_schema_lets_it(client):
    await client.spawn("w1", resultSchema=True)
    (variables,) = client.broker.variables.values()
    assert (await hand_in(client, variables["AGENT_RELAY_RESULT_TOKEN"], {"data": None}))[0] == 200
