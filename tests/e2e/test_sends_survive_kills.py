"""What agents and people send through the local API reaches the engine exactly once, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
from collections import Counter

import aiohttp
import pytest

from tests.waiting import WAIT_S

SEED = int(os.environ.get("RELAYBROKER_KILL_SEED", "20261125"))
KILLS = 5
UNNAMED = "somebody"
"""Says no name."""
SENDERS = {"ann": "ann", "bob": "bob", "human:eve": "desk", "human:joe": "desk", UNNAMED: "desk"}
"""Who sends -> whose the message is at the engine."""


async def _at_engine(deployment):
    """Author, text and mode of every message that the engine has in the channel, in its order."""
    messages, before = [], ""
    while True:
        path = f"/v1/channels/general/messages?limit=100{before}"
        page = await deployment.ask_engine("GET", path, deployment.planner)
        messages += [(row["agent_name"], row["text"], row["injection_mode"]) for row in page]
        if len(page) < 100:
            return messages[::-1]
        before = f"&before={page[-1]['id']}"


async def _until_published(deployment, count):
    """The engine may be on its way back, on another port."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                deployment.engine = json.loads((deployment.state / "engine" / "ready.json").read_text())["url"]
                if len(messages := await _at_engine(deployment)) >= count:
                    return messages
            except (aiohttp.ClientError, OSError, ValueError):
                pass
            await asyncio.sleep(0.1)


async def _send(deployment, body):
    """Send as a client does that was told to: until there is an answer, with one key."""
    while True:
        try:
            status, answer = await deployment.api("POST", "/api/send", body)
        except (aiohttp.ClientError, OSError, AssertionError, TimeoutError):
            status = 401
        if status != 401:  # the address and key of a killed broker: its successor has the port, and another key
            return status, answer
        await asyncio.sleep(0.02)


async def _talk(deployment, sender, answers, over):
    """One after the other, to the channel, until it is over; now and then to somebody who does not exist."""
    for number in itertools.count():
        if over.is_set():
            return
        text = f"{sender} {number}"
        named = "" if sender == UNNAMED else sender
        body = {"to": "#general", "text": text, "from": named, "mode": "steer" if number % 2 else "wait"}
        answers[text] = await _send(deployment, body | {"idempotency_key": text})
        if number % 8 == 0:
            text = f"{sender} to nobody {number}"
            body = {"to": "nobody", "text": text, "from": named, "idempotency_key": text}
            answers[text] = await _send(deployment, body)


@pytest.mark.slow
async def test_sends_in_flight_at_kills_of_broker_and_engine_arrive_once_and_in_order(deployment):
    """F034, U10, U14, B21, F001: broker killed at random moments, the engine every third time. RELAYBROKER_KILL_SEED repeats a run."""
    moments = random.Random(SEED)
    for name in ("ann", "bob"):
        await deployment.spawn(name)
    answers: dict[str, tuple[int, dict[str, object]]] = {}
    over = asyncio.Event()
    talks = [asyncio.create_task(_talk(deployment, sender, answers, over)) for sender in SENDERS]
    for kill in range(KILLS):
        await asyncio.sleep(moments.uniform(0.02, 0.15))
        if kill % 3 == 1:
            os.kill(deployment.engine_pid(), signal.SIGKILL)
            await asyncio.sleep(moments.uniform(0.0, 0.1))
        deployment.kill_broker()
        await deployment.start()
    over.set()
    await asyncio.gather(*talks)
    print(f"seed {SEED}: {Counter(status for status, _ in answers.values())}")
    wrong = {text: answer for text, answer in answers.items() if answer[0] not in (200, 404)}
    assert not wrong
    public = [text for text in answers if " to nobody " not in text]
    await _until_published(deployment, len(public))
    await deployment.until_api(lambda status: not status["pending_delivery_count"], "everything is settled")
    log = [json.loads(line) for line in deployment.command("log", "export").stdout.splitlines()]
    waited = [record for record in log if record["topic"] == "message.waiting.v1"]
    assert len(waited) >= KILLS // 2, "the kills hit sends in flight"
    messages = await _at_engine(deployment)
    assert Counter(text for _, text, _ in messages) == Counter(public), "each exactly once, refused ones not at all"
    for author, text, mode in messages:
        sender, _, number = text.rpartition(" ")
        assert author == SENDERS[sender], "its true sender"
        assert mode == ("steer" if int(number) % 2 else "wait"), "its mode"
    for sender in SENDERS:
        numbers = [int(text.rpartition(" ")[2]) for _, text, _ in messages if text.rpartition(" ")[0] == sender]
        assert numbers == list(range(len(numbers))), "in the order in which it was sent"
    assert sum(record["topic"] == "message.published.v1" for record in log) == len(public)


async def test_messages_that_were_answered_as_stored_go_out_after_the_outage_in_order(deployment):
    """F034, B21: the engine is away, the broker is killed, both come back; nobody sends anything again."""
    await deployment.spawn("ann")
    os.kill(deployment.engine_pid(), signal.SIGSTOP)
    texts = [f"stored {number}" for number in range(5)]
    answers = await asyncio.gather(
        *(deployment.api("POST", "/api/send", {"to": "#general", "text": text, "from": "ann"}) for text in texts)
    )
    assert [answer["publish_pending"] for _, answer in answers] == [True] * 5
    stopped = deployment.engine_pid()
    deployment.kill_broker()
    os.kill(stopped, signal.SIGCONT)
    await deployment.start()
    messages = await _until_published(deployment, 5)
    log = [json.loads(line) for line in deployment.command("log", "export").stdout.splitlines()]
    accepted = [record["body"]["text"] for record in log if record["topic"] == "message.accepted.v1"]
    assert sorted(accepted) == texts
    assert [(author, text) for author, text, _ in messages] == [("ann", text) for text in accepted]
