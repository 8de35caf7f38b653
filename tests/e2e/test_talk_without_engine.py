"""Two agents of one broker talk over MCP while the engine is gone, across a killed broker: each text is typed once and published once."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.waiting import WAIT_S

HEADER = re.compile(r"Relay message from (\w+)(?: in \S+)? \[([\w-]+)[^\]]*\]: (.*)")


class Engine:
    """An engine of its own, on one port for all its lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        database, port = str(self._folder / "engine.sqlite"), str(self.port)
        with (self._folder / "engine.out").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "relaybroker", "engine", "--db", database, "--port", port],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._folder,
            )  # fmt: skip

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Talker:
    """An agent's own MCP client."""

    def __init__(self, deployment, name: str) -> None:
        self._deployment = deployment
        self.name = name
        environment = Path(f"/proc/{deployment.pids[name]}/environ").read_bytes().decode().split("\0")
        self._token = next(pair.partition("=")[2] for pair in environment if pair.startswith("RELAY_AGENT_TOKEN="))

    async def use(self, tool: str, **arguments):
        """Call a tool; its result."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-06-18",
        }
        url = f"{self._deployment.connection()['url']}/mcp"
        async with self._deployment.session.post(url, json=body, headers=headers) as response:
            result = (await response.json())["result"]
        assert not result["isError"], result
        return result["structuredContent"]

    def heard(self) -> list[tuple[str, str, str]]:
        """Sender, id and words of everything that was typed to it."""
        return HEADER.findall((self._deployment.folder / f"{self.name}.notes").read_text())

    async def hears(self, words: str) -> str:
        """Wait until it is typed these words; the id in their header."""
        await self._deployment.until(
            lambda: any(text == words for *_, text in self.heard()), f"{self.name} hears {words}"
        )
        return next(message_id for _, message_id, text in self.heard() if text == words)


@pytest.fixture
async def apart(make_deployment, tmp_path):
    """A broker, and its engine as a process of its own, which can be gone."""
    engine = Engine(tmp_path)
    made = make_deployment(tmp_path, RELAYCAST_BASE_URL=engine.url)
    made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
    engine.start()
    try:
        await made.until(engine.answers, "the engine is there")
        await made.start()
        await made.until_api(lambda status: status["link"]["state"] == "online", "online")
        for name in ("ann", "bob"):
            await made.spawn(name)
        yield made, engine
    finally:
        await made.close()
        engine.kill()


def records(deployment, topic):
    lines = deployment.command("log", "export").stdout.splitlines()
    return [record["body"] for line in lines if (record := json.loads(line))["topic"] == topic]


async def test_two_agents_talk_while_the_engine_is_gone_and_the_broker_is_killed(apart):
    """LOCAL-FIRST, F001, F034."""
    deployment, engine = apart
    ann, bob = (Talker(deployment, name) for name in ("ann", "bob"))
    assert (await ann.use("send_dm", to="bob", text="one"))["status"] == "published"
    one = await bob.hears("one")

    engine.kill()
    await deployment.until_api(lambda status: status["link"]["state"] != "online", "the link is down")
    sent = await ann.use("send_dm", to="bob", text="two")
    two = await bob.hears("two")
    assert (sent["status"], sent["event_id"]) == ("pending", two)
    await bob.use("reply_to_thread", message_id=two, text="to two")
    await ann.hears("to two")
    deployment.kill_broker()
    await deployment.start()
    await bob.use("reply_to_thread", message_id=one, text="to one")
    await ann.hears("to one")
    await ann.use("send_dm", to="bob", text="three")
    await bob.hears("three")
    said = deployment.command("why", two)
    assert (
        "was given from here because the engine could not be reached; it is published when the engine is back"
        in said.stdout
    )
    assert said.returncode == 11, "it is not settled"

    engine.start()
    await deployment.until(engine.answers, "the engine is back")
    deployment.kill_broker()
    await deployment.start()
    await deployment.until_api(lambda status: status["link"]["state"] == "online", "online again")
    await deployment.until(lambda: len(records(deployment, "message.published.v1")) == 5, "all are published")
    await deployment.until(lambda: len(records(deployment, "delivery.recognised.v1")) == 4, "the copies came")
    await ann.use("send_dm", to="bob", text="four")
    await bob.hears("four")

    assert Counter(text for *_, text in bob.heard()) == Counter(["one", "two", "three", "four"])
    assert [text for *_, text in bob.heard()] == ["one", "two", "three", "four"]
    assert [text for *_, text in ann.heard()] == ["to two", "to one"]
    (talk,) = (await ann.use("list_dms"))["conversations"]
    rows = (await ann.use("list_messages", channel=talk["id"]))["messages"][::-1]
    texts = [row["text"] for row in rows]
    assert [text for text in texts if not text.startswith("to ")] == ["one", "two", "three", "four"]
    for asked, answer in ((one, "to one"), (two, "to two")):
        thread = await bob.use("get_message_thread", message_id=asked)
        assert [row["text"] for row in thread["replies"]] == [answer]
    await bob.use("reply_to_thread", message_id=two, text="again to two")
    await ann.hears("again to two")
    thread = await ann.use("get_message_thread", message_id=two)
    assert [row["text"] for row in thread["replies"]] == ["to two", "again to two"]

    rows = json.loads(deployment.command("delivery", "ls", "--json").stdout)
    given = [row for row in rows if row["source"] == "local"]
    assert [row["state"] for row in given] == ["acked"] * 4
    assert all(row["seq"] for row in given), "each has the number of the engine's copy"
    assert {row["reason"] for row in rows if row["state"] != "acked"} == {"duplicate"}
    said = deployment.command("why", two)
    assert said.returncode == 0
    assert "the engine's copy came later" in said.stdout
