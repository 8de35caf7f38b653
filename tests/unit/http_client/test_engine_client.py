from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.adapters.http.engine_client import IN_FLIGHT, LOOKS, LOOKS_WAITING, WAITING
from relaybroker.adapters.vault import fingerprint
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered
from tests.waiting import WAIT_S

MakeBench = Callable[..., Any]


def call(call_id: str = "c1", **fields: Any) -> HttpCall:
    defaults: dict[str, Any] = {"method": "GET", "path": "/v1/workspace", "auth": "workspace"}
    return HttpCall(call_id=call_id, **(defaults | fields))


async def test_a_call_carries_credential_body_and_idempotency_key(engine: Any, make_bench: MakeBench) -> None:
    engine.says({"ok": True, "data": {"id": "m1"}}, status=201)
    bench = make_bench(engine.url + "/")
    path = "/v1/channels/a%20b/messages"
    bench.client.call(call(method="POST", path=path, body={"text": "hü"}, idempotency_key="evt_1"))
    [answer] = await bench.wait("c1")
    assert answer == EngineAnswered(call_id="c1", status=201, data={"id": "m1"})
    [(method, sent_path, headers, body)] = engine.requests
    assert (method, sent_path, json.loads(body)) == ("POST", path, {"text": "hü"})
    assert headers["Authorization"] == "Bearer rk_live_key"
    assert headers["Idempotency-Key"] == "evt_1"
    assert headers["Content-Type"] == "application/json"


async def test_an_error_keeps_status_code_and_message(engine: Any, make_bench: MakeBench) -> None:
    """F044."""
    engine.says({"ok": False, "error": {"code": "node_name_conflict", "message": "taken"}}, status=409)
    bench = make_bench(engine.url)
    bench.client.call(call())
    [answer] = await bench.wait("c1")
    assert answer == EngineAnswered(call_id="c1", status=409, code="node_name_conflict", message="taken")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (204, b"", EngineAnswered(call_id="c1", status=204)),
        (200, b'{"ok":true}', EngineAnswered(call_id="c1", status=200)),
        (200, b"[1]", EngineAnswered(call_id="c1", status=200, data=[1])),
        (
            200,
            b'{"ok":true,"data":"\xff"}',
            EngineAnswered(call_id="c1", status=200, code="invalid_answer", message="the answer is not JSON"),
        ),
        (
            502,
            b"<html>",
            EngineAnswered(call_id="c1", status=502, code="invalid_answer", message="the answer is not JSON"),
        ),
    ],
)
async def test_what_is_no_envelope_keeps_its_status(
    engine: Any, make_bench: MakeBench, status: int, body: bytes, expected: EngineAnswered
) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body or None)

    engine.answer = answer
    bench = make_bench(engine.url)
    bench.client.call(call())
    assert await bench.wait("c1") == [expected]


async def test_a_redirect_is_an_answer_and_the_credential_goes_nowhere_else(engine: Any, make_bench: MakeBench) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    engine.answer = answer
    bench = make_bench(engine.url)
    bench.client.call(call())
    [answered] = await bench.wait("c1")
    assert answered.status == 307
    assert len(engine.requests) == 1


# --- no answer --------------------------------------------------------------------------------------------------------


async def test_a_call_that_takes_too_long_is_unanswered(engine: Any, make_bench: MakeBench) -> None:
    over = asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.json_response({})

    engine.answer = answer
    bench = make_bench(engine.url)
    bench.client.call(call(timeout_s=0.2))
    assert await bench.wait("c1") == [EngineUnanswered(call_id="c1", detail="timeout")]
    over.set()


