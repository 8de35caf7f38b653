"""A question is found by its structure, in programs that nobody knows; prose about questions is none."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.terminal import harnesses, sight
from tests.terminal_views import view

DEFAULT = harnesses.profile("default")


def asked(seen, profile=DEFAULT, *, collects_lines=False, echoes=False):
    return sight.read(profile, seen, collects_lines=collects_lines, echoes=echoes).question


@pytest.mark.parametrize(
    "line",
    [
        "Overwrite it? [y/N] ▮",
        "Overwrite it? [Y/n]▮",
        "Continue? (yes/no) ▮",
        "Continue? (yes/no/all): ▮",
        "Are you sure you want to continue connecting (yes/no/[fingerprint])? ▮",
        "Do you want to continue? [Y/n/q/?] ▮",
        "Run shell command? (Y)es/(N)o/(D)on't ask again [Yes]: ▮",
        "remove regular file 'x'? ▮",
        "Delete 3 files? ▮",
        "Would you like to install it? ▮",
        "Do you want to allow this? y/n ▮",
        "Proceed (y|n)? ▮",
        "Is this ok [y/d/N]: ▮",
        "Select an option [1-4]: ▮",
        "Enter your choice: ▮",
        "Please choose a number > ▮",
        "Terminate batch job (Y/N)? ▮",
        "Save changes? [yes, no, cancel] ▮",
        "Trust this folder? ▮",
        "(1/2) Stage this hunk [y,n,q,a,d,j,J,g,/,e,?]? ▮",
        "Commit? [ynq] ▮",
        "Go on? y or n: ▮",
        "Which one [a/b] (a): ▮",
        "Number of nodes [3]: ▮",
        "version: (1.0.0) ▮",
        "? Project name ▮",
        "[?] Name of it: ▮",
        "How many servers? ▮",
        "Shall we drop it? ▮",
        "Your choice: ▮",
        "Press Enter to deploy...▮",
        "Hit <Enter> when ready ▮",
        "[Enter] = yes, Ctrl-C = no▮",
        "Type the name of the database to drop it: ▮",
    ],
)
def test_a_choice_at_the_cursor_is_a_question(line):
    """SAFE-KEYS: the next Enter would answer it."""
    assert asked(view("some output", line)) == "question"


@pytest.mark.parametrize("width", [40, 47, 80, 120])
def test_a_question_is_found_however_it_wraps(width):
    text = "Some long explanation of what is going to happen next and why. Do you want to overwrite the file? [y/N] "
    rows = [text[at : at + width] for at in range(0, len(text), width)]
    assert asked(view(*rows[:-1], rows[-1] + "▮", columns=width)) == "question"


@pytest.mark.parametrize(
    "rows",
    [
        [" ❯ Yes, allow▮", "   No, reject"],
        ["   Yes, allow", " ❯ No, reject▮"],
        ["❯ 1. Red▮", "  2. Blue", "  3. Green"],
        ["> 1. Red▮", "  2. Blue"],
        ["? Pick a framework (Use arrow keys)", "❯ React▮", "  Vue", "  Svelte"],
        ["│ ● 1. Yes▮     │", "│   2. No      │"],
        ["▸ production▮", "  staging"],
        ["(•) On▮", "( ) Off"],
        ["[x] docs▮", "[ ] tests"],
        ["→ 1) first▮", "  2) second"],
        ["  ◯ React", "❯ ◉ Vue▮", "  ◯ Svelte"],
        ["❯◯ React▮", " ◉ Vue", " ◯ Svelte"],
        ["│  ● Allow once▮", "│  ○ Allow always", "└"],
        ["│  ● Yes / ○ No▮", "└"],
        ["> [ ] deploy▮", "  [ ] rollback"],
        ["{ } deploy▮", "( ) rollback", "( ) wait"],
        ["x          <  OK  >          x▮"],
        ["       <Yes>          < No >▮"],
    ],
)
def test_a_marked_row_beside_its_siblings_is_a_selection(rows):
    assert asked(view("Which one?", *rows)) is not None
    assert asked(view("Which one?", *(row.replace("▮", "") for row in rows), "", hidden=True)) is not None


@pytest.mark.parametrize(
    "foot",
    [
        "Enter to confirm · Esc to cancel",
        "Press Enter to continue",
        "press any key to continue . . .",
        "Hit RETURN to proceed",
        "Press enter to select",
        "↑/↓ to navigate · Enter to select",
        "esc to cancel",
        "(Use arrow keys to select)",
    ],
)
def test_a_foot_that_says_what_enter_does_is_a_question(foot):
    assert asked(view("Something has happened.", "", f"{foot}▮")) == "question"


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (["text", *["more text"] * 21, "--More--▮"], "pager"),
        (["text", *["more text"] * 21, "--More--(12%)▮"], "pager"),
        (["text", *["more text"] * 21, "(END)▮"], "pager"),
        (["text", *["more text"] * 21, ":▮"], "pager"),
        (["text", *["more text"] * 21, "lines 1-23 (press h for help or q to quit)▮"], "pager"),
        (["Manual page ls(1) line 1 (press h for help or q to quit)▮"], None),
        (["login: ▮"], "login"),
        (["Username: ▮"], "login"),
        (["Paste your API key: ▮"], "login"),
        (["E-mail: ▮"], "login"),
    ],
)
def test_pagers_and_logins_are_known_by_their_last_row(rows, name):
    if name is None:
        rows = ["text"] * 23 + rows
        name = "pager"
    assert asked(view(*rows)) == name


@pytest.mark.parametrize(
    "line",
    [
        "Password: ▮",
        "[sudo] password for ann: ▮",
        "Enter passphrase for key '/x': ▮",
        "Enter PIN: ▮",
        "Verification code: ▮",
    ],
)
def test_hidden_input_belongs_to_a_person(line):
    """SAFE-KEYS: a line that is read and not shown; on a raw terminal the words say it."""
    assert asked(view(line), collects_lines=True, echoes=False) == "hidden input"
    assert asked(view("just a prompt ▮"), collects_lines=True, echoes=False) is None
    if "PIN" not in line and "code" not in line:
        assert asked(view(line), collects_lines=False, echoes=False) == "hidden input"


@pytest.mark.parametrize(
    "profile", ["claude", "codex", "gemini", "qwen", "copilot", "pi", "opencode", "cline", "aider"]
)
def test_hidden_input_is_found_under_a_known_agent_too(profile):
    seen = view("$ git push", "Password for 'https://example.org': ▮", paste=False)
    assert asked(seen, harnesses.profile(profile), collects_lines=True) == "hidden input"


@pytest.mark.parametrize(
    "rows",
    [
        ["name> ▮"],
        [">>> ▮"],
        ["user@host:~$ ▮"],
        ["user@host:~$ ls -l▮"],
        ["In [1]: ▮"],
        ["say something: ▮"],
        ["How can I help you? ▮"],
        ["> a quotation", "  of two", "  rows", "agent> ▮"],
        ["Name: ▮"],
        ["[ ] a", "[x] b", "ask> ▮"],
        ["* one", "* two", "* three", "> ▮"],
        ["- [x] done", "- [ ] open", "agent> ▮"],
        ["1. first", "2. second", "> ▮"],
        ["Do you want to proceed? [y/N] y", "done", "> ▮"],
        ["press any key to continue", *["more output"] * 8, "> ▮"],
        ["You can press Enter to continue or Esc to cancel, I wrote.", *["more output"] * 6, "agent> ▮"],
        ["It asks: Password:", "> ▮"],
        ["❯ 1. Yes", "  2. No", *["more output"] * 20, "> ▮"],
        ["downloading (3/10) [####    ] 45%▮"],
        ["[INFO] server is up▮"],
        ["ready▮"],
        ["▮"],
    ],
)
def test_a_prompt_or_output_is_no_question(rows):
    """W4: what a program or a message says about questions does not hold anything up."""
    assert asked(view(*rows)) is None


@pytest.mark.parametrize(
    "rows",
    [
        ["1) deploy", "2) rollback", "#? ▮"],
        ["1) deploy    2) rollback", "?# ▮"],
        ["*** Commands ***", "  1: status       2: update       3: revert", "What now> ▮"],
    ],
)
def test_a_prompt_that_takes_the_number_of_an_option_is_a_question(rows):
    """`select` of the shells, `git add -i`."""
    assert asked(view(*rows), collects_lines=True, echoes=True) == "question"


def test_a_choice_above_an_empty_row_waits_for_a_key():
    assert asked(view("Commit? [ynq]", "▮", paste=False)) == "question"
    assert asked(view("Commit? [ynq]", "▮"), collects_lines=True, echoes=True) is None


def test_a_single_key_that_the_kernel_shows_is_an_answer():
    """`read -n 1` and `read -q`: whatever the prompt says."""
    assert asked(view("Really deploy the thing now ▮"), collects_lines=False, echoes=True) == "question"


def test_a_list_that_the_hidden_cursor_moves_over_is_a_selection():
    assert asked(view("Choose", "▮ deploy", " rollback", hidden=True)) == "selection"
    assert asked(view("Loading", "▮45% of it", hidden=True)) is None


def test_a_page_above_a_name_is_a_pager_wherever_its_prompt_comes_from():
    page = ["some text"] * 23
    for prompt in ("/etc/services▮", "/etc/services lines 1-22/361 5%▮"):
        assert asked(view(*page, prompt, paste=False)) == "pager"
    assert asked(view(*page, "agent> ▮", paste=False)) is None
    assert asked(view(*page, "/etc/services▮"), collects_lines=True, echoes=True) is None


def test_a_full_screen_without_a_line_to_type_in_is_an_obstacle():
    rows = ["PID USER COMMAND", *[f"{number} root something" for number in range(20)]]
    assert asked(view(*rows, alternate=True, hidden=True)) == "full screen"
    assert asked(view("curses agent", "", "> ▮", alternate=True)) is None


@pytest.mark.parametrize(
    ("profile", "rows", "name"),
    [
        ("claude", [" Do you trust the files in this folder?", " ❯ 1. Yes, I trust this folder▮", "   2. No, exit"], "claude trust"),
        ("claude", [" WARNING: Bypass Permissions mode", " ❯ 1. No, exit▮", "   2. Yes, I accept"], "bypass permissions"),
        ("claude", [" New MCP server found in .mcp.json: x", " ❯ 1. Use it▮", "   2. Continue without"], "mcp approval"),
        ("claude", [" Select login method:", " ❯ 1. Account▮", "   2. Console"], "login"),
        ("claude", [" Detected a custom API key", "   1. Yes", " ❯ 2. No (recommended)▮"], "api key"),
        ("codex", [" Codex just got an upgrade", "› 1. Try new model▮", "  2. Use existing model"], "codex model upgrade"),
        ("codex", [" Update available!", "› 1. Update now▮", "  2. Skip"], "codex update"),
        ("gemini", [" Action Required", " ● 1. Allow once▮", "   2. No"], "gemini action"),
        ("copilot", [" Do you trust the files in this folder?", " ❯ 1. Yes▮", "   2. No"], "copilot trust"),
        ("qwen", [" Allow execution of: 'ls'?", " ● 1. Yes, allow once▮", "   2. No"], "permission"),
        ("opencode", [" EXECUTE rm -rf x  impact: high", " ❯ Yes, allow▮", "   No"], "execute"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("columns", [40, 80, 160])
def test_a_profile_names_what_was_found(profile, rows, name, columns):
    """F094, F095; node-protocol.md 6.8: at any width, since phrases are looked for in the joined text."""
    wrapped = []
    for row in rows:
        wrapped += [row[at : at + columns] for at in range(0, len(row), columns)]
    assert asked(view(*wrapped, columns=columns), harnesses.profile(profile)) == name


def test_phrases_alone_find_nothing_beside_a_composer():
    rule = "─" * 80
    for profile in ("claude", "copilot"):
        seen = view(" Do you trust the files in this folder? Yes, no, exit", " ❯ 1. Yes", "   2. No", rule, "❯ ▮", rule)
        assert asked(seen, harnesses.profile(profile)) is None
