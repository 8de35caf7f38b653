"""What the rules see of a screen: lines across it, wraps, text without frames, and which characters nobody typed."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.terminal.view import bare, is_dimmed, solid
from tests.terminal_views import painted, view


@pytest.mark.parametrize(
    ("row", "columns", "is_rule"),
    [
        ("─" * 80, 80, True),
        ("─" * 40, 40, True),
        ("   " + "─" * 70, 80, True),
        ("─── Plan ──" + "─" * 60, 80, True),
        ("━" * 30, 80, True),
        ("▔" * 80, 80, True),
        ("──", 80, False),
        ("─" * 10, 80, False),
        ("─" * 20, 40, True),
        ("─── " + "words and more words " * 3 + "──", 80, False),
        ("-" * 80, 80, False),
        ("=" * 80, 80, False),
        ("│" + "─" * 70 + "│", 80, False),
        ("", 80, False),
    ],
)
def test_a_rule_is_a_row_of_line_glyphs_possibly_with_a_title(row, columns, is_rule):
    assert view(row, columns=columns).is_rule(0) is is_rule


def test_a_row_that_is_full_to_the_last_column_goes_on_in_the_next_one():
    seen = view("x" * 80, "x" * 79)
    assert seen.wraps(0)
    assert not seen.wraps(1)


def test_text_is_found_however_it_wraps_and_is_framed():
    seen = view("│ Do you trust the │", "│ files in this fol │", "│ der? │")
    assert "doyoutrustthefilesinthisfolder?" in seen.joined
    assert bare("A  b│\n C", lower=False) == "AbC"


def test_text_before_and_behind_the_cursor_is_told_apart():
    seen = view("first", "left▮right", "last")
    assert seen.text_until_cursor == "firstleft"
    assert seen.text_after_cursor == "rightlast"
    assert seen.before_cursor == "left"


def test_a_screen_without_some_of_its_rows_keeps_its_size_and_cursor():
    seen = view("one", "two▮", "three").without({0, 2})
    assert [seen.is_blank(row) for row in range(3)] == [True, False, True]
    assert (len(seen.rows), seen.row, seen.column) == (24, 1, 3)


@pytest.mark.parametrize(
    ("foreground", "faint", "dimmed"),
    [
        ("default", True, True),
        ("default", False, False),
        ("brightblack", False, True),
        ("white", False, False),
        ("808080", False, True),
        ("6c7086", False, True),
        ("ffffff", False, False),
        ("000000", False, False),
        ("ff0000", False, False),
        ("zzzzzz", False, False),
    ],
)
def test_a_placeholder_is_faint_or_grey(foreground, faint, dimmed):
    assert is_dimmed(foreground, faint=faint) is dimmed


@pytest.mark.parametrize(
    ("output", "dim"),
    [
        ("> \x1b[2mType your message\x1b[0m\x1b[1;3H", True),
        ("> \x1b[7mT\x1b[0;2mype your message\x1b[0m\x1b[1;3H", True),
        ("> \x1b[38;5;244mType your message\x1b[0m\x1b[1;3H", True),
        ("> Type your message\x1b[1;3H", False),
        ("> \x1b[2mType\x1b[0m it\x1b[1;3H", False),
        ("> \x1b[1;3H", True),
        ("> \x1b[2mtwo\x1b[0m\r\nrows\x1b[1;3H", True),
    ],
)
def test_a_row_is_dim_from_a_column_on_when_all_behind_it_is(output, dim):
    seen = painted(output)
    assert seen.is_dim(seen.row, seen.column + 1) is dim


def test_a_view_has_the_cursor_and_the_modes_of_the_terminal():
    seen = painted("\x1b[?1049h\x1b[?2004h\x1b[?25l\x1b[3;5Hx", rows=5, columns=20)
    assert (seen.row, seen.column, seen.columns, len(seen.rows)) == (2, 5, 20, 5)
    assert (seen.alternate, seen.bracketed_paste, seen.cursor_hidden) == (True, True, True)
    assert seen.rows[2] == "    x" + " " * 15
    assert painted("x" * 20, rows=5, columns=20).column == 19


def test_a_text_is_known_by_what_every_program_draws_alike():
    assert solid("done 👍🏽 family 👨\u200d👩\u200d👧 flag 🇪🇺 e\u0301") == "donefamilyflage"
    assert view("done 👍🏽 fam 👨 \u200d👩▮").ends_at_cursor(solid("done 👍🏽 fam 👨\u200d👩"))
