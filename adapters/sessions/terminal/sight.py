"""What a program shows about taking text, read from its screen: composer, work, question. Pure. Source: real-agents.md; ADR-0040."""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, NamedTuple

from relaybroker.adapters.sessions.terminal.composer import find as find_composer
from relaybroker.adapters.sessions.terminal.questions import FULL_SCREEN, question_on

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.terminal.composer import Composer
    from relaybroker.adapters.sessions.terminal.harnesses import Profile, Sign
    from relaybroker.adapters.sessions.terminal.view import View


class Sight(NamedTuple):
    """One screen, read with the profile of the program that has the terminal."""

    composer: Composer | None
    """None: the profile has no rules, or no composer has the cursor."""
    works: bool
    """The program's own status row says that it works."""
    question: str | None
    """Name of the question, dialog or obstacle."""


def read(profile: Profile, view: View, *, collects_lines: bool, echoes: bool, quiet_s: float = math.inf) -> Sight:
    """Look at a screen. `collects_lines`, `echoes`: the terminal's line discipline; `quiet_s`: since the last output."""
    if profile.treatment == "hold":
        return Sight(None, works=False, question=FULL_SCREEN)
    composer = find_composer(profile.composer, view, quiet_s) if not collects_lines else None
    if composer is None:
        question = question_on(profile, view, collects_lines=collects_lines, echoes=echoes)
    else:
        question = next((sign.name for sign in profile.obstacles if _shows(sign, view, composer)), None)
    return Sight(composer, any(_shows(sign, view, composer) for sign in profile.busy), question)


def _shows(sign: Sign, view: View, composer: Composer | None) -> bool:
    if sign.place == "cursor":
        rows = [view.row, view.row - 1] if composer is None else []
    elif composer is None:
        return False
    elif sign.place == "above":
        rows = [row for row in range(composer.top - 1, -1, -1) if not view.is_blank(row) and not view.is_rule(row)][
            : sign.within
        ]
    else:
        rows = [
            row
            for row in range(composer.bottom + 1, len(view.rows))
            if not view.is_blank(row) and not view.is_rule(row)
        ][: sign.within]
    pattern = _compiled(sign.pattern)
    return any(row >= 0 and pattern.match(view.trimmed(row)) for row in rows)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
