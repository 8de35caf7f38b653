"""What runs what it is typed is typed nothing: the host shows it the message, whatever stands at its prompt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.protocol import (
    Blocked,
    Freed,
    Injected,
    InjectFailed,
    Occupied,
    Ready,
    Verified,
)
from relaybroker.adapters.sessions.terminal.sequences import plain_text

BODY = "Relay message from w2 [evt_1]: x; touch ran1\ntouch ran2\n$(touch ran3) `touch ran4` 'touch \"ran5\n!! ^x^y & | > ran6"
SHOWN = ("Relay message from w2 [evt_1]: x; touch ran1", "touch ran2", "$(touch ran3) `touch ran4`")

SHELLS = {
    "bash": ("bash", "--norc", "--noprofile"),
    "dash": ("dash",),
    "zsh": ("zsh", "-f"),
    "fish": ("fish", "--no-config"),
    "ksh": ("ksh",),
    "tcsh": ("tcsh", "-f"),
    "busybox": ("busybox", "sh"),
    "python": ("/usr/bin/python3", "-q"),
    "node": ("node", "-i"),
    "sqlite3": ("sqlite3",),
    "gdb": ("gdb", "-q"),
    "ed": ("ed",),
    "perl": ("perl", "-de0"),
    "lua": ("lua",),
    "bash behind env": ("env", "A=1", "bash", "--norc"),
    "bash behind nice": ("nice", "bash", "--norc"),
    "bash behind a shell command": ("bash", "-c", "cd .; exec bash --norc"),
    "bash as the child of a script": ("sh", "-c", "bash --norc; true"),
    "bash in a terminal of its own": ("script", "-q", "-c", "bash --norc", "/dev/null"),
}


def ran(broker):
    return sorted(path.name for path in broker.directory.iterdir() if path.name.startswith("ran"))


async def screen_with(broker, *texts):
    """The screen as soon as it shows all of them, whatever the terminal wraps."""
    for _ in range(500):
        screen = (await broker.screen()).data["screen"]
        joined = screen.replace("\n", "")
        if all(text.replace("\n", "") in joined for text in texts):
            return screen
        await asyncio.sleep(0.02)
    return pytest.fail(f"{texts} not in\n{screen}")


async def bash(broker):
    await broker.start("bash", "--norc", "--noprofile")
    await screen_with(broker, "$")


@pytest.mark.parametrize("command", SHELLS.values(), ids=SHELLS.keys())
async def test_a_message_is_shown_to_a_shell_and_runs_nothing_in_it(broker, command):
    """SAFE-KEYS, PROOF: no byte is typed, and that is what is reported."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    await broker.start(*command)
    injected = await broker.type_text(BODY, delivery_id="d1")
    assert (injected.evidence, injected.bytes_written) == ("shown", 0)
    assert (await broker.fact("a1", Verified, delivery_id="d1")).verification == "echo"
    await screen_with(broker, *SHOWN)
    assert ran(broker) == []
    assert broker.facts("a1", InjectFailed) == []


async def test_the_task_of_an_agent_is_a_command_of_its_shell(broker):
    """It comes from whoever started the shell; messages of others come by another way and are shown."""
    await bash(broker)
    injected = await broker.type_text("echo $((40+2)) > answer.txt", task=True)
    assert injected.bytes_written > 0
    answer = broker.directory / "answer.txt"
    await broker.until(lambda: answer.exists() and answer.read_text(), "bash ran the command")
    assert answer.read_text() == "42\n"


@pytest.mark.parametrize(
    ("command", "task", "name"),
    [
        (("/usr/bin/python3", "-i", "-q"), "print('once', file=open('py.txt', 'a'))", "py.txt"),
        (("node", "-i"), "require('fs').appendFileSync('node.txt', 'once\\n')", "node.txt"),
        (("zsh", "-f"), "echo once >> zsh.txt", "zsh.txt"),
    ],
)
async def test_a_task_runs_once_at_the_prompt_of_any_interpreter(broker, command, task, name):
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    await broker.start(*command)
    await broker.type_text(task, task=True)
    out = broker.directory / name
    await broker.until(lambda: out.exists() and out.read_text(), "it ran")
    assert out.read_text() == "once\n"


