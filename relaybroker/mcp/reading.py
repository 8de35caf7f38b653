"""Conversations as people read them: messages of the engine, each with what became of it for its recipients here.

Rules:

* The operator sees everything that went through this broker, and what its own identity sees at the engine.
* An agent sees what the engine shows it; of a message of its own every recipient's mark, of another's its own mark.
* Where this broker knows nothing of a recipient, the engine's read marks say who has read it.

Source: spec/conversation.md section 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from relaybroker.adapters.http.api.agent_scope import AgentCaller
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.engine_calls import path_segment
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.message import target_type
from relaybroker.mcp import arguments
from relaybroker.mcp.arguments import MAX_SEARCHED

READERS_ASKED = 20
"""Messages of one thread whose readers the engine is asked for, at most: the newest of those of which this broker knows nothing."""

Row = dict[str, Any]


class Reading:
    """What is read of one broker and its engine.

    Args:
        access: the broker.
    """

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access

    async def one(self, caller: AgentCaller, message_id: str) -> Row:
        """A message with its readers and marks."""
        shown = await self._access.look(caller, f"/v1/messages/{message_id}")
        message = _row(shown)
        message["readers"] = await self._readers(caller, message_id)
        (marked,) = await self._marked(caller, [message])
        return marked

    async def thread(self, caller: AgentCaller, message_id: str) -> Row:
        """A message and its answers, oldest first, with their marks."""
        answer = await self._access.look(caller, f"/v1/messages/{message_id}/replies")
        rows = [_row(answer.get("parent")), *map(_row, answer.get("replies") or [])] if isinstance(answer, dict) else []
        marked = await self._marked(caller, rows)
        unknown = [row for row in marked if not row["marks"]][-READERS_ASKED:]
        readers = await asyncio.gather(*(self._readers(caller, str(row.get("id"))) for row in unknown))
        for row, read_by in zip(unknown, readers, strict=True):
            row["readers"] = read_by
        return {"messages": marked}

    async def find(self, caller: AgentCaller, wanted: arguments.FindMessages) -> list[Row]:
        """The newest messages that fit."""
        if caller.is_operator:
            asked = msgspec.structs.asdict(wanted)
            asked["channel"] = (wanted.channel or "").removeprefix("#")
            asked["thread"] = wanted.thread or ""
            return await self._access.gateway.audit.messages(**asked)
        if wanted.state or wanted.since is not None or wanted.until is not None:
            text = "state, since and until query the log, which only the operator may do"
            raise InvalidRequest(Refusal.FORBIDDEN, "agent_scope", text)
        return await self._seen(caller, wanted)

    async def _seen(self, caller: AgentCaller, wanted: arguments.FindMessages) -> list[Row]:
        """What the engine shows an agent."""
        if wanted.thread:
            rows = (await self.thread(caller, wanted.thread))["messages"]
        else:
            places = [wanted.channel] if wanted.channel else await self.places(caller)
            rows = []
            for place in places[:MAX_SEARCHED]:
                rows += [row | {"to": place} for row in await self.page(caller, place, {"limit": wanted.limit})]
        who, text = wanted.agent.lower(), wanted.text.casefold()
        fit = [
            row
            for row in rows
            if (not who or str(row.get("agent_name", "")).lower() == who)
            and text in str(row.get("text", "")).casefold()
        ]
        fit.sort(key=lambda row: int(row["id"]) if str(row.get("id", "")).isdecimal() else 0)
        return [_said(row) for row in fit[-wanted.limit :]]

    async def page(self, caller: AgentCaller, place: str, query: Mapping[str, Any]) -> list[Row]:
        """Messages of a channel (`#name`) or conversation, newest first; `query` as the engine takes it."""
        name = place.removeprefix("#")
        kind = "dm" if not place.startswith("#") and target_type(name) == "conversation" else "channels"
        answer = await self._access.look(caller, f"/v1/{kind}/{path_segment(name)}/messages?{urlencode(query)}")
        return [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []

    async def places(self, caller: AgentCaller) -> list[str]:
        """The caller's channels and conversations."""
        me = await self._access.look(caller, "/v1/agent")
        channels = me.get("channels") if isinstance(me, dict) else None
        talks = await self._access.look(caller, "/v1/dm/conversations")
        named = [f"#{row['name']}" for row in channels or [] if isinstance(row, dict) and row.get("name")]
        return named + [str(row["id"]) for row in talks or [] if isinstance(row, dict) and row.get("id")]

    async def _readers(self, caller: AgentCaller, message_id: str) -> list[str]:
        answer = await self._access.look(caller, f"/v1/messages/{message_id}/readers")
        return (
            [str(row.get("agent_name", "")) for row in answer if isinstance(row, dict)]
            if isinstance(answer, list)
            else []
        )

    async def _marked(self, caller: AgentCaller, rows: list[Row]) -> list[Row]:
        marks = await self._access.gateway.audit.marks([str(row.get("id", "")) for row in rows])
        marked = []
        for row in rows:
            known = marks.get(str(row.get("id", "")), [])
            if not (caller.is_operator or row.get("agent_id") == caller.agent_id):
                known = [mark for mark in known if mark["agent"] == caller.name]
            marked.append(row | {"marks": known})
        return marked


def _row(answer: Any) -> Row:
    return dict(answer) if isinstance(answer, dict) else {}


def _said(row: Row) -> Row:
    """A row of the engine as the log's messages are told."""
    return {
        "message_id": str(row.get("id", "")),
        "at": row.get("created_at", ""),
        "sender": str(row.get("agent_name", "")),
        "to": str(row.get("to", row.get("channel_name", ""))),
        "thread_id": row.get("thread_id") or "",
        "text": str(row.get("text", "")),
        "marks": row.get("marks", []),
    }
