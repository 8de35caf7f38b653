"""Prepared queries in the log's database: indexes of identifiers, and read-only views.

Everything is SQL over the one table of events. SQLite updates an index in the transaction of the row and checks it against
the table (`integrity_check`); a view is computed when it is queried. Events written in an earlier form have a copy in
today's form next to them (`earlier_events`), made when this version first opens the log; every view reads the copy, and
`log verify` compares it with the original. Opening the log for writing creates whatever is missing or was made by another
version. Archived events are not in the database or in these views; the commands read them as well.

`v_events` has every event. `v_deliveries`, `v_agents`, `v_workers`, `v_actions` and `v_messages` have one row per stream,
with the fields of its first event and its current state. `v_links` has one row per change of the node link, `v_reasons`
counts reasons, and `v_log` has the underlying rows. Times are seconds since 1970 in UTC; a field that an event leaves at
its default is NULL.

Source: spec/architecture.md sections 4 and 8; ADR-0046.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args, get_type_hints

from relaybroker.adapters.eventstore.fields import attribute, field, listed, place
from relaybroker.domain import events
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.machines import MACHINE_OF
from relaybroker.domain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relaybroker.domain.events import Event


class Definition(NamedTuple):
    """A table, index or view, and the statement that makes it, as `sqlite_schema` keeps it."""

    kind: str
    name: str
    sql: str


class Part(NamedTuple):
    """A table that holds some of the log's events in today's form; `position` and `size` (bytes of the record) are SQL over a row."""

    table: str
    position: str
    size: str
    condition: str = ""
    """SQL over a row: which of its rows count; "" = all."""

    def of(self, row: str) -> str:
        """The position of a row with this prefix."""
        return f"{row}{self.position}"

    def holds(self, row: str = "") -> str:
        """` AND …`, for the rows that count."""
        return f" AND {self.condition.format(row=row)}" if self.condition else ""


LOG = "v_log"
"""All events in today's form: `position`, `originator_id`, `originator_version`, `topic`, `state`, `bytes`."""

MESSAGE_ATTRIBUTES: dict[type[Event], str] = {
    events.DeliveryOffered: "msg_id",
    events.DeliveryRecognised: "msg_id",
    events.FrameIgnored: "msg_id",
    events.FrameBuffered: "frame.msg_id",
    events.MessagePublished: "message_id",
    events.DeliveryFailureHeard: "message_id",
}
"""Events that name a message of the engine, and where."""


def _message_id() -> str:
    paths = {event.topic: ".".join(place(event, name) or ()) for event, name in MESSAGE_ATTRIBUTES.items()}
    cases = " ".join(f"WHEN '{topic}' THEN '$.body.{path}'" for topic, path in paths.items())
    return f"json_extract(CAST(state AS TEXT), CASE topic {cases} END)"


NAMES_MESSAGE = f"topic IN ({listed(event.topic for event in MESSAGE_ATTRIBUTES)})"
MESSAGE_ID = _message_id()
"""The message that an event names; with `NAMES_MESSAGE` an indexed expression."""

_OFFER = (events.DeliveryOffered,)
IS_OFFER = f"topic = '{events.DeliveryOffered.topic}'"
OFFERED_TO, OFFERED_SEQ = attribute("name", _OFFER), attribute("seq", _OFFER)
"""To which agent and with which number a delivery was offered; with `IS_OFFER` an indexed pair."""

SUPERSEDED = tuple(REGISTRY.superseded)
"""Topics of earlier forms."""


def entered(machine: str) -> dict[str, str]:
    """Topic -> state that it leads to, for the events that move this machine."""
    table, states = MACHINE_OF[machine], {}
    for topic, event in REGISTRY.items():
        if event.machine == machine and event.trigger:
            states[topic] = table.target_of(event.trigger)
    return states


def _moves(machine: str) -> list[type[Event]]:
    return [REGISTRY[topic] for topic in entered(machine)]


def _state(machine: str, row: str) -> str:
    cases = " ".join(f"WHEN '{topic}' THEN '{state}'" for topic, state in entered(machine).items())
    return f"CASE {row}topic {cases} ELSE '{MACHINE_OF[machine].initial}' END"


def _log_view(parts: Sequence[Part]) -> str:
    """Every part below the other; simple enough for SQLite to ask each part's own indexes."""
    columns = ", ".join(f"{name} AS {name}" for name in ("originator_id", "originator_version", "topic", "state"))
    selects = [
        f"SELECT {part.position} AS position, {columns}, {part.size} AS bytes FROM {part.table}"
        + (f" WHERE {part.condition.format(row='')}" if part.condition else "")
        for part in parts
    ]
    return " UNION ALL ".join(selects)


