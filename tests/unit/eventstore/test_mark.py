"""The high-water mark file."""

from __future__ import annotations

import stat

import pytest

from relaybroker.adapters.eventstore import mark
from relaybroker.adapters.eventstore.mark import Mark, MarkWriter, UnreadableMark


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db.mark"


def test_the_last_move_is_what_is_read(path):
    writer = MarkWriter(path)
    assert mark.read(path) is None
    writer.move(Mark(1, b"a" * 16))
    writer.move(Mark(2**40, b"b" * 16))
    assert mark.read(path) == Mark(2**40, b"b" * 16)
    writer.close()
    assert MarkWriter(path).close() is None
    assert mark.read(path) == Mark(2**40, b"b" * 16)
    assert path.stat().st_size == mark.LENGTH
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_is_no_mark(path):
    assert mark.read(path) is None


def test_every_flipped_bit_and_every_cut_is_noticed(path):
    writer = MarkWriter(path)
    writer.move(Mark(77, b"c" * 16))
    writer.close()
    whole = path.read_bytes()
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UnreadableMark):
            mark.read(path)
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableMark):
            mark.read(path)
