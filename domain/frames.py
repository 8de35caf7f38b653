"""The frames of the node link: how outbound ones are built and how inbound ones are read.

Outbound is strict: only the keys that every engine version knows, absent optionals omitted. Inbound is lenient: unknown keys are ignored,
null counts as absent, and a frame is read as far as it makes sense.

Source: spec/node-protocol.md sections 2.2 to 2.4; invariants N10, N11.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from relaybroker.domain.entities import Registration
from relaybroker.domain.errors import FrameRejected
from relaybroker.domain.extraction import payload_type
from relaybroker.domain.mailbox import fan_key
from relaybroker.domain.manifest import DELIVERY_CURSOR, Capability, Manifest, load_of
from relaybroker.domain.reasons import Reason

Frame = dict[str, Any]


class Deliver(msgspec.Struct, frozen=True, kw_only=True):
    """A `deliver` frame that names a recipient and a sequence number. `poison`: the message itself cannot be read."""

    agent: str
    agent_id: str
    delivery_id: str
    msg_id: str
    seq: int
    mode: str
    payload: Any
    poison: bool

    def completed(self, agent_id: str) -> Deliver:
        """The frame with ids for what it lacks, the same ones whenever it comes again."""
        if self.msg_id and (self.delivery_id or not self.seq):
            return self
        msg_id = self.msg_id or f"poison_{agent_id}_{self.seq or self.delivery_id}"
        delivery_id = self.delivery_id or (f"del_{msg_id}_{agent_id}" if self.seq else "")
        return msgspec.structs.replace(self, msg_id=msg_id, delivery_id=delivery_id)


def frame_type(frame: Frame) -> str:
    """The type of an inbound frame.

    Raises:
        FrameRejected: no string type, or another protocol version.
    """
    kind = frame.get("type")
    if not isinstance(kind, str) or not kind:
        raise FrameRejected(Reason.BAD_FRAME, "no type")
    version = frame.get("v")
    if version != 1 or isinstance(version, bool):
        raise FrameRejected(Reason.BAD_VERSION, f"v is {version!r}"[:200], kind)
    return kind


def text_of(frame: Frame, key: str) -> str:
    """A string field, trimmed; "" when it is absent, null or of another type."""
    value = frame.get(key)
    return value.strip() if isinstance(value, str) else ""


def read_deliver(frame: Frame) -> Deliver:
    """Read a `deliver` frame as far as it goes.

    Raises:
        FrameRejected: neither agent nor agent_id, or no usable seq (`no_identity`).
    """
    agent, agent_id, seq = text_of(frame, "agent"), text_of(frame, "agent_id"), frame.get("seq")
    if not (agent or agent_id) or not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq < 2**64:
        raise FrameRejected(Reason.NO_IDENTITY, f"agent={agent!r} seq={seq!r}"[:200], "deliver")
    msg_id, payload = text_of(frame, "msg_id"), frame.get("payload")
    return Deliver(
        agent=agent,
        agent_id=agent_id,
        delivery_id=text_of(frame, "delivery_id"),
        msg_id=msg_id,
        seq=seq,
        mode="steer" if frame.get("mode") == "steer" else "wait",
        payload=payload,
        poison=not msg_id or payload is None,
    )


def fan_key_of(deliver: Deliver) -> str:
    """By what a frame without sequence number is recognised when it comes again."""
    return fan_key(deliver.delivery_id, deliver.msg_id, payload_type(deliver.payload))


class DeliveryFailure(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says about a message that it could not deliver."""

    message_id: str
    delivery_id: str
    target: str
    sender_ids: tuple[str, ...]
    failure: str


