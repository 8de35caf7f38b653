"""Routes that answer from the log: what became of something and why, and events by what they are about.

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated

import msgspec
from aiohttp import web
from pydantic import ConfigDict, Field

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.answers import Answer, JsonObject, Link
from relaybroker.adapters.http.api.bodies import Query
from relaybroker.adapters.http.api.routing import route
from relaybroker.domain.machines import MACHINES
from relaybroker.domain.story import Story

if TYPE_CHECKING:
    from relaybroker.adapters.http.api.broker_access import BrokerAccess
    from relaybroker.adapters.http.api.gateway import AuditLog
    from relaybroker.domain.mailbox import Mailbox
    from relaybroker.domain.state import State
    from relaybroker.domain.state_machine import Table

MAX_EVENTS = 1000
"""Events in one answer."""
SHOWN = 100
"""Numbers of a sequence in one list; the others of its kind are not shown."""
MAX_MESSAGES = 100
"""Messages in one answer, each with its text and its marks."""

_Word = Annotated[str, Field(max_length=1024)]


class LogQuery(Query):
    """The query of GET /api/log: every filter that is given must fit; times are seconds since 1970, `after` is a position."""

    model_config = ConfigDict(extra="forbid")

    machine: _Word = ""
    stream: _Word = ""
    topic: _Word = ""
    reason: _Word = ""
    agent: _Word = ""
    text: _Word = ""
    since: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    until: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = 100
    newest: bool = False


class Stories(Answer, frozen=True, kw_only=True):
    """A story for each thing that the id means."""

    stories: list[Story]


class LogEvent(Answer, frozen=True, kw_only=True):
    """One event of the log (docs/events.md). `kind` is `fact` or `decision`, `at` seconds since 1970."""

    position: Annotated[int, msgspec.Meta(ge=1)]
    stream: str
    topic: str
    kind: str
    at: float
    causation: str
    correlation: str
    body: JsonObject


class LogEvents(Answer, frozen=True, kw_only=True):
    """Events that fit; `last` is where the next question goes on (`after`)."""

    events: list[LogEvent]
    last: Annotated[int, msgspec.Meta(ge=0)]


class DeliveriesQuery(Query):
    """The query of GET /api/deliveries: the newest first; `before` = those that were offered before this position."""

    model_config = ConfigDict(extra="forbid")

    agent: _Word = ""
    state: _Word = ""
    before: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_EVENTS)] = 100


class DeliveryRow(Answer, frozen=True, kw_only=True):
    """One attempt of a delivery, as the log has it. Times are seconds since 1970; `position` is that of its offer."""

    position: Annotated[int, msgspec.Meta(ge=1)]
    stream: str
    delivery_id: str
    msg_id: str
    agent: str
    seq: int | None
    source: str
    sender: str
    state: str
    reason: str
    verification: str
    in_custody: bool
    offered_at: float
    changed_at: float


class Deliveries(Answer, frozen=True, kw_only=True):
    """Deliveries, the newest first; `before` asks for the next ones, 0 = there may be no more."""

    deliveries: list[DeliveryRow]
    before: Annotated[int, msgspec.Meta(ge=0)]


class NodeDeliveryQuery(Query):
    """The query of GET /api/node-delivery: of one agent; so many of the newest deliveries."""

    model_config = ConfigDict(extra="forbid")

    agent: _Word = ""
    limit: Annotated[int, Field(ge=0, le=MAX_EVENTS)] = 100


class Cursor(Answer, frozen=True, kw_only=True):
    """How far an agent's sequence is.

    `base`: what lies at or below it was settled before (null = not known yet). `received`: up to there every number came. `settled`: up to
    there every one is, which is what may be acknowledged; `acknowledged`: what was (null = nothing). `open`: came and is not settled;
    `holes`: did not come although later ones did; `returned`: given back to the engine. `waits_for`: why the first open one is not typed.
    """

    agent: str
    agent_id: str
    live: bool
    base: int | None
    received: int
    settled: int
    acknowledged: int | None
    open: list[int]
    holes: list[int]
    returned: list[int]
    waits_for: str | None


class NodeDelivery(Answer, frozen=True, kw_only=True):
    """What the engine delivers to this node: the link, the agents' cursors, and the newest deliveries with what became of each."""

    link: Link
    cursors: list[Cursor]
    deliveries: list[DeliveryRow]


class MessagesQuery(Query):
    """The query of GET /api/messages: every filter that is given must fit; times are seconds since 1970."""

    model_config = ConfigDict(extra="forbid")

    agent: _Word = ""
    channel: _Word = ""
    thread: _Word = ""
    text: _Word = ""
    state: _Word = ""
    since: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    until: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_MESSAGES)] = 50


class MarkView(Answer, frozen=True, kw_only=True):
    """What became of a message for one agent here: typed, acknowledged, read, waits or not delivered, and why."""

    agent: str
    mark: str
    reason: str
    why: str


class MessageView(Answer, frozen=True, kw_only=True):
    """One message that went through this broker. `at` is seconds since 1970; `message_id` is "" until the engine has it."""

    message_id: str
    event_id: str
    at: float
    sender: str
    to: str
    thread_id: str
    text: str
    marks: list[MarkView]


