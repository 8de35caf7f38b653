"""F098: however the stream is cut into reads, screen, text and flags are the same; no byte kills a reader."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from relaybroker.adapters.sessions.host.framing import FrameError, encode, request_decoder
from relaybroker.adapters.sessions.host.protocol import Confirm, Hello, Inject, Input
from relaybroker.adapters.sessions.terminal.screen import Terminal
from relaybroker.adapters.sessions.terminal.sequences import SequenceSplitter, plain_text
from relaybroker.adapters.sessions.terminal.writer import chunks

RECORDINGS = sorted((Path(__file__).parents[3] / "fixtures" / "terminals").glob("*/*/output.bin"))

_fragments = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            b"\x1b[", b"\x1b", b"\x1b]0;t", b"\x07", b"\x1b\\", b"\r\n" * 8, b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?2004h",
            b"\x1b[2J", b"\x1b[H", b"\x1b[6n", b"\x1b[3;7H", b"\x1b[1;31m", b"\x1b[2;4r", b"\x1b[r", b"\x1b7", b"\x1b8",
            b"\x1b[4h", b"\x1b[4l", b"\x1b[?6h", b"\x1b[?6l", b"\x1b[?7l", b"\x1b[?7h", b"\x1b[L", b"\x1b[M", b"\x1b[P",
            b"\x1b[@", b"\x1b[X", b"\x1b[K", b"\x1b[1J", b"\x1bM", b"\x1bD", b"\x1bE", b"\x1bc", b"\x1bH", b"\t", b"\x08",
            b"\x1b[3g", b"\x1b[20h", b"\x1b[?3h", b"\x1b[?5h", b"\x1b#8", b"\x1b(0", b"line of text\r\n" * 30,
            "\u4f60\u597d".encode(), "e\u0301".encode(), "\U0001f468\u200d\U0001f469".encode(), b"\xc3", b"\xa4", b"\xe2\x82",
        ]
    ),
    st.tuples(st.lists(st.integers(0, 12000), max_size=4), st.sampled_from("@ABCDEFGHJKLMPSTXZ`abcdefghilmnqrstu")).map(
        lambda pair: f"\x1b[{';'.join(map(str, pair[0]))}{pair[1]}".encode()
    ),
)  # fmt: skip
_streams = st.lists(_fragments, max_size=40).map(b"".join)


def _final(data, cuts, settle_each):
    terminal = Terminal(6, 20)
    start = 0
    for end in [*sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]:
        terminal.feed(data[start:end])
        if settle_each:
            terminal.settle()
        start = end
    terminal.settle()
    return (
        terminal.lines(),
        terminal.cursor(),
        terminal.ansi(),
        terminal.bracketed_paste,
        terminal.alternate_screen,
        list(terminal.replies),
    )


@given(_streams, st.lists(st.integers(0, 10**6), max_size=20), st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_stream_in_any_cut_gives_the_same_screen_and_flags(data, cuts, settle_each):
    assert _final(data, cuts, settle_each) == _final(data, [], settle_each=False)


@given(_streams, st.integers(0, 10**6), st.integers(1, 9))
@settings(max_examples=400, deadline=None)
def test_whoever_joins_before_what_is_unfinished_misses_nothing(data, cut, step):
    """F121: the rest of the stream, from there on, is the same pieces to a reader that begins there."""
    cut %= len(data) + 1
    first = SequenceSplitter()
    earlier = [piece for start in range(0, cut, step) for piece in first.feed(data[start : min(cut, start + step)])]
    joins = cut - first.unfinished
    assert 0 <= joins <= cut
    assert joined(earlier + SequenceSplitter().feed(data[joins:])) == joined(SequenceSplitter().feed(data))


def joined(parts):
    out = []
    for piece in parts:
        if isinstance(piece, str) and out and isinstance(out[-1], str):
            out[-1] += piece
        else:
            out.append(piece)
    return out


@given(_streams)
@settings(max_examples=200, deadline=None)
def test_a_stream_read_byte_by_byte_gives_the_same_pieces(data):
    whole, single = SequenceSplitter(), SequenceSplitter()
    pieces = [piece for byte in data for piece in single.feed(bytes([byte]))]
    assert joined(pieces) == joined(whole.feed(data))


@given(st.binary(max_size=4000), st.integers(1, 60), st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_kill_the_reader(data, rows, columns):
    """W7."""
    terminal = Terminal(rows, columns)
    terminal.feed(data)
    terminal.settle()
    assert len(terminal.lines()) == rows
    row, column = terminal.cursor()
    assert 1 <= row <= rows
    assert 1 <= column <= columns
    assert isinstance(plain_text(data), str)
    terminal.resize(columns, rows)
    terminal.feed(data)
    terminal.settle()
    terminal.ansi()


@given(recording=st.sampled_from(RECORDINGS), cuts=st.lists(st.integers(0, 10**6), max_size=40))
@settings(max_examples=40, deadline=None)
def test_a_recorded_terminal_in_any_cut_gives_the_same_screen_and_flags(recording, cuts):
    data = recording.read_bytes()
    assert _final(data, cuts, settle_each=True) == _final(data, [], settle_each=False)


_requests = st.one_of(
    st.builds(Hello, version=st.integers(0, 9), broker_pid=st.integers(0, 2**31)),
    st.builds(Confirm, number=st.integers(0, 2**60)),
    st.builds(Inject, session_id=st.text(), delivery_id=st.text(), attempt=st.integers(0, 9), text=st.text()),
    st.builds(Input, request_id=st.text(), session_id=st.text(), data=st.binary()),
)


@given(st.lists(_requests, max_size=8), st.lists(st.integers(0, 10**6), max_size=10))
@settings(max_examples=100, deadline=None)
def test_frames_in_any_cut_are_the_same_messages(requests, cuts):
    data = b"".join(encode(request) for request in requests)
    decoder, decoded, start = request_decoder(), [], 0
    for end in [*sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]:
        decoded += decoder.feed(data[start:end])
        start = end
    assert decoded == requests


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_on_the_socket_are_messages_or_a_frame_error(data):
    try:
        request_decoder().feed(data)
    except FrameError as error:
        assert str(error)  # noqa: PT017  # both outcomes are right; anything else is raised


@given(st.text(max_size=5000).map(lambda text: text.encode("utf-8", "replace")))
@settings(max_examples=100, deadline=None)
def test_chunks_are_the_whole_text_and_whole_characters(data):
    """W7."""
    pieces = list(chunks(data))
    assert b"".join(pieces) == data
    for piece in pieces:
        piece.decode()
