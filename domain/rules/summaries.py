"""Summaries that agents leave of their work (domain/continuity.py): recorded, and nothing else.

Source: spec/local-api.md section 5.5.
"""

from __future__ import annotations

from relaybroker.domain import events, replies
from relaybroker.domain.continuity import MAX_SUMMARY
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import SummaryGiven
from relaybroker.domain.rules import agents
from relaybroker.domain.turn import Turn


def given(turn: Turn, request: SummaryGiven) -> None:
    """An agent leaves a summary; the newest one counts."""
    registration = turn.state.acting(request.agent_id)
    if registration is None:
        agents.refuse(turn, request.request_id, "summary", agents.over(request.agent_id))
        return
    if len(request.summary.encode()) > MAX_SUMMARY:
        text = f"a summary has at most {MAX_SUMMARY // 1024} KiB"
        error = InvalidRequest(Refusal.TOO_LARGE, "body_too_large", text, field="summary")
        agents.refuse(turn, request.request_id, "summary", error)
        return
    saved = events.SummarySaved(request_id=request.request_id, summary=request.summary)
    turn.record(saved, registration.stream, registration.name)
    turn.effect(Reply(request_id=request.request_id, answer=replies.Done(data={"agent": registration.name})))
