"""The readiness gate as a table."""

from __future__ import annotations

import pytest

from adapters.pty import harnesses
from adapters.pty.process_table import Wait
from adapters.pty.readiness import Look, dialog_on, readiness

CLAUDE = harnesses.profile("claude")
CODEX = harnesses.profile("codex")
GEMINI = harnesses.profile("gemini")
OPENCODE = harnesses.profile("opencode")
DEFAULT = harnesses.profile("default")
SHELL = harnesses.profile("shell")
PYTHON = harnesses.profile("python")


def look(screen="", cursor_line="", output=None, quiet_s=0.0, raw=False, waits=Wait.NO, output_bytes=None):
    output = screen if output is None else output
    return Look(
        screen=screen,
        cursor_line=cursor_line,
        output=output,
        output_bytes=len(output) if output_bytes is None else output_bytes,
        quiet_s=quiet_s,
        collects_lines=not raw,
        echoes=not raw,
        waits_for_keyboard=lambda: waits,
    )


@pytest.mark.parametrize(
    ("profile", "seen", "waited_s", "evidence"),
    [
        (DEFAULT, look(output="x ->pty:ready y"), 0, "hook"),
        (CLAUDE, look("Welcome back, Ann\n\u276f", "\u276f "), 1, "prompt"),
        (CLAUDE, look("Welcome to Claude\n>", " > "), 1, "prompt"),
        (CLAUDE, look("Welcome back, Ann\n\u276f text", "\u276f text"), 1, None),
        (CLAUDE, look("\u276f", "\u276f"), 1, None),
        (CLAUDE, look("x" * 5000, "", quiet_s=30, waits=Wait.READ), 59.9, None),
        (CLAUDE, look("something else"), 60, "startup_timeout"),
        (GEMINI, look("Type your message or @path/to/file"), 1, "prompt"),
        (GEMINI, look("Type your message or @path/to/file Waiting for auth"), 1, None),
        (GEMINI, look("Type your message or @path/to/file", output="... waiting for AUTH"), 1, None),
        (CODEX, look("\u203a  write tests"), 1, "prompt"),
        (CODEX, look("\u203a \nStarting MCP server: agent-relay"), 1, None),
        (CODEX, look("codex> "), 1, "prompt"),
        (OPENCODE, look("loading", output_bytes=501), 1, "output"),
        (OPENCODE, look("loading", output_bytes=500), 1, None),
        (DEFAULT, look("name> ", "name> "), 0, "prompt"),
        (DEFAULT, look("cp a -> b, please wait", "cp a -> b, please wait"), 0, None),
        (DEFAULT, look(quiet_s=0.1, waits=Wait.READ), 0, "reading"),
        (DEFAULT, look(quiet_s=0.01, waits=Wait.READ), 0, None),
        (DEFAULT, look("x", quiet_s=0.1, waits=Wait.POLL), 0, None),
        (DEFAULT, look("x", quiet_s=0.4, waits=Wait.POLL), 0, "reading"),
        (DEFAULT, look("x", quiet_s=20, waits=Wait.NO), 27, None),
        (DEFAULT, look("x" * 1000, quiet_s=20, waits=Wait.NO), 27, None),
        (DEFAULT, look("x", quiet_s=0.4, raw=True), 1, "output"),
        (DEFAULT, look("", quiet_s=5, raw=True), 1, None),
        (DEFAULT, look("x", quiet_s=0.4, waits=None), 1, "output"),
        (DEFAULT, look("", quiet_s=1.0, waits=None), 1, None),
        (DEFAULT, look("", quiet_s=1.6, waits=None), 2, "output"),
        (DEFAULT, look("x", quiet_s=20, waits=Wait.NO), 60, "startup_timeout"),
        (SHELL, look("user@host:~$ ", "user@host:~$ "), 0, "prompt"),
        (SHELL, look("host# ", "host# "), 0, "prompt"),
        (PYTHON, look(">>> ", ">>> "), 0, "prompt"),
        (PYTHON, look("... ", "... "), 0, None),
    ],
)
def test_a_program_is_ready_by_the_evidence_of_its_profile(profile, seen, waited_s, evidence):
    """F091-F093, F096."""
    assert readiness(profile, seen, waited_s) == evidence


@pytest.mark.parametrize(
    ("profile", "screen", "dialog"),
    [
        (CLAUDE, "Do you trust the files in this folder?\n1. Yes, I trust\n2. No, exit", "claude trust"),
        (CLAUDE, "WARNING: bypass permissions mode\n1. No, exit\n2. Yes, I accept", "bypass permissions"),
        (CLAUDE, "MCP Server Approval Required\n[a] Approve all", "mcp approval"),
        (CLAUDE, "Select login method:", "login"),
        (CLAUDE, "a friend said: trust no one in this folder", None),
        (CLAUDE, "the word [a] alone", None),
        (CODEX, "codex just got an upgrade\n1. Try new model\n2. Use existing model", "codex model upgrade"),
        (CODEX, "Sign in with ChatGPT", "login"),
        (GEMINI, "Action Required\n1. Allow once", "gemini action"),
        (GEMINI, "Modify Trust Level\n Trust parent folder", "gemini trust"),
        (GEMINI, "this folder is untrusted, use /permissions", "gemini untrusted"),
        (OPENCODE, "EXECUTE rm -rf x\nimpact: high\nYes, allow", "execute"),
        (DEFAULT, "Do you trust the files in this folder? Yes, trust; No, exit", None),
    ],
)
def test_a_dialog_is_found_only_for_the_program_it_belongs_to(profile, screen, dialog):
    """F094, F095; node-protocol.md 6.8."""
    assert dialog_on(profile, screen, "", collects_lines=False, echoes=False) == dialog


@pytest.mark.parametrize(
    "question", ["Password: ", "[sudo] password for ann: ", "Enter passphrase for key '/x': ", "PIN: "]
)
def test_a_question_with_hidden_input_is_a_dialog_of_any_program(question):
    assert dialog_on(DEFAULT, "", question, collects_lines=True, echoes=False) == "hidden input"
    assert dialog_on(DEFAULT, "", question, collects_lines=True, echoes=True) is None
    assert dialog_on(DEFAULT, "", "just a prompt", collects_lines=True, echoes=False) is None
