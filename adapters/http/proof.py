"""Whoever listens on the broker's port proves that it is the broker, before a client tells it the key.

`connection.json` of a broker that was killed names a port that anybody on the machine may have taken since. A client therefore sends a
challenge first; the answer can be made only with the key, and only for the port that the broker itself listens on, so that nobody can
have it answered by a broker elsewhere.

Source: spec/local-api.md section 11.9.
"""

from __future__ import annotations

import hmac
import re
import secrets

HEADER = "X-Relaybroker-Challenge"
_CHALLENGE = re.compile(r"[0-9a-f]{64}")


def challenge() -> str:
    """A new challenge."""
    return secrets.token_hex(32)


def is_challenge(text: str) -> bool:
    """Whether this is one."""
    return _CHALLENGE.fullmatch(text) is not None


def proof(key: str, challenged: str, port: int) -> str:
    """What proves that the one who listens on this port has the key."""
    text = f"relaybroker proof {challenged} {port}"
    return hmac.digest(key.encode("utf-8", "surrogateescape"), text.encode(), "sha256").hex()


def is_proof(given: object, key: str, challenged: str, port: int) -> bool:
    """Whether an answer is that proof. Constant-time."""
    return isinstance(given, str) and given.isascii() and hmac.compare_digest(given, proof(key, challenged, port))