async def test_an_engine_that_is_not_there_is_no_answer(make_bench: MakeBench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        bench = make_bench(f"http://127.0.0.1:{taken.getsockname()[1]}")
        bench.client.call(call())
        [answer] = await bench.wait("c1")
    assert isinstance(answer, EngineUnanswered)
    assert answer.detail


async def test_a_connection_that_is_dropped_is_no_answer(engine: Any, make_bench: MakeBench) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    engine.answer = answer
    bench = make_bench(engine.url)
    bench.client.call(call(method="POST", body={}))
    [answered] = await bench.wait("c1")
    assert isinstance(answered, EngineUnanswered)


async def test_a_reference_without_token_is_no_answer_and_nothing_is_sent(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    bench.client.call(call(auth="agent:404"))
    assert await bench.wait("c1") == [EngineUnanswered(call_id="c1", detail="no_credential")]
    assert engine.requests == []


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_minted_node_token_is_kept_and_only_its_fingerprint_goes_on(engine: Any, make_bench: MakeBench) -> None:
    engine.says({"ok": True, "data": {"id": "node_1", "token": "nt_live_secret\n"}}, status=201)
    bench = make_bench(engine.url)
    bench.client.call(call(method="POST", path="/v1/nodes", body={"node_id": "node_1"}, capture="node"))
    [answer] = await bench.wait("c1")
    assert answer.data == {"id": "node_1", "token": fingerprint("nt_live_secret")}
    assert bench.vault.token("node") == "nt_live_secret"


async def test_the_token_of_another_node_is_discarded(engine: Any, make_bench: MakeBench) -> None:
    """node-protocol.md 1.5: the name belongs to another node."""
    engine.says({"ok": True, "data": {"id": "node_2", "token": "nt_live_secret"}}, status=201)
    bench = make_bench(engine.url)
    bench.client.call(call(method="POST", path="/v1/nodes", body={"node_id": "node_1"}, capture="node"))
    [answer] = await bench.wait("c1")
    assert answer.data["id"] == "node_2"
    assert not bench.vault.has("node")
    assert "nt_live_secret" not in repr(answer)


async def test_a_pinned_node_token_is_never_replaced(engine: Any, make_bench: MakeBench) -> None:
    """I3."""
    engine.says({"ok": True, "data": {"id": "node_1", "token": "nt_live_minted"}}, status=201)
    bench = make_bench(engine.url, pinned="nt_live_pinned")
    bench.client.call(call(method="POST", path="/v1/nodes", body={"node_id": "node_1"}, capture="node"))
    assert await bench.wait("c1") == [EngineUnanswered(call_id="c1", detail="token_not_kept")]
    assert bench.vault.token("node") == "nt_live_pinned"


async def test_the_brokers_own_token_is_kept_as_its_own(engine: Any, make_bench: MakeBench) -> None:
    engine.says({"ok": True, "data": {"id": "77", "name": "desk", "token": "at_live_own"}}, status=201)
    bench = make_bench(engine.url)
    bench.client.call(call(method="POST", path="/v1/agents", body={}, capture="own"))
    [answer] = await bench.wait("c1")
    assert bench.vault.token("own") == bench.vault.token("agent:77") == "at_live_own"
    assert "at_live_own" not in repr(answer)


async def test_any_other_token_is_kept_for_the_agent_that_the_answer_names(engine: Any, make_bench: MakeBench) -> None:
    engine.says({"ok": True, "data": {"id": "5", "token": "at_live_five"}})
    bench = make_bench(engine.url)
    bench.client.call(call(method="POST", path="/v1/agents/w/rotate-token", body={}))
    await bench.wait("c1")
    assert bench.vault.token("agent:5") == "at_live_five"


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_calls_beyond_the_bounds_wait_and_then_are_refused_and_each_has_one_answer(
    engine: Any, make_bench: MakeBench
) -> None:
    release, full = asyncio.Event(), asyncio.Event()
    at_once, most = 0, 0

    async def answer(_request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if most == IN_FLIGHT:
            full.set()
        await release.wait()
        at_once -= 1
        return web.json_response({"ok": True, "data": None})

    engine.answer = answer
    bench = make_bench(engine.url)
    over = 10
    names = [f"c{number}" for number in range(IN_FLIGHT + WAITING + over)]
    for name in names:
        bench.client.call(call(name))
    refused = await bench.wait(*names[-over:])
    assert {answer.detail for answer in refused} == {"queue_full"}
    async with asyncio.timeout(WAIT_S):
        await full.wait()
    release.set()
    answers = await bench.wait(*names)
    assert most == IN_FLIGHT
    assert sum(isinstance(answer, EngineAnswered) for answer in answers) == IN_FLIGHT + WAITING


async def test_shutting_down_ends_what_is_under_way(engine: Any, make_bench: MakeBench) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    engine.answer = answer
    bench = make_bench(engine.url)
    bench.client.call(call())
    async with asyncio.timeout(WAIT_S):
        while not engine.requests:
            await asyncio.sleep(0.01)
        await bench.client.shut()
    assert bench.answers == {}


# --- looks --------------------------------------------------------------------------------------------------------------


async def test_a_look_is_answered_to_who_asks_and_keeps_no_token(engine: Any, make_bench: MakeBench) -> None:
    engine.says({"ok": True, "data": {"id": "5", "token": "at_live_seen"}})
    bench = make_bench(engine.url)
    answer = await bench.client.ask(call())
    assert answer == EngineAnswered(call_id="c1", status=200, data={"id": "5", "token": "at_live_seen"})
    assert bench.answers == {}
    assert bench.vault.token("agent:5") is None


async def test_a_look_without_a_credential_or_an_engine_says_so(engine: Any, make_bench: MakeBench) -> None:
    bench = make_bench(engine.url)
    answer = await bench.client.ask(call(auth="agent:7"))
    assert answer == EngineUnanswered(call_id="c1", detail="no_credential")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = make_bench(f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert isinstance(await gone.client.ask(call()), EngineUnanswered)


async def test_more_looks_than_may_wait_are_refused_at_once_and_the_others_are_answered(
    engine: Any, make_bench: MakeBench
) -> None:
    go = asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        await go.wait()
        return web.json_response({"ok": True, "data": 1})

    engine.answer = answer
    bench = make_bench(engine.url)
    looks = [asyncio.create_task(bench.client.ask(call(f"c{n}"))) for n in range(LOOKS + LOOKS_WAITING)]
    await asyncio.sleep(0)
    assert await bench.client.ask(call("late")) == EngineUnanswered(call_id="late", detail="queue_full")
    go.set()
    answers = await asyncio.wait_for(asyncio.gather(*looks), WAIT_S)
    assert {answer.data for answer in answers} == {1}
