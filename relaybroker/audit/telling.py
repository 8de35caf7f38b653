"""Stories in words, for a terminal or a failed test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaybroker.domain.story import Story

DETAIL_WIDTH = 220
"""Characters of a step's details that are shown."""


def headline(story: Story) -> str:
    """The verdict."""
    reason = f" ({story.reason})" if story.reason else ""
    return f"{story.state.upper()}{reason}: {story.verdict}"


def chain(story: Story) -> Iterator[str]:
    """The steps, what waits, what would have changed the outcome, and the next command, each a line."""
    for step in story.steps:
        place = "" if step.stream == story.subject else f" [{step.stream}]"
        yield f"  #{step.position:<6} {clock(step.at)} {step.since_first_s * 1000:+11.1f} ms  {step.who:<7} {step.event}{place}"
        if step.detail:
            yield f"  {'':<37}{detail(step.detail)[:DETAIL_WIDTH]}"
    for waiting in story.waiting:
        place = "-" if waiting.seq is None else str(waiting.seq)
        yield f"  waits: {waiting.msg_id} (seq {place}) {waiting.state} since {clock(waiting.since)} {waiting.reason}"
    if story.otherwise:
        yield f"  otherwise: {story.otherwise}"
    yield f"  next: {story.next}"


def clock(at: float) -> str:
    """The time of day in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def detail(found: dict[str, Any]) -> str:
    """The fields of an event."""
    return " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in found.items())
