"""Choosing a profile, and the profiles as data."""

from __future__ import annotations

import shlex

import pytest

from relaybroker.adapters.sessions.terminal import harnesses

AGENT_COMMANDS = [
    ("claude", "claude"),
    ("/opt/bin/claude --model x", "claude"),
    ("CLAUDE", "claude"),
    ("claude@latest", "claude"),
    ("codex resume 1", "codex"),
    ("codex-linux-x64", "codex"),
    ("gemini --yolo", "gemini"),
    ("opencode", "opencode"),
    ("qwen", "qwen"),
    ("copilot", "copilot"),
    ("pi", "pi"),
    ("cline", "cline"),
    ("aider --model x", "aider"),
    ("droid", "droid"),
    ("cursor-agent", "cursor"),
    ("grok --yolo", "grok"),
    ("node /usr/lib/node_modules/@openai/codex/bin/codex.js", "codex"),
    ("node --max-old-space-size=4096 /x/gemini", "gemini"),
    ("node /x/claude.mjs", "claude"),
    ("python3 -m aider", "aider"),
    ("python3 /usr/bin/aider", "aider"),
]

PROMPTS = [
    ("bash", "shell"),
    ("bash --norc -i", "shell"),
    ("bash -l", "shell"),
    ("-bash", "shell"),
    ("/bin/zsh -l", "shell"),
    ("zsh -f", "shell"),
    ("sh", "shell"),
    ("dash", "shell"),
    ("ksh", "shell"),
    ("fish --no-config", "shell"),
    ("fish -C 'set x 1'", "shell"),
    ("tcsh -f", "shell"),
    ("csh -f", "shell"),
    ("busybox sh", "shell"),
    ("busybox", "shell"),
    ("rbash", "shell"),
    ("bash --rcfile /dev/null", "shell"),
    ("bash --norc -o vi", "shell"),
    ("bash --norc +o emacs", "shell"),
    ("bash --norc -O extglob", "shell"),
    ("bash -s", "shell"),
    ("nu", "shell"),
    ("xonsh", "shell"),
    ("pwsh -NoLogo", "shell"),
    ("elvish", "shell"),
    ("python3", "python"),
    ("python3.11 -q", "python"),
    ("python3 -q -X utf8", "python"),
    ("python3 -q -W ignore", "python"),
    ("python3 -", "python"),
    ("python3 -m code", "python"),
    ("python3 -i agent.py", "python"),
    ("ipython", "python"),
    ("pypy3 -q", "python"),
    ("node", "node"),
    ("node -i", "node"),
    ("node -r x -i", "node"),
    ("deno", "node"),
    ("bun", "node"),
    ("perl -de0", "language"),
    ("irb", "language"),
    ("lua", "language"),
    ("lua -i x.lua", "language"),
    ("php -a", "language"),
    ("R", "language"),
    ("julia", "language"),
    ("ghci", "language"),
    ("sqlite3", "console"),
    ("sqlite3 some.db", "console"),
    ("psql -h x", "console"),
    ("gdb -q", "console"),
    ("ed", "console"),
    ("ssh host", "console"),
    ("tmux", "console"),
    ("docker run -it x claude", "console"),
]

OTHERS = [
    "bash script.sh",
    "bash -c true",
    "bash -ec true",
    "bash -x script.sh",
    "zsh -ic true",
    "fish -c ls",
    "tcsh -c ls",
    "nu -c ls",
    "pwsh -File x.ps1",
    "busybox ash -c ls",
    "python3 agent.py",
    "python3 -u agent.py",
    "python3 -m agent",
    "python3 -c pass",
    "node server.js",
    "node --inspect server.js",
    "node --require ./x app.js",
    "node -e 1",
    "deno run x.ts",
    "perl x.pl",
    "perl -e 1",
    "ruby x.rb",
    "lua x.lua",
    "php x.php",
    "Rscript x.R",
    "cat",
    "./mysh",
]

WRAPPERS = [
    "env {}",
    "env A=1 {}",
    "env -u B -i A=1 {}",
    "env -C /tmp {}",
    "nice {}",
    "nice -n 5 {}",
    "nohup {}",
    "setsid -c -w {}",
    "stdbuf -oL {}",
    "timeout --foreground 500 {}",
    "timeout -k 5 1.5h {}",
    "time {}",
    "command {}",
    "nice env A=1 timeout 5 {}",
]


