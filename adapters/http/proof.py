"""Whoever listens on the broker's port proves that it is the broker, before a client tells it the key.

`connection.json` of a broker that was killed names a port that anybody on the machine may have taken since. A client therefore sends a
challenge first; the answer can be made only with the key, and only for the port that the broker itself listens on, so that nobody can
have it answered by a broker elsewhere.

Source: spec/local-api.md section 11.9.
"""

from __future__ import annotations

import hmac
import http.client
import json
import re
import secrets
from urllib.parse import urlsplit

HEADER = "X-Relaybroker-Challenge"
_ANSWER_BYTES = 1024 * 1024
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


def proves(url: str, key: str, timeout_s: float) -> bool:
    """Ask whoever listens there, without telling the key, whether it has it.

    Raises:
        OSError, ValueError, http.client.HTTPException: nobody answers there, or nobody who speaks HTTP.
    """
    target, challenged = urlsplit(url), challenge()
    asked = http.client.HTTPConnection(target.hostname or "", target.port, timeout=timeout_s)
    try:
        asked.request("GET", "/health", headers={HEADER: challenged})
        answer = json.loads(asked.getresponse().read(_ANSWER_BYTES))
    except (RecursionError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    finally:
        asked.close()
    return isinstance(answer, dict) and is_proof(answer.get("proof"), key, challenged, target.port or 0)
