"""The part of a harness profile that the core needs, from the profiles that the PTY host has.

Source: spec/local-api.md section 5.3; ADR-0005.
"""

from __future__ import annotations

import msgspec

from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.domain.errors import InvalidRequest, Refusal
from relaybroker.domain.events import Harness
from relaybroker.domain.names import nearest_names
from relaybroker.domain.permissions import BypassOptions
from relaybroker.domain.sessions import SessionOptions
from relaybroker.mcp.injection import tools_of

_MODEL_FLAG = "--model"


def harness_of(argv: tuple[str, ...], name: str = "") -> Harness:
    """The harness called `name`, else that of a command line. Programs with a language model take `--model`.

    Raises:
        InvalidRequest: `unknown_harness`, with the names that are nearest.
    """
    profile = _named(name) if name else harnesses.profile_for(argv)
    is_in_sight = harnesses.profile_for(argv).name == profile.name  # not so inside a shell's script
    at = len(harnesses.words_of_program(profile, argv) or ()) if is_in_sight else 0
    return Harness(
        profile=profile.name,
        hint=profile.hint,
        model_flag="" if profile.hint == "none" else _MODEL_FLAG,
        tools=tools_of(profile, argv),
        doors=profile.doors,
        surface=profile.surface,
        session=None if profile.session is None else SessionOptions(at=at, **msgspec.structs.asdict(profile.session)),
        bypass=None if profile.bypass is None else BypassOptions(at=at, **msgspec.structs.asdict(profile.bypass)),
    )


def _named(name: str) -> harnesses.Profile:
    known = harnesses.names()
    if name not in known:
        nearest = nearest_names(name, known) or known
        text = (
            f"no harness named '{name[:140]}'; {'nearest' if nearest is not known else 'known'}: {', '.join(nearest)}"
        )
        raise InvalidRequest(Refusal.INVALID, "unknown_harness", text, field="harness")
    return harnesses.profile(name)