@pytest.mark.parametrize(("command", "name"), [*AGENT_COMMANDS, *PROMPTS, *((other, "default") for other in OTHERS)])
def test_a_command_line_has_one_profile(command, name):
    """A script that an interpreter runs is not the interpreter's prompt."""
    argv = shlex.split(command)
    assert harnesses.profile_for(argv).name == name
    assert harnesses.of_program(argv).name == name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python3 -qi agent.py", "python"),
        ("python3 -ic pass", "python"),
    ],
)
def test_an_interpreter_that_goes_on_at_its_prompt_is_one(command, name):
    assert harnesses.of_program(shlex.split(command)).name == name


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(
    ("command", "name"), [("claude --model x", "claude"), ("bash --norc", "shell"), ("cat", "default")]
)
def test_a_wrapper_is_looked_through(wrapper, command, name):
    assert harnesses.profile_for(shlex.split(wrapper.format(command))).name == name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("npx @anthropic-ai/claude-code", "claude"),
        ("npx -y @google/gemini-cli", "gemini"),
        ("npx codex@0.171.0", "codex"),
        ("npx -p cline@3 cline", "cline"),
        ("bunx opencode-ai", "opencode"),
        ("mise exec -- claude", "claude"),
    ],
)
def test_a_package_runner_is_looked_through(command, name):
    assert harnesses.profile_for(shlex.split(command)).name == name


@pytest.mark.parametrize("command", ["env", "nice", "timeout 5", "env A=1", "npx"])
def test_a_wrapper_of_nothing_has_the_default_profile(command):
    assert harnesses.profile_for(command.split()).name == "default"


@pytest.mark.parametrize(
    ("argv", "executable", "name"),
    [
        (["my-shell"], "/usr/bin/bash", "shell"),
        (["claude"], "/usr/bin/node", "claude"),
        (["node", "/x/cli.js"], "/usr/bin/node", "default"),
        (["anything"], "/usr/bin/python3.11", "python"),
        (["anything", "x.py"], "/usr/bin/python3.11", "default"),
        ([], "/usr/bin/zsh", "shell"),
        ([], "", "default"),
        (["-zsh"], "/usr/bin/zsh", "shell"),
        (["sh"], "/bin/busybox", "shell"),
        (["ls"], "/bin/busybox", "default"),
        (["tmux: client"], "", "console"),
    ],
)
def test_a_running_program_is_known_by_its_name_or_its_executable(argv, executable, name):
    """A shell under another name is a shell."""
    assert harnesses.of_program(argv, executable).name == name


def test_an_empty_command_has_the_default_profile():
    assert harnesses.profile_for([]).name == "default"


def test_an_unknown_profile_is_an_error():
    with pytest.raises(KeyError):
        harnesses.profile("nobody")


def test_whatever_runs_what_it_is_typed_is_shown_its_messages():
    """SAFE-KEYS, ADR-0041: no prefix makes a text harmless in every shell and at every prompt."""
    shown = {name for name, one in harnesses.profiles().items() if one.treatment == "show"}
    assert shown == {"shell", "python", "node", "language", "console"}
    assert not any(harnesses.profile(name).composer for name in shown)
    assert {name for command, name in PROMPTS} == shown


def test_an_agent_has_composer_rules_and_is_never_taken_for_ready_by_time():
    for name, one in harnesses.profiles().items():
        if one.treatment == "type" and name not in ("default", "raw"):
            assert one.composer, name
            assert one.busy, name
            assert not one.plain_program, name


def test_an_agent_is_given_time_between_text_and_enter():
    """A quick Enter counts as a part of the paste in most of them."""
    for name, one in harnesses.profiles().items():
        if one.composer:
            assert one.settle_ms >= 60, name
            assert one.gap_ms >= 60, name
            assert one.completes, name


def test_every_dialog_of_a_profile_has_words_that_are_compared():
    for name, one in harnesses.profiles().items():
        for dialog in one.dialogs:
            assert dialog.name, name
            assert all(part.strip() for part in (*dialog.all_of, *dialog.any_of)), (name, dialog)
            assert dialog.all_of, (name, dialog)
