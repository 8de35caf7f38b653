"""Decisions about messages that an agent fetches itself: what waits for it is given to it, acknowledged, and never typed.

Rules:

* A fetch takes what waits from the first one on, in order, up to its limit. Nothing is taken out of turn: not while a text is with the
  terminal, not past one that stands in it, and not past the task of a spawn. What a person holds is the person's, and is passed over.
* A message that may be the engine's copy of one that the agent has (`publish_pending`) is not taken, nor what is behind it.
* What is taken waits (`being_fetched`) until the answer has gone out whole; only then it is `injected`, by the trigger `fetch`, and
  settled.
* An answer that broke off leaves each message where it was. Of one that nobody has heard of again (`FETCH_S`, or the broker died meanwhile)
  nothing is known: its messages are typed, or fetched once more, with the mark `possible-duplicate`.
* The agent's next fetch ends the one before it, in the same way.

Source: spec/conversation.md section 1; ADR-0062.
"""

from __future__ import annotations

from relaybroker.domain import events, replies
from relaybroker.domain.delivery import FETCH_S, DeliveryState
from relaybroker.domain.effects import Reply
from relaybroker.domain.entities import Delivery, Worker
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.inputs import FetchEnded, FetchRequested
from relaybroker.domain.reasons import Reason
from relaybroker.domain.rules import agents, deliveries, settling
from relaybroker.domain.turn import Turn


def requested(turn: Turn, request: FetchRequested) -> None:
    """The agent gets what waits for it, and the id of the fetch ("" where nothing does)."""
    registration = turn.state.acting(request.agent_id)
    if registration is None:
        agents.refuse(turn, request.request_id, "fetch", agents.over(request.agent_id))
        return
    if turn.state.stopping_until:
        error = InvalidRequest(Refusal.UNAVAILABLE, "shutting_down", "the broker is stopping")
        agents.refuse(turn, request.request_id, "fetch", error)
        return
    fetch_id = f"fetch_{turn.fresh('fetch')}"
    turn.record(
        events.FetchAsked(request_id=request.request_id, fetch_id=fetch_id, limit=request.limit),
        registration.stream,
        registration.name,
    )
    target = turn.state.worker_of_agent(request.agent_id)
    if target is not None:
        _give_back(turn, target, "", doubtful=True)
    taken = _taken(turn, target, request.limit) if target is not None else []
    for delivery in taken:
        if delivery.state == DeliveryState.HELD:
            turn.record(events.DeliveryQueued(), delivery.stream, delivery.msg_id)
        held = events.DeliveryHeld(reason=Reason.BEING_FETCHED, until=turn.now + FETCH_S, fetch_id=fetch_id)
        turn.record(held, delivery.stream, delivery.msg_id)
    answer = replies.Fetched(
        fetch_id=fetch_id if taken else "", messages=tuple(_shown(turn, delivery) for delivery in taken)
    )
    turn.effect(Reply(request_id=request.request_id, answer=answer))


def _taken(turn: Turn, target: Worker, limit: int) -> list[Delivery]:
    """What a fetch takes, in order."""
    taken: list[Delivery] = []
    if target.typing or target.ended or turn.state.is_doubted(target.agent_id):
        return taken
    for stream in target.waiting:
        delivery = turn.state.deliveries[stream]
        if deliveries.may_be_given_already(turn, delivery):
            break
        if deliveries.waits_for_flush(turn, delivery):
            continue
        if delivery.in_composer or delivery.source == "task" or len(taken) >= limit:
            break
        taken.append(delivery)
    return taken


def _shown(turn: Turn, delivery: Delivery) -> replies.FetchedMessage:
    return replies.FetchedMessage(
        msg_id=delivery.msg_id,
        sender=delivery.sender,
        target=delivery.target,
        thread_id=delivery.thread_id,
        text=delivery.body,
        waited_s=round(max(0.0, turn.now - delivery.offered_at), 3),
        doubtful=deliveries.may_be_a_duplicate(turn, delivery),
    )


def ended(turn: Turn, report: FetchEnded) -> None:
    """The answer has gone out whole, or broke off."""
    target = turn.state.worker_of_agent(report.agent_id)
    stream = turn.state.agents.get(report.agent_id, turn.broker)
    turn.record(events.FetchDone(fetch_id=report.fetch_id, answered=report.answered), stream)
    if target is None:
        return
    if not report.answered:
        _give_back(turn, target, report.fetch_id, doubtful=False)
        return
    for delivery in _being_fetched(turn, target, report.fetch_id):
        turn.record(events.DeliveryFetched(fetch_id=report.fetch_id), delivery.stream, delivery.msg_id)
        if not delivery.is_owed:
            settling.conclude(turn, delivery)
    if (box := turn.state.mailboxes.get(report.agent_id)) is not None:
        settling.acknowledge(turn, box)
    deliveries.pump(turn, target)


def _give_back(turn: Turn, target: Worker, fetch_id: str, *, doubtful: bool) -> None:
    """What was taken (by this fetch, or by any) waits again as before."""
    given = _being_fetched(turn, target, fetch_id)
    for delivery in given:
        turn.record(events.DeliveryQueued(doubtful=doubtful), delivery.stream, delivery.msg_id)
    if given:
        deliveries.reconsider(turn, target)


def _being_fetched(turn: Turn, target: Worker, fetch_id: str) -> list[Delivery]:
    waiting = [turn.state.deliveries[stream] for stream in target.waiting]
    return [delivery for delivery in waiting if delivery.fetch_id and fetch_id in ("", delivery.fetch_id)]


def broker_started(turn: Turn) -> None:
    """Whether the answer of the process that died has reached the agent cannot be known."""
    for target in list(turn.state.workers.values()):
        _give_back(turn, target, "", doubtful=True)
