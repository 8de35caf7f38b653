"""What a node offers where the operator does not say: the agent programs that this machine has, by the names that clients know.

Source: spec/node-protocol.md section 5.2; ADR-0018 stays as it is: what is not offered does not start.
"""

from __future__ import annotations

import shutil

from relaybroker.adapters.pty import harnesses

NOTHING = ("spawn:none",)
"""What the operator says who offers nothing."""


def programs_here(path: str) -> tuple[str, ...]:
    """A placement for each known agent program that is found on this PATH."""
    return tuple(
        f"spawn:{profile.name}"
        for profile in map(harnesses.profile, harnesses.names())
        if profile.hint != "none" and profile.name in profile.commands and shutil.which(profile.name, path=path)
    )


def offered(chosen: tuple[str, ...], path: str, *, by_default: bool) -> tuple[str, ...]:
    """What is offered: what the operator chose; else, where that is the default, what the machine has."""
    if chosen == NOTHING:
        return ()
    return chosen or (programs_here(path) if by_default else ())
