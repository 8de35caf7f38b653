"""A real local API on a loopback port, over a real core whose engine and PTY host are small and answer at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relaybroker.adapters.eventstore import recorders
from relaybroker.adapters.eventstore.mapper import GENESIS, Mapper
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.adapters.http.api.server import LocalApi
from relaybroker.adapters.http.engine_calls import HttpCall, http_call
from relaybroker.adapters.sessions.host import protocol
from relaybroker.adapters.sessions.host.client import HostUnavailable
from relaybroker.api.openapi import document
from relaybroker.audit.questions import Questions
from relaybroker.domain import effects, inputs
from relaybroker.domain.broker import Broker
from relaybroker.domain.events import REGISTRY, Harness, Recorded
from relaybroker.domain.sessions import SessionOptions
from relaybroker.mcp.toolbox import AgentToolbox
from relaybroker.metrics.collected import Depths, Metrics
from relaybroker.node.disk import Room
from relaybroker.web import assets
from tests.waiting import WAIT_S

KEY = "br_0123456789abcdef0123456789abcdef"
WORKSPACE_KEY = "rk_live_workspace_secret"
SETTINGS = inputs.Settings(
    node_id="node_0123456789abcdef0123456789abcdef",
    node_name="vm-01234567",
    workspace_id="ws_1",
    base_url="http://127.0.0.1:1",
    version="relaybroker/test",
    broker_name="desk",
    checks_places=True,
    local_first=True,
)


class SmallBroker:
    """The broker behind the API (a `Gateway`): the real core, an engine that says yes, a PTY host without terminals."""

    def __init__(self, api: LocalApi, journal: Path) -> None:
        self.api = api
        recorders.create_sqlite(journal)
        self._recorder = recorders.open_sqlite(journal)
        self._mapper, self._chain = Mapper(REGISTRY), GENESIS
        self.audit = Questions(LogReader(self._recorder, self._mapper, journal), journal.parent)
        session = SessionOptions(resume=("--resume", "{id}"), at=1)
        self.core = Broker(lambda _argv, _name: Harness(profile="default", model_flag="--model", session=session))
        self.workspace_key = WORKSPACE_KEY
        self.sends_refused = False
        self.engine_registers = True
        self.full = False
        self.settles = 0
        self.locked_s = 0.0
        self.room = Room("ok", 2**40)
        self.muted = False
        """What is offered waits, as behind a log that cannot be written."""
        self.is_touched = False
        """A person touches every text before it is submitted."""
        self.host_error = ""
        self.host_gone = False
        self.watching: list[bool] = []
        self.typed_raw: list[bytes] = []
        self.sizes = [(24, 80)]
        """That the terminals had."""
        self.offered: list[inputs.Input] = []
        self.tokens: dict[str, str] = {}
        """Token -> agent id, as the vault has them."""
        self.called: list[HttpCall] = []
        self.looked: list[HttpCall] = []
        self.engine_away = False
        self.engine_silent = False
        self.shows: dict[str, Any] = {
            "/v1/agents/presence": [
                {"agent_id": "101", "agent_name": "w1", "status": "online"},
                {"agent_id": "700", "agent_name": "planner", "status": "offline"},
            ],
            "/v1/channels": [{"id": "c1", "name": "general"}, {"id": "c2", "name": "lab"}],
            "/v1/inbox": {"unread_channels": [], "mentions": [], "unread_dms": [], "recent_reactions": []},
            "/v1/dm/conversations": [{"id": "dm_1", "type": "1:1"}],
            "/v1/agent": {"id": "101", "name": "w1", "channels": [{"id": "c1", "name": "general"}]},
            "/v1/channels/general/messages": [{"id": "77", "agent_name": "planner", "text": "Ship it"}],
            "/v1/dm/dm_1/messages": [{"id": "78", "agent_name": "w1", "text": "shipped"}],
            "/v1/messages/77/replies": {"parent": {"id": "77"}, "replies": []},
            "/v1/messages/77/readers": [],
            "/v1/messages/77": {"id": "77", "agent_name": "planner", "text": "Ship it"},
            "/v1/actions": [],
        }
        self.variables: dict[str, dict[str, str]] = {}
        self._reports = 0
        self._agents = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> Any:
        return self.core.state

    async def settled(self) -> None:
        self.settles += 1

    def log_locked_s(self) -> float:
        return self.locked_s

    def disk_room(self) -> Room:
        return self.room

    def exposition(self, accept: str) -> tuple[bytes, str]:
        depths = Depths(queues={}, log_locked_s=self.locked_s, files={})
        return Metrics(lambda: self.state, lambda: depths, version="test", clock=time.time).exposition(accept)

    def offer(self, item: inputs.Input) -> bool:
        if self.full:
            return False
        self.offered.append(item)
        if not self.muted:
            self.tell(item)
        return True

    def agent_of(self, token: str) -> str:
        return self.tokens.get(token, "")

    async def ask_engine(self, call: HttpCall) -> inputs.EngineAnswered | inputs.EngineUnanswered:
        self.looked.append(call)
        if self.engine_away:
            return inputs.EngineUnanswered(call_id=call.call_id, detail="connection refused")
        path = call.path.partition("?")[0]
        if path not in self.shows:
            return inputs.EngineAnswered(call_id=call.call_id, status=404, code="not_found", message="nothing there")
        return inputs.EngineAnswered(call_id=call.call_id, status=200, data=self.shows[path])

    async def ask_host(self, request: Any) -> protocol.Answer:
        if self.host_gone:
            raise HostUnavailable("gone")
        if self.host_error:
            return protocol.Answer(request_id=request.request_id, error=self.host_error)
        data: dict[str, Any]
        match request:
            case protocol.Input():
                self.typed_raw.append(request.data)
                data = {"bytes_written": len(request.data)}
            case protocol.Resize():
                self.sizes.append((request.rows, request.cols))
                data = {"rows": request.rows, "cols": request.cols}
            case _:
                rows, cols = self.sizes[-1]
                data = {"format": request.format, "rows": rows, "cols": cols, "cursor": (1, 3), "screen": "> \n"}
        return protocol.Answer(request_id=request.request_id, data=data)

    def keep_variables(self, values: Any) -> str:
        self.variables[f"env_{len(self.variables)}"] = dict(values)
        return f"env_{len(self.variables) - 1}"

    def forget_variables(self, reference: str) -> None:
        del self.variables[reference]

    def watch_output(self, *, on: bool) -> None:
        self.watching.append(on)

    # --- driving the core -----------------------------------------------------------------------------------------------

    def tell(self, item: inputs.Input) -> None:
        asyncio.get_running_loop().call_soon(self._take, item)

    def _take(self, item: inputs.Input | None) -> None:
        now = time.time()
        decision = self.core.on_time(now) if item is None else self.core.handle(item, now)
        self._write(decision.events)
        for effect in decision.effects:
            self._carry_out(effect)
        if self._timer is not None:
            self._timer.cancel()
        if (due := self.core.next_deadline()) is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.005, due - now), self._take, None)

    def _write(self, batch: list[Recorded]) -> None:
        rows = []
        for recorded in batch:
            row, self._chain = self._mapper.to_stored(recorded, self._chain)
            rows.append(row)
        self._recorder.insert_events(rows)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._recorder.close()

    def _report(self, kind: Any, session_id: str, **fields: Any) -> None:
        self._reports += 1
        self.tell(kind(host_id="host_1", report=self._reports, session_id=session_id, **fields))

    def _frame(self, dial: int, frame: dict[str, Any]) -> None:
        self.tell(inputs.FrameArrived(dial=dial, frame={"v": 1} | frame))

    def _carry_out(self, effect: Any) -> None:
        match effect:
            case effects.AttachHost():
                self.tell(inputs.HostAttached(host_id="host_1", host_pid=5, sessions=()))
            case effects.DialEngine(dial=dial):
                self.tell(inputs.LinkOpened(dial=dial))
            case effects.SendFrame(dial=dial, frame=frame) if "id" in frame:
                data: dict[str, Any] = {}
                if frame["type"] == "agent.register":
                    if not self.engine_registers:
                        return
                    self._agents += 1
                    data = {"agent_id": str(100 + self._agents), "token": "sha256:0", "name": frame["name"]}
                elif frame["type"] == "node.register":
                    data = {"id": SETTINGS.node_id}
                self._frame(dial, {"type": "reply", "id": frame["id"], "ok": True, "data": data})
            case effects.StartProgram(session_id=session_id):
                self._report(inputs.ProgramStarted, session_id, pid=4711)
                self._report(inputs.ProgramReady, session_id, evidence="prompt")
            case effects.StopProgram(session_id=session_id):
                self._report(
                    inputs.ProgramExited,
                    session_id,
                    code=None,
                    signal=15,
                    last_output="",
                    uptime_s=1.0,
                    requested=True,
                )
            case effects.TypeText() if self.is_touched:
                self._report(
                    inputs.TextNotTyped,
                    effect.session_id,
                    delivery_id=effect.delivery_id,
                    attempt=effect.attempt,
                    reason="composer_unclear",
                    typed="partly",
                )
            case effects.TypeText():
                self._report(
                    inputs.TextTyped,
                    effect.session_id,
                    delivery_id=effect.delivery_id,
                    attempt=effect.attempt,
                    bytes_written=len(effect.text) + 1,
                    evidence="echo",
                    wait_ms=1.0,
                )
                self._report(
                    inputs.TextVerified, effect.session_id, delivery_id=effect.delivery_id, verification="echo"
                )
            case effects.EngineCall() if self.engine_silent:
                self.called.append(http_call(effect))
            case effects.EngineCall(call_id=call_id):
                self.called.append(http_call(effect))
                self.tell(self._engine(call_id, self.called[-1]))
            case effects.Reply():
                self.api.reply(effect)
            case effects.Announce():
                self.api.announce(effect)
            case _:
                pass

    def _engine(self, call_id: str, call: HttpCall) -> inputs.EngineAnswered:
        if (call.body or {}).get("to") in ("ghost", "plannr"):
            return inputs.EngineAnswered(call_id=call_id, status=404, code="agent_not_found", message="no such agent")
        if "/999/" in call.path:
            return inputs.EngineAnswered(
                call_id=call_id, status=404, code="message_not_found", message="no such message"
            )
        if call.path.startswith(("/v1/channels/nowhere/", "/v1/channels/genral/")):
            return inputs.EngineAnswered(
                call_id=call_id, status=404, code="channel_not_found", message="no such channel"
            )
        made = "dm_group_9" if call.path == "/v1/dm/group" else "msg_9"
        return inputs.EngineAnswered(call_id=call_id, status=201, data={"id": made})


class Client:
    """Asks one local API."""

    def __init__(self, http: aiohttp.ClientSession, url: str, broker: SmallBroker, api: LocalApi) -> None:
        self.http, self.url, self.broker, self.api = http, url, broker, api
        self.shutdowns: list[str] = []
        self.headers = {"X-API-Key": KEY}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON answer of a request with the key."""
        given = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, self.url + path, json=body, headers=given) as response:
            if response.content_type == "text/plain" and response.status == 200:
                return response.status, await response.text()
            return response.status, await response.json()

    async def refused(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The envelope of a request that must fail."""
        status, answer = await self.ask(method, path, body, **headers)
        assert status >= 400, answer
        assert_envelope(status, answer)
        return answer

    async def spawn(self, name: str, **fields: Any) -> Any:
        """Spawn `cat` under this name."""
        status, answer = await self.ask("POST", "/api/spawn", {"name": name, "cli": "cat"} | fields)
        assert status == 200, answer
        return answer

    async def agent(self, name: str = "w1") -> Agent:
        """A spawned agent with a token of its own."""
        await self.spawn(name)
        agent_id = self.broker.state.registration_of(name).agent_id
        token = f"at_live_{agent_id}"
        self.broker.tokens[token] = agent_id
        return Agent(self, name, agent_id, token)

    def socket(self, query: str = "", **options: Any) -> Any:
        """An open `/ws`, as an async context manager."""
        return self.http.ws_connect(f"{self.url}/ws{query}", headers=self.headers, **options)

    def connect(self, path: str, key: str = KEY) -> Any:
        """An open WebSocket of another route, as an async context manager."""
        return self.http.ws_connect(self.url + path, headers={"X-API-Key": key})

    async def until(self, condition: Callable[[], bool], what: str = "the condition") -> None:
        """Wait until something holds, at most 10 s."""
        limit = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < limit, f"{what} did not come true"
            await asyncio.sleep(0.005)


class Agent:
    """Asks as an agent, with its own token."""

    def __init__(self, client: Client, name: str, agent_id: str, token: str) -> None:
        self.client, self.name, self.agent_id, self.token = client, name, agent_id, token

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        given = {"Authorization": f"Bearer {self.token}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self.client.http.request(method, self.client.url + path, json=body, headers=given) as response:
            raw = await response.read()
            return response.status, json.loads(raw) if raw else None

    async def tool(self, tool: str, key: str = "", **arguments: Any) -> tuple[int, Any]:
        """Use a tool over plain HTTP."""
        headers = {"Idempotency_Key": key} if key else {}
        return await self.ask("POST", f"/api/agent/tools/{tool}", arguments, **headers)

    async def mcp(self, method: str, params: Any = None, request_id: Any = 1, **headers: str) -> tuple[int, Any]:
        """One MCP request."""
        message = {"jsonrpc": "2.0", "id": request_id, "method": method} | (
            {} if params is None else {"params": params}
        )
        return await self.ask("POST", "/mcp", message, **headers)


def assert_envelope(status: int, answer: Any) -> None:
    assert answer["success"] is False
    assert answer["statusCode"] == status
    assert isinstance(answer["code"], str)
    assert isinstance(answer["message"], str)
    assert isinstance(answer["retryable"], bool)
    assert answer["error"] == answer["message"] or status == 401


@pytest.fixture
def key() -> str:
    return KEY


@pytest.fixture
def workspace_key() -> str:
    return WORKSPACE_KEY


@pytest.fixture
def envelope() -> Callable[[int, Any], None]:
    return assert_envelope


@pytest.fixture
async def starting(tmp_path: Path) -> AsyncIterator[Client]:
    """A local API that listens and is not open yet."""
    shutdowns: list[str] = []
    api = LocalApi(
        api_key=KEY,
        version="1.2.3",
        persist=False,
        base_url=None,
        document=document,
        make_tools=AgentToolbox,
        page=assets(),
        allowed_hosts=("broker.example",),
        allowed_origins=("https://desk.example",),
        request_shutdown=shutdowns.append,
    )
    broker = SmallBroker(api, tmp_path / "journal-desk.sqlite")
    port = await api.bind("127.0.0.1", 0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        client = Client(http, f"http://127.0.0.1:{port}", broker, api)
        client.shutdowns = shutdowns
        yield client
    broker.stop()
    await api.close()


@pytest.fixture
async def client(starting: Client) -> Client:
    """A local API over a broker that is online."""
    broker = starting.broker
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
    await starting.until(lambda: broker.state.link.state == "online" and broker.state.link.synced_at > 0, "online")
    starting.api.open(broker)
    return starting
