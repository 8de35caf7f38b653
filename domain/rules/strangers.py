"""Decisions about frames for agents that do not live here: kept or left to the engine, answered once, said once.

| what is known of the agent | what becomes of the message | acknowledged |
|---|---|---|
| released here, or never registered here, and nobody has its name | a dead letter, before everything else | yes, behind it |
| its program ended here | left to the engine, which offers it when the agent registers again | no |
| its name is another agent's, or may be: it was asked for here since | left to the engine: acknowledgements go by name | no |

On each connection the engine is told once, behind the acknowledgement, that the agent is not here. A frame that comes again on the same
connection after that changes nothing and leaves nothing: an engine that repeats one for ever fills no log.

Source: spec/node-protocol.md section 4.7; scenario S8; failure-scenarios.md F011, F025; ADR-0064.
"""

from __future__ import annotations

from collections.abc import Callable

from relaybroker.domain import events, frames
from relaybroker.domain.entities import Delivery
from relaybroker.domain.mailbox import Mailbox, Verdict
from relaybroker.domain.reasons import RELEASES, Reason
from relaybroker.domain.rules import link, local_first, settling
from relaybroker.domain.turn import Turn

Open = Callable[[Turn, Mailbox, frames.Deliver, Callable[[Turn, Delivery], None]], None]
"""Opens a delivery for a frame; what is to be typed is given to the last argument."""


def offered(turn: Turn, offer: frames.Deliver, agent_id: str, open_delivery: Open) -> None:
    """Decide about a frame for an agent id that does not live here; it is never typed."""
    box = turn.state.mailboxes.get(agent_id)
    reason = Reason.UNKNOWN if box is None or not box.generation else Reason.RETIRED
    frame_key = f"{offer.seq} {offer.msg_id} {offer.delivery_id}"
    known = turn.state.strangers.get(agent_id)
    if known is not None and known.dial == turn.state.link.dial and frame_key in known.frames:
        turn.changes_nothing = True
        return
    keeps = link.is_online(turn) and _is_ours_to_keep(turn, offer, agent_id, box)
    is_met = known is not None and known.dial == turn.state.link.dial
    if not is_met:
        dial = turn.state.link.dial if link.is_online(turn) else 0
        met = events.StrangerMet(name=offer.agent, reason=reason, dial=dial, keeps=keeps)
        turn.record(met, f"mailbox:{agent_id}", offer.agent)
    if not keeps or not _kept(turn, offer.completed(agent_id), agent_id, reason, open_delivery):
        turn.record(
            events.FrameIgnored(reason=reason, seq=offer.seq, msg_id=offer.msg_id, delivery_id=offer.delivery_id),
            f"mailbox:{agent_id}",
            offer.msg_id,
        )
    if keeps:
        _acknowledge(turn, agent_id)
    if not is_met and link.is_online(turn):
        _deregister(turn, offer, agent_id)


def _is_ours_to_keep(turn: Turn, offer: frames.Deliver, agent_id: str, box: Mailbox | None) -> bool:
    """Whether the message becomes a dead letter here and is acknowledged."""
    name = (offer.agent or (box.name if box is not None else "")).lower()
    generation = box.generation if box is not None else 0
    if not name or turn.state.registration_of(name) is not None:
        return False
    others = (other for other in turn.state.mailboxes.values() if other is not box and other.name.lower() == name)
    met = (other for met_id, other in turn.state.strangers.items() if met_id != agent_id and other.name.lower() == name)
    asked_since = turn.state.generations.get(name, 0) > generation  # also unanswered: the engine may have done it
    if asked_since or any(not other.generation for other in others) or any(met):
        return False  # nobody can say that it had the name last: the engine may take the acknowledgement for the other one's
    return not generation or box is None or box.left_by in RELEASES


def _deregister(turn: Turn, offer: frames.Deliver, agent_id: str) -> None:
    """The engine is told that the agent is not here: by its id alone where another one has the name."""
    holder = turn.state.registration_of(offer.agent) if offer.agent else None
    if holder is None or holder.agent_id not in ("", agent_id):
        name = offer.agent if holder is None else ""
        link.send(turn, frames.agent_deregister(f"dereg_{turn.state.position}", agent_id=agent_id, name=name))


def _kept(turn: Turn, offer: frames.Deliver, agent_id: str, reason: Reason, open_delivery: Open) -> bool:
    """Make a dead letter of the message, or settle it as one that is not for typing. False if it is not the next one, or known."""
    if agent_id not in turn.state.mailboxes:
        turn.record(events.MailboxOpened(name=offer.agent, generation=0), f"mailbox:{agent_id}", offer.agent)
    box = turn.state.mailboxes[agent_id]
    if box.base is None and offer.seq:
        based = events.MailboxBased(base=offer.seq - 1, source="adopted" if offer.seq > 1 else "first_frame")
        turn.record(based, f"mailbox:{agent_id}")
    is_copy = local_first.is_copy(turn.state, box, offer.msg_id)
    judged = box.judge(offer.seq, offer.msg_id, frames.fan_key_of(offer), is_copy=is_copy)
    if judged.advances and local_first.recognise(turn, box, offer):
        return True
    if judged.verdict is not Verdict.ADMIT:
        return False
    before = len(turn.events)
    open_delivery(turn, box, offer, lambda turn, delivery: settling.dead_letter(turn, delivery, reason))
    return len(turn.events) > before


def _acknowledge(turn: Turn, agent_id: str) -> None:
    """Say how far everything of this agent is settled."""
    box = turn.state.mailboxes.get(agent_id)
    if box is not None and box.base is not None and box.floor > 0 and not box.late:
        turn.record(events.AckSent(up_to=box.floor, dial=turn.state.link.dial), f"mailbox:{agent_id}")
        settling.send_ack(turn, box)
