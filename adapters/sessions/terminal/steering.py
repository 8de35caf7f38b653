"""Has a program stop what it works on, so that a steering message can be typed.

Source: ADR-0042.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from relaybroker.adapters.sessions.host.news import LAST_LOOK_S
from relaybroker.adapters.sessions.terminal import proof
from relaybroker.adapters.sessions.terminal.proof import Standing
from relaybroker.adapters.sessions.terminal.typed_text import ESCAPE

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.news import News
    from relaybroker.adapters.sessions.terminal.line import Line

STEER_ESCAPES = 2
CLEAR_ESCAPES = 2
"""So many clear a composer that holds a text."""
STEER_S = 1.0
"""A program that was given Escape stops within this time, or gets another one."""
STEER_PAUSE_S = 0.12


async def interrupt(line: Line, news: News) -> str:
    """Have the program stop what it works on; why nothing may be typed then, blank when its composer is free.

    One Escape, and another one only while it goes on: two at a program that has stopped open a menu (Rewind, of Claude Code).
    """
    loop = asyncio.get_running_loop()
    seen = await line.access()  # the keyboard is ours since: what a person typed until then is never cleared
    if seen.occupant is not None and not seen.occupant.patience_s:
        return seen.occupant.reason
    foreground = seen.foreground
    for _ in range(STEER_ESCAPES if seen.sight.works else 0):
        await line.writer.write(ESCAPE)
        deadline = loop.time() + STEER_S
        while seen.sight.works and seen.question is None and loop.time() < deadline:
            await news.next(LAST_LOOK_S)
            seen = await line.access(foreground)
        if not seen.sight.works or seen.question is not None:
            break
    await news.pause(STEER_PAUSE_S)
    seen = await line.access(foreground)
    if seen.question is None and proof.standing(seen) is Standing.TEXT:
        # It was empty before: an interrupted program gives back what it was working on (Claude Code).
        for _ in range(CLEAR_ESCAPES):
            await line.writer.write(ESCAPE)
            await news.pause(STEER_PAUSE_S)
        seen = await line.access(foreground)
    if seen.question is not None:
        return "blocked_by_dialog"
    return "" if proof.standing(seen) is Standing.GONE else "composer_unclear"
