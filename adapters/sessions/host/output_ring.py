"""The last output of one program, bounded, addressed by the number of bytes since its start."""

from __future__ import annotations

RING_BYTES = 256 * 1024
_SLACK = 32 * 1024
"""Trimming moves the whole buffer, so it is done once per this many bytes."""


class OutputRing:
    """Keeps at least the last `size` bytes written to it."""

    def __init__(self, size: int = RING_BYTES) -> None:
        self._size = size
        self._data = bytearray()
        self.end = 0
        """Bytes written since the start."""

    @property
    def start(self) -> int:
        """Offset of the oldest byte still kept."""
        return self.end - len(self._data)

    def append(self, data: bytes) -> None:
        self._data += data
        self.end += len(data)
        if len(self._data) > self._size + _SLACK:
            del self._data[: len(self._data) - self._size]

    def since(self, offset: int) -> bytes:
        """What was written from `offset` on; shorter when the oldest part is no longer kept."""
        return bytes(self._data[max(0, offset - self.start) :])

    def find(self, needle: bytes, offset: int) -> bool:
        """Whether `needle` occurs in what was written from `offset` on."""
        return self._data.find(needle, max(0, offset - self.start)) >= 0
