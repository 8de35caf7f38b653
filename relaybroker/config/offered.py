"""What a node offers where the operator does not say: the agent programs that this machine has, by the names that clients know.

Source: spec/node-protocol.md section 5.2; ADR-0018 stays as it is: what is not offered does not start.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from relaybroker.adapters.sessions.terminal import harnesses

NOTHING = ("spawn:none",)
"""What the operator says who offers nothing."""


def programs_here(path: str, own: Mapping[str, harnesses.Profile]) -> tuple[str, ...]:
    """A placement for each known agent program that is found on this PATH; `own`: the operator's profiles."""
    return tuple(
        f"spawn:{profile.name}"
        for profile in (harnesses.profiles() | dict(own)).values()
        if profile.hint != "none" and profile.name in profile.commands and shutil.which(profile.name, path=path)
    )


def offered(
    chosen: tuple[str, ...], path: str, own: Mapping[str, harnesses.Profile], *, by_default: bool
) -> tuple[str, ...]:
    """What is offered: what the operator chose; else, where that is the default, what the machine has."""
    if chosen == NOTHING:
        return ()
    return chosen or (programs_here(path, own) if by_default else ())
