"""Every screen in fixtures/terminals is understood as its `expected.toml` says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from adapters.pty import harnesses
from adapters.pty.occupation import says_busy
from adapters.pty.process_table import Wait
from adapters.pty.readiness import Look, dialog_on, readiness
from adapters.pty.screen import Terminal
from adapters.pty.sequences import plain_text

CASES = sorted((Path(__file__).parents[3] / "fixtures" / "terminals").glob("*/*/expected.toml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parts[-3]}/{path.parts[-2]}")
def test_a_screen_of_a_program_is_understood(case):
    """F091, F094, F095: readiness and dialogs are found on the screen, however it was painted."""
    expected = tomllib.loads(case.read_text())
    data = (case.parent / "output.bin").read_bytes()
    terminal = Terminal(expected["rows"], expected["columns"])
    for start in range(0, len(data), 7):
        terminal.feed(data[start : start + 7])
    terminal.settle()
    screen, cursor_line = "\n".join(terminal.lines()), terminal.cursor_line()
    for text in expected["screen_has"]:
        assert text in screen
    assert terminal.bracketed_paste == expected.get("bracketed_paste", False)
    assert terminal.alternate_screen == expected.get("alternate_screen", False)
    profile = harnesses.profile(expected["profile"])
    assert dialog_on(profile, screen, cursor_line, collects_lines=False, echoes=False) == expected.get("dialog")
    assert says_busy(profile, terminal.lines()) == expected.get("busy", False)
    look = Look(
        screen=screen,
        cursor_line=cursor_line,
        output=plain_text(data),
        output_bytes=len(data),
        quiet_s=0,
        collects_lines=False,
        echoes=False,
        waits_for_keyboard=lambda: Wait.NO,
    )
    if "dialog" not in expected:
        assert readiness(profile, look, 0) == expected.get("ready")


def test_there_are_screens_of_every_program_with_dialogs():
    seen = {path.parts[-3] for path in CASES}
    assert {"claude", "codex", "gemini", "opencode"} <= seen
