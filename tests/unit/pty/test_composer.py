"""Where a program takes text, and whether that is empty: each kind of frame, and what is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaybroker.adapters.sessions.terminal import composer, harnesses
from tests.terminal_views import view

RULE = "─" * 80
CLINE_RULE = "      " + "─" * 68


def composer_of(profile, seen):
    return composer.find(harnesses.profile(profile).composer, seen)


def verdict(profile, seen):
    seen = composer_of(profile, seen)
    return None if seen is None else seen.text


EMPTY = [
    ("claude", view(RULE, "❯ ▮", RULE, "  ? for shortcuts")),
    ("claude", view("❯ what was said before", "", RULE, "❯\u00a0▮", RULE)),
    ("claude", view(RULE, '❯ ▮Try "fix the tests"', RULE, dim=True)),
    ("claude", view("some output", "", "❯ ▮")),
    ("codex", view("", "› ▮", "", "  gpt-5 default")),
    ("codex", view("", "› ▮Ask Codex to do anything", "", "  gpt-5 default", dim=True)),
    ("gemini", view(RULE, " Shift+Tab to accept edits", "", " > ▮  Type your message", "", " workspace", dim=True)),
    ("gemini", view("▀" * 80, " > ▮")),
    ("gemini", view(RULE, " * ▮")),
    ("qwen", view(RULE, "> ▮", RULE)),
    ("qwen", view(RULE, "> ▮  Type your message", RULE, dim=True)),
    ("copilot", view(RULE, "❯ ▮", RULE, " / commands")),
    ("cline", view(CLINE_RULE, "      ❯ ▮What can I do for you?", CLINE_RULE, dim=True)),
    ("pi", view(RULE, "▮", RULE, "/home/dev/work/pi", hidden=True)),
    ("opencode", view("  ┃", "  ┃  ▮", "  ┃", "  ┃  Build · Mock", "  ╹" + "▀" * 70)),
    ("opencode", view("  ┃", "  ┃  ▮Ask anything", "  ┃", "  ┃  Plan · Mock", "  ╹" + "▀" * 70, dim=True)),
    ("aider", view(RULE, "> ▮")),
    ("aider", view("architect> ▮")),
]


@pytest.mark.parametrize(("profile", "seen"), EMPTY)
def test_an_empty_composer_that_has_the_cursor_is_found(profile, seen):
    assert verdict(profile, seen) == ""


@pytest.mark.parametrize(
    ("profile", "seen", "text"),
    [
        ("claude", view(RULE, "❯ half a text▮", RULE), "half a text"),
        ("claude", view(RULE, "❯ one", "  two▮", RULE), "one\n  two"),
        ("claude", view(RULE, "❯ one", "", "  three▮", RULE), "one\n\n  three"),
        (
            "claude",
            view(RULE, "❯ ▮text with the cursor at its beginning", RULE),
            "text with the cursor at its beginning",
        ),
        ("claude", view(RULE, "❯ [Pasted text #1 +4 lines]▮", RULE), "[Pasted text #1 +4 lines]"),
        ("claude", view(RULE, "❯ typed▮ and a suggestion", RULE, dim=True), "typed and a suggestion"),
        ("codex", view("› one", "", "  three▮", "", "  gpt-5"), "one\n\n  three"),
        ("gemini", view(RULE, "", " > one", "   two▮"), "one\n   two"),
        ("qwen", view(RULE, "> one▮", RULE), "one"),
        ("pi", view(RULE, "one", "two▮", RULE), "one\ntwo"),
        ("opencode", view("  ┃", "  ┃  one▮", "  ┃", "  ┃  Build · Mock", "  ╹" + "▀" * 70), "one"),
        ("aider", view("> one▮"), "one"),
        ("aider", view("> " + "x" * 78, "and on▮"), "x" * 78 + "\nand on"),
        ("aider", view("> " + "x" * 78, "> and on▮"), "x" * 78 + "\nand on"),
        ("aider", view(RULE, "diff> " + "x" * 74, "diff> ▮"), "x" * 74),
        ("aider", view(*["diff> one", "diff> "] * 11, "diff> ▮"), "\n\n".join(["one"] * 11)),
    ],
)
def test_what_stands_in_a_composer_is_its_text(profile, seen, text):
    """F084: whoever put it there, nothing is typed behind it."""
    assert verdict(profile, seen) == text


@pytest.mark.parametrize(
    ("profile", "seen"),
    [
        ("claude", view("", "▮", RULE, "❯ ", RULE)),
        ("claude", view(RULE, "❯ ", RULE, "  ▮? for shortcuts")),
        ("claude", view(RULE, " Do you want to proceed?", " ❯ 1. Yes▮", "   2. No", RULE)),
        ("claude", view("", "❯ 1. Yes▮", "  2. No")),
        ("claude", view(RULE, "  ▮", RULE)),
        ("codex", view("› 1. Update now▮", "  2. Skip")),
        ("codex", view("text", "▮", "› ")),
        ("qwen", view("> ▮")),
        ("opencode", view("  ┃", "  ┃  ▮", "  ┃")),
        ("opencode", view("  ┃", "  ┃  ▮", "  ┃  Build", "", "text")),
        ("aider", view("> ▮", paste=False)),
        ("aider", view("Apply edits? (Y)es/(N)o [Yes]: ▮")),
        ("default", view("> ▮")),
    ],
)
def test_what_only_looks_like_a_composer_is_none(profile, seen):
    """No frame, another frame, a menu, or the cursor somewhere else."""
    assert composer_of(profile, seen) is None


@pytest.mark.parametrize(("profile", "seen"), [("gemini", view(RULE, " ! ▮")), ("qwen", view(RULE, "! ▮", RULE))])
def test_a_composer_in_shell_mode_is_a_shell(profile, seen):
    """What is typed behind `!` is run as a command: no message may be."""
    assert composer_of(profile, seen) is None


def test_a_composer_says_which_rows_it_has():
    seen = composer_of("claude", view("", RULE, "❯ one", "  two▮", RULE, "status"))
    assert (seen.top, seen.bottom, seen.is_empty) == (2, 3, False)


def test_a_frame_behind_a_bar_always_says_how_it_ends():
    for one in harnesses.profiles().values():
        for rule in one.composer:
            assert rule.frame != "left" or (rule.foot and rule.below), one.name


PLACEHOLDER = "> ░Type your message or @path/to/file"


@pytest.mark.parametrize(
    ("quiet_s", "rows", "dim", "is_found"),
    [
        (composer.PLACEHOLDER_QUIET_S, (RULE, PLACEHOLDER, RULE, "", "▮"), True, True),
        (0.0, (RULE, PLACEHOLDER, RULE, "", "▮"), True, False),  # it may be about to draw something else
        (composer.PLACEHOLDER_QUIET_S, (RULE, PLACEHOLDER, RULE, "", "▮"), False, False),  # somebody typed these words
        (composer.PLACEHOLDER_QUIET_S, (RULE, f"{PLACEHOLDER} and more", RULE, "", "▮"), True, False),
        (composer.PLACEHOLDER_QUIET_S, ("", PLACEHOLDER, RULE, "", "▮"), True, False),
        (
            composer.PLACEHOLDER_QUIET_S,
            (RULE, PLACEHOLDER, RULE, PLACEHOLDER, RULE, "▮"),
            True,
            False,
        ),  # which of them?
    ],
)
def test_a_composer_whose_cursor_was_lost_is_empty_where_it_shows_its_own_placeholder(quiet_s, rows, dim, is_found):
    """What qwen shows after it was stopped and goes on: until somebody types, its cursor stands below its composer."""
    seen = replace(view(*(row.replace("░", "  ") for row in rows)), is_dim=lambda _row, _start: dim)
    assert (composer.find(harnesses.profile("qwen").composer, seen, quiet_s) is not None) == is_found
