"""All randomness of a run, derived from one recorded seed: the same log gives the same ids and the same jitter.

Source: design/architecture.md section 3 (ids and randomness are arguments); ADR-0003.
"""

from __future__ import annotations

import hashlib


def derive(entropy: str, position: int, label: str) -> str:
    """32 lower-case hex digits for this place in the log and this purpose."""
    return hashlib.blake2b(f"{entropy}:{position}:{label}".encode(), digest_size=16).hexdigest()


def fraction(entropy: str, position: int, label: str) -> float:
    """A number in [0, 1) for this place in the log and this purpose."""
    return int(derive(entropy, position, label)[:13], 16) / 16**13
