"""Records fixtures/sessions anew: `make record-sessions`, or `python -m tests.sessions.record NAME ...` for some.

Each story is played by real broker processes, real terminals and real `kill -9`, and exported as anybody would export it. Names of programs
and files carry no path of the machine that recorded them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from tests.e2e.conftest import Deployment
from tests.scenarios.conftest import NOTE_TAKER, Node
from tests.scripted_engine import ScriptedEngine
from tests.sidecar_client import Sidecar

SESSIONS = Path(__file__).parents[2] / "fixtures" / "sessions"
DIALOG = Path(__file__).parents[1] / "integration" / "pty" / "agents" / "dialog.py"


class Stage:
    """An engine, and brokers under it; each story gets a new one."""

    def __init__(self, folder: Path, engine: ScriptedEngine, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.engine = engine
        self._stack = stack

    async def broker(self, *, rate: float = 1.0, **environment: str) -> Node:
        """A broker that is online."""
        made = Node(self.folder, self.engine, rate=rate, **environment | programs(self.folder))
        self._stack.push_async_callback(made.close)
        await made.start()
        await self.engine.online()
        return made

    async def acked(self, name: str, seq: int) -> None:
        def reached() -> bool:
            return any(frame["up_to_seq"] >= seq for frame in self.engine.frames("delivery.ack", agent=name))

        await self.engine.until(reached, what=f"ack {seq} of {name}")


def programs(folder: Path) -> dict[str, str]:
    """The programs of the stories, by name."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    for name, script in (("note-taker", NOTE_TAKER), ("claude", DIALOG)):
        program = place / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        program.chmod(stat.S_IRWXU)
    return {"PATH": f"{place}:{os.environ['PATH']}"}


async def spawn(node: Node | Deployment, name: str) -> None:
    status, answer = await node.api("POST", "/api/spawn", {"name": name, "cli": f"note-taker {name}.notes"})
    assert status == 200, answer


class Story(NamedTuple):
    """What is recorded: `says` is its sentence."""

    says: str
    play: Callable[[Stage], Awaitable[Node]]


STORIES: dict[str, Story] = {}


def story(says: str) -> Callable[[Callable[[Stage], Awaitable[Node]]], Callable[[Stage], Awaitable[Node]]]:
    def register(play: Callable[[Stage], Awaitable[Node]]) -> Callable[[Stage], Awaitable[Node]]:
        STORIES[play.__name__.replace("_", "-")] = Story(says, play)
        return play

    return register


@story("The engine closes the link again and again and offers everything anew each time; each message is typed once.")
async def reconnect_storm(stage: Stage) -> Node:
    engine = stage.engine
    node = await stage.broker(rate=10)
    await spawn(node, "w1")
    for storm in range(1, 6):
        refused = storm % 3
        engine.handshakes = [503] * refused
        dials = len(engine.dials)
        await engine.drop(1001 if storm % 2 else 1011)
        await engine.online(dials + refused + 1, 60)
        for seq in range(1, storm + 1):
            await engine.deliver("w1", seq, f"text {seq}")
        await stage.acked("w1", storm)
    await node.typed("w1", *[f"text {seq}" for seq in range(1, 6)])
    return node


@story("A frame is missing and comes after a resync; another one never comes and is declared lost after ten seconds.")
async def gap_and_hole(stage: Stage) -> Node:
    engine = stage.engine
    node = await stage.broker(rate=5)
    await spawn(node, "w1")
    for seq in (1, 3):
        await engine.deliver("w1", seq, f"text {seq}")
    await engine.frame("node.register", count=2)
    await engine.deliver("w1", 2, "text 2")
    await stage.acked("w1", 3)
    for seq in (4, 6, 7):
        await engine.deliver("w1", seq, f"text {seq}")
    await node.logged("mailbox.range_lost.v1")
    await stage.acked("w1", 7)
    await node.typed("w1", *[f"text {seq}" for seq in (1, 2, 3, 4, 6, 7)])
    return node


