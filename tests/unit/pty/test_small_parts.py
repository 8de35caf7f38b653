"""Output ring, log files, chunks of the writer, sanitising."""

from __future__ import annotations

import os
import stat

import pytest

from relaybroker.adapters.sessions.host.output_ring import OutputRing
from relaybroker.adapters.sessions.host.rotating_file import RotatingFile
from relaybroker.adapters.sessions.terminal.typed_text import sanitise
from relaybroker.adapters.sessions.terminal.writer import CHUNK_BYTES, chunks


def test_the_ring_keeps_the_last_bytes_and_counts_all():
    ring = OutputRing(size=10)
    for n in range(20_000):
        ring.append(b"%05d" % n)
    assert ring.end == 100_000
    assert ring.end - ring.start <= 10 + 32 * 1024 + 5
    assert ring.since(ring.end - 10) == b"1999819999"
    assert ring.since(0) == ring.since(ring.start)
    assert ring.find(b"19999", ring.end - 5)
    assert not ring.find(b"19999", ring.end - 4)


def test_a_log_is_owner_only_and_its_size_is_bounded(tmp_path):
    path = tmp_path / "log"
    file = RotatingFile(str(path), max_bytes=100, kept=3)
    for n in range(50):
        file.write(b"%09d\n" % n)
    file.close()
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["log", "log.1", "log.2"]
    assert path.read_bytes().endswith(b"000000049\n")
    assert all(p.stat().st_size <= 100 for p in tmp_path.iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_does_not_follow_a_symbolic_link(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        RotatingFile(str(tmp_path / "log"))


def test_a_log_that_became_another_descriptor_rotates_under_it(tmp_path):
    standard_error = os.open(os.devnull, os.O_WRONLY)
    file = RotatingFile(str(tmp_path / "log"), max_bytes=10)
    file.become(standard_error)
    file.write(b"12345678")
    file.write(b"abcdefgh")
    os.write(standard_error, b"!")
    os.close(standard_error)
    assert (tmp_path / "log").read_bytes() == b"abcdefgh!"
    assert (tmp_path / "log.1").read_bytes() == b"12345678"


def test_chunks_end_neither_in_a_character_nor_in_a_sequence():
    """F079."""
    data = b"x" * (CHUNK_BYTES - 3) + b"\x1b[201~" + "€".encode() * 1000
    pieces = list(chunks(data))
    assert b"".join(pieces) == data
    assert pieces[0] == b"x" * (CHUNK_BYTES - 3)
    assert pieces[1].startswith(b"\x1b[201~")
    for piece in pieces:
        piece.decode()
        assert len(piece) <= CHUNK_BYTES


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("\x1b[201~x\x03\x04\x00\x7f\x9b", "[201~x"),
        ("tab\tkept", "tab\tkept"),
        ("\n\nends\n", "ends"),
        ("\ud800x", "x"),
    ],
)
def test_no_character_of_a_message_is_a_key(text, clean):
    """F082, SAFE-KEYS."""
    assert sanitise(text) == clean
