"""A pause before Enter is dropped for programs that showed that they need none, and comes back for good when one does."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.enter_pace import EnterPace
from relaybroker.adapters.sessions.terminal.foreground import Foreground


def front(pid=7, profile="default"):
    return Foreground(harnesses.profile(profile), pid, "it", stopped=False, same_group=True)


def test_the_first_text_pauses_and_the_next_does_not():
    pace = EnterPace()
    assert pace.pauses(front(), bracketed_paste=False)
    pace.note(front(), 1, answered=True)
    assert not pace.pauses(front(), bracketed_paste=False)


def test_one_quick_enter_that_did_not_submit_brings_the_pause_back_for_good():
    pace = EnterPace()
    pace.note(front(), 1, answered=True)
    pace.note(front(), 2, answered=True)
    assert pace.pauses(front(), bracketed_paste=False)
    pace.note(front(), 1, answered=True)
    assert pace.pauses(front(), bracketed_paste=False)


@pytest.mark.parametrize(("answered", "enters"), [(False, 1), (True, 2)])
def test_what_needed_more_or_did_not_answer_is_not_tried_without_it(answered, enters):
    pace = EnterPace()
    pace.note(front(), enters, answered=answered)
    assert pace.pauses(front(), bracketed_paste=False)


def test_pastes_composers_and_other_programs_always_have_it():
    pace = EnterPace()
    pace.note(front(), 1, answered=True)
    assert pace.pauses(front(), bracketed_paste=True)
    assert pace.pauses(front(8), bracketed_paste=False)
    assert pace.pauses(front(profile="claude"), bracketed_paste=False)
    pace.note(front(8), 1, answered=True)
    assert pace.pauses(front(), bracketed_paste=False), "only the one in front is remembered"