@story(
    "kill -9 of the broker while a message is with the terminal; the PTY host says what came of it, and nothing is typed twice."
)
async def crash_mid_injection(stage: Stage) -> Node:
    engine = stage.engine
    node = await stage.broker()
    await spawn(node, "w1")
    await engine.deliver("w1", 1, "before")
    await stage.acked("w1", 1)
    host = int(next(node.state.glob("host-*.pid")).read_text())
    os.kill(host, signal.SIGSTOP)
    await engine.deliver("w1", 2, "across the crash")
    await node.logged("delivery.injecting.v1", lambda event: event.marker.endswith("M2"))
    node.kill()
    os.kill(host, signal.SIGCONT)
    async with asyncio.timeout(20):
        while len(node.notes("w1")) < 2:
            await asyncio.sleep(0.02)
    await node.start()
    await engine.online(2)
    await engine.deliver("w1", 2, "across the crash")
    await stage.acked("w1", 2)
    await node.typed("w1", "before", "across the crash")
    return node


@story(
    "The engine rejects the node's token: it is replaced five times, then the link is refused, and a probe brings it back."
)
async def token_replaced(stage: Stage) -> Node:
    engine = stage.engine
    engine.handshakes = [401] * 6
    node = Node(stage.folder, engine, rate=60, **programs(stage.folder))
    stage._stack.push_async_callback(node.close)
    await node.start()
    await node.until_link("refused", 30)
    await engine.online(7, 30)
    return node


@story(
    "A sidecar drops while its handler works: the action fails after the grace; the sidecar that comes back serves the next one."
)
async def sidecar_drop(stage: Stage) -> Node:
    engine = stage.engine
    node = await stage.broker(rate=5)

    async def connect() -> Sidecar:
        made = await Sidecar.connect(node.session, node.connection() or {})
        stage._stack.push_async_callback(made.socket.close)
        await made.ask("hello", client_name="recorder", client_version="1")
        await made.ask("register_node", manifest={"name": "fleet-1", "capabilities": [{"name": "echo"}]})
        await made.ask("register_handlers", names=["echo"])
        return made

    first = await connect()
    await engine.invoke("inv_1", "echo", {"text": "one"})
    await first.invocation()
    await first.socket.close()
    await engine.frame("action.result", invocation_id="inv_1")
    second = await connect()
    await engine.invoke("inv_2", "echo", {"text": "two"})
    await second.invocation()
    await second.ask("handler_result", invocation_id="inv_2", output={"text": "two"})
    await engine.frame("action.result", invocation_id="inv_2")
    return node


@story(
    "A dialog is on an agent's screen: its message waits, no key reaches the dialog, and a person's answer lets it through."
)
async def dialog_hold(stage: Stage) -> Node:
    engine = stage.engine
    node = await stage.broker()
    status, answer = await node.api("POST", "/api/spawn", {"name": "w1", "cli": "claude dialog.log"})
    assert status == 200, answer
    await node.logged("worker.blocked.v1")
    await engine.deliver("w1", 1, "hello")
    await node.logged("delivery.held.v1", lambda event: event.reason == "blocked_by_dialog")
    assert (await node.api("POST", "/api/input/w1", {"data": "y"}))[0] == 200
    await stage.acked("w1", 1)
    return node


@story(
    "The PTY host dies with a message: nobody knows whether it was typed, a person redelivers the dead letter; another letter is purged."
)
async def dead_letter_redelivered(stage: Stage) -> Node:
    engine = stage.engine
    node = await stage.broker(RELAYBROKER_IN_DOUBT="ask")
    await spawn(node, "w1")
    await node.logged("worker.ready.v1")
    host = int(next(node.state.glob("host-*.pid")).read_text())
    os.kill(host, signal.SIGSTOP)
    await engine.deliver("w1", 1, "perhaps", msg_id="M-PERHAPS")
    await node.logged("delivery.injecting.v1")
    os.kill(host, signal.SIGKILL)
    await node.logged("delivery.dead_lettered.v1")
    await spawn(node, "w1")
    await engine.deliver("w1", 2, "x" * 17_000, msg_id="M-LARGE")
    await stage.acked("w1", 2)
    letters = {row["event_id"]: row["id"] for row in (await node.api("GET", "/api/dead-letters"))[1]["dead_letters"]}
    named = {"id": letters["M-PERHAPS"]}
    assert (await node.api("POST", "/api/dead-letters/redeliver", named))[0] == 409
    assert (await node.api("POST", "/api/dead-letters/redeliver", named | {"force": True}))[0] == 200
    assert (await node.api("POST", "/api/dead-letters/purge", {"id": letters["M-LARGE"]}))[0] == 200
    await node.typed("w1", "perhaps")
    return node


