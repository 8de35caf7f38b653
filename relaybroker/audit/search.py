"""Events of a log by what they are about: for `log tail`, `log grep` and `GET /api/log`.

Source: spec/architecture.md section 8.
"""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec

from relaybroker.adapters.eventstore.fields import attribute, field, listed
from relaybroker.adapters.eventstore.lookup import IS_OFFER, LOG, OFFERED_TO, REASON
from relaybroker.adapters.eventstore.reader import LogReader
from relaybroker.audit.finding import newest_registration
from relaybroker.domain import events
from relaybroker.domain.events import REGISTRY, Recorded
from relaybroker.domain.events.registry import topics_of
from relaybroker.domain.machines import MACHINE_OF, MACHINES
from relaybroker.domain.names import nearest_names
from relaybroker.domain.reasons import SENTENCES

MAX_FOUND = 10_000
"""Events that one search gives; the next one goes on `after` the last position."""

UPKEEP = tuple(event.topic for event in (events.HeartbeatDue, events.InventoryPublished, events.FrameNoted))
"""Topics of what only keeps the link alive: nine of ten events of an idle node, of interest to nobody but its link."""

TURN_PAGE = 50
"""Rows per read of a turn: most have fewer."""

_OF_AGENTS = tuple(event for event in REGISTRY.values() if event.machine == "agent")
_LAST = "\U0010ffff"


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; every field that is given must fit.

    `machine` is a machine's name or an event's (`delivery`, `node`, `link`); `stream` the beginning of a stream's name; `topic`
    a topic (also one that the event once had) or a pattern with `*`; `agent` everything of an agent of this name; `text` a piece of the
    event's body; `hidden` topics are left out; `since` and `until` are seconds since 1970; `after` is a position. `newest`: of more than
    `limit`, the last ones.
    """

    machine: str = ""
    stream: str = ""
    topic: str = ""
    reason: str = ""
    agent: str = ""
    text: str = ""
    hidden: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    after: int = 0
    limit: int = 100
    newest: bool = False


class BadSearchError(Exception):
    """A search for something that is not there: an unknown machine, topic or reason, or an agent that the log does not know."""


def search(log: LogReader, wanted: Search) -> list[Recorded]:
    """What fits, in log order, at most `MAX_FOUND`.

    Raises:
        BadSearchError: the machine, topic, reason or agent does not exist.
    """
    if wanted.agent:
        check_agent(log, wanted.agent)
    conditions, values = ["position > :after"], {"after": wanted.after}
    for condition, more in (_topics(wanted), _stream(wanted), _reason(wanted), _agent(wanted), _time(wanted)):
        if condition:
            conditions.append(f"({condition})")
            values |= more
    limit = min(wanted.limit, MAX_FOUND)
    if not wanted.text:
        return log.read_at(sorted(_positions(log, conditions, values, newest=wanted.newest, limit=limit)))
    return _with_text(log, wanted, conditions, values, limit)


def _positions(log: LogReader, conditions: list[str], values: dict[str, Any], *, newest: bool, limit: int) -> list[int]:
    rows = log.query(
        f"SELECT position FROM {LOG} WHERE {' AND '.join(conditions)} ORDER BY position {'DESC' if newest else 'ASC'} LIMIT :limit",
        values | {"limit": limit},
    )
    return [row["position"] for row in rows]


def _with_text(
    log: LogReader, wanted: Search, conditions: list[str], values: dict[str, Any], limit: int
) -> list[Recorded]:
    """Of what fits otherwise, what has the text: of the database as SQL finds it, of the archive as its segments say."""
    live = [
        *conditions,
        f"position > {log.archive.last}",
        "instr(CAST(state AS TEXT), :text) > 0",
        f"instr({field('body')}, :text) > 0",
    ]

    def in_database(limit: int) -> list[int]:
        return _positions(log, live, values | {"text": wanted.text}, newest=wanted.newest, limit=limit)

    def in_archive(limit: int) -> list[int]:
        if not log.archive.last or limit <= 0:
            return []
        old = [*conditions, f"position <= {log.archive.last}"]
        fits = None if len(conditions) == 1 else set(_positions(log, old, values, newest=False, limit=-1))
        positions = (
            row.id
            for row in log.archive.rows(wanted.after)
            if (fits is None or row.id in fits) and log.mapper.says(row, wanted.text, row.id)
        )
        return list(deque(positions, limit)) if wanted.newest else list(islice(positions, limit))

    if wanted.newest:
        newest = in_database(limit)
        return log.read_at(sorted([*newest, *in_archive(limit - len(newest))]))
    oldest = in_archive(limit)
    return log.read_at([*oldest, *in_database(limit - len(oldest))])


_Condition = tuple[str, dict[str, Any]]
_NONE: _Condition = ("", {})


def _topics(wanted: Search) -> _Condition:
    if not (wanted.machine or wanted.topic):
        return (f"topic NOT IN ({listed(sorted(wanted.hidden))})", {}) if wanted.hidden else _NONE
    fits = {
        topic
        for topic, event in REGISTRY.items()
        if (not wanted.machine or wanted.machine in _machine_names(event.machine))
        and (not wanted.topic or any(fnmatch.fnmatchcase(known, wanted.topic) for known in topics_of(event)))
    }
    if not fits:
        machines = sorted({event.machine for event in REGISTRY.values()} | set(MACHINES))
        if wanted.machine and wanted.machine not in machines:
            raise BadSearchError(f"no machine named {wanted.machine!r}; {_offered(wanted.machine, machines)}")
        topics = [topic for topic in REGISTRY if wanted.machine in ("", *_machine_names(REGISTRY[topic].machine))]
        raise BadSearchError(f"no event has the topic {wanted.topic!r}; {_offered(wanted.topic, topics)}")
    return f"topic IN ({listed(sorted(fits - set(wanted.hidden)))})", {}


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
        raise BadSearchError(f"no reason named {wanted.reason!r}; {_offered(wanted.reason, SENTENCES)}")
    return f"{REASON} = :reason", {"reason": wanted.reason}


def check_agent(log: LogReader, name: str) -> None:
    """Raise BadSearchError, with the nearest names, if the log never had an agent of this name."""
    offer = f"SELECT 1 FROM {LOG} WHERE {IS_OFFER} AND {OFFERED_TO} = ? LIMIT 1"
    if newest_registration(log, name) is not None or log.query(offer, (name,)):
        return
    reserved = events.NameReserved.topic
    query = f"SELECT DISTINCT {attribute('name', [events.NameReserved])} AS name FROM {LOG} WHERE topic = ?"
    known = [str(row["name"]) for row in log.query(query, (reserved,))]
    raise BadSearchError(f"the log has no agent named {name!r}; {_offered(name, known)}")


def _offered(name: str, known: Iterable[str]) -> str:
    """The names that are nearest, or all of a few, or where they are listed."""
    names = [str(one) for one in known]
    nearest = nearest_names(name.strip("*."), names)
    if nearest:
        return f"nearest: {', '.join(nearest)}"
    return (
        f"there are: {', '.join(sorted(names)[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        if names
        else "there is none"
    )


_SHOWN = 12


def _agent(wanted: Search) -> _Condition:
    """Streams of everything that an agent of this name has: registrations, programs, mailboxes, deliveries."""
    if not wanted.agent:
        return _NONE
    own = "originator_id >= :registrations AND originator_id < :registrations_end"
    ids = f"SELECT 'mailbox:' || {attribute('agent_id', _OF_AGENTS)} FROM {LOG} WHERE {own}"
    programs = f"SELECT 'worker:' || {attribute('session_id', _OF_AGENTS)} FROM {LOG} WHERE {own}"
    deliveries = f"SELECT originator_id FROM {LOG} WHERE {IS_OFFER} AND {OFFERED_TO} = :agent"
    return (
        f"({own}) OR originator_id IN ({ids}) OR originator_id IN ({programs}) OR originator_id IN ({deliveries})",
        {
            "agent": wanted.agent,
            "registrations": f"agent:{wanted.agent}:",
            "registrations_end": f"agent:{wanted.agent}:{_LAST}",
        },
    )


def _time(wanted: Search) -> _Condition:
    bounds = [("at >= :since", "since", wanted.since), ("at <= :until", "until", wanted.until)]
    given = [(text.replace("at", field("at"), 1), name, value) for text, name, value in bounds if value is not None]
    return " AND ".join(text for text, _, _ in given), {name: value for _, name, value in given}


def turn_of(log: LogReader, position: int) -> list[Recorded]:
    """The event at a position with what it belongs to: the fact that caused it and all that followed from that at once."""
    records = log.read_at([position])
    if not records:
        return []
    cause = records[0].causation
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
