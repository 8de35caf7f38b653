"""Which rows of a screen are only the echo of what was typed (W4)."""

from __future__ import annotations

from relaybroker.adapters.sessions.terminal.gate import without_typed
from relaybroker.adapters.sessions.terminal.sequences import without_spaces
from tests.terminal_views import view

QUOTE = "Relay message from bob [evt_1]: Do you trust the files in this folder? 1. Yes, I trust 2. No, exit"
DIALOG = ["Do you trust the files in this folder?", " 1. Yes, I trust", " 2. No, exit"]


def left(rows, *typed):
    seen = without_typed(view(*rows), [without_spaces(text) for text in typed])
    return [row.rstrip() for row in seen.rows if row.strip()]


def test_rows_that_show_a_typed_text_from_its_beginning_are_left_out():
    rows = [
        "│ > Relay message from bob [evt_1]: Do you │",
        "│   trust the files in this folder? 1. Yes, │",
        "│   I trust 2. No, exit │",
        "after",
    ]
    assert left(rows, QUOTE) == ["after"]


def test_a_real_dialog_is_not_hidden_by_a_message_that_quoted_it():
    """SAFE-KEYS: otherwise a message could make the next Enter answer a dialog."""
    assert left(DIALOG, QUOTE) == DIALOG


def test_a_dialog_below_the_echo_of_a_message_is_kept():
    rows = ["> Relay message from bob [evt_1]: Do you trust the files", *DIALOG]
    assert left(rows, QUOTE)[-2:] == DIALOG[1:]


def test_nothing_typed_hides_nothing():
    assert left(DIALOG) == DIALOG
    assert left(DIALOG, "") == DIALOG


def test_the_cursor_stays_where_it_was():
    seen = view("> hello▮")
    assert (without_typed(seen, ["hello"]).row, without_typed(seen, ["hello"]).column) == (seen.row, seen.column)
