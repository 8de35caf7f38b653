"""What `/ws` clients get: flat JSON objects with `kind`, in the published vocabulary.

Source: spec/local-api.md section 2.
"""

from __future__ import annotations

from typing import Any

from relaybroker.domain import announcements as announced
from relaybroker.domain.announcements import Announced, Announcement
from relaybroker.domain.instants import rfc3339
from relaybroker.domain.message import target_type
from relaybroker.domain.questions import Question
from relaybroker.domain.reasons import Reason

Body = dict[str, Any]


def frame_of(announcement: Announced) -> Body:
    """An announcement as an event of `/ws` and `/api/events/replay`."""
    return _body(announcement.what) | {
        "epoch": announcement.epoch,
        "timestamp": int(announcement.at * 1000),
        "seq": announcement.seq,
    }


def parent_label(source: str) -> str:
    """Who spawned an agent, in the words that clients know."""
    if source.startswith("agent:"):
        return source.removeprefix("agent:")
    return "Relaycast" if source == "relaycast_ws" else "Dashboard"


def _body(what: Announcement) -> Body:
    match what:
        case announced.AgentStarted(source=source):
            return _agent("agent_spawned", what) | {
                "source": "http_api" if source == "sidecar" else source,
                "parent": parent_label(source),
                "pre_registered": True,
                "registration_warning": None,
            }
        case announced.AgentReady(evidence=evidence):
            late = {"reason": "startup_timeout"} if evidence in ("unverified", "startup_timeout") else {}
            return _agent("worker_ready", what) | {"evidence": evidence} | late
        case announced.AgentBlocked(name=name, pattern=pattern, question=asked):
            return {"kind": "agent_blocked", "name": name, "pattern": pattern} | (_question(asked) if asked else {})
        case announced.AgentAnswered():
            answered = {"question": what.question, "option": what.option, "by": what.by}
            return {"kind": "agent_answered", "name": what.name} | answered
        case announced.AgentIdle(name=name, idle_s=idle_s, since=since):
            return {"kind": "agent_idle", "name": name, "idle_secs": round(idle_s), "since": rfc3339(since)}
        case announced.AgentReleased(name=name):
            return {"kind": "agent_released", "name": name}
        case announced.AgentExited():
            return {
                "kind": "agent_exited",
                "name": what.name,
                "code": what.code,
                "signal": None if what.signal is None else str(what.signal),
                "reason": str(what.reason),
                "uptime_secs": int(what.uptime_s),
                "last_output": what.last_output,
            }
        case announced.AgentEnded(name=name, reason=reason, last_output=last_output):
            wire_reason = "child_exited" if reason is Reason.WORKER_EXITED else "unknown"
            return {"kind": "agent_exit", "name": name, "reason": wire_reason, "last_output": last_output}
        case announced.AgentRestarting():
            return {
                "kind": "agent_restarting",
                "name": what.name,
                "code": what.code,
                "signal": None if what.signal is None else str(what.signal),
                "restart_count": what.restart_count,
                "delay_ms": round(what.delay_s * 1000),
                "reason": str(what.reason),
            }
        case announced.AgentRestarted(name=name, restart_count=count, pid=pid):
            return {"kind": "agent_restarted", "name": name, "restart_count": count, "pid": pid}
        case announced.AgentPermanentlyDead(name=name, reason=reason):
            return {"kind": "agent_permanently_dead", "name": name, "reason": str(reason)}
        case announced.AgentTokenRotated(name=name, cause=cause):
            return {"kind": "agent_token_rotated", "name": name, "cause": cause}
        case announced.ChannelJoined(name=name, channel=channel):
            return {"kind": "channel_subscribed", "name": name, "channels": [channel]}
        case announced.ChannelLeft(name=name, channel=channel):
            return {"kind": "channel_unsubscribed", "name": name, "channels": [channel]}
        case announced.ModeChanged():
            return {
                "kind": "agent_inbound_delivery_mode_changed",
                "name": what.name,
                "previous_mode": what.previous,
                "mode": what.mode,
                "revision": what.revision,
                "reason": what.reason or None,
            }
        case announced.HoldDrained(name=name, count=count, cause=cause):
            return {"kind": "agent_pending_drained", "name": name, "count": count, "reason": cause}
        case announced.MessageSeen():
            return {
                "kind": "relay_inbound",
                "event_id": what.event_id,
                "message_id": what.msg_id,
                "from": what.sender,
                "target": what.target,
                "body": what.body,
                "thread_id": what.thread_id or None,
                "workspace_id": what.workspace_id,
                "workspace_alias": None,
                "mode": what.mode,
                "injection_mode": what.mode,
                "names": list(what.names),
            }
        case announced.AgentResult():
            return {
                "kind": "agent_result",
                "name": what.name,
                "result_id": what.result_id,
                "data": what.data,
                "final": what.final,
                "metadata": what.metadata,
            }
        case announced.DeliveryQueued():
            body = _about("delivery_queued", what) | {"from": what.sender, "target": what.target}
            again = {"attempt": what.attempt} if what.attempt > 1 else {}
            return body | again | ({"reason": "inbound_delivery_manual_flush"} if what.by_hand else {})
        case announced.DeliveryHeld(seq=seq, reason=reason, until=until):
            body = _about("delivery_held", what) | {"agent": what.name, "seq_no": seq}
            return body | {"reason": str(reason), "deadline": int(until * 1000)}
        case announced.DeliveryTakenOver(seq=seq):
            return _about("delivery_taken_over", what) | {"agent": what.name, "seq_no": seq}
        case announced.DeliveryInjected(evidence=evidence):
            return _about("delivery_injected", what) | {"evidence": evidence}
        case announced.DeliveryRead():
            return _about("delivery_ack", what)
        case announced.DeliveryConfirmed(sender=sender):
            return _about("message_delivery_confirmed", what) | {"from": sender, "to": what.name}
        case announced.DeliveryMarkedRead(status=status, why=why):
            return _about("delivery_read_ack", what) | {"status": status} | ({"reason": why} if why else {})
        case announced.DeliveryRetried(attempts=attempts):
            return _about("delivery_retry", what) | {"attempts": attempts}
        case announced.DeliveryVerified(verification=verification, why=why):
            return _about("delivery_verified", what) | {"verification": verification} | ({"reason": why} if why else {})
        case announced.DeliveryReturned(reason=reason):
            return _about("delivery_returned", what) | {"agent": what.name, "reason": str(reason)}
        case announced.DeliveryFailed(reason=reason):
            return _about("delivery_failed", what) | {"reason": str(reason)}
        case announced.DeliveryAmbiguous(seq=seq, policy=policy):
            return _about("delivery_ambiguous", what) | {"agent": what.name, "seq_no": seq, "policy": policy}
        case announced.SenderTold():
            return {
                "kind": "message_delivery_failed",
                "name": what.name,
                "delivery_id": what.delivery_id or None,
                "event_id": what.event_id,
                "message_id": what.msg_id,
                "from": what.sender or None,
                "to": what.name,
                "attempts": what.attempts,
                "lastError": what.failure,
            }
        case announced.DeliveriesDropped(name=name, reason=reason, event_ids=event_ids):
            dropped = {"count": len(event_ids), "reason": str(reason), "event_ids": list(event_ids)}
            return {"kind": "delivery_dropped", "name": name} | dropped
        case announced.Undeliverable():
            return {
                "kind": "delivery_undeliverable",
                "agent": what.name,
                "name": what.name,
                "agent_id": what.agent_id,
                "seq_no": what.seq,
                "msg_id": what.msg_id,
                "reason": str(what.reason),
            }
        case announced.RangeMissing(name=name, first=first, last=last):
            return {"kind": "delivery_gap", "agent": name, "name": name, "from": first, "to": last}
        case announced.RangeLost(name=name, first=first, last=last):
            return {"kind": "delivery_lost", "agent": name, "name": name, "from": first, "to": last}
        case announced.DeadLetterAdded(letter_id=letter_id, reason=reason):
            return _about("dead_letter_added", what) | {"id": letter_id, "reason": str(reason)}
        case announced.DeadLetterRemoved(letter_id=letter_id, msg_id=msg_id, reason=reason):
            return {"kind": "dead_letter_removed", "id": letter_id, "event_id": msg_id, "reason": str(reason)}
        case announced.LinkMoved(state=state, reason=link_reason):
            return {"kind": "node_link_state", "state": state, "reason": link_reason}
        case announced.FrameRejected(frame_type=frame_type, reason=reason):
            return {"kind": "node_frame_rejected", "frame_type": frame_type, "reason": str(reason)}
        case announced.EngineErrorHeard(code=code, message=message, request_id=request_id):
            error = {"code": code, "message": message, "request_id": request_id or None}
            return {"kind": "node_engine_error"} | error
        case announced.MessagePublished(event_id=event_id, message_id=message_id, to=to):
            published = {"event_id": event_id, "message_id": message_id, "to": to}
            return {"kind": "relaycast_published"} | published | {"target_type": target_type(to)}
        case announced.PublishFailed(event_id=event_id, to=to, detail=detail):
            return {"kind": "relaycast_publish_failed", "event_id": event_id, "to": to, "reason": detail}
        case announced.ActionMoved(invocation_id=invocation_id, state=state, reason=action_reason):
            moved = {"kind": "action_state", "invocation_id": invocation_id, "state": state}
            return moved | ({} if action_reason is None else {"reason": str(action_reason)})


def _question(asked: Question) -> Body:
    options = [{"id": one.id, "label": one.label, "kind": one.kind} for one in asked.options]
    return {"question": {"id": asked.id, "kind": asked.kind, "text": list(asked.text), "options": options}}


def _agent(kind: str, what: announced.AgentStarted | announced.AgentReady) -> Body:
    return {
        "kind": kind,
        "name": what.name,
        "runtime": "pty" if what.has_terminal else "headless",
        "provider": None,
        "cli": what.cli,
        "model": what.model or None,
        "sessionId": what.session,
        "session_id": what.session,
        "pid": what.pid,
    }


def _about(kind: str, what: announced.AboutDelivery) -> Body:
    return {
        "kind": kind,
        "name": what.name,
        "delivery_id": what.delivery_id,
        "event_id": what.event_id,
        "message_id": what.msg_id,
    }
