"""What is to be done so that the agents run that the file wants: a pure comparison.

An agent that was started by hand is nobody's business but the person's: it is neither ended nor changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec


class Applied(msgspec.Struct, frozen=True):
    """What was made of an agent of the file: how it was to run, and the session that it got."""

    fingerprint: str
    session: str


class Step(NamedTuple):
    """One thing to do, and why."""

    kind: Literal["keep", "leave", "stop", "restart", "start"]
    name: str
    why: str


def plan(wanted: Mapping[str, str], running: Mapping[str, str], applied: Mapping[str, Applied]) -> list[Step]:
    """The steps, ends before starts.

    Args:
        wanted: name -> fingerprint, as the file has it.
        running: name -> session, as the broker has it.
        applied: name -> what was made of it the last time.
    """
    steps = [_of_wanted(name, wanted[name], running.get(name), applied.get(name)) for name in wanted]
    for name, before in applied.items():
        if name not in wanted and running.get(name) == before.session:
            steps.append(Step("stop", name, "it is no longer in the file"))
    order = ("keep", "leave", "stop", "restart", "start")
    return sorted(steps, key=lambda step: order.index(step.kind))


def _of_wanted(name: str, fingerprint: str, session: str | None, before: Applied | None) -> Step:
    if session is None:
        return Step("start", name, "it is not running")
    if before is None or before.session != session:
        return Step("leave", name, "it was started by hand")
    if before.fingerprint != fingerprint:
        return Step("restart", name, "the file has changed")
    return Step("keep", name, "it matches the file")
