"""Decisions about the node link: tokens, dials, registration, back-off, heartbeats, inventory.

Source: spec/node-protocol.md sections 1.5, 1.8, 2.7 to 2.11.
"""

from __future__ import annotations

from relaybroker.domain import engine_status, events, frames, identity
from relaybroker.domain import link as link_machine
from relaybroker.domain.action import ActionState
from relaybroker.domain.effects import CloseLink, DialEngine, EngineCall, SendFrame
from relaybroker.domain.engine_requests import EnrolNode, LookUpNode
from relaybroker.domain.entities import Pending
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered, LinkClosed, LinkDialFailed, LinkOpened
from relaybroker.domain.link import LinkState
from relaybroker.domain.reasons import Reason
from relaybroker.domain.state import State as BrokerState
from relaybroker.domain.turn import Turn

DEAD_TOKEN_CODES = ("node_id_mismatch", "node_not_found")
"""Client errors that speak of the moment; any other one is final."""
_PINNED_ADVICE = (
    "RELAY_NODE_TOKEN is the operator's and is never replaced: set a valid one (and its RELAY_NODE_ID) and restart"
)


def begin(turn: Turn, *, probe: bool = False) -> None:
    """A new incarnation: with a token the link dials, without one it asks for one."""
    turn.record(events.LinkBegun(incarnation=turn.state.link.incarnation + 1, probe=probe), turn.node)
    advance(turn)


def advance(turn: Turn) -> None:
    """From `offline` or `backing_off` to the next attempt."""
    link = turn.state.link
    if link.has_token and not link.token_dead:
        _dial(turn)
    else:
        _mint(turn)


# --- enrolment ------------------------------------------------------------------------------------------------------------


def _mint(turn: Turn) -> None:
    """Ask for a token. Older engines give a name's node to whoever enrols under it: first see that nobody else has ours."""
    link, node_id = turn.state.link, turn.settings.node_id
    name = link.node_name
    distinct = link.name_probed or name.endswith(identity.distinct_node_name("", node_id))
    call_id = f"{'mint' if distinct else 'name'}_{turn.fresh('mint')}"
    turn.record(events.TokenAsked(call_id=call_id, node_name=name, probe=not distinct), turn.node)
    if distinct:
        _enrol(turn, call_id)
    else:
        turn.effect(EngineCall(call_id=call_id, request=LookUpNode(name=name), auth="workspace"))


def _enrol(turn: Turn, call_id: str) -> None:
    turn.effect(
        EngineCall(
            call_id=call_id,
            request=EnrolNode(
                node_id=turn.settings.node_id, name=turn.state.link.node_name, version=turn.settings.version
            ),
            auth="workspace",
            capture="node",
            timeout_s=link_machine.MINT_S,
        )
    )


def enrolment_answered(turn: Turn, answer: EngineAnswered | EngineUnanswered) -> None:
    """The engine said who has the name, or answered an enrolment, or did not."""
    if isinstance(answer, EngineUnanswered):
        back_off(turn, Reason.MINT_FAILED, answer.detail, token_dead=True)
    elif answer.call_id.startswith("name_"):
        _name_probed(turn, answer)
    else:
        _minted(turn, answer)


def _name_probed(turn: Turn, answer: EngineAnswered) -> None:
    data = answer.data if isinstance(answer.data, dict) else {}
    holder = str(data.get("id") or "") if engine_status.is_done(answer.status) else ""
    if engine_status.may_pass(answer.status):
        back_off(turn, Reason.MINT_FAILED, _said(answer), token_dead=True)
    else:
        _settle_name(turn, "" if holder == turn.settings.node_id else holder)


def _settle_name(turn: Turn, holder: str) -> None:
    """Enrol, under a distinct name if another node has ours."""
    name = turn.state.link.node_name
    call_id = f"mint_{turn.fresh('mint')}"
    turn.record(
        events.NodeNameSettled(
            node_name=identity.distinct_node_name(name, turn.settings.node_id) if holder else name,
            holder=holder,
            call_id=call_id,
        ),
        turn.node,
    )
    _enrol(turn, call_id)


def _is_distinct(turn: Turn) -> bool:
    return turn.state.link.node_name.endswith(identity.distinct_node_name("", turn.settings.node_id))