class Messages(Answer, frozen=True, kw_only=True):
    """The newest messages that fit, oldest first, each with a mark for every recipient here."""

    messages: list[MessageView]


class StateCount(Answer, frozen=True, kw_only=True):
    """A state of a machine, and how many of its kind are in it now."""

    state: str
    terminal: bool
    count: Annotated[int, msgspec.Meta(ge=0)]


class Edge(Answer, frozen=True, kw_only=True):
    """A transition of a machine."""

    source: str
    trigger: str
    target: str


class MachineView(Answer, frozen=True, kw_only=True):
    """A state machine, with how many of its kind are in which state. What has ended is counted only while it is still known."""

    name: str
    states: list[StateCount]
    edges: list[Edge]


class Machines(Answer, frozen=True, kw_only=True):
    """Every state machine."""

    machines: list[MachineView]


class AuditRoutes:
    """Handlers of the audit routes."""

    def __init__(self, log: AuditLog, access: BrokerAccess) -> None:
        self._log, self._access = log, access

    @route("GET /api/machines", "Get the state machines, with the number of instances in each state.")
    async def machines(self, _request: web.Request) -> Machines:
        """GET /api/machines."""
        state = self._access.state
        return Machines(machines=[machine_view(table, _states_of(name, state)) for name, table in MACHINES.items()])

    @route(
        "GET /api/why/{id}",
        "Explain what happened to a message, delivery, AGENT@SEQ, invocation, agent or node.",
        errors=(404, 409),
    )
    async def why(self, request: web.Request) -> Stories:
        """GET /api/why/{id}."""
        return Stories(stories=await self._log.why(request.match_info["id"]))

    @route("GET /api/deliveries", "List the newest deliveries, optionally of one agent or in one state.")
    async def deliveries(self, _request: web.Request, query: DeliveriesQuery) -> Deliveries:
        """GET /api/deliveries."""
        records = await self._log.deliveries(**query.model_dump())
        rows = [msgspec.convert(row, DeliveryRow) for row in records]
        return Deliveries(deliveries=rows, before=rows[-1].position if len(rows) == query.limit else 0)

    @route("GET /api/node-delivery", "Show what the engine delivers to this node, and how far each agent is.")
    async def node_delivery(self, _request: web.Request, query: NodeDeliveryQuery) -> NodeDelivery:
        """GET /api/node-delivery: the cursors are looked at as they are, also while the core waits for its log."""
        state = self._access.state
        records = await self._log.deliveries(agent=query.agent, limit=query.limit) if query.limit else []
        return NodeDelivery(
            link=views.link(state, self._access.now()),
            cursors=[cursor(state, box) for box in state.mailboxes.values() if query.agent in ("", box.name)],
            deliveries=[msgspec.convert(row, DeliveryRow) for row in records],
        )

    @route("GET /api/messages", "List the newest messages, with what became of each for its recipients here.")
    async def messages(self, _request: web.Request, query: MessagesQuery) -> Messages:
        """GET /api/messages."""
        rows = await self._log.messages(**query.model_dump())
        return Messages(messages=[msgspec.convert(row, MessageView) for row in rows])

    @route("GET /api/log", "Search the events of the log.")
    async def search(self, _request: web.Request, query: LogQuery) -> LogEvents:
        """GET /api/log."""
        matches = await self._log.search(**query.model_dump())
        events = [msgspec.convert(row, LogEvent) for row in matches]
        return LogEvents(events=events, last=events[-1].position if events else query.after)


def cursor(state: State, box: Mailbox) -> Cursor:
    """How far the sequence of this mailbox is."""
    first = state.deliveries.get(next(iter(box.open.values()), ""))
    ahead = range(box.recv + 1, max(box.buffer, default=box.recv))
    return Cursor(
        agent=box.name,
        agent_id=box.agent_id,
        live=state.acting(box.agent_id) is not None,
        base=box.base,
        received=box.recv,
        settled=box.floor,
        acknowledged=None if box.sent_ack < 0 else box.sent_ack,
        open=list(box.open)[:SHOWN],
        holes=list(itertools.islice((number for number in ahead if number not in box.buffer), SHOWN)),
        returned=list(box.returned)[:SHOWN],
        waits_for=None if first is None or first.reason is None else str(first.reason),
    )


def machine_view(table: Table, states: list[str]) -> MachineView:
    """A machine with how many are in each of its states."""
    return MachineView(
        name=table.name,
        states=[
            StateCount(state=state, terminal=state in table.terminal, count=states.count(state))
            for state in table.states
        ],
        edges=[
            Edge(source=source, trigger=trigger, target=target) for (source, trigger), target in table.edges.items()
        ],
    )


def _states_of(machine: str, state: State) -> list[str]:
    """In which states those of this machine are."""
    states = {
        "link": [state.link.state],
        "agent": [one.state for one in state.registrations.values()],
        "worker": [one.state for one in state.workers.values()],
        "delivery": [one.state for one in state.deliveries.values()],
        "action": [one.state for one in state.actions.values()],
        "message": [one.state for one in state.messages.values()],
        "sidecar": [state.sidecar.state] if state.sidecar is not None else [],
    }
    return [str(one) for one in states[machine]]
