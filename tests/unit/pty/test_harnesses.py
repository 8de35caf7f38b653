"""Choosing a profile, and the profiles as data."""

from __future__ import annotations

import pytest

from adapters.pty import harnesses


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("claude", "claude"),
        ("/opt/bin/claude --model x", "claude"),
        ("CLAUDE", "claude"),
        ("codex resume 1", "codex"),
        ("gemini --yolo", "gemini"),
        ("opencode", "opencode"),
        ("droid", "droid"),
        ("cursor-agent", "cursor"),
        ("bash", "shell"),
        ("bash --norc -i", "shell"),
        ("/bin/zsh -l", "shell"),
        ("bash script.sh", "default"),
        ("bash -c true", "default"),
        ("python3", "python"),
        ("python3.11 -q", "python"),
        ("python3 agent.py", "default"),
        ("python3 -m agent", "default"),
        ("python3 -i agent.py", "python"),
        ("node", "node"),
        ("node server.js", "default"),
        ("cat", "default"),
        ("aider", "default"),
    ],
)
def test_a_command_line_has_one_profile(command, name):
    assert harnesses.profile_for(command.split()).name == name


def test_an_empty_command_has_the_default_profile():
    assert harnesses.profile_for([]).name == "default"


def test_an_unknown_profile_is_an_error():
    with pytest.raises(KeyError):
        harnesses.profile("nobody")


def test_a_remote_message_is_never_a_command_of_a_shell():
    for name in ("shell", "python", "node"):
        assert harnesses.profile(name).comment_prefix
        assert harnesses.profile(name).multi_line == "join"
    assert harnesses.profile("claude").comment_prefix == ""


def test_texts_of_dialogs_are_lower_case_because_screens_are_compared_in_lower_case():
    for name in ("claude", "codex", "gemini", "opencode", "droid", "cursor"):
        for dialog in harnesses.profile(name).dialogs:
            assert all(part == part.lower() for part in (*dialog.all_of, *dialog.any_of)), dialog
