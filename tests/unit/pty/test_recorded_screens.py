"""Every screen in fixtures/terminals is understood as its `expected.toml` says."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.terminal import harnesses, options, sight
from relaybroker.adapters.sessions.terminal.composer import PLACEHOLDER_QUIET_S
from relaybroker.adapters.sessions.terminal.foreground import Foreground
from relaybroker.adapters.sessions.terminal.occupation import Seen, occupant
from relaybroker.adapters.sessions.terminal.readiness import Look, readiness
from relaybroker.adapters.sessions.terminal.screen import Terminal

SCREENS = Path(__file__).parents[3] / "fixtures" / "terminals"
CASES = sorted(path.parent for path in SCREENS.glob("*/*/output.bin"))
NOT_RECORDED = {"cursor", "droid", "grok"}
"""Agents that nobody here can install: their profiles follow their documentation."""
AGENTS = {name for name in harnesses.names() if harnesses.profile(name).composer} - NOT_RECORDED
"""Every profile of a program with a composer: one without screens fails below."""
STEP = 31
"""Bytes of a read: short and odd, so that reads end inside of sequences and characters."""
CUT_BYTES = 32 * 1024
"""Longer recordings are painted once: that every cut paints the same is shown for the four fifths that are shorter."""
LOST_CURSOR = {"qwen/continued"}
"""Understood when the program has been silent for a while."""
KEYS = {"profile", "origin", "program", "version", "rows", "columns", "composer", "screen_has"}
OPTIONAL = {"options", "question", "busy", "bracketed_paste", "alternate_screen", "cursor_hidden"}


def named(case):
    return f"{case.parent.name}/{case.name}"


@functools.cache
def expectation(case):
    return tomllib.loads((case / "expected.toml").read_text())


@functools.cache
def shown(case, step=1 << 30):
    """The terminal after the recording, fed `step` bytes at a time."""
    expected = expectation(case)
    terminal = Terminal(expected["rows"], expected["columns"])
    data = (case / "output.bin").read_bytes()
    for start in range(0, len(data), step):
        terminal.feed(data[start : start + step])
    terminal.settle()
    return terminal


def profile_of(case):
    return harnesses.profile(expectation(case)["profile"])


def read(case):
    quiet_s = PLACEHOLDER_QUIET_S if named(case) in LOST_CURSOR else 0.0
    return sight.read(profile_of(case), shown(case).view(), collects_lines=False, echoes=False, quiet_s=quiet_s)


def verdict(seen):
    composer = "none" if seen.composer is None else "empty" if seen.composer.is_empty else "draft"
    return composer, seen.question, seen.works


def asks_anybody(case):
    """Whether a program of any name asks so that it is seen without its profile."""
    expected = expectation(case)
    return "question" in expected and expected["composer"] == "none" and profile_of(case).name != "fullscreen"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_screen_of_a_program_is_understood(case):
    """F091, F094, F095, SAFE-KEYS, F084, F092: composer, question and work are found, and text goes nowhere but into an empty composer.

    One test a screen, so that each recording is painted by one worker.
    """
    expected = expectation(case)
    is_described(case, expected)
    shows_what_its_description_says(case, expected)
    if (case / "output.bin").stat().st_size <= CUT_BYTES:
        assert shown(case, STEP).view() == shown(case).view()
    seen = read(case)
    assert verdict(seen) == (expected["composer"], expected.get("question"), expected.get("busy", False))
    if profile_of(case).composer:
        is_typed_into_only_where_its_composer_is_empty(case, expected)
    if seen.question is not None and seen.composer is None:
        asked = options.asked(shown(case).lines(), shown(case).view().row)
        assert [f"{one.key} {one.label}" for one in asked.options] == expected.get("options", [])
    if asks_anybody(case):
        assert stranger_asks(case), (
            "an unknown program that asks as the known ones do is not answered by a message either"
        )


def is_described(case, expected):
    assert expected["origin"] == "recorded"
    assert KEYS <= set(expected) <= KEYS | OPTIONAL
    assert expected["program"]
    assert expected["version"]
    assert (case / "expected.toml").read_text().startswith("# ")


def shows_what_its_description_says(case, expected):
    terminal = shown(case)
    screen = "\n".join(terminal.lines())
    for text in expected["screen_has"]:
        assert text in screen
    assert terminal.bracketed_paste == expected.get("bracketed_paste", False)
    assert terminal.alternate_screen == expected.get("alternate_screen", False)


def is_typed_into_only_where_its_composer_is_empty(case, expected):
    """Whatever else is true of the terminal, and however long it stands so."""
    profile, seen = profile_of(case), read(case)
    is_empty = expected["composer"] == "empty"
    look = Look(
        hook=False,
        composer=seen.composer is not None and seen.composer.is_empty,
        output_bytes=1 << 20,
        quiet_s=1e6,
        collects_lines=False,
        waits_for_keyboard=lambda: Wait.READ,
    )
    assert readiness(profile, look, 1e6) == ("prompt" if is_empty else None)
    front = Foreground(profile, 1, "it", stopped=False, same_group=True, group=1)
    holder = occupant(Seen(front, seen, person_types=False, keys_pend=False, spawned=profile, waits=lambda: Wait.READ))
    is_free = is_empty and not expected.get("busy", False) and "question" not in expected
    assert (holder is None and seen.question is None) == is_free


def stranger_asks(case):
    seen = sight.read(harnesses.profile("default"), shown(case).view(), collects_lines=False, echoes=False, quiet_s=0.0)
    return seen.question is not None


def test_there_are_screens_of_every_agent_ready_at_work_with_a_draft_and_asking():
    def of(program, **wanted):
        return [
            case
            for case in CASES
            if case.parent.name == program and all(expectation(case).get(key) == value for key, value in wanted.items())
        ]

    for program in AGENTS:
        assert of(program, composer="empty", busy=None), program
        assert of(program, busy=True), program
        if program != "opencode":
            assert of(program, composer="draft"), program
    asking = {case.parent.name for case in CASES if "question" in expectation(case)}
    assert asking >= AGENTS - {"pi", "cline", "aider"}
