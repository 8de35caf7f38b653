"""Routes about what has been: threads of messages, crashes, totals; and the checks before agents are asked for.

Source: spec/local-api.md section 1.3, routes 18, 23, 24 and 27, and section 7.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from relaybroker.adapters.http.api.answers import Answer
from relaybroker.adapters.http.api.bodies import PreflightBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.routing import route
from relaybroker.adapters.http.api.spawn_request import find_program
from relaybroker.domain.command_line import command_line
from relaybroker.domain.entities import Crash, SeenMessage
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.instants import rfc3339
from relaybroker.domain.names import is_agent_name

PREVIEW_BYTES = 200
CRASHES_SHOWN = 20
HOUR_S = 3600.0
SCORED = 50
"""Of so many of the newest crashes, those of the last hour cost health."""
_SEGFAULTS, _KILLS = (11, 139), (9, 137)


class ThreadView(Answer, frozen=True, kw_only=True):
    """Messages that belong together: a thread, a channel, or what two say to each other."""

    thread_id: str = msgspec.field(name="threadId")
    name: str
    unread: int = msgspec.field(name="unreadCount", default=0)
    last: str = msgspec.field(name="lastMessage")
    last_at: str = msgspec.field(name="lastMessageAt")


class Threads(Answer, frozen=True, kw_only=True):
    """The newest first, of the last 1000 messages that this broker saw."""

    threads: list[ThreadView]


class CrashView(Answer, frozen=True, kw_only=True):
    """One program that ended although nobody wanted it to."""

    agent_name: str
    exit_code: int | None
    signal: str | None
    timestamp: int
    uptime_secs: int
    category: str
    description: str


class Pattern(Answer, frozen=True, kw_only=True):
    """Crashes of one kind."""

    category: str
    count: int
    agents: list[str]


class CrashInsights(Answer, frozen=True, kw_only=True):
    """What crashed, what it has in common, and how well it goes (100 = nothing within the hour)."""

    total_crashes: int
    recent: list[CrashView]
    patterns: list[Pattern]
    health_score: int


class History(Answer, frozen=True, kw_only=True):
    """Get totals over the life of the log."""

    messages: int = msgspec.field(name="messageCount")
    sessions: int = msgspec.field(name="sessionCount")
    active: int = msgspec.field(name="activeSessions")
    agents: int = msgspec.field(name="uniqueAgents")
    oldest: str | None = msgspec.field(name="oldestMessageDate")


class Preflight(Answer, frozen=True, kw_only=True):
    """So many agents could be spawned: their names are allowed and their programs are here."""

    queued: int
    missing: list[str] | UnsetType = UNSET
    """Programs that this machine does not have."""


class HistoryRoutes:
    """Handlers of these routes.

    Args:
        access: the broker.
    """

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    @route("GET /api/threads", "List conversations, newest first.")
    async def threads(self, _request: web.Request) -> Threads:
        """GET /api/threads."""
        newest: dict[str, SeenMessage] = {}
        for seen in self._access.state.seen_messages:
            newest.pop(seen.thread, None)
            newest[seen.thread] = seen
        return Threads(threads=[_thread(seen) for seen in reversed(newest.values())])

    @route("GET /api/crash-insights", "List programs that crashed, and what the crashes have in common.")
    async def crashes(self, _request: web.Request) -> CrashInsights:
        """GET /api/crash-insights."""
        known = self._access.state.crashes
        by_kind = Counter(_category(one) for one in known)
        late = sum(one.at > time.time() - HOUR_S for one in known[-SCORED:])
        return CrashInsights(
            total_crashes=self._access.state.counters.crashed,
            recent=[_crash(one) for one in known[-CRASHES_SHOWN:]],
            patterns=[
                Pattern(
                    category=kind, count=count, agents=sorted({one.name for one in known if _category(one) == kind})
                )
                for kind, count in by_kind.most_common()
            ],
            health_score=max(0, 100 - 10 * late),
        )

    @route("GET /api/history/stats", "Get totals over the life of the log.")
    async def stats(self, _request: web.Request) -> History:
        """GET /api/history/stats."""
        state = self._access.state
        return History(
            messages=state.counters.messages,
            sessions=state.counters.spawned,
            active=sum(1 for one in state.workers.values() if one.pid and not one.ended),
            agents=state.counters.names,
            oldest=rfc3339(state.first_message_at) if state.first_message_at else None,
        )

    @route("POST /api/preflight", "Check whether agents could be spawned.")
    async def preflight(self, _request: web.Request, body: PreflightBody) -> Preflight:
        """POST /api/preflight. Nothing is warmed up: a registration is made when its agent is."""
        missing = []
        for agent in body.agents:
            if not is_agent_name(agent.name):
                text = f"'{agent.name[:140]}' is not an allowed agent name"
                raise InvalidRequest(Refusal.INVALID, "invalid_name", text, field="name")
            word = command_line(agent.cli, ())[0]
            if not await asyncio.to_thread(find_program, word):
                missing.append(word)
        return Preflight(queued=len(body.agents) - len(missing), missing=missing or UNSET)


def _thread(seen: SeenMessage) -> ThreadView:
    return ThreadView(thread_id=seen.thread, name=seen.name, last=preview(seen.text), last_at=rfc3339(seen.at))


def preview(text: str) -> str:
    """The beginning of a text: at most 200 bytes, cut between two characters."""
    cut = text.encode()[:PREVIEW_BYTES].decode(errors="ignore")
    return text if cut == text else f"{cut}..."


def _category(one: Crash) -> str:
    if one.signal == _SEGFAULTS[0] or one.code == _SEGFAULTS[1]:
        return "segfault"
    if one.signal == _KILLS[0] or one.code == _KILLS[1]:
        return "oom"
    if one.signal is not None:
        return "signal"
    return "error" if one.code else "unknown"


def _crash(one: Crash) -> CrashView:
    how = f"signal {one.signal}" if one.signal is not None else f"exit status {one.code}"
    if one.signal is None and one.code is None:
        how = "nobody saw how"
    return CrashView(
        agent_name=one.name,
        exit_code=one.code,
        signal=None if one.signal is None else str(one.signal),
        timestamp=int(one.at),
        uptime_secs=int(one.uptime_s),
        category=_category(one),
        description=f"{one.name} ended after {one.uptime_s:.0f} s: {how}",
    )
