"""Lists of any kind are read as they are drawn, and moving through them confirms only what was named (ADR-0072)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaybroker.adapters.sessions.terminal import options

words = st.text(alphabet=st.sampled_from("abcdefgh YNé漢"), min_size=1, max_size=30).map(str.strip).filter(bool)
lists = st.lists(words, min_size=2, max_size=12, unique_by=str.casefold)
marks = st.sampled_from("❯›▸▶●>")


class Drawn:
    """A program's list: rows above and below, a mark that keys move, perhaps a frame and descriptions."""

    def __init__(self, labels, mark, at, *, numbered, framed, described, wraps_around, window):
        self.labels, self.mark, self.at, self.window = labels, mark, at, window
        self.top = max(0, at - window + 1)
        self.numbered, self.framed, self.described, self.wraps_around = numbered, framed, described, wraps_around
        self.confirmed = None

    def rows(self):
        drawn = ["some output", "─" * 40, "Which one?", ""]
        for place, label in [*enumerate(self.labels)][self.top : self.top + self.window]:
            number = f"{place + 1}. " if self.numbered else ""
            drawn.append(f"  {self.mark if place == self.at else ' '} {number}{label}")
            if self.described:
                drawn.append(" " * (6 + len(number)) + "says more")
        drawn += ["", "  Enter to select · Esc to cancel"]
        return [f"│{row:60}│" for row in drawn] if self.framed else drawn

    def press(self, key):
        if key == options.ENTER:
            self.confirmed = self.labels[self.at]
            return
        step = 1 if key == options.DOWN else -1
        last = len(self.labels) - 1
        self.at = (self.at + step) % (last + 1) if self.wraps_around else max(0, min(last, self.at + step))
        self.top = min(self.at, max(self.top, self.at - self.window + 1))


@st.composite
def drawn(draw):
    labels = draw(lists)
    return Drawn(
        labels,
        draw(marks),
        draw(st.integers(0, len(labels) - 1)),
        numbered=draw(st.booleans()),
        framed=draw(st.booleans()),
        described=draw(st.booleans()),
        wraps_around=draw(st.booleans()),
        window=draw(st.integers(2, len(labels))),
    )


@given(drawn())
def test_a_list_is_read_as_it_is_drawn(program):
    asked = options.asked(program.rows(), 0)
    listed = [option for option in asked.options if not option.keys]
    places = range(program.top, program.top + program.window)
    assert [option.label for option in listed] == [program.labels[at] for at in places]
    assert [option.is_marked for option in listed] == [at == program.at for at in places]
    assert [option.key for option in listed] == [
        str(at + 1 if program.numbered else at - program.top + 1) for at in places
    ]
    assert "Which one?" in asked.text
    assert asked.options[-1].keys == options.ESCAPE


@given(drawn(), st.data())
def test_moving_confirms_what_was_named_and_nothing_else(program, data):
    wanted = data.draw(st.sampled_from(options.asked(program.rows(), 0).options[:-1]))
    for _ in range(2 * options.MAX_OPTIONS):
        program.press(options.move(options.asked(program.rows(), 0).options, wanted))
        if program.confirmed is not None:
            break
    assert program.confirmed == wanted.label


@given(st.lists(st.text(max_size=60), min_size=1, max_size=30), st.integers(0, 29))
def test_any_screen_is_read_within_bounds(rows, cursor_row):
    rows = [" ".join(row.split("\n")) for row in rows]
    asked = options.asked(rows, min(cursor_row, len(rows) - 1))
    assert len(asked.options) <= options.MAX_OPTIONS
    assert len(asked.text) <= options.TEXT_ROWS
    assert all(len(option.label) <= options.LABEL_MAX for option in asked.options)
    assert sum(option.is_marked for option in asked.options) <= 1


BOXES = [("[x]", "[ ]"), ("[✔]", "[ ]"), ("◉", "◯"), ("●", "○"), ("☑", "☐"), ("(*)", "( )")]


@given(lists, marks, st.sampled_from(BOXES), st.integers(0, 11), st.data())
def test_of_what_can_be_chosen_together_nothing_is_offered(labels, mark, boxes, at, data):
    """Enter would take what is ticked, whatever the mark stands at."""
    ticked = [data.draw(st.booleans()) for _ in labels]
    rows = ["Which ones?", ""] + [
        f"  {mark if place == at % len(labels) else ' '} {boxes[0] if ticked[place] else boxes[1]} {label}"
        for place, label in enumerate(labels)
    ]
    assert options.asked([*rows, "", "  Enter to submit · Esc to cancel"], 0).options == (
        options.Option("cancel", "esc", keys=options.ESCAPE, row=len(rows) + 1),
    )