def _minted(turn: Turn, answer: EngineAnswered) -> None:
    data = answer.data if isinstance(answer.data, dict) else {}
    granted = engine_status.is_done(answer.status)
    if granted and data.get("id") == turn.settings.node_id and data.get("token"):
        turn.record(events.TokenGranted(node_id=str(data["id"]), fingerprint=str(data["token"])), turn.node)
        _dial(turn)
    elif (granted or answer.code == "node_name_conflict") and not _is_distinct(turn):
        _settle_name(turn, str(data.get("id") or "another node"))
    elif granted:
        refuse(turn, Reason.MINT_FAILED, f"the node name belongs to node {data.get('id')}: choose another --name")
    elif engine_status.is_final(answer.status):
        refuse(turn, Reason.MINT_FAILED, _said(answer))
    else:
        back_off(turn, Reason.MINT_FAILED, _said(answer), token_dead=True)


def _said(answer: EngineAnswered) -> str:
    return f"{answer.status} {answer.code} {answer.message}".strip()


# --- dial and registration ------------------------------------------------------------------------------------------------


def _dial(turn: Turn) -> None:
    dial = turn.state.link.dial + 1
    turn.record(events.LinkDialled(dial=dial), turn.node)
    turn.effect(DialEngine(dial=dial))


def is_current(turn: Turn, dial: int, *states: LinkState) -> bool:
    """Whether a report belongs to the current dial in one of these states; records that it does not."""
    link = turn.state.link
    if dial == link.dial and link.state in states:
        return True
    turn.record(events.LinkReportIgnored(dial=dial, detail=f"link is {link.state}, dial {link.dial}"), turn.node)
    return False


def opened(turn: Turn, report: LinkOpened) -> None:
    """The socket is open: register, inventory, heartbeat go out back to back."""
    if not is_current(turn, report.dial, LinkState.CONNECTING):
        return
    request_id = f"node_register_{turn.fresh('register')}"
    turn.record(
        events.LinkOpened(dial=report.dial, request_id=request_id, until=turn.now + link_machine.REGISTER_REPLY_S),
        turn.node,
    )
    _bring_up(turn, request_id)


def _bring_up(turn: Turn, request_id: str) -> None:
    send(turn, _register_frame(turn, request_id))
    publish_inventory(turn)
    heartbeat(turn)


def _register_frame(turn: Turn, request_id: str) -> frames.Frame:
    state = turn.state
    return frames.node_register(
        request_id,
        name=state.node_name,
        node_id=turn.settings.node_id,
        manifest=state.manifest,
        cursor=state.link.knows_cursor,
    )


def accepted(turn: Turn, data: dict[str, object]) -> None:
    """The engine accepted the registration: the link is online. Keys of newer engines are used where they help."""
    listed = data.get("accepted_capabilities")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    turn.record(
        events.LinkOnline(
            dial=turn.state.link.dial,
            knows_cursor="provider" in data or isinstance(listed, list),
            not_accepted=tuple(
                f"{row.get('name')}: {row.get('reason') or 'no reason given'}"[:200]
                for row in rows[:64]
                if row.get("accepted") is False
            ),
        ),
        turn.node,
    )
    if turn.state.link.manifest_stale:
        reregister(turn)


def send(turn: Turn, frame: frames.Frame) -> None:
    """Put a frame on the current socket."""
    turn.effect(SendFrame(dial=turn.state.link.dial, frame=frame))


def is_online(turn: Turn) -> bool:
    """Whether frames other than the bring-up may go out."""
    return turn.state.link.state == LinkState.ONLINE


def dial_failed(turn: Turn, report: LinkDialFailed) -> None:
    """No socket: a dead token is replaced within its budget, an address that is none ends it, all else is tried again."""
    if not is_current(turn, report.dial, LinkState.CONNECTING):
        return
    detail = f"{report.status or ''} {report.detail}".strip()
    if report.status is not None and engine_status.rejects_the_credential(report.status):
        token_rejected(turn, detail)
    elif report.status is None and report.detail == "bad_address":
        advice = "check RELAYCAST_BASE_URL, and RELAY_NODE_TOKEN if it is set"
        refuse(turn, Reason.DIAL_FAILED, f"the engine's address or the token cannot be used: {advice}")
    else:
        gone = report.status is None and report.detail == "no_credential"
        back_off(turn, Reason.DIAL_FAILED, detail, token_dead=gone)