def _stream_view(parts: Sequence[Part], birth: type[Event], columns: tuple[str, ...]) -> str:
    """A row per stream: fields of the event that began it (last), and state, reason and time of its last transition."""
    machine = birth.machine
    moves = [birth, *_moves(machine)]
    fields = "".join(f'{attribute(column, [birth], "b.")} AS "{column}", ' for column in columns)
    in_stream = "originator_id = b.originator_id"
    newest = [
        f"(SELECT max({part.of('l.')}) FROM {part.table} l WHERE l.{in_stream}"
        f" AND l.topic IN ({listed(event.topic for event in moves)}){part.holds('l.')})"
        for part in parts
    ]
    last = newest[0] if len(newest) == 1 else f"max({', '.join(f'coalesce({one}, 0)' for one in newest)})"
    only = "".join(
        f" AND NOT EXISTS (SELECT 1 FROM {part.table} a WHERE a.{in_stream}"
        f" AND a.originator_version > b.originator_version AND a.topic = b.topic{part.holds('a.')})"
        for part in parts
    )
    changed = (
        f"{_state(machine, 'n.')} AS state, {attribute('reason', moves, 'n.')} AS reason,"
        f" {attribute('until', moves, 'n.')} AS until, {field('at', 'b.')} AS began_at, {field('at', 'n.')} AS changed_at"
    )
    return " UNION ALL ".join(
        f"SELECT {begun.of('b.')} AS position, b.originator_id AS stream, {fields}{changed}"
        f" FROM {begun.table} b JOIN {moved.table} n ON {moved.of('n.')} = {last}{moved.holds('n.')}"
        f" WHERE b.topic = '{birth.topic}'{begun.holds('b.')}{only}"
        for begun in parts
        for moved in parts
    )


def _events_view() -> str:
    columns = f"{field('at')} AS at, originator_id AS stream, topic, {field('cause')} AS cause, {field('corr')} AS correlation"
    return f"SELECT position, {columns}, {field('body')} AS body FROM {LOG}"


def _links_view() -> str:
    moves: list[type[Event]] = [events.LinkBegun, *_moves("node")]
    columns = ", ".join(f"{attribute(name, moves)} AS {name}" for name in ("reason", "detail", "dial", "until"))
    return (
        f"SELECT position, {field('at')} AS at, originator_id AS stream, {_state('node', '')} AS state, {columns} "
        f"FROM {LOG} WHERE topic IN ({listed(event.topic for event in moves)})"
    )


def _gives_reason(event: type[Event]) -> bool:
    if "reason" not in event.__struct_fields__:  # most events: types are slow to look up
        return False
    hint = get_type_hints(event)["reason"]
    return hint is Reason or Reason in get_args(hint)


GIVE_REASON = tuple(event for event in REGISTRY.values() if _gives_reason(event))
"""Events with a reason of the closed list."""
REASON = attribute("reason", GIVE_REASON)


def _reasons_view() -> str:
    return (
        f"SELECT {REASON} AS reason, topic, count(*) AS times, min({field('at')}) AS first_at, max({field('at')}) AS last_at,"
        f" max(position) AS last_position FROM {LOG}"
        f" WHERE topic IN ({listed(event.topic for event in GIVE_REASON)}) AND reason IS NOT NULL GROUP BY reason, topic"
    )


STREAMS: dict[str, tuple[type[Event], tuple[str, ...]]] = {
    "v_deliveries": (
        events.DeliveryOffered,
        ("delivery_id", "attempt", "msg_id", "name", "agent_id", "seq", "source", "sender", "target", "mode"),
    ),
    "v_agents": (events.NameReserved, ("name", "generation", "session_id", "source", "invocation_id")),
    "v_workers": (events.WorkerLaunched, ("name", "agent_id")),
    "v_actions": (events.ActionReceived, ("invocation_id", "action", "agent_name")),
    "v_messages": (events.MessageAccepted, ("event_id", "to", "sender", "author_id", "mode")),
}
"""Views with a row per stream: the event that begins it, and the fields of that which are shown."""


def views(parts: Sequence[Part]) -> dict[str, str]:
    """Every view over these parts of a log, by name: its SELECT."""
    return {
        LOG: _log_view(parts),
        "v_events": _events_view(),
        **{name: _stream_view(parts, birth, columns) for name, (birth, columns) in STREAMS.items()},
        "v_links": _links_view(),
        "v_reasons": _reasons_view(),
    }


def indexes(table: str, prefix: str) -> tuple[Definition, ...]:
    """The indexes of identifiers, of a table with the log's columns."""
    return (
        Definition(
            "index",
            f"{prefix}message",
            f"CREATE INDEX {prefix}message ON {table} ({MESSAGE_ID}) WHERE {NAMES_MESSAGE}",
        ),
        Definition(
            "index",
            f"{prefix}offer",
            f"CREATE INDEX {prefix}offer ON {table} ({OFFERED_TO}, {OFFERED_SEQ}) WHERE {IS_OFFER}",
        ),
    )


STORED = Part(
    "stored_events",
    "rowid",
    "length(state)",
    f"{{row}}topic NOT IN ({listed(SUPERSEDED)})" if SUPERSEDED else "",
)
"""The log's own table: what it has in today's form."""

EARLIER = Part("earlier_events", "position", "bytes")
"""The copies of what it has in earlier forms."""

PARTS = (STORED, EARLIER) if SUPERSEDED else (STORED,)