def read_delivery_failure(frame: Frame) -> DeliveryFailure | None:
    """The failure that a `context.update` reports; None if it reports something else."""
    data = frame.get("data")
    if text_of(frame, "event") != "delivery.failed" or not isinstance(data, dict) or not text_of(data, "message_id"):
        return None
    senders = frame.get("agent_ids")
    return DeliveryFailure(
        message_id=text_of(data, "message_id")[:200],
        delivery_id=text_of(data, "delivery_id")[:200],
        target=text_of(data, "target_agent_name")[:200],
        sender_ids=tuple(one for one in senders[:64] if isinstance(one, str)) if isinstance(senders, list) else (),
        failure=(text_of(data, "reason") or text_of(data, "error"))[:500],
    )


def node_register(request_id: str, *, name: str, node_id: str, manifest: Manifest, cursor: bool) -> Frame:
    """The first frame of every connection. `cursor`: the engine knows `relay:delivery-cursor-v1`."""
    capabilities = [_capability(capability) for capability in manifest.capabilities]
    if cursor:
        capabilities.append({"name": DELIVERY_CURSOR, "kind": "capacity"})
    return {
        "v": 1,
        "id": request_id,
        "type": "node.register",
        "name": name,
        "node_id": node_id,
        "capabilities": capabilities,
        "max_agents": manifest.max_agents,
        "tags": list(manifest.tags),
        "version": manifest.version,
        "resume_cursor": None,
    }


def node_heartbeat(
    request_id: str, *, name: str, node_id: str, manifest: Manifest, active_agents: int, handlers_live: bool
) -> Frame:
    """Load and liveness, as of now."""
    return {
        "v": 1,
        "id": request_id,
        "type": "node.heartbeat",
        "name": name,
        "node_id": node_id,
        "capabilities": [_capability(capability) for capability in manifest.capabilities],
        "max_agents": manifest.max_agents,
        "version": manifest.version,
        "load": load_of(active_agents, manifest.max_agents),
        "active_agents": active_agents,
        "handlers_live": handlers_live,
    }


def _capability(capability: Capability) -> Frame:
    frame: Frame = {"name": capability.name}
    if capability.kind:
        frame["kind"] = capability.kind
    if capability.metadata is not None:
        frame["metadata"] = capability.metadata
    return frame


def node_deregister(request_id: str) -> Frame:
    """The node leaves."""
    return {"v": 1, "id": request_id, "type": "node.deregister"}


def agent_register(request_id: str, *, name: str, invocation_id: str, session_ref: str) -> Frame:
    """An agent wants to live on this node."""
    frame: Frame = {"v": 1, "id": request_id, "type": "agent.register", "name": name}
    if invocation_id:
        frame["invocation_id"] = invocation_id
    if session_ref:
        frame |= {"session_ref": session_ref, "resumable": True}
    return frame


def agent_deregister(request_id: str, *, agent_id: str, name: str) -> Frame:
    """An agent no longer lives on this node. `name` "" = by its id alone."""
    frame: Frame = {"v": 1, "id": request_id, "type": "agent.deregister", "agent_id": agent_id}
    return frame | ({"name": name} if name else {})


def delivery_ack(request_id: str, *, agent: str, up_to: int) -> Frame:
    """Everything up to this sequence number is settled."""
    return {"v": 1, "id": request_id, "type": "delivery.ack", "agent": agent, "up_to_seq": up_to}


def action_result(request_id: str, *, invocation_id: str, output: Any, error: str) -> Frame:
    """The outcome of an invocation: exactly one of output and error."""
    frame: Frame = {"v": 1, "id": request_id, "type": "action.result", "invocation_id": invocation_id}
    return frame | ({"error": error} if error else {"output": output})


def inventory_sync(request_id: str, agents: Iterable[Registration]) -> Frame:
    """Exactly the agents that live here."""
    return {
        "v": 1,
        "id": request_id,
        "type": "inventory.sync",
        "agents": [_row(registration) for registration in agents],
    }


def _row(registration: Registration) -> Frame:
    row = {"agent_id": registration.agent_id, "name": registration.name}
    if registration.spec.session_ref:
        row["session_ref"] = registration.spec.session_ref
    return row
