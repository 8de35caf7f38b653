"""A program on pipes: whole bounded lines, both ways, and nothing of it blocks the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from relaybroker.adapters.sessions.host import piped_process
from relaybroker.adapters.sessions.host.kin import MARK
from relaybroker.adapters.sessions.host.piped_process import NotWrittenError, spawn_piped
from relaybroker.adapters.sessions.host.process import SpawnError
from tests.waiting import WAIT_S


class Read:
    """A program and what it wrote."""

    def __init__(self, process):
        self.process = process
        self.lines, self.long, self.ended = [], 0, False
        process.read(self.lines.append, self._end, self._too_long)

    def _end(self):
        self.ended = True

    def _too_long(self):
        self.long += 1

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def run(tmp_path):
    processes = []

    async def start(code, **env):
        argv = (sys.executable, "-c", code)
        known = {"PATH": os.environ["PATH"], **env}
        process = await spawn_piped(argv, env=known, cwd=str(tmp_path), umask=0o77, mark="s1")
        processes.append(process)
        return Read(process)

    yield start
    for process in processes:
        process.signal_group(signal.SIGKILL)
        process.close()
        os.waitpid(process.pid, 0)


async def test_it_leads_a_session_of_its_own_without_a_terminal_and_bears_the_mark(run):
    program = await run(
        f"import os,sys; print(os.getsid(0) == os.getpid(), os.environ['{MARK}'], os.isatty(0), flush=True); sys.stdin.read()"
    )
    await program.until(lambda: program.lines)
    assert program.lines == [b"True s1 False"]


async def test_a_line_that_is_too_long_is_passed_over_and_the_next_one_comes(run, monkeypatch):
    monkeypatch.setattr(piped_process, "MAX_LINE_BYTES", 1000)
    program = await run("import sys; print('x' * 300_000, flush=True); print('next', flush=True); sys.stdin.read()")
    await program.until(lambda: program.lines)
    assert (program.lines, program.long) == ([b"next"], 1)


async def test_what_is_written_arrives_whole_and_in_order(run):
    program = await run("import sys\nfor line in sys.stdin: print(len(line), line[0], flush=True)")
    sizes = [(200_000 + at, str(at % 10)) for at in range(5)]
    await asyncio.gather(*(program.process.write((letter * size).encode()) for size, letter in sizes))
    await program.until(lambda: len(program.lines) == len(sizes))
    assert program.lines == [f"{size + 1} {letter}".encode() for size, letter in sizes]


async def test_a_program_that_reads_nothing_gets_a_part_or_nothing_and_it_is_told_which(run, monkeypatch):
    monkeypatch.setattr(piped_process, "WRITE_S", 0.05)
    program = await run("import time; time.sleep(600)")
    with pytest.raises(NotWrittenError) as first:
        await program.process.write(b"x" * 500_000)
    with pytest.raises(NotWrittenError) as second:
        await program.process.write(b"x")
    assert (first.value.begun, second.value.begun) == (True, False)


async def test_a_closed_input_takes_nothing(run):
    program = await run(
        "import os,sys; os.close(0); print('closed', flush=True); sys.stdout.close(); os.kill(os.getpid(), 19)"
    )
    await program.until(lambda: program.lines)
    with pytest.raises(NotWrittenError) as refused:
        await program.process.write(b"x")
    assert not refused.value.begun


async def test_a_program_that_lives_on_with_its_output_closed_has_ended_for_us(run):
    program = await run("import os, time; os.close(1); time.sleep(600)")
    await program.until(lambda: program.ended)


async def test_the_end_of_its_complaints_is_kept(run, monkeypatch):
    monkeypatch.setattr(piped_process, "LAST_WORDS_BYTES", 10)
    program = await run(
        "import sys; sys.stderr.write('much too long, but the end'); sys.stderr.flush(); sys.stdin.read()"
    )
    await program.until(lambda: program.process.last_words == "ut the end")


@pytest.mark.parametrize(
    ("argv", "cwd", "reason"), [(("no-such",), "/", "cli_not_found"), (("sh",), "here", "invalid_cwd")]
)
async def test_what_cannot_be_started_says_why(argv, cwd, reason):
    with pytest.raises(SpawnError) as refused:
        await spawn_piped(argv, env={"PATH": "/bin:/usr/bin"}, cwd=cwd, umask=0o77)
    assert refused.value.reason == reason
