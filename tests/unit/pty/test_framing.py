"""Frames of the socket between broker and host."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.host.framing import FrameError, encode, request_decoder, response_decoder
from relaybroker.adapters.sessions.host.protocol import Confirm, Hello, Idle, Inject, Report, Start, Subscribe, Welcome


def test_a_message_survives_the_wire():
    start = Start(session_id="s", name="n", argv=("a", "b"), env={"K": "ü"}, cwd="/", profile="default")
    assert request_decoder().feed(encode(start)) == [start]


def test_several_messages_in_one_read_come_in_order():
    messages = [Hello(version=1, broker_pid=2), Subscribe(on=True), Confirm(number=7)]
    assert request_decoder().feed(b"".join(encode(message) for message in messages)) == messages


def test_a_frame_that_comes_byte_by_byte_is_one_message():
    decoder = response_decoder()
    report = Report(number=1, session_id="s", at=1.5, fact=Idle(idle_s=30))
    frames = [decoder.feed(bytes([byte])) for byte in encode(report)]
    assert frames[-1] == [report]
    assert not any(frames[:-1])


def test_a_frame_that_announces_too_much_is_refused_before_it_is_read():
    with pytest.raises(FrameError, match="announced"):
        request_decoder().feed((2**31).to_bytes(4, "big"))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", b"\x81\xa1t\xa5Alien", b"\x91" * 2000, b"\x81\xa1t\xa5Hello"])
def test_a_body_that_is_no_message_is_refused(body):
    with pytest.raises(FrameError, match="not a message"):
        request_decoder().feed(len(body).to_bytes(4, "big") + body)


def test_a_response_is_no_request():
    welcome = Welcome(version=1, host_id="h", host_pid=1, sessions=(), next_report=1)
    with pytest.raises(FrameError):
        request_decoder().feed(encode(welcome))


def test_a_message_longer_than_a_frame_is_not_sent():
    with pytest.raises(FrameError, match="longer"):
        encode(Inject(session_id="s", delivery_id="d", attempt=1, text="x" * (8 * 1024 * 1024)))
