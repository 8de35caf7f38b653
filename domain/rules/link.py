"""Decisions about the node link: tokens, dials, registration, back-off, heartbeats, inventory.

Source: spec/node-protocol.md sections 1.5, 1.8, 2.7 to 2.11.
"""

from __future__ import annotations

from domain import events, frames, node_connection
from domain.effects import CloseLink, DialEngine, EngineCall, SendFrame
from domain.inputs import EngineAnswered, EngineUnanswered, LinkClosed, LinkDialFailed, LinkOpened
from domain.node_connection import State
from domain.reasons import Reason
from domain.state import State as BrokerState
from domain.turn import Turn

_DEAD_TOKEN_CODES = ("node_id_mismatch", "node_not_found")


def begin(turn: Turn) -> None:
    """A new incarnation: with a token the link dials, without one it asks for one."""
    turn.record(events.LinkBegun(incarnation=turn.state.link.incarnation + 1), turn.node)
    advance(turn)


def advance(turn: Turn) -> None:
    """From `offline` or `backing_off` to the next attempt."""
    link = turn.state.link
    if link.has_token and not link.token_dead:
        _dial(turn)
    else:
        _mint(turn)


def _mint(turn: Turn) -> None:
    settings = turn.settings
    call_id = f"mint_{turn.fresh('mint')}"
    turn.record(events.TokenAsked(call_id=call_id, node_name=settings.node_name), turn.node)
    turn.effect(
        EngineCall(
            call_id=call_id,
            method="POST",
            path="/v1/nodes",
            auth="workspace",
            capture="node",
            body={
                "node_id": settings.node_id,
                "name": settings.node_name,
                "kind": "ws",
                "role": "broker",
                "version": settings.version,
            },
        )
    )


def minted(turn: Turn, answer: EngineAnswered) -> None:
    """The engine answered an enrolment."""
    data = answer.data if isinstance(answer.data, dict) else {}
    detail = f"{answer.status} {answer.code} {answer.message}".strip()
    if answer.status in (200, 201) and data.get("id") == turn.settings.node_id and data.get("token"):
        turn.record(
            events.TokenGranted(node_id=str(data["id"]), fingerprint=str(data["token"])),
            turn.node,
        )
        _dial(turn)
    elif answer.status in (200, 201):
        refuse(turn, Reason.MINT_FAILED, f"the node name belongs to node {data.get('id')}: choose another --name")
    elif answer.status in (400, 401, 403, 409):
        refuse(turn, Reason.MINT_FAILED, detail)
    else:
        back_off(turn, Reason.MINT_FAILED, detail, token_dead=True)


def mint_unanswered(turn: Turn, answer: EngineUnanswered) -> None:
    """The enrolment got no answer."""
    back_off(turn, Reason.MINT_FAILED, answer.detail, token_dead=True)


def _dial(turn: Turn) -> None:
    dial = turn.state.link.dial + 1
    turn.record(events.LinkDialled(dial=dial), turn.node)
    turn.effect(DialEngine(dial=dial))


def is_current(turn: Turn, dial: int, *states: State) -> bool:
    """Whether a report belongs to the current dial in one of these states; records that it does not."""
    link = turn.state.link
    if dial == link.dial and link.state in states:
        return True
    turn.record(events.LinkReportIgnored(dial=dial, detail=f"link is {link.state}, dial {link.dial}"), turn.node)
    return False


def opened(turn: Turn, report: LinkOpened) -> None:
    """The socket is open: register, inventory, heartbeat go out back to back."""
    if not is_current(turn, report.dial, State.CONNECTING):
        return
    request_id = f"node_register_{turn.fresh('register')}"
    turn.record(
        events.LinkOpened(dial=report.dial, request_id=request_id, until=turn.now + node_connection.REGISTER_REPLY_S),
        turn.node,
    )
    send(turn, _register_frame(turn, request_id))
    publish_inventory(turn)
    heartbeat(turn)


def _register_frame(turn: Turn, request_id: str) -> frames.Frame:
    settings = turn.settings
    return frames.node_register(
        request_id,
        name=settings.node_name,
        node_id=settings.node_id,
        capabilities=settings.capabilities,
        version=settings.version,
    )


def send(turn: Turn, frame: frames.Frame) -> None:
    """Put a frame on the current socket."""
    turn.effect(SendFrame(dial=turn.state.link.dial, frame=frame))


def is_online(turn: Turn) -> bool:
    """Whether frames other than the bring-up may go out."""
    return turn.state.link.state == State.ONLINE


def dial_failed(turn: Turn, report: LinkDialFailed) -> None:
    """No socket: a dead token is replaced within its budget, everything else waits and tries again."""
    if not is_current(turn, report.dial, State.CONNECTING):
        return
    detail = f"{report.status or ''} {report.detail}".strip()
    if report.status == 401:
        token_rejected(turn, detail)
    else:
        back_off(turn, Reason.DIAL_FAILED, detail)


