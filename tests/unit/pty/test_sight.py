"""What a screen says of work: the program's own status row, never its prose."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.terminal import composer, harnesses, sight
from tests.terminal_views import view

RULE = "─" * 80
BRAILLE = "⠋"


def works(profile, seen, *, collects_lines=False):
    return sight.read(harnesses.profile(profile), seen, collects_lines=collects_lines, echoes=False).works


@pytest.mark.parametrize(
    ("profile", "seen"),
    [
        ("claude", view(RULE, "❯ ▮", RULE, "  ⏸ manual mode on · esc to interrupt")),
        ("claude", view(RULE, "❯ a draft▮", RULE, "  esc to interrupt")),
        ("codex", view("• Working (3s • esc to interrupt)", "", "› ▮", "", "  gpt-5")),
        ("gemini", view(f" {BRAILLE} Thinking (esc to cancel, 3s)", RULE, "", " > ▮")),
        ("qwen", view(f" {BRAILLE} Thinking (esc to cancel, 3s)", "", RULE, "> ▮", RULE)),
        ("copilot", view(RULE, "❯ ▮", RULE, " ◉ Working esc")),
        ("cline", view(f" {BRAILLE} Working (esc to cancel)", "      " + RULE[:68], "      ❯ ▮", "      " + RULE[:68])),
        ("pi", view(f" {BRAILLE} Working...", "", RULE, "▮", RULE)),
        ("opencode", view("  ┃", "  ┃  ▮", "  ┃", "  ┃  Build · Mock", "  ╹" + "▀" * 70, "  ⬝⬝⬝  esc interrupt")),
        ("aider", view("Waiting for openai/mock ▮")),
    ],
)
def test_a_status_row_says_that_the_program_works(profile, seen):
    """F021."""
    assert works(profile, seen)


@pytest.mark.parametrize(
    ("profile", "seen"),
    [
        ("claude", view("I pressed esc to interrupt it", RULE, "❯ ▮", RULE, "  ? for shortcuts")),
        ("claude", view(RULE, "❯ esc to interrupt▮", RULE, "  ? for shortcuts")),
        ("claude", view(RULE, "❯ ", RULE, "  esc to interrupt", "", "▮")),
        ("codex", view("you can press esc to interrupt", "", "› ▮", "", "  gpt-5")),
        ("codex", view("• Working (3s • esc to interrupt)", *["more"] * 8, "› ▮", "", "  gpt-5")),
        ("gemini", view(" press esc to cancel", RULE, "", " > ▮")),
        ("copilot", view(" Working on it, esc", RULE, "❯ ▮", RULE)),
        ("aider", view("Waiting for you", "> ▮")),
        ("default", view("esc to interrupt ▮")),
    ],
)
def test_prose_about_work_is_no_work(profile, seen):
    assert not works(profile, seen)


def test_a_terminal_that_collects_lines_shows_no_composer_whatever_is_on_it():
    """The keyboard is somebody else's: `git commit` asks for a password below the agent's last screen."""
    seen = view(RULE, "❯ ▮", RULE)
    assert sight.read(harnesses.profile("claude"), seen, collects_lines=True, echoes=True).composer is None
    assert sight.read(harnesses.profile("claude"), seen, collects_lines=False, echoes=False).composer.is_empty


def test_beside_a_composer_nothing_is_asked():
    """A program may write about questions as it likes."""
    prose = ["Do you want to proceed?", "❯ 1. Yes", "  2. No", "Continue? [y/N]", "Enter to confirm · Esc to cancel"]
    assert sight.read(
        harnesses.profile("claude"), view(*prose, RULE, "❯ ▮", RULE), collects_lines=False, echoes=False
    ) == (sight.Sight(composer_of(view(*prose, RULE, "❯ ▮", RULE)), works=False, question=None))


def composer_of(seen):
    return composer.find(harnesses.profile("claude").composer, seen)


@pytest.mark.parametrize(
    ("profile", "seen"),
    [
        ("copilot", view("Please use /login to sign in to use Copilot", RULE, "❯ ▮", RULE)),
        ("pi", view(RULE, "▮", RULE, "/home/dev/work/pi", "0.0%/128k (auto)                     unknown")),
    ],
)
def test_an_empty_composer_of_a_program_that_nobody_is_logged_in_to_is_no_place_for_a_message(profile, seen):
    assert sight.read(harnesses.profile(profile), seen, collects_lines=False, echoes=False).question == "login"


def test_words_about_a_login_are_no_obstacle():
    seen = view("Please use /login to sign in", *["more"] * 4, RULE, "❯ ▮", RULE, "  unknown")
    for profile in ("copilot", "claude"):
        assert sight.read(harnesses.profile(profile), seen, collects_lines=False, echoes=False).question is None
