"""One program of an agent, in a pseudo-terminal of its own: start it, see its exit, end it with everything that it started.

The program leads a session and a process group, dies with the host (Linux: parent-death signal), and gets exactly the
environment it was given. Nothing here blocks the event loop longer than a fork. Source: node-protocol.md 6.1, 6.9;
F099-F110.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import logging
import os
import signal
import struct
import sys
import termios
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ptyprocess.ptyprocess import PtyProcess

from relaybroker.adapters import descriptors
from relaybroker.adapters.sessions.host.kin import MARK, Kin, kill_all
from relaybroker.adapters.user_paths import is_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FALLBACK_DIRECTORIES = (
    "~/.local/bin",
    "~/.opencode/bin",
    "~/.claude/local",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/opt/homebrew/bin",
)
"""Where a command is looked for after PATH (local-api.md 3.2)."""

_BUSY_RETRY_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Waits between attempts to start a program file that is being written (F099)."""
_REAP_POLL_S = 0.2
"""Where there is no pidfd (macOS) the exit is looked for this often."""
_SURVIVOR_POLL_S = 0.05
UNKILLABLE_S = 2.0
"""What SIGKILL does not end within this time (another user's, or stuck in the kernel) is waited for no longer."""
DESCRIPTORS = 16
"""Free descriptors without which no program is started: up to five for it, the others for connections and files of the host."""
_PR_SET_PDEATHSIG = 1
_TIOCGPTN = 0x80045430
_IS_LINUX = sys.platform.startswith("linux")

_logger = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)
P = TypeVar("P", bound="Program")


class SpawnError(Exception):
    """The program was not started; nothing of it exists. `reason` is a member of StartFailed's list."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def find_command(command: str, env: Mapping[str, str], cwd: str) -> str | None:
    """Path of `command` by the PATH of `env`, then the fallback directories; symlinks are kept (F100)."""
    if "/" in command:
        path = os.path.join(cwd, command)  # noqa: PTH118  # keeps the name exactly as it was given
        return path if _is_executable(path) else None
    home = env.get("HOME", "")
    fallbacks = [d.replace("~", home, 1) for d in FALLBACK_DIRECTORIES if home or not d.startswith("~")]
    for directory in [*env.get("PATH", "").split(":"), *fallbacks]:
        path = os.path.join(cwd, directory, command)  # noqa: PTH118  # an empty PATH entry means the working directory
        if directory and _is_executable(path):
            return path
    return None


def _check_encodable(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Refuse what exec cannot take: in the forked child it would be too late."""
    try:
        for text in (*argv, *env, *env.values()):
            if b"\0" in os.fsencode(text):
                raise SpawnError("spawn_failed", "an argument or variable contains a NUL byte")
    except UnicodeEncodeError as error:
        raise SpawnError("spawn_failed", f"an argument or variable cannot be encoded: {error.reason}") from error
    if any(not name or "=" in name for name in env):
        raise SpawnError("spawn_failed", "the name of a variable is empty or contains '='")


def _is_executable(path: str) -> bool:
    return os.access(path, os.X_OK) and not is_directory(path)


def _is_absolute_directory(path: str) -> bool:
    return Path(path).is_absolute() and is_directory(path)


async def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    rows: int,
    cols: int,
    umask: int,
    mark: str = "",
    kin: Kin | None = None,
) -> AgentProcess:
    """Start a program. Raises SpawnError with `cli_not_found`, `invalid_cwd` or `spawn_failed`.

    Args:
        argv: the command and its arguments.
        env: the whole environment; `mark` is added to it as RELAYBROKER_SESSION.
        cwd: an absolute path.
        rows: of its terminal.
        cols: of its terminal.
        umask: of the program.
        mark: by which its descendants are known, wherever they go.
        kin: the processes of all agents; None: the program is the only one.
    """
    kin = kin if kin is not None else Kin()
    marked = {**env, MARK: mark} if mark else env

    def start(words: list[str]) -> AgentProcess:
        _check_terminals()
        return AgentProcess(_fork(words, marked, cwd, rows, cols, umask), kin, mark)

    return await started(argv, env, cwd, start)


async def started(argv: Sequence[str], env: Mapping[str, str], cwd: str, start: Callable[[list[str]], P]) -> P:
    """What `start` makes of the words of a command whose first is the program's path. Raises SpawnError as `spawn` does."""
    if not _is_absolute_directory(cwd):
        raise SpawnError("invalid_cwd", f"the working directory {cwd!r} is not an absolute path of a directory")
    if not argv or not argv[0]:
        raise SpawnError("cli_not_found", "the command is empty")
    _check_encodable(argv, env)
    command = find_command(argv[0], env, cwd)
    if command is None:
        raise SpawnError("cli_not_found", f"{argv[0]!r} is neither in PATH nor in the usual directories")
    for wait in (*_BUSY_RETRY_S, None):
        try:
            descriptors.check_room(DESCRIPTORS)
            return start([command, *argv[1:]])
        except SpawnError:
            raise
        except descriptors.DescriptorsUsedUp as error:
            raise SpawnError("spawn_failed", str(error)) from error
        except OSError as error:
            if error.errno == errno.ETXTBSY and wait is not None:
                await asyncio.sleep(wait)
                continue
            raise SpawnError("spawn_failed", f"{command}: {error}") from error
        except Exception as error:
            # ptyprocess reports what the child could not do before exec as an exception of its name, or as Exception
            raise SpawnError("spawn_failed", f"{command}: {error}") from error
    raise AssertionError("the last attempt returns or raises")


