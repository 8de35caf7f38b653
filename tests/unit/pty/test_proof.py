"""What proves after Enter that a text was taken, and when it wants another Enter."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.terminal import harnesses, sight
from relaybroker.adapters.sessions.terminal.access import Access
from relaybroker.adapters.sessions.terminal.foreground import Foreground
from relaybroker.adapters.sessions.terminal.proof import (
    FIRST_ENTER_S,
    LATE_S,
    MUTE_ENTER_S,
    STILL_S,
    Before,
    Proof,
    Standing,
    before,
    ends_at_cursor,
    standing,
    tail,
)
from tests.terminal_views import view

RULE = "─" * 80
CLAUDE = harnesses.profile("claude")
DEFAULT = harnesses.profile("default")
TEXT = "hello there, this is it"
NEEDLE = TEXT.replace(" ", "")


class Line:
    """What the proof asks of the session: nothing is unread and nothing has come, until it is said."""

    def __init__(self):
        self.unread_bytes: int | None = 0
        self.collects_lines = False
        self.last_output_at = 0.0
        self.ring = self
        self.end = 100

    def unread(self):
        return self.unread_bytes

    def line_discipline(self):
        return self.collects_lines, self.collects_lines

    def output(self, now):
        self.end += 10
        self.last_output_at = now


def access(profile, seen, waits=Wait.READ):
    front = Foreground(profile, 1, "it", stopped=False, same_group=True, group=1)
    screen = sight.read(profile, seen, collects_lines=False, echoes=False)
    return Access(front, seen, lambda: screen, None, lambda: waits)


def composer(text="", *, works=False):
    return view("❯ before", "", RULE, f"❯ {text}▮", RULE, "  esc to interrupt" if works else "  ? for shortcuts")


def proof(profile, shown, *, collects_lines=False):
    """After Enter at 0.0, with this screen right before it."""
    return Proof(profile, NEEDLE, before(access(profile, shown), NEEDLE, collects_lines=collects_lines), 100, 0.0)


@pytest.mark.parametrize(
    ("after", "evidence"),
    [
        (composer(), "composer"),
        (composer(works=True), "composer"),
        (composer(TEXT), ""),
        (composer(TEXT, works=True), ""),
        (composer(f"{TEXT} \n"), ""),
        (composer("another text"), ""),
        (view("❯ before", "", f"❯ {TEXT}", "", "▮"), ""),
    ],
)
def test_of_a_program_with_a_composer_only_its_being_empty_is_proof(after, evidence):
    """PROOF, F084."""
    line = Line()
    line.output(0.01)
    watch = proof(CLAUDE, composer(TEXT))
    watch.look(access(CLAUDE, after), line, 0.02)
    assert watch.look(access(CLAUDE, after), line, 0.02 + STILL_S) == evidence


def test_an_empty_composer_counts_at_once_beside_the_text_or_a_turn_and_else_when_it_stays():
    """PROOF: a screen amid a repaint shows an empty composer, too."""
    line = Line()
    line.output(0.01)
    said = view("❯ before", f"❯ {TEXT}", RULE, "❯ ▮", RULE)
    assert proof(CLAUDE, composer(TEXT)).look(access(CLAUDE, said), line, 0.02) == "composer"
    assert proof(CLAUDE, composer(TEXT)).look(access(CLAUDE, composer(works=True)), line, 0.02) == "composer"
    watch = proof(CLAUDE, composer(TEXT))
    assert watch.look(access(CLAUDE, composer()), line, 0.02) == ""
    assert watch.look(access(CLAUDE, composer(TEXT)), line, 0.04) == ""
    assert watch.look(access(CLAUDE, composer()), line, 0.06) == ""
    watch.disturbed()
    assert watch.look(access(CLAUDE, composer()), line, 1.0) == ""
    assert watch.look(access(CLAUDE, composer()), line, 1.0 + STILL_S) == "composer"


def test_what_was_not_read_is_not_proven_whatever_the_screen_shows():
    """The echo of the kernel, an old screen, a program that is stopped."""
    line = Line()
    line.unread_bytes = 5
    line.output(0.01)
    assert proof(CLAUDE, composer(TEXT)).look(access(CLAUDE, composer()), line, 5.0) == ""
    assert proof(DEFAULT, view(f"> {TEXT}▮")).look(access(DEFAULT, view(f"> {TEXT}", "> ▮")), line, 5.0) == ""


def test_a_composer_that_went_away_with_the_text_began_a_turn():
    line = Line()
    shown = composer(TEXT)
    line.output(0.01)
    gone = view("the transcript", "▮")
    assert proof(CLAUDE, shown).look(access(CLAUDE, gone), line, 0.1) == ""
    assert proof(CLAUDE, shown).look(access(CLAUDE, gone), line, 1.1) == "turn"
    silent = Line()
    assert proof(CLAUDE, shown).look(access(CLAUDE, gone), silent, 60.0) == ""


def test_a_question_in_place_of_the_composer_proves_nothing_but_where_the_text_stands_above_it():
    """It may have come up by itself and hide the text."""
    line = Line()
    line.output(0.01)
    menu = (" Do you want to proceed?", " ❯ 1. Yes▮", "   2. No")
    shown = composer(TEXT)
    assert proof(CLAUDE, shown).look(access(CLAUDE, view(*menu)), line, 60.0) == ""
    taken = access(CLAUDE, view(f"❯ {TEXT}", "", *menu))
    assert proof(CLAUDE, shown).look(taken, line, 0.1) == "transcript"


def test_an_empty_composer_proves_nothing_of_a_text_that_was_never_in_it():
    """PROOF: a program that threw the text away shows the same."""
    line = Line()
    line.output(0.01)
    assert proof(CLAUDE, composer()).look(access(CLAUDE, composer()), line, 60.0) == ""
    assert (
        proof(CLAUDE, composer()).look(access(CLAUDE, view(f"❯ {TEXT}", RULE, "❯ ▮", RULE)), line, 0.1) == "transcript"
    )
    seen_late = proof(CLAUDE, composer())
    assert seen_late.look(access(CLAUDE, composer(TEXT)), line, 0.1) == ""
    assert seen_late.look(access(CLAUDE, composer()), line, 0.2) == ""
    assert seen_late.look(access(CLAUDE, composer()), line, 0.2 + 2 * STILL_S) == "composer"


@pytest.mark.parametrize(
    ("after", "evidence"),
    [
        (view(f"> {TEXT}", "> ▮"), "prompt"),
        (view(f"> {TEXT}", "answer", "> ▮"), "prompt"),
        (view(f"> {TEXT}", "working on it▮"), "output"),
        (view("▮"), "output"),
        (view(f"> {TEXT}▮"), ""),
        (view(f"> {TEXT} ▮"), ""),
        (view(f"> {TEXT}", "▮"), ""),
    ],
)
def test_of_a_raw_program_the_text_must_have_left_the_place_where_it_was_typed(after, evidence):
    line = Line()
    line.output(0.01)
    assert proof(DEFAULT, view(f"> {TEXT}▮")).look(access(DEFAULT, after), line, 0.4) == evidence


def test_a_raw_program_that_left_its_line_editor_or_its_keyboard_works_on_the_text():
    line = Line()
    unsent = view(f"> {TEXT}▮")
    off = view(f"> {TEXT}▮", paste=False)
    assert proof(DEFAULT, unsent).look(access(DEFAULT, off), line, 0.02) == "turn"
    assert proof(DEFAULT, unsent).look(access(DEFAULT, unsent, Wait.NO), line, 0.02) == "turn"
    for waits in (Wait.READ, Wait.POLL, None):
        assert proof(DEFAULT, unsent).look(access(DEFAULT, unsent, waits), line, 0.02) == ""


def test_of_a_program_that_collects_lines_or_shows_nothing_only_its_reading_is_proof():
    """What the kernel shows of a line says nothing, so the screen is not asked."""
    line = Line()
    line.collects_lines = True
    watch = proof(DEFAULT, view(f"{TEXT}▮"), collects_lines=True)
    assert not watch.needs_screen
    line.unread_bytes = 7
    assert watch.look(None, line, 60.0) == ""
    line.unread_bytes = 0
    assert watch.look(None, line, 60.001) == "read"
    early = Line()
    silent = proof(DEFAULT, view("▮"))
    assert not silent.needs_screen
    assert silent.look(None, early, 0.001) == ""
    assert silent.look(None, early, 0.01) == "read"
    assert proof(DEFAULT, view(f"> {TEXT}▮")).needs_screen
    assert proof(CLAUDE, composer()).needs_screen


def test_a_program_whose_line_editor_has_gone_works_on_the_text():
    line = Line()
    line.collects_lines = True
    watch = proof(DEFAULT, view(f"> {TEXT}▮"))
    assert watch.look(access(DEFAULT, view(f"> {TEXT}▮")), line, 0.01) == "turn"


def test_where_nobody_tells_what_was_read_only_the_screen_proves():
    line = Line()
    line.unread_bytes = None
    watch = proof(DEFAULT, view(f"> {TEXT}▮"))
    assert watch.look(access(DEFAULT, view(f"> {TEXT}▮")), line, 9.0) == ""
    silent = proof(DEFAULT, view("▮"))
    assert silent.look(None, line, 60.0) == ""
    line.output(60.0)
    assert watch.look(access(DEFAULT, view(f"> {TEXT}", "> ▮")), line, 60.1) == "prompt"
    assert silent.look(None, line, 60.1) == "output"


def test_what_was_seen_before_enter_is_told_apart():
    assert before(access(DEFAULT, view(f"> {TEXT}▮")), NEEDLE, collects_lines=False) == Before(
        "", True, True, ">", collected=False
    )
    assert before(access(DEFAULT, view("▮", paste=False)), NEEDLE, collects_lines=False) == Before(
        None, False, False, "", collected=False
    )
    assert before(access(DEFAULT, view(f"{TEXT}▮")), NEEDLE, collects_lines=True) == Before(None, True)
    assert before(access(CLAUDE, composer("[Pasted text #1]")), NEEDLE, collects_lines=False).stood
    assert not before(access(CLAUDE, composer()), NEEDLE, collects_lines=False).stood


def test_a_text_that_stands_gets_enter_again_after_waits_that_double():
    line = Line()
    line.output(0.01)
    watch = proof(CLAUDE, composer(TEXT))
    at = 0.0
    for enters in range(1, 4):
        wait = FIRST_ENTER_S * 2 ** (enters - 1)
        watch.look(access(CLAUDE, composer(TEXT)), line, at + wait - 0.01)
        assert not watch.wants_enter(at + wait - 0.01)
        at += wait + 0.001
        watch.look(access(CLAUDE, composer(TEXT)), line, at)
        assert watch.wants_enter(at)
        watch.entered(line.end, at)
        line.output(at + 0.01)
        assert watch.enters == enters + 1
    watch.look(access(CLAUDE, composer()), line, at + 0.1)
    assert watch.look(access(CLAUDE, composer()), line, at + 0.2) == "composer"


def test_a_program_that_still_moves_or_showed_no_reaction_is_given_more_time():
    line = Line()
    line.output(0.9)
    watch = proof(CLAUDE, composer(TEXT))
    watch.look(access(CLAUDE, composer(TEXT)), line, 1.0)
    assert not watch.wants_enter(1.0)
    mute = Line()
    watch = proof(CLAUDE, composer(TEXT))
    watch.look(access(CLAUDE, composer(TEXT)), mute, MUTE_ENTER_S - 0.1)
    assert not watch.wants_enter(MUTE_ENTER_S - 0.1)
    assert watch.wants_enter(MUTE_ENTER_S)


def test_no_second_enter_goes_to_a_text_that_was_not_read_or_to_a_question():
    """SAFE-KEYS."""
    line = Line()
    line.output(0.01)
    watch = proof(CLAUDE, composer(TEXT))
    line.unread_bytes = 1
    watch.look(access(CLAUDE, composer(TEXT)), line, 60.0)
    assert not watch.wants_enter(60.0)
    line.unread_bytes = 0
    watch.look(access(CLAUDE, view(" Do you want to proceed?", " ❯ 1. Yes▮", "   2. No")), line, 60.0)
    assert not watch.wants_enter(60.0)


def test_a_person_is_called_after_a_while_and_looks_become_rare():
    watch = proof(CLAUDE, composer(TEXT))
    assert not watch.is_late(LATE_S - 0.1)
    assert watch.is_late(LATE_S)
    waits = [watch.patience(0.0) for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[-1] <= 0.1
    assert watch.patience(LATE_S) >= 0.5


def test_what_a_composer_holds_is_text_nothing_or_unknown():
    assert standing(access(CLAUDE, composer(TEXT))) is Standing.TEXT
    assert standing(access(CLAUDE, composer())) is Standing.GONE
    assert standing(access(CLAUDE, view("▮"))) is Standing.UNKNOWN


def test_the_end_of_a_text_is_found_over_wraps():
    seen = view("> hello there, th", "is is it▮ ", "status", columns=17)
    assert ends_at_cursor(access(DEFAULT, seen), NEEDLE)
    assert tail(access(DEFAULT, seen), NEEDLE) == "status"
    assert tail(access(DEFAULT, seen), "nowhere") is None
    assert not ends_at_cursor(access(DEFAULT, seen), "")


def elsewhere(text, *, works):
    """The composer holds a text, and the program paints: the cursor is not in it."""
    status = "  esc to interrupt" if works else "  ? for shortcuts"
    return view("❯ before▮", "", RULE, f"❯ {text}", RULE, status)


def test_work_that_went_on_before_enter_is_no_proof_of_it():
    """F084: a person's own text is worked on while the message stands in the composer."""
    line = Line()
    busy = proof(CLAUDE, composer(TEXT, works=True))
    line.output(0.1)
    assert busy.look(access(CLAUDE, elsewhere(TEXT, works=True)), line, 0.2) == ""
    assert busy.look(access(CLAUDE, elsewhere(TEXT, works=True)), line, 9.0) == ""
    assert busy.look(access(CLAUDE, composer("", works=True)), line, 9.1) == "composer"


def at_once(shown):
    return Proof(DEFAULT, NEEDLE, before(access(DEFAULT, shown), NEEDLE, collects_lines=False), 100, 0.0, at_once=True)


@pytest.mark.parametrize("second", ["> ▮", "… ▮", "  │ ▮", "  ▮"])
def test_a_line_break_in_a_composer_is_no_answer_to_a_quick_enter(second):
    """Burst detection: Enter right behind the text is a part of a paste; what stands is submitted by the next one."""
    line = Line()
    watch = at_once(view(f"> {TEXT}▮"))
    line.output(0.01)
    assert watch.look(access(DEFAULT, view(f"> {TEXT}", second)), line, 0.02) == ""
    assert watch.wants_enter(FIRST_ENTER_S)


def test_an_answer_to_a_quick_enter_is_one():
    line = Line()
    watch = at_once(view(f"> {TEXT}▮"))
    line.output(0.01)
    assert watch.look(access(DEFAULT, view(f"> {TEXT}", "ok", "> ▮")), line, 0.02) == "prompt"
    assert watch.answered
