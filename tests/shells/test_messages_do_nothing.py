"""Ten thousand messages to a shell do nothing in it: `make test-shells`. In `make test` there are fewer.

Real shells in real terminals, in every state that a prompt can be in. After each message: no byte was typed, it was reported as shown,
there is no new file and no new process, and the line that a person had begun is on the screen. At the end: nothing that the shell remembers
(variables, functions, aliases, history) has anything of a message, and the begun line still works. The seed is in every failure.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from random import Random

import pytest

from relaybroker.adapters.sessions.host.process import spawn
from relaybroker.adapters.sessions.host.protocol import Blocked, Inject, Injected, InjectFailed, Occupied, Ready, Start
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.session import Session
from tests.shells.bodies import MARK, TRACE, body
from tests.shells.kinds import FRESH, SHELLS
from tests.waiting import WAIT_S

MESSAGES = int(os.environ.get("SHELLS", "60"))
"""To each shell."""
SEED = int(os.environ.get("SHELLS_SEED", "1"))
_ANSWER = re.compile(rb"(\x1b\[[?>]?[0-9;]*[cRn])*")


class Terminal:
    """A shell in a terminal, a person at its keyboard, and the broker's host."""

    def __init__(self, kind, directory):
        self.kind = kind
        self.home = directory / "home"
        self.work = directory / "work"
        self.facts = []
        self.written = b""
        self._syncs = 0

    async def start(self):
        self.work.mkdir()
        (self.work / "cab").touch()
        (self.work / "cub").touch()
        self.home.mkdir()
        for name, text in self.kind.rc.items():
            (self.home / name).parent.mkdir(parents=True, exist_ok=True)
            (self.home / name).write_text(text)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "PS1": "$ ",
            "HISTFILE": str(self.home / ".history"),
            "NODE_REPL_HISTORY": str(self.home / ".node_history"),
        }
        argv = self.kind.command
        start = Start(
            session_id="s",
            name="s",
            argv=argv,
            env=env,
            cwd=str(self.work),
            profile=harnesses.profile_for(argv).name,
            rows=50,
            cols=120,
        )
        process = await spawn(argv, env=env, cwd=str(self.work), rows=50, cols=120, umask=0o022)
        self.session = Session(
            start, process, on_fact=lambda _id, fact: self.facts.append(fact), on_output=lambda *_: None
        )
        self._watch(self.session.writer)
        await self.until(lambda: any(isinstance(fact, Ready) for fact in self.facts), "ready")
        await self.sync()

    def _watch(self, writer):
        """Note every byte that goes to the program."""
        write = writer.write

        async def noted(data):
            self.written += data
            return await write(data)

        writer.write = noted

    async def until(self, condition, what):
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            pytest.fail(f"{self.kind.name}: not {what}; facts {self.facts[-4:]}; screen:\n{self.screen()}")

    def screen(self):
        self.session.terminal.settle()
        return self.session.terminal.plain()

    async def keys(self, data):
        """A person's keys, and what the program shows of them."""
        before = self.session.ring.end
        typed = asyncio.get_running_loop().create_future()
        self.session.keys(data, lambda error: typed.done() or typed.set_result(error))
        assert await typed == ""
        is_escape = data.endswith(b"\x1b")  # which a line editor tells from the beginning of a key by a time of its own
        quiet = asyncio.get_running_loop().time() + (1.5 if is_escape else 0.2)
        while self.session.ring.end == before and asyncio.get_running_loop().time() < quiet:
            await asyncio.sleep(0.005)
        await self.quiet()

    async def quiet(self):
        """Let the program come to rest."""
        loop = asyncio.get_running_loop()
        while loop.time() < self.session.last_output_at + 0.05:
            await asyncio.sleep(0.01)

    async def sync(self):
        """The prompt is fresh and the shell carries out commands."""
        self._syncs += 1
        await self.keys(self.kind.echo.format(n=self._syncs).encode() + b"\r")
        await self.until(lambda: f"sync{self._syncs}" in self.screen(), f"in sync {self._syncs}")
        await self.quiet()

    def files(self):
        return sorted(os.listdir(self.work))

    def children(self):
        """Processes below the shell."""
        pid = self.session.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        return listed.read_text().split() if listed.exists() else []

    async def remembered(self):
        """All that the shell has of variables, functions, aliases, jobs and history."""
        if not self.kind.dump:
            return ""
        file = self.home / "dump"
        await self.keys(self.kind.dump.format(file=file).encode() + b"\r")
        await self.sync()
        history = file.read_text(errors="replace")
        file.unlink()
        return history

    async def stop(self):
        self.session.keys(self.kind.leave, lambda _error: None)
        for _ in range(100):
            if self.session.exited.is_set():
                return
            await asyncio.sleep(0.01)
        self.session.stop(0.5)
        await self.session.exited.wait()


