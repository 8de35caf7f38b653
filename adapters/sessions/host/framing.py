"""Frames on the socket between broker and host: a 4-byte big-endian length, then one MessagePack message.

The decoder is incremental (any cut of the stream gives the same messages) and bounded (a frame longer than
`MAX_MESSAGE_BYTES` is refused before it is buffered). Source: ADR-0005.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from relaybroker.adapters.sessions.host.protocol import MAX_MESSAGE_BYTES, Request, Response
from relaybroker.domain.decoding import NOT_READABLE

HEADER_BYTES = 4

_Message = TypeVar("_Message")
_encoder = msgspec.msgpack.Encoder()


class FrameError(Exception):
    """The peer sent something that is no frame of this protocol; the connection cannot be used any longer."""


def encode(message: Request | Response) -> bytes:
    """One whole frame for `message`. Raises FrameError when it is longer than a frame may be."""
    buffer = bytearray(HEADER_BYTES)
    _encoder.encode_into(message, buffer, HEADER_BYTES)
    length = len(buffer) - HEADER_BYTES
    if length > MAX_MESSAGE_BYTES:
        raise FrameError(f"a message of {length} bytes is longer than the {MAX_MESSAGE_BYTES} bytes of a frame")
    buffer[:HEADER_BYTES] = length.to_bytes(HEADER_BYTES, "big")
    return bytes(buffer)


class FrameDecoder(Generic[_Message]):
    """Turns received bytes into messages of one closed union; buffers at most one frame."""

    def __init__(self, messages: type[_Message]) -> None:
        self._decoder: msgspec.msgpack.Decoder[_Message] = msgspec.msgpack.Decoder(messages)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[_Message]:
        """The messages completed by `data`, in order. Raises FrameError; the decoder is unusable afterwards."""
        buffer = self._buffer
        buffer += data
        messages: list[_Message] = []
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            length = int.from_bytes(buffer[start : start + HEADER_BYTES], "big")
            if length > MAX_MESSAGE_BYTES:
                raise FrameError(f"announced {length} bytes, a frame has at most {MAX_MESSAGE_BYTES}")
            end = start + HEADER_BYTES + length
            if len(buffer) < end:
                break
            messages.append(self._decode(bytes(buffer[start + HEADER_BYTES : end])))
            start = end
        del buffer[:start]
        return messages

    def _decode(self, body: bytes) -> _Message:
        try:
            return self._decoder.decode(body)
        except NOT_READABLE as error:
            raise FrameError(f"not a message of this protocol: {error}") from error


def request_decoder() -> FrameDecoder[Request]:
    """Decoder for the host's side of the socket."""
    return FrameDecoder(Request)  # type: ignore[arg-type]  # a union is not a `type` to mypy


def response_decoder() -> FrameDecoder[Response]:
    """Decoder for the broker's side of the socket."""
    return FrameDecoder(Response)  # type: ignore[arg-type]  # a union is not a `type` to mypy
