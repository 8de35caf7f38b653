"""What the dispatcher does with secrets: they go to the handler whole, or nowhere."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from relaybroker.adapters.vault import MAX_WITHHELD
from relaybroker.domain import effects, inputs
from relaybroker.node.dispatch import Dispatcher


@pytest.fixture
def world(vault):
    """A dispatcher, what handlers got, and what the core was heard."""
    given, heard = [], []

    async def deliver(item):
        heard.append(item)

    others = dict.fromkeys(("link", "engine", "host", "launcher", "sidecar", "leave"))
    observer = SimpleNamespace(observe=lambda events: None)
    clients = SimpleNamespace(invoke_handler=given.append)
    made = Dispatcher(tokens=observer, spawns=observer, clients=clients, vault=vault, deliver=deliver, **others)
    return SimpleNamespace(dispatcher=made, given=given, heard=heard)


def invocation(secret):
    return effects.InvokeHandler(connection="c1", invocation_id="inv_1", name="echo", input={"token": secret, "n": [1]})


async def test_a_handler_gets_the_secret_that_a_reference_stands_for(world, vault):
    world.dispatcher.carry_out([], [invocation(vault.withhold("s3cret"))])
    assert [one.input for one in world.given] == [{"token": "s3cret", "n": [1]}]


async def test_a_handler_whose_secret_is_lost_is_not_asked_and_the_core_hears_why(world, vault):
    lost = vault.withhold("s3cret")
    for number in range(MAX_WITHHELD):
        vault.withhold(str(number))
    world.dispatcher.carry_out([], [invocation(lost)])
    await asyncio.sleep(0)
    assert world.given == []
    [failed] = world.heard
    assert isinstance(failed, inputs.HandlerFinished)
    assert (failed.connection, failed.invocation_id) == ("c1", "inv_1")
    assert failed.error.startswith("credentials_lost: ")
    await world.dispatcher.shut()
