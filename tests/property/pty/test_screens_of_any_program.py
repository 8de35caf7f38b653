"""Whatever a program writes around its composer, at any width: the composer decides, and only an empty one that has the cursor."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.terminal import harnesses, sight
from relaybroker.adapters.sessions.terminal.foreground import Foreground
from relaybroker.adapters.sessions.terminal.occupation import Seen, occupant
from relaybroker.adapters.sessions.terminal.readiness import Look, readiness
from tests.terminal_views import view

AGENTS = ("claude", "codex", "gemini", "qwen", "copilot", "cline", "pi", "opencode", "aider")
WIDTHS = st.integers(40, 200)
ROWS = 60

_word = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "M", "Z"], max_codepoint=0x24F), min_size=1, max_size=12
)
_phrase = st.sampled_from(
    [
        "Do you want to proceed?", "❯ 1. Yes", "  2. No, exit", "Overwrite it? [y/N]", "Password:", "esc to interrupt",
        "Working (3s)", "Enter to confirm · Esc to cancel", "Do you trust the files in this folder?", "● Allow once",
        "press any key to continue", "--More--", "(END)", "login:", "WARNING: bypass permissions (yes/no)", "* item",
        "Select login method:", "› 1. Update now", "> quoted", "(esc to cancel, 3s)", "┃  quoted", "╹▀▀▀", "│ │",
        "Action Required", "Waiting for auth", "Allow execution of: 'rm'?", "- [x] done",
    ]
)  # fmt: skip
_prose = st.lists(st.one_of(st.lists(_word, max_size=9).map(" ".join), _phrase), max_size=8)
_text = st.lists(st.lists(_word, min_size=1, max_size=12).map(" ".join), min_size=1, max_size=4).map("\n".join)


def _wrapped(text, width):
    """As a line editor wraps: at words, each row at most `width` long."""
    return [
        row
        for line in text.split("\n")
        for row in (textwrap.wrap(line, width, break_on_hyphens=False, drop_whitespace=True) or [""])
    ]


def drawn(profile, text, width, *, works=False):
    """The rows of this program's composer with a text, ▮ behind it."""
    rule = "─" * width
    spinner = " ⠋ Thinking (esc to cancel, 3s)"
    match profile:
        case "claude":
            rows = ["❯ ", "  "], [rule], [rule, "  ⏸ manual mode on" + (" · esc to interrupt" if works else "")]
        case "copilot":
            rows = ["❯ ", "  "], [rule], [rule, " ◎ Working esc" if works else " ← open sidebar"]
        case "qwen":
            rows = ["> ", "  "], [*([spinner] if works else []), "", rule], [rule, "  Auto mode"]
        case "cline":
            inner = " " * 4 + "─" * (width - 8)
            rows = ["    ❯ ", "      "], [*([spinner] if works else []), inner], [inner, "", "     mock-model"]
        case "pi":
            rows = ["", ""], [*([" ⠋ Working..."] if works else []), "", rule], [rule, "/home/dev/work/pi"]
        case "codex":
            rows = (
                ["› ", "  "],
                [*(["• Working (3s • esc to interrupt)"] if works else []), ""],
                ["", "  gpt-5 default"],
            )
        case "gemini":
            rows = [" > ", "   "], [*([spinner] if works else []), rule, " Shift+Tab", ""], ["", " workspace"]
        case "opencode":
            foot = [
                "  ┃",
                "  ┃  Build · Mock",
                "  ╹" + "▀" * (width - 4),
                "   esc interrupt" if works else "   ctrl+p commands",
            ]
            rows = ["  ┃  ", "  ┃  "], ["  ┃"], foot
        case "aider":
            rows = ["> ", "> "], ["Waiting for mock" if works else "", rule], []
    (first, rest), above, below = rows
    lines = _wrapped(text, width - max(len(first), len(rest)) - 3) if profile != "aider" else text.split("\n")
    body = [(rest if number else first) + line for number, line in enumerate(lines)]
    if profile == "aider":  # the prompt stands before every row, also before the one behind a row that is full
        inner = width - len(first)
        body = [first + line[at : at + inner] for line in lines for at in range(0, len(line) + 1, inner)]
    return [*above, *body[:-1], f"{body[-1]}▮", *below]


def screen(profile, prose, text, width, *, works=False):
    rows = []
    for line in prose:
        rows += [line[at : at + width] for at in range(0, len(line), width)] or [""]
    return view(*rows[-20:], "", *drawn(profile, text, width, works=works), columns=width, height=ROWS)


def read(profile, seen):
    return sight.read(harnesses.profile(profile), seen, collects_lines=False, echoes=False)


