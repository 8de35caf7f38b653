"""What the recordings tell: real broker processes, PTY hosts, terminals and sidecars, `kill -9`, and an engine that plays its part.

A story runs in an empty directory and returns the state directories that it leaves, one a recording. It waits for conditions only, so
that each run has the same course; ids, ports and times differ.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.conftest import Deployment
from tests.scenarios.conftest import Node
from tests.scripted_engine import ScriptedEngine
from tests.sidecar_client import Sidecar
from tests.waiting import WAIT_S

DIALOG = Path(__file__).parents[1] / "integration" / "pty" / "agents" / "dialog.py"

Story = Callable[[Path], Awaitable[tuple[Path, ...]]]


@asynccontextmanager
async def desk(folder: Path, *, rate: float = 1.0) -> AsyncIterator[tuple[Node, ScriptedEngine]]:
    """A broker on a scripted engine; not started yet, stopped at the end. A story that kills it needs a rate of 1."""
    async with ScriptedEngine() as engine:
        node = Node(folder, engine, rate=rate)
        try:
            yield node, engine
            assert await node.stop() == 0, node.output()
        finally:
            await node.close()


async def acked(engine: ScriptedEngine, name: str, seq: int, connection: int = 0) -> None:
    """Wait for an acknowledgement up to `seq` or further."""
    await engine.until(
        lambda: any(
            frame["up_to_seq"] >= seq for frame in engine.frames("delivery.ack", connection=connection, agent=name)
        ),
        what=f"ack {seq} of {name}",
    )


async def agent(node: Node, holds: Callable[[dict[str, Any]], Any], name: str = "w1") -> dict[str, Any]:
    """What the list says of an agent, as soon as it says what is wanted."""
    deadline = time.monotonic() + WAIT_S
    while True:
        rows = (await node.api("GET", "/api/spawned"))[1]["agents"]
        own_row = next((row for row in rows if row["name"] == name), None)
        if own_row is not None and holds(own_row):
            return dict(own_row)
        assert time.monotonic() < deadline, f"{own_row}\n{node.output()}"
        await asyncio.sleep(0.02)


async def spawn(node: Node) -> None:
    """Start w1 and wait until it takes messages."""
    await node.spawn("w1")
    await agent(node, lambda row: row["ready"])


def host_pid(node: Node) -> int:
    """The PTY host of a node."""
    return int(next(node.state.glob("host-*.pid")).read_text())


async def reconnect_storm(folder: Path) -> tuple[Path, ...]:
    """The link is lost five times and dials fail; a message is typed while there is none, its acknowledgement follows."""
    async with desk(folder, rate=10) as (node, engine):
        await node.start()
        await engine.online()
        await spawn(node)
        await engine.deliver("w1", 1, "before the storm")
        await acked(engine, "w1", 1)

        os.kill(host_pid(node), signal.SIGSTOP)
        await engine.deliver("w1", 2, "typed without a link")
        await node.logged("delivery.injecting.v1", lambda event: "typed without" in event.text)
        engine.handshakes = [503, 503]
        await engine.drop()
        await node.logged("link.backed_off.v1")
        os.kill(host_pid(node), signal.SIGCONT)
        await node.typed("w1", "before the storm", "typed without a link")
        await engine.online(4)
        await acked(engine, "w1", 2, connection=4)
        await engine.deliver("w1", 2, "typed without a link")
        await node.logged("mailbox.frame_ignored.v1")

        await engine.drop(1000, "superseded")
        await engine.online(5)
        await engine.drop(1011, "internal error")
        await engine.online(6)
        engine.answers["node.register"] = lambda _: None
        await engine.drop()
        await node.logged("link.backed_off.v1", lambda event: event.reason == "no_answer")
        del engine.answers["node.register"]
        await engine.online(8)
        await engine.deliver("w1", 3, "after the storm")
        await acked(engine, "w1", 3)
    return (node.state,)


async def gap_and_hole(folder: Path) -> tuple[Path, ...]:
    """3 never comes and is lost; 6 comes when it is asked for; 8 brings a message that was typed as 7."""
    async with desk(folder, rate=10) as (node, engine):
        await node.start()
        await engine.online()
        await spawn(node)
        for seq in (1, 2, 4, 5):
            await engine.deliver("w1", seq, f"text {seq}")
        await node.logged("mailbox.range_lost.v1")
        await acked(engine, "w1", 5)
        asked = len(engine.frames("node.register"))
        await engine.deliver("w1", 7, "text 7")
        await engine.frame("node.register", count=asked + 1)
        await engine.deliver("w1", 6, "text 6")
        await acked(engine, "w1", 7)
        await engine.deliver("w1", 8, "text 7", msg_id="M7")
        await acked(engine, "w1", 8)
        await engine.deliver("w1", 9, "text 9")
        await acked(engine, "w1", 9)
        await engine.deliver("w1", 9, "another text", msg_id="M9b")
        await node.logged("mailbox.frame_ignored.v1", lambda event: event.reason == "seq_conflict")
        await node.typed("w1", *[f"text {seq}" for seq in (1, 2, 4, 5, 6, 7, 9)])
    return (node.state,)


async def crash_in_mid_injection(folder: Path) -> tuple[Path, ...]:
    """The broker is killed when two messages are with the PTY host, which types them without it; the next broker finds them typed."""
    async with desk(folder) as (node, engine):
        await node.start()
        await engine.online()
        await spawn(node)
        await engine.deliver("w1", 1, "before")
        await acked(engine, "w1", 1)
        os.kill(host_pid(node), signal.SIGSTOP)
        for seq in (2, 3):
            await engine.deliver("w1", seq, f"in flight {seq}")
            await node.logged("delivery.injecting.v1", lambda event, seq=seq: f"flight {seq}" in event.text)
        node.kill()
        os.kill(host_pid(node), signal.SIGCONT)
        deadline = time.monotonic() + WAIT_S
        while len(node.notes("w1")) < 3:
            assert time.monotonic() < deadline, node.notes("w1")
            await asyncio.sleep(0.02)
        await node.start()
        await engine.online(2)
        await acked(engine, "w1", 3)
        for seq in (2, 3):
            await engine.deliver("w1", seq, f"in flight {seq}")
        await engine.deliver("w1", 4, "after")
        await acked(engine, "w1", 4)
        await node.typed("w1", "before", "in flight 2", "in flight 3", "after")
    return (node.state,)


async def token_remint(folder: Path) -> tuple[Path, ...]:
    """Six rejected tokens: five are replaced, the sixth ends in `refused`; the probe gets through. One more is replaced later."""
    async with desk(folder, rate=40) as (node, engine):
        engine.handshakes = [401] * 6
        await node.start()
        await node.logged("link.refused.v1")
        await engine.online(7)
        engine.handshakes = [401]
        await engine.drop()
        await engine.online(9)
    return (node.state,)


async def sidecar_drop(folder: Path) -> tuple[Path, ...]:
    """A sidecar is lost with an action in hand; a spawn action waits for it and is done when it comes back, another one in vain."""
    async with desk(folder, rate=2) as (node, engine):
        await node.start()
        await engine.online()

        async def connect() -> Sidecar:
            connection = node.connection()
            assert connection is not None
            url = connection["url"].replace("http", "ws") + "/api/fleet/ws"
            made = Sidecar(await node.session.ws_connect(url, headers={"X-API-Key": connection["api_key"]}))
            await made.ask("register_handlers", names=["echo", "spawn:fancy"])
            return made

        first = await connect()
        await first.ask("register_node", manifest={"name": "fleet-1", "capabilities": [{"name": "echo"}]})
        await engine.invoke("inv_1", "echo", {"text": "done"})
        await first.ask("handler_result", invocation_id=(await first.invocation())["invocation_id"], output=1)
        await engine.frame("action.result", invocation_id="inv_1")
        await engine.invoke("inv_2", "echo", {"text": "in hand"})
        await first.invocation()
        await first.socket.close()
        await engine.frame("action.result", invocation_id="inv_2")
        await engine.invoke("inv_3", "spawn:fancy", {"name": "w1"})
        await node.logged("action.held.v1")
        second = await connect()
        assert (await second.invocation())["invocation_id"] == "inv_3"
        await second.ask("handler_result", invocation_id="inv_3", output={"spawned": True, "name": "w1"})
        await engine.frame("action.result", invocation_id="inv_3")
        await second.socket.close()
        await node.until(lambda: len(node.log("sidecar.gone.v1")) == 2, what="gone again")
        await engine.invoke("inv_4", "spawn:fancy", {"name": "w2"})
        await engine.frame("action.result", invocation_id="inv_4")
    return (node.state,)


async def dialog_hold(folder: Path) -> tuple[Path, ...]:
    """A trust dialog holds two messages, the `steer` one too, until a person answers it; then both are typed."""
    async with desk(folder) as (node, engine):
        await node.start()
        await engine.online()
        log, program = folder / "keys.log", folder / "claude"
        program.write_text(f"#!/bin/sh\nexec {shlex.join([sys.executable, str(DIALOG), str(log)])}\n")
        program.chmod(0o700)
        status, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": str(program)})
        assert status == 200, answer
        await agent(node, lambda row: row["worker"] == "blocked")
        await engine.deliver("w1", 1, "hello")
        await engine.deliver("w1", 2, "and quickly", mode="steer")
        await agent(node, lambda row: row["held_count"] == 2)
        assert (await node.api("POST", "/api/input/w1", {"data": "y"}))[0] == 200
        await acked(engine, "w1", 2)
    return (node.state,)


async def dead_letter_and_redeliver(folder: Path) -> tuple[Path, ...]:
    """A message too long, and one that its PTY host took into the grave: two dead letters; one is redelivered, one purged."""
    async with desk(folder) as (node, engine):
        await node.start()
        await engine.online()
        await spawn(node)
        await engine.deliver("w1", 1, "x" * (16 * 1024 + 1), msg_id="BIG")
        await acked(engine, "w1", 1)
        host = host_pid(node)
        os.kill(host, signal.SIGSTOP)
        await engine.deliver("w1", 2, "perhaps")
        await node.logged("delivery.injecting.v1")
        os.kill(host, signal.SIGKILL)
        await node.logged("delivery.dead_lettered.v1", lambda event: event.in_doubt)
        await node.logged("agent.retired.v1")
        await spawn(node)
        letters = (await node.api("GET", "/api/dead-letters"))[1]["dead_letters"]
        big, perhaps = ({"id": letter["id"]} for letter in sorted(letters, key=lambda row: row["event_id"]))
        assert (await node.api("POST", "/api/dead-letters/redeliver", big))[0] == 409
        assert (await node.api("POST", "/api/dead-letters/redeliver", perhaps))[0] == 409
        assert (await node.api("POST", "/api/dead-letters/redeliver", perhaps | {"force": True}))[0] == 200
        await node.typed("w1", "perhaps")
        assert (await node.api("POST", "/api/dead-letters/purge", big))[0] == 200
        await engine.deliver("w1", 3, "after")
        await acked(engine, "w1", 3)
        await node.typed("w1", "perhaps", "after")
    return (node.state,)


async def two_nodes(folder: Path) -> tuple[Path, ...]:
    """Two brokers of one name in one workspace of a real engine; their agents write to each other."""
    made = []
    for place in ("first", "second"):
        (folder / place).mkdir()
        made.append(Deployment(folder / place))
        made[-1].session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
    first, second = made
    try:
        await first.start()
        await first.meet()
        second.extra |= {"RELAYCAST_BASE_URL": first.engine, "AGENT_RELAY_WORKSPACE_KEY": first.workspace}
        await second.start()
        for one in made:
            await one.until_api(lambda shown: shown["link"]["state"] == "online", "online")
        await first.spawn("ann")
        await second.spawn("bob")
        for sender, to, one in (("ann", "bob", first), ("bob", "ann", second)):
            message = {"to": to, "message": f"from {sender}", "from": sender}
            status, answer = await one.api("POST", "/api/send", message)
            assert (status, answer["relaycast_published"], answer["local"]) == (200, True, False), answer
        for one in made:
            await one.until_api(lambda shown: shown["totals"]["acked"] == 1, "acknowledged")
        for one in reversed(made):
            assert one.broker is not None
            one.broker.terminate()
            await one.until(lambda one=one: one.broker.poll() is not None, "stopped")
    finally:
        for one in reversed(made):
            await one.close()
    return first.state, second.state


STORIES: dict[Story, tuple[str, ...]] = {
    reconnect_storm: ("reconnect-storm",),
    gap_and_hole: ("gap-and-hole",),
    crash_in_mid_injection: ("crash-in-mid-injection",),
    token_remint: ("token-remint",),
    sidecar_drop: ("sidecar-drop",),
    dialog_hold: ("dialog-hold",),
    dead_letter_and_redeliver: ("dead-letter-and-redeliver",),
    two_nodes: ("two-nodes-first", "two-nodes-second"),
}
"""Each story and the recordings that are made of it."""
