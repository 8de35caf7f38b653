"""Stories in words, for a terminal or a failed test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from relaybroker.audit.times import length, moment

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
        later = f"+{length(step.since_first_s)}" if step.since_first_s >= 0 else f"-{length(-step.since_first_s)}"
        yield f"  #{step.position:<6} {moment(step.at)} {later:>9}  {step.who:<8} {step.event}{place}"
        if step.detail:
            yield f"  {'':<43}{detail(step.detail)[:DETAIL_WIDTH]}"
    for waiting in story.waiting:
        place = "-" if waiting.seq is None else str(waiting.seq)
        yield f"  waits: {waiting.msg_id} (seq {place}) {waiting.state} since {moment(waiting.since)} {waiting.reason}"
    if story.otherwise:
        yield f"  to do: {story.otherwise}"
    yield f"  next: {story.next}"


def detail(fields: dict[str, Any]) -> str:
    """The fields of an event."""
    return " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in fields.items())
