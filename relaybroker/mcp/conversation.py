"""What each tool does: messages and changes through the core, looks at the engine, and the truth in what is answered.

Rules:

* What an agent sends goes through the same durable outbox as everybody's, as its true sender. `published` is said only of what the engine
  has; `pending` means stored here and published later, in this run or the next.
* A message to a thread goes to that thread or nowhere.
* A name that does not exist is refused with the names that are nearest.
* Nobody is told what became of a message that is not theirs.

Source: spec/conversation.md sections 1, 2 and 5; spec/engine-contract.md sections 2.4 to 2.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from relaybroker.adapters.http.api import views
from relaybroker.adapters.http.api.agent_scope import AgentCaller
from relaybroker.adapters.http.api.agent_tools import Fleet, Used
from relaybroker.adapters.http.api.bodies import ReleaseBody
from relaybroker.adapters.http.api.broker_access import BrokerAccess
from relaybroker.adapters.http.api.rendering import rendered
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import ActRequested, FetchRequested, Input, ResultRequested, SendRequested, SummaryGiven
from relaybroker.domain.message import THREAD, is_local_id, target_type
from relaybroker.domain.names import nearest_names
from relaybroker.domain.reasons import Reason
from relaybroker.mcp import arguments
from relaybroker.mcp.arguments import MAX_SEARCHED, PAGE, AnyArguments
from relaybroker.mcp.reading import Reading

ANSWER_S = 24.0
"""From a call of a tool that changes something to its answer; the local API answers within 25 s."""

Result = dict[str, Any]


class Conversation:
    """The tools of one broker.

    Args:
        access: the broker.
        fleet: starts and ends agents.
    """

    def __init__(self, access: BrokerAccess, fleet: Fleet) -> None:
        self._access = access
        self._fleet = fleet
        self._reading = Reading(access)

    async def do(self, caller: AgentCaller, wanted: AnyArguments, key: str) -> Result:
        """Do what is wanted, as this agent.

        Args:
            caller: who asks.
            wanted: the tool's arguments.
            key: the caller's idempotency key, "" = none: a message with the same one again is not sent again.

        Raises:
            InvalidRequest: it was not done, with a stable code; `request_timeout`: it may still happen.
        """
        wanted = self._by_the_engines_id(wanted)
        match wanted:
            case arguments.SendDm():
                return await self._send_dm(caller, wanted, key)
            case arguments.PostMessage():
                return await self._post(caller, wanted, key)
            case arguments.ReplyToThread(message_id=message_id, text=text):
                return await self._send(caller, key, to=f"{THREAD}{message_id}", text=text, thread_id=message_id)
            case arguments.SendGroupDm():
                return await self._send_group(caller, wanted, key)
            case arguments.SubmitResult():
                return await self._submit(caller, wanted)
            case arguments.SaveContinuity(summary=summary):
                reply = await self._ask(
                    lambda request_id: SummaryGiven(request_id=request_id, agent_id=caller.agent_id, summary=summary)
                )
                return dict(reply["data"])
            case arguments.LoadContinuity():
                left = await self._access.gateway.audit.continuity(caller.name)
                return {"continuity": None if left is None else msgspec.to_builtins(left)}
            case arguments.Spawn():
                return await self._spawn(caller, wanted)
            case arguments.RemoveAgent(name=name, reason=reason):
                why = f"{caller.name} asked for it{f': {reason}' if reason else ''}"
                return _plain(await self._fleet.release_as(name.removeprefix("@"), ReleaseBody(reason=why)))
            case arguments.InvokeAction(name=name, input=given):
                return await self._act(caller, key, "invoke_action", action=name, input=given)
            case arguments.SetChannelTopic(channel=channel, topic=topic):
                return await self._in_channel(caller, key, "set_channel_topic", channel, topic=topic)
            case arguments.MarkMessageRead(message_id=message_id):
                return await self._act(caller, key, "mark_message_read", message_id=message_id)
            case arguments.AddReaction(message_id=message_id, emoji=emoji):
                return await self._act(caller, key, "add_reaction", message_id=message_id, emoji=emoji)
            case arguments.RemoveReaction(message_id=message_id, emoji=emoji):
                return await self._act(caller, key, "remove_reaction", message_id=message_id, emoji=emoji)
            case arguments.CreateChannel(name=name, topic=topic):
                return await self._act(
                    caller, key, "create_channel", name=name.removeprefix("#"), **({"topic": topic} if topic else {})
                )
            case arguments.JoinChannel(channel=channel):
                return await self._in_channel(caller, key, "join_channel", channel)
            case arguments.LeaveChannel(channel=channel):
                return await self._in_channel(caller, key, "leave_channel", channel)
            case arguments.InviteToChannel(channel=channel, agent_name=name):
                return await self._in_channel(
                    caller, key, "invite_to_channel", channel, agent_name=name.removeprefix("@")
                )
            case arguments.GetMessageThread(message_id=message_id):
                return _as_object(await self._access.look(caller, f"/v1/messages/{message_id}/replies"), "thread")
            case arguments.GetMessageReaders(message_id=message_id):
                return {"readers": await self._access.look(caller, f"/v1/messages/{message_id}/readers")}
            case arguments.ListMessages():
                return await self._messages(caller, wanted)
            case arguments.ListDms():
                return {"conversations": await self._access.look(caller, "/v1/dm/conversations")}
            case arguments.ListChannels():
                return {"channels": await self._access.look(caller, "/v1/channels")}
            case arguments.ListActions():
                return {"actions": await self._access.look(caller, "/v1/actions")}
            case arguments.ListAgents(status=status):
                return {"agents": [one for one in await self._agents(caller) if status in ("all", one["status"])]}
            case arguments.CheckInbox(limit=limit):
                return await self._unread(caller, limit)
            case arguments.SearchMessages():
                return await self._search(caller, wanted)
            case arguments.MyStatus():
                return self._status(caller)
            case arguments.WhyMessage(message_id=message_id):
                return {"stories": await self._why(caller, message_id)}
            case arguments.ShowMessage(message_id=message_id):
                return await self._reading.one(caller, message_id)
            case arguments.ReadThread(message_id=message_id):
                return await self._reading.thread(caller, message_id)
            case arguments.FindMessages():
                return {"messages": await self._reading.find(caller, wanted)}

    def _by_the_engines_id(self, wanted: AnyArguments) -> AnyArguments:
        """The same, of a message by the id that the engine knows.

        Raises:
            InvalidRequest: `publish_pending`, the engine does not have the message yet; `message_not_found`.
        """
        known_here = getattr(wanted, "message_id", "")
        if isinstance(wanted, arguments.FindMessages) and wanted.thread:
            thread = self._access.state.published_as.get(wanted.thread, wanted.thread)
            return msgspec.structs.replace(wanted, thread=thread)
        if isinstance(wanted, arguments.ReplyToThread | arguments.WhyMessage) or not is_local_id(known_here):
            return wanted
        state = self._access.state
        if (message_id := state.published_as.get(known_here)) is not None:
            return msgspec.structs.replace(wanted, message_id=message_id)
        if f"message:{known_here}" in state.messages:
            text = f"the engine does not have message {known_here} yet; ask again later, or answer it: that is kept"
            raise InvalidRequest(Refusal.UNAVAILABLE, "publish_pending", text, field="message_id")
        raise InvalidRequest(
            Refusal.ABSENT, "message_not_found", f"there is no message {known_here}", field="message_id"
        )

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _send_dm(self, caller: AgentCaller, wanted: arguments.SendDm, key: str) -> Result:
        to = wanted.to.strip().removeprefix("@")
        kind = target_type(to)
        if kind in ("channel", "thread") or not to:
            text = f"'{wanted.to}' is no agent; use post_message for channels and reply_to_thread for threads"
            raise InvalidRequest(Refusal.INVALID, "invalid_field", text, field="to")
        send = self._send(caller, key, to=to, text=wanted.text, mode=wanted.mode, attachments=wanted.attachments)
        try:
            return await send
        except InvalidRequest as error:
            if error.code == "recipient_not_found":
                raise await self._with_nearest(caller, error, to) from error
            raise

    async def _post(self, caller: AgentCaller, wanted: arguments.PostMessage, key: str) -> Result:
        to = f"#{wanted.channel.removeprefix('#')}"
        send = self._send(caller, key, to=to, text=wanted.text, mode=wanted.mode, attachments=wanted.attachments)
        try:
            return await send
        except InvalidRequest as error:
            if error.code == "recipient_not_found":
                raise await self._without_channel(caller, error, to) from error
            raise

    async def _send(
        self,
        caller: AgentCaller,
        key: str,
        *,
        to: str,
        text: str,
        mode: str = "wait",
        thread_id: str = "",
        attachments: tuple[str, ...] = (),
    ) -> Result:
        if not text.strip():
            raise InvalidRequest(Refusal.INVALID, "missing_field", "a message needs a text", field="text")
        reply = await self._ask(
            lambda request_id: SendRequested(
                request_id=request_id,
                to=to,
                text=text,
                thread_id=thread_id,
                mode=mode,
                attachments=attachments,
                key=key,
                agent_id=msgspec.UNSET if caller.is_operator else caller.agent_id,
            )
        )
        published = bool(reply["relaycast_published"])
        return {
            "status": "published" if published else "pending",
            "message_id": reply["message_id"],
            "event_id": reply["event_id"],
            "to": to,
            "from": reply["sent_as"],
        } | ({"replayed": True} if reply.get("replayed") else {})

    # --- changes ------------------------------------------------------------------------------------------------------

    async def _in_channel(self, caller: AgentCaller, key: str, act: str, channel: str, **more: str) -> Result:
        name = channel.removeprefix("#")
        try:
            return await self._act(caller, key, act, channel=name, **more)
        except InvalidRequest as error:
            if error.code == "channel_not_found":
                raise await self._without_channel(caller, error, name) from error
            if error.code == "agent_not_found":
                raise await self._with_nearest(caller, error, more.get("agent_name", "")) from error
            raise

    async def _act(self, caller: AgentCaller, key: str, act: str, **given: Any) -> Result:
        reply = await self._ask(
            lambda request_id: ActRequested(
                request_id=request_id, agent_id=caller.agent_id, act=act, arguments=given, key=key
            )
        )
        data = reply["data"]
        return {"done": True} | (data if isinstance(data, dict) else {})

    async def _send_group(self, caller: AgentCaller, wanted: arguments.SendGroupDm, key: str) -> Result:
        """To the conversation of exactly these agents and the caller, which is opened where there is none."""
        names = sorted({name.strip().removeprefix("@") for name in wanted.participants} - {caller.name})
        if not names:
            raise InvalidRequest(
                Refusal.INVALID, "invalid_field", "a group needs someone other than you", field="participants"
            )
        known = await self._group_of(caller, names, wanted.name)
        if not known:
            try:
                opened = await self._act(
                    caller, f"{key} group" if key else "", "open_group", participants=names,
                    **({"name": wanted.name} if wanted.name else {}),
                )  # fmt: skip
            except InvalidRequest as error:
                if error.code == "agent_not_found":
                    raise await self._with_nearest(caller, error, await self._missing(caller, names)) from error
                raise
            known = str(opened.get("id", ""))
        return await self._send(caller, key, to=known, text=wanted.text) | {"participants": names}

    async def _group_of(self, caller: AgentCaller, names: list[str], title: str) -> str:
        for row in _objects(await self._access.look(caller, "/v1/dm/conversations")):
            others = {str(one.get("agent_name", "")) for one in _objects(row.get("participants"))} - {caller.name}
            if row.get("type") == "group" and others == set(names) and (row.get("name") or "") == title:
                return str(row.get("id", ""))
        return ""

    async def _missing(self, caller: AgentCaller, names: list[str]) -> str:
        known = {name.lower() for name in await self._known(caller, "/v1/agents/presence", "agent_name")}
        return next((name for name in names if name.lower() not in known), names[0])

    # --- work -----------------------------------------------------------------------------------------------------------

    async def _submit(self, caller: AgentCaller, wanted: arguments.SubmitResult) -> Result:
        reply = await self._ask(
            lambda request_id: ResultRequested(
                request_id=request_id,
                agent_id=caller.agent_id,
                data=wanted.data,
                final=wanted.final,
                metadata=wanted.metadata,
            )
        )
        return {name: value for name, value in reply.items() if name != "success"}

    async def _spawn(self, caller: AgentCaller, wanted: arguments.Spawn) -> Result:
        """Only what the operator offers for placement, with nothing added to it, as for callers on other machines."""
        settings = self._access.state.settings
        offers = [name.removeprefix("spawn:") for name in (settings.capabilities if settings is not None else ())]
        if wanted.cli not in offers:
            text = f"this node offers {', '.join(offers) or 'nothing'} to agents, not '{wanted.cli}'"
            raise InvalidRequest(Refusal.FORBIDDEN, "cli_not_allowed", text, field="cli")
        value: Result = {"name": wanted.name, "cli": wanted.cli, "task": wanted.task}
        if wanted.channel is not None:
            value["channels"] = [wanted.channel.removeprefix("#")]
        if wanted.model:
            value["model"] = wanted.model
        return _plain(await self._fleet.spawn_as(value, source=f"agent:{caller.name}"))

    async def _ask(self, build: Callable[[str], Input]) -> Result:
        try:
            reply = await self._access.ask(build, ANSWER_S)
        except TimeoutError as error:
            text = "The broker did not answer in time; the request may still be carried out"
            raise InvalidRequest(Refusal.NO_ANSWER, "request_timeout", text) from error
        result: Result = msgspec.to_builtins(rendered(reply))
        return result

    # --- looks --------------------------------------------------------------------------------------------------------

    async def _messages(self, caller: AgentCaller, wanted: arguments.ListMessages) -> Result:
        asked = {"limit": wanted.limit, "before": wanted.before, "after": wanted.after}
        query = {name: value for name, value in asked.items() if value is not None}
        try:
            return {"messages": await self._reading.page(caller, wanted.channel, query)}
        except InvalidRequest as error:
            if error.code == "channel_not_found":
                raise await self._without_channel(caller, error, wanted.channel) from error
            raise

    async def _agents(self, caller: AgentCaller) -> list[Result]:
        rows = _objects(await self._access.look(caller, "/v1/agents/presence"))
        here = self._access.state.agents
        return [
            {
                "name": str(row.get("agent_name", "")),
                "agent_id": str(row.get("agent_id", "")),
                "status": str(row.get("status", "")),
                "on_this_node": row.get("agent_id") in here,
            }
            for row in rows
        ]

    async def fetch(self, caller: AgentCaller, limit: int) -> Used:
        """What waits for an agent: given to it, and not typed once the answer has gone out; and what it has not read."""
        unread = await self._unread(caller, limit)
        reply = await self._ask(
            lambda request_id: FetchRequested(request_id=request_id, agent_id=caller.agent_id, limit=limit)
        )
        own = self._own(caller)
        waiting = [row for row in own.get("waiting", ()) if row["reason"] != Reason.BEING_FETCHED]
        result = {
            "messages": reply["messages"],
            "waiting": waiting[:limit],
            "waiting_count": own.get("waiting_count", 0) - len(reply["messages"]),
        }
        return Used(result | unread, str(reply["fetch_id"]))

    async def _unread(self, caller: AgentCaller, limit: int) -> Result:
        """What the engine says is not read; an engine that does not answer keeps nobody from what waits here."""
        try:
            inbox = _as_object(await self._access.look(caller, "/v1/inbox"), "inbox")
        except InvalidRequest as error:
            if error.kind is not Refusal.UNAVAILABLE:
                raise
            return {"unread_channels": [], "mentions": [], "unread_dms": [], "unread_unknown": error.message}
        return {name: rows[:limit] if isinstance(rows, list) else rows for name, rows in inbox.items()}

    async def _search(self, caller: AgentCaller, wanted: arguments.SearchMessages) -> Result:
        places = [wanted.channel] if wanted.channel is not None else await self._reading.places(caller)
        needle, sender = wanted.query.casefold(), (wanted.sender or "").removeprefix("@").casefold()
        hits: list[Result] = []
        for place in places[:MAX_SEARCHED]:
            for row in _objects(await self._reading.page(caller, place, {"limit": PAGE})):
                who = str(row.get("agent_name", ""))
                if needle in str(row.get("text", "")).casefold() and sender in ("", who.casefold()):
                    hits.append(row | {"in": place})
        hits.sort(key=lambda row: _number(row.get("id")), reverse=True)
        looked = {"conversations": min(len(places), MAX_SEARCHED), "of": len(places), "newest_of_each": PAGE}
        return {"messages": hits[: wanted.limit], "found": len(hits), "looked_at": looked}

    def _status(self, caller: AgentCaller) -> Result:
        state = self._access.state
        unpublished = [one.event_id for one in state.messages.values() if one.author_id == caller.agent_id]
        return self._own(caller) | {
            "unpublished_count": len(unpublished),
            "unpublished": unpublished[: views.WAITING_SHOWN],
        }

    def _own(self, caller: AgentCaller) -> Result:
        own = views.own(self._access.state, caller.agent_id, self._access.now())
        return {} if own is None else msgspec.to_builtins(own)

    async def _why(self, caller: AgentCaller, message_id: str) -> list[Result]:
        unknown = InvalidRequest(Refusal.ABSENT, "unknown_id", f"you neither sent nor received a message {message_id}")
        try:
            audited = await self._access.gateway.audit.why(message_id)
        except InvalidRequest as error:
            raise unknown from error
        stories: list[Result] = msgspec.to_builtins(audited)
        sent = caller.is_operator or any(_says(story, "author_id", caller) for story in stories)
        theirs = [story for story in stories if sent or _says(story, "agent_id", caller)]
        shown = [_for_agent(story) for story in theirs if story["subject"].startswith(("delivery:", "message:"))]
        if not shown:
            raise unknown
        return shown

    # --- names that are nearest -----------------------------------------------------------------------------------------

    async def _with_nearest(self, caller: AgentCaller, error: InvalidRequest, name: str) -> InvalidRequest:
        known = await self._known(caller, "/v1/agents/presence", "agent_name")
        where = "relaybroker agent ls" if caller.is_operator else "list_agents"
        return _nearest(error, f"there is no agent '{name}'", name, known, where)

    async def _without_channel(self, caller: AgentCaller, error: InvalidRequest, name: str) -> InvalidRequest:
        plain = name.removeprefix("#")
        known = await self._known(caller, "/v1/channels", "name")
        return _nearest(error, f"there is no channel #{plain}", plain, known, "list_channels")

    async def _known(self, caller: AgentCaller, path: str, field: str) -> list[str]:
        """Names at the engine; none if it does not say: the refusal itself stands without them."""
        try:
            return [str(row[field]) for row in _objects(await self._access.look(caller, path)) if row.get(field)]
        except InvalidRequest:
            return []


def _nearest(error: InvalidRequest, text: str, name: str, known: Iterable[str], where: str) -> InvalidRequest:
    nearest = nearest_names(name, known)
    more = f"; nearest: {', '.join(nearest)}" if nearest else f"; see {where}"
    return InvalidRequest(
        error.kind, error.code, f"{text}{more}. Nothing was sent.", **(error.extra | {"nearest": nearest})
    )


def _plain(made: Any) -> Result:
    """An answer without the envelope."""
    return {name: value for name, value in msgspec.to_builtins(made).items() if name != "success"}


def _says(story: Result, field: str, caller: AgentCaller) -> bool:
    """Whether a story's own events name this agent there."""
    return any(
        step["stream"] == story["subject"] and step["detail"].get(field) == caller.agent_id for step in story["steps"]
    )


def _for_agent(story: Result) -> Result:
    """A story as an agent is told it: of its own events only, without what other programs and the operator had to do with it."""
    kept = {
        name: story[name] for name in ("subject", "outcome", "state", "reason", "verdict", "otherwise", "message_id")
    }
    steps = [
        {"at": step["at"], "event": step["event"]} for step in story["steps"] if step["stream"] == story["subject"]
    ]
    return kept | {"steps": steps}


def _as_object(answer: Any, name: str) -> Result:
    return answer if isinstance(answer, dict) else {name: answer}


def _objects(answer: Any) -> list[Result]:
    return [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else 0


def encoded(result: Result) -> str:
    """A result as JSON text."""
    return msgspec.json.encode(result).decode()
