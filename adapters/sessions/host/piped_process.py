"""One program without a terminal: its standard input and output are pipes of ours, line by line.

It is started, contained and ended as a program in a terminal is (`process.Program`). Lines are bounded; a longer one is passed over and
told. Nothing here knows what the lines mean. Source: architecture.md 5; ADR-0094.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from relaybroker.adapters.sessions.host.kin import MARK, Kin
from relaybroker.adapters.sessions.host.process import Program, child_setup, started

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line of a program is passed over: programs put files and pictures into one."""
CLOSED_S = 0.5
"""A program that ends has closed its output a moment before; one that has had it closed for so long lives on without."""
WRITE_S = 10.0
"""A program that reads none of its input for so long will not take what is being written."""
LAST_WORDS_BYTES = 16 * 1024
"""The end of its error output that is kept."""


class NotWrittenError(OSError):
    """Not all of it was written; `begun` says whether any of it was."""

    def __init__(self, detail: str, *, begun: bool) -> None:
        super().__init__(detail)
        self.begun = begun


async def spawn_piped(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: str, umask: int, mark: str = "", kin: Kin | None = None
) -> PipedProcess:
    """Start a program on pipes. Arguments and errors are those of `process.spawn`."""
    kin = kin if kin is not None else Kin()
    marked = {**env, MARK: mark} if mark else dict(env)

    def start(words: list[str]) -> PipedProcess:
        pipe = subprocess.PIPE
        program = subprocess.Popen(
            words,
            env=marked,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,
            preexec_fn=child_setup(cwd, umask),  # noqa: PLW1509 - the host forks in one thread
        )
        program.returncode = 0  # from here on its exit status is our object's to take
        return PipedProcess(program, kin, mark)

    return await started(argv, env, cwd, start)


class PipedProcess(Program):
    """A program on three pipes."""

    def __init__(self, program: subprocess.Popen[bytes], kin: Kin, mark: str) -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        self._input = program.stdin
        self._output: _Reader | None = None
        self._errors: _Reader | None = None
        self._pipes = (program.stdout, program.stderr)
        self._last_words = b""
        self._closing: asyncio.TimerHandle | None = None
        self._writing = asyncio.Lock()
        for pipe in (self._input, *self._pipes):
            os.set_blocking(pipe.fileno(), False)
        super().__init__(program.pid, kin, mark)

    def read(
        self, on_line: Callable[[bytes], None], on_end: Callable[[], None], on_too_long: Callable[[], None]
    ) -> None:
        """Begin to read.

        Args:
            on_line: takes each line of its output, without the line feed.
            on_end: called once, when it has had its output closed for `CLOSED_S` and lives.
            on_too_long: called for each line that is passed over.
        """
        output, errors = self._pipes
        lines = _Lines(on_line, on_too_long)
        loop = asyncio.get_running_loop()

        def closed() -> None:
            self._closing = loop.call_later(CLOSED_S, on_end)

        self._output = _Reader(output, lines.feed, closed)
        self._errors = _Reader(errors, self._say, lambda: None)

    def _say(self, data: bytes) -> None:
        self._last_words = (self._last_words + data)[-LAST_WORDS_BYTES:]

    @property
    def last_words(self) -> str:
        """The end of its error output."""
        return self._last_words.decode("utf-8", "replace")

    async def write(self, line: bytes) -> None:
        """Write a line and its line feed, whole, behind what is being written already.

        Raises:
            NotWrittenError: its input is closed, or it read nothing for `WRITE_S`.
        """
        async with self._writing:
            left, begun = memoryview(line + b"\n"), False
            while left:
                try:
                    count = os.write(self._input.fileno(), left)
                except BlockingIOError:
                    await self._writable(begun=begun)
                    continue
                except (OSError, ValueError) as error:
                    raise NotWrittenError(f"its input is closed: {error}", begun=begun) from error
                left, begun = left[count:], True

    async def _writable(self, *, begun: bool) -> None:
        loop = asyncio.get_running_loop()
        free: asyncio.Future[None] = loop.create_future()
        number = self._input.fileno()

        def is_free() -> None:
            if not free.done():
                free.set_result(None)

        loop.add_writer(number, is_free)
        try:
            async with asyncio.timeout(WRITE_S):
                await free
        except TimeoutError:
            raise NotWrittenError(f"it read none of its input for {WRITE_S:g} s", begun=begun) from None
        finally:
            loop.remove_writer(number)

    def drain(self, limit: int) -> None:
        """Read what is left of its output, at most `limit` bytes of each kind."""
        for reader in (self._errors, self._output):
            if reader is not None:
                reader.drain(limit)

    def close(self) -> None:
        """Close all pipes."""
        if self._closing is not None:
            self._closing.cancel()
        for reader in (self._output, self._errors):
            if reader is not None:
                reader.close()
        for pipe in (self._input, *self._pipes):
            with suppress(OSError):
                pipe.close()


class _Reader:
    """Reads a pipe whenever something is there, until its end."""

    def __init__(self, pipe: IO[bytes], on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._number: int | None = pipe.fileno()
        self._on_data, self._on_end = on_data, on_end
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._number, self._read)

    def _read(self) -> int:
        """Bytes that came; 0 = none now, or none any more."""
        if self._number is None:
            return 0
        try:
            data = os.read(self._number, READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.close()
            self._on_end()
            return 0
        self._on_data(data)
        return len(data)

    def drain(self, limit: int) -> None:
        while limit > 0 and (count := self._read()):
            limit -= count

    def close(self) -> None:
        if self._number is not None:
            self._loop.remove_reader(self._number)
            self._number = None


class _Lines:
    """Cuts what comes into lines; of one that is too long only its end is waited for."""

    def __init__(self, on_line: Callable[[bytes], None], on_too_long: Callable[[], None]) -> None:
        self._on_line, self._on_too_long = on_line, on_too_long
        self._begun: list[bytes] = []
        self._size = 0
        self._skips = False

    def feed(self, data: bytes) -> None:
        *ends, begun = data.split(b"\n")
        for end in ends:
            self._add(end)
            line, skipped = b"".join(self._begun), self._skips
            self._begun, self._size, self._skips = [], 0, False
            if not skipped:
                self._on_line(line)
        self._add(begun)

    def _add(self, piece: bytes) -> None:
        if not piece or self._skips:
            return
        self._begun.append(piece)
        self._size += len(piece)
        if self._size > MAX_LINE_BYTES:
            self._begun, self._skips = [], True
            self._on_too_long()
