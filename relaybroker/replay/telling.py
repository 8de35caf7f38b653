"""Differences and states in words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from relaybroker.adapters.http.api import views
from relaybroker.domain.state import State
from relaybroker.replay.playing import Difference

_KINDS = {"decided": "decided differently", "due": "due at another time", "raised": "the core failed"}


def difference(diff: Difference) -> Iterator[str]:
    """One difference as lines: where, and a diff of the decisions (`-` recorded, `+` decided now)."""
    yield f"#{diff.position} (line {diff.line}, {moment(diff.at)}) {diff.cause}: {_KINDS[diff.kind]}"
    if diff.error:
        yield f"  ! {diff.error}"
    for line in difflib.ndiff(list(_lines(diff.recorded)), list(_lines(diff.decided))):
        if not line.startswith("?"):
            yield f"  {line}"


def _lines(side: list[dict[str, Any]]) -> Iterator[str]:
    for one in side:
        if "due" in one:
            yield "nothing is due" if one["due"] is None else f"due {moment(one['due'])}"
            continue
        if "effect" in one:
            yield f"effect {one['effect']}"
        else:
            place = "" if one["position"] is None else f"#{one['position']} "
            about = f" about {one['about']}" if one["about"] else ""
            yield f"{place}{one['topic']} {one['stream']}{about}"
        for name, value in one["body"].items():
            yield f"    {name}: {json.dumps(value, ensure_ascii=False, sort_keys=True)}"


def moment(at: float) -> str:
    """A time of the session."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def state(shown: State) -> Iterator[str]:
    """What a state says to a person: link, host, agents, and what is under way."""
    now = shown.now
    yield f"#{shown.position} {moment(now)}"
    link = views.link(shown, now)
    reason = f" ({link.reason}: {link.detail})" if link.reason else ""
    yield f"link    {link.state}{reason}, dial {link.dial}"
    yield f"host    {'attached' if shown.host.attached else 'not attached'}"
    for registration in shown.registrations.values():
        worker = shown.workers.get(registration.session_id)
        mailbox = shown.mailboxes.get(registration.agent_id)
        cursor = "" if mailbox is None else f", cursor {mailbox.floor}"
        yield f"agent   {registration.name}  {registration.state}, program {worker.state if worker else '-'}{cursor}"
    for delivery in (one for one in shown.deliveries.values() if not one.ended):
        yield f"message {delivery.msg_id} for {delivery.name}  {delivery.state}"
    for action in shown.open_actions():
        yield f"action  {action.invocation_id} {action.action}  {action.state}"
    for message in shown.messages.values():
        yield f"outbox  {message.event_id} to {message.to}  {message.state}"