async def test_a_line_that_a_person_has_begun_stays_and_works_under_a_message(broker):
    """F085: the message appears above it; prompt and line are drawn again as they were."""
    await bash(broker)
    await broker.keys(b"echo ha")
    await screen_with(broker, "$ echo ha")
    injected = await broker.type_text(BODY)
    assert injected.evidence == "shown"
    screen = await screen_with(broker, *SHOWN)
    assert screen.rstrip().splitlines()[-1] == "$ echo ha"
    await broker.keys(b"lf > half.txt\r")
    half = broker.directory / "half.txt"
    await broker.until(lambda: half.exists() and half.read_text(), "the line ran")
    assert half.read_text() == "half\n"
    assert ran(broker) == []


def prompt_after_interrupt(broker):
    """Whether the shell has shown `^C` and then its prompt: until then it may drop the keys that it reads."""
    _, interrupted, after = plain_text(b"".join(one.data for one in broker.outputs)).partition("^C")
    return bool(interrupted) and after.endswith("$ ")


async def interrupt(broker):
    """Press ^C until the shell answers with its prompt, as a person does.

    readline looks for a caught signal and only then begins to wait for a key: a ^C in between stays unnoticed until
    the next key. The message is shown just as readline gets there, so a busy machine hits that moment.
    """
    for _ in range(10):
        await broker.keys(b"\x03")
        with contextlib.suppress(AssertionError):
            return await broker.until(lambda: prompt_after_interrupt(broker), "a prompt after ^C", 5)
    return pytest.fail("ten ^C and no prompt")


@pytest.mark.parametrize(
    "begun", ["echo 'open", 'echo "open', "cat <<END\r", "for x in 1 2; do\r", "echo a \\\r", "$(("]
)
async def test_a_message_ends_no_open_quote_heredoc_or_continuation(broker, begun):
    await bash(broker)
    broker.subscribe()
    await broker.keys(begun.encode())
    await broker.type_text(f"' \" END\ntouch ran7; done )) \n{BODY}")
    await screen_with(broker, "touch ran7; done ))")
    await interrupt(broker)
    await broker.keys(b"echo ok > ok.txt\r")
    await broker.until((broker.directory / "ok.txt").exists, "the shell goes on")
    assert ran(broker) == []


@pytest.mark.parametrize("kind", ["interact", "pdb"])
async def test_a_prompt_of_an_interpreter_inside_of_a_program_runs_no_message(broker, kind):
    """An agent that offers a console, or stopped in its debugger: no command line says so, its prompt does."""
    await broker.start_agent("console_in_a_program", kind)
    broker.inject("open('ran1', 'w').write('x')", "d1")
    await broker.until(lambda: broker.facts("a1", Injected | InjectFailed | Blocked), "an answer")
    await asyncio.sleep(0.5)  # a command would run by then
    assert ran(broker) == []


async def test_many_messages_are_shown_in_order_while_the_shell_works(broker):
    """Nothing of them is typed ahead into a command that reads its terminal, nor held up by it."""
    await bash(broker)
    for number in range(20):
        broker.inject(f"message number {number:02};", f"d{number}")
    await broker.fact("a1", Injected, count=20)
    assert [fact.delivery_id for fact in broker.facts("a1", Injected)] == [f"d{number}" for number in range(20)]
    await screen_with(broker, "message number 18;", "message number 19;")


