"""What a program asks a person, where it says so as data: a permission, a plan to approve, a choice.

A door of the program tells it (`adapters/sessions/`); what stands only on a screen is read there when somebody wants to see it. Both are
answered with the same command. Nothing here is ever answered by itself.

Source: ADR-0095.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from relaybroker.domain.plain_text import plain

MAX_LINES = 40
"""Lines of a question that are kept."""
MAX_LINE = 500
"""Characters of a line."""
MAX_OPTIONS = 32
MAX_LABEL = 200
"""Characters of an option's label."""
MAX_ID = 256
"""Characters of an id. Whoever has longer ones keeps them, and gives us others."""
MAX_BY = 128
"""Characters of who answered."""


class Option(msgspec.Struct, frozen=True, omit_defaults=True):
    """One way to answer."""

    id: str
    """The program's own, or one that its door understands."""
    label: str
    kind: str = ""
    """`allow_once`, `allow_always`, `reject_once`, `reject_always`, or "" = another one."""


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked. `id` is that of no other question of the session. Without options it wants what only its terminal can give."""

    id: str
    kind: str
    """`permission`, `plan` or `question`."""
    text: tuple[str, ...]
    """Lines for people, in which nothing acts."""
    options: tuple[Option, ...]

    @property
    def listed(self) -> str:
        """All of it, with the numbers by which a person may name the options."""
        return "\n".join((*self.text, *(f"{number}  {one.label}" for number, one in enumerate(self.options, 1))))


def question(identifier: str, kind: str, text: Iterable[str], options: Iterable[Option]) -> Question:
    """A question as it may be kept and shown: cut to its bounds, and harmless. Each element of `text` may have several lines."""
    lines = [plain(line.expandtabs(4).rstrip())[:MAX_LINE] for one in text for line in one.splitlines()]
    kept = [line for line in lines if line]
    if len(kept) > MAX_LINES:
        kept = [*kept[: MAX_LINES - 1], f"(and {len(kept) - MAX_LINES + 1} more lines)"]
    offered = tuple(
        Option(one.id, plain(" ".join(one.label.split()))[:MAX_LABEL] or one.id, one.kind)
        for one in options
        if len(one.id) <= MAX_ID
    )
    return Question(identifier[:MAX_ID], kind, tuple(kept), offered[:MAX_OPTIONS])


def option_meant(asked: Question, answer: str) -> Option | None:
    """The one option that a person means: by its number from 1, its id, its label, or the beginning of its label."""
    wanted, options = answer.strip().casefold(), asked.options
    for meant in (
        [one for number, one in enumerate(options, 1) if str(number) == wanted],
        [one for one in options if one.id.casefold() == wanted],
        [one for one in options if one.label.casefold() == wanted],
        [one for one in options if wanted and one.label.casefold().startswith(wanted)],
    ):
        if len(meant) == 1:
            return meant[0]
    return None
