"""What people ask a log, prepared in its database: indexes of identifiers and read-only views.

All of it is SQL over the one table of events: SQLite keeps an index in the transaction of the row and checks it against
the table (`integrity_check`), and a view is computed when it is asked. Nothing here can disagree with the log, and
nothing needs to be rebuilt. An open for writing makes what is missing or was made by another version.

`v_events` is every event; `v_deliveries`, `v_agents`, `v_workers`, `v_actions` and `v_messages` have a row per stream
with the fields of its first event and the state it is in; `v_links` has a row per change of the node link; `v_reasons`
counts. Times are seconds since 1970 in UTC; a field that an event leaves at its default is NULL.

Source: spec/architecture.md sections 4 and 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args, get_type_hints

from relaybroker.domain import events
from relaybroker.domain.events import REGISTRY
from relaybroker.domain.machines import MACHINE_OF
from relaybroker.domain.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventsourcing.sqlite import SQLiteCursor

    from relaybroker.domain.events import Event

_TABLE = "stored_events"


class Definition(NamedTuple):
    """An index or view, and the statement that makes it, as `sqlite_schema` keeps it."""

    kind: str
    name: str
    sql: str


STATE_TEXT = "CAST(state AS TEXT)"


def field(path: str, row: str = "") -> str:
    """The SQL of a field of a stored event (`at`, `body.reason`), of the table with this prefix (`n.`)."""
    return f"json_extract(CAST({row}state AS TEXT), '$.{path}')"


def listed(topics: Iterable[str]) -> str:
    """Topics as the SQL of a list."""
    return ", ".join(f"'{topic}'" for topic in topics)


MESSAGE_TOPICS = {
    events.DeliveryOffered.topic: "$.body.msg_id",
    events.FrameIgnored.topic: "$.body.msg_id",
    events.FrameBuffered.topic: "$.body.frame.msg_id",
    events.MessagePublished.topic: "$.body.message_id",
}
"""Events that name a message of the engine, and where."""

_PATHS = " ".join(f"WHEN '{topic}' THEN '{path}'" for topic, path in MESSAGE_TOPICS.items())
NAMES_MESSAGE = f"topic IN ({listed(MESSAGE_TOPICS)})"
MESSAGE_ID = f"json_extract(CAST(state AS TEXT), CASE topic {_PATHS} END)"
"""The message that an event names; with `NAMES_MESSAGE` an indexed expression."""

IS_OFFER = f"topic = '{events.DeliveryOffered.topic}'"
OFFERED_TO, OFFERED_SEQ = field("body.name"), field("body.seq")
"""To which agent and with which number a delivery was offered; with `IS_OFFER` an indexed pair."""


def entered(machine: str) -> dict[str, str]:
    """Topic -> state that it leads to, for the events that move this machine."""
    table, found = MACHINE_OF[machine], {}
    for topic, event in REGISTRY.items():
        if event.machine == machine and event.trigger:
            (found[topic],) = {target for (_, trigger), target in table.edges.items() if trigger == event.trigger}
    return found


def _state(machine: str, row: str) -> str:
    cases = " ".join(f"WHEN '{topic}' THEN '{state}'" for topic, state in entered(machine).items())
    return f"CASE {row}topic {cases} ELSE '{MACHINE_OF[machine].initial}' END"


def _stream_view(name: str, birth: type[Event], columns: tuple[str, ...]) -> Definition:
    """A row per stream: fields of the event that began it (last), and state, reason and time of its last transition."""
    machine = birth.machine
    fields = "".join(f'{field(f"body.{column}", "b.")} AS "{column}", ' for column in columns)
    last = (
        f"(SELECT max(l.rowid) FROM {_TABLE} l WHERE l.originator_id = b.originator_id"
        f" AND l.topic IN ({listed([birth.topic, *entered(machine)])}))"
    )
    sql = (
        f"CREATE VIEW {name} AS SELECT b.rowid AS position, b.originator_id AS stream, {fields}"
        f"{_state(machine, 'n.')} AS state, {field('body.reason', 'n.')} AS reason, {field('body.until', 'n.')} AS until, "
        f"{field('at', 'b.')} AS began_at, {field('at', 'n.')} AS changed_at "
        f"FROM {_TABLE} b JOIN {_TABLE} n ON n.rowid = {last} WHERE b.topic = '{birth.topic}' AND NOT EXISTS"
        f" (SELECT 1 FROM {_TABLE} a WHERE a.originator_id = b.originator_id"
        f" AND a.originator_version > b.originator_version AND a.topic = b.topic)"
    )
    return Definition("view", name, sql)


def _events_view() -> Definition:
    columns = f"{field('at')} AS at, originator_id AS stream, topic, {field('cause')} AS cause, {field('corr')} AS correlation"
    return Definition(
        "view",
        "v_events",
        f"CREATE VIEW v_events AS SELECT rowid AS position, {columns}, {field('body')} AS body FROM {_TABLE}",
    )


def _links_view() -> Definition:
    moves = entered("node")
    fields = ", ".join(f"{field(f'body.{column}')} AS {column}" for column in ("reason", "detail", "dial", "until"))
    return Definition(
        "view",
        "v_links",
        f"CREATE VIEW v_links AS SELECT rowid AS position, {field('at')} AS at, originator_id AS stream, "
        f"{_state('node', '')} AS state, {fields} FROM {_TABLE} "
        f"WHERE topic IN ({listed([events.LinkBegun.topic, *moves])})",
    )


def _gives_reason(event: type[Event]) -> bool:
    hint = get_type_hints(event).get("reason")
    return hint is Reason or Reason in get_args(hint)


def _reasons_view() -> Definition:
    topics = listed(topic for topic, event in REGISTRY.items() if _gives_reason(event))
    return Definition(
        "view",
        "v_reasons",
        f"CREATE VIEW v_reasons AS SELECT {field('body.reason')} AS reason, topic, count(*) AS times, "
        f"min({field('at')}) AS first_at, max({field('at')}) AS last_at, max(rowid) AS last_position "
        f"FROM {_TABLE} WHERE topic IN ({topics}) AND reason IS NOT NULL GROUP BY reason, topic",
    )


DEFINITIONS: tuple[Definition, ...] = (
    Definition("index", "i_message", f"CREATE INDEX i_message ON {_TABLE} ({MESSAGE_ID}) WHERE {NAMES_MESSAGE}"),
    Definition("index", "i_offer", f"CREATE INDEX i_offer ON {_TABLE} ({OFFERED_TO}, {OFFERED_SEQ}) WHERE {IS_OFFER}"),
    _events_view(),
    _stream_view(
        "v_deliveries",
        events.DeliveryOffered,
        ("delivery_id", "attempt", "msg_id", "name", "agent_id", "seq", "source", "sender", "target", "mode"),
    ),
    _stream_view("v_agents", events.NameReserved, ("name", "generation", "session_id", "source", "invocation_id")),
    _stream_view("v_workers", events.WorkerLaunched, ("name", "agent_id")),
    _stream_view("v_actions", events.ActionReceived, ("invocation_id", "action", "agent_name")),
    _stream_view("v_messages", events.MessageAccepted, ("event_id", "to", "sender", "author_id", "mode")),
    _links_view(),
    _reasons_view(),
)


def prepare(cursor: SQLiteCursor) -> None:
    """Make every index and view that is missing or different. Takes time only when an index must be made: 2 s per 1,000,000 events."""
    # As bytes: a damaged statement need not be text. It is replaced like an old one; it is no part of the log.
    cursor.execute("SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM sqlite_schema WHERE type IN ('index', 'view')")
    found = {bytes(name): bytes(sql) for name, sql in cursor.fetchall() if sql is not None}
    for kind, name, sql in DEFINITIONS:
        if found.get(name.encode()) != sql.encode():
            cursor.execute(f"DROP {kind} IF EXISTS {name}")
            cursor.execute(sql)
