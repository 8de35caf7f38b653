"""Decisions about a person's wish that the node enrols, or connects, now: what was spent on former attempts no longer counts.

Source: spec/node-protocol.md section 1.8; ADR-0065.
"""

from __future__ import annotations

from relaybroker.domain import events, replies
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import EnrolRequested
from relaybroker.domain.link import LinkState
from relaybroker.domain.rules import agents, link
from relaybroker.domain.turn import Turn


def requested(turn: Turn, request: EnrolRequested) -> None:
    """A link that waits, or that was refused, begins anew; one that is up or under way stays as it is."""
    if turn.state.stopping_until:
        error = InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
        agents.refuse(turn, request.request_id, "enrol", error)
        return
    link_state = turn.state.link.state
    waits = link_state in (LinkState.REFUSED, LinkState.BACKING_OFF)
    turn.record(events.EnrolAsked(request_id=request.request_id, begins=waits), turn.node)
    if link_state == LinkState.REFUSED:
        link.begin(turn)
    elif waits:
        link.advance(turn)
    turn.effect(Reply(request_id=request.request_id, answer=replies.Enrolling(begun=waits)))
