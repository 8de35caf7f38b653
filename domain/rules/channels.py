"""Membership of agents in the channels they were spawned for: joined at the engine, in the agent's own name.

Rules:

* A join is asked for as soon as the engine knows the agent, while its program starts.
* A channel that does not exist is created by the agent, who thereby joins it; if somebody else was quicker, the agent joins theirs.
* What the engine could not answer is asked again, at most once a minute, for as long as the agent lives. A refusal is final.
* `general` is joined by the registration itself.

Source: spec/local-api.md section 5.1; F038; ADR-0035.
"""

from __future__ import annotations

from relaybroker.domain import engine_status, events
from relaybroker.domain.effects import EngineCall
from relaybroker.domain.engine_requests import CreateChannel, JoinChannel
from relaybroker.domain.entities import Membership, Registration
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered, Settings
from relaybroker.domain.turn import Turn

GENERAL = "general"
CALL_S = 8.0
RETRY_FIRST_S = 2.0
RETRY_MAX_S = 60.0
AT_ONCE = 2
"""Calls that follow each other without a pause when a channel appears while it is being created."""


def wanted(registration: Registration, settings: Settings) -> list[str]:
    """The channels an agent was spawned for or joined since, without those that it left, in the spelling that came first."""
    first: dict[str, str] = {}
    for channel in registration.spec.channels or settings.default_channels:
        name = channel.strip().removeprefix("#")
        first.setdefault(name.lower(), name)
    first.pop("", None)
    for key, membership in registration.channels.items():
        if membership.joined:
            first.setdefault(key, membership.channel)
    return [channel for key, channel in first.items() if not _membership(registration, key).left]


def joined(registration: Registration, settings: Settings) -> list[str]:
    """Those in which the agent is a member, as far as the engine has said so."""
    return [channel for channel in wanted(registration, settings) if _is_member(registration, channel)]


def pending(registration: Registration, settings: Settings) -> list[str]:
    """Those that the engine has not answered for."""
    return [
        channel
        for channel in wanted(registration, settings)
        if not _is_member(registration, channel) and not _membership(registration, channel).refused
    ]


def refused(registration: Registration, settings: Settings) -> dict[str, str]:
    """Those that the engine refused, with what it said."""
    return {
        channel: why
        for channel in wanted(registration, settings)
        if (why := _membership(registration, channel).refused)
    }


def _is_member(registration: Registration, channel: str) -> bool:
    return bool(registration.agent_id) if channel.lower() == GENERAL else _membership(registration, channel).joined


def _membership(registration: Registration, channel: str) -> Membership:
    return registration.channels.get(channel.lower()) or Membership(channel)


def join(turn: Turn, registration: Registration) -> None:
    """Ask for every channel that has not been asked for yet."""
    for channel in wanted(registration, turn.settings):
        if channel.lower() not in (GENERAL, *registration.channels):
            _ask_to_join(turn, registration, channel)


def _ask_to_join(turn: Turn, registration: Registration, channel: str) -> None:
    _ask(turn, registration, channel, f"join_{turn.fresh(channel)}", JoinChannel(channel=channel))


def _create(turn: Turn, registration: Registration, channel: str) -> None:
    _ask(turn, registration, channel, f"create_{turn.fresh(channel)}", CreateChannel(name=channel))


def _ask(
    turn: Turn, registration: Registration, channel: str, call_id: str, request: JoinChannel | CreateChannel
) -> None:
    turn.record(events.ChannelAsked(channel=channel, call_id=call_id), registration.stream, registration.name)
    turn.effect(EngineCall(call_id=call_id, request=request, auth=f"agent:{registration.agent_id}", timeout_s=CALL_S))


def answered(
    turn: Turn, stream: str, registration: Registration | None, channel: str, answer: EngineAnswered | EngineUnanswered
) -> None:
    """The engine answered a join or a creation, or did not. `registration`: None if the agent is leaving or gone."""
    status, detail, code = engine_status.UNANSWERED_CHANNEL, "", ""
    if isinstance(answer, EngineAnswered):
        status, code = answer.status, answer.code
        detail = f"{code} {answer.message}".strip()
    else:
        detail = answer.detail
    tries = _membership(registration, channel).tries if registration is not None else 0
    again = 0.0
    if registration is None or engine_status.is_done(status):
        pass
    elif engine_status.is_absent(status) and code == "channel_not_found":
        again = turn.now
    elif engine_status.is_taken(status) and code == "channel_already_exists":
        again = turn.now if tries <= AT_ONCE else turn.now + _pause(tries)
    elif engine_status.may_pass(status):
        again = turn.now + _pause(tries)
    turn.record(events.ChannelAnswered(channel=channel, status=status, detail=detail[:500], until=again), stream)
    if registration is not None and again and again <= turn.now:
        (_create if engine_status.is_absent(status) else _ask_to_join)(turn, registration, channel)


def _pause(tries: int) -> float:
    return min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(tries - 1, 8))


def due(turn: Turn, registration: Registration) -> None:
    """Ask again for what the engine could not answer."""
    for membership in list(registration.channels.values()):
        if membership.retry_at and membership.retry_at <= turn.now:
            _ask_to_join(turn, registration, membership.channel)