def token_rejected(turn: Turn, detail: str) -> None:
    """The engine does not take the node token (any more)."""
    link = turn.state.link
    last_hour = sum(when > turn.now - 3600.0 for when in link.remint_times)
    if turn.settings.token_pinned:
        refuse(turn, Reason.TOKEN_REJECTED, f"{detail}; {_PINNED_ADVICE}")
    elif link.probing:
        _probe_rejected(turn, detail, last_hour)
    elif link.remints >= link_machine.MAX_REMINTS or last_hour >= link_machine.MAX_REMINTS_PER_HOUR:
        spent = f"replaced {link.remints} times since the last good session, {last_hour} times within the hour"
        refuse(turn, Reason.TOKEN_REJECTED, f"{detail}; {spent}: does another broker run as this node?")
    else:
        back_off(turn, Reason.TOKEN_REJECTED, detail, token_dead=True)


def _probe_rejected(turn: Turn, detail: str, last_hour: int) -> None:
    """Once in a while a mint may work again: one for each probe, within the hour's budget."""
    link = turn.state.link
    is_first = not any(when >= link.since_begun for when in link.remint_times)
    if turn.settings.reenrols and is_first and last_hour < link_machine.MAX_REMINTS_PER_HOUR:
        back_off(turn, Reason.TOKEN_REJECTED, detail, token_dead=True)
    else:
        refuse(turn, Reason.TOKEN_REJECTED, detail)


def registration_refused(turn: Turn, code: str, message: str) -> None:
    """The engine answered `node.register` or a heartbeat with an error."""
    detail = f"{code}: {message}"
    if code == "node_name_conflict" and turn.state.link.state == LinkState.REGISTERING and not _is_distinct(turn):
        _register_distinct(turn, message)
        return
    turn.effect(CloseLink(dial=turn.state.link.dial, detail="register refused"))
    if code in DEAD_TOKEN_CODES:
        token_rejected(turn, detail)
    elif code == "node_name_conflict":
        refuse(turn, Reason.REGISTER_REFUSED, detail)
    else:
        back_off(turn, Reason.REGISTER_REFUSED, detail)


def _register_distinct(turn: Turn, holder: str) -> None:
    request_id = f"node_register_{turn.fresh('register')}"
    turn.record(
        events.NodeNameSettled(
            node_name=identity.distinct_node_name(turn.state.link.node_name, turn.settings.node_id),
            holder=holder[:200],
            request_id=request_id,
        ),
        turn.node,
    )
    _bring_up(turn, request_id)


def closed(turn: Turn, report: LinkClosed) -> None:
    """The socket ended."""
    if report.dial == turn.state.link.dial and turn.state.link.state == LinkState.DRAINING:
        turn.record(events.LinkShut(detail=report.detail), turn.node)
        return
    if not is_current(turn, report.dial, LinkState.REGISTERING, LinkState.ONLINE):
        return
    detail = f"{report.code or ''} {report.detail}".strip()
    if "superseded" in report.detail:
        back_off(turn, Reason.SUPERSEDED, detail, delay_s=link_machine.SUPERSEDED_WAIT_S)
    elif report.detail in ("idle", "no_answer"):
        back_off(turn, Reason.NO_ANSWER, detail)
    else:
        back_off(turn, Reason.LINK_CLOSED, detail)


def back_off(
    turn: Turn, reason: Reason, detail: str, *, token_dead: bool = False, delay_s: float | None = None
) -> None:
    """Wait before the next attempt: full jitter between 1 s and twice the base."""
    link = turn.state.link
    if delay_s is None:
        low = link_machine.BACKOFF_FIRST_S
        high = min(link_machine.BACKOFF_MAX_S, 2 * link.base_delay)
        if reason is Reason.MINT_FAILED:
            low = min(link_machine.BACKOFF_MAX_S, link_machine.MINT_RETRY_FIRST_S * 2 ** min(link.mint_failures, 16))
            high = min(link_machine.BACKOFF_MAX_S, 1.5 * low)
        delay_s = low + (high - low) * turn.fraction("backoff")
    turn.record(
        events.LinkBackedOff(
            reason=reason,
            detail=detail[:500],
            delay_s=round(delay_s, 3),
            until=turn.now + delay_s,
            token_dead=token_dead or link.token_dead,
        ),
        turn.node,
    )


