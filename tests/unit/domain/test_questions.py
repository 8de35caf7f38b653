"""ADR-0095: a question as it is kept and shown; what the host reports of it reaches state, log and clients."""

from __future__ import annotations

from relaybroker.domain.questions import MAX_ID, MAX_LABEL, MAX_LINE, MAX_LINES, MAX_OPTIONS, Option, question


def test_a_question_is_cut_to_its_bounds_and_nothing_in_it_acts():
    one = question(
        "q1",
        "permission",
        ["first\n\n\tsecond \x1b[2J\u202e", "x" * 2 * MAX_LINE, *["more"] * 2 * MAX_LINES],
        [
            Option("a", "Yes,\n\x1b[31m always"),
            *(Option(str(one), "y" * 2 * MAX_LABEL) for one in range(2 * MAX_OPTIONS)),
        ],
    )
    assert one.text[:2] == ("first", "    second \\x1b[2J\\u202e")
    assert len(one.text[2]) == MAX_LINE
    assert len(one.text) == MAX_LINES
    assert one.text[-1] == f"(and {2 * MAX_LINES + 3 - MAX_LINES + 1} more lines)"
    assert one.options[0] == Option("a", "Yes, \\x1b[31m always")
    assert len(one.options) == MAX_OPTIONS
    assert {len(option.label) for option in one.options[1:]} == {MAX_LABEL}


def test_an_option_whose_id_cannot_be_kept_is_not_offered_and_a_blank_label_is_its_id():
    one = question("q1", "question", ["?"], [Option("x" * (MAX_ID + 1), "too long"), Option("fine", " ")])
    assert one.options == (Option("fine", "fine"),)
