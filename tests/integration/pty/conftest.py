"""A small broker for the tests: a real PTY host process, a real client, and waiting for facts with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import time
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.client import HostClient
from relaybroker.adapters.sessions.host.protocol import (
    PROTOCOL_VERSION,
    Confirm,
    Exited,
    Freed,
    Hello,
    Inject,
    Injected,
    InjectFailed,
    Input,
    Occupied,
    Output,
    Ready,
    Report,
    Resize,
    Shutdown,
    Snapshot,
    Start,
    Started,
    StartFailed,
    Stop,
    Subscribe,
)
from relaybroker.adapters.sessions.terminal.harnesses import profile_for
from tests.waiting import WAIT_S

AGENTS = Path(__file__).parent / "agents"
DEADLINE_S = WAIT_S


class Broker:
    """What the tests need of a broker; `reports` holds every report that came, over all connections."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path = str(directory / "host.sock")
        self.log_path = str(directory / "host.log")
        self.reports: list[Report] = []
        self.outputs: list[Output] = []
        self.lost: list[str] = []
        self.host_pids: set[int] = set()
        self._ids = itertools.count(1)
        self._news = asyncio.Event()
        self.client = self.new_client()

    python = sys.executable

    @staticmethod
    def agent(name):
        """Path of a scripted agent."""
        return AGENTS / f"{name}.py"

    def new_client(self) -> HostClient:
        return HostClient(self.socket_path, log_path=self.log_path, on_response=self._take, on_lost=self._lost)

    def _take(self, response):
        if isinstance(response, Report):
            self.reports.append(response)
        elif isinstance(response, Output):
            self.outputs.append(response)
        self._news.set()

    def _lost(self, why):
        self.lost.append(why)
        self._news.set()

    async def attach(self, **hello):
        welcome = await self.client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid(), **hello))
        self.host_pids.add(welcome.host_pid)
        return welcome

    async def until(self, condition, what="", deadline_s=DEADLINE_S):
        """Wait until `condition()` is true; returns its value."""
        end = time.monotonic() + deadline_s
        while not (value := condition()):
            self._news.clear()
            left = end - time.monotonic()
            assert left > 0, f"not within {deadline_s} s: {what}; facts: {[r.fact for r in self.reports][-8:]}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left, 0.02))
        return value

    def facts(self, session_id, kind):
        return [r.fact for r in self.reports if r.session_id == session_id and isinstance(r.fact, kind)]

    async def fact(self, session_id, kind, count=1, deadline_s=DEADLINE_S, **fields):
        """The `count`-th fact of a kind whose fields have the given values."""

        def matching():
            return [f for f in self.facts(session_id, kind) if all(getattr(f, k) == v for k, v in fields.items())]

        await self.until(lambda: len(matching()) >= count, f"{kind.__name__} {fields} of {session_id}", deadline_s)
        return matching()[count - 1]

    async def start(self, *argv, session_id="a1", env=None, cwd=None, wait=Ready, profile=None, **fields):
        """Start a program and wait for the fact `wait` (None: do not wait)."""
        argv = [str(word) for word in argv]
        whole = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TERM": "xterm-256color",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
        }
        whole["PS1"] = "$ "
        self.client.send(
            Start(
                session_id=session_id,
                name=session_id,
                argv=tuple(argv),
                env=whole | (env or {}),
                cwd=str(cwd or self.directory),
                profile=profile or profile_for(argv).name,
                **fields,
            )
        )
        if wait is None:
            return None
        await self.until(
            lambda: self.facts(session_id, wait) or self.facts(session_id, StartFailed), f"{wait.__name__} {argv}"
        )
        return (self.facts(session_id, wait) or self.facts(session_id, StartFailed))[0]

    async def start_agent(self, script, *arguments, session_id="a1", **fields):
        """Start one of the scripted agents with a log of its own; returns the log."""
        log = self.directory / f"{session_id}.jsonl"
        log.touch()
        await self.start(sys.executable, AGENTS / f"{script}.py", log, *arguments, session_id=session_id, **fields)
        return AgentLog(log, self)

    def inject(self, text, delivery_id=None, session_id="a1", **fields):
        delivery_id = delivery_id or f"auto{next(self._ids)}"
        fields = {"attempt": 1} | fields
        self.client.send(Inject(session_id=session_id, delivery_id=delivery_id, text=text, **fields))
        return delivery_id

    async def type_text(self, text, session_id="a1", **fields):
        delivery_id = self.inject(text, session_id=session_id, **fields)
        return await self.fact(session_id, Injected, delivery_id=delivery_id)

    async def type_when_free(self, text, session_id="a1"):
        """Ask again for what is handed back because the terminal is occupied."""
        delivery_id = self.inject(text, session_id=session_id)
        for attempt in itertools.count(1):
            await self.until(
                lambda attempt=attempt: [
                    fact
                    for fact in self.facts(session_id, Injected | InjectFailed)
                    if (fact.delivery_id, fact.attempt) == (delivery_id, attempt)
                ],
                f"the end of attempt {attempt} of {delivery_id}",
            )
            if [fact for fact in self.facts(session_id, Injected) if fact.delivery_id == delivery_id]:
                return
            await self.until(
                lambda: len(self.facts(session_id, Freed)) == len(self.facts(session_id, Occupied)), "it is free"
            )
            self.confirm_all()
            self.inject(text, delivery_id, session_id=session_id, attempt=attempt + 1)

    async def keys(self, data, session_id="a1", timeout_s=WAIT_S):
        return await self.client.ask(
            Input(request_id=f"r{next(self._ids)}", session_id=session_id, data=data), timeout_s
        )

    async def screen(self, session_id="a1", form="plain"):
        return await self.client.ask(Snapshot(request_id=f"r{next(self._ids)}", session_id=session_id, format=form))

    async def resize(self, rows, cols, session_id="a1"):
        request = Resize(request_id=f"r{next(self._ids)}", session_id=session_id, rows=rows, cols=cols)
        return await self.client.ask(request)

    def break_connection(self):
        """What a killed broker's socket does: gone without a word."""
        self.client._link._transport.abort()

    async def stop(self, session_id="a1", grace_s=2.0):
        self.client.send(Stop(session_id=session_id, grace_s=grace_s, reason="test"))
        return await self.fact(session_id, Exited)

    def confirm_all(self):
        self.client.send(Confirm(number=self.reports[-1].number))

    def subscribe(self, on=True):
        self.client.send(Subscribe(on=on))

    async def pid(self, session_id="a1"):
        return (await self.fact(session_id, Started)).pid

    async def shut_down(self):
        with contextlib.suppress(Exception):
            self.client.send(Shutdown(grace_s=0.2))
            self.client.send(Confirm(number=2**40))
        await self.client.close()
        end = time.monotonic() + 30
        while any(is_alive(pid) for pid in self.host_pids) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        for pid in self.host_pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)


class AgentLog:
    """What a scripted agent says it received."""

    def __init__(self, path: Path, broker: Broker) -> None:
        self.path = path
        self._broker = broker

    def lines(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    async def wait(self, count, deadline_s=DEADLINE_S):
        await self._broker.until(lambda: len(self.lines()) >= count, f"{count} lines in {self.path.name}", deadline_s)
        return self.lines()


def is_alive(pid: int) -> bool:
    """Whether a process exists that is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


@pytest.fixture(name="is_alive")
def _is_alive():
    return is_alive


@pytest.fixture
async def broker(tmp_path):
    """A broker attached to a fresh host; both are gone afterwards."""
    tmp_path.chmod(0o700)
    made = Broker(tmp_path)
    await made.attach()
    yield made
    await made.shut_down()
