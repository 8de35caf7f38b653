"""Splitting terminal output into text and control sequences."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.terminal.sequences import Control, SequenceSplitter, plain_text, without_spaces


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (b"plain", ["plain"]),
        (b"a\x1b[1;31mb", ["a", Control("m", (1, 31)), "b"]),
        (b"\x1b[?2004h", [Control("h", (2004,), "?")]),
        (b"\x1b[>4;1m", [Control("m", (4, 1), ">")]),
        (b"\x1b[4 q", [Control("q", (4,), "", " ")]),
        (b"\x1b[;5H", [Control("H", (0, 5))]),
        (b"\x1b[38:2:1:2:3m", [Control("m", (38, 2, 1, 2, 3))]),
        (b"\x1b[99999999999A", [Control("A", (9999,))]),
        (b"\x1b7x\x1b8", [Control("7", csi=False), "x", Control("8", csi=False)]),
        (b"\x1b(Bx", ["x"]),
        (b"a\x1b]0;title\x07b", ["a", "b"]),
        (b"a\x1b]8;;http://x\x1b\\b", ["a", "b"]),
        (b"a\x1bPq#0;1\x1b\\b", ["a", "b"]),
        (b"a\x1b]0;never ended\x1b[1mb", ["a", Control("m", (1,)), "b"]),
        (b"a\x1b[1\nb", ["a", "\nb"]),
        (b"\x1b[" + b"1;" * 150 + b"m", [Control]),
        (b"a\x00\x7f\x0e\xc2\x9bb", ["ab"]),
        ("ä€\U0001f600".encode(), ["ä€\U0001f600"]),
        (b"\xff\xe2\x82", ["\ufffd"]),
    ],
)
def test_output_is_split_into_text_and_sequences(data, pieces):
    split = SequenceSplitter().feed(data)
    if pieces == [Control]:
        assert all(isinstance(piece, str | Control) for piece in split)
    else:
        assert split == pieces


def test_a_string_sequence_without_end_keeps_nothing():
    splitter = SequenceSplitter()
    splitter.feed(b"\x1b]52;c;")
    for _ in range(100):
        assert splitter.feed(b"x" * 10000) == []
    assert splitter.feed(b"\x07after") == ["after"]


def test_plain_text_is_what_a_person_would_read():
    assert plain_text(b"\x1b[1mbold\x1b[0m\r\r\nnext\rover\x07\x08") == "bold\nnext\nover"


def test_comparing_without_spaces_ignores_wrapping():
    assert without_spaces(" evt_\r\n  12 3\t") == "evt_123"
