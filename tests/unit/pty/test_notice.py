"""A message that the host shows: below the row of the cursor, which is drawn again behind it as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.adapters.sessions.terminal.screen import Terminal
from relaybroker.adapters.sessions.terminal.typed_text import sanitise


def terminal(output, rows=8, columns=40):
    made = Terminal(rows, columns)
    made.feed(output.encode())
    made.settle()
    return made


def shown(made, text):
    made.feed(made.notice(text))
    made.settle()
    return [line for line in made.lines() if line]


def test_prompt_and_begun_line_stand_behind_the_message_as_they_stood_before_it():
    made = terminal("$ echo ha")
    assert shown(made, "a message\nof two lines") == ["$ echo ha", "a message", "of two lines", "$ echo ha"]
    assert made.cursor() == (4, 10)
    made.feed(b"lf")
    made.settle()
    assert made.cursor_line() == "$ echo half"


def test_a_line_with_the_cursor_in_its_middle_stands_behind_the_message_whole():
    made = terminal("$ echo half\x1b[1;8H")
    assert shown(made, "a message") == ["$ echo half", "a message", "$ echo half"]
    assert made.cursor() == (3, 8)


def test_colours_of_the_line_and_of_the_program_go_on():
    made = terminal("\x1b[31m$ \x1b[1;32mecho\x1b[0;34m")
    made.feed(made.notice("plain"))
    made.feed(b"!")
    made.settle()
    row = made._grid.cursor.y
    cells = made._grid.buffer[row]
    assert [(cells[x].data, cells[x].fg, cells[x].bold) for x in (0, 2, 6)] == [
        ("$", "red", False),
        ("e", "green", True),
        ("!", "blue", False),
    ]
    message = made._grid.buffer[row - 1]
    assert (message[0].data, message[0].fg, message[0].bold) == ("p", "default", False)


def test_a_message_that_scrolls_the_screen_leaves_the_prompt_on_the_last_row():
    made = terminal("$ ", rows=4)
    shown(made, "\n".join(f"line {number}" for number in range(9)))
    assert made.lines() == ["line 6", "line 7", "line 8", "$"]
    assert made.cursor() == (4, 3)


def test_a_message_wider_than_the_terminal_wraps():
    made = terminal("$ ", columns=10)
    assert shown(made, "abcdefghijklm") == ["$", "abcdefghij", "klm", "$"]


@pytest.mark.parametrize(
    ("output", "is_between"),
    [
        ("$ ", True),
        ("\x1b", False),
        ("\x1b[", False),
        ("\x1b[12", False),
        ("\x1b[12m", True),
        ("\x1b]0;title", False),
        ("\x1b]0;title\x07", True),
        ("\x1bP1$r0m", False),
        ("\x1bP1$r0m\x1b\\", True),
    ],
)
def test_nothing_is_shown_in_the_middle_of_a_sequence(output, is_between):
    assert terminal(output).is_between_sequences is is_between


def test_nothing_is_shown_in_the_middle_of_a_character():
    made = terminal("$ ")
    made.feed("ü".encode()[:1])
    assert not made.is_between_sequences
    made.feed("ü".encode()[1:])
    assert made.is_between_sequences


@given(st.text(max_size=300))
def test_no_text_of_a_message_asks_the_terminal_anything_or_moves_what_stands_before_the_cursor(text):
    """SAFE-KEYS: an answer to a query would be typed into the shell; a mode would change how its keys are read."""
    made = terminal("$ echo ha", rows=6)
    made.feed(made.notice(sanitise(text)))
    made.settle()
    assert list(made.replies) == []
    assert not made.bracketed_paste
    assert not made.alternate_screen
    assert made.is_between_sequences
    assert made.cursor_line() == "$ echo ha"