async def two_nodes(folder: Path) -> dict[str, Deployment]:
    """Agents of two nodes talk through the embedded engine; one broker is killed, and a message comes meanwhile."""
    made = []
    for number in (1, 2):
        place = folder / f"project{number}"
        place.mkdir()
        deployment = Deployment(place, XDG_DATA_HOME=str(folder / "data"), **programs(place))
        deployment.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        made.append(deployment)
    (folder / "data").mkdir(mode=0o700)
    first, second = made
    await first.start()
    await first.meet()
    second.extra |= {"RELAYCAST_BASE_URL": first.engine, "AGENT_RELAY_WORKSPACE_KEY": first.workspace}
    await second.start()
    for deployment in made:
        await deployment.until_api(lambda found: found["link"]["state"] == "online", 20, "online")
    await spawn(first, "ann")
    await spawn(second, "bob")
    await send(first, "ann", "bob", "from ann")
    await send(second, "bob", "ann", "from bob")
    await first.until_api(lambda found: found["totals"]["acked"] == 1, 20, "ann's message is acknowledged")
    first.kill_broker()
    await send(second, "bob", "ann", "to a dead broker")
    await first.start()
    await first.until(lambda: "to a dead broker" in (first.folder / "ann.notes").read_text(), 20, "ann has it")
    await second.until(lambda: "from ann" in (second.folder / "bob.notes").read_text(), 20, "bob has it")
    await first.until_api(lambda found: found["totals"]["acked"] >= 2, 20, "acked")
    return {"two-nodes-ann": first, "two-nodes-bob": second}


async def send(deployment: Deployment, sender: str, to: str, text: str) -> None:
    status, answer = await deployment.api("POST", "/api/send", {"to": to, "message": text, "from": sender})
    assert (status, answer["relaycast_published"]) == (200, True), answer


TWO_NODES = {
    "two-nodes-ann": "Agents of two nodes talk through the engine; this broker is killed in between and finds what came meanwhile.",
    "two-nodes-bob": "Agents of two nodes talk through the engine; the other broker is killed in between, this one goes on.",
}
NAMES = (*STORIES, *TWO_NODES)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="relaybroker-sessions-") as folder:
        async with ScriptedEngine() as engine, AsyncExitStack() as stack:
            yield Stage(Path(folder), engine, stack)


def export(folder: Path, state: Path, environment: dict[str, str], name: str, says: str) -> None:
    """As an operator does it."""
    target = SESSIONS / f"{name}.jsonl"
    target.unlink(missing_ok=True)
    words = ("log", "export", "--session", "-o", target, "--title", name, "--says", says, "--state-dir", state)
    subprocess.run([sys.executable, "-m", "relaybroker", *words], cwd=folder, env=environment, check=True)
    target.chmod(0o644)


async def record(name: str) -> None:
    """Play one story and keep its session."""
    if name in STORIES:
        says, play = STORIES[name]
        async with staged() as stage:
            node = await play(stage)
            assert await node.stop() == 0
            export(stage.folder, node.state, node.environment(), name, says)
        return
    with tempfile.TemporaryDirectory(prefix="relaybroker-sessions-") as folder:
        played: dict[str, Any] = await two_nodes(Path(folder))
        try:
            for title, deployment in played.items():
                export(deployment.folder, deployment.state, deployment.environment(), title, TWO_NODES[title])
        finally:
            for deployment in played.values():
                await deployment.close()


async def main(names: list[str]) -> None:
    SESSIONS.mkdir(exist_ok=True)
    wanted = dict.fromkeys(name for name in (names or NAMES) if name != "two-nodes-bob")
    for name in wanted:
        await record(name)
        print(f"{name}: {(SESSIONS / f'{name}.jsonl').stat().st_size // 1024} KiB", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
