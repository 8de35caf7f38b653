"""Events of a log by what they are about: for `log tail`, `log grep` and `GET /api/log`.

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

import fnmatch
from typing import Any

import msgspec

from relaybroker.adapters.eventstore.lookup import IS_OFFER, OFFERED_TO, STATE_TEXT, field, listed
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.domain.events import REGISTRY, Recorded
from relaybroker.domain.machines import MACHINE_OF, MACHINES
from relaybroker.domain.reasons import SENTENCES

MAX_FOUND = 10_000
"""Events that one search gives; the next one goes on `after` the last position."""

TURN_PAGE = 50
"""Rows per read of a turn: most have fewer."""

_LAST = "\U0010ffff"


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; every field that is given must fit.

    `machine` is a machine's name or an event's (`delivery`, `node`, `node_connection`); `stream` the beginning of a stream's name; `topic`
    a topic or a pattern with `*`; `agent` everything of an agent of this name; `text` a piece of the event's body; `since` and `until` are
    seconds since 1970; `after` is a position. `newest`: of more than `limit`, the last ones.
    """

    machine: str = ""
    stream: str = ""
    topic: str = ""
    reason: str = ""
    agent: str = ""
    text: str = ""
    since: float | None = None
    until: float | None = None
    after: int = 0
    limit: int = 100
    newest: bool = False


class BadSearchError(Exception):
    """A search for something that cannot be in any log: an unknown machine, topic or reason."""


def search(log: LogReader, wanted: Search) -> list[Recorded]:
    """What fits, in log order, at most `MAX_FOUND`.

    Raises:
        BadSearchError: the machine, topic or reason does not exist.
    """
    conditions, values = ["rowid > :after"], {"after": wanted.after, "limit": min(wanted.limit, MAX_FOUND)}
    for condition, more in (
        _topics(wanted),
        _stream(wanted),
        _reason(wanted),
        _agent(wanted),
        _text(wanted),
        _time(wanted),
    ):
        if condition:
            conditions.append(f"({condition})")
            values |= more
    order = "DESC" if wanted.newest else "ASC"
    rows = log.query(
        f"SELECT rowid AS position FROM stored_events WHERE {' AND '.join(conditions)} ORDER BY rowid {order} LIMIT :limit",
        values,
    )
    return log.read_at(sorted(row["position"] for row in rows))


_Condition = tuple[str, dict[str, Any]]
_NONE: _Condition = ("", {})


def _topics(wanted: Search) -> _Condition:
    if not (wanted.machine or wanted.topic):
        return _NONE
    fits = {
        topic
        for topic, event in REGISTRY.items()
        if (not wanted.machine or wanted.machine in _machine_names(event.machine))
        and (not wanted.topic or fnmatch.fnmatchcase(topic, wanted.topic))
    }
    if not fits:
        names = ", ".join(sorted({event.machine for event in REGISTRY.values()} | set(MACHINES)))
        raise BadSearchError(f"no event has machine {wanted.machine!r} and topic {wanted.topic!r}; machines: {names}")
    return f"topic IN ({listed(sorted(fits))})", {}


def _machine_names(machine: str) -> tuple[str, ...]:
    return (machine, MACHINE_OF[machine].name) if machine in MACHINE_OF else (machine,)


def _stream(wanted: Search) -> _Condition:
    if not wanted.stream:
        return _NONE
    return "originator_id >= :stream AND originator_id < :stream_end", {
        "stream": wanted.stream,
        "stream_end": wanted.stream + _LAST,
    }


def _reason(wanted: Search) -> _Condition:
    if not wanted.reason:
        return _NONE
    if wanted.reason not in SENTENCES:
        raise BadSearchError(f"there is no reason {wanted.reason!r}; see docs/reasons.md")
    return f"{field('body.reason')} = :reason", {"reason": wanted.reason}


def _agent(wanted: Search) -> _Condition:
    """Streams of everything that an agent of this name has: registrations, programs, mailboxes, deliveries."""
    if not wanted.agent:
        return _NONE
    own = "originator_id >= :registrations AND originator_id < :registrations_end"
    ids = f"SELECT 'mailbox:' || {field('body.agent_id')} FROM stored_events WHERE {own}"
    programs = f"SELECT 'worker:' || {field('body.session_id')} FROM stored_events WHERE {own}"
    deliveries = f"SELECT originator_id FROM stored_events WHERE {IS_OFFER} AND {OFFERED_TO} = :agent"
    return (
        f"({own}) OR originator_id IN ({ids}) OR originator_id IN ({programs}) OR originator_id IN ({deliveries})",
        {
            "agent": wanted.agent,
            "registrations": f"agent:{wanted.agent}:",
            "registrations_end": f"agent:{wanted.agent}:{_LAST}",
        },
    )


def _text(wanted: Search) -> _Condition:
    return (f"instr({STATE_TEXT}, :text) > 0", {"text": wanted.text}) if wanted.text else _NONE


def _time(wanted: Search) -> _Condition:
    bounds = [("at >= :since", "since", wanted.since), ("at <= :until", "until", wanted.until)]
    given = [(text.replace("at", field("at"), 1), name, value) for text, name, value in bounds if value is not None]
    return " AND ".join(text for text, _, _ in given), {name: value for _, name, value in given}


def turn_of(log: LogReader, position: int) -> list[Recorded]:
    """The event at a position with what it belongs to: the fact that caused it and all that followed from that at once."""
    found = log.read_at([position])
    if not found:
        return []
    cause = found[0].causation
    first = int(cause.rpartition("@")[2])
    together = []
    for _, recorded in log.read(first - 1, page=TURN_PAGE):
        if recorded.causation != cause:
            break
        together.append(recorded)
    return together


def exported(recorded: Recorded) -> dict[str, Any]:
    """An event as people get it: `log export`, `--json`, `GET /api/log`."""
    return {
        "position": recorded.version,
        "stream": recorded.stream,
        "topic": recorded.event.topic,
        "kind": recorded.event.kind,
        "at": recorded.at,
        "causation": recorded.causation,
        "correlation": recorded.correlation,
        "body": msgspec.to_builtins(recorded.event),
    }
