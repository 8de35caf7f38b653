"""Conversations as lines of text.

Source: spec/conversation.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from relaybroker.audit.times import moment

WIDTH = 200
"""Characters of a text in a list."""

Row = dict[str, Any]


def one_line(text: str) -> str:
    """A text as one line of a list."""
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return words if len(words) <= WIDTH else f"{words[: WIDTH - 1]}…"


def inbox_lines(inbox: Row) -> Iterator[str]:
    """What waits and what is not read."""
    has_any = False
    for one in inbox.get("messages", ()):
        has_any = True
        place = f" in {one['target']}" if str(one["target"]).startswith("#") else ""
        again = " possible-duplicate" if one["possible_duplicate"] else ""
        first, *more = one["text"].splitlines() or [""]
        yield f"message {one['message_id']}{again}  from {one['from']}{place}: {first}"
        yield from (f"        {line}" for line in more)
    for one in inbox.get("waiting", ()):
        has_any = True
        place = f" in {one['target']}" if str(one["target"]).startswith("#") else ""
        why = f": {one['why']}" if one["why"] else ""
        yield f"waits   {one['message_id']}  from {one['from']}{place}, {one['age_secs']:.0f} s{why}"
    for one in inbox["unread_dms"]:
        has_any = True
        last = one["last_message"] or {"id": "", "text": ""}
        yield f"unread  {last['id']}  from {one['from']}: {one_line(last['text'])}  ({one['unread_count']} unread)"
    for one in inbox["unread_channels"]:
        has_any = True
        yield f"unread  #{one['channel_name']}  ({one['unread_count']} unread)"
    for one in inbox["mentions"]:
        has_any = True
        yield f"mention {one['id']}  from {one['agent_name']} in #{one['channel_name']}: {one_line(one['text'])}"
    if inbox.get("unread_unknown"):
        yield f"what is unread is not known: {inbox['unread_unknown']}"
    elif not has_any:
        yield "No messages waiting, none unread."


def thread_lines(messages: list[Row]) -> Iterator[str]:
    """Each message with its marks below it."""
    for one in messages:
        yield f"{one.get('created_at', '')}  {one.get('id', '')}  {one.get('agent_name', '')}: {one_line(one.get('text', ''))}"
        if marks := _marks(one):
            yield f"    {marks}"


def message_lines(one: Row) -> Iterator[str]:
    """A message, whole."""
    yield f"message    {one.get('id', '')}"
    for label, key in (("from", "agent_name"), ("at", "created_at"), ("thread", "thread_id")):
        if one.get(key):
            yield f"{label:<10} {one[key]}"
    for number, line in enumerate(str(one.get("text", "")).splitlines() or [""]):
        yield f"{'text' if not number else '':<10} {line}"
    for mark in one["marks"]:
        yield f"{mark['agent']:<10} {_mark(mark)}"
    if one["readers"]:
        yield f"read by    {', '.join(one['readers'])}"
    elif not one["marks"]:
        yield "read by    nobody yet; the engine holds it"


def said_line(one: Row) -> str:
    """A message of a list."""
    at = one["at"]
    when = moment(at) if isinstance(at, float | int) else str(at)
    marks = _marks(one)
    thread = f" thread:{one['thread_id']}" if one["thread_id"] else ""
    known = one["message_id"] or one.get("event_id", "")
    return f"{when}  {known}{thread}  {one['sender']} → {one['to']}: {one_line(one['text'])}{f'  ({marks})' if marks else ''}"


def _marks(one: Row) -> str:
    marks = [f"{mark['agent']}: {_mark(mark)}" for mark in one["marks"]]
    if not marks and one.get("readers"):
        marks = [f"read by {', '.join(one['readers'])}"]
    return "; ".join(marks)


def _mark(mark: Row) -> str:
    return f"{mark['mark']}, {mark['why']}" if mark["why"] else str(mark["mark"])
