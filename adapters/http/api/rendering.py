"""How the core's answers look to clients: one shape for each, and one HTTP status for each kind of refusal.

Source: spec/local-api.md sections 1.1, 1.3 and 1.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from msgspec import UNSET

from relaybroker.adapters.http.api import answers
from relaybroker.domain import replies
from relaybroker.domain.effects import Reply
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.reasons import SENTENCES

STATUS: Mapping[Refusal, int] = MappingProxyType(
    {
        Refusal.INVALID: 400,
        Refusal.UNKNOWN_CALLER: 401,
        Refusal.FORBIDDEN: 403,
        Refusal.ABSENT: 404,
        Refusal.SLOW: 408,
        Refusal.CONFLICT: 409,
        Refusal.TOO_LARGE: 413,
        Refusal.MISMATCH: 422,
        Refusal.FULL: 429,
        Refusal.FAILED: 500,
        Refusal.NOT_BUILT: 501,
        Refusal.ENGINE: 502,
        Refusal.UNAVAILABLE: 503,
        Refusal.NO_ANSWER: 504,
    }
)

Rendered = (
    answers.Spawned
    | answers.Released
    | answers.Mode
    | answers.Flushed
    | answers.Redelivered
    | answers.Purged
    | answers.Sent
    | answers.ResultTaken
    | dict[str, Any]
)

_T = TypeVar("_T")


def answered(reply: Reply, shape: type[_T]) -> _T:
    """The core's answer in the shape of a route.

    Raises:
        InvalidRequest: the core refused.
    """
    made = rendered(reply)
    assert isinstance(made, shape), f"{type(reply.answer).__name__} is no answer to this request"
    return made


def rendered(reply: Reply) -> Rendered:
    """The core's answer as clients get it.

    Raises:
        InvalidRequest: the core refused.
    """
    match reply.answer:
        case replies.Refused() as refused:
            raise InvalidRequest(refused.kind, refused.code, refused.message, **refused.about)
        case replies.Spawned() as spawned:
            return _spawned(spawned)
        case replies.Released() as released:
            return answers.Released(
                success=True,
                name=released.name,
                existed=released.existed,
                release_pending=released.engine_unaware or UNSET,
                end_unconfirmed=released.end_unconfirmed or UNSET,
            )
        case replies.ModeSet() as mode:
            return answers.Mode(mode=mode.mode, held=mode.held, revision=mode.revision, flushed=mode.flushed)
        case replies.Flushed(flushed=flushed, remaining=remaining):
            return answers.Flushed(flushed=flushed, failed=0, remaining=remaining)
        case replies.Redelivered() as redelivered:
            return _redelivered(redelivered)
        case replies.Purged(letter_ids=letter_ids):
            return answers.Purged(success=True, purged=list(letter_ids))
        case replies.Sent() as sent:
            return _sent(sent)
        case replies.Done(data=data, repeated=repeated):
            return {"success": True, "data": data} | ({"replayed": True} if repeated else {})
        case replies.Fetched() as fetched:
            return {
                "success": True,
                "fetch_id": fetched.fetch_id,
                "messages": [_taken(one) for one in fetched.messages],
            }
        case replies.ResultKept() as kept:
            return answers.ResultTaken(
                success=True,
                name=kept.name,
                result_id=kept.result_id,
                final=kept.final,
                replayed=kept.repeated or UNSET,
            )
        case replies.Enrolling(begun=begun):
            return {"success": True, "begun": begun}
        case replies.ManifestTaken():
            return {"registered": True}
        case replies.HandlersTaken(live=live):
            return {"handlers_live": live}
        case replies.ResultTaken():
            return {"completed": True}
        case replies.OfferWithdrawn():
            return {"deregistered": True}


def _spawned(spawned: replies.Spawned) -> answers.Spawned:
    return answers.Spawned(
        success=True,
        name=spawned.name,
        runtime="pty" if spawned.has_terminal else "headless",
        model=spawned.model or None,
        session_id=spawned.session,
        pid=spawned.pid,
        pre_registered=True,
        warning=spawned.warning or None,
        agent_id=spawned.agent_id,
        channels=list(spawned.channels),
        channels_pending=list(spawned.channels_pending) or UNSET,
        replayed=spawned.repeated or UNSET,
    )


def _taken(message: replies.FetchedMessage) -> dict[str, Any]:
    return {
        "message_id": message.msg_id,
        "from": message.sender,
        "target": message.target,
        "thread_id": message.thread_id or None,
        "text": message.text,
        "waited_secs": message.waited_s,
        "possible_duplicate": message.doubtful,
    }


def _redelivered(redelivered: replies.Redelivered) -> answers.Redelivered:
    attempts = [
        answers.NewAttempt(id=one.letter_id, attempt=one.attempt, name=one.name, event_id=one.event_id)
        for one in redelivered.attempts
    ]
    skipped = [
        answers.Skipped(id=letter_id, code=str(reason), message=SENTENCES[reason])
        for letter_id, reason in redelivered.skipped
    ]
    return answers.Redelivered(success=True, redelivered=attempts, skipped=skipped)


def _sent(sent: replies.Sent) -> answers.Sent:
    is_local = bool(sent.target)
    return answers.Sent(
        success=True,
        event_id=sent.event_id,
        local=is_local,
        published=sent.published,
        publish_pending=UNSET if sent.published else True,
        message_id=sent.message_id or None,
        recipient_live=sent.target_lives if is_local else None,
        targets=[sent.target] if is_local else [],
        queued=int(sent.held),
        rejected=[],
        workspace_id=sent.workspace_id,
        workspace_alias=None,
        sent_as=sent.sent_as,
        thread_used=sent.threaded,
        mode_used=sent.mode,
        delivered=1 if is_local else UNSET,
        stage=("published" if sent.published else "stored") if is_local else UNSET,
        replayed=sent.repeated or UNSET,
    )
