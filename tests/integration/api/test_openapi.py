"""The OpenAPI document is what the server does: its routes, and what schemathesis sends by it.

Generated from the models, checked with schemathesis.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from relaybroker.adapters.http.api.routing import Route
from relaybroker.adapters.http.api.server import LocalApi
from relaybroker.adapters.http.api.table import NOT_BUILT, OPEN_PATHS, ROUTES
from relaybroker.api.openapi import document
from relaybroker.domain import inputs
from relaybroker.mcp.toolbox import AgentToolbox
from relaybroker.web import assets
from tests.integration.api.conftest import KEY, SETTINGS, SmallBroker
from tests.waiting import WAIT_S

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SOCKETS = ("/ws", "/api/fleet/ws")
ENDS = "/api/shutdown"


@pytest.fixture(scope="module")
def described_api():
    """The document as schemathesis understands it. In a fixture: read as tests are collected, it would cost every worker seconds."""
    schema = schemathesis.openapi.from_dict(document())
    schema.config.output.sanitization.update(enabled=False)
    # 501: documented, not built yet
    schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "3xx", "4xx", "501"]
    load_all_checks()
    return schema


def test_every_route_is_there_once_and_says_what_it_answers():
    keys = [route.key for route in ROUTES]
    assert len(keys) == len({*keys, *(f"{method} {path}" for method, path in NOT_BUILT)}) - len(NOT_BUILT)
    shapeless = {route.key for route in ROUTES if route.answer not in (None, str) and not described(route)}
    tools = {f"POST /api/{who}/tools/{{tool}}" for who in ("agent", "operator")}
    assert shapeless == {*tools, "POST /mcp", "GET /api/openapi.json"}, "others decide theirs"


def described(route: Route) -> bool:
    """Whether the document says which members its answer has."""
    content = document()["paths"][route.path][route.method.lower()]["responses"]["200"]["content"][route.media]
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    return bool(document()["components"]["schemas"].get(name, {}).get("required"))


def test_no_two_shapes_share_a_name():
    """Answers come from msgspec and bodies from pydantic; one must not hide the other."""
    bodies = {route.body.__name__ for route in ROUTES if route.body is not None}
    answers = msgspec.json.schema_components([route.answer for route in ROUTES if route.answer is not None])[1]
    assert not bodies & answers.keys()


async def test_the_document_is_served(client):
    status, answer = await client.ask("GET", "/api/openapi.json")
    assert (status, answer) == (200, document())


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[str]:
    """The address of a local API in a thread of its own, over a broker that is online and has one agent."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="served")
    thread.start()
    directory = tmp_path_factory.mktemp("served")

    async def begin() -> tuple[LocalApi, SmallBroker, int]:
        api = LocalApi(
            api_key=KEY,
            version="1",
            persist=True,
            base_url=None,
            document=document,
            make_tools=AgentToolbox,
            page=assets(),
            request_shutdown=lambda _: None,
        )
        broker = SmallBroker(api, directory / "journal-desk.sqlite")
        port = await api.bind("127.0.0.1", 0)
        broker.tell(
            inputs.BrokerStarted(
                boot_id="91c0",
                entropy=f"{1:032x}",
                settings=SETTINGS,
                has_node_token=True,
                has_own_token=True,
                own_agent_id="900",
            )
        )
        api.open(broker)
        while not broker.state.link.online_at:
            await asyncio.sleep(0.005)
        return api, broker, port

    async def end(api: LocalApi, broker: SmallBroker) -> None:
        broker.stop()
        await api.close()

    api, broker, port = asyncio.run_coroutine_threadsafe(begin(), loop).result(WAIT_S)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(end(api, broker), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


@pytest.mark.parametrize("key", [route.key for route in ROUTES if route.path not in (*SOCKETS, ENDS)])
def test_what_the_document_allows_and_forbids_is_answered_as_it_says(key, served, described_api):
    """Boundary values of all that the document says, its examples, and a few requests at random."""
    method, path = key.split()

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def send(case):
        case.call_and_validate(base_url=served, headers={"X-API-Key": KEY}, checks=CHECKS)

    build_operation_test(
        config=described_api.config,
        operation=described_api[path][method],
        test_func=send,
        given_kwargs={},
        feedback=FeedbackSources(),
    )()


async def test_no_route_but_those_for_everybody_answers_without_the_key(client):
    for route in ROUTES:
        if route.path not in {*OPEN_PATHS, *SOCKETS}:
            path = re.sub(r"\{\w+\}", "x", route.path)
            async with client.http.request(route.method, client.url + path, headers={"X-API-Key": "wrong"}) as answer:
                assert answer.status == 401, route.key
