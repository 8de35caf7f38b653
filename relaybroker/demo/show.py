"""The story of the demo: set up, talk, crash with messages in flight, recover, count.

Everything is counted at the ends: what was posted is what the engine answered with 201; what two of the agents said to each other with
their tools is what each wrote into its own file before it used the tool, and what of it was published is what the engine has; what was
typed is what each program that reads wrote into its own file; what was shown is what the shell's terminal printed; what was acknowledged
is what the engine shows as read.
Its last line on standard output is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from relaybroker.adapters.own_programs import own_program
from relaybroker.demo.agents.talker import QUESTIONS, THOUGHT
from relaybroker.demo.counting import AGENTS, EVERYBODY, TALK, TALKERS, TRACE, Agent, Said, Tally, ran, received_ids
from relaybroker.demo.rest import Rest

READY_S = 30.0
SETTLE_S = 40.0
IN_FLIGHT = 200
ROUND = 40
"""Channel messages posted at a time until enough is in flight."""
MAX_POSTS = 2000
SAID = 2 * 2 * len(QUESTIONS)
"""Two conversations of questions and answers."""


def run(*, keep: bool, while_down: int) -> int:
    """Show the demo; the exit status (1 if anything was lost, arrived twice or was run)."""
    folder = Path(tempfile.mkdtemp(prefix="relaybroker-demo-"))
    show = Show(folder, while_down)
    try:
        return asyncio.run(show.play())
    finally:
        show.end_processes()
        if keep:
            _say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Show:
    """One performance in one directory.

    Args:
        folder: private directory for everything.
        while_down: messages posted while the broker is dead.
    """

    def __init__(self, folder: Path, while_down: int) -> None:
        self._folder = folder
        self._state = folder / "state"
        self._while_down = while_down
        self._began = time.monotonic()
        self._broker: subprocess.Popen[bytes] | None = None
        self._agents = {agent.name: agent for agent in AGENTS}
        self._tally = Tally()
        self._published: Counter[tuple[str, str]] = Counter()
        """Author and text of what the engine has of the conversations."""
        self._said_while_dead = 0

    async def play(self) -> int:
        """All of it, in order."""
        self._step("starting the embedded engine and the broker, as real processes")
        await self._start_broker()
        async with Rest(self._state) as rest:
            await self._start_agents(rest)
            await self._converse(rest)
            await self._talk(rest)
            crossed = await self._crash(rest)
            await self._settle(rest)
            result = await self._count(rest)
        await self._show(
            (("why", crossed), "a delivery that crossed the crash"),
            *(
                (("message", "thread", root), "what ada and bob said to each other")
                for root in Said.by_now(self._folder).began
            ),
        )
        self._step("taking everything down")
        await self._command("down")
        result["seconds"] = round(time.monotonic() - self._began, 1)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
        good = not (result["lost"] or result["typed_twice"] or result["published_twice"] or result["ran"])
        return 0 if good and result["agents_alive"] else 1

    def _step(self, text: str) -> None:
        _say(f"[{time.monotonic() - self._began:5.1f} s] {text}")

    # --- processes ------------------------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        own = ("RELAY", "AGENT_RELAY")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        places = {"XDG_DATA_HOME": "data", "XDG_STATE_HOME": "log", "XDG_RUNTIME_DIR": "run"}
        for name, place in places.items():
            (home / place).mkdir(mode=0o700, exist_ok=True)
            kept[name] = str(home / place)
        return kept

    async def _start_broker(self) -> None:
        with (self._folder / "broker.out").open("ab") as output:
            self._broker = subprocess.Popen(  # noqa: ASYNC220 - a few ms, and nothing else runs yet
                own_program("relaybroker", "up", "--state-dir", str(self._state), "--name", "demo"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment(),
                cwd=self._folder,
            )
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            if self._broker.poll() is not None or time.monotonic() > deadline:
                tail = (self._folder / "broker.out").read_text(encoding="utf-8", errors="replace")[-2000:]
                raise SystemExit(f"relaybroker: the broker did not start:\n{tail}")
            await asyncio.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            connection = json.loads((self._state / "connection.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return self._broker is not None and connection["pid"] == self._broker.pid

    async def _command(self, *words: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *own_program("relaybroker", *words, "--state-dir", str(self._state)),
            stdout=asyncio.subprocess.DEVNULL,
            env=self._environment(),
            cwd=self._folder,
        )
        await process.wait()

    def end_processes(self) -> None:
        """Whatever happened: nothing that the demo started is left, each ended by its own pid."""
        if self._broker is not None and self._broker.poll() is None:
            self._broker.terminate()
            try:
                self._broker.wait(10)
            except subprocess.TimeoutExpired:
                self._broker.kill()
        for process in psutil.process_iter(["cmdline"]):
            if str(self._folder) in " ".join(process.info["cmdline"] or ()):
                process.kill()

    # --- the story --------------------------------------------------------------------------------------------------------

    async def _start_agents(self, rest: Rest) -> None:
        self._step(
            "starting agents in real terminals: bash, a program that takes notes, a scripted chat agent; ada and bob, with MCP"
        )
        await asyncio.gather(*(self._start(rest, agent) for agent in self._agents.values()))
        await self._wait_until_ready(rest)

    async def _start(self, rest: Rest, agent: Agent) -> None:
        agent.prepare(self._folder)
        agent.pid, agent.agent_id = await rest.spawn(agent.name, agent.command(self._folder), agent.channel)

    async def _wait_until_ready(self, rest: Rest) -> None:
        deadline = time.monotonic() + READY_S
        while not all(row["ready"] for row in (await rest.status())["agents"]):
            if time.monotonic() > deadline:
                raise SystemExit("relaybroker: the agents did not become ready")
            await asyncio.sleep(0.05)

    async def _talk(self, rest: Rest) -> None:
        self._step("direct messages, a channel message and a thread reply, from an agent called planner")
        names = [agent.name for agent in EVERYBODY]
        for name in names:
            self._tally.add(await rest.direct(name, f"hello {name}"), name)
        asked = await rest.direct("chat", "are you there?")
        self._tally.add(asked, "chat")
        posted = await rest.channel("general", f"stand-up: $(touch {TRACE}-1) `touch {TRACE}-2`; touch {TRACE}-3")
        replied = await rest.reply(posted, "and a reply in the thread")
        for message in (posted, replied):
            for name in names:
                self._tally.add(message, name)
        answer = await rest.wait_for_answer("chat", READY_S)
        self._step(f"chat answered through the engine: {answer!r}")
        await self._until(lambda: self._tally.missing(self._received()) == 0, READY_S)

    async def _converse(self, rest: Rest) -> None:
        """Have the talkers ask each other until each thinks about an answer."""
        ada, bob = (agent.name for agent in TALKERS)
        self._step(f"{ada} and {bob} ask and answer each other with their MCP tools: directly, and in #{TALK}")
        self._tally.add(await rest.direct(ada, f"Talk to {bob}"), ada)
        self._tally.add(await rest.direct(bob, f"Talk in #{TALK}"), bob)
        await self._until(lambda: Said.by_now(self._folder).thoughts == len(TALKERS), READY_S)
        self._step("each of them has been asked something that needs thought")

    async def _answer_while_dead(self) -> None:
        """Have the talkers answer what they thought about, now: their tools wait for the broker."""
        before = Said.by_now(self._folder).texts.total()
        (self._folder / THOUGHT).touch()
        await self._until(lambda: Said.by_now(self._folder).texts.total() >= before + len(TALKERS), READY_S)
        self._said_while_dead = Said.by_now(self._folder).texts.total() - before

    async def _crash(self, rest: Rest) -> str:
        """Post to everybody until enough is in flight, kill -9 the broker, post more; a message that crossed the crash."""
        self._step(
            f"posting to the channel until at least {IN_FLIGHT} deliveries are in flight, then kill -9 of the broker"
        )
        posted: list[str] = []
        while self._in_flight() < IN_FLIGHT and len(posted) < MAX_POSTS:
            posted += await asyncio.gather(*(self._to_everybody(rest, len(posted) + n) for n in range(ROUND)))
        in_flight, received = self._in_flight(), self._received()
        assert self._broker is not None
        self._broker.send_signal(signal.SIGKILL)
        self._broker.wait()
        self._step(f"killed (pid {self._broker.pid}) with {in_flight} of {self._tally.sent} deliveries in flight")
        if in_flight < IN_FLIGHT:
            raise SystemExit(
                f"relaybroker: only {in_flight} deliveries were in flight; this machine types faster than it posts"
            )
        await asyncio.gather(*(self._to_one(rest, n) for n in range(self._while_down)), self._answer_while_dead())
        alive = all(_is_alive(agent) for agent in self._agents.values())
        self._step(
            f"agents are {'alive' if alive else 'NOT alive'}; {self._while_down} more were posted, "
            f"{self._said_while_dead} answers were given by MCP; restarting the broker"
        )
        await self._start_broker()
        crossed = next((message for message in posted if message not in received["chat"]), posted[-1])
        return f"del_{crossed}_{self._agents['chat'].agent_id}"

    def _in_flight(self) -> int:
        return self._tally.missing(self._received())

    async def _to_everybody(self, rest: Rest, number: int) -> str:
        message = await rest.channel("general", f"message {number} for everybody")
        for agent in EVERYBODY:
            self._tally.add(message, agent.name)
        return message

    async def _to_one(self, rest: Rest, number: int) -> None:
        name = EVERYBODY[number % len(EVERYBODY)].name
        self._tally.add(await rest.direct(name, f"message {number} while the broker is dead"), name)

    async def _settle(self, rest: Rest) -> None:
        await self._until(lambda: Said.by_now(self._folder).texts.total() == SAID, SETTLE_S)
        await self._until_published(rest)
        await self._until(lambda: self._tally.missing(self._received()) == 0, SETTLE_S)
        self._step("everything that was posted has arrived; waiting for the acknowledgements")
        await self._until_acked(rest)

    async def _until_published(self, rest: Rest) -> None:
        """Take what the talkers said into the tally as soon as the engine has it: each message is owed to the other one."""
        deadline = time.monotonic() + SETTLE_S
        while self._published.total() < SAID and time.monotonic() < deadline:
            rows = [row for root in Said.by_now(self._folder).began for row in await rest.thread(root)]
            self._published = Counter((author, text) for _, author, text in rows)
            for message, author, _ in rows:
                self._tally.add(message, next(agent.name for agent in TALKERS if agent.name != author))
            await asyncio.sleep(0.05)

    async def _until_acked(self, rest: Rest) -> None:
        deadline = time.monotonic() + SETTLE_S
        while await rest.unread(self._tally.messages()) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event exists
            await asyncio.sleep(0.2)

    async def _until(self, holds: Callable[[], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        shown = 0.0
        while not holds() and time.monotonic() < deadline:
            if time.monotonic() - shown > 1.0:
                shown = time.monotonic()
                received = self._received()
                counts = ", ".join(f"{name} {len(set(ids))}" for name, ids in received.items())
                self._step(f"received so far: {counts}; missing {self._tally.missing(received)}")
            await asyncio.sleep(0.05)

    def _received(self) -> dict[str, list[str]]:
        logs = self._state / "team" / "worker-logs"
        return {name: received_ids(agent.received(self._folder, logs)) for name, agent in self._agents.items()}

    async def _count(self, rest: Rest) -> dict[str, Any]:
        received = self._received()
        alive = all(_is_alive(agent) for agent in self._agents.values())
        twice = sum(count - 1 for ids in received.values() for count in Counter(ids).values())
        unread = await rest.unread(self._tally.messages())
        said = Said.by_now(self._folder).texts
        return {
            "said": said.total(),
            "said_while_dead": self._said_while_dead,
            "published_twice": (self._published - said).total(),
            "sent": self._tally.sent,
            "typed": sum(len(ids) for name, ids in received.items() if not self._agents[name].is_shown),
            "shown": sum(len(ids) for name, ids in received.items() if self._agents[name].is_shown),
            "acked": self._tally.sent - unread,
            "lost": self._tally.missing(received) + SAID - (self._published & said).total(),
            "typed_twice": twice,
            "ran": ran(self._folder),
            "agents_alive": alive,
        }

    async def _show(self, *commands: tuple[tuple[str, ...], str]) -> None:
        """Run these commands at once, and print each with what it printed."""
        outputs = await asyncio.gather(*(asyncio.to_thread(self._output, words) for words, _ in commands))
        for (words, about), output in zip(commands, outputs, strict=True):
            self._step(f"relaybroker {' '.join(words)}   ({about})")
            sys.stdout.write(output)
            sys.stdout.flush()

    def _output(self, words: tuple[str, ...]) -> str:
        finished = subprocess.run(
            own_program("relaybroker", *words, "--state-dir", str(self._state)),
            capture_output=True,
            text=True,
            env=self._environment(),
            cwd=self._folder,
            check=False,
        )
        return finished.stdout + finished.stderr


def _is_alive(agent: Agent) -> bool:
    try:
        return psutil.Process(agent.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