def refuse(turn: Turn, reason: Reason, detail: str) -> None:
    """Nothing this node may do by itself would help; it probes with the same credential every five minutes."""
    turn.record(
        events.LinkRefused(reason=reason, detail=detail[:500], until=turn.now + link_machine.REFUSED_PROBE_S),
        turn.node,
    )


def heartbeat(turn: Turn) -> None:
    """Say that the node lives and how many agents it has, counted now."""
    state = turn.state
    request_id = f"hb_{state.position}"
    turn.record(events.HeartbeatDue(request_id=request_id), turn.node)
    send(
        turn,
        frames.node_heartbeat(
            request_id,
            name=state.node_name,
            node_id=turn.settings.node_id,
            manifest=state.manifest,
            active_agents=len(state.live_registrations()),
            handlers_live=bool(turn.settings.capabilities) or state.has_handlers,
        ),
    )


def publish_inventory(turn: Turn) -> None:
    """Tell the engine exactly who lives here, also when it is nobody."""
    agents = turn.state.live_registrations()
    request_id = f"sync_{turn.fresh('sync')}"
    turn.record(
        events.InventoryPublished(request_id=request_id, names=tuple(agent.name for agent in agents)), turn.node
    )
    send(turn, frames.inventory_sync(request_id, agents))


def synced(turn: Turn, data: dict[str, object]) -> None:
    """The engine answered an inventory: what it did not take is visible."""
    rejected = data.get("rejected_agents")
    if isinstance(rejected, list) and rejected:
        turn.record(events.InventoryRejected(agents=tuple(str(row)[:200] for row in rejected[:64])), turn.node)


def fresh_register_id(turn: Turn) -> str:
    """The id for one more `node.register`."""
    return f"node_register_{turn.fresh('again')}"


def reregister(turn: Turn, request_id: str = "") -> None:
    """Repeat `node.register` on the same socket: the newest manifest counts, and the engine offers its open rows again."""
    request_id = request_id or fresh_register_id(turn)
    turn.record(
        events.NodeReregistering(request_id=request_id, until=turn.now + link_machine.REGISTER_REPLY_S),
        turn.node,
    )
    send(turn, _register_frame(turn, request_id))


# --- time -------------------------------------------------------------------------------------------------------------------


def due(turn: Turn) -> None:
    """Whatever the link has to do by now."""
    link = turn.state.link
    if link.until and link.until <= turn.now:
        match link.state:
            case LinkState.BACKING_OFF:
                advance(turn)
            case LinkState.REFUSED:
                begin(turn, probe=True)
            case LinkState.REGISTERING:
                turn.effect(CloseLink(dial=link.dial, detail="no_answer"))
                back_off(turn, Reason.NO_ANSWER, "node.register was not answered")
            case _:
                pass
    if link.state != LinkState.ONLINE:
        return
    if late := next(
        (request for request in link.pending.values() if _is_vital(request) and request.until <= turn.now), None
    ):
        turn.effect(CloseLink(dial=link.dial, detail="no_answer"))
        back_off(turn, Reason.NO_ANSWER, f"{late.kind} was not answered")
        return
    if link.next_heartbeat <= turn.now:
        heartbeat(turn)
    if _sync_due(turn.state) <= turn.now:
        publish_inventory(turn)


def _is_vital(pending: Pending) -> bool:
    """Whether the link is taken for dead when this request stays unanswered."""
    return pending.kind in ("inventory.sync", "node.register")


def _sync_due(state: BrokerState) -> float:
    """When the next inventory.sync goes out.

    It waits for running invocations, which it would make the engine start again, and for registrations under way: an agent that the engine
    has registered and that is not listed, because the answer is still on its way, would go offline.
    """
    link = state.link
    due_at = link.next_inventory
    if link.inventory_changed_at and not link.sync_retry_s:
        due_at = min(due_at, link.inventory_changed_at)
    running = any(known.state == ActionState.RUNNING for known in state.open_actions())
    return due_at + link_machine.INVENTORY_WAIT_S if running or state.is_registering else due_at


def deadline(state: BrokerState) -> float | None:
    """When the link has to do something next."""
    link = state.link
    if link.state != LinkState.ONLINE:
        return link.until or None
    times = [link.next_heartbeat, _sync_due(state)]
    times += [request.until for request in link.pending.values() if _is_vital(request)]
    return min(times)