def may_type(profile, seen):
    """Whether the gate opens on this screen, and nothing keeps a message out."""
    shown, of = read(profile, seen), harnesses.profile(profile)
    look = Look(
        hook=False,
        composer=shown.composer is not None and shown.composer.is_empty,
        output_bytes=1 << 20,
        quiet_s=1e6,
        collects_lines=False,
        waits_for_keyboard=lambda: Wait.READ,
    )
    front = Foreground(of, 1, "it", stopped=False, same_group=True, group=1)
    occupied = occupant(Seen(front, shown, person_types=False, keys_pend=False, spawned=of, waits=lambda: Wait.READ))
    return readiness(of, look, 1e6) is not None and occupied is None and shown.question is None


def _without_prompts(prose):
    """Rows that are not one by one what an empty composer of some program looks like."""
    return [line for line in prose if not line.lstrip().startswith(("❯", "›", ">", "┃", "→", "!", "*"))]


agents = st.sampled_from(AGENTS)


@given(agents, _prose, WIDTHS)
@settings(deadline=None)
def test_prose_around_an_empty_composer_asks_nothing_and_holds_nothing_up(profile, prose, width):
    """W4: neither a program's words nor a message's make a dialog, at no width."""
    seen = screen(profile, prose, "", width)
    shown = read(profile, seen)
    assert shown.composer is not None
    assert shown.composer.is_empty
    assert shown.question is None


@given(agents, _prose, WIDTHS)
@settings(deadline=None)
def test_prose_is_no_work(profile, prose, width):
    """F021: only the status row of the program is."""
    calm = [line for line in prose if "esc" not in line]
    assert not read(profile, screen(profile, calm, "", width)).works
    if profile != "aider":
        assert read(profile, screen(profile, prose, "", width, works=True)).works


@given(agents, _prose, _text, WIDTHS)
@settings(deadline=None)
def test_a_draft_of_any_text_at_any_width_keeps_everything_out(profile, prose, text, width):
    """F084: nothing is typed behind what stands in a composer."""
    seen = screen(profile, prose, text, width)
    shown = read(profile, seen)
    assert not may_type(profile, seen)
    assert shown.composer is not None
    assert shown.question is None
    assert "".join(shown.composer.text.split()) == "".join(text.split())


@given(agents, _prose, WIDTHS, st.integers(0, ROWS - 1), st.integers(0, 199))
@settings(deadline=None)
def test_a_composer_without_the_cursor_is_none(profile, prose, width, row, column):
    """A screen that shows a composer while something else has the keyboard."""
    seen = screen(profile, _without_prompts(prose), "", width)
    assume(row != seen.row and "┃" not in seen.rows[row])
    assume(
        any(line.strip() for line in seen.rows[seen.row + 1 : row + 1]) or row < seen.row
    )  # a blank row below is taken for one of the text
    assert not may_type(profile, replace(seen, row=row, column=min(column, width - 1)))


@given(st.sampled_from([*AGENTS, "cursor", "droid"]), _prose, WIDTHS, st.booleans(), st.booleans())
@settings(deadline=None)
def test_a_screen_without_a_composer_is_never_typed_into(profile, prose, width, hidden, alternate):
    """F091, F092: any prose, any cursor below it, any length of silence."""
    seen = view(*_without_prompts(prose), columns=width, height=ROWS, hidden=hidden, alternate=alternate)
    assert not may_type(profile, seen)


_answers = st.lists(
    st.sampled_from(
        ["Yes", "No, exit", "Allow once", "Always allow", "Reject", "Update now", "Skip", "Use it", "Trust this folder"]
    ),
    min_size=2,
    max_size=5,
    unique=True,
)


@given(
    st.sampled_from([*AGENTS, "default"]),
    _prose,
    _answers,
    st.data(),
    WIDTHS,
    st.sampled_from(["❯", "›", "▸", "►", "➤"]),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None)
def test_a_menu_is_a_question_in_every_program(profile, prose, answers, data, width, mark, numbered, hidden):
    """SAFE-KEYS: whoever draws it, whichever answer is marked; no message is typed at it."""
    chosen = data.draw(st.integers(0, len(answers) - 1))
    rows = [
        f" {mark if at == chosen else ' '} {f'{at + 1}. ' if numbered else ''}{answer}{'' if at != chosen or hidden else '▮'}"
        for at, answer in enumerate(answers)
    ]
    calm = [line for line in prose if "┃" not in line]
    seen = view(
        *calm[-6:], "", "Which of these?", "", *rows, "", "Enter to confirm", columns=width, height=24, hidden=hidden
    )
    assert not may_type(profile, seen)
    assert read(profile, seen).question is not None
