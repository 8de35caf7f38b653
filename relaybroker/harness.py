"""The part of a harness profile that the core needs, from the profiles that the PTY host has.

Source: spec/local-api.md section 5.3; ADR-0005.
"""

from __future__ import annotations

from adapters.pty.harnesses import profile_for
from domain.events import Harness

_MODEL_FLAG = "--model"


def harness_of(argv: tuple[str, ...]) -> Harness:
    """The harness of a command line: a pure function of it. Programs with a language model take `--model`."""
    profile = profile_for(argv)
    return Harness(
        profile=profile.name,
        hint=profile.hint,
        model_flag="" if profile.hint == "none" else _MODEL_FLAG,
    )