async def test_a_command_of_the_shell_that_reads_the_terminal_gets_no_message(broker):
    """F021, SAFE-KEYS: what has the terminal is not the agent; the message is shown once when the shell has it again."""
    await bash(broker)
    swallowed = broker.directory / "swallowed.txt"
    await broker.keys(b"tee swallowed.txt > /dev/null\r")
    await broker.until(swallowed.exists, "tee runs")  # it makes the file itself: a redirection is the shell's own
    broker.inject("shown later", "d1")
    failed = await broker.fact("a1", InjectFailed, delivery_id="d1")
    assert (failed.reason, failed.typed) == ("agent_busy", "no")
    occupied = await broker.fact("a1", Occupied)
    assert (occupied.reason, occupied.detail, occupied.patience_s) == ("agent_busy", "tee has the terminal", 0.0)
    broker.confirm_all()
    broker.inject("shown later", "d1", attempt=2, while_busy=True)
    assert (await broker.fact("a1", InjectFailed, delivery_id="d1", attempt=2)).reason == "agent_busy"
    broker.confirm_all()
    await broker.keys(b"by hand\n\x04")
    await broker.fact("a1", Freed)
    assert (await broker.type_text("shown later", delivery_id="d1", attempt=3)).evidence == "shown"
    await screen_with(broker, "shown later")
    assert swallowed.read_text() == "by hand\n"


async def test_a_shell_that_is_left_when_the_agent_has_ended_is_shown_what_comes(broker):
    """`bash -c 'agent; exec bash'`: the terminal is asked before each message, not once at the start."""
    agent = f"{broker.python} {broker.agent('pops_up')} {broker.directory / 'a1.jsonl'} quiet"
    await broker.start("bash", "-c", f"bash -c 'exec -a claude {agent}'; exec bash --norc", wait=None)
    await broker.fact("a1", Ready)
    typed = await broker.type_text("to the agent")
    assert typed.evidence != "shown"
    log = broker.directory / "a1.jsonl"
    await broker.until(lambda: log.exists() and "to the agent" in log.read_text(), "the agent has it")
    pid = await broker.pid()
    children = (await asyncio.create_subprocess_exec("pgrep", "-P", str(pid), stdout=asyncio.subprocess.PIPE)).stdout
    os.kill(int((await children.read()).split()[0]), signal.SIGKILL)
    await screen_with(broker, "bash-")
    injected = await broker.type_text(BODY)
    assert injected.evidence == "shown"
    assert ran(broker) == []


async def test_a_stopped_shell_holds_its_messages(broker):
    """`agent_suspended`: nobody would see them; they are shown when it goes on."""
    await bash(broker)
    pid = await broker.pid()
    os.kill(pid, signal.SIGSTOP)
    await broker.until(lambda: " (bash) T " in Path(f"/proc/{pid}/stat").read_text(), "it is stopped")
    broker.inject("for later", "d1")
    assert (await broker.fact("a1", InjectFailed, delivery_id="d1")).reason == "agent_suspended"
    assert (await broker.fact("a1", Occupied)).reason == "agent_suspended"
    broker.confirm_all()
    os.kill(pid, signal.SIGCONT)
    await broker.fact("a1", Freed)
    assert (await broker.type_text("for later", delivery_id="d1", attempt=2)).evidence == "shown"


async def test_a_message_in_the_middle_of_a_sequence_of_the_program_waits_for_its_end(broker):
    """Shown in between, it would become a part of it."""
    await bash(broker)
    await broker.keys(rb"printf '\033]0;title'; touch begun; read -t 1; printf '\007'" + b"\r")
    await broker.until((broker.directory / "begun").exists, "the sequence has begun")
    broker.inject("whole message", "d1")
    screen = await screen_with(broker, "whole message")
    assert "whole message" in screen
    assert len(broker.facts("a1", Injected)) == 1
    assert "title" not in screen.replace("]0;title", "")


async def test_a_task_is_not_typed_into_a_line_that_a_person_has_begun(broker):
    """F085: it would run as the end of that line."""
    await bash(broker)
    await broker.keys(b"echo ha")
    await screen_with(broker, "$ echo ha")
    broker.inject("echo task > task.txt", "d1", task=True)
    await broker.until(lambda: broker.facts("a1", InjectFailed | Injected), "the end of the first attempt")
    assert [(fact.reason, fact.typed) for fact in broker.facts("a1", InjectFailed)] == [("human_driving", "no")]
    broker.confirm_all()
    await broker.keys(b"lf > half.txt\r")
    await broker.fact("a1", Freed)
    await broker.type_text("echo task > task.txt", delivery_id="d1", attempt=2, task=True)
    await broker.until((broker.directory / "task.txt").exists, "the task ran")
    assert (broker.directory / "half.txt").read_text() == "half\n"