def token_rejected(turn: Turn, detail: str) -> None:
    """The engine does not take the node token (any more)."""
    if turn.settings.token_pinned or turn.state.link.mints >= node_connection.MAX_MINTS:
        refuse(turn, Reason.TOKEN_REJECTED, detail)
    else:
        back_off(turn, Reason.TOKEN_REJECTED, detail, token_dead=True)


def registration_refused(turn: Turn, code: str, message: str) -> None:
    """The engine answered `node.register` with an error."""
    turn.effect(CloseLink(dial=turn.state.link.dial, detail="register refused"))
    detail = f"{code}: {message}"
    if code in _DEAD_TOKEN_CODES:
        token_rejected(turn, detail)
    elif code == "node_name_conflict":
        refuse(turn, Reason.REGISTER_REFUSED, detail)
    else:
        back_off(turn, Reason.REGISTER_REFUSED, detail)


def closed(turn: Turn, report: LinkClosed) -> None:
    """The socket ended."""
    if report.dial == turn.state.link.dial and turn.state.link.state == State.DRAINING:
        turn.record(events.LinkShut(detail=report.detail), turn.node)
        return
    if not is_current(turn, report.dial, State.REGISTERING, State.ONLINE):
        return
    detail = f"{report.code or ''} {report.detail}".strip()
    if "superseded" in report.detail:
        back_off(turn, Reason.SUPERSEDED, detail, delay_s=node_connection.SUPERSEDED_WAIT_S)
    elif report.detail in ("idle", "no_answer"):
        back_off(turn, Reason.NO_ANSWER, detail)
    else:
        back_off(turn, Reason.LINK_CLOSED, detail)


def back_off(
    turn: Turn, reason: Reason, detail: str, *, token_dead: bool = False, delay_s: float | None = None
) -> None:
    """Wait before the next attempt: full jitter between 1 s and twice the base."""
    if delay_s is None:
        low = node_connection.BACKOFF_FIRST_S
        high = min(node_connection.BACKOFF_MAX_S, 2 * turn.state.link.base_delay)
        delay_s = low + (high - low) * turn.fraction("backoff")
    turn.record(
        events.LinkBackedOff(
            reason=reason,
            detail=detail[:500],
            delay_s=round(delay_s, 3),
            until=turn.now + delay_s,
            token_dead=token_dead or turn.state.link.token_dead,
        ),
        turn.node,
    )


def refuse(turn: Turn, reason: Reason, detail: str) -> None:
    """Nothing this node may do by itself would help; it probes with the same credential every five minutes."""
    turn.record(
        events.LinkRefused(reason=reason, detail=detail[:500], until=turn.now + node_connection.REFUSED_PROBE_S),
        turn.node,
    )


def heartbeat(turn: Turn) -> None:
    """Say that the node lives and how many agents it has."""
    turn.record(events.HeartbeatDue(), turn.node)
    settings = turn.settings
    send(
        turn,
        frames.node_heartbeat(
            f"hb_{turn.state.position}",
            name=settings.node_name,
            node_id=settings.node_id,
            capabilities=settings.capabilities,
            version=settings.version,
            active_agents=len(turn.state.live_registrations()),
        ),
    )


def publish_inventory(turn: Turn) -> None:
    """Tell the engine exactly who lives here, also when it is nobody."""
    agents = turn.state.live_registrations()
    request_id = f"sync_{turn.fresh('sync')}"
    turn.record(
        events.InventoryPublished(request_id=request_id, names=tuple(found.name for found in agents)), turn.node
    )
    send(turn, frames.inventory_sync(request_id, agents))


def resync(turn: Turn) -> None:
    """Repeat `node.register` on the same socket: the engine offers its open rows again."""
    send(turn, _register_frame(turn, f"resync_{turn.fresh('resync')}"))


def due(turn: Turn) -> None:
    """Whatever the link has to do by now."""
    link = turn.state.link
    if link.until and link.until <= turn.now:
        match link.state:
            case State.BACKING_OFF:
                advance(turn)
            case State.REFUSED:
                begin(turn)
            case State.REGISTERING:
                turn.effect(CloseLink(dial=link.dial, detail="no_answer"))
                back_off(turn, Reason.NO_ANSWER, "node.register was not answered")
            case _:
                pass
    if link.state != State.ONLINE:
        return
    if unanswered := [
        found for found in link.pending.values() if found.kind == "inventory.sync" and found.until <= turn.now
    ]:
        del unanswered
        turn.effect(CloseLink(dial=link.dial, detail="no_answer"))
        back_off(turn, Reason.NO_ANSWER, "inventory.sync was not answered")
        return
    if link.next_heartbeat <= turn.now:
        heartbeat(turn)
    if link.inventory_changed or link.next_inventory <= turn.now:
        publish_inventory(turn)


def deadline(state: BrokerState) -> float | None:
    """When the link has to do something next."""
    link = state.link
    if link.state != State.ONLINE:
        return link.until or None
    if link.inventory_changed:
        return state.now
    times = [link.next_heartbeat, link.next_inventory]
    times += [found.until for found in link.pending.values() if found.kind == "inventory.sync"]
    return min(times)
