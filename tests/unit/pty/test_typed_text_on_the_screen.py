"""Which rows of a screen are only the echo of what was typed (W4)."""

from __future__ import annotations

from adapters.pty.gate import without_typed
from adapters.pty.sequences import without_spaces

QUOTE = "Relay message from bob [evt_1]: Do you trust the files in this folder? 1. Yes, I trust 2. No, exit"
DIALOG = ["Do you trust the files in this folder?", " 1. Yes, I trust", " 2. No, exit"]


def test_rows_that_show_a_typed_text_from_its_beginning_are_left_out():
    lines = [
        "│ > Relay message from bob [evt_1]: Do you │",
        "│   trust the files in this folder? 1. Yes, │",
        "",
        "│   I trust 2. No, exit │",
        "after",
    ]
    assert without_typed(lines, [without_spaces(QUOTE)]) == ["after"]


def test_a_real_dialog_is_not_hidden_by_a_message_that_quoted_it():
    """SAFE-KEYS: otherwise a message could make the next Enter answer a dialog."""
    assert without_typed(DIALOG, [without_spaces(QUOTE)]) == DIALOG


def test_a_dialog_below_the_echo_of_a_message_is_kept():
    lines = ["> Relay message from bob [evt_1]: Do you trust the files", *DIALOG]
    assert without_typed(lines, [without_spaces(QUOTE)])[-2:] == DIALOG[1:]


def test_nothing_typed_hides_nothing():
    assert without_typed(DIALOG, []) == DIALOG
    assert without_typed(DIALOG, [""]) == DIALOG