@pytest.fixture(params=SHELLS, ids=lambda kind: kind.name)
async def terminal(request, tmp_path):
    kind = request.param
    if shutil.which(kind.command[0]) is None:
        pytest.skip(f"no {kind.command[0]} here: messages to it are not tried")
    made = Terminal(kind, tmp_path)
    await made.start()
    yield made
    await made.stop()
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]
    assert kept == [], "a message is in a file that the shell wrote"


@pytest.mark.timeout(36_000 if MESSAGES > 1000 else 600)
async def test_messages_in_every_state_of_the_prompt_do_nothing(terminal):
    """SAFE-KEYS, TYPED-ONCE, ADR-0041: nothing executed, created or remembered; each is shown."""
    random = Random(f"{SEED} {terminal.kind.name}")
    states = (*terminal.kind.states, None)
    rounds = max(1, MESSAGES // (len(states) * 100))
    count = max(1, MESSAGES // (len(states) * rounds))
    number = 0
    for turn in range(rounds):
        for state in states:
            if state is None:
                await half_a_line(terminal, random, number, count)
            else:
                for keys in state.keys:
                    await terminal.keys(keys)
                await show(terminal, random, number, count, f"{state.name}, round {turn}")
                for keys in state.end:
                    await terminal.keys(keys)
                await terminal.sync()
            number += count
        assert MARK not in await terminal.remembered(), f"{terminal.kind.name} remembers a message (seed {SEED})"
    assert FRESH in terminal.kind.states


async def show(terminal, random, first, count, where):
    """Messages one by one, and what is true after each."""
    files, children = terminal.files(), terminal.children()
    terminal.session.terminal.settle()
    begun = terminal.session.terminal.view().before_cursor
    for number in range(first, first + count):
        text = body(random, number)
        said = f"{terminal.kind.name}, {where}, seed {SEED}, message {number}: {text!r}"
        terminal.facts.clear()
        terminal.written = b""
        terminal.session.inject(Inject(session_id="s", delivery_id=f"d{number}", attempt=1, text=text))
        await terminal.until(lambda: any(isinstance(fact, Injected | InjectFailed) for fact in terminal.facts), said)
        assert [type(fact) for fact in terminal.facts if isinstance(fact, InjectFailed | Blocked | Occupied)] == [], (
            said
        )
        (injected,) = [fact for fact in terminal.facts if isinstance(fact, Injected)]
        assert (injected.evidence, injected.bytes_written) == ("shown", 0), said
        assert _ANSWER.fullmatch(terminal.written), said
        assert terminal.files() == files, said
        assert terminal.children() == children, said
        terminal.session.terminal.settle()
        assert terminal.session.terminal.view().before_cursor == begun, said
    assert not any(name.startswith(TRACE) for name in terminal.files())


async def half_a_line(terminal, random, number, count):
    """A line that a person has begun stays on the screen and does what it does."""
    first, second = terminal.kind.half
    await terminal.keys(first.encode())
    await show(terminal, random, number, count, "half a line")
    await terminal.keys(second.encode() + b"\r")
    await terminal.sync()
    half = terminal.work / "half"
    await terminal.until(lambda: half.exists() and half.read_text().strip() == "half", "half a line works")
    half.unlink()
