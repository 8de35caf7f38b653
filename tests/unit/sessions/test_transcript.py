"""A transcript shows what was said, above the draft, on any terminal; nothing that it shows acts there."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaybroker.adapters.sessions.line_editor import INTERRUPT, MAX_LINE, LineEditor
from relaybroker.adapters.sessions.terminal.screen import Terminal
from relaybroker.adapters.sessions.transcript import MAX_ENTRY, Transcript


def shown(act, rows=12, columns=40):
    terminal = Terminal(rows, columns)
    transcript = Transcript(terminal.feed, lambda: terminal.columns)
    transcript.start()
    act(transcript)
    terminal.settle()
    return [line.rstrip() for line in terminal.plain().splitlines() if line.strip()]


def test_entries_stand_above_the_draft():
    def act(transcript):
        transcript.draft("half")
        transcript.add("message", "one\ntwo")
        transcript.add("asked", "may I?")

    assert shown(act) == ["» one", "  two", "? may I?", "› half"]


def test_what_comes_in_pieces_is_shown_at_once_and_stands_in_whole_lines():
    seen = []

    def act(transcript):
        for piece in ("Hel", "lo\nwor", "ld"):
            transcript.piece("said", piece)
            seen.append(piece)
        transcript.piece("thought", "hm")

    assert shown(act) == ["Hello", "world", "hm", "›"]
    assert shown(lambda transcript: transcript.piece("said", "Hel")) == ["Hel", "›"]


def test_a_program_paints_nothing_on_whoever_looks():
    lines = shown(lambda transcript: transcript.add("said", "a\x1b[2Jb\x1b]0;title\x07c\u202ed"))
    assert lines[0].startswith(r"a\x1b[2Jb\x1b]0;title\x07c\u202ed")


def test_a_long_entry_is_cut_and_says_so():
    data = []
    Transcript(data.append, lambda: 80).add("said", "x" * (MAX_ENTRY + 7))
    assert "(7 more characters)" in b"".join(data).decode()


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "piece", "draft"]), st.text(string.ascii_letters + " \nä漢", max_size=60)),
        max_size=12,
    )
)
def test_whatever_comes_the_draft_is_the_last_row_and_no_row_is_left_over(acts):
    """Also wide characters and rows that are full."""

    def act(transcript):
        for name, text in acts:
            if name == "draft":
                transcript.draft(text)
            else:
                getattr(transcript, name)("said", text)
        transcript.end_piece()
        transcript.draft("end")

    lines = shown(act, rows=200)
    assert lines[-1] == "› end"
    said = "".join("".join(lines[:-1]).split())
    expected = "".join(text for name, text in acts if name != "draft")
    assert said == "".join(expected.split())


@pytest.mark.parametrize(
    ("keys", "lines", "draft"),
    [
        (b"one\rtwo", ["one"], "two"),
        (b"onex\x7f\x08\r", ["on"], ""),
        (b"a b\x17c\r", ["a c"], ""),
        (b"a\x15b\r", ["b"], ""),
        (b"\x1b[A\x1bOBx\x1b[1;5Cy\r", ["xy"], ""),
        (b"\x1b[200~a\r\nb\x1b[201~\r", ["a\n\nb"], ""),
        (b"half\x03", [], ""),
        (b"\x03", [INTERRUPT], ""),
        ("ä漢".encode(), [], "ä漢"),
        (b"\xff\r", ["\ufffd"], ""),
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 100])
def test_keys_become_lines_however_they_come(keys, lines, draft, cut):
    editor = LineEditor()
    ended = [line for at in range(0, len(keys), cut) for line in editor.feed(keys[at : at + cut])]
    assert (ended, editor.draft) == (lines, draft)


def test_a_line_is_bounded_and_a_sequence_that_never_ends_is_let_go():
    editor = LineEditor()
    editor.feed(b"x" * (MAX_LINE + 10))
    assert len(editor.draft) == MAX_LINE
    editor.feed(b"\x15\x1b[" + b"1" * 200 + b"\r")
    assert editor.draft == "" or len(editor.draft) <= 200


@given(st.binary(max_size=200))
def test_no_keys_break_it(data):
    editor = LineEditor()
    for byte in data:
        editor.feed(bytes([byte]))
    assert len(editor.draft) <= MAX_LINE
