"""How each request of the core is put to the engine's REST interface.

Source: spec/engine-contract.md section 2; spec/node-protocol.md sections 1.5 and 3.4.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from relaybroker.domain import engine_requests as asked
from relaybroker.domain.effects import EngineCall
from relaybroker.domain.engine_requests import EngineRequest

Body = dict[str, Any]


class HttpCall(msgspec.Struct, frozen=True, kw_only=True):
    """One REST request. Answered by exactly one EngineAnswered or EngineUnanswered."""

    call_id: str
    method: str
    path: str
    """Begins with /v1, percent-encoded."""
    auth: str
    """Vault reference: `workspace`, `own` or `agent:<agent_id>`."""
    body: Body | None = None
    idempotency_key: str = ""
    capture: str = ""
    """As in `EngineCall`."""
    timeout_s: float = 20.0


class _Put(NamedTuple):
    method: str
    path: str
    body: Body | None = None


def http_call(call: EngineCall) -> HttpCall:
    """A call of the core as a REST request."""
    method, path, body = _put(call.request)
    return HttpCall(
        call_id=call.call_id,
        method=method,
        path=path,
        auth=call.auth,
        body=body,
        idempotency_key=getattr(call.request, "key", ""),
        capture=call.capture,
        timeout_s=call.timeout_s,
    )


def path_segment(name: str) -> str:
    """A name as one segment of an engine path; nothing in it can leave its place."""
    return quote(name, safe="") if name not in (".", "..") else quote(name).replace(".", "%2E")


def _put(request: EngineRequest) -> _Put:
    match request:
        case asked.LookUpNode(name=name):
            return _Put("GET", f"/v1/nodes/{path_segment(name)}")
        case asked.EnrolNode():
            node = {"node_id": request.node_id, "name": request.name, "kind": "ws", "role": "broker"}
            return _Put("POST", "/v1/nodes", node | {"version": request.version})
        case asked.RegisterSelf(name=name):
            return _Put("POST", "/v1/agents", {"name": name, "type": "human"})
        case asked.CreateAgent(name=name):
            return _Put("POST", "/v1/agents", {"name": name})
        case asked.LookUpAgent(name=name):
            return _Put("GET", f"/v1/agents/{path_segment(name)}")
        case asked.TakeOverAgent(name=name):
            proof = {"expected_agent_id": request.agent_id, "actor": request.actor, "reason": "respawn"}
            body = proof | _session(request.session_ref) | {"node_id": request.node_id}
            return _Put("POST", f"/v1/agents/{path_segment(name)}/takeover", body)
        case asked.RotateToken(name=name):
            return _Put("POST", f"/v1/agents/{path_segment(name)}/rotate-token", {})
        case asked.ListNodeAgents(node_name=node_name):
            return _Put("GET", f"/v1/nodes/{path_segment(node_name)}/agents")
        case asked.BindAgent(node_name=node_name, name=name):
            body = {"agent_name": name} | _session(request.session_ref)
            return _Put("POST", f"/v1/nodes/{path_segment(node_name)}/agents", body)
        case asked.UnbindAgent(node_name=node_name, name=name):
            return _Put("DELETE", f"/v1/nodes/{path_segment(node_name)}/agents/{path_segment(name)}")
        case asked.PostToChannel(channel=channel):
            body = _message(request) | _given(data=request.data)
            return _Put("POST", f"/v1/channels/{path_segment(channel)}/messages", body)
        case asked.PostToConversation(conversation=conversation):
            return _Put("POST", f"/v1/dm/{path_segment(conversation)}/messages", _message(request))
        case asked.SendDirect(to=to):
            return _Put("POST", "/v1/dm", _message(request) | {"to": to})
        case asked.ReplyInThread(message_id=message_id, text=text):
            return _Put("POST", f"/v1/messages/{message_id}/replies", {"text": text} | _given(data=request.data))
        case asked.CreateChannel(name=name, topic=topic):
            return _Put("POST", "/v1/channels", {"name": name} | _given(topic=topic))
        case asked.JoinChannel(channel=channel):
            return _Put("POST", f"/v1/channels/{path_segment(channel)}/join", {})
        case asked.SetTopic(channel=channel, topic=topic):
            return _Put("PATCH", f"/v1/channels/{path_segment(channel)}/topic", {"topic": topic})
        case asked.LeaveChannel(channel=channel):
            return _Put("POST", f"/v1/channels/{path_segment(channel)}/leave", {})
        case asked.InviteToChannel(channel=channel, agent_name=agent_name):
            return _Put("POST", f"/v1/channels/{path_segment(channel)}/invite", {"agent_name": agent_name})
        case asked.AddReaction(message_id=message_id, emoji=emoji):
            return _Put("POST", f"/v1/messages/{path_segment(message_id)}/reactions", {"emoji": emoji})
        case asked.RemoveReaction(message_id=message_id, emoji=emoji):
            return _Put("DELETE", f"/v1/messages/{path_segment(message_id)}/reactions/{path_segment(emoji)}")
        case asked.OpenGroup(participants=participants, name=name):
            return _Put("POST", "/v1/dm/group", {"participants": list(participants)} | _given(name=name))
        case asked.InvokeAction(action=action):
            return _Put("POST", f"/v1/actions/{path_segment(action)}/invoke", {"input": request.input})
        case asked.MarkRead(message_id=message_id):
            return _Put("POST", f"/v1/messages/{path_segment(message_id)}/read", {})


def _message(request: asked.PostToChannel | asked.PostToConversation | asked.SendDirect) -> Body:
    return {"text": request.text, "mode": request.mode} | _given(attachments=list(request.attachments))


def _session(session_ref: str) -> Body:
    return _given(session_ref=session_ref)


def _given(**members: Any) -> Body:
    """The members that are not empty."""
    return {name: value for name, value in members.items() if value}