def _check_terminals() -> None:
    """Refuse what would fail in the middle, where ptyprocess gives back nothing of what it has opened."""
    try:
        ends = os.openpty()
    except OSError as error:
        raise SpawnError(
            "spawn_failed", f"out of pty devices ({error}); the machine's limit is kernel.pty.max"
        ) from error
    for end in ends:
        os.close(end)


def child_setup(cwd: str, umask: int) -> Callable[[], None]:
    """What a program of an agent does between fork and exec: dies with this process (Linux), and inherits nothing else of it."""
    host, open_files = os.getpid(), descriptors.started_with()

    def before_exec() -> None:
        os.umask(umask)
        descriptors.give_limit(open_files)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if _IS_LINUX:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != host:
                os._exit(1)
        os.chdir(cwd)

    return before_exec


def _fork(argv: list[str], env: Mapping[str, str], cwd: str, rows: int, cols: int, umask: int) -> _Process:
    before_exec = child_setup(cwd, umask)
    try:
        process: _Process = _Process.spawn(  # type: ignore[no-untyped-call]  # ptyprocess has no types
            argv, env=dict(env), preexec_fn=before_exec, dimensions=(rows, cols)
        )
    except Exception as error:
        traceback.clear_frames(
            error.__traceback__
        )  # ends and reaps what did not become a program now, not some time later
        raise
    return process


class _Process(PtyProcess):
    """ptyprocess's own object, whose `close` (also called by `__del__` after a failed exec) does not sleep."""

    def close(self, force: bool = True) -> None:  # noqa: ARG002  # signature of ptyprocess
        if self.closed:
            return
        self.closed = True
        self.fileobj.close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class Program:
    """A started program that leads a session and a process group of its own: its exit is seen, and it is ended with all that it started."""

    def __init__(self, pid: int, kin: Kin, mark: str) -> None:
        self.pid = pid
        self._kin = kin
        self._pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        self._poll: asyncio.TimerHandle | None = None
        kin.add(pid, mark)

    def watch_exit(self, on_exit: Callable[[int | None, int | None], None]) -> None:
        """Call `on_exit(code, signal)` once, when the program is reaped; exactly one of the two is a number."""
        loop = asyncio.get_running_loop()
        if self._pidfd is not None:
            loop.add_reader(self._pidfd, self._reap, on_exit)
        else:
            self._poll = loop.call_later(_REAP_POLL_S, self._reap, on_exit)

    def _reap(self, on_exit: Callable[[int | None, int | None], None]) -> None:
        loop = asyncio.get_running_loop()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            if self._pidfd is None:
                self._poll = loop.call_later(_REAP_POLL_S, self._reap, on_exit)
            return
        if self._pidfd is not None:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if os.WIFSIGNALED(status):
            on_exit(None, os.WTERMSIG(status))
        else:
            on_exit(os.WEXITSTATUS(status), None)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the program's process group and to everything else that it started, wherever that went (F109)."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in self._kin.of(self.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    async def end_survivors(self, deadline: float) -> None:
        """Return when nothing that the program started lives; SIGKILL what is left at `deadline` (loop time)."""
        loop = asyncio.get_running_loop()
        while survivors := self._kin.of(self.pid):
            if loop.time() >= deadline + UNKILLABLE_S:
                _logger.error("what %d started cannot be ended: %s", self.pid, survivors)
                break
            if loop.time() >= deadline:
                kill_all(survivors)
            await asyncio.sleep(_SURVIVOR_POLL_S)
        self._kin.remove(self.pid)


class AgentProcess(Program):
    """A program in a terminal. `fd` is the non-blocking master side of its terminal, closed by `close`."""

    def __init__(self, process: _Process, kin: Kin, mark: str) -> None:
        self.fd = os.dup(process.fd)
        os.set_blocking(self.fd, False)
        self._terminal_path = _path_of(self.fd)
        self.terminal_device = _device_of(self._terminal_path)
        process.closed = True  # from here on the program and its terminal are this object's
        process.fileobj.close()
        super().__init__(process.pid, kin, mark)

    # --- terminal ----------------------------------------------------------------------------------------------------

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def line_discipline(self) -> tuple[bool, bool]:
        """Whether the terminal collects lines (ICANON) and whether it echoes (ECHO), at this moment."""
        try:
            flags = termios.tcgetattr(self.fd)[3]
        except termios.error:
            return False, False
        return bool(flags & termios.ICANON), bool(flags & termios.ECHO)

    def unread(self) -> int | None:
        """Bytes that were typed and no program has read (whole lines, while the terminal collects them); None = cannot be known."""
        if not self._terminal_path or self.fd < 0:
            return None
        try:
            terminal = os.open(self._terminal_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return int(struct.unpack("i", fcntl.ioctl(terminal, termios.FIONREAD, bytes(4)))[0])
        except OSError:
            return None
        finally:
            os.close(terminal)

    def foreground_group(self) -> int:
        """The process group that gets the keys; the program's own where it cannot be known."""
        try:
            group = os.tcgetpgrp(self.fd)
        except OSError:
            return self.pid
        return group if group > 0 else self.pid

    def close(self) -> None:
        """Hang up the terminal."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _path_of(master: int) -> str:
    """Path of the terminal's other side, where the system tells it; else blank."""
    if not _IS_LINUX:
        return ""
    return f"/dev/pts/{struct.unpack('I', fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]}"


def _device_of(path: str) -> int:
    """Device number of a terminal; 0 = not known."""
    try:
        return Path(path).stat().st_rdev if path else 0
    except OSError:
        return 0
