"""Of a delivery that is far too large to be typed the log keeps its head and a digest, not megabytes of it.

Whoever may send messages could fill the disk otherwise: each text is written down with the frame, with the offer and with the dead letter.
What is kept is still larger than `MAX_BODY_BYTES`, so that it is settled with `too_large` as the whole would be.

Source: spec/node-protocol.md section 2.2.
"""

from __future__ import annotations

import hashlib
from typing import Any

from relaybroker.domain.delivery import MAX_BODY_BYTES

WHOLE_FRAME = 128 * 1024
"""Characters of a `deliver` frame that are kept as they are."""
HEAD = MAX_BODY_BYTES + 1024
"""Bytes of the first long text of a larger one; of the others only `SHORT`."""
SHORT = 256
ITEMS = 64
"""Members of each object or list."""
LEVELS = 8


def shortened(frame: dict[str, Any], size: int) -> dict[str, Any]:
    """The frame, with the head of its payload if it is a delivery of more than `WHOLE_FRAME` characters."""
    if size <= WHOLE_FRAME or frame.get("type") != "deliver":
        return frame
    return _Shortening().of(frame, LEVELS)  # type: ignore[no-any-return] # a dict stays one


class _Shortening:
    """What is left of one frame: texts in order, the first long one with a long head."""

    def __init__(self) -> None:
        self._head = HEAD

    def of(self, value: Any, levels: int) -> Any:
        """The value, shortened."""
        if isinstance(value, str):
            return self._text(value)
        if not isinstance(value, dict | list):
            return value
        if not levels:
            return None
        if isinstance(value, list):
            return [self.of(item, levels - 1) for item in value[:ITEMS]]
        return {key[:SHORT]: self.of(item, levels - 1) for key, item in list(value.items())[:ITEMS]}

    def _text(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        if len(data) <= SHORT:
            return text
        kept, self._head = self._head, SHORT
        if len(data) <= kept:
            return text
        digest = hashlib.sha256(data).hexdigest()
        return f"{data[:kept].decode('utf-8', 'ignore')}… [{len(data)} bytes, sha256:{digest}]"
