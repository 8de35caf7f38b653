"""The screen model: what a person would see."""

from __future__ import annotations

import base64

import pytest

from relaybroker.adapters.sessions.terminal.screen import BACKLOG_BYTES, Terminal


def _shown(data: bytes, rows: int = 5, columns: int = 20) -> Terminal:
    terminal = Terminal(rows, columns)
    terminal.feed(data)
    terminal.settle()
    return terminal


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"hello\r\nworld", ["hello", "world", "", "", ""]),
        (b"abc\rX", ["Xbc", "", "", "", ""]),
        (b"a\tb", ["a       b", "", "", "", ""]),
        (b"\x1b[3;4Hhere", ["", "", "   here", "", ""]),
        (b"old\x1b[2J\x1b[Hnew", ["new", "", "", "", ""]),
        (b"12345678901234567890wrap", ["12345678901234567890", "wrap", "", "", ""]),
        (b"\x1b[?7l12345678901234567890XY", ["1234567890123456789Y", "", "", "", ""]),
        (b"1\r\n2\r\n3\r\n4\r\n5\r\n6", ["2", "3", "4", "5", "6"]),
        ("你好!".encode(), ["你好!", "", "", "", ""]),
        ("e\u0301x".encode(), ["\u00e9x", "", "", "", ""]),
        (b"main\x1b[?1049h\x1b[Halt", ["alt", "", "", "", ""]),
        (b"main\x1b[?1049halt\x1b[?1049l", ["main", "", "", "", ""]),
        (b"\x1b[2;3r\x1b[3;1Ha\r\nb\r\nc", ["", "b", "c", "", ""]),
        (b"\x1b]0;title\x07x\x1b[>4;2my", ["xy", "", "", "", ""]),
        (b"a\x1b[5Jb\x1b[9Kc", ["abc", "", "", "", ""]),
        (b"\x1b[?6h\x1b[3dx", ["", "", "x", "", ""]),
    ],
)
def test_the_screen_shows_what_a_terminal_would_show(data, lines):
    assert _shown(data).lines() == lines


def test_flags_are_known_before_anything_is_painted():
    terminal = Terminal(5, 20)
    terminal.feed(b"\x1b[?2004h\x1b[?1049;25h")
    assert terminal.bracketed_paste
    assert terminal.alternate_screen
    terminal.feed(b"\x1b[?2004l\x1b[?1049l")
    assert not terminal.bracketed_paste
    assert not terminal.alternate_screen
    terminal.feed(b"\x1b[?2004h\x1bc")
    assert not terminal.bracketed_paste


def test_the_modes_that_a_viewers_terminal_must_share_are_known():
    terminal = _shown(b"\x1b[?1049h\x1b[?1;1000;1006h\x1b[?2004h\x1b[?25l\x1b[?1000l")
    assert terminal.private_modes == {1, 1006, 1049, 2004}
    terminal.feed(b"\x1bc")
    assert terminal.private_modes == set()


def test_terminal_queries_are_answered_from_the_screen_in_order():
    terminal = _shown(b"ab\x1b[6n\r\n\x1b[5n\x1b[c\x1b[>c\x1b[?6n")
    assert list(terminal.replies) == [b"\x1b[1;3R", b"\x1b[0n", b"\x1b[?62;22c", b"\x1b[>1;10;0c", b"\x1b[?2;1R"]


def test_queries_beyond_the_bound_are_dropped():
    assert len(_shown(b"\x1b[6n" * 1000).replies) == 128


def test_a_snapshot_in_ansi_repaints_the_same_screen():
    first = _shown(
        "\x1b[1;31mred\x1b[0m \x1b[7mrev\x1b[0m\r\n\x1b[38;5;200m\x1b[48;2;1;2;3m你好\x1b[0m\x1b[3;4Hend".encode()
    )
    again = _shown(base64.b64decode(first.ansi()))
    assert again.lines() == first.lines()
    assert again.cursor() == first.cursor()
    assert again.ansi() == first.ansi()
    assert base64.b64decode(first.ansi()).startswith(b"\x1b[0m\x1b[H\x1b[2J\x1b[1;1H")


def test_plain_text_has_one_line_per_row():
    assert _shown(b"x  ").plain() == "x\n\n\n\n\n"


def test_output_that_scrolled_off_is_not_painted_and_the_screen_is_the_same():
    data = b"".join(b"\x1b[3%dmline %d\x1b[0m\r\n" % (n % 8, n) for n in range(3000)) + b"\x1b[1mtail"
    at_once, in_steps = _shown(data), Terminal(5, 20)
    for start in range(0, len(data), 50):
        in_steps.feed(data[start : start + 50])
        in_steps.settle()
    assert at_once.ansi() == in_steps.ansi()


def test_a_backlog_is_announced_and_painted_in_slices():
    terminal = Terminal(5, 20)
    terminal.feed(b"\x1b[Hx" * (BACKLOG_BYTES // 4))
    assert terminal.is_backlogged
    slices = 1
    while not terminal.settle(8192):
        slices += 1
    assert slices > 10
    assert terminal.painted == terminal.fed
    assert not terminal.is_backlogged


def test_resizing_keeps_what_fits():
    terminal = _shown(b"1\r\n2\r\n3\r\n4\r\nlonger than ten")
    terminal.resize(3, 10)
    assert (terminal.rows, terminal.columns) == (3, 10)
    assert terminal.lines() == ["3", "4", "longer tha"]
    assert terminal.cursor()[1] <= 10
    terminal.feed(b"\x1b[?1049h")
    terminal.settle()
    terminal.resize(6, 30)
    terminal.feed(b"\x1b[?1049l\x1b[6;30Hx")
    terminal.settle()
    assert terminal.lines()[5].endswith("x")


def test_nothing_grows_without_bound():
    terminal = _shown(b"\x1b7" * 5000 + b"a" + "\u0301".encode() * 5000 + b"\x1b[?1049h" * 100)
    assert len(terminal._grid.savepoints) <= 16
    assert all(len(line) < 60 for line in terminal.lines())
