"""Who has the keyboard of a terminal, asked of the operating system: through wrappers, scripts and terminals behind the terminal."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys

import pytest

from relaybroker.adapters.sessions.host.process import spawn
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.foreground import look
from tests.waiting import WAIT_S

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who has a terminal")

ENV = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8", "PS1": "$ ", "HOME": "/nonexistent"}

SHELLS = {
    "bash": "bash --norc",
    "bash -i": "bash --norc -i",
    "bash -l": "bash --noprofile -l",
    "sh": "sh",
    "dash": "dash",
    "ksh": "ksh",
    "zsh": "zsh -f",
    "fish": "fish --no-config",
    "tcsh": "tcsh -f",
    "csh": "csh -f",
    "busybox sh": "busybox sh",
    "bash --rcfile FILE": "bash --rcfile /dev/null",
    "bash -o vi": "bash --norc -o vi",
    "bash +o emacs": "bash --norc +o emacs",
    "bash -O OPT": "bash --norc -O extglob",
    "env bash": "env bash --norc",
    "env A=1 bash": "env A=1 bash --norc",
    "nice bash": "nice bash --norc",
    "sh -c exec bash": ["sh", "-c", "exec bash --norc"],
    "bash -c cd; exec bash": ["bash", "-c", "cd /tmp; exec bash --norc"],
    "a shell in a subshell": ["sh", "-c", "bash --norc; true"],
    "script": ["script", "-q", "-c", "bash --norc", "/dev/null"],
    "setsid": "setsid -c -w bash --norc",
    "timeout": "timeout --foreground 500 bash --norc",
    "rbash": "rbash --norc",
    "su": ["su", "root", "-c", "bash --norc"],
    "stdbuf": "stdbuf -oL bash --norc",
    "exec -a": ["bash", "-c", "exec -a my-own-tool bash --norc"],
    "zsh in bash": ["bash", "-c", "zsh -f; true"],
    "python3": "python3 -q",
    "python3 -X": "python3 -q -X utf8",
    "python3 -W": "python3 -q -W ignore",
    "python3 -ic": ["python3", "-q", "-ic", "x = 1"],
    "env python3": "env python3 -q",
    "python3 -m code": "python3 -m code",
    "node": "node",
    "sqlite3": "sqlite3",
    "gdb": "gdb -q",
    "ed": "ed",
    "perl": "perl -de0",
    "lua": "lua",
}


async def started(command, directory):
    argv = command.split() if isinstance(command, str) else command
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here")
    return argv, await spawn(tuple(argv), env=ENV, cwd=str(directory), rows=24, cols=80, umask=0o022)


async def ended(process):
    exit_seen = asyncio.Event()
    process.watch_exit(lambda _code, _signal: exit_seen.set())
    process.signal_group(signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        await exit_seen.wait()
        await process.end_survivors(asyncio.get_running_loop().time())
    process.close()


def seen(process, argv):
    chosen = harnesses.profile_for(argv)
    return look(process.foreground_group(), process.pid, chosen, named=False)


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("command", SHELLS.values(), ids=SHELLS.keys())
async def test_a_shell_or_interpreter_is_found_however_it_was_started(command, tmp_path):
    """SAFE-KEYS: whatever the command line says."""
    argv, process = await started(command, tmp_path)
    try:
        await until(lambda: seen(process, argv).profile.treatment == "show")
    finally:
        await ended(process)


@pytest.mark.parametrize(
    "command",
    [
        ["env", "X=1", "{claude}"],
        ["nice", "{claude}"],
        ["sh", "-c", "{claude}"],
        ["bash", "-c", "{claude}; true"],
        ["bash", "-c", "exec {claude}"],
        ["script", "-q", "-c", "{claude}", "/dev/null"],
        ["{sh} {claude}"],
    ],
    ids=["env", "nice", "sh -c", "child of bash", "exec", "script", "wrapper"],
)
async def test_an_agent_is_found_behind_what_starts_it(command, tmp_path):
    claude, wrapper = tmp_path / "claude", tmp_path / "start-agent"
    claude.write_text(f"#!{sys.executable}\nimport time; time.sleep(600)\n")
    wrapper.write_text(f"#!/bin/sh\n{claude} --resume\n")
    for file in (claude, wrapper):
        file.chmod(0o755)
    words = [str(wrapper)] if "{sh}" in command[0] else [word.format(claude=claude) for word in command]
    argv, process = await started(words, tmp_path)
    try:
        await until(lambda: seen(process, argv).profile.name == "claude")
    finally:
        await ended(process)


async def test_a_named_profile_stands_for_the_program_but_not_for_a_shell_behind_it(tmp_path):
    """`--harness claude` for a program of another name; what is left when it has ended is a shell all the same."""
    argv, process = await started(["sh", "-c", "sleep 600; exec bash --norc"], tmp_path)
    try:
        await until(lambda: process.foreground_group() == process.pid)
        chosen = harnesses.profile("claude")
        named = look(process.foreground_group(), process.pid, chosen, named=True)
        assert named.profile.name == "claude"
    finally:
        await ended(process)
    argv, process = await started(["sh", "-c", "bash --norc; true"], tmp_path)
    try:
        await until(
            lambda: look(process.foreground_group(), process.pid, chosen, named=True).profile.treatment == "show"
        )
    finally:
        await ended(process)
    assert argv


async def test_a_stopped_program_is_seen_to_be_stopped(tmp_path):
    argv, process = await started(["cat"], tmp_path)
    try:
        await until(lambda: seen(process, argv).name == "cat")
        assert not seen(process, argv).stopped
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: seen(process, argv).stopped)
        os.kill(process.pid, signal.SIGCONT)
        await until(lambda: not seen(process, argv).stopped)
    finally:
        await ended(process)


async def test_a_program_that_is_gone_leaves_the_profile_that_was_chosen(tmp_path):
    chosen = harnesses.profile("codex")
    foreground = look(2**22 - 3, 2**22 - 3, chosen, named=False)
    assert (foreground.profile, foreground.stopped) == (chosen, False)
