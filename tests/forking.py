"""Starts processes of the product cheaply: each is a fork of one process that has imported the libraries before.

A broker spends more on importing these than on most scenarios, and the scenarios start hundreds. A fork is a process of its own all
the same: with its memory, descriptors, environment and signals, and `kill -9` ends it. What only a start from the command line shows, its
arguments in `/proc` for one, is for the tests in `tests/e2e`.

Run as a program, `python -m tests.forking DESCRIPTOR`, this is the process that forks; it ends when the other end of its socket is closed.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from relaybroker.domain.command_line import SECRET_VARIABLES

PRELOADED = (
    "aiohttp.web", "click.shell_completion", "eventsourcing.popo", "eventsourcing.sqlite", "msgspec", "prometheus_client", "psutil",
    "ptyprocess", "pydantic_settings", "tomllib", "transitions", "wcwidth",
)  # fmt: skip
"""What a broker imports, besides its own modules: these a test may change before they are imported."""
SECRETS = 3
"""The descriptor with the secrets of a child's environment."""
REQUEST_MAX = 1 << 20


class Forked:
    """A child, as far as `subprocess.Popen` is used: `pid`, `poll`, `wait`, `send_signal`, `terminate`, `kill`, `returncode`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("forked", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def ended(self, status: int) -> None:
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()


@functools.cache
def forker() -> Forker:
    """One for all tests of this worker; it ends with it."""
    return Forker()


class Forker:
    """The process that forks, as its users see it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.forking", str(theirs.fileno())]
            root = Path(__file__).parents[1]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=root)
        self._children: dict[int, Forked] = {}
        self._started = threading.Semaphore(0)
        self._newest: Forked | None = None
        self._turn = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, command: Sequence[str], *, env: dict[str, str], cwd: Path, output: int) -> Forked:
        """Run `relaybroker ...`, or `SCRIPT.py ...`, with stdout and stderr in this descriptor.

        What an environment says to the loader or to Python itself (`LD_PRELOAD`, `PYTHONPATH`) comes too late for a fork, and is refused.
        """
        late = [name for name in env if name.startswith(("LD_", "PYTHON")) and env[name] != os.environ.get(name)]
        assert not late, late
        secrets = {name: value for name, value in env.items() if name in SECRET_VARIABLES}
        kept = {name: value for name, value in env.items() if name not in SECRET_VARIABLES}
        memory = os.memfd_create("secrets", 0)
        try:
            os.write(memory, json.dumps(secrets).encode())
            request = {
                "command": list(command),
                "env": kept | {"RELAYBROKER_SECRETS_FD": str(SECRETS)},
                "cwd": str(cwd),
            }
            with self._turn:
                socket.send_fds(self._socket, [json.dumps(request).encode()], [output, memory])
                self._started.acquire()
                assert self._newest is not None, "the process that forks has ended"
                return self._newest
        finally:
            os.close(memory)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        while message := self._socket.recv(REQUEST_MAX):
            pid, status = json.loads(message)
            if status is None:
                self._newest = self._children[pid] = Forked(pid)
                self._started.release()
            else:
                self._children.pop(pid).ended(status)
        self._newest = None
        self._started.release()


def main() -> None:
    """Fork for each request until nobody asks any more."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([channel, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid, status in _ended():
                _say(channel, pid, status)
        if channel in ready:
            message, descriptors, _, _ = socket.recv_fds(channel, REQUEST_MAX, 2)
            if not message:
                return
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _become(json.loads(message), *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            _say(channel, pid, None)


def _ended() -> list[tuple[int, int]]:
    ended = []
    with contextlib.suppress(ChildProcessError):
        while (one := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(one)
    return ended


def _say(channel: socket.socket, pid: int, status: int | None) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        channel.send(json.dumps([pid, status]).encode())


def _become(request: dict[str, Any], output: int, secrets: int) -> NoReturn:
    """The child: a program that has just been started."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((secrets, 20), (nowhere, 0), (output, 1), (output, 2), (20, SECRETS)):
        os.dup2(descriptor, place)
    os.closerange(SECRETS + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    program, *words = request["command"]
    sys.argv = [program, *words]
    sys.orig_argv = [sys.executable, *(() if program.endswith(".py") else ("-m",)), *sys.argv]
    if program.endswith(".py"):
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main()
